"""The base class of configurations.

A configuration can be saved as JSON, read in another process, and compared.

Each field is declared once, by :func:`option`, with its default, help text and allowed values. This declaration is
used to check values, and to make the options of the command line.
"""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ..checks import check_bool, check_int, did_you_mean, shown
from ..errors import usage_error


def plain_data(value):
    """Convert numbers and arrays of numpy and torch to Python's types.

    Values inside lists, tuples and mappings are converted, too.

    Examples
    --------
    >>> import numpy as np
    >>> plain_data({"size": np.int64(224), "max_l2": [np.float32(0.5), 1], "scales": np.arange(2)})
    {'size': 224, 'max_l2': [0.5, 1], 'scales': [0, 1]}
    """
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain_data, value))
    if isinstance(value, int):
        return value
    try:
        return operator.index(value)  # an integer of another library
    except TypeError:
        return value


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str | None = None,
    group: str | None = None,
    metavar: str | None = None,
    type: Callable[[str], Any] | None = None,
    choices: Sequence | None = None,
    minimum: int | None = None,
    passed_to: str | None = None,
    kw_only: bool = False,
    **argument,
) -> Any:
    """Return a field of a configuration, which may also declare an option of the command line.

    Parameters
    ----------
    default : optional
        Default value; without one, the field is required.
    help : str
        Help text of the option on the command line.
    group : str
        Group of options on the command line; None if the field has no option there.
    metavar : str
        Placeholder for the value in the help text.
    type : callable, optional
        Parses the option's text, see :mod:`steerlens_fast.io.argument_types`.
    choices : sequence, optional
        Values that are allowed.
    minimum : int, optional
        If given, the value must be an integer, at least this.
    passed_to : {"model", "lens", "morph"}, optional
        Whether the value is an argument of ``load_model``, of ``SteerableLens`` or of ``SteerableLens.morph``.
    kw_only : bool
        Whether the field is keyword-only although other fields of the dataclass are not.
    **argument
        Other arguments of argparse's ``add_argument``, such as ``nargs``. ``flag`` is the name of the option, such as
        "--judge", if the field has another name.
    """
    described = {"help": help, "group": group, "metavar": metavar, "type": type, "choices": choices}
    described |= {"minimum": minimum, "passed_to": passed_to, **argument}
    metadata = {name: value for name, value in described.items() if value is not None}
    return dataclasses.field(default=default, metadata=metadata, **({"kw_only": True} if kw_only else {}))


def inherited_option(config: type, name: str, **changes) -> Any:
    """Return a field of a base class with changes, for example another default or help text.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Base:
    ...     rule: str = option("complex", help="how a step is made")
    >>> inherited_option(Base, "rule", default="polar").metadata["help"]
    'how a step is made'
    """
    field = next(field for field in dataclasses.fields(config) if field.name == name)
    return option(**{"default": field.default, "kw_only": field.kw_only, **field.metadata, **changes})


def declared_fields(config) -> list[dataclasses.Field]:
    """Return the fields of a configuration, the keyword-only ones last."""
    return sorted(dataclasses.fields(config), key=lambda field: field.kw_only)


class BaseConfig:
    """Base class of configurations, which are frozen dataclasses.

    Subclasses extend :meth:`_normalize` and :meth:`_check`, which are called in this order.

    Attributes
    ----------
    STRING_FIELDS : tuple of str
        Fields that must be strings.

    Raises
    ------
    JobError
        With the name of the field, the expected and the actual value.
    """

    STRING_FIELDS: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._set(field.name, plain_data(getattr(self, field.name)))
        self._normalize()
        try:
            self._check()
        except (TypeError, ValueError) as error:
            raise usage_error(str(error)) from error

    def _set(self, name: str, value) -> None:
        """Set a field, although the dataclass is frozen."""
        object.__setattr__(self, name, value)

    def _normalize(self) -> None:
        """Convert values that can be given in several forms to a single form."""

    def _check(self) -> None:
        """Raise a TypeError or ValueError if a field is invalid.

        Every value must be JSON, since another process may read it. A value must respect the choices and the minimum
        of its field. If the default is a bool, the value must be a bool. If the default is None, the value may be None.
        """
        for name in self.STRING_FIELDS:
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a str, got {getattr(self, name)!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{field.name} must be plain data, got {shown(value)}: {error}") from error
            try:
                json.dumps(value, allow_nan=False)
            except ValueError as error:
                raise ValueError(f"{field.name} must be finite, got {shown(value)}") from error
        for field in dataclasses.fields(self):
            value, described = getattr(self, field.name), field.metadata
            if value is None and field.default is None:
                continue
            if isinstance(field.default, bool):
                check_bool(field.name, value)
            if "choices" in described and value not in described["choices"]:
                raise ValueError(f"{field.name} must be one of {tuple(described['choices'])}, got {shown(value)}")
            if "minimum" in described:
                check_int(field.name, value, described["minimum"], None)

    def arguments_of(self, receiver: str) -> dict:
        """Return the fields that are passed to ``receiver``: "model", "lens" or "morph"."""
        names = [field.name for field in declared_fields(self) if field.metadata.get("passed_to") == receiver]
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict:
        """Return all fields as a dictionary of JSON values."""
        values = {field.name: getattr(self, field.name) for field in declared_fields(self)}
        return json.loads(json.dumps(values))

    @classmethod
    def from_dict(cls, values: Mapping):
        """Return a configuration with the given fields.

        Other fields have their defaults.

        Raises
        ------
        JobError
            If a field is unknown, or a required one is missing.

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
        known = {field.name: field for field in declared_fields(cls)}
        unknown = sorted(set(values) - known.keys())
        if unknown:
            raise usage_error(f"unknown option {unknown[0]!r}{did_you_mean(unknown[0], list(known))}")
        for name, field in known.items():
            if name not in values and field.default is dataclasses.MISSING:
                raise usage_error(f"option {name!r} is required")
        return cls(**values)


def type_name(value) -> str:
    """Return the qualified name of a value's type.

    Examples
    --------
    >>> type_name(json.JSONDecoder())
    'json.decoder.JSONDecoder'
    """
    return f"{type(value).__module__}.{type(value).__qualname__}"
