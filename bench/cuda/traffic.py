"""Counts the bytes that the CUDA kernels move.

The kernels are emulated (tests/emulation), so no GPU is needed.

    python bench/cuda/traffic.py --out bench/results/DATE-cuda-emulated-traffic.json     # a few minutes on one core

With "--only NAME", which may be repeated, only rows are counted whose op, work or implementation contains the name.
Other rows are those of the existing file.

A kernel moves 32 bytes for each sector that an access of a warp touches. The ideal is that it reads each input once and
writes each output once. The bytes are those of 64x3 planes on 132 multiprocessors, which an H200 has:

- Planes of 28x28 are counted directly.
- For other sizes, the bytes of 16 planes on 11 multiprocessors are counted. A block then has as much work as for 64x3
  planes on 132. The bytes of ops are multiplied by 12. The bytes of whole workloads are divided by the pixels.
- The ops on whole planes have 132 multiprocessors for their 16 planes, since they compute 64x3 planes in several
  chunks: the 256 MiB for intermediate results of a morph of 224x224 hold 16 planes. The chunks of analyses and
  syntheses are larger, so they read filters less often than is counted here.

Ops of torch are not emulated. Their bytes are assumed: an FFT reads and writes all of its data once for each dimension,
as cuFFT does for these sizes; any other op reads its inputs once and writes its outputs once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

# This level of the CPU has no ops on whole planes, so those of CUDA are emulated.
os.environ["STEERLENS_CPU_CAPABILITY"] = "default"
os.environ["STEERLENS_EMULATE_CUDA"] = "counting"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "tests"), str(HERE.parents[1])]

import emulation  # noqa: E402
import kernels  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402
from compiled import short_name  # noqa: E402
from machine import machine  # noqa: E402
from plane_ops import plane_ops  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils import _pytree  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import steerlens_fast as sf  # noqa: E402
from steerlens_fast import memory  # noqa: E402
from steerlens_fast.families import planes as plane_motion  # noqa: E402
from steerlens_fast.pyramid import backend  # noqa: E402

PLANES, MULTIPROCESSORS = 64 * 3, 132
COUNTED = {(28, 28): PLANES}  # numbers of planes that are counted; 16 for other sizes
SIZES = [(224, 224), (28, 28), (101, 97)]
FRAMES, ORIENTATIONS = 8, 4
WHOLE_PLANES, BANDS = "ops on whole planes", "torch's FFTs and ops on bands"
WITHOUT_TRAFFIC = ("empty", "new_empty", "empty_like", "detach", "alias", "_local_scalar_dense", "is_pinned")


# --- One op at a time ---


def kernel_row(op: str, size: tuple[int, int]) -> dict:
    """Return the bytes that an op moves for 64x3 planes, the ideal, and their ratio.

    In the ratio "once per block", a sector counts once for each block that accesses it.
    """
    planes = COUNTED.get(size, 16)
    function, args = op_case(op, size, planes)
    emulation.set_multiprocessors(MULTIPROCESSORS * planes // PLANES)
    traffic = emulation.counted(lambda: function(*args))
    moved, of_blocks = (sum(counts) * PLANES // planes for counts in zip(*((t.bytes, t.block_bytes) for t in traffic)))
    ideal = ideal_bytes(op, size)
    return {
        "op": op,
        "size": "x".join(map(str, size)),
        "ideal_bytes": ideal,
        "bytes": moved,
        "ratio": moved / ideal,
        "ratio_once_per_block": of_blocks / ideal,
    }


def op_case(name: str, size: tuple[int, int], planes: int) -> tuple[Callable, list]:
    torch.manual_seed(0)
    return kernels.cases(planes, ORIENTATIONS, size, FRAMES)[name](torch.device("cpu"))


def ideal_bytes(name: str, size: tuple[int, int]) -> int:
    """Return the ideal for 64x3 planes.

    Each plane after the first adds as much as the second, because masks are read once for all planes.
    """
    sizes = []
    for planes in (1, 2):
        op, args = op_case(name, size, planes)
        sizes.append(kernels.bytes_of(args) + kernels.bytes_of(op(*args)))
        if name.startswith(kernels.READ_TWICE):  # two kernels read the coefficients
            sizes[-1] += kernels.coefficients_bytes(args)
    return sizes[0] + (sizes[1] - sizes[0]) * (PLANES - 1)


# --- Whole workloads ---


class TorchBytes(TorchDispatchMode):
    """Adds up the bytes that torch's own ops move, by the assumptions above."""

    def __init__(self):
        super().__init__()
        self.ffts = self.others = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.startswith("_fft_"):
            self.ffts += fft_bytes(args[0], out, len(args[1]))
        elif func.namespace == "aten" and name not in WITHOUT_TRAFFIC and not is_view(func):
            self.others += sum(map(touched, tensors(args) + tensors(out)))  # `out` includes an argument out=
        return out


def fft_bytes(x: Tensor, out: Tensor, dimensions: int) -> int:
    """Return the bytes of one pass for each dimension.

    One pass of a real FFT has real numbers on one side, and complex numbers on the other; all other passes have complex
    numbers on both sides.
    """
    larger = max(touched(x), touched(out)) if x.is_complex() == out.is_complex() else 0
    complex_side = larger or touched(x if x.is_complex() else out)
    return touched(x) + touched(out) + 2 * (dimensions - 1) * complex_side


def is_view(func) -> bool:
    aliases = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def tensors(value) -> list[Tensor]:
    return [t for t in _pytree.tree_leaves(value) if isinstance(t, Tensor)]


def touched(t: Tensor) -> int:
    """Return the bytes that are accessed.

    They include the gaps between strided elements, such as the imaginary parts between real parts.
    """
    stride = min(t.stride(-1), emulation.SECTOR // t.itemsize) if t.dim() else 1
    return t.numel() * t.itemsize * max(stride, 1) if 0 not in t.stride() else t.itemsize


def work_row(work: str, size: tuple[int, int], computed_by: str) -> dict:
    planes, by_plane_ops = COUNTED.get(size, 16), computed_by == WHOLE_PLANES
    emulation.set_multiprocessors(MULTIPROCESSORS if by_plane_ops else MULTIPROCESSORS * planes // PLANES)
    with plane_ops("cpu", by_plane_ops):
        traffic, of_torch = work_counts(work, size, planes)
    pixels = planes * math.prod(size) * (FRAMES if "morph" in work else 1)  # pixels of all frames
    ours, ffts, others = (b / pixels for b in (sum(t.bytes for t in traffic), of_torch.ffts, of_torch.others))
    wavefronts, fewest = (sum(getattr(t, name) for t in traffic) for name in ("wavefronts", "fewest_wavefronts"))
    return {
        "work": work,
        "size": "x".join(map(str, size)),
        "computed_by": computed_by,
        # Bank conflicts add this share of all wavefronts (tests/emulation/__init__.py)
        "bank_conflicts": 1 - fewest / wavefronts if wavefronts else 0.0,
        "kernels": ours,
        "ffts": ffts,
        "other_ops": others,
        "bytes_per_pixel": ours + ffts + others,
        # Bytes per pixel: {kernel: [read, written]}
        "by_kernel": {
            short_name(t.kernel): [emulation.SECTOR * n / pixels for n in (t.loads, t.stores)] for t in traffic
        },
    }


def work_counts(name: str, size: tuple[int, int], planes: int) -> tuple[list[emulation.Traffic], TorchBytes]:
    work = WORKS[name](size, planes)
    work()  # makes the masks
    torch_bytes: list[TorchBytes] = []

    def run():
        with TorchBytes() as mode:
            work()
        torch_bytes.append(mode)

    return emulation.counted(run), torch_bytes[0]


def implementations(size: tuple[int, int]) -> tuple[str, ...]:
    both = backend.plane_ops_supported(pyramid_of(size).geometry, torch.rand(1, *size))
    return (WHOLE_PLANES, BANDS) if both else (BANDS,)


def pyramid_of(size) -> sf.SteerablePyramid:
    return sf.SteerablePyramid(size, height=min(4, sf.SteerablePyramid(size).geometry.num_scales))


def analysis(size, planes) -> Callable:
    pyramid, image = pyramid_of(size), torch.rand(planes, 1, *size)
    return lambda: pyramid(image)


def synthesis(size, planes) -> Callable:
    pyramid = pyramid_of(size)
    coefficients = pyramid(torch.rand(planes, 1, *size))
    return lambda: pyramid.synthesize(coefficients)


def morph(size, planes) -> Callable:
    family = sf.CSPFamily(pyramid_of(size), "phase")
    image, gradient = torch.rand(planes, 1, *size), torch.randn(planes, 1, *size)
    factors = torch.arange(1.0, FRAMES + 1)
    return lambda: family.prepare(image, gradient).render(factors, bounds=(0, 1))


WORKS = {"analysis": analysis, "synthesis": synthesis, f"{FRAMES}-frame phase morph": morph}


def store_as_cuda(whole: Tensor, piece: Tensor, bounds=None) -> None:
    """Do what ``memory.store`` does for tensors on a GPU."""
    piece = piece.real if piece.is_complex() and not whole.is_complex() else piece
    if bounds is None:
        whole.copy_(piece)
    else:
        torch.clamp(piece, *bounds, out=whole)


class Rows:
    """A table of the result; rows that are not wanted are taken from an earlier result."""

    def __init__(self, only: list[str], before: list[dict]):
        self.only, self.before, self.rows = only, before, []

    def add(self, count: Callable[..., dict], *, size: tuple[int, int], **names: str) -> None:
        wanted = not self.only or any(part in name for part in self.only for name in names.values())
        same = names | {"size": "x".join(map(str, size))}
        earlier = (row for row in self.before if row.items() >= same.items())
        self.rows.append(count(size=size, **names) if wanted else next(earlier))
        print(self.rows[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="count only rows with this name")
    args = parser.parse_args()
    before = json.loads(args.out.read_text()) if args.only else {"rows": [], "workloads": []}
    installed = emulation.install("counting")
    memory.CHUNK_BYTES["cpu"] = memory.SCRATCH_BYTES["cpu"] = 1 << 40  # one chunk, as for so few planes on a GPU
    plane_motion.store = store_as_cuda
    backend.is_untraced = lambda: True  # allows the ops on whole planes within TorchBytes, which is a dispatch mode
    rows, workloads = Rows(args.only, before["rows"]), Rows(args.only, before["workloads"])
    for size in SIZES:
        for name in kernels.cases(1, ORIENTATIONS, size, FRAMES):
            rows.add(kernel_row, op=name, size=size)
        for name in WORKS:
            for computed_by in implementations(size):
                workloads.add(work_row, work=name, size=size, computed_by=computed_by)
    del installed  # ends the emulation
    about = machine() | {"how": "counted in emulation, no time", "planes": "64x3"}
    about |= {"orientations": ORIENTATIONS, "frames": FRAMES}
    results.write(args.out, {"kind": "traffic", "machine": about, "rows": rows.rows, "workloads": workloads.rows})


if __name__ == "__main__":
    main()
