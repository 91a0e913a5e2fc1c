"""``steerlens-fast evaluate``: measures edits.

Options that are not given have the values of the preset or their defaults.
"""

from __future__ import annotations

import argparse

from ..io.console import write_stderr, write_stdout
from .options import CommandParser, OptionGroups, given_fields

GROUPS = {
    "data": "data and classifiers (as in morph)",
    "method": "edits (see SteerableLens)",
    "measures": "measures",
    "running": "running",
}
RUN_HELP = {
    "resume": "continue the evaluation in --out; options that are given again must be the same",
    "overwrite": "delete what a previous evaluation has written to --out",
    "progress": "how progress is reported on stderr. Progress counts lines of results.jsonl: each edit of a source (by "
    "a family or control, to a distance) has a line; all probes of a source share a line",
}
EXITS = """exit status: 0 complete; 1 fatal error; 2 usage error, or inputs that changed since the evaluation began;
3 complete, but summary.json and the report list problems; 5 no space left; 130 Ctrl-C; 143 SIGTERM. --resume continues
an evaluation that is not complete, and gives the same results."""


def add_evaluate(commands) -> None:
    """Add the subcommand."""
    parser: CommandParser = commands.add_parser(
        "evaluate",
        help="measure edits: confidence, transfer, smooth reconstruction, band probes; write a report",
        description="Edits images with every family to the same L2 distances, and measures the edits with the driver, "
        "the judges and smooth warps. The driver is the classifier whose gradient the edits follow; the judges are "
        "other classifiers. Writes results.jsonl, summary.json, figures and index.html. --preset runs an experiment "
        "that is part of the package.",
        epilog=EXITS,
        argument_default=argparse.SUPPRESS,
        add_options=_add_options,
    )
    parser.set_defaults(run=_evaluate)


def _add_options(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.config import EvaluationConfig
    from ..evaluate.presets.presets import PRESETS
    from ..job.config import RunOptions

    groups = OptionGroups(parser, GROUPS)
    text = "data and networks of the package; other options override those of the preset"
    groups.add("data", "--preset", choices=PRESETS, help=text)
    groups.add_fields(EvaluationConfig)
    groups.add_folder("running", "evaluation")
    groups.add_fields(RunOptions, only=tuple(RUN_HELP), help=RUN_HELP)
    groups.add("running", "--no-figures", action="store_true", help="write results and summary only")


def _evaluate(arguments: argparse.Namespace) -> int:
    from ..data.paths import with_absolute_paths
    from ..evaluate.config import EvaluationConfig
    from ..evaluate.presets.presets import with_preset
    from ..evaluate.run import run_evaluation

    values = vars(arguments)
    options = with_absolute_paths(given_fields(EvaluationConfig, arguments))
    if "preset" in values:
        options = with_preset(values["preset"], options)
    run = {name: values[name] for name in RUN_HELP if name in values}
    figures = "no_figures" not in values
    evaluation = run_evaluation(arguments.out, options, figures=figures, **run)
    written = evaluation.out / ("index.html" if figures else "summary.json")
    write_stdout("\n".join([*_summary_lines(evaluation), f"wrote {written}"]))
    return evaluation.code


def _summary_lines(evaluation) -> list[str]:
    """Return the accuracies of trained networks, and a table for each distance. Write the problems to stderr."""
    lines = [
        f"{name}: {entry['test_accuracy']:.1%} of {entry['test_images']} test images classified correctly"
        for name, entry in evaluation.summary.get("networks", {}).items()
    ]
    lines += [line for budget in evaluation.summary["budgets"] for line in _table(budget)]
    for problem in evaluation.summary["problems"]:
        write_stderr(f"steerlens-fast evaluate: {problem}")
    return lines


def _table(budget: dict) -> list[str]:
    """Return the table of one distance, an entry of the summary's ``budgets``."""
    from ..evaluate.report.html import number

    counts = budget["attainment"]
    attained = {**counts["by_family"], **counts["by_control"]}
    common = f"{counts['common']} of {counts['of']} sources that every family edited this far"
    legend = "G: the driver's probability of the target; judges: share of sources whose target all judges predict; "
    legend += "E warp: share of the edit that a smooth warp explains; E gain: with a smooth change of brightness, too"
    lines = [f"L2 = {budget['l2']:.4g}: medians over {common} ({legend})"]
    lines.append(f"{'':15s}{'attained':>9s}{'G':>9s}{'judges':>9s}{'E warp':>9s}{'E gain':>9s}")
    for family, measures in {**budget["families"], **budget["controls"]}.items():
        values = [measures.get(name, {}).get("value") for name in ("target_probability", "jointly", "warp", "gain")]
        cells = [str(attained[family]), *map(number, values)]
        lines.append(f"{family:15s}" + "".join(f"{cell:>9s}" for cell in cells))
    return lines
