"""``steerlens-fast morph``: the data-set job. An option that is not given is a default, or, on resume, what it was."""

from __future__ import annotations

import argparse

from ..io.console import write_stderr, write_stdout
from .kinds import each, folder, int_from, ints, numbers, options, positive, size, value_range

RUN = ("engine", "workers", "decoders", "resume", "overwrite", "retry_failed", "max_failures", "progress", "gallery")
NOT_ASKED = (*RUN, "command", "run", "out", "dry_run")
EXITS = """exit status: 0 all done; 1 fatal; 2 usage, or another configuration than before; 3 done, but some items
failed (see failed.jsonl); 4 more failures than --max-failures; 5 no space left; 130 Ctrl-C (the first finishes the
shards that have begun, the second stops at once); 143 SIGTERM. After any of them --resume goes on where the job was."""


def add_morph(commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "morph",
        help="morph a whole data set: shards of frames, records, a gallery",
        description="Morphs every image of a data set toward another class of a classifier, and writes shards of "
        "frames, records of what the classifier says of them, and a gallery. A killed job loses the shards that it was "
        "at: the same command with --resume goes on.",
        epilog=EXITS,
        argument_default=argparse.SUPPRESS,
    )
    for add in (_add_inputs, _add_method, _add_outputs, _add_running):
        add(parser)
    parser.set_defaults(run=_morph)


def _add_inputs(parser) -> None:
    add = parser.add_argument_group("data and model").add_argument
    add("--data", metavar="DATA", help="a folder of images (of classes or flat), .csv or .jsonl (columns path; label, "
        "the image's class; target, the class to morph it toward; key), .tar, or a folder or pattern of tars "
        "(webdataset), .npy, .safetensors, hf:NAME, pkg.mod:callable")  # fmt: skip
    add("--labels", metavar="FILE", help="of a .npy: another with the classes")
    add("--model", metavar="MODEL", help="timm:NAME, torchvision:NAME, pkg.mod:callable, an exported .pt2, TorchScript")
    add("--weights", metavar="FILE", help='.pt or .safetensors; "random" for none (default: those of the hub)')
    add("--trust-checkpoint", action="store_true", help="unpickle whatever the file holds: runs its code")
    add("--task", choices=("multiclass", "binary", "multilabel"), help="what the outputs are: a score per class "
        "(default), one logit per image, or an independent logit per label")  # fmt: skip
    add("--target", metavar="T", help="label (the data's own class), column (a data table's target: the default where "
        "there is one), runner-up (default), argmax, least, a class by number or by the model's or the data's name, "
        "map:3=8,goldfish=tench, or a .csv with key or path, and target, the class to morph toward; not:T of a label "
        "that is to go (--task multilabel)")  # fmt: skip
    add("--size", type=size, metavar="H[xW]", help="of the model's images (default: the model's, or the first image's)")
    add("--mean", type=each, metavar="M,M,M", help="normalisation of the model's images in [0, 1] (default: "
        "the hub's, or the model's attributes)")  # fmt: skip
    add("--std", type=each, metavar="S,S,S")
    add("--channels", type=int, choices=(1, 3), help="grey or RGB (default: the model's, the array's, or RGB)")
    add("--interpolation", choices=("nearest", "bilinear", "bicubic", "lanczos", "box"))
    add("--crop-pct", type=positive, metavar="P", help="share of the shorter side that the centre crop keeps")
    add("--max-pixels", type=int_from(1), metavar="N", help="images with more are refused")
    add("--range", type=value_range, metavar="LOW,HIGH", help="of images of more than 8 bits: the values, in the "
        "file's own units, that become black and white; 0,4095 for 12-bit data; auto: the lowest and highest of all "
        "images, each of which is read once before; image: those of each image (default: the full range of the file's "
        "type, 0,65535)")  # fmt: skip
    add("--decoder", choices=("pillow", "torchcodec"))
    add("--limit", type=int_from(1), metavar="N", help="only the first N items")


def _add_method(parser) -> None:
    add = parser.add_argument_group("method (see SteerableLens)").add_argument
    add("--family", metavar="F", help="csp-phase (default), csp-amplitude, csp-joint, fourier, pixel")
    add("--rule", choices=("complex", "polar"), help="how coefficients and gradient become a step (complex)")
    add("--regime", choices=("frozen", "persistent", "live"))
    add("--objective", choices=("nll", "logit", "margin", "log-probability"))
    add("--color", choices=("rgb", "luma", "grey"))
    add("--pyramid", type=options, metavar="K=V,...", help="e.g. order=3,height=4,synthesis=adjoint")
    add("--scales", type=ints, metavar="S,...", help="only these move")
    add("--orientations", type=ints, metavar="K,...", help="only these move")
    add("--phase-cap", type=positive, metavar="RADIANS")
    add("--frames", type=int_from(2), metavar="N", help="of each morph, the source included (12)")
    add("--steps", type=int_from(1), metavar="N", help="gradients to the last frame in the regimes persistent and live "
        "(11); each frame after the source takes at least one")  # fmt: skip
    add("--max-l2", type=positive, metavar="L2", help="distance of the last frame from the source (2)")
    add("--distances", type=positive, nargs="+", metavar="L2", help="several distances, a frame at each: 1 2 4")
    add("--factors", type=numbers, metavar="B[,...]", help="factor of the last frame, or of every frame: a "
        "multiple of the step with eps = 1 along the gradient (there is no option eps)")  # fmt: skip
    add("--amplitude-factors", type=numbers, metavar="A[,...]")
    add("--score", choices=("all", "last", "none"), help="the frames that the model is run on (all)")


def _add_outputs(parser) -> None:
    add = parser.add_argument_group("outputs").add_argument
    add("--out", required=True, type=folder, metavar="DIR", help="the job's folder")
    add("--format", choices=("safetensors", "wds", "folder"), help="of frames (safetensors)")
    add("--frame-dtype", choices=("uint8", "uint16", "float32"), help="of stored frames (uint8); the others keep the "
        "depth of grey images of more than 8 bits; float32 and colour in uint16 with --format safetensors")  # fmt: skip
    add("--gallery", type=int_from(0), metavar="N", help="examples that the gallery shows (48)")
    add("--batch-size", type=int_from(1), metavar="N", help="images in one call of the model")
    add("--shard-size", type=int_from(1), metavar="N", help="images in a shard")


def _add_running(parser) -> None:
    add = parser.add_argument_group("running").add_argument
    add("--resume", action="store_true", help="go on with what --out holds; options that are given again must agree")
    add("--retry-failed", action="store_true", help="go on, and make shards with failed items again")
    add("--overwrite", action="store_true", help="drop what a job has written to --out")
    add("--dry-run", action="store_true", help="tell what would be done, with one timed batch; write nothing")
    add("--max-failures", metavar="N|P%", help="stop when more items have failed (10%%, but at least 10)")
    add("--engine", choices=("local", "env", "ray"), help="worker processes here (default); one of the ranks that "
        "torchrun or a SLURM array has started; Ray")  # fmt: skip
    add("--workers", type=int_from(0), metavar="N", help="processes (default: one for each GPU, else one); 0: this one")
    add("--decoders", type=int_from(1), metavar="N", help="threads that decode, in each worker")
    add("--threads", type=int_from(1), metavar="N", help="of torch, in each worker")
    add("--device", choices=("cpu", "cuda"))
    add("--dtype", choices=("float32", "float64", "bfloat16", "float16"), help="of the model (float32); with float64 "
        "images and frames are computed in it, too")  # fmt: skip
    add("--channels-last", action="store_true", help="the model's memory format: often faster convolutions")
    add("--seed", type=int_from(0), metavar="N", help="of random weights, and of what a stochastic model draws")
    add("--progress", choices=("auto", "bar", "lines", "json", "none"))


def _morph(arguments: argparse.Namespace) -> int:
    from ..data.paths import with_absolute_paths
    from ..job.engines.engine import RunOptions
    from ..job.report import said_of
    from ..job.run import run_job

    given = vars(arguments)
    asked = with_absolute_paths({name: value for name, value in given.items() if name not in NOT_ASKED})
    run = RunOptions(**{name: given[name] for name in RUN if name in given})
    if "dry_run" in given:
        from ..job.dry_run import rehearse

        return 0 if write_stdout("\n".join(rehearse(arguments.out, asked, run))) else 1
    outcome = run_job(arguments.out, asked, run)
    others = run.engine == "env" and not outcome.summary["complete"]
    rest = "; the rest is with the other ranks" if others else ""
    write_stderr(f"{arguments.out}: {said_of(outcome.summary)}{rest}")
    return outcome.code
