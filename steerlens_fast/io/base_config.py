"""Configurations as plain data: written to JSON, read in another process, compared."""

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
    """Convert numbers and arrays of numpy and torch to Python's, also within lists, tuples and mappings.

    Examples
    --------
    >>> import numpy as np
    >>> plain_data({"size": np.int64(224), "max_l2": [np.float32(0.5), 1], "scales": np.arange(2)})
    {'size': 224, 'max_l2': [0.5, 1], 'scales': [0, 1]}
    """
    if isinstance(value, (str, int, float)) or value is None:
        return float(value) if type(value) not in (float, str, int, bool) and isinstance(value, float) else value
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain_data, value)) if type(value) in (list, tuple) else value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    try:
        return operator.index(value)
    except TypeError:
        return value


class BaseConfig:
    """Base class of configurations: dataclasses of plain data.

    Attributes
    ----------
    STRING_FIELDS : tuple of str
        Fields that must be strings.
    """

    STRING_FIELDS: ClassVar[tuple[str, ...]]

    def _normalize_values(self) -> None:
        """Replace numbers and arrays of numpy and torch by Python's."""
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain_data(getattr(self, field.name)))

    def _check_serializable(self) -> None:
        """Raise a TypeError for a field that JSON cannot hold: worker processes receive the configuration as JSON."""
        for name in self.STRING_FIELDS:
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a str, got {getattr(self, name)!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{field.name} must be plain data, got {value!r}: {error}") from error

    def as_dict(self) -> dict:
        """Return the fields as a JSON-able dict."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, options: Mapping):
        """Return the configuration with these options, defaults for the others.

        Raises
        ------
        JobError
            Where an option is unknown, or a required one is missing.

        Examples
        --------
        >>> from steerlens_fast.job.config import JobConfig
        >>> JobConfig.from_dict({"data": "images/"})
        Traceback (most recent call last):
        steerlens_fast.errors.JobError: option 'model' is required
        >>> JobConfig.from_dict({"data": "images/", "model": "timm:resnet18", "siz": 64})
        Traceback (most recent call last):
        steerlens_fast.errors.JobError: unknown option 'siz'; did you mean 'size'?
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(options) - fields.keys())
        if unknown:
            raise JobError(f"unknown option {unknown[0]!r}{did_you_mean(unknown[0], list(fields))}", USAGE)
        for name, field in fields.items():
            if name not in options and field.default is dataclasses.MISSING:
                raise JobError(f"option {name!r} is required", USAGE)
        return cls(**options)


def type_name(value) -> str:
    """Return the qualified name of a value's type."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
