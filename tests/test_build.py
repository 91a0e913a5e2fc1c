"""The build and its options, imports, and the files of the repository."""

import argparse
import importlib.util
import json
import ntpath
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
import setuptools
import torch
from op_cases import CPU_OPS, CPU_PLANE_OPS, PLANE_OPS

import steerlens_fast
from steerlens_fast import native

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "steerlens_fast").rglob("*.py"))
TOP_LEVEL = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "csrc", "steerlens_fast", "tests", "bench"}
needs_checkout = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="there is no setup.py beside tests/")


def run(*arguments, cwd, **environment):
    """Run Python with ``arguments``, and return its exit status and its output.

    FORCE_* variables are those of ``environment`` only.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORCE_")} | environment
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


# --- The build that is tested


def test_build_info_has_all_keys():
    info = steerlens_fast.build_info()
    keys = {"version", "cuda", "cuda_archs", "nvcc", "torch_built", "torch_target", "cpu_levels", "compiler"}
    assert set(info) >= keys | {"cpu_capability"}
    assert info["version"] == steerlens_fast.__version__
    assert isinstance(info["cuda"], bool)
    assert bool(info["cuda_archs"]) == bool(info["nvcc"])
    assert info["nvcc"] or not info["cuda"]
    assert info["torch_target"] == "2.10"
    assert info["compiler"]
    x86 = platform.machine().lower() in ("x86_64", "amd64") and os.name != "nt"
    assert info["cpu_levels"] == ("default, avx2, avx512" if x86 else "default")  # every compiler builds all levels
    default_width = 4 if platform.machine().lower() in ("aarch64", "arm64") and os.name != "nt" else 0
    assert {"default": default_width, "avx2": 8, "avx512": 16}[info["cpu_capability"]] == native.SIMD_WIDTH


def test_built_for_this_torch_or_an_older_one():
    number = lambda text: tuple(map(int, re.match(r"(\d+)\.(\d+)", text).groups()))
    info = steerlens_fast.build_info()
    assert number(info["torch_target"]) <= number(info["torch_built"])
    assert number(info["torch_target"]) <= number(torch.__version__)


def test_cuda_kernels_are_registered_if_they_were_built():
    has = torch._C._dispatch_has_kernel_for_dispatch_key("steerlens_fast::split_bands", "CUDA")
    assert has == steerlens_fast.build_info()["cuda"]


# --- Importing


EXTRAS = "sklearn scipy matplotlib PIL tqdm plenoptic pandas setuptools torchvision timm datasets safetensors"
SLOW = "torch._dynamo torch._inductor torch.utils.cpp_extension"  # their import takes a second or more
# Statements, and modules that they must not import (unless torch imports them)
IMPORTS = {
    "import steerlens_fast": f"{EXTRAS} {SLOW}",
    "import steerlens_fast.data.decoding, steerlens_fast.data.resize": "PIL",
    "import steerlens_fast.data.sources.open": "PIL datasets safetensors",
    "import steerlens_fast.models.load, steerlens_fast.data.targets": EXTRAS,
    "from steerlens_fast.cli import main; main(['demo', '--help'])": "matplotlib sklearn PIL steerlens_fast.demo.demo",
}
IMPORT_EACH = """
import json, os, subprocess, sys, torch
imported_by_torch = set(sys.modules)
def refuse(*args, **kwargs): raise AssertionError("an import started a process")
subprocess.Popen.__init__ = refuse
for statement, modules in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        try:
            exec(statement)
        except SystemExit:
            pass
        heavy = (set(sys.modules) - imported_by_torch) & set(modules.split())
        assert not heavy, f"{statement} has imported {sorted(heavy)}"
        assert not torch.cuda.is_initialized()
        sys.exit()
    assert os.wait()[1] == 0, statement
"""


def test_imports_load_no_extras_and_start_no_process():
    """Imports do not initialise CUDA either."""
    code, output = run("-c", IMPORT_EACH, json.dumps(IMPORTS), cwd=ROOT)
    assert code == 0, output


def test_libraries_need_torch_and_no_python():
    """The libraries work with every version of Python, so they must not call Python or link to it."""
    libraries = [path for path in (native.LIBRARY, native.CUDA_LIBRARY) if path.exists()]
    for path in libraries:
        text = path.read_bytes()
        assert b"libtorch_cpu" in text or b"libtorch_cuda" in text
        assert not re.search(rb"libpython|libtorch_python|\0_?Py[A-Z][a-z]+_\w+\0", text), path.name


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("objdump"), reason="no x86-64, or no objdump")
def test_only_kernels_of_a_cpu_level_use_avx():
    """The linker keeps one of several functions of the same name.

    Outside the namespaces of the CPU levels, it could keep one with AVX code, which CPUs without AVX cannot run.
    """
    command = ["objdump", "-d", "--no-show-raw-insn", "--no-addresses", native.LIBRARY]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions = re.findall(r"^<(\S+)>:\n((?:.+\n)*)", code, re.M)
    using_avx = {name for name, body in functions if re.search(r"\tv\w+ .*%[xyz]mm", body)}
    assert any("cpu_avx512" in name for name in using_avx)
    assert not [name for name in using_avx if "cpu_avx" not in name]


# --- Imports and includes


def test_only_ops_uses_the_compiled_ops():
    users = {p.parent.name for p in SOURCES if re.search(r"torch\.ops\.steerlens_fast\b(?!\.\*)", p.read_text())}
    assert users == {"ops"}


def test_reference_uses_no_op():
    text = (ROOT / "steerlens_fast/ops/reference.py").read_text()
    assert re.findall(r"^from \.+\w* import .*", text, re.M) == [
        "from .enums import EDITS, FORMS, RULES, SPLIT_FORMS",
        "from .frequencies import signed_frequencies",
    ]
    assert "torch.ops.steerlens_fast" not in text + (ROOT / "steerlens_fast/ops/enums.py").read_text()


def test_includes_keep_host_device_and_tensors_apart():
    for path in [*ROOT.glob("csrc/cpu/**/*.*"), *ROOT.glob("csrc/math/*")]:
        assert not re.search(r'#include ["<].*cuda', path.read_text()), path.name
    for path in ROOT.glob("csrc/cuda/**/*.*"):
        assert not re.search(r'#include ["<].*cpu/', path.read_text()), path.name
    for path in ROOT.glob("csrc/math/*"):
        assert not re.search(r'#include ["<](torch|ATen|c10)', path.read_text()), f"{path.name}: tensors in math/"
    for path in [*ROOT.glob("csrc/cpu/kernels/*"), *ROOT.glob("csrc/kernel_args/*"), *ROOT.glob("csrc/cpu/planes/*.h")]:
        assert not re.search(r'#include ["<](torch|.*checks\.h|.*/prepare/)', path.read_text()), f"{path.name}: tensors"


def test_extensions_of_standard_cpp_are_in_two_headers():
    """Other compilers and systems then need changes only in these headers.

    ``__restrict``, which all common compilers have, is allowed everywhere.
    """
    extension = r"__attribute__|__builtin_|\b(__)?asm(__)?\b|_Pragma|#pragma (?!once)|__restrict__|__int128|__VERSION__"
    linux_header, linux_only = r"#include <(sys/|unistd|dlfcn|pthread|malloc)", r"(?s)#if defined\(__linux__\).*?#endif"
    cpp = [path for path in ROOT.glob("csrc/**/*.*") if path.suffix in (".h", ".cpp") and "cuda" not in path.parts]
    using = lambda pattern: {path.name for path in cpp if re.search(pattern, re.sub(linux_only, "", path.read_text()))}
    assert using(extension) == {"compiler.h", "simd.h"}
    assert not using(linux_header)


def test_both_devices_have_the_same_files():
    names = lambda folder, ending: {p.stem for p in (ROOT / "csrc" / folder).glob(f"*{ending}")}
    kernels = names("cpu/kernels", ".cpp") - {"planes_float32", "planes_float64"}
    assert kernels == names("cuda", ".cu") <= names("cpu", ".cpp")
    plane_ops = names("cpu/planes", "_planes.h") - {*CPU_PLANE_OPS, *CPU_OPS}
    assert plane_ops == names("cuda/planes", ".cu") == set(PLANE_OPS)


# --- Building


@needs_checkout
def test_force_cpu_with_force_cuda_raises():
    code, output = run("setup.py", "--version", cwd=ROOT, FORCE_CPU="1", FORCE_CUDA="1")
    assert code != 0 and "FORCE_CPU" in output and "FORCE_CUDA" in output
    assert "Traceback" not in output


@needs_checkout
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_force_cuda_with_a_cpu_torch_raises():
    code, output = run("setup.py", "--version", cwd=ROOT, FORCE_CUDA="1")
    assert code != 0 and "FORCE_CUDA is set" in output
    assert f"torch {torch.__version__}" in output and "without CUDA" in output
    assert "Traceback" not in output


@needs_checkout
@pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no CUDA")
def test_force_cuda_without_a_toolkit_raises(tmp_path):
    code, output = run("setup.py", "--version", cwd=ROOT, FORCE_CUDA="1", CUDA_HOME=str(tmp_path))
    assert code != 0 and "nvcc" in output and str(tmp_path) in output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def setup():
    """Return setup.py as a module."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("not a checkout: there is no setup.py beside tests/")
    spec = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exits_with(expected, function, *arguments):
    """Return whether a function ends the program with a message of one line that contains ``expected``."""
    with pytest.raises(SystemExit) as error:
        function(*arguments)
    text = str(error.value)
    return expected in text and text.startswith("steerlens_fast: ") and "\n" not in text


def test_missing_or_old_compiler_ends_the_build(setup):
    setup.check_compiler(["c++"])
    assert exits_with("'no-compiler' is not on PATH. Install one, or set CXX", setup.check_compiler, ["no-compiler"])
    old = ["c++", "-U__GNUC__", "-D__GNUC__=7", "-U__clang__"]
    assert exits_with("GCC is older than 10. Set CXX to another.", setup.check_compiler, old)


def test_invalid_compiler_command_ends_the_build(setup, monkeypatch):
    monkeypatch.setenv("CXX", 'g++ "')
    assert exits_with("CXX must be a command, got 'g++ \"': No closing quotation", setup.compiler_command)
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-DX='1")
    assert exits_with('NVCC_APPEND_FLAGS must be flags, got "-DX=\'1": No closing quotation', setup.clean_nvcc_flags)
    assert exits_with("'false' fails: exit status 1. Set CXX to another.", setup.check_compiler, ["false"])


def test_python_files_of_an_earlier_build_are_deleted(setup, tmp_path):
    removed = tmp_path / "steerlens_fast/removed.py"
    removed.parent.mkdir()
    removed.touch()
    package = setuptools.Distribution({"packages": ["steerlens_fast"], "package_dir": {"": str(ROOT)}})
    package.script_name = "setup.py"
    command = setup.PythonFiles(package)
    command.build_lib = str(tmp_path)
    command.ensure_finalized()
    command.run()
    assert not removed.exists() and (tmp_path / "steerlens_fast/version.py").exists()


def test_library_is_linked_again_whenever_it_is_built(setup):
    """The library contains the version, which is in none of the files that it is compiled from."""
    command = setup.Build(setuptools.Distribution())
    command.ensure_finalized()
    assert command.force


def test_source_archive_needs_a_clone_or_an_unpacked_archive(setup, tmp_path):
    assert exits_with("Make a wheel without one: python -m build --wheel", setup.tracked_files, tmp_path)
    (tmp_path / "PKG-INFO").touch()
    assert setup.tracked_files(tmp_path) == []


def test_tag_of_another_version_is_rejected():
    if not (ROOT / ".ci/wheel").exists():
        pytest.skip("not a checkout: there is no .ci/wheel")
    command = ["sh", ROOT / ".ci/wheel", "check-version"]
    check = lambda tag: subprocess.run([*command, tag], capture_output=True, text=True)
    assert check(f"v{steerlens_fast.__version__}").returncode == 0
    assert "the tag must be v and the version, got v9.9" in check("v9.9").stderr


def test_old_setuptools_ends_the_build(setup):
    script = "import setuptools, runpy; setuptools.__version__ = '65.5.0'; runpy.run_path('setup.py')"
    status, output = run("-c", script, cwd=ROOT)
    assert status == 1
    assert output == (
        "steerlens_fast: building needs setuptools >= 77.0.3; this one is 65.5.0: pip install 'setuptools>=77.0.3'.\n"
    )


def test_ninja_of_an_inactive_environment_is_found(setup, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    setup.find_ninja()
    assert "there is no ninja, so files are compiled one at a time: pip install ninja" in capsys.readouterr().out
    (tmp_path / "bin").mkdir()
    ninja = executable(tmp_path / "bin/ninja", "exit 0")
    broken = executable(tmp_path / "ninja", "exit 127")  # such as pyenv's script, if another Python has ninja
    setup.find_ninja()
    assert shutil.which("ninja") == str(ninja)
    assert not capsys.readouterr().out
    broken.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    setup.find_ninja()
    assert shutil.which("ninja") == str(ninja)
    assert os.environ["PATH"].split(os.pathsep)[0] == str(tmp_path)  # compilers on PATH still precede the environment's
    executable(broken, "exit 127")
    ninja.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    setup.find_ninja()
    assert shutil.which("ninja") == str(broken) and "there is no ninja" in capsys.readouterr().out


def test_read_only_checkout_ends_the_build(setup, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert exits_with(f"{tmp_path} is read-only, and the build writes into it. Use a copy", setup.check_writable)
    assert not list(tmp_path.iterdir())


def test_full_temporary_folder_ends_the_build(setup, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    setup.check_folders("build")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 30, 1 << 30, 3 << 20))
    text = f"{tmp_path} has 3 MB of free space, and the build needs 200 MB: set TMPDIR to another folder."
    assert exits_with(text, setup.check_folders, "build")


def test_toolkit_of_another_cuda_major_version_is_rejected(setup, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert setup.obstacle(("/usr/local/cuda", "13.2")) is None
    assert "nvcc in /opt/cuda is of CUDA 12.8, but torch" in setup.obstacle(("/opt/cuda", "12.8"))


def executable(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "smi, requested, expected",
    [
        ("echo 10.0; echo 8.6; echo 8.6", "", "8.6;10.0+PTX"),
        ("echo 12.0", "", "8.0;9.0;10.0+PTX"),  # this nvcc does not support 12.0
        ("echo No devices were found", "", "8.0;9.0;10.0+PTX"),
        ("echo 8.6", "all", "8.0;9.0;10.0+PTX"),
        ("echo 8.6", "7.5 8.0", "7.5;8.0"),
    ],
)
def test_archs_are_those_requested_or_of_the_gpus_or_default(setup, monkeypatch, tmp_path, smi, requested, expected):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", requested)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    executable(tmp_path / "nvidia-smi", smi)
    nvcc = executable(tmp_path / "nvcc", "echo compute_80 compute_86 compute_90 compute_100")
    assert setup.cuda_archs(nvcc) == expected


def test_compiler_with_a_launcher_becomes_one_word(setup, monkeypatch, tmp_path):
    """The word is a script's name, not its path: setuptools would split a path with spaces or quotes."""
    monkeypatch.setenv("PATH", os.environ["PATH"])  # restored after the test
    folder = tmp_path / 'it\'s a "folder"'
    folder.mkdir()
    launcher = executable(folder / "some cache", f'echo "$@" >>"{tmp_path}/log"; exec "$@"')
    script = setup.single_word_compiler([str(launcher), "c++", "-DX=1"], folder)
    assert script == "run-c++"
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert (tmp_path / "log").read_text() == "c++ -DX=1 --version\n"


def test_flags_that_change_results_are_not_used(setup, monkeypatch, capsys):
    """-ffast-math, for example, would also make all other code of the process flush small numbers to zero."""
    monkeypatch.setattr(setup.cpp_extension.BuildExtension, "build_extensions", lambda self: None)
    foreign = "-march=native -Ofast -ffast-math -fno-signed-zeros -ffp-contract=off -mfma -mavx512f -mcpu=native"
    foreign = [*foreign.split(), "--use_fast_math", "-ftz=true"]
    kept = "-O2 -fPIC -mtune=haswell -m64 -fno-plt -fstack-protector-strong -fno-math-errno -flto=auto".split()
    command = setup.Build(setuptools.Distribution())
    command.extensions, command.build_temp = [], "build"
    words = ["run-g++", *foreign, *kept]
    command.compiler = argparse.Namespace(compiler_type="unix", compiler_so=["ccache", "gcc", "-ffast-math"])
    command.compiler.compiler_so_cxx, command.compiler.linker_so_cxx = [*words], [*words, "-shared"]
    command.build_extensions()
    assert command.compiler.compiler_so == command.compiler.compiler_so_cxx == ["run-g++", *kept]
    assert command.compiler.linker_so_cxx == ["run-g++", *kept, "-shared"]
    output = capsys.readouterr().out
    assert [output.count(f"steerlens_fast: {flag} is not used") for flag in foreign] == [1] * len(foreign)


@pytest.mark.parametrize(
    "flags",
    """-msse4.2 -mlzcnt -mpopcnt -mssse3 -maes -mvaes -mgfni -mxop -mmovbe -mavx512f -march=native -mcpu=native
    -mdaz-ftz -menable-no-infs -fp-model=fast -ffp-model=fast -xHost -axCORE-AVX2 -ftz=true -Xcompiler=-march=native
    --compiler-options=-Ofast,-mfma""".split()
    + [
        "-Xcompiler -march=native",
        "-Xclang -menable-no-nans",
        "--compiler-options -mfma",
        "-fmad true",
        "-fp-model fast",
    ],
)
def test_flag_that_changes_results_or_instructions_is_removed(setup, flags):
    assert setup.without_foreign_flags(["g++", "-O2", *flags.split(), "-g"]) == ["g++", "-O2", "-g"]


def test_harmless_flags_are_kept(setup):
    flags = """-m64 -m32 -mtune=haswell -mcmodel=large -mmacosx-version-min=11.0 -mbranch-protection=standard
    -mno-omit-leaf-frame-pointer -mllvm -x c++ -maxrregcount=64 -minimal -m 64 -Xcompiler -fPIC,-pipe
    -Xclang -fno-pch-timestamp --compiler-options=-pipe -Xcompiler""".split()
    assert setup.without_foreign_flags(flags) == flags
    assert setup.without_foreign_flags(["-Xcompiler=-pipe,-march=native"]) == ["-Xcompiler=-pipe"]
    assert setup.without_foreign_flags(["-Xcompiler", "-Ofast -pipe"]) == ["-Xcompiler", "-pipe"]


@pytest.mark.parametrize("name", ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"])
def test_flags_of_nvcc_are_changed_only_if_one_is_removed(setup, monkeypatch, name):
    """nvcc does not interpret quotes, so words such as "code=[sm_80,compute_80]" must not be quoted."""
    monkeypatch.setenv(name, "")  # restored after the test
    for value in ["-gencode  arch=compute_80,code=[sm_80,compute_80]", "-DX='1'", ""]:
        os.environ[name] = value
        setup.clean_nvcc_flags()
        assert os.environ[name] == value
    os.environ[name] = "-Xcompiler -march=native -gencode arch=compute_80,code=[sm_80,compute_80] -use_fast_math"
    setup.clean_nvcc_flags()
    assert os.environ[name] == "-gencode arch=compute_80,code=[sm_80,compute_80]"
    del os.environ[name]
    setup.clean_nvcc_flags()
    assert name not in os.environ


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["Error compiling objects for extension"],
            "the compiler failed (Error compiling objects for extension); its messages are above.",
        ),
        (
            ["CUDA (%s) mismatches that of PyTorch (%s).", "12.8", "13.0"],
            "CUDA (12.8) mismatches that of PyTorch (13.0).",
        ),
        (
            ["The current installed version of g++ (15%) is greater"],
            "The current installed version of g++ (15%) is greater",
        ),
    ],
)
def test_only_errors_of_the_compiler_say_that_the_compiler_failed(setup, monkeypatch, arguments, message):
    def fail(self):
        raise RuntimeError(*arguments)

    monkeypatch.setattr(setup.cpp_extension.BuildExtension, "build_extensions", fail)
    command = setup.Build(setuptools.Distribution())
    command.extensions, command.build_temp = [], "build"
    command.compiler = argparse.Namespace(compiler_type="msvc")
    assert exits_with(f"steerlens_fast: {message}", command.build_extensions)


@pytest.mark.parametrize("jobs", ["0", "x", "-1", "1.5"])
def test_invalid_number_of_jobs_ends_the_build(setup, monkeypatch, jobs):
    """For 0, ninja would not limit the number of compilers."""
    monkeypatch.setenv("MAX_JOBS", jobs)
    assert exits_with(f"MAX_JOBS must be a positive integer, got '{jobs}'", setup.max_jobs)


def test_number_of_jobs_is_decimal_or_empty(setup, monkeypatch):
    monkeypatch.setenv("MAX_JOBS", "08")
    assert setup.max_jobs() == 8
    monkeypatch.setenv("MAX_JOBS", "")
    assert setup.max_jobs() is None


@pytest.mark.parametrize("name", ["dol$lar", "co:lon", "pi|pe", "new\nline"])
def test_path_that_ninja_cannot_use_ends_the_build(setup, name):
    setup.check_paths(["/a b/it's/ü#%"])
    assert exits_with("building needs a path without ", setup.check_paths, ["/a", f"/b/{name}"])


def test_drive_of_windows_may_have_a_colon(setup, monkeypatch):
    monkeypatch.setattr(os.path, "splitdrive", ntpath.splitdrive)
    setup.check_paths(["C:\\a\\torch\\include"])
    assert exits_with("building needs a path without ':'", setup.check_paths, ["C:\\a:b"])


def test_build_waits_for_another_one_in_the_folder(setup, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "build").mkdir()
    # The second call must not wait for the first, which is of the same process.
    script = "import setup; setup.wait_for_other_builds(); setup.wait_for_other_builds(); print('builds')"
    with open(tmp_path / "build/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        build = subprocess.Popen(
            [sys.executable, "-c", script], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
        )
        assert build.stdout.readline() == f"steerlens_fast: waiting for another process that builds in {tmp_path}\n"
    assert build.communicate()[0] == "builds\n" and build.returncode == 0


def test_failed_copy_keeps_the_library_of_the_earlier_build(setup, monkeypatch, tmp_path):
    command = setup.Build(setuptools.Distribution())
    new, library = tmp_path / "new.so", tmp_path / "_C.so"
    new.write_text("new")
    library.write_text("old")

    def fail(self, source, target, *args, **kwargs):
        Path(target).write_text("n")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(setup.cpp_extension.BuildExtension, "copy_file", fail)
        with pytest.raises(OSError, match="No space left"):
            command.copy_file(str(new), str(library))
    assert library.read_text() == "old"
    assert command.copy_file(str(new), str(library)) == (str(library), True)
    assert library.read_text() == "new" and sorted(path.name for path in tmp_path.iterdir()) == ["_C.so", "new.so"]


# --- The repository and its archive


@pytest.fixture(scope="module")
def tracked(setup):
    """Return the files that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: git has no files here")
    return set(setup.tracked_files(ROOT))


def test_top_level_has_only_the_listed_names(tracked):
    names = {name.partition("/")[0] for name in tracked}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


def source_archive(folder):
    """Return the source archive of a folder, and the names in it."""
    code, output = run("setup.py", "-q", "sdist", cwd=folder, FORCE_CPU="1")
    assert code == 0, output
    (path,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return path, {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def test_sdist_has_all_tracked_files(tracked, tmp_path):
    clone, unpacked = tmp_path / "clone", tmp_path / "unpacked"
    for name in tracked:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    subprocess.run(["git", "init", "-q", clone], check=True)
    subprocess.run(["git", "-C", clone, "add", "--all", "--force"], check=True)
    (clone / "tests/untracked.py").write_text("")
    path, names = source_archive(clone)
    generated = {name for name in names if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert names - generated == tracked
    with tarfile.open(path) as archive:
        archive.extractall(unpacked, filter="data")
    assert source_archive(next(unpacked.iterdir()))[1] == names


def test_failure_of_git_ends_the_source_archive(setup, tmp_path):
    (tmp_path / ".git").mkdir()
    assert exits_with("git must list the files of the source archive: ", setup.tracked_files, tmp_path)


def test_tests_that_are_emulated_exist():
    """``.ci/emulate`` names tests, and words in names of tests. A word that no name contains would select nothing."""
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    names = {name for source in sources for name in re.findall(r"def (test_\w+)", source)}
    script = (ROOT / ".ci/emulate").read_text()
    named = set(re.findall(r"::(test_\w+)", script))
    words = {word for text in re.findall(r'-k "([^"]+)"', script) for word in re.findall(r"[a-z_]{5,}", text)}
    assert len(named) == 5 and named <= names
    assert len(words) > 5
    unknown = {word for word in words if not any(word in name for name in names)}
    assert not unknown
