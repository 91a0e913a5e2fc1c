"""Shows which changes to an image separate two classes for a classifier."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .extension import build_info

# isort: split
# The import above loads the compiled extension, or raises an error that says why it cannot be loaded.
from . import ops
from .evaluate import (
    alignment,
    band_probes,
    bootstrap,
    clipping,
    coefficient_consistency,
    common_attainment,
    driver_confidence,
    evaluate_families,
    paired_difference,
    phase_displacement,
    proportion,
    proportion_difference,
    smooth_reconstruction,
    synthetic_images,
    transfer,
)
from .families import CSPFamily, FourierFamily, LumaFamily, PixelFamily
from .job import morph_dataset
from .lens import SteerableLens
from .lens.l2_search import factor_at_l2
from .lens.quantus import quantus_explain
from .models import load_model
from .morphs import Morphs, MorphStatus
from .pyramid import Coefficients, SteerablePyramid
from .pyramid.filter_cache import clear_filter_cache, filter_cache_bytes, set_filter_cache_limit
from .version import __version__

__all__ = [
    "CSPFamily",
    "Coefficients",
    "FourierFamily",
    "LumaFamily",
    "MorphStatus",
    "Morphs",
    "PixelFamily",
    "SteerableLens",
    "SteerablePyramid",
    "__version__",
    "alignment",
    "band_probes",
    "bootstrap",
    "build_info",
    "clear_filter_cache",
    "clipping",
    "coefficient_consistency",
    "common_attainment",
    "driver_confidence",
    "evaluate_families",
    "factor_at_l2",
    "filter_cache_bytes",
    "load_model",
    "morph_dataset",
    "ops",
    "paired_difference",
    "phase_displacement",
    "plot_morphs",
    "plot_pyramid",
    "proportion",
    "proportion_difference",
    "quantus_explain",
    "rating",
    "set_filter_cache_limit",
    "smooth_reconstruction",
    "synthetic_images",
    "transfer",
]


if TYPE_CHECKING:
    from . import rating
    from .morphs.strips import plot_morphs
    from .pyramid.plot import plot_pyramid
else:

    def __getattr__(name: str) -> Any:
        if name == "plot_pyramid":  # imported only when needed, since matplotlib is an optional dependency
            from .pyramid.plot import plot_pyramid

            return plot_pyramid
        if name == "plot_morphs":
            from .morphs.strips import plot_morphs

            return plot_morphs
        if name == "rating":  # imports all of the data-set job, which most programs do not need
            return import_module(".rating", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
