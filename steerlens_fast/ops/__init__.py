"""Wrappers of the compiled ops ``torch.ops.steerlens_fast.*``, with shape functions ("fakes") and derivatives.

The rest of the package calls the ops only through these wrappers. The README of this folder lists the ops, and
describes their derivatives.
"""

from .advance import StepTaken, advance_planes
from .bands import merge_bands, split_bands
from .enums import EDITS, FORMS, RULES, real_dtype, rule_index
from .extrapolate import extrapolate
from .l2_search import SearchColumn, advance_l2_search, begin_l2_search
from .morph import morph_planes, move_planes, step_planes
from .morph_to_l2 import FramesAtL2, morph_planes_to_l2
from .nll_gradient import nll_gradient
from .pair import pair, unpair
from .planes import merge_planes, split_planes
from .polar import polar_join, polar_split
from .step import step

__all__ = [
    "EDITS",
    "FORMS",
    "FramesAtL2",
    "RULES",
    "SearchColumn",
    "StepTaken",
    "advance_l2_search",
    "advance_planes",
    "begin_l2_search",
    "extrapolate",
    "merge_bands",
    "merge_planes",
    "morph_planes",
    "morph_planes_to_l2",
    "move_planes",
    "nll_gradient",
    "pair",
    "polar_join",
    "polar_split",
    "real_dtype",
    "rule_index",
    "split_bands",
    "split_planes",
    "step",
    "step_planes",
    "unpair",
]
