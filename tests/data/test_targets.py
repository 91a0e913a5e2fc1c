"""Targets: the class toward which each item is morphed, from ranks, labels, maps or tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import linear

from steerlens_fast import SteerableLens
from steerlens_fast.data.class_matching import ClassMatch
from steerlens_fast.data.items import Item
from steerlens_fast.data.sources import open_source
from steerlens_fast.data.targets import batch_target, parse_target
from steerlens_fast.errors import USAGE, JobError
from steerlens_fast.io.atomic_io import sha256_of

NAMES = ["cat", "dog", "eel", "fox"]


def items(count=8, root="/data"):
    """Return items with the labels 0, 1, 2, 3, None, 1, ..."""
    labels = [None if n % 5 == 4 else n % 4 for n in range(count)]
    return [Item(n, f"a/{n}", f"{root}/a/{n}.png", label) for n, label in enumerate(labels)]


def targets(value, listing=None, names=NAMES):
    rule = parse_target(value)
    resolved = rule.resolve(iter(items() if listing is None else listing), ClassMatch(names))
    return {item.key: item.target for item in resolved}, rule


def check_target_error(value, *parts, names=NAMES):
    """Check that parsing or resolving a target raises an error that names "target" and ``parts``."""
    with pytest.raises(JobError) as caught:
        targets(value, names=names)
    assert caught.value.code == USAGE
    assert "target" in str(caught.value)
    for text in parts:
        assert text in str(caught.value)


def written(path, text):
    path.write_text(text)
    return str(path)


# --- Targets by rule ---


@pytest.mark.parametrize("rank", ["runner-up", "argmax", "least"])
def test_rank_leaves_the_items_alone(rank):
    rule = parse_target(rank)
    assert list(rule.resolve(items())) == items()
    assert rule.rank == rank and rule.description == {"kind": "rank", "rank": rank}
    assert batch_target(rule, [None, None]) == rank


def test_target_label_is_the_label_of_each_item():
    rule = parse_target("label")
    assert list(rule.resolve(items())) == [replace(item, target=item.label) for item in items()]
    assert rule.dropped == 0 and rule.rank is None and rule.description == {"kind": "label"}


def test_single_class_is_the_target_of_all():
    for value in (2, "2", " 2 ", 2.0, "2.0", "+2", "2e0", np.int64(2), np.float32(2), torch.tensor(2), "eel"):
        result, rule = targets(value)
        assert result == {item.key: 2 for item in items()}
        assert json.loads(json.dumps(rule.description)) == {"kind": "class", "class": "eel" if value == "eel" else 2}


def test_digits_are_class_numbers_even_if_a_class_has_that_name():
    result, _ = targets("1", names=["5", "1", "0"])
    assert set(result.values()) == {1}
    result, _ = targets("0", names=["5", "1", "0"])
    assert set(result.values()) == {0}


MAPS = [
    "map:1=3,3=0",
    "map: 1 = 3 , 3=0",
    "map:dog=fox,fox=cat",
    "map:dog=3,3=cat",
    "map:1.0=3.0,3=0",
    {1: 3, "3": 0},
    {1.0: np.float64(3), "3.0": np.int32(0)},
    {"dog": "fox", 3: 0},
]


def test_map_gives_targets_by_label_and_drops_other_labels():
    target_of = {1: 3, 3: 0, None: None}  # an item without a label is kept, and fails when it is read
    for value in MAPS:
        result, rule = targets(value)
        assert result == {item.key: target_of[item.label] for item in items() if item.label in target_of}
        assert rule.dropped == sum(item.label in (0, 2) for item in items()) > 0
        assert rule.description["kind"] == "map" and len(json.loads(json.dumps(rule.description))["map"]) == 2


def test_json_file_gives_its_map(tmp_path):
    file = written(tmp_path / "m.json", json.dumps({"1": 3, "fox": "cat"}))
    for value in (file, Path(file)):
        result, rule = targets(value)
        assert (result, rule.description) == (
            targets({1: 3, "fox": "cat"})[0],
            parse_target({1: 3, "fox": "cat"}).description,
        )


def test_rule_is_the_same_after_json(tmp_path):
    """A rule that is made again from its description is equal."""
    for value in ({1: 3, "fox": "cat"}, "map:1=3"):
        rule = parse_target(value)
        assert parse_target(json.loads(json.dumps(rule.description))["map"]) == rule


CSV = {
    "key": "key,target\na/1,3\na/2,cat\na/4,1\n",
    "byte order mark, other columns, another order": "\ufefftarget,note,key\n3,x,a/1\ncat,,a/2\n1,y,a/4\n",
    "path": "path,target\n/data/a/1.png,3\n/data/a/2.png,cat\n/data/a/4.png,1\n",
    "path that is a key": "path,target\na/1,3\na/2,cat\na/4,1\n",
    "key before path": "path,key,target\n?,a/1,3\n?,a/2,cat\n?,a/4,1\n",
    "quoted, CRLF": '"key","target"\r\n"a/1","3"\r\n"a/2","cat"\r\n"a/4","1"\r\n',
    "twice the same": "key,target\na/1,3\na/2,cat\na/4,1\na/1,3\n",
    "floats": "key,target\na/1,3.0\na/2,cat\na/4,1.\n",
    "other case, blanks": "Key, TARGET\na/1,3\na/2, cat\na/4,1\n",
}


def test_csv_gives_targets_by_key_or_path_and_drops_other_items(tmp_path):
    file = tmp_path / "t.csv"
    for text in CSV.values():
        file.write_bytes(text.encode())
        result, rule = targets(str(file))
        assert result == {"a/1": 3, "a/2": 0, "a/4": 1}
        assert rule.dropped == len(items()) - 3
        assert rule.description == {"kind": "csv", "path": str(file), "sha256": sha256_of(file)}


def test_relative_paths_in_a_csv_begin_at_its_folder(tmp_path, monkeypatch):
    file = written(tmp_path / "t.csv", "path,target\nimages/a/1.png,2\n../a/2.png,3\n")
    listing = [*items(2, tmp_path / "images"), replace(items()[2], path=str(tmp_path.parent / "a" / "2.png"))]
    assert targets(file, listing)[0] == {"a/1": 2, "a/2": 3}
    monkeypatch.chdir(tmp_path)
    assert targets("t.csv", listing)[0] == {"a/1": 2, "a/2": 3}


def test_resolve_takes_no_more_items_than_needed(tmp_path):
    file = written(tmp_path / "t.csv", "key,target\n" + "".join(f"a/{n},1\n" for n in range(100)))
    for value in ("least", "label", 3, {0: 1, 1: 1, 2: 1, 3: 1}, file):
        read = []
        stream = parse_target(value).resolve(read.append(item) or item for item in items(100))
        assert len([next(stream) for _ in range(3)]) == 3 == len(read)


def test_each_resolve_counts_the_dropped_items_from_zero():
    rule, others = parse_target({0: 1}), sum(item.label not in (0, None) for item in items())
    for _ in range(2):
        list(rule.resolve(items()))
        assert rule.dropped == others > 0


def test_label_that_is_known_only_after_reading_gets_its_target():
    assert [parse_target("label").target_of(n) for n in (4, None)] == [4, None]
    rule, classes = parse_target("map:cat=fox,1=2"), ClassMatch(NAMES)
    assert [rule.target_of(n, classes) for n in (0, 1, 2, None)] == [3, 2, None, None]
    assert parse_target("argmax").target_of(3) is None


# --- Targets for the lens ---


def test_items_without_a_target_get_class_0_or_the_rank_of_the_batch():
    images, lens = torch.rand(3, 3, 16, 16), SteerableLens(linear())
    batch = batch_target(parse_target("label"), [4, None, 2])
    assert batch == [4, 0, 2]
    assert lens.morph(images, batch, factors=1.0, score="none").target.tolist() == [4, 0, 2]
    rank = batch_target(parse_target("least"), [None, 1, None])
    least = linear()(images).argmin(1)
    assert torch.equal(lens.morph(images, rank, factors=1.0, score="none").target, least)


# (class names of the model, class numbers of "not:ant" and "ant"). The default is the class names of the data.
@pytest.mark.parametrize("names, expected", [(None, [~0, 0]), (["owl", "ant"], [~1, 1])], ids=["data", "model"])
def test_prefix_of_a_label_to_remove_is_not_part_of_the_class_name(names, expected, tmp_path):
    (tmp_path / "t.csv").write_text("path,label,target\na.png,ant,not:ant\nb.png,owl,ant\n")
    source = open_source(tmp_path / "t.csv")
    classes = ClassMatch(source.find_class_names(), names)
    items = list(parse_target("column").resolve(source.listing(), classes))
    assert source.class_names == ["ant", "owl"]
    assert [item.target for item in items] == expected


def test_table_may_give_labels_to_remove_by_number(tmp_path):
    (tmp_path / "t.csv").write_text("path,target\na.png,not:3\nb.png,2\nc.png,\n")
    assert [item.target for item in open_source(tmp_path / "t.csv").listing()] == [~3, 2, None]


# --- Bad input ---

# {what is wrong: (target, *words in the message)}
BAD = {
    "unknown name": ("owl", "'owl'", "'cat', 'dog', 'eel', 'fox'", "runner-up"),
    "almost a rank": ("runner_up", "'runner_up'; did you mean 'runner-up'?"),
    "almost a name": ("map:1=doq", "'doq' in '1=doq'; did you mean 'dog'?"),
    "almost a name to remove": ("not:doq", "'doq'"),
    "nothing": ("  ", "'  '"),
    "None": (None, "None"),
    "bool": (True, "True"),
    "fraction": (1.5, "1.5"),
    "fraction as text": ("1.5", "1.5"),
    "not a number": (float("nan"), "nan"),
    "not a number as text": ("NaN", "NaN"),
    "fraction in a map": ("map:1.5=3", "1.5"),
    "callable": (len, "len"),
    "list": ([1, 2], "[1, 2]"),
    "negative": (-1, "-1", "from 0"),
    "negative text": ("-1", "-1"),
    "too large": (2**63, str(2**63)),
    "empty map": ("map:", "''"),
    "half a pair": ("map:3=8,7", "'7'", "map:3=8,7"),
    "two equals": ("map:3=8=9", "'3=8=9'"),
    "no target": ("map:3=", "'3='"),
    "a class twice": ("map:3=8,3=9", "'3' twice: '3=8' and '3=9'"),
    "a class twice in two forms": ("map:3=8,3.0=9", "3 twice: with 8, and in '3.0=9'"),
    "a class twice by name": ("map:1=0,dog=2", "'1=0' and 'dog=2'"),
    "unknown in a map": ("map:cat=owl", "'owl'"),
    "unknown source": ("map:owl=cat", "'owl' in 'owl=cat'"),
    "empty mapping": ({}, "none"),
    "bad value": ({1: None}, "None"),
    "map that drops all": ("map:9=1", "with 9"),
    "no csv": ("/nowhere/t.csv", "/nowhere/t.csv"),
    "no json": ("/nowhere/t.json", "/nowhere/t.json"),
}


def test_bad_targets_raise():
    for value, *parts in BAD.values():
        check_target_error(value, *parts)


def test_class_twice_in_a_json_file_raises(tmp_path):
    (tmp_path / "t.json").write_text('{"cat": 1, "cat": 2}')
    check_target_error(tmp_path / "t.json", "'cat' twice", str(tmp_path / "t.json"))


def test_name_without_class_names_raises():
    check_target_error("cat", "'cat'", "classes of the data: no names", names=None)


def test_name_of_two_classes_raises():
    check_target_error("crane", "'crane'", "number", names=["crane", "owl", "crane"])
    assert set(targets("owl", names=["crane", "owl", "crane"])[0].values()) == {1}


def test_unknown_and_ambiguous_names_list_near_ones():
    names = ["tabby, tabby cat", "Egyptian cat", "lynx, catamount", "crane", "crane, bird"]
    with pytest.raises(JobError, match=r"got 'cat' in 'cat=lynx'; did you mean 'Egyptian cat' or 'tabby cat'\?"):
        list(parse_target("map:cat=lynx").resolve([], ClassMatch(None, names)))
    with pytest.raises(JobError, match=r"got 'Birds'; did you mean 'bird'\?"):
        parse_target("Birds").resolve([], ClassMatch(None, names))
    with pytest.raises(JobError, match=r"got 'dogs' in .*; did you mean 'dog'\? \(classes of the data: 'dog'\)"):
        list(parse_target("map:dogs=lynx").resolve([], ClassMatch(["dog"], names)))
    twice = ["crane, bird", "crane, machine"]
    with pytest.raises(JobError, match=r"'crane', the name of 2 classes \(0 'crane, bird', 1 'crane, machine'\)"):
        parse_target("crane").resolve([], ClassMatch(None, twice))


def test_names_may_differ_in_case_and_underscores():
    names, model = ["DOG", "egyptian_cat"], ["Egyptian cat", "lynx, catamount", "dog"]
    items = [Item(i, str(i), f"{i}.png", label=i) for i in range(2)]
    targets_for = lambda target: [item.target for item in parse_target(target).resolve(items, ClassMatch(names, model))]
    for target in ("EGYPTIAN CAT", "Egyptian-Cat", "egyptian_cat"):
        assert targets_for(target) == [0, 0]
    assert targets_for("map:dog=Lynx,Egyptian cat=Dog") == [1, 2]
    with pytest.raises(JobError, match="'DOG=lynx' and 'dog=Dog', which name the same class"):
        targets_for("map:DOG=lynx,dog=Dog")


def test_names_are_checked_before_the_first_item_is_taken():
    def never():
        raise AssertionError("an item was taken")
        yield

    for value in ("owl", "map:owl=cat"):
        with pytest.raises(JobError):
            parse_target(value).resolve(never(), ClassMatch(NAMES))


# {what is wrong: (content of the file, *words in the message)}
BAD_CSV = {
    "no header": ("a/1,3\n", "['a/1', '3']"),
    "empty": ("", "[]"),
    "header alone": ("key,target\n", "none"),
    "no target": ("key,label\na/1,3\n", "'label'"),
    "missing value": ("key,target\na/1,\n", "line 2"),
    "short line": ("key,target\na/0,1\na/1\n", "line 3"),
    "fraction": ("key,target\na/0,1\na/1,1.5\n", "line 3", "'target'", "'a/1'", "1.5"),
    "two targets": ("key,target,Target\na/1,1,2\n", "line 1", "'target', 'Target'"),
    "negative": ("key,target\na/1,-3\n", "-3"),
    "twice": ("key,target\na/1,3\na/2,1\na/1,4\n", "line 4", "'a/1'"),
    "unknown class": ("key,target\na/1,owl\n", "'owl'"),
    "no known key": ("key,target\nb/1,3\n", "'b/1'"),
    "unknown keys": (
        "key,target\na/1,3\n" + "".join(f"b/{n},3\n" for n in range(6)),
        "6 that do not exist",
        "'b/0', 'b/1', 'b/2', 'b/3' and 2 more",
    ),
}


def test_bad_csv_files_raise(tmp_path):
    for text, *parts in BAD_CSV.values():
        check_target_error(written(tmp_path / "t.csv", text), *parts)


@pytest.mark.parametrize("text, parts", [("{", "JSON"), ("[1]", "list"), ("{}", "none"), ('{"1": true}', "True")])
def test_bad_json_files_raise(tmp_path, text, parts):
    check_target_error(written(tmp_path / "t.json", text), parts)


def test_unknown_keys_of_a_csv_raise_only_after_the_last_item(tmp_path):
    """With a limit, keys of items that are not read are no error."""
    file = written(tmp_path / "t.csv", "key,target\na/1,3\na/2,3\nb/9,3\n")
    stream = parse_target(file).resolve(items())
    assert [next(stream).key for _ in range(2)] == ["a/1", "a/2"]
    with pytest.raises(JobError, match="'b/9'"):
        list(stream)


def test_names_in_a_column_are_classes_of_the_model(tmp_path):
    """Names in a column are classes or synonyms of the model if it has names, else of the data."""
    table = written(tmp_path / "t.csv", "path,label,target\na.png,cat,tench\nb.png,ant,cat\nc.png,cat,\n")
    source = open_source(table)
    list(source.listing())  # finds the class names
    targets_with = lambda **names: [
        i.target for i in parse_target("column").resolve(source.listing(), ClassMatch(source.class_names, **names))
    ]
    assert source.class_names == ["ant", "cat", "tench"]
    assert targets_with() == [2, 1, None]
    assert targets_with(model_names=["Tench, Tinca", "ant", "bee", "cat"]) == [0, 3, None]
    for labels in (None, "numbered"):
        with pytest.raises(JobError, match=r"got 'tench' for .*a\.png; did you mean 'trench'\?"):
            targets_with(model_names=["trench", "ant", "bee", "cat"], labels=labels)
    source = open_source(written(tmp_path / "n.csv", "path,target\na.png,7.0\nb.png,0\n"))
    assert targets_with(model_names=["tench", "ant"]) == [7, 0]


MODEL = ["tench", "espresso", "Egyptian cat, mau", "crane, bird", "crane, machine"]


def test_labels_are_matched_with_the_classes_of_the_model_by_name():
    listed = [Item(n, f"{n}", f"{n}.png", label=n) for n in range(3)]
    names = ["egyptian_cat", "espresso", "owl"]
    labels = lambda value, **more: [
        (i.label, i.target) for i in parse_target(value).resolve(listed, ClassMatch(names, MODEL, **more))
    ]
    assert labels("label") == [(2, 2), (1, 1), (None, None)]
    assert labels("least") == [(2, None), (1, None), (None, None)]
    assert labels("map:owl=espresso,egyptian_cat=0,espresso=egyptian_cat") == [(2, 0), (1, 2), (None, 1)]
    assert labels("egyptian_cat") == [(2, 2), (1, 2), (None, 2)]
    assert labels("label", labels="numbered") == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(JobError, match="target must be .*got 'owl'.*classes of the model"):
        labels("owl")
    with pytest.raises(JobError, match="target must name the data's classes .*got 1 in '1=2'; .*'egyptian_cat', 'esp"):
        labels("map:1=2")
    rule = parse_target("map:owl=espresso")
    classes = ClassMatch(names, MODEL)
    assert [rule.target_of(2, classes), parse_target("label").target_of(0, classes)] == [1, 2]
