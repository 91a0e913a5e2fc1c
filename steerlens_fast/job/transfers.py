"""Copies between host and GPU that overlap with computation.

They use pinned memory. Each direction has its own stream, because a copy to the host waits until its batch is computed,
and must not delay the copy of the next batch's pixels.

On the CPU, data are copied only into the output tensor, synchronously.
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
        Device of the model.

    Attributes
    ----------
    pinned : bool
        Whether host memory must be page-locked.
    max_pending : int
        Number of batches that the device may still be computing while the host continues.

    Examples
    --------
    >>> transfers, destination = Transfers(torch.device("cpu")), torch.zeros(2)
    >>> wait = transfers.to_host([(transfers.to_device(torch.ones(2)), destination)])
    >>> wait()
    >>> destination
    tensor([1., 1.])
    """

    def __init__(self, device: torch.device):
        self.device, self.pinned = device, device.type == "cuda"
        self.max_pending = int(self.pinned)
        self._upload, self._download = (torch.cuda.Stream(device) if self.pinned else None for _ in range(2))

    def to_device(self, pixels: Tensor) -> Tensor:
        """Copy pinned ``pixels`` to the device, for use on the current stream."""
        if not self.pinned:
            return pixels.to(self.device)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._upload):
            copied = pixels.to(self.device, non_blocking=True)
        current.wait_stream(self._upload)
        copied.record_stream(current)  # so that its memory is not reused by the upload stream too early
        return copied

    def to_host(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Callable[[], None]:
        """Copy the first tensor of each pair to the second (pinned); return a function that waits for the copies."""
        if not self.pinned:
            for source, destination in pairs:
                destination.copy_(source)
            return _no_wait
        # If pairs is a generator, it computes one source at a time, so a copy does not wait for the sources after it.
        for source, destination in pairs:
            self._download.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._download):
                destination.copy_(source, non_blocking=True)
            source.record_stream(self._download)
        arrived = torch.cuda.Event(blocking=True)  # the waiting thread sleeps, so that others can decode
        arrived.record(self._download)
        return arrived.synchronize

    def results_to_host(self, morphs: Morphs) -> tuple[Morphs, Callable[[], None]]:
        """Copy all tensors except the frames to the host; return the copies, and a function that waits for them."""
        # The frames are replaced by an empty clone, since an empty view would keep all frames in memory.
        results = replace(morphs, frames=morphs.frames[..., :0].clone())
        if not self.pinned:
            return results.cpu(), _no_wait
        copies = {
            n: torch.empty(t.shape, dtype=t.dtype, pin_memory=True, device="cpu") for n, t in results.tensors().items()
        }
        return replace(results, **copies), self.to_host((t, copies[n]) for n, t in results.tensors().items())


def _no_wait() -> None:
    """Do not wait, since the copies are complete."""
