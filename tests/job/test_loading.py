"""Loading arrays, with and without Pillow. Rounding of numbers in records."""

import math

import numpy as np
import pytest
import torch

from steerlens_fast.data.decoding import decode
from steerlens_fast.data.items import Item
from steerlens_fast.data.resize import resize_and_crop
from steerlens_fast.errors import BadItem
from steerlens_fast.job.loading import LoadedImage, Loader
from steerlens_fast.job.records import _rounded


class Arrays:
    """A source in which every item is ``array``."""

    def __init__(self, array):
        self.array = array

    def read_with_label(self, item):
        return self.array, None


def load(array, channels: int, *, crop_pct=1.0, keep_depth=False, max_pixels=100):
    decode_options = {"max_pixels": max_pixels, "decoder": "pillow", "range": None, "keep_depth": keep_depth}
    resize_options = {"crop_pct": crop_pct, "interpolation": "bicubic"}
    shapes = {"size": (5, 6), "channels": channels, "batch_size": 1}
    options = {"decode_options": decode_options, "resize_options": resize_options}
    loader, loaded = Loader(Arrays(array), **shapes, threads=1, **options), LoadedImage()
    try:
        return loader._load(Item(0, "0", "0"), loaded), loaded
    finally:
        loader.close()


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (3, 5, 6), (7, 6, 3)], ids=str)
@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
def test_arrays_load_as_if_pillow_converted_them(shape, crop_pct):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for channels, mode in (1, "L"), (3, "RGB"):
        image = decode(array, mode=mode)
        expected = resize_and_crop(image, (5, 6), crop_pct=crop_pct)
        pixels, loaded = load(array, channels, crop_pct=crop_pct)
        assert np.array_equal(pixels, expected) and loaded.size == (image.height, image.width)
        floats, _ = load(array, channels, crop_pct=crop_pct, keep_depth=True)
        assert floats.dtype == np.float32 and np.array_equal(floats, expected / np.float32(255))


def test_array_with_too_many_pixels_fails():
    with pytest.raises(BadItem, match="at most 29 pixels"):
        load(np.zeros((5, 6), np.uint8), 1, max_pixels=29)


def test_numbers_in_records_have_seven_digits():
    values = [[math.pi, math.nan, 0.0], [1e-12 / 3, -math.inf, 123456789.0]]
    table = torch.tensor(values, dtype=torch.float64)
    assert _rounded(table) == [[3.141593, None, 0.0], [3.333333e-13, None, 123456800.0]]
    assert _rounded(table[:, 1]) == [None, None] and _rounded(table[:0]) == []
