"""Turn what ``bench/run`` measured into the README's table: ``python bench/report.py DIRECTORY``."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path


def medians(folder: Path, mode: str) -> tuple[dict, dict, dict]:
    """({(work, shape): {who: ms}}, {work: MiB}, where it ran) of one allocator mode."""
    times, memory, machine = {}, {}, {}
    for path in sorted(folder.glob(f"{mode}-*.json")):
        data = json.loads(path.read_text())
        machine = data["machine_info"]
        for row in data["benchmarks"]:
            info = row["extra_info"]
            if info["who"] == "memory":
                memory[info["work"]] = info["beyond_output_mib"]
            else:
                key = info["work"], info["shape"]
                times.setdefault(key, {})[info["who"]] = row["stats"]["median"] * 1e3
    return times, memory, machine


def ratio(row: dict, who: str, of: str) -> str:
    return f"{row[who] / row[of]:.2f}x" if who in row and of in row else ""


def table(default: dict, tuned: dict) -> list[str]:
    """One row for each piece of work."""
    lines = [
        "| work, float32 | shape | ours, ms: default / tuned | plenoptic / ours, default | plenoptic / ours, tuned "
        "| ours / FFT floor, tuned |",
        "|---|---|---|---|---|---|",
    ]
    for key, row in default.items():
        if "plenoptic" not in row:
            continue
        other = tuned[key]
        cells = [*key, f"{row['ours']:.2f} / {other['ours']:.2f}"]
        cells += [ratio(row, "plenoptic", "ours"), ratio(other, "plenoptic", "ours"), ratio(other, "ours", "floor")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def lens_lines(default: dict) -> list[str]:
    """What a morph costs beyond its model."""
    lines = []
    for (work, shape), row in default.items():
        if "gradient" in row:
            share = ratio(row, "ours", "gradient")
            lines.append(f"{work}, {shape}: {share} the classifier's gradient ({row['gradient']:.0f} ms)")
        elif work == "11 persistent steps":
            step, batch = row["ours"] / 11, int(shape.split("x")[0])
            lines.append(f"persistent regime, {shape}: {step:.2f} ms a step, {step / batch:.3f} ms per sample")
    return lines


def summary(folder: Path) -> dict:
    """What is committed: medians, memory and machine, without the raw rounds."""
    (a, memory, machine), (b, _, _) = medians(folder, "default"), medians(folder, "tuned")
    flat = lambda t: {" ".join(k): {w: round(ms, 3) for w, ms in row.items()} for k, row in t.items()}
    cpu = machine.get("cpu", {})
    where = {
        "cpu": cpu.get("brand_raw"),
        "threads": machine.get("threads"),
        "torch": machine.get("torch"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    return {
        "machine": where,
        "milliseconds_default": flat(a),
        "milliseconds_tuned": flat(b),
        "mib_beyond_output": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where bench/run left default-*.json and tuned-*.json")
    parser.add_argument("--save", type=Path, help="write the medians here")
    args = parser.parse_args()
    print("\n".join(table(medians(args.folder, "default")[0], medians(args.folder, "tuned")[0])))
    print("\n".join(lens_lines(medians(args.folder, "default")[0])))
    result = summary(args.folder)
    for work, mib in result["mib_beyond_output"].items():
        print(f"peak memory beyond the output, {work}: {mib} MiB")
    if args.save:
        args.save.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
