"""Random images and numbers, and tensors with unusual memory layouts."""

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64)

IMAGE_SHAPES = [
    (8, 8),
    (8, 13),
    (9, 8),
    (16, 16),
    (17, 31),
    (32, 48),
    (37, 53),
    (64, 64),
    (97, 101),
    (224, 224),
]
SMALL_IMAGES = [(8, 8), (9, 11), (16, 24), (23, 29)]


def image(*shape: int, dtype=torch.float64, device="cpu", seed: int = 0) -> Tensor:
    """A random image in [0, 1]; the same numbers on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def normal(*shape: int, dtype=torch.float64, device="cpu", seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=double_of(dtype)).to(device, dtype)


def coefficients(*shape: int, dtype=torch.float64, device="cpu", seed: int = 2) -> Tensor:
    """Complex numbers with amplitudes from 0.5 to 2, where every op is smooth."""
    amplitude, turn = image(*shape, seed=seed) * 1.5 + 0.5, image(*shape, seed=seed + 100)
    return torch.polar(amplitude, 2 * torch.pi * turn).to(device, dtype.to_complex())


def double_of(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in double precision."""
    return torch.complex128 if dtype.is_complex else torch.float64


def in_double(value):
    """Return arguments for the reference: contiguous, in double precision, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().clone().resolve_conj().resolve_neg().contiguous().cpu().to(double_of(value.dtype))
    if isinstance(value, (list, tuple)):
        return [in_double(v) for v in value]
    return value


# --- Unusual memory layouts


def strided(t: Tensor) -> Tensor:
    return torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0]


def transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT if t.dim() > 1 else t


def misaligned(t: Tensor) -> Tensor:
    """Return a contiguous copy that begins one element after an aligned address."""
    return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)


def expanded(t: Tensor) -> Tensor:
    """Return a tensor with stride 0 in the first and the last dimension."""
    return t[:1, ..., :1].expand(t.shape) if t.dim() > 1 and t.numel() else t


def lazy(t: Tensor) -> Tensor:
    """Return a view with torch's conjugate bit set, or with the negative bit if it is real."""
    return t.conj() if t.is_complex() else torch.complex(t.new_zeros(t.shape), -t).conj().imag


ODD_LAYOUTS = {f.__name__: f for f in (strided, transposed, misaligned, expanded, lazy)}


def on_tensors(function, args: list) -> list:
    """Return the arguments with ``function`` applied to every tensor, also in lists."""
    if isinstance(args, Tensor):
        return function(args)
    return [on_tensors(function, a) if isinstance(a, (Tensor, list)) else a for a in args]
