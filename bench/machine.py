"""Where a result was measured: machine, versions, date."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import date
from pathlib import Path

import torch

import steerlens_fast as sf


def machine(*distributions: str) -> dict:
    """Return facts about this machine, with the date and the versions of installed software.

    The versions include those of ``distributions``.
    """
    facts = {
        "cpu": _cpu(),
        "vectors": torch.backends.cpu.get_cpu_capability(),  # the level of torch's kernels
        "cpu_capability": sf.build_info()["cpu_capability"],  # the level of our kernels
        "cores": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "threads": torch.get_num_threads(),
        "huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "date": str(date.today()),
        "torch": torch.__version__,
        "steerlens_fast": sf.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        facts["gpu"], facts["cuda"] = torch.cuda.get_device_name(), torch.version.cuda
    return facts | {name: importlib.metadata.version(name) for name in distributions}


def _cpu() -> str | None:
    lines = (_read("/proc/cpuinfo") or "").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _caches() -> dict[str, str]:
    """Return the caches of the first core.

    For example {"L1 Data": "32K", "L2 Unified": "1024K"}.
    """
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    fields = [[_read(folder / name) for name in ("level", "type", "size")] for folder in folders]
    return {f"L{level} {kind}": size for level, kind, size in fields}


def _read(path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
