"""bench/cuda.sh without a GPU: its options, and how its reports are made.

.ci/cuda-dry-run runs its phases.
"""

import ast
import json
import os
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
    """Run bench/cuda.sh and return its exit status and output."""
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


@pytest.fixture
def cuda_bench(monkeypatch):
    """A function that imports a module of bench/cuda."""
    monkeypatch.syspath_prepend(str(ROOT / "bench/cuda"))
    before = set(sys.modules)

    def load(name):
        return __import__(name)

    yield load
    for name in set(sys.modules) - before:
        if str(ROOT / "bench") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


# --- The script


def test_help_names_the_phases_and_unknown_phases_are_an_error():
    code, output = script("--help")
    assert code == 0 and all(phase in output for phase in ("build", "compile", "tests", "sanitize", "bench"))
    code, output = script("--only", "biuld")
    assert code == 2 and "biuld" in output and "sanitize" in output


def test_failed_phase_does_not_stop_the_others(tmp_path):
    """Phases that need a GPU fail without one."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, output = script(
        "--only", "sanitize,bench", "--out", str(tmp_path), CUDA_HOME=str(tmp_path), PATH="/usr/bin:/bin"
    )
    assert code == 1 and "| bench | failed (1)" in output and "| sanitize | " in output


def test_options_of_an_outer_pytest_do_not_reach_the_test_phase(cuda_bench, monkeypatch):
    """The phase "tests" runs pytest with a plugin of its own, which does not work with pytest-xdist."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n 2")
    assert "PYTEST_ADDOPTS" not in cuda_bench("suite").environment(parts=1)


def test_limits_of_the_phases_add_up_to_less_than_nine_minutes():
    text = (ROOT / "bench/cuda/__main__.py").read_text()
    limits = ast.literal_eval(text.partition("PHASES = ")[2].partition("  #")[0])
    assert len(limits) == 5 and sum(limits.values()) < 9 * 60 - 20  # 20 s to spare


# --- The pyramid and the classifier of the benchmarks


def test_eager_pyramid_agrees_with_plenoptic(cuda_bench):
    plenoptic = pytest.importorskip("plenoptic")
    pyramid = cuda_bench("eager_pyramid").EagerPyramid((36, 28), 2, 3)
    theirs = plenoptic.process.SteerablePyramidFreq((36, 28), height=2, order=3, is_complex=True, tight_frame=False)
    x = torch.rand(2, 3, 36, 28)
    ours, expected = pyramid(x), theirs(x)
    assert list(ours) == list(expected)
    for key, band in expected.items():
        # plenoptic interpolates filters in tables of 1024 entries, with errors of up to about 1e-5
        assert (ours[key] - band).abs().max() <= 1e-5 * band.abs().max()
    assert (pyramid.recon_pyr(ours) - x).abs().max() < 3e-6


def test_resnet_has_the_parameters_of_resnet50(cuda_bench):
    model = cuda_bench("classifier").ResNet()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032  # as in He et al.'s ResNet-50
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


# --- Reports

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
def compiled(cuda_bench, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return cuda_bench("compiled")


def test_registers_and_spills_are_parsed(compiled):
    (f, arch, spilled), (g, _, clean) = compiled.resources(PTXAS)
    assert f.endswith("1fILi4EEEvv") and g.endswith("1gILi4EEEvv") and arch == "sm_90"
    assert spilled == {"registers": 48, "stack": 16, "spill_stores": 12, "spill_loads": 8, "static_shared": 64}
    assert clean == {"registers": 32, "stack": 0, "spill_stores": 0, "spill_loads": 0, "static_shared": 0}


def test_kernels_that_spill_or_have_narrow_accesses_are_named(compiled):
    fine = {"registers": 32, "stack": 0, "spill_stores": 0, "spill_loads": 0, "static_shared": 2048, "occupancy": 0.5}
    bits128, bits64, bits32 = {"128": 2, "32": 1}, {"64": 2}, {"32": 2, "64": 1}  # numbers of accesses by width in bits
    # (loads, stores). Narrow accesses: B stores 32 bits, C never accesses 128 bits, D loads only 32 bits.
    accesses = {"A": (bits128, bits64), "B": (bits128, bits32), "C": (bits64, bits64), "D": ({"32": 2}, {"128": 1})}
    rows = [
        {"file": "a.cu", "kernel": f"for_each_kernel<2, {name}>", "sm_90": fine | {"loads": loads, "stores": stores}}
        for name, (loads, stores) in accesses.items()
    ]
    rows += [
        {"file": "a.cu", "kernel": "largest_kernel<2, float>", "sm_90": fine | {"loads": bits128, "stores": {"32": 1}}},
        {"file": "a.cu", "kernel": "for_each_kernel<1, A>", "sm_90": fine | {"loads": bits32, "stores": bits32}},
        {
            "file": "a.cu",
            "kernel": "merge_kernel<float>",
            "sm_90": fine | {"spill_loads": 4, "loads": bits32, "stores": bits32},
        },
        {
            "file": "a.cu",
            "kernel": "f",
            "sm_90": fine | {"static_shared": 2049, "occupancy": 0.4, "loads": bits64, "stores": bits64},
        },
    ]
    report = compiled.verdict(rows)
    assert report["spilling"] == ["merge_kernel<float> sm_90"]
    assert report["much_static_shared"] == report["low_occupancy"] == ["f sm_90"]
    assert report["wide_kernels_with_narrow_accesses"] == [f"for_each_kernel<2, {name}> sm_90" for name in "BCD"]
    assert report["wide_kernels"] == 5 and report["most_registers"] == {"sm_90": 32}


# A multiprocessor has 65,536 registers, in units of 256 for a warp, and 2,048 threads
@pytest.mark.parametrize(
    "registers, threads, share",
    [(64, 512, 0.5), (64, 1024, 0.5), (65, 512, 0.25), (65, 256, 0.375), (32, 256, 1.0), (20, 256, 1.0)],
)
def test_occupancy_is_that_of_whole_blocks(compiled, registers, threads, share):
    assert compiled.occupancy(registers, threads) == share


def test_kernel_names_are_shortened(compiled):
    name = "void steerlens::for_each_kernel<4, steerlens::(anonymous namespace)::Step<float, (steerlens::Rule)0> >("
    assert compiled.short_name(name + "steerlens::Step, long)") == "for_each_kernel<4, Step<float, Rule 0>>"


def test_readme_has_the_figures_of_the_report():
    report = json.loads(sorted((ROOT / "bench/results").glob("*-cuda-compile.json"))[-1].read_text())
    assert (
        not report["spilling"] and not report["wide_kernels_with_narrow_accesses"] and not report["about"]["warnings"]
    )
    assert report["count"] == len(report["kernels"])
    most = report["most_registers"]
    text = " ".join((ROOT / "bench/README.md").read_text().split())
    assert f"nvcc {report['about']['nvcc']} compiles all {report['count']} kernels" in text
    assert f"(at most {most['sm_80']}, {most['sm_90']} and {most['sm_100']} are used)" in text
    assert f"all {report['wide_kernels']} wide variants" in text


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


def test_errors_of_our_kernels_and_of_others_are_counted(cuda_bench):
    sanitize = cuda_bench("sanitize")
    assert sanitize.errors_in(SANITIZER) == (1, 1)  # in steerlens::for_each_kernel, and in cuFFT's vector_fft
    without_namespace = SANITIZER.replace("steerlens::for_each_kernel<4, X>", "merge_rows_kernel<float>")
    assert sanitize.errors_in(without_namespace) == (1, 1)
    assert sanitize.errors_in("========= COMPUTE-SANITIZER\nall work done\n========= ERROR SUMMARY: 0 errors") == (0, 0)


def test_table_names_rows_that_were_not_measured(cuda_bench):
    about = {"device": "H", "date": "2026-01-01", "torch": "2.11"}
    bench = {
        "status": "ok",
        "seconds": 9.0,
        "kernels": [{"kernel": "pair", "ms": 1.0, "moved_mib": 1.0, "gb_per_s": 700.0, "of_copy": 0.7}],
        "transforms": [
            {"work": "analysis", "shape": "64x3x224x224", "who": "ours", "name": "ours", "ms": 2.0},
            {"work": "analysis", "shape": "64x3x224x224", "who": "plenoptic", "name": "plenoptic 2.1.1", "ms": 14.0},
            {"not_measured": "out of time"},
        ],
    }
    text = "\n".join(cuda_bench("table").lines({"about": about, "bench": bench}))
    assert "| analysis 64x3x224x224 | 2.000 ms (ours), 7.0x as fast as plenoptic 2.1.1 | >= 6x |" in text
    assert "| synthesis 64x3x224x224 | not measured | |" in text
    assert "3 rows, 1 not measured" in text and "700 GB/s, 70 % of a copy | >= 70 %" in text
