"""Strips and animations of morphs, for papers, notebooks and pages. Needs the extra ``steerlens_fast[plot]``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from ..checks import check_bool, check_bounds, check_int, is_int
from ..extras import require_extra
from .container import Morphs, method_words
from .differences import difference_maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

REACHED, NOT_YET, NOT_OK = "#00695c", "#757575", "#b00020"  # text: the model says target, or does not; no morph at all
PANEL_INCHES, DPI = 1.25, 170
FRAMES, SAMPLES = 8, 16  # shown by default
LABEL_WIDTH = 18  # of a row, in letters
NAME_WIDTH = 14  # of a predicted class below a frame
ALREADY, NOT_ATTAINED = "predicted as the target already", "distance not attained"
SIDE, GAP, FONT_SIZE = 144, 8, 13  # of an animation, in pixels: least side of an image, between images, of captions
FRAME_MS, HOLD_MS = 110, 900

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
    """Plot morphs as strips: a row for each sample, a column for each frame.

    Parameters
    ----------
    morphs : Morphs
        Of one channel (grey) or three (RGB).
    frames : int or sequence of int, optional
        How many frames, evenly spaced from the first to the last, or which. By default 8, or all where there are fewer.
    samples : int, optional
        How many of the first samples, by default 16. The figure says how many are left out.
    class_names : sequence of str or mapping from int to str, optional
        What to call the classes; by default their numbers.
    differences : bool
        Whether to add a second row for each sample: each frame's signed difference from the source frame, the one whose
        factor is 0 or nearest to it. Grey images: blue is darker, red is brighter. RGB: each channel around mid-grey.
        The largest difference, which has the strongest colour, stands at the left, in units of the images.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw; by default a new one of fitting size. It is not registered with pyplot: use ``figure.savefig``,
        or let a notebook display it.

    Returns
    -------
    matplotlib.figure.Figure
        Its axes carry labels: ``"sample i frame j"``, and ``"sample i difference j"``.

    Raises
    ------
    TypeError, ValueError, IndexError
        Naming the argument, what was expected and what came.
    ImportError
        Where matplotlib is not installed.

    Notes
    -----
    At the left of a row stands source -> target, below each frame the target's probability, bold where the model takes
    the frame for its target; where it predicts another class, that class and its probability; nothing where the model
    was not asked. Nothing is bold in a sample that is not ``ok`` or whose source is predicted as the target already:
    its row says so, as it does where a distance is not attained. Above a column stands the factor or the L2 distance
    that all rows share, the distance first where budgets were asked for; distances that differ stand below the frames.
    ``settings["bounds"]`` are black and white; where they are None, each row's own least and largest value.

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
    """The figure of :func:`plot_morphs`, whatever its numbers and pictures come from."""
    names, (headers, captions) = _row_labels(data), _headers(data)
    rows = [(b, is_map) for b in range(len(data.names)) for is_map in ((False, True) if data.maps else (False,))]
    if figure is None:
        figure = _new_figure((len(rows), *data.pictures.shape[1:]), names, captions)
    for (b, is_map), axes_of_row in zip(rows, figure.subplots(len(rows), len(data.frames), squeeze=False)):
        maps, scale = data.maps[b] if is_map else (None, 0.0)
        for f, axes in enumerate(axes_of_row):
            axes.set_label(f"sample {b} {'difference' if is_map else 'frame'} {data.frames[f]}")
            if is_map:
                draw_panel(axes, maps[f], "", False)
                continue
            draw_panel(axes, data.pictures[b, f], captions[b][f], bool(data.reached[b, f]))
            if b == 0:
                axes.set_title(headers[f], fontsize=9, pad=4)
        text = f"difference\n±{scale:.2g}" if is_map else names[b]
        style = {"fontsize": 10} if not data.remarks[b] else {"fontsize": 8, "color": NOT_OK}
        style = {"fontsize": 8, "color": NOT_YET} if is_map else style
        # parse_math: a "$" in a class name is a dollar
        axes_of_row[0].set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6, parse_math=False, **style)
    figure.suptitle(data.title, fontsize=11)
    figure.supxlabel(textwrap.fill(data.note, 20 * len(data.frames) + 10), fontsize=8, color=NOT_YET)
    return figure


def save_figure(morphs: Morphs, file: BinaryIO, *, format: str, **how) -> None:
    """:func:`plot_morphs`, written."""
    plot_morphs(morphs, **how).savefig(file, format=format)


def animate_morphs(
    morphs: Morphs,
    file: BinaryIO,
    *,
    format: str = "gif",
    frames: Frames = None,
    samples: int | None = None,
    class_names: Names = None,
) -> None:
    """Write an animation, "gif" or "webp" (lossless), of all samples beside each other, to their targets and back.

    Small images are enlarged. Parameters and captions are those of :func:`plot_morphs`; all frames by default.

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
    """A picture for each frame: all samples beside each other, with classes and probability below."""
    tiled = []
    for f in range(len(data.frames)):
        captions = []
        for b, name in enumerate(data.names):
            line = [_number(data.probability[b, f]), data.remarks[b] or data.prediction[b][f]]
            captions.append(f"{name}\n{'; '.join(filter(None, line))}")
        tiled.append(tile(data.pictures[:, f], captions, data.reached[:, f].tolist()))
    return tiled


# --- What is shown ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StripData:
    """B rows of F frames: what strips and animations show, of :class:`Morphs` or of a job's record.

    Attributes
    ----------
    pictures : array [B, F, H, W] or [B, F, H, W, 3], uint8
    frames : list of int
        The frames' numbers.
    names, remarks : list of str
        Of each row: "source -> target"; why it is no success, or "".
    probability : array [B, F]
        Of the target; NaN where not scored.
    prediction : list of lists of str
        The predicted class and its probability, "" where it is the target or not scored.
    reached : array [B, F], bool
    l2, factors, amplitude_factors : Tensor [B, F]
        The last may be None.
    by_distance : bool
        Whether distances were asked for.
    title, note : str
    maps : list of (array [F, H, W, 3], float) or None
        Of each row: pictures of its frames' differences from the source, and their scale.
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
    """What is shown of some samples and frames of morphs; ``default`` frames where ``frames`` is None."""
    shown, at = _shown(morphs, frames, samples, default)
    already, probability, remarks = _already_predicted(shown), shown.target_probability.double(), []
    for b, reason in enumerate(shown.reasons):
        attained = shown.attained is None or bool(shown.attained[b].all())
        remarks.append(remark(reason, bool(already[b]), attained))
    counts = (len(shown), len(morphs), len(at), morphs.frames.shape[1])
    return StripData(
        pictures=to_pixels(shown),
        frames=at,
        names=_names(shown, class_names),
        remarks=remarks,
        probability=probability.numpy(),
        prediction=_predictions(shown, class_names),
        reached=(shown.reached & probability.isfinite() & (shown.ok & ~already)[:, None]).numpy(),
        l2=shown.l2,
        factors=shown.factors,
        amplitude_factors=shown.amplitude_factors,
        by_distance=morphs.budget is not None,
        title=", ".join(method_words(shown.settings)),
        note=strip_note(not shown.outputs.isnan().all(), *counts),
        maps=_maps(morphs[: len(shown)].detach().cpu(), at) if differences else None,
    )


def remark(reason: str | None, already: bool, attained: bool) -> str:
    """Why a row is no success, or "": what failed, a source predicted as the target already, a distance not attained.

    Examples
    --------
    >>> remark(None, already=True, attained=False), remark("the gradient is zero", already=True, attained=True)
    ('predicted as the target already; distance not attained', 'the gradient is zero')
    """
    if reason:
        return reason
    return "; ".join(filter(None, [ALREADY if already else "", "" if attained else NOT_ATTAINED]))


def predicted_text(name: str, probability: float) -> str:
    """A predicted class below a frame.

    Examples
    --------
    >>> predicted_text("tiger cat", 0.617), predicted_text("loggerhead sea turtle", 0.617)
    ('tiger cat: 0.62', 'loggerhead se…: 0.62')
    """
    short = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
    return f"{short}: {_number(probability)}".removesuffix(": ")


def strip_note(scored: bool, samples: int, all_samples: int, frames: int, all_frames: int) -> str:
    """What stands below a figure."""
    note = []
    if scored:
        note.append(
            "below each frame: the target's probability, bold where it is predicted; otherwise the predicted class"
        )
    if samples < all_samples:
        note.append(f"the first {samples} of {all_samples} samples")
    if frames < all_frames:
        note.append(f"{frames} of {all_frames} frames")
    return "; ".join(note)


def _already_predicted(morphs: Morphs) -> torch.Tensor:
    """[B] bool: whether the source is predicted as the target."""
    target, source = morphs.target.reshape(len(morphs), -1), morphs.source
    if source.dim() > 1:  # of all positions
        source = source[(morphs._rows, *target[:, 1:].unbind(1))]
    return source == target[:, 0]


def _predictions(morphs: Morphs, class_names: Names) -> list[list[str]]:
    """The predicted class at the target's position, and its probability; "" where it is the target or not scored."""
    at = (morphs._rows, *morphs._index[1:])
    classes, best = (t.movedim(1, -1)[at].tolist() for t in (morphs.predictions, morphs.probabilities.amax(2)))

    def line(predicted: list[int], probability: list[float], target: list[int]) -> list[str]:
        name = lambda c: _state_name(c, target, morphs, class_names)
        text = lambda c, p: "" if c in (-1, target[0]) else predicted_text(name(c), p)
        return list(map(text, predicted, probability))

    return list(map(line, classes, best, morphs.target.reshape(len(morphs), -1).tolist()))


def _state_name(number: int, target: list[int], morphs: Morphs, class_names: Names) -> str:
    """A class's name; where labels are independent of each other, the target's label, or that it is absent."""
    if morphs.settings.get("task") != "multilabel" or len(target) != 2:
        return _class_name(number, class_names)
    label = _class_name(target[1], class_names)
    return label if number else f"not {label}"


def _maps(morphs: Morphs, at: list[int]) -> list[tuple[np.ndarray, float]]:
    """Of each sample: the differences of its frames ``at`` from the frame that is the source, or nearest to it."""
    size = morphs.factors.abs()
    size = size if morphs.amplitude_factors is None else size + morphs.amplitude_factors.abs()
    maps = []
    for frames, source in zip(morphs.frames, size.argmin(1).tolist()):
        pictures = frames[[source, *at]].double().movedim(1, -1).numpy()
        pictures = pictures[..., 0] if pictures.shape[-1] == 1 else pictures
        drawn, scale = difference_maps(pictures, source=0)
        maps.append((drawn[1:], scale))
    return maps


def _number(probability: float) -> str:
    return f"{probability:.2f}" if probability == probability else ""


def _shown(morphs: Morphs, frames: Frames, samples: int | None, default: int | None) -> tuple[Morphs, list[int]]:
    """The samples and frames that are drawn, on the CPU, and which frames these are."""
    if not isinstance(morphs, Morphs):
        raise TypeError(f"morphs must be Morphs, got {type(morphs).__name__}")
    if not morphs.frames.numel():
        raise ValueError(f"morphs must hold at least one frame of one sample, got {list(morphs.frames.shape)}")
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
    if isinstance(frames, str) or not isinstance(frames, Sequence) or not all(map(is_int, frames)) or not frames:
        raise TypeError(f"frames must be an int or a sequence of ints, got {frames!r}")
    if not all(-count <= i < count for i in frames):
        raise IndexError(f"frames must lie within the {count} frames, got {frames!r}")
    return [i % count for i in frames]


def to_pixels(morphs: Morphs) -> np.ndarray:
    """Frames as uint8 [B, F, H, W] or [B, F, H, W, 3]: the bounds become 0 and 255."""
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


def _names(morphs: Morphs, class_names: Names) -> list[str]:
    """ "source -> target" of each sample."""
    names, labels = [], morphs.settings.get("task") == "multilabel"
    for target, source in zip(morphs.target.reshape(len(morphs), -1).tolist(), morphs.source):
        position = () if labels and len(target) == 2 else tuple(target[1:])
        where = f" at {position}" if position else ""
        before = int(source[tuple(target[1:])] if source.dim() else source)
        both = (_state_name(number, target, morphs, class_names) for number in (before, target[0]))
        names.append(f"{' → '.join(both)}{where}")
    return names


def _row_labels(data: StripData) -> list[str]:
    """The names, wrapped, and the remarks."""
    wrap = lambda name: textwrap.wrap(name, LABEL_WIDTH, max_lines=4, placeholder=" …")
    remarks = (textwrap.wrap(text, LABEL_WIDTH) for text in data.remarks)
    return ["\n".join(wrap(name) + text) for name, text in zip(data.names, remarks)]


def _class_name(number: int, class_names: Names) -> str:
    if class_names is None:
        return str(number)
    if isinstance(class_names, str) or not isinstance(class_names, (Sequence, Mapping)):
        raise TypeError(f"class_names must be a sequence or a mapping of str, got {class_names!r}")
    try:
        return str(class_names[number])
    except (IndexError, KeyError):
        raise ValueError(f"class_names must have a name for class {number}, got {len(class_names)} names") from None


def _headers(data: StripData) -> tuple[list[str], list[list[str]]]:
    """What stands above each column, and below each frame."""
    above, below = _shared(data)
    below = below or [[""] * len(data.frames)] * len(data.names)
    lines = lambda p, prediction, distance: "\n".join(filter(None, (_number(p), prediction, distance)))
    captions = [list(map(lines, *row)) for row in zip(data.probability, data.prediction, below)]
    return above or [f"frame {f}" for f in data.frames], captions


def _shared(data: StripData) -> tuple[list[str] | None, list[list[str]] | None]:
    """Distances or factors of each column that all rows share, if any; and the distances, where they are not these."""
    l2, factors, amplitudes = map(_Numbers, (data.l2, data.factors, data.amplitude_factors))
    distances = [[f"L2 {x}" for x in row] for row in l2.text]
    if l2.same and (data.by_distance or not (factors.same and amplitudes.same)):
        return distances[0], None
    if not (factors.same and amplitudes.same):
        return None, distances
    if not amplitudes.text:
        return [f"factor {x}" for x in factors.text[0]], distances
    return [f"phase {b}\namplitude {a}" for b, a in zip(factors.text[0], amplitudes.text[0])], distances


class _Numbers:
    """A table [B, F]: its text, zeros where rounding has left a little, and whether all rows are the same."""

    def __init__(self, table: torch.Tensor | None):
        table = torch.zeros(0, 0, device="cpu") if table is None else table.double()
        least = 1e-3 * table.abs().nan_to_num(0, 0, 0).amax() if table.numel() else 0.0
        self.same = bool(((table - table[:1]).abs() <= 5e-3 * table[:1].abs() + least).all())
        self.text = [["0" if abs(x) <= least else f"{x:.3g}" for x in row] for row in table.tolist()]


# --- Figures ---------------------------------------------------------------------------------------------------------


def _new_figure(shape: tuple[int, ...], names: list[str], captions: list[list[str]]) -> Figure:
    """Of a size that leaves no gaps between panels of ``shape`` [B, F, H, W, ...]."""
    tall = min(max(shape[2] / shape[3], 0.4), 2.5)  # a panel's height over its width
    widest = max(len(line) for name in names for line in name.split("\n"))
    most = max(len(caption.split("\n")) for row in captions for caption in row)
    inches = (
        PANEL_INCHES * shape[1] + 0.085 * widest + 0.15,
        (PANEL_INCHES * tall + 0.03) * shape[0] + 0.13 * most * len(captions) + 0.8,  # maps have no captions
    )
    return require_extra("plot", "matplotlib.figure").Figure(figsize=inches, layout="constrained", dpi=DPI)


def draw_panel(axes, picture: np.ndarray, caption: str, reached: bool) -> None:
    """A picture uint8 [H, W] or [H, W, 3] and what is said below it."""
    smooth = "auto" if picture.shape[1] > 128 else "nearest"  # more pixels than a panel has dots
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=smooth)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    style = {"color": REACHED, "weight": "bold"} if reached else {"color": NOT_YET}
    axes.set_xlabel(caption, fontsize=8, labelpad=2, parse_math=False, **style)


# --- Animations ------------------------------------------------------------------------------------------------------


def tile(pictures: np.ndarray, captions: Sequence[str], reached: Sequence[bool]) -> Image:
    """Pictures uint8 [n, H, W] or [n, H, W, 3], enlarged, in rows, each with its caption of two lines."""
    pil, drawing = require_extra("plot", "PIL.Image"), require_extra("plot", "PIL.ImageDraw")
    n, h, w = pictures.shape[:3]
    zoom = -(-SIDE // max(h, w))
    columns = n if n <= 4 else int(np.ceil(np.sqrt(n)))
    wide, high = max(w * zoom, SIDE) + GAP, h * zoom + 3 * FONT_SIZE + GAP
    rows, colour = -(-n // columns), pictures.ndim == 4
    canvas = pil.new("RGB" if colour else "L", (columns * wide + GAP, rows * high + GAP), "white")
    draw = drawing.Draw(canvas)
    for i, (picture, caption, says) in enumerate(zip(pictures, captions, reached)):
        x, y = GAP + i % columns * wide, GAP + i // columns * high
        picture = pil.fromarray(picture).resize((w * zoom, h * zoom), pil.Resampling.NEAREST)
        canvas.paste(picture, (x + (wide - GAP - w * zoom) // 2, y))
        middle, top, font = x + (wide - GAP) / 2, y + h * zoom + 3, _font(says)
        for k, line in enumerate(caption.split("\n")):
            line = _fitting(line, font, wide - 2)
            draw.text((middle, top + k * (FONT_SIZE + 4)), line, REACHED if says else NOT_YET, font, anchor="ma")
    return canvas


def write_animation(pictures: Sequence[Image], file: BinaryIO, format: str) -> None:
    """Pictures there and back, again and again, with a rest at both ends."""
    last = len(pictures) - 1
    if format == "gif":
        pictures = [_with_palette(p) for p in pictures]
    there_and_back = [*range(last + 1), *range(last - 1, 0, -1)]
    first, *rest = [pictures[i] for i in there_and_back]
    durations = [HOLD_MS if i in (0, last) else FRAME_MS for i in there_and_back]
    how = {"optimize": False} if format == "gif" else {"lossless": True}
    first.save(file, format=format.upper(), save_all=True, append_images=rest, duration=durations, loop=0, **how)


def _with_palette(picture: Image) -> Image:
    """256 colours of its own, dithered; 256 greys are there as they are."""
    if picture.mode == "L":
        return picture
    colours = picture.quantize(256)
    return picture.quantize(palette=colours, dither=require_extra("plot", "PIL.Image").Dither.FLOYDSTEINBERG)


def _font(bold: bool):
    # Pillow's own font has no arrow; matplotlib's has most scripts.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    folder = require_extra("plot", "matplotlib").get_data_path()
    return require_extra("plot", "PIL.ImageFont").truetype(f"{folder}/fonts/ttf/{name}", FONT_SIZE)


def _fitting(line: str, font, width: float) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
