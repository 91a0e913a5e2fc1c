"""``distance_text``: an L2 distance as text."""

from __future__ import annotations

from collections.abc import Iterable


def distance_text(l2: float, missed: Iterable[float] = (), digits: int = 3) -> str:
    """Return a distance as text, with 3 digits, or up to 7 where fewer would look like a distance that was missed.

    Parameters
    ----------
    l2 : float
        The distance of a frame.
    missed : iterable of float
        The requested distances that the frame's morph did not attain.
    digits : int
        The number of digits, if they are enough.

    Examples
    --------
    >>> distance_text(11.9812), distance_text(11.9812, missed=[12.0]), distance_text(5.9812, missed=[12.0])
    ('12', '11.98', '5.98')
    """
    missed = list(missed)
    while digits < 7 and any(f"{l2:.{digits}g}" == f"{distance:.{digits}g}" for distance in missed):
        digits += 1
    return f"{l2:.{digits}g}"
