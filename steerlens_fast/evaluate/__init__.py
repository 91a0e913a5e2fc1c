"""What morphs show, measured: after "Confidence Is Not Evidence", on any data, and on data with a known answer.

::

    measures     confidence, transfer, common attainment   smooth      reconstruction by a warp (grids, fitting)
    probes       one band at a time                        consistency leakage, clipping, departure
    statistics   bootstrap over sources                    synthetic, alignment   the true motion, and how near to it
"""

from __future__ import annotations

from .alignment import alignment, phase_displacement
from .consistency import Clipping, Consistency, clipping, coefficient_consistency
from .measures import CommonAttainment, Transfer, common_attainment, driver_confidence, transfer
from .probes import BandProbes, band_probes
from .smooth import SmoothReconstruction, smooth_reconstruction
from .statistics import Interval, bootstrap, paired_difference
from .synthetic import SyntheticImages, synthetic_images

__all__ = [
    "BandProbes",
    "Clipping",
    "CommonAttainment",
    "Consistency",
    "Interval",
    "SmoothReconstruction",
    "SyntheticImages",
    "Transfer",
    "alignment",
    "band_probes",
    "bootstrap",
    "clipping",
    "coefficient_consistency",
    "common_attainment",
    "driver_confidence",
    "paired_difference",
    "phase_displacement",
    "smooth_reconstruction",
    "synthetic_images",
    "transfer",
]
