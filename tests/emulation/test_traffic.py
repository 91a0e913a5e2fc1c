"""The emulation counts sectors and bank conflicts correctly; faulty/kernels.cu has the kernels."""

import ctypes

import pytest

from .build import CSRC, build
from .test_rejects import SOURCE, run

# {kernel: (sectors read, sectors written, wavefronts, wavefronts without bank conflicts)}
COUNTED = {
    "sound": (0, 8, 2 * 2, 2 * 2),  # 64 threads write 4 bytes each; each of 2 warps stores and loads shared words
    "bank_conflicts": (0, 8, 2 * 2 * 32, 2 * 2),  # the same, but the 32 words of a warp are in one bank
    "skipped_accesses": (0, 8 + 8, 0, 0),  # two iterations of a loop
    # 16 blocks of 2 warps: thread 0 writes a shared value, each warp reads the value of another block, and thread 0
    # writes it to the result.
    "sound_cluster": (0, 16, 16 + 16 * 2, 16 + 16 * 2),
    "wide_pieces": (64, 32, 0, 0),  # 256 complex numbers and their real parts: each sector counts once
    "planes_share_a_sector": (2 * 35, 2 * 18, 0, 0),  # reads planes of 34.5 sectors, writes planes of 17.25
}


@pytest.fixture(scope="module")
def library():
    loaded = ctypes.CDLL(str(build("counting", [SOURCE])))
    loaded.run_case.restype = loaded.emulation_stop_counting.restype = ctypes.c_char_p
    return loaded


@pytest.mark.parametrize("name", COUNTED)
def test_sectors_and_bank_conflicts_are_counted(library, name):
    library.emulation_start_counting()
    run(library, name, floats=1024)
    (line,) = library.emulation_stop_counting().decode().splitlines()
    launches, _, read, _, _, written, _, wavefronts, without_conflicts = map(int, line.split("\t")[1:])
    assert (launches, read, written, wavefronts, without_conflicts) == (1, *COUNTED[name])


def test_ops_link_in_the_build_that_counts():
    build("counting", [CSRC / "cuda/pair.cu"])
