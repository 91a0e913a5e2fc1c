"""Builds steerlens_fast._C from csrc/: the C++ always, the CUDA kernels where torch and machine allow.

Environment variables:
    FORCE_CPU=1, FORCE_CUDA=1   decide about the CUDA kernels; a wish that cannot be met is an error
    CUDA_HOME                   the CUDA toolkit, where the nvcc on PATH is not the right one
    TORCH_CUDA_ARCH_LIST        GPU architectures, e.g. "8.0;9.0+PTX"
    STEERLENS_PTXAS=1           let nvcc report each kernel's registers and spills
    MAX_JOBS                    how many files to compile at a time
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, setup

try:
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    sys.exit(f"steerlens_fast: building needs torch >= 2.10: {error}. Install torch, then build.")
if torch.__version__ < "2.10":  # pip --no-build-isolation does not look at what pyproject.toml asks for
    sys.exit(f"steerlens_fast: building needs torch >= 2.10; this one is {torch.__version__}.")

# LibTorch's stable ABI as of this release: one binary runs on every torch from here on.
TORCH_TARGET = (2, 10)
MACROS = [("TORCH_TARGET_VERSION", f"0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000")]
CUDA_MACROS = [("STEERLENS_WITH_CUDA", "1"), ("USE_CUDA", "1")]  # USE_CUDA: torch's CUDA entry points

# No fast-math on either side: infinities and NaN must behave. What is given up is errno and floating-point
# exceptions, which nobody reads and which keep sqrt and selects from being vectorised.
# -g0 undoes the -g among Python's own flags. Our symbols stay hidden: PyInit__C is all that is looked up.
CXX_FLAGS = "-std=c++17 -O3 -g0 -fno-math-errno -fno-trapping-math -fvisibility=hidden -Wall -Wextra".split()
NVCC_FLAGS = "-std=c++17 -O3 --expt-relaxed-constexpr -Xcompiler=-fvisibility=hidden,-Wall,-Wextra".split()
CUDA_ARCHS = ("8.0", "9.0", "10.0")  # those of them that nvcc knows; PTX of the last carries newer GPUs


def version():
    text = Path("steerlens_fast/version.py").read_text()
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


def output_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def flag_set(name):
    return os.environ.get(name, "0") not in ("", "0")


def find_toolkit():
    """(home, release) of the CUDA toolkit, or None. Its nvcc is asked: the one on PATH may be a wrapper."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    path = f"{home}/bin" if home else os.environ.get("PATH", "") + ":/usr/local/cuda/bin"
    nvcc = shutil.which("nvcc", path=path)
    release = nvcc and re.search(r"release ([\d.]+)", output_of(nvcc, "--version"))
    if not release:
        return None
    steps = output_of(nvcc, "--dryrun", "-E", "-x", "cu", os.devnull)
    top = re.search(r"^#\$ TOP=(.+)$", steps, re.MULTILINE)
    return str(Path(home or (top and top[1]) or Path(nvcc).parents[1]).resolve()), release[1]


def obstacle(toolkit):
    """What stands in the way of CUDA kernels, in words; None where nothing does."""
    this_torch, cuda = f"torch {torch.__version__}", torch.version.cuda
    if cuda is None:
        return f"{this_torch} was built without CUDA"
    if toolkit is None:
        home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
        where = f"{home}/bin, where CUDA_HOME points" if home else "PATH or /usr/local/cuda/bin"
        return f"there is no nvcc in {where}; {this_torch} wants that of CUDA {cuda}"
    home, release = toolkit
    if release.split(".")[0] != cuda.split(".")[0]:
        return f"nvcc in {home} is of CUDA {release} and {this_torch} of CUDA {cuda}: the majors differ"
    return None


def decide():
    """(toolkit, reason): the toolkit to build CUDA kernels with, None for a CPU-only build; and why."""
    if flag_set("FORCE_CPU") and flag_set("FORCE_CUDA"):
        sys.exit("steerlens_fast: FORCE_CPU and FORCE_CUDA are both set; they exclude each other.")
    if flag_set("FORCE_CPU"):
        return None, "FORCE_CPU is set"
    toolkit = find_toolkit()
    problem = obstacle(toolkit)
    if problem and flag_set("FORCE_CUDA"):
        sys.exit(f"steerlens_fast: FORCE_CUDA is set, but {problem}.")
    if problem:
        return None, problem
    return toolkit, f"torch {torch.__version__}, nvcc {toolkit[1]}"


def cuda_archs(nvcc):
    """GPU architectures to compile for, in torch's notation."""
    wished = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if wished:
        return wished.replace(" ", ";")
    known = output_of(nvcc, "--list-gpu-arch").split()
    return ";".join(arch for arch in CUDA_ARCHS if f"compute_{arch.replace('.', '')}" in known) + "+PTX"


def gencode(archs):
    """nvcc's flags for them. Not left to torch, which looks for GPUs and takes any flag with "arch" in it,
    be it the path of a home directory, for an architecture already chosen."""
    flags = []
    for arch in filter(None, archs.split(";")):
        number = re.fullmatch(r"(\d+)\.(\d+[af]?)(\+PTX)?", arch)
        if not number:
            sys.exit(f'steerlens_fast: TORCH_CUDA_ARCH_LIST has {arch!r}; not like "8.0;9.0+PTX".')
        sm = number[1] + number[2]
        codes = [f"sm_{sm}", f"compute_{sm}"] if number[3] else [f"sm_{sm}"]
        flags += [f"-gencode=arch=compute_{sm},code={code}" for code in codes]
    return flags


def system_includes(device):
    """Other people's headers, as system headers: their warnings are not ours."""
    paths = cpp_extension.include_paths(device_type=device)
    try:
        import pybind11

        paths.insert(0, pybind11.get_include())
    except ImportError:
        pass  # torch brings a copy
    return [flag for path in paths for flag in ("-isystem", path)]


def nvcc_flags(archs, device="cuda"):
    report = ["-Xptxas=-v"] if os.environ.get("STEERLENS_PTXAS") == "1" else []
    return NVCC_FLAGS + gencode(archs) + report + system_includes(device)


def extension(toolkit, reason):
    device = "cuda" if toolkit else "cpu"
    archs = ""
    if toolkit:
        cpp_extension.CUDA_HOME = toolkit[0]  # torch would take it from PATH, where nvcc may be a wrapper
        archs = cuda_archs(f"{toolkit[0]}/bin/nvcc")
    told = {  # what build_info() repeats
        "STEERLENS_VERSION": version(),
        "STEERLENS_TORCH_BUILT": torch.__version__,
        "STEERLENS_TORCH_TARGET": ".".join(map(str, TORCH_TARGET)),
        "STEERLENS_NVCC": toolkit[1] if toolkit else "",
        "STEERLENS_CUDA_ARCHS": archs,
        "STEERLENS_BUILD_REASON": reason,
    }
    cxx = CXX_FLAGS + [f'-D{name}="{value}"' for name, value in told.items()] + system_includes(device)
    cpp, cu, headers = (sorted(map(str, Path("csrc").glob(p))) for p in ("**/*.cpp", "cuda/*.cu", "**/*.*h"))
    return Extension(
        "steerlens_fast._C",
        sources=cpp + (cu if toolkit else []),
        depends=[*headers, *cu, "csrc/README.md"],  # what rebuilds it when changed, and what makes the sdist complete
        include_dirs=[os.path.abspath("csrc")],  # absolute, since ninja runs in the build folder
        define_macros=MACROS + (CUDA_MACROS if toolkit else [("STEERLENS_WITH_CUDA", "0")]),
        # Not torch_python: the ops need libtorch alone. No rpath: `import torch` has loaded these before us.
        libraries=["c10", "torch", "torch_cpu"] + (["torch_cuda", "cudart"] if toolkit else []),
        library_dirs=cpp_extension.library_paths(device_type=device),
        extra_compile_args={"cxx": cxx, "nvcc": nvcc_flags(archs) if toolkit else []},
        language="c++",
    )


@contextmanager
def progress(folder, total, every=15.0):
    """Prints a line every few seconds: the elapsed time, and how many object files were written below a folder."""
    start, done = time.time(), threading.Event()

    def report():
        while not done.wait(every):
            minutes, seconds = divmod(round(time.time() - start), 60)
            count = sum(path.stat().st_mtime >= start - 1 for path in Path(folder).rglob("*.o"))
            print(f"steerlens_fast: {minutes}:{seconds:02d}, {count} of {total} files compiled", flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Build(cpp_extension.BuildExtension):
    """torch's build (ninja, in parallel, nvcc), which first says what is built and why."""

    decision = ""

    def build_extensions(self):
        print(f"steerlens_fast: {self.decision}", flush=True)
        # In the checkout also for `pip install -e`, which would throw it away: ninja compiles what changed.
        self.build_temp = f"build/temp.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        with progress(self.build_temp, sum(len(extension.sources) for extension in self.extensions)):
            super().build_extensions()


if __name__ == "__main__":
    toolkit, reason = decide()
    Build.decision = f"building {'C++ and CUDA' if toolkit else 'C++ only, no CUDA kernels'}: {reason}"
    setup(version=version(), ext_modules=[extension(toolkit, reason)], cmdclass={"build_ext": Build})
