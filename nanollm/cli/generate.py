"""`nanollm-cli`: text from a model, in a terminal or a pipe.

stdout carries generated text and nothing else; where it is a terminal the prompt is shown there too, so that
both read as one text. Everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import _core
from ..generation import Generation
from ..model import Model
from .common import EXIT_INTERRUPTED, EXIT_OK, Interruptible, UsageError, clean_text, emit, is_terminal, log, run
from .options import cpu_options, device_options, generation_options, parse, text_of
from .prompt_cache import PromptCache
from .report import aligned, file_rows, result_dict, sampler_lines, shortened, timing_block


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `nanollm-cli`; returns the exit code."""
    return run("nanollm-cli", lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    args = parse(argv)
    if args.cpu is not None:
        _core.set_cpu_level(args.cpu)
    prompt = _read_prompt(args)
    with Model(
        args.model,
        n_ctx=args.ctx_size,
        n_threads=args.threads,
        n_batch=args.batch_size,
        n_outputs=1 + args.lookup,
        deterministic=args.deterministic,
        cache_type=(args.cache_type_k, args.cache_type_v),
        n_threads_batch=args.threads_batch,
        adapters=args.adapters,
        **cpu_options(args),
        **device_options(args),
    ) as model:
        is_conversation = _is_conversation(args, model)
        if is_conversation:
            model.chat_template(args.chat_template)  # a missing or broken one ends here
        elif args.single_turn:
            raise UsageError("-st: needs a conversation (-cnv, or a terminal and a file with a chat template)")
        if not args.json:
            log(describe(model, args.verbose))
        if is_conversation:
            from .conversation import converse

            return converse(model, args, prompt)
        return _continue(model, args, prompt or "")


def _read_prompt(args: argparse.Namespace) -> str | None:
    """The prompt from -p, -f or a pipe (without the newline that ends a file); None where a terminal is left to ask."""
    if args.prompt is not None:
        return text_of(args, args.prompt)
    if args.file is not None and args.file != "-":
        return Path(args.file).read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    if args.file == "-" or not is_terminal(sys.stdin):
        return clean_text(sys.stdin.read()).removesuffix("\n")
    return None


def _is_conversation(args: argparse.Namespace, model: Model) -> bool:
    if args.conversation is not None:
        return bool(args.conversation)
    if args.system_prompt is not None or args.chat_template is not None:
        return True
    return model.has_chat_template and is_terminal(sys.stdin)


def describe(model: Model, verbose: bool) -> str:
    """The model's table, its memory, the machine."""
    limits = model.memory.limits
    rows = [("nanollm", f"{_core.version()}, cpu {_core.cpu_level()}, {limits.n_threads} threads")]
    rows += [("model", model.path), *file_rows(model.metadata, model.tensors, model.n_vocab)]
    rows += [("adapter", path if scale == 1 else f"{path}, scale {scale:g}") for path, scale in model.adapters]
    rows += [("n_ctx", str(limits.n_ctx)), ("n_batch", str(limits.n_batch))]
    text = f"{aligned(rows)}\n\n{model.memory.table()}\n"
    if 0 < model.n_ctx_train < limits.n_ctx:
        text += f"\nwarning: trained on texts of {model.n_ctx_train} tokens; a context of {limits.n_ctx} goes beyond\n"
    if verbose:
        rows = [(key, shortened(value)) for key, value in model.metadata.items()]
        text += f"\n{aligned([('cpu levels', ', '.join(_core.cpu_levels()))])}\n\n{aligned(rows, 44)}\n"
    return text


def describe_prompt(model: Model, generation: Generation, verbose: bool) -> str:
    """The sampler as it will run, and the prompt's tokens."""
    text = (
        f"{sampler_lines(generation.sampler_params)}\n{aligned([('prompt', f'{len(generation.prompt_ids)} tokens')])}\n"
    )
    if verbose:
        text += "".join(f"{token:8d}  {model.spelling(token)!r}\n" for token in generation.prompt_ids)
    return text


def _continue(model: Model, args: argparse.Namespace, prompt: str) -> int:
    """Continues the prompt as it is."""
    cache = PromptCache(model, args)
    generation = model.generate(prompt, parse_special=True, **generation_options(args))
    if not args.json:
        log(describe_prompt(model, generation, args.verbose_prompt))
        if args.display_prompt:
            (emit if is_terminal(sys.stdout) else log)(prompt)
    with Interruptible(generation.cancel):
        for piece in generation:
            cache.after_prompt(generation)
            if not args.json:
                emit(piece)
    cache.at_end(generation)
    if args.json:
        import json

        finished = result_dict(model.path, generation, generation.text, generation.timings, model.memory)
        emit(json.dumps(finished, ensure_ascii=False) + "\n")
    else:
        if is_terminal(sys.stdout):
            emit("\n")
        log(f"\nended: {ended(generation, model)}\n{timing_block(generation.timings)}")
    return EXIT_INTERRUPTED if generation.finish_reason == "cancelled" else EXIT_OK


def ended(generation: Generation, model: Model) -> str:
    """Why a text ended, in words."""
    reasons = {
        "stop": "the model ended the text" if generation.ended_by_model else "at a reverse prompt",
        "length": f"{len(generation.ids)} tokens generated",
        "context": f"the context of {model.n_ctx} tokens is full",
        "cancelled": "interrupted",
        None: "not yet",
    }
    return reasons[generation.finish_reason]


if __name__ == "__main__":
    sys.exit(main())
