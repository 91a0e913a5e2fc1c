"""The plot of a pyramid has the right panels, in the right places."""

import dataclasses
import io
import sys

import pytest
import torch

from steerlens_fast import SteerablePyramid
from steerlens_fast.extras import MissingExtra
from steerlens_fast.pyramid.plot import SHOWS, _hue_circle, plot_pyramid

pytest.importorskip("matplotlib")


@pytest.fixture
def coefficients():
    return SteerablePyramid((48, 64), height=3, order=2)(torch.rand(2, 3, 48, 64))


def panels(figure) -> dict:
    return {a.get_label(): a for a in figure.axes if a.get_label() not in ("", "colour bar", "<colorbar>")}


def picture(axes) -> torch.Tensor:
    return torch.as_tensor(axes.images[0].get_array().filled())


@pytest.mark.parametrize("show", SHOWS)
def test_every_part_has_a_panel(coefficients, show):
    figure = plot_pyramid(coefficients, show=show)
    bands = {f"band {s} {k}" for s in range(3) for k in range(3)}
    assert set(panels(figure)) == bands | {"highpass", "lowpass"}
    assert all(len(a.images) == 1 for a in panels(figure).values())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")


def test_chosen_image_is_shown(coefficients):
    c = coefficients
    for show, of in (("amplitude", torch.abs), ("real", torch.real), ("imaginary", torch.imag)):
        drawn = panels(plot_pyramid(c, show=show, index=(1, -1)))
        torch.testing.assert_close(picture(drawn["band 1 2"]), of(c.bands[1][1, 2, 2]), check_dtype=False)
        torch.testing.assert_close(picture(drawn["lowpass"]), c.lowpass[1, 2], check_dtype=False)
    first = panels(plot_pyramid(c))["band 0 0"]
    torch.testing.assert_close(picture(first), c.bands[0][0, 0, 0].abs(), check_dtype=False)
    second = panels(plot_pyramid(c, index=1))["band 0 0"]
    torch.testing.assert_close(picture(second), c.bands[0][1, 0, 0].abs(), check_dtype=False)


def test_rows_share_field_of_view_and_colour_scale(coefficients):
    drawn = panels(plot_pyramid(coefficients, show="real"))
    extent = drawn["highpass"].images[0].get_extent()
    assert all(a.images[0].get_extent() == extent for a in drawn.values())
    for s in range(3):
        limits = {drawn[f"band {s} {k}"].images[0].get_clim() for k in range(3)}
        ((low, high),) = limits
        assert low == -high and high > 0


@pytest.mark.parametrize("show, arrows", [("real", "both"), ("amplitude", "max"), ("phase", "neither")])
def test_colour_bars_of_clipped_panels_have_arrows(coefficients, show, arrows):
    figure = plot_pyramid(coefficients, show=show)
    extend = [axes._colorbar.extend for axes in figure.axes if axes.get_label() == "colour bar"]
    bands = 1 if show == "phase" else len(coefficients.bands)
    assert extend == [arrows] * bands + ["both", "neither"]  # then those of highpass and lowpass


def test_panels_have_labels(coefficients):
    drawn = panels(plot_pyramid(coefficients))
    assert [drawn[f"band 0 {k}"].get_title() for k in range(3)] == ["0°", "60°", "120°"]
    assert drawn["band 2 0"].get_ylabel() == "scale 2\n1/16 cycles/pixel\n(3 per height)"


def test_scale_labels_are_right():
    """A grating of the labelled frequency has its largest amplitudes at that scale."""
    pyramid = SteerablePyramid((64, 64), height=3)
    x = torch.arange(64.0)
    for s in range(3):
        period = 4 << s
        c = pyramid(torch.cos(2 * torch.pi * x / period).expand(64, 64))
        assert f"\n1/{period} cycles/pixel\n" in panels(plot_pyramid(c))[f"band {s} 0"].get_ylabel()
        # A scale has a quarter of the pixels of the finer one, and therefore 4 times the amplitude
        energies = torch.stack([band.abs().square().mean((-2, -1)) / 16**i for i, band in enumerate(c.bands)])
        assert divmod(int(energies.argmax()), 4) == (s, 0)


def test_phase_is_hue_and_amplitude_brightness():
    band = torch.polar(torch.tensor([[0.0, 1.0, 1.0, 1.0]] * 8), torch.tensor([[0.0, 0.0, 3.1415, -3.1415]] * 8))
    c = SteerablePyramid((8, 8), height=1, order=0)(torch.rand(8, 8))
    c = dataclasses.replace(c, bands=(band[None],))
    colours = picture(panels(plot_pyramid(c, show="phase"))["band 0 0"])
    assert (colours[0, 0] == 0).all() and (colours[0, 1] > 0).any()
    assert (colours[0, 2] - colours[0, 3]).abs().max() < 0.05  # -pi and pi are the same: the circle closes
    assert (colours[0, 1] - colours[0, 2]).abs().max() > 0.3


def test_hues_are_a_closed_circle_in_range():
    hues = _hue_circle()
    assert hues.min() >= 0 and hues.max() <= 1
    assert (hues - hues.roll(1, 0)).abs().max() < 0.06


def test_missing_parts_are_labelled():
    c = SteerablePyramid((32, 32), height=3).analyze(torch.rand(32, 32), scales=[1], residuals=False)
    drawn = panels(plot_pyramid(c))
    absent = {name for name, axes in drawn.items() if [t.get_text() for t in axes.texts] == ["absent"]}
    assert absent == {f"band {s} {k}" for s in (0, 2) for k in range(4)} | {"highpass", "lowpass"}
    assert drawn["band 1 0"].get_ylabel() == "scale 1\n1/8 cycles/pixel"  # the image's size is not known


def test_constant_images_of_any_shape_are_drawn():
    for show, shape in zip(SHOWS, [(8, 8), (31, 97), (200, 16), (8, 8)], strict=True):
        c = SteerablePyramid(shape, height=1)(torch.full(shape, 0.5))
        plot_pyramid(c, show=show).savefig(io.BytesIO(), dpi=30)


def test_every_variant_is_drawn():
    for options in ({"downsample": False}, {"tight_frame": True}, {"order": 0}):
        c = SteerablePyramid((32, 32), **options)(torch.rand(32, 32).double())
        assert "band 2 0" in panels(plot_pyramid(c))
    image = torch.rand(32, 32, requires_grad=True)
    plot_pyramid(SteerablePyramid((32, 32))(image))
    real = SteerablePyramid((32, 32))(image).map(torch.real)
    plot_pyramid(real, show="real")
    with pytest.raises(TypeError, match="coefficients must be complex for show='phase'"):
        plot_pyramid(real, show="phase")


def test_plot_is_drawn_into_a_given_figure(coefficients):
    from matplotlib.figure import Figure

    whole = Figure(figsize=(8, 8), layout="constrained")
    left, right = whole.subfigures(1, 2)
    assert plot_pyramid(coefficients, figure=left) is left
    plot_pyramid(coefficients, show="real", figure=right)
    whole.savefig(io.BytesIO(), dpi=30)


def test_pyplot_state_is_unchanged(coefficients):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    plot_pyramid(coefficients)
    assert pyplot.get_fignums() == before


# (arguments, type of the exception, part of the message)
BAD_ARGUMENTS = [
    ({"show": "power"}, ValueError, "show must be one of"),
    ({"index": 2}, IndexError, r"index must lie within the leading dimensions \[2, 3\], got 2"),
    ({"index": (0, 3)}, IndexError, "index must lie within"),
    ({"index": (0, 0, 0)}, IndexError, "index must have at most 2 numbers"),
    ({"index": (0.5,)}, IndexError, "index"),
    ({"index": "a"}, IndexError, "index"),
]


def test_bad_arguments_raise(coefficients):
    for arguments, error, text in BAD_ARGUMENTS:
        with pytest.raises(error, match=text):
            plot_pyramid(coefficients, **arguments)


def test_bad_coefficients_raise(coefficients):
    with pytest.raises(TypeError, match="coefficients must be Coefficients, got Tensor"):
        plot_pyramid(torch.rand(8, 8))
    with pytest.raises(ValueError, match="at least one part"):
        plot_pyramid(dataclasses.replace(coefficients, highpass=None, bands=(None,), lowpass=None))
    with pytest.raises(ValueError, match="at least one image"):
        plot_pyramid(coefficients.apply(lambda t: t[:0]))


def test_missing_extra_is_named(coefficients, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"matplotlib is not installed: pip install matplotlib .*pillow"):
        plot_pyramid(coefficients)
