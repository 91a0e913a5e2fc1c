"""Stops idle threads from using the CPU, in the command and in the workers of jobs.

The threads of OpenMP (libgomp in torch's wheels) spin while they wait, which takes cores from other processes. A
variable in the environment shortens this; it is read when libgomp is loaded. With it, a job next to a busy process was
3 times as fast; without other processes, its time changed by less than 2 %.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SHORT_SPIN = {"GOMP_SPINCOUNT": "4000"}
SPIN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # settings of the user, which are kept


def short_spin(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to an environment; none if it has one of SPIN_SETTINGS."""
    return {} if any(name in environment for name in SPIN_SETTINGS) else SHORT_SPIN


def shorten_spin_of_command() -> None:
    """Set the variable if this process runs the command ``steerlens-fast``.

    Other programs that import the package are not changed. After torch has been imported, this has no effect.
    """
    if _is_command():
        os.environ.update(short_spin(os.environ))


def _is_command() -> bool:
    program = sys.argv[0] if sys.argv else ""
    # While "python -m steerlens_fast" imports the package, sys.argv[0] is "-m".
    by_module = program == "-m" and "steerlens_fast" in sys.orig_argv
    return by_module or Path(program).stem == "steerlens-fast"
