"""Makes the table that bench/cuda.sh prints at the end.

It has the script's phases, then measurements and their targets.
"""

from __future__ import annotations

COPY_SHARE = 0.70  # target: share of a copy's bandwidth
# Targets: at least this many times as fast as plenoptic, at most this many times as long as the FFTs alone
SPEED = {"analysis": (6, 1.5), "synthesis": (10, 1.5), "8-frame phase morph": (15, 1.5)}
BATCH_1 = 10  # target for batches of 1: how many times as fast as plenoptic
LENS = 1.10  # target: time of a morph over that of its gradient
BEYOND_MIB = 256  # target: memory beyond frames and model


def lines(result: dict) -> list[str]:
    """Return the lines of the table."""
    about = result["about"]
    where = ", ".join(f"{k} {about[k]}" for k in ("device", "torch", "torch_cuda", "driver") if about.get(k))
    out = [f"{where}, {about['date']}", "", "| phase | ended | seconds | found |", "|---|---|---|---|"]
    out += [f"| {p} | {r['status']} | {r['seconds']:.0f} | {found(p, r)} |" for p, r in result.items() if p != "about"]
    dry = about["device"].startswith("cpu")
    if "bench" in result and not dry:
        out += ["", "| work | measured | target |", "|---|---|---|", *bench_lines(result["bench"])]
    return out


def found(phase: str, r: dict) -> str:
    """Return the result of a phase in a few words."""
    if "not_measured" in r:
        return f"not measured: {r['not_measured']}"
    if phase == "compile" and "kernels" in r:
        narrow = r["wide_kernels_with_narrow_accesses"]
        words = f"{len(narrow)} wide ones with narrow accesses" if isinstance(narrow, list) else f"accesses {narrow}"
        return f"{r['count']} kernels, {r['about']['warnings']} warnings, {len(r['spilling'])} spill, {words}"
    if phase == "tests" and "passed" in r:
        on_device = r["on_device"]
        device = on_device if isinstance(on_device, str) else f"{on_device.get('passed', 0)} of them on the GPU"
        absent = f", {len(r['not_collected'])} files not collected" if r["not_collected"] else ""
        counts = ", ".join(f"{r[name]} {name.replace('_', ' ')}" for name in ("failed", "skipped", "not_run"))
        return f"{r['passed']} passed ({device}), {counts}{absent}"
    if phase == "sanitize":
        tools = {name: v for name, v in r.items() if isinstance(v, dict)}
        return "; ".join(
            f"{n} {v['ours']} errors" + ("" if v["ended"] else ", did not finish") for n, v in tools.items()
        )
    if phase == "bench" and "kernels" in r:
        rows = [*r["kernels"], *r["transforms"]]
        missing = sum("not_measured" in row for row in rows)
        return f"{len(rows) - missing} rows, {missing} not measured"
    return ""


def bench_lines(bench: dict) -> list[str]:
    """Return a row for each measurement, with its target if it has one."""
    rows = [row for row in bench.get("transforms", []) if "not_measured" not in row]
    at = {(row["work"], row["shape"], row["who"]): row for row in rows}
    shapes = list(dict.fromkeys(row["shape"] for row in rows if row["who"] in ("ours", "plenoptic", "ffts")))
    out = []
    for shape in shapes:
        for work, (times, over_ffts) in SPEED.items():
            out += transform_lines(at, work, shape, times, over_ffts)
    out += [lens_line(row) for row in rows if row["who"] == "lens"]
    for row in rows:
        if row["who"] in ("memory", "chunks"):
            target = f"<= {BEYOND_MIB} MiB" if row["who"] == "memory" else ""
            what = f"{row['work']}, chunks of {row['chunk_mib']} MiB"
            time = f"{row['ms']:.2f} ms, " if "ms" in row else ""
            memory = f"{row['mib_beyond_frames_and_model']:.0f} MiB beyond frames and model"
            out.append(f"| {what} | {time}{memory} | {target} |")
    return out + kernel_lines(bench.get("kernels", []))


def transform_lines(at: dict, work: str, shape: str, times: float, over_ffts: float) -> list[str]:
    """Return the row of a workload, with its targets."""
    # Launches take most of the time of one image, so the time of a CUDA graph is reported.
    one_image = shape.startswith("1x")
    ours = at.get((work, shape, "ours, graph" if one_image else "ours")) or at.get((work, shape, "ours"))
    if ours is None:
        return [f"| {work} {shape} | not measured | |"]
    ratio = lambda who: at[work, shape, who]["ms"] / ours["ms"] if (work, shape, who) in at else None
    words, target = [f"{ours['ms']:.3f} ms ({ours['who']})"], []
    if ratio("plenoptic"):
        words.append(f"{ratio('plenoptic'):.1f}x as fast as {at[work, shape, 'plenoptic']['name']}")
        target.append(f">= {BATCH_1 if one_image else times}x")
    if ratio("ours, ops on bands"):
        words.append(f"{ratio('ours, ops on bands'):.1f}x as fast as torch's FFTs with the ops on bands")
    if ratio("ours, no clusters"):
        words.append(f"{ratio('ours, no clusters'):.2f}x as fast as without clusters")
    if ratio("ffts"):
        words.append(f"{1 / ratio('ffts'):.2f}x as long as the FFTs alone")
        target.append(f"<= {over_ffts}x")
    return [f"| {work} {shape} | {', '.join(words)} | {', '.join(target)} |"]


def lens_line(row: dict) -> str:
    measured = f"{row['ms']:.2f} ms, {row['ratio']:.3f}x the time of its gradient"
    return f"| {row['work']} ({row['name']}) {row['shape']} | {measured} | <= {LENS}x |"


def kernel_lines(rows: list[dict]) -> list[str]:
    """Return the bandwidth of each kernel, also as a share of a copy's bandwidth."""
    known = [row for row in rows if "of_copy" in row]
    name = lambda row: f"copy of {row['moved_mib'] / 2:.0f} MiB" if row["kernel"] == "copy" else row["kernel"]
    words = lambda row: f"{row['gb_per_s']:.0f} GB/s, {100 * row['of_copy']:.0f} % of a copy"
    target = lambda row: "" if row["kernel"] == "copy" else f">= {100 * COPY_SHARE:.0f} %"
    return [f"| {name(row)} | {words(row)} | {target(row)} |" for row in known]
