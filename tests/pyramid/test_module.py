"""SteerablePyramid as a module: precisions, batches, chunks, shared masks, copies, function transforms."""

import copy
import io
import pickle

import pytest
import torch
from coefficient_checks import assert_coefficients_close, random_coefficients
from inputs import image, normal
from tolerances import TOLERANCES, all_equal, assert_close
from torch.fx.experimental.proxy_tensor import make_fx

from steerlens_fast import SteerablePyramid
from steerlens_fast.pyramid.bank import KINDS, Bank, Part

syntheses = pytest.mark.parametrize("synthesis", ["real", "adjoint"])

# --- Precisions and batches


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precisions_are_computed_in_float32(half, device):
    pyramid = SteerablePyramid((24, 16))
    x = image(2, 24, 16, device=device).to(half)
    c = pyramid(x)
    assert {t.dtype for t in c.tensors()} == {torch.float32, torch.complex64}
    assert_coefficients_close(c, pyramid(x.float()), "pyramid")
    assert pyramid.synthesize(c).dtype == torch.float32


@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 1, 3)], ids=str)
@syntheses
def test_leading_dimensions_are_kept(lead, synthesis, device):
    pyramid = SteerablePyramid((9, 14), height=1, synthesis=synthesis)
    x = image(*lead, 9, 14, device=device)
    c = pyramid(x)
    assert c.highpass.shape == (*lead, 9, 14) and c.bands[0].shape == (*lead, 4, 9, 14)
    assert_close(pyramid.synthesize(c), x, "reconstruction", absolute=True)
    planes = x.reshape(-1, 9, 14)
    for t, flat in zip(c.tensors(), pyramid(planes).tensors()):
        assert_close(t.reshape(flat.shape), flat, "pyramid")


@pytest.mark.parametrize("lead", [(0,), (2, 0), (0, 3)], ids=str)
@syntheses
def test_empty_batch_gives_empty_results(lead, synthesis, device):
    pyramid = SteerablePyramid((16, 16), synthesis=synthesis)
    x = image(*lead, 16, 16, device=device).requires_grad_()
    c = pyramid(x)
    assert c.bands[1].shape == (*lead, 4, 8, 8)
    y = pyramid.synthesize(c)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape


@syntheses
def test_memory_layout_does_not_matter(synthesis, device):
    """Images may be strided, transposed or expanded. Bands may be views that torch conjugates when they are read."""
    pyramid = SteerablePyramid((16, 16), synthesis=synthesis)
    x = image(2, 3, 16, 32, device=device)
    for view in (x[..., ::2], x[..., :16].mT, x[:1, :1, :, :16].expand(2, 3, 16, 16)):
        c = pyramid(view)
        assert_coefficients_close(c, pyramid(view.contiguous()), "pyramid")
        conjugated = c.map(lambda b: b.conj().resolve_conj().conj())
        assert_close(pyramid.synthesize(conjugated), view, "reconstruction", absolute=True)


# --- Chunks


@syntheses
@pytest.mark.parametrize("size", [1, 60_000], ids=["one_plane", "a_few_planes"])
def test_chunks_change_nothing(small_chunks, size, synthesis, device):
    pyramid = SteerablePyramid((23, 18), synthesis=synthesis)
    x = image(5, 3, 23, 18, dtype=torch.float32, device=device)
    whole = pyramid(x)
    back = pyramid.synthesize(whole)
    small_chunks(size)
    chunked = pyramid(x)
    for a, b in zip([*chunked.tensors(), pyramid.synthesize(whole)], [*whole.tensors(), back]):
        if device.type == "cpu":
            assert torch.equal(a, b)
        assert_close(a, b, "rounding")


def test_chunks_do_not_change_gradients(small_chunks, device):
    pyramid = SteerablePyramid((16, 16))
    weights = random_coefficients(pyramid, 4, device=device)

    def gradient():
        x = image(4, 16, 16, device=device).requires_grad_()
        c = pyramid(x)
        loss = sum((t.abs() * w.abs()).sum() for t, w in zip(c.tensors(), weights.tensors()))
        return torch.autograd.grad(loss + pyramid.synthesize(c).square().sum(), x)[0]

    whole = gradient()
    small_chunks()
    assert_close(gradient(), whole, "pyramid")


# --- Masks


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_shared_by_pyramids_of_one_geometry(kind, dtype, device):
    """A bank of one scale uses the mask of the bank of two scales."""
    like = torch.zeros(1, dtype=dtype, device=device)
    one, other = (SteerablePyramid((32, 32), order=2).geometry for _ in range(2))
    for merging in (False, True):
        both = Bank(one, kind, (Part(0), Part(1))).masks(like, merging)
        again = Bank(other, kind, (Part(0), Part(1))).masks(like, merging)
        coarse = Bank(other, kind, (Part(1),)).masks(like, merging)
        assert [a is b for a, b in zip(both, again)] == [True, True]
        assert coarse[0] is both[1]
        assert all(m.dtype == dtype and m.device.type == device.type for m in both)


def fresh_pyramid(tag: int) -> SteerablePyramid:
    """Return a pyramid whose masks are not cached yet: no other test has its geometry."""
    return SteerablePyramid((16, 16), width=1.0 + tag / 1024)


def works(pyramid) -> bool:
    x = image(2, 16, 16).requires_grad_()
    y = pyramid.synthesize(pyramid(x))
    (grad,) = torch.autograd.grad(y.sum(), x)
    return bool((y - x).abs().max() < 1e-12 and (grad - 1).abs().max() < 1e-12)


def test_masks_made_in_inference_mode_work_with_autograd():
    pyramid = fresh_pyramid(1)
    with torch.inference_mode():
        pyramid.synthesize(pyramid(image(16, 16)))
    assert works(pyramid)


def test_masks_made_under_a_transform_work_afterwards():
    pyramid = fresh_pyramid(2)
    loss = lambda x: pyramid.synthesize(pyramid(x)).square().sum()
    torch.func.vmap(torch.func.grad(loss))(image(3, 16, 16))
    assert works(pyramid)


def test_masks_made_under_fake_tensors_work_afterwards():
    pyramid = fresh_pyramid(3)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(image(2, 16, 16))
        assert pyramid.synthesize(pyramid(fake)).shape == (2, 16, 16)
    assert works(pyramid)


def test_masks_made_under_another_default_device_work_afterwards():
    """``torch.set_default_device`` has no effect: masks are on the device of the input."""
    pyramid = fresh_pyramid(4)
    x = image(16, 16)
    with torch.device("meta"):
        assert pyramid(x).lowpass.device.type == "cpu"
    assert works(pyramid)


def test_default_dtype_has_no_effect():
    pyramid = fresh_pyramid(5)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        assert works(pyramid)
    finally:
        torch.set_default_dtype(before)


# --- The module


def test_module_has_no_parameters_and_no_state():
    pyramid = SteerablePyramid((16, 16))
    assert not list(pyramid.parameters()) and not list(pyramid.buffers()) and not pyramid.state_dict()
    pyramid.load_state_dict({})


def test_repr_has_the_arguments():
    text = repr(SteerablePyramid((16, 16)))
    assert text.startswith("SteerablePyramid((16, 16), height=2, order=3") and "image_shape" not in text


@syntheses
def test_copies_are_equal(synthesis):
    pyramid = SteerablePyramid((17, 20), order=2, width=1.5, tight_frame=True, synthesis=synthesis, downsample=False)
    x = image(17, 20)
    buffer = io.BytesIO()
    torch.save(pyramid, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (
        copy.deepcopy(pyramid),
        pickle.loads(pickle.dumps(pyramid)),
        loaded,
        pyramid.to(torch.float64),
    ):
        assert other.geometry == pyramid.geometry and other.synthesis == synthesis
        assert all_equal(other(x).tensors(), pyramid(x).tensors())


def test_coefficients_have_the_dtype_and_device_of_the_input(dtype, device):
    pyramid = SteerablePyramid((16, 16)).to(torch.float64)
    x = image(16, 16, dtype=dtype, device=device)
    c = pyramid(x)
    assert c.highpass.dtype == dtype and c.highpass.device == x.device


def test_meta_tensors_give_meta_coefficients():
    pyramid = SteerablePyramid((17, 20))
    c = pyramid(torch.empty(2, 3, 17, 20, device="meta"))
    assert {t.device.type for t in c.tensors()} == {"meta"} and c.bands[1].shape == (2, 3, 4, 9, 10)
    assert pyramid.synthesize(c).shape == (2, 3, 17, 20)


# --- Function transforms


@syntheses
def test_vmap_equals_a_batch(synthesis, device):
    pyramid = SteerablePyramid((16, 12), height=1, synthesis=synthesis)
    x = image(4, 3, 16, 12, device=device)
    c = torch.func.vmap(pyramid)(x)
    assert_coefficients_close(c, pyramid(x), "pyramid")
    assert_close(torch.func.vmap(pyramid.synthesize)(c), x, "reconstruction", absolute=True)
    inner = torch.func.vmap(torch.func.vmap(lambda t: pyramid.synthesize(pyramid(t))), in_dims=1, out_dims=1)
    assert_close(inner(x), x, "reconstruction", absolute=True)
    map_last_dim = torch.func.vmap(lambda b: pyramid.synthesize(c.map(lambda _: b)), in_dims=-1)
    bands = torch.stack([c.bands[0], 2 * c.bands[0]])
    assert_close(map_last_dim(bands.movedim(0, -1))[1], pyramid.synthesize(c.map(lambda _: bands[1])), "pyramid")
    map_first_dim = torch.func.vmap(lambda b: pyramid.synthesize(c.map(lambda _: b)), in_dims=0)
    assert map_first_dim(torch.stack([c.bands[0], 2 * c.bands[0]])).shape == (2, 4, 3, 16, 12)


@syntheses
def test_jvp_along_a_tangent_is_the_value_at_the_tangent(synthesis, device):
    pyramid = SteerablePyramid((16, 12), height=1, synthesis=synthesis)
    x, tangent = image(16, 12, device=device), normal(16, 12, device=device)
    value, derivative = torch.func.jvp(pyramid, (x,), (tangent,))
    assert_coefficients_close(value, pyramid(x), "pyramid")
    assert_coefficients_close(derivative, pyramid(tangent), "pyramid")
    c, dc = random_coefficients(pyramid, device=device), pyramid(tangent)
    value, derivative = torch.func.jvp(pyramid.synthesize, (c,), (dc,))
    assert_close(derivative, tangent, "pyramid")
    assert_close(value, pyramid.synthesize(c), "pyramid")
    band = torch.func.jvp(lambda b: pyramid.synthesize(c.map(lambda _: b)), (c.bands[0],), (dc.bands[0],))[1]
    assert_close(band, pyramid.synthesize(dc, residuals=False), "pyramid")


def test_func_grad_and_hessian_agree_with_autograd(device):
    pyramid = SteerablePyramid((8, 8))
    energy = lambda x: sum(t.abs().square().sum() for t in pyramid(x).tensors())
    x = image(8, 8, device=device)
    grad = torch.func.grad(energy)(x)
    leaf = x.clone().requires_grad_()
    assert_close(grad, torch.autograd.grad(energy(leaf), leaf)[0], "pyramid")
    hessian = torch.func.hessian(energy)(x).reshape(64, 64)
    assert_close(hessian, hessian.T, "pyramid")
    assert_close((hessian @ x.flatten()).reshape(8, 8), grad, "pyramid")
    per_sample = torch.func.vmap(torch.func.grad(energy))(image(3, 8, 8, device=device))
    assert per_sample.shape == (3, 8, 8)


def test_forward_mode_equals_reverse_mode(device):
    pyramid = SteerablePyramid((8, 8), height=1, order=1, tight_frame=True, synthesis="adjoint")
    f = lambda x: pyramid.synthesize(pyramid(x).map(lambda b: b * b.abs()))
    x = image(8, 8, device=device)
    forward, reverse = torch.func.jacfwd(f)(x), torch.func.jacrev(f)(x)
    assert (forward - reverse).abs().max() <= TOLERANCES["pyramid"].float64 * forward.abs().max()


@pytest.mark.parametrize("trace", [lambda f, x: make_fx(f)(x), lambda f, x: torch.jit.trace(f, x)], ids=["fx", "jit"])
def test_traced_programs_write_every_piece_of_a_large_result(trace, small_chunks):
    """Traced and eager code use the same ops at this size: the ops on whole planes do not take the prime 67."""
    small_chunks()
    pyramid = SteerablePyramid((67, 20))
    f = lambda x: tuple(pyramid(x).tensors())
    traced = trace(f, image(3, 67, 20))
    other = image(3, 67, 20, seed=1)
    for a, b in zip(traced(other), f(other)):
        assert torch.equal(a, b)
