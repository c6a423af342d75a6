"""Guard the CUDA device code without a GPU: does CUDA 10.2 accept it, and does a Tegra X1 have the registers for it?

    python tools/check_cuda.py            # needs clang++-19; fetches ptxas and headers of CUDA 11.8 from PyPI
    python tools/check_cuda.py --root DIR # a toolkit's folder that is already there

CUDA 10.2's front end takes C++14 and rejects some of what newer ones take; clang with the extensions of later standards
as errors stands in for it, and a search for names that only newer toolkits have. Then each kernel is compiled for sm_53
and assembled: no spills, and registers times threads at most 32,768, which is what a block of that device can have.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent / "src" / "ggml_core"
DEVICE = CORE / "cuda" / "device"
WHEELS = ("nvidia-cuda-nvcc-cu11==11.8.89", "nvidia-cuda-runtime-cu11==11.8.89")
# What clang takes and CUDA 10.2 does not have.
FORBIDDEN = re.compile(
    r"__builtin_assume|__builtin_unreachable|__builtin_assume_aligned|__device__\s+constexpr|constexpr\s+__device__\s+\w+\s+\w+\s*="
    r"|__hmax2|__grid_constant__|cuda_bf16\.h|if\s+constexpr|#include\s*<(?!cuda_fp16\.h)"
)
BLOCK_REGISTERS = 32768
CLANG = ("-x", "cuda", "--cuda-gpu-arch=sm_53", "-std=c++14", "--cuda-device-only", f"-I{CORE}")


def toolkit(folder: Path) -> Path:
    """A toolkit as clang wants it, from the wheels: include, nvvm, bin/ptxas."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *WHEELS], check=True)
    root = folder / "cuda"
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                part = re.fullmatch(r"nvidia/cuda_(?:nvcc|runtime)/((?:include|nvvm|bin)/.*[^/])", name)
                if part is not None:
                    target = root / part[1]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(name))
    (root / "bin" / "ptxas").chmod(0o755)
    (root / "version.txt").write_text("CUDA Version 11.8.89\n")
    (root / "include" / "curand_mtgp32_kernel.h").touch()  # clang includes it; the wheels leave it out
    return root


def forbidden() -> list[str]:
    found = []
    for path in sorted(DEVICE.iterdir()):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if FORBIDDEN.search(line):
                found.append(f"{path.name}:{number}: {line.strip()}")
    return found


def compiles(clang: str, root: Path) -> str:
    """Errors of the front end; empty when there are none."""
    strict = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Werror=c++17-extensions", "-Werror=c++14-extensions"]
    command = [clang, *CLANG, f"--cuda-path={root}", *strict, str(DEVICE / "all.cu")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def assembled(clang: str, root: Path, folder: Path) -> list[tuple[str, int, int]]:
    """Of each kernel its registers and the bytes it spills."""
    ptx, cubin = folder / "all.ptx", folder / "all.cubin"
    subprocess.run(
        [clang, *CLANG, f"--cuda-path={root}", "-O3", "-S", str(DEVICE / "all.cu"), "-o", str(ptx)], check=True
    )
    report = subprocess.run(
        [str(root / "bin" / "ptxas"), "-arch=sm_53", "-v", str(ptx), "-o", str(cubin)],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        report,
        re.DOTALL,
    )
    return [(name, int(registers), int(stores) + int(loads)) for name, stores, loads, registers in found]


def threads_a_block() -> int:
    text = (CORE / "cuda" / "params.h").read_text(encoding="utf-8")
    found = re.search(r"NANO_CUDA_THREADS = (\d+)", text)
    if found is None:
        raise SystemExit("check_cuda: params.h: NANO_CUDA_THREADS is not there")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the CUDA device code without a GPU.")
    parser.add_argument("--root", type=Path, help="a CUDA toolkit (default: fetched from PyPI)")
    parser.add_argument("--clang", default="clang++-19", help="(default %(default)s)")
    args = parser.parse_args()
    problems = forbidden()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = args.root or toolkit(folder)
        errors = compiles(args.clang, root)
        kernels = [] if errors else assembled(args.clang, root, folder)
    problems += [errors] if errors else []
    threads = threads_a_block()
    for kernel, registers, spilled in kernels:
        if spilled > 0:
            problems.append(f"{kernel}: spills {spilled} bytes on sm_53")
        if registers * threads > BLOCK_REGISTERS:
            problems.append(f"{kernel}: {registers} registers x {threads} threads, sm_53 has {BLOCK_REGISTERS} a block")
    if not errors and not kernels:
        problems.append("ptxas reported no kernel")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise SystemExit(1)
    most = max(kernels, key=lambda k: k[1])
    print(f"{len(kernels)} kernels for sm_53: no spills, {most[1]} registers at most ({most[0]})")


if __name__ == "__main__":
    main()
