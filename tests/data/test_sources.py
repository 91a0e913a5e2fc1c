"""Data sources: items with their order, names and labels; reading them; errors."""

import errno
import gzip
import io
import json
import os
import pickle
import random
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from steerlens_fast.data.decoding import decode
from steerlens_fast.data.items import Item, read_listing, write_listing
from steerlens_fast.data.sources import open_source
from steerlens_fast.data.sources.folder import _is_folder
from steerlens_fast.data.sources.tars import expand_braces
from steerlens_fast.errors import USAGE, BadItem, JobError


def put(folder, names, data=None):
    """Write files that contain ``data``, by default their own names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name) if data is None else data)
    return folder


def listed(data, **options):
    """Return key and label of each item.

    Check that indices are 0, 1, 2 ...
    """
    items = list(open_source(data, **options).listing())
    assert [item.index for item in items] == list(range(len(items)))
    return [(item.key, item.label) for item in items]


def check_source_error(message, data, **options):
    """Check that opening or listing the data raises a usage error with this message."""
    with pytest.raises(JobError, match=message) as error:
        list(open_source(data, **options).listing())
    assert error.value.code == USAGE


def reason(source, item):
    with pytest.raises(BadItem) as error:
        source.read(item)
    return error.value.reason


# --- IDX files -------------------------------------------------------------------------------------------------------


def idx(folder, images, labels, part="train", gz=False):
    """Write the two files of a part, with the names of MNIST's files."""
    folder.mkdir(exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        data = header + array.astype(np.uint8).tobytes()
        path = folder / f"{part}-{kind}-ubyte{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(data) if gz else data)
    return f"idx:{folder}"


DIGITS = np.arange(5 * 8 * 9, dtype=np.uint8).reshape(5, 8, 9)


@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_are_read(tmp_path, gz):
    spec = idx(tmp_path / "x", DIGITS, np.arange(5), gz=gz)
    idx(tmp_path / "x", DIGITS[:3] + 1, np.arange(3) + 7, part="t10k", gz=gz)
    assert listed(spec) == listed(f"{spec}#train") == [(str(n), n) for n in range(5)]
    assert listed(f"{spec}#test") == listed(f"{spec}#t10k") == [(str(n), n + 7) for n in range(3)]
    source = open_source(f"{spec}#test")
    assert source.description["layout"] == "NHW"
    assert all(np.array_equal(source.read(item), DIGITS[n] + 1) for n, item in enumerate(source.listing()))
    (tmp_path / "x" / f"t10k-labels-idx1-ubyte{'.gz' if gz else ''}").unlink()
    assert [label for _, label in listed(f"{spec}#test")] == [None] * 3


def test_folders_named_like_idx_files_are_ignored_and_case_does_not_matter(tmp_path):
    """Some archives of MNIST contain a file, and a folder whose name differs in one character."""
    spec = idx(tmp_path / "x", DIGITS, np.arange(5), part="Train")
    for kind in ("images-idx3", "labels-idx1"):
        (tmp_path / "x" / f"Train-{kind}-ubyte").rename(tmp_path / "x" / f"Train-{kind.replace('-', '.')}-ubyte")
        (tmp_path / "x" / f"Train-{kind}-ubyte").mkdir()
    assert listed(f"{spec}#Train") == listed(spec) == [(str(n), n) for n in range(5)]


def test_errors_name_damaged_idx_files(tmp_path):
    spec = idx(tmp_path / "x", DIGITS, np.arange(4))
    check_source_error("labels must be 5 class numbers or names, .* got uint8 .4. in .*train-labels-idx1-ubyte", spec)
    check_source_error(
        "data must be a folder with test-images-idx3-ubyte .* got .*x with the parts train", f"{spec}#test"
    )
    check_source_error("data must be idx:FOLDER.*: no such folder", f"idx:{tmp_path / 'y'}")
    check_source_error("data must be a folder with train-images-idx3-ubyte .* without such a file", f"idx:{tmp_path}#")
    for gz in (False, True):
        spec = idx(tmp_path / f"z{gz}", DIGITS, np.arange(5), gz=gz)
        path = tmp_path / f"z{gz}" / f"train-images-idx3-ubyte{'.gz' if gz else ''}"
        opened = gzip.open if gz else open
        whole = opened(path, "rb").read()
        for data, message in (
            (whole[:-1], "360 bytes after the header, which gives the shape .5, 8, 9., got 359 in .*images"),
            (whole + b"1", "360 bytes after the header, .* got (more than 360|361) in .*images"),
            (b"\0\0\x0d\3" + whole[4:], r"magic number 2051 \(0x00000803, .*\), got 3331 \(0x00000d03\) in .*images"),
            (whole[:9], "a header of 16 bytes, got 9 in .*images"),
            (whole[:4] + b"\xff" * 12, f"{(2**32 - 1) ** 3} bytes after the header, .* got 0 in .*images"),
        ):
            with opened(path, "wb") as file:
                file.write(data)
            check_source_error(f"images must .*{message}", spec)
        if gz:
            path.write_bytes(path.read_bytes()[:-9])
            check_source_error("images must be a complete IDX file, got .*gz", spec)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_images_of_a_flat_folder_have_no_labels(tmp_path):
    """Names are sorted by code points. Suffixes may be in upper case. Hidden and other files are left out."""
    names = [
        "B.png",
        "a.JPG",
        "a.jpeg",
        "b.bmp",
        "c.TIF",
        "d.tiff",
        "e.gif",
        "f.WebP",
        "g.ppm",
        "h.pgm",
        "é.png",
        "日.png",
    ]
    put(tmp_path, [*names, ".a.png", "a.txt", "png", "a.png.part", "a.csv"])
    source = open_source(tmp_path)
    assert listed(tmp_path) == [(name, None) for name in sorted(names)]
    assert source.class_names is None and source.description == {
        "kind": "folder",
        "path": str(tmp_path),
        "classes": None,
    }
    assert [source.read(item) for item in source.listing()] == [name.encode() for name in sorted(names)]


def test_subfolders_are_classes(tmp_path):
    """Sub-folders are classes, numbered in the order of names; deeper folders belong to their class."""
    put(tmp_path, ["dog/1.png", "cat/2.png", "cat/z/3.png", "cat/a/b/4.png", "Ant/5.png", ".git/6.png", "cat/.x/7.png"])
    (tmp_path / "readme.txt").touch()
    source = open_source(str(tmp_path))
    assert listed(tmp_path) == [
        ("Ant/5.png", 0),
        ("cat/2.png", 1),
        ("cat/a/b/4.png", 1),
        ("cat/z/3.png", 1),
        ("dog/1.png", 2),
    ]
    assert source.class_names == source.description["classes"] == ["Ant", "cat", "dog"]


SYSTEM = ["__MACOSX", ".ipynb_checkpoints", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information"]


@pytest.mark.parametrize("system", SYSTEM)
def test_system_folders_do_not_take_part_in_numbering(tmp_path, system):
    """Folders of operating systems are left out, at the top and in class folders."""
    put(tmp_path, [f"{name}/1.png" for name in ("ant", "bee", "cat")])
    put(tmp_path, [f"{system}/ant/._1.png", f"{system}/2.png", f"cat/{system}/3.png"])
    source = open_source(tmp_path)
    items = list(source.listing())
    assert [(item.key, item.label) for item in items] == [("ant/1.png", 0), ("bee/1.png", 1), ("cat/1.png", 2)]
    assert source.class_names == ["ant", "bee", "cat"]
    assert [entry["count"] for entry in source.left_out.as_dict().values()] == [2]  # two folders


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["deeper/notes.txt"], [".hidden.png"], ["__MACOSX/1.png"]])
def test_class_folder_without_images_raises(tmp_path, content):
    """This is an error as in torchvision's ImageFolder, even if only the first items are read."""
    put(tmp_path, [f"{name}/1.png" for name in ("ant", "cat")])
    (tmp_path / "bee").mkdir()
    put(tmp_path / "bee", content)
    check_source_error(
        "must have an image .* in each class folder, got none in bee of .*shift the class numbers", tmp_path
    )
    with pytest.raises(JobError, match="got none in bee"):
        next(open_source(tmp_path).listing())


def test_entries_of_a_folder_that_are_no_items_are_counted(tmp_path):
    """Entries that are left out are counted by reason, with their names. Every entry is an item or is left out."""
    put(tmp_path, ["cat/1.png", "cat/2.heic", "cat/.DS_Store", "dog/3.JPE", "dog/4.jfif", "Thumbs.db", "labels.zip"])
    (tmp_path / "cat" / "up").symlink_to("..")
    source = open_source(tmp_path)
    assert [item.key for item in source.listing()] == ["cat/1.png", "dog/3.JPE", "dog/4.jfif"]
    assert source.left_out.as_dict() == {
        "hidden": {"count": 1, "examples": ["cat/.DS_Store"]},
        "link to a folder that contains it": {"count": 1, "examples": ["cat/up"]},
        "not an image": {"count": 3, "examples": ["Thumbs.db", "labels.zip", "cat/2.heic"]},
    }
    list(source.listing())
    assert source.left_out.as_dict()["hidden"]["count"] == 1  # only the last listing counts


def test_images_next_to_folders_have_no_classes(tmp_path):
    """If a folder has images and sub-folders, all images are listed, without labels."""
    put(tmp_path, ["b/1.png", "a.png", "c.png"])
    assert listed(tmp_path) == [("a.png", None), ("b/1.png", None), ("c.png", None)]


def test_links_are_followed_except_cycles(tmp_path):
    """Links to files and folders are followed, but no folder is entered inside itself."""
    put(tmp_path, ["data/a/1.png", "data/b/2.png", "else/3.png"])
    data = tmp_path / "data"
    (data / "loop").symlink_to(".")
    (data / "a" / "up").symlink_to("../..")
    (data / "c").symlink_to(tmp_path / "else")
    (data / "b" / "4.png").symlink_to(tmp_path / "else" / "3.png")
    (data / "b" / "other").symlink_to("../a")
    (data / "ring-1").symlink_to("ring-2")
    (data / "ring-2").symlink_to("ring-1")
    (data / "gone").symlink_to("nowhere")
    keys = ["a/1.png", "a/up/else/3.png", "b/2.png", "b/4.png", "b/other/1.png", "b/other/up/else/3.png", "c/3.png"]
    assert [key for key, _ in listed(data)] == keys
    assert open_source(data).class_names == ["a", "b", "c"]


def test_unreadable_files_are_listed(tmp_path):
    """Unreadable files are listed, and reading one gives a reason."""
    put(tmp_path, ["ok.png"])
    put(tmp_path, ["empty.png"], b"")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "pipe.png")
    source = open_source(tmp_path)
    reasons = {item.key: None if item.key == "ok.png" else reason(source, item) for item in source.listing()}
    unreadable = dict.fromkeys(("dangling.png", "pipe.png", "self.png"), "unreadable")
    assert reasons == {"ok.png": None, "empty.png": "empty", **unreadable}
    gone = Item(0, "x.png", str(tmp_path / "x.png"))
    assert reason(source, gone) == "unreadable"
    assert reason(source, Item(0, "d", str(tmp_path))) == "unreadable"
    assert reason(source, Item(0, "n", "a\0b.png")) == "unreadable"


class Opened(torch.utils.data.Dataset):
    """A data set of files. ``os.open`` opens a file each time that its item is read."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, n):
        with open(self.paths[n], "rb", opener=os.open) as file:
            return file.read()


SYSTEM_FAULTS = [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT]


@pytest.mark.parametrize("number", SYSTEM_FAULTS)
@pytest.mark.parametrize("kind", ["folder", "tar", "python"])
def test_faults_of_storage_or_process_end_the_job(kind, number, tmp_path, monkeypatch):
    """Reading is tried three times. Then the error names the image and the cause."""
    put(tmp_path / "images", ["0.png"])
    shard(tmp_path / "0.tar", [0])
    data = {"folder": tmp_path / "images", "tar": tmp_path / "0.tar", "python": Opened([tmp_path / "images" / "0.png"])}
    source = open_source(data[kind])
    item = next(source.listing())
    expected, calls = source.read(item), []
    for name in ("open", "pread"):
        real = getattr(os, name)

        def fail(*args, real=real):
            calls.append(args)
            if len(calls) % period:  # only every third call succeeds, later only every 99th
                raise OSError(number, os.strerror(number))
            return real(*args)

        monkeypatch.setattr(os, name, fail)
    period = 3
    assert source.read(item) == expected and len(calls) >= 3
    period = 99
    with pytest.raises(JobError, match=rf"0\S* cannot be read: .*{os.strerror(number)}") as error:
        source.read(item)
    assert error.value.code == 1


def test_is_folder_raises_storage_faults():
    def fail():
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with pytest.raises(OSError, match="Stale file handle"):
        _is_folder(SimpleNamespace(is_dir=fail))


def test_huge_file_is_not_read(tmp_path):
    """A file of 2 GiB with the name of an image is rejected before it is read."""
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(1 << 31)
    source = open_source(tmp_path)
    assert reason(source, next(source.listing())) == "too-large"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_a_bad_item_and_unreadable_folder_an_error(tmp_path):
    """A folder without read permission is an error, since it may contain items."""
    put(tmp_path, ["a.png", "b.png", "c/d.png"])
    (tmp_path / "a.png").chmod(0)
    source = open_source(tmp_path)
    assert reason(source, next(source.listing())) == "unreadable"
    (tmp_path / "c").chmod(0)
    check_source_error("Permission denied", tmp_path)


def test_names_survive_the_listing_on_disk(tmp_path):
    """Items of items.jsonl can be read, even if names are not UTF-8, are very long, or have special characters."""
    raw = [
        b"caf\xe9.png",
        b"n" * 251 + b".png",
        b'a\nb"c\\.png',
        "日本🙂.png".encode(),
        b"\xff\xfe.png",
        b" .png",
        b"%s{0}.png",
    ]
    folder = tmp_path / os.fsdecode(b"f\xfclder")
    put(folder, [os.fsdecode(name) for name in raw])
    source = open_source(folder)
    items = list(source.listing())
    write_listing(tmp_path / "items.jsonl", source.listing(), 2)
    again = list(read_listing(tmp_path / "items.jsonl"))
    assert again == items and len(items) == len(raw)
    assert sorted(open_source(folder).read(item) for item in again) == sorted(raw)


@pytest.mark.slow
def test_order_is_the_same_in_every_locale(tmp_path):
    """Names are sorted by code points."""
    names = ["Z.png", "a.png", "ä.png", "z.png", "B/1.png", "_.png", "10.png", "9.png"]
    put(tmp_path, random.Random(0).sample(names, len(names)))
    code = "import sys; from steerlens_fast.data.sources.open import open_source as o; "
    code += "print(ascii([i.key for i in o(sys.argv[1]).listing()]))"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == ascii(sorted(names))
    assert [item.key for item in open_source(tmp_path).listing()] == sorted(names)


def test_folders_without_items_raise(tmp_path):
    """A missing folder, an empty one, or one with other files raises an error that says what was expected and found."""
    check_source_error("data must exist, got .*nowhere/at all: no such file", tmp_path / "nowhere/at all")
    check_source_error("data must be a folder with images .*jpg, jpeg, png.*, got none in", tmp_path)
    put(tmp_path, ["a/notes.txt", "b/notes.txt"])
    check_source_error("got none in", tmp_path)
    check_source_error("data must be a folder of images .*, got .*notes.txt", tmp_path / "a" / "notes.txt")
    check_source_error("it must be a folder of images or .tar files, a .csv", "imagenet")


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["label", " Label "])
def test_csv_columns_are_read_in_any_order(tmp_path, name):
    """Paths are absolute or relative to the table. Labels and other columns are optional."""
    put(tmp_path, ["pictures/a.png", "b.png"])
    absolute = str(tmp_path / "b.png")
    table = tmp_path / "table.csv"
    rows = f'note,{name},path\nx,3,pictures/a.png\n\n"y, z",,{absolute}\nx,0,../{tmp_path.name}/b.png\n'
    table.write_text("\ufeff" + rows, encoding="utf-8")
    keys = [("pictures/a.png", 3), (absolute.lstrip("/"), None), (f"{tmp_path.name}/b.png", 0)]
    assert listed(table) == keys
    source = open_source(table)
    assert [source.read(item) for item in source.listing()] == [b"pictures/a.png", b"b.png", b"b.png"]
    assert source.description == {"kind": "table", "path": str(table)} and source.class_names is None
    assert source.left_out.as_dict() == {"empty line": {"count": 1, "examples": ["line 3"]}}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_tables_have_labels_and_targets(tmp_path, name):
    """A table has labels, targets or both. Labels and targets have the same class names."""

    def table(*rows):
        lines = [json.dumps(row) for row in rows]
        if name == "t.csv":
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines))
        source = open_source(tmp_path / name)
        return [(item.label, item.target) for item in source.listing()], source.class_names

    assert table({"path": "a", "label": 3}, {"path": "b", "label": 10}) == ([(3, None), (10, None)], None)
    assert table({"path": "a", "target": 3}) == ([(None, 3)], None)
    both = {"path": "a", "label": "cat", "target": "dog"}, {"path": "b", "label": "eel", "target": "cat"}
    assert table(*both) == ([(0, 1), (2, 0)], ["cat", "dog", "eel"])


# (file name, content, part of the message)
BAD_COLUMNS_AND_SEPARATORS = [
    ("t.csv", "path,target,target\na,1,2\n", "line 1: columns must differ, got 'target', 'target'"),
    ("t.csv", "path,label, Label\na,1,2\n", "line 1: columns must differ, got 'label', ' Label'"),
    ("t.csv", "path,note,note\na,1,2\n", "columns must differ, got 'note', 'note'"),
    ("t.jsonl", '{"path": "a", "label": 1, "label": 2}', "line 1: names must differ, got 'label', 'label'"),
    ("t.jsonl", '{"path": "a", "label": 1}\n{"path": "b", "PATH": "c"}', "line 2: names must differ"),
    ("t.csv", "path;label\na;1\n", "must have columns separated by commas, got 'path;label'"),
    ("t.csv", "path\tlabel\na\t1\n", "must have columns separated by commas"),
]


def test_bad_columns_and_separators_raise(tmp_path):
    """Two columns have one name, or the separator is not a comma."""
    for name, text, message in BAD_COLUMNS_AND_SEPARATORS:
        (tmp_path / name).write_text(text)
        check_source_error(message, tmp_path / name)


def test_tables_written_by_other_programs_are_read(tmp_path):
    """Byte order marks, CRLF, CR, quotes, blanks, empty lines and unnamed columns are accepted; UTF-16 is an error."""
    for end in ("\n", "\r\n", "\r"):
        text = end.join(["\ufeffpath,label,,", '"a,b.png", 3 ,,', "", '"c ""d"".png","4.0",,', ""])
        (tmp_path / "t.csv").write_bytes(text.encode())
        assert listed(tmp_path / "t.csv") == [("a,b.png", 3), ('c "d".png', 4)]
        (tmp_path / "t.jsonl").write_bytes(end.join(['\ufeff{"path": "a", "label": "3"}', "", ""]).encode())
        assert listed(tmp_path / "t.jsonl") == [("a", 3)]
    for name in ("t.csv", "t.jsonl"):
        (tmp_path / name).write_bytes("path,label\na,1\n".encode("utf-16"))
        check_source_error("must be UTF-8 text, got UTF-16: save it as UTF-8", tmp_path / name)


def test_csv_has_keys_and_class_names(tmp_path):
    """Keys are used as given. Labels that are words become sorted classes, known after the whole listing was read."""
    table = tmp_path / "table.CSV"
    table.write_text("path,label,key\na.png,dog,one\nb.png,cat,two/2\nc.png,,\nd.png,dog,four\n")
    assert listed(table) == [("one", 1), ("two/2", 0), ("c.png", None), ("four", 1)]
    source = open_source(table)
    list(source.listing())
    assert source.class_names == ["cat", "dog"]


def test_jsonl_lines_have_the_names_of_csv_columns(tmp_path):
    """Labels are integers or words."""
    put(tmp_path, ["a.png"])
    table = tmp_path / "table.jsonl"
    rows = [
        {"path": "a.png", "label": 7, "more": [1]},
        {"path": "é.png", "key": "k"},
        {"path": "b.png", "label": None},
    ]
    table.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert listed(table) == [("a.png", 7), ("k", None), ("b.png", None)]
    source = open_source(table)
    items = list(source.listing())
    assert source.read(items[0]) == b"a.png" and reason(source, items[1]) == "unreadable"
    table.write_text('{"path": "a", "label": "x"}\n{"path": "b", "label": "w"}\n')
    assert listed(table) == [("a", 1), ("b", 0)]


def test_csv_may_have_file_names_that_are_not_utf8(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    (tmp_path / "t.csv").write_bytes(b"path\ncaf\xe9.png\n")
    source = open_source(tmp_path / "t.csv")
    assert source.read(next(source.listing())) == b"x"


# (file name, content, part of the message)
WRONG_TABLES = [
    ("t.csv", "", "line 1: columns of the header must include path .* got \\[\\]"),
    (
        "t.csv",
        "file,label\na.png,1\n",
        "line 1: columns of the header must include path .* got \\['file', 'label'\\]",
    ),
    ("t.csv", "path,label\n", "must be a table with rows, got none"),
    ("t.csv", "path,label\na,1\nb,2,3\n", "t.csv, line 3: must have 2 fields like the header, got 3"),
    ("t.csv", "path,label\na,1\nb\n", "line 3: must have 2 fields like the header, got 1"),
    (
        "t.csv",
        "path,label\na,1\nb,two\n",
        "line 3: labels and targets must be all ints or all names, got 'two' after 1 in .*line 2",
    ),
    ("t.csv", "path,label\na,-1\n", "line 2: label must be a non-negative int, got -1"),
    ("t.csv", "path,label\n,1\n", "line 2: path must be a file name, got ''"),
    ("t.csv", 'path,label\n"a,1\n', "line 2: must be csv"),
    ("t.csv", "path,key\na.png,../a\n", "line 2: key must be a relative path .* got '../a'"),
    ("t.csv", "path,key\na.png,/etc/passwd\n", "line 2: key must be a relative path"),
    ("t.jsonl", "\n\n", "must be a table with rows"),
    ("t.jsonl", '{"path": "a"}\n{"path": \n', "t.jsonl, line 2: must be a JSON object"),
    ("t.jsonl", '["a"]\n', "line 1: must be a JSON object, got list"),
    ("t.jsonl", '{"file": "a"}\n', "line 1: names must include path"),
    ("t.jsonl", '{"path": 3}\n', "line 1: path must be a file name, got 3"),
    ("t.jsonl", '{"path": "\\ud800.png"}\n', "line 1: path must be a file name"),
    ("t.jsonl", '{"path": "a\\u0000b"}\n', "line 1: path must be a file name"),
    ("t.jsonl", '{"path": "a", "label": 1.5}\n', "line 1: label must be a non-negative int, got 1.5"),
    ("t.jsonl", '{"path": "a", "label": true}\n', "label must be a non-negative int"),
    ("t.jsonl", '{"path": "a", "key": 7}\n', "line 1: key must be a relative path .* got 7"),
    (
        "t.jsonl",
        '{"path":"a","label":1}\n{"path":"b","label":"x"}\n',
        "line 2: labels and targets must be all ints or all names",
    ),
]


def test_wrong_tables_raise(tmp_path):
    """The error names the file and the line."""
    for name, text, message in WRONG_TABLES:
        (tmp_path / name).write_text(text)
        check_source_error(message, tmp_path / name)


def test_missing_table_raises():
    check_source_error("data must exist, got no.csv: no such file", "no.csv")


# --- tars ------------------------------------------------------------------------------------------------------------


def tar(path, members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format, encoding="utf-8", errors="surrogateescape") as archive:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def shard(path, numbers, **options):
    members = [(f"{n:04}.{s}", d) for n in numbers for s, d in (("jpg", b"image %d" % n), ("cls", b"%d" % (n % 3)))]
    return tar(path, members, **options)


def test_tars_have_the_same_samples_however_they_are_named(tmp_path):
    """A folder, a brace pattern, a glob or a file gives the same samples with labels, read from inside the tars."""
    for n in range(4):
        shard(tmp_path / f"train-{n:03}.tar", range(5 * n, 5 * n + 5))
    expected = [(f"train-{n // 5:03}/{n:04}", n % 3) for n in range(20)]
    for data in (tmp_path, tmp_path / "train-{000..003}.tar", f"{tmp_path}/*.tar", f"{tmp_path}/train-00[0-3].tar"):
        assert listed(data) == expected, data
    assert listed(tmp_path / "train-002.tar") == expected[10:15]
    assert listed(tmp_path / "train-{001,003}.tar") == expected[5:10] + expected[15:]
    source = open_source(tmp_path)
    assert source.description == {"kind": "webdataset", "tars": [str(tmp_path / f"train-{n:03}.tar") for n in range(4)]}
    items = list(source.listing())
    assert items[7].path == f"{tmp_path}/train-001.tar!0007.jpg"
    mixed = random.Random(0).sample(items, 20)
    unlisted = open_source(tmp_path)  # has not listed its items
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(unlisted.read, mixed)) == [b"image %d" % item.index for item in mixed]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_a_tar_are_grouped_into_samples(tmp_path, format):
    """Members with equal names up to the first dot are a sample, at any position in the tar."""
    members = [
        ("./a/1.seg.png", b"mask"),
        ("./a/1.JPG", b"one"),
        ("b.c/2.png", b"two"),
        ("a/1.json", b'{"label": 4, "cls": 5}'),
        ("b.c/2.txt", b"a caption"),
        ("3.jpg", b"three"),
        ("only-text.txt", b""),
        ("b.c/2.cls", b" 6\n"),
        ("4.input.webp", b"four"),
        ("4.json", b'{"other": 1}'),
        ("5.png", b""),
        ("x" * 90 + ".png", b"long"),
        ("noext", b""),
        ("__MACOSX/._3.jpg", b"hidden"),
    ]
    if format != tarfile.USTAR_FORMAT:
        members += [("é" * 150 + "/日.png", b"longer"), (os.fsdecode(b"caf\xe9.png"), b"bytes")]
    path = tar(tmp_path / "t.tar", members, format)
    source = open_source(path)
    items = list(source.listing())
    expected = {"t/a/1": (b"one", 4), "t/b.c/2": (b"two", 6), "t/3": (b"three", None), "t/4": (b"four", None)}
    expected |= {"t/5": (None, None), f"t/{'x' * 90}": (b"long", None)}
    if format != tarfile.USTAR_FORMAT:
        expected |= {f"t/{'é' * 150}/日": (b"longer", None), os.fsdecode(b"t/caf\xe9"): (b"bytes", None)}
    assert {item.key for item in items} == set(expected)
    assert source.left_out.as_dict() == {
        "hidden": {"count": 1, "examples": ["t.tar!__MACOSX/._3.jpg"]},
        "not an image": {"count": 1, "examples": ["t.tar!only-text.txt"]},
        "no suffix": {"count": 1, "examples": ["t.tar!noext"]},
        "another image of one sample (names end at the first dot)": {
            "count": 1,
            "examples": ["t.tar!./a/1.seg.png"],
        },
    }
    for item in items:
        data, label = expected[item.key]
        assert item.label == label
        assert reason(source, item) == "empty" if data is None else source.read(item) == data
    write_listing(tmp_path / "items.jsonl", items, 4)
    assert list(read_listing(tmp_path / "items.jsonl")) == items


def test_labels_in_json_members_are_read(tmp_path):
    """Labels in json are "label", "target" or "cls"; a .cls member takes precedence."""
    members = [("a.png", b"1"), ("a.json", b'{"target": 2}'), ("b.png", b"1"), ("b.json", b'{"cls": 3}')]
    members += [("c.png", b"1"), ("c.cls", b"1"), ("c.json", b'{"label": 9}')]
    assert listed(tar(tmp_path / "t.tar", members)) == [("t/a", 2), ("t/b", 3), ("t/c", 1)]


def test_tars_of_equal_names_have_different_keys(tmp_path):
    """The keys also contain the folders of the tars."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tar(tmp_path / folder / "t.tar", [("1.png", b"x")])
    assert [key for key, _ in listed(tmp_path / "{a,b}/t.tar")] == ["a/t/1", "b/t/1"]


def test_truncated_tars_raise(tmp_path):
    """If a tar ends in a header, in a member or between members, an error names the tar."""
    whole = shard(tmp_path / "a.tar", range(20)).read_bytes()
    end = 40 * 1024  # 40 members, each with 512 bytes of header and 512 of data; zeros follow
    for lost in [1, 1024, 5000, 9216, 9728, 10752, 15000]:
        (tmp_path / "a.tar").write_bytes(whole[: end - lost])
        check_source_error(r"complete .tar files, got .*a\.tar", tmp_path / "a.tar")


def test_damaged_tars_raise(tmp_path):
    """A damaged header, a file that is no tar, and a tar that was cut or deleted after its listing raise errors."""
    path = shard(tmp_path / "a.tar", range(20))
    whole = path.read_bytes()
    source = open_source(path)
    items = list(source.listing())
    _, offset, _ = items[7].place
    path.write_bytes(whole[: offset + 3])
    assert reason(source, items[7]) == "truncated" and reason(source, items[19]) == "truncated"
    path.write_bytes(whole[:10240] + b"\xff" * 512 + whole[10752:])  # a header
    check_source_error("a.tar, truncated or damaged at byte 10240", path)
    path.write_bytes(b"no tar at all" * 100)
    check_source_error("complete .tar files, got .*a.tar", path)
    path.write_bytes(b"")
    check_source_error("complete .tar files, got .*a.tar: empty file", path)
    deleted = open_source(shard(path, range(2)))
    path.unlink()
    assert reason(deleted, items[0]) == "unreadable"


@pytest.mark.parametrize("packing, suffix", [("gz", ".tar.gz"), ("bz2", ".tar"), ("xz", ".tar.xz"), ("gz", ".tgz")])
def test_compressed_tars_raise(tmp_path, packing, suffix):
    """Compressed tars, recognised by name or first bytes, are an error that says to unpack them."""
    with tarfile.open(tmp_path / f"a{suffix}", f"w:{packing}") as archive:
        archive.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    check_source_error("decompress", tmp_path / f"a{suffix}")


def test_missing_tars_bad_labels_and_tars_without_images_raise(tmp_path):
    """The errors name the tar or the label. Two archives in one file are an error, too."""
    shard(tmp_path / "t-00.tar", range(2))
    check_source_error("that exist, got .*t-01.tar", tmp_path / "t-{00..01}.tar")
    check_source_error("that exist, got .*/no.tar", tmp_path / "no.tar")
    check_source_error("that exist", tmp_path / "no*.tar")
    check_source_error(
        "a.tar!1.cls: label must be a non-negative int, got 1.5",
        tar(tmp_path / "a.tar", [("1.png", b"x"), ("1.cls", b"1.5")]),
    )
    bad = [("1.png", b"x"), ("1.json", b'{"label": "cat"}'), ("2.png", b"x"), ("2.cls", b"3")]
    check_source_error(
        "2.cls: labels must be all ints or all names, got '3' after 'cat' in", tar(tmp_path / "b.tar", bad)
    )
    twice = b'{"label": 1, "cls": 2, "label": 3}'
    check_source_error(
        "1.json: names must differ, got 'label', 'label'", tar(tmp_path / "h.tar", [("1.png", b"x"), ("1.json", twice)])
    )
    check_source_error("1.json: must be a JSON object", tar(tmp_path / "c.tar", [("1.png", b"x"), ("1.json", b"{")]))
    check_source_error(
        "got none in .*d.tar; unused entries: 1 not an image .d.tar!1.txt.$", tar(tmp_path / "d.tar", [("1.txt", b"x")])
    )
    check_source_error("got none in .*e.tar: no entries$", tar(tmp_path / "e.tar", []))
    two = [tar(tmp_path / f"f{n}.tar", []) for n in range(2)]
    check_source_error("got none in .*f0.tar and 1 more: no entries$", tmp_path / "f{0,1}.tar")
    two[0].write_bytes(tar(tmp_path / "g.tar", [("1.png", b"x")]).read_bytes() * 2)
    check_source_error("must be .tar files of one archive each, got .*f0.tar with more bytes", two[0])


def test_hard_links_of_a_tar_are_read_and_other_members_counted(tmp_path):
    """A hard link has the content of an earlier member. Other members that are no files are counted as left out."""
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT) as archive:

        def add(name, kind=tarfile.REGTYPE, link="", data=b""):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(data)
            archive.addfile(member, io.BytesIO(data))

        add("./d/", tarfile.DIRTYPE)
        add("0.png", tarfile.LNKTYPE, "./1.png")  # the target comes later
        add("1.png", data=b"old")
        add("1-old.png", tarfile.LNKTYPE, "./1.png")
        add("1.png", data=b"one")
        add("2.PNG", tarfile.LNKTYPE, "1.png")
        add("2.CLS", data=b"7")
        add("3.png", tarfile.LNKTYPE, "2.PNG")  # a link to a link
        add("4.png", tarfile.LNKTYPE, "gone.png")
        add("5.png", tarfile.LNKTYPE, "6.png")
        add("6.png", tarfile.LNKTYPE, "5.png")
        add("7.png", data=b"replaced by a symbolic link")
        add("7.png", tarfile.SYMTYPE, "1.png")
        add("8.png", tarfile.FIFOTYPE)
        add("9.png", tarfile.CHRTYPE)
        add("a.png", b"V")
        add("__MACOSX/b.png", data=b"x")
        add("c.jpg", data=b"c")
        add("c.png", data=b"second")
        add("d.cls", data=b"1")
    source = open_source(tmp_path / "t.tar")
    items = list(source.listing())
    assert [(i.key, source.read(i), i.label) for i in items] == [
        ("t/1-old", b"old", None),
        ("t/1", b"one", None),
        ("t/2", b"one", 7),
        ("t/3", b"one", None),
        ("t/c", b"c", None),
    ]
    assert {reason: entry["count"] for reason, entry in source.left_out.as_dict().items()} == {
        "directory": 1,
        "an earlier member of the same name": 2,
        "a hard link without an earlier file": 4,
        "symbolic link": 1,
        "device or pipe": 2,
        "member of type b'V'": 1,
        "in a system folder": 1,
        "another image of one sample (names end at the first dot)": 1,
        "a label without an image of the same name": 1,
    }


def test_other_files_next_to_tars_are_counted(tmp_path):
    shard(tmp_path / "a.tar", range(2))
    put(tmp_path, ["README.md", ".hidden.tar"])
    source = open_source(tmp_path)
    list(source.listing())  # counts what is left out
    assert source.left_out.as_dict() == {
        "hidden": {"count": 1, "examples": [".hidden.tar"]},
        "not a .tar file": {"count": 1, "examples": ["README.md"]},
    }


def test_folder_with_tars_and_images_is_read_as_images(tmp_path):
    """A folder is read as tars only if it has neither images nor folders."""
    shard(tmp_path / "a.tar", range(2))
    put(tmp_path, ["cat/1.png"])
    assert listed(tmp_path) == [("cat/1.png", 0)]


def test_keys_of_a_tar_are_safe_paths(tmp_path):
    """Keys become file names of outputs, so they must not contain absolute paths or ".."."""
    path = tar(tmp_path / "t.tar", [("../../etc/1.png", b"x"), ("/root/2.png", b"y")])
    assert [key for key, _ in listed(path)] == ["t/etc/1", "t/root/2"]


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("a.tar", ["a.tar"]),
        ("a-{8..10}.tar", ["a-8.tar", "a-9.tar", "a-10.tar"]),
        ("a-{08..10}.tar", ["a-08.tar", "a-09.tar", "a-10.tar"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{a}", ["{a}"]),
        ("a-{10..8}", []),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, names):
    assert expand_braces(pattern) == names


# --- arrays ----------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 5, 7, 3), np.uint8)


# (array, layout)
ARRAYS = [
    (BYTES, "NHWC"),
    (BYTES[..., :1], "NHWC"),
    (BYTES[..., 0], "NHW"),
    (BYTES.transpose(0, 3, 1, 2), "NCHW"),
    (BYTES[..., :1].transpose(0, 3, 1, 2), "NCHW"),
    ((BYTES / 255).astype(np.float32), "NHWC"),
    (BYTES / 255, "NHWC"),
    ((BYTES / 255).astype(">f4"), "NHWC"),
    ((BYTES[..., 0] / 255).astype(np.float16), "NHW"),
    (np.asfortranarray(BYTES), "NHWC"),
]


def check_rows_are_images(tmp_path, array, layout, kind):
    path = tmp_path / f"images.{kind}"
    if kind == "npy":
        np.save(path, array)
    else:
        safetensors = pytest.importorskip("safetensors.torch")
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        safetensors.save_file({"x": torch.tensor(native), "y": torch.zeros(3)}, path)
    source = open_source(path)
    items = list(source.listing())
    assert source.description["layout"] == layout and source.description["shape"] == list(array.shape)
    assert [item.key for item in items] == [f"{n:02}" for n in range(12)]
    assert items[7].path == f"images.{kind}[7]" and items[7].label is None
    dtype = np.uint8 if array.dtype == np.uint8 else np.float32
    for item in items:
        expected = array[item.index].transpose(1, 2, 0) if layout == "NCHW" else array[item.index]
        got = open_source(path).read(item)
        assert got.dtype == dtype and np.array_equal(got, expected.astype(dtype))


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_rows_of_arrays_are_images(tmp_path, kind):
    """Each row is an image [H, W] or [H, W, C]; uint8 is unchanged, floats become float32. Keys are numbers."""
    for array, layout in ARRAYS:
        check_rows_are_images(tmp_path, array, layout, kind)


def test_labels_of_arrays_are_read(tmp_path):
    """The labels are in the file ``labels``, by default in the tensor "labels" of a .safetensors file."""
    np.save(tmp_path / "x.npy", BYTES)
    np.save(tmp_path / "y.npy", np.arange(12) % 5)
    np.save(tmp_path / "z.npy", np.arange(12, dtype=np.uint8) % 4)
    assert listed(tmp_path / "x.npy", labels=tmp_path / "y.npy") == [(f"{n:02}", n % 5) for n in range(12)]
    safetensors = pytest.importorskip("safetensors.torch")
    both = {"images": torch.tensor(BYTES), "labels": torch.arange(12) % 3, "z": torch.zeros(2, 2, 2, 2)}
    safetensors.save_file(both, tmp_path / "x.safetensors")
    assert listed(tmp_path / "x.safetensors") == [(f"{n:02}", n % 3) for n in range(12)]
    with_labels = listed(tmp_path / "x.safetensors", labels=str(tmp_path / "z.npy"))
    assert with_labels == [(f"{n:02}", n % 4) for n in range(12)]


def test_bfloat16_tensors_are_read(tmp_path):
    """They become float32, since numpy has no bfloat16."""
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"images": torch.full((2, 5, 6), 0.5, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    source = open_source(tmp_path / "x.safetensors")
    assert np.array_equal(source.read(next(source.listing())), np.full((5, 6), 0.5, np.float32))


def test_rows_out_of_range_are_bad_items(tmp_path):
    """A row with values outside [0, 1] is one bad item."""
    array = np.full((4, 5, 6), 0.5)
    array[1, 2, 2], array[2, 0, 0] = 1.5, np.nan
    np.save(tmp_path / "x.npy", array)
    source = open_source(tmp_path / "x.npy")
    items = list(source.listing())
    assert [reason(source, item) for item in items[1:3]] == ["bad-array"] * 2
    assert source.read(items[0]).shape == source.read(items[3]).shape == (5, 6)


def test_large_array_is_not_loaded(tmp_path):
    """Files are memory-mapped, so a sparse file of 4 GiB needs little memory."""
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (1 << 22, 32, 32))
    del array
    source = open_source(tmp_path / "x.npy")
    item = Item(0, "k", "x", place=[(1 << 22) - 1])
    assert not source.read(item).any() and source.description["items"] == 1 << 22


# (array, part of the message)
WRONG_ARRAYS = [
    (np.zeros((3, 4, 5, 4), np.uint8), r"with C 1 or 3, got \[3, 4, 5, 4\]"),
    (np.zeros((3, 4, 8, 8), np.uint8), r"with C 1 or 3, got \[3, 4, 8, 8\]"),
    (np.zeros((8, 8), np.uint8), r"got \[8, 8\]"),
    (np.zeros((), np.uint8), r"got \[\] \(1 values\)"),
    (np.zeros((8, 9, 3), np.uint8), r"got \[8, 9, 3\] .*; for one image pass array\[None\]"),
    (np.zeros((0, 8, 8), np.uint8), r"got \[0, 8, 8\]"),
    (
        np.zeros((3, 8, 8), np.int64),
        "uint8, uint16 or floats in .0, 1., or other integers with a range .--range., got int64",
    ),
    (np.zeros((3, 8, 8), bool), "got bool"),
    (np.zeros((3, 8, 8), object), "must be a complete .npy file"),
]


def test_wrong_arrays_raise(tmp_path):
    """The error names the shape or type, and the file."""
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    for array, message in WRONG_ARRAYS:
        np.save(tmp_path / "x.npy", array)
        check_source_error(message, tmp_path / "x.npy")
        check_source_error("x.npy", tmp_path / "x.npy")
        check_source_error(message, tmp_path / "x.npy", labels=tmp_path / "labels.npy")


def test_bad_array_files_raise(tmp_path):
    """Truncated, empty or text files, labels of another length, and several tensors without "images" raise errors."""
    np.save(tmp_path / "x.npy", BYTES)
    whole = (tmp_path / "x.npy").read_bytes()
    for data in (whole[:-1], whole[:50], b"", b"text"):
        (tmp_path / "y.npy").write_bytes(data)
        check_source_error("data must be a complete .npy file, got .*y.npy", tmp_path / "y.npy")
    check_source_error(
        "labels must be a complete .npy file, got .*no.npy", tmp_path / "x.npy", labels=tmp_path / "no.npy"
    )
    for labels in (np.zeros(11, int), np.zeros((12, 1), int), np.zeros(12, bool), np.zeros(12, complex)):
        np.save(tmp_path / "l.npy", labels)
        check_source_error(
            "labels must be 12 class numbers or names, one for each image, got",
            tmp_path / "x.npy",
            labels=tmp_path / "l.npy",
        )
    check_source_error("labels must be None unless data is a .npy", tmp_path, labels="l.npy")
    check_source_error("labels must be None unless data is a .npy", [1, 2], labels="l.npy")
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"text")
    check_source_error("data must be a complete safetensors file, got .*x.safetensors", path)
    safetensors.save_file({"a": torch.zeros(2, 4, 4), "b": torch.zeros(2, 4, 4)}, path)
    check_source_error('data must have a tensor "images", or only one tensor with 3 or 4 axes, got', path)
    safetensors.save_file({"images": torch.zeros(2, 4, 4, dtype=torch.int32)}, path)
    check_source_error("got I32 in", path)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_are_read_with_a_range(dtype, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    array = np.arange(126, dtype=dtype).reshape(2, 7, 9)
    np.save(tmp_path / "x.npy", array)
    safetensors.save_file({"images": array}, tmp_path / "x.safetensors")
    for name in ("x.npy", "x.safetensors"):
        source = open_source(str(tmp_path / name), any_values=True)
        for item, values in zip(source.listing(), array, strict=True):
            # uint8 needs no range, and is not changed by it
            expected = values if dtype == "uint8" else np.round(values / 125 * 255)
            assert np.array_equal(decode(source.read(item), mode="L", range=(0, 125)), expected)


# --- Python's data sets ----------------------------------------------------------------------------------------------


class Numbers:
    """A map-style data set, in which each value of image n is n.

    It counts how many items were read. Item 5 raises an error.
    """

    def __init__(self, n=12, key=None, **attributes):
        self.n, self.key, self.reads = n, key, 0
        vars(self).update(attributes)

    def __len__(self):
        return self.n

    def __getitem__(self, n):
        self.reads += 1
        if n == 5:
            raise RuntimeError("item 5 is broken")
        image = torch.full((1, 4, 4), n, dtype=torch.uint8)
        return (image, torch.tensor(n % 3)) if self.key is None else (image, n % 3, self.key(n))


def build():
    """Return a data set; a test passes the name "test_sources:build"."""
    return Numbers(targets=list(range(12)))


def test_map_style_data_sets_are_read():
    """Labels come with the items. An item that raises an error is one bad item."""
    data = Numbers(classes=["a", "b", ("c", "sea")])
    source = open_source(data)
    items = list(source.listing())
    assert [(i.key, i.label, i.path) for i in items] == [(f"{n:02}", None, f"Numbers[{n}]") for n in range(12)]
    assert source.class_names == ["a", "b", "c, sea"]
    image, label = source.read_with_label(items[7])
    assert int(image[0, 0, 0]) == 7 and label == 1 and torch.equal(source.read(items[7]), image)
    assert reason(source, items[5]) == "unreadable"
    with pytest.raises(BadItem, match="Numbers.5.: RuntimeError: item 5 is broken"):
        source.read_with_label(items[5])
    assert (
        source.description["kind"] == "python" and source.description["items"] == 12 and json.dumps(source.description)
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"targets": list(range(12))},
        {"targets": torch.arange(12)},
        {"labels": np.arange(12)},
        {"samples": [(f"{n}.png", n) for n in range(12)]},
        {"targets": ["a"] * 12, "labels": list(range(12))},
        {"targets": list(range(3)), "labels": range(12)},
        {"targets": np.array(list("abcdefghijkl"), "S"), "classes": np.array(list("abcdefghijkl"))},
    ],
    ids=repr,
)
def test_labels_of_a_data_set_are_known_in_the_listing(attributes):
    """Attributes of another length or with strings that are not class names are skipped."""
    data = Numbers(**attributes)
    assert [label for _, label in listed(data)] == list(range(12))
    assert data.reads <= 1  # the first item may have a key
    source = open_source(data)
    assert source.read_with_label(list(source.listing())[7])[1] == 7


@pytest.mark.parametrize(
    "attributes",
    [
        {"targets": [[0, 1]] * 12},
        {"targets": list(range(12)), "target_transform": str},
        {"samples": [f"{n % 10}9.png" for n in range(12)]},  # strings, not pairs: the second character is no label
        {"samples": [(f"{n}.png", f"{n}-mask.png") for n in range(12)]},
        {"targets": [f"{n}.xml" for n in range(12)]},
        {"targets": ["a"] * 11 + ["b"], "classes": ["a"]},
        {"labels": dict.fromkeys(range(12), 0)},
        {"labels": set(range(12))},
        {"labels": "0" * 12},
        {"labels": b"0" * 12},
    ],
    ids=repr,
)
def test_attributes_that_are_no_labels_are_ignored(attributes):
    """If an attribute has no plain label for each item, or labels are transformed, they come with the items."""
    source = open_source(Numbers(**attributes))
    items = list(source.listing())
    assert {item.label for item in items} == {None} and source.read_with_label(items[7])[1] == 1


def test_keys_of_a_data_set_are_used():
    """Keys come from the attribute ``keys`` or from items (image, label, key), which the listing reads once."""
    data = Numbers(key=lambda n: f"image/{n}")
    expected = [(f"image/{n}", n % 3) for n in range(12)]
    expected[5] = ("05", None)  # item 5 cannot be read
    assert listed(data) == expected
    data = Numbers(keys=[f"k{n}" for n in range(12)], targets=list(range(12)))
    assert listed(data) == [(f"k{n}", n) for n in range(12)] and data.reads == 0
    check_source_error("key must be a relative path", Numbers(keys=["../a"] * 12))
    check_source_error("key must be a relative path", Numbers(key=lambda n: f"/{n}"))


def test_missing_or_multiple_labels_become_none_and_invalid_labels_raise():
    """A label is None if it is missing, -1, or not a single value. An invalid label raises BadItem."""
    image = np.zeros((4, 4), np.uint8)
    without = [
        image,
        (image,),
        (image, None),
        (image, -1),
        (image, [3, 4]),
        (image, {"boxes": []}),
        (image, torch.zeros(2)),
    ]
    wrong = [(image, "cat"), (image, 2.5), (image, -3), (image, np.float32("nan")), (image, torch.tensor([1.5]))]
    source = open_source([*without, *wrong, (image, 1, 2, 3), ()])
    items = list(source.listing())
    assert [source.read_with_label(item)[1] for item in items[: len(without)]] == [None] * len(without)
    reasons = []
    for item in items[len(without) :]:
        with pytest.raises(BadItem, match=rf"^list\[{item.index}\]") as error:
            source.read_with_label(item)
        reasons.append(error.value.reason)
    assert reasons == ["bad-label"] * len(wrong) + ["unreadable"] * 2
    assert source.read(items[len(without)]) is image  # the image can be read, although its label cannot


def test_labels_of_items_must_be_classes_of_the_data_set():
    """Labels are names or numbers of the data set's classes. Another label is an error, also in the listing."""
    image = np.zeros((4, 4), np.uint8)

    class Named(Numbers):
        def __getitem__(self, n):
            return image, ("dog", "owl")[n]

    source = open_source(Named(2, classes=["cat", "dog"]))
    items = list(source.listing())
    assert source.read_with_label(items[0])[1] == 1
    with pytest.raises(BadItem, match=r"Named\[1\]: label must be one of 'cat', 'dog' ..., got 'owl'"):
        source.read_with_label(items[1])
    check_source_error(r"list\[1\]: label must be a non-negative int, got 1.5", [(image, 0, "a"), (image, 1.5, "b")])


@pytest.mark.parametrize(
    "named, expected",
    [
        ({"classes": np.array(["cat", "dog"])}, (1, 0)),
        ({"classes": {"dog": 0, "cat": np.int64(1)}}, (0, 1)),
        ({"classes": {1: "dog", 0: "cat"}}, (1, 0)),
        ({"class_to_idx": {"dog": 0, "cat": 1}}, (0, 1)),
        ({"classes": {"dog": 3, "cat": 7}}, "must have .* classes, a sequence of names, or a mapping between names"),
        ({"classes": ["cat", "dog", "dog", "cat"]}, "must be the name of one class, got 'dog', the name of several"),
    ],
)
def test_names_of_classes_come_in_several_containers(named, expected):
    class Named(Numbers):
        def __getitem__(self, n):
            return np.zeros((4, 4), np.uint8), (np.array("dog"), b"cat")[n]

    source = open_source(Named(2, **named))
    items = list(source.listing())
    if isinstance(expected, tuple):
        assert tuple(source.read_with_label(item)[1] for item in items) == expected
        assert [source.class_names[number] for number in expected] == ["dog", "cat"]
    else:
        with pytest.raises(BadItem, match=expected):
            source.read_with_label(items[0])


def test_error_for_an_item_that_is_a_mapping_names_its_keys():
    source = open_source([{"image": torch.rand(3, 8, 8), "label": 1}])
    with pytest.raises(BadItem, match=r"list\[0\] must be an image or .*, got .* the keys \['image', 'label'\]"):
        source.read(next(iter(source.listing())))


def test_callable_is_imported_and_called():
    """A callable is imported and called. Errors say what was wrong with it."""
    source = open_source("test_sources:build")
    assert [item.label for item in source.listing()] == list(range(12))
    assert source.description["spec"] == "test_sources:build" and source.name == "test_sources:build"
    check_source_error(
        "data 'no_such:thing' must name an importable module, .*, got 'no_such': No module", "no_such:thing"
    )
    check_source_error("has no attribute 'nothing'", "test_sources:nothing")
    check_source_error("which is int", "test_sources:USAGE")
    check_source_error("a data set with __len__ and __getitem__, got object from builtins:object", "builtins:object")


def test_objects_that_are_no_data_sets_raise():
    check_source_error("got int", 3)
    for one in (torch.rand(8, 9, 3), np.zeros((8, 9, 4), np.uint8), torch.rand(8, 9)):
        check_source_error("data must be several images, got an array .*; for one image pass array", one)
    check_source_error("data must be several images", np.zeros(6))
    check_source_error(r"got DataLoader \(pass its dataset\)", torch.utils.data.DataLoader([torch.rand(3, 8, 8)]))
    check_source_error("must have items, got none", [])


def test_array_of_objects_is_a_data_set():
    images = np.empty(2, object)
    images[:] = [np.full((8, 9, 3), n, np.uint8) for n in range(2)]
    source = open_source(images)
    assert [int(source.read(item).max()) for item in source.listing()] == [0, 1]


def test_data_set_is_read_by_one_thread_at_a_time():
    """A data set may read from an open file, so only one thread reads items at a time, as in torch's DataLoader."""
    busy, overlaps = threading.Lock(), []

    class Fragile(list):
        def __getitem__(self, n):
            overlaps.append(not busy.acquire(blocking=False))
            time.sleep(1e-3)
            if not overlaps[-1]:
                busy.release()
            return np.full((4, 4), n, np.uint8), n

    source = open_source(Fragile(range(40)))
    items = list(source.listing())
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(source.read, items))
    assert not any(overlaps) and [int(image[0, 0]) for image in images] == list(range(40))


def test_torchvision_data_sets_are_read():
    """A data set of torchvision and a Subset of it are read."""
    import optional_libraries

    datasets = pytest.importorskip(f"{optional_libraries.torchvision().__name__}.datasets")
    data = datasets.FakeData(9, (3, 20, 30), 4)
    for data_set, offset in ((data, 0), (torch.utils.data.Subset(data, range(4, 9)), 4)):
        source = open_source(data_set)
        for item in source.listing():
            image, label = source.read_with_label(item)
            expected, target = data[item.index + offset]
            assert label == int(target) and np.array_equal(np.asarray(decode(image)), np.asarray(expected))


# --- Hugging Face ----------------------------------------------------------------------------------------------------


def hugging_face():
    try:
        import datasets
    except ImportError as error:
        pytest.skip(f"datasets (extra hf) cannot be imported: {error}")
    datasets.disable_progress_bars()
    return datasets


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of two splits, in the layout that Hugging Face datasets reads, and the bytes of an intact image."""
    monkeypatch.setattr(hugging_face().config, "HF_DATASETS_CACHE", tmp_path / "cache")
    zoo = pytest.importorskip("zoo")
    whole = zoo.png(zoo.picture(), zoo.RGB)
    put(
        tmp_path / "hf",
        [f"{split}/{name}/{n}.png" for split in ("train", "test") for name in ("cat", "dog") for n in "12"],
        whole,
    )
    (tmp_path / "hf/test/cat/2.png").write_bytes(whole[:50])
    return tmp_path / "hf", whole


def test_image_folder_is_read_by_datasets(pictures):
    """Items have the undecoded bytes, labels and names; the split is the given one, or test."""
    folder, whole = pictures
    source = open_source(f"hf:{folder}")
    items = list(source.listing())
    assert source.description["split"] == "test" and source.class_names == ["cat", "dog"]
    assert [(item.key, item.label) for item in items] == [("0", 0), ("1", 0), ("2", 1), ("3", 1)]
    assert [source.read(item) for item in items] == [whole, whole[:50], whole, whole]
    assert len(listed(f"hf:{folder}#train")) == 4
    check_source_error(r"data must name a split, .* one of \[.*'train'.*\] in .*, got 'x'", f"hf:{folder}#x")
    check_source_error("data set that the package datasets can load, got .*nowhere", f"hf:{folder}/nowhere")


def test_saved_hugging_face_data_sets_are_read(tmp_path):
    """Data sets of one and of several splits are read, with labels that are words, and rows without image."""
    datasets = hugging_face()
    rows = {"label": ["b", "a", None], "picture": [{"bytes": b"x", "path": None}, None, {"bytes": b"", "path": None}]}
    features = datasets.Features({"label": datasets.Value("string"), "picture": datasets.Image(decode=False)})
    one = datasets.Dataset.from_dict(rows, features=features)
    one.save_to_disk(tmp_path / "one")
    source = open_source(f"hf:{tmp_path}/one")
    items = list(source.listing())
    assert [item.label for item in items] == [1, 0, None] and source.class_names == ["a", "b"]
    assert source.read(items[0]) == b"x"
    assert [reason(source, item) for item in items[1:]] == ["unreadable", "empty"]
    datasets.DatasetDict({"train": one, "val": one}).save_to_disk(tmp_path / "two")
    assert open_source(f"hf:{tmp_path}/two").description["split"] == "train"
    assert len(listed(f"hf:{tmp_path}/two#val")) == 3
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "three")
    check_source_error("a column of type Image, got", f"hf:{tmp_path}/three")


def test_missing_datasets_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"steerlens_fast\[hf\]"):
        open_source("hf:mnist")


# --- all sources -----------------------------------------------------------------------------------------------------


def test_items_can_be_read_without_listing(tmp_path):
    """A pickled item can be read by a source that has not listed its items. The label is that of the listing."""
    put(tmp_path / "f", ["a/1.png", "b/2.png"])
    (tmp_path / "t.csv").write_text("path,label\nf/a/1.png,x\n")
    shard(tmp_path / "t.tar", range(3))
    np.save(tmp_path / "x.npy", BYTES)
    for name in ("f", "t.csv", "t.tar", "x.npy"):
        source = open_source(tmp_path / name)
        for item in source.listing():
            data, label = open_source(tmp_path / name).read_with_label(pickle.loads(pickle.dumps(item)))
            assert label == item.label and np.array_equal(data, source.read(item))


@pytest.mark.parametrize(
    "image, channels",
    [
        (torch.zeros(1, 8, 8), 1),
        (torch.zeros(3, 8, 8), 3),
        (np.zeros((8, 8, 3), np.uint8), 3),
        (np.zeros((8, 8), np.uint8), 1),
        (torch.zeros(2, 8, 8), None),
        (b"encoded", None),
    ],
)
def test_channels_of_a_data_set_are_those_of_its_first_array(image, channels):
    assert open_source([(image, 0)]).channels() == channels


def test_image_file_is_one_item(tmp_path):
    (tmp_path / "a.PNG").write_bytes(b"pixels")
    source = open_source(tmp_path / "a.PNG")
    (item,) = source.listing()
    assert (item.key, item.label, source.read(item)) == ("a.PNG", None, b"pixels")
