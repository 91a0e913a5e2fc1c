"""Encoded bytes, arrays and tensors to 8-bit images, by one table of rules, whoever decodes.

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
16-bit grey ("I;16", or "I"     scaled: v * 255 / 65535, rounded
with values up to 65535)
16-bit RGB, RGBA, grey + alpha  the high byte of each value, as Pillow reads PNG and TIFF
32-bit ints beyond, floats,     "unsupported"
LAB
palette                         its colours
alpha, transparent colours      composited over white, what viewers show
CMYK                            Pillow's formula: (255 - C)(255 - K) / 255; Adobe's inverted JPEG turned round before
array or tensor                 uint8, or floats in [0, 1] times 255, rounded; [H, W], [H, W, C] or [C, H, W] with C 1
                                or 3; where both fit an array's channels are last and a tensor's first. Anything
                                else: "bad-array"
no bytes                        "empty"
no known format                 "not-an-image"
ends early                      "truncated"; also a PNG without its end, whose pixels might be whole
damaged                         "corrupt"; also a PNG with a wrong CRC anywhere, which some decoders do not look at
==============================  ====================================================================================

torchcodec decodes the JPEG and PNG files for which it gives the same pixels: 8-bit RGB and grey, whole, upright and
opaque. All others, and those that it fails on, go to Pillow. So orientation is never applied twice.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from torch import Tensor

from ..checks import check_choice
from ..extras import need
from .outcome import USAGE, BadItem, JobError, told_of_error

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
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> Image.Transpose that undoes it
ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # in Image.info, where it may be told
ORIENTED_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # also after the pixels


def decode(data, *, max_pixels: int = MAX_PIXELS, mode: str = "RGB", decoder: str = "pillow") -> Image:
    """An 8-bit image from whatever a source gave, by the rules of this module. Any number of threads may call it.

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

    Returns
    -------
    PIL.Image.Image
        Of ``mode``, 8 bits, decoded.

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
    steerlens_fast.dataset.outcome.BadItem: no image format that is known here begins with b'Dear reader'
    """
    check_choice("mode", mode, MODES)
    faster = torchcodec() if check_choice("decoder", decoder, DECODERS) == "torchcodec" else None
    if isinstance(data, (bytes, bytearray)):
        return _from_bytes(data, max_pixels, mode, faster)
    if isinstance(data, (np.ndarray, Tensor)):
        return _converted(_from_array(data, max_pixels), mode)
    if not isinstance(data, _pillow().Image):
        raise BadItem("bad-array", f"an image is bytes, an array, a tensor or a PIL image, got {type(data).__name__}")
    _check_size(data.size, max_pixels)
    try:
        return _upright(data, mode)
    except (BadItem, MemoryError):
        raise
    except Exception as error:  # it may be decoded only now
        raise _told(error, b"", opened=True) from error


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
        return need("decode", "torchcodec.decoders").decode_image
    except (OSError, RuntimeError, AttributeError) as error:
        message = f"decoder torchcodec must be 0.16 or later, built for this torch; it cannot be loaded: {error}"
        raise JobError(message, USAGE) from error


@cache
def _pillow():
    for plugin in ("Jpeg", "Png", "WebP", "Bmp", "Gif", "Tiff", "Ppm"):  # or Pillow loads all plugins for one of them
        need("cli", f"PIL.{plugin}ImagePlugin")
    return need("cli", "PIL.Image")


def _from_bytes(data: bytes, max_pixels: int, mode: str, faster) -> Image:
    if not data:
        raise BadItem("empty", "0 bytes")
    image = None
    try:
        image = _pillow().open(BytesIO(data), formats=FORMATS)
        _check_size(image.size, max_pixels)
        if image.format == "PNG":
            _check_png(data)
        pixels = _decoded_by(faster, data, image) if faster else None
        return _upright(image, mode) if pixels is None else _converted(pixels, mode)
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
    return BadItem("truncated" if early else "corrupt", told_of_error(error))


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


def _upright(image: Image, mode: str) -> Image:
    image.load()  # of a TIFF, Pillow turns it upright here, and forgets the orientation
    turn = UPRIGHT.get(_orientation(image))
    converted = _converted(image, mode)
    return converted if turn is None else converted.transpose(turn)


def _converted(image: Image, mode: str) -> Image:
    if image.mode in SIXTEEN_BITS:
        image = _scaled(image)
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


def _scaled(image: Image) -> Image:
    values = np.asarray(image)
    if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
        raise BadItem("unsupported", f"32-bit grey from {values.min()} to {values.max()}, beyond 16 bits")
    eight = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257, odd: there are no ties
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        eight[values == transparent] = 255
    return _pillow().fromarray(eight)


def _from_array(data: np.ndarray | Tensor, max_pixels: int) -> Image:
    array, tensor = _as_array(data), isinstance(data, Tensor)
    if array.ndim == 3:
        last, first = array.shape[-1] in (1, 3), array.shape[0] in (1, 3)
        if first and (tensor or not last):
            array = array.transpose(1, 2, 0)
        elif not last:
            raise BadItem("bad-array", f"an image has 1 or 3 channels, got shape {list(array.shape)}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BadItem("bad-array", f"an image is [H, W], [H, W, C] or [C, H, W], got shape {list(array.shape)}")
    _check_size(array.shape[1::-1], max_pixels)
    if array.dtype != np.uint8:
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _pillow().fromarray(np.ascontiguousarray(array))


def _as_array(data: np.ndarray | Tensor) -> np.ndarray:
    """On the host, uint8 or floats in [0, 1]."""
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.is_floating_point() else data).numpy()
    if np.issubdtype(data.dtype, np.floating):
        if data.size and not (data.min() >= 0 and data.max() <= 1):  # NaN compares with nothing
            raise BadItem("bad-array", f"floats must be in [0, 1], got {data.min():g} to {data.max():g}")
    elif data.dtype != np.uint8:
        raise BadItem("bad-array", f"an image is of uint8 or floats, got {data.dtype}")
    return data
