"""Options of a data set, shared by the configurations of jobs and evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..io.argument_types import value_range
from ..io.base_config import BaseConfig, option
from .decoding import check_range


@dataclass(frozen=True, kw_only=True)
class DataConfig(BaseConfig):
    """Options of a data set: how images are decoded, and how many are used.

    Parameters
    ----------
    range : (float, float), "auto", "image" or None
        For images of more than 8 bits, the values that become black and white. For example, 12-bit data have the range
        (0, 4095). By default, it is the full range of the file's type, mostly 0 to 65535. "auto" uses the lowest and
        the highest value of the data set, for which every image is read once more. "image" uses those of each image;
        brightness can then not be compared between images.
    limit : int, optional
        Use only the first ``limit`` items. If ``target`` is a map or file, items for which it has no entry do not
        count.
    """

    range: str | Sequence[float] | None = option(
        None,
        group="data",
        metavar="LOW,HIGH",
        type=value_range,
        help="the values that become black and white in images of more than 8 bits, e.g. 0,4095 for 12-bit data. "
        "auto: the lowest and the highest value of all images, which are then read twice. image: the lowest and the "
        "highest value of each image (default: the full range of the file's type, mostly 0,65535)",
    )
    limit: int | None = option(
        None,
        group="data",
        metavar="N",
        minimum=1,
        help="use only the first N items; if --target is a map or file, items for which it has no entry do not count",
    )

    def _normalize(self) -> None:
        super()._normalize()
        if isinstance(self.range, list):  # from JSON
            self._set("range", tuple(self.range))

    def _check(self) -> None:
        super()._check()
        if self.range != "auto":
            check_range(self.range)
