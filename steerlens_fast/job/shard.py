"""One shard: batches on their way through the lens, their frames and records, and what is published of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from ..data.items import Item, compact_json
from ..errors import OK, JobError
from ..io.atomic_io import atomic_write, write_json
from ..memory import new_output
from ..morphs import Morphs, MorphStatus
from .formats import get_format
from .loading import Batch, Loaded
from .plan import Plan
from .success import judge
from .transfers import Transfers

AT_ONCE = {"cpu": 1 << 20, "cuda": 16 << 20}  # values that are converted at once: they stay in the cache; little memory
ALWAYS = ("key", "index", "path", "status", "row")  # in every record
UNKNOWN = -(2**63)  # no class
DIGITS = 7  # of the numbers in records: what float32 has


def stem(shard: int) -> str:
    """What the files of a shard begin with."""
    return f"{shard:05d}"


def marker(out: Path, shard: int) -> Path:
    """The file that says that a shard is done; it is written last."""
    return out / "shards" / f"{stem(shard)}.done.json"


class Clock:
    """Seconds by what they were spent on."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start


class Shard:
    """Frames and records of a shard, batch by batch, until it is whole and can be published."""

    def __init__(self, number: int, plan: Plan, transfers: Transfers):
        self.number, self.plan, self.clock, self._transfers = number, plan, Clock(), transfers
        shape = (plan.count(number), *plan.frame_shape)
        dtype = getattr(torch, plan.frame_dtype)
        plain = lambda: new_output(shape, dtype, torch.device("cpu"))
        self.frames = torch.empty(shape, dtype=dtype, pin_memory=True, device="cpu") if transfers.pinned else plain()
        self.rows, self.records, self.parts = 0, [], 1

    def add(self, batch: Batch, morphs: Morphs) -> Callable[[], int]:
        """Take in a batch, without waiting for a GPU; what is returned does, once, and says how many items failed."""
        with self.clock.spent_on("convert"):
            good = [n for n, loaded in enumerate(batch.loaded) if loaded.failure is None]
            frames = morphs.frames if len(good) == len(batch.items) else _chosen(morphs.frames, good)
            frames_there = to_bytes(frames, self.frames[self.rows : self.rows + len(good)], self._transfers)
            numbers, numbers_there = self._transfers.numbers_to_host(morphs)
        first, self.rows = self.rows, self.rows + len(good)
        return partial(self._finish, batch, numbers, first, (frames_there, numbers_there))

    def _finish(self, batch: Batch, numbers: Morphs, first: int, arrivals: tuple[Callable[[], None], ...]) -> int:
        with self.clock.spent_on("convert"):
            for wait in arrivals:
                wait()
        with self.clock.spent_on("records"):
            records = records_of(batch, numbers, first)
        self.records += records
        return sum(record["status"] != OK for record in records)

    def publish(self, out: Path, kind: str, about: dict) -> dict:
        """Write frames, then records, then the marker that says so; returns what the marker holds."""
        folder = out / "shards"
        marker(out, self.number).unlink(missing_ok=True)  # of one who died right after it: not true for a moment
        with self.clock.spent_on("write"):
            files = get_format(kind).write(folder, stem(self.number), self.frames[: self.rows], self.records, about)
            files |= write_records(folder / f"{stem(self.number)}.jsonl", self.records)
        failed = sum(record["status"] != OK for record in self.records)
        seconds = {what: round(value, 6) for what, value in self.clock.seconds.items()}
        told = {"shard": self.number, "files": files, "items": len(self.records), "failed": failed, "seconds": seconds}
        told |= {} if self.parts == 1 else {"parts_of_a_batch": self.parts}  # other sums, perhaps other last digits
        write_json(marker(out, self.number), told)
        return told


def to_bytes(frames: Tensor, out: Tensor, transfers: Transfers) -> Callable[[], None]:
    """Frames [n, ...] in [0, 1] as uint8, rounded, into ``out``; what is returned waits until they are there."""
    rows = max(1, AT_ONCE[frames.device.type] // max(1, frames[:1].numel()))
    pieces = zip(frames.split(rows), out.split(rows))
    return transfers.to_host((_stored(some, out.dtype), place) for some, place in pieces)


def _stored(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames in [0, 1] as they are stored: over the whole range of an integer type."""
    if dtype.is_floating_point:
        return frames.to(dtype)
    scaled = frames.mul(torch.iinfo(dtype).max).round_()
    return scaled.to(dtype) if dtype == torch.uint8 else scaled.to(torch.int32).to(dtype)  # not all devices know uint16


def _chosen(frames: Tensor, rows: list[int]) -> Tensor:
    """Some of the samples; a GPU is sent which, and nobody waits until it knows."""
    return frames.index_select(
        0, torch.tensor(rows, dtype=torch.int64, device="cpu").to(frames.device, non_blocking=True)
    )


def write_records(path: Path, records: list[dict]) -> dict[str, dict]:
    """Records as JSON lines; returns what a marker says of the file."""
    lines = (compact_json(r) + "\n" for r in records)
    data = "".join(lines).encode(errors="surrogateescape")
    with atomic_write(path) as file:
        file.write(data)
    return {path.name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)}}


def read_records(path: Path) -> list[dict]:
    """What :func:`write_records` wrote; JobError where it is damaged."""
    try:
        found = [json.loads(line) for line in path.read_bytes().decode(errors="surrogateescape").split("\n") if line]
        sound = all(set(ALWAYS) <= record.keys() for record in found)
    except (ValueError, AttributeError):
        sound = False
    if not sound:
        raise JobError(f"{path} is damaged: verify the job with --discard, then resume it")
    return found


def records_of(batch: Batch, morphs: Morphs, first_row: int) -> list[dict]:
    """One record for each item, of morphs on the CPU; frames of the good ones lie in rows from ``first_row`` on."""
    columns, statuses = _columns(morphs), morphs.status.tolist()
    independent = morphs.settings.get("task") == "multilabel"
    records, row = [], first_row
    for n, (item, loaded) in enumerate(zip(batch.items, batch.loaded)):
        told = _of_item(item, loaded)
        if loaded.failure is not None:
            told |= dict.fromkeys(columns)
            told |= {"status": loaded.failure.reason, "message": str(loaded.failure), "row": None}
        else:
            told |= {name: column[n] for name, column in columns.items()}
            told |= _status(statuses[n]) | {"row": row}
            row += 1
        if independent and told["label"] not in (told["target"], ~(told["target"] or 0)):
            told["label_differs"] = None  # nothing is known of the label itself
        records.append(told | judge(told))
    return records


def _of_item(item: Item, loaded: Loaded) -> dict:
    size = None if loaded.size is None else list(loaded.size)
    label = item.label if loaded.label is None else loaded.label
    own = {"key": item.key, "index": item.index, "path": item.path, "sha256": loaded.sha256}
    deep = {} if loaded.values is None else {"values": loaded.values}  # of images of more than 8 bits
    return {**own, "size": size, **deep, "label": label}


def _status(status: int) -> dict:
    status = MorphStatus(status)
    return {"status": status.key, "message": status.reason} if status else {"status": OK}


def _columns(morphs: Morphs) -> dict[str, list]:
    """What is known of each sample, by name."""
    target, source, predictions = _classes(morphs)
    return {
        "target": target.tolist(),
        "source": source.tolist(),
        "predictions": [[None if p == UNKNOWN else p for p in row] for row in predictions.tolist()],
        "prediction_probability": _rounded(_of_predictions(morphs)),
        "probability": _rounded(morphs.target_probability),
        "factors": _rounded(morphs.factors),
        **({} if morphs.amplitude_factors is None else {"amplitude_factors": _rounded(morphs.amplitude_factors)}),
        "l2": _rounded(morphs.l2),
        "attained": [None] * len(morphs) if morphs.attained is None else morphs.attained.tolist(),
        "gradient_norm": _rounded(morphs.gradient_norm),
    }


def _classes(morphs: Morphs) -> tuple[Tensor, Tensor, Tensor]:
    """Target, class at the source, and what is predicted of each frame, UNKNOWN where the model was not run.

    Of several labels the target's alone: l where the label is present, or to be, and ~l where it is absent.
    """
    predictions = morphs.predictions
    predictions = predictions.masked_fill(predictions == -1, UNKNOWN)
    if morphs.settings.get("task") != "multilabel":
        return morphs.target, morphs.source, predictions
    state, label = morphs.target.unbind(1)
    of_label = predictions.gather(2, label[:, None, None].expand(-1, predictions.shape[1], 1))[..., 0]
    signed = lambda state, label: torch.where(state == 1, label, ~label)
    known = torch.where(of_label == UNKNOWN, UNKNOWN, signed(of_label, label[:, None]))
    return signed(state, label), signed(morphs.source, label), known


def _of_predictions(morphs: Morphs) -> Tensor:
    """[B, F]: the probability of what is predicted of each frame; of several labels, that of the target's state."""
    best = morphs.probabilities.amax(2)
    if morphs.settings.get("task") != "multilabel":
        return best
    return best.gather(2, morphs.target[:, 1, None, None].expand(-1, best.shape[1], 1))[..., 0]


def _rounded(table: Tensor) -> list:
    """Numbers as a person writes them; JSON has no NaN and no infinity."""
    return _round(table.double().tolist())


def _round(value):
    if isinstance(value, list):
        return [_round(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isfinite(value) else None
