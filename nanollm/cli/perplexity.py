"""`nanollm perplexity`: how well a model predicts a text, by itself or beside another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, FileError
from ..model import Model, default_model_path
from ..quality import Logprobs, LogprobsWriter, Windows, divergence, perplexity, rows_per_step
from .common import EXIT_OK, ArgumentParser, UsageError, check_output, emit, format_bytes, log
from .evaluation import add_options, emit_json, evaluating, model_options, n_windows, read_text, window_size
from .options import int_in
from .report import aligned

if TYPE_CHECKING:
    import argparse

    from ..quality import Divergence, Perplexity
    from .evaluation import Run

_EPILOG = """\
examples:
  nanollm perplexity -m model-q4_0.gguf -f text.txt
  nanollm perplexity -m model-f16.gguf -f text.txt --kl-divergence-base base.kld     writes the file
  nanollm perplexity -m model-q4_0.gguf --kl-divergence-base base.kld --kl-divergence   reads it

The text is cut into windows, each is read from an empty context and its second half is scored. With --ppl-stride N,
each window begins N tokens after the one before, and its last N tokens are scored. docs/quality.md says more.
"""


def main(argv: Sequence[str]) -> int:
    """Prints perplexity, or divergence, with standard errors."""
    parser = ArgumentParser(
        "nanollm perplexity",
        "Tells how well a model predicts a text, and how far its predictions are from another model's.",
        _EPILOG,
        usage="nanollm perplexity -m MODEL -f TEXT [options]",
    )
    parser.add_argument("-m", "--model", metavar="FILE", help="GGUF file (default: the model in the package)")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument(
        "--ppl-stride",
        type=int_in(0),
        default=0,
        metavar="N",
        help="score N tokens a window; 0: its second half",
    )
    parser.add_argument(
        "--kl-divergence-base",
        metavar="FILE",
        help="write the model's log-probabilities of the text to FILE; with --kl-divergence: read them from there",
    )
    parser.add_argument(
        "--kl-divergence", action="store_true", help="tell how far the model is from that of --kl-divergence-base"
    )
    add_options(parser, needs_text=False)
    args = parser.parse(argv)
    path = args.model or default_model_path()
    if args.kl_divergence:
        return _divergence(args, path)
    if args.file is None:
        raise UsageError("-f TEXT: a text is needed")
    check_output(args.kl_divergence_base, path, args.file)
    text = read_text(args)
    n_ctx = window_size(args, path)
    options = model_options(args) | {"n_outputs": rows_per_step(path, n_ctx)}
    with evaluating(args.quiet) as run, Model(path, n_ctx=n_ctx, **options) as model:
        run.add(model)
        windows = Windows.of(model, text, n_ctx, stride=args.ppl_stride or None, n_windows=n_windows(args))
        result = _perplexity(args, run, model, windows)
    if args.json:
        emit_json({"model": path, "text": args.file, "n_ctx": n_ctx, **_fields(result)})
    else:
        emit(aligned(_perplexity_rows(result, n_ctx)) + "\n")
    return EXIT_OK


def _perplexity(args: argparse.Namespace, run: Run, model: Model, windows: Windows) -> Perplexity:
    if args.kl_divergence_base is None:
        return perplexity(model, windows, progress=run.progress)
    size = LogprobsWriter.size(model, windows)
    free = shutil.disk_usage(Path(args.kl_divergence_base).absolute().parent).free
    log(f"{args.kl_divergence_base}: {format_bytes(size)} will be written, {format_bytes(free)} are free")
    if size > free:
        raise FileError(f"{args.kl_divergence_base}: no space for {format_bytes(size)}")
    with LogprobsWriter(args.kl_divergence_base, model, windows) as writer:
        return perplexity(model, windows, progress=run.progress, writer=writer)


def _divergence(args: argparse.Namespace, path: str) -> int:
    base_path = args.kl_divergence_base
    if base_path is None:
        raise UsageError("--kl-divergence: needs --kl-divergence-base FILE")
    if args.ppl_stride or args.ctx_size:
        raise UsageError(f"--kl-divergence: the windows are those of {base_path}: no -c, no --ppl-stride")
    with Logprobs(base_path) as base, evaluating(args.quiet) as run:
        n_ctx = base.windows.n_ctx
        options = model_options(args) | {"n_outputs": rows_per_step(path, n_ctx)}
        with Model(path, n_ctx=n_ctx, **options) as model:
            run.add(model)
            base.check(model)
            if args.file is not None:
                _check_text(base, Windows.of(model, read_text(args), n_ctx), args.file)
            result = divergence(model, base, n_windows=n_windows(args), progress=run.progress)
    if args.json:
        own = _fields(result.perplexity)
        rest = {name: getattr(result, name) for name in ("base_perplexity", "ratio", "kl", "kl_quantiles", "same_top")}
        values = {"model": path, "base": os.fspath(base_path), "n_ctx": n_ctx, **own, **rest}
        emit_json(values | {"rms_delta_p": result.rms_delta_p})
    else:
        emit(aligned(_perplexity_rows(result.perplexity, n_ctx) + _divergence_rows(result), 16) + "\n")
    return EXIT_OK


def _check_text(base: Logprobs, windows: Windows, name: str) -> None:
    if not base.windows.is_same(windows.tokens):
        raise ArgumentError(f"{name}: other tokens than those that {base.path} was made with")


def _fields(result: Perplexity) -> dict[str, object]:
    names = ("perplexity", "nll", "n_scored", "n_windows", "n_evaluated", "seconds", "tokens_per_second")
    return {name: getattr(result, name) for name in names}


def _perplexity_rows(result: Perplexity, n_ctx: int) -> list[tuple[str, str]]:
    return [
        ("windows", f"{result.n_windows} of {n_ctx} tokens, {result.n_scored} tokens scored"),
        ("speed", f"{result.tokens_per_second:.1f} tokens per second, {result.seconds:.2f} s"),
        ("perplexity", str(result.perplexity)),
    ]


def _divergence_rows(result: Divergence) -> list[tuple[str, str]]:
    rows = [("base", str(result.base_perplexity)), ("ratio", str(result.ratio)), ("mean KL", str(result.kl))]
    names = {0.5: "median", 1.0: "largest"}
    rows += [(f"  {names.get(q, f'{100 * q:g} %')}", f"{value:.4g}") for q, value in result.kl_quantiles.items()]
    top, delta = result.same_top, result.rms_delta_p
    rows += [("same top token", f"{100 * top.value:.2f} ± {100 * top.error:.2g} %")]
    rows += [("RMS change of p", f"{100 * delta.value:.3f} ± {100 * delta.error:.2g} %")]
    return rows
