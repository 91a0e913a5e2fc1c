"""``morph_planes``: an image and its gradient to every frame, in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from .. import checks
from . import reference
from .enums import EDITS, rule_index
from .registration import (
    call,
    call_plane_op,
    constant_masks,
    dense,
    fake,
    float32_only,
    register_derivative,
    save_tensors,
    saved,
)


def morph_planes(
    images: Tensor,
    gradients: Tensor,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    analysis: Sequence[Tensor],
    synthesis: Sequence[Tensor],
    heights: Sequence[int],
    turns: int = 0,
    edit: str = "phase",
    rule: str = "complex",
    both: bool = False,
    eps: float = 1.0,
    floor: float = 1e-6,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Frames of planes that move along ``-gradients``: analysis, :func:`step`, :func:`extrapolate`, synthesis and clip.

    Plane by plane, in one pass: between image and frames there is nothing but the coefficients of one plane for each
    thread (of all threads together, where these are more than 32 MiB). Like :func:`split_planes` the CPU's alone.

    Parameters
    ----------
    images, gradients : Tensor [N, H, W], float32
        Planes, and dL/dplane of a loss to decrease.
    phase_factors, amplitude_factors : Tensor [F, 1] or [F, N], float32
        b_j and a_j of frame j (and plane n).
    analysis : sequence of Tensors [K, panels, w, lanes], float32
        Filters of the bands that move, as :func:`split_planes` takes them; last that of what these do not hold,
        [1, panels, W, lanes].
    synthesis : sequence of Tensors, shaped as those of ``analysis`` but the last
        Filters of the way back, whose adjoint analyses the gradient.
    heights : sequence of int
        Each group's h, in samples.
    turns : int
        The analysis multiplies bands by ``i ** turns``, 0 to 3; the synthesis by the opposite.
    edit : {"phase", "amplitude", "joint"}
        Which coordinates move.
    rule : {"complex", "polar"}
    eps, floor : float
        As in :func:`step`.
    both : bool
        The synthesis reads both quadratures of a coefficient, not its real part alone.
    bounds : (float, float), optional
        Frames are clipped to them.

    Returns
    -------
    Tensor [F, N, H, W], float32
        A frame of factors 0 is the plane itself, bit by bit (but for the clip).

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`.

    Notes
    -----
    Differentiable in images, gradients and factors: its derivatives are those of the ops that it is made of.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.pyramid.filters import Geometry
    >>> from steerlens_fast.pyramid.backend import in_panels, plane_ops_supported
    >>> planes, mask = torch.rand(2, 32, 32), torch.ones(3, 16, 16)
    >>> filters, rest = [in_panels(mask, 32)], in_panels(torch.ones(1, 32, 32) / 1024, 32)
    >>> factors = torch.tensor([[0.0], [1.0]])
    >>> if plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), planes):
    ...     frames = morph_planes(planes, planes, factors, factors, [*filters, rest], filters, [16])
    ...     assert frames.shape == (2, 2, 32, 32) and torch.equal(frames[0], planes)
    """
    how = EDITS[checks.check_choice("edit", edit, tuple(EDITS))], rule_index(rule), both, eps, floor
    bank = list(analysis), list(synthesis), list(heights), turns
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    return call_plane_op("morph_planes", images, gradients, phase_factors, amplitude_factors, *bank, *how, low, high)


@fake("morph_planes")
def _(images, gradients, phase_factors, amplitude_factors, *how):
    float32_only("images", images)
    return images.new_empty(phase_factors.shape[0], *images.shape)


_PARTS = SimpleNamespace(
    **{
        name: lambda *args, _name=name: call(_name, *args)
        for name in ("split_planes", "step", "extrapolate", "merge_planes")
    }
)


def _morph_planes_backward(ctx, grad):
    constant_masks(ctx, 4)
    constant_masks(ctx, 5)
    inputs = saved(ctx)
    wanted = [i for i, needed in enumerate(ctx.needs_input_grad[:4]) if needed]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        for i in wanted:
            inputs[i] = inputs[i].view_as(inputs[i])  # an edge of its own: one input may be, or come from, another
        frames = partial(reference.morph_planes, parts=_PARTS)(*inputs)
    of_wanted = torch.autograd.grad(
        frames, [inputs[i] for i in wanted], dense(grad), create_graph=again, allow_unused=True
    )
    grads = dict(zip(wanted, of_wanted))
    filters = [[None] * len(inputs[i]) for i in (4, 5)]
    return *(grads.get(i) for i in range(4)), *filters, *[None] * (len(inputs) - 6)


register_derivative("morph_planes", _morph_planes_backward, save_tensors)
