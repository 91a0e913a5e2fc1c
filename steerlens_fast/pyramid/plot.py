"""Plots a pyramid, for papers and notebooks. Needs the extra ``steerlens_fast[plot]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_choice, is_int, shown
from ..extras import require_extra
from .coefficients import Coefficients

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWS = ("amplitude", "phase", "real", "imaginary")
# Share of a row's coefficients beyond its colour scale, so that a few large values do not darken the row.
CLIPPED = 0.002
PANEL_INCHES = 1.9


def plot_pyramid(
    coefficients: Coefficients,
    *,
    show: str = "amplitude",
    index: int | Sequence[int] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Return a figure of the pyramid of one image.

    There is a row for each scale, a column for each orientation, and a column on the right for the residuals.

    Parameters
    ----------
    coefficients : Coefficients
        Coefficients from :meth:`SteerablePyramid.analyze`. Parts that are None are marked "absent".
    show : {"amplitude", "phase", "real", "imaginary"}
        What to show of the bands. "phase" is shown as hue, with the amplitude as brightness, because the phase of a
        tiny coefficient has no meaning.
    index : int or sequence of int, optional
        The image to show, as an index into the leading dimensions; by default 0 in each.
    figure : matplotlib Figure or SubFigure, optional
        The figure to draw in; by default a new one. A new figure is not registered with pyplot, so use
        ``figure.savefig``, or display it in a notebook.

    Returns
    -------
    matplotlib.figure.Figure
        Its axes have the labels ``"band s k"``, ``"highpass"``, ``"lowpass"``.

    Raises
    ------
    TypeError, ValueError, IndexError
        If an argument is invalid; the message names it and what was expected.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    All panels show the same field of view, so coefficients of coarse scales are drawn larger. Bands with more
    coefficients than a panel has dots are averaged.

    Each row and each residual has a colour scale of its own, because amplitudes grow from fine to coarse scales in most
    images. 0.2 % of a row's coefficients are beyond its colour scale.

    An orientation is labelled with the direction of its frequencies: 0 degrees responds to vertical edges. The label
    of a scale is the frequency at which its filters peak with the default ``width``, 1.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import SteerablePyramid
    >>> coefficients = SteerablePyramid((64, 64), height=3)(torch.rand(2, 1, 64, 64))
    >>> figure = plot_pyramid(coefficients, show="phase", index=(1, 0))
    >>> [axes.get_label() for axes in figure.axes if axes.get_label().startswith("band 2")]
    ['band 2 0', 'band 2 1', 'band 2 2', 'band 2 3']
    """
    bands, highpass, lowpass = _one_image(coefficients, show, index)
    require_extra("plot", "matplotlib")
    height, orientations = len(bands), max((len(b) for b in bands if b is not None), default=1)
    first = next(t for t in (highpass, *bands, lowpass) if t is not None)
    aspect = min(max(first.shape[-2] / first.shape[-1], 0.4), 2.5)  # a panel's height divided by its width
    rows = max(height, 2)
    if figure is None:
        inches = PANEL_INCHES * (orientations + 2.2), PANEL_INCHES * aspect * rows * 1.04 + 0.5
        figure = require_extra("plot", "matplotlib.figure").Figure(figsize=inches, layout="constrained", dpi=200)
    widths = [*[1.0] * orientations, 0.07, 0.16, 1.0, 0.07]
    grid = figure.add_gridspec(rows, len(widths), width_ratios=widths)
    painter, colour_bars = _Painter(figure, aspect), 0
    for s, band in enumerate(bands):
        panels = [figure.add_subplot(grid[s, k], label=f"band {s} {k}") for k in range(orientations)]
        drawn = painter.draw_bands(panels, band, show)
        if drawn is not None and (show != "phase" or colour_bars == 0):  # one hue bar serves all scales
            painter.colour_bar(drawn, figure.add_subplot(grid[s, orientations]), show)
            colour_bars += 1
        panels[0].set_ylabel(_scale_label(s, highpass), fontsize=8, linespacing=1.35)
        if s == 0:
            for k, axes in enumerate(panels):
                axes.set_title(f"{_degrees(k, orientations)}°", fontsize=9, pad=3)
    for row, name, residual in ((0, "high-pass", highpass), (rows - 1, "low-pass", lowpass)):
        axes = figure.add_subplot(grid[row, -2], label=name.replace("-", ""))
        axes.set_ylabel(name, fontsize=9)
        drawn = painter.draw_residual(axes, residual, signed=row == 0)
        if drawn is not None:
            painter.colour_bar(drawn, figure.add_subplot(grid[row, -1]), "real" if row == 0 else "low-pass")
    titles = {"real": "Real part", "imaginary": "Imaginary part", "phase": "Phase (hue) and amplitude (brightness)"}
    figure.suptitle(titles.get(show, "Amplitude"), fontsize=10)
    return figure


# --- Data ---------------------------------------------------------------------------------------------------


def _one_image(
    coefficients: Coefficients, show: str, index
) -> tuple[list[Tensor | None], Tensor | None, Tensor | None]:
    """Return the bands [K, h, w] and the residuals [h, w] of one image, checked, on the CPU."""
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients must be Coefficients, got {type(coefficients).__name__}")
    check_choice("show", show, SHOWS)
    if not coefficients.tensors():
        raise ValueError("coefficients must have at least one part, got None for all")
    any_band = next((b for b in coefficients.bands if b is not None), None)
    leading = any_band.shape[:-3] if any_band is not None else coefficients.tensors()[0].shape[:-2]
    if 0 in leading:
        raise ValueError(f"coefficients must have at least one image, got leading dimensions {list(leading)}")
    if any_band is not None and not any_band.is_complex() and show in ("phase", "imaginary"):
        raise TypeError(f"coefficients must be complex for show={show!r}, got {any_band.dtype}")
    numbers = () if index is None else (index,) if is_int(index) else tuple(index)
    if len(numbers) > len(leading):
        raise IndexError(f"index must have at most {len(leading)} numbers, got {shown(index)}")
    for i, n in zip(numbers, leading):
        if not (is_int(i) and -n <= i < n):
            raise IndexError(f"index must lie within the leading dimensions {list(leading)}, got {shown(index)}")
    full_index = numbers + (0,) * (len(leading) - len(numbers))
    pick = lambda t: None if t is None else t[full_index].detach().cpu().resolve_conj()
    return [pick(b) for b in coefficients.bands], pick(coefficients.highpass), pick(coefficients.lowpass)


def _degrees(k: int, orientations: int) -> str:
    return f"{180 * k / orientations:.1f}".removesuffix(".0")


def _scale_label(s: int, highpass: Tensor | None) -> str:
    # Scale 0 peaks at half the Nyquist frequency, 1/4 cycle per pixel; each further scale at half the frequency of the
    # scale before.
    text = f"scale {s}\n1/{4 << s} cycles/pixel"
    if highpass is None:
        return text
    return f"{text}\n({highpass.shape[-2] / (4 << s):.3g} per height)"


def _limit(values: Tensor) -> float:
    """Return the limit of a colour scale: the share CLIPPED of all values exceeds it."""
    flat = values.abs().flatten().double()
    finite = flat[flat.isfinite()]
    if not len(finite):
        return 1.0
    return float(finite.kthvalue(max(1, round(len(finite) * (1 - CLIPPED)))).values) or float(finite.max()) or 1.0


# --- Drawing -------------------------------------------------------------------------------------------------


class _Painter:
    """Draws bands, residuals and colour bars. ``aspect`` is a panel's height divided by its width."""

    def __init__(self, figure, aspect: float):
        colors = require_extra("plot", "matplotlib.colors")
        self.figure, self.aspect = figure, aspect
        self.mappable = require_extra("plot", "matplotlib.cm").ScalarMappable
        self.normalize = colors.Normalize
        self.hues = colors.ListedColormap(_hue_circle().numpy(), name="phase")

    def draw_bands(self, panels, band: Tensor | None, show: str):
        """Draw the orientations of one scale [K, h, w]; return what its colour bar describes."""
        if band is None:
            for axes in panels:
                self._absent(axes)
            return None
        if show == "phase":
            brightness = (band.abs() / _limit(band)).clamp(0, 1).sqrt()
            colours = _hue_circle()[((band.angle() / (2 * torch.pi) + 0.5) * 256).long().clamp(0, 255)]
            for axes, picture in zip(panels, colours * brightness[..., None]):
                self._image(axes, picture)
            return self.mappable(self.normalize(-torch.pi, torch.pi), self.hues)
        if show == "amplitude":
            values, colours, low = band.abs(), "magma", 0.0
        else:
            values, colours, low = (band.real if show == "real" else band.imag), "RdBu_r", -1.0
        limit = _limit(values)
        for axes, picture in zip(panels, values):
            drawn = self._image(axes, picture, cmap=colours, vmin=low * limit, vmax=limit)
        return drawn

    def draw_residual(self, axes, values: Tensor | None, signed: bool):
        if values is None:
            return self._absent(axes)
        if signed:
            limit = _limit(values)
            return self._image(axes, values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        return self._image(axes, values, cmap="gray")

    def colour_bar(self, drawn, axes, show: str) -> None:
        extend = {"amplitude": "max", "real": "both", "imaginary": "both"}.get(show, "neither")
        bar = self.figure.colorbar(drawn, cax=axes, extend=extend, extendfrac=0.04)
        if show == "phase":
            bar.set_ticks([-torch.pi, 0, torch.pi], labels=["−π", "0", "π"])
        else:
            bar.locator = require_extra("plot", "matplotlib.ticker").MaxNLocator(4)
            bar.update_ticks()
        bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5)
        bar.outline.set_linewidth(0.4)
        axes.set_label("colour bar")

    def _image(self, axes, picture: Tensor, **options):
        # The extent gives all scales one field of view.
        # With "nearest", columns of fine bands would be unequally wide, or left out.
        interpolation = "auto" if picture.shape[1] > 128 else "nearest"
        drawn = axes.imshow(picture.numpy(), extent=(0, 1, self.aspect, 0), interpolation=interpolation, **options)
        self._frame(axes)
        return drawn

    def _absent(self, axes) -> None:
        axes.set(xlim=(0, 1), ylim=(self.aspect, 0), aspect="equal", facecolor="0.96")
        axes.text(0.5, self.aspect / 2, "absent", ha="center", va="center", fontsize=8, color="0.55", style="italic")
        self._frame(axes)

    def _frame(self, axes) -> None:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(linewidth=0.4, color="0.5")


def _hue_circle(steps: int = 256, lightness: float = 72.0, chroma: float = 40.0) -> Tensor:
    """Return a cyclic colour map [steps, 3] of constant lightness: a circle in CIE Lab."""
    t = torch.arange(steps, dtype=torch.float64, device="cpu") * (2 * torch.pi / steps)
    y = torch.full_like(t, (lightness + 16) / 116)
    lab = torch.stack([y + chroma * t.cos() / 500, y, y - chroma * t.sin() / 200], -1)
    white = torch.tensor([0.9505, 1.0, 1.089], dtype=torch.float64, device="cpu")
    xyz = torch.where(lab > 6 / 29, lab**3, (lab - 4 / 29) * 108 / 841) * white
    to_rgb = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    linear = (xyz @ torch.tensor(to_rgb, dtype=torch.float64, device="cpu").T).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
