"""Installation: errors of imports, extras (which must not replace torch), progress of builds, and .ci/setup."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import steerlens_fast
from steerlens_fast import extension, native
from steerlens_fast.extras import BUILT_FOR_ONE_TORCH, MissingExtra, require_extra, torch_pin

ROOT = Path(__file__).parent.parent
PACKAGE = Path(steerlens_fast.__file__).parent
needs_checkout = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="there is no setup.py beside tests/")


def python(*arguments, cwd, path=(), **environment):
    """Return exit status and output of a Python process whose PYTHONPATH is ``path``."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def copy_package(folder: Path, binary: bool = False, setup: bool = False) -> Path:
    """Copy the package to ``folder/steerlens_fast``.

    ``binary`` adds links to its libraries, and ``setup`` an empty setup.py next to it.
    """
    shutil.copytree(PACKAGE, folder / "steerlens_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for library in (native.LIBRARY, native.CUDA_LIBRARY) if binary else ():
        if library.exists():
            (folder / "steerlens_fast" / library.name).symlink_to(library.resolve())
    if setup:
        (folder / "setup.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A source tree that has not been built."""
    return copy_package(tmp_path_factory.mktemp("checkout"), setup=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with a built package."""
    return copy_package(tmp_path_factory.mktemp("installed"), binary=True)


def import_error(*, cwd, path=(), code="import steerlens_fast", **environment) -> str:
    """Return the output of a failed import."""
    status, output = python("-c", code, cwd=cwd, path=path, **environment)
    assert status == 1, output
    return output


# --- Imports that cannot work


def test_unbuilt_checkout_in_working_directory_names_installed_package(checkout, installed):
    output = import_error(
        cwd=checkout, code=f"import sys; sys.path.insert(1, {str(installed)!r}); import steerlens_fast"
    )
    assert f"ImportError: steerlens_fast was imported from {checkout}/steerlens_fast, which has no compiled" in output
    assert f"A built steerlens_fast is installed in {installed}/steerlens_fast" in output
    assert f"Python looks in the working directory, {checkout}, first" in output
    assert "start Python in another folder" in output
    assert "python setup.py build_ext --inplace" in output
    assert "pip install --no-build-isolation --no-deps -e ." in output
    assert "circular" not in output.splitlines()[-1]


def test_unbuilt_checkout_on_pythonpath_is_reported(checkout, installed, tmp_path):
    output = import_error(cwd=tmp_path, path=[checkout, installed])
    assert f"PYTHONPATH contains {checkout}, which comes before it" in output
    assert f"remove {checkout} from PYTHONPATH" in output


def test_unbuilt_checkout_without_installed_package_says_how_to_build(checkout, tmp_path):
    output = import_error(cwd=tmp_path, path=[checkout])
    assert "which has no compiled extension" in output and f"build the extension in {checkout}" in output


def test_submodule_import_from_an_unbuilt_checkout_is_reported(checkout, tmp_path):
    output = import_error(cwd=tmp_path, path=[checkout], code="import steerlens_fast.ops")
    assert "which has no compiled extension" in output


def test_damaged_extension_is_named(tmp_path):
    copy_package(tmp_path)
    (tmp_path / "steerlens_fast" / native.LIBRARY.name).write_bytes(b"no library")
    output = import_error(cwd=tmp_path)
    assert f"{tmp_path}/steerlens_fast/{native.LIBRARY.name} cannot be loaded" in output
    assert "The file is damaged, or was built for another machine" in output
    assert f"torch {torch.__version__}" in output


def test_import_does_not_depend_on_the_encoding_of_the_locale(installed, tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    status, output = python("-c", "import steerlens_fast", cwd=tmp_path, path=[installed], **ascii_only)
    assert status == 0, output


def test_import_from_an_archive_raises(checkout, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", checkout)
    output = import_error(cwd=tmp_path, path=[archive])
    assert f"cannot be imported from the archive {archive}" in output


@pytest.mark.parametrize(
    "message, meaning",
    [
        ("/x/_C.so: undefined symbol: aoti_torch_get_dim", "It was built for another torch"),
        ("libcudart.so.13: cannot open shared object file: No such file", "It has CUDA kernels, and the torch"),
        (
            "/x/_C_cuda.so: cannot open shared object file: No such file",
            "The library with the CUDA kernels of this build",
        ),
        ("/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", "It was built on a system with a newer C or C++"),
        ("/x/_C.so: invalid ELF header", "The file is damaged"),
        ("/x/_C.so: cannot open shared object file: Permission denied", "The file cannot be read: it was installed by"),
        ("/x/_C.so: failed to map segment from shared object: Operation not permitted", "The file system may be"),
    ],
)
def test_loader_messages_are_explained(message, meaning):
    assert extension._loader_hint(message).startswith(meaning)


def test_missing_torch_says_what_to_install(installed, tmp_path):
    output = import_error(
        cwd=tmp_path, path=[installed], code="import sys; sys.modules['torch'] = None\nimport steerlens_fast"
    )
    last = output.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: steerlens_fast needs torch 2.10 or newer, but ")


@pytest.mark.parametrize("version", ["2.9.1+cu128", "1.13.0"])
def test_old_torch_raises_before_loading(installed, tmp_path, version):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(f"__version__ = {version!r}")
    output = import_error(cwd=tmp_path, path=[tmp_path, installed])
    assert f"ImportError: steerlens_fast needs torch 2.10 or newer, got torch {version}" in output


def test_extension_of_another_version_raises(tmp_path):
    copy_package(tmp_path, binary=True)
    file = tmp_path / "steerlens_fast/version.py"
    file.write_text(file.read_text().replace(f'"{steerlens_fast.__version__}"', '"99.0"'))
    output = import_error(cwd=tmp_path)
    assert f"was built from version {steerlens_fast.__version__}: build it again" in output
    assert "steerlens_fast is version 99.0" in output


def test_extension_without_an_op_is_called_outdated(tmp_path):
    copy_package(tmp_path, binary=True)
    polar = tmp_path / "steerlens_fast/ops/polar.py"
    polar.write_text(polar.read_text().replace('@fake("polar_split")', '@fake("polar_split_of_tomorrow")'))
    output = import_error(cwd=tmp_path)
    assert "is older than its Python code" in output and "polar_split_of_tomorrow" in output


def test_extension_without_a_function_is_called_outdated(tmp_path):
    copy_package(tmp_path, binary=True)
    file = tmp_path / "steerlens_fast/native.py"
    file.write_text(file.read_text().replace('"stream_copy"', '"stream_copy_of_tomorrow"'))
    output = import_error(cwd=tmp_path)
    assert "is older than its Python code" in output and "stream_copy_of_tomorrow" in output


def test_sources_newer_than_the_extension_are_named(tmp_path):
    copy_package(tmp_path, binary=True)
    source = tmp_path / "csrc/math/polar.h"
    source.parent.mkdir(parents=True)
    source.touch()
    (tmp_path / "csrc/README.md").touch()
    command = [sys.executable, "-c", "import steerlens_fast"]
    output = lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    os.utime(source, (2e9, 2e9))
    assert f"{source} is newer than steerlens_fast's compiled extension" in output()
    os.utime(source, (0, 0))
    (tmp_path / "csrc/.#polar.h").symlink_to("nobody@nowhere")  # the lock file of an editor
    (tmp_path / "csrc/cuda").mkdir()
    (tmp_path / "csrc/cuda/launch.h").touch()  # belongs to another library
    os.utime(tmp_path / "csrc/cuda/launch.h", (2e9, 2e9))
    assert output() == ""


def test_invalid_environment_variable_is_reported(installed, tmp_path):
    output = import_error(cwd=tmp_path, path=[installed], STEERLENS_CPU_CAPABILITY="7")
    message = "the environment variable STEERLENS_CPU_CAPABILITY must be avx512, avx2 or default, got '7'"
    assert output.splitlines()[-1] == f"ImportError: {message}"


@pytest.mark.parametrize(
    "info, cuda, expected",
    [
        ({"cuda": False, "nvcc": "", "torch_built": "2.13.0+cpu"}, None, ""),
        ({"cuda": True, "nvcc": "13.0", "torch_built": "2.13.0+cu130"}, "13.2", ""),
        ({"cuda": False, "nvcc": "", "torch_built": "2.13.0+cpu"}, "13.0", "GPU tensors need a new build"),
        ({"cuda": True, "nvcc": "12.8", "torch_built": "2.12.0+cu128"}, "13.0", "a new build is needed"),
        ({"cuda": True, "nvcc": "12.8", "torch_built": "2.12.0+cu128"}, None, "GPU tensors need another torch"),
    ],
)
def test_message_about_another_torch_says_what_is_needed(info, cuda, expected):
    actual = extension.torch_mismatch(info, cuda)
    assert actual.endswith(expected) and bool(actual) == bool(expected)


def test_build_info_names_the_torch_in_use():
    info = steerlens_fast.build_info()
    assert info["torch"] == torch.__version__ and isinstance(info["torch_mismatch"], str)


# --- Extras


@pytest.fixture(scope="module")
def virtual_environment(tmp_path_factory):
    """A virtual environment in which pip finds this torch, and no other packages."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    metadata = importlib.metadata.distribution("torch")._path
    shutil.copytree(metadata, site / metadata.name)
    return folder / "bin/python"


def package_without_code(folder: Path) -> Path:
    """Write a wheel that has only the metadata of this package.

    So extras can be resolved without a build.
    """
    requirements = importlib.metadata.requires("steerlens_fast")
    extras = importlib.metadata.metadata("steerlens_fast").get_all("Provides-Extra")
    lines = ["Metadata-Version: 2.1", "Name: steerlens_fast", "Version: 0"]
    lines += [f"Provides-Extra: {e}" for e in extras] + [f"Requires-Dist: {r}" for r in requirements]
    info = folder / "wheel/steerlens_fast-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("")
    archive = shutil.make_archive(str(folder / "package"), "zip", folder / "wheel")
    return Path(archive).rename(folder / "steerlens_fast-0-py3-none-any.whl")


def documented_arguments() -> list[str]:
    """Return the arguments of the README's command, expanded by bash for the installed torch."""
    (line,) = re.findall(r"^pip install (--no-build-isolation .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    script = f'pip() {{ {sys.executable} -m pip "$@"; }}; printf "%s\\n" {line}'
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


@needs_checkout
def test_documented_command_names_the_installed_torch():
    assert documented_arguments() == ["--no-build-isolation", ".[cli,plot]", torch_pin()]


@needs_checkout
@pytest.mark.slow
def test_documented_command_does_not_replace_torch_if_extras_need_it(virtual_environment, tmp_path):
    """timm needs torchvision, whose newest release may need a newer torch."""
    # Importing pip here would make setuptools' import hook use the standard library's distutils, and a later
    # `import setuptools` in this process would fail.
    if not any(importlib.metadata.distributions(name="pip")):
        pytest.skip("pip is not installed")
    wheel = package_without_code(tmp_path)
    expected = [a.replace(".[cli,plot]", f"{wheel}[cli,plot,save,timm,torchvision]") for a in documented_arguments()]
    report, pip = tmp_path / "report.json", [sys.executable, "-m", "pip", "--python", str(virtual_environment)]
    command = [*pip, "install", "--dry-run", "--report", str(report), *expected]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode and re.search(
        r"No matching distribution|Could not fetch|Connection|Read timed out", done.stdout
    ):
        pytest.skip(f"no package index within reach: {done.stdout.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout
    plan = {result["metadata"]["name"].lower() for result in json.loads(report.read_text())["install"]}
    assert {"timm", "torchvision", "matplotlib"} <= plan and "torch" not in plan
    assert not [name for name in plan if name.startswith(("nvidia", "triton", "cuda"))]


@pytest.mark.parametrize("extra", ["timm", "torchvision", "decode"])
def test_message_about_an_extra_that_needs_torch_pins_the_installed_torch(extra):
    assert extra in BUILT_FOR_ONE_TORCH
    with pytest.raises(MissingExtra, match=rf"pip install .* {re.escape(torch_pin())}  # steerlens_fast\[{extra}\]"):
        require_extra(extra, "no_such_package")


def test_missing_extra_that_does_not_need_torch_names_no_torch():
    with pytest.raises(MissingExtra) as error:
        require_extra("plot", "no_such_package")
    assert "torch" not in str(error.value)


@needs_checkout
def test_no_documented_command_can_replace_torch():
    """Every command that installs extras of this package names the installed torch, or uses build/constraints.txt."""
    files = [ROOT / "README.md", ROOT / ".pre-commit-config.yaml", *ROOT.glob(".github/*.md"), *ROOT.glob(".ci/*")]
    files = [f for f in files if f.is_file()]
    lines = [line for f in files for line in f.read_text().splitlines() if re.search(r'pip install .*"?\.\[', line)]
    assert lines
    for line in lines:
        assert "grep ^torch==" in line or "-c build/constraints.txt" in line, line


# --- Progress of a build


def with_progress(tmp_path, script, every=0.2):
    log = tmp_path / "log"
    command = [sys.executable, ROOT / ".ci/with-progress", "--every", str(every), log, "sh", "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout.splitlines(), log.read_text()


@needs_checkout
def test_command_with_progress_is_not_silent_and_keeps_its_log(tmp_path):
    compiled = "[3/45] c++ -O3 -c /x/csrc/cpu/step.cpp -o y.o"
    script = f"echo '{compiled}'; sleep 1; echo ' steerlens_fast: building C++'; echo end >&2"
    status, lines, log = with_progress(tmp_path, script)
    assert status == 0
    assert ".ci/setup: 0:00  [3/45] cpu/step.cpp" in lines
    assert ".ci/setup: building C++" in lines  # not always the last line: one with the elapsed time may follow
    assert log.splitlines() == [compiled, " steerlens_fast: building C++", "end"]


@needs_checkout
def test_command_with_progress_keeps_its_exit_status(tmp_path):
    assert with_progress(tmp_path, "exit 7") == (7, [], "")
    assert with_progress(tmp_path, "kill -TERM $$")[0] == 143


@needs_checkout
@pytest.mark.parametrize("log, encoding", [("/dev/full", "utf-8"), ("/dev/null", "ascii")], ids=["full disk", "ascii"])
def test_command_with_progress_ends_though_output_cannot_be_written(log, encoding):
    """The command would wait for ever if nothing read its output."""
    script = "echo 'steerlens_fast: größer'; head -c 1000000 /dev/zero | tr '\\0' '\\n'; exit 3"
    command = [sys.executable, ROOT / ".ci/with-progress", log, "sh", "-c", script]
    env = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, timeout=60)
    assert done.returncode == 3
    assert done.stdout.decode() == f".ci/setup: {'größer' if encoding == 'utf-8' else 'gr??er'}\n"


@needs_checkout
def test_command_with_progress_ends_though_its_reader_has_ended(tmp_path):
    script = "for i in 1 2 3; do echo 'steerlens_fast: line'; done; head -c 1000000 /dev/zero; exit 3"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, ROOT / ".ci/with-progress", tmp_path / "log", "sh", "-c", script]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (3, "")


@needs_checkout
def test_build_reports_compiled_files(tmp_path):
    (tmp_path / "old.o").write_bytes(b"")
    os.utime(tmp_path / "old.o", (0, 0))
    script = f"""
import pathlib, setup, time
with setup.progress({str(tmp_path)!r}, total=45, every=0.05):
    pathlib.Path({str(tmp_path)!r}, "new.o").touch()
    time.sleep(0.4)
"""
    status, output = python("-c", script, cwd=ROOT)
    lines = [line for line in output.splitlines() if line.startswith("steerlens_fast: ")]  # torch may print warnings
    assert status == 0 and "steerlens_fast: 0:00, 1 of 45 files compiled" in lines
    assert len(lines) >= 2 and all(line.startswith("steerlens_fast: 0:0") for line in lines)


# --- .ci/setup


@needs_checkout
def test_setup_in_an_environment_without_pip_says_how_to_install_it(tmp_path):
    """uv makes such environments."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\ncase "$*" in *"pip --version") exit 1 ;; *sys.executable*) echo "$0" ;; esac\n')
    fake.chmod(0o755)
    env = {**os.environ, "PYTHON": str(fake)}
    done = subprocess.run(["sh", ".ci/setup"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f".ci/setup: {fake} has no pip. Install it: uv pip install pip, or {fake} -m ensurepip\n"


FAKE_PYTHON = """#!/bin/sh
# A Python with an old torch, and with a pip that fails.
case "$1 $2" in
*"import re, sys, torch"*) echo 2.9.1; exit 1 ;;
"-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
"-m pip") echo "$PIP_OUTPUT"; exit 1 ;;
-c*) ;;
*) exec %s "$@" ;;
esac
"""
NO_RELEASE = """ERROR: Could not find a version that satisfies the requirement torch>=2.10 (from versions: none)
ERROR: No matching distribution found for torch>=2.10"""
FAILURES = {
    "NewConnectionError: Failed to establish a new connection": "no package index can be reached: connect this machine",
    NO_RELEASE: "there is no torch>=2.10 for Python 3",
    "g++: fatal error: Killed signal terminated program cc1plus": "the machine has too little memory for",
    "steerlens_fast: building C++ only\nerror: command 'g++' failed": "the installation failed",
}


CHOSEN_TORCH = "STEERLENS_TORCH='torch --index-url https://download.pytorch.org/whl/cpu'"


@needs_checkout
def test_page_of_the_demo_says_how_torch_is_chosen():
    assert f"\n{CHOSEN_TORCH} sh .ci/demo" in (ROOT / "steerlens_fast/demo/README.md").read_text()
    assert "`STEERLENS_TORCH`" in (ROOT / ".github/CONTRIBUTING.md").read_text()


@needs_checkout
@pytest.mark.parametrize("output", FAILURES, ids=["offline", "no release", "out of memory", "unknown"])
def test_setup_with_a_pip_that_fails_says_what_to_do(output, tmp_path):
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    fake = tmp_path / "python"
    fake.write_text(FAKE_PYTHON % sys.executable)
    fake.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if k != "STEERLENS_TORCH"} | {"PYTHON": str(fake), "PIP_OUTPUT": output}
    done = subprocess.run(["sh", ".ci/setup"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the active environment has torch 2.9.1, and 2.10 or newer is needed: .venv gets a torch" in done.stdout
    if not Path("/proc/driver/nvidia/version").exists() and not shutil.which("nvidia-smi"):
        assert "no NVIDIA driver" in done.stdout
        assert CHOSEN_TORCH in done.stdout
    assert done.stderr.splitlines()[-1].startswith(f".ci/setup: {FAILURES[output]}")


@needs_checkout
def test_setup_with_an_old_compiler_ends_before_anything_is_installed(tmp_path):
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    old = "c++ -U__GNUC__ -D__GNUC__=9 -U__clang__"
    env = {**os.environ, "PYTHON": sys.executable, "CXX": old}
    done = subprocess.run(["sh", ".ci/setup"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    expected = f".ci/setup: a C++17 compiler is needed (GCC 10, clang 14 or newer), and '{old}' fails: "
    assert done.stderr.startswith(expected)
    assert done.stderr.endswith("GCC is older than 10. Set CXX to another\n") and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ci", "pyproject.toml"]


@needs_checkout
def test_setup_rejects_an_unknown_extra_and_ignores_cdpath(tmp_path):
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")  # with CDPATH, `cd .ci/..` would print the path of this copy
    env = os.environ | {"CDPATH": str(tmp_path)}
    done = subprocess.run(["sh", ".ci/setup", "plots"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stderr.startswith(".ci/setup: extras must be among cli plot") and not done.stdout


def functions_of_setup(*names):
    """Return functions of .ci/setup as text."""
    text = (ROOT / ".ci/setup").read_text()
    return "\n".join(re.search(rf"^{name}\(\) {{.*?^}}", text, re.MULTILINE | re.DOTALL)[0] for name in names)


@needs_checkout
def test_setup_finds_the_package_in_the_site_packages_of_the_user(tmp_path):
    """pip installs there if the environment's site-packages are read-only."""
    clone = tmp_path / "clone"
    (clone / "steerlens_fast").mkdir(parents=True)
    (clone / "steerlens_fast/__init__.py").touch()
    base = [sys.executable, "-c", "import sys; print(getattr(sys, '_base_executable', sys.executable))"]
    interpreter = subprocess.run(base, capture_output=True, text=True, check=True).stdout.strip()
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {
        "PYTHONUSERBASE": str(tmp_path / "user")
    }
    script = f"{functions_of_setup('imports_this')}\npython=$1; imports_this"
    command = ["sh", "-c", script, "sh", interpreter]
    found = lambda **more: subprocess.run(command, cwd=clone, env=env | more, check=False).returncode == 0
    assert not found() and not found(PYTHONPATH=str(clone))
    where = [interpreter, "-m", "site", "--user-site"]
    folder = Path(subprocess.run(where, env=env, capture_output=True, text=True, check=False).stdout.strip())
    folder.mkdir(parents=True)
    (folder / "clone.pth").write_text(f"{clone}\n")
    assert found()


@needs_checkout
@pytest.mark.parametrize("name", ["CXXFLAGS", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"])
def test_setup_builds_again_if_a_flag_has_changed(tmp_path, name):
    (tmp_path / "steerlens_fast").mkdir()
    for file in ("steerlens_fast/version.py", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path / file)
    script = f"{functions_of_setup('stamp')}\npython=$1; torch=2.10.0; stamp"
    env = {k: v for k, v in os.environ.items() if k != name}
    command = ["sh", "-c", script, "sh", sys.executable]
    run = lambda **more: subprocess.run(
        command, cwd=tmp_path, env=env | more, capture_output=True, text=True, check=True
    )
    assert run().stdout == run().stdout != run(**{name: "-O1"}).stdout
