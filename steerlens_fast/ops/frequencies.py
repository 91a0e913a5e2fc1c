"""Integer frequencies in the order of the FFT."""

from __future__ import annotations

import torch
from torch import Tensor


def signed_frequencies(n: int) -> Tensor:
    """Integer frequencies of an ``n``-point DFT in storage order; Nyquist (even n) is positive."""
    k = torch.arange(n, dtype=torch.int64, device="cpu")
    return torch.where(k <= n // 2, k, k - n)
