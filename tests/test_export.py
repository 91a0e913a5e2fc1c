"""Exports of a finished job: the same frames in every form, a shard at a time, going on where they were stopped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import NASTY, make_job, morphs_of

from steerlens_fast.dataset.export import export
from steerlens_fast.dataset.formats import MODULES, format_named
from steerlens_fast.dataset.formats.names import file_name
from steerlens_fast.dataset.outcome import USAGE, JobError
from steerlens_fast.dataset.shard import read_records

pil = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

KEYS = [f"cat/{i}.png" for i in range(5)] + [f"dog/{i}.png" for i in range(5)]
BAD = (1, 8)
OK_PLACES = [i for i in range(10) if i not in BAD]


@pytest.fixture
def job(tmp_path):
    """Ten items in three shards, two of them bad."""
    frames = morphs_of(10)
    make_job(tmp_path / "out", frames, KEYS, failed=BAD)
    return tmp_path / "out", frames


def stored(to: Path, kind: str):
    """Keys and frames of all shards in a folder."""
    keys, pixels = [], []
    for listing in sorted(to.glob("*.jsonl")):
        records = read_records(listing)
        keys += [r["key"] for r in records]
        pixels.append(format_named(kind).read(to, listing.stem, records))
    return keys, torch.cat(pixels)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("source", MODULES)
@pytest.mark.parametrize("channels", [1, 3])
def test_from_each_format_to_each(source, kind, channels, tmp_path):
    """Bit for bit, without the items that are not ok."""
    frames = morphs_of(10, channels=channels)
    make_job(tmp_path / "out", frames, KEYS, failed=BAD, format=source)
    assert export(tmp_path / "out", tmp_path / "to", kind) == 8
    keys, pixels = stored(tmp_path / "to", kind)
    assert keys == [KEYS[i] for i in OK_PLACES]
    assert torch.equal(pixels, frames[OK_PLACES])


def test_arrays_of_each_item(job, tmp_path):
    """``npz``: frames and what is known of them, without pickles."""
    out, frames = job
    assert export(out, tmp_path / "to", "npz") == 8
    for i in OK_PLACES:
        with np.load(tmp_path / "to" / f"{KEYS[i]}.npz", allow_pickle=False) as arrays:
            assert np.array_equal(arrays["frames"], frames[i].numpy())
            record = json.loads(str(arrays["record"]))
            assert record["key"] == KEYS[i]
            assert np.array_equal(arrays["probability"], record["probability"])
            assert int(arrays["target"]) == (i + 1) % 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animations(kind, channels, tmp_path):
    """There and back; in a lossless one the pixels are the frames', enlarged."""
    frames = morphs_of(2, channels=channels)
    make_job(tmp_path / "out", frames, ["a", "b"])
    assert export(tmp_path / "out", tmp_path / "to", kind) == 2
    with pil.open(tmp_path / "to" / f"b.{kind}") as animation:
        assert animation.n_frames == 2 * 6 - 2
        animation.seek(3)
        pixels = np.asarray(animation.convert("RGB"))
    if kind == "webp":
        zoom, (h, w) = 8, (20, 17)  # of at least 144 pixels
        left = (pixels.shape[1] - zoom * w) // 2
        picture = pixels[8 : 8 + zoom * h : zoom, left : left + zoom * w : zoom]
        assert np.array_equal(picture, frames[1, 3].movedim(0, -1).expand(h, w, 3).numpy())


def test_strips(tmp_path):
    """All frames in one row, each with its pixels."""
    frames = morphs_of(1, frames=5, size=(144, 144))
    make_job(tmp_path / "out", frames, ["a"], unscored=(0,))
    export(tmp_path / "out", tmp_path / "to", "strip")
    pixels = np.asarray(pil.open(tmp_path / "to" / "a.png"))
    assert pixels.shape[1] == 5 * (144 + 8) + 8
    for f in range(5):
        x = 8 + f * (144 + 8)
        assert np.array_equal(pixels[8 : 8 + 144, x : x + 144], frames[0, f].movedim(0, -1).numpy())


def test_keys_that_no_file_could_have(tmp_path):
    """Every item has its file, inside the folder, whatever its key."""
    make_job(tmp_path / "out", morphs_of(len(NASTY), 2), NASTY)
    assert export(tmp_path / "out", tmp_path / "to", "npz") == len(NASTY)
    files = {str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*") if p.is_file()}
    assert files == {file_name(key, ".npz") for key in NASTY}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "to"]


def test_some_items(job, tmp_path):
    """By key, by pattern, and no more than so many."""
    out, _ = job
    assert export(out, tmp_path / "a", "npz", keys=["cat/0.png", "dog/*"]) == 5
    files = sorted(p.name for p in (tmp_path / "a").rglob("*.npz"))
    assert files == ["0.png.npz", "0.png.npz", "1.png.npz", "2.png.npz", "4.png.npz"]
    assert export(out, tmp_path / "b", "safetensors", limit=5) == 5
    assert stored(tmp_path / "b", "safetensors")[0] == [KEYS[i] for i in OK_PLACES[:5]]
    with pytest.raises(JobError, match=r"keys must match an item that is ok, got \['cat/1.png'\]"):
        export(out, tmp_path / "c", "npz", keys=["cat/1.png"])


def test_a_key_is_not_taken_for_a_pattern(tmp_path):
    make_job(tmp_path / "out", morphs_of(2), ["a[1]", "a1"])
    assert export(tmp_path / "out", tmp_path / "to", "npz", keys=["a[1]"]) == 2  # itself, and what the pattern matches
    assert export(tmp_path / "out", tmp_path / "to", "npz", keys=["a1"]) == 1


@pytest.mark.parametrize("kind, name", [("npz", "dog/1.png.npz"), ("wds", "00001.tar")])
def test_what_is_there_stays(kind, name, job, tmp_path):
    """Unless it shall be written again."""
    out, _ = job
    export(out, tmp_path / "to", kind)
    file = tmp_path / "to" / name
    whole = file.read_bytes()
    file.write_bytes(b"mine")
    assert export(out, tmp_path / "to", kind) == 8
    assert file.read_bytes() == b"mine"
    assert export(out, tmp_path / "to", kind, overwrite=True) == 8
    assert file.read_bytes() == whole


def test_an_export_that_was_stopped_goes_on(job, tmp_path):
    """Whole files after the first shard, and the same in the end as in one go."""
    out, _ = job

    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(out, tmp_path / "to", "wds", progress=stop)
    assert sorted(p.name for p in (tmp_path / "to").iterdir()) == ["00000.jsonl", "00000.tar"]
    told = []
    assert export(out, tmp_path / "to", "wds", progress=told.append) == 8
    assert told == [3, 7, 8]
    export(out, tmp_path / "again", "wds")
    files = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("to", "again")]
    assert files[0] == files[1]


def test_only_what_is_done(job, tmp_path):
    """A shard without its marker is not there yet."""
    out, _ = job
    (out / "shards" / "00001.done.json").unlink()
    assert export(out, tmp_path / "to", "npz") == 4


def test_what_cannot_be_exported(job, tmp_path):
    out, _ = job
    with pytest.raises(ValueError, match="format must be one of .*'gif'.*, got 'mp4'"):
        export(out, tmp_path / "to", "mp4")
    with pytest.raises(TypeError, match="keys must be a sequence of str, got 'a'"):
        export(out, tmp_path / "to", "npz", keys="a")
    with pytest.raises(JobError, match="to must be another folder than the job's own") as raised:
        export(out, out / "shards", "wds")
    assert raised.value.code == USAGE
    with pytest.raises(JobError, match="out must be a job's folder"):
        export(tmp_path / "nothing", tmp_path / "to", "npz")
    assert not (tmp_path / "to").exists()


def test_pictures_need_grey_or_colour(tmp_path):
    make_job(tmp_path / "out", morphs_of(2, channels=4), ["a", "b"])
    with pytest.raises(JobError, match="format must be safetensors or npz for frames of 4 channels, got gif"):
        export(tmp_path / "out", tmp_path / "to", "gif")
    assert export(tmp_path / "out", tmp_path / "to", "npz") == 2


def test_a_damaged_shard_is_named(job, tmp_path):
    """Of the right length, which a marker can tell, but not what was written."""
    out, _ = job
    file = out / "shards" / "00000.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(JobError, match="shard 0 cannot be read"):
        export(out, tmp_path / "to", "npz")
