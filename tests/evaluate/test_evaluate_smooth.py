"""Smooth reconstruction: known warps are found, and noise is not explained."""

import math

import pytest
import torch
from tolerances import assert_close

from steerlens_fast import smooth_reconstruction
from steerlens_fast.evaluate.measures.grids import BilinearSamples, interpolation, upsample
from steerlens_fast.evaluate.measures.least_squares import _normal, _State, _Trial, fit, solve_block_tridiagonal
from steerlens_fast.evaluate.measures.smooth import _folded, _starts


def pictures(count: int, size: int = 64, channels: int = 1) -> torch.Tensor:
    """Return low-pass noise in [0, 1]: smooth images with structure everywhere."""
    coarse = torch.rand(count, channels, size // 4, size // 4, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def displacements(count: int, reach: float) -> torch.Tensor:
    """Return smooth displacements of control points, [N, 2, 8, 8], in pixels."""
    coarse = torch.rand(count, 2, 4, 4, dtype=torch.float64) * 2 - 1
    return reach * upsample(coarse, (8, 8))


def warped(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return BilinearSamples(images, upsample(grid, tuple(images.shape[-2:]))).values


# --- Known answers


def test_known_warp_is_explained():
    images = pictures(24)
    result = smooth_reconstruction(images, warped(images, displacements(24, 3.0)))
    assert (result.warp > 0.95).all(), result.warp.min()
    assert result.warp.median() > 0.9999


def test_displacement_of_a_known_warp_is_found():
    """The image has structure everywhere, since a warp of a uniform region cannot be found."""
    images, grid = pictures(8), displacements(8, 1.5)
    result = smooth_reconstruction(images, warped(images, grid))
    assert (result.displacement - grid)[:, :, 1:-1, 1:-1].abs().median() < 0.01
    assert (result.folded == 0).all()


def test_white_noise_is_not_explained():
    images = pictures(12)
    edit = images + 0.05 * torch.randn_like(images)
    result = smooth_reconstruction(images, edit)
    assert result.warp.max() < 0.06, "a grid of 2 x 8 x 8 numbers should explain about 3 % of 64 x 64 random pixels"
    assert result.gain.max() < 0.09


def test_known_gain_is_explained_with_a_gain_but_not_without():
    images = pictures(6)
    gain = 1 + 0.3 * upsample(torch.randn(6, 1, 8, 8, dtype=torch.float64), (64, 64))
    result = smooth_reconstruction(images, gain * images)
    assert (result.gain > 0.999).all()
    assert (result.warp < 0.6).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_gain_is_at_least_warp_and_both_are_from_0_to_1(channels):
    images = pictures(5, 24, channels)
    for edit in (pictures(5, 24, channels), images + 0.1 * torch.randn_like(images), images.flip(-1), 1 - images):
        result = smooth_reconstruction(images, edit)
        assert (result.gain >= result.warp).all() and (result.warp >= 0).all() and (result.gain <= 1).all()


def test_channels_share_one_warp():
    """Channels that move together are explained; channels that move differently are not."""
    images, grid = pictures(6, 48, 3), displacements(6, 2.0)
    together = warped(images, grid)
    apart = torch.cat([warped(images[:, c : c + 1], displacements(6, 4.0)) for c in range(3)], 1)
    assert smooth_reconstruction(images, together).warp.min() > 0.95
    assert smooth_reconstruction(images, apart).warp.max() < 0.9


def test_more_restarts_are_never_worse():
    images = pictures(6, 32)
    edit = warped(images, displacements(6, 6.0))
    one, three = (smooth_reconstruction(images, edit, restarts=n).warp for n in (1, 3))
    assert (three >= one).all()


def test_explained_share_is_that_of_the_returned_warp():
    images = pictures(5, 32)
    edit = (warped(images, displacements(5, 3.0)) + 0.05 * torch.randn_like(images)).clamp(0, 1)
    result = smooth_reconstruction(images, edit)
    unexplained = (warped(images, result.displacement) - edit).square().flatten(1).sum(1)
    assert_close(result.warp, 1 - unexplained / (edit - images).square().flatten(1).sum(1), "fit")


# --- Edges


def test_explained_share_is_nan_without_an_edit():
    images = pictures(3, 16)
    edit = images.clone()
    edit[1] = edit[1].flip(-1)
    result = smooth_reconstruction(images, edit)
    assert result.warp.isnan().tolist() == result.gain.isnan().tolist() == [True, False, True]


def test_warps_of_a_constant_source_explain_nothing():
    images = torch.full((2, 1, 16, 16), 0.5)
    result = smooth_reconstruction(images, images + 0.2 * torch.rand(2, 1, 16, 16))
    assert result.warp.tolist() == [0, 0] and (result.gain > 0.5).all()


def test_no_images_give_empty_results():
    result = smooth_reconstruction(torch.zeros(0, 1, 16, 16), torch.zeros(0, 1, 16, 16))
    assert len(result) == 0 and result.displacement.shape == (0, 2, 8, 8)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 1, 17, 40), (1, 3, 31, 9)])
def test_images_of_any_size_are_fitted(shape):
    images = torch.rand(shape)
    result = smooth_reconstruction(images, torch.rand(shape))
    assert result.warp.isfinite().all() and result.displacement.shape == (shape[0], 2, 8, 8)


# --- The batch, precision, grad


def test_fits_do_not_depend_on_the_batch(small_chunks):
    """Fits of single images, chunks and the whole batch agree up to rounding; repeated fits agree bit for bit."""
    images = pictures(7, 32)
    edit = (warped(images, displacements(7, 3.0)) + 0.05 * torch.rand_like(images)).clamp(0, 1)
    whole, again = smooth_reconstruction(images, edit), smooth_reconstruction(images, edit)
    for name in ("warp", "gain", "folded", "displacement"):
        assert torch.equal(getattr(whole, name), getattr(again, name))
    alone = torch.cat([smooth_reconstruction(images[n : n + 1], edit[n : n + 1]).gain for n in range(7)])
    assert_close(alone, whole.gain, "fit", absolute=True)
    small_chunks(1 << 20)
    for workers in (1, 3):
        pieces = smooth_reconstruction(images, edit, workers=workers)
        assert_close(pieces.gain, whole.gain, "fit", absolute=True)


def test_precision_and_grad_of_the_inputs_do_not_matter():
    images, grid = pictures(2, 24), displacements(2, 2.0)
    edit = warped(images, grid)
    a, b = smooth_reconstruction(images, edit), smooth_reconstruction(images.float().requires_grad_(), edit.float())
    assert (a.warp - b.warp).abs().max() < 1e-4 and not b.warp.requires_grad


# --- Parts of the fit


def test_image_slopes_are_derivatives():
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    field = (torch.rand(2, 2, 9, 11, dtype=torch.float64) * 3 - 1.5).requires_grad_()
    slopes = torch.stack(BilinearSamples(image, field.detach()).slopes(), 1)
    weights = torch.randn_like(image)
    (expected,) = torch.autograd.grad((BilinearSamples(image, field).values * weights).sum(), field)
    assert_close((slopes * weights[:, None]).sum(2), expected, "fit")


def test_sampling_outside_the_image_reads_its_border():
    image = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    far = torch.full((1, 2, 6, 6), 100.0, dtype=torch.float64)
    outside = BilinearSamples(image, far)
    assert (outside.values == image[..., -1:, -1:]).all() and all((slope == 0).all() for slope in outside.slopes())
    assert torch.equal(BilinearSamples(image, torch.zeros_like(far)).values, image)


@pytest.mark.parametrize("count", [2, 3])  # number of fields: displacements down and right; with 3, also the gain
def test_normal_equations_are_those_of_the_jacobian(count):
    source, edit = torch.rand(2, 2, 2, 16, 20, dtype=torch.float64)
    grids = torch.cat([torch.randn(2, 2, 8, 8).double() * 0.3, torch.rand(2, 1, 8, 8).double() + 0.5], 1)[:, :count]

    def residual(grids):
        fields = upsample(grids, (16, 20))
        values = BilinearSamples(source, fields[:, :2]).values
        return (values if count == 2 else fields[:, 2:] * values) - edit

    jacobian = torch.func.jacfwd(lambda g: residual(g)[0].flatten())(grids)[:, 0].transpose(1, 2).flatten(1)
    state = _State.of(_Trial(source, edit, grids))
    rows, neighbours, gradient = _normal(state.products, state.gradient, grids.shape)
    whole = torch.block_diag(*rows[0])
    size = rows.shape[-1]
    for i, block in enumerate(neighbours[0]):
        here, there = slice(i * size, (i + 1) * size), slice((i + 1) * size, (i + 2) * size)
        whole[here, there] = whole[there, here] = block  # these blocks are symmetric
    assert_close(whole, jacobian.T @ jacobian, "fit")
    assert_close(gradient[0].flatten(), jacobian.T @ residual(grids)[0].flatten(), "fit")


def test_block_tridiagonal_systems_are_solved():
    blocks = torch.randn(3, 5, 4, 4, dtype=torch.float64)
    rows = blocks @ blocks.mT + 8 * torch.eye(4)
    neighbours = torch.randn(3, 4, 4, 4, dtype=torch.float64)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    right = (rows @ x[..., None])[..., 0]
    right[:, :-1] += (neighbours @ x[:, 1:, :, None])[..., 0]
    right[:, 1:] += (neighbours.mT @ x[:, :-1, :, None])[..., 0]
    assert_close(solve_block_tridiagonal(rows, neighbours, right), x, "fit")
    rows[1, 2] = -torch.eye(4)
    assert solve_block_tridiagonal(rows, neighbours, right).isnan().flatten(1).any(1).tolist() == [False, True, False]


def test_fit_is_never_worse_than_its_start():
    source, edit = pictures(4, 16), pictures(4, 16)
    start = torch.randn(4, 2, 8, 8, dtype=torch.float64) * 2
    before = (warped(source, start) - edit).square().flatten(1).sum(1)
    assert (fit(source, edit, start)[1] <= before).all()


def test_random_starts_have_the_stated_displacements():
    """The standard deviations are H / 32 for coarse and H / 64 for fine starts. Coarse random values are at corners."""
    starts = _starts(8, 801, 0, torch.zeros(1, 1, 64, 32))
    assert (starts[0] == 0).all()
    coarse, fine = starts[1::2, :, ::7, ::7], starts[2::2]
    assert coarse.std().item() == pytest.approx(64 / 32, rel=0.06)
    assert fine.std().item() == pytest.approx(64 / 64, rel=0.06)


@pytest.mark.parametrize("direction", [0, 1])
def test_share_of_folded_pixels_of_a_compression(direction):
    """The determinant is -0.01 in one half of the image, and 0.01 in the other half."""
    moved = torch.tensor([0.0, -4 * 1.01, -8.0], dtype=torch.float64).expand(3, 3)
    grids = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    grids[0, direction] = moved if direction else moved.T
    assert _folded(grids, (9, 9)).tolist() == [0.5]


def test_share_of_folded_pixels_of_a_shear():
    """Shears 2 and 2 have the determinant 1 - 4, and shears 2 and -2 have 1 + 4."""
    along = 8 * torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    grids = torch.stack([torch.stack([2 * along, sign * 2 * along.T]) for sign in (1, -1)])
    assert _folded(grids, (9, 9)).tolist() == [1.0, 0.0]


def test_outer_control_points_lie_on_the_border():
    weights = interpolation(33, 8)
    assert weights[0, 0] == weights[-1, -1] == 1 and torch.allclose(weights.sum(1), torch.ones(33).double())


# --- Bad input


# (changed arguments, part of the message)
BAD_INPUT = [
    ({"edit": torch.rand(2, 1, 16, 17)}, "edit must have the source's shape"),
    ({"edit": torch.rand(2, 1, 16, 16).double()}, "edit must have the source's dtype"),
    ({"source": torch.rand(16, 16)}, r"source must have shape \[N, C, H, W\]"),
    ({"source": torch.full((2, 1, 16, 16), math.nan)}, r"source must be finite, got NaN .* in samples \[0, 1\]"),
    ({"edit": "x"}, "edit must be a torch.Tensor, got str"),
    ({"edit": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)}, "edit must be a real floating-point tensor"),
    ({"grid": 1}, "grid must be at least 2, got 1"),
    ({"restarts": 0}, "restarts must be at least 1, got 0"),
]


def test_bad_input_raises():
    for change, message in BAD_INPUT:
        arguments = {"source": torch.rand(2, 1, 16, 16), "edit": torch.rand(2, 1, 16, 16), **change}
        with pytest.raises((TypeError, ValueError), match=message):
            smooth_reconstruction(arguments.pop("source"), arguments.pop("edit"), **arguments)
