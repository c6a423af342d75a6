"""Speed and memory of training steps of nanollm and of PyTorch: the same shapes, the same batches, the same threads.

A step is forward, backward, gradients scaled down to a norm of 1, AdamW. PyTorch runs LlamaForCausalLM or
GPT2LMHeadModel of transformers (extra `benchmark`, with torch and transformers) in f32, its fused AdamW and its fused
attention. Both programs are processes of their own that run from the start to the end of a model's rounds; in every
round one runs its steps, then the other, so that a drifting machine hits both. Prints a Markdown table of

  t/s        tokens a second, medians of the rounds
  ratio      ours over PyTorch's, the median of the rounds' ratios
  CPU ratio  the same of tokens a second of processor time, which a busy machine changes least
  peak       the highest resident set of the process, in MiB
  own        the same without what the process had before the model: the interpreter and what it imported
  ratio      ours over PyTorch's peak

    python benchmarks/train.py llama-15m gpt2-2l -t 2 --batch 8 --tokens 256
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from make_model import SHAPES, write

RATE, DECAY, BETAS, EPS, MAX_NORM = 3e-4, 0.1, (0.9, 0.95), 1e-8, 1.0


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ------------------------------------------------------------------------------- workers


def batch(n_vocab: int, args: argparse.Namespace, step: int) -> Any:
    """Token ids (batch, tokens + 1): the last of a row is a target only."""
    import numpy as np

    return np.random.default_rng(step).integers(0, n_vocab, (args.batch, args.tokens + 1), dtype=np.int32)


def nanollm_steps(args: argparse.Namespace) -> Callable[[int], float]:
    """The function that runs step `i` and returns its loss."""
    import numpy as np

    from nanollm import _core
    from nanollm.optim import Adam, Group
    from nanollm.train import TrainOptions
    from nanollm.train.setup import Setup

    note_before()
    options = TrainOptions(
        batch_size=args.batch, n_ctx=args.tokens, n_threads=args.threads, recompute=args.recompute, rate=RATE
    )
    plan = Setup(args.worker[1], None, None).plan(options, check=True).plan
    session = _core.Session(plan)
    adam = Adam(
        session,
        rate=RATE,
        beta1=BETAS[0],
        beta2=BETAS[1],
        eps=EPS,
        decay=DECAY,
        max_norm=MAX_NORM,
        groups=[Group(max_dims=1, decay=0.0)],
    )
    slots = np.repeat(np.arange(args.batch, dtype=np.int32), args.tokens)

    def run(i: int) -> float:
        ids = batch(SHAPES[args.models[0]].n_vocab, args, i)
        session.zero_gradients()
        loss = session.gradient(ids[:, :-1].ravel(), slots, ids[:, 1:].ravel())
        adam.step()
        return loss

    return run


def torch_model(name: str, n_ctx: int) -> Any:
    """A model of the shape with random weights."""
    import transformers as t

    s = SHAPES[name]
    if s.architecture == "gpt2":
        sizes = {"n_layer": s.n_layer, "n_embd": s.n_embd, "n_head": s.n_head, "n_inner": s.n_ff, "n_positions": n_ctx}
        none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=s.n_vocab, **sizes, **none, use_cache=False))
    config = t.LlamaConfig(
        vocab_size=s.n_vocab,
        num_hidden_layers=s.n_layer,
        hidden_size=s.n_embd,
        intermediate_size=s.n_ff,
        num_attention_heads=s.n_head,
        num_key_value_heads=s.n_head_kv,
        max_position_embeddings=n_ctx,
        tie_word_embeddings=s.tied,
        use_cache=False,
    )
    return t.LlamaForCausalLM(config)


def torch_steps(args: argparse.Namespace) -> Callable[[int], float]:
    import torch
    import torch.nn.functional as f
    import transformers

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for name in ("LlamaForCausalLM", "GPT2LMHeadModel"):
        getattr(transformers, name)  # imported when asked for
    note_before()
    model = torch_model(args.models[0], max(args.tokens, SHAPES[args.models[0]].n_ctx))
    if args.recompute:
        model.gradient_checkpointing_enable()
    model.train()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, fused=True)

    def run(i: int) -> float:
        ids = torch.from_numpy(batch(SHAPES[args.models[0]].n_vocab, args, i)).long()
        logits = model(ids[:, :-1]).logits
        loss = f.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return float(loss.detach())

    return run


PROGRAMS = {"nanollm": nanollm_steps, "torch": torch_steps}
_before = 0.0


def note_before() -> None:
    """What the process has before its model."""
    global _before
    _before = peak_mib()


def work(args: argparse.Namespace) -> None:
    """Reads step numbers, a line each; answers each with its seconds, its loss and the memory so far."""
    run = PROGRAMS[args.worker[0]](args)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        loss = run(int(line))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        answer = {"seconds": seconds, "cpu": cpu, "loss": loss, "peak": peak_mib(), "before": _before}
        print(json.dumps(answer), flush=True)


# -------------------------------------------------------------------------------- parent


class Worker:
    def __init__(self, program: str, model: str, file: str, arguments: list[str]) -> None:
        command = [sys.executable, __file__, model, *arguments, "--worker", program, file]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[str] = self._process.stdin
        self._out: IO[str] = self._process.stdout

    def step(self, i: int) -> dict[str, float]:
        self._in.write(f"{i}\n")
        self._in.flush()
        line = self._out.readline()
        if not line:
            raise SystemExit("a worker ended: see above")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        self._in.close()
        self._process.wait()


def measure(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Rounds of one model: tokens a second of each, losses, memory."""
    arguments = ["-t", str(args.threads), "--batch", str(args.batch), "--tokens", str(args.tokens)]
    arguments += ["--recompute"] if args.recompute else []
    speeds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    cpu_speeds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    last: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="nanollm-") as folder:
        file = str(Path(folder) / "model.gguf")
        write(model, file, lambda tensor: "F32", None, distinct=True)
        workers = {name: Worker(name, model, file, arguments) for name in PROGRAMS}
        for worker in workers.values():
            worker.step(0)
        for i in range(args.rounds):
            for name, worker in workers.items():
                steps = [worker.step(1 + i * args.steps + k) for k in range(args.steps)]
                n_tokens = args.batch * args.tokens * args.steps
                speeds[name].append(n_tokens / sum(s["seconds"] for s in steps))
                cpu_speeds[name].append(n_tokens / sum(s["cpu"] for s in steps))
                last[name] = steps[-1]
        for worker in workers.values():
            worker.close()
    return {"model": model, "speeds": speeds, "cpu_speeds": cpu_speeds, "last": last}


def ratio(speeds: dict[str, list[float]]) -> str:
    return f"{statistics.median(x / y for x, y in zip(speeds['nanollm'], speeds['torch'], strict=True)):.2f}"


def row(result: dict[str, Any]) -> str:
    speeds, a, b = result["speeds"], result["last"]["nanollm"], result["last"]["torch"]
    cells = [
        result["model"],
        f"{statistics.median(speeds['nanollm']):.0f}",
        f"{statistics.median(speeds['torch']):.0f}",
        ratio(speeds),
        ratio(result["cpu_speeds"]),
        f"{a['peak']:.0f}",
        f"{b['peak']:.0f}",
        f"{a['peak'] / b['peak']:.2f}",
        f"{a['peak'] - a['before']:.0f}",
        f"{b['peak'] - b['before']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", choices=SHAPES, metavar="MODEL", help=", ".join(SHAPES))
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=8, help="sequences a step")
    p.add_argument("--tokens", type=int, default=256, help="tokens a sequence")
    p.add_argument("--steps", type=int, default=2, help="steps a round")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--recompute", action="store_true", help="both compute activations again for the gradients")
    p.add_argument("--json", action="store_true", help="print all numbers")
    p.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker is not None:
        work(args)
        return
    results = [measure(model, args) for model in args.models]
    if args.json:
        print(json.dumps(results))
        return
    print(f"{args.threads} threads, {args.batch} sequences of {args.tokens} tokens\n")
    print("| model | nanollm t/s | PyTorch t/s | ratio | CPU ratio | nanollm peak | PyTorch peak | ratio | own | own |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for result in results:
        print(row(result))


if __name__ == "__main__":
    main()
