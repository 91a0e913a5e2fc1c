"""Writes the sources of the documentation to a folder: python .ci/sphinx/stage.py FOLDER.

Guides are copies of the repository's READMEs, with their pictures. Links between READMEs point to the copies. Links to
other files of the repository become text with the file's path. API pages list all exported names, in groups.
"""

import re
import shutil
import sys
from pathlib import Path

import steerlens_fast as sf

ROOT = Path(__file__).resolve().parents[2]
GUIDES = (  # (page, file), in the order of the table of contents
    ("readme", "README.md"),
    ("package", "steerlens_fast/README.md"),
    ("ops", "steerlens_fast/ops/README.md"),
    ("pyramid", "steerlens_fast/pyramid/README.md"),
    ("families", "steerlens_fast/families/README.md"),
    ("classifier", "steerlens_fast/classifier/README.md"),
    ("morphs", "steerlens_fast/morphs/README.md"),
    ("lens", "steerlens_fast/lens/README.md"),
    ("distances", "steerlens_fast/lens/distances.md"),
    ("photographs", "steerlens_fast/lens/photographs.md"),
    ("io", "steerlens_fast/io/README.md"),
    ("data", "steerlens_fast/data/README.md"),
    ("models", "steerlens_fast/models/README.md"),
    ("job", "steerlens_fast/job/README.md"),
    ("evaluate", "steerlens_fast/evaluate/README.md"),
    ("rating", "steerlens_fast/rating/README.md"),
    ("demo", "steerlens_fast/demo/README.md"),
    ("cli", "steerlens_fast/cli/README.md"),
    ("bench", "bench/README.md"),
    ("quality", "bench/quality/README.md"),
    ("csrc", "csrc/README.md"),
    ("contributing", ".github/CONTRIBUTING.md"),
    ("changelog", ".github/CHANGELOG.md"),
)
API = {
    "The lens": ["SteerableLens", "Morphs", "MorphStatus", "factor_at_l2", "plot_morphs", "quantus_explain"],
    "The pyramid": [
        "SteerablePyramid",
        "Coefficients",
        "plot_pyramid",
        "filter_cache_bytes",
        "set_filter_cache_limit",
        "clear_filter_cache",
    ],
    "Edit families": ["CSPFamily", "FourierFamily", "PixelFamily", "LumaFamily"],
    "Models and data sets": ["load_model", "models.LoadedModel", "morph_dataset"],
    "Evaluation": [
        "evaluate_families",
        "transfer",
        "driver_confidence",
        "common_attainment",
        "smooth_reconstruction",
        "coefficient_consistency",
        "clipping",
        "band_probes",
        "alignment",
        "phase_displacement",
        "synthetic_images",
        "bootstrap",
        "paired_difference",
        "proportion",
        "proportion_difference",
    ],
    "Ratings by people": [
        "rating.write_form",
        "rating.Form",
        "rating.tally",
        "rating.table",
        "rating.krippendorff_alpha",
    ],
    "The compiled ops": [f"ops.{name}" for name in sf.ops.__all__ if callable(getattr(sf.ops, name))],
    "The build": ["build_info"],
}
# A link or (with "!") an image of Markdown; its text may contain brackets
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def missing_from_api() -> list[str]:
    """Returns the exported names that no API page lists."""
    listed = {name.partition(".")[0] for names in API.values() for name in names}
    return sorted(name for name in sf.__all__ if name not in listed and not name.startswith("__"))


def stage_guide(page: str, source: Path, out: Path) -> None:
    """Copies a README and its pictures, with its links changed to the copies."""
    pages = {str(ROOT / file): name for name, file in GUIDES}

    def relink(match: re.Match) -> str:
        image, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        file = (source.parent / path).resolve()
        if image:
            shutil.copy(file, out / file.name)
            return f"![{text}]({file.name})"
        if str(file) in pages:
            return f"[{text}]({pages[str(file)]}.md{'#' + anchor if anchor else ''})"
        return f"{text} (`{file.relative_to(ROOT)}`)"

    (out / f"{page}.md").write_text(LINK.sub(relink, source.read_text()))


def stage_api(title: str, names: list[str], out: Path) -> str:
    """Writes one API page; returns its name."""
    page = "api-" + re.sub(r"\W+", "-", title.lower())
    lines = [title, "=" * len(title), ""]
    for name in names:
        value = sf
        for word in name.split("."):
            value = getattr(value, word)
        lines += [f".. auto{'class' if isinstance(value, type) else 'function'}:: steerlens_fast.{name}"]
        lines += ["   :members:", ""] if isinstance(value, type) else [""]
    (out / f"{page}.rst").write_text("\n".join(lines))
    return page


def table_of_contents(caption: str, pages: list[str]) -> str:
    """Returns a toctree directive."""
    return "\n".join(["```{toctree}", f":caption: {caption}", ":maxdepth: 1", "", *pages, "```"])


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    if missing_from_api():
        sys.exit(f"stage.py: API must list every exported name, missing: {', '.join(missing_from_api())}")
    guides = [(page, ROOT / file) for page, file in GUIDES if (ROOT / file).exists()]
    for page, source in guides:
        stage_guide(page, source, out)
    pages = [stage_api(title, names, out) for title, names in API.items()]
    index = ["# steerlens_fast", table_of_contents("Guides", [page for page, _ in guides])]
    (out / "index.md").write_text("\n\n".join([*index, table_of_contents("API reference", pages)]))


if __name__ == "__main__":
    main()
