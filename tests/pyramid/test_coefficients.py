"""Coefficients: pytree, methods, conversion to plenoptic's dictionary, and packing into one tensor."""

import copy
import operator
import pickle

import numpy as np
import pytest
import torch
from inputs import image
from tolerances import all_equal
from torch.utils import _pytree

from steerlens_fast import Coefficients, SteerablePyramid


@pytest.fixture
def pyramid():
    return SteerablePyramid((24, 17), height=2, order=1)


@pytest.fixture
def c(pyramid):
    return pyramid(image(2, 3, 24, 17))


@pytest.fixture
def incomplete(pyramid):
    """Coefficients without some parts."""
    return pyramid.analyze(image(24, 17), scales=[1], residuals=False)


def same(a: Coefficients, b: Coefficients) -> bool:
    is_missing = lambda c: [part is None for part in (c.highpass, *c.bands, c.lowpass)]
    return is_missing(a) == is_missing(b) and all_equal(a.tensors(), b.tensors())


def test_tensors_are_in_order(c, incomplete):
    assert [t.shape[-1] for t in c.tensors()] == [17, 17, 9, 5]
    assert [tuple(t.shape) for t in incomplete.tensors()] == [(2, 12, 9)]


def test_coefficients_are_a_pytree(c):
    leaves, spec = _pytree.tree_flatten(c)
    assert len(leaves) == 4 and all(a is b for a, b in zip(leaves, c.tensors()))
    assert same(_pytree.tree_unflatten(leaves, spec), c)
    doubled = _pytree.tree_map(lambda t: 2 * t, c)
    assert isinstance(doubled, Coefficients) and torch.equal(doubled.bands[1], 2 * c.bands[1])
    keys = [_pytree.keystr(path) for path, _ in _pytree.tree_flatten_with_path(c)[0]]
    assert keys == [".highpass", ".bands[0]", ".bands[1]", ".lowpass"]
    assert _pytree.treespec_loads(_pytree.treespec_dumps(spec)) == spec


def test_saved_coefficients_can_be_loaded(c, tmp_path):
    torch.save(c, tmp_path / "c.pt")
    assert all_equal(torch.load(tmp_path / "c.pt").tensors(), c.tensors())


def test_pytree_keeps_missing_parts(incomplete):
    leaves, spec = _pytree.tree_flatten(incomplete)
    assert same(_pytree.tree_unflatten(leaves, spec), incomplete)


@pytest.mark.parametrize(
    "args, kwargs",
    [((torch.float32,), {}), (("cpu", torch.float32), {}), ((), {"dtype": torch.float32, "device": "cpu"})],
)
def test_to_changes_the_precision(c, args, kwargs):
    single = c.to(*args, **kwargs)
    assert single.highpass.dtype == single.lowpass.dtype == torch.float32
    assert all(b.dtype == torch.complex64 for b in single.bands)
    assert torch.equal(single.bands[0], c.bands[0].to(torch.complex64))


def test_to_changes_the_device(c, device):
    assert {t.device.type for t in c.to(device).tensors()} == {device.type}
    assert {t.device.type for t in c.to("meta").tensors()} == {"meta"}
    assert all(a is b for a, b in zip(c.to("cpu").tensors(), c.tensors())), "copied without need"


def test_clone_has_its_own_memory(c):
    copied = c.clone()
    assert same(copied, c) and all(a.data_ptr() != b.data_ptr() for a, b in zip(copied.tensors(), c.tensors()))


def test_detach_shares_the_memory(pyramid):
    c = pyramid(image(24, 17).requires_grad_())
    assert all(t.requires_grad for t in c.tensors())
    detached = c.detach()
    assert not any(t.requires_grad for t in detached.tensors())
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(detached.tensors(), c.tensors()))


def test_map_edits_bands_and_apply_edits_all(c, incomplete):
    mapped, applied = c.map(lambda b: 1j * b), c.apply(lambda t: 2 * t)
    assert mapped.highpass is c.highpass and mapped.lowpass is c.lowpass
    assert all(torch.equal(a, 1j * b) for a, b in zip(mapped.bands, c.bands, strict=True))
    assert all(torch.equal(a, 2 * b) for a, b in zip(applied.tensors(), c.tensors(), strict=True))
    assert incomplete.map(lambda b: 2 * b).bands[0] is None


@pytest.mark.parametrize("name", ["map", "apply"])
@pytest.mark.parametrize("result", [None, "x", 2.0])
def test_map_and_apply_reject_functions_that_return_no_tensor(c, name, result):
    """A function without a return gives None, which would stand for a missing part."""
    with pytest.raises(TypeError, match=f"function must return a torch.Tensor, got {type(result).__name__}"):
        getattr(c, name)(lambda b: result)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_coefficients_cannot_be_integers(c, dtype):
    for arguments in ((dtype,), ("cpu", dtype)):
        with pytest.raises(TypeError, match=f"dtype must be a floating-point or complex dtype, got {dtype}"):
            c.to(*arguments)
    with pytest.raises(TypeError, match="dtype must be"):
        c.to(dtype=dtype)


def test_coefficients_of_different_sizes_cannot_be_added(c, pyramid):
    wider = SteerablePyramid((24, 18), height=pyramid.height, order=pyramid.order)(image(24, 18))
    for combine in (operator.add, operator.sub):
        with pytest.raises(ValueError, match=r"other must have the same parts, of the same sizes, as .*, got "):
            combine(c, wider)


def test_arithmetic_applies_to_all_parts(c):
    assert same(c + c, 2 * c) and same(c * 2, 2 * c)
    assert all(not t.any() for t in (c - c).tensors())
    assert same(c * torch.tensor(2.0, dtype=torch.float64), 2 * c)
    for two in (torch.tensor([2.0]), torch.full((1, 1, 1), 2.0), np.float32(2), np.array([[2.0]])):
        assert same(c * two, 2 * c) and same(two * c, 2 * c)


@pytest.mark.parametrize("factor", [torch.ones(2, 1, 1, 1), torch.ones(17), torch.ones(0), np.ones((3, 1, 1))])
def test_several_factors_raise(c, factor):
    """Bands have one dimension more than residuals, so the factors would apply to different dimensions."""
    with pytest.raises(ValueError, match=r"factor must be .* one element .*, got shape \["):
        c * factor
    with pytest.raises(ValueError, match=r"factor must be .* one element .*, got shape \["):
        factor * c


def test_missing_parts_stay_missing_in_arithmetic(incomplete):
    """A missing part is None, and None plus None is None."""
    assert same(incomplete + incomplete, 2 * incomplete)
    assert not (incomplete - incomplete).bands[1].any()


def test_fields_cannot_be_assigned(c):
    with pytest.raises(AttributeError):
        c.highpass = None


def test_plenoptic_round_trip_copies_nothing(c, incomplete):
    named = c.to_plenoptic()
    assert list(named) == ["residual_highpass", 0, 1, "residual_lowpass"]
    back = Coefficients.from_plenoptic(named)
    assert [t.data_ptr() for t in back.tensors()] == [t.data_ptr() for t in c.tensors()]
    assert list(incomplete.to_plenoptic()) == [1]
    again = Coefficients.from_plenoptic(incomplete.to_plenoptic())
    assert again.bands[0] is None and again.bands[1] is incomplete.bands[1] and again.highpass is None


@pytest.mark.parametrize("named", [{}, {"a": 1}, {0: torch.ones(1, 1, 2, 2), -1: torch.ones(1, 1, 2, 2)}])
def test_other_dictionaries_than_those_of_plenoptic_raise(named):
    with pytest.raises(ValueError, match=r"coefficients must have the keys 'residual_highpass', 0, 1, .*, got \["):
        Coefficients.from_plenoptic(named)


def test_repr_has_shapes_type_and_device(c, incomplete):
    assert repr(c) == (
        "Coefficients(highpass=[2, 3, 24, 17], bands=([2, 3, 2, 24, 17], [2, 3, 2, 12, 9]), "
        "lowpass=[2, 3, 6, 5], float64, cpu)"
    )
    assert repr(incomplete) == "Coefficients(highpass=None, bands=(None, [2, 12, 9]), lowpass=None, float64, cpu)"
    assert repr(Coefficients(None, (None,), None)) == "Coefficients(highpass=None, bands=(None,), lowpass=None)"


def test_pickle_and_deepcopy_are_equal(c, incomplete):
    for one in (c, incomplete):
        assert same(pickle.loads(pickle.dumps(one)), one) and same(copy.deepcopy(one), one)


# --- Packing into one tensor


def test_unpack_inverts_pack(pyramid, c):
    packed = pyramid.pack(c)
    sizes = [t.shape[2:].numel() * (2 if t.is_complex() else 1) for t in c.tensors()]
    assert packed.shape == (2, 3, sum(sizes)) and packed.dtype == torch.float64
    assert same(pyramid.unpack(packed), c)
    energy = sum(t.abs().square().sum() for t in c.tensors())
    assert torch.allclose(packed.square().sum(), energy), "something is packed twice or not at all"


def test_pack_resolves_conjugate_views(pyramid, c):
    conjugate = c.map(torch.conj)
    assert same(pyramid.unpack(pyramid.pack(conjugate)), conjugate.map(torch.resolve_conj))


def test_packed_coefficients_are_differentiable(pyramid):
    x = image(24, 17).requires_grad_()
    round_trip = lambda t: pyramid.synthesize(pyramid.unpack(pyramid.pack(pyramid(t))))
    (grad,) = torch.autograd.grad(round_trip(x).sum(), x)
    assert torch.allclose(grad, torch.ones_like(x))


def test_pack_of_missing_parts_and_unpack_of_another_size_raise(pyramid, c, incomplete):
    with pytest.raises(ValueError, match="coefficients.*all scales.*None"):
        pyramid.pack(incomplete)
    with pytest.raises(ValueError, match=r"packed.*\[\.\.\., \d+\], got \[2, 3, 7\]"):
        pyramid.unpack(pyramid.pack(c)[..., :7])
