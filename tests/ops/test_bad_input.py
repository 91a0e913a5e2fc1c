"""Bad input raises an error that names the argument, what was expected, and what was given."""

import random
from functools import partial

import pytest
import torch
from inputs import image, normal, on_tensors
from messages import raises_with
from op_cases import OPS, RAW, as_list, case, shapes_of

from steerlens_fast import Coefficients, CSPFamily, PixelFamily, SteerablePyramid, ops
from steerlens_fast.ops.registration import leaves

NAN, INF = float("nan"), float("inf")
SHAPE = (16, 20)


def pyramid(**options) -> SteerablePyramid:
    return SteerablePyramid(SHAPE, height=2, **options)


# --- The constructor


# (type of the exception, options, words in the message)
BAD_OPTIONS_OF_THE_CONSTRUCTOR = [
    (ValueError, {"image_shape": (7, 16)}, ["image_shape", r"\(8, 8\)", r"\(7, 16\)"]),
    (ValueError, {"image_shape": (16, 0)}, ["image_shape", r"\(16, 0\)"]),
    (ValueError, {"image_shape": (-16, 16)}, ["image_shape", "-16"]),
    (TypeError, {"image_shape": 16}, ["image_shape", r"\(H, W\)", "16"]),
    (TypeError, {"image_shape": (3, 16, 16)}, ["image_shape", r"\(H, W\)", r"\(3, 16, 16\)"]),
    (TypeError, {"image_shape": (16.0, 16)}, ["image_shape", "int", "16.0"]),
    (TypeError, {"image_shape": (True, 16)}, ["image_shape", "int", "True"]),
    (TypeError, {"image_shape": "ab"}, ["image_shape", "ab"]),
    (TypeError, {"image_shape": None}, ["image_shape", "None"]),
    (ValueError, {"height": 0}, ["height", "1 to 2", r"\(16, 20\)", "0"]),
    (ValueError, {"height": 3}, ["height", "1 to 2", "3"]),
    (TypeError, {"height": 1.0}, ["height", "int", "1.0"]),
    (TypeError, {"height": True}, ["height", "int", "True"]),
    (TypeError, {"height": "all"}, ["height", "int", "all"]),
    (TypeError, {"height": None}, ["height", "int", "None"]),
    (ValueError, {"order": -1}, ["order", "0 to 15", "-1"]),
    (ValueError, {"order": 16}, ["order", "0 to 15", "16"]),
    (TypeError, {"order": 3.0}, ["order", "int", "3.0"]),
    (TypeError, {"order": True}, ["order", "int", "True"]),
    (ValueError, {"order": 3, "orientations": 3}, ["orientations", "at least 4", "3"]),
    (TypeError, {"orientations": 4.5}, ["orientations", "int", "4.5"]),
    (TypeError, {"orientations": True}, ["orientations", "int", "True"]),
    (ValueError, {"width": 0}, ["width", "above 0", "0"]),
    (ValueError, {"width": -1.0}, ["width", "above 0", "-1"]),
    (ValueError, {"width": NAN}, ["width", "nan"]),
    (ValueError, {"width": INF}, ["width", "inf"]),
    (TypeError, {"width": "1"}, ["width", "float", "'1'"]),
    (TypeError, {"width": True}, ["width", "float", "True"]),
    (ValueError, {"synthesis": "both"}, ["synthesis", "real", "adjoint", "both"]),
    (ValueError, {"synthesis": None}, ["synthesis", "real", "adjoint", "None"]),
    (TypeError, {"tight_frame": "no"}, ["tight_frame", "bool", "no"]),
    (TypeError, {"downsample": 2}, ["downsample", "bool", "2"]),
]


def test_bad_options_of_the_constructor_raise():
    for kind, options, words in BAD_OPTIONS_OF_THE_CONSTRUCTOR:
        with raises_with(kind, *words):
            SteerablePyramid(**{"image_shape": SHAPE, **options})


# --- Images


# (type of the exception, bad value, words in the message)
BAD_IMAGES = [
    (ValueError, torch.rand(20), [r"\[\.\.\., 16, 20\]", r"\[20\]"]),
    (ValueError, torch.tensor(1.0), [r"\[\.\.\., 16, 20\]", r"\[\]"]),
    (ValueError, torch.rand(20, 16), [r"\[\.\.\., 16, 20\]", r"\[20, 16\]"]),
    (ValueError, torch.rand(1, 3, 16, 21), [r"\[\.\.\., 16, 20\]", r"\[1, 3, 16, 21\]"]),
    (ValueError, torch.rand(16, 20, 3), [r"\[\.\.\., 16, 20\]", r"\[16, 20, 3\]"]),
    (TypeError, torch.zeros(16, 20, dtype=torch.uint8), ["floating-point", "uint8"]),
    (TypeError, torch.zeros(16, 20, dtype=torch.int64), ["floating-point", "int64"]),
    (TypeError, torch.zeros(16, 20, dtype=torch.bool), ["floating-point", "bool"]),
    (TypeError, torch.zeros(16, 20, dtype=torch.complex64), ["floating-point", "complex64"]),
    (TypeError, torch.rand(16, 20).to_sparse(), ["dense", "sparse_coo"]),
    (TypeError, [[0.0] * 20] * 16, ["Tensor", "list"]),
    (TypeError, torch.rand(16, 20).numpy(), ["Tensor", "ndarray"]),
    (TypeError, None, ["Tensor", "None"]),
]
bad_images = pytest.mark.parametrize(
    "kind, bad, words", BAD_IMAGES, ids=lambda v: f"{list(v.shape)}" if hasattr(v, "shape") else None
)


@bad_images
def test_bad_images_and_gradients_raise(kind, bad, words):
    good = torch.rand(16, 20)
    for call in (pyramid().analyze, pyramid()):
        with raises_with(kind, "image", *words):
            call(bad)
    with raises_with(kind, "image", *words):
        CSPFamily(pyramid()).prepare(bad, good)
    with raises_with(kind, "gradient", *words):
        CSPFamily(pyramid()).prepare(good, bad)


def test_gradient_of_another_shape_or_dtype_raises():
    good = torch.rand(2, 16, 20)
    for family in (CSPFamily(pyramid()), PixelFamily()):
        with raises_with(ValueError, "gradient", r"\[2, 16, 20\]", r"\[16, 20\]"):
            family.prepare(good, good[0])
        with raises_with(TypeError, "gradient", "float32", "float64"):
            family.prepare(good, good.double())
        with raises_with(ValueError, "gradient", "cpu", "meta"):
            family.prepare(good, good.to("meta"))


def test_integer_and_complex_images_of_the_pixel_family_raise():
    """With an integer image, factors would be rounded without notice."""
    for dtype in (torch.uint8, torch.int64, torch.complex64):
        bad = torch.zeros(2, 16, 20, dtype=dtype)
        with raises_with(TypeError, "image", "floating-point", str(dtype).removeprefix("torch.")):
            PixelFamily().prepare(bad, bad)


def test_images_of_the_pixel_family_that_are_no_tensors_raise():
    for bad in (None, 3.0, [[0.0]]):
        with raises_with(TypeError, "image", "Tensor"):
            PixelFamily().prepare(bad, bad)


def test_images_of_one_dimension_of_the_pixel_family_raise():
    with raises_with(ValueError, "image", r"\[20\]"):
        PixelFamily().prepare(torch.rand(20), torch.rand(20))


# --- Subsets


# (type of the exception, bad value, words in the message)
BAD_SCALES = [
    (ValueError, [2], ["0 to 1", "2"]),
    (ValueError, [-1], ["0 to 1", "-1"]),
    (ValueError, [0, 0], ["distinct", r"\[0, 0\]"]),
    (TypeError, [0.0], ["int", "0.0"]),
    (TypeError, [True], ["int", "True"]),
    (TypeError, 1, ["sequence", "1"]),
    (TypeError, "all", ["sequence", "all"]),
    (TypeError, ["residual_lowpass"], ["int", "residual_lowpass"]),
]


def test_bad_scales_raise():
    p, x = pyramid(), torch.rand(SHAPE)
    for kind, bad, words in BAD_SCALES:
        with raises_with(kind, "scales", *words):
            p.analyze(x, scales=bad)
        with raises_with(kind, "scales", *words):
            p.synthesize(p(x), scales=bad)
        with raises_with(kind, "scales", *words):
            CSPFamily(p, scales=bad)


# (type of the exception, bad value, words in the message)
BAD_ORIENTATIONS = [
    (ValueError, [4], ["0 to 3", "4"]),
    (ValueError, [1, 1], ["distinct", r"\[1, 1\]"]),
    (TypeError, 0, ["sequence", "0"]),
    (TypeError, [None], ["int", "None"]),
]


def test_bad_orientations_raise():
    p, x = pyramid(), torch.rand(SHAPE)
    for kind, bad, words in BAD_ORIENTATIONS:
        with raises_with(kind, "orientations", *words):
            p.synthesize(p(x), orientations=bad)
        with raises_with(kind, "orientations", *words):
            CSPFamily(p, orientations=bad)


# --- Coefficients


def with_band(c, i, band):
    return Coefficients(c.highpass, tuple(band if j == i else b for j, b in enumerate(c.bands)), c.lowpass)


def valid():
    return pyramid()(image(2, *SHAPE, dtype=torch.float32))


# {what is wrong: (type of the exception, function that makes the coefficients, words in the message)}
BAD_COEFFICIENTS = {
    "dict": (TypeError, lambda: valid().to_plenoptic(), ["Coefficients", "OrderedDict"]),
    "other_size": (ValueError, lambda: SteerablePyramid((24, 20), height=2)(torch.rand(2, 24, 20)), [r"\[2, 16, 20\]"]),
    "other_height": (ValueError, lambda: SteerablePyramid(SHAPE, 1)(torch.rand(2, *SHAPE)), ["2 scales", "1"]),
    "other_K": (
        ValueError,
        lambda: SteerablePyramid(SHAPE, 2, order=2)(torch.rand(2, *SHAPE)),
        [r"bands\[0\]", r"\[2, 4, 16, 20\]", r"\[2, 3, 16, 20\]"],
    ),
    "full_size": (
        ValueError,
        lambda: SteerablePyramid(SHAPE, 2, downsample=False)(torch.rand(2, *SHAPE)),
        [r"\[2, 4, 5\]", r"\[2, 16, 20\]"],
    ),
    "other_batch": (
        ValueError,
        lambda: with_band(valid(), 1, valid().bands[1][:1]),
        [r"bands\[1\]", r"\[2, 4, 8, 10\]", r"\[1, 4, 8, 10\]"],
    ),
    "rank": (ValueError, lambda: with_band(valid(), 0, valid().bands[0][0]), [r"bands\[0\]", r"\[4, 16, 20\]"]),
    "precision": (TypeError, lambda: with_band(valid(), 1, valid().bands[1].cdouble()), [r"bands\[1\]", "complex128"]),
    "half": (TypeError, lambda: valid().apply(lambda t: t.real.half()), ["float32 or float64", "float16"]),
    "integer": (TypeError, lambda: with_band(valid(), 0, torch.zeros(2, 4, *SHAPE).int()), [r"bands\[0\]", "int32"]),
    "device": (ValueError, lambda: with_band(valid(), 0, valid().bands[0].to("meta")), [r"bands\[0\]", "cpu", "meta"]),
    "complex_highpass": (
        TypeError,
        lambda: Coefficients(valid().highpass + 0j, valid().bands, valid().lowpass),
        ["highpass", "real", "complex64"],
    ),
    "lowpass": (
        ValueError,
        lambda: Coefficients(valid().highpass, valid().bands, valid().lowpass[..., 1:]),
        ["lowpass", r"\[2, 4, 5\]", r"\[2, 4, 4\]"],
    ),
    "nothing": (ValueError, lambda: Coefficients(None, (None, None), None), ["at least one", "None"]),
    "not_a_tensor": (TypeError, lambda: with_band(valid(), 0, valid().bands[0].numpy()), [r"bands\[0\]", "ndarray"]),
    "number": (TypeError, lambda: Coefficients(1.0, valid().bands, valid().lowpass), ["highpass", "float"]),
}


def test_bad_coefficients_raise():
    p = pyramid()
    for kind, make, words in BAD_COEFFICIENTS.values():
        for call in (p.synthesize, p.pack, partial(p.steer, angle=0.1)):
            with raises_with(kind, "coefficients", *words):
                call(make())


def test_real_bands_for_the_adjoint_synthesis_raise():
    with raises_with(TypeError, r"coefficients.bands\[0\]", "complex", "float32"):
        pyramid(synthesis="adjoint").synthesize(valid().map(torch.real))


def test_bad_packed_coefficients_raise():
    for bad in (torch.rand(3), torch.rand(2, 7)):
        with raises_with(ValueError, "packed", r"\[\.\.\., \d+\]", str(bad.shape[-1])):
            pyramid().unpack(bad)
    for bad in (None, torch.tensor(1.0), torch.zeros(3, 10, dtype=torch.complex64)):
        with pytest.raises((TypeError, ValueError), match="packed"):
            pyramid().unpack(bad)


# --- Families


def motion(name="csp", **options):
    family = CSPFamily(pyramid(), "joint", **options) if name == "csp" else PixelFamily()
    return family.prepare(*(torch.rand(2, 3, *SHAPE) for _ in range(2)))


# (options, words in the message)
BAD_OPTIONS_OF_A_FAMILY = [
    ({"edit": "colour"}, ["edit", "phase", "amplitude", "joint", "colour"]),
    ({"edit": None}, ["edit", "None"]),
    ({"rule": "cartesian"}, ["rule", "complex", "polar", "cartesian"]),
    ({"rule": 0}, ["rule", "0"]),
    ({"eps": NAN}, ["eps", "finite", "nan"]),
    ({"eps": INF}, ["eps", "finite", "inf"]),
    ({"floor": NAN}, ["floor", "nan"]),
    ({"floor": -1.0}, ["floor", "-1"]),
]


def test_bad_options_of_a_family_raise():
    for options, words in BAD_OPTIONS_OF_A_FAMILY:
        with raises_with(ValueError, *words):
            CSPFamily(pyramid(), **options)


def test_family_without_a_pyramid_raises():
    with raises_with(TypeError, "pyramid", "SteerablePyramid", "str"):
        CSPFamily("complex")


# (type of the exception, bad value, words in the message)
BAD_FACTORS = [
    (ValueError, [0.0, NAN], ["finite", "nan"]),
    (ValueError, [INF], ["finite", "inf"]),
    (ValueError, torch.tensor([-INF]), ["finite", "inf"]),
    (ValueError, torch.tensor([1e300], dtype=torch.float64), ["finite"]),  # infinite in the image's precision
    (ValueError, torch.full((2, 2), NAN), ["finite", "nan"]),
    (ValueError, torch.zeros(2, 3), [r"\[F, \*\[2, 3\]\]", r"\[2, 3\]"]),
    (ValueError, torch.zeros(2, 2, 4), [r"\[2, 2, 4\]"]),
    (ValueError, torch.zeros(2, 2, 3, 16), [r"\[2, 2, 3, 16\]"]),
    (TypeError, 1.0, ["1.0"]),
    (TypeError, torch.tensor(1.0), ["tensor"]),
    (TypeError, torch.tensor([1j]), ["real", "1"]),
    (TypeError, "ab", ["ab"]),
    (TypeError, [None], ["None"]),
    (TypeError, None, ["None"]),
    ((TypeError, ValueError), [[1.0, 2.0], [1.0]], ["1.0"]),
]


def test_bad_factors_raise():
    for error, bad, words in BAD_FACTORS:
        for name in ("csp", "pixel"):
            with raises_with(error, "factors", *words):
                motion(name).render(bad)


def test_bad_amplitude_factors_raise():
    for bad in ([NAN, 0.0], [INF, 0.0]):
        with raises_with(ValueError, "amplitude_factors", "finite"):
            motion().render([0.0, 1.0], bad)
    with raises_with(ValueError, "amplitude_factors", "2 frames", "3"):
        motion().render([0.0, 1.0], [0.0, 1.0, 2.0])
    with raises_with(ValueError, "amplitude_factors", "None"):
        motion("pixel").render([0.0], [1.0])


BAD_BOUNDS = [(1, 0), (0, NAN), (0,), 3.0, ("a", "b"), (0, 1, 2)]


def test_bad_bounds_raise():
    for bad in BAD_BOUNDS:
        for name in ("csp", "pixel"):
            with pytest.raises((TypeError, ValueError), match="bounds"):
                motion(name).render([0.0], bounds=bad)


# --- The raw ops: a RuntimeError that names op and argument, or torch's own error about types


def other_type(t):
    """Return ``t`` in a dtype that no op accepts in its place."""
    return t.real if t.is_complex() else t.half()


def bad_values(value, any_shape: bool):
    """Return bad values in place of the valid ``value`` of an argument.

    With ``any_shape``, the op accepts a tensor of any shape and precision.
    """
    if isinstance(value, torch.Tensor):
        shapes_and_precision = (
            [] if any_shape else [value[..., :-1], value[0], value.to(torch.promote_types(value.dtype, torch.float64))]
        )
        return [*shapes_and_precision, other_type(value), torch.zeros_like(value, dtype=torch.int32), value.to_sparse()]
    if isinstance(value, list) and isinstance(value[0], torch.Tensor):
        changes = [
            lambda t: t[0],
            lambda t: t[..., :-1],
            other_type,
            lambda t: t.to(torch.promote_types(t.dtype, torch.float64)),
        ]
        return [value[:-1], [], [*value, value[0]], *[[f(t) for t in value] for f in changes]]
    if isinstance(value, list):
        return [value[:-1], [], [0, *value], *[[x for _ in value] for x in (-1, 17, 2**62, 0.5)]]
    return [-1, 2**62, -(2**62)] if isinstance(value, int) and not isinstance(value, bool) else []


def bad_args(op, device="cpu"):
    """Yield (name, arguments) in which the named argument is bad."""
    build = lambda: case(op, "", shapes_of(op)["odd"]).build(torch.float32, device)
    names = [a.name for a in getattr(RAW, op).default._schema.arguments]
    for i, name in enumerate(names):
        any_shape = len(names) == 1 or "pair" in op
        for bad in bad_values(build()[i], any_shape):
            yield name, [bad if j == i else value for j, value in enumerate(build())]


ALLOWED = (RuntimeError, TypeError, ValueError, NotImplementedError)


@pytest.mark.parametrize("op", OPS)
def test_bad_arguments_of_raw_ops_raise(op, device):
    own_messages = 0
    for name, args in bad_args(op, device):
        with pytest.raises(ALLOWED) as raised:
            getattr(RAW, op)(*args)
            raise AssertionError(f"bad {name} raised no error")
        _, prefix, message = str(raised.value).partition(f"steerlens_fast::{op}: ")
        known = [a.name for a in getattr(RAW, op).default._schema.arguments]
        # Only the op's own messages, which have this prefix, must name an argument
        assert not prefix or any(n in message for n in known), f"bad {name}: {message}"
        own_messages += bool(prefix)
        if device.type == "cpu" and not any(t.is_sparse for t in leaves(args) if isinstance(t, torch.Tensor)):
            with pytest.raises(ALLOWED):
                getattr(RAW, op)(*on_tensors(lambda t: t.to("meta"), args))
                raise AssertionError(f"bad {name} raised no error for meta tensors")
    assert own_messages >= 2, f"{own_messages} errors came from the op's own checks"


OPS_OF_ONE_TENSOR = ("pair", "unpair", "polar_split")


@pytest.mark.parametrize("op", [op for op in OPS if op not in OPS_OF_ONE_TENSOR])
def test_tensors_on_two_devices_raise(op, device):
    if device.type == "cpu":
        pytest.skip("needs two devices")
    build = lambda where: case(op, "", shapes_of(op)["odd"]).build(torch.float32, where)
    for i, elsewhere in enumerate(build("cpu")):
        if isinstance(elsewhere, torch.Tensor) or isinstance(elsewhere, list) and hasattr(elsewhere[0], "device"):
            with pytest.raises(RuntimeError, match="device"):
                getattr(RAW, op)(*[elsewhere if j == i else v for j, v in enumerate(build(device))])


@pytest.mark.parametrize("op", OPS)
def test_fuzzed_raw_ops_never_crash(op):
    """Random shapes, types and numbers give a result or an exception, and for meta tensors the same."""
    draw = random.Random(op)
    types = [torch.float32, torch.float64, torch.complex64, torch.complex128, torch.int64, torch.bool, torch.half]
    sizes = [0, 1, 1, 2, 3, 4, 5]
    torch.manual_seed(0)

    def tensor():
        shape = [draw.choice(sizes) for _ in range(draw.choice([0, 1, 2, 3, 3, 4, 4, 5]))]
        kind = draw.choice(types[:4] if draw.random() < 0.9 else types)
        return torch.rand(shape).to(kind)

    def value(kind):
        if kind == "Tensor":
            return tensor()
        if kind == "Optional[Tensor]":
            return draw.choice([None, tensor()])
        if kind == "List[Tensor]":
            return [tensor() for _ in range(draw.choice([0, 1, 2]))]
        if kind == "List[int]":
            return [draw.choice([-1, 0, 1, 2, 3, 4, 2**62]) for _ in range(draw.choice([0, 1, 2]))]
        return {"int": draw.choice([-1, 0, 1, 2, 3, 5, 2**62]), "float": draw.choice([0.0, 1.0, NAN]), "bool": True}[
            kind
        ]

    for _ in range(400):
        args = [value(str(a.type)) for a in getattr(RAW, op).default._schema.arguments]
        results = []
        for values in (args, on_tensors(lambda t: t.to("meta"), args)):
            try:
                outputs = as_list(getattr(RAW, op)(*values))
                results.append([(t.shape, t.dtype, t.stride()) for t in outputs])
            except ALLOWED as error:
                assert str(error)
                results.append(None)
        assert results[0] == results[1], (args, results)


# --- The wrappers of the ops


def test_unknown_rule_raises():
    c, factors = normal(1, 1, 2, 2, dtype=torch.complex64), torch.ones(1, 1)
    for call in (
        lambda: ops.step(c, c.real, rule="best"),
        lambda: ops.extrapolate(c, c.real, None, factors, factors, "best"),
    ):
        with raises_with(ValueError, "rule", "complex", "polar", "best"):
            call()
