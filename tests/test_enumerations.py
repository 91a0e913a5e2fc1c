"""READMEs, docstrings and help texts list the values that the code knows, and no others."""

import re
from pathlib import Path

import pytest

from steerlens_fast import SteerableLens, SteerablePyramid
from steerlens_fast.classifier.objectives import OBJECTIVES
from steerlens_fast.classifier.outputs import TASKS
from steerlens_fast.classifier.targets import RANKS
from steerlens_fast.data.targets import COLUMN, LABEL
from steerlens_fast.errors import DONE, FATAL, INTERRUPTED, NO_SPACE, SOME_FAILED, TERMINATED, TOO_MANY_FAILED, USAGE
from steerlens_fast.evaluate.config import ORDERS, SELECTIONS, EvaluationConfig
from steerlens_fast.evaluate.config import TASKS as EVALUATED_TASKS
from steerlens_fast.evaluate.presets.presets import PRESETS
from steerlens_fast.families import FAMILIES
from steerlens_fast.job.config import ENGINES, JobConfig
from steerlens_fast.job.export import EXPORT_FORMATS
from steerlens_fast.lens.lens import COLORS
from steerlens_fast.lens.regimes import REGIMES
from steerlens_fast.ops import RULES
from steerlens_fast.pyramid.module import SYNTHESES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "steerlens_fast"
LENS = {"family": FAMILIES, "rule": RULES, "regime": REGIMES, "objective": OBJECTIVES, "color": COLORS}
STATUSES = (DONE, FATAL, USAGE, SOME_FAILED, TOO_MANY_FAILED, NO_SPACE, INTERRUPTED, TERMINATED)
FOR_DEVELOPERS = {"test", "bench", "docs", "wheel", "dev"}  # extras that README.md does not list


def table(page: Path, header: str) -> set[str]:
    """Return the values in the first column of a table, from the quotes ("..." or `...`) or, without these, numbers."""
    pattern = rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)"
    cells = [row.split("|")[1] for row in re.search(pattern, page.read_text(), re.M)[1].splitlines()]
    return {value for cell in cells for value in re.findall(r'[\w-]+(?=[`"])|\b\d+\b', cell)}


def listed(text: str) -> set[str]:
    """Return the words in quotes."""
    return set(re.findall(r'"([a-z-]+)"', text))


def extras() -> set[str]:
    section = (
        (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    )
    return set(re.findall(r"^(\w+) = ", section, re.M))


@pytest.mark.parametrize("option", LENS)
def test_readme_of_the_lens_lists_the_values_of_its_options(option):
    row = re.search(rf"^\| `{option}` \|.*", (PACKAGE / "lens/README.md").read_text(), re.M)[0]
    assert listed(row) == set(LENS[option])


@pytest.mark.parametrize(
    "page, header, values",
    [
        ("lens/README.md", "regime", REGIMES),
        ("job/README.md", "`--engine`", ENGINES),
        ("job/README.md", "exit status", map(str, STATUSES)),
        ("evaluate/README.md", "preset", PRESETS),
        ("../README.md", "extra", extras() - FOR_DEVELOPERS),
    ],
)
def test_tables_of_readmes_list_all_values(page, header, values):
    assert table(PACKAGE / page, header) == set(values)


def test_readme_of_jobs_lists_all_targets_and_export_formats():
    text = (PACKAGE / "job/README.md").read_text()
    assert {LABEL, COLUMN, *RANKS} <= table(PACKAGE / "job/README.md", "`--target`")
    assert {*EXPORT_FORMATS} == set(re.findall(r"`(\w+)`", re.search(r"Formats: (.*)", text)[1]))


@pytest.mark.parametrize(
    "item, options",
    [
        (SteerableLens, {**LENS, "task": TASKS}),
        (SteerablePyramid, {"synthesis": SYNTHESES}),
        (EvaluationConfig, {"select": SELECTIONS, "order": ORDERS, "task": EVALUATED_TASKS}),
    ],
)
def test_docstrings_list_the_values_of_options(item, options):
    for option, values in options.items():
        line = re.search(rf"^ *{option} : (.*)", item.__doc__, re.M)[1]
        assert listed(line) == set(values), option


@pytest.mark.parametrize("config, not_allowed", [(JobConfig, set()), (EvaluationConfig, {"argmax"})])
def test_help_lists_all_targets(config, not_allowed):
    text = next(field for field in config.__dataclass_fields__.values() if field.name == "target").metadata["help"]
    assert {LABEL, COLUMN, *RANKS} - not_allowed <= set(re.findall(r"[\w-]+", text))
