"""The emulation counts sectors and bank conflicts correctly; faulty/kernels.cu has the kernels."""

import ctypes

import pytest

from .build import CSRC, build
from .test_rejects import SOURCE, run

# {kernel: (sectors read, sectors written, wavefronts, wavefronts without bank conflicts)}
COUNTED = {
    "sound": (0, 8, 4, 4),  # 64 threads, 4 bytes each
    "bank_conflicts": (0, 8, 2 * 2 * 32, 4),  # each of 2 warps stores and loads 32 words of one bank
    "skipped_accesses": (0, 8 + 8, 0, 0),
    # 16 blocks of 2 warps: thread 0 writes a shared value, and each warp reads that of another block. A block writes 4
    # bytes of the result.
    "sound_cluster": (0, 16, 16 + 16 * 2, 16 + 16 * 2),
    "wide_pieces": (64, 32, 0, 0),  # 256 complex numbers: each sector counts once
    "planes_share_a_sector": (2 * 35, 2 * 18, 0, 0),  # two planes of 138 complex numbers: the sector counts twice
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
    launches, _, loads, _, _, stores, _, wavefronts, fewest = map(int, line.split("\t")[1:])
    assert (launches, loads, stores, wavefronts, fewest) == (1, *COUNTED[name])


def test_ops_link_in_the_build_that_counts():
    build("counting", [CSRC / "cuda/pair.cu"])
