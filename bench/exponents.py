"""Fits how time grows: the exponent p of ``seconds ~ value^p``."""

from __future__ import annotations

import math
import statistics


def exponents(rows: list[dict]) -> list[dict]:
    """Return a fit for each axis, work and implementation."""
    kinds = dict.fromkeys((row["axis"], row["work"]) for row in rows)
    result = []
    for axis, work in kinds:
        points = [row for row in rows if (row["axis"], row["work"]) == (axis, work)]
        for who in dict.fromkeys(who for row in points for who in row["seconds"]):
            curve = [(row["value"], row["seconds"][who]) for row in points if who in row["seconds"]]
            fitted = fit(curve)
            if fitted:
                result.append({"axis": axis, "work": work, "who": who, **fitted})
    return result


def fit(curve: list[tuple[int, float]]) -> dict | None:
    """Return the exponent and the fitted range: least squares of the logarithms.

    Of more than three points, only the upper half is fitted: there, constant costs matter least.
    """
    if len(curve) < 2:
        return None
    upper = curve[len(curve) // 2 :] if len(curve) > 3 else curve
    x, y = ([math.log(v) for v in values] for values in zip(*upper))
    slope, _ = statistics.linear_regression(x, y)
    return {"exponent": slope, "from": upper[0][0], "to": upper[-1][0]}
