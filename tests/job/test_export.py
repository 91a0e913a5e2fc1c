"""Exports of jobs: formats, selection of items, resuming, and errors."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import NASTY, make_job, morphs_of
from pairwise import pairwise

from steerlens_fast import Morphs
from steerlens_fast.errors import USAGE, JobError
from steerlens_fast.io.atomic_io import backup_path
from steerlens_fast.io.output_dir import hold_lock
from steerlens_fast.job.export import EXPORT_FORMATS, _Export, _strip_data, export
from steerlens_fast.job.folder import JobFolder
from steerlens_fast.job.formats import FORMATS, get_format
from steerlens_fast.job.formats.names import FileNames
from steerlens_fast.job.gallery import write_gallery
from steerlens_fast.job.records import read_records
from steerlens_fast.morphs.strips import draw_strips

pil = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

KEYS = [f"cat/{i}.png" for i in range(5)] + [f"dog/{i}.png" for i in range(5)]
BAD = (1, 8)
OK_PLACES = [i for i in range(10) if i not in BAD]


@pytest.fixture
def job(tmp_path):
    """A job with ten items in three shards; two items are bad."""
    frames = morphs_of(10)
    make_job(tmp_path / "out", frames, KEYS, failed=BAD)
    return tmp_path / "out", frames


def stored(to: Path, kind: str):
    """Return keys and frames of all shards in a folder."""
    keys, pixels = [], []
    for listing in sorted(to.glob("*.jsonl")):
        records = read_records(listing)
        keys += [r["key"] for r in records]
        shard = "" if kind == "folder" else listing.stem  # folders are not grouped by shard
        pixels.append(get_format(kind).read(to, shard, records))
    return keys, torch.cat(pixels)


@pairwise(channels=[1, 3], source=FORMATS, kind=FORMATS)
def test_every_format_of_jobs_is_exported_to_every_format(source, kind, channels, tmp_path):
    """The frames are equal bit for bit. Items that are not ok are left out."""
    frames = morphs_of(10, channels=channels)
    make_job(tmp_path / "out", frames, KEYS, failed=BAD, format=source)
    assert export(tmp_path / "out", tmp_path / "to", kind) == 8
    keys, pixels = stored(tmp_path / "to", kind)
    assert keys == [KEYS[i] for i in OK_PLACES]
    assert torch.equal(pixels, frames[OK_PLACES])


def test_npz_files_have_frames_and_records(job, tmp_path):
    out, frames = job
    assert export(str(out), str(tmp_path / "to"), "npz") == 8
    for i in OK_PLACES:
        with np.load(tmp_path / "to" / f"{KEYS[i].removesuffix('.png')}.npz", allow_pickle=False) as arrays:
            assert np.array_equal(arrays["frames"], frames[i].numpy())
            record = json.loads(str(arrays["record"]))
            assert record["key"] == KEYS[i]
            assert np.array_equal(arrays["probability"], record["probability"])
            assert int(arrays["target"]) == (i + 1) % 4  # as ``record`` in jobs.py chooses it


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animations_run_forward_and_back(kind, channels, tmp_path):
    """In WebP files, which are lossless, the pixels are the enlarged frames."""
    frames = morphs_of(2, channels=channels)
    make_job(tmp_path / "out", frames, ["a", "b"])
    assert export(tmp_path / "out", tmp_path / "to", kind) == 2
    with pil.open(tmp_path / "to" / f"b.{kind}") as animation:
        assert animation.n_frames == 2 * frames.shape[1] - 2  # the ends are not repeated
        animation.seek(3)
        pixels = np.asarray(animation.convert("RGB"))
    if kind == "webp":
        zoom, margin, (h, w) = 8, 8, (20, 17)  # the longer side is enlarged to at least 144 pixels
        left = (pixels.shape[1] - zoom * w) // 2
        picture = pixels[margin : margin + zoom * h : zoom, left : left + zoom * w : zoom]
        assert np.array_equal(picture, frames[1, 3].movedim(0, -1).expand(h, w, 3).numpy())


def test_strip_has_the_pixels_of_its_frames(tmp_path):
    """All frames are in one row; they are red, green and blue, so that the test can find them."""
    frames = torch.zeros(1, 3, 3, 20, 17, dtype=torch.uint8)
    frames[0, range(3), range(3)] = 255
    make_job(tmp_path / "out", frames, ["a"], unscored=(0,))
    export(tmp_path / "out", tmp_path / "to", "strip")
    pixels = np.asarray(pil.open(tmp_path / "to" / "a.png").convert("RGB"))
    columns = [np.flatnonzero((pixels == colour).all(-1).any(0)) for colour in np.eye(3, dtype=np.uint8) * 255]
    assert all(len(column) > 100 for column in columns)
    assert columns[0].max() < columns[1].min() and columns[1].max() < columns[2].min()


def as_morphs(frames: torch.Tensor, record: dict, settings: dict, classes: int = 4) -> Morphs:
    """Return Morphs of one sample with the numbers of a record."""
    outputs = torch.full((1, len(frames), classes), -30.0, dtype=torch.float64)
    target = record["target"]
    for f, (predicted, p) in enumerate(zip(record["predictions"], record["probability"])):
        outputs[0, f, target] = math.log(p)
        outputs[0, f, predicted if predicted != target else (target + 1) % classes] = math.log(1 - p)
    table = lambda name: torch.tensor([record[name]], dtype=torch.float64)
    number = lambda name: torch.tensor([record[name]])
    zero, attained = torch.zeros(1, dtype=torch.int64), torch.tensor([record["attained"]])
    numbers = {"factors": table("factors"), "l2": table("l2"), "target": number("target"), "source": number("source")}
    rest = {"amplitude_factors": None, "budget": table("l2")[:, -1:], "attained": attained, "status": zero}
    return Morphs(frames=frames[None].double() / 255, outputs=outputs, settings=settings, **numbers, **rest)


@pytest.mark.parametrize("changes", [{}, {"attained": False}, {"source": 1, "label": 0}], ids=str)
@pytest.mark.parametrize("channels, classes", [(1, None), (3, ["zero", "one", "two", "three"])])
@pytest.mark.parametrize("differences", [False, True])
def test_strip_equals_that_of_morphs_save(channels, classes, differences, changes, tmp_path):
    """The file equals that of Morphs.save byte for byte, with all texts."""
    frames = morphs_of(1, frames=5, channels=channels)
    settings = {"family": "csp-joint", "rule": "polar", "regime": "persistent"}
    change = lambda record: record | changes
    (record,) = make_job(tmp_path / "out", frames, ["a"], classes=classes, change=change, max_l2=2.5, **settings)
    export(tmp_path / "out", tmp_path / "to", "strip", differences=differences)
    options = {"frames": 5, "class_names": classes, "differences": differences}
    as_morphs(frames[0], record, settings | {"bounds": [0, 1]}).save(tmp_path / "strip.png", **options)
    assert (tmp_path / "to" / "a.png").read_bytes() == (tmp_path / "strip.png").read_bytes()


def test_strip_of_a_missed_distance_does_not_show_it(tmp_path):
    miss = lambda record: record | {"attained": False, "l2": [*record["l2"][:-1], 2.4967]}
    make_job(tmp_path / "out", morphs_of(1, frames=3), ["a"], change=miss, max_l2=2.5)
    task = _Export(JobFolder(tmp_path / "out"), tmp_path / "to", "strip", False)
    (record,) = read_records(tmp_path / "out" / "shards" / "00000.jsonl")
    figure = draw_strips(_strip_data(task, record, morphs_of(1, 3)[0]))
    assert [axes.get_title() for axes in figure.axes] == ["L2 0", "L2 1.25", "L2 2.497"]


def test_strip_has_the_expected_texts(tmp_path):
    """The numbers are those of ``record`` in jobs.py."""
    make_job(tmp_path / "out", morphs_of(2, frames=3), ["a", "b"], max_l2=2.5, rule="polar", regime="live")
    task = _Export(JobFolder(tmp_path / "out"), tmp_path / "to", "strip", False)
    records = read_records(tmp_path / "out" / "shards" / "00000.jsonl")
    figure = draw_strips(_strip_data(task, records[0], morphs_of(1, 3)[0]))
    assert figure.get_suptitle() == "csp-phase, polar, live"
    assert [axes.get_title() for axes in figure.axes] == ["L2 0", "L2 1.25", "L2 2.5"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["0.002\nzero: 1.00", "0.18\nzero: 0.82", "0.95"]
    assert figure.axes[0].get_ylabel() == "zero → one"
    already = _strip_data(task, records[0] | {"already_predicted": True}, morphs_of(1, 3)[0])
    assert already.remarks == ["already predicted as the target"] and not already.reached.any()
    other = _Export(JobFolder(tmp_path / "out"), tmp_path / "to", "strip", False)
    other.job.config.update(family="pixel", color="luma")
    pixel = _strip_data(other, records[0], morphs_of(1, 3)[0])
    assert pixel.title == "pixel, live, luma"


def test_titles_of_a_job_with_factors_are_factors(tmp_path):
    make_job(tmp_path / "out", morphs_of(1, frames=3), ["a"], factors=4.0)
    task = _Export(JobFolder(tmp_path / "out"), tmp_path / "to", "strip", False)
    (record,) = read_records(tmp_path / "out" / "shards" / "00000.jsonl")
    unknown = record | {"prediction_probability": None}
    figure = draw_strips(_strip_data(task, unknown, morphs_of(1, 3)[0]))
    assert [axes.get_title() for axes in figure.axes] == ["factor 0", "factor 2", "factor 4"]
    assert [axes.get_xlabel() for axes in figure.axes][1:] == ["0.18\nzero\nL2 1.25", "0.95\nL2 2.5"]


def test_unknown_format_raises(job, tmp_path):
    with pytest.raises(JobError, match="format must be one of safetensors, .*npz, got 'gf'") as raised:
        export(job[0], tmp_path / "to", "gf")
    assert raised.value.code == USAGE and not (tmp_path / "to").exists()


def test_differences_with_other_formats_raise(job, tmp_path):
    with pytest.raises(JobError, match="differences must not be requested with format 'gif'") as raised:
        export(job[0], tmp_path / "to", "gif", differences=True)
    assert raised.value.code == USAGE


def test_any_key_gets_its_own_file(tmp_path):
    """Some keys are not file names, and some differ only in the suffix."""
    keys = [*NASTY, "cat/1.png", "2.png", "2.jpg"]
    make_job(tmp_path / "out", morphs_of(len(keys), 2), keys)
    assert export(tmp_path / "out", tmp_path / "to", "npz") == len(keys)
    files = {str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*") if p.is_file()}
    assert files == {"export.json", *(FileNames(keys)(key, ".npz") for key in keys)}
    assert {"cat/1.npz", "2.png.npz", "2.jpg.npz"} <= files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "to"]


def test_items_are_selected_by_key_pattern_and_number(job, tmp_path):
    out, _ = job
    assert export(out, tmp_path / "a", "npz", keys=["cat/0.png", "dog/*"]) == 5
    files = sorted(p.name for p in (tmp_path / "a").rglob("*.npz"))
    assert files == ["0.npz", "0.npz", "1.npz", "2.npz", "4.npz"]
    assert export(out, tmp_path / "b", "safetensors", limit=5) == 5
    assert stored(tmp_path / "b", "safetensors")[0] == [KEYS[i] for i in OK_PLACES[:5]]
    with pytest.raises(JobError, match=r"keys must match at least one item that is ok, got \['cat/1.png'\]"):
        export(out, tmp_path / "c", "npz", keys=["cat/1.png"])
    assert not (tmp_path / "c").exists()


def test_keys_match_exactly_and_as_patterns(tmp_path):
    make_job(tmp_path / "out", morphs_of(2), ["a[1]", "a1"])
    assert export(tmp_path / "out", tmp_path / "to", "npz", keys=["a[1]"]) == 2  # as a key, and as a pattern for a1
    assert export(tmp_path / "out", tmp_path / "other", "npz", keys=["a1"]) == 1


@pytest.mark.parametrize("kind, name", [("npz", "dog/1.npz"), ("wds", "00001.tar")])
def test_existing_files_are_kept_even_if_damaged(kind, name, job, tmp_path):
    out, _ = job
    export(out, tmp_path / "to", kind)
    file = tmp_path / "to" / name
    file.write_bytes(b"mine")
    assert export(out, tmp_path / "to", kind) == 8
    assert file.read_bytes() == b"mine"


def test_export_that_was_stopped_continues(job, tmp_path, monkeypatch):
    """After a stop, only complete files exist. In the end, all files are equal to those of an export without a stop.

    A kill leaves the lock file and a temporary file, which are deleted.
    """
    out, _ = job
    read = JobFolder.frames

    def stop_at_second_shard(job, shard, records):
        if shard == 1:
            raise KeyboardInterrupt
        return read(job, shard, records)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(JobFolder, "frames", stop_at_second_shard)
        export(out, tmp_path / "to", "wds")
    assert sorted(p.name for p in (tmp_path / "to").iterdir()) == ["00000.jsonl", "00000.tar", "export.json"]
    (tmp_path / "to" / "cat").mkdir()
    for name in (".lock", f".{'0' * 32}.tmp", f"cat/.{'0' * 32}.tmp"):
        (tmp_path / "to" / name).touch()
    assert export(out, tmp_path / "to", "wds") == 8
    export(out, tmp_path / "again", "wds")
    files = [{p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*")} for name in ("to", "again")]
    assert files[0] == files[1]


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Return the bytes of all files in a folder, and None for folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def check_rejected(out: Path, to: Path, kind: str, message: str, **options) -> None:
    """Check that an export raises a usage error, and changes nothing."""
    before = contents(to.parent)
    with pytest.raises(JobError, match=message) as raised:
        export(out, to, kind, **options)
    assert raised.value.code == USAGE and contents(to.parent) == before


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
@pytest.mark.parametrize("family", ["csp-joint", "csp-phase"])
def test_export_of_another_job_raises(kind, family, tmp_path):
    """The default is csp-phase. With the same options, the job has other frames."""
    out = tmp_path / "out"
    make_job(out, morphs_of(1, 2), ["a"])
    export(out, tmp_path / "to", kind)
    shutil.rmtree(out)
    make_job(out, morphs_of(1, 2), ["a"], family=family)
    message = "before shard 00000 was computed" if family == "csp-phase" else "an export of another job"
    check_rejected(out, tmp_path / "to", kind, f"{message}; use another --to, or delete this folder")


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("strip", {"differences": True}, "differences was false and is true now"),
        ("gif", {}, 'format was "strip" and is "gif" now'),
        ("strip", {"keys": ["a*"]}, r'keys was null and is \["a\*"\] now'),
        ("strip", {"limit": 1}, "limit was null and is 1 now"),
    ],
)
def test_export_with_other_options_raises(kind, options, message, tmp_path):
    make_job(tmp_path / "out", morphs_of(2, 2), ["a", "b"])
    export(tmp_path / "out", tmp_path / "to", "strip")
    check_rejected(tmp_path / "out", tmp_path / "to", kind, rf"an export with other options \({message}\)", **options)


@pytest.mark.parametrize("kind", ["strip", "folder"])
@pytest.mark.parametrize("name", ["cat/0.png", "export.json", ".git"])
def test_export_to_a_folder_with_other_files_raises(name, kind, job, tmp_path):
    file = tmp_path / "to" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"mine": 1}')
    message = f"or one with the same export, got {tmp_path / 'to'} with other files, e.g. {name.partition('/')[0]}; use"
    check_rejected(job[0], tmp_path / "to", kind, message)


def test_export_to_a_file_raises(job, tmp_path):
    (tmp_path / "to").touch()
    check_rejected(job[0], tmp_path / "to", "folder", f"to must be a folder, got {tmp_path / 'to'}, which is a file")


def test_folder_is_locked_during_an_export(job, tmp_path):
    (tmp_path / "to").mkdir()  # an empty folder is accepted
    with hold_lock(tmp_path / "to" / ".lock"), pytest.raises(JobError, match=f"{tmp_path / 'to'} is in use by another"):
        export(job[0], tmp_path / "to", "npz")
    assert export(job[0], tmp_path / "to", "npz") == 8


@pytest.mark.parametrize("limit", [None, 5])
def test_incomplete_shards_are_not_exported(limit, job, tmp_path):
    """A shard is complete if it has a marker, the file .done.json.

    When a missing shard is complete, the export can be continued, unless a limit would now select other items.
    """
    out, _ = job
    marker = out / "shards" / "00001.done.json"
    hidden = marker.rename(tmp_path / "hidden")
    kept = [i for i in OK_PLACES if i not in range(4, 8)]  # the items 4 to 7 are in shard 1
    assert export(out, tmp_path / "to", "npz", limit=limit) == len(kept[:limit])
    hidden.rename(marker)
    if limit is not None:
        return check_rejected(out, tmp_path / "to", "npz", "before shard 00001 was computed", limit=limit)
    assert export(out, tmp_path / "to", "npz") == len(list((tmp_path / "to").rglob("*.npz"))) == 8


@pytest.mark.parametrize("kind", FORMATS)
def test_shards_are_read_from_their_backups(kind, tmp_path):
    make_job(tmp_path / "out", morphs_of(2), ["a", "b"], format=kind)
    shard = tmp_path / "out" / "shards" / f"00000{get_format(kind).suffix}"
    shard.rename(backup_path(shard))
    assert export(tmp_path / "out", tmp_path / "to", "npz") == 2


def test_export_from_or_to_a_wrong_folder_raises(job, tmp_path):
    out, _ = job
    with pytest.raises(JobError, match="to must not be the job's folder") as raised:
        export(out, out / "shards", "wds")
    assert raised.value.code == USAGE
    with pytest.raises(JobError, match="out must be a job's folder"):
        export(tmp_path / "nothing", tmp_path / "to", "npz")
    assert not (tmp_path / "to").exists()


def test_pictures_of_four_channels_raise(tmp_path):
    make_job(tmp_path / "out", morphs_of(2, channels=4), ["a", "b"])
    with pytest.raises(JobError, match="format must be safetensors or npz for frames with 4 channels, got gif"):
        export(tmp_path / "out", tmp_path / "to", "gif")
    assert export(tmp_path / "out", tmp_path / "to", "npz") == 2


def test_damaged_shard_is_named(job, tmp_path):
    """A shard with the right length but other content is neither exported nor shown."""
    out, _ = job
    file = out / "shards" / "00000.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(JobError, match="shard 0 is damaged: 00000.safetensors is damaged"):
        export(out, tmp_path / "to", "npz")
    with pytest.raises(JobError, match="shard 0 is damaged: 00000.safetensors is damaged"):
        write_gallery(out)
    assert not (out / "gallery").exists()
