"""Imports that cannot work say why and what to do; extras are installed without replacing torch; builds show progress."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

import steerlens_fast
from steerlens_fast import extension

ROOT = Path(__file__).parent.parent
PACKAGE = Path(steerlens_fast.__file__).parent
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
BINARY = PACKAGE / f"_C{SUFFIX}"
checkout_only = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="there is no setup.py beside tests/")


def python(*arguments, cwd, path=(), **environment):
    """Exit status and output of a Python whose PYTHONPATH is ``path`` alone."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def copy_package(folder: Path, binary: bool = False, setup: bool = False) -> Path:
    """``folder/steerlens_fast``, with or without its extension and a setup.py beside it."""
    shutil.copytree(PACKAGE, folder / "steerlens_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if binary:
        (folder / "steerlens_fast" / BINARY.name).symlink_to(BINARY.resolve())
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
    """What is printed where the import fails."""
    status, output = python("-c", code, cwd=cwd, path=path, **environment)
    assert status == 1, output
    return output


# --- Imports that cannot work


def test_unbuilt_checkout_in_working_directory_names_installed_package(checkout, installed):
    output = import_error(cwd=checkout, code=f"import sys; sys.path.append({str(installed)!r}); import steerlens_fast")
    assert f"ImportError: steerlens_fast was imported from {checkout}/steerlens_fast, which has no compiled" in output
    assert f"A built steerlens_fast is installed in {installed}/steerlens_fast" in output
    assert f"Python looks in the working directory, {checkout}, first" in output
    assert "start Python in another folder" in output
    assert "python setup.py build_ext --inplace" in output
    assert "pip install --no-build-isolation --no-deps -e ." in output
    assert "circular" not in output.splitlines()[-1]


def test_unbuilt_checkout_on_pythonpath_says_so(checkout, installed, tmp_path):
    output = import_error(cwd=tmp_path, path=[checkout, installed])
    assert f"PYTHONPATH names {checkout}, which comes before it" in output
    assert f"take {checkout} out of PYTHONPATH" in output


def test_unbuilt_checkout_without_installed_package_says_how_to_build(checkout, tmp_path):
    output = import_error(cwd=tmp_path, path=[checkout])
    assert "which has no compiled extension" in output and f"build the extension in {checkout}" in output


def test_submodule_import_gives_the_same_error(checkout, tmp_path):
    output = import_error(cwd=tmp_path, path=[checkout], code="import steerlens_fast.ops")
    assert "which has no compiled extension" in output


def test_extension_for_another_python_is_named(tmp_path):
    copy_package(tmp_path)
    (tmp_path / "steerlens_fast/_C.cpython-38-x86_64-linux-gnu.so").write_bytes(b"")
    output = import_error(cwd=tmp_path)
    version = ".".join(map(str, sys.version_info[:2]))
    assert f"built for another Python (_C.cpython-38-x86_64-linux-gnu.so); this is Python {version}" in output


def test_damaged_extension_is_named(tmp_path):
    copy_package(tmp_path)
    (tmp_path / "steerlens_fast" / BINARY.name).write_bytes(b"no library")
    output = import_error(cwd=tmp_path)
    assert f"{tmp_path}/steerlens_fast/{BINARY.name} cannot be loaded" in output
    assert "The file is damaged, or was built for another machine" in output
    assert f"torch {torch.__version__}" in output


def test_archive_says_that_it_cannot_hold_an_extension(checkout, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", checkout)
    output = import_error(cwd=tmp_path, path=[archive])
    assert f"cannot be imported from the archive {archive}" in output


@pytest.mark.parametrize(
    "message, meaning",
    [
        ("/x/_C.so: undefined symbol: aoti_torch_get_dim", "It was built for another torch"),
        ("libcudart.so.13: cannot open shared object file: No such file", "It has CUDA kernels, and the torch"),
        ("/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", "It was built on a system with a newer C or C++"),
        ("/x/_C.so: invalid ELF header", "The file is damaged"),
    ],
)
def test_loader_messages_are_explained(message, meaning):
    assert extension._loader_hint(message).startswith(meaning)


def test_missing_torch_says_what_to_install(installed, tmp_path):
    output = import_error(
        cwd=tmp_path, path=[installed], code="import sys; sys.modules['torch'] = None\nimport steerlens_fast"
    )
    last = output.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: steerlens_fast needs torch 2.10 or newer, and there is none in")


@pytest.mark.parametrize("version", ["2.9.1+cu128", "1.13.0"])
def test_old_torch_is_refused_before_loading(installed, tmp_path, version):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(f"__version__ = {version!r}")
    output = import_error(cwd=tmp_path, path=[tmp_path, installed])
    assert f"ImportError: steerlens_fast needs torch 2.10 or newer, got torch {version}" in output


def test_extension_of_another_version_is_refused(tmp_path):
    copy_package(tmp_path, binary=True)
    init = tmp_path / "steerlens_fast/__init__.py"
    init.write_text(init.read_text().replace(f'"{steerlens_fast.__version__}"', '"99.0"'))
    output = import_error(cwd=tmp_path)
    assert f"was built from version {steerlens_fast.__version__}: build it again" in output
    assert "steerlens_fast is version 99.0" in output


def test_extension_without_an_op_is_called_outdated(tmp_path):
    copy_package(tmp_path, binary=True)
    polar = tmp_path / "steerlens_fast/ops/polar.py"
    polar.write_text(polar.read_text().replace('@fake("polar_split")', '@fake("polar_split_of_tomorrow")'))
    output = import_error(cwd=tmp_path)
    assert "is older than its Python code" in output and "polar_split_of_tomorrow" in output


def test_invalid_environment_variable_keeps_its_message(installed, tmp_path):
    output = import_error(cwd=tmp_path, path=[installed], STEERLENS_LANES="7")
    assert output.splitlines()[-1] == "ImportError: STEERLENS_LANES must be 0, 8 or 16 in the environment, got '7'"


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
def test_torch_mismatch_says_what_is_lost(info, cuda, expected):
    found = extension.torch_mismatch(info, cuda)
    assert found.endswith(expected) and bool(found) == bool(expected)


def test_build_info_names_the_torch_in_use():
    info = steerlens_fast.build_info()
    assert info["torch"] == torch.__version__ and isinstance(info["torch_mismatch"], str)
