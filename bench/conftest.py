"""Benchmarks run with ``pytest bench``; ``bench/run`` does it in both allocator modes and writes the table."""

import torch

torch.set_num_threads(2)


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["torch"] = torch.__version__
    machine_info["threads"] = torch.get_num_threads()
