"""The command ``steerlens-fast``. Subcommands import what they need when they run."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 for what went wrong, 130 when interrupted.

    Errors of usage end in ``SystemExit(2)``, as argparse has it.

    Examples
    --------
    >>> main(["info"])  # doctest: +ELLIPSIS
    version ...
    0
    """
    arguments = _parser().parse_args(argv)
    from .extras import MissingExtra

    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("steerlens-fast: interrupted", file=sys.stderr)
        return 130
    except (MissingExtra, OSError, ValueError) as error:
        print(f"steerlens-fast {arguments.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="steerlens-fast",
        description="What a classifier believes separates two classes, as motion in the complex steerable pyramid.",
    )
    parser.add_argument("--version", action="version", version=f"steerlens_fast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_info(commands)
    return parser


# --- demo ------------------------------------------------------------------------------------------------------------


def _add_demo(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="train a small digit classifier and morph test digits (under a minute on two cores)",
        description="Trains a small classifier of scikit-learn's handwritten digits, morphs test digits toward another "
        "class along one frozen gradient (phase; phase and amplitude; pixels, all at the same L2 distance), and writes "
        "strips, an overview, animations and a table. Needs the extra steerlens_fast[demo].",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", default="steerlens-demo", metavar="DIR", help="where to write; files of the same name are replaced")
    add("--pairs", type=_pairs, default="3:8,7:2,5:6,2:3,1:7,4:9", metavar="S:T,...", help="source and target digits")
    add("--max-l2", type=_positive, default=4.0, metavar="L2", help="distance of the last frame from its source")
    add("--frames", type=_int_from(2), default=8, metavar="N", help="frames of a morph, the source included")
    add("--rule", choices=("polar", "complex"), default="polar", help="how coefficients and gradient become a step")
    add("--epochs", type=_int_from(1), default=15, metavar="N", help="epochs of training")
    add("--seed", type=_int_from(0), default=0, metavar="N", help="of the split and of the training")
    add("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import run_demo

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
    print("\n".join(_summary(result)))
    print(f"\nwrote {len(result.files)} files to {arguments.out}/")
    for path in result.files:
        print(f"  {path}")
    times = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    print(f"{times}; total {sum(result.seconds.values()):.1f} s")
    return 0


def _summary(result) -> list[str]:
    """The table of probabilities, and what became of all test digits."""
    lines = [f"test accuracy {result.test_accuracy:.1%}", "", "probability of the target, frame by frame:"]
    for e in result.examples:
        for name, m in e.morphs.items():
            numbers = " ".join(f"{p:5.2f}" for p in m.target_probability[0])
            short = "" if m.attained.all() else "  (the distance asked for is out of reach)"
            lines.append(f"  {e.source} -> {e.target}  {name:6s}{numbers}   L2 {m.l2[0, -1]:.3f}{short}")
    lines += ["", "share of all rightly classified test digits whose last frame is taken for the target:"]
    for (source, target), share in result.flipped.items():
        shares = "  ".join(f"{name} {value:4.0%}" for name, value in share.items())
        lines.append(f"  {source} -> {target}  {shares}   ({result.tested[source, target]} digits)")
    return lines


# --- info ------------------------------------------------------------------------------------------------------------


def _add_info(commands) -> None:
    about = "tell what was built: CPU levels, CUDA architectures, torch, compiler"
    commands.add_parser("info", help=about, description=about).set_defaults(run=_info)


def _info(_: argparse.Namespace) -> int:
    from . import build_info

    for name, value in build_info().items():
        print(f"{name:14s}{value if value != '' else '-'}")
    return 0


# --- Types of arguments ----------------------------------------------------------------------------------------------


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
        raise argparse.ArgumentTypeError(f"a pair is repeated in {text!r}")
    return pairs


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _int_from(least: int):
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
