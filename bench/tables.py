"""The tables of the READMEs: functions from a result to lines; ``TABLES`` lists those of each kind of result."""

from __future__ import annotations

from collections.abc import Callable

MIB = 2**20
MODES = "default", "tuned"
DOUBTFUL = 0.25  # half the interquartile range over the median
OPS = "pair", "unpair", "split_", "merge_", "polar_", "step", "extrapolate"


# --- Cells ---


def ms(seconds: float) -> str:
    """Format milliseconds with three digits."""
    value = 1e3 * seconds
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def both(values: list[float | None], show: Callable[[float], str]) -> str:
    """Return ``default / tuned``, or nothing if neither was measured."""
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


def by_mode(result: dict, threads: int | None = None) -> dict[tuple[str, str], dict[str, dict]]:
    """Return the timed rows with this many threads, as {(work, shape): {allocator: row}}."""
    threads = threads or result["machine"]["threads"]
    found: dict = {}
    for row in result["rows"]:
        if "seconds" in row and row["threads"] == threads:
            found.setdefault((row["work"], row["shape"]), {})[row["allocator"]] = row
    return found


def of(modes: dict, *keys) -> list:
    """Return a value of the row of each allocator, or None; a GPU has one allocator."""
    found = []
    for mode in MODES if "default" in modes or "tuned" in modes else modes:
        value = modes.get(mode)
        for key in keys:
            value = None if value is None else value.get(key)
        found.append(value)
    return found


def own(modes: dict) -> str:
    """Return our milliseconds, with a ~ if rounds differ too much for a reliable median."""
    doubted = ["~" if (spread or 0) > DOUBTFUL else "" for spread in of(modes, "spread", "ours")]
    taken = of(modes, "seconds", "ours")
    return both([None if s is None else mark + ms(s) for mark, s in zip(doubted, taken)], str)


def peaks(modes: dict) -> str:
    """Return MiB beyond the output of ours, plenoptic and plain torch."""
    found = next((row["peak_beyond_output"] for row in modes.values() if "peak_beyond_output" in row), None)
    mebibytes = lambda who: f"{found[who] / MIB:.1f}" if who in found else "-"
    return " / ".join(map(mebibytes, ("ours", "plenoptic", "plain"))) if found else ""


def rate(modes: dict) -> str:
    """Return GB/s and the share of the bandwidth of a copy, with the last allocator."""
    row = list(modes.values())[-1]
    return f"{row['bytes_per_second'] / 1e9:.1f} ({percent(row['share_of_copy'])})" if "share_of_copy" in row else ""


def transforms(result: dict) -> list[str]:
    """Return the table of the pyramid and of morphs from a given gradient."""
    lines = heading(
        "work, float32", "shape", "ours, ms", "plenoptic / ours", "plain torch / ours", "compiled / ours",
        "ours / FFT floor", "MiB moved", "GB/s (of a copy's)", "MiB beyond output: ours / plenoptic / plain",
    )  # fmt: skip
    for (work, shape), modes in by_mode(result).items():
        row = list(modes.values())[-1]
        if "plenoptic" not in row["seconds"]:
            continue
        cells = [work, shape, own(modes)]
        cells += [both(of(modes, "over_ours", who), times) for who in ("plenoptic", "plain", "compiled")]
        cells += [both(of(modes, "over_ours", "floor"), inverse)]
        lines.append(line([*cells, f"{row['bytes'] / MIB:.0f}" if "bytes" in row else "", rate(modes), peaks(modes)]))
    return lines


def ops(result: dict) -> list[str]:
    """Return the table of the ops, with one thread and with two."""
    alone, together = by_mode(result, 1), by_mode(result)
    lines = heading(
        "op", "MiB moved", "ours, ms, 1 thread", "of copy bandwidth, 1 thread", "ours, ms, 2 threads",
        "of copy bandwidth, 2 threads", "GB/s, 1 / 2 threads", "plain torch / ours", "compiled / ours",
    )  # fmt: skip
    for (work, shape), modes in together.items():
        if not work.startswith(OPS):
            continue
        runs = [alone.get((work, shape), {}), modes]  # a GPU has the second only
        last = [list(run.values())[-1] for run in runs if run]
        cells = []
        for run in runs:
            cells += [own(run), both(of(run, "share_of_copy"), percent)]
        speed = " / ".join(f"{row['bytes_per_second'] / 1e9:.1f}" for row in last)
        peers = [both(of(modes, "over_ours", who), times) for who in ("plain", "compiled")]
        lines.append(line([f"`{work}`", f"{last[0]['bytes'] / MIB:.0f}", *cells, speed, *peers]))
    return lines


def lens(result: dict) -> list[str]:
    """Return the table of the costs of a morph beyond its classifier, and of a job beyond its morphs."""
    lines = heading("", "default / tuned")
    for (work, shape), modes in by_mode(result).items():
        seconds, batch = of(modes, "seconds", "ours"), int(shape.split("x")[0])
        over = lambda count, found=seconds: [None if s is None else s / count for s in found]
        if "persistent" in work:
            each, sample = both(over(int(work.split()[0])), ms), both(over(int(work.split()[0]) * batch), ms)
            what = f"persistent regime, a refreshed step at {shape}, including a very cheap model"
            lines.append(line([what, f"{each} ms; per sample {sample} ms"]))
        elif "ResNet" in work:
            shares = both(of(modes, "over_ours", "gradient"), inverse)
            alone = both(of(modes, "seconds", "gradient"), ms)
            lines.append(line([f"{work}, {shape}, not scored", f"{shares} the gradient alone ({alone} ms)"]))
        elif "job" in work:
            rates = both(over(batch), lambda s: f"{1 / s:,.0f}")
            shares = both(of(modes, "over_ours", "lens"), inverse)
            lines.append(line([f"{work}, {shape}, one worker", f"{rates} images/s; {shares} the lens alone"]))
    return lines


# The rival of a small or disturbed work, as the table names it
AGAINST = {
    "parts": "gradient and rendering",
    "factors": "the same by factors",
    "alone": "the same without that process",
}


def small(result: dict) -> list[str]:
    """Return the table of small images and of searches, not scored, and of one image beside a spinning process."""
    lines = heading("work", "shape", "ours, ms", "against", "ms", "ours / that")
    for (work, shape), modes in (by_mode(result, 1) | by_mode(result)).items():
        row = list(modes.values())[-1]
        who = next((who for who in AGAINST if who in row["seconds"]), None)
        if who is None:
            continue
        against = "gradients, analyses, syntheses" if "steps" in work and who == "parts" else AGAINST[who]
        taken = both(of(modes, "seconds", who), ms)
        lines.append(line([work, shape, own(modes), against, taken, both(of(modes, "over_ours", who), inverse)]))
    return lines


def float64(result: dict) -> list[str]:
    """Return the table of float64."""
    lines = heading("work, float64", "shape", "ours, ms", "in float32, ms", "ours / float32")
    for (work, shape), modes in by_mode(result).items():
        ratios = of(modes, "over_ours", "float32")
        if set(ratios) != {None}:
            cells = both(of(modes, "seconds", "float32"), ms), both(ratios, inverse)
            lines.append(line([work.removesuffix(", float64"), shape, own(modes), *cells]))
    return lines


def allocators(result: dict) -> list[str]:
    """Return the table of the allocator's default settings, compared with tuned ones in the same run."""
    lines = heading("work, float32", "shape", "default, ms", "tuned, ms", "default / tuned")
    for row in result["rows"]:
        if "tuned" in row.get("over_ours", {}):
            taken = [ms(row["seconds"][who]) for who in ("ours", "tuned")]
            ratio = inverse(row["over_ours"]["tuned"])
            lines.append(line([row["work"].removesuffix(", default allocator"), row["shape"], *taken, ratio]))
    return lines


def memory(result: dict) -> list[str]:
    """Return the table of the memory that test_memory.py limits."""
    lines = heading("peak memory beyond the output, 8x3x224x224", "MiB", "limit")
    for row in result["rows"]:
        if "limit" in row and row["allocator"] == "default":
            cells = row["work"].removeprefix("memory of "), row["peak_beyond_output"]["ours"] / MIB, row["limit"] / MIB
            lines.append(line([cells[0], f"{cells[1]:.1f}", f"{cells[2]:.0f}"]))
    return lines


# --- Other results ---


def growth(result: dict) -> list[str]:
    """Return the table of exponents."""
    lines = heading("cost against", "work", "fitted over", "ours", "plain torch", "plenoptic", "FFT floor")
    for axis, work in dict.fromkeys((e["axis"], e["work"]) for e in result["exponents"]):
        fits = {e["who"]: e for e in result["exponents"] if (e["axis"], e["work"]) == (axis, work)}
        over = {who: f"{e['from']} to {e['to']}" for who, e in fits.items()}
        shown = lambda who, fits=fits, over=over: (
            f"{fits[who]['exponent']:.2f}"
            + (
                "" if over[who] == over["ours"] else f" ({over[who]})"  # given up where it took too long
            )
        )
        cells = [shown(who) if who in fits else "" for who in ("ours", "plain", "plenoptic", "floor")]
        lines.append(line([axis, work, over["ours"], *cells]))
    return lines


def dataset(result: dict) -> list[str]:
    """Return the table of the long data-set job on digits."""
    lines = heading("data", "option", "images/s", "first shard", "resume of the finished job")
    for row in result["digits"]:
        *_, data, how = row["work"].split(", ")
        seconds = [f"{row[name]:.1f} s" for name in ("first_shard", "resume_seconds")]
        lines.append(line([data, f"`{how}`", f"{row['images_per_second']:,.0f}", *seconds]))
    return lines


def photographs(result: dict) -> list[str]:
    """Return the table of the data-set job on photographs, compared with the classifier's gradients."""
    lines = heading("what", "images/s", "of the gradients' rate")
    for row in result["photographs"]:
        lines.append(line([row["what"], f"{row['images_per_second']:.1f}", f"{row['of_gradients_alone']:.2f}"]))
    return lines


def worker_cpu(result: dict) -> list[str]:
    """Return the table of the CPU time of a worker, compared with its gradients or morphs alone."""
    lines = heading("work", "CPU ms per image", "gradients or morphs alone", "their share", "peak memory, MiB")
    for row in result["cpu"]:
        cells = [ms(row["job"]), ms(row["alone"]), f"{row['alone_of_job']:.2f}", f"{row['peak_mib']:.0f}"]
        lines.append(line([row["work"], *cells]))
    return lines


def traffic(result: dict) -> list[str]:
    """Bytes of CUDA kernels over their ideal, for each size; and with each sector once per block."""
    sizes = list(dict.fromkeys(row["size"] for row in result["rows"]))
    found = {(row["op"], row["size"]): row for row in result["rows"]}
    lines = heading("op", "MiB at best, " + sizes[0], *sizes)
    for op in dict.fromkeys(row["op"] for row in result["rows"]):
        rows = [found[op, size] for size in sizes]
        cells = [f"{row['ratio']:.2f} ({row['ratio_once_per_block']:.2f})" for row in rows]
        lines.append(line([f"`{op}`", f"{rows[0]['ideal_bytes'] / MIB:.0f}", *cells]))
    return lines


def traffic_workloads(result: dict) -> list[str]:
    """Bytes per pixel (and frame) of whole workloads on CUDA, and the bank conflicts of the kernels."""
    columns = ("our kernels", "torch's FFTs", "torch's other ops", "bytes per pixel (and frame)", "bank conflicts")
    lines = heading("work", "size", "by", *columns)
    for row in result["workloads"]:
        numbers = [f"{row[name]:.0f}" for name in ("kernels", "ffts", "other_ops", "bytes_per_sample")]
        lines.append(line([row["work"], row["size"], row["way"], *numbers, f"{row['bank_conflicts']:.1%}"]))
    return lines


def headline(result: dict) -> list[str]:
    """Return the table of README.md from the rows of a speed result."""
    lines = heading("work, float32, default / tuned allocator", "time", "compared with", "ratio")
    found = by_mode(result)
    for work, shape, peer, name in HEADLINE:
        modes = next((modes for (w, s), modes in found.items() if w.startswith(work) and s == shape), None)
        if modes is None:
            continue
        show, unit = (inverse, "as long") if peer == "gradient" else (times, "as fast")
        ratio = f"{both(of(modes, 'over_ours', peer), show)} {unit}"
        lines.append(line([f"{work}, {shape}", f"{both(of(modes, 'seconds', 'ours'), ms)} ms", name, ratio]))
    return lines


HEADLINE = (
    ("8-frame phase morph", "8x3x224x224", "plenoptic", "plenoptic 2"),
    ("12-frame joint morph", "256x1x32x32", "plenoptic", "plenoptic 2"),
    ("analysis", "8x3x224x224", "plenoptic", "plenoptic 2"),
    ("synthesis", "8x3x224x224", "plenoptic", "plenoptic 2"),
    ("frozen 8-frame morph, ResNet-50", "8x3x224x224", "gradient", "the model's gradient alone"),
)

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
    "traffic": {"traffic": traffic, "traffic-workloads": traffic_workloads},
}


def kind_of(result: dict) -> str:
    """Return the kind of a result, a key of ``TABLES``; "" if there is none."""
    return result.get("kind") or next((kind for kind in ("digits", "photographs", "cpu") if kind in result), "")
