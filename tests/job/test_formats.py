"""Shard formats: frames come back unchanged, files are reproducible, and keys get safe names."""

import errno
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from jobs import NASTY, morphs_of, record
from pairwise import pairwise

from steerlens_fast.job.formats import FORMATS, get_format
from steerlens_fast.job.formats import folder as folder_format
from steerlens_fast.job.formats.names import FileNames, directory_name, file_name, member_name

pil = pytest.importorskip("PIL.Image")
safetensors = pytest.importorskip("safetensors")

ALL_FORMATS = pytest.mark.parametrize("kind", FORMATS)
FORMATS_OF_PICTURES = pytest.mark.parametrize("kind", ["wds", "folder"])
METADATA = {"family": "csp-phase", "shard": 0, "text": "zwölf"}


def make_records(keys, frames=6, without=()):
    """Return a record for each key. The records at ``without`` have no frames."""
    rows = iter(range(len(keys)))
    return [
        record(i, key, frames, None, "truncated") if i in without else record(i, key, frames, next(rows))
        for i, key in enumerate(keys)
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- Reading and writing


@pairwise(frames=[2, 101], size=[(20, 17), (1, 1), (8, 33)], channels=[1, 3], kind=FORMATS)
def test_frames_come_back_bit_for_bit(kind, channels, size, frames, tmp_path):
    """Grey and colour frames of several sizes; frame numbers have two or three digits; some items have no frames."""
    pixels, keys = morphs_of(3, frames, channels, size), ["a/1.png", "bad.png", "a/2.png", "b"]
    records = make_records(keys, frames, without=(1,))
    stored = get_format(kind)
    stored.write(tmp_path, "00007", pixels, records, METADATA)
    back = stored.read(tmp_path, "00007", records)
    assert back.dtype == torch.uint8 and torch.equal(back, pixels)


@ALL_FORMATS
def test_reading_some_records_returns_their_frames_in_their_order(kind, tmp_path):
    pixels, records = morphs_of(4), make_records(list("abcde"), without=(2,))
    stored = get_format(kind)
    stored.write(tmp_path, "00000", pixels, records, METADATA)
    some = [records[4], records[2], records[0]]
    assert torch.equal(stored.read(tmp_path, "00000", some), pixels[[3, 0]])
    assert len(stored.read(tmp_path, "00000", [records[2]])) == 0


@ALL_FORMATS
def test_any_keys_have_separate_files(kind, tmp_path):
    """Keys with absolute paths, "..", great length, equal file names or bytes that are no text have separate files."""
    folder = tmp_path / "inside"
    folder.mkdir()
    pixels, records = morphs_of(len(NASTY), frames=2), make_records(NASTY, 2)
    stored = get_format(kind)
    files = stored.write(folder, "00000", pixels, records, METADATA)
    assert torch.equal(stored.read(folder, "00000", records), pixels)
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]
    assert files.keys() == files_of(folder).keys()
    json.dumps(files).encode()  # a job writes the names and digests of files as JSON


@ALL_FORMATS
def test_shard_without_frames_is_written_and_read(kind, tmp_path):
    records, stored = make_records(["a", "b"], without=(0, 1)), get_format(kind)
    files = stored.write(tmp_path, "00000", morphs_of(0), records, METADATA)
    assert stored.read(tmp_path, "00000", records).numel() == 0
    assert files.keys() == files_of(tmp_path).keys()
    if kind == "wds":
        with tarfile.open(tmp_path / "00000.tar") as tar:
            assert tar.getnames() == []


def test_memory_layout_of_frames_does_not_matter(tmp_path):
    pixels, records = morphs_of(3).transpose(3, 4), make_records(["a", "b", "c"])
    for kind in FORMATS:
        get_format(kind).write(tmp_path, "00000", pixels, records, METADATA)
        assert torch.equal(get_format(kind).read(tmp_path, "00000", records), pixels)


# --- Bytes


@ALL_FORMATS
def test_files_are_reproducible_and_have_their_digests(kind, tmp_path):
    """Files written at another time and place are equal, and have the digests that are returned."""
    pixels, records, written = morphs_of(5), make_records([f"k/{i}" for i in range(5)]), []
    for name, mask, about in (("one", 0o022, METADATA), ("two", 0o077, dict(reversed(METADATA.items())))):
        (tmp_path / name).mkdir()
        before = os.umask(mask)
        returned = get_format(kind).write(tmp_path / name, "00000", pixels.clone(), records, about)
        os.umask(before)
        files = files_of(tmp_path / name)
        assert returned == {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}
        written.append(files)
    assert written[0] == written[1]


def test_package_safetensors_reads_the_file(tmp_path):
    pixels = morphs_of(3)
    get_format("safetensors").write(tmp_path, "00000", pixels, make_records(["a", "b", "c"]), METADATA)
    with safetensors.safe_open(tmp_path / "00000.safetensors", framework="np") as file:
        assert list(file.keys()) == ["frames"]
        assert json.loads(file.metadata()["steerlens_fast"]) == METADATA
        assert np.array_equal(file.get_tensor("frames"), pixels.numpy())


def test_large_safetensors_file_is_written_in_pieces(tmp_path, monkeypatch):
    """The last piece is shorter. The frames come back bit for bit."""
    module, sizes = get_format("safetensors"), []
    original = module.atomic_write

    @contextmanager
    def recording_write(path):
        with original(path) as file:
            yield SimpleNamespace(write=lambda data: sizes.append(len(data)) or file.write(data))

    monkeypatch.setattr(module, "atomic_write", recording_write)
    pixels, records = morphs_of(2, 3, 3, (401, 399)), make_records(["a", "b"], 3)
    files = module.write(tmp_path, "00000", pixels, records, METADATA)
    assert max(sizes) == module.PIECE_BYTES > sizes[-1] and sum(sizes) == files["00000.safetensors"]["bytes"]
    assert torch.equal(module.read(tmp_path, "00000", records), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_tar_is_what_webdataset_reads(channels, tmp_path):
    """Members of a sample have equal names up to the first dot and follow each other; names are safe to unpack."""
    pixels, records = morphs_of(len(NASTY), 3, channels), make_records(NASTY, 3)
    get_format("wds").write(tmp_path, "00000", pixels, records, METADATA)
    samples, order = {}, []
    with tarfile.open(tmp_path / "00000.tar", mode="r|*") as tar:
        for member in tar:
            base, ending = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name).groups()
            assert not re.match("__[^/]*__($|/)", member.name)  # webdataset skips names like __meta__
            assert member.isreg() and (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert member.uname == member.gname == ""
            order += [base] if base not in order[-1:] else []
            samples.setdefault(base, {})[ending] = tar.extractfile(member).read()
    assert len(order) == len(set(order)) == len(NASTY)
    for sample, frames, known in zip(samples.values(), pixels, records):
        assert list(sample) == ["00.webp", "01.webp", "02.webp", "json"]
        assert json.loads(sample["json"]) == known
        for f, frame in enumerate(frames):
            picture = np.asarray(pil.open(io.BytesIO(sample[f"{f:02d}.webp"])))
            assert np.array_equal(picture, frame.movedim(0, -1).expand(*frame.shape[1:], 3).numpy())
    with tarfile.open(tmp_path / "00000.tar") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert len(files_of(tmp_path / "unpacked")) == 4 * len(NASTY)


@pytest.mark.parametrize("channels", [1, 3])
def test_format_folder_writes_png_files(channels, tmp_path):
    """Each frame is a PNG file, which is grey if the frames are."""
    pixels = morphs_of(2, 3, channels)
    get_format("folder").write(tmp_path, "00000", pixels, make_records(["x/a.jpg", "b"], 3), METADATA)
    assert sorted(files_of(tmp_path)) == [f"00000/{k}/frame_0{f}.png" for k in ("b", "x/a.jpg") for f in range(3)]
    picture = pil.open(tmp_path / "00000/x/a.jpg/frame_02.png")
    assert picture.mode == {1: "L", 3: "RGB"}[channels]
    assert np.array_equal(np.asarray(picture).reshape(20, 17, channels), pixels[0, 2].movedim(0, -1).numpy())


# --- Names


NAMES = {  # a function from a key to a name, and the path of a file with this name
    "folder": (directory_name, "{}/frame_00.png"),
    "wds": (member_name, "{}.json"),
    "gif": (lambda key: file_name(key, ""), "{}.gif"),
}


def test_suffix_of_a_picture_is_replaced_unless_two_names_become_equal():
    assert [FileNames(["a/1.PNG", "2.tar", ".png"])(key, ".png") for key in ("a/1.PNG", "2.tar", ".png")] == [
        "a/1.png",
        "2.tar.png",
        "%2Epng.png",
    ]
    letters = ["a", "b", "/", ".png", ".jpg", ".txt", ".PNG"]
    keys = {"".join(Random(n).choices(letters, k=n % 6)) for n in range(3000)}
    names = FileNames(keys)
    assert len({names(key, ".png") for key in keys}) == len(keys)


@pytest.mark.parametrize("name_of, file", NAMES.values(), ids=NAMES)
def test_names_are_safe_and_differ(name_of, file):
    """Thousands of unusual keys get different names that file systems accept; no name is a file and a folder."""
    draw = Random(0)
    letters = [
        "a",
        "b",
        ".",
        "/",
        "%",
        "%2E",
        "..",
        "__",
        "\udcff",
        "\n",
        "猫",
        "x" * 300,
        "frame_00.png",
        ".gif",
        "\x00",
    ]
    keys = {"".join(draw.choices(letters, k=draw.randrange(7))) for _ in range(5000)} | {".json", "a.json/b", "a.json"}
    names = {key: name_of(key) for key in keys}
    assert len(set(names.values())) == len(keys)
    for key, name in names.items():
        for part in file.format(name).split("/"):
            assert part and not part.startswith(".") and part.isprintable() and len(part.encode()) <= 255
        if "x" * 300 not in key and all(key.split("/")):
            assert unquote(name, errors="surrogatepass") == key
    files = {file.format(name) for name in names.values()}
    folders = {str(folder) for each in files for folder in Path(each).parents}
    assert not files & folders


def test_keys_of_a_thousand_parts_have_short_names_that_differ():
    """If a key is too long for a path, its name has no "/"."""
    one, two = ("/".join(["part"] * 1000 + [end]) for end in "ab")
    assert directory_name(one) != directory_name(two)
    assert "/" not in directory_name(one) and len(directory_name(one).encode()) <= 255


# --- Existing files, damage, errors


@ALL_FORMATS
def test_shard_is_replaced_whole(kind, tmp_path):
    """Nothing of the old shard is left, and no temporary files."""
    stored, pixels = get_format(kind), morphs_of(2)
    stored.write(tmp_path, "00000", morphs_of(3), make_records(["old", "a", "b"]), METADATA)
    files = stored.write(tmp_path, "00000", pixels, make_records(["a", "c"]), METADATA)
    assert torch.equal(stored.read(tmp_path, "00000", make_records(["a", "c"])), pixels)
    assert files_of(tmp_path).keys() == files.keys()
    assert len(list(tmp_path.iterdir())) == 1


def test_keys_that_share_a_folder_raise(tmp_path, monkeypatch):
    """On a file system that ignores case, keys that differ only in case share a folder. No frame may be replaced."""
    monkeypatch.setattr(folder_format, "directory_name", str.lower)
    with pytest.raises(FileExistsError):
        folder_format.write(tmp_path, "00000", morphs_of(2), make_records(["a", "A"]), METADATA)
    assert not list(tmp_path.iterdir())


@ALL_FORMATS
def test_truncated_file_raises(kind, tmp_path):
    """The error names the file that ends early or, with the format "folder", its folder."""
    stored, records = get_format(kind), make_records(["a", "b"])
    (name, *_) = stored.write(tmp_path, "00000", morphs_of(2), records, METADATA)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match=re.escape(str(Path(tmp_path, name).parent if kind == "folder" else name))):
        stored.read(tmp_path, "00000", records)


@ALL_FORMATS
def test_missing_files_raise(kind, tmp_path):
    with pytest.raises(OSError, match="00000"):
        get_format(kind).read(tmp_path, "00000", make_records(["a"]))


@FORMATS_OF_PICTURES
def test_reading_an_item_that_was_not_written_raises(kind, tmp_path):
    get_format(kind).write(tmp_path, "00000", morphs_of(1), make_records(["a"]), METADATA)
    with pytest.raises((OSError, ValueError), match="other"):
        get_format(kind).read(tmp_path, "00000", make_records(["other"]))


def test_row_beyond_the_frames_raises(tmp_path):
    get_format("safetensors").write(tmp_path, "00000", morphs_of(1), make_records(["a"]), METADATA)
    with pytest.raises(ValueError, match=r"00000.safetensors must have at least 2 rows, got 1"):
        get_format("safetensors").read(tmp_path, "00000", make_records(["a", "b"]))


@ALL_FORMATS
def test_frames_of_a_bad_dtype_or_shape_raise(kind, tmp_path):
    write, records = get_format(kind).write, make_records(["a"])
    with pytest.raises(TypeError, match="frames must be a uint8.* tensor on the CPU, got torch.float64 on cpu"):
        write(tmp_path, "00000", morphs_of(1).double(), records, METADATA)
    with pytest.raises(ValueError, match=r"frames must be \[n, F, C, H, W\], got \[6, 3, 20, 17\]"):
        write(tmp_path, "00000", morphs_of(1)[0], records, METADATA)
    if kind != "safetensors":
        with pytest.raises(ValueError, match="1 channel .* or 3 .*, got 2"):
            write(tmp_path, "00000", morphs_of(1, channels=2), records, METADATA)
    assert not list(tmp_path.iterdir())


def test_unknown_format_raises():
    with pytest.raises(ValueError, match="format must be one of .*'wds'.*, got 'tar'"):
        get_format("tar")


WRITE_ALL_FORMATS = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from jobs import morphs_of, record
from steerlens_fast.job.formats import FORMATS, get_format
folder, pixels = Path({folder!r}), morphs_of(40, 6, 3, (64, 64))
records = [record(i, f"k/{{i}}", 6, i) for i in range(40)]
for kind in FORMATS:
    try:
        get_format(kind).write(folder, "00000", pixels, records, {{}})
    except OSError as error:
        print(kind, error.errno, os.listdir(folder))
"""


def test_full_disk_raises_and_leaves_no_files(tmp_path):
    """Each shard takes 3 MB, the disk has 1 MiB."""
    script = WRITE_ALL_FORMATS.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    mount = 'mount -t tmpfs -o size=1m none "$1" || exit 77; exec "$2" -c "$3"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    except FileNotFoundError:
        pytest.skip("a small tmpfs cannot be mounted: there is no command unshare")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    assert done.stdout.splitlines() == [f"{kind} {errno.ENOSPC} []" for kind in FORMATS], done.stderr
