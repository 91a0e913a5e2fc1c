"""``PlaneAnchor``, the anchor of the CSP and Fourier families for the regime "persistent" (lens/README.md).

An anchor stores the total change of each coefficient of the source: delta of its phase, and eta of its log amplitude. A
coefficient c0 of the source has become c0 exp(eta + i delta), with |delta| <= pi and |eta| <= 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import checks, ops
from ..checks import Factors
from ..memory import chunks, new_output, store
from ..ops.enums import real_dtype
from ..pyramid.backend import may_write_in_place
from .planes import PlaneMotion
from .protocols import AnchorPlaneFamily, Bounds
from .shared import check_amplitude_factors, check_image_and_gradient, factor_pair, factors_of_planes, flatten_planes

PHASE_LIMIT = math.pi  # radians
LOG_AMPLITUDE_LIMIT = 1.0  # natural log units


class PlaneAnchor:
    """The total changes of the coefficients of a source, see :class:`Anchor`.

    If all planes are computed in one slice, the analysis of the source and the last step are stored.
    """

    def __init__(self, family: AnchorPlaneFamily, image: Tensor, motion_type: type[PlaneMotion] = PlaneMotion):
        self.family, self.image, self.motion_type = family, image, motion_type
        shapes = family.coordinate_shapes()
        per_coefficient = family.moves_phase + family.moves_amplitude  # number of coordinates, 1 or 2
        count = image.shape[:-2].numel()
        new = lambda shape: torch.zeros(count, *shape, dtype=image.dtype, device=image.device)
        with torch.inference_mode(False):  # so that the state can be written outside of inference mode later
            self.state = tuple(new(shape) for shape in shapes for _ in range(per_coefficient))
        # A single slice if all planes fit the caches
        self.plane_slices = chunks(count, family.prepared_bytes(image.dtype), image.device)
        self.cached_analysis: Any = None
        self.cached_step: tuple[Tensor, Any] | None = None  # (gradient, its step)

    def toward(self, gradient: Tensor) -> PlaneMotion:
        """See :class:`Anchor`."""
        image, gradient = check_image_and_gradient(self.image, gradient)
        if len(self.plane_slices) != 1 or not may_write_in_place(image, gradient):
            return self.motion_type(self.family, image, gradient, self.state)
        return self.motion_type(self.family, image, gradient, self.state, self._step(gradient, self.plane_slices[0]))

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """See :class:`Anchor`."""
        _, gradient = check_image_and_gradient(self.image, gradient)
        check_amplitude_factors(amplitude_factors, self.family.moves_amplitude)
        b, a = factor_pair(factors, amplitude_factors, self.image)
        for at in self.plane_slices:
            self._step(gradient, at).advance(factors_of_planes(b, at), factors_of_planes(a, at))
        self.cached_step = None  # the step started at the previous coordinates

    def frame(self, bounds: Bounds = None) -> Tensor:
        """See :class:`Anchor`."""
        bounds = checks.check_bounds(bounds)
        out = new_output(flatten_planes(self.image).shape, self.image.dtype, self.image.device)
        for at in self.plane_slices:
            store(out[at], self.family.image_at(self._analysis(at), tuple(t[at] for t in self.state)), bounds)
        return out.reshape(self.image.shape)

    def _step(self, gradient: Tensor, at: slice):
        """Return the step of the planes ``at``.

        If there is a single slice, the step is stored, since ``toward`` and ``advance`` get the same gradient.
        """
        if self.cached_step is not None and self.cached_step[0] is gradient:
            return self.cached_step[1]
        state = tuple(t[at] for t in self.state)
        step = self.family.step_from(self._analysis(at), flatten_planes(gradient)[at], state)
        if len(self.plane_slices) == 1:
            self.cached_step = gradient, step
        return step

    def _analysis(self, at: slice):
        if len(self.plane_slices) > 1:
            return self.family.analyze(flatten_planes(self.image)[at])
        if self.cached_analysis is None:
            self.cached_analysis = self.family.analyze(flatten_planes(self.image))
        return self.cached_analysis


def edited_coefficients(
    c: Tensor, delta: Tensor | None, eta: Tensor | None, form: str = "complex", factor_one: Tensor | None = None
) -> Tensor:
    """Return the coefficients c exp(eta + i delta) as one frame [1, n, K, h, w].

    ``form`` is an argument of :func:`ops.extrapolate`. ``factor_one`` is a tensor [[1.0]], created if it is None.
    """
    if factor_one is None:
        factor_one = torch.ones(1, 1, dtype=real_dtype(c.dtype), device=c.device)
    return ops.extrapolate(c, delta, eta, factor_one, factor_one, "polar", form)


def moved_coordinates(
    c: Tensor,
    coordinates: tuple[Tensor | None, Tensor | None],
    step: tuple[Tensor | None, Tensor | None],
    b: Tensor,
    a: Tensor,
    rule: str,
    in_place: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the coordinates (delta, eta) of source coefficients ``c`` [n, K, h, w] after a step.

    ``step`` is (phase step, amplitude step). Phase factors ``b`` and amplitude factors ``a`` are [1, 1] or [1, n]. With
    ``in_place``, delta is written in place, but eta is not.
    """
    (delta, eta), (phase, amplitude) = coordinates, step
    if phase is not None:
        add = Tensor.addcmul_ if in_place else Tensor.addcmul
        delta = add(delta, b[0, :, None, None, None], phase).clamp_(-PHASE_LIMIT, PHASE_LIMIT)
    if amplitude is not None:
        eta = _moved_log_amplitude(c, eta, amplitude, a[0, :, None, None, None], rule)
    return delta, eta


def _moved_log_amplitude(c: Tensor, eta: Tensor, step: Tensor, a: Tensor, rule: str) -> Tensor:
    if rule == "polar":
        return torch.addcmul(eta, a, step).clamp_(-LOG_AMPLITUDE_LIMIT, LOG_AMPLITUDE_LIMIT)
    source_amplitude, _ = ops.polar_split(c)
    amplitude = torch.addcmul(source_amplitude * eta.exp(), a, step).clamp_(min=0)
    moved = (amplitude / source_amplitude).log_().clamp_(-LOG_AMPLITUDE_LIMIT, LOG_AMPLITUDE_LIMIT)
    return torch.where(step == 0, eta, moved)  # at amplitude 0 the step is 0, and moved is 0/0
