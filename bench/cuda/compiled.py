"""The phase "compile" of bench/cuda.sh: what the compiler says about each kernel.

Needs nvcc, but no GPU. Registers, stack and spills are those that ptxas reports. Occupancy is the share of a
multiprocessor's threads that can run at the same time, as far as registers and the size of blocks limit it; dynamic
shared memory may lower it. Widths of memory accesses are read from the machine code by nvdisasm (of the toolkit, on
PATH, or of triton); without nvdisasm they are not measured.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

from common import ROOT, not_measured, phase_arguments, write_result

sys.path.insert(0, str(ROOT))
import setup  # noqa: E402  (setup.py defines the compiler's flags)

ARCHS = "8.0;9.0;10.0"
ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(sm_\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.* (\d+) bytes smem)?")
MAX_STATIC_BYTES = 2048  # shared memory; kMaxStaticBytes in csrc/cuda/launch.h
# What a multiprocessor of sm_80, sm_90 and sm_100 has
REGISTERS, THREADS = 64 << 10, 2048
GOOD_OCCUPANCY = 0.5
BLOCK_SIZE = re.compile(r"\.entry (\w+)[^{]*\.maxntid (\d+)")  # in PTX
ACCESS = re.compile(r"\b(LDG|STG)\.E(?:\.\w+)*")
REDUCTIONS = ("largest_kernel",)  # kernels that write one value for each block; only their loads are checked


def main() -> None:
    args = phase_arguments(__doc__)
    toolkit = setup.find_toolkit()
    if toolkit is None:
        write_result(args.out, "compile", not_measured("nvcc not found"))
        return
    home, release = toolkit
    setup.clean_nvcc_flags()
    archs = ARCHS if release >= "12.8" else "8.0;9.0"
    work = args.out / "compile"
    logs = compile_all(f"{home}/bin/nvcc", archs, work)
    (args.out / "compile.log").write_text("\n".join(logs.values()))
    kernels = report(logs, work)
    about = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "nvcc": version_of(f"{home}/bin/nvcc"),
        "torch_headers": setup.torch.__version__,
        "archs": archs.split(";"),
    }
    tool = disassembler()
    about["nvdisasm"] = version_of(tool) if tool else None
    about["warnings"] = sum(len(re.findall(r"\bwarning\b", log, re.IGNORECASE)) for log in logs.values())
    shutil.rmtree(work)
    write_result(args.out, "compile", {"about": about, **verdict(kernels), "kernels": kernels})


def compile_all(nvcc: str, archs: str, work: Path) -> dict[str, str]:
    """Compile every .cu file as setup.py does, with warnings as errors.

    Return the output of nvcc by file.
    """
    macros = [f"-D{name}={value}" for name, value in setup.MACROS + setup.CUDA_MACROS]
    warnings = ["-Werror=all-warnings", "-Xcompiler=-Werror,-fPIC"]
    flags = [*setup.nvcc_flags(archs, device="cpu"), "-Xptxas=-v", *warnings]  # -v prints registers and spills

    def compile_one(source: Path) -> tuple[str, str]:
        folder = work / source.stem
        folder.mkdir(parents=True, exist_ok=True)
        place = ["--keep", f"--keep-dir={folder}", f"-I{ROOT}/csrc", "-c", str(source), "-o", str(folder / "out.o")]
        done = subprocess.run(
            [nvcc, *macros, *flags, *place], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{source.name} does not compile:\n{done.stdout}")
        return source.stem, done.stdout

    with ThreadPoolExecutor(setup.max_jobs() or os.cpu_count() or 1) as pool:
        return dict(pool.map(compile_one, sorted((ROOT / "csrc/cuda").glob("**/*.cu"))))


def report(logs: dict[str, str], work: Path) -> list[dict]:
    """Return one row for each kernel.

    It has the kernel's file and name, and the numbers for each architecture.
    """
    rows: dict[str, dict] = {}
    for stem, log in logs.items():
        accesses = {arch: counts for cubin in (work / stem).glob("*.cubin") for arch, counts in accesses_in(cubin)}
        threads = {}
        for ptx in (work / stem).glob("*.ptx"):
            threads |= {name: int(number) for name, number in BLOCK_SIZE.findall(ptx.read_text())}
        for mangled, arch, facts in resources(log):
            row = rows.setdefault(mangled, {"file": f"{stem}.cu", "kernel": mangled})
            facts["occupancy"] = occupancy(facts["registers"], threads[mangled])
            row[arch] = facts | accesses.get(arch, {}).get(mangled, {})
    names = demangled(list(rows))
    for mangled, row in rows.items():
        row["kernel"] = short_name(names[mangled])
    return sorted(rows.values(), key=lambda row: (row["file"], row["kernel"]))


def resources(log: str) -> list[tuple[str, str, dict]]:
    """Return (mangled name, architecture, numbers) of each kernel, from the output of ptxas -v."""
    rows = []
    for part in re.split(r"(?=ptxas info\s+: Compiling entry function)", log)[1:]:
        name, arch = ENTRY.search(part).groups()
        stack, stores, loads = map(int, SPILLS.search(part).groups())
        registers, static = (int(number or 0) for number in USED.search(part).groups())
        facts = {"registers": registers, "stack": stack, "spill_stores": stores, "spill_loads": loads}
        facts["static_shared"] = static
        rows.append((name, arch, facts))
    return rows


def occupancy(registers: int, threads: int) -> float:
    """Return the share of a multiprocessor's threads that can run at the same time, in blocks of so many threads.

    The number of registers of a warp is rounded up to a multiple of 256.
    """
    warps = -(-threads // 32)
    blocks = min(REGISTERS // (warps * -(-registers * 32 // 256) * 256), THREADS // (warps * 32))
    return blocks * warps * 32 / THREADS


def accesses_in(cubin: Path) -> list[tuple[str, dict]]:
    """Return the numbers of loads and stores by width.

    The result is [(architecture, {mangled name: numbers})], or [] without nvdisasm.
    """
    tool = disassembler()
    if not tool:
        return []
    text = subprocess.run([tool, "-c", str(cubin)], stdout=subprocess.PIPE, text=True, check=True).stdout
    arch = re.search(r"\.target\s+(sm_\w+)", text)[1]
    counts = {}
    for part in re.split(r"(?=\.section\s+\.text\.)", text)[1:]:
        name = re.match(r"\.section\s+\.text\.([\w$]+)", part)[1]
        widths = {"LDG": Counter(), "STG": Counter()}
        for access in ACCESS.finditer(part):
            width = next((w for w in access[0].split(".") if w in ("64", "128", "256", "U8", "U16")), "32")
            widths[access[1]][width] += 1
        counts[name] = {"loads": dict(sorted(widths["LDG"].items())), "stores": dict(sorted(widths["STG"].items()))}
    return [(arch, counts)]


def verdict(kernels: list[dict]) -> dict:
    """Return the kernels with problems.

    These are kernels that spill, wide kernels with narrow accesses, kernels with more static shared memory than the
    emulation assumes, and kernels whose registers allow only a low occupancy. The result also has the largest
    number of registers for each architecture.
    """
    archs = lambda row: {arch: facts for arch, facts in row.items() if arch.startswith("sm_")}
    each = [(row["kernel"], arch, facts) for row in kernels for arch, facts in archs(row).items()]
    spilling = sorted({f"{name} {arch}" for name, arch, facts in each if facts["spill_stores"] or facts["spill_loads"]})
    static = sorted({f"{name} {arch}" for name, arch, facts in each if facts["static_shared"] > MAX_STATIC_BYTES})
    low = sorted(f"{name} {arch}" for name, arch, facts in each if facts["occupancy"] < GOOD_OCCUPANCY)
    wide = [(n, arch, facts) for n, arch, facts in each if is_wide(n) and "loads" in facts]
    narrow = sorted({f"{n} {arch}" for n, arch, facts in wide if has_narrow_accesses(n, facts)})
    most = {
        arch: max(facts["registers"] for _, a, facts in each if a == arch) for arch in sorted({a for _, a, _ in each})
    }
    known = any("loads" in facts for _, _, facts in each)
    return {
        "count": len(kernels),
        "most_registers": most,
        "spilling": spilling,
        "much_static_shared": static,
        "low_occupancy": low,
        "wide_kernels": len({n for n, _, _ in wide}),
        "wide_kernels_with_narrow_accesses": narrow if known else "not measured: no nvdisasm",
    }


def is_wide(kernel: str) -> bool:
    """Return whether a thread accesses several coefficients at a time: for_each_kernel<2, ...>."""
    count = re.match(r"\w+<(\d+),", kernel)
    return bool(count) and int(count[1]) > 1


def has_narrow_accesses(kernel: str, facts: dict) -> bool:
    """Return whether a wide kernel accesses too few bits at a time.

    Complex numbers should be accessed 128 bits at a time, real ones 64 bits.

    Loads of 32 bits are allowed: ``extrapolate`` loads the factors of its frames one by one.
    """
    loads, stores = facts["loads"], facts["stores"]
    if kernel.startswith(REDUCTIONS):
        return "128" not in loads
    return "128" not in {*loads, *stores} or not {"64", "128"} & set(loads) or "32" in stores


def demangled(names: list[str]) -> dict[str, str]:
    tool = shutil.which("c++filt")
    if not tool or not names:
        return {name: name for name in names}
    text = subprocess.run([tool], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(zip(names, text.splitlines()))


def short_name(name: str) -> str:
    """Return f<4, X<float>> for void steerlens::(anonymous namespace)::f<4, steerlens::X<float> >(args)."""
    name = re.sub(r"steerlens::|\(anonymous namespace\)::|^void ", "", name)
    name = re.sub(r"\((Rule)\)(\d)", r"\1 \2", name).replace("> >", ">>").replace("> >", ">>")
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and not depth:
            return name[:i]
    return name


def disassembler() -> str | None:
    """Return the path of nvdisasm, in the toolkit, on PATH or in triton.

    The result is None if it is not found.
    """
    toolkit, triton = setup.find_toolkit(), find_spec("triton")
    places = [f"{toolkit[0]}/bin"] if toolkit else []
    places += [f"{Path(triton.origin).parent}/backends/nvidia/bin"] if triton and triton.origin else []
    return shutil.which("nvdisasm", path=os.pathsep.join([*places, os.environ.get("PATH", "")]))


def version_of(tool: str) -> str:
    text = subprocess.run([tool, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout
    return (re.search(r"V(\d[\w.]+)", text) or re.search(r"release (\d[\w.]+)", text) or ["", text.strip()])[1]


if __name__ == "__main__":
    main()
