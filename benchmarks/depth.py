"""What a long context costs nanollm, and llama.cpp with flash attention (llama-cpp-python, the `benchmark` extra).

Both read a context once; then every round evaluates a piece of a prompt, and single tokens, in an empty context and at
the end of that one, one program after the other. Prints the least time of each in milliseconds a token, and by what
share the second is more: attention, as a share of everything else.

    python benchmarks/depth.py 1b-q8_0.gguf --depth 4096 --threads 2
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nanollm import _core
from nanollm.models import build_program

Evaluator = Callable[[int, list[int]], None]
"""Evaluates tokens from a position on; what lies before it has been evaluated."""


def nano(path: str, n_ctx: int, threads: int, cache: str) -> Evaluator:
    limits = replace(_core.limits_default(), n_ctx=n_ctx, n_threads=threads, type_k=cache.upper(), type_v=cache.upper())
    gguf = _core.Gguf.open(path)
    session = _core.Session(_core.Plan(_core.CoreModel(gguf, build_program(gguf)), limits))

    def evaluate(position: int, tokens: list[int]) -> None:
        session.truncate(0, position)
        session.eval(np.array(tokens, np.int32))

    return evaluate


def llama(path: str, n_ctx: int, threads: int, cache: str) -> Evaluator:
    import llama_cpp

    kind = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0, "q4_0": llama_cpp.GGML_TYPE_Q4_0}[cache]
    model = llama_cpp.Llama(
        path,
        n_ctx=n_ctx,
        n_threads=threads,
        n_threads_batch=threads,
        n_batch=512,
        n_ubatch=512,
        flash_attn=True,
        type_k=kind,
        type_v=kind,
        verbose=False,
    )

    def evaluate(position: int, tokens: list[int]) -> None:
        model.n_tokens = position
        model.eval(tokens)

    return evaluate


def seconds(evaluate: Evaluator, position: int, tokens: list[int], together: bool) -> float:
    """A token, evaluated with the others or one by one."""
    start = time.perf_counter()
    if together:
        evaluate(position, tokens)
    else:
        for i, token in enumerate(tokens):
            evaluate(position + i, [token])
    return (time.perf_counter() - start) / len(tokens)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="a GGUF file, as make_model.py writes")
    p.add_argument("--depth", type=int, default=4096, help="tokens in the context (default %(default)s)")
    p.add_argument("--prompt", type=int, default=256, help="tokens in a piece of prompt (default %(default)s)")
    p.add_argument("--generate", type=int, default=8, help="single tokens (default %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="(default %(default)s)")
    p.add_argument("--cache", choices=("f16", "q8_0", "q4_0"), default="f16", help="cache type (default %(default)s)")
    p.add_argument("--alone", action="store_true", help="nanollm only")
    args = p.parse_args()
    if not args.alone and importlib.util.find_spec("llama_cpp") is None:
        p.error("llama-cpp-python is not installed (the benchmark extra): --alone does without")
    makers = {"nanollm": nano} if args.alone else {"nanollm": nano, "llama.cpp": llama}
    best: dict[tuple[str, bool, int], float] = {}
    tokens = [100 + i % 1000 for i in range(args.depth + args.prompt)]
    evaluators: dict[tuple[str, int], Evaluator] = {}
    for depth in (0, args.depth):  # a context each: going back to the end would mean reading all before it again
        for name, make in makers.items():
            evaluators[name, depth] = make(args.model, depth + args.prompt, args.threads, args.cache)
            for at in range(0, depth, 512):
                evaluators[name, depth](at, tokens[at : min(at + 512, depth)])
    for _ in range(args.rounds):
        for together, n in ((True, args.prompt), (False, args.generate)):
            for (name, depth), evaluate in evaluators.items():
                took = seconds(evaluate, depth, tokens[depth : depth + n], together)
                best[name, together, depth] = min(took, best.get((name, together, depth), took))
    print(f"{args.model}, {args.cache} cache, {args.threads} threads; ms a token")
    for together, what in ((True, f"prompt of {args.prompt}"), (False, "decode")):
        for name in makers:
            start, end = best[name, together, 0] * 1e3, best[name, together, args.depth] * 1e3
            more = f"{100 * (end / start - 1):+6.1f} %"
            print(f"{what:15} {name:9}  at 0: {start:8.3f}  at {args.depth}: {end:8.3f}  {more}")


if __name__ == "__main__":
    main()
