"""Decoding and resizing: every image gives its pixels, or the reason why it cannot be decoded."""

import errno
import io
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optional_libraries
import pytest
import torch

from steerlens_fast.data import decoding
from steerlens_fast.data.decoding import decode
from steerlens_fast.data.resize import INTERPOLATIONS, resize_and_crop
from steerlens_fast.data.sources import open_source
from steerlens_fast.errors import REASONS, USAGE, BadItem, JobError
from steerlens_fast.extras import MissingExtra

Image = pytest.importorskip("PIL.Image")
zoo = pytest.importorskip("zoo")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of damaged tags


@pytest.fixture(scope="module")
def zoo_files(tmp_path_factory):
    """A folder of good and bad image files (zoo.py), and the expected results."""
    folder = tmp_path_factory.mktemp("zoo")
    return folder, {e.path: e for e in zoo.make_zoo(folder)}


def outcome(read, **options):
    """Return (reason, None) or (None, pixels)."""
    try:
        return None, np.asarray(decode(read(), **options))
    except BadItem as error:
        assert str(error)
        return error.reason, None


def is_expected(expected, got) -> bool:
    reason, pixels = got
    if reason is not None or expected.reason is not None:
        return reason == expected.reason
    return pixels.shape == expected.pixels.shape and off_by(pixels, expected.pixels) <= expected.tolerance


def off_by(a, b) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_every_file_of_the_zoo_gives_its_pixels_or_its_reason(zoo_files):
    folder, expected = zoo_files
    actual = {
        name: outcome((folder / name).read_bytes, max_pixels=zoo.MAX_PIXELS) for name in [*zoo.good(), *zoo.bad()]
    }
    assert {name: got for name, got in actual.items() if not is_expected(expected[name], got)} == {}


def test_listing_of_the_zoo_has_all_images(zoo_files):
    """All images are listed, in order and under their names. Reading an item gives the result of decoding its file."""
    folder, expected = zoo_files
    source = open_source(folder)
    items = list(source.listing())
    assert [item.key for item in items] == list(expected)
    wrong = [
        item.key
        for item in items
        if not is_expected(expected[item.key], outcome(lambda i=item: source.read(i), max_pixels=zoo.MAX_PIXELS))
    ]
    assert wrong == []
    assert {"unreadable", "empty", "not-an-image", "truncated", "corrupt", "too-large", "unsupported"} == {
        e.reason for e in expected.values() if e.reason
    }


def test_threads_give_the_same_pixels(zoo_files):
    """Many threads at the same time give the same results as one, and change no setting of Pillow."""
    folder, expected = zoo_files
    from PIL import ImageFile

    settings = lambda: (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    before = settings()
    files = [(folder / name).read_bytes() for name in [*zoo.good(), *zoo.bad()]] * 5
    alone = [outcome(lambda d=data: d, max_pixels=zoo.MAX_PIXELS) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: outcome(lambda: data, max_pixels=zoo.MAX_PIXELS), files))
    assert [reason for reason, _ in alone] == [reason for reason, _ in together]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(alone, together) if a is not None)
    assert settings() == before


def test_decompression_bomb_needs_no_memory():
    """An image that is too large is rejected after its header was read, so that memory does not grow."""
    code = """if True:
        import resource, zlib, struct
        from steerlens_fast.data.decoding import decode
        from steerlens_fast.errors import BadItem
        decode(b"P5 1 1 255\\n0")  # imports Pillow
        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        def bomb(side):
            header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
            pixels = zlib.compress(bytes(3 * side * side // 8))  # not all: making them would raise ru_maxrss
            return b"\\x89PNG\\r\\n\\x1a\\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
        data = bomb(8000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for limit in (10_000_000, 8000 * 8000 - 1):
            try:
                decode(data, max_pixels=limit)
            except BadItem as error:
                print(error.reason)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000)  # KiB
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["too-large", "too-large", "True"]


def test_image_with_max_pixels_is_accepted():
    """An image, file or array of max_pixels pixels is accepted, one with more is not."""
    for image in (zoo.png(zoo.picture(), zoo.RGB), zoo.picture(), Image.fromarray(zoo.picture())):
        assert decode(image, max_pixels=32 * 24).size == (32, 24)
        with pytest.raises(BadItem, match="at most 767") as error:
            decode(image, max_pixels=32 * 24 - 1)
        assert error.value.reason == "too-large"


def test_limits_of_pillow_give_the_reason_too_large():
    """Pillow's error for large images, and its warning if warnings are errors, give the reason "too-large"."""
    # Pillow warns above 89 megapixels, and raises an error above 179.
    rejected = zoo.png(np.zeros((1, 1), np.uint8), zoo.GREY, 1, size=(20_000, 20_000))
    warned = zoo.png(np.zeros((1, 1), np.uint8), zoo.GREY, 1, size=(10_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert [outcome(lambda d=d: d, max_pixels=10**12)[0] for d in (rejected, warned)] == ["too-large"] * 2


def test_damaged_files_give_pixels_or_a_reason():
    """If the file is cut or a byte is changed, the result is pixels or a reason. For PNG, every change is found."""
    rng = np.random.default_rng(0)
    for name, (data, *_) in zoo.good().items():
        for _ in range(25):
            at = int(rng.integers(len(data)))
            cut, changed = data[:at], data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
            assert outcome(lambda d=cut: d)[0] in (None, *REASONS), name
            reason = outcome(lambda d=changed: d)[0]
            assert reason in (REASONS if name.endswith(".png") else (None, *REASONS)), (name, at)


def test_mode_l_gives_the_luma():
    """Mode L: grey is unchanged, colours become their luma (ITU-R 601), and transparent pixels are put on white."""
    rgb = zoo.picture()
    luma = np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    image = decode(zoo.png(rgb, zoo.RGB), mode="L")
    assert image.mode == "L" and off_by(np.asarray(image), luma) <= 1
    assert np.array_equal(np.asarray(decode(zoo.png(luma, zoo.GREY), mode="L")), luma)
    alpha = np.full((24, 32), 51, np.uint8)
    faint = np.asarray(decode(zoo.png(np.dstack([luma, alpha]), zoo.GREY_ALPHA), mode="L"))
    assert off_by(faint, np.rint(luma * 0.2 + 255 * 0.8).astype(np.uint8)) == 0


HWC = zoo.picture()
CHW = np.ascontiguousarray(HWC.transpose(2, 0, 1))


def test_arrays_tensors_and_pil_images_give_their_pixels():
    """Arrays and tensors may have either layout, and be uint8 or in [0, 1]."""
    arrays = [HWC, CHW, HWC / 255, (CHW / 255).astype(np.float32)]
    tensors = [torch.tensor(CHW), torch.tensor(HWC), torch.tensor(CHW) / 255]
    tensors += [(torch.tensor(CHW) / 255).double().requires_grad_()]
    for data in (*arrays, *tensors, Image.fromarray(HWC)):
        assert np.array_equal(np.asarray(decode(data)), HWC)


@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 1), (1, 24, 32)])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_grey_arrays_may_lack_the_channel_dimension(shape, make):
    """Grey arrays may have one channel, or no dimension of channels."""
    grey = HWC[:, :, 0]
    assert np.array_equal(np.asarray(decode(make(grey.reshape(shape)), mode="L")), grey)
    assert np.array_equal(np.asarray(decode(make(grey.reshape(shape)))), zoo.as_rgb(grey))


def test_channels_of_ambiguous_shapes_are_last_in_arrays_and_first_in_tensors():
    """Both the first and the last dimension could be channels."""
    values = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert np.array_equal(np.asarray(decode(values)), values)
    assert np.array_equal(np.asarray(decode(torch.tensor(values))), values.transpose(1, 2, 0))


def test_half_precision_pixels_are_rounded():
    """Pixels in bfloat16 and float16 become the nearest of 256 levels."""
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 2, 2)
    for dtype in (torch.bfloat16, torch.float16):
        assert np.asarray(decode(levels.to(dtype), mode="L")).ravel().tolist() == [0, 64, 128, 255]


# (data, part of the message)
BAD_ARRAYS = [
    (np.full((4, 4), 1.5), "in \\[0, 1\\], got 1.5 to 1.5"),
    (np.full((4, 4), -0.1), "in \\[0, 1\\]"),
    (np.full((4, 4), np.nan), "got nan"),
    (np.zeros((4, 4), np.int64), "int64"),
    (np.zeros((4, 4), bool), "bool"),
    (torch.zeros(4, 4, dtype=torch.uint32), "uint8, uint16 or floats, got uint32"),
    (np.zeros((4, 4, 4), np.uint8), "1 or 3 channels"),
    (np.zeros((2, 4, 4, 3), np.uint8), "\\[2, 4, 4, 3\\]"),
    (np.zeros((0, 4), np.uint8), "\\[0, 4\\]"),
    (np.zeros(4, np.uint8), "\\[4\\]"),
    ("a name", "got str"),
    (None, "got NoneType"),
]


def test_bad_arrays_raise():
    """An array of a wrong shape, type or range is rejected; the message names the wrong property."""
    for data, message in BAD_ARRAYS:
        with pytest.raises(BadItem, match=message) as error:
            decode(data)
        assert error.value.reason == "bad-array"


def test_opened_pil_images_are_treated_as_files(zoo_files):
    """For a PIL image that is opened but not decoded, EXIF is applied, and truncation is found."""
    folder, expected = zoo_files
    for name in ("exif-6.jpg", "truncated.png", "16-bit-grey.png", "palette-alpha.png", "float.tif"):
        assert is_expected(expected[name], outcome(lambda n=name: Image.open(folder / n))), name


def test_storage_fault_in_an_opened_image_raises_job_error(monkeypatch):
    """Pillow reads the pixels only when the image is decoded."""
    image = Image.new("L", (4, 4))

    def load():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(image, "load", load)
    with pytest.raises(JobError, match="Input/output error"):
        decode(image, mode="RGB")


def with_damaged_middle(data: bytes, length: int = 40) -> bytes:
    """Return the data with ``length`` bytes in the middle overwritten."""
    at = len(data) // 2
    return data[:at] + b"\xa5" * length + data[at + length :]


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
FILES = {
    "JPEG": zoo.saved(NOISE, "JPEG"),
    "GIF": zoo.saved(NOISE, "GIF"),
    "WEBP": zoo.saved(NOISE, "WEBP", lossless=True),
    "TIFF": zoo.saved(NOISE, "TIFF", compression="tiff_lzw"),
    "BMP": zoo.saved(NOISE, "BMP"),
}


@pytest.mark.parametrize("kind", FILES)
def test_messages_about_bad_files_are_readable(kind):
    """Messages distinguish truncated and damaged files. They have no addresses or type names of Pillow."""
    whole = FILES[kind]
    cut = whole[: len(whole) * 3 // 4]
    with pytest.raises(BadItem, match=rf"^the {kind} ends after {len(cut)} bytes, before the end of its image data$"):
        decode(cut)
    if kind == "BMP":
        return  # any bytes are valid pixels
    signature_bytes = {"JPEG": 3, "GIF": 6, "WEBP": 12, "TIFF": 8}[kind]
    damaged_data = {
        "JPEG": whole[:2] + b"\xff\xdb\x00\x04ab" + whole[20:],
        "GIF": with_damaged_middle(whole, 2000),
        "WEBP": whole[:30] + bytes(len(whole) - 30),
        "TIFF": with_damaged_middle(whole),
    }[kind]
    damaged_header = whole[:signature_bytes].ljust(len(whole), b"\0")
    for data in (damaged_data, damaged_header):
        with pytest.raises(BadItem, match=rf"^the (header|image data) of the {kind} (is|are) damaged") as error:
            decode(data)
        assert error.value.reason == "corrupt" and "0x" not in str(error.value) and "Error" not in str(error.value)


@pytest.mark.parametrize(
    "options, message", [({"mode": "CMYK"}, "mode must be one of"), ({"decoder": "opencv"}, "decoder must be one of")]
)
def test_unknown_mode_or_decoder_raises(options, message):
    with pytest.raises(ValueError, match=message):
        decode(b"", **options)


def with_pillow(data, *, mode):
    """Decode like torchcodec: uint8 [C, H, W], with EXIF applied."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert({"RGB": "RGB", "GRAY": "L"}[mode])
    return torch.tensor(np.atleast_3d(np.asarray(image))).permute(2, 0, 1)


@pytest.fixture
def fake_torchcodec(monkeypatch):
    """A function that installs a given decoder in place of torchcodec's.

    It returns a list of the files that the decoder is called with.
    """
    files = []

    def apply(function):
        monkeypatch.setattr(
            decoding, "load_torchcodec", lambda: lambda d, *, mode: files.append(d) or function(d, mode=mode)
        )
        return files

    return apply


def test_torchcodec_gets_the_plain_files_only(zoo_files, fake_torchcodec):
    """torchcodec decodes only 8-bit RGB and grey without EXIF orientation. All results stay the same."""
    folder, expected = zoo_files
    files = fake_torchcodec(with_pillow)
    plain = set()
    for name in [*zoo.good(), *zoo.bad()]:
        files.clear()
        got = outcome((folder / name).read_bytes, max_pixels=zoo.MAX_PIXELS, decoder="torchcodec")
        assert is_expected(expected[name], got), name
        if files:
            plain.add(name)
    required = {"rgb.png", "rgb.jpg", "progressive.JPEG", "subsampled.jpg", "a-png-called.jpg", "1x1.png", "1x1.jpg"}
    required |= {"grey.png", "grey.jpg", "exif-1.jpg"}
    animated_or_damaged = {"animated.png", "damaged-exif.jpg", "bad-tables.jpg", "bad-deflate.png"}
    assert required <= plain <= required | animated_or_damaged


@pytest.mark.parametrize(
    "answer", [lambda d, mode: 1 / 0, lambda d, mode: torch.zeros(2, 3, 24, 32), lambda d, mode: torch.zeros(3, 32, 24)]
)
def test_pillow_decodes_where_torchcodec_fails(fake_torchcodec, answer):
    """Pillow decodes a file if torchcodec raises an error, or returns several frames or another size."""
    files = fake_torchcodec(answer)
    assert np.array_equal(np.asarray(decode(zoo.png(HWC, zoo.RGB), decoder="torchcodec")), HWC)
    assert len(files) == 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_torchcodec_gives_the_pixels_of_pillow(zoo_files, mode):
    """Runs only if the real torchcodec can be loaded with this torch."""
    try:
        decoding.load_torchcodec()
    except (MissingExtra, JobError) as error:
        pytest.skip(f"torchcodec (extra decode): {error}")
    folder, _ = zoo_files
    for name in zoo.good():
        read = (folder / name).read_bytes
        assert np.array_equal(outcome(read, mode=mode)[1], outcome(read, mode=mode, decoder="torchcodec")[1]), name


def test_torchcodec_that_cannot_be_used_is_an_error(monkeypatch):
    """The error says that torchcodec is not installed, or why it cannot be loaded."""
    decoding.load_torchcodec.cache_clear()
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingExtra, match=r"steerlens_fast\[decode\]"):
        decode(b"", decoder="torchcodec")

    def fails(extra, module):
        raise OSError("Could not load this library")

    monkeypatch.setattr(decoding, "require_extra", fails)
    with pytest.raises(JobError, match="torchcodec must be .* Could not load this library") as error:
        decode(b"", decoder="torchcodec")
    assert error.value.code == USAGE


# (height, width)
SIZES = [(375, 500), (500, 375), (64, 64), (33, 97), (1, 1), (10, 37), (300, 301), (7, 90)]


def check_squares_are_those_of_torchvision(interpolation, size, crop_pct):
    transforms = pytest.importorskip(f"{optional_libraries.torchvision().__name__}.transforms")
    resize = transforms.Resize(int(size / crop_pct), transforms.InterpolationMode(interpolation))
    crop = transforms.CenterCrop(size)
    for n, (height, width) in enumerate(SIZES):
        for image in random_images(height, width, n):
            expected = np.asarray(crop(resize(image)))
            got = resize_and_crop(image, (size, size), crop_pct=crop_pct, interpolation=interpolation)
            assert np.array_equal(got, np.atleast_3d(expected).transpose(2, 0, 1)), (height, width)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_square_crops_are_those_of_torchvision(interpolation):
    """The pixels are those of torchvision's Resize and CenterCrop on PIL images that are not very narrow."""
    for size, crop_pct in [(224, 0.875), (32, 1.0), (64, 0.95), (57, 0.9)]:
        check_squares_are_those_of_torchvision(interpolation, size, crop_pct)


@pytest.mark.parametrize("size, crop_pct", [((224, 224), 0.875), ((32, 48), 0.9), ((96, 64), 1.0), ((240, 240), 0.95)])
def test_pixels_are_those_of_timm(size, crop_pct):
    """The pixels are those of timm's evaluation transforms, also for sizes that are not square."""
    optional_libraries.timm()
    from timm.data import create_transform

    transform = create_transform(
        (3, *size), is_training=False, crop_pct=crop_pct, interpolation="bicubic", normalize=False
    )
    for n, (height, width) in enumerate(SIZES):
        image = random_images(height, width, n)[0]
        expected = torch.as_tensor(np.asarray(transform(image)))
        assert torch.equal(torch.tensor(resize_and_crop(image, size, crop_pct=crop_pct)), expected), (height, width)


def random_images(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return [Image.fromarray(pixels), Image.fromarray(pixels[:, :, 0])]


@pytest.mark.parametrize("size", [None, (24, 32)])
def test_image_of_the_right_size_is_copied(size):
    """Without a size, or if the image has this size, the result is a copy of the pixels."""
    got = resize_and_crop(Image.fromarray(HWC), size)
    assert np.array_equal(got, CHW) and got.dtype == np.uint8
    assert got.flags.c_contiguous and got.flags.writeable and got.flags.owndata


def test_very_narrow_image_stays_small():
    """Only its middle is resized, which differs from resizing all of it by at most one level."""
    image = random_images(2, 2 * 20, 0)[0]
    whole = image.resize((20 * 40, 40), Image.Resampling.BICUBIC).crop((380, 0, 420, 40))
    assert off_by(resize_and_crop(image, (40, 40)), np.asarray(whole).transpose(2, 0, 1)) <= 1
    narrow = Image.new("RGB", (5_000_000, 1))  # all of it would be resized to 1,120,000,000 columns
    resized = resize_and_crop(narrow, (224, 224))
    assert resized.shape == (3, 224, 224)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"crop_pct": 0.0}, ValueError, "crop_pct must be finite and above 0"),
        ({"crop_pct": 1.1}, ValueError, "crop_pct must be above 0 and at most 1, got 1.1"),
        ({"crop_pct": "all"}, TypeError, "crop_pct must be a float"),
        ({"interpolation": "cubic"}, ValueError, "interpolation must be one of"),
    ],
)
def test_bad_options_of_resize_and_crop_raise(options, error, message):
    """The error names the option and its valid values."""
    with pytest.raises(error, match=message):
        resize_and_crop(Image.fromarray(HWC), (8, 8), **options)
