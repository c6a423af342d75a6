"""The speed of layers on a GPU: decoding, and which part of the memory's bandwidth that is; prompts, and how many
operations a second those are; llama.cpp's CUDA build beside it where llama_cpp is one (the `benchmark` extra).

    python benchmarks/gpu_bench.py                          1B and 3B shapes in Q8_0, Q4_0, Q4_K_M, F16
    python benchmarks/gpu_bench.py --peak 989               with the card's matrix rate in TFLOP/s: the part reached
    python benchmarks/gpu_bench.py --quick --driver LIB     tiny, on another driver: the emulated one, without a GPU

The bandwidth is that of copies within the device's memory, measured here, each byte read and written. A token reads all
of the device's weights and, on average, half of the KV cache. Files of random weights are written one at a time. Where
the Python at hand has no nanollm that finds a device, one is built into build/gpu, as gpu_check.py does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gpu

SHAPES = ("llama-3.2-1b", "llama-3.2-3b")
TYPES = ("Q8_0", "Q4_0", "Q4_K_M", "F16")
N_DECODED = 128


@dataclass
class Row:
    """One file. Speeds in tokens a second."""

    shape: str
    type: str
    weights: int
    """Bytes of the device's weights: what a token reads, its KV cache aside."""
    decode: float
    bandwidth: float
    """Bytes a second that decoding reads."""
    fraction: float
    """Of what copies reach."""
    prompts: dict[int, float]
    """By their length."""
    flops: dict[int, float]
    """Operations a second of the matrices alone, two a weight and token."""
    llama_decode: float | None = None
    llama_prompts: dict[int, float] | None = None


def median_of(run: Callable[[], object], n: int) -> float:
    """Seconds of the middle one of n runs; one more before them is not counted."""
    times = []
    for _ in range(n + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure(shape: str, kind: str, path: str, args: argparse.Namespace, copies: float) -> Row:
    import make_model

    from nanollm import _core
    from nanollm.cli.bench import ModelFile, Runner, Workload

    file = ModelFile(path)
    limits = replace(_core.limits_default(), n_gpu_layers=make_model.SHAPES[shape].n_layer, device=args.device)

    def speed(test: Workload, runs: int) -> tuple[float, Runner]:
        runner = Runner(file, limits, test)
        try:
            return (test.n_prompt + test.n_gen) / median_of(runner.run, runs), runner
        finally:
            runner.close()

    decode, runner = speed(Workload(0, args.n_decoded), args.runs)
    weights = runner.memory.device_weights
    read = decode * (weights + runner.memory.device_cache / 2)
    prompts = {n: speed(Workload(n, 0), args.runs)[0] for n in args.prompts}
    # Embeddings are looked up, but for a tied matrix, which is the output's, too; logits are wanted once.
    matrices = sum(t.shape[0] * t.shape[1] for t in file.tensors if len(t.shape) == 2 and t.name.startswith("blk."))
    flops = {n: 2 * matrices * tokens for n, tokens in prompts.items()}
    return Row(shape, kind, weights, decode, read, read / copies, prompts, flops)


def measure_llama(row: Row, path: str, args: argparse.Namespace) -> None:
    """The same with llama.cpp, where its build can use a GPU."""
    try:
        import llama_cpp
    except ImportError:
        return
    if not llama_cpp.llama_supports_gpu_offload():
        return
    n_ctx = max(*args.prompts, args.n_decoded)
    model = llama_cpp.Llama(
        path, n_ctx=n_ctx, n_batch=512, n_gpu_layers=-1, main_gpu=args.device, flash_attn=True, verbose=False
    )

    def decode() -> None:
        model.reset()
        for i in range(args.n_decoded):
            model.eval([1 + i])

    def prompt(n: int) -> Callable[[], None]:
        def run() -> None:
            model.reset()
            model.eval(list(range(1, n + 1)))

        return run

    row.llama_decode = args.n_decoded / median_of(decode, args.runs)
    row.llama_prompts = {n: n / median_of(prompt(n), args.runs) for n in args.prompts}
    model.close()


def write_model(shape: str, kind: str, path: str) -> None:
    import make_model

    if kind in ("F16", "F32"):
        make_model.write(shape, path, lambda tensor: kind, make_model.FILE_TYPES.get(kind))
        return
    number = make_model.FILE_TYPES[kind]
    types = make_model.recipe(shape, number)
    make_model.write(shape, path, lambda tensor: types[tensor], number)


def measure_all(args: argparse.Namespace) -> int:
    from nanollm import _core

    device = _core.device(args.device)
    copies = gpu.copy_bandwidth(args.device)
    rows = []
    for shape in args.shapes:
        for kind in args.types:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                path = str(Path(folder) / "model.gguf")
                print(f"{shape} {kind} …", file=sys.stderr)
                write_model(shape, kind, path)
                row = measure(shape, kind, path, args, copies)
                measure_llama(row, path, args)
                rows.append(row)
    if args.json:
        gpu.emit_json(
            {"device": asdict(device), "copies": copies, "peak": args.peak, "rows": [asdict(r) for r in rows]}
        )
    else:
        version = gpu.capability(device.compute_capability)
        print(f"{device.name}, compute capability {version}, device code {device.image}")
        print(f"copies move {copies / 1e9:.1f} GB/s\n")
        print(text_of(rows, args))
    return 0


def text_of(rows: list[Row], args: argparse.Namespace) -> str:
    lines = [["model", "GB", "decode t/s", "GB/s", "of copies", *(f"pp{n} t/s" for n in args.prompts)]]
    lines[0] += [f"pp{n} TFLOP/s" for n in args.prompts]
    lines[0] += ["of peak"] if args.peak else []
    lines[0] += ["llama.cpp decode", *(f"llama.cpp pp{n}" for n in args.prompts)]
    for r in rows:
        line = [f"{r.shape} {r.type}", f"{r.weights / 1e9:.2f}", f"{r.decode:.1f}", f"{r.bandwidth / 1e9:.1f}"]
        line += [f"{r.fraction:.0%}", *(f"{r.prompts[n]:.0f}" for n in args.prompts)]
        line += [f"{r.flops[n] / 1e12:.2f}" for n in args.prompts]
        line += [f"{max(r.flops.values()) / (1e12 * args.peak):.0%}"] if args.peak else []
        line += ["-" if r.llama_decode is None else f"{r.llama_decode:.1f}"]
        line += ["-" if r.llama_prompts is None else f"{r.llama_prompts[n]:.0f}" for n in args.prompts]
        lines.append(line)
    return gpu.table(lines)


def main() -> int:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--driver", metavar="LIB", help="another libcuda")
    p.add_argument("--compiler", metavar="NVCC", help="default: the nvcc there is; emulated with an emulated driver")
    p.add_argument("--device", type=int, default=0, metavar="N")
    p.add_argument("--build", type=Path, default=gpu.BUILD, metavar="DIR", help="where to build (default: build/gpu)")
    p.add_argument("--shapes", nargs="+", default=list(SHAPES), metavar="SHAPE", help="of make_model.py")
    p.add_argument("--types", nargs="+", default=list(TYPES), metavar="TYPE", help="file types")
    p.add_argument("--prompts", nargs="+", type=int, default=[512, 4096], metavar="N")
    p.add_argument("--n-decoded", type=int, default=N_DECODED, metavar="N")
    p.add_argument("--runs", type=int, default=3, metavar="N")
    p.add_argument("--peak", type=float, metavar="TFLOPS", help="the card's dense matrix rate")
    p.add_argument("--folder", metavar="DIR", help="where the files are written, one at a time, up to 6.5 GB")
    p.add_argument("--quick", action="store_true", help="tiny models, few tokens")
    p.add_argument("--json", action="store_true", help="everything as JSON")
    args = p.parse_args()
    gpu.use_driver(args.driver)
    if args.quick:
        args.shapes, args.types, args.prompts, args.n_decoded, args.runs = ["llama-tiny"], ["Q8_0", "F16"], [4, 8], 3, 1
    emulated = "emulated" if "emulated" in os.environ.get("NANOLLM_CUDA_DRIVER", "") else None
    python = gpu.python_with_devices(args.compiler or emulated, args.build)
    if python != sys.executable:
        return subprocess.run([python, *sys.argv], check=False).returncode
    return measure_all(args)


if __name__ == "__main__":
    sys.exit(main())
