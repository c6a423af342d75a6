"""Time from process start to the first token, and the peak of resident memory, with a warm page cache.

Runs each program a few times in turn on the same file: a prompt of three words, one token. The first run of each is
not counted. Time is from starting the process until its stdout carries the first byte of text; memory is the highest
resident set the system saw. llama.cpp runs through llama-cpp-python (the `benchmark` extra) in a process of its own.

    python benchmarks/startup.py gpt2-q8_0.gguf 1b-q8_0.gguf --also ./nanollm-run
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

_LLAMA = """
import sys
import llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=1024, n_threads=int(sys.argv[2]), verbose=False)
model.eval(model.tokenize(b"a b c"))
sys.stdout.buffer.write(model.detokenize([model.sample(temp=0)]) or b"?")
sys.stdout.flush()
"""
_PROMPT = ("-p", "a b c", "-n", "1", "--temp", "0", "-c", "1024", "--ignore-eos")


def run_once(command: list[str]) -> tuple[float, int]:
    """Seconds to the first byte on stdout (to its end where there is none), and the peak in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)
    seconds = time.perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]}: exit code {process.returncode}")
    return seconds, usage.ru_maxrss << 10


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", help="GGUF files, as make_model.py writes")
    p.add_argument("--also", action="append", default=[], metavar="PROGRAM", help="another with nanollm-cli's options")
    p.add_argument("--rounds", type=int, default=10, help="counted runs of each (default %(default)s)")
    p.add_argument("-t", "--threads", type=int, default=0, help="0: each program's default")
    p.add_argument("--json", action="store_true", help="one JSON line a program and file")
    args = p.parse_args()
    threads = ("-t", str(args.threads)) if args.threads else ()
    for model in args.models:
        size = Path(model).stat().st_size
        commands = {
            Path(program).name: [program, "-m", model, *_PROMPT, *threads]
            for program in (str(Path(sysconfig.get_path("scripts")) / "nanollm-cli"), *args.also)
        }
        if importlib.util.find_spec("llama_cpp") is not None:
            n_threads = args.threads or os.cpu_count() or 1
            commands["llama.cpp"] = [sys.executable, "-P", "-c", _LLAMA, model, str(n_threads)]
        runs: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
        for i in range(args.rounds + 1):
            for name, command in commands.items():
                measured = run_once(command)
                if i > 0:
                    runs[name].append(measured)
        for name, measured in runs.items():
            result = {
                "model": model,
                "program": name,
                "first_token_ms": round(1000 * statistics.median(seconds for seconds, _ in measured), 1),
                "fastest_ms": round(1000 * min(seconds for seconds, _ in measured), 1),
                "peak_mib": round(max(peak for _, peak in measured) / (1 << 20), 1),
                "beyond_file_mib": round((max(peak for _, peak in measured) - size) / (1 << 20), 1),
            }
            print(json.dumps(result) if args.json else "  ".join(f"{key} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
