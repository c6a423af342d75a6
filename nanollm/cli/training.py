"""What `nanollm train` and `nanollm finetune` share: options, the loop with its progress, what is written."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core
from ..errors import FileError
from ..train import Log, Trainer, TrainOptions, plot, read_log, read_state
from .common import EXIT_INTERRUPTED, EXIT_OK, ArgumentParser, Interruptible, UsageError, check_output, emit, log
from .options import int_in, number_in, unescape
from .progress import progress_of
from .report import aligned

if TYPE_CHECKING:
    from ..train import Step

DATA_HELP = """\
DATA is text, taken as it is, or, where its name ends in .jsonl, a JSON object a line:
  {"text": "..."}
  {"prompt": "...", "completion": "..."}                      the completion is learnt
  {"messages": [{"role": "user", "content": "..."}, ...]}     what the assistant says is learnt
"""

# Of the command line that a resumed run finds again where it is not given anew.
_KEPT = ("outtype", "log", "plot", "peft")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def add_options(parser: ArgumentParser, rate: float, decay: float) -> None:
    """All but what the model is made of."""
    _add_data(parser)
    _add_steps(parser, rate, decay)
    add = parser.add_argument_group("memory and speed").add_argument
    add("--recompute", action="store_true", help="compute activations again for the gradients: less memory, more time")
    add("--no-recompute", dest="recompute", action="store_false", help="never (default: where only that fits)")
    add("-t", "--threads", dest="n_threads", type=int_in(0), metavar="N", help="threads (default: one per fast core)")
    add("--cpu", metavar="LEVEL", help="kernel level to use (default: the best this machine has)")
    add = parser.add_argument_group("what is written").add_argument
    add("--save-every", type=int_in(1), metavar="N", help="steps between two checkpoints (default: a tenth of all)")
    add("--checkpoint", metavar="FILE", help="where the run's state goes (default: OUT.checkpoint)")
    add("--resume", action="store_true", help="go on from the checkpoint, with its options: the same bits as unbroken")
    add("--restart", action="store_true", help="begin anew where an unfinished run's checkpoint is")
    add("--log", metavar="FILE", help="write a line a step: JSON where the name ends in .jsonl, else CSV")
    add("--plot", metavar="FILE.png", help="draw the losses (needs matplotlib: pip install 'nanollm[plot]')")
    add = parser.add_argument_group("general").add_argument
    add("--json", action="store_true", help="print a JSON line a step, and one before and after all")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-h", "--help", action="help", help="print this and exit")


def _add_data(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("data").add_argument
    add(
        *("-c", "--ctx-size", "--context"),
        dest="n_ctx",
        type=int_in(2),
        metavar="N",
        help="tokens in a sequence (default: the model's context, at most 256)",
    )
    add("--eval-data", metavar="FILE", action="append", help="evaluate on this file; may be repeated")
    add(
        "--held-out",
        type=number_in(0.0, 1.0),
        metavar="X",
        help="without --eval-data: the part of the data, its end, to evaluate on (default: 0.05)",
    )
    add(
        "--eval-every", type=int_in(0), metavar="N", help="steps between evaluations; 0: none (default: a tenth of all)"
    )
    add("--separator", metavar="TEXT", help=r"what stands between a text file's texts: '<|endoftext|>', '\n\n\n'")
    add("--no-pack", dest="pack", action="store_false", help="a sequence a text, rather than texts end to end")
    add("--chat-template", metavar="NAME", help="Jinja source or a built-in name, where the model has none")


def _add_steps(parser: ArgumentParser, rate: float, decay: float) -> None:
    add = parser.add_argument_group("steps").add_argument
    any_number = number_in(0.0)
    add("--steps", dest="n_steps", type=int_in(1), metavar="N", help="steps in all")
    add("--epochs", type=any_number, metavar="X", help="without --steps: times all data is read (default: 1)")
    add("-b", "--batch-size", type=int_in(1), metavar="N", help="sequences side by side (default: 8)")
    add("--accumulate", type=int_in(1), metavar="N", help="batches a step: a larger step, no more memory (default: 1)")
    add("--rate", "--lr", type=any_number, metavar="X", help=f"learning rate, the highest (default: {rate:g})")
    add("--schedule", choices=("constant", "linear", "cosine"), help="how the rate falls (default: cosine)")
    add("--warmup", type=int_in(0), metavar="N", help="steps in which it grows (default: a tenth of all, at most 100)")
    add("--floor", type=number_in(0.0, 1.0), metavar="X", help="the part of it left at the end (default: 0.1)")
    add("--decay", type=any_number, metavar="X", help=f"AdamW's weight decay, of matrices (default: {decay:g})")
    add("--max-norm", type=any_number, metavar="X", help="longer gradients are cut to this; 0: never (default: 1)")
    add("--beta1", type=any_number, metavar="X", help="of the mean gradient (default: 0.9)")
    add("--beta2", type=any_number, metavar="X", help="of its square (default: 0.95)")
    add("--eps", type=any_number, metavar="X", help="added to the root of that (default: 1e-8)")
    add("--seed", type=int_in(0), metavar="N", help="of random weights and the order of the data (default: 0)")


def new_parser(name: str, description: str, epilog: str, usage: str) -> ArgumentParser:
    """A parser whose result has what was given, and nothing else."""
    parser = ArgumentParser(f"nanollm {name}", description, epilog, usage=f"nanollm {name} {usage}")
    parser.argument_default = argparse.SUPPRESS
    return parser


def parse(parser: ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """What was given."""
    args = parser.parse(argv, is_mixed=True)
    if getattr(args, "resume", False) and getattr(args, "restart", False):
        raise UsageError("--resume and --restart: give one of the two")
    if "separator" in args:
        args.separator = unescape(args.separator)
    if "cpu" in args:
        _core.set_cpu_level(args.cpu)
    return args


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM is what Ctrl-C is, so that a run that is ended before its first step leaves nothing behind."""
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the run that the command line names."""
    return {name: value for name, value in vars(args).items() if name in TrainOptions.__dataclass_fields__}


def checkpoint_of(args: argparse.Namespace, out: str, *sources: str | None) -> str:
    """Where the checkpoint is. Refuses what would be found out after hours: to write over what is read, over another
    output or over an unfinished run's state, into a folder that is not there, and to draw without matplotlib."""
    path = str(getattr(args, "checkpoint", f"{out}.checkpoint"))
    outputs = {"OUT": out, "--checkpoint": path}
    outputs |= {f"--{name}": getattr(args, name) for name in ("log", "plot", "peft") if name in args}
    names: dict[Path, str] = {}
    for name, written in outputs.items():
        check_output(written, *sources, *getattr(args, "eval_data", ()))
        other = names.setdefault(Path(written).resolve(), name)
        if other != name:
            raise UsageError(f"{written}: {other} and {name}: expected two files")
        folder = Path(written).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise FileError(f"{written}: {folder} is no folder to write into")
        if Path(written).exists() and Path(written).is_dir() != (name == "--peft"):
            raise FileError(f"{written}: {name}: expected a {'folder' if name == '--peft' else 'file'}")
    if "plot" in args and find_spec("matplotlib") is None:
        raise UsageError("--plot: needs matplotlib: pip install 'nanollm[plot]'")
    is_there = Path(path).exists()
    if "resume" in args and not is_there:
        raise UsageError(f"--resume: {path}: no such file")
    if is_there and "resume" not in args and "restart" not in args:
        with _core.Gguf.open(path) as gguf:
            state = read_state(gguf)
        if state.options.n_steps is None or state.step < state.options.n_steps:
            raise UsageError(
                f"{path}: of a run at step {state.step} of {state.options.n_steps}: --resume goes on with it, "
                "--restart begins anew"
            )
    return path


def memo_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint keeps of the command line."""
    return {name: getattr(args, name) for name in _KEPT if name in args}


def resume(args: argparse.Namespace, checkpoint: str, data: list[str], model: str | None = None) -> Trainer:
    """The run of a checkpoint. What the command line names anew counts, where it may."""
    if "chat_template" in args:
        raise UsageError("--chat-template: a run that is resumed has its own in the checkpoint")
    return Trainer.resume(
        checkpoint,
        model=model,
        data=data or None,
        held_out=getattr(args, "eval_data", None),
        memo=memo_of(args),
        **given(args),
    )


def train(trainer: Trainer, args: argparse.Namespace, out: str) -> int:
    """Runs `trainer`, shows how it goes and writes `out` with each checkpoint; the exit code."""
    quiet, as_json = "quiet" in args, "json" in args
    memo = trainer.memo
    _announce(trainer, out, quiet or as_json, as_json)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if "plot" in memo:
            stack.callback(lambda: _draw(rows, memo))
        file = stack.enter_context(Log(memo["log"], trainer.step + 1)) if "log" in memo else None
        show = stack.enter_context(progress_of(quiet or as_json, "steps"))
        stack.enter_context(Interruptible(trainer.stop, _SIGNALS))
        last: Step | None = None
        held_out: float | None = None
        for last in trainer.run():
            held_out = last.held_out_loss if last.held_out_loss is not None else held_out
            rows.append(asdict(last))
            if file is not None:
                file.write(last)
            if last.is_saved:
                trainer.save(out, memo.get("outtype", "f32"))
            if as_json:
                emit_line({"event": "step", **asdict(last)})
            show(last.step, last.n_steps, _text(last, held_out))
        is_done = trainer.step == trainer.n_steps
        if last is None or not last.is_saved:
            trainer.save(out, memo.get("outtype", "f32"))
    if as_json:
        emit_line({"event": "end", "done": is_done, "step": trainer.step, "output": out, "held_out_loss": held_out})
    if not quiet and not as_json:
        what = "" if last is None else f", {_text(last, held_out)}, {last.seconds:.1f} s"
        log(f"{out}: step {trainer.step} of {trainer.n_steps}{what}")
        if held_out is not None:
            log(f"perplexity of what is held out: {math.exp(min(held_out, 700)):.2f}")
        if not is_done:
            log("interrupted: the same command with --resume goes on")
    return EXIT_OK if is_done else EXIT_INTERRUPTED


def _announce(trainer: Trainer, out: str, quiet: bool, as_json: bool) -> None:
    options = trainer.options
    n_learnt, n_held_out = trainer.n_sequences
    if as_json:
        memory = asdict(trainer.memory.memory) | {"available": trainer.memory.available}
        values: dict[str, Any] = {
            "parameters": trainer.n_parameters,
            "sequences": n_learnt,
            "held_out_sequences": n_held_out,
        }
        values |= {"output": out, "step": trainer.step, "options": options.to_dict(), "memory": memory}
        values |= {"notes": trainer.notes}
        emit_line({"event": "start", **values, "cpu": _core.cpu_level(), "version": _core.version()})
    if quiet:
        return
    per_step = options.batch_size * options.accumulate
    rows = [
        ("nanollm", f"{_core.version()}, cpu {_core.cpu_level()}, {trainer.memory.plan.limits.n_threads} threads"),
        ("parameters", f"{trainer.n_parameters:,}"),
        ("data", f"{trainer.n_tokens:,} tokens, {n_learnt:,} sequences, {n_held_out:,} held out"),
        ("steps", f"{trainer.n_steps:,} of {per_step} sequences of at most {options.n_ctx} tokens: "
                  f"{trainer.n_steps * per_step / n_learnt:.3g} epochs"),
        ("rate", f"{options.rate:g}, {options.schedule}, {options.warmup} steps of warm-up"),
    ]  # fmt: skip
    if trainer.step:
        rows.append(("resumed", f"after step {trainer.step}"))
    log(f"{aligned(rows)}\n\n{trainer.memory.table()}\n")
    for note in trainer.notes:
        log(f"note: {note}")


def _text(step: Step, held_out: float | None) -> str:
    held_out_loss = "" if held_out is None else f"  held out {held_out:.4f}"
    return f"loss {step.loss:.4f}{held_out_loss}  {step.tokens_per_second:.0f} tokens/s"


def _draw(rows: list[dict[str, Any]], memo: Mapping[str, Any]) -> None:
    """Of the whole run where a log has it, else of what this process did."""
    rows = read_log(memo["log"]) if "log" in memo else rows
    if rows:
        plot(rows, memo["plot"])


def emit_line(values: Mapping[str, Any]) -> None:
    """Prints one line of JSON; what it has no number for becomes null."""
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    emit(json.dumps(plain, allow_nan=False) + "\n")
