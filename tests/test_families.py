"""Edit families against a plain composition of the reference; their factors, chunks and gradients."""

from itertools import product

import pytest
import torch
from cases import image, normal
from tolerances import assert_close

from steerlens_fast import CSPFamily, PixelFamily, SteerablePyramid, reference
from steerlens_fast.families import EDITS

RULES = ("complex", "polar")
syntheses = pytest.mark.parametrize("synthesis", ["real", "adjoint"])
rules = pytest.mark.parametrize("rule", RULES)
edits = pytest.mark.parametrize("edit", EDITS)


def inputs(*shape, dtype=torch.float64, device="cpu"):
    return image(*shape, dtype=dtype, device=device), normal(*shape, dtype=dtype, device=device)


def composed(family, x, gradient, factors, amplitude_factors=None, bounds=None):
    """Frames [F, N, H, W] of planes [N, H, W] as the method is written down; autograd takes the gradient."""
    g, synthesis, rule = family.pyramid.geometry, family.pyramid.synthesis, RULES.index(family.rule)
    x, gradient = x.double().cpu(), gradient.double().cpu()
    b = torch.as_tensor(factors, dtype=torch.float64)
    a = b if amplitude_factors is None else torch.as_tensor(amplitude_factors, dtype=torch.float64)
    high, bands, low = reference.analyze(x, g)
    leaves = [band.clone().requires_grad_() for band in bands]
    grads = torch.autograd.grad(reference.synthesize(high, leaves, low, g, synthesis), leaves, gradient)
    scales = range(g.height) if family.scales is None else family.scales
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
        frames = reference.extrapolate(bands[s], *steps, *tables, rule, True)
        for j, k in product(range(len(b)), orientations):
            moved[s][j][:, k] = frames[j][:, k]
    frames = [reference.synthesize(high, [m[j] for m in moved], low, g, synthesis) for j in range(len(b))]
    return torch.stack(frames).clamp(*bounds) if bounds else torch.stack(frames)


# --- Frames


@rules
@edits
@syntheses
@pytest.mark.parametrize("shape", [(16, 16), (17, 22)], ids=str)
def test_frames_are_the_composed_ones(shape, synthesis, edit, rule, dtype, device):
    family = CSPFamily(SteerablePyramid(shape, order=2, synthesis=synthesis), edit, rule, eps=0.3)
    x, gradient = inputs(3, *shape, dtype=dtype, device=device)
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
def test_frames_with_every_option(option, rule):
    family = CSPFamily(SteerablePyramid((16, 19), **option), "joint", rule, eps=0.3)
    x, gradient = inputs(2, 16, 19)
    frames = family.prepare(x, gradient).render([1.0, 3.0])
    assert_close(frames, composed(family, x, gradient, [1.0, 3.0]), "render", like=1.0)


@rules
@edits
@syntheses
def test_factor_zero_is_the_source(synthesis, edit, rule, dtype, device):
    family = CSPFamily(SteerablePyramid((23, 18), synthesis=synthesis), edit, rule)
    x, gradient = inputs(2, 3, 23, 18, dtype=dtype, device=device)
    assert_close(family.prepare(x, gradient).render([0.0])[0], x, "reconstruction", absolute=True)


@edits
@syntheses
@pytest.mark.parametrize("scales, orientations", [([0], None), (None, [1, 3]), ([1], [0]), ([2, 0], [2])], ids=str)
def test_only_the_chosen_bands_move(scales, orientations, edit, synthesis, device):
    pyramid = SteerablePyramid((32, 33), synthesis=synthesis)
    family = CSPFamily(pyramid, edit, scales=scales, orientations=orientations)
    x, gradient = inputs(2, 32, 33, device=device)
    frames = family.prepare(x, gradient).render([1.0, 2.0])
    assert_close(frames, composed(family, x, gradient, [1.0, 2.0]), "render", like=1.0)
    whole = CSPFamily(pyramid, edit).prepare(x, gradient).render([1.0, 2.0])
    assert (frames - whole).abs().max() > 1e-3


@pytest.mark.parametrize("restriction", [{"scales": []}, {"orientations": []}], ids=str)
def test_nothing_chosen_moves_nothing(restriction, device):
    family = CSPFamily(SteerablePyramid((16, 16)), **restriction)
    x, gradient = inputs(2, 16, 16, device=device)
    frames = family.prepare(x, gradient).render([1.0, 5.0])
    assert_close(frames, x.expand(2, 2, 16, 16), "reconstruction", absolute=True)


def test_the_floor(device):
    """With a floor of 2 nothing moves; with one of 0.5 less than without."""
    x, gradient = inputs(2, 16, 16, device=device)
    moved = []
    for floor in (2.0, 0.5, 0.0):
        family = CSPFamily(SteerablePyramid((16, 16)), floor=floor)
        frames = family.prepare(x, gradient).render([1.0])
        assert_close(frames, composed(family, x, gradient, [1.0]), "render", like=1.0)
        moved.append((frames[0] - x).norm().item())
    assert moved[0] < 1e-12 < moved[1] < moved[2]


@pytest.mark.parametrize("synthesis, edit", [("adjoint", "phase"), ("real", "joint")])
def test_a_grating_moves_to_its_shifted_copy(synthesis, edit):
    """Down the gradient of the distance to a copy a quarter of a period away: it shifts and does not fade."""
    x = 2 * torch.pi * 8 * torch.arange(64, dtype=torch.float64) / 64
    source, target = (0.5 + 0.3 * torch.cos(x - turn).expand(64, 64) for turn in (0.0, torch.pi / 2))
    family = CSPFamily(SteerablePyramid((64, 64), synthesis=synthesis), edit, floor=1e-3)
    frames = family.prepare(source, source - target).render(torch.linspace(0, 12, 121))
    grating = torch.fft.fft(frames, dim=-1)[..., 8].mean(-1) / 32
    distances = (frames - target).flatten(1).norm(dim=1)
    near = distances < 0.1 * distances[0]
    assert near.any()
    assert grating.angle()[: int(near.int().argmax())].diff().max() < 0, "the phase does not fall steadily"
    if edit == "phase":
        assert (grating.abs() / 0.3 - 1).abs().max() < 0.01, "the contrast changes"


def test_to_first_order_the_loss_falls(device):
    x, gradient = inputs(1, 24, 24, device=device)
    for synthesis, rule in product(("real", "adjoint"), RULES):
        family = CSPFamily(SteerablePyramid((24, 24), synthesis=synthesis), "joint", rule, eps=1e-6)
        change = (family.prepare(x, gradient).render([1.0])[0] - x) / 1e-6
        assert (change * gradient).sum() < 0


# --- Factors and bounds


LEAD = (2, 3)


def as_planes(table):
    """A factor table as ``composed`` takes it: [F] or [F, planes]."""
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
def test_factor_tables(table, device):
    family = CSPFamily(SteerablePyramid((16, 16)), "joint", eps=0.2)
    x, gradient = inputs(*LEAD, 16, 16, device=device)
    table = table.to(device) if isinstance(table, torch.Tensor) else table
    frames = family.prepare(x, gradient).render(table)
    planes = lambda t: t.reshape(6, 16, 16)
    cpu = table.cpu() if isinstance(table, torch.Tensor) else list(table)
    expected = composed(family, planes(x), planes(gradient), as_planes(cpu))
    assert_close(frames, expected.reshape(-1, *LEAD, 16, 16), "render", like=1.0)
    pixels = PixelFamily(0.2).prepare(x, gradient).render(table)
    b = as_planes(cpu).reshape(len(frames), *([1, 1] if as_planes(cpu).dim() == 1 else LEAD), 1, 1).to(device)
    assert_close(pixels, x - 0.2 * b * gradient, "render")


@rules
def test_amplitude_factors_are_their_own(rule, device):
    family = CSPFamily(SteerablePyramid((16, 16)), "joint", rule, eps=0.2)
    x, gradient = inputs(2, 16, 16, device=device)
    b, a = [0.0, 1.0, 2.0], [2.0, 0.0, 1.0]
    frames = family.prepare(x, gradient).render(b, a)
    assert_close(frames, composed(family, x, gradient, b, a), "render", like=1.0)
    only = CSPFamily(family.pyramid, "amplitude", rule, eps=0.2).prepare(x, gradient).render([2.0])[0]
    assert_close(frames[0], only, "render")
    per_plane = torch.tensor([[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]], device=device)
    assert_close(family.prepare(x, gradient).render(b, per_plane), frames, "render")


def test_amplitude_edits_take_their_factors_from_factors(device):
    family = CSPFamily(SteerablePyramid((16, 16)), "amplitude")
    x, gradient = inputs(2, 16, 16, device=device)
    assert_close(
        family.prepare(x, gradient).render([2.0]),
        composed(family, x, gradient, [2.0]),
        "render",
        like=1.0,
    )


@pytest.mark.parametrize("bounds", [(0, 1), (0.2, 0.7)])
def test_bounds_clip_after_the_synthesis(bounds, device):
    x, gradient = inputs(2, 16, 16, device=device)
    for family in (CSPFamily(SteerablePyramid((16, 16))), PixelFamily()):
        free = family.prepare(x, gradient).render([0.0, 3.0])
        assert free.max() > bounds[1] and free.min() < bounds[0]
        clipped = family.prepare(x, gradient).render([0.0, 3.0], bounds=bounds)
        assert torch.equal(clipped, free.clamp(*bounds))


def test_no_frames_and_no_planes(device):
    for family in (CSPFamily(SteerablePyramid((16, 16))), PixelFamily()):
        x, gradient = inputs(2, 3, 16, 16, device=device)
        assert family.prepare(x, gradient).render([]).shape == (0, 2, 3, 16, 16)
        assert family.prepare(x[:0], gradient[:0]).render([0.0, 1.0]).shape == (2, 0, 3, 16, 16)


def test_a_single_plane(device):
    x, gradient = inputs(16, 16, device=device)
    family = CSPFamily(SteerablePyramid((16, 16)))
    frames = family.prepare(x, gradient).render([1.0])
    assert_close(frames, family.prepare(x[None], gradient[None]).render([1.0])[:, 0], "render")
    assert PixelFamily().prepare(x, gradient).render([1.0, 2.0]).shape == (2, 16, 16)


def test_rendering_changes_nothing_and_repeats(device):
    x, gradient = inputs(2, 16, 16, dtype=torch.float32, device=device)
    before = x.clone(), gradient.clone()
    motion = CSPFamily(SteerablePyramid((16, 16)), "joint").prepare(x, gradient)
    first = motion.render([0.0, 1.0], bounds=(0, 1))
    assert torch.equal(motion.render([0.0, 1.0], bounds=(0, 1)), first)
    assert torch.equal(x, before[0]) and torch.equal(gradient, before[1])
    assert first.data_ptr() != x.data_ptr()


def test_half_precision_is_rendered_in_float32(device):
    x, gradient = inputs(2, 16, 16, dtype=torch.float16, device=device)
    frames = CSPFamily(SteerablePyramid((16, 16))).prepare(x, gradient).render([0.0])
    assert frames.dtype == torch.float32
    assert_close(frames[0], x.float(), "reconstruction", absolute=True)


# --- Chunks


@edits
@syntheses
@pytest.mark.parametrize("pieces", [1, 40_000], ids=["one_plane", "a_few"])
def test_chunks_change_nothing(small_chunks, pieces, synthesis, edit, device):
    family = CSPFamily(SteerablePyramid((23, 18), synthesis=synthesis), edit)
    x, gradient = inputs(3, 2, 23, 18, dtype=torch.float32, device=device)
    table = normal(5, 3, dtype=torch.float32, device=device)
    render = lambda: family.prepare(x, gradient).render(table, bounds=(0, 1))
    whole = render()
    small_chunks(pieces)
    chunked = render()
    if device.type == "cpu":
        assert torch.equal(chunked, whole)
    assert_close(chunked, whole, "chunk_on_gpu")


# --- Gradients


@rules
@edits
@syntheses
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_gradcheck(small_chunks, chunked, synthesis, edit, rule):
    """With respect to image, gradient and factors."""
    if chunked:
        small_chunks()
    family = CSPFamily(SteerablePyramid((8, 8), order=1, synthesis=synthesis), edit, rule, eps=0.05, floor=1e-3)
    x, gradient = inputs(2, 8, 8)
    values = x, gradient, torch.tensor([0.5, 1.5], dtype=torch.float64), normal(2, 2)
    render = lambda x, g, b, a: family.prepare(x, g).render(b, a)
    assert torch.autograd.gradcheck(render, [v.requires_grad_() for v in values], fast_mode=True)


def test_pixel_gradcheck():
    x, gradient = inputs(2, 3, 3)
    render = lambda x, g, b: PixelFamily(0.3).prepare(x, g).render(b)
    values = x, gradient, torch.tensor([0.5, 1.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(render, [v.requires_grad_() for v in values])


@pytest.mark.parametrize("which", ["image", "gradient", "factors"])
def test_each_input_alone_has_a_gradient(which, device):
    family = CSPFamily(SteerablePyramid((16, 16)), "joint")
    x, gradient = inputs(2, 16, 16, device=device)
    values = {"image": x, "gradient": gradient, "factors": torch.tensor([0.5, 1.0], device=device)}
    values[which].requires_grad_()
    frames = family.prepare(values["image"], values["gradient"]).render(values["factors"], bounds=(0, 1))
    (grad,) = torch.autograd.grad(frames.square().sum(), values[which])
    assert grad.isfinite().all() and grad.abs().max() > 0
    with torch.no_grad():
        again = family.prepare(values["image"], values["gradient"]).render(values["factors"], bounds=(0, 1))
    assert not again.requires_grad
    assert_close(again, frames, "chunk_on_gpu")


# --- Masks first made under a mode


def fresh_family(tag: int) -> CSPFamily:
    """A geometry whose masks no other test has made."""
    return CSPFamily(SteerablePyramid((16, 16), width=0.9 + tag / 1024))


def test_masks_made_in_inference_mode_serve_autograd():
    family = fresh_family(2)
    x, gradient = inputs(2, 16, 16)
    with torch.inference_mode():
        first = family.prepare(x, gradient).render([1.0])
    again = family.prepare(x.requires_grad_(), gradient).render([1.0])
    assert_close(again, first, "render")
    assert torch.autograd.grad(again.sum(), x)[0].isfinite().all()


def test_meta_tensors():
    frames = fresh_family(3).prepare(*(torch.empty(2, 3, 16, 16, device="meta") for _ in range(2))).render([0.0, 1.0])
    assert frames.shape == (2, 2, 3, 16, 16) and frames.device.type == "meta"
