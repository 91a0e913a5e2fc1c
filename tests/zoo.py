"""The zoo: a folder of good and bad image files of every kind.

Each file comes with what a reader must return: its pixels, or the reason of an error. The pixels are computed with
numpy from the arrays that the files were made of. PNG files (but the animated one) are written here byte by
byte, so that they can have every kind of damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_PIXELS = 250_000  # limit for the reader; one image is slightly larger
JPEG_ERROR = 8  # largest error of a JPEG of quality 95, in levels of 0 to 255
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of PNG
TURN = {  # EXIF orientation: function from stored pixels to displayed pixels
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@dataclass(frozen=True)
class Expectation:
    """What a reader must return for a file: pixels, or the reason of an error."""

    path: str  # below the zoo's folder
    reason: str | None = None
    pixels: np.ndarray | None = None  # uint8 [H, W, 3]
    tolerance: int = 0  # in levels of a pixel


class File(NamedTuple):
    """A file, and what a reader must return: pixels, or the reason of an error."""

    data: bytes
    result: np.ndarray | str
    tolerance: int = 0


def make_zoo(folder: str | os.PathLike) -> list[Expectation]:
    """Write all files to a folder.

    Return the images that a listing of the folder must contain, in the order of the listing. The folder also contains
    what a listing must leave out: a text, a hidden image, a directory that is named like an image, and links without
    a suffix, which lead back to the folder or to each other.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    expected = []
    for name, file in {**good(), **bad(), **named()}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(file.data)
        result = {"reason": file.result} if isinstance(file.result, str) else {"pixels": as_rgb(file.result)}
        expected.append(Expectation(name, **result, tolerance=file.tolerance))
    expected += [Expectation(name, "unreadable") for name in _unreadable(folder)]
    _left_out(folder)
    return sorted(expected, key=lambda e: e.path.split("/"))


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth image without symmetry, uint8 [H, W, 3].

    JPEG changes it little.
    """
    y, x = np.mgrid[0:height, 0:width]
    parts = (x * 200 / width + 20, y * 200 / height + 30, (x + 2 * y) * 200 / (width + 2 * height))
    return np.rint(np.stack(parts, -1)).astype(np.uint8)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = (alpha / 255.0)[..., None]
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


def png(
    values: np.ndarray, colour: int, bits: int = 8, before: bytes = b"", size: tuple[int, int] | None = None
) -> bytes:
    """Return a PNG file of values [H, W(, C)].

    ``before`` are chunks before the pixels. ``size`` replaces the size in the header.
    """
    height, width = size or values.shape[:2]
    rows = values.reshape(values.shape[0], -1)
    if bits < 8:
        unpacked = (rows[..., None].astype(np.uint8) >> np.arange(bits)[::-1]) & 1
        rows = np.packbits(unpacked.reshape(len(rows), -1), axis=1)
    raw = b"".join(b"\0" + row.astype(f">u{max(bits // 8, 1)}").tobytes() for row in rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(values: np.ndarray, order: str, planar: int = 1) -> bytes:
    """An uncompressed TIFF of 16-bit RGB [H, W, 3].

    Its byte order is "<" or ">".
    """
    height, width, channels = values.shape
    end = 8 + 2 + 9 * 12 + 4  # end of the directory (9 entries) after the header; bits per channel and pixels follow
    entries = [(256, width), (257, height), (258, (16,) * channels), (259, 1), (262, 2), (273, end + 2 * channels)]
    entries += [(277, channels), (279, 2 * values.size), (284, planar)]
    body = b""
    for tag, value in entries:
        if isinstance(value, tuple):
            body += struct.pack(order + "HHII", tag, 3, len(value), end)
        else:
            body += struct.pack(order + "HHII", tag, 4, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    bits = struct.pack(order + "H" * channels, *(16,) * channels)
    pixels = values if planar == 1 else values.transpose(2, 0, 1)
    return head + body + bytes(4) + bits + pixels.astype(order + "u2").tobytes()


def tiff_of_12_bits(values: np.ndarray) -> bytes:
    """An uncompressed little-endian TIFF of grey [H, W], two values in three bytes."""
    height, width = values.shape
    entries = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 8 * 12 + 4), (277, 1)]
    entries += [(279, values.size * 3 // 2)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    even, odd = values.reshape(-1, 2).astype(np.uint16).T
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], 1).astype(np.uint8)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + packed.tobytes()


def saved(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """Return a file that Pillow has written."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_white_is_zero(file: bytes) -> bytes:
    """A little-endian TIFF of grey, with PhotometricInterpretation 0 in place of 1."""
    assert file.count(entry := struct.pack("<HHIHH", 262, 3, 1, 1, 0)) == 1
    return file.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0))


def jpeg(pixels: np.ndarray | Image.Image, **options) -> bytes:
    return saved(pixels, "JPEG", **{"quality": 95, "subsampling": 0} | options)


def exif(orientation: int) -> bytes:
    """Return EXIF data: 6 bytes that PNG files omit, a header of 8 bytes, and one entry."""
    return b"Exif\0\0" + b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def good() -> dict[str, File]:
    """Return, by file name, files that a reader must accept."""
    rgb = picture()
    grey, alpha = rgb[:, :, 2], np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))
    deep = (rgb.astype(np.uint16) * 257) ^ np.arange(32, dtype=np.uint16)[None, :, None] * 5
    scaled = np.rint(deep[:, :, 0] * 255.0 / 65535).astype(np.uint8)
    cmyk = np.concatenate([rgb, grey[:, :, None] // 3], -1)
    inked = np.rint((255.0 - cmyk[..., :3]) * (255.0 - cmyk[..., 3:]) / 255).astype(np.uint8)
    orientations = {f"exif-{k}.jpg": File(jpeg(rgb, exif=exif(k)), turn(rgb), JPEG_ERROR) for k, turn in TURN.items()}
    return {
        "rgb.png": File(png(rgb, RGB), rgb),
        "rgb.jpg": File(jpeg(rgb), rgb, JPEG_ERROR),
        "progressive.JPEG": File(jpeg(rgb, progressive=True), rgb, JPEG_ERROR),
        "subsampled.jpg": File(jpeg(rgb, subsampling=2), rgb, JPEG_ERROR),
        "a-png-called.jpg": File(png(rgb, RGB), rgb),
        "rgb.bmp": File(saved(rgb, "BMP"), rgb),
        "rgb.tif": File(saved(rgb, "TIFF"), rgb),
        "packed.tiff": File(saved(rgb, "TIFF", compression="tiff_lzw"), rgb),
        "rgb.webp": File(saved(rgb, "WEBP", lossless=True), rgb),
        "rgb.ppm": File(b"P6 32 24 255\n" + rgb.tobytes(), rgb),
        "grey.png": File(png(grey, GREY), grey),
        "grey.jpg": File(jpeg(grey), grey, JPEG_ERROR),
        "grey.bmp": File(saved(grey, "BMP"), grey),
        "grey.pgm": File(b"P5 32 24 255\n" + grey.tobytes(), grey),
        "1x1.png": File(png(rgb[:1, :1], RGB), rgb[:1, :1]),
        "1x1.jpg": File(jpeg(rgb[:1, :1]), rgb[:1, :1], JPEG_ERROR),
        "1-bit.png": File(png(grey // 128, GREY, 1), grey // 128 * 255),
        "4-bit.png": File(png(grey // 16, GREY, 4), grey // 16 * 17),
        "16-bit-grey.png": File(png(deep[:, :, 0], GREY, 16), scaled),
        "16-bit-grey.tif": File(saved(deep[:, :, 0], "TIFF"), scaled),
        "16-bit-white-is-zero.tif": File(as_white_is_zero(saved(65535 - deep[:, :, 0], "TIFF")), scaled),
        "16-bit-grey.pgm": File(b"P5 32 24 65535\n" + deep[:, :, 0].astype(">u2").tobytes(), scaled),
        "16-bit-rgb.png": File(png(deep, RGB, 16), np.rint(deep / 257).astype(np.uint8)),
        "32-bit-small.tif": File(saved(deep[:, :, 0].astype(np.int32), "TIFF"), scaled),
        "rgba.png": File(png(np.dstack([rgb, alpha]), RGBA), over_white(rgb, alpha)),
        "rgba.webp": File(saved(np.dstack([rgb, alpha]), "WEBP", lossless=True, exact=True), over_white(rgb, alpha)),
        "rgba.tif": File(saved(np.dstack([rgb, alpha]), "TIFF"), over_white(rgb, alpha)),
        "grey-alpha.png": File(png(np.dstack([grey, alpha]), GREY_ALPHA), over_white(as_rgb(grey), alpha)),
        "cmyk.jpg": File(jpeg(Image.frombytes("CMYK", (32, 24), cmyk.tobytes())), inked, 2 * JPEG_ERROR),
        "cmyk.tif": File(saved(Image.frombytes("CMYK", (32, 24), cmyk.tobytes()), "TIFF"), inked),
        "damaged-exif.jpg": File(jpeg(rgb, exif=exif(6)[:14] + b"\xff" * 9), rgb, JPEG_ERROR),
        "exif-0.jpg": File(jpeg(rgb, exif=exif(0)), rgb, JPEG_ERROR),
        "exif-6.png": File(png(rgb, RGB, before=chunk(b"eXIf", exif(6)[6:])), TURN[6](rgb)),
        "exif-7.tif": File(saved(rgb, "TIFF", tiffinfo={0x0112: 7}), TURN[7](rgb)),
        "exif-8.webp": File(saved(rgb, "WEBP", lossless=True, exif=exif(8)), TURN[8](rgb)),
        "exif-5-16-bit.png": File(png(deep[:, :, 0], GREY, 16, chunk(b"eXIf", exif(5)[6:])), scaled.T),
        **orientations,
        **_palettes(),
        **_transparent_colours(rgb, grey, deep[:, :, 0], scaled),
        **_animations(rgb),
    }


def _palettes() -> dict[str, File]:
    colours = picture(16, 16).reshape(256, 3)
    index = np.arange(24 * 32).reshape(24, 32) % 251
    alphas = (np.arange(256) * 7 % 256).astype(np.uint8)
    palette, opacity = chunk(b"PLTE", colours.tobytes()), chunk(b"tRNS", alphas.tobytes())
    gif = Image.fromarray(index.astype(np.uint8), "L")
    gif.putpalette(colours.tobytes())  # makes it mode "P"
    holes = np.where((index == 3)[:, :, None], 255, colours[index]).astype(np.uint8)
    return {
        "palette.png": File(png(index, PALETTE, before=palette), colours[index]),
        "palette-1-bit.png": File(
            png(index % 2, PALETTE, 1, chunk(b"PLTE", colours[:2].tobytes())), colours[index % 2]
        ),
        "palette-alpha.png": File(
            png(index, PALETTE, before=palette + opacity), over_white(colours[index], alphas[index])
        ),
        "palette.gif": File(saved(gif, "GIF"), colours[index]),
        "palette-hole.gif": File(saved(gif, "GIF", transparency=3), holes),
        "palette.bmp": File(saved(gif, "BMP"), colours[index]),
    }


def _transparent_colours(rgb: np.ndarray, grey: np.ndarray, deep: np.ndarray, scaled: np.ndarray) -> dict[str, File]:
    """Return images without alpha in which one colour means transparent."""
    colour, tone, deep_tone = rgb[5, 7], int(grey[5, 7]), int(deep[5, 7])
    opaque = (rgb != colour).any(-1, keepdims=True)
    return {
        "hole.png": File(png(rgb, RGB, 8, chunk(b"tRNS", struct.pack(">3H", *colour))), np.where(opaque, rgb, 255)),
        "grey-hole.png": File(
            png(grey, GREY, 8, chunk(b"tRNS", struct.pack(">H", tone))),
            np.where(grey == tone, 255, grey).astype(np.uint8),
        ),
        "16-bit-hole.png": File(
            png(deep, GREY, 16, chunk(b"tRNS", struct.pack(">H", deep_tone))),
            np.where(deep == deep_tone, 255, scaled).astype(np.uint8),
        ),
    }


def _animations(rgb: np.ndarray) -> dict[str, File]:
    later = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1])]
    blocks = np.repeat(np.repeat(np.array([[0, 1], [2, 1]], np.uint8), 9, 0), 9, 1)
    colours = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230]], np.uint8)
    frames = [Image.fromarray(frame, "L") for frame in (blocks, blocks[::-1])]
    for frame in frames:
        frame.putpalette(colours.tobytes())
    return {
        "animated.gif": File(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), colours[blocks]),
        "animated.webp": File(saved(rgb, "WEBP", save_all=True, append_images=later, lossless=True), rgb),
        "animated.png": File(saved(rgb, "PNG", save_all=True, append_images=later), rgb),
        "pages.tif": File(saved(rgb, "TIFF", save_all=True, append_images=later), rgb),
    }


def bad() -> dict[str, File]:
    """Return, by file name, files that a reader must reject."""
    rgb = picture()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole, as_jpeg, as_webp = png(noise, RGB), jpeg(noise), saved(noise, "WEBP", lossless=True)
    pixels, tables = whole.index(b"IDAT") + 20, as_jpeg.index(b"\xff\xc4")  # compressed pixels; Huffman tables
    last = len(whole) - 12  # the last chunk, IEND
    large = np.zeros((501, 500), np.uint8)  # more than MAX_PIXELS
    flat = np.zeros((1, 1), np.uint8)
    return {
        "truncated.png": File(whole[: len(whole) // 2], "truncated"),
        "truncated-in-header.png": File(whole[:20], "truncated"),
        "truncated-end.png": File(whole[:last], "truncated"),
        "truncated.jpg": File(as_jpeg[: len(as_jpeg) // 2], "truncated"),
        "truncated-in-header.jpg": File(as_jpeg[:100], "truncated"),
        "truncated-progressive.jpg": File(jpeg(noise, progressive=True)[: len(as_jpeg) // 2], "truncated"),
        "truncated.gif": File(saved(Image.fromarray(noise).convert("P"), "GIF")[:2000], "truncated"),
        "truncated.webp": File(as_webp[:3000], "truncated"),
        "truncated.bmp": File(saved(noise, "BMP")[:3000], "truncated"),
        "truncated.ppm": File(b"P6 64 64 255\n" + noise.tobytes()[:3000], "truncated"),
        "truncated.tif": File(saved(noise, "TIFF")[:3000], "truncated"),
        "bad-crc.png": File(flipped(whole, pixels), "corrupt"),
        "bad-crc-itself.png": File(flipped(whole, last - 2), "corrupt"),
        # The text chunk begins at byte 33, its CRC at byte 44
        "bad-crc-of-text.png": File(flipped(png(rgb, RGB, before=chunk(b"tEXt", b"a\0b")), 45), "corrupt"),
        "bad-deflate.png": File(
            b"".join((whole[:33], chunk(b"IDAT", b"x\x9cgarbage"), chunk(b"IEND", b""))), "corrupt"
        ),
        "bad-tables.jpg": File(as_jpeg[: tables + 5] + b"\xff" * 16 + as_jpeg[tables + 21 :], "corrupt"),
        "bad.webp": File(as_webp[:30] + bytes(len(as_webp) - 30), "corrupt"),
        "empty.jpg": File(b"", "empty"),
        "text.jpg": File(b"Not an image, whatever it is called.\n", "not-an-image"),
        "text-like-bmp.bmp": File(b"BMX is a sport, and these are words.\n", "not-an-image"),
        "text-like-ppm.ppm": File(b"P3 is a name.\n", "not-an-image"),
        "postscript.png": File(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not-an-image"),
        "bomb.png": File(png(flat, GREY, 1, size=(60_000, 60_000)), "too-large"),
        "largest-bomb.png": File(png(flat, GREY, 1, size=(2**31 - 1, 2**31 - 1)), "too-large"),
        "just-too-large.png": File(png(large, GREY), "too-large"),
        "32-bit.tif": File(saved(np.full((9, 9), 70_000, np.int32), "TIFF"), "unsupported"),
        "negative.tif": File(saved(np.full((9, 9), -1, np.int32), "TIFF"), "unsupported"),
        "float.tif": File(saved(np.ones((9, 9), np.float32), "TIFF"), "unsupported"),
        "lab.tif": File(saved(Image.new("LAB", (9, 9)), "TIFF"), "unsupported"),
    }


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def named() -> dict[str, File]:
    """Return good images with unusual file names."""
    data, pixels = png(picture(9, 8), RGB), picture(9, 8)
    names = (
        "Ærø-日本-🙂.png",
        "e\u0301-and-\u00e9.png",
        os.fsdecode(b"latin-caf\xe9.png"),  # not UTF-8
        "new\nline, \"quotes\" and 'more' %s {0} \\ $HOME.png",
        " - leading blank.png",
        "n" * 251 + ".png",  # the longest possible name
        "ü" * 125 + "x.png",
        "below/a.b.c.png",
    )
    return {name: File(data, pixels) for name in names}


def _unreadable(folder: Path) -> list[str]:
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(folder / "pipe.jpg")
    names = ["dangling.jpg", "self.jpg", "pipe.jpg"]
    if os.geteuid() != 0:  # root could read this file
        (folder / "locked.png").write_bytes(png(picture(), RGB))
        (folder / "locked.png").chmod(0)
        names.append("locked.png")
    return names


def _left_out(folder: Path) -> None:
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(png(picture(), RGB))
    (folder / "directory.jpg").mkdir()
    (folder / "loop").symlink_to(".")
    (folder / "below" / "back").symlink_to("..")
    (folder / "loop-1").symlink_to("loop-2")
    (folder / "loop-2").symlink_to("loop-1")
