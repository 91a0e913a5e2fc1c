"""Copies between the host and a GPU beside what the GPU computes: pinned memory, and a stream for each direction.

Two streams, since a copy to the host waits until its batch is computed, and must not hold up the next batch's pixels.
On the CPU nothing is copied that need not be, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ..morphs import Morphs


class Transfers:
    """The copies of one worker.

    Parameters
    ----------
    device : torch.device
        Where the model is.

    Attributes
    ----------
    pinned : bool
        Whether memory that takes part should be page-locked.
    ahead : int
        How many batches the device may still be at work on while the host goes on.

    Examples
    --------
    >>> transfers, place = Transfers(torch.device("cpu")), torch.zeros(2)
    >>> arrived = transfers.to_host([(transfers.to_device(torch.ones(2)), place)])
    >>> arrived()  # now they are there
    >>> place
    tensor([1., 1.])
    """

    def __init__(self, device: torch.device):
        self.device, self.pinned = device, device.type == "cuda"
        self.ahead = int(self.pinned)
        self._up, self._down = (torch.cuda.Stream(device) if self.pinned else None for _ in range(2))

    def to_device(self, pixels: Tensor) -> Tensor:
        """Pinned ``pixels``, to be used on the current stream."""
        if not self.pinned:
            return pixels.to(self.device)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._up):
            there = pixels.to(self.device, non_blocking=True)
        current.wait_stream(self._up)
        there.record_stream(current)  # its memory is the other stream's, which must not give it to another yet
        return there

    def to_host(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Callable[[], None]:
        """Copy the first of each pair into the second, which is pinned; what is returned waits until all are there."""
        if not self.pinned:
            for source, place in pairs:
                place.copy_(source)
            return _nothing
        for source, place in pairs:  # computed, one after the other, on the current stream
            self._down.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._down):
                place.copy_(source, non_blocking=True)
            source.record_stream(self._down)
        arrived = torch.cuda.Event(blocking=True)  # the thread sleeps: others decode
        arrived.record(self._down)
        return arrived.synchronize

    def numbers_to_host(self, morphs: Morphs) -> tuple[Morphs, Callable[[], None]]:
        """All but the frames, on the host; to be read after the wait that is returned with them."""
        numbers = replace(morphs, frames=morphs.frames[..., :0])
        if not self.pinned:
            return numbers.cpu(), _nothing
        here = {
            n: torch.empty(t.shape, dtype=t.dtype, pin_memory=True, device="cpu") for n, t in numbers.tensors().items()
        }
        return replace(numbers, **here), self.to_host((t, here[n]) for n, t in numbers.tensors().items())


def _nothing() -> None:
    """It is there already."""
