"""Names of the options for loading a model, shared by jobs and evaluations."""

from __future__ import annotations

DTYPES = ("float32", "float64", "bfloat16", "float16")
PREPROCESSING_OPTIONS = ("size", "mean", "std", "channels", "interpolation", "crop_pct")
MODEL_OPTIONS = ("weights", "trust_checkpoint", *PREPROCESSING_OPTIONS, "dtype", "channels_last", "seed")
