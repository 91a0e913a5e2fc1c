"""bench/cuda.sh without a GPU: its dry run, its switches, and what its reports are read from."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench/cuda.sh"
if not SCRIPT.exists():
    pytest.skip("not a checkout: there is no bench/ beside tests/", allow_module_level=True)


def script(*arguments, **environment):
    """Exit status and output."""
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


@pytest.fixture
def module(monkeypatch):
    """A module of bench/cuda by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "bench/cuda"))
    before = set(sys.modules)

    def load(name):
        return __import__(name)

    yield load
    for name in set(sys.modules) - before:
        if str(ROOT / "bench") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


# --- The script


def test_the_dry_run(tmp_path):
    """Every row of the benchmarks is computed, on small shapes; no figure is printed."""
    code, output = script("--device", "cpu", "--only", "build,sanitize,bench", "--patience", "20", OUT=str(tmp_path))
    assert code == 0, output
    assert str(tmp_path) in output and "dry run" in output
    assert "GB/s" not in output and "ms" not in output.split("|---|")[-1]
    result = json.loads((tmp_path / "cuda.json").read_text())
    assert {phase: result[phase]["status"] for phase in ("build", "sanitize", "bench")} == {
        "build": "ok",
        "sanitize": "ok",
        "bench": "ok",
    }
    assert "tests" not in result and not result["bench"]["errors"]
    rows = result["bench"]["kernels"] + result["bench"]["transforms"]
    assert len(rows) > 25 and not [row for row in rows if "not_measured" in row]
    kernels = {row["kernel"].partition(",")[0] for row in result["bench"]["kernels"]}
    from cases import OPS

    assert kernels == {"copy", *OPS}, "one row for each op"


def test_the_dry_run_of_the_tests(tmp_path):
    code, output = script("--device", "cpu", "--only", "tests", "--out", str(tmp_path))
    told = json.loads((tmp_path / "tests.json").read_text())
    assert code == 0 and told["passed"] > 20 and not told["failed"] and not told["not_run"], output


def test_its_switches():
    code, output = script("--help")
    assert code == 0 and all(phase in output for phase in ("build", "compile", "tests", "sanitize", "bench"))
    code, output = script("--only", "biuld")
    assert code == 2 and "biuld" in output and "sanitize" in output


def test_a_phase_that_fails_stops_no_other(tmp_path):
    """Where there is no GPU, what needs one fails, visibly."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, output = script(
        "--only", "sanitize,bench", "--out", str(tmp_path), CUDA_HOME=str(tmp_path), PATH="/usr/bin:/bin"
    )
    assert code == 1 and "| bench | failed (1)" in output and "| sanitize | " in output


def test_the_limits_add_up_to_less_than_nine_minutes():
    text = (ROOT / "bench/cuda/__main__.py").read_text()
    limits = ast.literal_eval(text.partition("PHASES = ")[2].partition("  #")[0])
    assert len(limits) == 5 and sum(limits.values()) < 9 * 60 - 20


# --- What it measures against


def test_the_stand_in_for_plenoptic(module):
    plenoptic = pytest.importorskip("plenoptic")
    pyramid = module("peer").EagerPyramid((36, 28), 2, 3)
    theirs = plenoptic.process.SteerablePyramidFreq((36, 28), height=2, order=3, is_complex=True, tight_frame=False)
    x = torch.rand(2, 3, 36, 28)
    ours, expected = pyramid(x), theirs(x)
    assert list(ours) == list(expected)
    for key, band in expected.items():
        assert (ours[key] - band).abs().max() <= 1e-5 * band.abs().max(), "its tables have 1024 entries"
    assert (pyramid.recon_pyr(ours) - x).abs().max() < 3e-6


def test_the_stand_in_for_timm_s_resnet(module):
    model = module("classifier").ResNet()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032, "He et al.'s ResNet-50"
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


# --- What its reports are read from

PTXAS = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN9steerlens1fILi4EEEvv' for 'sm_90'
ptxas info    : Function properties for _ZN9steerlens1fILi4EEEvv
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 16 bytes cumulative stack size, 64 bytes smem
ptxas info    : Compiling entry function '_ZN9steerlens1gILi4EEEvv' for 'sm_90'
ptxas info    : Function properties for _ZN9steerlens1gILi4EEEvv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers
"""


@pytest.fixture
def compiled(module, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return module("compiled")


def test_registers_and_spills_are_read(compiled):
    (f, arch, told), (g, _, clean) = compiled.resources(PTXAS)
    assert f.endswith("1fILi4EEEvv") and g.endswith("1gILi4EEEvv") and arch == "sm_90"
    assert told == {"registers": 48, "stack": 16, "spill_stores": 12, "spill_loads": 8}
    assert clean == {"registers": 32, "stack": 0, "spill_stores": 0, "spill_loads": 0}


def test_kernels_that_spill_or_lack_wide_accesses_are_named(compiled):
    fine = {"registers": 32, "stack": 0, "spill_stores": 0, "spill_loads": 0}
    wide, narrow = {"128": 2}, {"64": 2}
    rows = [
        {"file": "a.cu", "kernel": "for_each_kernel<4, A>", "sm_90": fine | {"loads": wide, "stores": wide}},
        {"file": "a.cu", "kernel": "for_each_kernel<4, B>", "sm_90": fine | {"loads": wide, "stores": narrow}},
        {"file": "a.cu", "kernel": "for_each_kernel<1, A>", "sm_90": fine | {"loads": narrow, "stores": narrow}},
        {
            "file": "a.cu",
            "kernel": "merge_kernel<float>",
            "sm_90": fine | {"spill_loads": 4, "loads": narrow, "stores": narrow},
        },
    ]
    told = compiled.verdict(rows)
    assert told["spilling"] == ["merge_kernel<float> sm_90"]
    assert told["wide_kernels_without_16_byte_accesses"] == ["for_each_kernel<4, B> sm_90"]
    assert told["wide_kernels"] == 2 and told["most_registers"] == {"sm_90": 32}


def test_short_names(compiled):
    name = "void steerlens::for_each_kernel<4, steerlens::(anonymous namespace)::Step<float, (steerlens::Rule)0> >("
    assert compiled.short_name(name + "steerlens::Step, long)") == "for_each_kernel<4, Step<float, Rule 0>>"


@pytest.mark.slow
def test_every_kernel_compiles_without_spills(tmp_path):
    """For sm_80, sm_90 and sm_100, warnings being errors."""
    if not (shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").exists()):
        pytest.skip("no nvcc")
    code, output = script("--only", "compile", "--patience", "20", "--out", str(tmp_path))
    told = json.loads((tmp_path / "compile.json").read_text())
    assert code == 0 and told["count"] > 50 and not told["spilling"] and not told["about"]["warnings"], output
    if told["about"]["nvdisasm"]:
        assert told["wide_kernels_without_16_byte_accesses"] == []


def test_the_readme_tells_what_the_report_says():
    told = json.loads(sorted((ROOT / "bench/results").glob("*-cuda-compile.json"))[-1].read_text())
    assert not told["spilling"] and not told["wide_kernels_without_16_byte_accesses"] and not told["about"]["warnings"]
    assert told["count"] == len(told["kernels"])
    most = told["most_registers"]
    text = " ".join((ROOT / "bench/README.md").read_text().split())
    assert f"nvcc {told['about']['nvcc']} compiles all {told['count']} kernels" in text
    assert f"(at most {most['sm_80']}, {most['sm_90']} and {most['sm_100']} are used)" in text
    assert f"all {told['wide_kernels']} wide variants" in text


SANITIZER = """
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at void steerlens::for_each_kernel<4, X>(T1, long, long)+0x120
=========     by thread (0,0,0) in block (0,0,0)
========= Uninitialized __global__ memory read of size 8 bytes
=========     at vector_fft<1, 2>(kernel_args)+0x20
=========     Host Frame: steerlens_fast/_C.so [0x1]
all work done
========= ERROR SUMMARY: 2 errors
"""


def test_errors_of_ours_and_of_others(module):
    sanitize = module("sanitize")
    assert sanitize.errors_in(SANITIZER) == (1, 1)
    assert sanitize.errors_in("========= COMPUTE-SANITIZER\nall work done\n========= ERROR SUMMARY: 0 errors") == (0, 0)


def test_the_table_says_what_was_not_measured(module):
    about = {"device": "H", "date": "2026-01-01", "torch": "2.11"}
    bench = {
        "status": "ok",
        "seconds": 9.0,
        "kernels": [{"kernel": "pair", "ms": 1.0, "moved_mib": 1.0, "gb_per_s": 700.0, "of_copy": 0.7}],
        "transforms": [
            {"work": "analysis", "shape": "64x3x224x224", "who": "ours", "is": "ours", "ms": 2.0},
            {"work": "analysis", "shape": "64x3x224x224", "who": "peer", "is": "plenoptic 2.1.1", "ms": 14.0},
            {"not_measured": "out of time"},
        ],
    }
    text = "\n".join(module("table").lines({"about": about, "bench": bench}))
    assert "| analysis 64x3x224x224 | 2.000 ms (ours), 7.0x plenoptic 2.1.1 | >= 6x |" in text
    assert "| synthesis 64x3x224x224 | not measured | |" in text
    assert "3 rows, 1 not measured" in text and "700 GB/s, 70 % of a copy | >= 70 %" in text
