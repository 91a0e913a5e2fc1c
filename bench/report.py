"""Makes tables and plots of results.

    python bench/report.py RESULT.json             # prints the tables; draws the plots of a growth result
    python bench/report.py --readme RESULT.json    # also writes the tables into README.md and bench/README.md
    python bench/report.py --readme                # rewrites all tables of both READMEs from the files that they name

In a README, a table is between ``<!-- table: NAME, FILE -->`` and ``<!-- end -->``; FILE is its result file. Some
tables have a variant for one instruction set, such as ``transforms-AVX2``: results of a machine with this instruction
set are written to the variants only.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import results
from tables import TABLES, kind_of

ROOT = Path(__file__).parent.parent
READMES = ROOT / "README.md", ROOT / "bench/README.md"
NONE = "none"  # in place of a file, where nothing has been measured
MARKED = re.compile(r"<!-- table: (?P<name>[\w-]+), (?P<file>\S+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def tables_of(result: dict) -> dict[str, list[str]]:
    """Return the tables of a result: ``{name: lines}``.

    Tables without rows are left out.
    """
    tables = {name: make(result) for name, make in TABLES.get(kind_of(result), {}).items()}
    return {name: lines for name, lines in tables.items() if len(lines) > 2}


def block(name: str, file: str, lines: list[str], folder: str = ".") -> str:
    """Return a table between its markers, for a README in ``folder``."""
    if file == NONE:
        return f"<!-- table: {name}, {NONE} -->\nNot measured yet.\n<!-- end -->"
    return f"<!-- table: {name}, {file} -->\n" + "\n".join([caption(file, folder), "", *lines, "", "<!-- end -->"])


def caption(file: str, folder: str = ".") -> str:
    """Return the text above a table: machine, versions and date.

    Links are relative to the README's folder.
    """
    result = results.read(ROOT / file)
    m = result["machine"]
    link = lambda path: os.path.relpath(path, folder)
    if kind_of(result) == "traffic":
        return f"({m['how'].capitalize()}; torch {m['torch']}; {m['date']}; [raw results]({link(file)}).)"
    cpu = m["cpu"] + (f" ({m['vectors']})" if "vectors" in m else "")
    cpu += f", {m['cores']} cores" if "cores" in m else ""
    threads = f"{m['threads']} thread{'' if m['threads'] == 1 else 's'}"
    parts = [m.get("gpu") or cpu, threads, f"torch {m['torch']}"]
    parts += [f"plenoptic {m['plenoptic']}"] if "plenoptic" in m else []
    day = m.get("date") or Path(file).name[:10]
    plots = f", [plots]({link(results.pictures(Path(file)))})" if kind_of(result) == "growth" else ""
    return f"({', '.join(parts)}; {day}; [raw results]({link(file)}){plots}.)"


def variants_of(result: dict) -> dict[str, list[str]]:
    """Return the tables of a result under the names of the variants for its machine's instruction set."""
    return {f"{name}-{result['machine'].get('vectors')}": lines for name, lines in tables_of(result).items()}


def rewritten(readme: str, file: str, folder: str = ".") -> str:
    """Return the text of a README with the tables of a result file.

    The file is a path from the root of the repository.
    """
    result = results.read(ROOT / file)
    places = {match["name"] for match in MARKED.finditer(readme)}
    new_tables = {name: lines for name, lines in variants_of(result).items() if name in places} or tables_of(result)

    def replace(match: re.Match) -> str:
        if match["name"] not in new_tables:
            return match[0]
        if match["body"].count("\n|") > len(new_tables[match["name"]]):
            message = f"{file} has fewer rows than the README's table {match['name']}: was everything measured?"
            raise SystemExit(f"{message} To rewrite the table anyway, set its file to {NONE!r}")
        return block(match["name"], file, new_tables[match["name"]], folder)

    return MARKED.sub(replace, readme)


def write_tables(files: list[str]) -> None:
    """Write the tables of result files into the READMEs that have their markers; without files, rewrite all tables."""
    texts = {path: path.read_text() for path in READMES}
    for file in files:
        names = set(tables_of(results.read(ROOT / file))) | set(variants_of(results.read(ROOT / file)))
        if not names & {match["name"] for text in texts.values() for match in MARKED.finditer(text)}:
            raise SystemExit(f"no README has a place for {', '.join(names) or file}: <!-- table: NAME, FILE -->")
        texts = {path: rewritten(text, file, folder_of(path)) for path, text in texts.items()}
    for path, text in texts.items():
        path.write_text(text if files else refreshed(text, folder_of(path)))


def folder_of(readme: Path) -> str:
    """Return the folder of a README, relative to the root of the repository."""
    return str(readme.parent.relative_to(ROOT))


def refreshed(readme: str, folder: str = ".") -> str:
    """Return the text of a README with every table written again.

    Each table is made from the file that its marker names.
    """
    files = {match["file"] for match in MARKED.finditer(readme)} - {NONE}
    results_by_file = {file: results.read(ROOT / file) for file in files}
    tables_by_file = {file: tables_of(result) | variants_of(result) for file, result in results_by_file.items()} | {
        NONE: {}
    }
    rewrite = lambda m: block(m["name"], m["file"], tables_by_file[m["file"]].get(m["name"], []), folder)
    return MARKED.sub(rewrite, readme)


def print_tables(result: dict) -> None:
    tables = tables_of(result)
    if not tables:
        print(f"no table shows a result with the keys {', '.join(result)}")
    for name, lines in tables.items():
        print(f"\n{name}\n", *lines, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="RESULT.json")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md and bench/README.md")
    args = parser.parse_args()
    if not args.files and not args.readme:
        parser.error("give at least one RESULT.json")
    if missing := [str(path) for path in args.files if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    if args.readme and not all(path.resolve().is_relative_to(ROOT) for path in args.files):
        parser.error("--readme needs result files in this repository (bench/results)")
    for path in args.files:
        result = results.read(path)
        print_tables(result)
        if kind_of(result) == "growth":
            from plots import draw

            draw(result, results.pictures(path))
    if args.readme:
        write_tables([str(path.resolve().relative_to(ROOT)) for path in args.files])


if __name__ == "__main__":
    main()
