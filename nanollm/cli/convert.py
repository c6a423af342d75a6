"""`nanollm convert`: other formats to GGUF."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..convert import OUTTYPES, convert, hub
from ..lora import write_peft
from ..models import load_definition
from .common import EXIT_OK, ArgumentParser, UsageError, check_output, format_bytes, is_terminal, log
from .progress import progress_of

_EPILOG = """\
examples:
  nanollm convert stories260K.bin -o stories.gguf --tokenizer tok512.bin
  nanollm convert path/to/folder -o model.gguf --outtype q8_0
  nanollm convert org/model -o model.gguf
  nanollm convert adapter/ -o adapter.gguf --base path/to/folder
  nanollm convert adapter.gguf -o adapter/ --outtype peft --base model.gguf

A file is written beside the target and renamed when it is whole: an interrupted run leaves the old one or none.
"""


def main(argv: Sequence[str]) -> int:
    """Converts with a progress bar on stderr; a terminal sees a bar, a log sees a line a tenth."""
    parser = ArgumentParser(
        "nanollm convert",
        "Writes a model of another format as GGUF. IN is recognised by what it holds: a Hugging Face folder\n"
        "(config.json, safetensors, tokenizer) or its name on the hub, a PEFT LoRA adapter, an OpenAI GPT-2 folder\n"
        "(TensorFlow), a ggml .bin of a GPT-2, a llama2.c .bin, or GGUF.",
        _EPILOG,
        usage="nanollm convert IN -o OUT.gguf [options]",
    )
    add = parser.add_argument
    add("source", metavar="IN", help="folder, file, or org/model on the Hugging Face hub")
    add("-o", "--output", metavar="OUT.gguf", required=True, help="file to write")
    add(
        "--outtype",
        choices=(*OUTTYPES, "peft"),
        default="auto",
        help="type of matrices; auto: as they are (default); peft: an adapter's folder for Hugging Face's PEFT",
    )
    add("--tokenizer", metavar="FILE", help="llama2.c's tokenizer file, where it is not beside IN")
    add("--base", metavar="BASE", help="the model that an adapter is for, where the one it names is not at hand")
    add(
        *("--definition",),
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file that registers an architecture; it is run; may be repeated",
    )
    add("--name", metavar="TEXT", help="the model's name, for the file's metadata")
    add("--description", metavar="TEXT", help="the model's description")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    check_output(args.output, args.source, args.tokenizer, *args.definition)
    for file in args.definition:
        load_definition(file)
    if args.outtype == "peft":
        return _write_peft(args)
    start = time.perf_counter()
    notes: list[str] = []
    source, name = args.source, args.name
    if hub.is_name(source):  # before the bar, so that the hub's own has the terminal for itself
        name = name or Path(source).name
        source = hub.fetch(source, show_progress=not args.quiet and is_terminal(sys.stderr))
    with progress_of(args.quiet) as progress:
        report = convert(
            source,
            args.output,
            args.outtype,
            progress=progress,
            report=notes.append,
            name=name,
            description=args.description,
            tokenizer=args.tokenizer,
            base=args.base,
        )
    if not args.quiet:
        for note in notes:
            log(f"note: {note}")
        types = ", ".join(f"{n} {name}" for name, n in report.types.items())
        size = f"{report.n_params:,} parameters, {report.n_tensors} tensors ({types}), {format_bytes(report.n_bytes)}"
        log(f"{report.path}: {report.architecture}, {size} in {time.perf_counter() - start:.1f} s")
    return EXIT_OK


def _write_peft(args: argparse.Namespace) -> int:
    if args.base is None:
        raise UsageError("--outtype peft: needs --base, the model that the adapter is for")
    for flag, value in (("--tokenizer", args.tokenizer), ("--name", args.name), ("--description", args.description)):
        if value is not None:
            raise UsageError(f"{flag}: PEFT's folder has no place for it")
    files = write_peft(args.source, args.output, args.base)
    if not args.quiet:
        log(f"{args.output}: {', '.join(f'{file.name} ({format_bytes(file.stat().st_size)})' for file in files)}")
    return EXIT_OK
