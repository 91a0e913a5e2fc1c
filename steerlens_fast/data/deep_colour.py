"""Reads images with colours or alpha, and more than 8 bits per value.

For such images, Pillow returns only the high byte of each value. Most PNGs and TIFFs are therefore read twice, the
second time with the wrong byte order, which gives the low bytes. The values of a PPM are read without Pillow.
"""

from __future__ import annotations

import re
import sys
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import BadItem
from ..extras import require_extra

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_16_BITS = 65535
# The opposite of each byte order (big, little, native). With the opposite order, Pillow returns the low bytes.
OPPOSITE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
BITS_PER_SAMPLE, PLANAR_CONFIGURATION = 258, 284  # TIFF tags
COMMENT = re.compile(rb"#[^\r\n]*")


class DeepColour(NamedTuple):
    """The values of a file at their full depth, [H, W, channels].

    The layout names the channels, such as "RGBA"; the maximum is the largest possible value.
    """

    values: np.ndarray
    layout: str
    maximum: int


class FloatColours:
    """A colour image of float32 values.

    Pillow has no mode for such images, so this class has one Pillow image of mode "F" for each channel. It has the
    methods of :class:`PIL.Image.Image` that decoding and resizing use.

    Parameters
    ----------
    channels : sequence of PIL.Image.Image
        Red, green and blue, of mode "F".
    """

    mode = "RGBF"
    LUMA = 0.299, 0.587, 0.114  # ITU-R 601, which Pillow uses for 8-bit colours

    def __init__(self, channels, info=None):
        self._channels, self.info = tuple(channels), {} if info is None else info
        self.size = self.width, self.height = self._channels[0].size

    def resize(self, *args, **options) -> FloatColours:
        """Resize each channel."""
        return self._each(lambda channel: channel.resize(*args, **options))

    def crop(self, box) -> FloatColours:
        """Crop each channel."""
        return self._each(lambda channel: channel.crop(box))

    def transpose(self, method) -> FloatColours:
        """Transpose each channel."""
        return self._each(lambda channel: channel.transpose(method))

    def convert(self, mode: str) -> FloatColours | Image:
        """Return this image for "RGB", or a grey image for "L"."""
        if mode == "RGB":
            return self
        grey = sum(weight * np.asarray(channel) for weight, channel in zip(self.LUMA, self._channels))
        image = require_extra("cli", "PIL.Image").fromarray(grey.astype(np.float32))
        image.info.update(self.info)
        return image

    def tobytes(self) -> bytes:
        """Return the values as float32, [H, W, 3]."""
        return np.stack([np.asarray(channel) for channel in self._channels], -1).tobytes()

    def _each(self, function) -> FloatColours:
        return FloatColours(map(function, self._channels), self.info)


def is_deep_colour(image: Image) -> bool:
    """Return whether Pillow would reduce the values of an opened image to 8 bits.

    The result is False if the image is decoded already.

    Raises
    ------
    BadItem
        For a TIFF with separate colour planes of more than 8 bits, which Pillow does not decode.
    """
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA", "CMYK"):
        bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (8,)))
        if bits > 8 and image.tag_v2.get(PLANAR_CONFIGURATION) == 2:
            text = f"a colour TIFF of {bits} bits must have interleaved channels, got separate planes"
            raise BadItem("unsupported", text)
    raw_mode = _raw_mode(image)
    if image.format == "PPM":
        return image.mode == "RGB" and _ppm_maximum(image) > 255
    return image.format in ("PNG", "TIFF") and ";16" in raw_mode and not raw_mode.startswith("I;")


def read_deep_colour(image: Image, data: bytes) -> DeepColour:
    """Return all bits of an image for which :func:`is_deep_colour` is true.

    Parameters
    ----------
    image : PIL.Image.Image
        Opened from ``data``, not decoded.
    data : bytes
    """
    if image.format == "PPM":
        return DeepColour(_ppm_values(image, data), "RGB", _ppm_maximum(image))
    layout, _, order = _raw_mode(image).partition(";16")
    second = require_extra("cli", "PIL.Image").open(BytesIO(data), formats=(image.format,))
    if layout == "LA":  # Pillow reads LA in one byte order only, so the four bytes of a pixel are read as 8-bit RGBA
        _set_raw_mode(second, "RGBA")
        image.load()  # only for the metadata after the pixels, such as the orientation
        second = np.asarray(_decoded(second)).astype(np.uint16)
        return DeepColour(second[..., 0::2] << 8 | second[..., 1::2], layout, MAX_16_BITS)
    unpacked = "RGBA" if layout == "RGBa" else layout  # for RGBa, Pillow would divide each byte by alpha
    _set_raw_mode(image, f"{unpacked};16{order}")
    _set_raw_mode(second, f"{unpacked};16{OPPOSITE[order]}")
    high, low = np.asarray(_decoded(image)).astype(np.uint16), np.asarray(_decoded(second))
    return DeepColour(high << 8 | low, layout.removesuffix("X"), MAX_16_BITS)  # X: a channel that Pillow drops


def unit_colours(colours: DeepColour, scale) -> tuple[np.ndarray, np.ndarray]:
    """Return the image composited over white, and the file's values without alpha.

    The image is [H, W] or [H, W, 3], in [0, 1].

    Parameters
    ----------
    colours : DeepColour
    scale : callable
        Scales the file's values to [0, 1].
    """
    values, layout, maximum = colours
    if layout == "CMYK":  # Pillow's formula. `scale` applies the option range, which is an error for CMYK
        inks = values / maximum
        return (1 - inks[..., :3]) * (1 - inks[..., 3:]), values
    if layout[-1] not in "Aa":
        return scale(values), values
    alpha, values = values[..., -1:] / maximum, values[..., :-1]
    if layout[-1] == "a":  # premultiplied by alpha
        values = np.minimum(np.rint(values / np.where(alpha == 0, 1, alpha)), maximum).astype(np.uint16)
    unit = scale(values) * alpha + (1 - alpha)
    return (unit, values) if layout != "LA" else (unit[..., 0], values[..., 0])


def _decoded(image: Image) -> Image:
    image.load()
    return image


def _raw_mode(image: Image) -> str:
    """Return the layout of the file's values in Pillow's notation, such as "RGB;16B"."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments if isinstance(arguments, str) or not arguments else arguments[0]
    return first if isinstance(first, str) else ""


def _set_raw_mode(image: Image, raw_mode: str) -> None:
    tiles = []
    for tile in image.tile:
        arguments = raw_mode if isinstance(tile[3], str) else (raw_mode, *tile[3][1:])
        tiles.append(tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments))
    image.tile = tiles


def _ppm_maximum(image: Image) -> int:
    arguments = image.tile[0][3] if getattr(image, "tile", None) else ()
    return arguments[1] if isinstance(arguments, tuple) and len(arguments) > 1 else 255


def _ppm_values(image: Image, data: bytes) -> np.ndarray:
    """Return the values of a PPM with two bytes per value, or with values in decimal text."""
    codec, _, offset, (_, maximum) = image.tile[0]
    count = image.width * image.height * 3
    if codec == "ppm_plain":
        tokens = COMMENT.sub(b"", data[offset:]).split()[:count]
        if not all(token.isdigit() and len(token) < 6 for token in tokens):
            raise BadItem("corrupt", "the values of the PPM must be decimal integers")
        values = np.array(tokens, np.int64)
    else:
        values = np.frombuffer(data, ">u2", min(count, (len(data) - offset) // 2), offset)
    if len(values) < count:
        raise BadItem("truncated", f"the PPM must have {count} values, got {len(values)}")
    if values.max() > maximum:
        raise BadItem("corrupt", f"the values of the PPM must be at most {maximum}, got {values.max()}")
    return values.astype(np.uint16).reshape(image.height, image.width, 3)
