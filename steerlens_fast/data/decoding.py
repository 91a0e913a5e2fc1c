"""Decodes files, arrays and tensors to images.

The result has 8 bits per value unless more are requested.

An image that cannot be decoded raises a :class:`BadItem`; quoted words in the right columns are its reasons.

=============================  =====================================================================================
Files                          Result
=============================  =====================================================================================
formats                        JPEG, PNG, BMP, TIFF, GIF, WebP, PPM and PGM, recognised by content, not by file name
no bytes                       "empty"
another format                 "not-an-image"
more than ``max_pixels``       "too-large", without decoding; also more than twice Pillow's ``Image.MAX_IMAGE_PIXELS``
incomplete file                "truncated", also for a PNG without its end chunk
damaged file                   "corrupt", also for a PNG with a wrong CRC, which some decoders do not check
EXIF orientation 1 to 8        applied, also from XMP; damaged EXIF is ignored
animation, several pages       the first frame
palette                        its colours
alpha, transparent colours     composited over white, as in image viewers
CMYK                           by Pillow's formula (255 - C)(255 - K) / 255; JPEGs are taken to be inverted, as by Adobe
LAB                            "unsupported"
colours, for mode "L"          the luma of ITU-R 601, 0.299 R + 0.587 G + 0.114 B
grey, for mode "RGB"           the same value in three channels
grey of 1, 2 or 4 bits         scaled to 0 ... 255
PIL image                      as Pillow has decoded it. An image that is only opened is decoded like a file, but the
                               chunks of a PNG are checked only if it has 16-bit colours or 16-bit grey with alpha
=============================  =====================================================================================

Values of more than 8 bits are scaled to 0 ... 255 and rounded, or with ``keep_depth`` scaled to floats in [0, 1].

=============================  =====================================================================================
Values of more than 8 bits     Scaled from
=============================  =====================================================================================
16-bit grey (PNG, TIFF, PGM)   ``range`` or, by default, 0 to 65535 (a PGM: 0 to its maximum; a 12-bit TIFF: 0 to 4095)
16-bit colours, grey + alpha   ``range`` or, by default, 0 to the file's maximum (PNG, TIFF, PPM), before alpha is
                               applied
16-bit CMYK (TIFF)             0 to 65535; "unsupported" with a ``range``
32-bit integers, floats        ``range``; "unsupported" without a ``range``, but 32-bit integers from 0 to 65535 are
                               scaled like 16-bit grey
=============================  =====================================================================================

A ``range`` (low, high) is in the file's units. The value low becomes black, high becomes white, and values outside are
clipped. The range ``"image"`` is the minimum and the maximum of each image. 8-bit images are always scaled from 0 to
255. Grey TIFFs with WhiteIsZero are inverted after scaling, so that their ``range`` is (white, black).

=============================  =====================================================================================
Arrays and tensors             Result
=============================  =====================================================================================
shape                          [H, W], [H, W, C] or [C, H, W] with C 1 or 3. If both orders fit, the channels of an
                               array are last, and those of a tensor first
uint8                          unchanged
uint16                         scaled from ``range`` or, by default, from 0 to 65535
floats                         scaled from ``range`` or, by default, from 0 to 1; by default, values outside [0, 1] are
                               "bad-array"
other integers                 scaled from ``range``; "bad-array" without a ``range``
other shapes or types          "bad-array"
=============================  =====================================================================================

If the decoder is "torchcodec", it decodes complete JPEG and PNG files of 8-bit RGB or grey that have neither a
rotation nor transparency. For these files, the pixels are those of Pillow. Pillow decodes all other files, and files on
which torchcodec fails.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np
from torch import Tensor

from ..checks import check_bool, check_choice, check_number, shown
from ..errors import BadItem, is_system_fault, to_job_error, usage_error
from ..extras import require_extra
from .array_images import image_array
from .damage import END_OF_JPEG, FIRST_BYTES, describe_damage, format_of
from .deep_colour import MAX_16_BITS, FloatColours, is_deep_colour, read_deep_colour, unit_colours

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_956_970  # Pillow's limit, above which it raises a DecompressionBombError
DECODERS, MODES = ("pillow", "torchcodec"), ("RGB", "L")
# Only these formats are decoded, since a file must not start other plugins: Pillow's plugin for EPS runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
PNG = FIRST_BYTES["PNG"][0]
# Pillow's modes; "I" has 32 bits, of which only 16 are used without a range
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
FLOATS = "F"
MAX_12_BITS = 4095
PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO = 262, 0  # a TIFF tag, and one of its values
RANGE_KEY = ("steerlens_fast", "values")  # in Image.info; a tuple, so that no text chunk of a file can have this key
NARROW_DIVISOR = 4  # a range is narrow up to 1/4 of the type's range, which leaves about 64 of 256 levels
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # from EXIF orientation to the Image.Transpose that undoes it
# Keys of Image.info that may contain the orientation. In a PNG, a chunk with the orientation may come after the pixels.
# Such a chunk contains one of ORIENTATION_CHUNKS.
ORIENTATION_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
ORIENTATION_CHUNKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")


@dataclass(frozen=True)
class DepthOptions:
    """How values of more than 8 bits are converted.

    Attributes
    ----------
    range : (float, float), "image" or None
        The values of black and white; None for the full range of the file's type.
    keep_depth : bool
        Whether values of more than 8 bits are returned as floats.
    """

    range: tuple[float, float] | str | None = None
    keep_depth: bool = False


class GreyScale(NamedTuple):
    """The possible grey values of a file.

    Attributes
    ----------
    maximum, decoded_maximum : int
        The largest possible value in the file, and in the image that Pillow decodes.
    zero_is_white : bool
    """

    maximum: int = MAX_16_BITS
    decoded_maximum: int = MAX_16_BITS
    zero_is_white: bool = False


def decode(
    data,
    *,
    max_pixels: int = MAX_PIXELS,
    mode: str = "RGB",
    decoder: str = "pillow",
    range: Sequence[float] | str | None = None,
    keep_depth: bool = False,
) -> Image | FloatColours:
    """Decode an image by the rules of this module. Thread-safe.

    Parameters
    ----------
    data : bytes, numpy array, tensor, or PIL image
        An encoded file, or pixels.
    max_pixels : int
        Larger images raise an error before they are decoded.
    mode : str
        Mode of the result: ``"RGB"`` or ``"L"`` (grey).
    decoder : str
        ``"pillow"`` or ``"torchcodec"``, with the same result.
    range : (float, float), "image" or None
        The values of black and white, for values of more than 8 bits; see the docstring of this module.
    keep_depth : bool
        Whether values of more than 8 bits are returned as floats.

    Returns
    -------
    PIL.Image.Image or FloatColours
        An 8-bit image of ``mode``. With ``keep_depth``, an image of more than 8 bits has floats in [0, 1] instead: grey
        images have Pillow's mode "F", and colour images are :class:`FloatColours`. See also :func:`pixel_value_range`.

    Raises
    ------
    BadItem
        With reason ``"empty"``, ``"not-an-image"``, ``"truncated"``, ``"corrupt"``, ``"too-large"``,
        ``"unsupported"`` or ``"bad-array"``.
    MissingExtra
        If Pillow, or the decoder torchcodec, is not installed.
    JobError
        If torchcodec cannot be loaded, or a fault of the storage or of this process makes a PIL image unreadable.

    Examples
    --------
    >>> image = decode(b"P5 2 1 255\\n" + bytes([0, 200]))
    >>> image.mode, image.size, image.getpixel((1, 0))
    ('RGB', (2, 1), (200, 200, 200))
    >>> decode(b"Dear reader")
    Traceback (most recent call last):
    steerlens_fast.errors.BadItem: image must be one of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM, got bytes beginning with b'Dear reader'
    """  # noqa: E501
    check_choice("mode", mode, MODES)
    depth = DepthOptions(check_range(range), check_bool("keep_depth", keep_depth))
    fast_decode = load_torchcodec() if check_choice("decoder", decoder, DECODERS) == "torchcodec" else None
    if isinstance(data, (bytes, bytearray)):
        return _from_bytes(data, max_pixels, mode, fast_decode, depth)
    if isinstance(data, (np.ndarray, Tensor)):
        return _in_mode(_from_array(data, max_pixels, depth), mode)
    if not isinstance(data, _pillow().Image):
        raise BadItem("bad-array", f"image must be bytes, an array, a tensor or a PIL image, got {type(data).__name__}")
    _check_size(data.size, max_pixels)
    try:
        if is_deep_colour(data) and data.fp is not None and data.tell() == 0:  # opened, not decoded, at its first page
            data.fp.seek(0)
            return _from_bytes(data.fp.read(), max_pixels, mode, None, depth)
        return _load_upright(data, mode, depth)
    except (BadItem, MemoryError):
        raise
    except Exception as error:  # Pillow decodes lazily
        if is_system_fault(error):
            raise to_job_error(error) from error
        raise _as_bad_item(error, b"", data) from error


def pixel_value_range(image: Image | FloatColours) -> dict | None:
    """Return the range of values in an image of more than 8 bits.

    Parameters
    ----------
    image : PIL.Image.Image or FloatColours
        From :func:`decode`.

    Returns
    -------
    dict or None
        ``low``, ``high`` and ``full`` (the largest possible value; None for floats, CMYK, files with integers beyond 16
        bits, and arrays of other integers than uint16), in the file's units. The result is None for an image of 8 bits,
        and for an array of floats that was decoded with neither ``range`` nor ``keep_depth``.

    Examples
    --------
    >>> pixel_value_range(decode(np.array([[0, 4095]], np.uint16)))
    {'low': 0, 'high': 4095, 'full': 65535}
    """
    values = image.info.get(RANGE_KEY)
    return None if values is None else dict(zip(("low", "high", "full"), values))


def is_narrow_range(values: dict | None) -> bool:
    """Return whether an image uses only a small part of its type's range.

    Scaling to 8 bits then leaves few different levels.

    Examples
    --------
    >>> is_narrow_range({"low": 0, "high": 4095, "full": 65535})
    True
    >>> is_narrow_range({"low": 0, "high": 60000, "full": 65535})
    False
    """
    full = None if values is None else values["full"]
    return full is not None and (values["high"] - values["low"]) * NARROW_DIVISOR <= full


def check_range(range):
    """Check a ``range`` of :func:`decode`, and return it.

    Examples
    --------
    >>> check_range([0, 4095]), check_range("image"), check_range(None)
    ((0.0, 4095.0), 'image', None)
    """
    if range is None or range == "image":
        return range
    pair = list(range) if isinstance(range, (list, tuple, np.ndarray)) else []
    if len(pair) != 2:
        raise TypeError(f"range must be two numbers (low, high), 'image' or None, got {shown(range)}")
    low, high = (check_number("range", value.item() if hasattr(value, "item") else value) for value in pair)
    if low >= high:
        raise ValueError(f"range must be (low, high) with low < high, got {shown(range)}")
    return low, high


@cache
def load_torchcodec():
    """Return torchcodec's function ``decode_image``.

    Raises
    ------
    MissingExtra
        If torchcodec is not installed.
    JobError
        If torchcodec cannot be loaded, e.g. because it was built for another version of torch.
    """
    try:
        return require_extra("decode", "torchcodec.decoders").decode_image
    except (OSError, RuntimeError, AttributeError) as error:
        message = f"torchcodec must be version 0.16 or later and built for this torch; loading it failed: {error}"
        raise usage_error(message) from error


@cache
def _pillow():
    # If these plugins were not imported, Pillow would import all of its plugins when it needs one.
    for plugin in ("Jpeg", "Png", "WebP", "Bmp", "Gif", "Tiff", "Ppm"):
        require_extra("cli", f"PIL.{plugin}ImagePlugin")
    return require_extra("cli", "PIL.Image")


def _from_bytes(data: bytes, max_pixels: int, mode: str, fast_decode, depth: DepthOptions) -> Image | FloatColours:
    if not data:
        raise BadItem("empty", "0 bytes")
    image = None
    try:
        image = _pillow().open(BytesIO(data), formats=FORMATS)
        _check_size(image.size, max_pixels)
        if image.format == "PNG":
            _check_png(data)
        if is_deep_colour(image):
            return _from_deep_colour(image, data, mode, depth)
        pixels = _decode_fast(fast_decode, data, image) if fast_decode else None
        return _load_upright(image, mode, depth) if pixels is None else _in_mode(pixels, mode)
    except (BadItem, MemoryError):
        raise
    except Exception as error:
        if image is None and data.startswith(PNG):
            _check_png(data)  # more precise than Pillow's error
        raise _as_bad_item(error, bytes(data), image) from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadItem("too-large", f"image must have at most {max_pixels} pixels, got {width} x {height}")


def _check_png(data: bytes) -> None:
    """Check that every chunk of a PNG is complete and undamaged. Pillow does not check the CRC of pixel data."""
    view, offset, kind = memoryview(data), len(PNG), b""
    while kind != b"IEND":
        if offset + 12 > len(data):
            raise BadItem("truncated", f"the PNG ends after {len(data)} bytes, before its end chunk")
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 12 + length
        if end > len(data):
            raise BadItem("truncated", f"the PNG ends after {len(data)} bytes, in its {kind!r} chunk")
        if crc32(view[offset + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise BadItem("corrupt", f"the PNG's {kind!r} chunk at byte {offset} has a wrong CRC")
        offset = end


def _as_bad_item(error: Exception, data: bytes, image: Image | None) -> BadItem:
    """Convert an exception of a decoder to a BadItem.

    The exception may be of any type: Pillow raises even SyntaxError for damaged files.
    """
    pillow = _pillow()
    if isinstance(error, (pillow.DecompressionBombError, pillow.DecompressionBombWarning)):
        return BadItem("too-large", str(error))
    if image is None and format_of(data) is None:
        return BadItem(
            "not-an-image", f"image must be one of {', '.join(FORMATS)}, got bytes beginning with {bytes(data[:12])!r}"
        )
    return BadItem(*describe_damage(error, data, image))


def _decode_fast(fast_decode, data: bytes, image: Image) -> Image | None:
    """Return an image decoded by torchcodec; None if it fails or its pixels would differ from Pillow's."""
    if image.format not in ("JPEG", "PNG") or image.mode not in ("RGB", "L") or image.has_transparency_data:
        return None
    if image.format == "PNG":
        plain = data[24] == 8 and not any(mark in data for mark in ORIENTATION_CHUNKS)  # byte 24: bits per value
    else:
        plain = END_OF_JPEG in data[-64:] and _orientation(image) == 1
    if not plain:
        return None
    try:
        pixels = fast_decode(data, mode="RGB" if image.mode == "RGB" else "GRAY").numpy()
    except Exception:
        return None
    if pixels.shape != (len(image.mode), image.height, image.width):
        return None
    return _pillow().fromarray(pixels[0] if image.mode == "L" else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _orientation(image: Image) -> int:
    """Return the EXIF or XMP orientation, 1 to 8; 1 if there are no such metadata.

    The result is 0 if the metadata contain no valid orientation. The image is then not rotated, and not decoded by
    torchcodec, which might find one.
    """
    if not any(key in image.info for key in ORIENTATION_KEYS):
        return 1
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # damaged EXIF does not damage the pixels
        return 0
    return orientation if orientation in (1, *UPRIGHT) else 0


def _load_upright(image: Image, mode: str, depth: DepthOptions) -> Image | FloatColours:
    greys = _grey_scale(image)  # before Pillow decodes the image
    image.load()  # Pillow applies the orientation of TIFF files here and removes it
    return _upright(_in_mode(_convert(image, depth, greys), mode), image)


def _upright(converted: Image | FloatColours, image: Image) -> Image | FloatColours:
    """Apply the orientation of the loaded ``image`` to the result of its conversion."""
    transpose = UPRIGHT.get(_orientation(image))
    return converted if transpose is None else converted.transpose(transpose)


def _in_mode(image: Image | FloatColours, mode: str) -> Image | FloatColours:
    """Return an image in a mode; grey floats stay grey floats."""
    return image if image.mode in (mode, FLOATS) else image.convert(mode)


def _from_deep_colour(image: Image, data: bytes, mode: str, depth: DepthOptions) -> Image | FloatColours:
    """Decode all bits of an image with colours or alpha. Pillow would read only the high bytes."""
    colours = read_deep_colour(image, data)
    if colours.layout == "CMYK" and depth.range is not None:
        raise BadItem("unsupported", f"range must be None for a {image.format} of 16-bit CMYK, got {depth.range}")
    unit, values = unit_colours(colours, partial(_scaled_to_unit, range=depth.range, maximum=colours.maximum))
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple):
        unit[(values == transparent).all(-1)] = 1.0
    # If `full` is not None, a warning may recommend the option `range`, which is an error for CMYK.
    full = None if colours.layout == "CMYK" else colours.maximum
    return _upright(_in_mode(_to_image(unit, depth.keep_depth, _range_of_values(values, full)), mode), image)


def _grey_scale(image: Image) -> GreyScale:
    """Return the possible grey values of an image that is not decoded yet."""
    tile = image.tile[0] if getattr(image, "tile", None) else None
    arguments = tile[3] if tile and isinstance(tile[3], tuple) else ()
    # If 0 is white in a TIFF, Pillow inverts values of up to 8 bits, but not those of more bits.
    zero_is_white = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
    if image.format == "PPM" and image.mode == "I" and len(arguments) > 1:
        return GreyScale(arguments[1])  # Pillow scales the header's maximum to 65535
    if arguments and arguments[0] == "I;12":
        return GreyScale(MAX_12_BITS, MAX_12_BITS, zero_is_white)
    return GreyScale(zero_is_white=zero_is_white)


def _convert(image: Image, depth: DepthOptions, greys: GreyScale) -> Image:
    """Convert a decoded image to RGB or grey, with values of 8 bits or floats."""
    if RANGE_KEY in image.info:  # a result of :func:`decode`
        return image
    if image.mode in SIXTEEN_BITS or (image.mode == FLOATS and depth.range is not None):
        return _scale(image, depth, greys)
    if image.mode not in EIGHT_BITS:
        raise BadItem(
            "unsupported",
            f"image must have a mode with a defined conversion to 8 bits, got Pillow's mode {image.mode!r}",
        )
    if image.has_transparency_data:
        return _composite_over_white(image.convert("RGBA"))
    return image if image.mode in ("L", "1", "RGB") else image.convert("RGB")


def _composite_over_white(image: Image) -> Image:
    over = _pillow().new("RGB", image.size, "white")
    over.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return over


def _scale(image: Image, depth: DepthOptions, greys: GreyScale) -> Image:
    """Scale a grey image to 8 bits or to floats in [0, 1]."""
    pixels = np.asarray(image)
    beyond_16_bits = image.mode == FLOATS or (image.mode == "I" and (pixels.min() < 0 or pixels.max() > MAX_16_BITS))
    if beyond_16_bits and depth.range is None:
        raise BadItem(
            "unsupported",
            f"range must be given for 32-bit grey beyond 16 bits, got values from {pixels.min()} to {pixels.max()}",
        )
    original = pixels
    if greys.maximum != greys.decoded_maximum:
        original = np.rint(pixels.astype(np.float64) * greys.maximum / greys.decoded_maximum).astype(np.int64)
    unit = _scaled_to_unit(original, depth.range, greys.maximum)
    unit = 1 - unit if greys.zero_is_white else unit
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        unit[pixels == transparent] = 1.0
    return _to_image(unit, depth.keep_depth, _range_of_values(original, None if beyond_16_bits else greys.maximum))


def _range_of_values(pixels: np.ndarray, full: int | None) -> tuple:
    return pixels.min().item(), pixels.max().item(), full


def _scaled_to_unit(pixels: np.ndarray, range, maximum: float) -> np.ndarray:
    """Return values scaled so that black is 0 and white is 1."""
    if range == "image":
        low, high = float(pixels.min()), float(pixels.max())
        high = high if high > low else low + 1  # an image of one value is black
    else:
        low, high = range or (0.0, float(maximum))
    if not np.isfinite([low, high]).all() or not np.isfinite(pixels).all():
        raise BadItem("bad-array", "values must be finite, got NaN or infinity")
    unit = pixels.astype(np.float64)
    unit -= low
    unit /= high - low
    return unit.clip(0.0, 1.0, out=unit)


def _to_image(unit: np.ndarray, keep_depth: bool, value_range: tuple) -> Image | FloatColours:
    if not keep_depth:
        image = _pillow().fromarray(np.rint(unit * 255).astype(np.uint8))
    elif unit.ndim == 2:
        image = _pillow().fromarray(unit.astype(np.float32))
    else:
        channels = np.ascontiguousarray(unit.transpose(2, 0, 1), np.float32)
        image = FloatColours(map(_pillow().fromarray, channels))
    image.info[RANGE_KEY] = value_range
    return image


def _from_array(data: np.ndarray | Tensor, max_pixels: int, depth: DepthOptions) -> Image | FloatColours:
    array = image_array(data, any_values=depth.range is not None)
    _check_size(array.shape[1::-1], max_pixels)
    array = np.ascontiguousarray(array)
    if array.dtype == np.uint8:
        return _pillow().fromarray(array)
    floats = array.dtype.kind == "f"
    if floats and depth.range is None and not depth.keep_depth:
        return _pillow().fromarray(np.rint(array.astype(np.float32) * 255).astype(np.uint8))
    unit = _scaled_to_unit(array, depth.range, 1.0 if floats else MAX_16_BITS)
    full = MAX_16_BITS if array.dtype.newbyteorder("=") == np.uint16 else None
    return _to_image(unit, depth.keep_depth, _range_of_values(array, full))
