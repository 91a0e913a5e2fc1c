"""Classifier: gradients and outputs of real models, and the state that it leaves unchanged."""

import copy
import dataclasses
import inspect
import random
import warnings
import weakref
from unittest.mock import Mock

import numpy as np
import optional_libraries
import pytest
import torch
from messages import raises_with
from tolerances import assert_close
from torch import nn

from steerlens_fast.classifier import Classifier, named_classes
from steerlens_fast.classifier.objectives import loss
from steerlens_fast.classifier.targets import check_target, resolve_target

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # TorchScript models are tested, too
CLASSES = 5
SHAPE = (3, 8, 8)


def images(count=4, dtype=torch.float32, shape=SHAPE):
    return torch.rand(count, *shape, dtype=dtype)


def network(*extra):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *extra, nn.Flatten(), nn.Linear(144, CLASSES)
    )


def toward_two(outputs, at=None):  # at: which samples are in the batch, a slice
    return -outputs[:, 2].float()


def nll(outputs, at=None):
    return loss("nll", outputs, *resolve_target(2, outputs))


def plain(model, x, losses=toward_two):
    """Return gradient and outputs by plain autograd."""
    x = x.clone().requires_grad_()
    outputs = model(x)
    return torch.autograd.grad(losses(outputs).sum(), x)[0], outputs.detach()


def counting(model):
    batch_sizes = []

    def call(x, *args):
        batch_sizes.append(len(x))
        return model(x, *args)

    return call, batch_sizes


def assert_same(classifier, expected, x, losses=toward_two, **options):
    gradient, outputs = classifier.gradient(x, losses, **options)
    assert gradient.shape == x.shape
    assert gradient.dtype == x.dtype
    assert not (gradient.requires_grad or outputs.requires_grad)
    assert not (gradient.is_inference() or outputs.is_inference())
    assert_close(gradient, expected[0], "classifier")
    assert_close(outputs, expected[1], "classifier")
    assert_close(classifier.outputs(x, **options), expected[1], "classifier")


# --- Models of every type


def timm_model():
    return optional_libraries.timm().create_model("resnet10t", num_classes=CLASSES), (3, 32, 32)


def timm_transformer():
    return optional_libraries.timm().create_model("test_vit", num_classes=CLASSES, img_size=32), (3, 32, 32)


def torchvision_model():
    return optional_libraries.torchvision().models.mobilenet_v3_small(num_classes=CLASSES), (3, 32, 32)


@pytest.mark.parametrize("make", [timm_model, timm_transformer, torchvision_model, lambda: (network(), SHAPE)])
@pytest.mark.parametrize("batch", [None, 1, 3, 100])
def test_gradients_of_models_of_timm_and_torchvision_are_those_of_autograd(make, batch):
    model, shape = make()
    model.eval()
    x = images(4, shape=shape)
    for losses in (toward_two, nll):
        assert_same(Classifier(model), plain(model, x, losses), x, losses, batch=batch)


def exported(model):
    free = {0: torch.export.Dim("n", min=1, max=64)}
    return torch.export.export(model, (images(),), dynamic_shapes=(free,))


MODEL_TYPES = {
    "function": lambda model: lambda x: model(x),
    "bound method": lambda model: model.forward,
    "within Sequential": lambda model: nn.Sequential(nn.Identity().eval(), model),
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, images()),
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "compiled": lambda model: torch.compile(model, backend="aot_eager"),
    "compiled function": lambda model: torch.compile(lambda x: model(x), backend="eager"),
    "DataParallel": nn.DataParallel,
    "ExportedProgram": exported,
    "exported module": lambda model: exported(model).module(),
}


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_gradients_of_every_type_of_model_are_those_of_autograd(kind):
    model, x = network(nn.Dropout(0.5)).eval(), images()
    classifier, expected = Classifier(MODEL_TYPES[kind](model)), plain(model, x)
    for batch in (None, 2, 3):
        assert_same(classifier, expected, x, batch=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.warn_if_training()


def test_distributed_model_waits_for_no_other_rank(monkeypatch):
    """DDP's forward broadcasts the buffers, so it would wait for ranks that have fewer batches.

    The process group is torch's fake one: gloo's threads may wait for the GIL forever as they are destroyed.
    """
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=2)
    try:
        model, x = network().eval(), images()
        ddp = nn.parallel.DistributedDataParallel(model)
        broadcast = Mock(wraps=torch.distributed._broadcast_coalesced)
        monkeypatch.setattr(torch.distributed, "_broadcast_coalesced", broadcast)
        assert_same(Classifier(ddp), plain(model, x), x, batch=2)
        broadcast.assert_not_called()
        ddp(x)
        broadcast.assert_called()
    finally:
        torch.distributed.destroy_process_group()


@dataclasses.dataclass
class Output:
    logits: object
    hidden: object = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda o: Output(o),
        lambda o: {"logits": o, "loss": None},
        lambda o: (o, o.detach()),
        lambda o: [o],
        lambda o: ({"logits": (Output(o), 3)},),
    ],
    ids=["object", "mapping", "tuple", "list", "nested"],
)
def test_outputs_are_unwrapped(wrap):
    model, x = network().eval(), images()
    assert_same(Classifier(lambda x: wrap(model(x))), plain(model, x), x, batch=3)


def test_dense_outputs_have_gradients():
    model, x = nn.Conv2d(3, CLASSES, 3), images()
    losses = lambda o, at=None: loss("nll", o, *resolve_target((2, 1, 3), o))
    assert_same(Classifier(model), plain(model, x, losses), x, losses, batch=3)


def test_preprocessing_is_differentiated():
    model, x = network().eval(), images()
    normalise = lambda x: (x - 0.4) / 0.2
    assert_same(Classifier(model, normalise), plain(lambda x: model(normalise(x)), x), x)
    assert_same(Classifier(model, nn.Sequential(nn.AvgPool2d(1))), plain(model, x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_precisions_other_than_float32_are_kept(dtype):
    model, x = network().eval().to(dtype), images(dtype=dtype)
    gradient, outputs = Classifier(model).gradient(x, nll, batch=2)
    assert gradient.dtype == outputs.dtype == dtype
    wide = plain(copy.deepcopy(model).double(), x.double(), nll)[0]
    grain = torch.finfo(dtype).eps
    assert (gradient.double() - wide).abs().max() < 64 * grain * wide.abs().max()


def test_float8_weights_do_not_make_float8_images():
    """No op computes in float8; the model casts these weights itself."""

    class Stored(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(768, 5).to(torch.float8_e4m3fn), requires_grad=False)

        def forward(self, images):
            return images.flatten(1) @ self.weight.float()

    gradient, _ = Classifier(Stored()).gradient(torch.rand(2, 3, 16, 16), toward_two)
    assert gradient.dtype == torch.float32 and gradient.any()


# --- Batches


@pytest.mark.parametrize("batch, sizes", [(None, [7]), (7, [7]), (99, [7]), (3, [3, 3, 1]), (1, [1] * 7)])
def test_model_is_called_once_per_batch(batch, sizes):
    model, recorded = counting(network().eval())
    classifier, x = Classifier(model), images(7)
    classifier.gradient(x, toward_two, batch=batch)
    assert recorded == sizes
    classifier.outputs(x, batch=batch)
    assert recorded == sizes * 2


def test_losses_get_the_indices_of_their_samples():
    target, recorded = torch.tensor([0, 1, 2, 3, 4, 0, 1]), []

    def losses(outputs, at):
        recorded.append((at.start, at.stop))
        return loss("logit", outputs, *resolve_target(target[at], outputs))

    model, x = network().eval(), images(7)
    gradient, _ = Classifier(model).gradient(x, losses, batch=3)
    assert recorded == [(0, 3), (3, 6), (6, 7)]
    each = lambda o: -o.gather(1, target[:, None])[:, 0]
    assert_close(gradient, plain(model, x, each)[0], "classifier")


def test_losses_are_summed_not_averaged():
    model, x = network().eval(), images(6)
    gradient, _ = Classifier(model).gradient(x, nll)
    for i in range(6):
        assert_close(gradient[i : i + 1], Classifier(model).gradient(x[i : i + 1], nll)[0], "classifier")


def test_bad_sample_leaves_the_others_unchanged():
    model, x = network().eval(), images()
    clean, _ = Classifier(model).gradient(x, nll)
    x[1] = float("nan")
    gradient, outputs = Classifier(model).gradient(x, nll)
    assert gradient[1].isnan().all()
    assert outputs[1].isnan().all()
    assert_close(gradient[[0, 2, 3]], clean[[0, 2, 3]], "classifier")


def test_graph_of_a_batch_is_freed_before_the_next_batch():
    graphs, alive = [], []

    def model(x):
        alive.append(sum(g() is not None for g in graphs))
        outputs = x.flatten(1) ** 2
        graphs.append(weakref.ref(outputs))
        return outputs

    Classifier(model).gradient(images(4), toward_two, batch=1)
    assert alive == [0, 0, 0, 0]


@pytest.mark.parametrize("per_sample", [torch.rand(7), torch.rand(7, 1)], ids=["N", "N x 1"])
def test_additional_arguments_are_split_like_the_samples_or_passed_whole(per_sample):
    recorded = []

    def model(x, *args):
        recorded.append(args)
        scale = args[0].reshape(-1, 1) * args[1]
        return x.flatten(1) * scale

    x, shared, word = images(7), torch.rand(()), "a word"
    other = torch.rand(3)
    args = (per_sample, shared, word, other, None)
    whole = Classifier(model).gradient(x, toward_two, args)
    parts = Classifier(model).gradient(x, toward_two, args, batch=3)
    assert_close(parts[0], whole[0], "classifier")
    assert [len(a[0]) for a in recorded] == [7, 3, 3, 1]
    assert all(a[1].shape == () and a[2] is word and a[3].shape == (3,) and a[4] is None for a in recorded)


def test_single_or_no_additional_argument_needs_no_tuple():
    model = Mock(side_effect=lambda x, *args: x.flatten(1))
    classifier, x = Classifier(model), images()
    for args, expected in ((None, []), ((), []), ("one", ["one"]), ([1, 2], [[1, 2]])):
        classifier.outputs(x, args)
        assert list(model.call_args.args[1:]) == expected


# --- What stays unchanged


class InPlace(nn.Module):
    def forward(self, x, scale=None):
        x.sub_(0.5).mul_(3)
        if scale is not None:
            scale.mul_(2)
        return x.flatten(1).contiguous()


def test_models_that_work_in_place_do_not_change_the_arguments():
    x, scale = images(), torch.ones(4)
    original = x.clone()
    gradient, _ = Classifier(InPlace()).gradient(x, toward_two, scale, batch=3)
    Classifier(InPlace(), lambda x: x.mul_(2)).outputs(x, scale)
    assert torch.equal(x, original)
    assert (scale == 1).all()
    assert (gradient.flatten(1).sum(1) == -3).all()


def state_of(model):
    tensors = {
        k: (id(v), v._version, v.detach().clone()) for k, v in [*model.named_parameters(), *model.named_buffers()]
    }
    grads = {k: (id(p.grad), p.grad if p.grad is None else p.grad.clone()) for k, p in model.named_parameters()}
    flags = {k: m.training for k, m in model.named_modules()}
    hooks = {k: [list(v) for n, v in vars(m).items() if n.endswith("_hooks")] for k, m in model.named_modules()}
    needs = {k: p.requires_grad for k, p in model.named_parameters()}
    return tensors, grads, flags, hooks, needs


def assert_untouched(before, after):
    for k, (identity, version, value) in before[0].items():
        assert after[0][k][:2] == (identity, version), k
        assert torch.equal(after[0][k][2], value), k
    for k, (identity, value) in before[1].items():
        assert after[1][k][0] == identity, k
        assert value is None or torch.equal(after[1][k][1], value), k
    assert before[2:] == after[2:]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("requires_grad", [False, True], ids=["fixed", "trainable"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_state_of_the_caller_is_unchanged(training, requires_grad, mode):
    model = network(nn.Dropout(0.5)).train(training)
    model(images()).sum().backward()
    model[0].weight.grad = None
    model.requires_grad_(requires_grad)
    x = images().requires_grad_()
    before, modes = state_of(model), []
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    with mode():
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()))
        gradient, outputs = Classifier(model).gradient(x, toward_two, batch=3)
        Classifier(model).outputs(x, batch=3)
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()))
    assert modes[0] == modes[1]
    assert_untouched(before, state_of(model))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert x.grad is None
    assert x.requires_grad
    assert not (gradient.requires_grad or gradient.is_inference() or outputs.is_inference())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_calls_under_no_grad_and_inference_mode_have_gradients(mode):
    """Autograd cannot use images and arguments made in inference mode, so they are copied."""
    model = network().eval()
    with mode():
        x, scale = images(), torch.rand(4, 1)
        gradient, _ = Classifier(lambda x, s: model(x) * s * x.mean((1, 2, 3))[:, None]).gradient(x, toward_two, scale)
    x, scale = x.clone(), scale.clone()
    expected, _ = plain(lambda x: model(x) * scale * x.mean((1, 2, 3))[:, None], x)
    assert_close(gradient, expected, "classifier")


def test_state_is_unchanged_after_errors():
    model, x = network(nn.Dropout(0.5)).train(), images()
    before, torch_state = state_of(model), torch.get_rng_state()

    def fails(*_):
        torch.rand(3)
        raise KeyError("mine")

    handle = model[-1].register_forward_hook(fails)
    with pytest.raises(KeyError):
        Classifier(model).outputs(x)
    handle.remove()
    with pytest.raises(KeyError):
        Classifier(model).gradient(x, fails)
    assert_untouched(before, state_of(model))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.jit.script, lambda m: torch.compile(m, backend="eager"), nn.Sequential]
)
def test_training_mode_uses_batch_statistics_and_keeps_running_statistics(wrap):
    """In training mode, a model uses the statistics of its batch. Running means and counts are unchanged afterwards."""
    model, x = network().train(), images()
    expected = plain(copy.deepcopy(model), x)
    before = state_of(model)
    wrapped = wrap(model)
    buffers = {k: b.clone() for k, b in wrapped.named_buffers()}
    classifier = Classifier(wrapped)
    for _ in range(2):
        assert_same(classifier, expected, x)
    assert_untouched(before, state_of(model))
    assert all(torch.equal(b, buffers[k]) for k, b in wrapped.named_buffers())
    with pytest.warns(UserWarning, match="training mode.*not changed"):
        classifier.warn_if_training()
    assert model.training


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.addresses = []

    def forward(self, x):
        self.addresses.append(self.calls.data_ptr())
        self.calls.add_(1)
        return x.flatten(1) * self.calls


def test_buffers_written_in_eval_mode_are_unchanged():
    model = Counter().eval()
    before = state_of(model)
    outputs = Classifier(model).outputs(images(), batch=2)
    Classifier(model).gradient(images(), toward_two)
    assert_untouched(before, state_of(model))
    assert model.calls.data_ptr() not in model.addresses
    assert outputs.shape == (4, 192)


def test_buffers_of_a_compiled_model_in_eval_mode_are_not_moved():
    """CUDA graphs read the buffers at their addresses."""
    model = network().eval()
    address, recorded = model[1].running_mean.data_ptr(), []
    model[1].register_forward_pre_hook(lambda m, _: recorded.append(m.running_mean.data_ptr()))
    classifier = Classifier(torch.compile(model, backend="eager"))
    classifier.outputs(images())
    assert recorded == [address]
    model.train()
    classifier.outputs(images())
    assert recorded[1] != address


def test_program_exported_in_training_mode_keeps_its_buffers():
    model = network().train()
    program = torch.export.export(model, (images(),))
    module = program.module()
    before = {k: b.clone() for k, b in module.named_buffers()}
    Classifier(module).gradient(images(), toward_two)
    assert all(torch.equal(b, before[k]) for k, b in module.named_buffers())


def test_pending_graph_of_the_caller_stays_valid():
    """BatchNorm's graph contains its running mean, which must not be written to, not even with equal values."""
    model, x = network().train(), images()
    pending = model(x)
    Classifier(model).gradient(x, toward_two)
    pending.sum().backward()
    assert model[0].weight.grad is not None


def test_replaced_and_shared_buffers_are_restored():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("replaced", torch.zeros(()))
            self.register_buffer("shared", torch.zeros(()))
            self.register_buffer("again", self.shared)
            self.register_buffer("absent", None)

        def forward(self, x):
            self.replaced = self.replaced + 1
            self.shared.add_(1)
            assert self.again == 1
            return x.flatten(1)

    model = Counts()
    held = dict(model.named_buffers(remove_duplicate=False))
    Classifier(model).gradient(images(), toward_two)
    after = dict(model.named_buffers(remove_duplicate=False))
    assert list(after) == list(held)
    assert all(after[k] is held[k] and (held[k] == 0).all() for k in held)


def test_callers_hooks_fire():
    model, x = network().eval(), images()
    forward, backward = Mock(return_value=None), Mock(return_value=None)
    handles = [model[0].register_forward_hook(forward), model[-1].register_full_backward_hook(backward)]
    before = state_of(model)
    gradient, _ = Classifier(model).gradient(x, toward_two, batch=2)
    assert forward.call_count == backward.call_count == 2
    assert_untouched(before, state_of(model))
    for handle in handles:
        handle.remove()
    assert_close(gradient, plain(model, x)[0], "classifier")


def test_hooks_on_parameters_do_not_fire():
    """Gradients of parameters are not computed."""
    model, hook = network().eval(), Mock(return_value=None)
    for p in model.parameters():
        p.register_hook(hook)
        p.register_post_accumulate_grad_hook(hook)
    Classifier(model).gradient(images(), toward_two)
    hook.assert_not_called()


def test_autocast_of_the_caller_applies_to_the_model():
    model, x = network().eval(), images()
    exact, _ = plain(model, x, nll)
    with torch.autocast("cpu", torch.bfloat16):
        gradient, outputs = Classifier(model).gradient(x, nll)
        Classifier(model).outputs(x)
        model(x).float().sum().backward()  # fails if the call above left weights without a graph in autocast's cache
    assert outputs.dtype == torch.bfloat16
    assert gradient.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), exact.flatten(), 0) > 0.99
    assert all(p.grad is not None for p in model.parameters())


def test_backward_of_a_model_without_autocast_is_exact():
    """Autocast around the backward pass would multiply gradients by weights in half precision."""
    model, x = network().eval(), images()

    def without_autocast(x):
        with torch.autocast("cpu", enabled=False):
            return model(x)

    expected = plain(model, x, nll)
    with torch.autocast("cpu", torch.bfloat16):
        gradient, outputs = Classifier(without_autocast).gradient(x, nll)
    assert torch.equal(gradient, expected[0]) and torch.equal(outputs, expected[1])


class RecordsAutocast(torch.autograd.Function):
    """The identity, which records the types of devices for which autocast is on in the backward pass."""

    recorded: list[set[str]] = []

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        RecordsAutocast.recorded.append({kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)})
        return gradient


def test_autocast_is_off_in_the_backward_pass_on_every_device(monkeypatch):
    """Preprocessing may move images of the CPU to a GPU, on which autocast is on."""
    model = network().eval()
    monkeypatch.setattr(RecordsAutocast, "recorded", [])
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)  # torch.autocast("cuda") would turn itself off without a GPU
    try:
        with torch.autocast("cpu", torch.bfloat16):
            Classifier(lambda x: model(RecordsAutocast.apply(x))).gradient(images(), toward_two)
            assert torch.is_autocast_enabled("cpu") and torch.is_autocast_enabled("cuda")
    finally:
        torch.set_autocast_enabled("cuda", before)
    assert RecordsAutocast.recorded == [set()]


def test_default_device_and_dtype_have_no_effect():
    model, x = network().eval(), images()
    expected = plain(model, x)
    with torch.device("meta"):
        assert_same(Classifier(model), expected, x, batch=3)
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(Classifier(model), expected, x, batch=3)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_memory_format_of_the_images_is_kept():
    model, recorded = network().eval(), []

    def forward(x):
        recorded.append(x.is_contiguous(memory_format=torch.channels_last))
        return model(x)

    x = images().to(memory_format=torch.channels_last)
    gradient, _ = Classifier(forward).gradient(x, toward_two, batch=2)
    Classifier(forward).outputs(x)
    assert all(recorded)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert_close(gradient, plain(model, x)[0], "classifier")
    expanded = images(1).expand(4, *SHAPE)
    assert_close(Classifier(model).gradient(expanded, toward_two)[0], plain(model, expanded)[0], "classifier")


def test_results_are_the_callers_own():
    """A model may return memory that it uses again in the next call, as compiled models do."""
    cache = torch.zeros(2, 192)

    def model(x):
        return cache.detach_().copy_(x.flatten(1))

    x = images()
    assert torch.equal(Classifier(model).outputs(x, batch=2), x.flatten(1))
    assert torch.equal(Classifier(model).gradient(x, toward_two, batch=2)[1], x.flatten(1))


class ReusedGradient(torch.autograd.Function):
    memory = torch.zeros(4, 192)

    @staticmethod
    def forward(ctx, x):
        return x.flatten(1).clone()

    @staticmethod
    def backward(ctx, gradient):
        return ReusedGradient.memory.copy_(gradient).view(4, *SHAPE)


def test_gradients_are_the_callers_own():
    x, classifier = images(4), Classifier(ReusedGradient.apply)
    first, _ = classifier.gradient(x, toward_two)
    before = first.clone()
    classifier.gradient(x, lambda outputs, at: outputs.sum(1))
    assert before.any() and torch.equal(first, before)


# --- Random numbers


def noisy(x):
    return x.flatten(1) * torch.rand(len(x), 192, device=x.device)


def test_calls_draw_the_same_random_numbers_unless_they_share_a_stream():
    """The result of ``session`` is a stream of random numbers."""
    classifier, x = Classifier(noisy), images()
    untouched = torch.get_rng_state()
    once, again = classifier.outputs(x), classifier.outputs(x)
    assert torch.equal(once, again)
    stream = classifier.session(x)
    first = classifier.outputs(x, stream=stream)
    second = classifier.gradient(x, toward_two, stream=stream)[1]
    assert torch.equal(first, once)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), untouched)
    assert torch.equal(first, noisy(x)), "a stream starts at the caller's state"
    assert torch.equal(second, noisy(x)), "a stream continues as the caller's random numbers would"


def test_random_numbers_drawn_by_the_caller_do_not_change_a_stream():
    classifier, x = Classifier(noisy), images()
    runs = []
    for draws in (0, 5):
        torch.manual_seed(3)
        stream, run = classifier.session(x), []
        for _ in range(3):
            run.append(classifier.gradient(x, toward_two, batch=2, stream=stream)[0])
            torch.rand(draws)
        runs.append(torch.stack(run))
    assert torch.equal(*runs)
    assert not torch.equal(runs[0][0], runs[0][1])


def test_stream_does_not_change_the_random_numbers_of_the_caller():
    classifier, x = Classifier(noisy), images()
    torch.manual_seed(1)
    expected = torch.rand(6)
    torch.manual_seed(1)
    stream, drawn = classifier.session(x), []
    for _ in range(3):
        classifier.gradient(x, toward_two, stream=stream)
        drawn.append(torch.rand(2))
    assert torch.equal(torch.cat(drawn), expected)


def test_stream_draws_the_random_numbers_of_the_caller_on_every_device(device):
    classifier, x = Classifier(noisy), images().to(device)
    stream = classifier.session(x)
    first, second = classifier.outputs(x, stream=stream), classifier.outputs(x, stream=stream)
    assert not torch.equal(first, second)
    assert torch.equal(first, noisy(x))
    assert torch.equal(second, noisy(x))


def test_gradients_on_every_device_are_those_of_autograd(device):
    model, x = network().eval().to(device), images().to(device)
    assert_same(Classifier(model), plain(model, x), x, batch=3)


# --- Warnings


def test_warning_of_training_mode_points_to_the_first_line_outside_the_package():
    model, here = network(), inspect.currentframe()
    with pytest.warns(UserWarning, match="model.eval()") as caught:
        line = here.f_lineno + 1
        Classifier(model).warn_if_training()
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)
    model.eval()[1].train()
    with pytest.warns(UserWarning, match="training mode"):
        Classifier(model).warn_if_training()
    with pytest.warns(UserWarning, match="training mode"):
        Classifier(model.forward).warn_if_training()


class Wrapper(nn.Module):
    """A module that does not read its training flag. Its subclasses do."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


class FunctionalDropout(Wrapper):
    def forward(self, x):
        return nn.functional.dropout(self.model(x), training=self.training)


class DecoratedDropout(Wrapper):
    @torch.no_grad()
    def forward(self, x):
        drop = lambda x: nn.functional.dropout(x, training=self.training)
        return drop(self.model(x))


def test_only_modules_that_read_their_training_flag_are_reported():
    for model in (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), Wrapper(network().eval())):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Classifier(model).warn_if_training()
    functional = (FunctionalDropout(network().eval()), DecoratedDropout(network().eval()))
    for model in (*functional, nn.RNN(2, 2), nn.MultiheadAttention(2, 1), nn.RReLU()):
        with pytest.warns(UserWarning, match="training mode"):
            Classifier(model).warn_if_training()


def test_preprocessing_in_training_mode_does_not_warn():
    model = network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (model, lambda x: x, model.forward):
            Classifier(function, preprocessing=nn.Identity()).warn_if_training()


# --- Bad input


@pytest.mark.parametrize("bad, word", [(None, "NoneType"), ("resnet", "str"), (3, "int"), (nn.Linear, "class Linear")])
def test_models_that_cannot_be_called_raise(bad, word):
    with raises_with(TypeError, "model", "callable", word, *(["load_model"] if bad == "resnet" else [])):
        Classifier(bad)
    if bad is not None:
        with raises_with(TypeError, "preprocessing", "callable", word):
            Classifier(network(), bad)


# (type of the exception, model, words in the message)
MODELS_THAT_RETURN_NO_SCORES = [
    (TypeError, lambda x: None, [r"\[N, classes", "NoneType"]),
    (TypeError, lambda x: "cat", ["logits", "str"]),
    (TypeError, lambda x: (), ["logits", "tuple"]),
    (TypeError, lambda x: {"out": x}, ["logits", "dict", "out"]),
    (TypeError, lambda x: Output(None), ["NoneType"]),
    (TypeError, lambda x: x.flatten(1).argmax(1), ["floating-point", "int64"]),
    (ValueError, lambda x: x.mean((1, 2, 3)), [r"\[N, classes", r"\[4\]"]),
    (ValueError, lambda x: x.mean(), [r"\[N, classes", r"\[\]"]),
    (ValueError, lambda x: x.flatten(1)[:2], ["N = 4", r"\[2, 192\]"]),
    (ValueError, lambda x: x.flatten(1)[:, :0], ["N = 4", r"\[4, 0\]"]),
]


@pytest.mark.parametrize("kind, model, words", MODELS_THAT_RETURN_NO_SCORES)
def test_models_that_return_no_scores_raise(kind, model, words):
    for call in (lambda c, x: c.outputs(x), lambda c, x: c.gradient(x, toward_two)):
        with raises_with(kind, "model", *words):
            call(Classifier(model), images())


def test_models_that_ignore_their_images_raise():
    model = network().eval()
    for blind in (lambda x: x.detach().flatten(1), torch.no_grad()(model), lambda x: model(torch.zeros_like(x))):
        with raises_with(ValueError, "model", "depend on the images"):
            Classifier(blind).gradient(images(), toward_two)
    with raises_with(ValueError, "depend on the images"):
        Classifier(model).gradient(images(), lambda outputs, at: torch.zeros(len(outputs)))


@pytest.mark.parametrize(
    "kind, bad, words",
    [
        (TypeError, None, ["NoneType"]),
        (TypeError, torch.zeros(2, *SHAPE, dtype=torch.uint8), ["floating-point", "uint8"]),
        (ValueError, torch.zeros(0, *SHAPE), [r"\[0, 3, 8, 8\]"]),
        (ValueError, torch.zeros(3), [r"\[3\]"]),
    ],
)
def test_invalid_images_raise(kind, bad, words):
    model = Mock()
    for call in (lambda c: c.outputs(bad), lambda c: c.gradient(bad, toward_two)):
        with raises_with(kind, "images", *words):
            call(Classifier(model))
    model.assert_not_called()


@pytest.mark.parametrize("kind, bad", [(ValueError, 0), (ValueError, -1), (TypeError, 2.0), (TypeError, True)])
def test_bad_batches_raise(kind, bad):
    with raises_with(kind, "batch", str(bad)):
        Classifier(network()).outputs(images(), batch=bad)


def test_images_on_another_device_than_the_model_raise():
    model = nn.Conv2d(3, CLASSES, 3, device="meta")
    model.register_forward_pre_hook(Mock(side_effect=AssertionError("the model ran")))
    for call in (lambda c: c.outputs(images()), lambda c: c.gradient(images(), toward_two)):
        with raises_with(ValueError, "images", "meta", "cpu"):
            call(Classifier(model))
    meta = Classifier(nn.Conv2d(3, CLASSES, 3, device="meta"))
    assert meta.gradient(images().to("meta"), lambda outputs, at: outputs.sum((1, 2, 3)))[0].is_meta
    moved = Classifier(nn.Conv2d(3, CLASSES, 3, device="meta"), lambda x: x.to("meta"))
    assert moved.outputs(images()).device.type == "meta", "preprocessing may move images"


@pytest.mark.parametrize(
    "target, hint",
    [
        ("not:3", r"pass ~3 or \(0, 3\), with task='multilabel'"),
        ("3", "pass the int 3"),
        ("runner_up", "did you mean 'runner-up'"),
        ("cat", "pass class_names= to SteerableLens"),
    ],
)
def test_texts_that_are_no_targets_raise_with_a_hint(target, hint):
    with pytest.raises(ValueError, match=f"^target must be an int, .*, got '{target}'; .*{hint}"):
        check_target(target, 2)


def test_several_labels_as_a_target_raise():
    labels = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"2 indices .* got 5 \(one label per sample: l or \(1, l\) to add"):
        resolve_target(labels, torch.zeros(2, 2, 5), "multilabel")


# --- Class names as targets


NAMES = ["cat, tabby", "tiger cat", "crane", "crane"]


@pytest.mark.parametrize(
    "target, task, expected",
    [
        ("tabby", "multiclass", [[0], [0]]),
        (["cat, tabby", "tiger cat"], "multiclass", [[0], [1]]),
        (np.array(["cat", "tiger cat"]), "multiclass", [[0], [1]]),
        ([3, "cat"], "multiclass", [[3], [0]]),
        ([("tabby", 5), (1, 2)], "multiclass", [[0, 5], [1, 2]]),
        ([(0, "tiger cat"), (1, 3)], "multilabel", [[0, 1], [1, 3]]),
        (["not:tabby", "tiger cat"], "multilabel", [[0, 0], [1, 1]]),
        (["Tabby", "tiger_CAT"], "multiclass", [[0], [1]]),
        (["not:Tabby", "Tiger-Cat"], "multilabel", [[0, 0], [1, 1]]),
    ],
)
def test_class_names_are_targets(target, task, expected):
    assert check_target(target, 2, task, NAMES).tolist() == expected


@pytest.mark.parametrize(
    "target, hint",
    [
        ("Tiger", "did you mean 'tiger cat'.*classes of the model: 'cat, tabby', 'tiger cat'"),
        ("CRANE", "one class, got 'CRANE', the name of 2 classes .2 'crane', 3 'crane'.: give the number"),
        (["cat", "dag"], "got 'dag' .classes of the model"),
        ("leest", "did you mean 'least'"),
        ("crane", "one class, got 'crane', the name of 2 classes .2 'crane', 3 'crane'.: give the number"),
        ("3", "pass the int 3"),
    ],
)
def test_unknown_and_ambiguous_class_names_raise(target, hint):
    with pytest.raises(ValueError, match=f"^target must .*{hint}"):
        check_target(target, 2, class_names=NAMES)


def test_exact_class_names_take_precedence_over_similar_ones():
    names = ["n02084071 dog", "A", "a", "crane", "crane, bird"]
    number = lambda name: int(check_target(name, 1, class_names=names))
    assert [number(name) for name in ("A", "a", "Crane", "n02084071", "Dog")] == [1, 2, 3, 0, 0]


def test_names_of_classes_are_not_read_again_for_each_target():
    names, calls = [f"n{n:08d} class {n}, synonym {n}" for n in range(50)], []
    lookups = [(lambda names: calls.append(1) or named_classes.full_names(names), names)]
    found = [named_classes.find_class(f"SYNONYM {n}" if n % 2 else f"n{n:08d}", lookups) for n in range(50)]
    assert found == list(range(50))
    assert len(calls) == 3  # once for exact names, once for other spellings, once for aliases
    names[3] = "owl"  # the caller's list may change
    assert named_classes.find_class("owl", lookups) == 3


def test_message_about_an_ambiguous_name_shows_the_name_of_each_class():
    split = lambda names: [(), ("Crane",), ("crane",)]  # class 0 has no name: class numbers are not indices of names
    with pytest.raises(ValueError, match="the name of 2 classes .1 'Crane', 2 'crane'.: give the number"):
        named_classes.find_class("CRANE", [(split, ["Crane", "crane"])])


def test_tuple_of_names_raises():
    with pytest.raises(TypeError, match="got 'tiger cat'; for one class per sample pass a list"):
        check_target(("cat", "tiger cat"), 2, class_names=NAMES)
