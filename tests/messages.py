"""A check for errors and the words of their messages."""

import pytest
from cases import on_tensors


def raises_with(kind, *words):
    """Return ``pytest.raises(kind)`` for a message that contains all ``words`` (regular expressions) in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(words))


def check_rejected(op, args: list, message: str, meta: bool = True):
    """Check that an op raises a RuntimeError with this message, also for meta tensors if ``meta``."""
    for values in [args, on_tensors(lambda t: t.to("meta"), args)][: 1 + meta]:
        with pytest.raises(RuntimeError, match=message):
            op(*values)
