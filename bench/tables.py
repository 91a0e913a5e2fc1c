"""Makes the tables of the READMEs.

Each function takes a result and returns the lines of a table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

MIB = 2**20
ALLOCATORS = "default", "tuned"
DOUBTFUL = 0.25  # medians of rounds with a larger spread (measure.spread) are marked with ~
OPS = "pair", "unpair", "split_", "merge_", "polar_", "step", "extrapolate"  # how the names of ops begin


# --- Cells ---


def ms(seconds: float) -> str:
    """Return seconds as milliseconds, with at least three digits."""
    value = 1e3 * seconds
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def joined(values: list[float | None], show: Callable[[float], str]) -> str:
    """Return a cell with the values of both allocators: "1.5 / -" if one is missing, "" if both are."""
    cells = ["-" if value is None else show(value) for value in values]
    return " / ".join(cells) if set(cells) != {"-"} else ""


def times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def inverse(ratio: float) -> str:
    return times(1 / ratio)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def line(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def heading(*names: str) -> list[str]:
    return [line(names), "|" + "---|" * len(names)]


# --- Rows of a speed result ---


def rows_by_work(result: dict, threads: int | None = None) -> dict[tuple[str, str], dict[str, dict]]:
    """Return the rows with times for a number of threads, by default that of the result's machine.

    They are returned as {(work, shape): {allocator: row}}.
    """
    threads = threads or result["machine"]["threads"]
    table: dict = {}
    for row in result["rows"]:
        if "seconds" in row and row["threads"] == threads:
            table.setdefault((row["work"], row["shape"]), {})[row["allocator"]] = row
    return table


def values(rows: dict, *keys) -> list:
    """Return ``row[key][key]...`` of the row of each allocator, None where a value is missing.

    ``rows`` is {allocator: row}. A GPU has one allocator.
    """
    cells = []
    for allocator in ALLOCATORS if "default" in rows or "tuned" in rows else rows:
        value = rows.get(allocator)
        for key in keys:
            value = None if value is None else value.get(key)
        cells.append(value)
    return cells


def our_ms(rows: dict) -> str:
    """Return our milliseconds, marked by ~ if rounds differ much."""
    marks = ["~" if (spread or 0) > DOUBTFUL else "" for spread in values(rows, "spread", "ours")]
    seconds = values(rows, "seconds", "ours")
    return joined([None if s is None else mark + ms(s) for mark, s in zip(marks, seconds)], str)


def peaks(rows: dict) -> str:
    """Return the peak memory beyond the output, in MiB, of ours, plenoptic and plain torch."""
    peak = next((row["peak_beyond_output"] for row in rows.values() if "peak_beyond_output" in row), None)
    mebibytes = lambda who: f"{peak[who] / MIB:.1f}" if who in peak else "-"
    return " / ".join(map(mebibytes, ("ours", "plenoptic", "plain"))) if peak else ""


def rate(rows: dict) -> str:
    """Return a cell with GB/s and, in parentheses, their share of the GB/s of a memory copy.

    Only the last allocator is shown.
    """
    row = list(rows.values())[-1]
    return f"{row['bytes_per_second'] / 1e9:.1f} ({percent(row['share_of_copy'])})" if "share_of_copy" in row else ""


def transforms(result: dict) -> list[str]:
    """Return the table of the pyramid and of morphs from a given gradient."""
    lines = heading(
        "work, float32", "shape", "ours, ms", "plenoptic / ours", "plain torch / ours", "compiled / ours",
        "ours / FFTs alone", "MiB moved", "GB/s (share of a copy's)", "MiB beyond output: ours / plenoptic / plain",
    )  # fmt: skip
    for (work, shape), rows in rows_by_work(result).items():
        row = list(rows.values())[-1]
        if "plenoptic" not in row["seconds"]:
            continue
        cells = [work, shape, our_ms(rows)]
        cells += [joined(values(rows, "over_ours", who), times) for who in ("plenoptic", "plain", "compiled")]
        cells += [joined(values(rows, "over_ours", "ffts"), inverse)]
        lines.append(line([*cells, f"{row['bytes'] / MIB:.0f}" if "bytes" in row else "", rate(rows), peaks(rows)]))
    return lines


def ops(result: dict) -> list[str]:
    """Return the table of the ops, with one thread and with two."""
    alone, together = rows_by_work(result, 1), rows_by_work(result)
    lines = heading(
        "op", "MiB moved", "ours, ms, 1 thread", "share of copy bandwidth, 1 thread", "ours, ms, 2 threads",
        "share of copy bandwidth, 2 threads", "GB/s, 1 / 2 threads", "plain torch / ours", "compiled / ours",
    )  # fmt: skip
    for (work, shape), rows in together.items():
        if not work.startswith(OPS):
            continue
        runs = [alone.get((work, shape), {}), rows]  # on a GPU, threads are not varied, and the first run is empty
        last = [list(run.values())[-1] for run in runs if run]
        cells = []
        for run in runs:
            cells += [our_ms(run), joined(values(run, "share_of_copy"), percent)]
        speed = " / ".join(f"{row['bytes_per_second'] / 1e9:.1f}" for row in last)
        ratios = [joined(values(rows, "over_ours", who), times) for who in ("plain", "compiled")]
        lines.append(line([f"`{work}`", f"{last[0]['bytes'] / MIB:.0f}", *cells, speed, *ratios]))
    return lines


def lens(result: dict) -> list[str]:
    """Return the table of the lens: steps, and morphs compared with the gradient of their classifier."""
    lines = heading("work", "default / tuned", "goal")
    for (work, shape), rows in rows_by_work(result).items():
        if "ResNet" in work:
            shares = joined(values(rows, "over_ours", "gradient"), inverse)
            alone = joined(values(rows, "seconds", "gradient"), ms)
            cells = [f"{shares} the time of the gradient alone, {alone} ms", "1.2x"]
            lines.append(line([f"{work}, {shape}, not scored", *cells]))
        elif "persistent" in work:
            steps, batch = int(work.split()[0]), int(shape.split("x")[0])
            each = joined(values(rows, "seconds", "ours"), lambda s, steps=steps: ms(s / steps))
            image = joined(values(rows, "seconds", "ours"), lambda s, count=steps * batch: ms(s / count))
            what = f"one step of the persistent regime, {shape}, with a model of negligible cost"
            goal = "3 ms" if batch == 1 else "0.4 ms per image"
            lines.append(line([what, f"{each} ms; per image {image} ms", goal]))
    return lines


# Names of the baselines in the table of small images, searches and a busy machine
COMPARED_WITH = {
    "parts": "gradient and rendering alone",
    "factors": "the morph by factors",
    "alone": "the morph without that process",
}
STEP_PARTS = "gradients, analyses and syntheses alone"
GOALS = {  # goals for the ratios in the table of small images
    "frozen 8-frame morph by factors": "1.3x",
    "frozen 8-frame morph to a distance": "1.8x",
    "11 persistent steps by factors": "2x",
    "11 persistent steps to a distance": "1.6x",
    "8-frame phase morph beside a spinning process": "3x",
}


def small(result: dict) -> list[str]:
    """Return the table of small images, of searches, and of a busy machine."""
    lines = heading("work", "shape", "ours, ms", "compared with", "its time, ms", "ratio of times", "goal")
    # Small images are measured with one thread.
    for (work, shape), rows in (rows_by_work(result, 1) | rows_by_work(result)).items():
        row = list(rows.values())[-1]
        who = next((who for who in COMPARED_WITH if who in row["seconds"]), None)
        if who is None:
            continue
        name = STEP_PARTS if "steps" in work and who == "parts" else COMPARED_WITH[who]
        cells = joined(values(rows, "seconds", who), ms), joined(values(rows, "over_ours", who), inverse)
        goal = GOALS.get(work) or ("1.8x" if shape == "1x1x64x64" else "1.5x")
        lines.append(line([work, shape, our_ms(rows), name, *cells, goal]))
    return lines


def float64(result: dict) -> list[str]:
    """Return the table of float64 compared with float32."""
    lines = heading("work, float64", "shape", "ours, ms", "in float32, ms", "ours / float32")
    for (work, shape), rows in rows_by_work(result).items():
        ratios = values(rows, "over_ours", "float32")
        if set(ratios) != {None}:
            cells = joined(values(rows, "seconds", "float32"), ms), joined(ratios, inverse)
            lines.append(line([work.removesuffix(", float64"), shape, our_ms(rows), *cells]))
    return lines


def allocators(result: dict) -> list[str]:
    """Return the table of default and tuned allocator settings, which were measured alternately."""
    lines = heading("work, float32", "shape", "default, ms", "tuned, ms", "default / tuned")
    for row in result["rows"]:
        if "tuned" in row.get("over_ours", {}):
            both = [ms(row["seconds"][who]) for who in ("ours", "tuned")]
            ratio = inverse(row["over_ours"]["tuned"])
            lines.append(line([row["work"].removesuffix(", default allocator"), row["shape"], *both, ratio]))
    return lines


def memory(result: dict) -> list[str]:
    """Return the table of peak memory and its limits."""
    lines = heading("peak memory beyond the output, 8x3x224x224", "MiB", "limit")
    for row in result["rows"]:
        if "limit" in row and row["allocator"] == "default":
            cells = row["work"].removeprefix("memory of "), row["peak_beyond_output"]["ours"] / MIB, row["limit"] / MIB
            lines.append(line([cells[0], f"{cells[1]:.1f}", f"{cells[2]:.0f}"]))
    return lines


# --- Other results ---


def growth(result: dict) -> list[str]:
    """Return the table of the exponents of :func:`exponent_of`."""
    lines = heading("varied", "work", "fitted range", "ours", "plain torch", "plenoptic", "FFTs alone")
    for (axis, work), curves in growth_curves(result).items():
        cells, our_range = [], None
        for who in ("ours", "plain", "plenoptic", "ffts"):
            exponent, *ends = exponent_of(curves.get(who, [])) or [None]
            fitted = " to ".join(map(str, ends))
            our_range = our_range or fitted
            # The range is shown where it differs: slow baselines are not measured at large values
            differs = f" ({fitted})" if fitted != our_range else ""
            cells.append("" if exponent is None else f"{exponent:.2f}{differs}")
        lines.append(line([axis, work, our_range, *cells]))
    return lines


def growth_curves(result: dict) -> dict[tuple[str, str], dict[str, list[tuple[int, float]]]]:
    """Return the measured (value, seconds): ``{(axis, work): {who: [...]}}``."""
    curves: dict = {}
    for row in result["rows"]:
        by_who = curves.setdefault((row["axis"], row["work"]), {})
        for who, seconds in row["seconds"].items():
            by_who.setdefault(who, []).append((row["value"], seconds))
    return curves


def exponent_of(curve: list[tuple[int, float]]) -> tuple[float, int, int] | None:
    """Return the exponent p of ``seconds ~ value^p``, and the first and last value of the fitted range.

    The logarithms are fitted by least squares. Of more than three points, only the upper half is fitted: there,
    constant costs matter least.
    """
    if len(curve) < 2:
        return None
    upper = curve[len(curve) // 2 :] if len(curve) > 3 else curve
    x, y = ([math.log(number) for number in column] for column in zip(*upper))
    slope, _ = statistics.linear_regression(x, y)
    return slope, upper[0][0], upper[-1][0]


def dataset(result: dict) -> list[str]:
    """Return the table of the data-set jobs on digits."""
    lines = heading("data", "option", "images/s", "first shard", "resume of the finished job")
    for row in result["digits"]:
        *_, data, option = row["work"].split(", ")
        seconds = [f"{row[name]:.1f} s" for name in ("first_shard", "resume_seconds")]
        lines.append(line([data, f"`{option}`", f"{row['images_per_second']:,.0f}", *seconds]))
    return lines


def photographs(result: dict) -> list[str]:
    """Return the table of the data-set jobs on photographs."""
    lines = heading("work", "images/s", "share of the gradients' rate")
    for row in result["photographs"]:
        lines.append(line([row["what"], f"{row['images_per_second']:.1f}", f"{row['of_gradients_alone']:.2f}"]))
    return lines


def worker_cpu(result: dict) -> list[str]:
    """Return the table of the CPU time of a worker.

    The time is compared with that of gradients or morphs alone.
    """
    names = ("worker, CPU ms per image", "gradients or morphs alone, CPU ms per image", "their share")
    lines = heading("work", *names, "peak memory, MiB")
    for row in result["cpu"]:
        cells = [ms(row["job"]), ms(row["alone"]), f"{row['alone_of_job']:.2f}", f"{row['peak_mib']:.0f}"]
        lines.append(line([row["work"], *cells]))
    return lines


def traffic(result: dict) -> list[str]:
    """Return the table of the bytes that CUDA kernels move.

    For each size, they are divided by the smallest possible number. The ratios in parentheses count a sector only once
    per block.
    """
    sizes = list(dict.fromkeys(row["size"] for row in result["rows"]))
    row_of = {(row["op"], row["size"]): row for row in result["rows"]}
    lines = heading("op", f"ideal, {sizes[0]}, MiB", *(f"moved / ideal, {size}" for size in sizes))
    for op in dict.fromkeys(row["op"] for row in result["rows"]):
        rows = [row_of[op, size] for size in sizes]
        cells = [f"{row['ratio']:.2f} ({row['ratio_once_per_block']:.2f})" for row in rows]
        lines.append(line([f"`{op}`", f"{rows[0]['ideal_bytes'] / MIB:.0f}", *cells]))
    return lines


def traffic_workloads(result: dict) -> list[str]:
    """Return the table of the bytes and bank conflicts of workloads.

    Bytes are given per pixel; for morphs, per pixel and frame.
    """
    columns = ("our kernels", "torch's FFTs", "torch's other ops", "all", "bank conflicts")
    lines = heading("work", "size", "computed by", *columns)
    for row in result["workloads"]:
        numbers = [f"{row[name]:.0f}" for name in ("kernels", "ffts", "other_ops", "bytes_per_pixel")]
        lines.append(line([row["work"], row["size"], row["computed_by"], *numbers, f"{row['bank_conflicts']:.1%}"]))
    return lines


def traffic_morph(result: dict) -> list[str]:
    """Return the table of the bytes that each kernel moves for a morph, per pixel and frame."""
    work = next((row for row in result["workloads"] if "morph" in row["work"] and "by_kernel" in row), None)
    if work is None:
        return []
    rows = [(name.partition("<")[0], *numbers, sum(numbers)) for name, numbers in work["by_kernel"].items()]
    rows.sort(key=lambda row: -row[-1])
    totals = ("all", *map(sum, zip(*(numbers for _, *numbers in rows))))
    lines = heading(f"kernel, {work['work']} {work['size']}", "read", "written", "both")
    for name, *numbers in [*rows, totals]:
        lines.append(line([name if name == "all" else f"`{name}`", *(f"{n:.1f}" for n in numbers)]))
    return lines


def headline(result: dict) -> list[str]:
    """Return the table of README.md from the rows of a speed result."""
    lines = heading("work, float32, default / tuned allocator", "time", "compared with", "ratio")
    by_work = rows_by_work(result)
    for work, shape, baseline, name in HEADLINE:
        rows = by_work.get((work, shape), {})
        if values(rows, "over_ours", baseline)[-1:] in ([], [None]):  # not measured
            continue
        show, unit = (inverse, "as long") if baseline == "gradient" else (times, "as fast")
        label = HEADLINE_LABELS.get(work, work)
        ratio = f"{joined(values(rows, 'over_ours', baseline), show)} {unit}"
        lines.append(line([f"{label}, {shape}", f"{joined(values(rows, 'seconds', 'ours'), ms)} ms", name, ratio]))
    return lines


HEADLINE = (
    ("8-frame phase morph", "8x3x224x224", "plenoptic", "plenoptic 2"),
    ("12-frame joint morph", "256x1x32x32", "plenoptic", "plenoptic 2"),
    ("analysis", "8x3x224x224", "plenoptic", "plenoptic 2"),
    ("synthesis", "8x3x224x224", "plenoptic", "plenoptic 2"),
    ("frozen 8-frame morph, ResNet-50", "8x3x224x224", "gradient", "the model's gradient alone"),
)
HEADLINE_LABELS = {"frozen 8-frame morph, ResNet-50": "8-frame morph and gradient of ResNet-50"}

# The functions of all tables, by kind of result and name of the table
TABLES: dict[str, dict[str, Callable[[dict], list[str]]]] = {
    "speed": {
        "headline": headline,
        "transforms": transforms,
        "ops": ops,
        "lens": lens,
        "small": small,
        "float64": float64,
        "allocators": allocators,
        "memory": memory,
    },
    "growth": {"growth": growth},
    "digits": {"dataset": dataset},
    "photographs": {"photographs": photographs},
    "cpu": {"worker-cpu": worker_cpu},
    "traffic": {"traffic": traffic, "traffic-workloads": traffic_workloads, "traffic-morph": traffic_morph},
}


def kind_of(result: dict) -> str:
    """Return the kind of a benchmark's result, a key of ``TABLES``; "" if no table shows it."""
    return result.get("kind") or next((kind for kind in ("digits", "photographs", "cpu") if kind in result), "")
