"""Compile the device code for several targets and write it, compressed, as a C file.

    python build_images.py --out images.c [--nvcc NVCC | --clang CLANG++ --cuda-root ROOT] [--target sm_53 ...]

With nvcc (10.2 or newer) each target it knows becomes a cubin, and the newest PTX for devices to come. With clang the
toolkit's folder (include/cuda_fp16.h, nvvm/libdevice, bin/ptxas) is needed. --emulated writes a name instead of code,
for the tests' driver, which brings its own kernels; --none an empty table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent
SOURCE = CORE / "cuda" / "device" / "all.cu"
# sm_53: Tegra X1, pairs of halves. sm_61: dp4a. sm_75 and sm_80: matrix units.
TARGETS = ("sm_53", "sm_61", "sm_75", "sm_80")
# Text for devices that no cubin fits: of the oldest target, in the PTX of CUDA 10.2's driver, and of the newest.
PTX_OF_OLD_DRIVERS = "ptx63"
# A compiler that says anything has failed: for this project's own checks.
STRICT = os.environ.get("NANOLLM_CUDA_STRICT") == "1"


@dataclass(frozen=True)
class Image:
    """Code for devices of compute capability `arch` (53); a cubin runs on its major version alone, PTX on all above."""

    arch: int
    is_ptx: bool
    data: bytes

    @property
    def name(self) -> str:
        return f"{'compute' if self.is_ptx else 'sm'}_{self.arch}"


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (result.stdout + result.stderr).strip()
    if said:
        print(" ".join(command), said, sep="\n", file=sys.stderr)
    if result.returncode != 0 or (said and STRICT):
        raise SystemExit(f"build_images: {command[0]} ended with {result.returncode}")


def nvcc_targets(nvcc: str) -> list[str]:
    """Of TARGETS those that this nvcc compiles for. CUDA 10.2's cannot list them: it knows all up to sm_75."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return [t for t in TARGETS if int(t[3:]) <= 75]
    known = set(listed.stdout.split())
    return [t for t in TARGETS if t.replace("sm", "compute") in known]


def with_nvcc(nvcc: str, targets: list[str], folder: Path) -> list[Image]:
    targets = targets or nvcc_targets(nvcc)
    common = [nvcc, "-std=c++14", "-O3", f"-I{CORE}"]
    images = []
    for target in targets:
        out = folder / f"{target}.cubin"
        run([*common, "-cubin", f"-arch={target}", str(SOURCE), "-o", str(out)])
        images.append(Image(int(target[3:]), False, out.read_bytes()))
    for target in {targets[0], targets[-1]}:
        out = folder / f"{target}.ptx"
        run([*common, "-ptx", f"-arch={target.replace('sm', 'compute')}", str(SOURCE), "-o", str(out)])
        images.append(Image(int(target[3:]), True, out.read_bytes() + b"\0"))
    return images


def with_clang(clang: str, root: Path, targets: list[str], folder: Path) -> list[Image]:
    targets = targets or list(TARGETS)
    common = [clang, "-x", "cuda", f"--cuda-path={root}", "-std=c++14", "--cuda-device-only", "-O3", f"-I{CORE}", "-S"]
    images = []
    for target in targets:
        ptx, cubin = folder / f"{target}.ptx", folder / f"{target}.cubin"
        run([*common, f"--cuda-gpu-arch={target}", str(SOURCE), "-o", str(ptx)])
        run([str(root / "bin" / "ptxas"), f"-arch={target}", str(ptx), "-o", str(cubin)])
        images.append(Image(int(target[3:]), False, cubin.read_bytes()))
        if target == targets[-1]:
            images.append(Image(int(target[3:]), True, ptx.read_bytes() + b"\0"))
    if len(targets) > 1:
        ptx = folder / "old.ptx"
        old = [f"--cuda-gpu-arch={targets[0]}", f"--cuda-feature=+{PTX_OF_OLD_DRIVERS}"]
        run([*common, *old, str(SOURCE), "-o", str(ptx)])
        images.append(Image(int(targets[0][3:]), True, ptx.read_bytes() + b"\0"))
    return images


def compressed(data: bytes) -> bytes:
    c = zlib.compressobj(9, wbits=-15)
    return c.compress(data) + c.flush()


def as_c(images: list[Image]) -> str:
    lines = ['/* Made by build_images.py. */\n#include "cuda/images.h"\n']
    for image in images:
        data = compressed(image.data)
        rows = [",".join(map(str, data[i : i + 32])) for i in range(0, len(data), 32)]
        lines.append(f"static const uint8_t {image.name}[] = {{\n" + ",\n".join(rows) + "};\n")
    lines.append("const nano_cuda_image nano_cuda_images[] = {")
    for image in images:
        ptx = "true" if image.is_ptx else "false"
        lines.append(
            f'    {{"{image.name}", {image.arch}, {ptx}, {image.name}, sizeof {image.name}, {len(image.data)}u}},'
        )
    lines.append("    {NULL, 0, false, NULL, 0, 0}};\n")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the CUDA device code into a C file.")
    parser.add_argument("--out", type=Path, required=True, help="the C file")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--nvcc", help="CUDA's compiler")
    how.add_argument("--clang", help="clang++, with --cuda-root")
    how.add_argument("--emulated", action="store_true", help="no compiler: what the tests' driver takes")
    how.add_argument("--none", action="store_true", help="no compiler: no images")
    parser.add_argument("--cuda-root", type=Path, help="a CUDA toolkit for clang")
    parser.add_argument(
        "--target", action="append", default=[], help="sm_53 and so on; repeatable (default: all known)"
    )
    args = parser.parse_args()
    if args.clang and args.cuda_root is None:
        parser.error("--clang needs --cuda-root")
    with tempfile.TemporaryDirectory() as folder:
        if args.none:
            images = []
        elif args.emulated:
            images = [Image(50, True, b"// emulated\0")]
        elif args.nvcc:
            images = with_nvcc(args.nvcc, args.target, Path(folder))
        else:
            images = with_clang(args.clang, args.cuda_root, args.target, Path(folder))
    text = as_c(images)
    if not args.out.exists() or args.out.read_text(encoding="ascii") != text:
        args.out.write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
