"""One case of each op and option, small enough for numerical derivatives."""

from itertools import product

from cases import BANK_SHAPES, BankShape, PairShape, case, full, half
from pairwise import covering

SMALL = (2, 1, 2, 3)
SMALL_CASES = {
    "split_bands-odd": case("split_bands", "", BankShape(2, 5, 4, [full(2, 5, 4), half(1, 3, 2)])),
    "split_bands-1x1": case("split_bands", "", BANK_SHAPES["1x1"]),
    "merge_bands-odd": case("merge_bands", "", BankShape(2, 5, 4, [full(2, 5, 4), half(1, 3, 2, merge_planes=1)])),
    "merge_bands-1x6": case("merge_bands", "", BANK_SHAPES["1x6"]),
    "split_bands-whole": case("split_bands", "", BankShape(2, 5, 4, [full(2, 5, 4), full(1, 3, 2)]), whole=True),
    "merge_bands-whole": case(
        "merge_bands", "", BankShape(2, 5, 4, [full(2, 5, 4), full(1, 3, 2, merge_planes=1)]), whole=True
    ),
    "split_bands-pairs": case("split_bands", "", BankShape(2, 5, 4, [full(3, 5, 4)]), whole=True, paired=True),
    "merge_bands-pairs": case(
        "merge_bands", "", BankShape(2, 5, 4, [full(3, 5, 4, merge_planes=1)]), whole=True, paired=True
    ),
    "pair": case("pair", "", PairShape((3, 2), 3)),
    "pair-complex": case("pair", "", PairShape((4, 2), 2), complex_planes=True),
    "unpair": case("unpair", "", PairShape((6, 2), 3)),
    "polar_split": case("polar_split", "", SMALL),
    "polar_split_backward": case("polar_split_backward", "", SMALL),
    "polar_join": case("polar_join", "", SMALL),
    "polar_join_backward": case("polar_join_backward", "", SMALL),
}
for rule, real, op in product((0, 1), (True, False), ("step", "step_backward")):
    label = f"{op}-rule{rule}_{'real' if real else 'complex'}"
    SMALL_CASES[label] = case(op, "", SMALL, rule=rule, real_gradient=real, floor=0.3)
# What changes from frame to frame; "still": nothing
MOVES = ("phase", "amplitude", "joint", "still")
FORMS = {"extrapolate": ("real", "complex", "pairs"), "extrapolate_backward": ("real", "complex")}
EXTRAPOLATIONS = [c for c in product(FORMS, (0, 1), MOVES, FORMS["extrapolate"]) if c[3] in FORMS[c[0]]]
for op, rule, moves, form in covering(EXTRAPOLATIONS):
    moving = {"phase": moves in ("phase", "joint"), "amplitude": moves in ("amplitude", "joint")}
    shape, number = (1, 3, 1, 2) if form == "pairs" else SMALL, FORMS["extrapolate"].index(form)
    label = f"{op}-rule{rule}_{moves}_{form}"
    SMALL_CASES[label] = case(op, "", shape, rule=rule, form=number, frames=2, per_plane=form == "complex", **moving)
