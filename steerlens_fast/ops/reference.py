"""The formulas of ops in plain torch, against which the kernels are tested.

The function of an op has the op's name, arguments and result (but :func:`step_planes` stores coefficients in another
layout). It is simple rather than fast: FFTs are complex and give whole spectra, and groups of bands are computed one at
a time. All functions can be differentiated any number of times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .enums import EDITS, FORMS, RULES, SPLIT_FORMS
from .frequencies import signed_frequencies


def crop(spectrum: Tensor, h: int, w: int) -> Tensor:
    """Return the h x w lowest frequencies of a whole spectrum [..., H, W], in FFT order."""
    H, W = spectrum.shape[-2:]
    rows, columns = signed_frequencies(h) % H, signed_frequencies(w) % W
    return spectrum[..., rows[:, None], columns[None, :]]


def pad(block: Tensor, H: int, W: int) -> Tensor:
    """Return a spectrum [..., H, W]: ``block`` at its lowest frequencies, else zeros. The adjoint of :func:`crop`."""
    h, w = block.shape[-2:]
    rows, columns = signed_frequencies(h) % H, signed_frequencies(w) % W
    whole = block.new_zeros(*block.shape[:-2], H, W)
    whole[..., rows[:, None], columns[None, :]] = block
    return whole


def nll_gradient(scores: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of -log softmax(scores)[target] for scores [N, classes].

    The operations are those of autograd for the objective "nll" in ``classifier.objectives``.
    """
    lowest, index = torch.finfo(scores.dtype).min, target[:, None]
    others = scores.clamp(min=lowest).scatter(1, index, lowest)
    largest = others.detach().amax(1, keepdim=True)
    others = others - largest
    log_total = others.exp().sum(1, keepdim=True).log()
    gap = (scores.gather(1, index) - largest) - log_total
    _, buffer = torch.ops.aten.log_sigmoid_forward(gap)
    slope = torch.ops.aten.log_sigmoid_backward(torch.ones_like(gap), gap, buffer)  # 1 - probability of the target
    gradient = ((others - log_total).exp() * slope).masked_fill(scores == -torch.inf, 0.0)
    return gradient.scatter(1, index, 0 - slope)  # -slope could be -0


def pair(planes: Tensor, run: int) -> Tensor:
    """Return pairs x_2p + i x_(2p+1) [R * ceil(run/2), ...] of the real parts x of planes [R * run, ...]."""
    planes = planes.real if planes.is_complex() else planes
    runs = planes.reshape(planes.shape[0] // max(run, 1), run, *planes.shape[1:])
    if run % 2:
        runs = torch.cat([runs, torch.zeros_like(runs[:, :1])], 1)
    return torch.complex(runs[:, 0::2], runs[:, 1::2]).flatten(0, 1)


def unpair(pairs: Tensor, run: int) -> Tensor:
    """Return the planes of pairs. The inverse and the adjoint of :func:`pair`."""
    count = (run + 1) // 2
    runs = pairs.reshape(pairs.shape[0] // max(count, 1), count, *pairs.shape[1:])
    return torch.stack([runs.real, runs.imag], 2).flatten(1, 2)[:, :run].flatten(0, 1)


def _read(spectrum: Tensor, rows: Tensor, columns: Tensor, W: int) -> Tensor:
    """Return the values of a spectrum [N, H, W or W//2+1] at signed frequencies.

    Values of a half spectrum at negative columns follow from X[-k] = conj(X[k]) for real images.
    """
    H = spectrum.shape[-2]
    if spectrum.shape[-1] == W:
        return spectrum[:, (rows % H)[:, None], (columns % W)[None, :]]
    direct = spectrum[:, (rows % H)[:, None], columns.clamp(min=0)[None, :]]
    mirrored = spectrum[:, (-rows % H)[:, None], (-columns).clamp(min=0)[None, :]].conj()
    return torch.where(columns >= 0, direct, mirrored)


def _pair_masks(masks: Tensor) -> Tensor:
    """Return the complex masks m_2q + i m_(2q+1) [ceil(K/2), h, w] of real masks m [K, h, w]."""
    return pair(masks, masks.shape[0])


def split_bands(
    spectrum: Tensor,
    masks: list[Tensor],
    i_powers: list[int],
    widths: list[int],
    width: int,
    paired: bool = False,
) -> list[Tensor]:
    """Return the spectra of bands: i^power * mask * (block of lowest frequencies), for each group.

    If ``paired``, two real masks are applied as one complex mask, and the results are [N, ceil(K/2), h, w].
    """
    out = []
    masks = [_pair_masks(mask) for mask in masks] if paired else masks
    for mask, power, w in zip(masks, i_powers, widths):
        h, columns = mask.shape[-2:]
        rows = signed_frequencies(h).to(spectrum.device)
        cols = signed_frequencies(w).to(spectrum.device)[:columns]
        out.append(_read(spectrum, rows, cols, width)[:, None] * mask * 1j**power)
    return out


def merge_bands(
    bands: list[Tensor],
    masks: list[Tensor],
    i_powers: list[int],
    widths: list[int],
    height: int,
    width: int,
    whole: bool = False,
    paired: bool = False,
) -> Tensor:
    """Return the spectra of images. The adjoint of :func:`split_bands` with opposite ``i_powers``.

    Image n contains plane n mod P of a group with P planes.
    """
    planes = max(band.shape[0] for band in bands)
    masks = [_pair_masks(mask).conj() for mask in masks] if paired else masks
    out = bands[0].new_zeros(planes, height, width if whole else width // 2 + 1)
    for band, mask, power, w in zip(bands, masks, i_powers, widths):
        h, columns = mask.shape[-2:]
        rows = signed_frequencies(h).to(band.device)
        cols = signed_frequencies(w).to(band.device)[:columns]
        values = (band * mask * 1j**power).sum(1)
        values = values.repeat(planes // max(band.shape[0], 1), 1, 1)
        if whole:
            part = torch.zeros_like(out)
            part[:, (rows % height)[:, None], (cols % width)[None, :]] = values
            out = out + part
            continue
        direct = min(w // 2 + 1, columns)  # the first columns, of frequencies that are not negative
        at = lambda r, c: (slice(None), (r % height)[:, None], c[None, :])
        part = torch.zeros_like(out)
        part[at(rows, cols[:direct])] = values[..., :direct]
        mirrored = torch.zeros_like(out)
        mirrored[at(-rows, -cols[direct:])] = values[..., direct:].conj()
        out = out + part + mirrored
    return out


def _fft2(t: Tensor) -> Tensor:
    return torch.fft.fft2(t) if t.numel() else t + 0j


def _ifft2(t: Tensor) -> Tensor:
    return torch.fft.ifft2(t, norm="forward") if t.numel() else t


def _pair_orientations(bands: Tensor) -> Tensor:
    """Return the real parts of bands [N, K, h, w] in pairs, [N, ceil(K/2), h, w] complex."""
    N, K = bands.shape[:2]
    return pair(bands.flatten(0, 1), K).unflatten(0, (N, (K + 1) // 2))


def _unpair_orientations(pairs: Tensor, K: int) -> Tensor:
    """Return real bands [N, K, h, w] of complex pairs [N, ceil(K/2), h, w]."""
    return unpair(pairs.flatten(0, 1), K).unflatten(0, (len(pairs), K))


def split_planes(planes: Tensor, filters: list[Tensor], i_powers: list[int], forms: list[int]) -> list[Tensor]:
    """Return the bands of planes: ifft2(i^power * filter * crop(fft2(plane))), without normalisation.

    One FFT computes two real bands, with their masks as one complex mask.
    """
    X, out = _fft2(planes), []
    for masks, power, form in zip(filters, i_powers, forms):
        is_complex = form == FORMS["complex"]
        mask = masks if is_complex else _pair_masks(masks)
        band = _ifft2(crop(X, *mask.shape[-2:])[:, None] * mask * 1j**power)
        band = band if is_complex else _unpair_orientations(band, len(masks))
        out.append(torch.complex(band, torch.zeros_like(band)) if form == SPLIT_FORMS["widened"] else band)
    return out


def merge_planes(
    bands: list[Tensor],
    filters: list[Tensor],
    i_powers: list[int],
    forms: list[int],
    residual: Tensor | None,
    height: int,
    width: int,
) -> Tensor:
    """Return real planes. The adjoint of :func:`split_planes` with opposite ``i_powers``.

    Form "real" ignores the imaginary parts of bands. Plane n mod P of the residual's P planes is added to plane n.
    """
    X = torch.zeros(len(bands[0]), height, width, dtype=filters[0].dtype.to_complex(), device=bands[0].device)
    for band, masks, power, form in zip(bands, filters, i_powers, forms):
        is_complex = form == FORMS["complex"]
        mask = masks if is_complex else _pair_masks(masks).conj()
        if form == FORMS["pairs"]:  # drops the imaginary part of a last orientation without a partner
            band = _unpair_orientations(band, len(masks))
        band = band if is_complex else _pair_orientations(band)
        X = X + pad((_fft2(band) * mask * 1j**power).sum(1), height, width)
    out = _ifft2(X).real
    return out if residual is None else out + residual.repeat(len(out) // max(len(residual), 1), 1, 1)


def polar_split(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return amplitude and phase in radians. The phase of 0 is 0."""
    amplitude, phase = coefficients.abs(), coefficients.angle()
    zero = coefficients.imag.detach()  # 0 or -0, with derivative 0
    return amplitude, torch.where(amplitude == 0, zero, phase)


def polar_split_backward(coefficients: Tensor, grad_amplitude: Tensor, grad_phase: Tensor) -> Tensor:
    """Return c / |c| (g_amplitude + i g_phase / |c|), or 0 if c = 0.

    The quotient g_phase / |c| is limited to the largest finite number. It is NaN if g_phase is infinite.
    """
    amplitude = coefficients.abs()
    quotient = _divided_or_zero(grad_phase, amplitude)
    largest = torch.finfo(quotient.dtype).max
    quotient = torch.where(grad_phase.isinf(), grad_phase - grad_phase, quotient.clamp(-largest, largest))
    return _direction_or_zero(coefficients, amplitude) * torch.complex(grad_amplitude, quotient)


def polar_join(amplitude: Tensor, phase: Tensor) -> Tensor:
    """Return amplitude * exp(i phase)."""
    return torch.complex(amplitude * phase.cos(), amplitude * phase.sin())


def polar_join_backward(grad: Tensor, amplitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Return Re(g exp(-i phase)) and amplitude Im(g exp(-i phase))."""
    polar_grad = grad * torch.complex(phase.cos(), -phase.sin())
    return polar_grad.real, amplitude * polar_grad.imag


def _divided_or_zero(x: Tensor, a: Tensor) -> Tensor:
    """Return x / a, or 0 if a = 0."""
    zero = a == 0
    return torch.where(zero, torch.zeros_like(x), x / torch.where(zero, torch.ones_like(a), a))


def _direction_or_zero(c: Tensor, amplitude: Tensor) -> Tensor:
    return torch.complex(_divided_or_zero(c.real, amplitude), _divided_or_zero(c.imag, amplitude))


def _product_angle(factor: Tensor, angle: Tensor) -> Tensor:
    """Return factor * angle, or 0 if this product of two finite numbers overflows."""
    product = factor * angle
    return torch.where(product.isinf(), angle * (factor - factor), product)


def _times_exp(c: Tensor, log_gain: Tensor) -> Tensor:
    """Return c exp(log_gain). It is correct even if exp(log_gain) alone overflows or is 0."""
    limit = 87.0 if log_gain.dtype == torch.float32 else 700.0  # exp(limit) and exp(-limit) are normal numbers
    inside = log_gain.clamp(-limit, limit)
    return c * inside.exp() * (log_gain.clamp(-2 * limit, 2 * limit) - inside).exp()


def _moves(coefficients: Tensor, floor: float) -> Tensor:
    """Return which coefficients change: all but 0 and those below ``floor`` times the largest amplitude of their band.

    NaN counts as a coefficient that changes, so that the result is NaN, too.
    """
    a = coefficients.detach().abs()
    largest = a.amax((-2, -1), keepdim=True) if a.numel() else a
    return ~(a < floor * largest) & ~(a == 0)


def step(coefficients: Tensor, gradient: Tensor, eps: float, rule: int, floor: float) -> tuple[Tensor, Tensor]:
    """Return the phase step and the amplitude step along -gradient.

    Rule "complex": arg(c' conj c) and |c'| - |c|, with c' = c - eps G for the gradient G.
    Rule "polar": -eps Im(G conj c), and the step -eps Re(G conj c) of the log amplitude.
    """
    moves = _moves(coefficients, floor)
    c = torch.where(moves, coefficients, torch.ones_like(coefficients))
    if rule == RULES["complex"]:
        moved = c - eps * gradient
        product = moved * c.conj()
        product = torch.complex(product.real, product.imag + 0.0)  # -0.0 becomes 0.0, so a phase step is never -pi
        phase, amplitude = product.angle(), moved.abs() - c.abs()
    else:
        log_step = -eps * gradient * c.conj()
        phase, amplitude = log_step.imag, log_step.real
    zero = torch.zeros_like(phase)
    return torch.where(moves, phase, zero), torch.where(moves, amplitude, zero)


def step_backward(
    grad_phase_step: Tensor,
    grad_amplitude_step: Tensor,
    coefficients: Tensor,
    gradient: Tensor,
    eps: float,
    rule: int,
    floor: float,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of :func:`step` with respect to ``coefficients`` and ``gradient``.

    The second result is real if ``gradient`` is real.
    """
    moves = _moves(coefficients, floor)
    coefficients = torch.where(moves, coefficients, torch.ones_like(coefficients))
    gradient = torch.where(moves, gradient, torch.zeros_like(gradient))
    zero = torch.zeros_like(grad_phase_step)
    g_phase = torch.where(moves, grad_phase_step, zero)
    g_amplitude = torch.where(moves, grad_amplitude_step, zero)
    if rule == RULES["complex"]:
        moved = coefficients - eps * gradient
        through_moved = polar_split_backward(moved, g_amplitude, g_phase)
        grad_c = through_moved + polar_split_backward(coefficients, -g_amplitude, -g_phase)
        grad_g = -eps * through_moved
    else:
        g = -eps * torch.complex(g_amplitude, g_phase)
        grad_c, grad_g = g.conj() * gradient, g * coefficients
    return grad_c, grad_g if gradient.is_complex() else grad_g.real


def extrapolate(
    coefficients: Tensor,
    phase_step: Tensor | None,
    amplitude_step: Tensor | None,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    rule: int,
    form: int,
) -> Tensor:
    """Return the coefficients of frames, [F, N, K, h, w] or, as pairs, [F, N, ceil(K/2), h, w].

    Rule "complex": max(A + a dA, 0) exp(i (phi + b dphi)).
    Rule "polar": c exp(a dlogA + i b dphi).
    Phase factors b and amplitude factors a are [F, 1] or [F, N].
    """
    a, b = amplitude_factors[:, :, None, None, None], phase_factors[:, :, None, None, None]
    frames = coefficients * torch.ones_like(b)
    if phase_step is not None:
        angle = _product_angle(b, phase_step)
        frames = frames * torch.complex(angle.cos(), angle.sin())
    if amplitude_step is not None and rule == RULES["polar"]:
        frames = _times_exp(frames, a * amplitude_step)
    elif amplitude_step is not None:
        amplitude = coefficients.abs()
        at_origin = amplitude == 0
        direction = torch.where(at_origin, torch.ones_like(frames), _direction_or_zero(frames, amplitude))
        if phase_step is not None:  # a coefficient 0 has phase 0, which changes, too
            direction = torch.where(at_origin, torch.complex(angle.cos(), angle.sin()), direction)
        frames = (amplitude + a * amplitude_step).clamp(min=0) * direction
    if form == FORMS["pairs"]:
        F, N = frames.shape[:2]
        return _pair_orientations(frames.flatten(0, 1)).unflatten(0, (F, N))
    return frames if form == FORMS["complex"] else frames.real


def extrapolate_backward(
    grad: Tensor,
    coefficients: Tensor,
    phase_step: Tensor | None,
    amplitude_step: Tensor | None,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    rule: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of :func:`extrapolate` with respect to coefficients and both steps.

    The gradient of a step that is None is an empty tensor.
    """
    a, b = amplitude_factors[:, :, None, None, None], phase_factors[:, :, None, None, None]
    rotation = torch.ones_like(coefficients)
    if phase_step is not None:
        angle = _product_angle(b, phase_step)
        rotation = torch.complex(angle.cos(), angle.sin())
    none = coefficients.real.new_empty(0)
    if amplitude_step is not None and rule == RULES["complex"]:
        amplitude = coefficients.abs()
        at_origin = amplitude == 0
        direction = torch.where(at_origin, torch.ones_like(coefficients), _direction_or_zero(coefficients, amplitude))
        moved = amplitude + a * amplitude_step
        polar_grad = grad * (direction * rotation).conj()
        not_clamped = (moved > 0).to(moved.dtype)
        g_amplitude, g_phase = not_clamped * polar_grad.real, moved.clamp(min=0) * polar_grad.imag
        grad_c = polar_split_backward(coefficients, g_amplitude.sum(0), g_phase.sum(0))
        grad_phase = (b * g_phase).sum(0) if phase_step is not None else none
        return grad_c, grad_phase, (a * g_amplitude).sum(0)
    log_gain = torch.zeros_like(b) if amplitude_step is None else a * amplitude_step
    polar_grad = _times_exp(grad * (coefficients * rotation).conj(), log_gain)
    grad_c = _times_exp(grad * rotation.conj(), log_gain).sum(0)
    grad_phase = (b * polar_grad.imag).sum(0) if phase_step is not None else none
    return grad_c, grad_phase, (a * polar_grad.real).sum(0) if amplitude_step is not None else none


def morph_planes(
    images: Tensor,
    gradients: Tensor,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    analysis: list[Tensor],
    synthesis: list[Tensor],
    i_power: int,
    edit: int,
    rule: int,
    complex_bands: bool,
    eps: float,
    floor: float,
    low: float,
    high: float,
) -> Tensor:
    """Return clipped frames [F, N, H, W]. A frame whose factors are 0 equals its plane."""
    options = analysis, synthesis, i_power, edit, rule, complex_bands
    coefficients, _, _ = step_planes(images, gradients, *options, eps, floor)
    return move_planes(images, coefficients, phase_factors, amplitude_factors, *options, low, high)


def step_planes(
    images: Tensor,
    gradients: Tensor,
    analysis: list[Tensor],
    synthesis: list[Tensor],
    i_power: int,
    edit: int,
    rule: int,
    complex_bands: bool,
    eps: float,
    floor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return values for :func:`move_planes`, and the squared speeds and largest phase steps of all bands.

    The layout of the values [N, numbers] is not that of the op.
    """
    (_, H, W), groups = images.shape, len(synthesis)
    i_powers, form = [i_power] * groups, FORMS["complex" if complex_bands else "real"]
    *bands, residual = split_planes(images, analysis, [*i_powers, 0], [FORMS["complex"]] * groups + [FORMS["real"]])
    band_gradients = split_planes(gradients, synthesis, i_powers, [form] * groups)
    moves_phase, moves_amplitude = edit != EDITS["amplitude"], edit != EDITS["phase"]
    parts, squared_speeds, largest_phases = [], [], []
    for c, g in zip(bands, band_gradients):
        phase, amplitude = step(c, g, eps, rule, floor)
        phase, amplitude = phase * moves_phase, amplitude * moves_amplitude
        energy = c.real.square() + c.imag.square()
        squared = energy * phase.square() + (1 if rule == RULES["complex"] else energy) * amplitude.square()
        # With this weight, coefficients of the default pyramid have the energy of the image: forward FFTs are not
        # normalised, and an analytic band has twice the energy of a real one.
        squared_speeds.append(squared.sum((2, 3)) * c.shape[2:].numel() / (2 * H * W))
        largest_phases.append(phase.abs().amax((2, 3)))
        parts += [c.real, c.imag, phase, amplitude]
    coefficients = torch.cat([part.flatten(1) for part in (*parts, residual)], 1)
    return coefficients, torch.cat(squared_speeds, 1), torch.cat(largest_phases, 1)


def move_planes(
    images: Tensor,
    coefficients: Tensor,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    analysis: list[Tensor],
    synthesis: list[Tensor],
    i_power: int,
    edit: int,
    rule: int,
    complex_bands: bool,
    low: float,
    high: float,
) -> Tensor:
    """Return clipped frames [F, N, H, W], given the coefficients of :func:`step_planes`."""
    (N, H, W), groups, form = images.shape, len(synthesis), FORMS["complex" if complex_bands else "real"]
    moves_phase, moves_amplitude = edit != EDITS["amplitude"], edit != EDITS["phase"]
    sizes = [filters.numel() for filters in synthesis for _ in range(4)]
    *parts, residual = coefficients.split([*sizes, H * W], 1)
    frames = []
    for i, filters in enumerate(synthesis):
        real, imag, phase, amplitude = (part.reshape(N, *filters.shape) for part in parts[4 * i : 4 * i + 4])
        steps = (phase if moves_phase else None), (amplitude if moves_amplitude else None)
        moved = extrapolate(torch.complex(real, imag), *steps, phase_factors, amplitude_factors, rule, form)
        frames.append(moved.flatten(0, 1))
    opposite_i_power = -i_power % 4
    out = merge_planes(frames, synthesis, [opposite_i_power] * groups, [form] * groups, residual.reshape(N, H, W), H, W)
    out = out.unflatten(0, (len(phase_factors), N))
    return keep_still_frames(images, out, phase_factors, amplitude_factors, edit).clamp(low, high)


def keep_still_frames(
    images: Tensor, frames: Tensor, phase_factors: Tensor, amplitude_factors: Tensor, edit: int
) -> Tensor:
    """Return ``frames`` with the values of the images where factors are 0, but with unchanged derivatives."""
    phase_still = (phase_factors == 0) | (edit == EDITS["amplitude"])
    amplitude_still = (amplitude_factors == 0) | (edit == EDITS["phase"])
    still = (phase_still & amplitude_still)[..., None, None]
    return torch.where(still, images, frames).detach() + (frames - frames.detach())
