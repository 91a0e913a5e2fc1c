"""Errors whose messages name the argument."""

import pytest


def refused(kind, *words):
    """Return ``pytest.raises`` for a message that contains all ``words`` (regular expressions) in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(words))
