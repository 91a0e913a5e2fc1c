"""The phase "bench" of bench/cuda.sh: measures one row after the other, and writes the result after each.

When time runs out, the rows that are left are recorded as not measured.
"""

from __future__ import annotations

import sys
import time
import traceback

import kernels
import torch
import transforms
from common import not_measured, phase_arguments, write_result

MIN_SECONDS = 6.0  # no row is begun with less time left


def main() -> int:
    args = phase_arguments(__doc__)
    device = torch.device(args.device, 0) if args.device == "cuda" else torch.device("cpu")
    result: dict = {"kernels": [], "transforms": [], "errors": []}
    torch.manual_seed(0)
    # Transforms are measured first, since they matter more than single ops if time runs out
    for name, rows in (("transforms", transforms.rows(device)), ("kernels", kernels.rows(device))):
        for measurement in rows:
            result[name].append(row_of(measurement, device, args.deadline, result["errors"]))
            write_result(args.out, "bench", result)
    return int(bool(result["errors"]))


@torch.no_grad()
def row_of(measurement, device: torch.device, deadline: float, errors: list) -> dict:
    """Run one measurement, and return its row or the reason why it was not measured."""
    if device.type == "cuda" and time.monotonic() > deadline - MIN_SECONDS:
        return not_measured("out of time")
    try:
        result = measurement()
    except Exception as error:  # such as out of memory; the next rows are still measured
        traceback.print_exc()
        errors.append(f"{type(error).__name__}: {error}"[:300])
        result = not_measured(errors[-1])
    if device.type == "cuda":
        torch.cuda.empty_cache()
    print(result, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
