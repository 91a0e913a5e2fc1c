"""Edit families: frames compared with reference ops, factors, chunks and gradients."""

from itertools import product

import pytest
import torch
from inputs import DTYPES, image, normal
from messages import raises_with
from pairwise import pairwise
from tolerances import assert_close

from steerlens_fast import CSPFamily, FourierFamily, LumaFamily, PixelFamily, SteerablePyramid, native
from steerlens_fast.families import EDITS, make_family
from steerlens_fast.families.csp import CSPAnalysis, CSPPlaneStep, CSPStep
from steerlens_fast.ops import reference
from steerlens_fast.ops.enums import FORMS
from steerlens_fast.pyramid import filters
from steerlens_fast.pyramid import reference as pyramid_reference

RULES = ("complex", "polar")
SIZES = [(16, 16), (17, 22), (16, 19), (13, 17)]
SYNTHESES = ("real", "adjoint")
rules = pytest.mark.parametrize("rule", RULES)


def image_and_gradient(*shape, dtype=torch.float64, device="cpu"):
    return image(*shape, dtype=dtype, device=device), normal(*shape, dtype=dtype, device=device)


def composed(family, x, gradient, factors, amplitude_factors=None, bounds=None):
    """Return frames [F, N, H, W] by the reference ops and autograd, from ``x`` and ``gradient`` [N, H, W]."""
    g, synthesis, rule = family.pyramid.geometry, family.pyramid.synthesis, RULES.index(family.rule)
    x, gradient = x.double().cpu(), gradient.double().cpu()
    b = torch.as_tensor(factors, dtype=torch.float64)
    a = b if amplitude_factors is None else torch.as_tensor(amplitude_factors, dtype=torch.float64)
    high, bands, low = pyramid_reference.analyze(x, g)
    leaves = [band.clone().requires_grad_() for band in bands]
    grads = torch.autograd.grad(pyramid_reference.synthesize(high, leaves, low, g, synthesis), leaves, gradient)
    scales = range(g.num_scales) if family.scales is None else family.scales
    orientations = range(g.orientations) if family.orientations is None else family.orientations
    moved = [[band.clone() for _ in b] for band in bands]
    for s in scales:
        G = grads[s].real if synthesis == "real" else grads[s]
        phase, amplitude = reference.step(bands[s], G, family.eps, rule, family.floor)
        steps = (
            (None if family.edit == "amplitude" else phase),
            (None if family.edit == "phase" else amplitude),
        )
        tables = [t[:, None] if t.dim() == 1 else t for t in (b, a)]
        extrapolated = reference.extrapolate(bands[s], *steps, *tables, rule, FORMS["complex"])
        for j, k in product(range(len(b)), orientations):
            moved[s][j][:, k] = extrapolated[j][:, k]
    frames = [pyramid_reference.synthesize(high, [m[j] for m in moved], low, g, synthesis) for j in range(len(b))]
    return torch.stack(frames).clamp(*bounds) if bounds else torch.stack(frames)


# --- Frames


@pairwise(dtype=DTYPES, shape=[(16, 16), (17, 22)], synthesis=SYNTHESES, edit=EDITS, rule=RULES)
def test_frames_are_those_of_the_reference(shape, synthesis, edit, rule, dtype, device):
    family = CSPFamily(SteerablePyramid(shape, order=2, synthesis=synthesis), edit, rule, eps=0.3)
    x, gradient = image_and_gradient(3, *shape, dtype=dtype, device=device)
    factors = [0.0, 0.5, 2.0]
    frames = family.prepare(x, gradient).render(factors)
    assert frames.shape == (3, 3, *shape)
    assert_close(frames, composed(family, x, gradient, factors), "render", like=1.0)


@rules
@pytest.mark.parametrize(
    "option",
    [
        {"order": 0, "orientations": 3},
        {"tight_frame": True},
        {"downsample": False},
        {"width": 1.7, "height": 1},
        {"downsample": False, "tight_frame": True, "synthesis": "adjoint"},
    ],
    ids=str,
)
def test_frames_with_every_option_are_those_of_the_reference(option, rule):
    family = CSPFamily(SteerablePyramid((16, 19), **option), "joint", rule, eps=0.3)
    x, gradient = image_and_gradient(2, 16, 19)
    frames = family.prepare(x, gradient).render([1.0, 3.0])
    assert_close(frames, composed(family, x, gradient, [1.0, 3.0]), "render", like=1.0)


@pairwise(dtype=DTYPES, synthesis=SYNTHESES, edit=EDITS, rule=RULES)
def test_factor_zero_is_the_source(synthesis, edit, rule, dtype, device):
    family = CSPFamily(SteerablePyramid((23, 18), synthesis=synthesis), edit, rule)
    x, gradient = image_and_gradient(2, 3, 23, 18, dtype=dtype, device=device)
    assert_close(family.prepare(x, gradient).render([0.0])[0], x, "reconstruction", absolute=True)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("synthesis", SYNTHESES)
@pytest.mark.parametrize("scales, orientations", [([0], None), (None, [1, 3]), ([2, 0], [2])], ids=str)
def test_only_the_chosen_bands_move(scales, orientations, edit, synthesis, device):
    pyramid = SteerablePyramid((32, 33), synthesis=synthesis)
    family = CSPFamily(pyramid, edit, scales=scales, orientations=orientations)
    x, gradient = image_and_gradient(2, 32, 33, device=device)
    frames = family.prepare(x, gradient).render([1.0, 2.0])
    assert_close(frames, composed(family, x, gradient, [1.0, 2.0]), "render", like=1.0)
    whole = CSPFamily(pyramid, edit).prepare(x, gradient).render([1.0, 2.0])
    assert (frames - whole).abs().max() > 1e-3


@pytest.mark.parametrize("restriction", [{"scales": []}, {"orientations": []}], ids=str)
def test_frames_without_moving_bands_are_the_source(restriction, device):
    family = CSPFamily(SteerablePyramid((16, 16)), **restriction)
    x, gradient = image_and_gradient(2, 16, 16, device=device)
    frames = family.prepare(x, gradient).render([1.0, 5.0])
    assert_close(frames, x.expand(2, 2, 16, 16), "reconstruction", absolute=True)


def test_larger_floor_moves_less(device):
    """Coefficients below ``floor`` times the largest amplitude do not move: with a floor of 2, all of them."""
    x, gradient = image_and_gradient(2, 16, 16, device=device)
    moved = []
    for floor in (2.0, 0.5, 0.0):
        family = CSPFamily(SteerablePyramid((16, 16)), floor=floor)
        frames = family.prepare(x, gradient).render([1.0])
        assert_close(frames, composed(family, x, gradient, [1.0]), "render", like=1.0)
        moved.append((frames[0] - x).norm().item())
    assert moved[0] < 1e-12 < moved[1] < moved[2]


@pytest.mark.parametrize("synthesis, edit", [("adjoint", "phase"), ("real", "joint")])
def test_grating_moves_to_its_shifted_copy(synthesis, edit):
    """The gradient is that of half the squared distance to a copy shifted by a quarter of a period.

    If only phases move, the contrast does not change.
    """
    x = 2 * torch.pi * 8 * torch.arange(64, dtype=torch.float64) / 64
    source, target = (0.5 + 0.3 * torch.cos(x - turn).expand(64, 64) for turn in (0.0, torch.pi / 2))
    family = CSPFamily(SteerablePyramid((64, 64), synthesis=synthesis), edit, floor=1e-3)
    frames = family.prepare(source, source - target).render(torch.linspace(0, 12, 121))
    coefficient = torch.fft.fft(frames, dim=-1)[..., 8].mean(-1) / 32  # 0.3 for the source
    distances = (frames - target).flatten(1).norm(dim=1)
    near = distances < 0.1 * distances[0]
    assert near.any()
    assert coefficient.angle()[: int(near.int().argmax())].diff().max() < 0, "the phase does not fall steadily"
    if edit == "phase":
        assert (coefficient.abs() / 0.3 - 1).abs().max() < 0.01, "the contrast changes"


def test_loss_decreases_to_first_order(device):
    x, gradient = image_and_gradient(1, 24, 24, device=device)
    for synthesis, rule in product(("real", "adjoint"), RULES):
        family = CSPFamily(SteerablePyramid((24, 24), synthesis=synthesis), "joint", rule, eps=1e-6)
        change = (family.prepare(x, gradient).render([1.0])[0] - x) / 1e-6
        assert (change * gradient).sum() < 0


def test_options_have_the_documented_defaults():
    csp, fourier = CSPFamily(SteerablePyramid((16, 16))), FourierFamily()
    assert (csp.edit, csp.rule, csp.eps, csp.floor) == ("phase", "complex", 1.0, 1e-6)
    assert (fourier.rule, fourier.eps, fourier.floor) == ("complex", 1.0, 1e-6)
    assert PixelFamily().eps == 1.0


# --- Factors and bounds


LEAD = (2, 3)  # images, channels


def as_planes(table):
    """Return a factor table for :func:`composed`: [F] or [F, planes]."""
    t = torch.as_tensor(table, dtype=torch.float64)
    return t if t.dim() == 1 else t.reshape(*t.shape, *[1] * (3 - t.dim())).expand(len(t), *LEAD).flatten(1)


@pytest.mark.parametrize(
    "table",
    [
        [0.5, 2],
        (1,),
        torch.tensor([1, 2, 3]),
        normal(4, 2),
        normal(2, 2, 3),
        [[1.0, 2.0], [0.0, -1.0]],
        range(3),
    ],
    ids=lambda t: f"{type(t).__name__}{list(torch.as_tensor(t).shape)}",
)
def test_factor_tables_may_be_sequences_or_tensors(table, device):
    family = CSPFamily(SteerablePyramid((16, 16)), "joint", eps=0.2)
    x, gradient = image_and_gradient(*LEAD, 16, 16, device=device)
    table = table.to(device) if isinstance(table, torch.Tensor) else table
    frames = family.prepare(x, gradient).render(table)
    planes = lambda t: t.flatten(0, 1)
    factors = as_planes(table.cpu() if isinstance(table, torch.Tensor) else list(table))
    expected = composed(family, planes(x), planes(gradient), factors)
    assert_close(frames, expected.reshape(-1, *LEAD, 16, 16), "render", like=1.0)
    pixels = PixelFamily(0.2).prepare(x, gradient).render(table)
    b = factors.reshape(len(frames), *([1, 1] if factors.dim() == 1 else LEAD), 1, 1).to(device)
    assert_close(pixels, x - 0.2 * b * gradient, "render")


@rules
def test_amplitudes_move_by_amplitude_factors(rule, device):
    family = CSPFamily(SteerablePyramid((16, 16)), "joint", rule, eps=0.2)
    x, gradient = image_and_gradient(2, 16, 16, device=device)
    b, a = [0.0, 1.0, 2.0], [2.0, 0.0, 1.0]
    frames = family.prepare(x, gradient).render(b, a)
    assert_close(frames, composed(family, x, gradient, b, a), "render", like=1.0)
    amplitude_edit = CSPFamily(family.pyramid, "amplitude", rule, eps=0.2).prepare(x, gradient).render([2.0])[0]
    assert_close(frames[0], amplitude_edit, "render")
    per_plane = torch.tensor([[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]], device=device)
    assert_close(family.prepare(x, gradient).render(b, per_plane), frames, "render")


def luma_of_phases():
    return LumaFamily(CSPFamily(SteerablePyramid((16, 16)), "phase"))


@pytest.mark.parametrize(
    "make", [lambda: CSPFamily(SteerablePyramid((16, 16)), "phase"), FourierFamily, PixelFamily, luma_of_phases]
)
def test_amplitude_factors_raise_if_no_amplitudes_move(make):
    family, (x, gradient) = make(), image_and_gradient(2, 3, 16, 16)
    with raises_with(ValueError, "amplitude_factors", "None", "type"):
        family.prepare(x, gradient).render([1.0], [2.0])
    with raises_with(ValueError, "amplitude_factors", "None", "type"):
        family.anchor(x).advance(gradient, [1.0], [2.0])


def test_amplitude_factors_default_to_factors(device):
    family = CSPFamily(SteerablePyramid((16, 16)), "amplitude")
    x, gradient = image_and_gradient(2, 16, 16, device=device)
    assert_close(
        family.prepare(x, gradient).render([2.0]),
        composed(family, x, gradient, [2.0]),
        "render",
        like=1.0,
    )


@pytest.mark.parametrize("bounds", [(0, 1), (0.2, 0.7)])
def test_bounds_clip_the_frames(bounds, device):
    x, gradient = image_and_gradient(2, 16, 16, device=device)
    for family in (CSPFamily(SteerablePyramid((16, 16))), PixelFamily()):
        free = family.prepare(x, gradient).render([0.0, 3.0])
        assert free.max() > bounds[1] and free.min() < bounds[0]
        clipped = family.prepare(x, gradient).render([0.0, 3.0], bounds=bounds)
        assert torch.equal(clipped, free.clamp(*bounds))


def test_no_frames_and_no_planes_give_empty_results(device):
    for family in (CSPFamily(SteerablePyramid((16, 16))), PixelFamily()):
        x, gradient = image_and_gradient(2, 3, 16, 16, device=device)
        assert family.prepare(x, gradient).render([]).shape == (0, 2, 3, 16, 16)
        assert family.prepare(x[:0], gradient[:0]).render([0.0, 1.0]).shape == (2, 0, 3, 16, 16)


def test_single_plane_is_a_batch_of_one(device):
    x, gradient = image_and_gradient(16, 16, device=device)
    family = CSPFamily(SteerablePyramid((16, 16)))
    frames = family.prepare(x, gradient).render([1.0])
    assert_close(frames, family.prepare(x[None], gradient[None]).render([1.0])[:, 0], "render")
    assert PixelFamily().prepare(x, gradient).render([1.0, 2.0]).shape == (2, 16, 16)


def test_rendering_twice_gives_the_same_and_changes_no_input(device):
    x, gradient = image_and_gradient(2, 16, 16, dtype=torch.float32, device=device)
    before = x.clone(), gradient.clone()
    motion = CSPFamily(SteerablePyramid((16, 16)), "joint").prepare(x, gradient)
    first = motion.render([0.0, 1.0], bounds=(0, 1))
    assert torch.equal(motion.render([0.0, 1.0], bounds=(0, 1)), first)
    assert torch.equal(x, before[0]) and torch.equal(gradient, before[1])
    assert first.data_ptr() != x.data_ptr()


def test_half_precision_is_rendered_in_float32(device):
    x, gradient = image_and_gradient(2, 16, 16, dtype=torch.float16, device=device)
    frames = CSPFamily(SteerablePyramid((16, 16))).prepare(x, gradient).render([0.0])
    assert frames.dtype == torch.float32
    assert_close(frames[0], x.float(), "reconstruction", absolute=True)


# --- Chunks


@pairwise(size=[1, 40_000], synthesis=SYNTHESES, edit=EDITS)
def test_chunks_do_not_change_frames(small_chunks, size, synthesis, edit, device):
    family = CSPFamily(SteerablePyramid((23, 18), synthesis=synthesis), edit)
    x, gradient = image_and_gradient(3, 2, 23, 18, dtype=torch.float32, device=device)
    table = normal(5, 3, dtype=torch.float32, device=device)
    render = lambda: family.prepare(x, gradient).render(table, bounds=(0, 1))
    whole = render()
    small_chunks(size)
    chunked = render()
    if device.type == "cpu":
        assert torch.equal(chunked, whole)
    assert_close(chunked, whole, "rounding")


# --- Gradients


@pairwise(chunked=[False, True], synthesis=SYNTHESES, edit=EDITS, rule=RULES)
def test_numerical_derivatives_agree(small_chunks, chunked, synthesis, edit, rule):
    """Derivatives with respect to image, gradient and factors are checked."""
    if chunked:
        small_chunks()
    family = CSPFamily(SteerablePyramid((8, 8), order=1, synthesis=synthesis), edit, rule, eps=0.05, floor=1e-3)
    x, gradient = image_and_gradient(2, 8, 8)
    values = x, gradient, torch.tensor([0.5, 1.5], dtype=torch.float64)
    values += () if edit == "phase" else (normal(2, 2),)  # amplitude factors
    render = lambda x, g, *factors: family.prepare(x, g).render(*factors)
    assert torch.autograd.gradcheck(render, [v.requires_grad_() for v in values], fast_mode=True)


def test_numerical_derivatives_of_pixel_agree():
    x, gradient = image_and_gradient(2, 3, 3)
    render = lambda x, g, b: PixelFamily(0.3).prepare(x, g).render(b)
    values = x, gradient, torch.tensor([0.5, 1.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(render, [v.requires_grad_() for v in values])


@pytest.mark.parametrize("which", ["image", "gradient", "factors"])
def test_each_input_alone_has_a_gradient(which, device):
    family = CSPFamily(SteerablePyramid((16, 16)), "joint")
    x, gradient = image_and_gradient(2, 16, 16, device=device)
    values = {"image": x, "gradient": gradient, "factors": torch.tensor([0.5, 1.0], device=device)}
    values[which].requires_grad_()
    frames = family.prepare(values["image"], values["gradient"]).render(values["factors"], bounds=(0, 1))
    (grad,) = torch.autograd.grad(frames.square().sum(), values[which])
    assert grad.isfinite().all() and grad.abs().max() > 0
    with torch.no_grad():
        again = family.prepare(values["image"], values["gradient"]).render(values["factors"], bounds=(0, 1))
    assert not again.requires_grad
    assert_close(again, frames, "rounding")


# --- Masks first made in inference mode or for meta tensors


def fresh_family(tag: int) -> CSPFamily:
    """Return a family whose masks are not cached yet: no other test has its geometry."""
    return CSPFamily(SteerablePyramid((16, 16), width=0.9 + tag / 1024))


def test_masks_made_in_inference_mode_work_with_autograd():
    family = fresh_family(2)
    x, gradient = image_and_gradient(2, 16, 16)
    with torch.inference_mode():
        first = family.prepare(x, gradient).render([1.0])
    again = family.prepare(x.requires_grad_(), gradient).render([1.0])
    assert_close(again, first, "render")
    assert torch.autograd.grad(again.sum(), x)[0].isfinite().all()


def test_meta_tensors_give_meta_frames():
    frames = fresh_family(3).prepare(*(torch.empty(2, 3, 16, 16, device="meta") for _ in range(2))).render([0.0, 1.0])
    assert frames.shape == (2, 2, 3, 16, 16) and frames.device.type == "meta"


# --- The Fourier family


def as_real_image_spectrum(spectrum):
    """Return the half spectrum of a real image: in column 0, rows k and -k are made conjugate."""
    out, H = spectrum.clone(), spectrum.shape[-2]
    rows = torch.arange(1, (H + 1) // 2)
    out[..., H - rows, 0] = spectrum[..., rows, 0].conj()
    return out


def still_frequencies(shape):
    """Return a mask of DC and of every frequency with a Nyquist component."""
    H, W = shape
    still = torch.zeros(H, W // 2 + 1, dtype=torch.bool)
    still[0, 0] = True
    still[H // 2] |= H % 2 == 0
    still[:, W // 2] |= W % 2 == 0
    return still


def band_response(family, shape):
    """Return the sum of the bands' squared filters, on the half spectrum; 1 if the family moves all bands."""
    if family.scales is None and family.orientations is None:
        return torch.ones(shape[0], shape[1] // 2 + 1, dtype=torch.float64)
    g = family.pyramid.geometry
    scales = range(g.num_scales) if family.scales is None else family.scales
    keep = list(range(g.orientations) if family.orientations is None else family.orientations)
    squares = [reference.pad(filters.band_filter(g, s)[keep].square().sum(0), *shape) for s in scales]
    return sum(squares, torch.zeros(shape, dtype=torch.float64))[:, : shape[1] // 2 + 1]


def fourier_phase_step(family, x, gradient, spectrum):
    """Return the step [..., H, W//2+1] by the reference, with the gradient by autograd."""
    leaf = spectrum.clone().requires_grad_()
    (G,) = torch.autograd.grad(torch.fft.irfft2(as_real_image_spectrum(leaf), s=x.shape[-2:]), leaf, gradient)
    G = (G * band_response(family, x.shape[-2:])).masked_fill(still_frequencies(x.shape[-2:]), 0.0)
    phase, _ = reference.step(spectrum, G, family.eps, RULES.index(family.rule), family.floor)
    rows = torch.arange(1, (x.shape[-2] + 1) // 2)
    phase[..., x.shape[-2] - rows, 0] = -phase[..., rows, 0]  # in column 0, rows k and -k have opposite phases
    return phase


def composed_fourier(family, x, gradient, factors):
    """Return frames [F, ..., H, W] in plain torch."""
    x, gradient = x.double().cpu(), gradient.double().cpu()
    X = torch.fft.rfft2(x)
    phase = fourier_phase_step(family, x, gradient, X)
    return torch.stack([torch.fft.irfft2(X * torch.exp(1j * b * phase), s=x.shape[-2:]) for b in factors])


@pairwise(dtype=DTYPES, shape=SIZES, rule=RULES)
def test_fourier_frames_are_those_of_the_reference(shape, rule, dtype, device):
    family = FourierFamily(rule, eps=0.3)
    x, gradient = image_and_gradient(2, 3, *shape, dtype=dtype, device=device)
    frames = family.prepare(x, gradient).render([0.0, 0.5, 2.0])
    assert frames.dtype == dtype and frames.shape == (3, 2, 3, *shape)
    assert_close(frames, composed_fourier(family, x, gradient, [0.0, 0.5, 2.0]), "render", like=1.0)


@rules
@pytest.mark.parametrize("scales, orientations", [([0], None), (None, [1, 3]), ([1], [0]), ([], None)], ids=str)
def test_fourier_moves_only_the_chosen_bands(scales, orientations, rule):
    family = FourierFamily(rule, pyramid=SteerablePyramid((32, 33)), scales=scales, orientations=orientations)
    x, gradient = image_and_gradient(2, 32, 33)
    frames = family.prepare(x, gradient).render([1.0, 2.0])
    assert_close(frames, composed_fourier(family, x, gradient, [1.0, 2.0]), "render", like=1.0)
    whole = FourierFamily(rule).prepare(x, gradient).render([1.0, 2.0])
    assert (frames - whole).abs().max() > 1e-3


@rules
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_fourier_keeps_amplitudes_and_dc_and_nyquist(shape, rule):
    x, gradient = image_and_gradient(2, *shape)
    before, after = (torch.fft.rfft2(t) for t in (x, FourierFamily(rule).prepare(x, gradient).render([3.0])[0]))
    assert_close(after.abs(), before.abs(), "pyramid")
    still = still_frequencies(shape)
    assert_close(after[:, still], before[:, still], "pyramid", like=before.abs().max())
    assert (after - before)[:, ~still].abs().max() > 0.1


def test_fourier_frames_agree_with_the_reference_for_every_floor():
    x, gradient = image_and_gradient(2, 16, 16)
    for floor in (2.0, 0.02, 0.0):
        family = FourierFamily(floor=floor)
        frames = family.prepare(x, gradient).render([1.0])
        assert_close(frames, composed_fourier(family, x, gradient, [1.0]), "render", like=1.0)


@pairwise(chunked=[False, True], shape=[(8, 8), (7, 9)], rule=RULES)
def test_numerical_derivatives_of_fourier_agree(small_chunks, chunked, shape, rule):
    """Derivatives with respect to image, gradient and factors are checked, with one factor for all planes and
    with one for each."""
    if chunked:
        small_chunks()
    x, gradient = image_and_gradient(2, *shape)
    render = lambda x, g, b: FourierFamily(rule, eps=0.3, floor=0.0).prepare(x, g).render(b)
    for b in (torch.tensor([0.5, 1.5], dtype=torch.float64), normal(2, 2)):
        assert torch.autograd.gradcheck(render, [v.clone().requires_grad_() for v in (x, gradient, b)], fast_mode=True)


# --- The luma and pixel families

BASES = {
    "pixel": PixelFamily(0.3),
    "fourier": FourierFamily(eps=0.3, floor=0.0),
    "csp": CSPFamily(SteerablePyramid((8, 8), order=1), "joint", eps=0.05, floor=1e-3),
    "pixel-band": PixelFamily(0.3, SteerablePyramid((8, 8), order=1), [0], [1]),
    "fourier-band": FourierFamily(pyramid=SteerablePyramid((8, 8), order=1), orientations=[0], floor=0.0),
}
bases = pytest.mark.parametrize("base", BASES)
WEIGHTS = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


@bases
def test_luma_adds_the_motion_of_y_to_all_channels(base, dtype, device):
    x, gradient = image_and_gradient(2, 3, 8, 8, dtype=dtype, device=device)
    frames = LumaFamily(BASES[base]).prepare(x, gradient).render([0.0, 0.5, 2.0])
    y = torch.einsum("c,bchw->bhw", WEIGHTS.to(device), x.double())
    moved = BASES[base].prepare(y, gradient.double().sum(1)).render([0.0, 0.5, 2.0])
    assert_close(frames, x.double() + (moved - y)[:, :, None], "render", like=1.0)


@bases
def test_numerical_derivatives_of_luma_agree(base):
    x, gradient = image_and_gradient(1, 3, 8, 8)
    values = x, gradient, torch.tensor([0.5, 1.5], dtype=torch.float64)
    render = lambda x, g, b: LumaFamily(BASES[base]).prepare(x, g).render(b)
    assert torch.autograd.gradcheck(render, [v.requires_grad_() for v in values], fast_mode=True)


@pytest.mark.parametrize("scales, orientations", [([0], None), (None, [1, 3]), ([1], [0]), ([], None)], ids=str)
def test_pixel_moves_only_the_chosen_bands(scales, orientations, dtype, device):
    family = PixelFamily(0.3, SteerablePyramid((16, 19)), scales, orientations)
    x, gradient = image_and_gradient(2, 16, 19, dtype=dtype, device=device)
    G = torch.fft.rfft2(gradient.double().cpu()) * band_response(family, (16, 19))
    expected = [x.double().cpu() - 0.3 * b * torch.fft.irfft2(G, s=(16, 19)) for b in (0.0, 2.0)]
    assert_close(family.prepare(x, gradient).render([0.0, 2.0]), torch.stack(expected), "render")


def test_numerical_derivatives_of_pixel_with_bands_agree():
    x, gradient = image_and_gradient(2, 8, 8)
    family = BASES["pixel-band"]
    values = x, gradient, normal(2, 2)
    render = lambda x, g, b: family.prepare(x, g).render(b)
    assert torch.autograd.gradcheck(render, [v.requires_grad_() for v in values], fast_mode=True)


# --- Every family

EVERY = {**BASES, **{f"luma-{name}": LumaFamily(family) for name, family in BASES.items()}}


def test_every_family_renders_no_frames_and_no_planes(device):
    x, gradient = image_and_gradient(2, 3, 8, 8, device=device)
    for name, family in EVERY.items():
        assert family.prepare(x, gradient).render([]).shape == (0, 2, 3, 8, 8), name
        assert family.prepare(x[:0], gradient[:0]).render([0.0, 1.0]).shape == (2, 0, 3, 8, 8), name


@pytest.mark.parametrize("name", EVERY)
def test_chunks_do_not_change_frames_of_any_family(name, small_chunks, device):
    x, gradient = image_and_gradient(3, 3, 8, 8, dtype=torch.float32, device=device)
    table = normal(5, 3, dtype=torch.float32, device=device)
    render = lambda: EVERY[name].prepare(x, gradient).render(table, bounds=(0, 1))
    whole = render()
    for size in (1, 3000):
        small_chunks(size)
        if device.type == "cpu" and "fourier" not in name:
            assert torch.equal(render(), whole)
        assert_close(render(), whole, "rounding" if device.type == "cuda" else "chunked_real_fft")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_every_family_renders_half_precision_in_float32(half, device):
    x, gradient = image_and_gradient(2, 3, 8, 8, dtype=half, device=device)
    for name, family in EVERY.items():
        frames = family.prepare(x, gradient).render([0.0, 1.0])
        assert frames.dtype == torch.float32, name
        assert torch.equal(frames, family.prepare(x.float(), gradient.float()).render([0.0, 1.0])), name


# Motions of PixelFamily have no pieces
@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("pixel")])
def test_pieces_of_a_motion_render_the_frames_of_the_motion(name, small_chunks, device):
    x, gradient = image_and_gradient(3, 3, 8, 8, device=device)
    motion, table = EVERY[name].prepare(x, gradient), normal(4, 3, device=device)
    small_chunks()
    whole = motion.render(table, bounds=(0, 1))
    for at, piece in motion.pieces():
        assert_close(piece.render(table[:, at], bounds=(0, 1)), whole[:, at], "rounding")


# --- Estimates from which a search for a distance starts


def speed_ratio(family, x, gradient):
    """Return (distance / factor) / speed() of each sample [B], for a small factor."""
    ((_, piece),) = family.prepare(x, gradient).pieces()
    factor = 1e-6 / piece.speed()
    ahead, back = piece.render(torch.stack([factor, -factor]))
    return (ahead - back).flatten(1).norm(dim=1) / 2e-6


@rules
@pytest.mark.parametrize("edit", EDITS)
def test_speed_estimates_the_growth_of_the_distance(edit, rule):
    """The pyramid has the default options, and the gradient is smooth."""
    x, gradient = image_and_gradient(2, 3, 32, 32)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(gradient, (4,) * 4, mode="circular"), 9, stride=1)
    ratio = speed_ratio(CSPFamily(SteerablePyramid((32, 32)), edit, rule), x, smooth)
    assert (ratio > 0.6).all() and (ratio < 1.4).all()


@rules
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("color", ["rgb", "luma"])
def test_speed_of_fourier_is_exact(color, shape, rule):
    """With luma, it is sqrt(3) times that of the luma."""
    x, gradient = image_and_gradient(2, 3, *shape)
    family = FourierFamily(rule, floor=0.01)
    ratio = speed_ratio(family if color == "rgb" else LumaFamily(family), x, gradient)
    assert (ratio - 1).abs().max() < 1e-6


@pytest.mark.skipif(not native.SIMD_WIDTH, reason="the op needs AVX2 or NEON")
@pairwise(dtype=DTYPES, edit=EDITS, rule=RULES, synthesis=SYNTHESES)
def test_estimates_of_the_ops_on_planes_are_those_of_the_ops_on_bands(synthesis, edit, rule, dtype):
    x, gradient = image_and_gradient(3, 17, 22, dtype=dtype)
    family = CSPFamily(SteerablePyramid((17, 22), synthesis=synthesis), edit, rule, floor=0.05)
    on_planes, on_bands = CSPPlaneStep(family, x, gradient), CSPStep(CSPAnalysis(family, x), gradient)
    assert_close(on_planes.squared_speed(), on_bands.squared_speed(), "render")
    assert_close(on_planes.largest_phase(), on_bands.largest_phase(), "render")
    assert (on_bands.largest_phase() > 0).all() == (edit != "amplitude")


# --- Anchors


def anchored_families(shape):
    pyramid = SteerablePyramid(shape, order=2)
    for edit, rule in product(EDITS, RULES):
        yield f"csp-{edit}-{rule}", CSPFamily(pyramid, edit, rule, eps=0.3)
    adjoint = SteerablePyramid(shape, order=2, synthesis="adjoint")
    yield "csp-joint-adjoint", CSPFamily(adjoint, "joint", eps=0.3)
    yield "csp-joint-some", CSPFamily(pyramid, "joint", "polar", scales=[1], orientations=[0, 2])
    for rule in RULES:
        yield f"fourier-{rule}", FourierFamily(rule, eps=0.3)


ANCHORED = dict(anchored_families((16, 19)))
anchored = pytest.mark.parametrize("name", ANCHORED)


class ComposedAnchor:
    """An anchor in plain torch: c = c0 exp(eta + i delta).

    After every step, |delta| <= pi and |eta| <= 1. Planes are [N, H, W].
    """

    def __init__(self, family, x):
        self.family, self.x = family, x.double().cpu()
        if isinstance(family, FourierFamily):
            self.sources = [torch.fft.rfft2(self.x)]
        else:
            self.high, bands, self.low = pyramid_reference.analyze(self.x, family.pyramid.geometry)
            self.sources = bands
        self.delta = [torch.zeros_like(c.real) for c in self.sources]
        self.eta = [torch.zeros_like(c.real) for c in self.sources]

    def coefficients(self):
        return [c * torch.exp(eta + 1j * delta) for c, eta, delta in zip(self.sources, self.eta, self.delta)]

    def frame(self):
        if isinstance(self.family, FourierFamily):
            return torch.fft.irfft2(self.coefficients()[0], s=self.x.shape[-2:])
        g, synthesis = self.family.pyramid.geometry, self.family.pyramid.synthesis
        return pyramid_reference.synthesize(self.high, self.coefficients(), self.low, g, synthesis)

    def steps(self, gradient):
        """Return the steps (phase, amplitude) of each band.

        They are zero if the family does not move the band.
        """
        family = self.family
        if isinstance(family, FourierFamily):
            phase = fourier_phase_step(family, self.x, gradient, self.coefficients()[0])
            return [(phase, torch.zeros_like(phase))]
        g, synthesis = family.pyramid.geometry, family.pyramid.synthesis
        leaves = [c.clone().requires_grad_() for c in self.coefficients()]
        grads = torch.autograd.grad(
            pyramid_reference.synthesize(self.high, leaves, self.low, g, synthesis), leaves, gradient
        )
        steps = []
        for s, (c, G) in enumerate(zip(self.coefficients(), grads)):
            G = G.real if synthesis == "real" else G
            phase, amplitude = reference.step(c, G, family.eps, RULES.index(family.rule), family.floor)
            moves = torch.zeros(c.shape[1], 1, 1)
            if family.scales is None or s in family.scales:
                moves[list(range(c.shape[1]) if family.orientations is None else family.orientations)] = 1
            steps.append((phase * moves * (family.edit != "amplitude"), amplitude * moves * (family.edit != "phase")))
        return steps

    def advance(self, gradient, b, a):
        """Advance by factors [N], one for each plane, and return the frame."""
        for i, (phase, amplitude) in enumerate(self.steps(gradient.double().cpu())):
            b_i, a_i = (t.reshape(-1, *[1] * (phase.dim() - 1)) for t in (b, a))
            self.delta[i] = (self.delta[i] + b_i * phase).clamp(-torch.pi, torch.pi)
            if self.family.rule == "polar":
                eta = self.eta[i] + a_i * amplitude
            else:
                source = self.sources[i].abs()
                moved = ((source * self.eta[i].exp() + a_i * amplitude).clamp(min=0) / source).log()
                eta = torch.where(amplitude == 0, self.eta[i], moved)
            self.eta[i] = eta.clamp(-1, 1)
        return self.frame()


def advanced_frames(family, x, gradients, b, a=None):
    """Return the frames of an anchor that advances along ``gradients`` with factors [F, B]."""
    anchor, frames = family.anchor(x), []
    for j, gradient in enumerate(gradients):
        anchor.advance(gradient, b[j : j + 1], None if a is None else a[j : j + 1])
        frames.append(anchor.frame())
    return torch.stack(frames)


@anchored
@pytest.mark.parametrize("largest_factor", [1.0, 30.0], ids=["near the source", "at the limits"])
def test_anchored_frames_are_those_of_the_reference(name, largest_factor, device):
    """The frames follow three gradients, with different factors for each sample."""
    family = ANCHORED[name]
    x, gradients = image(2, 2, 16, 19, device=device), normal(3, 2, 2, 16, 19, device=device)
    b, a = (largest_factor * image(3, 2, seed=seed) for seed in (5, 6))
    one_table = getattr(family, "edit", "phase") != "joint"
    frames = advanced_frames(family, x, gradients, b.to(device), None if one_table else a.to(device))
    expected = ComposedAnchor(family, x.reshape(4, 16, 19))
    for j, frame in enumerate(frames):
        factors = b[j].repeat_interleave(2), (b if one_table else a)[j].repeat_interleave(2)
        expected_frame = expected.advance(gradients[j].reshape(4, 16, 19), *factors)
        assert_close(frame.reshape(4, 16, 19), expected_frame, "render", like=1.0)


@pytest.mark.parametrize("name", ["pixel", "fourier", "csp-phase"])
def test_anchor_for_images_of_another_size_than_the_pyramid_raises(name):
    family = make_family(name, SteerablePyramid((32, 32)))
    with pytest.raises(ValueError, match="image must"):
        family.anchor(torch.rand(1, 3, 16, 16))


@anchored
def test_anchored_motion_renders_the_frame_after_advancing(name, device):
    family, gradients = ANCHORED[name], normal(2, 2, 2, 16, 19, device=device)
    anchor = family.anchor(image(2, 2, 16, 19, device=device))
    for gradient, b in zip(gradients, (0.7, 2.0)):
        table = torch.tensor([[0.0, 0.0], [b, 2 * b]], device=device)
        one_table = getattr(family, "edit", "phase") != "joint"
        amplitude_table = None if one_table else 0.3 * table
        unmoved, expected = anchor.toward(gradient).render(table, amplitude_table, bounds=(0, 1))
        assert_close(unmoved, anchor.frame((0, 1)), "render")
        anchor.advance(gradient, table[1:], None if one_table else amplitude_table[1:])
        assert_close(anchor.frame((0, 1)), expected, "render")


@anchored
def test_steps_along_huge_gradients_stay_within_the_limits(name, device):
    """Amplitudes are at most e times those of the source, so their norm is limited. Frames are finite."""
    family, x = ANCHORED[name], image(2, 16, 19, device=device)
    frames = advanced_frames(
        family, x[None], 1e9 * normal(3, 1, 2, 16, 19, device=device), torch.ones(3, 1, device=device)
    )
    assert frames.isfinite().all()
    if isinstance(family, FourierFamily):
        assert_close(torch.fft.rfft2(frames[-1, 0]).abs(), torch.fft.rfft2(x).abs(), "pyramid")
        return
    high, bands, low = pyramid_reference.analyze(x.cpu(), family.pyramid.geometry)
    reach = torch.e if family.moves_amplitude else 1.0
    limit = reach * torch.stack([band.abs().square().sum((-3, -2, -1)) for band in bands]).sum(0).sqrt()
    zeros = [torch.zeros_like(band) for band in bands]
    residuals = pyramid_reference.synthesize(high, zeros, low, family.pyramid.geometry, family.pyramid.synthesis)
    moved = SteerablePyramid((16, 19), order=2)(frames[-1, 0].cpu() - residuals)
    norm = torch.stack([band.abs().square().sum((-3, -2, -1)) for band in moved.bands]).sum(0).sqrt()
    assert (norm <= 2 * limit).all()  # an image's bands can have a larger norm than the bands it was made from


@anchored
def test_chunks_do_not_change_anchored_frames(name, small_chunks, device):
    x, gradients = (
        image(3, 2, 16, 19, dtype=torch.float32, device=device),
        normal(3, 3, 2, 16, 19, device=device).float(),
    )
    b = image(3, 3, dtype=torch.float32, device=device, seed=5)
    whole = advanced_frames(ANCHORED[name], x, gradients, b)
    small_chunks()
    chunked = advanced_frames(ANCHORED[name], x, gradients, b)
    if device.type == "cpu":
        assert torch.equal(chunked, whole)
    assert_close(chunked, whole, "rounding")


@pytest.mark.parametrize("name", ["csp-joint-polar", "csp-joint-adjoint", "fourier-complex"])
def test_anchored_float32_agrees_with_float64(name, device):
    x, gradients = image(2, 16, 19, device=device), normal(2, 2, 16, 19, device=device)
    b = torch.ones(2, 1, device=device)
    single = advanced_frames(ANCHORED[name], x[None].float(), gradients[:, None].float(), b)
    assert_close(single, advanced_frames(ANCHORED[name], x[None], gradients[:, None], b), "render", like=1.0)


@pytest.mark.parametrize("name", ["pixel", "fourier", "csp"])
def test_anchored_luma_adds_the_motion_of_y_to_all_channels(name, device):
    base = BASES[name]
    x, gradients = image(2, 3, 8, 8, device=device), normal(3, 2, 3, 8, 8, device=device)
    b = image(3, 2, device=device, seed=5)
    y = torch.einsum("c,bchw->bhw", WEIGHTS.to(device), x)[:, None]
    expected = x + (advanced_frames(base, y, gradients.sum(2, keepdim=True), b) - y)
    assert_close(advanced_frames(LumaFamily(base), x, gradients, b), expected, "render")


@pytest.mark.parametrize("name", ["pixel", "fourier", "csp"])
@pytest.mark.parametrize("color", ["rgb", "luma"])
def test_second_anchored_step_starts_at_the_first_frame(name, color, device):
    family = BASES[name] if color == "rgb" else LumaFamily(BASES[name])
    anchor, gradients = family.anchor(image(2, 3, 8, 8, device=device)), normal(2, 2, 3, 8, 8, device=device)
    anchor.advance(gradients[0], [1.0])
    here, ahead = anchor.toward(gradients[1]).render([0.0, 0.7])
    assert_close(here, anchor.frame(), "render")
    anchor.advance(gradients[1], [0.7])
    assert_close(ahead, anchor.frame(), "render")


@pytest.mark.parametrize("kind", ["pixel", "csp", "fourier"])
@rules
def test_factor_acts_like_eps_unless_the_rule_is_complex(kind, rule):
    """The step of rule "complex" is not linear in eps. PixelFamily has no rule."""
    x, gradient = image_and_gradient(1, 16, 16)
    pyramid = SteerablePyramid((16, 16))
    make = {
        "pixel": lambda eps: PixelFamily(eps=eps),
        "csp": lambda eps: CSPFamily(pyramid, "joint", rule=rule, eps=eps),
        "fourier": lambda eps: FourierFamily(rule=rule, eps=eps),
    }[kind]
    by_eps, by_factor = make(3.0).prepare(x, gradient).render([1.0]), make(1.0).prepare(x, gradient).render([3.0])
    same = (by_eps - by_factor).abs().max() < 1e-9
    assert same == (kind == "pixel" or rule == "polar")
