"""How decoding fares where other programs have a share of the cores.

First with a process that keeps one core busy, as a big.LITTLE chip or another program slows one of several threads
down; then as two processes side by side that both use every core. Settings take turns, so that what else the machine
does falls on all of them.

    python benchmarks/placement.py model.gguf
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nanollm import _core
from nanollm.models import build_program

BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def session_of(path: str, n_threads: int) -> _core.Session:
    gguf = _core.Gguf.open(path)
    limits = replace(_core.limits_default(), n_ctx=1024, n_batch=8, n_threads=n_threads)
    return _core.Session(_core.Plan(_core.CoreModel(gguf, build_program(gguf)), limits))


def decode(session: _core.Session, n: int) -> float:
    """Milliseconds a token, over n tokens."""
    session.truncate(0, 0)
    start = time.perf_counter()
    for i in range(n):
        session.eval([i % 100])
    return 1000 * (time.perf_counter() - start) / n


@contextmanager
def busy_core(cpu: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(cpu)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare(path: str, n: int, rounds: int) -> dict[int, float]:
    """Milliseconds a token by number of threads, 0 the default."""
    counts = [0, *range(1, _core.default_threads() + 1)]
    sessions = {count: session_of(path, count) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            times[count].append(decode(sessions[count], n))
    return {count: statistics.median(found) for count, found in times.items()}


def report(title: str, times: dict[int, float]) -> None:
    best = min((ms, count) for count, ms in times.items() if count > 0)
    print(f"\n{title}")
    for count, ms in times.items():
        print(f"  {'default' if count == 0 else f'-t {count}':8}{ms:9.3f} ms a token")
    print(f"  default / best (-t {best[1]}): {times[0] / best[0]:.3f}")


def pair(path: str, n: int) -> float:
    """Milliseconds a token of two processes at once, the mean of both."""
    command = [sys.executable, __file__, path, "--tokens", str(n), "--alone"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return statistics.mean(float(p.communicate()[0]) for p in both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=128, help="tokens a run (default: 128)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument("--alone", action="store_true", help="print one number: the default's milliseconds a token")
    args = parser.parse_args()
    if args.alone:
        print(decode(session_of(args.model, 0), args.tokens))
        return
    report("nothing beside it", compare(args.model, args.tokens, args.rounds))
    busy = max(os.sched_getaffinity(0))
    with busy_core(busy):
        report(f"a busy process on core {busy}", compare(args.model, args.tokens, args.rounds))
    alone, both = decode(session_of(args.model, 0), args.tokens), pair(args.model, args.tokens)
    print(f"\ntwo processes on all cores\n  alone {alone:.3f}, both {both:.3f} ms a token: {both / alone:.2f} times")


if __name__ == "__main__":
    main()
