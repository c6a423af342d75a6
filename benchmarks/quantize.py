"""Time and memory of quantising a file with nanollm and with llama.cpp (the `benchmark` extra), in turn.

Each run is a process of its own with the same threads; every round times one after the other, so that a drifting
machine hits both. Prints the medians in seconds, the median of the rounds' ratios and the peaks of resident memory.
Ours ends with the file on the disk (synced and renamed), llama.cpp's with its pages handed to the system.

    python benchmarks/make_model.py gpt2-117m F16 -o /tmp/gpt2-f16.gguf
    python benchmarks/quantize.py /tmp/gpt2-f16.gguf --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from nanollm import _core

_OURS = """
import sys, time
from nanollm import _core
source, out, ftype, threads = sys.argv[1:]
start = time.perf_counter()
with _core.Gguf.open(source) as gguf:
    _core.quantize_file(gguf, out, int(ftype), n_threads=int(threads))
print(time.perf_counter() - start, _core.memory_peak())
"""
_THEIRS = """
import ctypes, sys, time
import llama_cpp
source, out, ftype, threads = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(ftype), int(threads)
start = time.perf_counter()
assert llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) == 0
seconds = time.perf_counter() - start
peak = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, peak)
"""
_PROGRAMS = {"nanollm": _OURS, "llama.cpp": _THEIRS}


def measure(program: str, source: str, ftype: int, threads: int) -> tuple[float, int]:
    """Seconds and peak bytes of one run."""
    with tempfile.TemporaryDirectory(dir=Path(source).parent) as folder:
        command = [
            sys.executable,
            "-P",
            "-c",
            program,
            source,
            str(Path(folder) / "out.gguf"),
            str(ftype),
            str(threads),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, peak = done.stdout.split()
        return float(seconds), int(peak)


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="a GGUF file in F16, as make_model.py writes")
    p.add_argument("--types", nargs="+", default=["q8_0", "q4_0", "q4_k_m", "q6_k"], metavar="TYPE")
    p.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="0: the machine's default")
    p.add_argument("--alone", action="store_true", help="nanollm only")
    p.add_argument("--json", action="store_true", help="one JSON line a type")
    args = p.parse_args()
    threads = args.threads or _core.default_threads()
    programs = {"nanollm": _OURS} if args.alone else _PROGRAMS
    for name in args.types:
        runs: dict[str, list[tuple[float, int]]] = {program: [] for program in programs}
        for _ in range(args.rounds):
            for program, text in programs.items():
                runs[program].append(measure(text, args.model, _core.ftype_from_name(name), threads))
        result: dict[str, object] = {"type": name, "threads": threads}
        for program, measured in runs.items():
            result[f"{program} s"] = round(statistics.median(seconds for seconds, _ in measured), 3)
            result[f"{program} peak MiB"] = max(peak for _, peak in measured) >> 20
        if not args.alone:
            pairs = zip(runs["llama.cpp"], runs["nanollm"], strict=True)
            result["ratio"] = round(statistics.median(theirs[0] / ours[0] for theirs, ours in pairs), 2)
        print(json.dumps(result) if args.json else "  ".join(f"{key} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
