"""Encoded bytes, arrays and tensors to images, of 8 bits unless more are asked for, by one table of rules.

==============================  ====================================================================================
What comes                      What becomes of it
==============================  ====================================================================================
known formats                   JPEG, PNG, BMP, TIFF, GIF, WebP, PPM/PGM, told by content, not by name
size in the header              more than ``max_pixels``: "too-large", before anything is decoded. Pillow's own limit,
                                ``Image.MAX_IMAGE_PIXELS``, holds besides
EXIF orientation 1 to 8         applied (also from XMP); damaged EXIF counts as none
animation, several pages        the first frame
grey, 1 bit, 2 bits, 4 bits     scaled to 0 ... 255; repeated three times for RGB
RGB to grey                     luma of ITU-R 601: 0.299 R + 0.587 G + 0.114 B
16-bit grey ("I;16", or "I"     scaled from the full range of the file's type, 0 to 65535, or from ``range``, and
with values up to 65535)        rounded to 8 bits unless ``deep``. A PGM is scaled from its own largest value
16-bit RGB, RGBA, grey + alpha  the high byte of each value, as Pillow reads PNG and TIFF; "unsupported" with a range
32-bit ints beyond, floats      "unsupported", or with a ``range`` scaled from that
LAB                             "unsupported"
palette                         its colours
alpha, transparent colours      composited over white, what viewers show
CMYK                            Pillow's formula: (255 - C)(255 - K) / 255; Adobe's inverted JPEG turned round before
array or tensor                 uint8, uint16 (from 0 to 65535), or floats in [0, 1]; with a ``range`` other ints and
                                floats, too, all but uint8 scaled from that; [H, W], [H, W, C] or [C, H, W] with C 1 or
                                3; where both fit an array's channels are last and a tensor's first. Grey ones keep
                                their depth where ``deep``. Anything else: "bad-array"
no bytes                        "empty"
no known format                 "not-an-image"
ends early                      "truncated"; also a PNG without its end, whose pixels might be whole
damaged                         "corrupt"; also a PNG with a wrong CRC anywhere, which some decoders do not look at
==============================  ====================================================================================

A ``range`` (low, high) is in the file's own units: low becomes black, high white, what is beyond is clipped;
``"image"`` is the lowest and the highest value of each image. It is for values of more than 8 bits: images of 8 bits
are scaled from 0 to 255 always.

torchcodec decodes the JPEG and PNG files for which it gives the same pixels: 8-bit RGB and grey, whole, upright and
opaque. All others, and those that it fails on, go to Pillow. So orientation is never applied twice.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from torch import Tensor

from ..checks import check_bool, check_choice, check_number
from ..errors import USAGE, BadItem, JobError, describe_error
from ..extras import require_extra

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_956_970  # Pillow refuses what is larger
DECODERS, MODES = ("pillow", "torchcodec"), ("RGB", "L")
# Named, so that no other plugin is ever reached by a file's first bytes: Pillow's for EPS starts Ghostscript
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
PNG, END_OF_JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd9"
FIRST_BYTES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (PNG,),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
FLOATS, FULL = "F", 65535  # Pillow's mode of floats; the largest value of 16 bits
VALUES = ("steerlens_fast", "values")  # in Image.info; no text of a file is called so
NARROW = 4  # an image that uses at most a fourth of its type's range has 64 grey levels or fewer after scaling
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> Image.Transpose that undoes it
ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # in Image.info, where it may be told
ORIENTED_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # also after the pixels


@dataclass(frozen=True)
class Values:
    """What is to become of values of more than 8 bits.

    Attributes
    ----------
    range : (float, float), "image" or None
        What becomes black and white; None: the full range of the file's type.
    deep : bool
        Whether grey stays in floats.
    """

    range: tuple[float, float] | str | None = None
    deep: bool = False


def decode(
    data,
    *,
    max_pixels: int = MAX_PIXELS,
    mode: str = "RGB",
    decoder: str = "pillow",
    range: Sequence[float] | str | None = None,
    deep: bool = False,
) -> Image:
    """An image from whatever a source gave, by the rules of this module. Any number of threads may call it.

    Parameters
    ----------
    data : bytes, numpy array, tensor, or PIL image
        An encoded file, or pixels.
    max_pixels : int
        What has more is refused before it is decoded.
    mode : str
        Of the result: ``"RGB"`` or ``"L"`` (grey).
    decoder : str
        ``"pillow"`` or ``"torchcodec"``: the same pixels from either.
    range : (float, float), "image" or None
        Of values of more than 8 bits: what becomes black and white; see this module.
    deep : bool
        Whether grey of more than 8 bits keeps its depth.

    Returns
    -------
    PIL.Image.Image
        Of ``mode``, 8 bits, decoded; or, of grey that is to keep its depth, mode "F" with values in [0, 1].
        See also :func:`pixel_value_range`.

    Raises
    ------
    BadItem
        With reason ``"empty"``, ``"not-an-image"``, ``"truncated"``, ``"corrupt"``, ``"too-large"``,
        ``"unsupported"`` or ``"bad-array"``.

    Examples
    --------
    >>> image = decode(b"P5 2 1 255\\n" + bytes([0, 200]))
    >>> image.mode, image.size, image.getpixel((1, 0))
    ('RGB', (2, 1), (200, 200, 200))
    >>> decode(b"Dear reader")
    Traceback (most recent call last):
    steerlens_fast.errors.BadItem: no image format that is known here begins with b'Dear reader'
    """
    check_choice("mode", mode, MODES)
    values = Values(check_range(range), check_bool("deep", deep))
    faster = torchcodec() if check_choice("decoder", decoder, DECODERS) == "torchcodec" else None
    if isinstance(data, (bytes, bytearray)):
        return _from_bytes(data, max_pixels, mode, faster, values)
    if isinstance(data, (np.ndarray, Tensor)):
        return _converted(_from_array(data, max_pixels, values), mode, values)
    if not isinstance(data, _pillow().Image):
        raise BadItem("bad-array", f"an image is bytes, an array, a tensor or a PIL image, got {type(data).__name__}")
    _check_size(data.size, max_pixels)
    try:
        return _upright(data, mode, values)
    except (BadItem, MemoryError):
        raise
    except Exception as error:  # it may be decoded only now
        raise _told(error, b"", opened=True) from error


def pixel_value_range(image: Image) -> dict | None:
    """The lowest and the highest value of an image of more than 8 bits, and the largest of its type, in its own units.

    Parameters
    ----------
    image : PIL.Image.Image
        From :func:`decode`.

    Returns
    -------
    dict or None
        ``low``, ``high`` and ``full``, which is None for 32-bit ints and floats; None for an image of 8 bits.

    Examples
    --------
    >>> pixel_value_range(decode(np.array([[0, 4095]], np.uint16)))
    {'low': 0, 'high': 4095, 'full': 65535}
    """
    told = image.info.get(VALUES)
    return None if told is None else dict(zip(("low", "high", "full"), told))


def is_narrow_range(values: dict | None) -> bool:
    """Whether an image uses a small part of its type's range, so that scaling from all of it leaves few grey levels.

    Examples
    --------
    >>> is_narrow_range({"low": 0, "high": 4095, "full": 65535})
    True
    >>> is_narrow_range({"low": 0, "high": 60000, "full": 65535})
    False
    """
    full = None if values is None else values["full"]
    return full is not None and (values["high"] - values["low"]) * NARROW <= full


def check_range(range):
    """A ``range`` as :func:`decode` takes it.

    Examples
    --------
    >>> check_range([0, 4095]), check_range("image"), check_range(None)
    ((0.0, 4095.0), 'image', None)
    """
    if range is None or range == "image":
        return range
    pair = list(range) if isinstance(range, (list, tuple, np.ndarray)) else []
    if len(pair) != 2:
        raise TypeError(f"range must be two numbers (low, high), 'image' or None, got {range!r}")
    low, high = (check_number("range", value.item() if hasattr(value, "item") else value) for value in pair)
    if low >= high:
        raise ValueError(f"range must be (low, high) with low < high, got {range!r}")
    return low, high


@cache
def torchcodec():
    """torchcodec's ``decode_image``.

    Raises
    ------
    MissingExtra
        Where it is not installed.
    JobError
        Where it is, but cannot be loaded into this torch.
    """
    try:
        return require_extra("decode", "torchcodec.decoders").decode_image
    except (OSError, RuntimeError, AttributeError) as error:
        message = f"decoder torchcodec must be 0.16 or later, built for this torch; it cannot be loaded: {error}"
        raise JobError(message, USAGE) from error


@cache
def _pillow():
    for plugin in ("Jpeg", "Png", "WebP", "Bmp", "Gif", "Tiff", "Ppm"):  # or Pillow loads all plugins for one of them
        require_extra("cli", f"PIL.{plugin}ImagePlugin")
    return require_extra("cli", "PIL.Image")


def _from_bytes(data: bytes, max_pixels: int, mode: str, faster, values: Values) -> Image:
    if not data:
        raise BadItem("empty", "0 bytes")
    image = None
    try:
        image = _pillow().open(BytesIO(data), formats=FORMATS)
        _check_size(image.size, max_pixels)
        if image.format == "PNG":
            _check_png(data)
        _check_depth(image, data, values)
        pixels = _decoded_by(faster, data, image) if faster else None
        return _upright(image, mode, values) if pixels is None else _converted(pixels, mode, values)
    except (BadItem, MemoryError):
        raise
    except Exception as error:
        if image is None and data.startswith(PNG):
            _check_png(data)  # says more than Pillow
        raise _told(error, data, opened=image is not None) from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadItem("too-large", f"{width} x {height} pixels, at most {max_pixels} are allowed")


def _check_depth(image: Image, data: bytes, values: Values) -> None:
    """Of 16-bit colours Pillow gives the high bytes alone, to which no range of 16 bits applies."""
    if values.range is None or image.mode in (*SIXTEEN_BITS, FLOATS):
        return
    bits = data[24] if image.format == "PNG" else 8
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(258, (8,)))
    if bits > 8:
        raise BadItem("unsupported", f"{bits}-bit {image.mode} is read by its high bytes, to which no range applies")


def _check_png(data: bytes) -> None:
    """Every chunk whole, with its CRC: Pillow looks at neither for the pixels' own."""
    view, at, kind = memoryview(data), len(PNG), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise BadItem("truncated", f"the PNG ends after {len(data)} bytes, before its end chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise BadItem("truncated", f"the PNG ends after {len(data)} bytes, in its {kind!r} chunk")
        if crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise BadItem("corrupt", f"the PNG's {kind!r} chunk at byte {at} has a wrong CRC")
        at = end


def _told(error: Exception, data: bytes, opened: bool) -> BadItem:
    """What a decoder's exception means: for the same, Pillow has OSError, SyntaxError, ValueError, struct.error..."""
    pillow, kind = _pillow(), _kind(data)
    if isinstance(error, (pillow.DecompressionBombError, pillow.DecompressionBombWarning)):
        return BadItem("too-large", str(error))
    if kind is None and not opened:
        return BadItem("not-an-image", f"no image format that is known here begins with {bytes(data[:12])!r}")
    early = "truncated" in str(error).lower() or isinstance(error, EOFError) or _ends_early(kind, data)
    return BadItem("truncated" if early else "corrupt", describe_error(error))


def _kind(data: bytes) -> str | None:
    """The format that the first bytes promise; None also for BMP and PPM, whose two letters may begin a text."""
    head = bytes(data[:12])
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "WEBP"
    return next((kind for kind, first in FIRST_BYTES.items() if head.startswith(first)), None)


def _ends_early(kind: str | None, data: bytes) -> bool:
    """Whether the mark at the end is missing, or the length told at the beginning; asked only of what failed."""
    if kind == "JPEG":
        return END_OF_JPEG not in data
    if kind == "WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return kind == "GIF" and not data.rstrip(b"\0").endswith(b";")


def _decoded_by(faster, data: bytes, image: Image) -> Image | None:
    """The pixels from torchcodec's function, None where it would give others, or fails: Pillow says why."""
    if image.format not in ("JPEG", "PNG") or image.mode not in ("RGB", "L") or image.has_transparency_data:
        return None
    if image.format == "PNG":
        plain = data[24] == 8 and not any(mark in data for mark in ORIENTED_PNG)  # at 24: bits of a value
    else:
        plain = END_OF_JPEG in data[-64:] and _orientation(image) == 1
    if not plain:
        return None
    try:
        pixels = faster(data, mode="RGB" if image.mode == "RGB" else "GRAY").numpy()
    except Exception:
        return None
    if pixels.shape != (len(image.mode), image.height, image.width):
        return None
    return _pillow().fromarray(pixels[0] if image.mode == "L" else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _orientation(image: Image) -> int:
    """1 to 8 of EXIF or XMP; 0 where there is such a block, but no orientation in it, or damage."""
    if not any(key in image.info for key in ORIENTED):
        return 1
    try:
        told = image.getexif().get(0x0112)
    except Exception:  # damaged EXIF does not damage the pixels
        return 0
    return told if told in (1, *UPRIGHT) else 0


def _upright(image: Image, mode: str, values: Values) -> Image:
    largest = _largest_of_pgm(image)
    image.load()  # of a TIFF, Pillow turns it upright here, and forgets the orientation
    turn = UPRIGHT.get(_orientation(image))
    converted = _converted(image, mode, values, largest)
    return converted if turn is None else converted.transpose(turn)


def _largest_of_pgm(image: Image) -> int:
    """The largest value that a PGM says it has, which Pillow makes 65535; of other images 65535."""
    tile = image.tile[0] if image.format == "PPM" and image.mode == "I" and getattr(image, "tile", None) else None
    return tile[3][1] if tile and isinstance(tile[3], tuple) and len(tile[3]) > 1 else FULL


def _converted(image: Image, mode: str, values: Values, largest: int = FULL) -> Image:
    if image.mode in SIXTEEN_BITS or (image.mode == FLOATS and (values.range is not None or VALUES in image.info)):
        image = _scaled(image, values, largest)
        if image.mode == FLOATS:
            return image
    elif image.mode not in EIGHT_BITS:
        raise BadItem("unsupported", f"Pillow's mode {image.mode!r} has no agreed conversion to 8 bits")
    elif image.has_transparency_data:
        image = _over_white(image.convert("RGBA"))
    elif image.mode not in ("L", "1"):
        image = image.convert("RGB") if image.mode != "RGB" else image
    return image if image.mode == mode else image.convert(mode)


def _over_white(image: Image) -> Image:
    over = _pillow().new("RGB", image.size, "white")
    over.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return over


def _scaled(image: Image, values: Values, largest: int) -> Image:
    """Grey of more than 8 bits, to 8 bits or to floats in [0, 1]."""
    if VALUES in image.info:  # of an array, scaled already
        return image
    pixels = np.asarray(image)
    beyond = image.mode == FLOATS or (image.mode == "I" and (pixels.min() < 0 or pixels.max() > FULL))
    if beyond and values.range is None:
        raise BadItem("unsupported", f"32-bit grey from {pixels.min()} to {pixels.max()}, beyond 16 bits: give a range")
    own = pixels if largest == FULL else np.rint(pixels.astype(np.float64) * largest / FULL).astype(np.int64)
    shares = _shares(own, values.range, largest)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        shares[pixels == transparent] = 1.0
    return _with_depth(shares, values.deep, _told_values(own, None if beyond else largest))


def _told_values(pixels: np.ndarray, full: int | None) -> tuple:
    return pixels.min().item(), pixels.max().item(), full


def _shares(pixels: np.ndarray, range, full: float) -> np.ndarray:
    """Where the values lie from black, 0, to white, 1."""
    if range == "image":
        low, high = float(pixels.min()), float(pixels.max())
        high = high if high > low else low + 1  # an image of one value is black
    else:
        low, high = range or (0.0, float(full))
    if not np.isfinite([low, high]).all() or not np.isfinite(pixels).all():
        raise BadItem("bad-array", "values must be finite")
    shares = pixels.astype(np.float64)
    shares -= low
    shares /= high - low
    return shares.clip(0.0, 1.0, out=shares)


def _with_depth(shares: np.ndarray, deep: bool, told: tuple) -> Image:
    if deep and shares.ndim == 2:
        image = _pillow().fromarray(shares.astype(np.float32))
    else:
        image = _pillow().fromarray(np.rint(shares * 255).astype(np.uint8))
    image.info[VALUES] = told
    return image


def _from_array(data: np.ndarray | Tensor, max_pixels: int, values: Values) -> Image:
    array, tensor = _as_array(data, values), isinstance(data, Tensor)
    if array.ndim == 3:
        last, first = array.shape[-1] in (1, 3), array.shape[0] in (1, 3)
        if first and (tensor or not last):
            array = array.transpose(1, 2, 0)
        elif not last:
            raise BadItem("bad-array", f"an image has 1 or 3 channels, got shape {list(array.shape)}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BadItem("bad-array", f"an image is [H, W], [H, W, C] or [C, H, W], got shape {list(array.shape)}")
    _check_size(array.shape[1::-1], max_pixels)
    array = np.ascontiguousarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    if array.dtype == np.uint8:
        return _pillow().fromarray(array)
    floats = array.dtype.kind == "f"
    if floats and values.range is None and not (values.deep and array.ndim == 2):
        return _pillow().fromarray(np.rint(array.astype(np.float32) * 255).astype(np.uint8))
    full = 1.0 if floats else FULL
    return _with_depth(_shares(array, values.range, full), values.deep, _told_values(array, None if floats else FULL))


def _as_array(data: np.ndarray | Tensor, values: Values) -> np.ndarray:
    """On the host, uint8, uint16 or floats in [0, 1]; with a range other real numbers, too."""
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.is_floating_point() else data).numpy()
    if data.dtype == np.uint8 or data.dtype.newbyteorder("=") == np.uint16:
        return data
    if values.range is not None and data.dtype.kind in "iuf":
        return data
    if np.issubdtype(data.dtype, np.floating):
        if data.size and not (data.min() >= 0 and data.max() <= 1):  # NaN compares with nothing
            raise BadItem("bad-array", f"floats must be in [0, 1], got {data.min():g} to {data.max():g}")
    else:
        raise BadItem("bad-array", f"an image is of uint8, uint16 or floats, got {data.dtype}")
    return data
