"""The filter cache: limited in bytes, freed on eviction, shared by threads."""

import ctypes
import gc
import os
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from inputs import image, normal
from tolerances import all_equal

from steerlens_fast import (
    CSPFamily,
    FourierFamily,
    SteerablePyramid,
    clear_filter_cache,
    filter_cache_bytes,
    native,
    set_filter_cache_limit,
)
from steerlens_fast.pyramid.filter_cache import CACHE, DEFAULT_LIMIT, FilterCache

MIB = 1 << 20


@pytest.fixture(autouse=True)
def empty_cache():
    clear_filter_cache()
    before = set_filter_cache_limit(DEFAULT_LIMIT)
    yield
    set_filter_cache_limit(before)
    clear_filter_cache()


def resident() -> int:
    """Return the resident bytes of the process.

    Idle blocks and glibc's freed memory are released first.
    """
    gc.collect()
    native.free_idle_blocks()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def use(H, W, device="cpu", dtype=torch.float32):
    pyramid, x = SteerablePyramid((H, W)), torch.zeros(1, H, W, device=device, dtype=dtype)
    CSPFamily(pyramid).prepare(x, x).render([0.5])
    return pyramid.synthesize(pyramid(x))


def held_filters():
    return [
        t
        for group in CACHE._groups.values()
        for value in (*group.filters.values(), *group.float64_sources.values())
        for t in (value if isinstance(value, tuple) else (value,))
    ]


def test_many_sizes_stay_within_the_limit(device):
    set_filter_cache_limit(48 * MIB)
    use(384, 384, device)
    before = resident()
    for i in range(24):
        use(384 + 2 * i, 384, device)
        assert filter_cache_bytes() <= 48 * MIB
    assert resident() - before < 96 * MIB  # 24 MiB were measured, and 192 without a limit
    assert len(CACHE._groups) > 1


def test_evicted_filters_are_freed(device):
    use(64, 64, device)
    masks = [weakref.ref(t) for t in held_filters()]
    assert len(masks) > 4
    set_filter_cache_limit(0)
    use(48, 48, device)
    gc.collect()
    assert [ref() for ref in masks] == [None] * len(masks)


def test_latest_geometry_is_never_evicted():
    set_filter_cache_limit(0)
    use(64, 64)
    held = filter_cache_bytes()
    assert held > 0
    use(64, 64)
    assert filter_cache_bytes() == held


def test_least_recently_used_geometry_is_evicted_first():
    for n in (32, 40, 48):
        use(n, n)
    use(32, 32)
    set_filter_cache_limit(filter_cache_bytes())  # frees float64 sources, except those of the latest geometry
    set_filter_cache_limit(filter_cache_bytes() - 1)
    assert [geometry.shape for geometry in CACHE._groups] == [(48, 48), (32, 32)]


def test_float64_sources_are_cached_for_the_latest_geometry_only():
    use(32, 32)
    use(40, 40)
    first, second = CACHE._groups.values()
    assert not first.float64_sources and second.float64_sources


def test_bytes_count_each_storage_once():
    use(32, 32)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held_filters()}
    assert filter_cache_bytes() == sum(storages.values())


def test_second_use_builds_nothing(device):
    use(32, 32, device)
    before = [id(t) for t in held_filters()]
    use(32, 32, device)
    assert [id(t) for t in held_filters()] == before


def test_clearing_does_not_change_results(device):
    pyramid, x, g = SteerablePyramid((24, 20)), image(2, 24, 20, device=device), normal(2, 24, 20, device=device)
    families = CSPFamily(pyramid, "joint"), FourierFamily(pyramid=pyramid, scales=[0])
    results = lambda: [*pyramid(x).tensors(), *(f.prepare(x, g).render([0.5]) for f in families)]
    before = results()
    clear_filter_cache()
    assert filter_cache_bytes() == 0
    assert all_equal(results(), before)


def test_backward_works_after_clearing():
    pyramid, x = SteerablePyramid((24, 20)), image(2, 24, 20).requires_grad_()
    loss = pyramid.synthesize(pyramid(x)).square().sum()
    clear_filter_cache()
    (grad,) = torch.autograd.grad(loss, x)
    assert (grad - 2 * x).abs().max() < 1e-12


def test_threads_share_the_cache():
    set_filter_cache_limit(0)  # a new filter evicts those of other sizes
    errors = []

    def work(n):
        try:
            for _ in range(5):
                x = image(1, n, n)
                assert (SteerablePyramid((n, n)).synthesize(SteerablePyramid((n, n))(x)) - x).abs().max() < 1e-12
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(16 + 2 * i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


@pytest.mark.parametrize("bad, error", [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_bad_limits_raise(bad, error):
    with pytest.raises(error, match="limit must be"):
        set_filter_cache_limit(bad)


class FakeGpuFilter:
    """A fake filter on a GPU. ``streams`` has the streams that were passed to ``record_stream``."""

    is_cuda, device = True, torch.device("cuda", 0)

    def __init__(self):
        self.storage, self.streams = torch.zeros(4), []
        self.untyped_storage = self.storage.untyped_storage

    def record_stream(self, stream):
        self.streams.append(stream.cuda_stream)


@pytest.mark.parametrize("several", [False, True])
def test_filters_are_recorded_on_every_stream_that_uses_them(several, monkeypatch):
    current = SimpleNamespace(cuda_stream=1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("the host waits"))
    cache, tensors = FilterCache(limit=0), [FakeGpuFilter(), FakeGpuFilter()]
    filters = tuple(tensors) if several else tensors[0]
    for stream in (1, 1, 2, 1, 3):
        current.cuda_stream = stream
        assert cache.get("a", "key", lambda: filters) is filters
    assert [t.streams for t in tensors] == [[1, 2, 3], [1, 2, 3] if several else []]
    cache.get("b", "key", FakeGpuFilter)
    assert list(cache._groups) == ["b"]
    cache.clear()
    assert cache.bytes() == 0


def test_filters_of_a_captured_graph_are_not_freed(device):
    if device.type != "cuda":
        pytest.skip("cuda: needs CUDA graphs")
    pyramid, x = SteerablePyramid((32, 32)), torch.rand(1, 32, 32, device=device)
    pyramid(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = pyramid(x).lowpass
    set_filter_cache_limit(0)
    use(64, 64, device)
    graph.replay()
    assert (out - pyramid(x).lowpass).abs().max() < 1e-6
