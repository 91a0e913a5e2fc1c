"""The cache of filters, which all pyramids share, with a limit in bytes.

Filters are grouped by geometry: the size of images and the options of a pyramid (``filters.Geometry``).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

from ..checks import check_int
from ..torch_internals import outside_modes

DEFAULT_LIMIT = 256 << 20  # bytes; see set_filter_cache_limit for the size of a geometry's filters


class _Group:
    """The cached filters of one geometry."""

    def __init__(self):
        # Values are tensors or tuples of tensors.
        self.filters: dict[Hashable, object] = {}  # masks and filters by key
        self.float64_sources: dict[Hashable, object] = {}  # float64 tensors from which the filters are computed
        self.captured = False  # whether a captured CUDA graph reads the filters
        self.streams: set[tuple] = set()  # (key, device, CUDA stream) of all uses so far

    def bytes(self) -> int:
        values = [*self.filters.values(), *self.float64_sources.values()]
        tensors = [t for value in values for t in (value if isinstance(value, tuple) else (value,))]
        storages = {(t.device, t.untyped_storage().data_ptr()): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())


class FilterCache:
    """Filters by geometry; the least recently used geometries are evicted first."""

    def __init__(self, limit: int):
        self.limit = limit
        self._groups: OrderedDict[Hashable, _Group] = OrderedDict()  # the most recently used one is last
        self._latest: _Group | None = None
        self._new_lock()
        os.register_at_fork(after_in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()

    def get(self, geometry: Hashable, key: Hashable, make: Callable[[], object], float64_source: bool = False):
        """Return the cached value of a geometry and key, or make and cache it.

        A value is a tensor or a tuple of tensors. ``float64_source`` is True for float64 filters from which other
        filters are computed. When a value is added, the float64 sources of all other geometries are freed.
        """
        group = self._groups.get(geometry)
        if group is not None:
            value = (group.float64_sources if float64_source else group.filters).get(key)
            if value is not None:
                if group is not self._latest:
                    self._mark_as_latest(geometry, group)
                return _record_stream(group, key, value)
        value = outside_modes(make)  # ordinary tensors, even under a tracer or in inference mode
        with self._lock:
            group = self._groups.setdefault(geometry, _Group())
            value = (group.float64_sources if float64_source else group.filters).setdefault(key, value)
        self._mark_as_latest(geometry, group)
        self._shrink()
        return _record_stream(group, key, value)

    def keep_for_graph(self, geometry: Hashable) -> None:
        """Exclude a geometry from eviction, since a CUDA graph reads its filters."""
        group = self._groups.get(geometry)
        if group is not None:
            group.captured = True

    def clear(self) -> None:
        with self._lock:
            self._groups.clear()
            self._latest = None

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self._shrink()

    def bytes(self) -> int:
        with self._lock:
            return sum(group.bytes() for group in self._groups.values())

    def _mark_as_latest(self, geometry: Hashable, group: _Group) -> None:
        with self._lock:
            if self._groups.get(geometry) is group:
                self._groups.move_to_end(geometry)
                self._latest = group

    def _shrink(self) -> None:
        """Free the float64 sources of all geometries but the latest. Above the limit, free more filters.

        The least recently used geometries are freed first. The latest geometry is kept, and so is a geometry that a
        captured CUDA graph reads. If the limit is still exceeded, the latest geometry's float64 sources are freed.
        """
        with self._lock:
            for group in self._groups.values():
                if group is not self._latest:
                    group.float64_sources.clear()
            sizes = {geometry: group.bytes() for geometry, group in self._groups.items()}
            total = sum(sizes.values())
            for geometry, group in list(self._groups.items()):
                if total > self.limit and group is not self._latest and not group.captured:
                    del self._groups[geometry]
                    total -= sizes[geometry]
            if total > self.limit and self._latest is not None:
                self._latest.float64_sources.clear()


def _record_stream(group: _Group, key: Hashable, value):
    """Tell torch's CUDA allocator that the current stream reads these filters; return them.

    The allocator then reuses the filters' memory only after the stream has finished reading, so the cache may free the
    filters without waiting. While a CUDA graph is captured, the allocator does not reuse such memory at all.
    """
    filters = value if isinstance(value, tuple) else (value,)
    if not filters or not filters[0].is_cuda:
        return value
    device = filters[0].device
    stream = torch.cuda.current_stream(device)
    use = key, device, stream.cuda_stream
    if use not in group.streams:
        for t in filters:
            outside_modes(t.record_stream, stream)
        group.streams.add(use)
    return value


CACHE = FilterCache(DEFAULT_LIMIT)


def set_filter_cache_limit(limit: int) -> int:
    """Limit the memory of cached filters, on all devices together; return the previous limit.

    A geometry is an image size with the pyramid's options (height, order ...). Its filters are computed when they are
    first used, and cached for all pyramids of this geometry. If the limit is exceeded, the filters of the least
    recently used geometries are freed, except those that a captured CUDA graph reads, and those of the latest geometry.

    Parameters
    ----------
    limit : int
        Bytes, at least 0; initially 256 MiB (268435456). Depending on the operations that are used, a geometry takes 1
        to 4 MiB for 224 x 224 pixels in float32, and 25 to 80 MiB for 1024 x 1024; float64 takes twice as much. The
        latest geometry also keeps float64 sources of its filters, if there is room: about 5 and 93 MiB for these sizes.

    Returns
    -------
    int
        The previous limit, in bytes.

    Raises
    ------
    TypeError, ValueError
        If ``limit`` is not an int, or negative.

    Examples
    --------
    >>> import steerlens_fast as sf
    >>> sf.set_filter_cache_limit(1 << 30)  # 1 GiB, for data of many image sizes
    268435456
    >>> sf.set_filter_cache_limit(256 << 20)
    1073741824
    """
    before = CACHE.limit
    CACHE.set_limit(check_int("limit", limit, 0, None))
    return before


def filter_cache_bytes() -> int:
    """Return the bytes of all cached filters, on all devices together.

    Examples
    --------
    >>> import torch
    >>> import steerlens_fast as sf
    >>> sf.clear_filter_cache()
    >>> coefficients = sf.SteerablePyramid((64, 64))(torch.rand(64, 64))
    >>> 0 < sf.filter_cache_bytes() < 4 << 20
    True
    """
    return CACHE.bytes()


def clear_filter_cache() -> None:
    """Free all cached filters. Pyramids compute theirs again when needed.

    Filters to which compiled functions, exported programs or autograd graphs refer stay in memory. CUDA graphs do not
    refer to the filters that they read, so capture such graphs again after this call. On a GPU, the memory returns to
    torch's allocator; ``torch.cuda.empty_cache`` returns it to the device.

    Examples
    --------
    >>> import steerlens_fast as sf
    >>> sf.clear_filter_cache()
    >>> sf.filter_cache_bytes()
    0
    """
    CACHE.clear()
