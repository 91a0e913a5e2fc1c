"""Loading models by name, from files and as objects.

Malicious files must not run code.
"""

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import warnings
import zipfile
from hashlib import sha256
from itertools import product
from pathlib import Path
from types import MethodType

import numpy as np
import optional_libraries
import pytest
import torch
from classifiers import CLASSES, Stateful, linear, smooth
from torch import nn

from steerlens_fast import SteerableLens, native
from steerlens_fast.errors import USAGE, BadItem, JobError
from steerlens_fast.io.atomic_io import sha256_of
from steerlens_fast.models import hubs, load_model
from steerlens_fast.models.checkpoints import PREFIXES, WRAPPERS
from steerlens_fast.models.device import resolve_device

TESTS = Path(__file__).parents[1]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
USER_MODELS = """
import torch
from torch import nn
from classifiers import Stateful, linear, smooth

class Holder:
    class Inner(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)

instance = Stateful()
number = 3
def untrained():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
def needs(argument):
    return argument
class Prefixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(2, 2)
def gives_a_number():
    return 3
def gives_a_function():
    return torch.sin
def fails():
    raise ImportError("within the callable")
"""


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16)


@pytest.fixture
def working_directory(tmp_path, monkeypatch):
    """Write modules of a user to a new working directory, which is not in sys.path."""
    (tmp_path / "user_models.py").write_text(USER_MODELS)
    (tmp_path / "user_broken.py").write_text("import torch\nimport no_such_package_anywhere\n")
    (tmp_path / "user_wrong.py").write_text("value = 1\nvalue.nothing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    yield tmp_path
    for name in ("user_models", "user_broken", "user_wrong"):
        sys.modules.pop(name, None)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Make all hubs unreachable, and caches empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    monkeypatch.setattr("torch.hub.urlopen", _unreachable)


def _unreachable(*args, **kwargs):
    raise OSError("the network is unreachable")


def load_error(*parts, **arguments):
    """Check that loading raises a usage error whose message contains ``parts``.

    Return the message.
    """
    with pytest.raises(JobError) as caught:
        load_model(arguments.pop("spec"), **arguments)
    assert caught.value.code == USAGE
    for text in parts:
        assert text in str(caught.value)
    return str(caught.value)


def scores(model, images):
    with torch.no_grad():
        return model(images)


# --- Objects of the caller, which are not changed ---


def test_model_that_needs_no_change_is_used_itself(images):
    model = smooth()
    loaded = load_model(model)
    assert loaded.model is model and loaded.preprocessing is None
    assert (loaded.size, loaded.channels, loaded.interpolation, loaded.crop_pct) == (None, 3, "bicubic", 1.0)
    assert load_model(torch.sin).model is torch.sin


def test_repr_is_short():
    loaded = load_model(smooth(), class_names=[f"class {n}" for n in range(1000)], size=32)
    text = repr(loaded)
    assert len(text) < 300 and "size=(32, 32)" in text and "'class 3' and 996 more]" in text


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_model_that_must_change_is_copied(dtype):
    """The caller's module keeps its mode, dtypes and requires_grad; the copy has the requested dtype."""
    model = Stateful().train()
    before, flags = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    loaded = load_model(model, dtype=dtype)
    assert loaded.model is not model and loaded.model.training and model.training
    assert {p.dtype for p in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert loaded.model.calls.dtype == torch.int64
    assert (
        [p.requires_grad for p in model.parameters()] == flags == [p.requires_grad for p in loaded.model.parameters()]
    )
    assert all(torch.equal(before[n], v) and before[n].dtype == v.dtype for n, v in model.state_dict().items())


def test_complex_buffers_keep_their_imaginary_part():
    model = linear()
    model.register_buffer("waves", torch.tensor([1 + 2j]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(model, channels_last=True).model.waves.tolist() == [1 + 2j]


def test_channels_last_applies_to_weights_and_images(images):
    model = smooth()
    loaded = load_model(model, channels_last=True)
    prepared = loaded.preprocessing(images)
    assert torch.equal(prepared, images) and prepared.is_contiguous(memory_format=torch.channels_last)
    assert loaded.model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[0].weight.is_contiguous()
    assert load_model(loaded.model, channels_last=True).model is loaded.model
    torch.testing.assert_close(scores(loaded.model, prepared), scores(model, images))


def test_exported_program_object_is_run(images):
    program = torch.export.export(smooth(), (images,))
    torch.testing.assert_close(scores(load_model(program).model, images), scores(smooth(), images))


# --- Preprocessing ---


def test_normalisation_is_mean_and_deviation_of_each_channel(images):
    prepared = load_model(smooth(), mean=MEAN, std=STD).preprocessing(images)
    for c in range(3):
        torch.testing.assert_close(prepared[:, c], (images[:, c] - MEAN[c]) / STD[c])
    assert prepared.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_applies_to_the_model_only(images, dtype):
    """Images, gradients and frames of the lens stay in float32."""
    loaded = load_model(smooth(), mean=MEAN, std=STD, dtype=dtype)
    prepared = loaded.preprocessing(images)
    assert prepared.dtype == getattr(torch, dtype) == scores(loaded.model, prepared).dtype
    normalise = lambda x: (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.equal(prepared, normalise(images).to(prepared.dtype)), "not normalised in float32, then rounded"

    lens = SteerableLens(loaded.model, preprocessing=loaded.preprocessing)
    gradient, outputs = lens.classifier.gradient(images, lambda outputs, at: -outputs[:, 2].float())
    assert gradient.dtype == torch.float32 and outputs.dtype == getattr(torch, dtype)
    leaf = images.clone().requires_grad_()
    (reference,) = torch.autograd.grad(-smooth()(normalise(leaf))[:, 2].sum(), leaf)
    error = (gradient - reference).norm() / reference.norm()
    assert error < {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.1}[dtype]
    morphs = lens.morph(images, 2, max_l2=1.0, frames=3)
    assert morphs.frames.dtype == torch.float32 and morphs.ok.all()
    assert (morphs.l2[:, -1] - 1).abs().max() < 1e-3


def test_grey_models_take_one_channel():
    loaded = load_model(linear(channels=1), channels=1, mean=[0.5], std=[0.5], size=16)
    assert loaded.channels == 1 and loaded.size == (16, 16)
    assert torch.equal(loaded.preprocessing(torch.ones(2, 1, 16, 16)), torch.ones(2, 1, 16, 16))


def test_description_is_complete_and_json():
    loaded = load_model(smooth(), size=(16, 24), mean=MEAN, std=STD, interpolation="box", crop_pct=0.5, dtype="float16")
    assert json.loads(json.dumps(loaded.description)) == {
        "spec": "torch.nn.modules.container.Sequential",
        "weights": None,
        "sha256": loaded.sha256,
        "size": [16, 24],
        "mean": MEAN,
        "std": STD,
        "channels": 3,
        "dtype": "float16",
        "channels_last": False,
        "interpolation": "box",
        "crop_pct": 0.5,
        "class_names": None,
        "parameters": sum(p.numel() for p in smooth().parameters()),
    }


# --- SHA-256 ---


def test_sha256_covers_names_dtypes_shapes_and_bytes():
    """The hash is computed here again as documented, from the bytes of numpy arrays."""
    model, digest = Stateful(), sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.numpy().tobytes())
    assert load_model(model).sha256 == digest.hexdigest()


@pytest.mark.parametrize("change", ["one bit", "a name", "a dtype", "a shape"])
def test_sha256_differs_between_models(change):
    model, other = smooth(), smooth()
    assert load_model(model).sha256 == load_model(other).sha256
    with torch.no_grad():
        if change == "one bit":
            other[2].weight.view(torch.int32).view(-1)[7] ^= 1
        elif change == "a name":
            other = nn.Sequential(*other[:1], nn.Identity(), *other[1:])
        elif change == "a dtype":
            other[0].bias.data = other[0].bias.data.double()
        else:
            other[0].bias.data = other[0].bias.data[None]
    assert load_model(model).sha256 != load_model(other).sha256


def test_sha256_does_not_depend_on_options():
    loaded = load_model(smooth(), dtype="bfloat16", channels_last=True, mean=MEAN, std=STD)
    assert loaded.sha256 == load_model(smooth()).sha256
    assert load_model(smooth().bfloat16(), dtype="bfloat16").sha256 != loaded.sha256


def test_callable_without_state_has_the_sha256_of_its_name():
    assert load_model(scores).sha256 == sha256(b"test_models.scores").hexdigest()
    assert load_model(nn.Flatten()).sha256 == sha256(b"torch.nn.modules.flatten.Flatten").hexdigest()
    model = smooth()
    assert load_model(model.forward).sha256 == load_model(model).sha256


class Doubled(torch.nn.Linear):
    """A linear layer with two methods whose ``__name__`` is "forward": ``forward`` and ``single``."""

    single = torch.nn.Linear.forward

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_methods_of_equal_name_are_distinguished(dtype):
    layer, x = Doubled(3, 2).eval(), torch.rand(4, 3)
    original = layer.forward
    expected = layer(x)
    layer.forward = lambda x: original(x) * 5
    run = lambda method: load_model(method, dtype=dtype).model(x.to(getattr(torch, dtype))).float()
    torch.testing.assert_close(run(original), expected)
    torch.testing.assert_close(run(layer.single), expected / 2)
    torch.testing.assert_close(run(super(Doubled, layer).forward), expected / 2)
    torch.testing.assert_close(run(MethodType(lambda self, x: self.single(x), layer)), expected / 2)


def test_method_of_a_module_is_moved_with_its_module():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    loaded = load_model(model.forward, dtype="float64")
    assert loaded.description["parameters"] == 39
    assert loaded.model(torch.rand(2, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64
    assert model[1].weight.dtype == torch.float32, "the caller's module was changed"


# --- pkg.mod:callable ---


@pytest.mark.parametrize("prefix", ["", "arch:"])
def test_name_in_the_working_directory_is_imported(working_directory, images, prefix):
    loaded = load_model(f"{prefix}user_models:smooth")
    assert torch.equal(scores(loaded.model, images), scores(smooth(), images))
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert sys.path[0] == str(working_directory), "sys.path does not begin with the working directory"
    assert not load_model(f"{prefix}user_models:Holder.Inner").model.training


def test_name_of_an_instance_gives_a_copy(working_directory, images):
    loaded = load_model("user_models:instance", dtype="bfloat16")
    instance = sys.modules["user_models"].instance
    assert instance.training and instance.head.weight.requires_grad and instance.head.weight.dtype == torch.float32
    assert not loaded.model.training and loaded.model.head.weight.dtype == torch.bfloat16
    assert loaded.sha256 == load_model(instance).sha256


def test_name_of_a_factory_may_return_a_function(working_directory):
    assert load_model("user_models:gives_a_function").model is torch.sin


def test_model_loaded_by_name_can_be_morphed(images):
    loaded = load_model("classifiers:smooth", mean=MEAN, std=STD)
    lens = SteerableLens(loaded.model, preprocessing=loaded.preprocessing)
    assert lens.morph(images, "least", frames=2).outputs.shape == (4, 2, CLASSES)


def test_sys_path_with_the_working_directory_keeps_its_order(working_directory, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(working_directory)])
    before = list(sys.path)
    load_model("user_models:smooth")
    assert sys.path == before


def test_errors_in_a_users_module_have_their_traceback(working_directory):
    message = load_error(
        "user_broken", "Traceback", 'user_broken.py", line 2', "no_such_package_anywhere", spec="user_broken:f"
    )
    assert "importing user_broken failed" in message
    load_error("Traceback", 'user_wrong.py", line 2', "value.nothing", spec="user_wrong:value")
    load_error("Traceback", "within the callable", "user_models:fails", spec="user_models:fails")
    load_error("Traceback", "missing 1 required positional argument", "without arguments", spec="user_models:needs")


@pytest.mark.parametrize(
    "spec, text",
    [
        ("user_no:smooth", ["'user_no'", "working directory"]),
        ("user_models.deep:smooth", ["'user_models.deep'"]),
        ("user_models:nothing", ["'nothing'", "user_models"]),
        ("user_models:number", ["'user_models:number'", "3"]),
        ("user_models:gives_a_number", ["must return a module", "3"]),
        ("resnet18.a1_in1k", ["did you mean 'timm:resnet18.a1_in1k' or 'torchvision:resnet18.a1_in1k'"]),
    ],
)
def test_unknown_names_raise(working_directory, spec, text):
    message = load_error(*text, spec=spec)
    assert message.startswith("model") and "Traceback" not in message


# --- Weights ---


def _checkpoint(kind: str, state: dict, path: Path):
    """Write a checkpoint in one of the forms that training scripts use, and return its path.

    A kind in WRAPPERS is the key of the state dict in the file. A kind that ends with "." is a prefix of all names in
    the state dict.
    """
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    if kind in WRAPPERS:
        state = {"epoch": 3, "optimizer": {"lr": 0.1}, kind: state}
    if kind.endswith("."):
        state = {"state_dict": {kind + name: value for name, value in state.items()}}
    torch.save(state, path, _use_new_zipfile_serialization=kind != "old")
    return path


KINDS = ["plain", "old", "safetensors", *WRAPPERS, *PREFIXES, "module._orig_mod."]


def test_weights_of_all_usual_forms_are_loaded(working_directory, images):
    for kind in KINDS:
        trained = smooth()
        with torch.no_grad():
            trained[0].weight.mul_(2)
        path = _checkpoint(kind, trained.state_dict(), working_directory / "w.pt")
        for weights in (path, str(path)):
            loaded = load_model("user_models:smooth", weights=weights)
            assert torch.equal(scores(loaded.model, images), scores(trained, images))
            assert loaded.sha256 == load_model(trained).sha256 != load_model(smooth()).sha256
        assert loaded.description["weights"] == str(path)


def test_prefix_is_kept_if_the_model_or_only_some_names_have_it(working_directory):
    state = {"model.weight": torch.ones(2, 2), "model.bias": torch.zeros(2)}
    torch.save(state, working_directory / "w.pt")
    assert load_model("user_models:Prefixed", weights="w.pt").model.model.weight.sum() == 4
    torch.save({"module.weight": torch.ones(2, 2), "bias": torch.zeros(2)}, working_directory / "w.pt")
    load_error("missing weight", "unexpected module.weight", spec="user_models:Holder.Inner", weights="w.pt")


def test_error_of_wrong_weights_lists_at_most_four_names_of_each_kind(working_directory):
    state = smooth().state_dict()
    torch.save({f"x{n}": torch.ones(1) for n in range(6)} | {"0.weight": state["0.weight"]}, working_directory / "w.pt")
    message = load_error(
        "w.pt", "missing 0.bias, 2.weight, 2.bias, 6.weight and 1 more", spec="user_models:smooth", weights="w.pt"
    )
    assert "unexpected x0, x1, x2, x3 and 2 more" in message
    torch.save(state | {"6.weight": torch.ones(9, 64)}, working_directory / "w.pt")
    load_error("6.weight", "[9, 64]", "[5, 64]", spec="user_models:smooth", weights="w.pt")


def test_files_without_weights_raise(working_directory):
    (working_directory / "text.pt").write_text("hello")
    (working_directory / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    (working_directory / "text.safetensors").write_text("hello")
    torch.save({"epoch": 3, "loss": [0.5]}, working_directory / "none.pt")
    torch.save([torch.ones(1)], working_directory / "list.pt")
    torch.jit.script(smooth()).save(working_directory / "script.pt")
    for name, *text in [
        ("nowhere.pt", "existing"),
        ("random", "existing"),
        (".", "existing"),
        ("text.pt", "written by torch.save"),
        ("cut.pt", "written by torch.save"),
        ("text.safetensors", "cannot be read"),
        ("none.pt", "state dict", "'epoch', 'loss'"),
        ("list.pt", "state dict", "list"),
        ("script.pt", "TorchScript"),
    ]:
        message = load_error(name, *text, spec="user_models:smooth", weights=name)
        assert message.startswith("weights")
    load_error("weights", "function", spec="user_models:gives_a_function", weights="none.pt")


# --- Files ---


def exported(path, model=None, batch=4):
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(
        torch.export.export(model or smooth(), (torch.rand(batch, 3, 16, 16),), dynamic_shapes=dynamic), path
    )
    return path


@pytest.mark.parametrize("kind, suffix", [("script", ".pt"), ("trace", ".ts"), ("frozen", ".any"), ("trace", ".pt")])
def test_torchscript_of_any_name_is_run(tmp_path, images, kind, suffix):
    model, path = smooth(), tmp_path / f"model{suffix}"
    scripted = torch.jit.trace(model, images) if kind == "trace" else torch.jit.script(model)
    (torch.jit.freeze(scripted) if kind == "frozen" else scripted).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_model(path)
    torch.testing.assert_close(scores(loaded.model, images), scores(model, images))
    assert loaded.sha256 == sha256_of(path) and loaded.description["spec"] == str(path)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    lens = SteerableLens(loaded.model)
    assert lens.morph(images, 1, max_l2=1.0, frames=3).ok.all()


@pytest.mark.parametrize("name", ["model.pt2", "model.bin"])
def test_exported_program_is_run(tmp_path, images, name):
    path = exported(tmp_path / "model.pt2").rename(tmp_path / name)
    load_error(str(path), "--trust-checkpoint", spec=path)
    loaded = load_model(str(path), mean=MEAN, std=STD, trust_checkpoint=True)
    torch.testing.assert_close(scores(loaded.model, images), scores(smooth(), images))
    assert loaded.sha256 == sha256_of(path)
    assert loaded.description["parameters"] == sum(p.numel() for p in smooth().parameters())
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert SteerableLens(loaded.model, preprocessing=loaded.preprocessing).morph(images[:3], 1, max_l2=1.0).ok.all()


def test_programs_run_in_half_precision(tmp_path, images):
    torch.jit.script(smooth()).save(tmp_path / "m.pt")
    for path in (exported(tmp_path / "m.pt2"), tmp_path / "m.pt"):
        loaded = load_model(path, dtype="bfloat16", channels_last=True, trust_checkpoint=True)
        result = scores(loaded.model, loaded.preprocessing(images))
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), scores(smooth(), images), rtol=0.1, atol=0.1)


def test_pickled_module_must_be_trusted(tmp_path, images):
    torch.save(smooth().train(), tmp_path / "m.pth")
    load_error("m.pth", "--trust-checkpoint", "Sequential", spec=tmp_path / "m.pth")
    loaded = load_model(tmp_path / "m.pth", trust_checkpoint=True)
    assert torch.equal(scores(loaded.model, images), scores(smooth(), images)) and not loaded.model.training
    assert loaded.sha256 == load_model(smooth()).sha256


def test_checkpoint_with_a_module_must_be_trusted(working_directory, images):
    torch.save({"model": smooth()}, working_directory / "w.pt")
    load_error("w.pt", "--trust-checkpoint", spec="user_models:smooth", weights="w.pt")
    loaded = load_model("user_models:smooth", weights="w.pt", trust_checkpoint=True)
    assert torch.equal(scores(loaded.model, images), scores(smooth(), images))


def test_weights_given_as_a_model_raise(tmp_path):
    torch.save(smooth().state_dict(), tmp_path / "w.pt")
    for trust in (False, True):
        load_error("OrderedDict", "architecture", spec=tmp_path / "w.pt", trust_checkpoint=trust)


@pytest.mark.parametrize("trust", [False, True])
def test_files_without_a_model_raise(tmp_path, trust):
    contents = (b"", b"hello", b"\x80", b"\x80\x02X", b"PK\x03\x04cut", b"\x89PNG")
    for suffix, content in product((".pt", ".pt2", ".ts"), contents):
        path = tmp_path / f"model{suffix}"
        path.write_bytes(content)
        assert load_error(str(path), spec=path, trust_checkpoint=trust).startswith("model")


def test_damaged_file_raises(tmp_path):
    torch.jit.script(smooth()).save(tmp_path / "m.pt")
    for path in (exported(tmp_path / "m.pt2"), tmp_path / "m.pt"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        load_error(str(path), spec=path, trust_checkpoint=True)


# --- Malicious files ---


class Malicious:
    """An object that creates a file when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def _changed_zip(source: Path, path: Path, replaced: dict[str, bytes]) -> None:
    """Write a copy of a zip file, with new content of the entries that end with a key of ``replaced``."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(path, "w") as out:
        for name in whole.namelist():
            new = [data for end, data in replaced.items() if name.endswith(end)]
            out.writestr(name, new[0] if new else whole.read(name))


def _saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def malicious_files(folder: Path, trace: Path) -> dict[str, Path]:
    """Write files that run a command if their loader unpickles objects or, in "sizes.pt2", evaluates expressions."""
    evil, bare = Malicious(trace), pickle.dumps(Malicious(trace), protocol=2)
    torch.save(evil, folder / "zip.pt")
    torch.save({"state_dict": {"0.weight": torch.ones(1)}, "more": evil}, folder / "wrapped.pth")
    torch.save(evil, folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "bare.pt").write_bytes(bare)
    torch.jit.script(smooth()).save(folder / "good.ts")
    program = exported(folder / "good.pt2")
    entry = {"path_name": "weight_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = json.dumps({"config": {"x": entry}}).encode()
    for name, replaced in (("scripted.pt", "data.pkl"), ("constants.pt", "constants.pkl")):
        _changed_zip(folder / "good.ts", folder / name, {replaced: bare})
    _changed_zip(program, folder / "inputs.pt2", {"sample_inputs/model.pt": _saved((evil,))})
    pickled_weight = {"weights_config.json": config, "weights/weight_0": _saved(evil)}
    _changed_zip(program, folder / "weights.pt2", pickled_weight)
    with zipfile.ZipFile(program) as whole:
        (name,) = [name for name in whole.namelist() if name.endswith("models/model.json")]
        graph = whole.read(name).decode()
    command = f"__import__('os').system('touch {trace}')"
    sizes = re.sub(r'("expr_str": *)"[^"]*"', lambda match: f'{match[1]}"{command}"', graph)
    _changed_zip(program, folder / "sizes.pt2", {"models/model.json": sizes.encode()})
    return {p.name: p for p in folder.iterdir() if not p.name.startswith("good")}


def test_malicious_file_runs_no_command(tmp_path, working_directory):
    """The file is given as model or as weights, under several names."""
    trace = tmp_path / "it-ran"
    (tmp_path / "files").mkdir()
    for path in malicious_files(tmp_path / "files", trace).values():
        for other in (path, path.with_suffix(".pt"), path.with_suffix(".ts"), path.with_suffix(".pt2")):
            path = path.rename(other)
            load_error(str(path), spec=path)
            load_error(str(path), spec="user_models:smooth", weights=path)
        path = path.rename(path.with_suffix(".safetensors"))
        load_error(str(path), spec="user_models:smooth", weights=path)
        assert not trace.exists()


@pytest.mark.parametrize("name", ["zip.pt", "old.pt", "inputs.pt2", "weights.pt2", "sizes.pt2"])
def test_trusted_malicious_file_runs_its_command(tmp_path, name):
    """The files do run a command when they are trusted, so the test above would notice it."""
    trace = tmp_path / "it-ran"
    (tmp_path / "files").mkdir()
    path = malicious_files(tmp_path / "files", trace)[name]
    load_error("--trust-checkpoint", spec=path)
    load_error(spec=path, trust_checkpoint=True)  # what is loaded is not a usable model
    assert trace.exists()


# --- Hubs ---


def test_timm_preprocessing_is_that_of_timm(images):
    timm = optional_libraries.timm()
    loaded = load_model("timm:resnet10t", weights="random", seed=3)
    state = torch.get_rng_state()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        timm_model = timm.create_model("resnet10t").eval()
    config = timm.data.resolve_model_data_config(timm_model)
    assert (loaded.channels, *loaded.size) == config["input_size"]
    assert (loaded.interpolation, loaded.crop_pct) == (config["interpolation"], config["crop_pct"])
    assert (loaded.description["mean"], loaded.description["std"]) == (list(config["mean"]), list(config["std"]))
    assert torch.equal(scores(loaded.model, images), scores(timm_model, images))
    load_model("timm:resnet10t", weights="random", seed=4)
    assert torch.equal(torch.get_rng_state(), state), "the state of the caller's generator must not change"
    assert loaded.class_names is None and not loaded.model.training


def test_options_override_those_of_the_hub():
    optional_libraries.timm()
    arguments = dict(size=(32, 48), mean=[0.5], std=[0.25], channels=1, interpolation="bilinear", crop_pct=0.5)
    loaded = load_model("timm:resnet10t", weights="random", **arguments)
    assert {name: loaded.description[name] for name in arguments} == {**arguments, "size": [32, 48]}
    assert scores(loaded.model, loaded.preprocessing(torch.rand(2, 1, 32, 48))).shape == (2, 1000)
    load_error("mean", "1 values", "timm:resnet10t", spec="timm:resnet10t", weights="random", channels=1)


def test_timm_models_of_fixed_size_are_made_for_the_given_size():
    optional_libraries.timm()
    loaded = load_model("timm:test_vit", weights="random", size=64)
    assert scores(loaded.model, torch.rand(1, 3, 64, 64)).shape == (1, 1000)


def test_weights_determine_the_number_of_classes_of_a_hub_model(tmp_path, images):
    timm = optional_libraries.timm()
    hub_model = timm.create_model("resnet10t", num_classes=7).eval()
    torch.save({"state_dict": {f"module.{n}": v for n, v in hub_model.state_dict().items()}}, tmp_path / "w.pt")
    loaded = load_model("timm:resnet10t", weights=tmp_path / "w.pt")
    assert torch.equal(scores(loaded.model, images), scores(hub_model, images))
    assert loaded.size == hub_model.pretrained_cfg["input_size"][1:]
    vision = optional_libraries.torchvision().models
    hub_model = vision.get_model("squeezenet1_1").eval()
    torch.save(hub_model.state_dict(), tmp_path / "w.pt")
    load_error("missing", "unexpected", spec="torchvision:mobilenet_v3_small", weights=tmp_path / "w.pt")
    hub_model = vision.get_model("mobilenet_v3_small", num_classes=7).eval()
    torch.save(hub_model.state_dict(), tmp_path / "w.pt")
    loaded = load_model("torchvision:mobilenet_v3_small", weights=tmp_path / "w.pt")
    assert torch.equal(scores(loaded.model, images), scores(hub_model, images))


def test_torchvision_of_another_torch_raises(monkeypatch):
    def fail(*_):  # timm imports torchvision
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(hubs, "require_extra", fail)
    with pytest.raises(JobError, match="torchvision does not fit torch .*: install it from the same index"):
        load_model("timm:resnet18")


def test_squashing_by_timm_warns(monkeypatch):
    """Images that timm would squash or pad are cropped instead."""
    timm = optional_libraries.timm()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model("timm:resnet10t", weights="random")
    resolve = timm.data.resolve_model_data_config
    squashing = {"crop_mode": "squash", "crop_pct": 1.1}
    monkeypatch.setattr(timm.data, "resolve_model_data_config", lambda model: resolve(model) | squashing)
    with pytest.warns(UserWarning, match="timm:resnet10t .* crop_mode 'squash' and crop_pct 1.1"):
        assert load_model("timm:resnet10t", weights="random").crop_pct == 1


def test_torchvision_preprocessing_is_that_of_torchvision(images):
    vision = optional_libraries.torchvision().models
    loaded = load_model("torchvision:mobilenet_v2", weights="random", seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vision_model = vision.get_model("mobilenet_v2").eval()
    expected = vision.get_model_weights("mobilenet_v2").DEFAULT.transforms()
    assert loaded.size == (expected.crop_size[0],) * 2 and loaded.interpolation == expected.interpolation.value
    assert round(loaded.size[0] / loaded.crop_pct) == expected.resize_size[0]
    assert (loaded.description["mean"], loaded.description["std"]) == (expected.mean, expected.std)
    assert torch.equal(scores(loaded.model, images), scores(vision_model, images))
    assert loaded.class_names is None


@pytest.mark.parametrize("spec", ["timm:resnet10t", "timm:hf-hub:timm/resnet10t", "torchvision:mobilenet_v2"])
def test_pretrained_weights_that_cannot_be_fetched_raise(offline, spec):
    """Without a network, the error says what to do."""
    optional_libraries.timm()
    load_error(spec, "with its pretrained weights cannot be created", "--weights FILE or --weights random", spec=spec)


@pytest.mark.parametrize(
    "spec, similar", [("timm:resnet10x", "resnet10t"), ("torchvision:mobilnet_v2", "mobilenet_v2")]
)
def test_unknown_hub_models_raise(spec, similar):
    optional_libraries.timm()
    load_error(spec, "did you mean", similar, spec=spec)


def test_pretrained_models_have_class_names(monkeypatch, tmp_path):
    """With weights in torchvision's cache, as after a download, the names of the classes are known."""
    vision = optional_libraries.torchvision().models
    weights = vision.get_model_weights("squeezenet1_1").DEFAULT
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    vision_model = vision.get_model("squeezenet1_1").eval()
    file = tmp_path / "checkpoints" / weights.url.rpartition("/")[2]
    torch.save(vision_model.state_dict(), file)
    loaded = load_model("torchvision:squeezenet1_1")
    assert loaded.class_names == weights.meta["categories"] and len(loaded.class_names) == 1000
    assert loaded.sha256 == load_model(vision_model).sha256
    assert loaded.description["class_names"] == loaded.class_names


# --- Other processes ---

ELSEWHERE = """
    import sys
    sys.path[:0] = [{tests!r}]
    import optional_libraries, torch
    optional_libraries.import_torchvision()
    torch.manual_seed({earlier_seed})
    from steerlens_fast.models import load_model
    print(load_model({spec!r}, weights={weights!r}, seed={seed}).sha256)
"""


def _sha_in_another_process(**what) -> str:
    code = textwrap.dedent(ELSEWHERE).format(tests=str(TESTS), **what)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("spec, weights", [("timm:resnet10t", "random"), ("user_models:untrained", None)])
def test_every_process_gets_the_same_untrained_model(working_directory, spec, weights):
    """The random weights do not depend on earlier random numbers, and differ between seeds."""
    optional_libraries.timm()
    what = {"spec": spec, "weights": weights}
    sha = _sha_in_another_process(earlier_seed=2, seed=1, **what)
    assert sha == load_model(spec, weights=weights, seed=1).sha256
    assert sha != load_model(spec, weights=weights, seed=2).sha256


# --- Arguments ---

# {what is wrong: (arguments, *words in the message)}
BAD = {
    "unknown form": (dict(spec="resnet18"), "'resnet18'", "timm:NAME"),
    "empty": (dict(spec=""), "''"),
    "half a name": (dict(spec="pkg:"), "'pkg:'"),
    "arch of nothing": (dict(spec="arch:"), "'arch:'"),
    "no such file": (dict(spec="nowhere/model.pt2"), "'nowhere/model.pt2'", "existing"),
    "None": (dict(spec=None), "None"),
    "a class": (dict(spec=nn.Linear), "Linear"),
    "weights of an object": (dict(spec=torch.sin, weights="w.pt"), "weights", "'w.pt'"),
    "weights that are no path": (dict(spec=torch.sin, weights=3), "weights", "3"),
    "trust": (dict(spec=torch.sin, trust_checkpoint="no"), "trust_checkpoint", "'no'"),
    "channels_last": (dict(spec=torch.sin, channels_last=1), "channels_last", "1"),
    "seed": (dict(spec=torch.sin, seed=-1), "seed", "-1"),
    "small": (dict(spec=torch.sin, size=7), "size", "8", "7"),
    "three sides": (dict(spec=torch.sin, size=(8, 8, 8)), "size", "(8, 8, 8)"),
    "text": (dict(spec=torch.sin, size="224"), "size", "'224'"),
    "channels": (dict(spec=torch.sin, channels=2), "channels", "1 or 3"),
    "interpolation": (dict(spec=torch.sin, interpolation="cubic"), "interpolation", "'bicubic'", "'cubic'"),
    "crop": (dict(spec=torch.sin, crop_pct=1.5), "crop_pct", "1.5"),
    "mean alone": (dict(spec=torch.sin, mean=MEAN), "mean", "std", "together"),
    "mean of two": (dict(spec=torch.sin, mean=[0, 1], std=STD), "mean", "3 values", "[0.0, 1.0]"),
    "std of one": (dict(spec=torch.sin, mean=MEAN, std=[1.0]), "std", "3 values"),
    "std of zero": (dict(spec=torch.sin, mean=MEAN, std=[0.0] * 3), "std", "above 0"),
    "mean is text": (dict(spec=torch.sin, mean="0.5", std=STD), "mean", "'0.5'"),
    "mean is NaN": (dict(spec=torch.sin, mean=[float("nan")] * 3, std=STD), "mean", "finite"),
    "device": (dict(spec=torch.sin, device="gpu"), "device", "'gpu'"),
    "no such GPU": (dict(spec=torch.sin, device="cuda:99"), "device", "cuda:99"),
    "dtype": (dict(spec=torch.sin, dtype="int8"), "dtype", "'int8'"),
}


def test_bad_arguments_raise():
    for arguments, *message in BAD.values():
        load_error(*message, **arguments)


def test_weights_for_a_program_file_raise(tmp_path):
    torch.jit.script(linear()).save(tmp_path / "m.pt")
    load_error("weights", "must be None", spec=tmp_path / "m.pt", weights="w.pt")


def test_torchvision_with_other_channels_raises():
    optional_libraries.torchvision()
    load_error("channels", "3", "1", spec="torchvision:mobilenet_v2", weights="random", channels=1)


def test_model_that_cannot_be_copied_raises():
    model = linear()
    model.kept = torch.ones(1, requires_grad=True) * 2  # torch cannot copy tensors that are not leaves
    load_error("copied", "the device and in the dtype in which it is to run", spec=model, dtype="bfloat16")
    assert load_model(model).model is model


# --- Devices ---


def test_gpu_without_cuda_kernels_is_not_used(monkeypatch):
    monkeypatch.setattr(native, "HAS_CUDA", False)
    monkeypatch.setattr(native, "build_info", lambda: {"cuda": False, "nvcc": "", "torch_built": "2.13.0"})
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    text = "steerlens_fast was built for torch 2.13.0 without CUDA kernels, and this torch has CUDA 13.0"
    with pytest.warns(UserWarning, match=f"the GPU is not used: {text}"):
        assert resolve_device(None) == "cpu"
    with pytest.raises(JobError, match=f"device must be 'cpu' because {text}.*, got 'cuda'"):
        resolve_device("cuda")
    monkeypatch.setattr(native, "HAS_CUDA", True)
    assert [resolve_device(device) for device in (None, "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


# --- Images ---


def test_images_are_read_in_the_format_of_the_model(tmp_path):
    picture = pytest.importorskip("PIL.Image")
    pixels = torch.randint(256, (40, 60, 3), dtype=torch.uint8).numpy()
    picture.fromarray(pixels).save(tmp_path / "a.png")
    loaded = load_model(linear(3, 32), size=32, crop_pct=0.8)
    images = loaded.read_images([tmp_path / "a.png", str(tmp_path / "a.png"), picture.fromarray(pixels), pixels])
    assert images.shape == (4, 3, 32, 32) and images.dtype == torch.float32 and 0 < images.mean() < 1
    assert all(torch.equal(image, images[0]) for image in images)
    grey = load_model(linear(1, 32), channels=1).read_images([pixels])
    assert grey.shape == (1, 1, 40, 60)


def test_arrays_of_paths_or_images_are_read_like_lists(tmp_path):
    picture = pytest.importorskip("PIL.Image").new("RGB", (32, 30), "red")
    picture.save(tmp_path / "red.png")
    loaded, objects = load_model(linear(3, 32)), np.empty(2, object)
    objects[:] = [picture, tmp_path / "red.png"]
    expected = loaded.read_images([picture] * 2)
    for images in (objects, np.array([str(tmp_path / "red.png")] * 2)):
        assert torch.equal(loaded.read_images(images), expected)


def test_errors_name_the_image_that_cannot_be_decoded(tmp_path):
    pil, loaded = pytest.importorskip("PIL.Image"), load_model(linear(3, 32))
    good, empty, cut = (tmp_path / f"{name}.png" for name in ("good", "empty", "cut"))
    pil.new("RGB", (32, 32)).save(good)
    empty.touch()
    cut.write_bytes(good.read_bytes()[:40])
    for bad, reason, cause in ((empty, "empty", "0 bytes"), (cut, "truncated", "the PNG ends after 40 bytes")):
        for image, name in ((bad, bad), (str(bad), bad), (bad.read_bytes(), r"images\[1\]")):
            with pytest.raises(BadItem, match=f"^{name}: {cause}") as error:
                loaded.read_images([good, image])
            assert error.value.reason == reason


def test_images_that_cannot_be_one_batch_raise():
    loaded = load_model(linear(3, 32))
    with pytest.raises(TypeError, match=r"images must be a list of images, got str: pass \[image\] for one image"):
        loaded.read_images("cat.jpg")
    picture = pytest.importorskip("PIL.Image")
    with pytest.raises(TypeError, match=r"got Image: pass \[image\] for one image"):
        loaded.read_images(picture.new("RGB", (32, 32)))
    for shape in ((32, 32), (32, 30, 3), (3, 32, 30), (1, 32, 30), (32, 30, 4)):
        for one in (torch.zeros(shape), torch.zeros(shape).numpy()):
            with pytest.raises(ValueError, match=r"got an array \[.*\]: pass \[image\] for one image"):
                loaded.read_images(one)
    for shape in ((2, 32, 30), (2, 3, 32, 30), (2, 32, 30, 3)):
        assert loaded.read_images(torch.zeros(shape, dtype=torch.uint8).numpy()).shape == (2, 3, 32, 30)
    with pytest.raises(ValueError, match=r"got an array \[\]: pass \[image\]"):
        loaded.read_images(np.array("cat.png"))
    different = [torch.zeros(3, n, 16, dtype=torch.uint8) for n in (16, 24)]
    for images in ([], different):
        with pytest.raises(ValueError, match="images must have at least one image, and all must have one shape"):
            loaded.read_images(images)
    with pytest.raises(FileNotFoundError):
        loaded.read_images(["no-such-file.png"])
