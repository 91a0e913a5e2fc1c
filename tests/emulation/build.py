"""Builds the unmodified csrc/cuda for the CPU, as a library with the ops ``torch.ops.steerlens_emulated``.

Object files are kept in build/emulation. Their names contain a hash of everything that they depend on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
import setup  # noqa: E402  (setup.py defines the flags)

HERE, CSRC, BUILD = Path(__file__).parent, ROOT / "csrc", ROOT / "build/emulation"
RUNTIME_HEADERS = [HERE / "device/cuda_runtime.h", HERE / "device/cooperative_groups.h"]
NAMESPACE = "steerlens_emulated"  # namespace of the ops; the same as in __init__.py
CXX = shlex.split(os.environ.get("CXX", "g++"))

# {kind of build: flags for the kernels}
KINDS = {
    "plain": ["-O2", "-fsanitize=alignment"],
    # Without -fno-tree-sra, GCC would store the members of a struct one by one, where a GPU stores 16 bytes.
    "counting": ["-O1", "-fno-tree-sra", "-fsanitize=thread"],
    "sanitized": ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
COMMON = ["-fPIC", "-Wno-unknown-pragmas", "-Wno-tsan", "-fno-ipa-icf", f"-Dsteerlens_fast={NAMESPACE}"]
# {kind of build: flags for the linker}. By default, undefined functions are no error in a shared library. "counting"
# does not link the library of -fsanitize=thread, because device/traffic.cpp defines its functions.
LINK_FLAGS = {
    "plain": ["-Wl,--no-undefined"],
    "counting": ["-Wl,--no-undefined"],
    "sanitized": ["-fsanitize=address,undefined"],
}


def build(kind: str = "plain", sources: list[Path] | None = None) -> Path:
    """Build a library and return its path.

    By default it has all ops, otherwise those of ``sources``.
    """
    kernels = [*sorted(CSRC.glob("cuda/**/*.cu")), CSRC / "schema.cpp"] if sources is None else sources
    device, device_flags = sorted((HERE / "device").glob("*.cpp")), ["-O2"]
    if kind == "sanitized":
        # The sanitizer's library has the function that alignment.cpp defines.
        device = [source for source in device if source.stem != "alignment"]
        device_flags.append("-DEMULATION_SANITIZED")
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f"{kind}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(setup.max_jobs() or os.cpu_count() or 1) as pool:
            objects = list(pool.map(lambda s: compiled(s, KINDS[kind]), kernels))
            objects += pool.map(lambda s: compiled(s, device_flags), device)
        return linked(objects, LINK_FLAGS[kind])


def compiled(source: Path, flags: list[str]) -> Path:
    macros = [f"-D{name}={value}" for name, value in setup.MACROS]
    includes = [f"-I{HERE / 'device'}", f"-I{CSRC}", *setup.system_includes("cpu")]
    cxx_flags = [flag for flag in setup.CXX_FLAGS if flag not in ("-O3", "-g0")]
    command = [*CXX, *cxx_flags, *COMMON, *flags, *macros, *includes]
    is_emulation = source.is_relative_to(HERE / "device")
    csrc_headers = [path for path in sorted(CSRC.glob("**/*.h")) if "cpu" not in path.relative_to(CSRC).parts]
    headers = sorted((HERE / "device").glob("*.h")) if is_emulation else [*csrc_headers, *RUNTIME_HEADERS]
    target = BUILD / f"{source.stem}-{digest(command, source, *headers)}.o"
    if not target.exists():
        run([*command, "-x", "c++", "-c", str(source), "-o", f"{target}.{os.getpid()}"])
        os.replace(f"{target}.{os.getpid()}", target)
    return target


def linked(objects: list[Path], flags: list[str]) -> Path:
    target = BUILD / f"emulated-{digest([*flags, *map(str, objects)])}.so"
    if not target.exists():
        paths = [f"-L{path}" for path in cpp_extension.library_paths(device_type="cpu")]
        libraries = ["-lc10", "-ltorch", "-ltorch_cpu", "-ldl"]
        run([*CXX, "-shared", *flags, *map(str, objects), *paths, *libraries, "-o", f"{target}.new"])
        # A file with the names of kernels, which are no dynamic symbols; kernel_name in scheduler.cpp reads it
        names = run(["nm", "-C", "--defined-only", f"{target}.new"])
        lines = [line.split(" ", 2) for line in names.splitlines()]
        check_shared(lines)
        text = [f"{address} {name}\n" for address, kind, name in lines if kind in "tTwW"]
        Path(f"{target}.symbols").write_text("".join(text))
        os.replace(f"{target}.new", target)
    return target


def check_shared(symbols: list[list[str]]) -> None:
    """Raise an error if a shared variable is outside of the section that the scheduler knows.

    GCC ignores the section of variables that are defined in templates.
    """
    place = {name: int(address, 16) for address, _, name in symbols}
    begin, end = (place.get(f"__{side}_shared_memory", 0) for side in ("start", "stop"))
    local = [name for _, kind, name in symbols if kind in "bBdDuV" and re.match(r"steerlens::.*\)::\w+$", name)]
    if outside := [name for name in local if not begin <= place[name] < end]:
        raise RuntimeError(f"shared variables must not be defined in templates, got {', '.join(outside)}")


def digest(command: list[str], *files: Path) -> str:
    result = hashlib.sha256(repr([command, torch.__version__, sys.version, compiler()]).encode())
    for file in files:
        result.update(file.read_bytes())
    return result.hexdigest()[:20]


def compiler() -> str:
    return run([*CXX, "--version"])


def run(command: list[str]) -> str:
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # without the sanitizers
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    print(build(*sys.argv[1:2]))
