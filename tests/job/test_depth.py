"""Images with more than 8 bits: value ranges, warnings, and the depth of stored frames."""

import json
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from job_models import check_exit, frames, records, run_here

from steerlens_fast.data.decoding import decode, is_narrow_range, pixel_value_range
from steerlens_fast.data.resize import resize_and_crop
from steerlens_fast.data.sources import open_source
from steerlens_fast.data.value_range import narrow_range_warnings
from steerlens_fast.errors import DONE, USAGE, BadItem
from steerlens_fast.job import JobError, morph_dataset
from steerlens_fast.job.export import export
from steerlens_fast.job.folder import JobFolder
from steerlens_fast.job.gallery import write_gallery

Image = pytest.importorskip("PIL.Image")
zoo = pytest.importorskip("zoo")
pytest.importorskip("safetensors")

TWELVE_BITS = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16 + 15  # 15 to 4095, 256 different values
PNG, TIFF = zoo.png(TWELVE_BITS, zoo.GREY, 16), zoo.saved(TWELVE_BITS, "TIFF")
PGM = b"P5 16 16 4095\n" + TWELVE_BITS.astype(">u2").tobytes()


def levels(data, **options):
    return np.asarray(decode(data, mode="L", **options))


def expected(values, low, high):
    return np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "data", [PNG, TIFF, TWELVE_BITS, torch.from_numpy(TWELVE_BITS)], ids=["png", "tiff", "array", "tensor"]
)
def test_range_uses_all_grey_levels_of_12_bit_data(data):
    """Without a range, values are scaled from 16 bits: values up to 4095 get levels up to 16 of 255."""
    assert len(np.unique(levels(data))) == 17
    assert np.array_equal(levels(data), expected(TWELVE_BITS, 0, 65535))
    assert np.array_equal(levels(data, range=(0, 4095)), expected(TWELVE_BITS, 0, 4095))
    assert np.array_equal(levels(data, range=(1000, 2000)), expected(TWELVE_BITS, 1000, 2000))
    assert np.array_equal(levels(data, range="image"), expected(TWELVE_BITS, 15, 4095))
    assert len(np.unique(levels(data, range="image"))) == 256
    assert np.asarray(decode(data, range=(0, 4095))).shape == (16, 16, 3)


def test_12_bit_tiff_is_scaled_from_12_bits():
    data = zoo.tiff_of_12_bits(TWELVE_BITS)
    assert np.array_equal(levels(data), expected(TWELVE_BITS, 0, 4095))
    assert np.array_equal(levels(data, range=(1000, 2000)), expected(TWELVE_BITS, 1000, 2000))
    assert pixel_value_range(decode(data)) == {"low": 15, "high": 4095, "full": 4095}


@pytest.mark.parametrize("data", [PNG, TIFF, TWELVE_BITS], ids=["png", "tiff", "array"])
def test_deep_images_keep_their_depth(data):
    """Images of more than 8 bits become floats in [0, 1], resized or not."""
    image = decode(data, range=(0, 4095), keep_depth=True)
    assert image.mode == "F" and np.allclose(np.asarray(image), TWELVE_BITS / 4095, atol=1e-7)
    assert np.allclose(resize_and_crop(image, None)[0], TWELVE_BITS / 4095, atol=1e-7)
    resized = resize_and_crop(image, (8, 8))
    assert resized.dtype == np.float32 and resized.min() >= 0 and resized.max() <= 1


def test_value_range_is_that_of_the_numbers_in_the_file():
    for data in (PNG, TIFF, TWELVE_BITS, TWELVE_BITS.astype(">u2")):
        assert pixel_value_range(decode(data)) == {"low": 15, "high": 4095, "full": 65535} and is_narrow_range(
            pixel_value_range(decode(data))
        )
    assert pixel_value_range(decode(PGM)) == {"low": 15, "high": 4095, "full": 4095} and not is_narrow_range(
        pixel_value_range(decode(PGM))
    )
    of_int32 = decode(TWELVE_BITS.astype(np.int32), range=(0, 70_000))
    assert pixel_value_range(of_int32) == {"low": 15, "high": 4095, "full": None}
    assert np.array_equal(levels(PGM), expected(TWELVE_BITS, 0, 4095))
    assert np.array_equal(levels(PGM, range=(1000, 2000)), expected(TWELVE_BITS, 1000, 2000))
    eight = TWELVE_BITS.astype(np.uint8)
    assert pixel_value_range(decode(zoo.png(eight, zoo.GREY))) is None and not is_narrow_range(None)
    assert np.array_equal(levels(zoo.png(eight, zoo.GREY), range=(0, 4095)), eight)  # range is not for images of 8 bits


def test_negative_integers_and_large_floats_need_a_range():
    """Files and arrays with such values raise an error without a range."""
    signed, floats = TWELVE_BITS.astype(np.int32) - 2000, TWELVE_BITS.astype(np.float32) / 7 - 100
    cases = [
        (zoo.saved(signed, "TIFF"), signed),
        (zoo.saved(floats, "TIFF"), floats),
        (signed.astype(np.int16), signed),
    ]
    for data, values in [*cases, (floats, floats), (torch.from_numpy(floats), floats)]:
        with pytest.raises(BadItem):
            decode(data)
        assert np.array_equal(levels(data, range=(-50, 300)), expected(values, -50, 300))
        assert np.array_equal(levels(data, range="image"), expected(values, values.min(), values.max()))
    white_is_zero = zoo.as_white_is_zero(zoo.saved(floats, "TIFF"))
    assert np.array_equal(levels(white_is_zero, range=(-50, 300)), expected(-floats, -300, 50))
    assert levels(np.full((4, 4), 7, np.uint16), range="image").max() == 0  # an image of one value
    with pytest.raises(BadItem, match="must be finite"):
        decode(np.array([[0.0, np.nan]]), range=(0, 1))


COLOURS = np.random.default_rng(0).integers(0, 4096, (16, 16, 3), np.uint16)
ALPHA = np.full((16, 16, 1), 65535, np.uint16)
COLOUR_IMAGES = {
    "rgb.png": zoo.png(COLOURS, zoo.RGB, 16),
    "rgba.png": zoo.png(np.concatenate([COLOURS, ALPHA], 2), zoo.RGBA, 16),
    "ppm": b"P6 16 16 65535\n" + COLOURS.astype(">u2").tobytes(),
    "plain.ppm": b"P3 16 16 # of 12 bits\n65535\n" + " ".join(map(str, COLOURS.ravel())).encode(),
    "little.tif": zoo.tiff(COLOURS, "<"),
    "big.tif": zoo.tiff(COLOURS, ">"),
    "array": COLOURS,
}


@pytest.mark.parametrize("data", COLOUR_IMAGES.values(), ids=COLOUR_IMAGES)
def test_16_bit_colours_keep_all_bits(data):
    for options, low, high in (({}, 0, 65535), ({"range": (0, 4095)}, 0, 4095), ({"range": (1000, 1100)}, 1000, 1100)):
        assert np.array_equal(np.asarray(decode(data, **options)), expected(COLOURS, low, high))
        if isinstance(data, bytes):
            opened = Image.open(BytesIO(data))
            assert np.array_equal(np.asarray(decode(opened, **options)), expected(COLOURS, low, high))
        deep = resize_and_crop(decode(data, keep_depth=True, **options), None)
        unit = ((COLOURS - float(low)) / (high - low)).clip(0, 1)
        assert deep.dtype == np.float32 and np.allclose(deep, unit.transpose(2, 0, 1), rtol=0, atol=1e-7)
        grey = resize_and_crop(decode(data, mode="L", keep_depth=True, **options), None)
        assert np.allclose(grey[0], unit @ [0.299, 0.587, 0.114], rtol=0, atol=1e-6)
    values = pixel_value_range(decode(data, keep_depth=True))
    assert values == {"low": COLOURS.min(), "high": COLOURS.max(), "full": 65535} and is_narrow_range(values)


def test_grey_with_alpha_keeps_its_depth_over_white():
    grey = np.stack([TWELVE_BITS, np.where(TWELVE_BITS > 2000, 65535, 0).astype(np.uint16)], 2)
    image = decode(zoo.png(grey, zoo.GREY_ALPHA, 16), range=(0, 4095), keep_depth=True)
    assert image.mode == "F" and np.allclose(
        np.asarray(image), np.where(TWELVE_BITS > 2000, TWELVE_BITS / 4095, 1), atol=1e-7
    )


@pytest.mark.parametrize(
    "data, reason",
    [
        (COLOUR_IMAGES["ppm"][:-3], "truncated"),
        (COLOUR_IMAGES["plain.ppm"][:-30], "truncated"),
        (COLOUR_IMAGES["plain.ppm"].replace(b"65535", b"4000"), "corrupt"),
        (COLOUR_IMAGES["little.tif"][:-9], "truncated"),
        (zoo.tiff(COLOURS, "<", planar=2), "unsupported"),
    ],
)
def test_bad_16_bit_colours_give_the_reason(data, reason):
    with pytest.raises(BadItem) as error:
        decode(data)
    assert error.value.reason == reason


@pytest.mark.parametrize("value", [(1, 0), (0, 0), (0, math.nan), (0,), 3, "auto", "all", ("0", "1"), (False, True)])
def test_wrong_ranges_raise(value):
    with pytest.raises((TypeError, ValueError), match="^range must be "):
        decode(PNG, range=value)


# --- Jobs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six images of 12 bits. All except the first use the values 0 to 4095."""
    folder = tmp_path_factory.mktemp("deep")
    rng = np.random.default_rng(0)
    for n in range(6):
        values = rng.integers(0, 4096, (16, 16), np.uint16) // (2 if n == 0 else 1)
        values.flat[:2] = 0, 2047 if n == 0 else 4095
        (folder / f"{n}.png").write_bytes(zoo.png(values, zoo.GREY, 16))
    return folder


def sources(data):
    return [np.asarray(Image.open(path)).astype(float) for path in sorted(data.iterdir())]


def first_frames(out):
    return [stored[0, 0] for _, stored in sorted(frames(out).items())]


def test_narrow_images_give_a_warning(data, tmp_path, capsys, caplog):
    """Log, plan, dry run and stderr have a warning, and the summary has the number of images.

    With ``--range``, which the log suggests, there is no warning.
    """
    message = "6 of 6 images of more than 8 bits use at most a quarter of the range of their type"
    assert run_here(tmp_path / "dry", "--dry-run", data=data) == DONE
    assert f"warning: {message}, 0 to 4095 of 65535" in capsys.readouterr().out and not caplog.text
    assert run_here(tmp_path / "out", data=data) == DONE
    assert message in capsys.readouterr().err and "--range" in caplog.text
    plan, summary = (json.loads((tmp_path / "out" / name).read_text()) for name in ("plan.json", "summary.json"))
    assert len(plan["warnings"]) == 1 and message in plan["warnings"][0] and summary["narrow_range"] == 6
    assert records(tmp_path / "out")[1]["value_range"] == {"low": 0, "high": 4095, "full": 65535}
    caplog.clear()
    assert run_here(tmp_path / "ranged", data=data, range="0,4095") == DONE
    plan, summary = (json.loads((tmp_path / "ranged" / name).read_text()) for name in ("plan.json", "summary.json"))
    assert plan["warnings"] == [] and summary["narrow_range"] == 0 and not caplog.text
    assert plan["range"] == [0.0, 4095.0]


def test_narrow_images_after_others_give_a_warning(tmp_path):
    """The narrow colour images come after an image of 8 bits and one that cannot be decoded."""
    files = [zoo.png(TWELVE_BITS.astype(np.uint8), zoo.GREY), b"", COLOUR_IMAGES["rgb.png"], COLOUR_IMAGES["ppm"]]
    for n, content in enumerate(files):
        (tmp_path / f"{n}.png").write_bytes(content)
    source = open_source(tmp_path)
    (warning,) = narrow_range_warnings(source, source.listing())
    assert warning.startswith("2 of 2 images of more than 8 bits use at most a quarter of the range of their type")


@pytest.mark.parametrize("value", ["0,4095", "auto", "image"])
def test_range_of_a_job_scales_its_images(value, data, tmp_path):
    """The first frames are the images, scaled from the range. A resumed job uses this range, too."""
    assert run_here(tmp_path, data=data, range=value) == DONE
    highs = [v.max() if value == "image" else 4095 for v in sources(data)]  # auto: the largest value of the data
    wanted_images = [expected(v, 0, high) for v, high in zip(sources(data), highs)]
    assert all(np.array_equal(a, b) for a, b in zip(first_frames(tmp_path), wanted_images, strict=True))
    (tmp_path / "shards" / "00001.done.json").unlink()
    assert run_here(tmp_path, "--resume") == DONE
    assert all(np.array_equal(a, b) for a, b in zip(first_frames(tmp_path), wanted_images, strict=True))


@pytest.mark.parametrize("kind, dtype", [("safetensors", "uint16"), ("safetensors", "float32"), ("folder", "uint16")])
def test_frames_are_stored_in_the_frame_dtype(kind, dtype, data, tmp_path):
    """The first frame is the source, up to rounding."""
    assert run_here(tmp_path / "out", data=data, range="0,4095", format=kind, frame_dtype=dtype) == DONE
    results = records(tmp_path / "out")
    shards = enumerate((results[:4], results[4:]))  # run_here makes shards of 4 items
    stored = torch.cat([JobFolder(tmp_path / "out").frames(s, items) for s, items in shards])
    assert stored.dtype == getattr(torch, dtype)
    unit = np.stack(sources(data)) / 4095
    if dtype == "float32":
        assert np.allclose(stored[:, 0, 0].numpy(), unit, atol=1e-6)
    else:
        assert np.abs(stored[:, 0, 0].numpy().astype(int) - np.rint(unit * 65535)).max() <= 1
    assert len(np.unique(stored[0, 0, 0].numpy())) > 150  # in 8 bits, 0 to 2047 of 4095 would be 128 levels
    for format in ("npz", "safetensors", "folder", "wds"):  # numbers keep their type, pictures have 8 bits
        assert export(tmp_path / "out", tmp_path / format, format) == 6
        if format == "npz":
            assert np.load(sorted((tmp_path / format).rglob("*.npz"))[0])["frames"].dtype == np.dtype(dtype)
        if format == "folder":
            assert Image.open(sorted((tmp_path / format).rglob("frame_*.png"))[0]).mode == "L"
    assert write_gallery(tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "wds", "frame_dtype": "uint16"}, "frame_dtype must be uint8 with format 'wds', got 'uint16'"),
        ({"format": "folder", "frame_dtype": "float32"}, "frame_dtype must be uint8 or uint16 with format 'folder'"),
        ({"frame_dtype": "float16"}, "frame_dtype must be one of"),
        ({"range": (4095, 0)}, "range must be"),
        ({"range": "12 bits"}, "range must be"),
    ],
)
def test_invalid_frame_dtype_or_range_raises(options, message, data, tmp_path):
    with pytest.raises(JobError, match=message):
        morph_dataset(str(data), "job_models:classifier", tmp_path, workers=0, **options)


def test_colour_in_16_bit_folders_raises(data, tmp_path, capsys):
    options = {
        "model": "job_models:colour_24x32",
        "channels": 3,
        "size": "24x32",
        "format": "folder",
        "frame_dtype": "uint16",
    }
    check_exit(
        capsys,
        run_here(tmp_path, data=data, **options),
        "frame_dtype must be uint8 for colour frames in format 'folder'",
        status=USAGE,
    )
    assert run_here(tmp_path / "rgb", data=data, **{**options, "format": "safetensors"}, range="0,4095") == DONE


def test_colours_keep_their_depth_in_16_bit_frames(tmp_path):
    (tmp_path / "in").mkdir()
    colours = np.resize(COLOURS, (24, 32, 3))
    (tmp_path / "in" / "1.png").write_bytes(zoo.png(colours, zoo.RGB, 16))
    options = {"model": "job_models:colour_24x32", "channels": 3, "size": "24x32", "frame_dtype": "uint16"}
    assert run_here(tmp_path / "out", data=tmp_path / "in", **options) == DONE
    (stored,) = frames(tmp_path / "out").values()
    assert np.array_equal(stored[0].permute(1, 2, 0), colours)


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_arrays_of_16_bit_integers_are_scaled_from_the_range(kind, tmp_path):
    """Without a range, int16 arrays raise an error."""
    values = np.stack([TWELVE_BITS, TWELVE_BITS[::-1]])
    job = {"workers": 0, "gallery": 0, "frames": 3, "max_l2": 1.0, "channels": 1}
    for dtype, options in ((np.uint16, {"range": np.array([0, 4095])}), (np.int16, {"range": [0, 4095]})):
        path = tmp_path / f"{np.dtype(dtype)}.{kind}"
        if kind == "npy":
            np.save(path, values.astype(dtype))
        else:
            from safetensors.torch import save_file

            save_file({"images": torch.from_numpy(values.astype(dtype))}, path)
        out = tmp_path / f"out-{np.dtype(dtype)}"
        assert morph_dataset(path, "job_models:classifier", out, **job, **options).code == DONE
        wanted_images = [expected(v, 0, 4095) for v in values]
        assert all(np.array_equal(a, b) for a, b in zip(first_frames(out), wanted_images, strict=True))
    with pytest.raises(JobError, match="or other integers with a range .--range., got (int16|I16)"):
        morph_dataset(tmp_path / f"int16.{kind}", "job_models:classifier", tmp_path / "no", **job)
