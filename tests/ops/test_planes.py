"""split_planes and merge_planes, on CPUs that have them."""

import itertools
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import torch
from inputs import ODD_LAYOUTS, image, in_double, normal, on_tensors
from op_cases import CPU_PLANE_OPS, PLANE_DTYPES, PLANE_OPS, RAW, PlaneShape, check_rejected, plane_dtypes
from pairwise import pairwise
from tolerances import TOLERANCES, all_equal, assert_close

from steerlens_fast import CSPFamily, SteerablePyramid, memory, native, ops
from steerlens_fast.ops import reference
from steerlens_fast.pyramid import backend, bank
from steerlens_fast.pyramid.bank import Bank, Part
from steerlens_fast.pyramid.filters import Geometry, max_scales

pytestmark = pytest.mark.skipif(not native.LARGEST_PLANE_SIDE["cpu"], reason="this CPU has no ops on whole planes")
# Emulated CUDA kernels leave SIMD_WIDTH at 0, but not LARGEST_PLANE_SIDE. They lack threads, float64, widened bands,
# large sides, streaming stores
of_cpu_kernels = pytest.mark.skipif(not native.SIMD_WIDTH, reason="the CPU's kernels are replaced")
REAL, COMPLEX, PAIRS = 0, 1, 2
STREAMED_BYTES = 16 << 20  # larger results are written with non-temporal stores

SHAPES = {
    "even": PlaneShape(2, 32, 24, [(4, 32, 24), (3, 16, 12), (1, 8, 6)]),
    "odd": PlaneShape(3, 35, 27, [(3, 35, 27), (2, 18, 14), (1, 9, 7)]),
    "primes": PlaneShape(2, 37, 53, [(2, 37, 53), (3, 19, 27), (1, 11, 13)]),
    "largest_prime": PlaneShape(1, 61, 59, [(2, 61, 59), (1, 31, 30)]),
    "odd_in_even": PlaneShape(2, 18, 34, [(2, 9, 17), (1, 5, 3)]),
    "even_in_odd": PlaneShape(2, 33, 35, [(2, 16, 18), (1, 6, 4)]),
    "whole_blocks": PlaneShape(2, 48, 16, [(4, 48, 16), (1, 16, 16)]),
    "1x1": PlaneShape(2, 1, 1, [(2, 1, 1)]),
    "1x6": PlaneShape(2, 1, 6, [(2, 1, 6), (1, 1, 3)]),
    "6x1": PlaneShape(2, 6, 1, [(3, 6, 1), (1, 3, 1)]),
    "2x2": PlaneShape(2, 2, 2, [(2, 2, 2), (1, 1, 1)]),
    "K0": PlaneShape(2, 8, 8, [(0, 8, 8), (1, 4, 4)]),
    "empty": PlaneShape(0, 16, 12, [(4, 16, 12)]),
    "threads": PlaneShape(27, 100, 96, [(4, 100, 96), (1, 50, 48)]),
    "shared": PlaneShape(5, 192, 176, [(3, 192, 176), (1, 96, 88)]),  # threads share each plane
}
FORMS = {"real": REAL, "complex": COMPLEX, "pairs": PAIRS}


@dataclass(frozen=True)
class PlaneCase:
    """Arguments of both ops for one shape."""

    shape: PlaneShape
    form: int
    dtype: torch.dtype = torch.float32

    @property
    def size(self) -> tuple:
        return self.shape.H, self.shape.W

    def filters(self) -> list:
        """Random, nonzero at every frequency."""
        return [image(*size, dtype=self.dtype, seed=i) + 0.5 for i, size in enumerate(self.shape.groups)]

    def spec(self) -> list:
        """(i_powers, forms)."""
        groups = len(self.shape.groups)
        return [[(i + 1) % 4 for i in range(groups)], [self.form] * groups]

    def planes(self) -> torch.Tensor:
        return normal(self.shape.N, *self.size, dtype=self.dtype)

    def split(self) -> list:
        i_powers, forms = self.spec()
        split_forms = [REAL if form == PAIRS else form for form in forms]  # split_planes returns no pairs
        return [self.planes(), self.filters(), i_powers, split_forms]

    def bands(self, complex_bands: bool = False) -> list:
        """Random; with ``complex_bands``, also complex for form REAL, which reads their real parts."""
        stored = lambda K: (K + 1) // 2 if self.form == PAIRS else K
        dtype = self.dtype.to_complex() if complex_bands or self.form != REAL else self.dtype
        return [
            normal(self.shape.N, stored(K), h, w, dtype=dtype, seed=i) for i, (K, h, w) in enumerate(self.shape.groups)
        ]

    def merge(self, residuals: int = 0, complex_bands: bool = False) -> list:
        residual = normal(residuals, *self.size, dtype=self.dtype, seed=9) if residuals else None
        return [self.bands(complex_bands), self.filters(), *self.spec(), residual, *self.size]


CASES = {f"{name}-{form}": PlaneCase(s, f) for name, s in SHAPES.items() for form, f in FORMS.items()}
SPLITS = {label: case for label, case in CASES.items() if case.form != PAIRS}
of_split = pytest.mark.parametrize("case", SPLITS.values(), ids=SPLITS)
of_merge = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# Most shapes are tested in at most one form, since the derivative of each op is the other op, which is tested, too.
DERIVATIVES = {label: CASES[label] for i, label in enumerate(CASES) if i % 4 == 0 or label.startswith(("odd-", "1x6-"))}


# --- Against the reference


@plane_dtypes
@of_split
def test_split_planes_agrees_with_the_reference_and_is_the_adjoint_of_merge_planes(case, dtype):
    case = replace(case, dtype=dtype)
    actual, expected = RAW.split_planes(*case.split()), reference.split_planes(*in_double(case.split()))
    assert_meta(RAW.split_planes, case.split(), actual)
    for a, e in zip(actual, expected, strict=True):
        assert a.is_contiguous() and a.dtype == (dtype.to_complex() if case.form == COMPLEX else dtype)
        assert_close(a, e, "pyramid")
    assert_adjoint(case)


@of_cpu_kernels
@pytest.mark.parametrize("label", ["even-real", "odd-real", "1x6-real", "threads-real"])
def test_widened_bands_are_the_real_ones_with_imaginary_parts_0(label):
    planes, filters, i_powers, forms = CASES[label].split()
    widened_forms = [ops.enums.SPLIT_FORMS["widened"]] * len(forms)
    actual = RAW.split_planes(planes.requires_grad_(), filters, i_powers, widened_forms)
    real = RAW.split_planes(planes, filters, i_powers, forms)
    assert_meta(RAW.split_planes, [planes, filters, i_powers, widened_forms], actual)
    for a, e in zip(actual, real, strict=True):
        assert torch.equal(torch.view_as_real(a), torch.stack([e, torch.zeros_like(e)], -1))
    cotangents = [torch.randn_like(band) for band in actual]
    (grad,) = torch.autograd.grad(actual, planes, cotangents)
    (expected,) = torch.autograd.grad(real, planes, [c.real for c in cotangents])
    assert torch.equal(grad, expected)


def assert_meta(op, args: list, outputs) -> None:
    """Compare shape, dtype and strides of meta tensors with those of ``outputs``."""
    described = lambda out: [(t.shape, t.dtype, t.stride()) for t in ([out] if isinstance(out, torch.Tensor) else out)]
    assert described(op(*on_tensors(lambda t: t.to("meta"), args))) == described(outputs)


@plane_dtypes
@of_merge
def test_merge_planes_agrees_with_the_reference(case, dtype):
    case = replace(case, dtype=dtype)
    n = case.shape.N
    for residuals, complex_bands in itertools.product({0, n, min(n, 1)}, {False, case.form == REAL}):
        args = case.merge(residuals, complex_bands)
        actual, expected = RAW.merge_planes(*args), reference.merge_planes(*in_double(args))
        assert_meta(RAW.merge_planes, args, actual)
        assert actual.is_contiguous() and actual.dtype == dtype
        assert_close(actual, expected, "pyramid")


@plane_dtypes
@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_memory_layout_does_not_matter(layout, dtype):
    case = replace(CASES["odd-complex"], dtype=dtype)
    for op, args in (("split_planes", case.split()), ("merge_planes", case.merge(residuals=1))):
        args = on_tensors(ODD_LAYOUTS[layout], args)
        actual, expected = getattr(RAW, op)(*args), getattr(reference, op)(*in_double(args))
        for a, e in zip(*([o] if isinstance(o, torch.Tensor) else o for o in (actual, expected))):
            assert_close(a, e, "pyramid")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_inf_stay_in_their_plane(bad):
    case = CASES["even-complex"]
    planes, *options = case.split()
    planes[1, 3, 4] = bad
    for band, clean in zip(RAW.split_planes(planes, *options), RAW.split_planes(*case.split())):
        assert torch.equal(band[0], clean[0]) and not band[1].isfinite().any()
    args = case.merge()
    args[0][1][1, 2, 3, 4] = bad
    out, clean = RAW.merge_planes(*args), RAW.merge_planes(*case.merge())
    assert torch.equal(out[0], clean[0]) and out[1].isnan().all()


# --- Derivatives


def assert_adjoint(case):
    """Check that <split x, y> = <x, merge y>."""
    planes, filters, i_powers, forms = case.split()
    bands = [torch.randn_like(b) for b in RAW.split_planes(planes, filters, i_powers, forms)]
    back = RAW.merge_planes(bands, filters, [-power % 4 for power in i_powers], forms, None, *case.size)
    forth = RAW.split_planes(planes, filters, i_powers, forms)
    inner = lambda x, y: (x.to(y.dtype).conj() * y).real.double().sum().item() if x.numel() else 0.0
    left, right = sum(inner(f, b) for f, b in zip(forth, bands)), inner(planes, back)
    norms = sum(f.norm().item() * b.norm().item() for f, b in zip(forth, bands))
    assert abs(left - right) <= TOLERANCES["adjoint"].of(case.dtype) * max(norms, 1e-30)


def gradients(function, args: list, cotangents=None):
    """Return the gradients of the leaves (planes, or bands and residual), and the cotangents of the outputs."""
    leaf = lambda t: t.detach().requires_grad_()
    # Argument 0: planes or bands. Argument 4: the residual of merge_planes.
    arguments = [on_tensors(leaf, [a])[0] if i in (0, 4) else a for i, a in enumerate(args)]
    leaves = [
        t for a in (arguments[0], *arguments[4:5]) for t in (a if isinstance(a, list) else [a]) if hasattr(t, "shape")
    ]
    out = function(*arguments)
    out = [out] if isinstance(out, torch.Tensor) else list(out)
    cotangents = cotangents or [torch.randn_like(o) for o in out]
    return torch.autograd.grad(out, leaves, cotangents), cotangents


@plane_dtypes
@pytest.mark.parametrize("case", DERIVATIVES.values(), ids=DERIVATIVES)
def test_gradients_are_those_of_the_reference(case, dtype):
    case = replace(case, dtype=dtype)
    named = [("merge_planes", case.merge(residuals=case.shape.N))]
    named += [("split_planes", case.split())] if case.form != PAIRS else []
    for op, args in named:
        actual, cotangents = gradients(getattr(RAW, op), args)
        expected, _ = gradients(getattr(reference, op), in_double(args), in_double(cotangents))
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e, "pyramid")


@of_cpu_kernels
@pytest.mark.parametrize("label", ["even-complex", "odd-real", "1x6-pairs"])
def test_derivatives_agree_with_numerical_ones(label):
    case = replace(CASES[label], dtype=torch.float64)
    leaf = lambda t: t.requires_grad_()
    bands, filters, i_powers, forms, residual, *sizes = case.merge(residuals=1)
    merge = lambda residual, *bands: RAW.merge_planes(bands, filters, i_powers, forms, residual, *sizes)
    assert torch.autograd.gradcheck(merge, [leaf(residual), *map(leaf, bands)], fast_mode=True)
    planes, *options = case.split()
    assert torch.autograd.gradcheck(lambda x: RAW.split_planes(x, *options), leaf(planes), fast_mode=True)


def test_derivative_of_the_gradient_is_the_op():
    case = CASES["odd-complex"]
    x, *options = case.split()
    x.requires_grad_()
    outs = RAW.split_planes(x, *options)
    cotangents = [torch.randn_like(o).requires_grad_() for o in outs]
    (grad,) = torch.autograd.grad(outs, x, cotangents, create_graph=True)
    v = torch.randn_like(x)
    for a, e in zip(torch.autograd.grad(grad, cotangents, v), RAW.split_planes(v, *options)):
        assert_close(a, e, "pyramid")


def test_filters_that_require_grad_raise():
    case = CASES["even-complex"]
    x, filters, *options = case.split()
    filters[0].requires_grad_()
    with pytest.raises(RuntimeError, match="constants"):
        RAW.split_planes(x.requires_grad_(), filters, *options)[0].abs().sum().backward()


@pytest.mark.parametrize("label", ["odd-real", "odd-complex", "odd-pairs"])
def test_opcheck_finds_no_errors(label):
    case = CASES[label]
    leaf = lambda t: t.requires_grad_()
    if case.form != PAIRS:
        args = case.split()
        torch.library.opcheck(RAW.split_planes.default, [leaf(args[0]), *args[1:]])
    args = case.merge(residuals=1)
    torch.library.opcheck(RAW.merge_planes.default, [[leaf(b) for b in args[0]], *args[1:]])


# --- Equal bit for bit, however the work is divided


def one_plane(op: str, args: list, i: int) -> list:
    """Return the arguments of plane i alone."""
    first = args[0][i : i + 1] if op == "split_planes" else [b[i : i + 1] for b in args[0]]
    return [first, *args[1:]]


def outputs_of(op: str, args: list) -> list:
    out = getattr(RAW, op)(*args)
    return [out] if isinstance(out, torch.Tensor) else out


THREADED = [label for label in CASES if label.startswith(("threads-", "shared-"))]


@plane_dtypes
@pytest.mark.parametrize("label", ["even-complex", "odd-real", *THREADED])
def test_results_do_not_depend_on_threads_and_other_planes(label, dtype):
    case, before = replace(CASES[label], dtype=dtype), torch.get_num_threads()
    named = [("merge_planes", case.merge(residuals=1))] + (
        [("split_planes", case.split())] if case.form != PAIRS else []
    )
    for op, args in named:
        results = []
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(outputs_of(op, args))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
        for i in range(case.shape.N):
            alone = outputs_of(op, one_plane(op, args, i))
            assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, results[0], strict=True))


@of_cpu_kernels
def test_parallel_regions_are_few():
    """There is one region for the filters, and one for everything else."""
    case = CASES["shared-complex"]
    for op, args in (("split_planes", case.split()), ("merge_planes", case.merge())):
        before = native.parallel_regions()
        with memory.threads(2):
            outputs_of(op, args)
        assert native.parallel_regions() - before == 2


@of_cpu_kernels
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_that_share_a_plane_agree_with_the_reference(threads):
    case, before = PlaneCase(PlaneShape(1, 512, 500, [(2, 512, 500), (1, 256, 250)]), REAL), torch.get_num_threads()
    for op, args in (("split_planes", case.split()), ("merge_planes", case.merge(residuals=1))):
        torch.set_num_threads(threads)
        try:
            actual = outputs_of(op, args)
        finally:
            torch.set_num_threads(before)
        expected = getattr(reference, op)(*in_double(args))
        for a, e in zip(actual, [expected] if isinstance(expected, torch.Tensor) else expected, strict=True):
            assert_close(a, e, "pyramid")


@of_cpu_kernels
@plane_dtypes
@pytest.mark.parametrize("op, planes", [("split_planes", 40), ("merge_planes", 264)])
@pytest.mark.parametrize("width", [128, 132])
def test_large_streamed_results_are_those_of_single_planes(op, planes, width, dtype):
    case = PlaneCase(PlaneShape(planes, 128, width, [(4 if op == "split_planes" else 1, 128, width)]), COMPLEX, dtype)
    args = case.split() if op == "split_planes" else case.merge()
    (whole,) = outputs_of(op, args)
    assert whole.nbytes > STREAMED_BYTES
    for i in range(planes):
        assert torch.equal(outputs_of(op, one_plane(op, args, i))[0][0], whole[i])


@pairwise(shape=[(28, 28), (45, 35), (64, 90)], kind=bank.KINDS, dtype=PLANE_DTYPES)
def test_results_of_banks_do_not_depend_on_the_backend(kind, shape, dtype, monkeypatch, op_calls):
    geometry = Geometry(shape, max_scales(shape), 3, 5, 1.0, False, True)
    parts = (Part("highpass"), Part(0), Part(1, (0, 2, 3)), Part("lowpass"))
    bank_, x = Bank(geometry, kind, parts), image(3, *shape, dtype=dtype)
    bands = bank_.split(x)
    back = bank_.merge(bands)
    assert op_calls == {"split_planes": 1, "merge_planes": 1}
    monkeypatch.setitem(native.LARGEST_PLANE_SIDE, "cpu", 0)
    for a, e in zip(bands, bank_.split(x), strict=True):
        assert_close(a, e, "pyramid")
    assert_close(back, bank_.merge(bands), "pyramid")
    assert op_calls == {"split_planes": 1, "merge_planes": 1}


@pytest.fixture
def op_calls(monkeypatch) -> Counter:
    """The number of calls of each op."""
    calls = Counter()
    for name in PLANE_OPS + CPU_PLANE_OPS:
        op = getattr(ops, name)
        counted = lambda *args, op=op, name=name: (calls.update([name]), op(*args))[1]
        monkeypatch.setattr(ops, name, counted)
    return calls


@pytest.mark.parametrize("kind", ["analysis", "adjoint"])
def test_complex_residuals_raise(kind):
    bank_ = Bank(Geometry((32, 32), 1, 3, 4, 1.0, False, True), kind, (Part("highpass"), Part(0)))
    bands = [torch.rand(1, 1, 32, 32) + 0j, torch.rand(1, 4, 32, 32) + 0j]
    for wide in (False, True):
        with pytest.raises((RuntimeError, TypeError), match="real"):
            bank_.merge([b.to(torch.complex128) if wide else b for b in bands])


@pytest.mark.parametrize("synthesis", ["real", "adjoint"])
def test_gradients_of_a_morph_are_those_of_float64(synthesis, op_calls):
    family = CSPFamily(SteerablePyramid((32, 30), synthesis=synthesis), "joint")
    x, g = (f(2, 32, 30, dtype=torch.float32).requires_grad_() for f in (image, normal))
    wide_x, wide_g = (in_double(t).requires_grad_() for t in (x, g))
    grads = [
        torch.autograd.grad(family.prepare(*pair).render([0.5, 1.0]).square().sum(), pair)
        for pair in ((x, g), (wide_x, wide_g))
    ]
    # In each precision that has plane ops, two analyses (image and gradient) and one synthesis (frames).
    precisions = 2 if native.SIMD_WIDTH else 1  # emulated CUDA kernels take only float32
    assert op_calls == {"split_planes": 2 * precisions, "merge_planes": precisions}
    for a, e in zip(*grads):
        assert_close(a, e, "render")


@of_cpu_kernels
def test_plane_ops_support_the_documented_sizes_dtypes_and_devices():
    """Sides have no prime factor above 61. Planes have at most 2^24 pixels (backend.LARGEST_PLANE)."""
    supported = lambda shape, t: backend.plane_ops_supported(Geometry(shape, 1, 3, 4, 1.0, False, True), t)
    x = torch.rand(2, 32, 32)
    assert supported((32, 32), x) and supported((61, 59), x) and supported((44, 46), x) and supported((2048, 2048), x)
    assert not supported((67, 32), x) and not supported((32, 134), x) and not supported((8192, 4096), x)
    assert not supported((32, 32), x[:0]) and not supported((32, 32), x.to("meta"))
    assert supported((32, 32), x.double()) and not supported((32, 32), x.half())
    assert not backend.plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), x, x.double())


@of_cpu_kernels
def test_fft_tables_stay_valid_while_their_cache_overflows():
    """Several threads use the tables at the same time, while the full cache is emptied."""

    def identity(n: int) -> bool:
        x = normal(1, n, 2, dtype=torch.float32, seed=n)
        (back,) = RAW.split_planes(x, [torch.ones(1, n, 2)], [0], [REAL])
        return torch.allclose(back[:, 0] / (2 * n), x, atol=1e-5)

    lengths = [n for n in range(1, 600) if native.plane_side_supported(n)]
    assert len(lengths) > 300  # kMaxCachedTables in csrc/cpu/planes/fft_table.cpp is 256
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(identity, [*lengths, *lengths]))


# A thread computes FFTs of many lengths, while the process forks children. If a child waits for a lock of this thread,
# an alarm ends the child.
FORKED = """
import os, signal, threading
import torch
from steerlens_fast import native

split = lambda *shape: RAW.split_planes(torch.zeros(1, *shape), [torch.zeros(1, 1, 1)], [0], [0])
RAW, done = torch.ops.steerlens_fast, threading.Event()

def compute():
    while not done.is_set():
        for n in range(8000, 16384):
            if native.plane_side_supported(n) and not done.is_set():
                split(1, n)

torch.set_num_threads(1)
thread = threading.Thread(target=compute)
thread.start()
failed = 0
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        split(8, 8)
        os._exit(0)
    failed += os.waitpid(pid, 0)[1] != 0
done.set()
thread.join()
print("failed:", failed)
"""


@of_cpu_kernels
def test_forked_processes_do_not_wait_for_threads_of_their_parent():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert done.stdout == "failed: 0\n", done.stderr


# --- Bad input


# (changed arguments, part of the message)
BAD_ARGUMENTS_OF_SPLIT_PLANES = [
    (dict(forms=[1]), "i_powers and forms must have one entry for each of 3 filters, got 3 and 1"),
    (dict(filters=[torch.rand(4, 33, 24)] * 3), r"filters\[0\] must have shape \[K, h, w\] with h <= 32 and w <= 24"),
    (dict(filters=[torch.rand(4, 2, 24, 16)] * 3), r"filters\[0\] must have shape \[K, h, w\]"),
    (dict(i_powers=[0, 4, 0]), r"i_powers\[1\] must be 0 to 3, got 4"),
    (dict(forms=[1, 1, 2]), r"forms\[2\] must be 0 \(real\)(, | or )1 \(complex\)( or 3 \(widened\))?, got 2"),
    (dict(planes=torch.rand(2, 32, 24).half()), "planes must have dtype float32( or float64)?, got float16"),
    (dict(filters=[torch.rand(4, 32, 24).double()] * 3), r"filters\[0\] must have dtype float32, got float64"),
    (dict(planes=torch.rand(32, 24)), r"planes must have shape \[N, H, W\]"),
    (dict(planes=torch.rand(2, 67, 24)), "no prime factor above 61, got 67"),
    (dict(planes=torch.rand(2, 32, 25)[:, :, :5]), r"filters\[0\] must have shape"),
]


def test_bad_arguments_of_split_planes_raise():
    for change, message in BAD_ARGUMENTS_OF_SPLIT_PLANES:
        args = dict(zip(("planes", "filters", "i_powers", "forms"), CASES["even-complex"].split()))
        check_rejected(RAW.split_planes, list({**args, **change}.values()), message)


# (changed arguments, part of the message)
BAD_ARGUMENTS_OF_MERGE_PLANES = [
    (dict(bands=[]), "bands must hold one tensor for each of 3 filters, got 0"),
    (dict(height=2**62), "height must be 1 to"),
    (dict(height=2**14 + 2), r"height must be 1 to \d+, got 16386"),
    (dict(width=0), "width must be 1 to"),
    (dict(residual=torch.rand(3, 32, 24)), "residual must have a number of planes that divides"),
    (dict(residual=torch.rand(1, 32, 25)), "residual must have shape"),
    (dict(residual=torch.rand(1, 32, 24).double()), "residual must have dtype"),
    (dict(forms=[2, 1, 1]), r"bands\[0\] must have shape \[2, 2, 32, 24\]"),
]


def test_bad_arguments_of_merge_planes_raise():
    for change, message in BAD_ARGUMENTS_OF_MERGE_PLANES:
        names = ("bands", "filters", "i_powers", "forms", "residual", "height", "width")
        args = dict(zip(names, CASES["even-complex"].merge()))
        check_rejected(RAW.merge_planes, list({**args, **change}.values()), message)


def test_split_planes_takes_names_of_forms():
    planes, filters, i_powers, forms = CASES["even-complex"].split()
    named = ops.split_planes(planes, filters, i_powers, ["complex"] * 3)
    assert all_equal(named, RAW.split_planes(planes, filters, i_powers, forms))
    for form in ("all", "pairs"):
        with pytest.raises(ValueError, match="forms must be one of"):
            ops.split_planes(planes, filters, i_powers, ["complex", "complex", form])
