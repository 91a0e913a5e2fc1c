"""Integer frequencies in FFT order."""

from __future__ import annotations

import torch
from torch import Tensor


def signed_frequencies(n: int) -> Tensor:
    """Return the integer frequencies of an ``n``-point DFT in FFT order. The Nyquist frequency is positive."""
    k = torch.arange(n, dtype=torch.int64, device="cpu")
    return torch.where(k <= n // 2, k, k - n)
