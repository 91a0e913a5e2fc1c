"""Classes of the data are matched with those of the model by name."""

import pytest

from steerlens_fast.data.class_matching import ClassMatch

MODEL = ["tabby, tabby cat", "Egyptian cat", "crane, bird", "crane, machine"]
IDS = ["n01440764", "n02123045 tabby", "n02124075, Egyptian cat"]


# expected: the attribute ``numbers`` of ClassMatch
@pytest.mark.parametrize(
    "data, model, expected",
    [
        (["Egyptian cat", "tabby cat"], MODEL, [1, 0]),
        (["egyptian-cat", "Tabby_Cat"], MODEL, [1, 0]),
        (["tabby, house cat", "crane"], MODEL, [0, None]),  # "crane" is the name of two classes
        (["tabby", "Egyptian cat", "crane", "crane"], MODEL, None),  # the same classes in the same order
        (["n02124075", "n02123045"], IDS, [2, 1]),
        (["n02124075-Egyptian_cat", "Tabby"], IDS, [2, 1]),
        (["n01", "n02"], ["a", "b"], [None, None]),  # WordNet ids have 8 digits
        # As many WordNet ids as classes of the model: both are taken to be in ImageNet's order
        (["n01440764", "n01443537"], ["tench", "goldfish"], None),
        (["n01440764"], ["tench", "goldfish"], [None]),
        (["3", "7"], ["a"] * 8, [3, 7]),
        (["3", "9"], ["a"] * 8, [3, None]),
        (["3", "7"], ["7", "3"], [1, 0]),
        (["0", "1"], ["cat", "dog"], None),
        (["cat", "dog"], None, None),
        (None, ["cat", "dog"], None),
    ],
)
def test_classes_match_by_name(data, model, expected):
    assert ClassMatch(data, model).numbers == expected
    assert ClassMatch(data, model, "numbered").numbers is None


def test_unmatched_classes_have_no_label():
    classes = ClassMatch(["owl", "crane", "tabby"], MODEL)
    assert classes.unmatched() == ["owl", "crane"]
    assert [classes.model_label(label) for label in (0, 2, 3, None)] == [None, 0, None, None]
