"""`nanollm train`: a model from scratch, or all of a model's weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..convert.write import OUTTYPES
from ..train import ARCHITECTURES, ModelConfig, Trainer, TrainOptions, create_model, read_config
from .common import UsageError
from .options import int_in
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
  nanollm train-tokenizer stories.txt -o tok --vocab-size 2048
  nanollm train small.gguf stories.txt --tokenizer tok --arch llama --n-layer 4 --n-embd 128 --n-head 4
  nanollm train small.gguf --resume                                  after Ctrl-C: goes on to the same bits
  nanollm train better.gguf more.txt --from small.gguf --rate 3e-4   goes on with a finished model's weights
  nanollm train small.gguf stories.txt --config small.json --log run.csv --plot run.png

--config FILE.json has the same names with underscores: {{"architecture": "llama", "n_layer": 4, "n_embd": 128,
"n_head": 4, "tokenizer": "tok"}}. OUT.gguf and its checkpoint are written together, each as a whole or not at all.
docs/training.md says more. Exit codes: 0 done, 1 error, 2 usage, 130 interrupted (and saved).
"""


def main(argv: Sequence[str]) -> int:
    """Makes the model, trains it, writes it."""
    parser = new_parser(
        "train",
        "Trains a model from scratch, or all the weights of one, on texts. What it will take in memory is printed\n"
        "first; what does not fit is refused, with what would.",
        _EPILOG,
        usage="OUT.gguf DATA... (--arch NAME ... | --config FILE.json | --from MODEL.gguf) [options]",
    )
    parser.set_defaults(data=[])
    parser.add_argument("output", metavar="OUT.gguf", help="file to write")
    parser.add_argument("files", metavar="DATA", nargs="*", default=[], help="text or .jsonl; may be repeated")
    _add_model(parser)
    add_options(parser, rate=TrainOptions().rate, decay=TrainOptions().decay)
    args = parse(parser, argv)
    out, data = args.output, args.files + args.data
    checkpoint = checkpoint_of(
        args, out, *data, *(getattr(args, name, None) for name in ("source", "config", "tokenizer"))
    )
    if "resume" in args:
        _refuse_model(args, "a run that is resumed has its model in the checkpoint")
        with resume(args, checkpoint, data) as trainer:
            return train(trainer, args, out)
    if not data:
        raise UsageError("DATA: a file is needed (nanollm train --help tells more)")
    if "source" in args:
        _refuse_model(args, "a model that is begun with --from is made as that one is", but=("source",))
    with termination_as_interrupt():
        initial = None if "source" in args else _create(args, out)
        try:
            trainer = Trainer(
                args.source if initial is None else initial,
                data,
                held_out=getattr(args, "eval_data", ()),
                options=TrainOptions(**given(args)),
                checkpoint=checkpoint,
                template=getattr(args, "chat_template", None),
                memo=memo_of(args),
            )
        finally:
            if initial is not None:
                initial.unlink(missing_ok=True)  # it is mapped, or not needed
    with trainer:
        return train(trainer, args, out)


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--data", metavar="FILE", action="append", help="another way to name DATA; may be repeated")
    add("--from", dest="source", metavar="MODEL.gguf", help="begin with this model's weights (F32, F16 or BF16)")
    add("--config", metavar="FILE.json", help="the sizes of a model from scratch")
    add("--tokenizer", metavar="FILE", help="its tokenizer: tokenizer.json or its folder, GGUF, or tokenizer.model")
    add("--arch", "--architecture", dest="architecture", choices=ARCHITECTURES, help="its architecture")
    add("--n-layer", type=int_in(1), metavar="N", help="its layers")
    add("--n-embd", type=int_in(1), metavar="N", help="its width")
    add("--n-head", type=int_in(1), metavar="N", help="its heads of attention")
    add("--n-head-kv", type=int_in(1), metavar="N", help="of these, those of keys and values (default: all)")
    add("--n-ff", type=int_in(1), metavar="N", help="width of its feed-forward networks (default: 4 or 8/3 n_embd)")
    add("--model-ctx", type=int_in(2), metavar="N", help="the longest text it is for (default: -c, or 512)")
    add("--untied", dest="tied", action="store_false", help="an output matrix of its own, not the embeddings'")
    add("--name", metavar="TEXT", help="its name, for the file's metadata")
    add("--description", metavar="TEXT", help="its description")
    add("--outtype", choices=tuple(OUTTYPES[1:]), help="type of OUT's matrices (default: f32)")


# Of the command line: what a model from scratch is made of, and where it is not spelt as it is called.
_SIZES = ("architecture", "n_layer", "n_embd", "n_head", "n_head_kv", "n_ff", "tied", "tokenizer")
_SPELLINGS = {"architecture": "arch", "tied": "untied", "source": "from"}


def _option(name: str) -> str:
    return f"--{_SPELLINGS.get(name, name).replace('_', '-')}"


def _refuse_model(args: argparse.Namespace, why: str, but: Sequence[str] = ()) -> None:
    for name in (*_SIZES, "source", "config", "model_ctx", "name", "description"):
        if name in args and name not in but:
            raise UsageError(f"{_option(name)}: {why}")


def _create(args: argparse.Namespace, out: str) -> Path:
    """A model from scratch, beside the place of the one to be."""
    values: dict[str, Any] = read_config(args.config) if "config" in args else {}
    values |= {name: getattr(args, name) for name in _SIZES if name in args}
    n_ctx = getattr(args, "model_ctx", None) or values.get("n_ctx") or getattr(args, "n_ctx", None)
    values |= {} if n_ctx is None else {"n_ctx": n_ctx}
    tokenizer = values.pop("tokenizer", None)
    needed = [field.name for field in dataclasses.fields(ModelConfig) if field.default is dataclasses.MISSING]
    missing = [name for name in needed if name not in values] + ([] if tokenizer else ["tokenizer"])
    if missing:
        raise UsageError(
            f"a model from scratch needs {', '.join(map(_option, missing))}, or --config; --from has weights"
        )
    path = Path(f"{out}.initial")
    create_model(
        path,
        ModelConfig(**values),
        tokenizer,
        seed=getattr(args, "seed", 0),
        name=getattr(args, "name", Path(out).stem),
        description=getattr(args, "description", None),
    )
    return path
