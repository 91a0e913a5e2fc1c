"""``steerlens-fast demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..io.argument_types import folder, integer_from, positive
from ..io.console import write_stdout


def add_demo(commands) -> None:
    """Add the subcommand."""
    from ..ops import RULES

    parser = commands.add_parser(
        "demo",
        help="train a small digit classifier and morph test digits (under a minute on two cores)",
        description="Trains a small classifier of scikit-learn's handwritten digits, morphs test digits toward another "
        "class along one frozen gradient (in phase; in phase and amplitude; in pixels; at the same L2 distance), and "
        "writes strips, an overview, animations and a table. Requires the extra steerlens_fast[demo].",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--out",
        type=folder,
        default="steerlens-demo",
        metavar="DIR",
        help="folder to write; existing files of the same names are replaced",
    )
    add("--pairs", type=_pairs, default="3:8,7:2,5:6,2:3,1:7,4:9", metavar="S:T,...", help="source and target digits")
    add("--max-l2", type=positive, default=4.0, metavar="L2", help="L2 distance of the last frame from its source")
    add("--frames", type=integer_from(2), default=8, metavar="N", help="frames of a morph, including the source")
    add("--rule", choices=tuple(RULES), default="polar", help="how coefficients and gradient become a step")
    add("--epochs", type=integer_from(1), default=15, metavar="N", help="training epochs")
    add("--seed", type=integer_from(0), default=0, metavar="N", help="seed of the split and of the training")
    add("--quiet", action="store_true", help="show no progress bars")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from ..demo import run_demo
    from ..demo.job import as_typed, morph_all
    from ..job.report import format_summary, read_summary

    bars = "none" if arguments.quiet else "auto"
    try:
        result = run_demo(
            arguments.out,
            arguments.pairs,
            max_l2=arguments.max_l2,
            frames=arguments.frames,
            rule=arguments.rule,
            epochs=arguments.epochs,
            seed=arguments.seed,
            progress=not arguments.quiet,
        )
    except OSError as error:
        raise OSError(f"cannot write to {arguments.out}: {error.strerror or error}") from error
    write_stdout("\n".join(_summary(result)))
    write_stdout(f"\nwrote {len(result.files)} files to {arguments.out}/")
    for path in result.files:
        write_stdout(f"  {path}")
    job = morph_all(Path(arguments.out), result, max_l2=arguments.max_l2, frames=arguments.frames, progress=bars)
    write_stdout(f"all {len(result.digits.test_images)} test digits morphed: {arguments.out}/job/gallery/index.html")
    write_stdout(f"  {format_summary(read_summary(Path(arguments.out, 'job')))}")
    write_stdout(f"the same job as a command:\n  {as_typed(job)}")
    times = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    write_stdout(f"{times}; total {sum(result.seconds.values()):.1f} s")
    return 0


def _summary(result) -> list[str]:
    """Return the table of probabilities, and the success for all test digits."""
    lines = [f"test accuracy {result.test_accuracy:.1%}", "", "probability of the target, frame by frame:"]
    for e in result.examples:
        for name, m in e.morphs.items():
            numbers = " ".join(f"{p:5.2f}" for p in m.target_probability[0])
            short = "" if m.attained.all() else "  (max_l2 was not reached)"
            lines.append(f"  {e.source} -> {e.target}  {name:6s}{numbers}   L2 {m.l2[0, -1]:.3f}{short}")
    lines += ["", "fraction of correctly classified test digits whose last frame is classified as the target:"]
    for (source, target), share in result.flipped.items():
        shares = "  ".join(f"{name} {value:4.0%}" for name, value in share.items())
        lines.append(f"  {source} -> {target}  {shares}   ({result.tested[source, target]} digits)")
    return lines


def _pairs(text: str) -> list[tuple[int, int]]:
    pairs = []
    for item in text.split(","):
        source, _, target = item.strip().partition(":")
        if not (len(source) == len(target) == 1 and (source + target).isascii() and (source + target).isdigit()):
            raise argparse.ArgumentTypeError(f"expected digits like 3:8,7:2, got {text!r}")
        if source == target:
            raise argparse.ArgumentTypeError(f"source and target must differ, got {item.strip()!r}")
        pairs.append((int(source), int(target)))
    if len(set(pairs)) != len(pairs):
        raise argparse.ArgumentTypeError(f"expected different pairs, got {text!r}")
    return pairs
