"""``Morphs``, the result of a lens."""

from __future__ import annotations

import json
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import check_bool, is_int, shown
from ..classifier.class_names import short_names
from ..extras import MissingExtra, require_extra
from ..io.atomic_io import atomic_write
from ..io.tensor_files import as_json, read_tensors, write_tensors
from ..morph_status import MorphStatus
from .distance_text import distance_text

MIN_FALL = 0.01  # share of the highest target probability; smaller decreases may be rounding errors
MAX_PAIRS = 3  # class pairs that repr() shows
INDEX_TYPES = "an int, a slice, or a list or tensor [n] of ints or bools"  # for error messages
FIGURES, ANIMATIONS, TENSORS = (".png", ".pdf", ".svg"), (".gif", ".webp"), (".safetensors",)


@dataclass(frozen=True, eq=False)
class Morphs:
    """B images, each morphed toward a target class in F frames.

    Indexing, slicing and iterating select samples and return ``Morphs``; an int selects a single sample.

    Attributes
    ----------
    frames : Tensor [B, F, C, H, W], floating point
        The frames, clipped to the bounds. The tensor may be non-contiguous, since the lens stores the axis F first.
    factors : Tensor [B, F]
        The factor of each frame, by which the step was multiplied. If there are several steps, each with a new gradient,
        it is the sum of their factors up to this frame. For families that change phases and amplitudes, it is the
        factor of the phases.
    amplitude_factors : Tensor [B, F] or None
        Factors of the amplitudes; None if they equal ``factors``.
    target : Tensor [B], int64
        The target class. For outputs with more dimensions after the classes, [B, k]: the class, and an index for each of
        these k - 1 dimensions.
    source : Tensor [B], int64
        The class that the model predicts for the source image, at the target's position. May also be [B, ...], with the
        class at each position.
    outputs : Tensor [B, F, classes, ...]
        Class scores of each frame; NaN for frames on which the model was not run.
    l2 : Tensor [B, F]
        L2 distance of each frame from the source.
    budget : Tensor [B, M] or None
        Requested L2 distances: M = 1 for ``max_l2``, or all M of ``distances``; None if factors were given.
    attained : Tensor [B] or [B, M], bool, or None
        Whether the last frame reached ``max_l2`` [B], or which of the ``distances`` were reached [B, M].
    status : Tensor [B], int64
        0 if the morph succeeded, otherwise what went wrong: a :class:`steerlens_fast.MorphStatus`.
    settings : dict
        Settings of the lens: family, rule, regime, objective, bounds and others; JSON-serialisable.
    gradient_norm : Tensor [B] or None
        L2 norm of the objective's gradient with respect to the source image.
    stopped : Tensor [B], int64, or None
        The step, counted from 1, at which a morph stopped because its gradient was zero, too small, infinite or NaN; 0
        if it did not stop. None in the regime "frozen".

    Examples
    --------
    >>> import torch
    >>> frames = torch.rand(2, 3, 1, 8, 8)
    >>> outputs = torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 4.0]]).log_softmax(-1).expand(2, 3, 2)
    >>> zero, one = torch.tensor([0, 0]), torch.tensor([1, 1])
    >>> factors = torch.tensor([0.0, 1.0, 2.0]).expand(2, 3)
    >>> morphs = Morphs(frames, factors, None, one, zero, outputs, 3 * factors, None, None, zero, {"family": "pixel"})
    >>> morphs
    Morphs(2 x 3 frames of 1 x 8 x 8, float32, cpu, pixel; target probability 0.018 -> 0.982 (median); l2 6 (median, last frame))
    >>> len(morphs), morphs[1].frames.shape, morphs.reasons
    (2, torch.Size([1, 3, 1, 8, 8]), [None, None])
    >>> morphs.predictions[0], morphs.target_probability[0]
    (tensor([0, 0, 1]), tensor([0.0180, 0.5000, 0.9820]))
    """  # noqa: E501  (a representation is one line)

    frames: Tensor
    factors: Tensor
    amplitude_factors: Tensor | None
    target: Tensor
    source: Tensor
    outputs: Tensor
    l2: Tensor
    budget: Tensor | None
    attained: Tensor | None
    status: Tensor
    settings: dict[str, object]
    gradient_norm: Tensor | None = None
    stopped: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.frames, Tensor) or self.frames.dim() != 5:
            raise ValueError(f"frames must be a tensor [B, F, C, H, W], got {_shape(self.frames)}")
        samples, frames = self.frames.shape[:2]
        for name, t in vars(self).items():
            if name == "settings" or t is None:
                continue
            of_frames = name in ("factors", "amplitude_factors", "outputs", "l2")
            shape = t.shape if isinstance(t, Tensor) else ()
            if shape[:1] != (samples,) or (of_frames and shape[1:2] != (frames,)):
                known = f"{samples}, {frames}" if of_frames else f"{samples}"
                raise ValueError(f"{name} must be a tensor [{known}] or [{known}, ...], got {_shape(t)}")
        if self.outputs.dim() < 3:
            raise ValueError(f"outputs must be a tensor [B, F, classes, ...], got {_shape(self.outputs)}")
        indices = self.target.shape[1:].numel() if samples else None
        if indices not in (None, self.outputs.dim() - 2):
            expected = f"[B, {self.outputs.dim() - 2}] for outputs {_shape(self.outputs)}"
            raise ValueError(
                f"target must be [B] for outputs [B, F, classes], or {expected}, got {_shape(self.target)}"
            )

    # --- Results

    @property
    def ok(self) -> Tensor:
        """Whether each morph succeeded, [B] bool."""
        return self.status == 0

    @property
    def reasons(self) -> list[str | None]:
        """For each morph, why it failed; None if it succeeded."""
        steps = [0] * len(self) if self.stopped is None else self.stopped.tolist()
        reasons = (
            MorphStatus(s).reason + (f", at step {n}" if n > 1 else "") for s, n in zip(self.status.tolist(), steps)
        )
        return [reason or None for reason in reasons]

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, from the lens or the model; None if neither has names."""
        names = self.settings.get("class_names")
        return list(names) if isinstance(names, (list, tuple)) else None

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the outputs [B, F, classes, ...]; NaN where the model was not run.

        The shape is [B, F, 2] for task "binary". For "multilabel" it is [B, F, 2, L]; ``[:, :, 1]`` has the
        probabilities of the labels.
        """
        return self.outputs.softmax(2, dtype=torch.promote_types(self.outputs.dtype, torch.float32))

    @property
    def target_probability(self) -> Tensor:
        """Probability of the target in each frame, [B, F]."""
        return self.probabilities.movedim(1, -1)[(self._rows, *self._index)]

    @property
    def predictions(self) -> Tensor:
        """Most probable class of each frame, [B, F, ...] int64; -1 where the model was not run."""
        return self.outputs.argmax(2).masked_fill(self.outputs.isnan().any(2), -1)

    @property
    def reached(self) -> Tensor:
        """Whether the model predicts the target in each frame, [B, F] bool. (``attained`` is about distances.)"""
        index = self._index
        return self.predictions.movedim(1, -1)[(self._rows, *index[1:])] == index[0][:, None]

    @property
    def already_predicted(self) -> Tensor:
        """Whether the model predicts the target for the source image, [B] bool."""
        index = self._index
        predicted = self.source if self.source.dim() == 1 else self.source[(self._rows, *index[1:])]
        return predicted == index[0]

    @property
    def best_frame(self) -> Tensor:
        """First scored frame with the highest target probability, [B] int64; -1 if no frame is scored."""
        p = self.target_probability
        return p.nan_to_num(nan=-1.0).argmax(1).masked_fill(p.isnan().all(1), -1)

    @property
    def fell(self) -> Tensor:
        """Whether the target's probability is lower in the last frame than in an earlier one, [B] bool.

        Only frames with scores are compared. A decrease of up to 1 % of the higher probability does not count, since it
        may be a rounding error.
        """
        p = self.target_probability
        scored = ~p.isnan()
        frame = torch.arange(p.shape[1], device=p.device)
        last = torch.where(scored, frame, -1).argmax(1, keepdim=True)
        return p.gather(1, last)[:, 0] < (1 - MIN_FALL) * p.nan_to_num(nan=-1.0).amax(1)

    @property
    def _rows(self) -> Tensor:
        return torch.arange(len(self), device=self.frames.device)

    @property
    def _index(self) -> tuple[Tensor, ...]:
        """The class of each target [B], and its position [B] in each further dimension of the outputs."""
        return self.target.reshape(len(self), self.outputs.dim() - 2).unbind(1)

    # --- Samples

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Morphs]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Morphs:
        """Return the samples at an int, a slice, a list, or a tensor of ints or bools."""
        selection = _as_selection(index, len(self), self.frames.device)
        return self._map(lambda t: t[selection])

    @classmethod
    def cat(cls, morphs: Sequence[Morphs]) -> Morphs:
        """Concatenate the samples of several morphs.

        They must have equal settings, shapes, dtypes and devices.

        Examples
        --------
        >>> import torch
        >>> zero, table = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3)
        >>> frames, outputs = torch.rand(1, 3, 1, 8, 8), torch.rand(1, 3, 5)
        >>> morphs = Morphs(frames, table, None, zero, zero, outputs, table, None, None, zero, {"family": "pixel"})
        >>> len(Morphs.cat([morphs, morphs]))
        2
        """
        morphs = list(morphs)
        if not morphs or not all(isinstance(m, Morphs) for m in morphs):
            got = ", ".join(type(m).__name__ for m in morphs) or "none"
            raise TypeError(f"morphs must be one or more Morphs, got {got}")
        for m in morphs[1:]:
            _check_alike(morphs[0], m)
        joined: dict[str, Any] = {name: torch.cat([getattr(m, name) for m in morphs]) for name in morphs[0].tensors()}
        return replace(morphs[0], **joined)

    # --- Tensors

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that are not None, by name."""
        return {name: t for name, t in vars(self).items() if name != "settings" and t is not None}

    def to(self, *args: Any, **kwargs: Any) -> Morphs:
        """Apply ``Tensor.to`` to all tensors. A dtype applies only to floating-point tensors."""
        dtypes = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
        if not all(d.is_floating_point for d in dtypes):
            raise TypeError(f"dtype must be a floating-point dtype, got {dtypes[0]}")
        adapt = lambda t, a: a if t.is_floating_point() else _in_dtype(a, t.dtype)
        return self._map(lambda t: t.to(*(adapt(t, a) for a in args), **{k: adapt(t, v) for k, v in kwargs.items()}))

    def cpu(self) -> Morphs:
        """Return the morphs on the CPU."""
        return self.to("cpu")

    def detach(self) -> Morphs:
        """Return the morphs detached from autograd, sharing memory."""
        return self._map(torch.detach)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Morphs:
        changed: dict[str, Any] = {name: function(t) for name, t in self.tensors().items()}
        return replace(self, **changed)

    # --- Files

    def save(
        self,
        path: str | os.PathLike,
        *,
        frames: int | Sequence[int] | None = None,
        samples: int | None = None,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        differences: bool = False,
    ) -> None:
        """Write a figure, an animation, or all tensors to a file, depending on its suffix.

        Parameters
        ----------
        path : path
            ``.png``, ``.pdf``, ``.svg``: a strip, see :func:`steerlens_fast.plot_morphs`. ``.gif``, ``.webp``: a
            looping animation of the samples side by side. WebP is lossless; the 256 colours of a GIF change a
            photograph visibly. ``.safetensors``: all tensors, for :meth:`load`.
        frames : int or sequence of int, optional
            Number of evenly spaced frames, or their indices, in a figure or an animation. By default 12 frames in
            a figure, and all frames in an animation.
        samples : int, optional
            Number of samples in a figure or an animation, from the first; by default 16.
        class_names : sequence of str or mapping from int to str, optional
            As in :func:`steerlens_fast.plot_morphs`.
        differences : bool
            Whether to add a row per sample to a figure, with the signed differences of the frames from the source.

        Raises
        ------
        TypeError, ValueError, IndexError
            If an argument is invalid.
        ImportError
            If the extra ``steerlens_fast[plot]`` or ``steerlens_fast[save]`` is needed and not installed.

        Examples
        --------
        >>> import tempfile, torch
        >>> zero, table = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3)
        >>> frames, outputs = torch.rand(1, 3, 1, 8, 8), torch.rand(1, 3, 5)
        >>> m = Morphs(frames, table, None, zero, zero, outputs, table, None, None, zero, {"family": "pixel"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     m.save(f"{folder}/strip.png", class_names=["cat", "dog", "newt", "owl", "fox"])
        ...     m.save(f"{folder}/all.safetensors")
        ...     torch.equal(Morphs.load(f"{folder}/all.safetensors").frames, m.frames)
        True
        """
        suffix, path = _suffix(path), os.path.expanduser(path)
        options: dict[str, Any] = {"frames": frames, "samples": samples, "class_names": class_names}
        if check_bool("differences", differences) and suffix not in FIGURES:
            raise ValueError(f"differences must be False for {suffix}: only {', '.join(FIGURES)} can show them")
        if suffix in TENSORS:
            for name, value in options.items():
                if value is not None:
                    raise ValueError(
                        f"{name} must be None for {suffix}, which contains all samples, got {shown(value)}"
                    )
            return write_tensors(path, "Morphs", {**self.tensors()}, self.settings)
        from .strips import animate_morphs, save_figure

        options |= {"differences": differences} if suffix in FIGURES else {}
        with atomic_write(path, durable=False) as file:
            write = save_figure if suffix in FIGURES else animate_morphs
            write(self, file, format=suffix[1:], **options)

    def save_frames(self, folder: str | os.PathLike) -> None:
        """Write every frame as a picture, ``folder/sample_0/frame_00.png`` and so on.

        Pictures have 8 bits per value. Black and white are the bounds or, without bounds, the lowest and highest value
        of each sample. Existing files of these names are replaced.

        Parameters
        ----------
        folder : path
            The folder is created if it does not exist.

        Raises
        ------
        ValueError
            If the frames do not have 1 or 3 channels.
        ImportError
            If Pillow is not installed (extra ``steerlens_fast[plot]``).

        Examples
        --------
        >>> import os, tempfile, torch
        >>> zero, table = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3)
        >>> frames, outputs = torch.rand(1, 3, 1, 8, 8), torch.rand(1, 3, 5)
        >>> m = Morphs(frames, table, None, zero, zero, outputs, table, None, None, zero, {"family": "pixel"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     m.save_frames(folder)
        ...     sorted(os.listdir(f"{folder}/sample_0"))
        ['frame_0.png', 'frame_1.png', 'frame_2.png']
        """
        from .strips import to_pixels

        if self.frames.shape[2] not in (1, 3):
            raise ValueError(f"frames must have 1 channel (grey) or 3 (RGB) to be saved, got {self.frames.shape[2]}")
        pil, numbered = require_extra("plot", "PIL.Image"), lambda n, count: f"{n:0{len(str(count - 1))}}"
        for sample, frames in enumerate(to_pixels(self.detach().cpu())):
            sample_folder = Path(os.path.expanduser(folder)) / f"sample_{numbered(sample, len(self))}"
            sample_folder.mkdir(parents=True, exist_ok=True)
            for number, pixels in enumerate(frames):
                path = sample_folder / f"frame_{numbered(number, len(frames))}.png"
                with atomic_write(path, durable=False) as file:
                    pil.fromarray(pixels).save(file, format="PNG")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Morphs:
        """Read morphs from a ``.safetensors`` file that :meth:`save` wrote. They are on the CPU.

        Raises
        ------
        ValueError
            If the file was not written by :meth:`save`.
        ImportError
            If safetensors is not installed (extra ``steerlens_fast[save]``).
        """
        if _suffix(path) not in TENSORS:
            raise ValueError(f"path must end in .safetensors, got {os.fspath(path)!r}")
        path = os.path.expanduser(path)
        tensors, settings = read_tensors(path, "Morphs")
        values: dict[str, Any] = {f.name: tensors.get(f.name) for f in fields(cls)}
        return cls(**values | {"settings": settings})

    def __repr__(self) -> str:
        b, f, *sizes = self.frames.shape
        words = [str(self.frames.dtype).removeprefix("torch."), str(self.frames.device), *method_words(self.settings)]
        shape = f"{b} x {f} frames of {' x '.join(map(str, sizes))}"
        pairs = pairs_text(self)
        statistics = [] if self.frames.is_meta or not b * f else _statistics(self)
        return f"Morphs({'; '.join(filter(None, [', '.join([shape, *words]), pairs, *statistics]))})"

    def _repr_html_(self) -> str | None:
        """Return a strip and a slider for notebooks; None to show repr() instead."""
        if self.frames.is_meta or not self.frames.numel() or self.frames.shape[2] not in (1, 3):
            return None
        from .html import morphs_html  # here, since html.py imports this module

        try:
            return morphs_html(self)
        except MissingExtra:
            return None


torch.serialization.add_safe_globals([Morphs])  # torch.load accepts files with morphs


def pairs_text(m: Morphs) -> str:
    """Return the most frequent pairs of source and target class as text, or "" if the classes have no names.

    For example "cup -> bee (2), tabby -> lynx", where 2 is the number of samples of the first pair. Only the
    targets are named ("-> lynx") for task "multilabel", and also if ``source`` has a class at each position.
    """
    names = short_names(m.class_names)
    if names is None or m.frames.is_meta or not len(m):
        return ""
    targets = m.target.reshape(len(m), -1).tolist()
    if m.settings.get("task") == "multilabel":  # targets are (state, label, ...)
        counts = Counter(f"-> {names[t[1]]}" if t[0] else f"-> not {names[t[1]]}" for t in targets)
    elif m.source.dim() > 1:
        counts = Counter(f"-> {names[t[0]]}" for t in targets)
    else:
        counts = Counter(f"{names[s]} -> {names[t[0]]}" for s, t in zip(m.source.tolist(), targets))
    shown = [text if n == 1 else f"{text} ({n})" for text, n in counts.most_common(MAX_PAIRS)]
    return ", ".join(shown) + (f" and {len(counts) - MAX_PAIRS} more" if len(counts) > MAX_PAIRS else "")


def method_words(settings: dict) -> list[str]:
    """Return the main settings, as words.

    Examples
    --------
    >>> method_words({"family": "pixel", "color": "luma", "smoothing": {"noise": 0.1, "samples": 8}})
    ['pixel', 'luma', 'smoothing 0.1 x 8']
    """
    words = [str(settings[key]) for key in ("family", "rule", "regime") if settings.get(key) is not None]
    words += [str(settings["color"])] if settings.get("color", "rgb") != "rgb" else []
    smoothing = settings.get("smoothing")
    return words + ([f"smoothing {smoothing['noise']:g} x {smoothing['samples']}"] if smoothing else [])


def missed_distances(m: Morphs) -> list[list[float]]:
    """Return for each sample the requested distances that it did not attain."""
    if m.budget is None or m.attained is None:
        return [[] for _ in range(len(m))]
    attained = m.attained.view(len(m), -1).tolist()
    rows = zip(m.budget.tolist(), attained)
    return [[distance for distance, reached in zip(*row) if not reached] for row in rows]


def _statistics(m: Morphs) -> list[str]:
    median = lambda t: float(t.detach().double().nanquantile(0.5))
    first, last, l2 = median(m.target_probability[:, 0]), median(m.target_probability[:, -1]), median(m.l2[:, -1])
    texts = [f"target probability {first:.3g} -> {last:.3g} (median)"] if first == first and last == last else []
    missed = set().union(*missed_distances(m))
    texts += [f"l2 {distance_text(l2, missed, digits=4)} (median, last frame)"]
    if m.attained is not None:
        texts.append(f"{int(m.attained.sum())}/{m.attained.numel()} attained")
    return texts + ([] if m.ok.all() else [f"{int((~m.ok).sum())} not ok"])


def _as_selection(index: Any, count: int, device: torch.device) -> slice | Tensor:
    """Convert an index to a slice or a tensor. An int becomes a slice of one sample."""
    if isinstance(index, slice) and (index.step is None or index.step > 0):
        return index
    if isinstance(index, slice):  # torch does not support negative steps
        return torch.tensor(range(count)[index], dtype=torch.int64, device=device)
    if isinstance(index, list) or (isinstance(index, (np.ndarray, Tensor)) and index.ndim):
        return _index_tensor(index, count).to(device)
    if not is_int(index):
        raise TypeError(f"index must be {INDEX_TYPES}, got {shown(index)}")
    i = operator.index(index)
    if not -count <= i < count:
        raise IndexError(f"index must lie within the {count} samples, got {i}")
    return slice(i % count, i % count + 1)


def _index_tensor(index: Any, count: int) -> Tensor:
    """Convert a list or tensor of ints or bools to a tensor, checked on the CPU.

    An invalid index on the GPU would cause a device assert, after which the process cannot use CUDA.
    """
    index_on_host = index.cpu() if isinstance(index, Tensor) else torch.as_tensor(index, device="cpu")
    chosen = index_on_host if len(index) else torch.zeros(0, dtype=torch.int64, device="cpu")
    if chosen.dim() != 1 or chosen.is_floating_point() or chosen.is_complex():
        raise TypeError(f"index must be {INDEX_TYPES}, got {shown(index)}")
    if chosen.dtype == torch.bool:
        if len(chosen) != count:
            raise IndexError(f"index must have one bool for each of {count} samples, got {len(chosen)}")
        return chosen
    chosen = chosen.long()
    if len(chosen) and not (-count <= chosen.min() and chosen.max() < count):
        raise IndexError(f"index must lie within the {count} samples, got {shown(index)}")
    return chosen


def _check_alike(first: Morphs, other: Morphs) -> None:
    settings = [json.loads(as_json(m.settings)) for m in (first, other)]  # JSON turns tuples into lists
    for key in sorted({*settings[0], *settings[1]}):
        a, b = (s.get(key) for s in settings)
        if a != b:
            raise ValueError(f"morphs must have the same settings, got {key} {shown(a)} and {shown(b)}")
    alike = lambda t: None if t is None else (tuple(t.shape[1:]), t.dtype, str(t.device))
    for f in fields(first):
        if f.name != "settings":
            a, b = (alike(getattr(m, f.name)) for m in (first, other))
            if a != b:
                raise ValueError(f"morphs must agree in {f.name} (shape of a sample, dtype, device), got {a} and {b}")


def _in_dtype(argument: Any, dtype: torch.dtype) -> Any:
    """Replace the dtype in an argument of ``Tensor.to`` by ``dtype``."""
    if isinstance(argument, torch.dtype):
        return dtype
    return argument.new_empty(0, dtype=dtype) if isinstance(argument, Tensor) else argument


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _suffix(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or os.PathLike, got {type(path).__name__}")
    suffix, known = Path(path).suffix.lower(), (*FIGURES, *ANIMATIONS, *TENSORS)
    if suffix not in known:
        raise ValueError(f"path must end in one of {', '.join(known)}, got {os.fspath(path)!r}")
    return suffix
