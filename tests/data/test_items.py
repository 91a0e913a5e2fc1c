"""Listings of items."""

import pytest

from steerlens_fast.data.items import Item, describe_first_change, write_listing

ITEMS = [Item(0, "a", "a.png", 3, ["a.png", 7]), Item(1, "b", "b.png", None, ["b.png", 9])]


@pytest.mark.parametrize(
    ("items", "change"),
    [
        (ITEMS, ""),
        ([Item(0, "a", "a.png", 3, ("a.png", 7)), ITEMS[1]], ""),  # JSON has no tuples
        # The target ~2 means that label 2 is to be removed
        ([Item(0, "a", "a.png", 4, ["a.png", 7], ~2), ITEMS[1]], "a.png (label was 3 and is 4 now, target was None"),
        (ITEMS[1:], "b.png where a.png was"),
        (ITEMS[:1], "no item where b.png was"),
        ([*ITEMS, Item(2, "c", "c.png")], "the new item c.png"),
    ],
)
def test_first_change_of_a_listing_is_described(tmp_path, items, change):
    write_listing(tmp_path / "items.jsonl", ITEMS, shard_size=1)
    described = describe_first_change(tmp_path / "items.jsonl", items)
    assert described.startswith(change) and bool(described) == bool(change)
