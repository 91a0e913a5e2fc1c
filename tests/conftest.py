"""Fixtures for all tests."""

import sys

import emulation
import pytest
import torch

EMULATION_KIND = emulation.requested_kind()
if EMULATION_KIND:
    emulation.use_default_cpu_capability()

import steerlens_fast  # noqa: E402
from steerlens_fast import memory  # noqa: E402

collect_ignore = [] if EMULATION_KIND else ["emulation"]
HAS_CUDA = torch.cuda.is_available() and steerlens_fast.build_info()["cuda"]
# Why tests on cuda are skipped, if HAS_CUDA is False
SKIP_REASON = "no GPU" if not torch.cuda.is_available() else "steerlens_fast was built without CUDA kernels"


def pytest_configure(config):
    if EMULATION_KIND:
        # The kernels are replaced as long as this object exists
        config.stash[pytest.StashKey()] = emulation.install(EMULATION_KIND)


def pytest_report_header(config):
    return "the CPU's kernels are emulated CUDA kernels (tests/emulation)" if EMULATION_KIND else None


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request) -> torch.device:
    """Every device for which the ops have kernels.

    Tests on cuda are skipped without a GPU or without CUDA kernels.
    """
    if request.param == "cuda" and not HAS_CUDA:
        pytest.skip(f"cuda: {SKIP_REASON}")
    return torch.device(request.param)


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU, for tests that need one; mark them ``cuda``."""
    if not HAS_CUDA:
        pytest.skip(f"cuda: {SKIP_REASON}")
    return torch.device("cuda", 0)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request) -> torch.dtype:
    """Float32, then float64; a ``parametrize`` mark replaces this choice."""
    return request.param


@pytest.fixture(autouse=True)
def seeded():
    """Set the seed, so that a test does not depend on earlier tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_earlier_compilations():
    """Discard what earlier tests compiled: after too many recompilations, torch runs a function uncompiled."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@pytest.fixture
def small_chunks(monkeypatch):
    """A function that sets all values of ``memory.CHUNK_BYTES`` to ``size``. With ``size`` 1, each plane is a chunk."""

    def apply(size=1):
        for kind in memory.CHUNK_BYTES:
            monkeypatch.setitem(memory.CHUNK_BYTES, kind, size)

    return apply
