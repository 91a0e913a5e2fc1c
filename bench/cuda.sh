#!/bin/sh
# bench/cuda.sh [--only PHASES] [--skip PHASES] [--device cpu] [--patience X] [--out FOLDER] [-h]
# Builds, tests, sanitises and measures the CUDA kernels on a GPU, in less than nine minutes
# (bench/cuda/__main__.py). Needs torch >= 2.10 with CUDA, nvcc of the same major version as torch's CUDA, ninja,
# setuptools >= 77.0.3, numpy and pytest. Needs no network.
# The environment variable PYTHON names the interpreter (default: python3). Results and logs are written to --out, or
# $OUT, or a temporary folder, whose name is printed at the end.
set -eu
exec "${PYTHON:-python3}" "$(dirname "$0")/cuda" "$@"
