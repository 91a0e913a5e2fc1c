"""Configurations as plain data, which can be written down, read in another process, and compared."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ..checks import did_you_mean
from ..errors import USAGE, JobError


def plain_data(value):
    """Numbers and arrays of other libraries as Python's own, also within lists, tuples and mappings.

    Examples
    --------
    >>> import numpy as np
    >>> plain_data({"size": np.int64(224), "max_l2": [np.float32(0.5), 1], "scales": np.arange(2)})
    {'size': 224, 'max_l2': [0.5, 1], 'scales': [0, 1]}
    """
    if isinstance(value, (str, int, float)) or value is None:
        return float(value) if type(value) not in (float, str, int, bool) and isinstance(value, float) else value
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain_data, value)) if type(value) in (list, tuple) else value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    try:
        return operator.index(value)
    except TypeError:
        return value


class BaseConfig:
    """What the dataclasses of configurations share.

    Attributes
    ----------
    WHOSE : str
        What messages call the owner of a configuration.
    NAMES : tuple of str
        Fields that name what is worked on: strings.
    """

    WHOSE: ClassVar[str]
    NAMES: ClassVar[tuple[str, ...]]

    def _make_plain(self) -> None:
        """Numbers of numpy and torch, and arrays of them, become Python's."""
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain_data(getattr(self, field.name)))

    def _check_plain(self) -> None:
        """Only what JSON can tell: work must be able to go on in another process."""
        for name in self.NAMES:
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a str, got {getattr(self, name)!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{field.name} must be plain data, got {value!r}: {error}") from error

    def as_dict(self) -> dict:
        """JSON-able."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, told: Mapping):
        """What :meth:`as_dict` gave, or some of it; JobError where a field is unknown, or one that must be is missing.

        Examples
        --------
        >>> from steerlens_fast.job.config import JobConfig
        >>> JobConfig.from_dict({"data": "images/"})
        Traceback (most recent call last):
        steerlens_fast.errors.JobError: model must be given
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(told) - known.keys())
        if unknown:
            hint = did_you_mean(unknown[0], list(known))
            raise JobError(f"{unknown[0]} is no field of {cls.WHOSE} configuration{hint}", USAGE)
        for name, field in known.items():
            if name not in told and field.default is dataclasses.MISSING:
                raise JobError(f"{name} must be given", USAGE)
        return cls(**told)


def type_name(thing) -> str:
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
