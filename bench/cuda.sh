#!/bin/sh
# bench/cuda.sh [--only PHASES] [--skip PHASES] [--device cpu] [--patience X] [--out FOLDER] [-h]: the CUDA kernels, seen on a device:
# built, compiled for every architecture, tested, sanitised and measured, in under nine minutes. See bench/cuda/__main__.py.
# Needs torch >= 2.10 with CUDA, nvcc of its major, ninja, setuptools, numpy, pytest, and no network.
# PYTHON names the interpreter (python3); results and logs go to $OUT, or --out, or a folder that is named at the end.
set -eu
exec "${PYTHON:-python3}" "$(dirname "$0")/cuda" "$@"
