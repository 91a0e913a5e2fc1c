"""Pyramids and edit families (``PARTS``) in eager, compiled and exported code, with every kind of derivative.

Sizes are static or dynamic. Results equal those of autograd in eager mode, or an error names the cause (UNSUPPORTED).
"""

from itertools import product

import pytest
import torch
from inputs import image, normal
from pairwise import covering
from tolerances import assert_close

from steerlens_fast import CSPFamily, FourierFamily, LumaFamily, PixelFamily, SteerableLens, SteerablePyramid

SIZE = 16, 12
PYRAMID = SteerablePyramid(SIZE, height=1)
ADJOINT = SteerablePyramid(SIZE, height=1, synthesis="adjoint")
FAMILIES = {
    "pixel_bands": PixelFamily(0.2, PYRAMID, [0], [0, 1]),
    "fourier_bands": FourierFamily("complex", 0.2, pyramid=PYRAMID, orientations=[0, 1]),
    "csp_phase": CSPFamily(PYRAMID, eps=0.2),
    "csp_joint": CSPFamily(PYRAMID, "joint", eps=0.2),
    "csp_amplitude": CSPFamily(ADJOINT, "amplitude", eps=0.2),
    "csp_adjoint_polar": CSPFamily(ADJOINT, "joint", "polar", 0.2, scales=[0]),
    "luma": LumaFamily(CSPFamily(PYRAMID, "joint", "polar", 0.2)),
}
CHANNELS = {"luma": 3}


def forward(t, _, __):
    c = PYRAMID(t)
    return torch.cat([c.highpass.flatten(-2), c.bands[0].abs().flatten(-3), c.lowpass.flatten(-2)], -1)


def synthesize(t, _, __):
    return PYRAMID.synthesize(PYRAMID(t).map(lambda band: band * (0.5 + 0.2j)))


def synthesize_adjoint(t, _, __):
    return ADJOINT.synthesize(ADJOINT(t).map(lambda band: band * (0.5 + 0.2j)))


def render_of(family):
    return lambda t, g, factors: family.prepare(t, g).render(factors)


PARTS = {"forward": forward, "synthesize": synthesize, "synthesize_adjoint": synthesize_adjoint} | {
    f"render_{name}": render_of(family) for name, family in FAMILIES.items()
}


def channels_of(part: str) -> int:
    return CHANNELS.get(part.removeprefix("render_"), 1)


def inputs_of(part: str, batch: int, frames: int):
    shape = batch, channels_of(part), *SIZE
    factors = torch.linspace(0.3, -1.0, frames, dtype=torch.float64)
    return image(*shape), 0.1 * normal(*shape), factors


def direction(t):
    return torch.linspace(-1, 1, t.numel(), dtype=t.dtype).reshape(t.shape)


def loss_of(part):
    return lambda t, g, f: (part(t, g, f).square() * 0.5).sum()


# Derivatives of a part that are computed inside the compiled or exported function
INSIDE = {
    "plain": lambda part: part,
    "grad": lambda part: torch.func.grad(loss_of(part), argnums=(0, 1)),
    "jvp": lambda part: lambda t, g, f: torch.func.jvp(lambda x: part(x, g, f), (t,), (direction(t),))[1],
    "vmap": lambda part: torch.func.vmap(part, in_dims=(0, 0, None)),
    "double": lambda part: torch.func.grad(
        lambda t, g, f: torch.func.grad(loss_of(part))(t, g, f).square().sum(), argnums=(0, 1)
    ),
}


def leaves(t, g, f):
    return t.detach().requires_grad_(), g.detach().requires_grad_(), f


def gradients_of(outputs, inputs, lead=(), **options):
    """Return the gradients of inputs, zeros for those without effect.

    ``lead`` is the batch shape of the gradients.
    """
    grads = torch.autograd.grad(outputs, inputs, allow_unused=True, **options)
    return [x.new_zeros(*lead, *x.shape) if d is None else d for d, x in zip(grads, inputs)]


def backward(part, t, g, f):
    t, g, f = leaves(t, g, f)
    return gradients_of(loss_of(part)(t, g, f), (t, g))


def batched_backward(part, t, g, f):
    """Return gradients for three cotangents at once, as ``torch.autograd.functional.jacobian(vectorize=True)`` does."""
    t, g, f = leaves(t, g, f)
    out = part(t, g, f)
    return gradients_of(out, (t, g), (3,), grad_outputs=cotangents_of(out), is_grads_batched=True)


def cotangents_of(out):
    return torch.stack([direction(out), torch.ones_like(out), direction(out).square()])


def double_backward(part, t, g, f):
    t, g, f = leaves(t, g, f)
    (first,) = torch.autograd.grad(loss_of(part)(t, g, f), t, create_graph=True)
    return gradients_of(first.square().sum(), (t, g))


# Derivatives by autograd through a compiled or exported part
OUTSIDE = {"backward": backward, "batched_backward": batched_backward, "double_backward": double_backward}
DERIVATIVES = [*INSIDE, *OUTSIDE]


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, t, g, f):
        return self.function(t, g, f)


def compiled(function, dynamic, inputs):
    return torch.compile(function, backend="eager", fullgraph=True, dynamic=dynamic)


def exported(function, dynamic, inputs):
    batch, frames = torch.export.Dim("batch", min=2), torch.export.Dim("frames", min=2)
    shapes = ({0: batch}, {0: batch}, {0: frames}) if dynamic else None
    return torch.export.export(Module(function), inputs, dynamic_shapes=shapes).module()


WAYS = {
    "eager": lambda function, inputs: function,
    "compile_static": lambda function, inputs: compiled(function, False, inputs),
    "compile_dynamic": lambda function, inputs: compiled(function, True, inputs),
    "export_static": lambda function, inputs: exported(function, False, inputs),
    "export_dynamic": lambda function, inputs: exported(function, True, inputs),
}

UNSUPPORTED = {
    (way, derivative): "torch.export of a function with torch.func transforms"
    for way in ("export_static", "export_dynamic")
    for derivative in INSIDE
    if derivative != "plain"
}
# Compiling and exporting take seconds. So only SOME_PARTS, one of each kind, are tested in all ways. Other parts are
# tested with dynamic sizes, plain or with a backward. ``covering`` chooses cases with every pair of values.
DERIVATIVES_OF_EVERY_PART = "plain", "backward"
SOME_PARTS = "forward", "synthesize_adjoint", "render_pixel_bands", "render_csp_joint"


def included(way, derivative, name) -> bool:
    if way == "eager":
        return False  # eager mode has a test of its own
    return name in SOME_PARTS or (way.endswith("dynamic") and derivative in DERIVATIVES_OF_EVERY_PART)


def cases():
    for way, derivative, name in covering(c for c in product(WAYS, DERIVATIVES, PARTS) if included(*c)):
        quick = name in ("forward", "render_pixel_bands") and derivative != "double"
        quick |= (way, derivative) in UNSUPPORTED
        yield pytest.param(way, derivative, name, marks=() if quick else pytest.mark.slow)


def as_list(out):
    return [out] if isinstance(out, torch.Tensor) else list(out)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_part_in_eager_mode_equals_autograd(derivative, name):
    check_part("eager", derivative, name)


@pytest.mark.parametrize("way, derivative, name", list(cases()))
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_part_equals_eager_mode_or_raises(way, derivative, name):
    check_part(way, derivative, name)


def check_part(way, derivative, name):
    part, inputs = PARTS[name], inputs_of(name, 2, 2)
    function = INSIDE[derivative](part) if derivative in INSIDE else part
    if (way, derivative) in UNSUPPORTED:
        with pytest.raises(NotImplementedError, match=UNSUPPORTED[way, derivative]):
            WAYS[way](function, inputs)
        return
    run = WAYS[way](function, inputs)
    if way.endswith("dynamic"):
        inputs = inputs_of(name, 3, 4)  # other sizes than the traced ones
    actual = run(*inputs) if derivative in INSIDE else OUTSIDE[derivative](run, *inputs)
    expected = expected_of(derivative, part, inputs)
    for a, e in zip(as_list(actual), as_list(expected), strict=True):
        assert_close(a, e, "compiled", like=1e-3)
    assert as_list(expected)[0].abs().max() > 1e-4


def expected_of(derivative, part, inputs):
    """Return the result of autograd in eager mode.

    No transforms are used: samples and cotangents are computed one by one.
    """
    t, g, f = inputs
    if derivative in ("plain", "vmap"):
        return part(t, g, f) if derivative == "plain" else torch.stack([part(*one, f) for one in zip(t, g)])
    if derivative == "batched_backward":
        t, g, f = leaves(*inputs)
        out = part(t, g, f)
        each = [gradients_of(out, (t, g), grad_outputs=c, retain_graph=True) for c in cotangents_of(out)]
        return [torch.stack(grads) for grads in zip(*each)]
    if derivative == "jvp":
        return torch.autograd.functional.jvp(lambda x: part(x, g, f), t, direction(t))[1]
    return backward(part, *inputs) if derivative in ("grad", "backward") else double_backward(part, *inputs)


def test_pyramid_and_family_can_be_made_in_a_compiled_function():
    inputs = inputs_of("render_csp_phase", 2, 3)

    def function(t, g, f):
        return CSPFamily(SteerablePyramid((16, 12), height=1), eps=0.2).prepare(t, g).render(f)

    run = torch.compile(function, backend="eager", fullgraph=True, dynamic=True)
    assert_close(run(*inputs), function(*inputs), "compiled")


@pytest.mark.slow
def test_render_compiles_with_inductor_and_dynamic_sizes():
    run = torch.compile(PARTS["render_csp_joint"], fullgraph=True, dynamic=True)
    for batch, frames in ((2, 2), (3, 4)):
        inputs = inputs_of("render_csp_joint", batch, frames)
        assert_close(run(*inputs), PARTS["render_csp_joint"](*inputs), "compiled")


def test_lens_can_be_called_in_a_compiled_function():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)).double().eval()
    lens, images = SteerableLens(model), image(2, 1, 16, 12)
    morph = lambda t: lens.morph(t, 1, max_l2=1.0, frames=3).frames * 2
    assert_close(torch.compile(morph, backend="eager")(images), morph(images), "render")


@pytest.mark.parametrize("name", ["forward", "render_csp_joint", "render_fourier_bands"])
def test_jacobians_of_torch_func_equal_those_of_autograd(name):
    """In vectorized forward mode, ``torch.autograd.functional.jacobian`` raises an error that names ``jacfwd``."""
    t, g, f = inputs_of(name, 1, 2)
    loss = lambda x: as_list(PARTS[name](x, g, f))[0].real.square().mean((-1, -2)).flatten()
    expected = torch.autograd.functional.jacobian(loss, t)
    for transform in (torch.func.jacfwd, torch.func.jacrev):
        assert_close(transform(loss)(t), expected, "compiled")
    with pytest.raises(NotImplementedError, match="use torch.func.jacfwd, or vectorize=False"):
        torch.autograd.functional.jacobian(loss, t, vectorize=True, strategy="forward-mode")


@pytest.mark.parametrize("vectorize", [False, True])
def test_jacobians_of_reverse_mode_do_not_depend_on_vectorize(vectorize):
    t = image(1, *SIZE)
    low = lambda x: PYRAMID(x).lowpass
    jacobian = torch.autograd.functional.jacobian(low, t, vectorize=vectorize)
    assert_close(jacobian, torch.autograd.functional.jacobian(low, t), "compiled")
    x = direction(t)
    assert_close((jacobian * x).sum((-3, -2, -1)), low(x), "compiled")  # low is linear
