"""One shard: collects its frames and records batch by batch, and publishes them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.class_matching import matched_label
from ..data.items import Item, compact_json
from ..errors import OK, JobError
from ..io.atomic_io import atomic_write, existing_path, write_json
from ..memory import new_output
from ..morphs import Morphs, MorphStatus
from .formats import get_format
from .loading import Batch, LoadedImage
from .plan import Plan
from .success import assess
from .transfers import Transfers

# Number of values that are converted at a time, so that they fit the caches of a CPU, or the free memory of a GPU
CONVERTED_VALUES = {"cpu": 1 << 19, "cuda": 16 << 20}
REQUIRED = ("key", "index", "path", "status", "row")  # fields of every record
UNKNOWN = -(2**63)  # predicted class of frames that were not scored; -1 would be ~0, "label 0 is absent"
DIGITS = 7  # significant digits in records, as in float32


def shard_name(shard: int) -> str:
    """Return the beginning of the names of a shard's files, such as ``"00000"``."""
    return f"{shard:05d}"


def marker_path(out: Path, shard: int) -> Path:
    """Return the path of a shard's marker. The marker is written last, so a shard that has one is complete."""
    return out / "shards" / f"{shard_name(shard)}.done.json"


class Clock:
    """Measures the seconds spent on each activity."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def spent_on(self, activity: str) -> Iterator[None]:
        """Add the time of the block to an activity."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - start


class Shard:
    """The frames and records of a shard. Batches are added until it is complete and can be published."""

    def __init__(self, number: int, plan: Plan, transfers: Transfers):
        self.number, self.plan, self.clock, self._transfers = number, plan, Clock(), transfers
        shape = (plan.count(number), *plan.frame_shape)
        dtype = getattr(torch, plan.frame_dtype)
        if transfers.pinned:
            self.frames = torch.empty(shape, dtype=dtype, pin_memory=True, device="cpu")
        else:
            self.frames = new_output(shape, dtype, torch.device("cpu"))
        self.rows, self.records = 0, []
        self.part_divisor = (
            1  # batches are computed in parts; their usual size was divided by this, if memory was short
        )

    def add(self, batch: Batch, morphs: Morphs) -> Callable[[], int]:
        """Add a batch without waiting for the GPU.

        Return a function that waits for the copies from the GPU, and returns the number of failed items.
        """
        with self.clock.spent_on("convert"):
            good = [n for n, loaded in enumerate(batch.loaded) if loaded.failure is None]
            frames = morphs.frames if len(good) == len(batch.items) else _select(morphs.frames, good)
            frames_ready = store_frames(frames, self.frames[self.rows : self.rows + len(good)], self._transfers)
            results, results_ready = self._transfers.results_to_host(morphs)
        first, self.rows = self.rows, self.rows + len(good)
        return partial(self._finish, batch, results, first, (frames_ready, results_ready))

    def _finish(self, batch: Batch, results: Morphs, first: int, arrivals: tuple[Callable[[], None], ...]) -> int:
        with self.clock.spent_on("convert"):
            for wait in arrivals:
                wait()
        with self.clock.spent_on("records"):
            records = make_records(batch, results, first, self.plan)
        self.records += records
        return sum(record["status"] != OK for record in records)

    def publish(self, out: Path, format: str, metadata: dict) -> dict:
        """Write frames, records and marker, in this order; return the contents of the marker."""
        folder = out / "shards"
        # A worker that was killed before it reported the shard may have left a marker.
        existing_path(marker_path(out, self.number)).unlink(missing_ok=True)
        with self.clock.spent_on("write"):
            files = get_format(format).write(
                folder, shard_name(self.number), self.frames[: self.rows], self.records, metadata
            )
            files |= write_records(folder / f"{shard_name(self.number)}.jsonl", self.records)
        failed = sum(record["status"] != OK for record in self.records)
        seconds = {activity: round(value, 6) for activity, value in self.clock.seconds.items()}
        marker = {
            "shard": self.number,
            "files": files,
            "items": len(self.records),
            "failed": failed,
            "seconds": seconds,
        }
        if self.part_divisor > 1:  # recorded, because the batch size may change rounding errors
            marker["part_divisor"] = self.part_divisor
        write_json(marker_path(out, self.number), marker)
        return marker


def store_frames(frames: Tensor, out: Tensor, transfers: Transfers) -> Callable[[], None]:
    """Convert frames to the dtype of ``out``, and copy them.

    The frames [n, ...] are in [0, 1].

    Return a function that waits for the copies.
    """
    rows = max(1, CONVERTED_VALUES[frames.device.type] // max(1, frames[:1].numel()))
    pieces = zip(frames.split(rows), out.split(rows))
    return transfers.to_host((_to_dtype(piece, out.dtype), destination) for piece, destination in pieces)


def _to_dtype(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert frames in [0, 1] to a dtype. Integers use their full range."""
    if dtype.is_floating_point:
        return frames.to(dtype)
    scaled = frames.mul(torch.iinfo(dtype).max).round_()
    if scaled.device.type == "cpu":  # numpy takes a quarter of torch's time
        return torch.from_numpy(scaled.numpy().astype(str(dtype).removeprefix("torch.")))
    # Not all devices can convert floats to uint16.
    return scaled.to(dtype) if dtype == torch.uint8 else scaled.to(torch.int32).to(dtype)


def _select(frames: Tensor, rows: list[int]) -> Tensor:
    """Select samples without synchronising with the GPU."""
    return frames.index_select(
        0, torch.tensor(rows, dtype=torch.int64, device="cpu").to(frames.device, non_blocking=True)
    )


def write_records(path: Path, records: list[dict]) -> dict[str, dict]:
    """Write records as JSON lines; return the file's hash and size as an entry of the marker."""
    lines = (compact_json(r) + "\n" for r in records)
    data = "".join(lines).encode(errors="surrogateescape")
    with atomic_write(path) as file:
        file.write(data)
    return {path.name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)}}


def read_records(path: Path) -> list[dict]:
    """Read records that :func:`write_records` wrote; raise a JobError if the file is damaged."""
    try:
        records = [
            json.loads(line)
            for line in existing_path(path).read_bytes().decode(errors="surrogateescape").split("\n")
            if line
        ]
        valid = all(set(REQUIRED) <= record.keys() for record in records)
    except (ValueError, AttributeError):
        valid = False
    if not valid:
        raise JobError(f"{path} is damaged: run verify --discard, then morph --resume")
    return records


def make_records(batch: Batch, morphs: Morphs, first_row: int, plan: Plan) -> list[dict]:
    """Return the record of each item.

    An item's ``row`` is the place of its frames among those of the shard; None if it has no frames. ``first_row`` is
    the first row of the batch. The plan has the names of classes.
    """
    columns, statuses = _columns(morphs), morphs.status.tolist()
    multilabel = morphs.settings.get("task") == "multilabel"
    records, row = [], first_row
    for n, (item, loaded) in enumerate(zip(batch.items, batch.loaded)):
        record = _item_fields(item, loaded, plan)
        if loaded.failure is not None:
            record |= dict.fromkeys(columns)
            record |= {"status": loaded.failure.reason, "message": str(loaded.failure), "row": None}
        else:
            record |= {name: column[n] for name, column in columns.items()}
            record |= _status_fields(statuses[n]) | {"row": row}
            row += 1
        # For task "multilabel", the record has predictions of the target's label only.
        target, label = record["target"], record["label"]
        comparable = not multilabel or (target is not None and label in (target, ~target))
        records.append(record | _class_name_fields(record, plan) | assess(record, comparable))
    return records


def _class_name_fields(record: dict, plan: Plan) -> dict[str, str | None]:
    """Return the names of the classes in a record, if classes have names."""
    prediction = record["predictions"][-1] if record["predictions"] else None
    names = {}
    if plan.shown_classes:
        numbers = {"source": record["source"], "target": record["target"], "prediction": prediction}
        names = {f"{role}_name": plan.class_name(number) for role, number in numbers.items()}
    if plan.shown_labels:
        names["label_name"] = plan.label_name(record["label"])
    return names


def _item_fields(item: Item, loaded: LoadedImage, plan: Plan) -> dict:
    size = None if loaded.size is None else list(loaded.size)
    # Labels in the list of items are classes of the model already; those read with an image are classes of the data.
    label = matched_label(loaded.label, plan.label_numbers) if item.label is None else item.label
    identity = {"key": item.key, "index": item.index, "path": item.path, "sha256": loaded.sha256}
    # Only images of more than 8 bits have a value range.
    value_range = {} if loaded.value_range is None else {"value_range": loaded.value_range}
    return {**identity, "size": size, **value_range, "label": label}


def _status_fields(status: int) -> dict:
    status = MorphStatus(status)
    return {"status": status.key, "message": status.reason} if status else {"status": OK}


def _columns(morphs: Morphs) -> dict[str, list]:
    """Return the columns of the records, by name."""
    target, source, predictions = _classes(morphs)
    return {
        "target": target.tolist(),
        "source": source.tolist(),
        "predictions": [[None if p == UNKNOWN else p for p in row] for row in predictions.tolist()],
        "prediction_probability": _rounded(_prediction_probability(morphs)),
        "probability": _rounded(morphs.target_probability),
        "factors": _rounded(morphs.factors),
        **({} if morphs.amplitude_factors is None else {"amplitude_factors": _rounded(morphs.amplitude_factors)}),
        "l2": _rounded(morphs.l2),
        "attained": [None] * len(morphs) if morphs.attained is None else morphs.attained.tolist(),
        "gradient_norm": _rounded(morphs.gradient_norm),
    }


def _classes(morphs: Morphs) -> tuple[Tensor, Tensor, Tensor]:
    """Return the classes of target, source and frames.

    The classes of frames are the predicted ones, or UNKNOWN for frames that were not scored.

    For task "multilabel", each of them is l or ~l, where l is the target's label: l means present, and ~l absent.
    """
    predictions = morphs.predictions
    predictions = predictions.masked_fill(predictions == -1, UNKNOWN)
    if morphs.settings.get("task") != "multilabel":
        return morphs.target, morphs.source, predictions
    state, label = morphs.target.unbind(1)
    states = predictions.gather(2, label[:, None, None].expand(-1, predictions.shape[1], 1))[..., 0]
    predicted = torch.where(states == UNKNOWN, UNKNOWN, _signed_label(states, label[:, None]))
    return _signed_label(state, label), _signed_label(morphs.source, label), predicted


def _signed_label(state: Tensor, label: Tensor) -> Tensor:
    return torch.where(state == 1, label, ~label)


def _prediction_probability(morphs: Morphs) -> Tensor:
    """Return the probability [B, F] of each frame's prediction.

    For task "multilabel", the prediction is the more probable state, present or absent, of the target's label.
    """
    best = morphs.probabilities.amax(2)
    if morphs.settings.get("task") != "multilabel":
        return best
    return best.gather(2, morphs.target[:, 1, None, None].expand(-1, best.shape[1], 1))[..., 0]


def _rounded(table: Tensor) -> list:
    """Return a table as lists of rounded numbers. NaN and infinity, which JSON does not have, become None."""
    values = table.double().numpy()
    finite = np.isfinite(values)
    rounded = np.full(values.shape, None, object)
    # All numbers are formatted in one call: tables have several numbers per frame.
    text = f"%.{DIGITS}g " * int(finite.sum()) % tuple(values[finite].tolist())
    rounded[finite] = [float(number) for number in text.split()]
    return rounded.tolist()
