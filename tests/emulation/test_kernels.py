"""Emulated kernels give the same results in any order of threads, in chunks, and if planes exceed the grid."""

import pytest
import torch
from inputs import in_double
from op_cases import OP_CASES, OPS, PLANE_OPS, RAW, BankShape, OpCase, as_list, case, full, half, without_jumps
from tolerances import all_equal, assert_close
from torch.profiler import ProfilerActivity, profile

from steerlens_fast.ops import reference

from . import set_clusters, set_max_grid_rows, set_multiprocessors, set_seed

SEEDS = range(1, 5)
ROWS = 2  # rows of blocks in a grid
MAX_WORKSPACE_BYTES = (256 << 20) + 1024  # kWorkspaceSize complex numbers (csrc/cuda/planes/spectra.h); rounded up
# Shapes that need more than ROWS rows of blocks. A block of split_bands and merge_bands has up to 16 planes
# (kMaxBlockPlanes in csrc/cuda/bands.cu). In the other ops, a band has 125 coefficients, so most bands do not begin
# at the start of a sector (32 bytes).
MANY = {
    **dict.fromkeys(OPS, (5, 2, 5, 25)),
    **dict.fromkeys(["pair", "unpair"], ((10, 5, 25), 2)),
    **dict.fromkeys(["split_bands", "merge_bands"], BankShape(33, 6, 4, [full(2, 6, 4, 33), half(1, 3, 2, 33)])),
}
# Shapes of split_bands and merge_bands. The last three have many or large masks: a block reads some or all of them from
# global memory, or uses no shared memory.
BANDS = {
    "rows_and_planes": BankShape(19, 21, 14, [full(4, 21, 14), full(3, 11, 7), full(1, 3, 2)]),
    "narrow": BankShape(3, 150, 2, [full(2, 150, 2), full(1, 75, 1)]),
    "parts_of_rows": BankShape(2, 5, 1101, [full(4, 5, 1101), full(4, 3, 551), full(1, 5, 20)]),
    "some_masks_in_shared_memory": BankShape(2, 6, 70, [full(24, 6, 70), full(24, 5, 35), full(1, 2, 70)]),
    "no_masks_in_shared_memory": BankShape(2, 4, 32, [full(70, 4, 32), full(70, 4, 32)]),
    "no_shared_memory": BankShape(2, 4, 44, [full(170, 4, 44), full(3, 3, 22)]),
}


@pytest.fixture
def few_rows():
    set_max_grid_rows(ROWS)
    yield
    set_max_grid_rows(None)


@pytest.fixture(autouse=True)
def default_seed():
    yield
    set_seed(0)


@pytest.mark.parametrize("case_", [c for c in OP_CASES if c.label.endswith(("odd", "threads"))], ids=str)
def test_ops_do_not_depend_on_the_order_of_threads(case_: OpCase):
    args = case_.build(torch.float32)

    def results(seed):
        set_seed(seed)
        return as_list(getattr(RAW, case_.op)(*args))

    expected = results(0)
    assert all(all_equal(expected, results(seed)) for seed in SEEDS)


def plane_args(planes: int, frames: int, H: int = 33, W: int = 22, K: int = 3) -> dict[str, list]:
    """Return arguments of the ops on whole planes.

    There are K bands of the image's size, and a smaller one.
    """
    x, g = (torch.rand(planes, H, W) for _ in range(2))
    filters = [torch.rand(K, H, W) / (H * W), torch.rand(1, H // 2, W // 2) / (H * W)]
    factors, residual = torch.rand(frames, 1), torch.rand(1, H, W) / (H * W)
    split = [x, filters, [1, 3], [0, 1]]
    options = [3, 2, 0, False, 1.0, 1e-6, -1.0, 2.0]  # i_power, edit, rule, complex_bands, eps, floor, low, high
    return {
        "split_planes": split,
        "merge_planes": [RAW.split_planes(*split), filters, [3, 1], [0, 1], x, H, W],
        "morph_planes": [x, g, factors, factors, [*filters, residual], filters, *options],
    }


@pytest.mark.parametrize("op", PLANE_OPS)
def test_plane_ops_do_not_depend_on_the_order_of_threads(op):
    args = plane_args(9, 3)[op]

    def results(seed):
        set_seed(seed)
        return as_list(getattr(RAW, op)(*args))

    expected = results(0)
    assert all(all_equal(expected, results(seed)) for seed in SEEDS)


@pytest.fixture
def small_device():
    """A function that replaces the device by one with a single multiprocessor."""
    yield lambda: set_multiprocessors(1)
    set_multiprocessors(None)


@pytest.mark.parametrize("W, K", [(22, 3), (22, 140), (110, 40)])
@pytest.mark.parametrize("op", PLANE_OPS)
def test_plane_ops_do_not_depend_on_the_work_of_a_block(op, W, K, small_device):
    """On a small device, a block takes several groups of planes, and reads the filters once for all of them.

    140 bands have more filters than a block keeps (kMaxKept in csrc/cuda/planes/filter.h), and the filters of 40 wide
    bands exceed its shared memory. Some rows of some filters are 0.
    """
    args = plane_args(33, 2, W=W, K=K)[op]
    filters = args[1] if op != "morph_planes" else args[4]
    filters[0][0, 5:20] = filters[0][1:, :12] = 0
    expected = as_list(getattr(RAW, op)(*args))
    small_device()
    assert all_equal(as_list(getattr(RAW, op)(*args)), expected)


@pytest.mark.parametrize("planes", [7, 16, 33])
@pytest.mark.parametrize("op", ["split_bands", "merge_bands"])
def test_bands_do_not_depend_on_the_planes_of_a_block(op, planes, small_device):
    """On a small device, a block has up to 16 planes. Otherwise it has fewer, so that no multiprocessor is idle."""
    args = case(op, f"{planes}_planes", BANDS["rows_and_planes"]._replace(N=planes)).build(torch.float32)
    expected = as_list(getattr(RAW, op)(*args))
    small_device()
    assert all_equal(as_list(getattr(RAW, op)(*args)), expected)


@pytest.fixture
def device_with_clusters():
    """A function that replaces the device by one with 8 multiprocessors, with or without clusters.

    It returns the number of earlier launches with clusters.
    """

    def replace(clusters: bool) -> int:
        set_multiprocessors(8)
        return set_clusters(clusters)

    yield replace
    set_multiprocessors(None)
    set_clusters(True)


@pytest.mark.parametrize("W", [22, 100, 250])
@pytest.mark.parametrize(
    "edit, rule, complex_bands",
    [(0, 0, False), (0, 0, True), (1, 0, True), (1, 1, False), (2, 0, False), (2, 0, True), (2, 1, True)],
)
def test_clusters_do_not_change_the_frames(W, edit, rule, complex_bands, device_with_clusters):
    """The blocks of a cluster process all columns of a band at once, or those of a wide band in several passes."""
    x, g, phases, amplitudes, *filters, i_power, _, _, _, eps, _, low, high = plane_args(17, 2, 6, W)["morph_planes"]
    floor = 0.5  # half of the largest amplitude is the threshold
    options = [i_power, edit, rule, complex_bands, eps, floor, low, high]
    frames = lambda: RAW.morph_planes(x, g, phases, amplitudes, *filters, *options)
    before = device_with_clusters(False)
    expected = frames()
    assert device_with_clusters(True) == before
    for seed in (0, 1):
        set_seed(seed)
        assert torch.equal(frames(), expected)
    assert device_with_clusters(True) >= before + 2


def test_small_batches_do_not_leave_multiprocessors_idle(device_with_clusters):
    """For wide bands, clusters are used only if there are many planes."""
    before = device_with_clusters(True)
    # The shared memory of each of the 8 multiprocessors suffices for 29 blocks, so 29 clusters of 8 blocks run at once.
    # The three wide bands of a plane are a pair and a single band, each for one cluster. So 17 planes need 34 clusters,
    # and 9 planes need 18.
    for planes, launches in ((17, 1), (9, 0)):
        x, g, *options = plane_args(planes, 2, 6, 250)["morph_planes"]
        RAW.morph_planes(x, g, *options)
        assert device_with_clusters(True) == before + launches
        before += launches


def test_morphs_do_not_depend_on_chunks():
    """There are so many frames that the memory for all planes exceeds the limit for one chunk."""
    x, g, *options = plane_args(9, 4096, 16, 16)["morph_planes"]
    frames = RAW.morph_planes(x, g, *options)
    for n in (0, 8):
        assert torch.equal(RAW.morph_planes(x[n : n + 1], g[n : n + 1], *options)[:, 0], frames[:, n])


def test_chunks_of_frames_do_not_change_the_frames():
    """All frames of one plane need more memory than the kernels may use."""
    frames = 48 * 1024
    x, g, factors, _, *options = plane_args(1, frames, 16, 16)["morph_planes"]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        result = RAW.morph_planes(x, g, factors, factors, *options)
    allocated = [event.self_cpu_memory_usage for event in measured.events()]
    # The largest allocation is the memory between kernels
    assert result.nbytes < max(allocated) <= MAX_WORKSPACE_BYTES
    for part in torch.arange(frames).split(frames // 2):
        few = torch.cat([part[:3], part[-3:]])
        assert torch.equal(RAW.morph_planes(x, g, factors[few], factors[few], *options), result[few])


@pytest.mark.parametrize("op", ["split_planes", "merge_planes"])
def test_ops_agree_with_the_reference_if_filters_remove_rows(op):
    """Rows in which a filter is 0 are neither stored nor read between the FFTs of rows and of columns.

    These rows differ between bands.
    """
    data, filters, *options = plane_args(9, 1)[op]
    filters[0][0, 5:20] = filters[0][1:, :12] = 0
    filters[1][:, 3:9] = 0
    args = [data, filters, *options]
    actual, expected = getattr(RAW, op)(*args), getattr(reference, op)(*(in_double(a) for a in args))
    for a, e in zip(as_list(actual), as_list(expected), strict=True):
        assert_close(a, e, "pyramid")


@pytest.mark.parametrize("op", OPS)
def test_kernels_loop_over_planes_that_exceed_the_grid(op, few_rows):
    args = case(op, "many", MANY[op]).build(torch.float32)
    double_args = [in_double(a) for a in args]
    actual, expected = getattr(RAW, op)(*args), getattr(reference, op)(*double_args)
    for a, e in zip(without_jumps(op, double_args, actual), without_jumps(op, double_args, expected), strict=True):
        assert_close(a, e, "op_sums", like=1.0 if op.startswith("step") else None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"whole": True}, {"whole": True, "paired": True}], ids=["half", "whole", "pairs"]
)
@pytest.mark.parametrize("label", BANDS)
@pytest.mark.parametrize("op", ["split_bands", "merge_bands"])
def test_bands_are_right_however_blocks_divide_the_work(op, label, options, dtype):
    args = case(op, label, BANDS[label], **options).build(dtype)
    actual, expected = getattr(RAW, op)(*args), getattr(reference, op)(*(in_double(a) for a in args))
    for a, e in zip(as_list(actual), as_list(expected), strict=True):
        assert_close(a, e, "op")


def test_planes_of_one_block_do_not_mix(few_rows):
    """A block finds the largest amplitudes of several planes; each plane must use its own for the threshold."""
    args = case("step", "many", (4, 1, 9, 99), floor=0.4).build(torch.float32)
    args[0][ROWS:] *= 100  # with the threshold of these planes, nothing in the first planes would move
    for seed in SEEDS:
        set_seed(seed)
        phase, _ = RAW.step(*args)
        assert (phase != 0).flatten(1).any(1).all()


def test_largest_amplitude_is_found_at_any_position():
    """In each plane, only one coefficient is above the threshold, at a position that differs between planes."""
    args = case("step", "many", (32, 1, 7, 143), floor=0.4).build(torch.float32)
    at = torch.arange(32) * 32 + 3
    args[0].flatten(1)[torch.arange(32), at] *= 100
    for seed in SEEDS:
        set_seed(seed)
        phase, _ = RAW.step(*args)
        assert (phase.flatten(1).nonzero()[:, 1]).tolist() == at.tolist()
