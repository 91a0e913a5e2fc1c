"""Output folders: what must not change between a run and its resumption."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..errors import USAGE, JobError

NOT_COMPARED = ("trust_checkpoint",)


def check_unchanged(before: Mapping, now: Mapping, what: str, **called: str) -> None:
    """JobError that names every field, by what it is ``called``, in which two configurations or plans differ.

    Examples
    --------
    >>> check_unchanged({"frames": 8}, {"frames": 12}, "the configuration")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: frames was 8 and is 12 now: the configuration of a job cannot change; use --overwrite (in Python overwrite=True) or another --out
    """  # noqa: E501
    before, now = (json.loads(json.dumps(told)) for told in (before, now))  # a tuple that was saved is a list
    names = sorted((before.keys() | now.keys()).difference(NOT_COMPARED))
    changes = [
        f"{called.get(name, name)} was {_shown(before.get(name))} and is {_shown(now.get(name))} now"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if changes:
        instead = "use --overwrite (in Python overwrite=True) or another --out"
        raise JobError(f"{', '.join(changes)}: {what} of a job cannot change; {instead}", USAGE)


def check_same_model(before: Mapping, now: Mapping) -> None:
    """As :func:`check_unchanged`, of the descriptions of models; names the file whose weights are others now."""
    file = before["spec"] if before["weights"] in (None, "random") else before["weights"]
    check_unchanged(before, now, "the model", sha256=f"the SHA-256 of {file}")


def _shown(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
