"""Speed of nanollm and of llama.cpp (through llama-cpp-python, the `benchmark` extra) on the same file, in turn.

Both read the same prompt and then generate; every round times one after the other, so that a drifting machine hits
both. Prints medians in tokens a second and the median of the rounds' ratios.

    python benchmarks/compare.py 1b-q8_0.gguf --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nanollm import _core
from nanollm.models import build_program

Runner = Callable[[list[int], int], tuple[float, float]]


def nano_runner(path: str, n_ctx: int, threads: int) -> Runner:
    """Seconds for a prompt and for n further tokens with nanollm."""
    gguf = _core.Gguf.open(path)
    limits = replace(_core.limits_default(), n_ctx=n_ctx, n_threads=threads)
    session = _core.Session(_core.Plan(_core.CoreModel(gguf, build_program(gguf)), limits))

    def run(prompt: list[int], n: int) -> tuple[float, float]:
        session.truncate(0, 0)
        start = time.perf_counter()
        session.eval(np.array(prompt, np.int32))
        middle = time.perf_counter()
        for i in range(n):
            session.eval(np.array([100 + i], np.int32))
        return middle - start, time.perf_counter() - middle

    return run


def llama_runner(path: str, n_ctx: int, threads: int) -> Runner:
    """The same with llama.cpp."""
    import llama_cpp

    model = llama_cpp.Llama(
        path, n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, n_batch=512, n_ubatch=512, verbose=False
    )

    def run(prompt: list[int], n: int) -> tuple[float, float]:
        model.reset()
        start = time.perf_counter()
        model.eval(prompt)
        middle = time.perf_counter()
        for i in range(n):
            model.eval([100 + i])
        return middle - start, time.perf_counter() - middle

    return run


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="a GGUF file, as make_model.py writes")
    p.add_argument("--prompt", type=int, default=512, help="tokens of the prompt (default %(default)s)")
    p.add_argument("--generate", type=int, default=32, help="tokens after it (default %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="counted rounds after a warm-up (default %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="0: the machine's default")
    p.add_argument("--alone", action="store_true", help="nanollm only")
    p.add_argument("--json", action="store_true", help="one JSON line")
    args = p.parse_args()
    threads = args.threads or _core.default_threads()
    n_ctx = args.prompt + args.generate + 8
    runners = {"nanollm": nano_runner(args.model, n_ctx, threads)}
    if not args.alone:
        runners["llama.cpp"] = llama_runner(args.model, n_ctx, threads)
    prompt = [100 + i % 1000 for i in range(args.prompt)]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
    for i in range(args.rounds + 1):
        for name, run in runners.items():
            seconds = run(prompt, args.generate)
            if i > 0:
                times[name].append(seconds)
    result: dict[str, object] = {"model": args.model, "level": _core.cpu_level(), "threads": threads}
    for at, what, n in ((0, "prompt", args.prompt), (1, "decode", args.generate)):
        for name, rounds in times.items():
            result[f"{name} {what}"] = round(n / statistics.median(r[at] for r in rounds), 2)
        if len(times) == 2:
            pairs = zip(times["llama.cpp"], times["nanollm"], strict=True)
            result[f"ratio {what}"] = round(statistics.median(theirs[at] / ours[at] for theirs, ours in pairs), 3)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:<20}{value}")


if __name__ == "__main__":
    main()
