"""Morphs: selecting and joining samples, properties, and files."""

import copy
import dataclasses
import io
import json
import pickle
import re
import stat
import sys

import numpy as np
import pytest
import torch

import steerlens_fast
from steerlens_fast import Morphs, MorphStatus
from steerlens_fast.extras import MissingExtra
from steerlens_fast.io.atomic_io import atomic_write
from steerlens_fast.morphs import strips

pytest.importorskip("matplotlib")
safetensors = pytest.importorskip("safetensors.torch")
Image = pytest.importorskip("PIL.Image")

SETTINGS = {"family": "csp-phase", "rule": "complex", "regime": "frozen", "bounds": [0, 1], "phase_cap": None}
NAN = float("nan")


def make(b=4, f=5, c=3, size=(12, 16), dtype=torch.float32, classes=3, budgets=1, **changes) -> Morphs:
    """Return Morphs with frames that are [F, B, C, H, W] in memory, like those of a lens."""
    factors = torch.linspace(0, 4, f).expand(b, f).to(dtype)
    fields = {
        "frames": torch.rand(f, b, c, *size).to(dtype).transpose(0, 1),
        "factors": factors,
        "amplitude_factors": None,
        "target": torch.arange(b) % classes,
        "source": (torch.arange(b) + 1) % classes,
        "outputs": torch.randn(b, f, classes).to(dtype),
        "l2": 3 * factors,
        "budget": torch.full((b, budgets), 12.0),
        "attained": torch.ones((b,) if budgets == 1 else (b, budgets), dtype=torch.bool),
        "status": torch.zeros(b, dtype=torch.int64),
        "settings": dict(SETTINGS),
    }
    return Morphs(**fields | changes)


@pytest.fixture
def morphs() -> Morphs:
    return make()


def colours(*rgb, f=3, size=(12, 16)) -> Morphs:
    """Return Morphs of samples with one colour each.

    The frames differ only in blue.
    """
    frames = torch.tensor(rgb)[:, None, :, None, None].repeat(1, f, 1, *size)
    frames[:, :, 2] += torch.linspace(0, 0.5, f)[:, None, None]
    return make(len(rgb), f, frames=frames)


def same(a: Morphs, b: Morphs) -> bool:
    """Return whether all fields are equal bit for bit, including NaN."""
    one, other = a.tensors(), b.tensors()
    bits = lambda t: t.contiguous().flatten().view(torch.uint8) if t.numel() else t
    return (
        list(one) == list(other)
        and json.dumps(a.settings) == json.dumps(b.settings)
        and all(one[n].shape == other[n].shape and one[n].dtype == other[n].dtype for n in one)
        and all(torch.equal(bits(one[n]), bits(other[n])) for n in one)
    )


def files_in(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- Properties ---------------------------------------------------------------------------------------------


def test_ok_and_reasons_follow_the_status():
    m = make(status=torch.tensor([0, 2, 0, 3]))
    assert m.ok.tolist() == [True, False, True, False]
    assert m.reasons == [None, MorphStatus(2).reason, None, MorphStatus(3).reason] and MorphStatus.OK.reason == ""


def test_probabilities_and_predictions_follow_from_the_outputs(morphs):
    torch.testing.assert_close(morphs.probabilities, morphs.outputs.softmax(2))
    for b, t in enumerate(morphs.target):
        assert torch.equal(morphs.target_probability[b], morphs.probabilities[b, :, t])
        assert torch.equal(morphs.reached[b], morphs.outputs[b].argmax(1) == t)
    assert torch.equal(morphs.predictions, morphs.outputs.argmax(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_are_float32_at_least(dtype):
    m = make(dtype=dtype)
    assert m.probabilities.dtype == m.target_probability.dtype == torch.promote_types(dtype, torch.float32)


def test_unscored_frames_have_no_prediction(morphs):
    outputs = morphs.outputs.clone()
    outputs[:, 1:-1] = NAN
    m = dataclasses.replace(morphs, outputs=outputs)
    assert (m.predictions[:, 1:-1] == -1).all() and not m.reached[:, 1:-1].any()
    assert torch.equal(m.predictions[:, [0, -1]], morphs.predictions[:, [0, -1]])
    assert m.target_probability[:, 1:-1].isnan().all() and not m.target_probability[:, [0, -1]].isnan().any()


def test_targets_with_positions_select_outputs():
    outputs, target = torch.randn(2, 5, 3, 4, 6), torch.tensor([[1, 3, 5], [2, 0, 1]])  # targets are (class, y, x)
    m = make(2, outputs=outputs, target=target, source=torch.zeros(2, 4, 6, dtype=torch.int64))
    expected = torch.stack([outputs[0].softmax(1)[:, 1, 3, 5], outputs[1].softmax(1)[:, 2, 0, 1]])
    torch.testing.assert_close(m.target_probability, expected)
    assert m.predictions.shape == (2, 5, 4, 6)
    assert torch.equal(m.reached[0], outputs[0, :, :, 3, 5].argmax(1) == 1)
    labels = [axes.get_ylabel() for axes in strips.plot_morphs(m, frames=1).figure.axes]
    assert labels == ["0 → 1 at (3, 5)", "0 → 2 at (0, 1)"]
    assert torch.equal(m[1].target_probability, m.target_probability[1:])


def _outputs_of(*target_probabilities):
    """Return outputs [B, F, 2] with these probabilities of class 1.

    None means that the frame was not scored.
    """
    p = torch.tensor([[NAN if v is None else v for v in row] for row in target_probabilities])
    return torch.stack([(1 - p).log(), p.log()], -1)


def test_fell_and_best_frame_compare_the_scored_frames():
    """A decrease by less than 1 % of the probability, such as from 0.9 to 0.892, does not count."""
    outputs = _outputs_of(
        *([0.1, 0.5, 0.9], [0.2, 0.6, 0.4], [0.3, 0.2, 0.1], [0.1, 0.9, 0.892], [0.1, 0.9, 0.889], [0.5, None, 0.3])
    )
    zero, one = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    m = make(6, 3, classes=2, outputs=outputs, source=zero, target=one)
    assert m.fell.tolist() == [False, True, True, False, True, True]
    assert m.best_frame.tolist() == [2, 1, 0, 1, 1, 0]


def test_fell_is_false_without_scored_frames():
    outputs = _outputs_of([None, None], [0.4, None])
    zero, one = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    m = make(2, 2, classes=2, outputs=outputs, source=zero, target=one)
    assert m.fell.tolist() == [False, False] and m.best_frame.tolist() == [-1, 0]


def test_already_predicted_compares_target_and_source():
    m = make(3, target=torch.tensor([0, 1, 2]), source=torch.tensor([0, 2, 2]))
    assert m.already_predicted.tolist() == [True, False, True]
    outputs, target = torch.randn(2, 5, 3, 4, 6), torch.tensor([[1, 3, 5], [2, 0, 1]])  # targets are (class, y, x)
    source = torch.zeros(2, 4, 6, dtype=torch.int64)
    source[0, 3, 5] = 1
    assert make(2, outputs=outputs, target=target, source=source).already_predicted.tolist() == [True, False]


def test_fields_cannot_be_assigned(morphs):
    with pytest.raises(dataclasses.FrozenInstanceError):
        morphs.frames = None


# --- Samples ---------------------------------------------------------------------------------------------------------


def test_int_index_keeps_the_batch_dimension(morphs):
    for i in (0, 3, -1, torch.tensor(2)):
        one = morphs[i]
        assert len(one) == 1 and one.settings == morphs.settings
        assert torch.equal(one.frames[0], morphs.frames[i]) and one.target.tolist() == [morphs.target[i]]
    assert morphs[1].frames.data_ptr() == morphs.frames[1].data_ptr()  # a view


# (index, numbers of the chosen samples)
INDICES = [
    (slice(1, 3), [1, 2]),
    (slice(None, None, -2), [3, 1]),
    (slice(9, None), []),
    ([2, 0, 0, -1], [2, 0, 0, 3]),
    ([], []),
    ([True, False, False, True], [0, 3]),
    (torch.tensor([3, 1]), [3, 1]),
    (torch.tensor([3, 1], dtype=torch.uint8), [3, 1]),
    (torch.tensor([False, True, False, False]), [1]),
    (torch.tensor([1, 2]).numpy(), [1, 2]),
]


def test_every_kind_of_index_selects_samples():
    for index, chosen in INDICES:
        morphs = make(amplitude_factors=torch.rand(4, 5), budgets=2)
        some = morphs[index]
        assert len(some) == len(chosen)
        for name, t in morphs.tensors().items():
            assert torch.equal(getattr(some, name), t[chosen] if chosen else t[:0]), name


def test_iteration_yields_one_sample_each(morphs):
    ones = list(morphs)
    assert [len(m) for m in ones] == [1] * 4
    assert same(Morphs.cat(ones), morphs)
    assert same(Morphs.cat(reversed(ones)), morphs[::-1])


# (index, type of the exception, part of the message)
BAD_INDEX = [
    (4, IndexError, "index must lie within the 4 samples, got 4"),
    (-5, IndexError, "got -5"),
    ([0, 4], IndexError, "index must lie within"),
    (torch.tensor([-5]), IndexError, "index must lie within"),
    ([True, False], IndexError, "one bool for each of 4 samples, got 2"),
    (1.0, TypeError, "index must be an int, a slice, .* got 1.0"),
    ((0, 1), TypeError, "index must be"),
    (None, TypeError, "index must be"),
    (True, TypeError, "index must be .* got True"),
    (torch.tensor(True), TypeError, "index must be"),
    ("a", TypeError, "index must be"),
    ([0.5], TypeError, "index must be"),
    ([[0, 1]], TypeError, "index must be"),
]


def test_bad_index_raises(morphs):
    for index, error, text in BAD_INDEX:
        with pytest.raises(error, match=text):
            morphs[index]


def test_cat_joins_samples(morphs):
    other = make(2)
    both = Morphs.cat([morphs, other, other[:0]])
    assert len(both) == 6 and same(both[:4], morphs) and same(both[4:], other)
    assert same(Morphs.cat([morphs]), morphs)
    empty = Morphs.cat([morphs[:0], morphs[:0]])
    assert len(empty) == 0 and empty.frames.shape == (0, 5, 3, 12, 16)


def test_cat_compares_settings_as_json(morphs):
    """Settings that were saved and loaded have lists in place of tuples."""
    other = dataclasses.replace(morphs, settings=SETTINGS | {"bounds": (0, 1)})
    assert len(Morphs.cat([morphs, other])) == 8


# (changed arguments, type of the exception, part of the message)
UNLIKE_MORPHS = [
    ({"f": 6}, ValueError, "morphs must agree in frames"),
    ({"size": (16, 12)}, ValueError, "morphs must agree in frames"),
    ({"classes": 4}, ValueError, "morphs must agree in outputs"),
    ({"budgets": 2}, ValueError, "morphs must agree in budget"),
    ({"budget": None}, ValueError, r"morphs must agree in budget .* and None"),
    ({"amplitude_factors": torch.rand(4, 5)}, ValueError, "morphs must agree in amplitude_factors"),
    ({"dtype": torch.float64}, ValueError, "morphs must agree in frames .* torch.float32.* torch.float64"),
    ({"settings": SETTINGS | {"rule": "polar"}}, ValueError, "same settings, got rule 'complex' and 'polar'"),
    ({"settings": SETTINGS | {"color": "luma"}}, ValueError, "same settings, got color None and 'luma'"),
]


def test_cat_of_unlike_morphs_raises(morphs):
    for changed, error, text in UNLIKE_MORPHS:
        with pytest.raises(error, match=text):
            Morphs.cat([morphs, make(**changed)])


@pytest.mark.parametrize("bad", [[], [1], [None]])
def test_cat_of_other_objects_raises(bad):
    with pytest.raises(TypeError, match="morphs must be one or more Morphs"):
        Morphs.cat(bad)


# --- Tensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, kwargs",
    [
        ((torch.float64,), {}),
        (("cpu", torch.float64), {}),
        ((), {"dtype": torch.float64}),
        ((torch.zeros((), dtype=torch.float64),), {}),
        ((torch.float64, False, True), {}),
    ],
)
def test_to_changes_the_precision_of_floating_tensors_only(morphs, args, kwargs):
    changed = morphs.to(*args, **kwargs)
    for name, t in changed.tensors().items():
        before = getattr(morphs, name)
        assert t.dtype == (torch.float64 if before.is_floating_point() else before.dtype), name
        assert torch.equal(t, before.to(t.dtype))


def test_to_changes_the_device(morphs, device):
    assert {t.device.type for t in morphs.to(device).tensors().values()} == {device.type}
    assert {t.device.type for t in morphs.to("meta", torch.float16).tensors().values()} == {"meta"}
    assert same(morphs.to(device).cpu(), morphs)
    assert all(a is b for a, b in zip(morphs.cpu().tensors().values(), morphs.tensors().values())), "copied needlessly"
    moved = morphs.to(device)
    assert torch.equal(moved[[1, 0]].frames.cpu(), morphs.frames[[1, 0]])
    # A GPU's softmax may round differently
    assert torch.equal(moved.target_probability.cpu(), moved.cpu().target_probability) or device.type == "cuda"
    assert len(moved[moved.reached[:, -1]]) == int(moved.reached[:, -1].sum())


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_to_unsupported_dtypes_raises(morphs, dtype):
    with pytest.raises(TypeError, match=f"dtype must be a floating-point dtype, got {dtype}"):
        morphs.to(dtype=dtype)


def test_detach_shares_memory(morphs):
    m = dataclasses.replace(morphs, frames=morphs.frames.clone().requires_grad_())
    detached = m.detach()
    assert m.frames.requires_grad and not detached.frames.requires_grad
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(detached.tensors().values(), m.tensors().values()))


def test_pickled_and_copied_morphs_equal_the_original(morphs):
    for m in (morphs, make(dtype=torch.float16, amplitude_factors=torch.rand(4, 5), budget=None, attained=None)):
        assert same(pickle.loads(pickle.dumps(m)), m) and same(copy.deepcopy(m), m)


# (changed arguments, part of the message)
BAD_FIELDS = [
    ({"frames": torch.rand(4, 5, 12, 16)}, r"frames must be a tensor \[B, F, C, H, W\], got \[4, 5, 12, 16\]"),
    ({"frames": None}, "frames must be a tensor .* got NoneType"),
    ({"factors": torch.rand(5, 4)}, r"factors must be a tensor \[4, 5\].* got \[5, 4\]"),
    ({"target": torch.zeros(3, dtype=torch.int64)}, r"target must be a tensor \[4\].* got \[3\]"),
    ({"target": torch.zeros(4, 2, dtype=torch.int64)}, r"target must be \[B\] for outputs .* got \[4, 2\]"),
    ({"outputs": torch.rand(4, 5)}, r"outputs must be a tensor \[B, F, classes, ...\], got \[4, 5\]"),
    ({"attained": torch.ones(5, dtype=torch.bool)}, "attained must be"),
    ({"status": [0, 0, 0, 0]}, "status must be a tensor .* got list"),
]


def test_bad_fields_raise():
    for changes, text in BAD_FIELDS:
        with pytest.raises(ValueError, match=text):
            make(**changes)


# --- Representation --------------------------------------------------------------------------------------------------


def test_repr_has_shape_method_and_medians():
    outputs = torch.tensor([0.25, 0.75]).log().expand(3, 2, 2)
    m = make(3, 2, classes=2, outputs=outputs, target=torch.tensor([1, 1, 0]), status=torch.tensor([0, 0, 1]))
    assert repr(m) == (
        "Morphs(3 x 2 frames of 3 x 12 x 16, float32, cpu, csp-phase, complex, frozen; "
        "target probability 0.75 -> 0.75 (median); l2 12 (median, last frame); 3/3 attained; 1 not ok)"
    )


def test_notebooks_show_a_strip_and_a_slider():
    text = make(5, 3, c=1, settings=SETTINGS | {"family": "<b>"})._repr_html_()
    assert text.count("<img") == 1 + 3 == text.count('src="data:image/')
    assert text.count("<img hidden") == 2 and 'max="2"' in text
    assert "&lt;b&gt;" in text and not re.search(r"<b>|<script|https?:|//", re.sub(r'src="data:[^"]*"', "", text))


def test_notebooks_show_text_where_nothing_can_be_drawn(morphs, monkeypatch):
    assert morphs[:0]._repr_html_() is None and morphs.to("meta")._repr_html_() is None
    assert make(c=2)._repr_html_() is None
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert morphs._repr_html_() is None


def test_repr_leaves_out_what_is_not_known(morphs):
    unscored = dataclasses.replace(morphs, outputs=morphs.outputs * NAN, attained=None, settings={})
    assert repr(unscored) == "Morphs(4 x 5 frames of 3 x 12 x 16, float32, cpu; l2 12 (median, last frame))"
    short = "Morphs(0 x 5 frames of 3 x 12 x 16, float16, cpu, csp-phase, complex, frozen)"
    assert repr(make(dtype=torch.float16)[:0]) == short
    assert repr(morphs.to("meta")) == "Morphs(4 x 5 frames of 3 x 12 x 16, float32, meta, csp-phase, complex, frozen)"
    assert "4/8 attained" in repr(make(budgets=2, attained=torch.tensor([[True, False]] * 4)))


# --- Tensors in a file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dtype": torch.float16, "c": 1},
        {"dtype": torch.bfloat16},
        {"dtype": torch.float64, "budget": None, "attained": None},
        {"budgets": 3, "amplitude_factors": torch.rand(4, 5)},
        {"b": 0},
        {"b": 1},
        {"outputs": torch.full((4, 5, 3), NAN)},
        {"target": torch.zeros(4, 2, dtype=torch.int64), "outputs": torch.randn(4, 5, 3, 7)},
        {"settings": {"x": [1, 0.1, None, {"ü": True}], "y": 1e-300}},
    ],
)
def test_safetensors_round_trip_is_bitwise(tmp_path, changes):
    m = make(**changes)
    m.save(tmp_path / "a.safetensors")
    loaded = Morphs.load(str(tmp_path / "a.safetensors"))
    assert same(loaded, m) and files_in(tmp_path) == ["a.safetensors"]
    assert loaded.frames.is_contiguous()


def test_files_of_torch_save_can_be_loaded(tmp_path, morphs):
    torch.save(morphs, tmp_path / "a.pt")
    assert same(torch.load(tmp_path / "a.pt"), morphs)


def test_views_and_tensors_with_gradients_are_saved(tmp_path, morphs):
    """The format does not support tensors that share memory, or that require gradients, so they are copied."""
    table = torch.rand(2, 4, 5, requires_grad=True)
    m = dataclasses.replace(morphs, factors=table[0], l2=table[1], amplitude_factors=table[0], source=morphs.target)
    m[1:].save(tmp_path / "a.safetensors")
    assert same(Morphs.load(tmp_path / "a.safetensors"), m[1:].detach())


def test_safetensors_can_be_read_without_this_package(tmp_path, morphs):
    morphs.save(tmp_path / "a.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert torch.equal(torch.from_numpy(file.get_tensor("frames")), morphs.frames)
        about = json.loads(file.metadata()["steerlens_fast"])
    assert about == {"kind": "Morphs", "version": steerlens_fast.__version__, "settings": SETTINGS}


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.safetensors"])
def test_missing_folder_is_named(tmp_path, morphs, name):
    with pytest.raises(FileNotFoundError, match=r"the folder to write into must exist: '.*/none'"):
        morphs.save(tmp_path / "none" / name)


def test_loading_other_files_raises(tmp_path, morphs):
    with pytest.raises(FileNotFoundError):
        Morphs.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"path must end in .safetensors, got .*a.png"):
        Morphs.load(tmp_path / "a.png")
    safetensors.save_file({"frames": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="path must be a file that Morphs.save wrote"):
        Morphs.load(tmp_path / "other.safetensors")
    morphs.save(tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="path must be a complete safetensors file"):
        Morphs.load(tmp_path / "cut.safetensors")


def test_settings_that_are_not_json_raise(tmp_path, morphs):
    with pytest.raises(TypeError, match="settings must be JSON-serialisable, got"):
        dataclasses.replace(morphs, settings={"model": object()}).save(tmp_path / "a.safetensors")
    assert files_in(tmp_path) == []


# --- Figures ---------------------------------------------------------------------------------------------------------


def panels(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def shown(axes) -> torch.Tensor:
    return torch.as_tensor(axes.images[0].get_array().filled())


def row_label(drawn: dict, sample: int) -> str:
    """Return the label of a sample's row, in one line."""
    return drawn[f"sample {sample} frame 0"].get_ylabel().replace("\n", " ")


def test_strip_shows_frames_and_probabilities(morphs):
    drawn = panels(steerlens_fast.plot_morphs(morphs))
    assert list(drawn) == [f"sample {b} frame {f}" for b in range(4) for f in range(5)]
    for b in range(4):
        assert drawn[f"sample {b} frame 0"].get_ylabel() == f"{morphs.source[b]} → {morphs.target[b]}"
        for f in range(5):
            axes = drawn[f"sample {b} frame {f}"]
            expected = (morphs.frames[b, f] * 255).round().byte().permute(1, 2, 0)
            assert torch.equal(shown(axes), expected)
            label, lines = axes.xaxis.label, [f"{morphs.target_probability[b, f]:.2f}"]
            if not morphs.reached[b, f]:  # then the predicted class is shown
                lines.append(f"{morphs.predictions[b, f]}: {morphs.probabilities[b, f].max():.2f}")
            assert label.get_text() == "\n".join(lines)
            assert (label.get_weight() == "bold") == bool(morphs.reached[b, f])
    assert [drawn[f"sample 0 frame {f}"].get_title() for f in range(5)] == ["L2 0", "L2 3", "L2 6", "L2 9", "L2 12"]


def test_strip_shows_grey_and_half_precision_morphs():
    m = make(2, c=1, dtype=torch.float16)
    axes = panels(strips.plot_morphs(m))["sample 1 frame 4"]
    assert torch.equal(shown(axes), (m.frames[1, 4, 0].double() * 255).round().byte())
    assert axes.images[0].get_cmap().name == "gray" and axes.images[0].get_clim() == (0, 255)


def test_strip_shows_the_chosen_frames_and_samples(morphs):
    long = make(20, 30)
    figure = strips.plot_morphs(long)
    assert len(figure.axes) == 16 * 12
    shown_frames = [int(label.split()[-1]) for label in panels(figure)][:12]
    assert shown_frames == [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29]
    assert figure.get_supxlabel().endswith("the first 16 of 20 samples; 12 of 30 frames")
    assert list(panels(strips.plot_morphs(morphs, frames=[4, 0, -2], samples=1))) == [
        "sample 0 frame 4",
        "sample 0 frame 0",
        "sample 0 frame 3",
    ]
    assert list(panels(strips.plot_morphs(morphs[0], frames=1))) == ["sample 0 frame 4"]
    assert len(strips.plot_morphs(morphs, frames=100, samples=100).axes) == 20
    assert "samples" not in strips.plot_morphs(morphs).get_supxlabel()


def test_column_headers_name_what_all_samples_share():
    """Distances that differ between samples are below the frames."""
    factors = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    l2 = torch.tensor([[1e-5, 5.0], [0.0, 7.0]])
    headers = lambda **changes: [a.get_title() for a in strips.plot_morphs(make(2, 2, **changes)).axes[:2]]
    text = lambda **changes: panels(strips.plot_morphs(make(2, 2, **changes)))["sample 1 frame 1"].get_xlabel()
    distances = lambda **changes: [line for line in text(**changes).split("\n") if line.startswith("L2")]
    assert headers(factors=factors, l2=l2, budget=None) == ["factor 0", "factor 1"]
    assert distances(factors=factors, l2=l2, budget=None) == ["L2 7"]
    two = {"factors": factors, "amplitude_factors": factors / 4, "l2": l2}
    assert headers(**two, budget=None) == ["phase 0\namplitude 0", "phase 1\namplitude 0.25"]
    sample_factors = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    assert headers(factors=sample_factors, l2=l2) == ["frame 0", "frame 1"]
    assert headers(factors=sample_factors, l2=l2[:1].expand(2, 2)) == ["L2 0", "L2 5"]
    assert distances(factors=sample_factors, l2=l2[:1].expand(2, 2)) == []


def test_headers_are_shared_if_rows_differ_by_half_a_percent_at_most():
    headers = lambda *rows: [a.get_title() for a in strips.plot_morphs(make(2, 2, l2=torch.tensor(rows))).axes[:2]]
    assert headers([0.0, 5.0], [0.0, 5.02]) == ["L2 0", "L2 5"]
    assert headers([0.0, 5.0], [0.0, 5.05]) == ["factor 0", "factor 4"]


def test_values_below_a_thousandth_of_the_largest_are_shown_as_0():
    titles = lambda first: [a.get_title() for a in strips.plot_morphs(make(1, 2, l2=torch.tensor([[first, 4.0]]))).axes]
    assert titles(0.002) == ["L2 0", "L2 4"] and titles(0.02) == ["L2 0.02", "L2 4"]


def test_missed_distances_are_not_rounded_to_the_requested_ones_in_a_strip():
    near, far = torch.tensor([[0.0, 11.9812]]), torch.tensor([[0.0, 11.9994], [0.0, 12.0]])
    titles = lambda m: [axes.get_title() for axes in strips.plot_morphs(m).axes[:2]]
    m = make(1, 2, l2=near, budget=torch.tensor([[12.0]]), attained=torch.tensor([False]))
    assert titles(m) == ["L2 0", "L2 11.98"] and "l2 11.98 (median, last frame); 0/1 attained" in repr(m)
    assert titles(dataclasses.replace(m, attained=torch.tensor([True]))) == ["L2 0", "L2 12"]
    m = make(2, 2, l2=far, budget=torch.full((2, 1), 12.0), attained=torch.tensor([False, True]))
    drawn = panels(strips.plot_morphs(m))
    assert titles(m)[1] == "factor 4" and "l2 11.9997" in repr(m)
    assert [drawn[f"sample {b} frame 1"].get_xlabel().split("\n")[-1] for b in (0, 1)] == ["L2 11.999", "L2 12"]


def test_strips_show_class_names_and_reasons():
    m = make(2, status=torch.tensor([0, 2]))
    for names in (["a cat", "$ $", "x"], {0: "a cat", 1: "$ $", 2: "x"}):
        labels = [a.yaxis.label for a in strips.plot_morphs(m, class_names=names).axes]
        assert labels[0].get_text() == "$ $ → a cat" and not labels[0].get_parse_math()
        assert labels[5].get_text().replace("\n", " ") == f"x → $ $ {MorphStatus(2).reason}"
    long = ["the great white shark that has many other names too"] * 3
    label = strips.plot_morphs(m, class_names=long).axes[0].get_ylabel()
    assert max(map(len, label.split("\n"))) <= strips.LABEL_WIDTH == 18 and label.endswith("…")


def test_class_names_of_the_lens_are_shown():
    names = ["cat, tabby", "dog", "newt"]
    m = make(4, settings=SETTINGS | {"class_names": names})
    assert m.class_names == names
    assert "; dog -> cat (2), newt -> dog, cat -> newt; " in repr(m)
    assert strips.plot_morphs(m).axes[0].get_ylabel() == "dog → cat"
    assert strips.plot_morphs(m, class_names=["a", "b", "c"]).axes[0].get_ylabel() == "b → a"
    with pytest.raises(ValueError, match="class_names must have one name for each of the model's 3 classes, got 4"):
        strips.plot_morphs(m, class_names=["a", "b", "c", "d"])


def test_frames_that_were_not_scored_have_no_probability(morphs):
    outputs = morphs.outputs.clone()
    outputs[:, 1:-1] = NAN
    figure = strips.plot_morphs(dataclasses.replace(morphs, outputs=outputs))
    assert [bool(a.get_xlabel()) for a in figure.axes[:5]] == [True, False, False, False, True]
    figure = strips.plot_morphs(dataclasses.replace(morphs, outputs=outputs * NAN))
    assert not any(a.get_xlabel() for a in figure.axes) and figure.get_supxlabel() == ""


@pytest.mark.parametrize("bounds, low, high", [((-1, 1), -1, 1), ([0, 255], 0, 255), (None, None, None)])
def test_bounds_become_black_and_white(bounds, low, high):
    frames = torch.linspace(-1, 260, 2 * 3 * 8 * 8).reshape(2, 3, 1, 8, 8)
    m = make(2, 3, 1, frames=frames, settings={"bounds": bounds})
    for b in range(2):
        lo, hi = (frames[b].min(), frames[b].max()) if bounds is None else (low, high)
        expected = ((frames[b, 1, 0].double() - lo) / (hi - lo)).clamp(0, 1) * 255
        drawn = shown(panels(strips.plot_morphs(m))[f"sample {b} frame 1"]).double()
        assert (drawn - expected).abs().max() <= 0.5 + 1e-3


def test_constant_and_nan_frames_are_drawn():
    for value in (0.5, NAN):
        m = make(1, 2, frames=torch.full((1, 2, 3, 8, 8), value), settings={"bounds": None})
        strips.plot_morphs(m).savefig(io.BytesIO(), dpi=30)


def test_strip_is_drawn_into_a_given_figure(morphs):
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    before = pyplot.get_fignums()
    whole = Figure(figsize=(8, 4), layout="constrained")
    left, right = whole.subfigures(1, 2)
    assert strips.plot_morphs(morphs, figure=left, frames=2) is left and len(left.axes) == 8 and not right.axes
    assert pyplot.get_fignums() == before


def test_red_image_has_red_pixels(tmp_path):
    colours([1.0, 0, 0], [0, 1.0, 0], f=1).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        counts = dict((colour, n) for n, colour in picture.convert("RGB").getcolors(1 << 20))
        assert picture.format == "PNG" and min(picture.size) >= 1.25 * 170  # PANEL_INCHES * DPI of strips.py
    red, green = counts[255, 0, 0], counts[0, 255, 0]
    # The panels have equal sizes. Each covers more than 4 % of the picture.
    assert red == pytest.approx(green, rel=0.05) and red > 0.04 * picture.width * picture.height


@pytest.mark.parametrize(
    "suffix, start", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 40), (3, 200, 150)])
def test_every_kind_of_figure_is_written(tmp_path, suffix, start, shape):
    make(2, 3, shape[0], shape[1:]).save(tmp_path / f"a.{suffix}", frames=2, class_names=["a", "b", "c"])
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    assert files_in(tmp_path) == [f"a.{suffix}"]


def test_saved_frames_are_the_pixels(tmp_path):
    for channels in (1, 3):
        m = make(b=2, f=11, c=channels)
        m.save_frames(tmp_path / str(channels))
        files = sorted((tmp_path / str(channels)).rglob("*.png"))
        assert [f"{f.parent.name}/{f.name}" for f in (files[0], files[-1])] == [
            "sample_0/frame_00.png",
            "sample_1/frame_10.png",
        ]
        pixels = [torch.tensor(np.asarray(Image.open(file))) for file in files]
        assert torch.equal(torch.stack(pixels), torch.tensor(strips.to_pixels(m)).flatten(0, 1))
    with pytest.raises(ValueError, match="frames must have 1 channel .* or 3"):
        make(c=2).save_frames(tmp_path)


def test_small_probabilities_are_not_shown_as_zero():
    assert [strips._number(p) for p in (0.0, 1e-5, 0.0034, 0.01, 0.5)] == ["0.00", "1e-05", "0.003", "0.01", "0.50"]


# --- Morphs without success -------------------------------------------------------------------------------------------


def text_and_weight(axes) -> tuple[str, str]:
    """Return the text below a panel, and its font weight."""
    return axes.get_xlabel(), axes.xaxis.label.get_weight()


def test_target_that_is_already_predicted_is_not_bold():
    outputs = torch.tensor([[2.0, 0.0, 0.0]]).log_softmax(1).expand(2, 3, 3)  # class 0 has probability 0.79
    m = make(2, 3, outputs=outputs, target=torch.tensor([0, 0]), source=torch.tensor([0, 1]))
    drawn = panels(strips.plot_morphs(m))
    assert row_label(drawn, 0) == "0 → 0 already predicted as the target"
    assert drawn["sample 0 frame 0"].yaxis.label.get_color() == strips.NOT_OK
    assert row_label(drawn, 1) == "1 → 0"
    for f in range(3):
        assert text_and_weight(drawn[f"sample 0 frame {f}"]) == ("0.79", "normal")
        assert text_and_weight(drawn[f"sample 1 frame {f}"]) == ("0.79", "bold")


def test_strips_show_the_state_of_a_label_or_the_class_at_a_position():
    """For independent labels, strips show whether the target is present; for positions, the class at the target's
    position."""
    outputs = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1).expand(2, 3, 2, 5)  # every label has probability 0.73
    # For independent labels, a target is (state, label). The second plot reads the same numbers as (class, position).
    target, source = torch.tensor([[0, 3], [1, 2]]), torch.tensor([1, 1])
    m = make(2, 3, outputs=outputs, target=target, source=source, settings=SETTINGS | {"task": "multilabel"})
    drawn = panels(strips.plot_morphs(m, class_names=["a", "b", "c", "d", "e"]))
    assert text_and_weight(drawn["sample 0 frame 2"]) == ("0.27\nd: 0.73", "normal")
    assert (row_label(drawn, 0), row_label(drawn, 1)) == ("d → not d", "c → c already predicted as the target")
    assert text_and_weight(drawn["sample 1 frame 2"]) == ("0.73", "normal")
    dense = dataclasses.replace(m, settings=dict(SETTINGS))
    drawn = panels(strips.plot_morphs(dense))
    assert row_label(drawn, 0) == "1 → 0 at (3,)"
    assert row_label(drawn, 1) == "1 → 1 at (2,) already predicted as the target"
    assert text_and_weight(drawn["sample 0 frame 2"]) == ("0.27\n1: 0.73", "normal")


def test_labels_at_positions_have_their_names():
    """Targets of labels are (state, label, position)."""
    outputs = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand(2, 3, 2, 2, 5)
    target, names = torch.tensor([[0, 1, 4], [1, 0, 3]]), ["a", "b"]
    m = make(2, 3, outputs=outputs, target=target, source=torch.tensor([1, 0]))
    m = dataclasses.replace(m, settings=SETTINGS | {"task": "multilabel", "class_names": names})
    assert "; -> not b, -> a; " in repr(m)
    drawn = panels(strips.plot_morphs(m))
    assert [row_label(drawn, b) for b in range(2)] == ["b → not b at (4,)", "not a → a at (3,)"]


def test_failed_samples_and_distances_that_are_not_attained_are_marked():
    outputs = torch.tensor([[0.0, 2.0, 0.0]]).log_softmax(1).expand(3, 3, 3)
    m = make(3, 3, outputs=outputs, target=torch.ones(3, dtype=torch.int64), source=torch.zeros(3, dtype=torch.int64))
    m = dataclasses.replace(m, status=torch.tensor([3, 0, 0]), attained=torch.tensor([True, False, True]))
    drawn = panels(strips.plot_morphs(m))
    labels = [row_label(drawn, b) for b in range(3)]
    assert labels == [f"0 → 1 {MorphStatus(3).reason}", "0 → 1 distance not attained", "0 → 1"]
    weights = [text_and_weight(drawn[f"sample {b} frame 2"])[1] for b in range(3)]
    assert weights == ["normal", "bold", "bold"]
    several = dataclasses.replace(m, attained=torch.tensor([[True, True], [True, False], [True, True]]))
    drawn = panels(strips.plot_morphs(several))
    assert row_label(drawn, 1) == "0 → 1 distance not attained" and row_label(drawn, 2) == "0 → 1"


def test_probabilities_that_are_nan_are_neither_shown_nor_bold():
    outputs = torch.tensor([[0.0, 1.0], [NAN, 1.0], [0.0, float("inf")]]).expand(1, 3, 2)
    m = make(1, 3, classes=2, outputs=outputs, target=torch.tensor([1]), source=torch.tensor([0]))
    assert [text_and_weight(axes) for axes in strips.plot_morphs(m).axes] == [
        ("0.73", "bold"),  # softmax of 0 and 1
        ("", "normal"),
        ("", "normal"),
    ]


def test_class_name_below_a_frame_is_short_and_no_formula(morphs):
    outputs = torch.tensor([[0.0, 2.0, 0.0]]).expand(1, 5, 3)  # class 1 has probability 0.79
    m = dataclasses.replace(morphs[0], outputs=outputs)
    figure = strips.plot_morphs(m, class_names=["a", "$x$ of a very long name", "c"])
    assert figure.axes[0].get_xlabel().split("\n")[1] == "$x$ of a very…: 0.79"
    assert not figure.axes[0].xaxis.label.get_parse_math()


# --- Differences -----------------------------------------------------------------------------------------------------


def test_rows_of_differences_follow_their_samples():
    """Blue means darker, red brighter, white equal. The label on the left states the largest difference."""
    frames = torch.full((2, 3, 1, 8, 8), 0.5)
    frames[0, 1, 0, 0, 0], frames[0, 2, 0, 0, 0], frames[0, 2, 0, 0, 1] = 0.25, 0.0, 1.0
    m = make(2, 3, 1, frames=frames)
    drawn = panels(strips.plot_morphs(m, differences=True))
    names = ("frame", "difference")
    assert list(drawn) == [f"sample {b} {name} {f}" for b in range(2) for name in names for f in range(3)]
    maps = [shown(drawn[f"sample 0 difference {f}"]) for f in range(3)]
    white, blue, red = [247, 247, 247], [33, 102, 172], [178, 24, 43]
    assert maps[0].unique(dim=0).shape[0] == 1 and maps[0][0, 0].tolist() == white
    assert maps[1][0, 0].tolist() == [140, 174, 210] and maps[1][1, 1].tolist() == white  # half way to blue
    assert maps[2][0, 0].tolist() == blue and maps[2][0, 1].tolist() == red
    assert drawn["sample 0 difference 0"].get_ylabel() == "difference\n±0.5"
    assert drawn["sample 1 difference 0"].get_ylabel() == "difference\n±0"
    assert (shown(drawn["sample 1 difference 2"]) == 247).all()


def test_differences_of_colour_are_around_grey():
    """Only the blue channel changes, by up to 0.5."""
    m = colours([1.0, 0.0, 0.0], f=3)
    maps = [shown(axes) for axes in strips.plot_morphs(m, differences=True).axes[3:]]
    assert [picture[0, 0].tolist() for picture in maps] == [[128, 128, 128], [128, 128, 192], [128, 128, 255]]


def test_differences_are_from_the_frame_with_factor_0_and_in_units_of_the_images():
    frames = torch.tensor([-60.0, 0.0, 20.0]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 8, 8)
    m = make(1, 3, 1, frames=frames, factors=torch.tensor([[-1.0, 0.0, 1.0]]), settings={"bounds": [-100, 100]})
    drawn = panels(strips.plot_morphs(m, differences=True, frames=[0, 2]))
    assert drawn["sample 0 difference 0"].get_ylabel() == "difference\n±60"
    assert shown(drawn["sample 0 difference 0"])[0, 0].tolist() == [33, 102, 172]
    assert shown(drawn["sample 0 difference 2"])[0, 0].tolist() == [224, 173, 179]  # a third of the way to red
    # The first frame has phase factor 0, but its amplitudes have moved
    phase, amplitude = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    drawn = panels(
        strips.plot_morphs(dataclasses.replace(m, factors=phase, amplitude_factors=amplitude), differences=True)
    )
    assert shown(drawn["sample 0 difference 0"])[0, 0].tolist() == [33, 102, 172]
    assert shown(drawn["sample 0 difference 1"])[0, 0].tolist() == [247, 247, 247]


@pytest.mark.parametrize("suffix", ["gif", "webp", "safetensors"])
def test_differences_are_rows_of_figures_only(morphs, tmp_path, suffix):
    with pytest.raises(ValueError, match=f"differences must be False for .{suffix}: only .png, .pdf, .svg"):
        morphs.save(tmp_path / f"a.{suffix}", differences=True)
    with pytest.raises(TypeError, match="differences must be a bool, got 1"):
        morphs.save(tmp_path / "a.png", differences=1)
    morphs.save(tmp_path / "a.png", differences=True)
    assert files_in(tmp_path) == ["a.png"]


# --- Animations ------------------------------------------------------------------------------------------------------

# In pixels: the side of an enlarged 16 x 16 image, the space between images, the height of a caption
SIDE, GAP, CAPTION = 144, 8, 3 * 13


def animation_size(columns: int, rows: int, width: int, height: int) -> tuple[int, int]:
    """Return the size of an animation with images of ``width`` x ``height`` pixels, each above a caption."""
    return columns * (width + GAP) + GAP, rows * (height + CAPTION + GAP) + GAP


def animation(path) -> list:
    """Return the frames as RGB, and their durations."""
    with Image.open(path) as picture:
        assert picture.n_frames == 1 or picture.info["loop"] == 0  # repeats forever
        results = []
        for i in range(picture.n_frames):
            picture.seek(i)
            results.append((picture.convert("RGB"), picture.info.get("duration")))
        return results


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animation_runs_forward_and_back(tmp_path, suffix):
    m = make(3, 4, size=(16, 16))
    m.save(tmp_path / f"a.{suffix}")
    result = animation(tmp_path / f"a.{suffix}")
    assert [ms for _, ms in result] == [900, 110, 110, 900, 110, 110]  # HOLD_MS and FRAME_MS of strips.py
    assert result[0][0].size == animation_size(3, 1, SIDE, SIDE)
    for i, j in ((1, 5), (2, 4)):
        assert result[i][0].tobytes() == result[j][0].tobytes()
    m.save(tmp_path / f"a.{suffix}", frames=[0, 3], samples=2)
    assert len(animation(tmp_path / f"a.{suffix}")) == 2
    m.save(tmp_path / f"a.{suffix}", frames=1)
    assert len(animation(tmp_path / f"a.{suffix}")) == 1


@pytest.mark.parametrize("suffix, c, tolerance", [("webp", 3, 0), ("webp", 1, 0), ("gif", 1, 0), ("gif", 3, 25)])
def test_animation_shows_the_pixels_enlarged(tmp_path, suffix, c, tolerance):
    """Pixels are equal, except in GIFs of colour images, which have at most 256 colours."""
    m = make(2, 3, c, (16, 16))
    m.save(tmp_path / f"a.{suffix}")
    for f, (picture, _) in enumerate(animation(tmp_path / f"a.{suffix}")[:3]):
        for b in range(2):
            x = GAP + b * (SIDE + GAP)
            enlarged = picture.crop((x, GAP, x + SIDE, GAP + SIDE))
            pixels = torch.frombuffer(bytearray(enlarged.tobytes()), dtype=torch.uint8).reshape(SIDE, SIDE, 3)
            expected = (m.frames[b, f] * 255).round().byte().permute(1, 2, 0)
            blocks = pixels.reshape(16, 9, 16, 9, 3).float().mean((1, 3))
            assert (blocks - expected).abs().mean() <= tolerance
            assert tolerance or torch.equal(pixels[::9, ::9], expected.expand(16, 16, 3))


def test_gif_of_a_smooth_colour_image_is_close_to_it(tmp_path):
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    image = torch.stack([x, y, (1 - x) * (1 - y)])
    frames = torch.stack([image * s for s in (1.0, 0.8)])[None]
    make(1, 2, frames=frames).save(tmp_path / "a.gif")
    for f, (picture, _) in enumerate(animation(tmp_path / "a.gif")):
        crop = picture.crop((GAP, GAP, GAP + SIDE, GAP + SIDE))
        pixels = torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8)
        expected = (frames[0, f] * 255).permute(1, 2, 0)
        local = lambda t: torch.nn.functional.avg_pool2d(t.permute(2, 0, 1), 8)  # averages, since GIFs are dithered
        pixels = pixels.reshape(SIDE, SIDE, 3).float()
        assert (pixels - expected).abs().mean() < 10
        assert (local(pixels) - local(expected)).abs().mean() < 3


def test_many_samples_are_tiled_and_large_ones_are_not_enlarged(tmp_path):
    make(20, 2, size=(64, 32)).save(tmp_path / "a.gif")
    ((first, _), _) = animation(tmp_path / "a.gif")
    # The first 16 samples. Images of 64 x 32 are enlarged three times, in columns of at least SIDE pixels.
    assert first.size == animation_size(4, 4, SIDE, 3 * 64)
    large = make(1, 2, size=(300, 200))
    large.save(tmp_path / "a.gif", class_names=["a name that is far too long for so small a picture"] * 3)
    assert animation(tmp_path / "a.gif")[0][0].size == animation_size(1, 1, 200, 300)


def test_captions_are_green_if_the_target_is_reached(tmp_path):
    """Captions are not green if the target was already predicted for the source."""
    outputs = torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])
    m = make(1, 2, 3, (16, 16), outputs=outputs, target=torch.tensor([1]), source=torch.tensor([0]), classes=2)
    for name, morphs in {"reached": m, "already": dataclasses.replace(m, source=torch.tensor([1]))}.items():
        morphs.save(tmp_path / f"{name}.webp")
        green = [
            sum(1 for r, g, b in p.crop((0, GAP + SIDE, p.width, p.height)).get_flattened_data() if g > 2 * r and g > b)
            for p, _ in animation(tmp_path / f"{name}.webp")
        ]
        assert green[0] == 0 and (green[1] > 20) == (name == "reached"), green


def test_same_morphs_give_the_same_files(tmp_path, morphs):
    for name in ("png", "gif", "webp", "safetensors"):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            morphs.save(tmp_path / folder / f"x.{name}")
        assert (tmp_path / "a" / f"x.{name}").read_bytes() == (tmp_path / "b" / f"x.{name}").read_bytes()


# --- Atomic writes --------------------------------------------------------------------------------

KINDS = ["png", "gif", "webp", "safetensors"]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("older", [True, False])
def test_failed_write_leaves_the_old_file(tmp_path, morphs, monkeypatch, suffix, older):
    path = tmp_path / f"a.{suffix}"
    if older:
        path.write_bytes(b"older")

    def half(file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: half(file))
    monkeypatch.setattr("PIL.Image.Image.save", lambda self, file, **_: half(file))
    monkeypatch.setattr("safetensors.torch.save_file", lambda tensors, path, **_: half(open(path, "wb")))
    with pytest.raises(OSError, match="no space left"):
        morphs.save(path)
    assert files_in(tmp_path) == ([path.name] if older else [])
    assert not older or path.read_bytes() == b"older"


@pytest.mark.parametrize("suffix", KINDS)
def test_older_file_is_replaced(tmp_path, morphs, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(b"older")
    morphs.save(str(tmp_path / f"a.{suffix}"))
    assert (tmp_path / f"a.{suffix}").stat().st_size > 100 and files_in(tmp_path) == [f"a.{suffix}"]


@pytest.mark.parametrize("suffix", KINDS)
def test_files_have_the_permissions_of_the_umask(tmp_path, morphs, suffix):
    (tmp_path / "usual").touch()
    morphs.save(tmp_path / f"a.{suffix}")
    mode = lambda name: stat.S_IMODE((tmp_path / name).stat().st_mode)
    assert mode(f"a.{suffix}") == mode("usual")


def test_longest_file_name_can_be_written(tmp_path, morphs):
    morphs.save(tmp_path / ("n" * 251 + ".png"), frames=1, samples=1)


def test_interrupted_write_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "a", durable=False) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert files_in(tmp_path) == []


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "a", "png", "a.png.tmp", ".png"])
def test_unknown_suffix_raises(tmp_path, morphs, name):
    with pytest.raises(ValueError, match=r"path must end in one of .png, .pdf, .svg, .gif, .webp, .safetensors, got"):
        morphs.save(tmp_path / name)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"frames": 0}, ValueError, "frames must be at least 1, got 0"),
        ({"frames": []}, TypeError, "frames must be an int or a sequence of ints"),
        ({"frames": [0.5]}, TypeError, "frames must be"),
        ({"frames": "12"}, TypeError, "frames must be"),
        ({"frames": True}, TypeError, "frames must be"),
        ({"frames": [5]}, IndexError, r"frames must lie within the 5 frames, got \[5\]"),
        ({"samples": 0}, ValueError, "samples must be at least 1"),
        ({"samples": [1]}, TypeError, "samples must be an int"),
        ({"class_names": ["a"]}, ValueError, "class_names must have one name for each of the model's 3 classes, got 1"),
        (
            {"class_names": list("abcd")},
            ValueError,
            "class_names must have one name for each .* 3 classes, got 4 names",
        ),
        ({"class_names": {0: "a"}}, ValueError, "class_names must have a name for class 1"),
        ({"class_names": "abc"}, TypeError, "class_names must be a sequence or a mapping"),
        ({"class_names": 3}, TypeError, "class_names must be"),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_bad_options_raise(tmp_path, morphs, options, error, text, suffix):
    with pytest.raises(error, match=text):
        morphs.save(tmp_path / f"a.{suffix}", **options)
    assert files_in(tmp_path) == []


def test_bad_morphs_raise(tmp_path, morphs):
    with pytest.raises(ValueError, match=r"morphs must have at least one frame of one sample, got \[0, 5, 3, 12, 16\]"):
        morphs[:0].save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="1 channel .* or 3 .* got 4"):
        make(c=4).save(tmp_path / "a.gif")
    with pytest.raises(TypeError, match="morphs must be Morphs, got Tensor"):
        strips.plot_morphs(torch.rand(2, 3))
    with pytest.raises(TypeError, match="path must be a str or os.PathLike, got int"):
        morphs.save(3)
    with pytest.raises(ValueError, match="samples must be None for .safetensors"):
        morphs.save(tmp_path / "a.safetensors", samples=2)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "suffix, module, extra",
    [
        ("png", "matplotlib", "plot"),
        ("gif", "PIL", "plot"),
        ("webp", "matplotlib", "plot"),
        ("safetensors", "safetensors", "save"),
    ],
)
def test_missing_extra_is_named(tmp_path, morphs, monkeypatch, suffix, module, extra):
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"{module} is not installed: pip install .*  # steerlens_fast\[{extra}\]"):
        morphs.save(tmp_path / f"a.{suffix}")
    assert files_in(tmp_path) == []
    if suffix == "safetensors":
        with pytest.raises(MissingExtra, match="safetensors"):
            Morphs.load(tmp_path / "a.safetensors")
