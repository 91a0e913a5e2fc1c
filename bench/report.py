"""Results to the README's tables and to pictures.

``python bench/report.py RESULT.json`` prints a result's tables and, of a growth result, draws its pictures anew;
``--readme`` writes the tables into README.md, each between ``<!-- table: NAME, FILE -->`` and ``<!-- end -->``, where
FILE is set to the result's; without a result, every table anew from the file that it names. Where README.md has places
for a machine's vectors (``transforms-AVX2``), its results go there and nowhere else. ``--collect`` takes what
pytest-benchmark wrote instead (bench/run does), and ``--out`` keeps it as a result.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import results
from tables import TABLES, kind_of

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
NONE = "none"  # in place of a file, where nothing has been measured
MARKED = re.compile(r"<!-- table: (?P<name>[\w-]+), (?P<file>\S+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def tables_of(result: dict) -> dict[str, list[str]]:
    """{name: lines}; tables that would have no rows are left out."""
    made = {name: make(result) for name, make in TABLES.get(kind_of(result), {}).items()}
    return {name: lines for name, lines in made.items() if len(lines) > 2}


def block(name: str, file: str, lines: list[str]) -> str:
    """A table between its markers."""
    if file == NONE:
        return f"<!-- table: {name}, {NONE} -->\nNot measured yet.\n<!-- end -->"
    return f"<!-- table: {name}, {file} -->\n" + "\n".join([where(file), "", *lines, "", "<!-- end -->"])


def where(file: str) -> str:
    """The sentence above a table: machine, versions, date, and the file."""
    result = results.read(ROOT / file)
    m = result["machine"]
    cpu = m["cpu"] + (f" ({m['vectors']})" if "vectors" in m else "")
    cpu += f", {m['cores']} cores" if "cores" in m else ""
    told = [m.get("gpu") or cpu, f"{m['threads']} threads", f"torch {m['torch']}"]
    told += [f"plenoptic {m['plenoptic']}"] if "plenoptic" in m else []
    day = m.get("date") or Path(file).name[:10]
    plots = f", [plots]({results.pictures(Path(file))})" if kind_of(result) == "growth" else ""
    return f"({', '.join(told)}; {day}; [the figures]({file}){plots}.)"


def of_vectors(result: dict) -> dict[str, list[str]]:
    """:func:`tables_of` as places for results of such a machine alone are called."""
    return {f"{name}-{result['machine'].get('vectors')}": lines for name, lines in tables_of(result).items()}


def rewritten(readme: str, file: str) -> str:
    """The README with the tables of this result file, named from the repository's root."""
    result = results.read(ROOT / file)
    places = {match["name"] for match in MARKED.finditer(readme)}
    made = {name: lines for name, lines in of_vectors(result).items() if name in places} or tables_of(result)
    known = set()

    def replace(match: re.Match) -> str:
        if match["name"] not in made:
            return match[0]
        known.add(match["name"])
        if match["body"].count("\n|") > len(made[match["name"]]):
            told = f"{file} has fewer rows than README.md's table {match['name']}: was all of it measured?"
            raise SystemExit(f"{told} Set that table's file to {NONE!r} to have it rewritten all the same")
        return block(match["name"], file, made[match["name"]])

    text = MARKED.sub(replace, readme)
    if not known:
        raise SystemExit(f"README.md has no place for {', '.join(made) or 'a table'}: <!-- table: NAME, FILE -->")
    return text


def refreshed(readme: str) -> str:
    """The README with every marked table made anew from the file that it names."""
    files = {match["file"] for match in MARKED.finditer(readme)} - {NONE}
    found = {file: results.read(ROOT / file) for file in files}
    made = {file: tables_of(result) | of_vectors(result) for file, result in found.items()} | {NONE: {}}
    anew = lambda m: block(m["name"], m["file"], made[m["file"]].get(m["name"], []))
    return MARKED.sub(anew, readme)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="RESULT.json")
    parser.add_argument("--collect", action="store_true", help="the files are pytest-benchmark's")
    parser.add_argument("--out", type=Path, help="with --collect: where the result goes")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    args = parser.parse_args()
    if not args.files and (args.collect or not args.readme):
        parser.error("give at least one RESULT.json")
    if missing := [str(path) for path in args.files if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    if args.out and not args.collect:
        parser.error("--out is for --collect")
    kept = [args.out] if args.collect else args.files
    if args.readme and not all(path and path.resolve().is_relative_to(ROOT) for path in kept):
        parser.error("--readme names files of this repository: keep the result under bench/results")
    found = [results.collect(args.files)] if args.collect else [results.read(path) for path in args.files]
    for path, result in zip(args.files, found):
        made = tables_of(result)
        if not made:
            print(f"{path}: a result without a table of its own ({', '.join(result)})")
        for name, lines in made.items():
            print(f"\n{name}\n", *lines, sep="\n")
    if args.collect and args.out:
        results.write(args.out, found[0])
    for path, result in zip(args.files, found):
        if kind_of(result) == "growth":
            from plots import draw

            draw(result, results.pictures(path))
    if args.readme:
        text = README.read_text()
        for path in kept:
            text = rewritten(text, str(path.resolve().relative_to(ROOT)))
        README.write_text(text if args.files else refreshed(text))


if __name__ == "__main__":
    main()
