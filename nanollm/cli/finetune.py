"""`nanollm finetune`: a LoRA adapter for a model of any type, or all of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import lora
from ..convert.write import OUTTYPES
from ..train import Trainer, TrainOptions
from .common import UsageError
from .options import int_in, number_in
from .training import (
    DATA_HELP,
    add_options,
    checkpoint_of,
    given,
    memo_of,
    new_parser,
    parse,
    resume,
    termination_as_interrupt,
    train,
)

if TYPE_CHECKING:
    import argparse

_EPILOG = f"""\
{DATA_HELP}
examples:
  nanollm finetune model-q8_0.gguf notes.txt                            writes model-q8_0-lora.gguf
  nanollm finetune model-q4_0.gguf chat.jsonl -o chat-lora.gguf --lora-rank 16 --lora-targets attn_q,attn_v
  nanollm-cli -m model-q4_0.gguf --lora chat-lora.gguf -cnv
  nanollm finetune model-q4_0.gguf -o chat-lora.gguf --resume           after Ctrl-C: goes on to the same bits
  nanollm finetune model-f16.gguf notes.txt --full -o tuned.gguf --rate 1e-4 --epochs 3

An adapter is small and leaves the model as it is, so that the model may be quantised. --full changes all weights, which
takes 16 bytes a weight, and a model in F32, F16 or BF16. docs/training.md says more. Exit codes: 0 done, 1 error,
2 usage, 130 interrupted (and saved).
"""

_RATE, _RATE_FULL = 1e-3, 1e-4


def main(argv: Sequence[str]) -> int:
    """Makes the adapter, trains it, writes it."""
    parser = new_parser(
        "finetune",
        "Teaches a model new texts or conversations: by a LoRA adapter beside it or, with --full, in its own weights.\n"
        "What it will take in memory is printed first; what does not fit is refused, with what would.",
        _EPILOG,
        usage="MODEL.gguf DATA... [-o OUT.gguf] [options]",
    )
    add = parser.add_argument
    add("model", metavar="MODEL.gguf", help="the model")
    add("files", metavar="DATA", nargs="*", default=[], help="text or .jsonl; may be repeated")
    add("-o", "--output", metavar="OUT.gguf", help="file to write (default: MODEL-lora.gguf, or MODEL-tuned.gguf)")
    add = parser.add_argument_group("adapter").add_argument
    add("--lora-rank", type=int_in(1), metavar="N", help="rows of an adapter's matrices (default: 8)")
    add("--lora-alpha", type=number_in(0.0), metavar="X", help="its scale is X / rank (default: 2 * rank)")
    add("--lora-targets", metavar="NAMES", help="all, attention, ffn, or names: attn_q,attn_v (default: all)")
    add("--peft", metavar="FOLDER", help="also write the adapter as PEFT has it, for Hugging Face tools")
    add("--full", action="store_true", help="no adapter: change the model's own weights")
    add("--outtype", choices=tuple(OUTTYPES[1:]), help="with --full: type of OUT's matrices (default: f32)")
    add_options(parser, rate=_RATE, decay=0.0)
    args = parse(parser, argv)
    is_full = "full" in args
    _check(args, is_full)
    stem = Path(args.model)
    out = getattr(args, "output", str(stem.with_name(f"{stem.stem}-{'tuned' if is_full else 'lora'}.gguf")))
    checkpoint = checkpoint_of(args, out, args.model, *args.files)
    if "resume" in args:
        with resume(args, checkpoint, args.files, None if is_full else args.model) as trainer:
            return _train(trainer, args, out)
    if not args.files:
        raise UsageError("DATA: a file is needed (nanollm finetune --help tells more)")
    with termination_as_interrupt():
        initial = None if is_full else _create(args, out)
        defaults = {"rate": _RATE_FULL if is_full else _RATE, "decay": 0.0}
        try:
            trainer = Trainer(
                args.model,
                args.files,
                adapter=initial,
                held_out=getattr(args, "eval_data", ()),
                options=TrainOptions(**(defaults | given(args))),
                checkpoint=checkpoint,
                template=getattr(args, "chat_template", None),
                memo=memo_of(args),
            )
        finally:
            if initial is not None:
                initial.unlink(missing_ok=True)  # it is mapped, or not needed
    with trainer:
        return _train(trainer, args, out)


def _check(args: argparse.Namespace, is_full: bool) -> None:
    of_adapters = [f"--{n.replace('_', '-')}" for n in ("lora_rank", "lora_alpha", "lora_targets", "peft") if n in args]
    if is_full and of_adapters:
        raise UsageError(f"{of_adapters[0]}: of an adapter, which --full does without")
    if not is_full and "outtype" in args:
        raise UsageError("--outtype: an adapter is written as f32; with --full, a model has other types")
    if "resume" in args and any(name != "--peft" for name in of_adapters):
        raise UsageError(f"{of_adapters[0]}: a run that is resumed has its adapter in the checkpoint")


def _create(args: argparse.Namespace, out: str) -> Path:
    """An adapter that does nothing yet, beside the place of the one to be."""
    path = Path(f"{out}.initial")
    lora.create(
        args.model,
        path,
        rank=getattr(args, "lora_rank", 8),
        alpha=getattr(args, "lora_alpha", None),
        targets=getattr(args, "lora_targets", lora.TARGETS),
        seed=getattr(args, "seed", 0),
    )
    return path


def _train(trainer: Trainer, args: argparse.Namespace, out: str) -> int:
    code = train(trainer, args, out)
    if "peft" in trainer.memo:
        lora.write_peft(out, trainer.memo["peft"], args.model)
    return code
