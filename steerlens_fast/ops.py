"""The compiled ops, ``torch.ops.steerlens_fast.*``: typed wrappers, fakes (shapes) and autograd. Their only user.

Linear ops are registered as each other's adjoints, so derivatives of any order are kernels too. The others have a fused
first derivative; its own derivative is that of the formula in :mod:`reference`, in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import _pytree

from . import _C, checks, reference  # noqa: F401  (importing _C registers the ops)

RULES = {"complex": 0, "polar": 1}
FORMS = {"real": 0, "both": 1, "pairs": 2}
_ops = torch.ops.steerlens_fast


# --- Wrappers, in the order of the flow ---


def pair(planes: Tensor, run: int) -> Tensor:
    """Two real planes as one complex plane, x_2p + i x_(2p+1): one complex FFT serves both.

    Parameters
    ----------
    planes : Tensor [R run, ...], real or complex
        Of complex planes the real parts are taken.
    run : int
        Planes are paired within runs of so many; the last of an odd run gets zeros as its partner.

    Returns
    -------
    Tensor [R ceil(run / 2), ...], complex

    Examples
    --------
    >>> import torch
    >>> pair(torch.tensor([[1.0], [2.0], [3.0]]), 3)
    tensor([[1.+2.j],
            [3.+0.j]])
    """
    return _call("pair", planes, run)


def unpair(pairs: Tensor, run: int) -> Tensor:
    """The inverse of :func:`pair`, and its adjoint: [R ceil(run / 2), ...] complex to [R run, ...] real.

    Examples
    --------
    >>> import torch
    >>> unpair(torch.tensor([[1 + 2j], [3 + 0j]]), 3)
    tensor([[1.],
            [2.],
            [3.]])
    """
    return _call("unpair", pairs, run)


def split_bands(
    spectrum: Tensor,
    masks: Sequence[Tensor],
    turns: Sequence[int],
    widths: Sequence[int],
    width: int,
    paired: bool = False,
) -> list[Tensor]:
    """Masked, cropped band spectra of every scale and orientation, in one pass over an image's spectrum.

    Parameters
    ----------
    spectrum : Tensor [N, H, width // 2 + 1] or [N, H, width], complex64 or complex128
        ``rfft2`` of N images of H x ``width`` pixels, or ``fft2``, which needs full layouts.
    masks : sequence of real Tensors, each [K, h, w] (full layout) or [K, h, w // 2 + 1] (half layout)
        One entry for each group of K bands of h x w samples; constants, in the precision of ``spectrum``.
    turns : sequence of int
        Each group is multiplied by ``i ** turns``, 0 to 3.
    widths : sequence of int
        Each group's w, in samples.
    width : int
        The image's width in pixels.
    paired : bool
        Bands are real: make them two by two. Orientations 2q and 2q + 1 are the real and imaginary parts of one inverse
        FFT, since their filters enter as m + i m'. Needs a whole spectrum.

    Returns
    -------
    list of Tensor
        For each group [N, K, h, columns] (or [N, ceil(K / 2), h, w]), complex: for ``ifft2`` (full) or ``irfft2``.

    Raises
    ------
    RuntimeError
        Where a shape, dtype or device does not fit; the message names the argument. Raised before any kernel runs.

    Examples
    --------
    >>> import torch
    >>> spectrum = torch.fft.rfft2(torch.rand(2, 8, 8))
    >>> split_bands(spectrum, [torch.ones(3, 4, 4)], [0], [4], 8)[0].shape
    torch.Size([2, 3, 4, 4])
    """
    return _call("split_bands", spectrum, list(masks), list(turns), list(widths), width, paired)


def polar_split(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude and phase (radians, in [-pi, pi]) of complex coefficients of any shape; gradient 0 at amplitude 0.

    Examples
    --------
    >>> import torch
    >>> amplitude, phase = polar_split(torch.tensor([3j]))
    >>> round(float(amplitude), 6), round(float(phase), 6)
    (3.0, 1.570796)
    """
    return _call("polar_split", coefficients)


def polar_join(amplitude: Tensor, phase: Tensor) -> Tensor:
    """``amplitude * exp(i phase)``, the inverse of :func:`polar_split`; two real tensors of one shape.

    Examples
    --------
    >>> import torch
    >>> polar_join(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor([2.+0.j])
    """
    return _call("polar_join", amplitude, phase)


def step(
    coefficients: Tensor, gradient: Tensor, eps: float = 1.0, rule: str = "complex", floor: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """The motion of every coefficient along ``-gradient``, in polar coordinates.

    Parameters
    ----------
    coefficients : Tensor [..., h, w], complex
    gradient : Tensor [..., h, w], real or complex
        dL/dRe(c) + i dL/dIm(c) of a loss to decrease; real where the imaginary parts do not enter the image.
    eps : float
        Length of the infinitesimal step.
    rule : {"complex", "polar"}
        "complex": c' = c - eps G; the phase step is arg(c' conj c), the amplitude step |c'| - |c|.
        "polar": phase step -eps Im(G conj c), step of the log amplitude -eps Re(G conj c).
    floor : float
        A coefficient below ``floor`` times the largest amplitude of its band (one plane h x w) does not move.

    Returns
    -------
    phase_step, amplitude_step : Tensor [..., h, w], real
        Radians; the coefficients' units ("complex") or log units ("polar").

    Raises
    ------
    ValueError
        For an unknown rule.

    Examples
    --------
    >>> import torch
    >>> phase, amplitude = step(torch.ones(1, 1, 2, 2) + 0j, torch.full((1, 1, 2, 2), -0.5))
    >>> phase.abs().max().item(), amplitude.max().item()
    (0.0, 0.5)
    """
    return _call("step", coefficients, gradient, eps, rule_index(rule), floor)


def extrapolate(
    coefficients: Tensor,
    phase_step: Tensor | None,
    amplitude_step: Tensor | None,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    rule: str = "complex",
    form: str = "real",
) -> Tensor:
    """Every frame of a scale's bands in one pass: coefficients and step are read once.

    Parameters
    ----------
    coefficients : Tensor [N, K, h, w], complex
    phase_step, amplitude_step : Tensor [N, K, h, w], real, or None
        As :func:`step` gives them; None where that coordinate does not move.
    phase_factors, amplitude_factors : Tensor [F, 1] or [F, N], real
        b_j and a_j of frame j (and plane n).
    rule : {"complex", "polar"}
        "complex": max(A + a dA, 0) exp(i (phi + b dphi)). "polar": c exp(a dlogA + i b dphi).
    form : {"real", "both", "pairs"}
        Real parts (all that the synthesis "real" reads); both quadratures; the real parts of two orientations as one
        complex number, as :func:`pair` makes them.

    Returns
    -------
    Tensor [F, N, K, h, w], or [F, N, ceil(K / 2), h, w] for "pairs"

    Raises
    ------
    ValueError
        For an unknown rule or form.

    Notes
    -----
    Differentiable in coefficients, steps and factors. The factors' gradients are computed in plain torch, with F
    intermediate copies of a band.

    Examples
    --------
    >>> import torch
    >>> c, step_ = torch.ones(1, 1, 2, 2) + 0j, torch.full((1, 1, 2, 2), torch.pi)
    >>> factors = torch.tensor([[0.0], [1.0]])
    >>> extrapolate(c, step_, None, factors, 0 * factors)[:, 0, 0, 0, 0]
    tensor([ 1., -1.])
    """
    factors = phase_factors, amplitude_factors
    how = rule_index(rule), FORMS[checks.check_choice("form", form, tuple(FORMS))]
    return _call("extrapolate", coefficients, phase_step, amplitude_step, *factors, *how)


def merge_bands(
    bands: Sequence[Tensor],
    masks: Sequence[Tensor],
    turns: Sequence[int],
    widths: Sequence[int],
    height: int,
    width: int,
    whole: bool = False,
    paired: bool = False,
) -> Tensor:
    """Masked, padded and summed spectrum of every scale and orientation: a gather, one write per frequency.

    The adjoint of :func:`split_bands` with opposite ``turns``: reflected columns of the full layout enter conjugated.

    Parameters
    ----------
    bands : sequence of Tensors [P, K, h, columns], complex
        One for each mask. P may differ: N is the largest, and plane n reads plane n mod P, so that one residual can
        serve all frames.
    masks, turns, widths
        As in :func:`split_bands`.
    height, width : int
        The image's size in pixels.
    whole : bool
        Give whole spectra; needs full layouts.
    paired : bool
        Bands are real and come two by two, as ``split_bands(..., paired=True)`` makes them. Of the inverse FFT, whose
        spectrum must be ``whole``, the real part is the image.

    Returns
    -------
    Tensor [N, height, width // 2 + 1] or, ``whole``, [N, height, width], complex
        Ready for ``irfft2``, or ``ifft2``.

    Raises
    ------
    RuntimeError
        As in :func:`split_bands`.

    Examples
    --------
    >>> import torch
    >>> band = torch.fft.rfft2(torch.rand(2, 3, 4, 4))
    >>> merge_bands([band], [torch.ones(3, 4, 3)], [0], [4], 8, 8).shape
    torch.Size([2, 8, 5])
    """
    return _call("merge_bands", list(bands), list(masks), list(turns), list(widths), height, width, whole, paired)


def split_planes(
    planes: Tensor, filters: Sequence[Tensor], heights: Sequence[int], turns: Sequence[int], forms: Sequence[str]
) -> list[Tensor]:
    """Real planes to bands in one pass: :func:`split_bands` and the FFTs around it, within a core's caches.

    For the CPU alone, and float32; :func:`steerlens_fast.panels.serve` tells where it can be had.

    Parameters
    ----------
    planes : Tensor [N, H, W], float32
    filters : sequence of float32 Tensors, each [K, panels, w, 16]
        One entry for each group of K bands of h x w samples, as :func:`steerlens_fast.panels.in_panels` makes them of
        masks [K, h, w].
    heights : sequence of int
        Each group's h, in samples.
    turns : sequence of int
        Each group is multiplied by ``i ** turns``, 0 to 3.
    forms : sequence of {"real", "both"}
        Real parts of bands that are real but for rounding (two come from one FFT), or complex bands.

    Returns
    -------
    list of Tensor [N, K, h, w]
        Real or complex; no FFT is normalised.

    Raises
    ------
    RuntimeError
        Where a shape, dtype or device does not fit; the message names the argument. Raised before any kernel runs.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.filters import Geometry
    >>> from steerlens_fast.panels import in_panels, serve
    >>> planes, mask = torch.rand(2, 32, 32), torch.ones(3, 16, 16)
    >>> if serve(Geometry((32, 32), 1, 3, 4, 1.0, False, True), planes):
    ...     (bands,) = split_planes(planes, [in_panels(mask, 32)], [16], [0], ["both"])
    ...     assert bands.shape == (2, 3, 16, 16)
    """
    how = list(filters), list(heights), list(turns), _form_indices(forms, ("real", "both"))
    return _call("split_planes", planes, *how)


def merge_planes(
    bands: Sequence[Tensor],
    filters: Sequence[Tensor],
    heights: Sequence[int],
    turns: Sequence[int],
    forms: Sequence[str],
    height: int,
    width: int,
    rest: Tensor | None = None,
) -> Tensor:
    """Bands to real planes in one pass: :func:`merge_bands` and the FFTs around it, within a core's caches.

    The adjoint of :func:`split_planes` with opposite ``turns``, and like it the CPU's alone.

    Parameters
    ----------
    bands : sequence of Tensors [N, K, h, w] (or, "pairs", [N, ceil(K / 2), h, w]), float32 or complex64
    filters, heights, turns
        As in :func:`split_planes`.
    forms : sequence of {"real", "both", "pairs"}
        What is read: real parts (of real or complex bands); both quadratures; real parts as :func:`pair` has them.
    height, width : int
        The planes' size in pixels.
    rest : Tensor [n, height, width], optional
        Added, plane j mod n to plane j.

    Returns
    -------
    Tensor [N, height, width], float32

    Raises
    ------
    RuntimeError
        As in :func:`split_planes`.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.filters import Geometry
    >>> from steerlens_fast.panels import in_panels, serve
    >>> band, mask = torch.rand(2, 3, 16, 16), torch.ones(3, 16, 16)
    >>> if serve(Geometry((32, 32), 1, 3, 4, 1.0, False, True), band):
    ...     planes = merge_planes([band], [in_panels(mask, 32)], [16], [0], ["real"], 32, 32)
    ...     assert planes.shape == (2, 32, 32)
    """
    how = list(filters), list(heights), list(turns), _form_indices(forms, tuple(FORMS))
    return _call("merge_planes", list(bands), *how, rest, height, width)


def _form_indices(forms: Sequence[str], known: tuple[str, ...]) -> list[int]:
    return [FORMS[checks.check_choice("forms", form, known)] for form in forms]


def _call(name: str, *args):
    """The op; inside forward-mode AD, which custom ops know nothing of (they would drop tangents), its reference."""
    if not torch.compiler.is_compiling() and _has_tangent(args):
        return getattr(reference, name)(*args)
    return getattr(_ops, name)(*args)


def _has_tangent(values) -> bool:
    """Whether a tensor among ``values`` (any nesting) carries a forward-mode tangent."""
    if getattr(forward_ad, "_current_level", 0) < 0:  # not in forward mode: spare the look at every tensor
        return False
    tensors = [t for t in _pytree.tree_leaves(values) if isinstance(t, Tensor)]
    return any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of a real or complex dtype. A table, since torch.compile does not know ``dtype.to_real``.

    Examples
    --------
    >>> import torch
    >>> real_dtype(torch.complex64)
    torch.float32
    """
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def rule_index(rule: str) -> int:
    """The kernels' number of a rule."""
    return RULES[checks.check_choice("rule", rule, tuple(RULES))]


# --- Fakes: shapes and dtypes for meta tensors, torch.compile and torch.export ---


def _fake(name: str):
    """Register a shape function; it too refuses tensors of several devices, which torch sends here."""

    def register(function):
        def checked(*args):
            devices = {str(t.device) for t in _pytree.tree_leaves(args) if isinstance(t, Tensor)}
            if len(devices) > 1:
                raise RuntimeError(f"steerlens_fast::{name}: tensors must be on one device, got {sorted(devices)}")
            return function(*args)

        return torch.library.register_fake(f"steerlens_fast::{name}", checked)

    return register


@_fake("pair")
def _(planes, run):
    runs = planes.shape[0] // run if run else 0
    dtype = real_dtype(planes.dtype).to_complex()
    return planes.new_empty(runs * ((run + 1) // 2), *planes.shape[1:], dtype=dtype)


@_fake("unpair")
def _(pairs, run):
    runs = pairs.shape[0] // ((run + 1) // 2) if run else 0
    return pairs.new_empty(runs * run, *pairs.shape[1:], dtype=real_dtype(pairs.dtype))


@_fake("split_bands")
def _(spectrum, masks, turns, widths, width, paired):
    stored = lambda K: (K + 1) // 2 if paired else K
    return [spectrum.new_empty(spectrum.shape[0], stored(m.shape[0]), *m.shape[1:]) for m in masks]


@_fake("merge_bands")
def _(bands, masks, turns, widths, height, width, whole, paired):
    planes = bands[0].shape[0]
    for band in bands[1:]:
        planes = torch.sym_max(planes, band.shape[0])
    return bands[0].new_empty(planes, height, width if whole else width // 2 + 1)


@_fake("split_planes")
def _(planes, filters, heights, turns, forms):
    _float32("planes", planes)
    dtypes = [planes.dtype.to_complex() if form else planes.dtype for form in forms]
    shapes = [(planes.shape[0], f.shape[0], h, f.shape[2]) for f, h in zip(filters, heights)]
    return [planes.new_empty(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes)]


@_fake("merge_planes")
def _(bands, filters, heights, turns, forms, rest, height, width):
    _float32("bands", bands[0])
    return bands[0].new_empty(bands[0].shape[0], height, width, dtype=real_dtype(bands[0].dtype))


def _float32(name: str, t: Tensor) -> None:
    if real_dtype(t.dtype) != torch.float32:
        raise RuntimeError(f"{name} must have dtype float32 or complex64, got {t.dtype}")


def _two_real(t: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(t.new_empty(t.shape, dtype=real_dtype(t.dtype)) for _ in range(2))


@_fake("polar_split")
def _(coefficients):
    return _two_real(coefficients)


@_fake("polar_split_backward")
def _(coefficients, grad_amplitude, grad_phase):
    return coefficients.new_empty(coefficients.shape)


@_fake("polar_join")
def _(amplitude, phase):
    return amplitude.new_empty(amplitude.shape, dtype=amplitude.dtype.to_complex())


@_fake("polar_join_backward")
def _(grad, amplitude, phase):
    return _two_real(grad)


@_fake("step")
def _(coefficients, gradient, eps, rule, floor):
    return _two_real(coefficients)


@_fake("step_backward")
def _(grad_phase_step, grad_amplitude_step, coefficients, gradient, eps, rule, floor):
    return coefficients.new_empty(coefficients.shape), gradient.new_empty(gradient.shape)


@_fake("extrapolate")
def _(coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule, form):
    N, K, h, w = coefficients.shape
    K = (K + 1) // 2 if form == FORMS["pairs"] else K
    dtype = coefficients.dtype if form else real_dtype(coefficients.dtype)
    return coefficients.new_empty(phase_factors.shape[0], N, K, h, w, dtype=dtype)


@_fake("extrapolate_backward")
def _(grad, coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule):
    def like(s):
        return coefficients.new_empty(0 if s is None else coefficients.shape, dtype=real_dtype(coefficients.dtype))

    return coefficients.new_empty(coefficients.shape), like(phase_step), like(amplitude_step)


# --- Autograd of the linear ops: each other's adjoints ---


def _opposite(turns: Sequence[int]) -> list[int]:
    return [-t % 4 for t in turns]


def _constant_masks(ctx, index: int) -> None:
    if any(ctx.needs_input_grad[index]):
        raise RuntimeError("masks are constants: a mask that requires grad has no derivative here; detach it")


def _setup_pair(ctx, inputs, output):
    planes, ctx.run = inputs
    ctx.complex = planes.is_complex()


def _pair_backward(ctx, grad):
    planes = unpair(_dense(grad), ctx.run)
    return torch.complex(planes, torch.zeros_like(planes)) if ctx.complex else planes, None


def _setup_unpair(ctx, inputs, output):
    ctx.run = inputs[1]


def _unpair_backward(ctx, grad):
    return pair(_dense(grad), ctx.run), None


def _setup_split_bands(ctx, inputs, output):
    spectrum, masks, turns, widths, width, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.bank = _opposite(turns), widths
    ctx.shape = spectrum.shape[-2], width, spectrum.shape[-1] == width and width > 2, paired


def _split_bands_backward(ctx, grads):
    _constant_masks(ctx, 1)
    masks, (turns, widths) = list(ctx.saved_tensors), ctx.bank
    grad = merge_bands([_dense(g) for g in grads], masks, turns, widths, *ctx.shape)
    return grad, [None] * len(masks), None, None, None, None


def _setup_merge_bands(ctx, inputs, output):
    bands, masks, turns, widths, _, width, _, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.bank = _opposite(turns), widths
    ctx.planes, ctx.width, ctx.paired = [band.shape[0] for band in bands], width, paired


def _merge_bands_backward(ctx, grad):
    _constant_masks(ctx, 1)
    masks, (turns, widths) = list(ctx.saved_tensors), ctx.bank
    grads = split_bands(_dense(grad), masks, turns, widths, ctx.width, ctx.paired)
    repeated = [g if g.shape[0] == p or p == 0 else g.unflatten(0, (-1, p)).sum(0) for g, p in zip(grads, ctx.planes)]
    return repeated, [None] * len(masks), None, None, None, None, None, None


def _setup_split_planes(ctx, inputs, output):
    planes, filters, heights, turns, forms = inputs
    ctx.save_for_backward(*filters)
    ctx.how, ctx.shape = (heights, _opposite(turns), forms), planes.shape[-2:]


def _split_planes_backward(ctx, grads):
    _constant_masks(ctx, 1)
    filters = list(ctx.saved_tensors)
    grad = _call("merge_planes", [_dense(g) for g in grads], filters, *ctx.how, None, *ctx.shape)
    return grad, [None] * len(filters), None, None, None


def _setup_merge_planes(ctx, inputs, output):
    bands, filters, heights, turns, forms, rest, _, _ = inputs
    ctx.save_for_backward(*filters)
    ctx.how, ctx.forms, ctx.complex = (heights, _opposite(turns)), forms, [band.is_complex() for band in bands]
    ctx.rest = None if rest is None else rest.shape[0]


def _merge_planes_backward(ctx, grad):
    _constant_masks(ctx, 1)
    filters, grad = list(ctx.saved_tensors), _dense(grad)
    grads = _call("split_planes", grad, filters, *ctx.how, [form % FORMS["pairs"] for form in ctx.forms])
    bands = [_as_stored(*band) for band in zip(grads, ctx.forms, ctx.complex)]
    rest = None if ctx.rest is None else grad.unflatten(0, (-1, ctx.rest)).sum(0)
    return bands, [None] * len(filters), None, None, None, rest, None, None


def _as_stored(grad: Tensor, form: int, complex_: bool) -> Tensor:
    """A real part's gradient as that of what holds the real part."""
    if form == FORMS["pairs"]:
        N, K = grad.shape[:2]
        return pair(grad.flatten(0, 1), K).unflatten(0, (N, (K + 1) // 2))
    return torch.complex(grad, torch.zeros_like(grad)) if complex_ and form == FORMS["real"] else grad


def _dense(grad: Tensor) -> Tensor:
    """Expanded gradients (stride 0) claim to be contiguous where a size is 1; the kernels want real memory."""
    return grad.contiguous() if 0 not in grad.stride() else grad.clone(memory_format=torch.contiguous_format)


torch.library.register_autograd("steerlens_fast::pair", _pair_backward, setup_context=_setup_pair)
torch.library.register_autograd("steerlens_fast::unpair", _unpair_backward, setup_context=_setup_unpair)
torch.library.register_autograd("steerlens_fast::split_bands", _split_bands_backward, setup_context=_setup_split_bands)
torch.library.register_autograd("steerlens_fast::merge_bands", _merge_bands_backward, setup_context=_setup_merge_bands)
torch.library.register_autograd(
    "steerlens_fast::split_planes", _split_planes_backward, setup_context=_setup_split_planes
)
torch.library.register_autograd(
    "steerlens_fast::merge_planes", _merge_planes_backward, setup_context=_setup_merge_planes
)


# --- Autograd of the pointwise ops: a fused backward, whose own derivative is the reference's ---


def _save_tensors(ctx, inputs, output):
    """Saves every tensor and keeps every other argument, to give them back in order as ``_saved(ctx)``."""
    ctx.save_for_backward(*[x for x in inputs if isinstance(x, Tensor)])
    ctx.layout = [None if isinstance(x, Tensor) else (x,) for x in inputs]


def _saved(ctx) -> list:
    tensors = iter(ctx.saved_tensors)
    return [next(tensors) if slot is None else slot[0] for slot in ctx.layout]


def _register_backward_of_backward(name: str) -> None:
    """Double backward by differentiating ``reference.<name>``, in plain torch."""
    formula = getattr(reference, name)

    def backward(ctx, *grads):
        inputs = _saved(ctx)
        tensors = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]

        def of_tensors(*values):
            full = list(inputs)
            for i, value in zip(tensors, values):
                full[i] = value
            return formula(*full)

        _, pull_back = torch.func.vjp(of_tensors, *[inputs[i] for i in tensors])
        out = [None] * len(inputs)
        for i, grad in zip(tensors, pull_back(grads if len(grads) > 1 else grads[0])):
            out[i] = grad
        return tuple(out)

    torch.library.register_autograd(f"steerlens_fast::{name}", backward, setup_context=_save_tensors)


def _polar_split_backward(ctx, grad_amplitude, grad_phase):
    (coefficients,) = _saved(ctx)
    return _call("polar_split_backward", coefficients, _dense(grad_amplitude), _dense(grad_phase))


def _polar_join_backward(ctx, grad):
    return _call("polar_join_backward", _dense(grad), *_saved(ctx))


def _step_backward(ctx, grad_phase_step, grad_amplitude_step):
    grads = _call("step_backward", _dense(grad_phase_step), _dense(grad_amplitude_step), *_saved(ctx))
    return *grads, None, None, None


def _extrapolate_backward(ctx, grad):
    *inputs, rule, form = _saved(ctx)
    grad = _dense(grad)
    if form == FORMS["pairs"]:
        N, K = inputs[0].shape[:2]
        grad = unpair(grad.flatten(0, 2), K).unflatten(0, (len(grad), N, K))
    grad_c, grad_phase, grad_amplitude = _call("extrapolate_backward", grad, *inputs, rule)
    factors = _factor_gradients(ctx, grad, inputs, rule)
    phase = None if inputs[1] is None else grad_phase
    amplitude = None if inputs[2] is None else grad_amplitude
    return grad_c, phase, amplitude, *factors, None, None


def _factor_gradients(ctx, grad, inputs, rule):
    if not any(ctx.needs_input_grad[3:5]):
        return None, None
    coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors = inputs

    def of_factors(b, a):
        return reference.extrapolate(coefficients, phase_step, amplitude_step, b, a, rule, int(grad.is_complex()))

    _, pull_back = torch.func.vjp(of_factors, phase_factors, amplitude_factors)
    return pull_back(grad)


for _name, _backward in {
    "polar_split": _polar_split_backward,
    "polar_join": _polar_join_backward,
    "step": _step_backward,
    "extrapolate": _extrapolate_backward,
}.items():
    torch.library.register_autograd(f"steerlens_fast::{_name}", _backward, setup_context=_save_tensors)
    _register_backward_of_backward(f"{_name}_backward")
