"""Labels and targets: every source, and targets of every form, give the same class numbers."""

import io
import json
import tarfile
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from steerlens_fast.data.labels import parse_class, sorted_class_names
from steerlens_fast.data.sources import open_source
from steerlens_fast.data.targets import parse_target
from steerlens_fast.errors import JobError

WHOLE = [10, 10.0, "10", "10.0", " 10 ", "+10", "1e1", "010", np.int8(10), np.uint64(10), np.float16(10)]
WHOLE += [
    np.float64(10),
    np.array(10),
    torch.tensor(10),
    torch.tensor(10.0),
    Decimal("10"),
    Fraction(10),
    np.str_("10"),
    np.array("10"),
    b"10",
]
WRONG = [1.5, "1.5", -1, "-1", "-0.5", float("nan"), "nan", "NaN", float("inf"), "-inf", "1e400", "1e-3", 2**63, True]
WRONG += [np.bool_(True), np.float32(0.5), 1j, [1], b"\xff", {}, np.arange(2)]


def test_whole_numbers_of_any_type_are_ints():
    for value in WHOLE:
        result = parse_class(value, "here")
        assert result == 10 and type(result) is int


def test_other_values_raise_with_their_place():
    for value in WRONG:
        with pytest.raises(JobError, match="^t.csv, line 7: goal must be a non-negative int, got "):
            parse_class(value, "t.csv, line 7", "goal")


def test_other_text_is_a_name():
    for value in ["n01440764", "cat", "1_000", "1,000", "0x10", "3 dogs", "v1.5", "-"]:
        assert parse_class(f" {value} ", "here") == value
        assert sorted_class_names([("here", value)]) == [value]
    assert [parse_class(value, "here") for value in (np.array("cat"), b"cat", np.bytes_("cat"))] == ["cat"] * 3


@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_values_are_no_labels(value):
    assert parse_class(value, "here") is None


class WithTargets(list):
    """A data set with the attribute ``targets``."""

    def __init__(self, values):
        super().__init__([np.zeros((8, 8), np.uint8)] * len(values))
        self.targets = values
        if "cat" in values:
            self.classes = ["ant", "cat", "n02"]


def csv(folder, values):
    (folder / "t.csv").write_text("path,label\n" + "".join(f"{n}.png,{v}\n" for n, v in enumerate(values)))
    return folder / "t.csv", {}


def jsonl(folder, values):
    rows = [json.dumps({"path": f"{n}.png", "label": v}) for n, v in enumerate(values)]
    (folder / "t.jsonl").write_text("\n".join(rows))
    return folder / "t.jsonl", {}


def npy(folder, values):
    np.save(folder / "x.npy", np.zeros((len(values), 8, 8), np.uint8))
    np.save(folder / "l.npy", np.array(values))
    return folder / "x.npy", {"labels": folder / "l.npy"}


def safetensors(folder, values):
    save = pytest.importorskip("safetensors.torch").save_file
    images = torch.zeros(len(values), 8, 8, dtype=torch.uint8)
    if isinstance(values[0], str):
        np.save(folder / "l.npy", np.array(values))
        save({"images": images}, folder / "x.safetensors")
        return folder / "x.safetensors", {"labels": folder / "l.npy"}
    save({"images": images, "labels": torch.tensor(values)}, folder / "x.safetensors")
    return folder / "x.safetensors", {}


def hub(folder, values):
    datasets, images = pytest.importorskip("datasets"), [{"bytes": b"x", "path": None}] * len(values)
    kind = {str: "string", float: "float64", int: "int64"}[type(values[0])]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value(kind)})
    data = datasets.Dataset.from_dict({"image": images, "label": values}, features)
    data.save_to_disk(folder / "hub")
    return f"hf:{folder / 'hub'}", {}


def python(folder, values):
    return WithTargets(values), {}


def _tar(folder, values, suffix, encode):
    with tarfile.open(folder / "t.tar", "w") as archive:
        for n, value in enumerate(values):
            for name, data in ((f"{n}.png", b"x"), (f"{n}.{suffix}", encode(value))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return folder / "t.tar", {}


def tar_cls(folder, values):
    return _tar(folder, values, "cls", lambda value: str(value).encode())


def tar_json(folder, values):
    return _tar(folder, values, "json", lambda value: json.dumps({"label": value}).encode())


SOURCES = [csv, jsonl, npy, safetensors, hub, python, tar_cls, tar_json]


def labels(make, folder, values):
    data, options = make(folder, values)
    source = open_source(data, **options)
    return [item.label for item in source.listing()], source.class_names


@pytest.mark.parametrize("make", SOURCES)
def test_every_source_gives_the_same_labels(make, tmp_path):
    """A number is its own class number, also as text. Names are numbered in alphabetical order."""
    expected = [0, 1, 2, 10]
    for n, values in enumerate([expected, [0.0, 1.0, 2.0, 10.0], ["0", "1", "2", "10"], ["0.0", "1.0", "2.0", "10.0"]]):
        (tmp_path / str(n)).mkdir()
        assert labels(make, tmp_path / str(n), values) == (expected, None)
    (tmp_path / "names").mkdir()
    assert labels(make, tmp_path / "names", ["cat", "n02", "ant", "cat"]) == ([1, 2, 0, 1], ["ant", "cat", "n02"])


WRONG_LABELS = [[1.0, 1.5], ["1", "1.5"], [1.0, float("nan")], ["cat", "1.5"], [1, -2]]


@pytest.mark.parametrize("make", SOURCES)
def test_every_source_raises_for_wrong_labels(make, tmp_path):
    """The message names the value, and the file or the data set."""
    message = "(label must be a non-negative int|labels( and targets)? must be all ints or all names), got"
    mixed = [] if make is python else [["1", "cat"]]  # labels may be names and numbers if a data set has classes
    for n, values in enumerate([*WRONG_LABELS, *mixed]):
        (tmp_path / str(n)).mkdir()
        with pytest.raises(JobError, match=message) as e:
            labels(make, tmp_path / str(n), values)
        places = "t.csv, line 3", "t.jsonl, line 2", "t.tar!1", "[1]", "hub#train"  # by kind of source
        assert str(values[1]) in str(e.value) and any(place in str(e.value) for place in places)


@pytest.mark.parametrize("value", ["2.0", 2.0, "map:1=2.0", "map:1.0=2", {"1.0": "2.0"}, {1.0: 2.0}], ids=repr)
def test_every_form_of_a_target_gives_its_number(value):
    assert list(parse_target(value).table.values()) == [2]
