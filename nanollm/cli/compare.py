"""`nanollm compare`: files of one model side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, UnsupportedError
from ..quality import compare
from .common import EXIT_OK, ArgumentParser, check_output, emit, format_bytes, is_terminal
from .evaluation import add_options, emit_json, evaluating, model_options, n_windows, read_text, window_size

if TYPE_CHECKING:
    from ..quality import Comparison

_EPILOG = """\
examples:
  nanollm compare model-f16.gguf model-q8_0.gguf model-q4_k_m.gguf -f text.txt
  nanollm compare model-f16.gguf model-q*.gguf -f text.txt --chunks 20 --plot sizes.png

The first file is what the others are measured against. All files are open at a time.
"""

_COLUMNS = ("file", "size", "bits/weight", "perplexity", "mean KL", "same top", "prompt tokens/s", "decode tokens/s")


def main(argv: Sequence[str]) -> int:
    """Prints a table; draws it with --plot."""
    parser = ArgumentParser(
        "nanollm compare",
        "Tells size, quality and speed of several files of one model, and draws size against quality.",
        _EPILOG,
        usage="nanollm compare FIRST.gguf OTHER.gguf... -f TEXT [options]",
    )
    parser.add_argument("models", nargs="+", metavar="FILE.gguf", help="the file to measure against, then others")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--plot", metavar="OUT.png", help="draw size against mean KL; .svg and .pdf are possible too")
    add_options(parser)
    args = parser.parse(argv)
    if args.plot is not None and find_spec("matplotlib") is None:
        raise UnsupportedError("--plot: needs matplotlib: pip install 'nanollm[plot]'")
    check_output(args.plot, args.file, *args.models)
    text = read_text(args)
    n_ctx = min(window_size(args, path) for path in args.models)
    with evaluating(args.quiet) as run:
        results = compare(
            args.models,
            text,
            n_ctx=n_ctx,
            n_windows=n_windows(args),
            progress=run.progress,
            on_open=run.add,
            **model_options(args),
        )
    if args.plot is not None:
        _plot(results, args.plot)
    if args.json:
        emit_json({"text": args.file, "n_ctx": n_ctx, "files": [asdict(result) for result in results]})
    else:
        _print_table([_row(result) for result in results])
    return EXIT_OK


def _row(result: Comparison) -> list[str]:
    quality = result.quality
    return [
        result.path,
        format_bytes(result.file_size),
        f"{result.bits_per_weight:.2f}",
        str(quality.perplexity.perplexity),
        str(quality.kl),
        f"{100 * quality.same_top.value:.2f} %",
        f"{result.prompt_speed:.1f}",
        f"{result.decode_speed:.1f}",
    ]


def _print_table(rows: list[list[str]]) -> None:
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for i, name in enumerate(_COLUMNS):
            table.add_column(name, justify="right" if i else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (list(_COLUMNS), *rows):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        emit("  ".join([row[0].ljust(widths[0]), *cells[1:]]) + "\n")


def _plot(results: Sequence[Comparison], path: str) -> None:
    """Size against mean KL, a point a file but for the first, whose KL is 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    others = results[1:]
    sizes = [result.file_size / (1 << 20) for result in others]
    kl = [result.quality.kl for result in others]
    axes.errorbar(sizes, [k.value for k in kl], yerr=[k.error for k in kl], fmt="o", capsize=3)
    for size, k, result in zip(sizes, kl, others, strict=True):
        axes.annotate(Path(result.path).stem, (size, k.value), textcoords="offset points", xytext=(6, 4))
    if others and min(k.value for k in kl) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("file size (MiB)")
    axes.set_ylabel(f"mean KL divergence from {Path(results[0].path).stem} (nats a token)")
    axes.grid(alpha=0.3)
    draft = Path(path).with_name(f".{os.getpid()}.{Path(path).name}")
    try:
        figure.savefig(draft, dpi=150)
        draft.replace(path)
    except ValueError as error:  # a format that it cannot draw
        raise ArgumentError(f"{path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
