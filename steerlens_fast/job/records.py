"""The records of a shard: one JSON object for each item."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.class_matching import matched_label
from ..data.items import Item, compact_json
from ..errors import OK, JobError
from ..io.atomic_io import atomic_write, existing_path
from ..morphs import Morphs, MorphStatus
from .loading import Batch, LoadedImage
from .plan import Plan
from .success import assess

REQUIRED = ("key", "index", "path", "status", "row")  # if a record lacks one of these fields, its file is damaged
UNKNOWN = -(2**63)  # predicted class of frames that were not scored; -1 may mean that label 0 is absent (_classes)
DIGITS = 7  # significant digits in records, as in float32


def write_records(path: Path, records: list[dict]) -> dict[str, dict]:
    """Write records as JSON lines; return the file's hash and size, by file name."""
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

    The field ``row`` numbers the items of a shard that have frames; it is None for other items. In this batch, the
    numbers begin at ``first_row``. The field ``source`` is the class that the model predicts for the unedited image.
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
        label_is_comparable = not multilabel or (target is not None and label in (target, ~target))
        records.append(record | _class_name_fields(record, plan) | assess(record, label_is_comparable))
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

    For task "multilabel", a class is l if the target's label l is present, and ~l if it is absent.
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
    # Formatting all numbers in one call is faster than one by one.
    text = f"%.{DIGITS}g " * int(finite.sum()) % tuple(values[finite].tolist())
    rounded[finite] = [float(number) for number in text.split()]
    return rounded.tolist()
