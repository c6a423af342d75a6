"""Speed of nanollm, of its deterministic mode and of llama.cpp on the same files, beside the limits of the machine.

Measures the machine first (limits.c, compiled on the spot: bandwidth of reading, peak rates of arithmetic). Then, file
by file and test by test, every round runs all programs one after the other, so that a drifting machine hits them all;
an unmeasured run comes first. llama.cpp runs in this process through llama-cpp-python (the `benchmark` extra), flash
attention on. nanollm runs what `nanollm bench` runs. Prints a Markdown table of

  t/s        tokens a second, medians of the rounds
  det.       deterministic mode's speed as a share of ours: what the same bits for every batch size cost
  ratio      ours over llama.cpp's, the median of the rounds' ratios
  of limit   decoding: bytes of weights and KV cache touched a token x t/s / bandwidth; prompts: multiply-adds a token x
             t/s / peak rate (int8 for quantised files, f32 for the others, bf16 tiles on level amx), for us and for
             llama.cpp

    python benchmarks/compare.py 1b-q8_0.gguf 1b-q4_0.gguf -t 2 -p 512 -n 64
    python benchmarks/compare.py 1b-q8_0.gguf -t 2 -p 512 -n 32 -d 4096 --json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from nanollm import _core
from nanollm.cli.bench import ModelFile, Runner, Workload
from nanollm.cli.options import CACHE_TYPES, int_in

ROOT = Path(__file__).parent


class Program(Protocol):
    """What is timed: nanollm.cli.bench.Runner, or its like."""

    def fill(self) -> None: ...
    def warm_up(self) -> None: ...
    def run(self) -> int: ...
    def close(self) -> None: ...


class Llama:
    """llama.cpp running a workload."""

    def __init__(self, file: ModelFile, test: Workload, threads: int, cache: str, n_batch: int) -> None:
        import llama_cpp

        kind = getattr(llama_cpp, f"GGML_TYPE_{cache.upper()}")
        self._synchronize = llama_cpp.llama_synchronize
        self._model = llama_cpp.Llama(
            file.path,
            n_ctx=test.n_ctx + 8,
            n_threads=threads,
            n_threads_batch=threads,
            n_batch=n_batch,
            n_ubatch=n_batch,
            flash_attn=True,
            type_k=kind,
            type_v=kind,
            verbose=False,
        )
        self._test = test
        self._ids = file.ids(test.n_ctx).tolist()

    def fill(self) -> None:
        self._eval(0, self._test.n_depth)

    def warm_up(self) -> None:
        self._eval(self._test.n_depth, self._test.n_prompt or 1)

    def run(self) -> int:
        test = self._test
        start = time.perf_counter_ns()
        self._eval(test.n_depth, test.n_prompt)
        for at in range(test.n_depth + test.n_prompt, test.n_ctx):
            self._eval(at, 1)
        return time.perf_counter_ns() - start

    def close(self) -> None:
        self._model.close()

    def _eval(self, start: int, n: int) -> None:
        self._model.n_tokens = start  # eval forgets what lies behind
        if n:
            self._model.eval(self._ids[start : start + n])
            self._synchronize(self._model.ctx)


@dataclass(frozen=True)
class Cost:
    """What one token takes at least: bytes to read when it is decoded, operations when it is one of a prompt's."""

    n_bytes: float
    n_operations: float


def cost(file: ModelFile, runner: Runner) -> Cost:
    """From the file's matrices, the cache's bytes and the attention of the middle token of the test."""
    test, limits = runner.test, runner.limits
    meta, name = file.metadata, file.metadata["general.architecture"]
    matrices = {t.name: t for t in file.tensors if len(t.shape) > 1 and t.name != "position_embd.weight"}
    output = "output.weight" if "output.weight" in matrices else "token_embd.weight"
    passed_on = {key for key in matrices if key not in ("token_embd.weight", "output.weight")}
    n_past = test.n_depth + (test.n_prompt + test.n_gen) / 2
    n_bytes = sum(matrices[key].n_bytes for key in passed_on | {output})
    n_bytes += runner.memory.cache * n_past / limits.n_ctx
    n_macs = sum(math.prod(matrices[key].shape) for key in passed_on)
    head_dim = meta.get(f"{name}.attention.key_length") or (
        meta[f"{name}.embedding_length"] // meta[f"{name}.attention.head_count"]
    )
    n_macs += 2 * meta[f"{name}.block_count"] * meta[f"{name}.attention.head_count"] * head_dim * n_past
    return Cost(n_bytes, 2 * n_macs)


def measured_limits(threads: int) -> dict[str, Any]:
    """What limits.c says of `threads` threads."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "limits")
        command = [os.environ.get("CC", "cc"), "-O3", "-march=native", "-pthread", str(ROOT / "limits.c")]
        subprocess.run([*command, "-o", program], check=True)
        done = subprocess.run([program, str(threads)], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout)["limits"][-1])


def bound_of(file: ModelFile) -> str:
    """The limit that bounds this file's prompts."""
    is_float = file.main_type in ("F32", "F16", "BF16")
    return "amx_bf16_gflop_s" if _core.cpu_level() == "amx" else "f32_gflop_s" if is_float else "int8_gop_s"


def rounds(programs: dict[str, Program], n: int) -> dict[str, list[int]]:
    """Nanoseconds of each program's runs, in turn."""
    times: dict[str, list[int]] = {name: [] for name in programs}
    for program in programs.values():
        program.fill()
        program.warm_up()
    for _ in range(n):
        for name, program in programs.items():
            times[name].append(program.run())
    return times


def compare(path: str, test: Workload, args: argparse.Namespace, limits: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    file = ModelFile(path)
    kind = args.cache_type.upper()
    wanted = replace(_core.limits_default(), n_threads=args.threads, n_batch=args.batch_size, type_k=kind, type_v=kind)
    ours = Runner(file, wanted, test)
    programs: dict[str, Program] = {"nanollm": ours}
    if not args.default_only:
        programs["deterministic"] = Runner(file, replace(wanted, deterministic=True), test)
    if not args.alone:
        programs["llama.cpp"] = Llama(file, test, args.threads, args.cache_type, args.batch_size)
    times = rounds(programs, args.rounds)
    for program in programs.values():
        program.close()
    n_tokens = test.n_prompt + test.n_gen
    row: dict[str, Any] = {"file": path, "model": file.type, "test": str(test)}
    least = cost(file, ours)
    row["bound"] = bound = bound_of(file) if test.n_prompt else "read_gb_s"
    row["needs"] = needs = least.n_operations if test.n_prompt else least.n_bytes
    for program, samples in times.items():
        row[f"{program} t/s"] = speed = 1e9 * n_tokens / statistics.median(samples)
        if bound in limits:
            row[f"{program} of limit"] = needs * speed / (1e9 * limits[bound])
    if "deterministic" in times:
        row["deterministic share"] = ratio(times["nanollm"], times["deterministic"])
    if "llama.cpp" in times:
        row["ratio to llama.cpp"] = ratio(times["llama.cpp"], times["nanollm"])
    return row


def ratio(times: list[int], others: list[int]) -> float:
    """How many times as long one takes as the other: the median of the rounds."""
    return statistics.median(one / other for one, other in zip(times, others, strict=True))


def cpu_name() -> str:
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""

    def text(row: dict[str, Any], key: str, form: str) -> str:
        return format(row[key], form) if key in row else "–"

    lines = [
        "| model | test | t/s | det. | llama.cpp | ratio | of limit | llama.cpp |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            str(row["model"]),
            str(row["test"]),
            text(row, "nanollm t/s", ".1f"),
            text(row, "deterministic share", ".2f"),
            text(row, "llama.cpp t/s", ".1f"),
            text(row, "ratio to llama.cpp", ".2f"),
            text(row, "nanollm of limit", ".0%"),
            text(row, "llama.cpp of limit", ".0%"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", help="GGUF files, as make_model.py writes")
    p.add_argument("-p", "--prompt", type=int_in(0), default=512, help="tokens of a prompt, 0: none (%(default)s)")
    p.add_argument("-n", "--generate", type=int_in(0), default=64, help="tokens decoded, 0: none (%(default)s)")
    p.add_argument("-d", "--depth", type=int_in(0), nargs="+", default=[0], help="tokens before a test (default 0)")
    p.add_argument("-b", "--batch-size", type=int_in(1), default=512, help="(default %(default)s)")
    p.add_argument("-ct", "--cache-type", choices=CACHE_TYPES, default="f16", help="(default %(default)s)")
    p.add_argument("-r", "--rounds", type=int_in(1), default=3, help="counted rounds (default %(default)s)")
    p.add_argument("-t", "--threads", type=int_in(0), default=0, help="0: nanollm's default")
    p.add_argument("--alone", action="store_true", help="without llama.cpp")
    p.add_argument("--default-only", action="store_true", help="without deterministic mode")
    p.add_argument("--no-limits", action="store_true", help="do not measure the machine")
    p.add_argument("--json", action="store_true", help="one JSON object")
    args = p.parse_args()
    if not args.alone and importlib.util.find_spec("llama_cpp") is None:
        p.error("llama-cpp-python is not installed (the benchmark extra): --alone does without")
    args.threads = args.threads or _core.default_threads()
    limits = {} if args.no_limits else measured_limits(args.threads)
    machine = {"cpu": cpu_name(), "level": _core.cpu_level(), "threads": args.threads, "limits": limits}
    tests = [Workload(n, 0, depth) for depth in args.depth for n in (args.prompt,) if n]
    tests += [Workload(0, n, depth) for depth in args.depth for n in (args.generate,) if n]
    rows = []
    for path in args.models:
        for test in tests:
            rows.append(compare(path, test, args, limits))
            print(f"{rows[-1]['model']} {test}: {rows[-1]['nanollm t/s']:.1f} t/s", file=sys.stderr)
    if args.json:
        print(json.dumps({**machine, "version": _core.version(), "rows": rows}))
        return
    print(f"{machine['cpu']}, level {machine['level']}, {args.threads} threads", end="")
    print("".join(f"; {name} {value}" for name, value in limits.items() if name != "threads") + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
