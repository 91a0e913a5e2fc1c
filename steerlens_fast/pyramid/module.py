"""``SteerablePyramid``: the complex steerable pyramid as a differentiable module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .. import checks
from ..ops import real_dtype
from . import filters
from .bank import HIGHPASS, LOWPASS, Bank, Part
from .coefficients import Coefficients
from .filters import Geometry

SYNTHESES = ("real", "adjoint")


class SteerablePyramid(nn.Module):
    """Complex steerable pyramid of images of one size.

    It represents an image by complex coefficients at several scales and orientations. Their amplitude is the local
    contrast, and their phase the local position of edges and texture. The image can be rebuilt exactly, at every size.

    Parameters
    ----------
    image_shape : (int, int)
        (H, W) in pixels, each at least 8.
    height : int or "auto"
        Number of scales J, of one octave each; not the image's height (the name is plenoptic's). "auto" is the maximum,
        ``floor(log2(min(H, W))) - 2``.
    order : int
        Order n of the angular filter cos^n, 0 to 15. Higher orders are more selective for orientation.
    orientations : int, optional
        Number of orientations K, at least ``order + 1`` (the default). Orientation k has the direction ``pi k / K``
        (radians) in the frequency plane. Direction 0 is along +x, so orientation 0 responds to vertical edges.
        Direction ``pi / 2`` is along +y, which points down.
    width : float
        Width of the radial filters' transition in octaves, above 0; not the image's width. (plenoptic calls
        it ``twidth``, and truncates it to an int.)
    tight_frame : bool
        Whether coefficients are scaled so that their energy equals that of the image. plenoptic has the same option. If
        False, waves of equal contrast have amplitudes that grow fourfold from each scale to the next, as in
        matlabPyrTools.
    synthesis : {"real", "adjoint"}
        How :meth:`synthesize` inverts the analysis. "real" uses only Re(c), like plenoptic and matlabPyrTools.
        "adjoint" uses Re(c) and Im(c), with the analytic filters. Both inverses are exact. For edited coefficients,
        their results differ.
    downsample : bool
        If False, every band has H x W samples. Amplitudes then only double from each scale to the next, as in
        plenoptic, and are equal at all scales with ``tight_frame``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the message names it and what was expected.

    Notes
    -----
    Filters are those of Simoncelli & Freeman (1995) and Portilla & Simoncelli (2000), sampled at the true DFT
    frequencies. Filters wrap around at the image's border. All pyramids share a cache of filters, so the module has no
    parameters and an empty ``state_dict``. It computes on the device and in the dtype of its input.

    Examples
    --------
    >>> import torch
    >>> pyramid = SteerablePyramid((64, 48), height=3)
    >>> image = torch.rand(2, 3, 64, 48)
    >>> coefficients = pyramid(image)
    >>> bool((pyramid.synthesize(coefficients) - image).abs().max() < 3e-6)
    True
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        height: int | str = "auto",
        order: int = 3,
        orientations: int | None = None,
        width: float = 1.0,
        tight_frame: bool = False,
        synthesis: str = "real",
        *,
        downsample: bool = True,
    ):
        super().__init__()
        shape = checks.check_image_shape(image_shape)
        order = checks.check_int("order", order, 0, filters.MAX_ORDER)
        max_scales = filters.max_scales(shape)
        if isinstance(height, str) and height != "auto":
            raise TypeError(f'height must be "auto" or an int, got {checks.shown(height)}')
        if height == "auto":
            height = max_scales
        height = checks.check_int("height", height, 1, max_scales, f"for image_shape {shape}")
        orientations = (
            order + 1 if orientations is None else checks.check_int("orientations", orientations, order + 1, None)
        )
        width = checks.check_number("width", width, above=0.0, note=" (octaves)")
        tight_frame = checks.check_bool("tight_frame", tight_frame)
        downsample = checks.check_bool("downsample", downsample)
        self.synthesis = checks.check_choice("synthesis", synthesis, SYNTHESES)
        self.geometry = Geometry(shape, height, order, orientations, width, tight_frame, downsample)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.geometry.shape

    @property
    def height(self) -> int:
        """Number of scales J."""
        return self.geometry.num_scales

    @property
    def order(self) -> int:
        """Order n of the angular filter."""
        return self.geometry.order

    @property
    def orientations(self) -> int:
        """Number of orientations K."""
        return self.geometry.orientations

    def extra_repr(self) -> str:
        g = self.geometry
        options = f"width={g.transition_width}, tight_frame={g.tight_frame}, downsample={g.downsample}"
        counts = f"height={g.num_scales}, order={g.order}, orientations={g.orientations}"
        return f"{g.shape}, {counts}, {options}, synthesis={self.synthesis!r}"

    def forward(self, image: Tensor, scales: Sequence[int] | None = None, residuals: bool = True) -> Coefficients:
        """Decompose images, see :meth:`analyze`."""
        return self.analyze(image, scales, residuals)

    if TYPE_CHECKING:
        __call__ = forward  # the type of nn.Module's is Any

    def analyze(self, image: Tensor, scales: Sequence[int] | None = None, residuals: bool = True) -> Coefficients:
        """Decompose images into complex bands.

        Parameters
        ----------
        image : Tensor [..., H, W], float32 or float64
            Images with any leading dimensions. float16 and bfloat16 are converted to float32.
        scales : sequence of int, optional
            Scales to compute, by default all; 0 is the finest. Other scales are None in the result.
        residuals : bool
            Whether to compute the high-pass and low-pass residuals.

        Returns
        -------
        Coefficients
            ``bands[s]`` is [..., K, h_s, w_s] complex with h_s = ceil(H / 2^s), w_s = ceil(W / 2^s), or H x W without
            ``downsample``. If the image moves by the vector d (in pixels), the phase of a component of frequency omega
            (a vector, in radians per pixel) changes by ``-omega . d``.

        Raises
        ------
        TypeError, ValueError
            If the image has the wrong size or type, or a scale is out of range.

        Examples
        --------
        >>> import torch
        >>> SteerablePyramid((32, 32), height=2).analyze(torch.rand(32, 32), scales=[1], residuals=False)
        Coefficients(highpass=None, bands=(None, [4, 16, 16]), lowpass=None, float32, cpu)
        """
        image = checks.check_image("image", image, self.image_shape)
        parts = [Part(s) for s in self._check_scales(scales)]
        parts += [Part(HIGHPASS), Part(LOWPASS)] if residuals else []
        bands = Bank(self.geometry, "analysis", tuple(parts)).split(image) if parts else []
        by_name = {part.name: band for part, band in zip(parts, bands)}
        squeeze = lambda t: None if t is None else t.squeeze(-3)
        oriented = tuple(by_name.get(s) for s in range(self.height))
        return Coefficients(squeeze(by_name.get(HIGHPASS)), oriented, squeeze(by_name.get(LOWPASS)))

    def synthesize(
        self,
        coefficients: Coefficients,
        scales: Sequence[int] | None = None,
        orientations: Sequence[int] | None = None,
        residuals: bool = True,
    ) -> Tensor:
        """Rebuild images from coefficients.

        Parameters
        ----------
        coefficients : Coefficients
            Coefficients from :meth:`analyze`. Parts that are None contribute nothing. With ``synthesis="real"``, bands
            may also be real tensors.
        scales, orientations : sequence of int, optional
            Scales and orientations that contribute, by default all.
        residuals : bool
            Whether the residuals contribute.

        Returns
        -------
        Tensor [..., H, W], float32 or float64

        Raises
        ------
        TypeError, ValueError
            If coefficients have the wrong shape, dtype or device, or a scale or an orientation is out of range.

        Examples
        --------
        >>> import torch
        >>> pyramid = SteerablePyramid((32, 32), height=2)
        >>> coefficients = pyramid(torch.rand(1, 32, 32))
        >>> pyramid.synthesize(coefficients, scales=[0], orientations=[0, 2], residuals=False).shape
        torch.Size([1, 32, 32])
        """
        bands = self._check_coefficients(coefficients)
        scales, orientations = self._check_scales(scales), self._check_orientations(orientations)
        oriented = [] if orientations == () else [s for s in scales if s in bands]
        chosen = {Part(s, orientations): _pick(bands[s], orientations) for s in oriented}
        if residuals:
            chosen |= {Part(r): bands[r] for r in (HIGHPASS, LOWPASS) if r in bands}
        if not chosen:
            first = next(iter(bands.values()))
            return first.real.new_zeros(*first.shape[:-3], *self.image_shape)
        return Bank(self.geometry, self.synthesis, tuple(chosen)).merge(list(chosen.values()))

    def steer(self, coefficients: Coefficients, angle: float | Tensor) -> tuple[Tensor | None, ...]:
        """Return the real parts of the bands at the orientation ``angle``.

        The result is exact, since cos^n is steerable with n + 1 or more basis orientations. Imaginary parts cannot be
        steered, because the analytic filters have no finite angular basis.

        Parameters
        ----------
        coefficients : Coefficients
        angle : float or Tensor of one element
            Orientation in radians, for all images. At ``pi k / K`` the result is the real part of band k. At
            ``angle + pi`` it is the result at ``angle`` times (-1)^n.

        Returns
        -------
        tuple of Tensor [..., h_s, w_s], real
            One for each scale; None for a scale whose coefficients are None.

        Raises
        ------
        TypeError, ValueError
            If coefficients have the wrong shape, dtype or device, or the angle is not a single real number.

        Notes
        -----
        The method is that of Freeman & Adelson (1991). With K > n + 1 the basis is redundant, and the weights with the
        smallest norm are used.

        Examples
        --------
        >>> import torch
        >>> pyramid = SteerablePyramid((32, 32), height=2)
        >>> coefficients = pyramid(torch.rand(32, 32))
        >>> steered = pyramid.steer(coefficients, torch.pi / 4)
        >>> bool((steered[0] - coefficients.bands[0][1].real).abs().max() < 1e-5)
        True
        """
        self._check_coefficients(coefficients)
        weights = steering_weights(self.order, self.orientations, angle)
        steer = lambda band: (band.real * weights.to(band.real)[:, None, None]).sum(-3)
        return tuple(None if band is None else steer(band) for band in coefficients.bands)

    def pack(self, coefficients: Coefficients) -> Tensor:
        """Return all coefficients as one real tensor [..., M].

        M counts Re and Im of a band's coefficient separately. The order is high-pass, bands (Re and Im interleaved),
        low-pass.

        Raises
        ------
        TypeError, ValueError
            If a part is None, or has the wrong shape, dtype or device.

        Examples
        --------
        >>> import torch
        >>> pyramid = SteerablePyramid((32, 32), height=2)
        >>> coefficients = pyramid(torch.rand(5, 32, 32))
        >>> packed = pyramid.pack(coefficients)
        >>> packed.shape
        torch.Size([5, 11328])
        >>> bool((pyramid.unpack(packed).bands[1] == coefficients.bands[1]).all())
        True
        """
        parts = self._check_coefficients(coefficients)
        if len(parts) != self.height + 2:
            raise ValueError("coefficients must have all scales and both residuals, got None for some of them")
        order = (HIGHPASS, *range(self.height), LOWPASS)
        flat = lambda t: torch.view_as_real(t.resolve_conj()).flatten(-4) if t.is_complex() else t.flatten(-3)
        return torch.cat([flat(parts[name]) for name in order], -1)

    def unpack(self, packed: Tensor) -> Coefficients:
        """Return the coefficients that :meth:`pack` packed into a real tensor [..., M].

        Raises
        ------
        TypeError, ValueError
            If the tensor is not real, or its last dimension has the wrong length.
        """
        shapes: list[tuple[int, ...]] = [self.image_shape]
        shapes += [(self.orientations, *self.geometry.band_shape(s), 2) for s in range(self.height)]
        shapes += [self.geometry.band_shape(self.height)]
        sizes = [math.prod(s) for s in shapes]
        if not isinstance(packed, Tensor) or not packed.is_floating_point():
            raise TypeError(f"packed must be a real floating-point tensor, got {getattr(packed, 'dtype', packed)!r}")
        if packed.dim() < 1 or packed.shape[-1] != sum(sizes):
            raise ValueError(f"packed must have shape [..., {sum(sizes)}], got {list(packed.shape)}")
        high, *bands, low = [t.unflatten(-1, s) for t, s in zip(packed.split(sizes, -1), shapes)]
        return Coefficients(high, tuple(torch.view_as_complex(b.contiguous()) for b in bands), low)

    # --- Checks: before any kernel runs ---

    def _check_scales(self, scales: Sequence[int] | None) -> list[int]:
        return list(range(self.height)) if scales is None else checks.check_indices("scales", scales, self.height)

    def _check_orientations(self, orientations: Sequence[int] | None) -> tuple[int, ...] | None:
        if orientations is None:
            return None
        return tuple(checks.check_indices("orientations", orientations, self.orientations))

    def _check_coefficients(self, coefficients: Coefficients) -> dict[int | str, Tensor]:
        """Check all parts; return a dict of those that are not None, each [..., K, h, w] (K is 1 for residuals)."""
        checks.check_exportable()
        if not isinstance(coefficients, Coefficients):
            raise TypeError(f"coefficients must be Coefficients, got {type(coefficients).__name__}")
        if len(coefficients.bands) != self.height:
            raise ValueError(f"coefficients must have {self.height} scales, got {len(coefficients.bands)}")
        named: dict[int | str, Tensor | None] = dict(enumerate(coefficients.bands))
        named = {HIGHPASS: coefficients.highpass, LOWPASS: coefficients.lowpass, **named}
        parts = {name: t for name, t in named.items() if t is not None}
        if not parts:
            raise ValueError("coefficients must have at least one part, got None for all")
        for name, t in parts.items():
            if not isinstance(t, Tensor):
                raise TypeError(f"{_label(name)} must be a torch.Tensor, got {type(t).__name__}")
        first = next(iter(parts.values()))  # a residual, if there is one
        lead = first.shape[:-2] if HIGHPASS in parts or LOWPASS in parts else first.shape[:-3]
        return {name: self._check_part(name, t, lead, first) for name, t in parts.items()}

    def _check_part(self, name: int | str, t: Tensor, lead: torch.Size, first: Tensor) -> Tensor:
        label = _label(name)
        if not t.is_complex() and not t.is_floating_point():
            raise TypeError(f"{label} must be complex or floating point, got {t.dtype}")
        if real_dtype(t.dtype) not in (torch.float32, torch.float64) or real_dtype(t.dtype) != real_dtype(first.dtype):
            precision = "float32 or float64, the same for all parts"
            raise TypeError(f"{label} must have the precision {precision}, got {t.dtype}")
        if t.device != first.device:
            raise ValueError(f"{label} must be on {first.device} like the other parts, got {t.device}")
        if isinstance(name, int):
            expected = (*lead, self.orientations, *self.geometry.band_shape(name))
            if self.synthesis == "adjoint" and not t.is_complex():
                raise TypeError(f'{label} must be complex for synthesis="adjoint", got {t.dtype}')
        else:
            size = self.image_shape if name == HIGHPASS else self.geometry.band_shape(self.height)
            expected = (*lead, *size)
            if t.is_complex():
                raise TypeError(f"{label} must be real, got {t.dtype}")
        if tuple(t.shape) != expected:
            raise ValueError(f"{label} must have shape {list(expected)}, got {list(t.shape)}")
        return t if isinstance(name, int) else t.unsqueeze(-3)


def steering_weights(order: int, orientations: int, angle: float | Tensor) -> Tensor:
    """Return the weights [K] with which the K bands add up to the band at ``angle``.

    They are w_k in cos^n(t - angle) = sum_k w_k cos^n(t - pi k / K), for every t.
    """
    angle = _check_angle(angle)
    samples = 4 * (order + 1)  # 2 * order + 1 or more determine the weights
    t = torch.arange(samples, dtype=torch.float64, device="cpu") * (2 * math.pi / samples)
    k = torch.arange(orientations, dtype=torch.float64, device="cpu") * (math.pi / orientations)
    basis = torch.cos(t[:, None] - k).pow(order)
    target = torch.cos(t - torch.as_tensor(angle, dtype=torch.float64, device="cpu")).pow(order)
    return torch.linalg.pinv(basis) @ target


def _check_angle(angle: float | Tensor) -> float | Tensor:
    if not isinstance(angle, Tensor):
        return checks.check_number("angle", angle, note=" (radians)")
    if angle.is_complex() or angle.numel() != 1:
        got = angle.dtype if angle.is_complex() else f"shape {list(angle.shape)}"
        raise ValueError(f"angle must be a real number or a real tensor of one element (radians), got {got}")
    return angle.reshape(())


def _label(name: int | str) -> str:
    return f"coefficients.bands[{name}]" if isinstance(name, int) else f"coefficients.{name}"


def _pick(band: Tensor, orientations: tuple[int, ...] | None) -> Tensor:
    return band if orientations is None else band[..., list(orientations), :, :]
