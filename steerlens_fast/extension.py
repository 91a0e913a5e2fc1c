"""Loads the compiled extension ``_C``; if this fails, the error names the cause and the remedy."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path

from .openmp import shorten_spin_of_command
from .version import __version__

PACKAGE = "steerlens_fast"
FOLDER = Path(__file__).parent
LIBRARY = "_C.pyd" if os.name == "nt" else "_C.so"
OLDEST_TORCH = (2, 10)  # TORCH_TARGET of setup.py, the stable ABI that the extension is built for
BUILD = "python setup.py build_ext --inplace"
EDITABLE = "pip install --no-build-isolation --no-deps -e ."
REINSTALL = "pip install --no-build-isolation --no-deps --force-reinstall ."


def load_extension() -> None:
    """Import torch, the compiled library ``_C`` and its ops.

    Raises
    ------
    ImportError
        If torch is missing or too old; if the extension is missing, cannot be loaded, or belongs to another version of
        the package; or if STEERLENS_CPU_CAPABILITY is invalid. The message says what to do.
    """
    shorten_spin_of_command()
    _import_torch()
    if not (FOLDER / LIBRARY).exists():
        raise ImportError(_missing_message(), name=f"{PACKAGE}._C", path=str(FOLDER))
    try:
        native = importlib.import_module(f"{PACKAGE}.native")
    except ImportError as error:
        if error.path is None:  # raised for an invalid STEERLENS_CPU_CAPABILITY, with a complete message
            raise
        raise ImportError(_unloadable_message(error), name=error.name, path=error.path) from error
    except AttributeError as error:
        raise outdated_error(error) from error
    _check_version(native.build_info())
    _warn_if_sources_are_newer()
    try:
        importlib.import_module(f"{PACKAGE}.ops")
    except (AttributeError, ImportError, RuntimeError) as error:
        raise outdated_error(error) from error


def build_info() -> dict:
    """Return how the extension was built, and whether it matches the torch of this process.

    Returns
    -------
    dict
        ``version``
            The version of the package.
        ``cuda``, ``cuda_archs``, ``nvcc``, ``reason``
            Whether this process has CUDA kernels, their architectures, their compiler, and the reason why kernels were
            built or not. Architectures and compiler are "" if no kernels were built.
        ``torch_built``, ``torch_target``, ``torch``
            The torch of the build, the oldest torch that the extension runs with, and the torch of this process.
        ``cpu_levels``, ``cpu_capability``
            The CPU levels that kernels were compiled for, and the level that this process uses: "avx512", "avx2" or
            "default".
        ``compiler``
            The C++ compiler of the build.
        ``torch_mismatch``
            What does not work because torch has another CUDA than the build; "" if all works.

    Examples
    --------
    >>> info = build_info()
    >>> info["torch_target"], info["torch_mismatch"]
    ('2.10', '')
    """
    import torch

    from . import native

    info = native.build_info()
    return info | {
        "cuda": native.HAS_CUDA,
        "torch": str(torch.__version__),
        "torch_mismatch": torch_mismatch(info, torch.version.cuda),
    }


def torch_mismatch(info: dict, torch_cuda: str | None) -> str:
    """Describe how a build and torch's CUDA version (None for no CUDA) differ; "" if they match.

    ``info`` is from ``native.build_info``, whose "cuda" is whether CUDA kernels were built.

    Examples
    --------
    >>> torch_mismatch({"cuda": True, "nvcc": "12.8", "torch_built": "2.12.0+cu128"}, "13.0")
    'built with CUDA 12.8 for torch 2.12.0+cu128, and this torch has CUDA 13.0: a new build is needed'
    >>> torch_mismatch({"cuda": True, "nvcc": "12.8", "torch_built": "2.12.0+cu128"}, "12.6")
    ''
    """
    built = f"for torch {info['torch_built']}"
    if not info["cuda"] and torch_cuda is not None:
        return f"built {built} without CUDA kernels, and this torch has CUDA {torch_cuda}: GPU tensors need a new build"
    if info["cuda"] and torch_cuda is None:
        return f"built with CUDA {info['nvcc']} {built}, and this torch has no CUDA: GPU tensors need another torch"
    if info["cuda"] and info["nvcc"].split(".")[0] != torch_cuda.split(".")[0]:
        return f"built with CUDA {info['nvcc']} {built}, and this torch has CUDA {torch_cuda}: a new build is needed"
    return ""


def no_cuda_reason() -> str:
    """Return why there are no CUDA kernels in this process; "" if there are."""
    import torch

    from . import native

    if native.HAS_CUDA:
        return ""
    mismatch = torch_mismatch(native.build_info(), torch.version.cuda)
    return f"{PACKAGE} was {mismatch}" if mismatch else "this torch has no CUDA"


def outdated_error(error: Exception) -> Exception:
    """Return an ImportError if an error says that ``_C`` lacks an op or a function.

    Other errors are returned unchanged.

    Examples
    --------
    >>> outdated_error(RuntimeError("operator steerlens_fast::new_op does not exist"))  # doctest: +ELLIPSIS
    ImportError("steerlens_fast's compiled extension ... is older than its Python code (operator ...
    >>> outdated_error(ValueError("something else"))
    ValueError('something else')
    """
    if not re.search(rf"{PACKAGE}::\w+|'_OpNamespace'|undefined symbol: steerlens_", str(error)):
        return error
    path = FOLDER / LIBRARY
    text = f"{PACKAGE}'s compiled extension {path} is older than its Python code ({error}): {_rebuild()}"
    return ImportError(text, name=f"{PACKAGE}._C", path=str(path))


# --- torch ---


def _import_torch() -> None:
    needed = f"{PACKAGE} needs torch {'.'.join(map(str, OLDEST_TORCH))} or newer"
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        text = f"{needed}, but {sys.executable} has no torch: install it (https://pytorch.org/get-started)"
        raise ModuleNotFoundError(f"{text}, then build {PACKAGE} with --no-build-isolation", name="torch") from error
    version = str(getattr(torch, "__version__", "unknown"))
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or tuple(map(int, number.groups())) < OLDEST_TORCH:
        raise ImportError(f"{needed}, got torch {version} from {getattr(torch, '__file__', None)}", name="torch")


def _check_version(info: dict) -> None:
    """Check the extension's version, and warn if torch has another CUDA version."""
    if info["version"] != __version__:
        text = (
            f"{PACKAGE} is version {__version__} in {FOLDER}, and its compiled extension {FOLDER / LIBRARY} was built"
        )
        raise ImportError(f"{text} from version {info['version']}: {_rebuild()}", name=f"{PACKAGE}._C")
    import torch

    mismatch = torch_mismatch(info, torch.version.cuda)
    if info["cuda"] and torch.version.cuda is not None and mismatch:
        warnings.warn(f"{PACKAGE} was {mismatch}", RuntimeWarning, stacklevel=2)


def _warn_if_sources_are_newer() -> None:
    """Warn if the C++ of a checkout is newer than its compiled extension.

    Sources of CUDA kernels are not compared, because these are in another library, which may be missing.
    """
    csrc = FOLDER.parent / "csrc"
    sources = (p for p in sorted(csrc.rglob("*")) if p.suffix in (".cpp", ".h") and not p.is_relative_to(csrc / "cuda"))
    built = _changed_at(FOLDER / LIBRARY)
    newer = next((path for path in sources if _changed_at(path) > built), None)
    if newer is not None:
        text = f"{newer} is newer than {PACKAGE}'s compiled extension {FOLDER / LIBRARY}: {_rebuild()}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _changed_at(path: Path) -> float:
    """Return when a file was last changed; 0 if it does not exist."""
    try:
        return path.stat().st_mtime
    except OSError:  # also for a dangling link, such as an editor's lock file
        return 0.0


# --- Errors: the extension is missing, or cannot be loaded ---


def _missing_message() -> str:
    """Return a message about a missing extension, with its cause and remedies."""
    if not FOLDER.is_dir():
        archive = FOLDER.parent
        return f"{PACKAGE} cannot be imported from the archive {archive}, since it has a compiled extension: install it"
    lines = [f"{PACKAGE} was imported from {FOLDER}, which has no compiled extension {LIBRARY}."]
    installed, remedies = _installed_elsewhere(), []
    if installed is not None:
        cause, remedy = _why_found_first()
        lines.append(f"A built {PACKAGE} is installed in {installed}, but {cause}.")
        remedies.append(remedy)
    if (FOLDER.parent / "setup.py").exists():
        remedies.append(f"build the extension in {FOLDER.parent}: {BUILD}")
        remedies.append(f"install the checkout in editable mode: {EDITABLE}  (or sh .ci/setup)")
    elif installed is None:
        remedies.append(f"install the package again, from its source tree: {REINSTALL}")
    return "\n".join([*lines, "Do one of these:" if len(remedies) > 1 else "Do this:", *(f"  - {r}" for r in remedies)])


def _unloadable_message(error: ImportError) -> str:
    """Return the message of the dynamic loader with an explanation and a remedy."""
    import torch

    text = f"{PACKAGE}'s compiled extension {error.path} cannot be loaded: {error}\n{_loader_hint(str(error))}"
    return f"{text} (torch {torch.__version__} from {Path(torch.__file__).parent}): {_rebuild()}"


def _loader_hint(text: str) -> str:
    """Return an explanation of a message of the dynamic loader.

    Examples
    --------
    >>> _loader_hint("libtorch_cuda.so: cannot open shared object file: No such file or directory")
    'It has CUDA kernels, and the torch that is installed has no CUDA'
    """
    if re.search(r"_C_cuda\S*: cannot open", text):
        return "The library with the CUDA kernels of this build is missing"
    if re.search(r"lib(torch_cuda|c10_cuda|cudart)\S*: cannot open", text):
        import torch

        has = f"is for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        return f"It has CUDA kernels, and the torch that is installed {has}"
    if "undefined symbol" in text:
        return "It was built for another torch than the installed one, or from other sources of the package"
    if re.search(r"GLIBC(XX)?_", text):
        return "It was built on a system with a newer C or C++ library"
    if "Permission denied" in text:
        return "The file cannot be read: it was installed by another user, with a umask such as 077"
    if "Operation not permitted" in text:
        return "The file system may be mounted with the option noexec"
    if re.search(r"ELF|file too short|wrong architecture", text):
        return "The file is damaged, or was built for another machine"
    return "It does not match the installed packages"


def _rebuild() -> str:
    """Return how to rebuild the extension, with the command."""
    if (FOLDER.parent / "setup.py").exists():
        return f"build it again in {FOLDER.parent}: {BUILD}"
    return f"build it again from the package's source tree: {REINSTALL}"


def _installed_elsewhere() -> Path | None:
    """Return the folder of another ``steerlens_fast`` on sys.path with a compiled extension."""
    specs = [PathFinder.find_spec(PACKAGE, [entry or os.getcwd()]) for entry in sys.path]
    specs += [f.find_spec(PACKAGE, None) for f in sys.meta_path if f is not PathFinder and hasattr(f, "find_spec")]
    for spec in specs:
        folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
        if folder is not None and folder.resolve() != FOLDER.resolve() and (folder / LIBRARY).exists():
            return folder
    return None


def _why_found_first() -> tuple[str, str]:
    """Return why Python finds this folder before the installed package, and how to import the installed one."""
    parent = FOLDER.parent.resolve()
    python_path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if parent in [Path(entry).resolve() for entry in python_path]:
        cause = f"PYTHONPATH contains {FOLDER.parent}, which comes before it"
        return cause, f"remove {FOLDER.parent} from PYTHONPATH"
    if parent == Path.cwd().resolve():
        cause = f"Python looks in the working directory, {parent}, first"
        return cause, "start Python in another folder, or with -P (Python 3.11 and newer)"
    cause = f"{FOLDER.parent} comes before it on sys.path"
    return cause, f"remove {FOLDER.parent} from sys.path, or start Python in another folder"


load_extension()  # once, before any module that needs torch is imported
