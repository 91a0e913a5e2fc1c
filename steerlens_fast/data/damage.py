"""Finds whether an image file that cannot be decoded is truncated or damaged.

The messages do not depend on the run, so that records of failed images do not change when a job is repeated.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FIRST_BYTES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
END_OF_JPEG = b"\xff\xd9"
JPEG_SCAN, JPEG_END, JPEG_BARE = 0xDA, 0xD9, (0x01, *range(0xD0, 0xD9))  # markers; bare ones have no length
GIF_EXTENSION, GIF_IMAGE = 0x21, 0x2C
TIFF_PIECES = ((273, 279), (324, 325))  # tags of the offsets and byte counts of strips and tiles


def format_of(data: bytes) -> str | None:
    """Return the format that the first bytes identify, or None.

    It is also None for BMP and PPM, whose first bytes occur in text, too.
    """
    head = bytes(data[:12])
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "WEBP"
    return next((kind for kind, first in FIRST_BYTES.items() if head.startswith(first)), None)


def describe_damage(error: Exception, data: bytes, image: Image | None) -> tuple[str, str]:
    """Return "truncated" or "corrupt", and a message, for an error of a decoder.

    Parameters
    ----------
    error : Exception
    data : bytes
        The encoded image; empty if it is not known.
    image : PIL.Image.Image, optional
        The image, if Pillow could open it.
    """
    name = (image.format if image is not None else None) or format_of(data) or "image"
    if ends_early(name, data, image, str(error)):
        after = f" after {len(data)} bytes," if data else ""
        return "truncated", f"the {name} ends{after} before the end of its image data"
    if image is None:
        return "corrupt", f"the header of the {name} is damaged, or Pillow does not support it"
    # Pillow also says "truncated" for some damaged files, which is wrong here, because the file is complete.
    text = "" if "truncated" in str(error).lower() else " ".join(str(error).split())
    return "corrupt", f"the image data of the {name} are damaged" + (f" ({text})" if text else "")


def ends_early(name: str, data: bytes, image: Image | None, error: str = "") -> bool:
    """Return whether a file ends early, according to its own headers.

    If the format is not in ``CHECKS``, or ``data`` is empty, Pillow's message ``error`` is used. It is less
    reliable, since Pillow also calls some damaged files truncated.

    Examples
    --------
    >>> ends_early("GIF", b"GIF89a" + bytes(7) + b";", None), ends_early("GIF", b"GIF89a", None)
    (False, True)
    """
    if data and name in CHECKS:
        try:
            return CHECKS[name](data, image)
        except (IndexError, struct.error):  # the bytes end in the middle of a header
            return True
    return "truncated" in error.lower() or "not enough image data" in error.lower()


def _jpeg_ends_early(data: bytes, image: Image | None) -> bool:
    at = 2  # after the marker of the start
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == JPEG_END:
            return False
        if marker == JPEG_SCAN:
            return data.find(END_OF_JPEG, at) < 0  # from here, since an earlier thumbnail may contain this marker
        at += 1 if marker == 0xFF else 2 if marker in JPEG_BARE else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return False  # there is something other than a marker, so the file is damaged


def _gif_ends_early(data: bytes, image: Image | None) -> bool:
    if data.rstrip(b"\0").endswith(b";"):  # the trailer; the loop below could miss it if lengths are damaged
        return False
    at = 13 + _colour_table_bytes(data[10])  # after the header and the global colour table
    while data[at] in (GIF_EXTENSION, GIF_IMAGE):
        at += 2 if data[at] == GIF_EXTENSION else 11 + _colour_table_bytes(data[at + 9])  # to the blocks of data
        while data[at]:  # the size of a block
            at += 1 + data[at]
        at += 1
    return False  # the trailer, or damage


def _colour_table_bytes(flags: int) -> int:
    """Return the number of bytes in a GIF's colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp_ends_early(data: bytes, image: Image | None) -> bool:
    return len(data) < struct.unpack_from("<I", data, 4)[0] + 8


def _bmp_ends_early(data: bytes, image: Image | None) -> bool:
    return len(data) < struct.unpack_from("<I", data, 2)[0]


def _tiff_ends_early(data: bytes, image: Image | None) -> bool:
    order = "<" if data[:2] == b"II" else ">"
    big_tiff = b"+" in data[:4]
    directory = struct.unpack_from(order + ("Q" if big_tiff else "I"), data, 8 if big_tiff else 4)[0]
    if image is None:
        entries = struct.unpack_from(order + ("Q" if big_tiff else "H"), data, directory)[0]
        size = 8 + 20 * entries if big_tiff else 2 + 12 * entries  # the count and the entries
        return directory + size > len(data)
    tables = [[image.tag_v2.get(tag, ()) for tag in tags] for tags in TIFF_PIECES]
    return any(offset + count > len(data) for table in tables for offset, count in zip(*table))


CHECKS = {
    "JPEG": _jpeg_ends_early,
    "GIF": _gif_ends_early,
    "WEBP": _webp_ends_early,
    "BMP": _bmp_ends_early,
    "TIFF": _tiff_ends_early,
}
