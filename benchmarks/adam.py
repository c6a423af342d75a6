"""A step of AdamW, with the norm of all gradients, beside PyTorch's, in turn in one process, on one thread each.

PyTorch's step clips by the global norm as ours does (`clip_grad_norm_`), fused and by its lists of tensors (foreach).
Times are the smallest of the rounds.

    python benchmarks/adam.py 1e6 1e8
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from nanollm.optim import Adam

_OPTIONS = {"decay": 0.1, "max_norm": 1.0}


def ours(value: np.ndarray, gradient: np.ndarray) -> Callable[[], object]:
    return Adam({"w": (value.copy(), gradient)}, rate=1e-3, **_OPTIONS).step


def theirs(value: np.ndarray, gradient: np.ndarray, **kind: bool) -> Callable[[], object]:
    parameter = torch.nn.Parameter(torch.from_numpy(value.copy()))
    parameter.grad = torch.from_numpy(gradient.copy())
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=_OPTIONS["decay"], **kind)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_([parameter], _OPTIONS["max_norm"])
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", nargs="+", type=float, help="parameters")
    parser.add_argument("-r", "--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for n in map(int, args.n):
        rng = np.random.default_rng(0)
        value, gradient = (rng.standard_normal(n, dtype=np.float32) for _ in range(2))
        steps = {
            "nanollm": ours(value, gradient),
            "torch fused": theirs(value, gradient, fused=True),
            "torch foreach": theirs(value, gradient, foreach=True),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(args.rounds):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
        best = {name: min(seconds[1:]) for name, seconds in times.items()}
        print(
            f"{n:12,} parameters:",
            ", ".join(f"{name} {s * 1e3:.2f} ms ({best['nanollm'] / s:.2f}x)" for name, s in best.items()),
            f"| {32 * n / best['nanollm'] / 1e9:.1f} GB/s",
        )


if __name__ == "__main__":
    main()
