"""Draws strips and animations of morphs. Needs the extra ``steerlens_fast[plot]``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from ..checks import as_list, check_bool, check_bounds, check_class_names, check_int, is_int, shown
from ..classifier.class_names import pair_text, short_names
from ..classifier.outputs import number_of_classes
from ..extras import require_extra
from .container import Morphs, method_words, missed_distances
from .differences import difference_maps
from .distance_text import distance_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Text colours: captions where the target is predicted; other captions and notes; labels of rows with a remark.
REACHED, MUTED, NOT_OK = "#00695c", "#757575", "#b00020"
PANEL_INCHES, DPI = 1.25, 170
FRAMES, SAMPLES = 12, 16  # default numbers of frames in a strip, and of samples
LABEL_WIDTH = 18  # maximum number of characters in a line of a row's label
NAME_WIDTH = 14  # maximum number of characters of a class name below a frame
ALREADY, NOT_ATTAINED = "already predicted as the target", "distance not attained"
# For animations, in pixels: minimum of the longer side of an image, space between images, font size of captions.
SIDE, GAP, FONT_SIZE = 144, 8, 13
FRAME_MS, HOLD_MS = 110, 900  # duration of a frame, and of the first and last one
MAX_MEDIAN_CUT_COLOURS = 1024  # for pictures with more colours, median cut is too slow

Frames = int | Sequence[int] | None
Names = Sequence[str] | Mapping[int, str] | None


def plot_morphs(
    morphs: Morphs,
    *,
    frames: Frames = None,
    samples: int | None = None,
    class_names: Names = None,
    differences: bool = False,
    figure: Figure | None = None,
) -> Figure:
    """Draw a strip: a figure with a row for each sample and a column for each frame.

    Parameters
    ----------
    morphs : Morphs
        Morphs of images with one channel (grey) or three (RGB).
    frames : int or sequence of int, optional
        Number of evenly spaced frames, from the first to the last (1: only the last), or their indices. By default 12
        frames, or all if there are fewer.
    samples : int, optional
        Number of samples, from the first; by default 16. If there are more, a note below the figure says so.
    class_names : sequence of str or mapping from int to str, optional
        Names of all classes, or a mapping that has at least the classes to show. By default the names of the lens or
        the model; without names, classes are shown by their numbers. If a name in a sequence consists of synonyms, such
        as "tabby, tabby cat", the first one is shown, unless another class has the same first synonym.
    differences : bool
        Whether to add a second row for each sample, with the signed difference of each frame from the source (the frame
        whose factor is nearest to 0). In grey images, blue is darker and red is brighter. In RGB images, the difference
        of each channel is added to mid-grey. The row's label gives the difference to which the strongest colour
        belongs.
    figure : matplotlib Figure or SubFigure, optional
        Figure to draw in; by default a new one of suitable size. A new figure is not registered with pyplot, so use
        ``figure.savefig``, or display it in a notebook.

    Returns
    -------
    matplotlib.figure.Figure
        The labels of its axes are ``"sample i frame j"`` and ``"sample i difference j"``.

    Raises
    ------
    TypeError, ValueError, IndexError
        If an argument is invalid.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    - The label of a row is "source → target". It also says if a sample is not ``ok``, if its source is already
      predicted as the target, or if a distance was not attained.
    - Below a frame is the target's probability, in bold if the target is the predicted class. Otherwise, the predicted
      class and its probability follow. Frames that were not scored have no text. Nothing is bold for a sample that is
      not ``ok``, or whose source is already predicted as the target.
    - The header of a column is the L2 distance of its frames if all rows have equal distances, or their factor if all
      rows have equal factors. If both are true, it is the distance if distances were requested, otherwise the factor.
      If neither is true, it is the frame's number. Distances that are not in the headers are below the frames.
    - Black and white are ``settings["bounds"]`` or, if these are None, the lowest and highest value of each row.

    Examples
    --------
    >>> import torch
    >>> frames, factors = torch.rand(2, 12, 3, 16, 16), torch.linspace(0, 4, 12).expand(2, 12)
    >>> outputs, source, target = torch.randn(2, 12, 2), torch.tensor([0, 0]), torch.tensor([1, 1])
    >>> rest = {"amplitude_factors": None, "budget": None, "attained": None, "status": source, "settings": {}}
    >>> morphs = Morphs(frames, factors, target=target, source=source, outputs=outputs, l2=factors, **rest)
    >>> figure = plot_morphs(morphs, frames=3, class_names=["cat", "dog"])
    >>> [axes.get_title() for axes in figure.axes[:3]], figure.axes[0].get_ylabel()
    (['factor 0', 'factor 2.18', 'factor 4'], 'cat → dog')
    """
    check_bool("differences", differences)
    return draw_strips(strip_data(morphs, frames, samples, class_names, FRAMES, differences), figure)


def draw_strips(data: StripData, figure: Figure | None = None) -> Figure:
    """Draw the figure of :func:`plot_morphs` from strip data."""
    labels, (headers, captions) = _row_labels(data), _headers(data)
    rows = [(b, is_map) for b in range(len(data.names)) for is_map in ((False, True) if data.maps else (False,))]
    if figure is None:
        figure = _new_figure((len(rows), *data.pictures.shape[1:]), labels, captions)
    for (b, is_map), axes_of_row in zip(rows, figure.subplots(len(rows), len(data.frames), squeeze=False)):
        maps, scale = data.maps[b] if is_map else (None, 0.0)
        for f, axes in enumerate(axes_of_row):
            axes.set_label(f"sample {b} {'difference' if is_map else 'frame'} {data.frames[f]}")
            if is_map:
                draw_panel(axes, maps[f])
                continue
            draw_panel(axes, data.pictures[b, f], captions[b][f], bool(data.reached[b, f]))
            if b == 0:
                axes.set_title(headers[f], fontsize=9, pad=4)
        text = f"difference\n±{scale:.2g}" if is_map else labels[b]
        style = {"fontsize": 10} if not data.remarks[b] else {"fontsize": 8, "color": NOT_OK}
        style = {"fontsize": 8, "color": MUTED} if is_map else style
        # parse_math=False, so that a "$" in a class name is printed as it is
        axes_of_row[0].set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6, parse_math=False, **style)
    figure.suptitle(data.title, fontsize=11)
    figure.supxlabel(textwrap.fill(data.note, 20 * len(data.frames) + 10), fontsize=8, color=MUTED)
    return figure


def save_figure(morphs: Morphs, file: BinaryIO, *, format: str, **options) -> None:
    """Write the figure of :func:`plot_morphs`, with its options, to a file."""
    plot_morphs(morphs, **options).savefig(file, format=format)


def animate_morphs(
    morphs: Morphs,
    file: BinaryIO,
    *,
    format: str = "gif",
    frames: Frames = None,
    samples: int | None = None,
    class_names: Names = None,
) -> None:
    """Write an animation of the samples side by side, forward then backward.

    The format is "gif" or "webp" (lossless). Small images are enlarged. Parameters are those of :func:`plot_morphs`,
    but by default all frames are used. Captions have no distances.

    Examples
    --------
    >>> import io, torch
    >>> frames, factors = torch.rand(2, 12, 3, 16, 16), torch.linspace(0, 4, 12).expand(2, 12)
    >>> outputs, source, target = torch.randn(2, 12, 2), torch.tensor([0, 0]), torch.tensor([1, 1])
    >>> rest = {"amplitude_factors": None, "budget": None, "attained": None, "status": source, "settings": {}}
    >>> morphs = Morphs(frames, factors, target=target, source=source, outputs=outputs, l2=factors, **rest)
    >>> file = io.BytesIO()
    >>> animate_morphs(morphs, file)
    >>> file.getvalue()[:6]
    b'GIF89a'
    """
    write_animation(tiled_frames(strip_data(morphs, frames, samples, class_names, None)), file, format)


def tiled_frames(data: StripData) -> list[Image]:
    """Return an image for each frame, with the samples side by side."""
    tiled = []
    for f in range(len(data.frames)):
        captions = []
        for b, name in enumerate(data.names):
            line = [_number(data.probability[b, f]), data.remarks[b] or data.prediction[b][f]]
            captions.append(f"{name}\n{'; '.join(filter(None, line))}")
        tiled.append(tile(data.pictures[:, f], captions, data.reached[:, f].tolist()))
    return tiled


# --- Contents of strips and animations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class StripData:
    """The contents of a strip or animation with B rows of F frames.

    :func:`strip_data` makes them from :class:`Morphs`, and ``job/export.py`` from a record of a job.

    Attributes
    ----------
    pictures : array [B, F, H, W] or [B, F, H, W, 3], uint8
    frames : list of int
        Indices of the frames.
    names, remarks : list of str
        For each row, the text "source → target", and the text of :func:`remark`.
    probability : array [B, F]
        Probability of the target; NaN if the frame was not scored.
    prediction : list of lists of str
        Name and probability of the predicted class; "" if it is the target, or if the frame was not scored.
    reached : array [B, F], bool
        Whether the text of the frame is bold, because the morph has made the target the predicted class.
    l2, factors, amplitude_factors : Tensor [B, F]
        ``amplitude_factors`` may be None.
    by_distance : bool
        Whether distances were requested.
    missed : list of lists of float
        For each row, the requested distances that were not attained.
    title, note : str
        Texts above and below the figure.
    maps : list of (array [F, H, W, 3], float) or None
        For each row, the maps and the scale from :func:`~steerlens_fast.morphs.differences.difference_maps`.
    """

    pictures: np.ndarray
    frames: list[int]
    names: list[str]
    remarks: list[str]
    probability: np.ndarray
    prediction: list[list[str]]
    reached: np.ndarray
    l2: torch.Tensor
    factors: torch.Tensor
    amplitude_factors: torch.Tensor | None
    by_distance: bool
    missed: list[list[float]]
    title: str
    note: str
    maps: list[tuple[np.ndarray, float]] | None = None


def strip_data(
    morphs: Morphs,
    frames: Frames,
    samples: int | None,
    class_names: Names,
    default: int | None,
    differences: bool = False,
) -> StripData:
    """Make the data of the selected samples and frames.

    ``default`` is the number of frames if ``frames`` is None; None for all.
    """
    shown, at = _select(morphs, frames, samples, default)
    _check_names(class_names, shown)
    class_names = _names_to_show(class_names, shown)
    already, probability, remarks = shown.already_predicted, shown.target_probability.double(), []
    for b, reason in enumerate(shown.reasons):
        attained = shown.attained is None or bool(shown.attained[b].all())
        remarks.append(remark(reason, bool(already[b]), attained))
    counts = (len(shown), len(morphs), len(at), morphs.frames.shape[1])
    return StripData(
        pictures=to_pixels(shown),
        frames=at,
        names=_pair_texts(shown, class_names),
        remarks=remarks,
        probability=probability.numpy(),
        prediction=_predictions(shown, class_names),
        reached=(shown.reached & probability.isfinite() & (shown.ok & ~already)[:, None]).numpy(),
        l2=shown.l2,
        factors=shown.factors,
        amplitude_factors=shown.amplitude_factors,
        by_distance=morphs.budget is not None,
        missed=missed_distances(shown),
        title=", ".join(method_words(shown.settings)),
        note=strip_note(not shown.outputs.isnan().all(), *counts),
        maps=_maps(morphs[: len(shown)].detach().cpu(), at) if differences else None,
    )


def remark(reason: str | None, already: bool, attained: bool) -> str:
    """Return a remark on a morph, or "".

    If there is a ``reason`` for a failure, it is returned. Otherwise the text says whether the source is already
    predicted as the target, and whether a distance was not attained.

    Examples
    --------
    >>> remark(None, already=True, attained=False), remark("the gradient is zero", already=True, attained=True)
    ('already predicted as the target; distance not attained', 'the gradient is zero')
    """
    if reason:
        return reason
    return "; ".join(filter(None, [ALREADY if already else "", "" if attained else NOT_ATTAINED]))


def predicted_text(name: str, probability: float) -> str:
    """Return the text below a frame for a predicted class.

    Examples
    --------
    >>> predicted_text("tiger cat", 0.617), predicted_text("loggerhead sea turtle", 0.617)
    ('tiger cat: 0.62', 'loggerhead se…: 0.62')
    """
    short = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
    return f"{short}: {_number(probability)}".removesuffix(": ")


def strip_note(scored: bool, samples: int, all_samples: int, frames: int, all_frames: int) -> str:
    """Return the note below a figure."""
    note = []
    if scored:
        note.append("below each frame: probability of the target (bold if predicted), then any other predicted class")
    if samples < all_samples:
        note.append(f"the first {samples} of {all_samples} samples")
    if frames < all_frames:
        note.append(f"{frames} of {all_frames} frames")
    return "; ".join(note)


def _predictions(morphs: Morphs, class_names: Names) -> list[list[str]]:
    """Return text about each frame's predicted class; "" if it is the target, or not known."""
    at = (morphs._rows, *morphs._index[1:])
    classes, best = (t.movedim(1, -1)[at].tolist() for t in (morphs.predictions, morphs.probabilities.amax(2)))

    def line(predicted: list[int], probability: list[float], target: list[int]) -> list[str]:
        name = lambda c: _state_name(c, target, morphs, class_names)
        text = lambda c, p: "" if c in (-1, target[0]) else predicted_text(name(c), p)
        return list(map(text, predicted, probability))

    return list(map(line, classes, best, morphs.target.reshape(len(morphs), -1).tolist()))


def _state_name(number: int, target: list[int], morphs: Morphs, class_names: Names) -> str:
    """Return the name of a class or, for task "multilabel", of a label, with "not" if it is absent.

    ``target`` is [class, *position] or, for "multilabel", [0 or 1, label, *position].
    """
    if morphs.settings.get("task") != "multilabel":
        return _class_name(number, class_names)
    label = _class_name(target[1], class_names)
    return label if number else f"not {label}"


def _maps(morphs: Morphs, at: list[int]) -> list[tuple[np.ndarray, float]]:
    """Return the difference maps of the frames ``at``, for each sample.

    They are relative to the frame whose factors are nearest to 0.
    """
    change = morphs.factors.abs()
    change = change if morphs.amplitude_factors is None else change + morphs.amplitude_factors.abs()
    maps = []
    for frames, source in zip(morphs.frames, change.argmin(1).tolist()):
        pictures = frames[[source, *at]].double().movedim(1, -1).numpy()
        pictures = pictures[..., 0] if pictures.shape[-1] == 1 else pictures
        drawn, scale = difference_maps(pictures, source=0)
        maps.append((drawn[1:], scale))
    return maps


def _number(probability: float) -> str:
    if probability != probability:
        return ""
    return f"{probability:.1g}" if 0 < probability < 0.01 else f"{probability:.2f}"


def _select(morphs: Morphs, frames: Frames, samples: int | None, default: int | None) -> tuple[Morphs, list[int]]:
    """Return the selected samples and frames, on the CPU, and the indices of these frames."""
    if not isinstance(morphs, Morphs):
        raise TypeError(f"morphs must be Morphs, got {type(morphs).__name__}")
    if not morphs.frames.numel():
        raise ValueError(f"morphs must have at least one frame of one sample, got {list(morphs.frames.shape)}")
    if morphs.frames.shape[2] not in (1, 3):
        raise ValueError(f"frames must have 1 channel (grey) or 3 (RGB) to be drawn, got {morphs.frames.shape[2]}")
    chosen = morphs[: check_int("samples", SAMPLES if samples is None else samples, 1, None)]
    at = _frame_numbers(frames, morphs.frames.shape[1], default)
    by_frame = ("frames", "factors", "amplitude_factors", "outputs", "l2")
    some = {name: t[:, at] for name, t in chosen.tensors().items() if name in by_frame}
    return replace(chosen, **some).detach().cpu(), at


def _frame_numbers(frames: Frames, count: int, default: int | None) -> list[int]:
    if frames is None or is_int(frames):
        n = min(check_int("frames", frames if frames is not None else default or count, 1, None), count)
        return [round(i * (count - 1) / (n - 1)) for i in range(n)] if n > 1 else [count - 1]
    frames = as_list(frames)
    if isinstance(frames, str) or not isinstance(frames, Sequence) or not all(map(is_int, frames)) or not frames:
        raise TypeError(f"frames must be an int or a sequence of ints, got {shown(frames)}")
    if not all(-count <= i < count for i in frames):
        raise IndexError(f"frames must lie within the {count} frames, got {shown(frames)}")
    return [index(i) % count for i in frames]


def to_pixels(morphs: Morphs) -> np.ndarray:
    """Convert frames to uint8 [B, F, H, W] or [B, F, H, W, 3].

    The bounds or, without bounds, the lowest and highest value of each sample become 0 and 255.
    """
    frames = morphs.frames.double()
    bounds = check_bounds(morphs.settings.get("bounds", (0, 1)))
    if bounds is None:
        flat = frames.flatten(1)
        finite = flat.isfinite()
        low = flat.masked_fill(~finite, torch.inf).amin(1)[:, None, None, None, None]
        high = flat.masked_fill(~finite, -torch.inf).amax(1)[:, None, None, None, None]
    else:
        low, high = bounds
    unit = ((frames - low) / (high - low)).nan_to_num(0).clamp(0, 1)
    pixels = (unit * 255).round().byte().movedim(2, -1)
    return (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).contiguous().numpy()


def _names_to_show(class_names: Names, morphs: Morphs) -> Names:
    """Return the names to show: a mapping as it is, or a sequence of short names, see :func:`short_names`."""
    if isinstance(class_names, Mapping):  # may have only some of the classes
        return class_names
    return short_names(morphs.class_names if class_names is None else list(map(str, class_names)))


def _pair_texts(morphs: Morphs, class_names: Names) -> list[str]:
    """Return the text "source → target" for each sample, with the target's position if it has one."""
    names, is_multilabel = [], morphs.settings.get("task") == "multilabel"
    for target, source in zip(morphs.target.reshape(len(morphs), -1).tolist(), morphs.source):
        position = tuple(target[2:] if is_multilabel else target[1:])
        where = f" at {position}" if position else ""
        before = int(source[tuple(target[1:])] if source.dim() else source)
        both = (_state_name(number, target, morphs, class_names) for number in (before, target[0]))
        names.append(pair_text(*both) + where)
    return names


def _row_labels(data: StripData) -> list[str]:
    """Return the label of each row: its name and remark, with line breaks."""
    wrap = lambda name: textwrap.wrap(name, LABEL_WIDTH, max_lines=4, placeholder=" …")
    remarks = (textwrap.wrap(text, LABEL_WIDTH) for text in data.remarks)
    return ["\n".join(wrap(name) + text) for name, text in zip(data.names, remarks)]


def _check_names(class_names: Names, morphs: Morphs) -> None:
    """Raise unless names are a mapping, or a sequence with a name for each class."""
    if class_names is None or isinstance(class_names, Mapping):
        return
    if isinstance(class_names, str) or not isinstance(class_names, Sequence):
        raise TypeError(f"class_names must be a sequence or a mapping of str, got {shown(class_names)}")
    count = number_of_classes(morphs.outputs[:, 0], str(morphs.settings.get("task")))
    check_class_names("class_names", class_names, count)


def _class_name(number: int, class_names: Names) -> str:
    if class_names is None:
        return str(number)
    try:
        return str(class_names[number])
    except KeyError:
        raise ValueError(f"class_names must have a name for class {number}, got {len(class_names)} names") from None


def _headers(data: StripData) -> tuple[list[str], list[list[str]]]:
    """Return the header of each column, and the text below each frame."""
    headers, distances = _header_numbers(data)
    distances = distances or [[""] * len(data.frames)] * len(data.names)
    lines = lambda p, prediction, distance: "\n".join(filter(None, (_number(p), prediction, distance)))
    captions = [list(map(lines, *row)) for row in zip(data.probability, data.prediction, distances)]
    return headers or [f"frame {f}" for f in data.frames], captions


def _header_numbers(data: StripData) -> tuple[list[str] | None, list[list[str]] | None]:
    """Return distances or factors as headers of the columns, and distances as texts below the frames.

    The headers are None if neither the distances nor the factors are equal in all rows. The texts are None if the
    headers show the distances.
    """
    l2 = _Numbers(data.l2, data.missed)
    factors, amplitudes = _Numbers(data.factors), _Numbers(data.amplitude_factors)
    distances = [[f"L2 {x}" for x in row] for row in l2.text]
    if l2.same and (data.by_distance or not (factors.same and amplitudes.same)):
        return distances[0], None
    if not (factors.same and amplitudes.same):
        return None, distances
    if not amplitudes.text:
        return [f"factor {x}" for x in factors.text[0]], distances
    pairs = zip(factors.text[0], amplitudes.text[0])
    return [f"phase {phase}\namplitude {amplitude}" for phase, amplitude in pairs], distances


class _Numbers:
    """A table [B, F] of numbers as text.

    Values below 0.1 % of the largest value are shown as 0. ``same`` says whether all rows are equal within 0.5 % and,
    if a row has ``missed`` a distance, have equal texts.
    """

    def __init__(self, table: torch.Tensor | None, missed: list[list[float]] | None = None):
        table = torch.zeros(0, 0, device="cpu") if table is None else table.double()
        negligible = 1e-3 * table.abs().nan_to_num(0, 0, 0).amax() if table.numel() else 0.0
        self.same = bool(((table - table[:1]).abs() <= 5e-3 * table[:1].abs() + negligible).all())
        rows = zip(table.tolist(), missed or [[]] * len(table))
        self.text = [["0" if abs(x) <= negligible else distance_text(x, far) for x in row] for row, far in rows]
        self.same &= not any(missed or ()) or all(row == self.text[0] for row in self.text)


# --- Figures ---------------------------------------------------------------------------------------------------------


def _new_figure(shape: tuple[int, ...], labels: list[str], captions: list[list[str]]) -> Figure:
    """Return a figure, sized so that panels have no gaps; ``shape`` is [rows, F, H, W, ...]."""
    tall = min(max(shape[2] / shape[3], 0.4), 2.5)  # height of a panel divided by its width
    widest = max(len(line) for label in labels for line in label.split("\n"))
    max_lines = max(len(caption.split("\n")) for row in captions for caption in row)
    # In inches: a letter of a label is 0.085 wide, a line of a caption 0.13 high; title, headers and note take 0.8.
    inches = (
        PANEL_INCHES * shape[1] + 0.085 * widest + 0.15,
        (PANEL_INCHES * tall + 0.03) * shape[0] + 0.13 * max_lines * len(captions) + 0.8,  # maps have no captions
    )
    return require_extra("plot", "matplotlib.figure").Figure(figsize=inches, layout="constrained", dpi=DPI)


def draw_panel(axes, picture: np.ndarray, caption: str = "", reached: bool = False) -> None:
    """Draw an image, uint8 [H, W] or [H, W, 3], and the text below it."""
    # A panel is about 200 dots wide. With "nearest", large images would lose, or double, single rows and columns.
    smooth = "auto" if picture.shape[1] > 128 else "nearest"
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=smooth)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(caption, fontsize=8, labelpad=2, parse_math=False, **caption_style(reached))


def caption_style(reached: bool) -> dict[str, str]:
    """Return matplotlib's options for the text below a frame."""
    return {"color": REACHED, "weight": "bold"} if reached else {"color": MUTED}


# --- Animations ------------------------------------------------------------------------------------------------------


def tile(pictures: np.ndarray, captions: Sequence[str], reached: Sequence[bool]) -> Image:
    """Arrange n images, uint8 [n, H, W] or [n, H, W, 3], in one image.

    Small images are enlarged to ``SIDE`` pixels or more. Captions have two lines.
    """
    pil, drawing = require_extra("plot", "PIL.Image"), require_extra("plot", "PIL.ImageDraw")
    n, h, w = pictures.shape[:3]
    zoom = -(-SIDE // max(h, w))
    columns = n if n <= 4 else int(np.ceil(np.sqrt(n)))
    wide, high = max(w * zoom, SIDE) + GAP, h * zoom + 3 * FONT_SIZE + GAP
    rows, colour = -(-n // columns), pictures.ndim == 4
    canvas = pil.new("RGB" if colour else "L", (columns * wide + GAP, rows * high + GAP), "white")
    draw = drawing.Draw(canvas)
    for i, (picture, caption, is_reached) in enumerate(zip(pictures, captions, reached)):
        x, y = GAP + i % columns * wide, GAP + i // columns * high
        picture = pil.fromarray(picture).resize((w * zoom, h * zoom), pil.Resampling.NEAREST)
        canvas.paste(picture, (x + (wide - GAP - w * zoom) // 2, y))
        middle, top, font = x + (wide - GAP) / 2, y + h * zoom + 3, _font(is_reached)
        for k, line in enumerate(caption.split("\n")):
            line = _shorten_to(line, font, wide - 2)
            draw.text((middle, top + k * (FONT_SIZE + 4)), line, REACHED if is_reached else MUTED, font, anchor="ma")
    return canvas


def write_animation(pictures: Sequence[Image], file: BinaryIO, format: str) -> None:
    """Write an endless animation, forward then backward, with a pause at the first and last frame."""
    last = len(pictures) - 1
    if format == "gif":
        pictures = [_with_palette(p) for p in pictures]
    there_and_back = [*range(last + 1), *range(last - 1, 0, -1)]
    first, *rest = [pictures[i] for i in there_and_back]
    durations = [HOLD_MS if i in (0, last) else FRAME_MS for i in there_and_back]
    options = {"optimize": False} if format == "gif" else {"lossless": True}
    first.save(file, format=format.upper(), save_all=True, append_images=rest, duration=durations, loop=0, **options)


def _with_palette(picture: Image) -> Image:
    """Convert an RGB image to a palette of 256 colours; return a grey image unchanged."""
    if picture.mode == "L":
        return picture
    pil = require_extra("plot", "PIL.Image")
    # Fast octree quantisation is 20 times as fast as median cut. With dithering, it is better for photographs, but
    # worse for pictures with few colours.
    method = pil.Quantize.FASTOCTREE if picture.getcolors(MAX_MEDIAN_CUT_COLOURS) is None else pil.Quantize.MEDIANCUT
    colours = picture.quantize(256, method)
    return picture.quantize(palette=colours, dither=pil.Dither.FLOYDSTEINBERG)


def _font(bold: bool):
    # The font that matplotlib installs has an arrow and the letters of most scripts; Pillow's default font has not.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    folder = require_extra("plot", "matplotlib").get_data_path()
    return require_extra("plot", "PIL.ImageFont").truetype(f"{folder}/fonts/ttf/{name}", FONT_SIZE)


def _shorten_to(line: str, font, width: float) -> str:
    """Return a line, with its end replaced by "…" if it is wider than ``width`` pixels."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
