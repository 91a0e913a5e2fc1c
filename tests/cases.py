"""Inputs for tests in several files: shapes, arguments of every op, and tensors with unusual memory layouts."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from pairwise import covering
from torch import Tensor

from steerlens_fast import native

RAW = torch.ops.steerlens_fast  # only tests bypass ops/, to pass the kernels what its wrappers would not

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())

# --- Sizes

IMAGE_SHAPES = [
    (8, 8),
    (8, 13),
    (9, 8),
    (16, 16),
    (17, 31),
    (32, 48),
    (37, 53),
    (64, 64),
    (97, 101),
    (224, 224),
]
SMALL_IMAGES = [(8, 8), (9, 11), (16, 24), (23, 29)]

# Shapes [N, K, h, w] of coefficients
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

# (N, H, W, groups): N planes of H x W; a group is (K, h, w, layout, number of its planes in merge_bands)
BANK_SHAPES = {
    "even": (
        2,
        16,
        12,
        [(4, 16, 12, "full", 2), (4, 8, 6, "full", 2), (1, 16, 12, "half", 2), (1, 4, 3, "half", 2)],
    ),
    "odd": (
        3,
        15,
        9,
        [(2, 15, 9, "full", 3), (2, 8, 5, "full", 3), (2, 8, 5, "half", 3), (1, 4, 3, "half", 3)],
    ),
    "prime": (2, 13, 17, [(3, 13, 17, "full", 2), (3, 7, 9, "half", 2)]),
    "odd_in_even": (2, 14, 10, [(2, 7, 5, "full", 2), (2, 7, 5, "half", 2)]),
    "even_in_odd": (2, 13, 11, [(2, 6, 4, "full", 2), (2, 6, 4, "half", 2)]),
    "1x1": (1, 1, 1, [(1, 1, 1, "full", 1)]),
    "1x6": (2, 1, 6, [(2, 1, 6, "full", 2), (1, 1, 3, "full", 2), (1, 1, 1, "half", 2)]),
    "6x1": (2, 6, 1, [(2, 6, 1, "full", 2), (1, 3, 1, "half", 2)]),
    "2x2": (2, 2, 2, [(2, 2, 2, "full", 2), (2, 1, 1, "full", 2), (1, 2, 2, "half", 2)]),
    "8x8": (1, 8, 8, [(4, 8, 8, "full", 1), (4, 4, 4, "half", 1)]),
    "K1": (2, 9, 8, [(1, 9, 8, "full", 2)]),
    "K0": (2, 8, 8, [(0, 8, 8, "full", 2), (1, 4, 4, "half", 2)]),
    "empty": (0, 8, 6, [(4, 8, 6, "full", 0), (1, 4, 3, "half", 0)]),
    "fewer_planes": (6, 8, 10, [(2, 8, 10, "full", 6), (2, 4, 5, "half", 3), (1, 8, 10, "half", 1)]),
    "threads": (4, 64, 96, [(4, 64, 96, "full", 4), (4, 32, 48, "half", 2)]),
}


# The same for whole spectra and for bands in pairs, which have full layouts
WHOLE_SHAPES = {
    "even": (2, 16, 12, [(4, 16, 12, "full", 2), (4, 8, 6, "full", 2), (1, 4, 3, "full", 2)]),
    "odd": (3, 15, 9, [(2, 15, 9, "full", 3), (2, 8, 5, "full", 3), (1, 4, 3, "full", 3)]),
    "mixed": (2, 13, 11, [(2, 6, 4, "full", 2), (2, 7, 6, "full", 2)]),
    "narrow": (2, 5, 3, [(2, 5, 3, "full", 2), (1, 3, 2, "full", 2), (1, 1, 1, "full", 2)]),
    "1x2": (2, 1, 2, [(2, 1, 2, "full", 2), (1, 1, 1, "full", 2)]),
    "2x1": (2, 2, 1, [(2, 2, 1, "full", 2)]),
    "K0": (2, 8, 8, [(0, 8, 8, "full", 2), (1, 4, 4, "full", 2)]),
    "empty": (0, 8, 6, [(4, 8, 6, "full", 0)]),
    "fewer_planes": (6, 8, 10, [(2, 8, 10, "full", 6), (2, 4, 5, "full", 3), (1, 8, 10, "full", 1)]),
    "threads": (4, 64, 96, [(4, 64, 96, "full", 4), (4, 32, 48, "full", 2)]),
}
# (shape of planes, length of their runs)
PAIR_SHAPES = {
    "even": ((4, 5, 7), 4),
    "odd": ((3, 5, 7), 3),
    "odd_runs": ((9, 2, 3), 3),
    "runs": ((6, 4, 4), 2),
    "single": ((1, 6, 6), 1),
    "singles": ((4, 3), 1),
    "one_pair": ((2, 3, 5), 2),
    "flat": ((5,), 5),
    "empty": ((0, 4, 4), 3),
    "no_run": ((0, 4, 4), 0),
    "no_area": ((2, 0, 4), 2),
    "threads": ((4, 130, 131), 4),
}


def image(*shape: int, dtype=torch.float64, device="cpu", seed: int = 0) -> Tensor:
    """A random image in [0, 1]; the same numbers on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def normal(*shape: int, dtype=torch.float64, device="cpu", seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=wide(dtype)).to(device, dtype)


def coefficients(*shape: int, dtype=torch.float64, device="cpu", seed: int = 2) -> Tensor:
    """Complex numbers with amplitudes from 0.5 to 2: no op has a kink there."""
    amplitude, turn = image(*shape, seed=seed) * 1.5 + 0.5, image(*shape, seed=seed + 100)
    return torch.polar(amplitude, 2 * torch.pi * turn).to(device, dtype.to_complex())


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


def widened(value):
    """Return arguments for the reference: contiguous, in double precision, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().clone().resolve_conj().resolve_neg().contiguous().cpu().to(wide(value.dtype))
    if isinstance(value, (list, tuple)):
        return [widened(v) for v in value]
    return value


# --- Every op's arguments


@dataclass(frozen=True)
class OpCase:
    """One op and its arguments, made by ``build(dtype, device)``."""

    op: str
    label: str
    build: Callable[..., list]

    def __str__(self):
        return f"{self.op}-{self.label}"


def masks_of(shape, dtype, device) -> list[Tensor]:
    """Random masks that are nonzero everywhere, also at frequency 0 and at the Nyquist frequency."""
    _, _, _, groups = shape
    sizes = [(k, h, w if layout == "full" else w // 2 + 1) for k, h, w, layout, _ in groups]
    return [image(*size, dtype=dtype, device=device, seed=i) + 0.5 for i, size in enumerate(sizes)]


def pair_args(shape, dtype, device, complex_planes=False) -> list:
    sizes, run = shape
    return [normal(*sizes, dtype=dtype.to_complex() if complex_planes else dtype, device=device), run]


def unpair_args(shape, dtype, device) -> list:
    (planes, *area), run = shape
    pairs = planes // max(run, 1) * ((run + 1) // 2)
    return [normal(pairs, *area, dtype=dtype.to_complex(), device=device), run]


def split_args(shape, dtype, device, whole=False, paired=False) -> list:
    n, H, W, groups = shape
    spectrum = normal(n, H, W if whole else W // 2 + 1, dtype=dtype.to_complex(), device=device)
    i_powers, widths = [(i + 1) % 4 for i in range(len(groups))], [g[2] for g in groups]
    return [spectrum, masks_of(shape, dtype, device), i_powers, widths, W, paired]


def merge_args(shape, dtype, device, whole=False, paired=False) -> list:
    _, H, W, groups = shape
    masks = masks_of(shape, dtype, device)
    stored = lambda K: (K + 1) // 2 if paired else K
    bands = [
        normal(g[4], stored(mask.shape[0]), *mask.shape[1:], dtype=dtype.to_complex(), device=device, seed=i)
        for i, (g, mask) in enumerate(zip(groups, masks))
    ]
    i_powers, widths = [(i + 3) % 4 for i in range(len(groups))], [g[2] for g in groups]
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
# Ops that have kernels for CPUs only; they have tests of their own
CPU_OPS = ("begin_l2_search", "advance_l2_search", "morph_planes_to_l2", "advance_planes", "nll_gradient")
# Ops that have tests of their own
PLANE_OPS = ("split_planes", "merge_planes", "morph_planes")
CPU_PLANE_OPS = ("step_planes", "move_planes")  # the halves of morph_planes, on CPUs only
PLANE_DTYPES = (torch.float32, torch.float64) if native.SIMD_WIDTH else (torch.float32,)
plane_dtypes = pytest.mark.parametrize("dtype", PLANE_DTYPES, ids=str)


def case(op: str, label: str, shape, **options) -> OpCase:
    return OpCase(op, label, lambda dtype, device="cpu": MAKERS[op](shape, dtype, device, **options))


def shapes_of(op: str) -> dict:
    """Return the table of an op's shapes.

    Every table has "odd" and "threads".
    """
    return BANK_SHAPES if "bands" in op else PAIR_SHAPES if "pair" in op else POINT_SHAPES


BOTH_DTYPES = ("even", "odd", "threads")
SHAPES_OF_ALL = ("odd", "1x1", "empty", "threads")  # used by every pointwise op; other shapes alternate between ops


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
        if label in ("even", "odd", "empty", "threads"):  # the kernel is that of real planes
            yield case("pair", f"complex_{label}", shape, complex_planes=True)
        yield case("unpair", label, shape)
    for i, op in enumerate(op for op in OPS if "bands" not in op and "pair" not in op):
        others = [label for label in POINT_SHAPES if label not in SHAPES_OF_ALL][i % 2 :: 2]
        yield from (case(op, label, POINT_SHAPES[label]) for label in (*SHAPES_OF_ALL, *others))
    yield case("extrapolate", "threads_pairs", POINT_SHAPES["threads"], form=2)  # bands of several blocks
    yield from _option_cases(POINT_SHAPES["odd"])


def _option_cases(shape):
    for op in ("step", "step_backward"):
        for rule, real, floor in covering(product((0, 1), (True, False), (0.0, 0.4))):
            label = f"rule{rule}_{'real' if real else 'complex'}_floor{floor}"
            yield case(op, label, shape, rule=rule, real_gradient=real, floor=floor)
    for op in ("extrapolate", "extrapolate_backward"):
        forms = {0: "", 1: "_complex", 2: "_pairs"} if op == "extrapolate" else {0: "", 1: "_complex"}
        for rule, phase, amplitude, form in product(
            (0, 1), (True, False), (True, False), forms
        ):  # kernels of their own
            moves = "_".join(["phase"] * phase + ["amplitude"] * amplitude) or "still"
            label = f"rule{rule}_{moves}{forms[form]}"
            yield case(op, label, shape, rule=rule, phase=phase, amplitude=amplitude, form=form)
        for frames, per_plane, rule, form in covering(product((0, 1, 17), (True, False), (0, 1), forms)):
            label = f"rule{rule}_F{frames}_{'N' if per_plane else '1'}{forms[form]}"
            yield case(op, label, shape, frames=frames, per_plane=per_plane, rule=rule, form=form)
    for label in ("prime", "K1"):  # an odd number of orientations: the last one of a plane has no partner
        yield case("extrapolate", f"pairs_{label}", POINT_SHAPES[label], form=2)


OP_CASES = list(_op_cases())


def with_dtypes(cases: list[OpCase]) -> list[tuple[OpCase, torch.dtype]]:
    """Return (case, dtype).

    The dtypes float32 and float64 alternate, but the first and the largest shape have both.
    """
    dtypes = list(DTYPES)
    return [
        (c, dtype) for i, c in enumerate(cases) for dtype in (dtypes if c.label in BOTH_DTYPES else [dtypes[i % 2]])
    ]


# --- Tensors with unusual memory layouts


def strided(t: Tensor) -> Tensor:
    return torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0]


def transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT if t.dim() > 1 else t


def misaligned(t: Tensor) -> Tensor:
    """Return a contiguous copy whose address is not a multiple of 16."""
    return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)


def expanded(t: Tensor) -> Tensor:
    """Return a tensor with stride 0 in the first and the last dimension."""
    return t[:1, ..., :1].expand(t.shape) if t.dim() > 1 and t.numel() else t


def lazy(t: Tensor) -> Tensor:
    """Return a view of which torch has postponed the conjugation (complex numbers) or the negation (real ones)."""
    return t.conj() if t.is_complex() else torch.complex(t.new_zeros(t.shape), -t).conj().imag


ODD_LAYOUTS = {f.__name__: f for f in (strided, transposed, misaligned, expanded, lazy)}


def on_tensors(function, args: list) -> list:
    """Return the arguments with ``function`` applied to every tensor, also in lists."""
    if isinstance(args, Tensor):
        return function(args)
    return [on_tensors(function, a) if isinstance(a, (Tensor, list)) else a for a in args]
