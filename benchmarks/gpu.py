"""What gpu_check.py and gpu_bench.py share: a package built with CUDA to run them in, the driver's memory copies."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"


def has_devices(python: str) -> bool:
    """Whether the nanollm of this Python finds a device."""
    probe = "from nanollm import _core; raise SystemExit(0 if _core.device_count() else 1)"
    return subprocess.run([python, "-P", "-c", probe], capture_output=True, check=False).returncode == 0


def cmake_options(compiler: str | None) -> list[str]:
    return ["-DNANOLLM_CUDA=ON", *([f"-DNANOLLM_CUDA_COMPILER={compiler}"] if compiler else [])]


def python_with_devices(compiler: str | None, build: Path) -> str:
    """A Python whose nanollm was built with CUDA: this one, or that of an environment made for it under `build`."""
    if has_devices(sys.executable):
        return sys.executable
    python = build / "venv" / "bin" / "python"
    if not python.exists():
        print(f"building the package with CUDA into {python.parents[1]} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    defines = [word for option in cmake_options(compiler) for word in ("-C", f"cmake.define.{option[2:]}")]
    subprocess.run([str(python), "-m", "pip", "install", "-q", *defines, str(ROOT)], check=True)
    if not has_devices(str(python)):
        said = subprocess.run(
            [str(python), "-P", "-m", "nanollm.cli", "info", "--devices"], capture_output=True, text=True
        )
        raise SystemExit(f"nanollm finds no device: {(said.stdout or said.stderr).strip()}")
    return str(python)


def use_driver(path: str | None) -> None:
    """Names a driver for everything that is started from here on."""
    if path:
        os.environ["NANOLLM_CUDA_DRIVER"] = str(Path(path).resolve())


def table(rows: list[list[str]]) -> str:
    """Rows, the first one their heads, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def copy_bandwidth(device: int, seconds: float = 0.5) -> float:
    """Bytes a second that copies within the device's memory move, each byte read and written: the best of several."""
    cuda = ctypes.CDLL(os.environ.get("NANOLLM_CUDA_DRIVER", "libcuda.so.1"))

    def call(name: str, *args: object) -> None:
        result = getattr(cuda, name)(*args)
        if result != 0:
            raise SystemExit(f"{name}: error {result}")

    context, a, b, stream = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxPushCurrent_v2", context)
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    n = min(512 << 20, free.value // 8)
    call("cuStreamCreate", ctypes.byref(stream), 1)
    call("cuMemAlloc_v2", ctypes.byref(a), ctypes.c_size_t(n))
    call("cuMemAlloc_v2", ctypes.byref(b), ctypes.c_size_t(n))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(8):
            call("cuMemcpyDtoDAsync_v2", b, a, ctypes.c_size_t(n), stream)
        call("cuStreamSynchronize", stream)
        best = max(best, 8 * 2 * n / (time.perf_counter() - start))
    call("cuMemFree_v2", a)
    call("cuMemFree_v2", b)
    call("cuStreamDestroy_v2", stream)
    call("cuCtxPopCurrent_v2", ctypes.byref(context))
    call("cuDevicePrimaryCtxRelease_v2", device)
    return best


def capability(number: int) -> str:
    """61 as it is written: 6.1."""
    return f"{number // 10}.{number % 10}"


def emit_json(values: object) -> None:
    print(json.dumps(values, indent=2))
