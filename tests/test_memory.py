"""Chunks, copies with non-temporal stores, and recycled memory."""

import os
import subprocess
import sys

import pytest
import torch

from steerlens_fast import memory, native, ops

CPU = torch.device("cpu")


@pytest.mark.parametrize("item_bytes", [1, 1 << 20, 3 << 20, 1 << 30])
def test_chunks_have_nearly_equal_lengths_and_contain_each_item_once(item_bytes):
    for count in (0, 1, 2, 7, 24, 25):
        slices = memory.chunks(count, item_bytes, CPU)
        assert [i for at in slices for i in range(count)[at]] == list(range(count))
        sizes = [at.stop - at.start for at in slices]
        assert not sizes or (max(sizes) - min(sizes) <= 1 and min(sizes) >= 1)
        assert all(size == 1 or size * item_bytes <= memory.CHUNK_BYTES["cpu"] for size in sizes)


@pytest.mark.parametrize("size", [0, 1, 15, 63, 64, 65, 127, 128, 1000, 65_535, 65_536, 65_537, 300_001])
def test_stream_copy_writes_only_its_target(size):
    for offset in (0, 1, 13, 32):
        source = torch.randint(1, 255, (size + 64,), dtype=torch.uint8)
        target = torch.zeros(size + 200, dtype=torch.uint8)
        native.stream_copy(target.data_ptr() + offset, source.data_ptr() + 7, size)
        assert torch.equal(target[offset : offset + size], source[7 : 7 + size])
        assert not target[:offset].any() and not target[offset + size :].any()


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t,
        lambda t: t.mT,
        lambda t: t[:, ::2],
        torch.conj,
        lambda t: t.conj().imag,
        lambda t: t.to(torch.complex128),
    ],
    ids=["plain", "transposed", "strided", "conj", "neg", "complex128"],
)
def test_store_copies_views(view):
    piece = view(torch.randn(3, 40, 40, dtype=torch.complex64))
    whole = torch.empty(piece.shape, dtype=piece.dtype)
    memory.store(whole, piece)
    assert torch.equal(whole, piece)
    narrow = torch.empty(5, *piece.shape, dtype=whole.dtype)[:, ..., :20][2]
    memory.store(narrow, piece[..., :20])
    assert torch.equal(narrow, piece[..., :20])


def test_new_output_is_an_ordinary_tensor():
    t = memory.new_output((3, 1 << 20), torch.float64, CPU)
    assert t.is_contiguous() and t.shape == (3, 1 << 20) and t.dtype == torch.float64
    t.zero_()
    assert not t.any()
    assert memory.new_output((2, 0), torch.float32, torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_store_clips_and_writes_only_the_piece(dtype):
    whole, piece = torch.full((3, 2000), 7.0, dtype=dtype), torch.linspace(-1, 2, 2000).to(dtype)
    memory.store(whole[1], piece, (0.0, 1.0))
    assert torch.equal(whole[1], piece.clamp(0, 1)) and whole[0].eq(7).all() and whole[2].eq(7).all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("bounds", [None, (-0.5, 0.5)])
def test_store_copies_the_real_parts_of_a_complex_piece(dtype, bounds):
    piece = torch.randn(5, 777, dtype=dtype)
    piece[2, 3] = float("nan")
    whole = torch.zeros(5, 777, dtype=piece.real.dtype)
    memory.store(whole, piece, bounds)
    expected = piece.real.clamp(*bounds) if bounds else piece.real
    torch.testing.assert_close(whole, expected, rtol=0, atol=0, equal_nan=True)


def test_freed_results_are_recycled():
    if not _recycles():
        pytest.skip("torch 2.10 cannot make tensors in recycled memory")
    native.free_idle_blocks()
    c = torch.randn(1, 1, 1, 1 << 20, dtype=torch.complex64)
    size = c.numel() * 4
    amplitude, phase = ops.polar_split(c)
    view = amplitude[0, 0, 0, 5:]
    address = phase.data_ptr()
    assert native.idle_bytes() == 0
    del amplitude, phase
    assert native.idle_bytes() == size  # the other block is still used by the view
    first, second = ops.polar_split(2 * c)
    assert native.idle_bytes() == 0 and address in (first.data_ptr(), second.data_ptr())
    assert torch.equal(2 * view, first[0, 0, 0, 5:])
    del view, first, second
    assert native.idle_bytes() == 3 * size  # amplitude, first, second (of which one has reused phase's block)
    native.free_idle_blocks()
    assert native.idle_bytes() == 0


SHORT_OF_MEMORY = """
import resource, torch
from steerlens_fast import native, ops
small, large = (torch.zeros(1, 1, 1, n << 20, dtype=torch.complex64) for n in (8, 10))
results = ops.polar_split(small)
del results
if native.idle_bytes() == 64 << 20:  # amplitudes and phases
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    # Two results of 40 MiB need more than 30 MiB, and less than the idle 64 MiB and these 30 MiB together.
    resource.setrlimit(resource.RLIMIT_AS, (used + (30 << 20), -1))
    ops.polar_split(large)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_idle_blocks_are_freed_when_memory_is_short():
    assert printed_by(SHORT_OF_MEMORY) == "done\n"


OUT_OF_MEMORY = """
import resource, torch
from steerlens_fast import native, ops
from steerlens_fast.models.errors import is_out_of_memory
one = torch.ones(1, 1, 1, 1)
c, factors, mask = torch.ones(1, 1, 256, 256, dtype=torch.complex64), torch.ones(8000, 1), torch.ones(1, 4, 4)
calls = [
    lambda: ops.extrapolate(c, None, None, factors, factors),
    lambda: ops.polar_join(one.expand(8000, 1, 256, 256), one.expand(8000, 1, 256, 256)),
    lambda: ops.merge_bands([c[..., :4, :4]], [mask], [0], [4], 2**40, 2**40, whole=True),
]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), -1))
for call in calls:
    try:
        call()
    except RuntimeError as error:
        print(is_out_of_memory(error), str(error).partition(")")[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_allocation_errors_name_the_shape():
    size = 8000 * 256 * 256 * 4
    assert printed_by(OUT_OF_MEMORY).splitlines() == [
        f"True out of memory: {size} bytes on cpu (shape [8000, 1, 1, 256, 256]",
        f"True out of memory: {size} bytes on cpu (shape [8000, 1, 256, 256]",
        "False a tensor of shape [1, 1099511627776, 1099511627776] would have more than 2^63 - 1 bytes",
    ]


RESIZED = """
import torch
from steerlens_fast import ops
ops.polar_split(torch.zeros(1, 1, 1, 1 << 20, dtype=torch.complex64))[0].resize_(2 << 20)
print("done")
"""


def test_results_can_be_resized_if_memory_is_not_recycled():
    assert printed_by(RESIZED, STEERLENS_KEEP_FREED_MEMORY="0") == "done\n"


def printed_by(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return done.stdout or done.stderr


def _recycles() -> bool:
    ops.polar_split(torch.zeros(1, 1, 1, 1 << 20, dtype=torch.complex64))
    return native.idle_bytes() > 0
