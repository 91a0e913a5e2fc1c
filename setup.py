"""Builds the libraries of steerlens_fast from csrc/: _C from C++, and _C_cuda if torch has CUDA and a toolkit is found.

Environment variables:
    CXX                     the C++ compiler (default: c++); it may follow a launcher, as in "ccache g++"
    FORCE_CPU=1             do not build the CUDA kernels
    FORCE_CUDA=1            raise an error if the CUDA kernels cannot be built
    CUDA_HOME, CUDA_PATH    folder of the CUDA toolkit (default: that of the nvcc on PATH or in /usr/local/cuda/bin)
    TORCH_CUDA_ARCH_LIST    GPU architectures, such as "8.0;9.0+PTX", or "all" for CUDA_ARCHS below (default: those of
                            this machine's GPUs, or "all" if there are none or nvcc does not know them)
    MAX_JOBS                number of files to compile at the same time
    CXXFLAGS, CPPFLAGS, LDFLAGS   flags of C++ compiler and linker, except those of FOREIGN_FLAGS below
    NVCC_PREPEND_FLAGS, NVCC_APPEND_FLAGS   flags of nvcc, with the same exceptions
"""

import itertools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import setuptools

# Checked here, since pip --no-build-isolation ignores the requirements in pyproject.toml.
if int(setuptools.__version__.split(".")[0]) < 77:
    found = f"this one is {setuptools.__version__}: pip install 'setuptools>=77.0.3'"
    sys.exit(f"steerlens_fast: building needs setuptools >= 77.0.3; {found}.")
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

try:
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    sys.exit(f"steerlens_fast: building needs torch >= 2.10: {error}. Install torch, then build.")
if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 10):  # builds from source may be 2.10.0a0
    sys.exit(f"steerlens_fast: building needs torch >= 2.10; this one is {torch.__version__}.")

# The release of LibTorch's stable ABI that the libraries use. They run with this and all later releases of torch.
TORCH_TARGET = (2, 10)
MACROS = [("TORCH_TARGET_VERSION", f"0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000")]
CUDA_MACROS = [("USE_CUDA", "1")]  # declares torch's functions for CUDA

# -fno-math-errno and -fno-trapping-math allow compilers to vectorise sqrt and selections. -ffast-math is not used,
# since infinities and NaN must keep their meaning.
# -g0 overrides -g, which is one of Python's own flags. Symbols are hidden, except those of exports.cpp.
CXX_FLAGS = "-std=c++17 -O3 -g0 -fno-math-errno -fno-trapping-math -fvisibility=hidden -Wall -Wextra".split()
NVCC_FLAGS = "-std=c++17 -O3 --expt-relaxed-constexpr -Xcompiler=-fvisibility=hidden,-Wall,-Wextra".split()
# SIMD width of the default level, in floats: 4 on aarch64, where every CPU has NEON. Elsewhere it is 0: the default
# level has no ops on whole planes.
DEFAULT_WIDTHS = {"aarch64": 4, "arm64": 4}
# The other CPU levels for which csrc/cpu/kernels is compiled: {name: (SIMD width in floats, flags)}. Their features are
# those that csrc/cpu/capability.cpp checks. They are listed one by one, since GCC 10 does not have -march=x86-64-v4,
# and clang uses registers of half the width with it.
AVX2 = "-mavx2 -mfma -mbmi -mbmi2".split()
AVX512 = "-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl".split()
X86_MACRO = ["-DSTEERLENS_X86_LEVELS"]
X86_LEVELS = {"avx2": (8, AVX2), "avx512": (16, AVX2 + AVX512)}
# Flags that are not used, though they are in the environment (CXX, CXXFLAGS, NVCC_APPEND_FLAGS ...) or in the flags of
# Python's own build. They change results, such as -ffast-math, or add instructions for which no CPU level is checked,
# such as -march=native. Of the flags that begin with -m, only those in (?!...) are used.
FOREIGN_FLAGS = re.compile(
    r"-Ofast|-m(?!(=?(32|64)|llvm|(no-)?omit-leaf-frame-pointer)$|(tune|cmodel|(float-)?abi|branch-protection)="
    r"|mac(osx|os)-version-min=|(axrregcount|achine|inimal)\b).+"  # nvcc's -maxrregcount, -machine, -minimal
    r"|-f(no-)?(fast-math|unsafe-math-optimizations|associative-math|reciprocal-math|finite-math-only|signed-zeros"
    r"|honor-nans|honor-infinities|approx-func|cx-limited-range|cx-fortran-rules|rounding-math|signaling-nans"
    r"|single-precision-constant)|-f(fp-contract|fp-model|excess-precision|denormal-fp-math\S*)=.*"
    r"|-fp-model=.*|-ftz|-fast|-a?x[A-Z].*"  # flags of Intel's compilers
    r"|--?(use_fast_math|(ftz|prec-div|prec-sqrt|fmad)=.*)"  # flags of nvcc
)
VALUE_FLAGS = re.compile(r"-fp-model|--?(ftz|prec-div|prec-sqrt|fmad)")  # foreign, too; the next word is the value
# Flags that pass their value to another compiler. The value is a list of flags with commas.
FORWARDING_FLAGS = ("-Xcompiler", "--compiler-options", "-Xclang", "-Xarch_host", "-Xarch_device")
# GPU architectures of "all", as far as nvcc supports them. Newer GPUs use the PTX of the last one
CUDA_ARCHS = ("8.0", "9.0", "10.0")


def version():
    text = Path("steerlens_fast/version.py").read_text()
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


def output_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def is_set(name):
    return os.environ.get(name, "0") not in ("", "0")


def find_toolkit():
    """Return (folder, release) of the CUDA toolkit, or None.

    Without CUDA_HOME, the folder is the one that nvcc prints, since the nvcc on PATH could be a wrapper script.
    """
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
    """Return the reason why CUDA kernels cannot be built, or None if they can."""
    this_torch, cuda = f"torch {torch.__version__}", torch.version.cuda
    if cuda is None:
        return f"{this_torch} was built without CUDA"
    if toolkit is None:
        home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
        where = f"{home}/bin, where CUDA_HOME points" if home else "PATH or /usr/local/cuda/bin"
        return f"there is no nvcc in {where}; {this_torch} needs that of CUDA {cuda}"
    home, release = toolkit
    if release.split(".")[0] != cuda.split(".")[0]:
        return f"nvcc in {home} is of CUDA {release}, but {this_torch} needs CUDA {cuda.split('.')[0]}"
    return None


def decide():
    """Return the CUDA toolkit to build with, and the reason.

    The toolkit is None if the build has no CUDA kernels.
    """
    if is_set("FORCE_CPU") and is_set("FORCE_CUDA"):
        sys.exit("steerlens_fast: FORCE_CPU and FORCE_CUDA are mutually exclusive, but both are set.")
    if is_set("FORCE_CPU"):
        return None, "FORCE_CPU is set"
    toolkit = find_toolkit()
    problem = obstacle(toolkit)
    if problem and is_set("FORCE_CUDA"):
        sys.exit(f"steerlens_fast: FORCE_CUDA is set, but {problem}.")
    if problem:
        return None, problem
    return toolkit, f"torch {torch.__version__}, nvcc {toolkit[1]}"


def local_archs():
    """Return the architectures of this machine's GPUs, [] if there are none."""
    smi = shutil.which("nvidia-smi")
    answer = output_of(smi, "--query-gpu=compute_cap", "--format=csv,noheader") if smi else ""
    return sorted(set(re.findall(r"^\d+\.\d$", answer, re.MULTILINE)), key=float)


def cuda_archs(nvcc):
    """Return the GPU architectures to compile for, in the notation of TORCH_CUDA_ARCH_LIST."""
    requested = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    if requested.lower() not in ("", "all"):
        return requested.replace(" ", ";")
    listed = output_of(nvcc, "--list-gpu-arch").split()
    known = lambda arch: f"compute_{arch.replace('.', '')}" in listed
    local = [] if requested else local_archs()
    archs = local if local and all(map(known, local)) else filter(known, CUDA_ARCHS)
    return ";".join(archs) + "+PTX"


def gencode(archs):
    """Return nvcc's flags for ``archs``.

    torch could make these flags, too, but does not if any flag contains "arch", even as a part of a path.
    """
    flags = []
    for arch in filter(None, archs.split(";")):
        number = re.fullmatch(r"(\d+)\.(\d+[af]?)(\+PTX)?", arch)
        if not number:
            sys.exit(f'steerlens_fast: TORCH_CUDA_ARCH_LIST must be like "8.0;9.0+PTX", got {arch!r}.')
        sm = number[1] + number[2]
        codes = [f"sm_{sm}", f"compute_{sm}"] if number[3] else [f"sm_{sm}"]
        flags += [f"-gencode=arch=compute_{sm},code={code}" for code in codes]
    return flags


def system_includes(device):
    """Return flags for the headers of torch and CUDA.

    They are included as system headers, so that they cause no warnings.
    """
    return [flag for path in cpp_extension.include_paths(device_type=device) for flag in ("-isystem", path)]


def nvcc_flags(archs, device="cuda"):
    return NVCC_FLAGS + gencode(archs) + system_includes(device)


def cpu_levels(machine):
    """Return the CPU levels of a type of machine.

    The result is ({level: flags}, macros for all C++ files).
    """
    machine = machine.lower() if os.name != "nt" else ""  # on Windows, compilers do not have these flags and vectors
    x86 = machine in ("x86_64", "amd64")
    default = DEFAULT_WIDTHS.get(machine, 0)
    levels = {"default": (default, [])} | (X86_LEVELS if x86 else {})
    macros = [f"-DSTEERLENS_DEFAULT_SIMD_WIDTH={default}"] + X86_MACRO * x86
    flags_of = lambda name, width: [f"-DSTEERLENS_CPU_LEVEL=cpu_{name}", f"-DSTEERLENS_SIMD_WIDTH={width}"]
    return {name: flags + flags_of(name, width) + macros for name, (width, flags) in levels.items()}, macros


class KernelExtension(Extension):
    """An extension with sources that are compiled once for each CPU level.

    Each level has flags of its own.
    """

    def __init__(self, *args, kernels, levels, kernel_flags, **kwargs):
        super().__init__(*args, **kwargs)
        self.kernels, self.levels, self.kernel_flags = kernels, levels, kernel_flags

    @property
    def num_objects(self):
        return len(self.sources) + len(self.kernels) * len(self.levels)


def extensions(toolkit, reason, machine=None):
    """Return the extensions to build: _C and, if there is a toolkit, _C_cuda."""
    device, archs = "cpu", ""
    if toolkit:
        device = "cuda"
        cpp_extension.CUDA_HOME = toolkit[0]  # torch may have found the folder of a wrapper script
        archs = cuda_archs(f"{toolkit[0]}/bin/nvcc")
    levels, macros = cpu_levels(machine or platform.machine())
    build_facts = {  # build_info() returns these
        "STEERLENS_VERSION": version(),
        "STEERLENS_TORCH_BUILT": torch.__version__,
        "STEERLENS_TORCH_TARGET": ".".join(map(str, TORCH_TARGET)),
        "STEERLENS_NVCC": toolkit[1] if toolkit else "",
        "STEERLENS_CUDA_ARCHS": archs,
        "STEERLENS_BUILD_REASON": reason,
        "STEERLENS_CPU_LEVELS": ", ".join(levels),
    }
    cxx = CXX_FLAGS + [f'-D{name}="{value}"' for name, value in build_facts.items()] + system_includes(device)
    patterns = ("**/*.cpp", "cpu/kernels/*.cpp", "cuda/**/*.cu", "**/*.*h")
    cpp, kernels, cu, headers = (sorted(map(str, Path("csrc").glob(pattern))) for pattern in patterns)
    shared = dict(
        include_dirs=[os.path.abspath("csrc")],  # absolute, since ninja runs in the build folder
        # No rpath is needed, since `import torch` has already loaded torch's libraries
        library_dirs=cpp_extension.library_paths(device_type=device),
        language="c++",
    )
    libraries = ["c10", "torch", "torch_cpu"]
    cpu = KernelExtension(
        "steerlens_fast._C",
        sources=[source for source in cpp if source not in kernels],
        kernels=kernels,
        levels=levels,
        kernel_flags=CXX_FLAGS,
        depends=headers + kernels,
        define_macros=MACROS,
        libraries=libraries,
        extra_compile_args={"cxx": cxx + macros},
        **shared,
    )
    if not toolkit:
        return [cpu]
    cuda = Extension(
        "steerlens_fast._C_cuda",
        sources=cu,
        depends=headers,
        define_macros=MACROS + CUDA_MACROS,
        libraries=[*libraries, "torch_cuda", "cudart"],
        extra_compile_args={"cxx": cxx, "nvcc": nvcc_flags(archs)},
        **shared,
    )
    return [cpu, cuda]


# --- Checks of the machine; a failed check ends the build with a message of one line

PROBE = Path(__file__).resolve().parent / ".ci/compiler.txt"  # a C++ file that old compilers cannot compile
NEEDED_SPACE = 200 << 20  # bytes, for temporary files of compilers and for object files


def words_of(name, kind="flags"):
    """Return the words of an environment variable."""
    value = os.environ.get(name, "")
    try:
        return shlex.split(value)
    except ValueError as error:
        sys.exit(f"steerlens_fast: {name} must be {kind}, got {value!r}: {error}.")


def compiler_command():
    """Return CXX as a list of words."""
    return words_of("CXX", "a command") if os.environ.get("CXX") else ["c++"]


def max_jobs():
    """Return MAX_JOBS as a number, or None if it is not set."""
    jobs = os.environ.get("MAX_JOBS", "")
    if jobs and not re.fullmatch("0*[1-9][0-9]*", jobs):
        sys.exit(f"steerlens_fast: MAX_JOBS must be a positive integer, got {jobs!r}.")
    return int(jobs) if jobs else None


def check_compiler(command):
    needed = "building needs a C++17 compiler (GCC 10, clang 14 or newer; Debian: apt install g++)"
    if not command or shutil.which(command[0]) is None:
        sys.exit(
            f"steerlens_fast: {needed}, and {shlex.join(command)!r} is not on PATH. Install one, or set CXX to one."
        )
    flags = ["-std=c++17", "-x", "c++", "-", "-fsyntax-only"]
    env = os.environ | {"LC_ALL": "C"}  # without translated messages
    done = subprocess.run([*command, *flags], input=PROBE.read_bytes(), capture_output=True, env=env, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        errors = [line for line in lines if "error" in line] or lines
        reason = errors[0] if errors else f"exit status {done.returncode}"
        sys.exit(f"steerlens_fast: {needed}; {shlex.join(command)!r} fails: {reason}. Set CXX to another.")


def without_foreign_flags(command):
    """Return the words of a command without FOREIGN_FLAGS; print the flags that are left out."""
    kept, foreign, words = [], [], list(command)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option in FORWARDING_FLAGS and (equals or words):
            value = value if equals else words.pop(0)
            flags = re.split(r"[,\s]+", value)
            used = [flag for flag in flags if not FOREIGN_FLAGS.fullmatch(flag)]
            foreign += [flag for flag in flags if flag not in used]
            if used:
                value = value if used == flags else ",".join(used)
                kept += [f"{option}={value}"] if equals else [option, value]
        elif VALUE_FLAGS.fullmatch(word) and words and not words[0].startswith("-"):
            foreign.append(f"{word} {words.pop(0)}")
        elif FOREIGN_FLAGS.fullmatch(word):
            foreign.append(word)
        else:
            kept.append(word)
    for flag in sorted(set(foreign) - _reported):
        print(f"steerlens_fast: {flag} is not used, because it could change results or need a newer CPU", flush=True)
    _reported.update(foreign)
    return kept


_reported = set()


def clean_nvcc_flags():
    """Remove FOREIGN_FLAGS from the variables that nvcc itself reads.

    A variable without such flags stays as it is: nvcc does not interpret quotes, so words must not be quoted again.
    """
    for name in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"):
        words = words_of(name)
        kept = without_foreign_flags(words)
        if kept != words:
            os.environ[name] = " ".join(kept)


def find_ninja():
    """Let torch find ninja on PATH; if none runs, add the folder of a ninja of this Python.

    That folder is not on PATH if the environment of this Python is not active. It goes to the end of PATH, since it may
    have compilers, too. It goes to the front only if PATH has a ninja that does not run, such as a script of pyenv.
    """
    schemes = [sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")]
    folders = [*(sysconfig.get_path("scripts", scheme) for scheme in schemes), os.path.join(sys.base_prefix, "bin")]
    path = os.environ.get("PATH", os.defpath)
    orders = [[path], *([path, folder] for folder in folders), *([folder, path] for folder in folders)]
    for candidate in map(os.pathsep.join, orders):
        ninja = shutil.which("ninja", path=candidate)
        with suppress(OSError):
            if ninja and subprocess.run([ninja, "--version"], capture_output=True, check=False).returncode == 0:
                os.environ["PATH"] = candidate
                return
    print("steerlens_fast: there is no ninja, so files are compiled one at a time: pip install ninja", flush=True)


def check_writable():
    if not os.access(".", os.W_OK):
        text = f"{os.getcwd()} is read-only, and the build writes into it. Use a copy: cp -r . /tmp/copy"
        sys.exit(f"steerlens_fast: {text}")


def wait_for_other_builds():
    """Wait until no other process builds in this folder, and let others wait until this process ends.

    Two builds would write the same files. Where files cannot be locked, nothing is done.
    """
    if fcntl is None or _lock:
        return
    os.makedirs("build", exist_ok=True)
    _lock.append(open("build/lock", "a"))
    with suppress(OSError):
        try:
            fcntl.flock(_lock[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"steerlens_fast: waiting for another process that builds in {os.getcwd()}", flush=True)
            fcntl.flock(_lock[0], fcntl.LOCK_EX)


_lock = []  # the open file that this process has locked


def check_paths(paths):
    """Check that ninja and compilers can use the paths of the source tree and of torch."""
    for path in paths:
        found = re.search(r"[$:|\n]", os.path.splitdrive(path)[1])  # drives of Windows end with a colon
        if found:
            sys.exit(f"steerlens_fast: building needs a path without {found[0]!r}, got {path!r}: use another folder.")


def check_folders(folder):
    """Check that there is space in the folders of the build and of temporary files."""
    os.makedirs(folder, exist_ok=True)
    temporary = os.environ.get("TMPDIR", "")  # tempfile.gettempdir() skips a folder that is full
    temporary = temporary if os.path.isdir(temporary) else tempfile.gettempdir()
    for place, advice in ((temporary, "set TMPDIR to another folder"), (os.path.abspath(folder), "free some")):
        free = shutil.disk_usage(place).free
        if free < NEEDED_SPACE:
            text = f"{place} has {free >> 20} MB of free space, and the build needs {NEEDED_SPACE >> 20} MB"
            sys.exit(f"steerlens_fast: {text}: {advice}.")


def single_word_compiler(command, folder):
    """Write a script that runs a compiler of several words, such as "ccache g++", and put the script's folder on PATH.

    Return the script's name, such as "run-g++". torch checks that it ends with the compiler's name. If both names were
    equal, the script would call itself.

    torch and setuptools need one word: torch interprets CXX as the name of one file, setuptools splits it at spaces.
    """
    names = [Path(word).name for word in command]
    folder = Path(folder).resolve()
    script = folder / f"run-{next((name for name in names if 'cache' not in name), names[-1])}"
    text = f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'
    if not script.exists() or script.read_text(errors="replace") != text:
        script.write_text(text)
        script.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
    return script.name


@contextmanager
def progress(folder, total, every=15.0):
    """Within the block, print the elapsed time and the number of new object files in a folder every few seconds."""
    start, done = time.time(), threading.Event()

    def report():
        while not done.wait(every):
            minutes, seconds = divmod(round(time.time() - start), 60)
            count = 0
            for path in Path(folder).rglob("*.o"):
                with suppress(OSError):  # compilers delete and write these files
                    count += path.stat().st_mtime >= start - 1
            print(f"steerlens_fast: {minutes}:{seconds:02d}, {count} of {total} files compiled", flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Build(cpp_extension.BuildExtension):
    """torch's build command.

    It also prints the decision about CUDA, and compiles kernels for each CPU level.
    """

    decision = ""  # what is built, and the reason

    def __init__(self, *args, **kwargs):
        find_ninja()
        super().__init__(*args, no_python_abi_suffix=True, **kwargs)  # named _C.so, since it is not a Python module

    def finalize_options(self):
        super().finalize_options()
        self.include_dirs = []  # removes Python's headers, which are not used and may not be installed
        # Build even if no source has changed: the library contains the version and other facts. Ninja still compiles
        # only what has changed.
        self.force = True

    def run(self):
        # `pip install -e` would use a temporary folder. In the folder set here, object files are kept, and ninja
        # compiles only what has changed.
        self.build_temp = f"build/temp.{sysconfig.get_platform()}"
        max_jobs()  # torch reads MAX_JOBS, and ninja would start any number of compilers for 0
        for name in ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"):
            words_of(name)  # ends the build if quotes are not closed, before setuptools raises an error
        clean_nvcc_flags()
        compiler = without_foreign_flags(compiler_command())
        check_paths([os.getcwd(), *cpp_extension.include_paths()])
        wait_for_other_builds()
        check_folders(self.build_temp)
        check_compiler(compiler)
        if len(compiler) > 1 or " " in compiler[0]:
            compiler = [single_word_compiler(compiler, self.build_temp)]
            os.environ["TORCH_NO_COMPILER_WRAPPER"] = "1"  # torch would add another launcher
        os.environ["CXX"] = compiler[0]  # without ninja, setuptools would use the compiler that Python was built with
        super().run()

    def build_extensions(self):
        print(f"steerlens_fast: {self.decision}", flush=True)
        if self.compiler.compiler_type == "unix":
            for name in ("compiler_so_cxx", "linker_so_cxx"):
                setattr(self.compiler, name, without_foreign_flags(getattr(self.compiler, name)))
            # torch compiles by compiler_so, which is the command for C: it may have flags of C, and several words
            self.compiler.compiler_so = self.compiler.compiler_so_cxx
        count = sum(getattr(one, "num_objects", len(one.sources)) for one in self.extensions)
        with progress(self.build_temp, count):
            try:
                super().build_extensions()
            except RuntimeError as error:
                # torch gives the text of one error and its arguments separately
                text = error.args[0] % error.args[1:] if len(error.args) > 1 else str(error)
                if text.startswith("Error compiling objects"):  # torch does not know the reason: ninja has printed it
                    text = f"the compiler failed ({text}); its messages are above."
                sys.exit(f"steerlens_fast: {text}")

    def copy_file(self, source, target, *args, **kwargs):
        """Copy a library, and replace that of an earlier build only when the copy is complete."""
        new = Path(f"{target}.new")
        new.unlink(missing_ok=True)
        try:
            super().copy_file(source, str(new), *args, **kwargs)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
        return target, True

    def build_extension(self, extension):
        if isinstance(extension, KernelExtension):
            objects = [self.compile_kernels(extension, level) for level in extension.levels]
            extension.extra_objects = list(itertools.chain(*objects))
        super().build_extension(extension)

    def compile_kernels(self, extension, level):
        """Compile the kernels for one CPU level; return their object files."""
        return self.compiler.compile(
            extension.kernels,
            output_dir=f"{self.build_temp}/{level}",
            extra_postargs={"cxx": extension.kernel_flags + extension.levels[level]},
            depends=extension.depends,
        )


class PythonFiles(build_py):
    """Copies the Python files.

    Files of an earlier build that no longer exist in the sources are deleted.
    """

    def run(self):
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "steerlens_fast"), ignore_errors=True)
        super().run()


class Wheel(bdist_wheel):
    """A wheel for every version of Python: the libraries are loaded by torch, not as Python modules."""

    def run(self):
        wait_for_other_builds()
        super().run()

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


def tracked_files(folder="."):
    """Return the files that git tracks.

    The result is [] in an unpacked source archive, where SOURCES.txt lists them.
    """
    if not Path(folder, ".git").exists():
        if Path(folder, "PKG-INFO").exists():
            return []
        text = f"a source archive needs a git repository, and {Path(folder).resolve()} is none"
        sys.exit(f"steerlens_fast: {text}. Make a wheel without one: python -m build --wheel")
    command = ["git", "-C", str(folder), "ls-files", "-z"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        sys.exit(f"steerlens_fast: git must list the files of the source archive: {reason.strip().splitlines()[0]}")
    return [name for name in done.stdout.split("\0") if Path(folder, name).is_file()]


class SourceArchive(sdist):
    """A source archive with all files that git tracks.

    It can be built, linted and tested.
    """

    def make_distribution(self):
        self.filelist.extend(tracked_files())
        self.filelist.sort()
        self.filelist.remove_duplicates()
        listed = Path(self.get_finalized_command("egg_info").egg_info, "SOURCES.txt")
        listed.write_text("\n".join(self.filelist.files) + "\n")
        super().make_distribution()


if __name__ == "__main__":
    check_writable()  # before setuptools fails with a longer message
    toolkit, reason = decide()
    Build.decision = f"building {'C++ and CUDA' if toolkit else 'C++ only, no CUDA kernels'}: {reason}"
    setup(
        version=version(),
        ext_modules=extensions(toolkit, reason),
        cmdclass={"build_ext": Build, "build_py": PythonFiles, "bdist_wheel": Wheel, "sdist": SourceArchive},
    )
