"""Random coefficients, and the comparison of coefficients."""

import torch
from inputs import normal
from tolerances import assert_close

from steerlens_fast import Coefficients


def random_coefficients(pyramid, *lead, dtype=torch.float64, device="cpu") -> Coefficients:
    """Return random coefficients, which are not those of any image."""
    g = pyramid.geometry
    draw = lambda *size, kind=dtype: normal(*lead, *size, dtype=kind, device=device, seed=sum(size))
    bands = [draw(g.orientations, *g.band_shape(s), kind=dtype.to_complex()) for s in range(g.num_scales)]
    return Coefficients(draw(*g.shape), tuple(bands), draw(*g.band_shape(g.num_scales)))


def assert_coefficients_close(a: Coefficients, b: Coefficients, name: str) -> None:
    """Check that bands and residuals of ``a`` are close to those of ``b``."""
    assert len(a.tensors()) == len(b.tensors())
    for x, y in zip(a.tensors(), b.tensors()):
        assert_close(x, y, name, like=1e-3)  # a residual of an image may be almost 0
