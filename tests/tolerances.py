"""The tolerances that several tests share, each with its reason."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """The largest allowed error, relative to the largest expected value unless ``why`` says otherwise."""

    float32: float
    float64: float
    why: str

    def of(self, dtype: torch.dtype) -> float:
        return self.float32 if dtype in (torch.float32, torch.complex64) else self.float64


TOLERANCES = {
    "op": Tolerance(1e-6, 1e-14, "a few roundings: sums over at most 8 orientations, one sincos with an error of 3e-7"),
    "op_sums": Tolerance(4e-6, 1e-13, "as op, for sums of several values and divisions by amplitudes of 0.5 and more"),
    "angle": Tolerance(3e-7, 3e-15, "absolute, in radians: the accuracy of math/trig.h, a few ulps of pi"),
    "exp": Tolerance(
        3e-7, 1e-15, "relative to each value: the polynomial's 1e-8, three roundings, and the argument's rounding"
    ),
    "filter": Tolerance(
        1e-7, 1e-13, "absolute: sums of K squares, and a gain that comes from logarithms of factorials"
    ),
    "reconstruction": Tolerance(3e-6, 1e-13, "absolute, on images in [0, 1]: the accuracy promised in the docs"),
    "pyramid": Tolerance(3e-6, 1e-13, "two FFTs of up to 3 * 10^5 points and a sum over all bands"),
    "energy": Tolerance(3e-6, 1e-13, "a sum of squares of all coefficients"),
    "adjoint": Tolerance(1e-5, 1e-13, "<Ax, y> against <x, A*y>, relative to |Ax||y|: two sums over all coefficients"),
    "render": Tolerance(3e-5, 1e-12, "gradient and step amplify the analysis' error"),
    "compiled": Tolerance(3e-6, 1e-13, "a compiler may fuse and reorder the plain torch around the ops"),
    "plenoptic": Tolerance(1e-5, 1e-5, "plenoptic interpolates its filters in a table (6e-6)"),
    "classifier": Tolerance(
        2e-5, 1e-12, "a network with another batch size: convolutions may choose another algorithm"
    ),
    "composition": Tolerance(
        1e-5, 1e-12, "a morph alone or in a batch: as classifier, amplified by the gradient; 5e-7 seen"
    ),
    "fit": Tolerance(1e-5, 1e-9, "least squares in float64: 60 damped steps, each a sum over all pixels; 1e-15 seen"),
    "evaluation": Tolerance(
        1e-5, 1e-5, "relative to 1 + |n| for a number n in a record: float32 edits with another batch size; 3e-7 seen"
    ),
    "probe": Tolerance(2e-3, 2e-3, "a search for an L2 distance stops within 0.1 % of the distance"),
    "chunked_real_fft": Tolerance(
        2e-6, 1e-13, "MKL's real FFT of a plane may depend on the batch by ulps, which a step amplifies; 3e-7 seen"
    ),
    "rounding": Tolerance(
        1e-6, 1e-14, "the same values by other ops or in other batches, for which cuFFT may choose another plan"
    ),
}


def error_of(actual: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return (largest absolute error, largest expected magnitude) in float64.

    Both tensors must be finite at the same places; only these are compared.
    """
    assert actual.shape == expected.shape, f"shape {list(actual.shape)}, expected {list(expected.shape)}"
    assert actual.is_complex() == expected.is_complex(), f"dtype {actual.dtype}, expected {expected.dtype}"
    if not actual.numel():
        return 0.0, 0.0
    wide = torch.complex128 if actual.is_complex() else torch.float64
    a, e = (t.detach().resolve_conj().resolve_neg().cpu().to(wide) for t in (actual, expected))
    finite = e.isfinite()
    assert torch.equal(a.isfinite(), finite), "finite in one, not in the other"
    zero = e.new_zeros(())
    a, e = torch.where(finite, a, zero), torch.where(finite, e, zero)
    return (a - e).abs().max().item(), e.abs().max().item()


def all_equal(first, second) -> bool:
    """Return whether two sequences of tensors have equal lengths and equal tensors."""
    first, second = list(first), list(second)
    return len(first) == len(second) and all(map(torch.equal, first, second))


def assert_close(actual: Tensor, expected: Tensor, name: str, absolute: bool = False, like=None) -> None:
    """Check that ``actual`` differs from ``expected`` by at most TOLERANCES[name] for the dtype of ``actual``.

    The tolerance is relative to the largest magnitude in ``expected``, or to the number ``like`` if that is larger. If
    ``absolute``, it is not relative.
    """
    error, largest = error_of(actual, expected)
    scale = 1.0 if absolute else max(largest, float(like) if like is not None else 0.0)
    limit = TOLERANCES[name].of(actual.dtype) * scale
    assert error <= limit, f"{name}: error {error:.3g} above {limit:.3g} (largest expected value {largest:.3g})"
