"""A check of the words of error messages."""

import pytest


def raises_with(kind, *words):
    """Return ``pytest.raises(kind)`` for a message that contains all ``words`` (regular expressions) in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(words))
