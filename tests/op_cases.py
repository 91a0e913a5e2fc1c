"""Cases for tests of the ops on bands and coefficients; their outputs in a form that can be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import pytest
import torch
from inputs import DTYPES, coefficients, image, normal, on_tensors
from pairwise import covering
from torch import Tensor

from steerlens_fast import native
from steerlens_fast.ops.enums import RULES

RAW = torch.ops.steerlens_fast  # without the wrappers in ops/, which reject some arguments

# Shapes [N, K, h, w] of coefficients, for the pointwise ops
POINT_SHAPES = {
    "odd": (3, 2, 5, 7),
    "prime": (2, 3, 13, 17),
    "1x1": (1, 1, 1, 1),
    "1x6": (2, 1, 1, 6),
    "8x8": (1, 4, 8, 8),
    "K1": (2, 1, 9, 4),
    "empty": (0, 4, 5, 7),
    "no_area": (2, 1, 0, 5),
    "threads": (4, 4, 64, 33),  # enough elements for several threads
}


class Group(NamedTuple):
    """The bands of one scale: K masks of h x w."""

    K: int
    h: int
    w: int
    layout: str  # "full" masks are [K, h, w], "half" masks are [K, h, w // 2 + 1]
    planes_in_merge: int | None  # number of planes of this group in merge_bands; None for N


class BankShape(NamedTuple):
    """N planes of H x W, and the groups of bands that they are split into."""

    N: int
    H: int
    W: int
    groups: list[Group]


def full(K: int, h: int, w: int, planes_in_merge: int | None = None) -> Group:
    return Group(K, h, w, "full", planes_in_merge)


def half(K: int, h: int, w: int, planes_in_merge: int | None = None) -> Group:
    return Group(K, h, w, "half", planes_in_merge)


class PlaneShape(NamedTuple):
    """A shape for the ops on whole planes.

    There are N planes of H x W, and groups (K, h, w) of bands.
    """

    N: int
    H: int
    W: int
    groups: list[tuple[int, int, int]]


class PairShape(NamedTuple):
    """The shape of planes. In each run of ``run`` consecutive planes, neighbours are paired."""

    planes: tuple[int, ...]
    run: int


BANK_SHAPES = {
    "even": BankShape(2, 16, 12, [full(4, 16, 12), full(4, 8, 6), half(1, 16, 12), half(1, 4, 3)]),
    "odd": BankShape(3, 15, 9, [full(2, 15, 9), full(2, 8, 5), half(2, 8, 5), half(1, 4, 3)]),
    "prime": BankShape(2, 13, 17, [full(3, 13, 17), half(3, 7, 9)]),
    "odd_in_even": BankShape(2, 14, 10, [full(2, 7, 5), half(2, 7, 5)]),
    "even_in_odd": BankShape(2, 13, 11, [full(2, 6, 4), half(2, 6, 4)]),
    "1x1": BankShape(1, 1, 1, [full(1, 1, 1)]),
    "1x6": BankShape(2, 1, 6, [full(2, 1, 6), full(1, 1, 3), half(1, 1, 1)]),
    "6x1": BankShape(2, 6, 1, [full(2, 6, 1), half(1, 3, 1)]),
    "2x2": BankShape(2, 2, 2, [full(2, 2, 2), full(2, 1, 1), half(1, 2, 2)]),
    "8x8": BankShape(1, 8, 8, [full(4, 8, 8), half(4, 4, 4)]),
    "K1": BankShape(2, 9, 8, [full(1, 9, 8)]),
    "K0": BankShape(2, 8, 8, [full(0, 8, 8), half(1, 4, 4)]),
    "empty": BankShape(0, 8, 6, [full(4, 8, 6), half(1, 4, 3)]),
    "fewer_planes": BankShape(
        6, 8, 10, [full(2, 8, 10), half(2, 4, 5, planes_in_merge=3), half(1, 8, 10, planes_in_merge=1)]
    ),
    "threads": BankShape(4, 64, 96, [full(4, 64, 96), half(4, 32, 48, planes_in_merge=2)]),
}


# Shapes with full masks only, for whole spectra and for bands in pairs
WHOLE_SHAPES = {
    "even": BankShape(2, 16, 12, [full(4, 16, 12), full(4, 8, 6), full(1, 4, 3)]),
    "odd": BankShape(3, 15, 9, [full(2, 15, 9), full(2, 8, 5), full(1, 4, 3)]),
    "mixed": BankShape(2, 13, 11, [full(2, 6, 4), full(2, 7, 6)]),
    "narrow": BankShape(2, 5, 3, [full(2, 5, 3), full(1, 3, 2), full(1, 1, 1)]),
    "1x2": BankShape(2, 1, 2, [full(2, 1, 2), full(1, 1, 1)]),
    "2x1": BankShape(2, 2, 1, [full(2, 2, 1)]),
    "K0": BankShape(2, 8, 8, [full(0, 8, 8), full(1, 4, 4)]),
    "empty": BankShape(0, 8, 6, [full(4, 8, 6)]),
    "fewer_planes": BankShape(
        6, 8, 10, [full(2, 8, 10), full(2, 4, 5, planes_in_merge=3), full(1, 8, 10, planes_in_merge=1)]
    ),
    "threads": BankShape(4, 64, 96, [full(4, 64, 96), full(4, 32, 48, planes_in_merge=2)]),
}
PAIR_SHAPES = {
    "even": PairShape((4, 5, 7), 4),
    "odd": PairShape((3, 5, 7), 3),
    "odd_runs": PairShape((9, 2, 3), 3),
    "runs": PairShape((6, 4, 4), 2),
    "single": PairShape((1, 6, 6), 1),
    "singles": PairShape((4, 3), 1),
    "one_pair": PairShape((2, 3, 5), 2),
    "flat": PairShape((5,), 5),
    "empty": PairShape((0, 4, 4), 3),
    "no_run": PairShape((0, 4, 4), 0),
    "no_area": PairShape((2, 0, 4), 2),
    "threads": PairShape((4, 130, 131), 4),
}


# --- Every op's arguments


@dataclass(frozen=True)
class OpCase:
    """One op and its arguments, made by ``build(dtype, device)``."""

    op: str
    label: str
    build: Callable[..., list]

    def __str__(self):
        return f"{self.op}-{self.label}" if self.label else self.op


def masks_of(shape: BankShape, dtype, device) -> list[Tensor]:
    """Random masks that are nonzero at every frequency."""
    sizes = [(g.K, g.h, g.w if g.layout == "full" else g.w // 2 + 1) for g in shape.groups]
    return [image(*size, dtype=dtype, device=device, seed=i) + 0.5 for i, size in enumerate(sizes)]


def pair_args(shape: PairShape, dtype, device, complex_planes=False) -> list:
    planes, run = shape
    return [normal(*planes, dtype=dtype.to_complex() if complex_planes else dtype, device=device), run]


def unpair_args(shape: PairShape, dtype, device) -> list:
    (planes, *area), run = shape
    pairs = planes // max(run, 1) * ((run + 1) // 2)
    return [normal(pairs, *area, dtype=dtype.to_complex(), device=device), run]


def split_args(shape: BankShape, dtype, device, whole=False, paired=False) -> list:
    N, H, W, groups = shape
    spectrum = normal(N, H, W if whole else W // 2 + 1, dtype=dtype.to_complex(), device=device)
    i_powers, widths = [(i + 1) % 4 for i in range(len(groups))], [g.w for g in groups]
    return [spectrum, masks_of(shape, dtype, device), i_powers, widths, W, paired]


def merge_args(shape: BankShape, dtype, device, whole=False, paired=False) -> list:
    N, H, W, groups = shape
    masks = masks_of(shape, dtype, device)
    stored = lambda K: (K + 1) // 2 if paired else K
    bands = [
        normal(
            N if g.planes_in_merge is None else g.planes_in_merge,
            stored(mask.shape[0]),
            *mask.shape[1:],
            dtype=dtype.to_complex(),
            device=device,
            seed=i,
        )
        for i, (g, mask) in enumerate(zip(groups, masks))
    ]
    i_powers, widths = [(i + 3) % 4 for i in range(len(groups))], [g.w for g in groups]
    return [bands, masks, i_powers, widths, H, W, whole, paired]


def polar_split_args(shape, dtype, device) -> list:
    return [coefficients(*shape, dtype=dtype, device=device)]


def polar_join_args(shape, dtype, device) -> list:
    return [normal(*shape, dtype=dtype, device=device, seed=s) for s in (7, 8)]


def polar_split_backward_args(shape, dtype, device) -> list:
    return [*polar_split_args(shape, dtype, device), *polar_join_args(shape, dtype, device)]


def polar_join_backward_args(shape, dtype, device) -> list:
    grad = normal(*shape, dtype=dtype.to_complex(), device=device, seed=9)
    return [grad, *polar_join_args(shape, dtype, device)]


def step_args(shape, dtype, device, rule=0, real_gradient=True, floor=1e-6) -> list:
    gradient = 0.2 * coefficients(*shape, dtype=dtype, device=device, seed=5)
    c = coefficients(*shape, dtype=dtype, device=device)
    return [c, gradient.real.clone() if real_gradient else gradient, 0.7, rule, floor]


def step_backward_args(shape, dtype, device, **options) -> list:
    grads = [normal(*shape, dtype=dtype, device=device, seed=s) for s in (11, 12)]
    return [*grads, *step_args(shape, dtype, device, **options)]


RULE_NAMES = [f"{name}_rule" for name in RULES]  # for labels


# rule and form: numbers of RULES and FORMS in steerlens_fast/ops/enums.py
def extrapolate_args(
    shape, dtype, device, rule=0, phase=True, amplitude=True, form=0, frames=3, per_plane=False
) -> list:
    steps = [0.2 * normal(*shape, dtype=dtype, device=device, seed=s).clamp(-2, 2) for s in (3, 4)]
    size = (frames, shape[0] if per_plane else 1)
    factors = [image(*size, dtype=dtype, device=device, seed=s) * 1.1 for s in (5, 6)]  # amplitudes stay above 0
    return [
        coefficients(*shape, dtype=dtype, device=device),
        steps[0] if phase else None,
        steps[1] if amplitude else None,
        *factors,
        rule,
        form,
    ]


def extrapolate_backward_args(shape, dtype, device, **options) -> list:
    *inputs, rule, form = extrapolate_args(shape, dtype, device, **options)
    frames = inputs[3].shape[0]
    grad = normal(frames, *shape, dtype=dtype.to_complex() if form else dtype, device=device, seed=13)
    return [grad, *inputs, rule]


MAKERS = {  # in the order of the schema
    "pair": pair_args,
    "split_bands": split_args,
    "polar_split": polar_split_args,
    "polar_split_backward": polar_split_backward_args,
    "polar_join": polar_join_args,
    "polar_join_backward": polar_join_backward_args,
    "step": step_args,
    "step_backward": step_backward_args,
    "extrapolate": extrapolate_args,
    "extrapolate_backward": extrapolate_backward_args,
    "merge_bands": merge_args,
    "unpair": unpair_args,
}
OPS = tuple(MAKERS)
# The other ops have test files of their own
PLANE_OPS = ("split_planes", "merge_planes", "morph_planes")
CPU_PLANE_OPS = ("step_planes", "move_planes")  # on CPUs only. Together, they compute morph_planes
CPU_OPS = (
    "begin_l2_search",
    "advance_l2_search",
    "morph_planes_to_l2",
    "advance_planes",
    "nll_gradient",
)  # also on CPUs only
# Plane ops support float64 only on CPUs. SIMD_WIDTH is 0 if this CPU has no plane ops, or runs emulated CUDA kernels
PLANE_DTYPES = (torch.float32, torch.float64) if native.SIMD_WIDTH else (torch.float32,)
plane_dtypes = pytest.mark.parametrize("dtype", PLANE_DTYPES, ids=str)


def case(op: str, label: str, shape, **options) -> OpCase:
    return OpCase(op, label, lambda dtype, device="cpu": MAKERS[op](shape, dtype, device, **options))


def shapes_of(op: str) -> dict:
    """Return the table of an op's shapes.

    Every table has "odd" and "threads".
    """
    return BANK_SHAPES if "bands" in op else PAIR_SHAPES if "pair" in op else POINT_SHAPES


LABELS_WITH_BOTH_DTYPES = ("even", "odd", "threads")  # other shapes are tested in one dtype
# Every pointwise op is tested with the shapes of these labels. Each other shape is used for every second op
LABELS_FOR_EVERY_OP = ("odd", "1x1", "empty", "threads")


def _op_cases():
    for label, shape in BANK_SHAPES.items():
        if label != "fewer_planes":
            yield case("split_bands", label, shape)
        yield case("merge_bands", label, shape)
    for op, label, paired in covering(product(("split_bands", "merge_bands"), WHOLE_SHAPES, (False, True))):
        if op == "merge_bands" or label != "fewer_planes":
            name = f"{'pairs' if paired else 'whole'}_{label}"
            yield case(op, name, WHOLE_SHAPES[label], whole=True, paired=paired)
    for label, shape in PAIR_SHAPES.items():
        yield case("pair", label, shape)
        if label in ("even", "odd", "empty", "threads"):  # few, since complex planes use the kernel of real ones
            yield case("pair", f"complex_{label}", shape, complex_planes=True)
        yield case("unpair", label, shape)
    for i, op in enumerate(op for op in OPS if "bands" not in op and "pair" not in op):
        others = [label for label in POINT_SHAPES if label not in LABELS_FOR_EVERY_OP][i % 2 :: 2]
        yield from (case(op, label, POINT_SHAPES[label]) for label in (*LABELS_FOR_EVERY_OP, *others))
    # Bands larger than a block of the kernel
    yield case("extrapolate", "threads_pairs", POINT_SHAPES["threads"], form=2)
    yield from _option_cases(POINT_SHAPES["odd"])


def _option_cases(shape):
    for op in ("step", "step_backward"):
        for rule, real, floor in covering(product((0, 1), (True, False), (0.0, 0.4))):
            label = f"{RULE_NAMES[rule]}_{'real' if real else 'complex'}_gradient_floor{floor}"
            yield case(op, label, shape, rule=rule, real_gradient=real, floor=floor)
    for op in ("extrapolate", "extrapolate_backward"):
        forms = {0: "", 1: "_as_complex", 2: "_as_pairs"} if op == "extrapolate" else {0: "", 1: "_as_complex"}
        # Every combination, since each has its own kernel
        for rule, phase, amplitude, form in product((0, 1), (True, False), (True, False), forms):
            moves = "_".join(["phase"] * phase + ["amplitude"] * amplitude) or "still"
            label = f"{RULE_NAMES[rule]}_{moves}{forms[form]}"
            yield case(op, label, shape, rule=rule, phase=phase, amplitude=amplitude, form=form)
        for frames, per_plane, rule, form in covering(product((0, 1, 17), (True, False), (0, 1), forms)):
            label = f"{RULE_NAMES[rule]}_F{frames}_{'N' if per_plane else '1'}{forms[form]}"
            yield case(op, label, shape, frames=frames, per_plane=per_plane, rule=rule, form=form)
    for label in ("prime", "K1"):  # an odd number of orientations: the last one of a plane has no partner
        yield case("extrapolate", f"pairs_{label}", POINT_SHAPES[label], form=2)


OP_CASES = list(_op_cases())


def with_dtypes(cases: list[OpCase]) -> list[tuple[OpCase, torch.dtype]]:
    """Return (case, dtype). The dtypes float32 and float64 alternate, except where a shape is tested in both."""
    chosen = lambda i, case: DTYPES if case.label in LABELS_WITH_BOTH_DTYPES else [DTYPES[i % 2]]
    return [(case, dtype) for i, case in enumerate(cases) for dtype in chosen(i, case)]


# --- One case of each op and option, small enough for numerical derivatives

SMALL = (2, 1, 2, 3)
# What changes from frame to frame; "still": nothing
MOVES = {"phase": (True, False), "amplitude": (False, True), "joint": (True, True), "still": (False, False)}
FORMS_OF = {"extrapolate": ("real", "complex", "pairs"), "extrapolate_backward": ("real", "complex")}


def _small_cases():
    odd, pairs = BankShape(2, 5, 4, [full(2, 5, 4), half(1, 3, 2)]), BankShape(2, 5, 4, [full(3, 5, 4)])
    whole = BankShape(2, 5, 4, [full(2, 5, 4), full(1, 3, 2)])
    yield case("split_bands", "odd", odd)
    yield case("split_bands", "1x1", BANK_SHAPES["1x1"])
    yield case("split_bands", "whole", whole, whole=True)
    yield case("split_bands", "pairs", pairs, whole=True, paired=True)
    fewer_planes = lambda shape: shape._replace(
        groups=[*shape.groups[:-1], shape.groups[-1]._replace(planes_in_merge=1)]
    )
    yield case("merge_bands", "odd", fewer_planes(odd))
    yield case("merge_bands", "1x6", BANK_SHAPES["1x6"])
    yield case("merge_bands", "whole", fewer_planes(whole), whole=True)
    yield case("merge_bands", "pairs", fewer_planes(pairs), whole=True, paired=True)
    yield case("pair", "", PairShape((3, 2), 3))
    yield case("pair", "complex", PairShape((4, 2), 2), complex_planes=True)
    yield case("unpair", "", PairShape((6, 2), 3))
    for op in ("polar_split", "polar_split_backward", "polar_join", "polar_join_backward"):
        yield case(op, "", SMALL)
    for rule, real, op in product((0, 1), (True, False), ("step", "step_backward")):
        label = f"{RULE_NAMES[rule]}_{'real' if real else 'complex'}_gradient"
        yield case(op, label, SMALL, rule=rule, real_gradient=real, floor=0.3)
    combinations = ((op, *rest) for op, forms in FORMS_OF.items() for rest in product((0, 1), MOVES, forms))
    for op, rule, moves, form in covering(combinations):
        phase, amplitude = MOVES[moves]
        options = {"rule": rule, "form": FORMS_OF["extrapolate"].index(form), "phase": phase, "amplitude": amplitude}
        shape = (1, 3, 1, 2) if form == "pairs" else SMALL
        label = f"{RULE_NAMES[rule]}_{moves}_as_{form}"
        yield case(op, label, shape, frames=2, per_plane=form == "complex", **options)


SMALL_CASES = {str(c): c for c in _small_cases()}


# --- Results


def as_list(outputs) -> list:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def without_jumps(op: str, double_args: list, outputs) -> list:
    """Return the outputs of an op, with amplitude * exp(i phase) in place of phases, which jump from pi to -pi.

    ``double_args`` are the op's arguments in double precision.
    """
    outputs = as_list(outputs)
    if op == "polar_split":
        amplitude, phase = outputs
        return [amplitude, torch.polar(double_args[0].abs().to(phase), phase)]
    if op == "step" and double_args[3] == 0:  # rule "complex"
        phase, amplitude = outputs
        c, gradient, eps = double_args[:3]
        return [torch.polar((c - eps * gradient).abs().to(phase), phase), amplitude]
    return outputs


def leaves_of(args: list, op: str) -> tuple[list, list]:
    """Return the arguments with differentiable tensors as leaves of autograd, and these leaves.

    Masks are constants.
    """
    leaves = []

    def leaf(t):
        leaves.append(t.detach().requires_grad_())
        return leaves[-1]

    if "bands" in op:
        return [*on_tensors(leaf, args[:1]), *args[1:]], leaves
    return on_tensors(leaf, args), leaves


def check_rejected(op, args: list, message: str, meta: bool = True):
    """Check that an op raises a RuntimeError with this message, also for meta tensors if ``meta``."""
    for values in [args, on_tensors(lambda t: t.to("meta"), args)][: 1 + meta]:
        with pytest.raises(RuntimeError, match=message):
            op(*values)
