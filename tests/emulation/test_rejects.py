"""The emulation reports faulty kernels, and launches that a GPU would reject.

The kernels are in faulty/kernels.cu.
"""

import ctypes
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .build import build

SOURCE = Path(__file__).parent / "faulty/kernels.cu"
SEEDS = range(8)

# {case in faulty/kernels.cu: a pattern in the error}
REJECTED = {
    "misaligned_load": "thread 0: misaligned access to .*cuda_runtime.h:.*: the address must be a multiple of 16",
    "misaligned_store": "thread 0: misaligned access to .*kernels.cu:20: the address must be a multiple of 8",
    "barrier_of_some": r"block \(\d, 0, 0\) never ends: threads 0-31: __syncthreads at .*; threads 32-63: ended",
    "two_barriers": "never ends: threads 0-31: __syncthreads at .*:29; threads 32-63: __syncthreads at .*:31",
    "shuffle_of_some": "threads 1-1: __shfl_xor_sync at .*:35 with mask 0xffffffff; threads 2-2: ended",
    "shuffle_of_part_of_a_warp": "never ends: .*threads 32-59: __shfl_xor_sync",
    "shuffle_from_outside_the_mask": "__shfl_xor_sync reads from a lane that is not in the mask",
    "barrier_against_warp_barrier": "never ends: threads 0-0: __syncthreads at .*; threads 1-31: __syncwarp",
    "large_block": r"a block must have 1 to 1024 threads .*, got \(1025, 1, 1\)",
    "deep_block": r"a block must have .* at most \(1024, 1024, 64\), got \(1, 1, 65\)",
    "no_block": r"a block must have 1 to 1024 threads .*, got \(0, 1, 1\)",
    "tall_grid": r"the grid must be at most .*, got \(1, 65536, 1\)",
    "no_grid": r"the grid must be .* not empty, got \(0, 1, 1\)",
    "beyond_dynamic_shared": "writes beyond its 252 bytes of dynamic shared memory",
    "much_shared": r"shared memory must have at most 49152 bytes, .*, got 51200",
    "large_cluster": "a cluster must have 1 to 8 blocks, got 9",
    "no_cluster": "a cluster must have 1 to 8 blocks, got 0",
    "grid_of_part_of_a_cluster": r"the grid's x must be a multiple of the cluster's 2 blocks, got \(7, 1, 1\)",
    "cluster_barrier_of_some": r"never ends: threads 0-31: cluster barrier at .*; threads 32-63: ended; block \(\d",
    "cluster_barrier_without_a_block": r"never ends: threads 0-63: cluster .*; block \(1, 0, 0\) has ended; block",
    "cluster_barrier_against_barrier": r"block \(0, 0, 0\) has ended; block \(1, 0, 0\) never ends: .*: cluster",
    "two_cluster_barriers": "threads 0-31: cluster barrier at .*; block .* never ends: threads 0-31: cluster barrier",
    "ends_while_read": "ends, but other blocks of its cluster may still access|map_shared_rank of .*, which has ended",
    "reads_before_start": "map_shared_rank before a cluster barrier: block [01] of the cluster may not have started",
    "reads_beyond_cluster": "map_shared_rank must have a rank below 2, got 2",
    "maps_global_memory": "map_shared_rank must have an address in shared memory",
}


@pytest.fixture(scope="module")
def library():
    loaded = ctypes.CDLL(str(build("plain", [SOURCE])))
    loaded.run_case.restype = ctypes.c_char_p
    return loaded


def run(library, name, seed=0, floats=64) -> list[float]:
    """Run a kernel on an array of ``floats`` zeros, and return the array.

    If the kernel fails, raise its error.
    """
    memory = (ctypes.c_float * (floats + 8))()
    offset = -ctypes.addressof(memory) % 32 // 4  # data begin at a sector, as in CUDA
    data = (ctypes.c_float * floats).from_buffer(memory, 4 * offset)
    library.emulation_set_seed(ctypes.c_uint64(seed))
    error = library.run_case(name.encode(), data)
    if error:
        raise RuntimeError(error.decode())
    return list(data)


@pytest.mark.parametrize("name", REJECTED)
def test_faulty_kernels_and_launches_are_rejected(library, name):
    for seed in SEEDS:
        with pytest.raises(RuntimeError, match=f"^emulated CUDA: .*: .*({REJECTED[name]})"):
            run(library, name, seed)
    assert run(library, "sound"), "the next launch must work"


def test_errors_name_the_kernel(library):
    with pytest.raises(RuntimeError, match=r"^emulated CUDA: \(anonymous namespace\)::barrier_of_some\(float\*\): "):
        run(library, "barrier_of_some")


ORDERS = ["order_of_blocks", "order_of_threads", "reads_before_barrier", "reads_before_cluster_barrier"]


@pytest.mark.parametrize("name", ORDERS)
def test_kernels_that_depend_on_the_order_give_several_results(library, name):
    assert len({tuple(run(library, name, seed)) for seed in SEEDS}) > 1


def test_shared_memory_starts_undefined(library):
    first, second = run(library, "uninitialised_shared")[:2]
    assert first == 1 and math.isnan(second), "the second block must read NaN, not the value of the first"


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_of_a_cluster_access_the_shared_memory_of_each_other(library, seed):
    """Each of 16 blocks, in two clusters, writes the number of the next block of its cluster."""
    assert run(library, "sound_cluster", seed)[:16] == [*range(1, 8), 0, *range(9, 16), 8]


def test_launches_from_several_threads_give_the_same_result(library):
    expected = [100 * i + 63 - (i ^ 1) for i in range(64)]  # what the kernel "sound" computes
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: run(library, "sound", seed), range(64)))
    assert all(result == expected for result in results)
