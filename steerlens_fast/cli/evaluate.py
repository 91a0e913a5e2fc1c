"""``steerlens-fast evaluate``: what morphs show, measured. An option that is not given is the preset's or a default."""

from __future__ import annotations

import argparse

from ..io.console import write_stderr, write_stdout
from .kinds import each, folder, int_from, options, positive, size

RUN = ("resume", "overwrite", "progress", "preset", "no_figures")
NOT_ASKED = (*RUN, "command", "run", "out")
EXITS = """exit status: 0 all done; 1 fatal; 2 usage, or another configuration than before; 3 done, with problems that
summary.json and the report name; 5 no space left; 130 Ctrl-C; 143 SIGTERM. After any of them --resume goes on where it
was, to the same results."""


def add_evaluate(commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "evaluate",
        help="measure what morphs show: confidence, transfer, smooth reconstruction, band probes; a report",
        description="Edits some images with every family to the same L2 distances, and measures what the driver, the "
        "judges and smooth warps say of them: results.jsonl, summary.json, figures, index.html. With --preset, an "
        "experiment that ships with the package.",
        epilog=EXITS,
        argument_default=argparse.SUPPRESS,
    )
    for add in (_add_inputs, _add_method, _add_measures, _add_running):
        add(parser)
    parser.set_defaults(run=_evaluate)


def _add_inputs(parser) -> None:
    add = parser.add_argument_group("data and classifiers (as in morph)").add_argument
    add("--preset", choices=("digits", "shapes"), help="shipped data and networks; other options override its own")
    add("--data", metavar="DATA", help="a folder of images, a table, tars, arrays, hf:NAME, pkg.mod:callable")
    add("--labels", metavar="FILE", help="of a .npy: another with the classes")
    add("--driver", metavar="MODEL", help="the classifier whose gradient is followed: timm:NAME, pkg.mod:callable ...")
    add("--judge", metavar="MODEL", action="append", dest="judges", help="one that is never differentiated; repeatable")
    add("--weights", metavar="FILE", help="the driver's")
    add("--judge-weights", metavar="FILE", action="append", help="a judge's, or -: one for each, in order")
    add("--trust-checkpoint", action="store_true", help="unpickle whatever the file holds: runs its code")
    add("--size", type=size, metavar="H[xW]", help="of the images (default: the driver's, or the first image's)")
    add("--mean", type=each, metavar="M,M,M", help="normalisation, of all classifiers but those of --judge-mean")
    add("--std", type=each, metavar="S,S,S")
    judge = dict(action="append", help="a judge's own, or -: one for each, in order")
    add("--judge-size", type=_or_none(size), metavar="H[xW]", **judge)
    add("--judge-mean", type=_or_none(each), metavar="M,M,M", **judge)
    add("--judge-std", type=_or_none(each), metavar="S,S,S", **judge)
    add("--channels", type=int, choices=(1, 3), help="grey or RGB (default: RGB)")
    add("--interpolation", choices=("nearest", "bilinear", "bicubic", "lanczos", "box"))
    add("--crop-pct", type=positive, metavar="P")
    add("--target", metavar="T", help="runner-up (default), least, label, a class, a .csv, or map:3=8,7=2")
    add("--task", choices=("multiclass", "binary"), help="what the outputs are; binary: one logit per image")
    add("--select", choices=("auto", "right", "agree", "all"), help="sources: images that driver and judges take for "
        "their label (auto, where there are labels), or for one another's; or all")  # fmt: skip
    add("--sources", type=int_from(1), metavar="N", help="at most so many (300)")
    add("--limit", type=int_from(1), metavar="N", help="look at the first N images only")


def _add_method(parser) -> None:
    add = parser.add_argument_group("edits (see SteerableLens)").add_argument
    add("--families", type=_names, metavar="F,...", help="pixel,fourier,csp-phase,csp-amplitude,csp-joint (default)")
    add("--max-l2", type=positive, metavar="L2", help="the budget: distance of an edit from its source")
    add("--distances", type=positive, nargs="+", metavar="L2", help="several budgets (default: 2 1)")
    add("--rule", choices=("complex", "polar"), help="(polar)")
    add("--regime", choices=("frozen", "persistent", "live"), help="(persistent)")
    add("--objective", choices=("nll", "logit", "margin", "log-probability"))
    add("--color", choices=("rgb", "luma", "grey"))
    add("--pyramid", type=options, metavar="K=V,...", help="e.g. order=3,height=4,synthesis=adjoint")
    add("--phase-cap", type=positive, metavar="RADIANS")
    add("--frames", type=int_from(2), metavar="N", help="of an edit, the source included (12)")
    add("--steps", type=int_from(1), metavar="N", help="gradients to a budget, where they are refreshed (11)")


def _add_measures(parser) -> None:
    add = parser.add_argument_group("measures").add_argument
    add("--grid", type=int_from(2), metavar="N", help="control points of a warp, each side (8)")
    add("--restarts", type=int_from(1), metavar="N", help="of a warp's fit (3)")
    add("--probe-family", metavar="F", help="of single-band probes (csp-phase)")
    add("--probe-l2", type=positive, metavar="L2", help="of single-band probes (0.025)")
    add("--probe-directions", type=int_from(0), metavar="N", help="Gaussian directions of a probe (8); 0: no probes")
    add("--draws", type=int_from(1), metavar="N", help="of the bootstrap (2000)")
    add("--samples", type=int_from(0), metavar="N", help="sources that the report shows (8)")
    add("--seed", type=int_from(0), metavar="N")


def _add_running(parser) -> None:
    add = parser.add_argument_group("running").add_argument
    add("--out", required=True, type=folder, metavar="DIR", help="the evaluation's folder")
    add("--resume", action="store_true", help="go on with what --out holds; options that are given again must agree")
    add("--overwrite", action="store_true", help="drop what an evaluation has written to --out")
    add("--no-figures", action="store_true", help="results and summary only")
    add("--batch-size", type=int_from(1), metavar="N", help="sources computed, and kept, together (50)")
    add("--threads", type=int_from(1), metavar="N", help="of torch")
    add("--device", choices=("cpu", "cuda"))
    add("--dtype", choices=("float32", "float64", "bfloat16", "float16"), help="of the classifiers (float32); with "
        "float64 edits are computed in it, too")  # fmt: skip
    add("--channels-last", action="store_true", help="the classifiers' memory format")
    add("--progress", choices=("auto", "bar", "lines", "json", "none"), help="counts the lines of results.jsonl: one "
        "for each source, budget, and family or control, and one for each source's probes")  # fmt: skip


def _evaluate(arguments: argparse.Namespace) -> int:
    from ..data.paths import with_absolute_paths
    from ..evaluate.presets import check_preset, preset
    from ..evaluate.run import run_evaluation

    given = vars(arguments)
    if "preset" in given:
        check_preset(given["preset"])
    asked = with_absolute_paths({name: value for name, value in given.items() if name not in NOT_ASKED})
    shipped = preset(given["preset"]) if "preset" in given else {}
    if "max_l2" in asked:
        shipped.pop("distances", None)
    asked = {**shipped, **asked}
    run = {name: given[name] for name in ("resume", "overwrite", "progress") if name in given}
    found = run_evaluation(arguments.out, asked, figures="no_figures" not in given, **run)
    write_stdout("\n".join(_said(found)))
    return found.code


def _said(found) -> list[str]:
    """A table for each budget; and what is wrong, on stderr."""
    lines = [line for budget in found.summary["budgets"] for line in _budget(budget)]
    for problem in found.summary["problems"]:
        write_stderr(f"steerlens-fast evaluate: {problem}")
    page = found.out / "index.html"
    return [*lines, f"wrote {page if page.exists() else found.out / 'summary.json'}"]


def _budget(budget: dict) -> list[str]:
    from ..evaluate.report.html import number

    told = budget["attainment"]
    attained = {**told["by_family"], **told["by_control"]}
    lines = [f"L2 = {budget['l2']:.4g}: {told['common']} of {told['of']} sources in common; medians, share of judges"]
    lines.append(f"{'':15s}{'attained':>9s}{'G':>9s}{'judges':>9s}{'E warp':>9s}{'E gain':>9s}")
    for family, measures in {**budget["families"], **budget["controls"]}.items():
        value = lambda name, measures=measures: number(measures.get(name, {}).get("value"))
        cells = [str(attained[family]), *map(value, ("target_probability", "jointly", "warp", "gain"))]
        lines.append(f"{family:15s}" + "".join(f"{cell:>9s}" for cell in cells))
    return lines


def _or_none(parse):
    """A type of arguments that takes "-", too, for none."""

    def parse_or_none(text: str):
        return None if text == "-" else parse(text)

    return parse_or_none


def _names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",")]
