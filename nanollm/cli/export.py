"""`nanollm export`: GGUF files that run without Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..export import ExportReport, default_output, export
from ..models import load_definition, sidecar_path
from .common import EXIT_OK, ArgumentParser, UsageError, check_output, emit, format_bytes, log
from .progress import progress_of

_EPILOG = """\
examples:
  nanollm export model.gguf                             writes model-nanollm.gguf
  nanollm export model.gguf -o out.gguf
  nanollm export model.gguf --sidecar                   writes model.gguf.nanollm; model.gguf stays as it is
  nanollm export own.gguf --definition own.py           with an architecture of your own

A file is written beside the target and renamed when it is whole: an interrupted run leaves the old one or none.
"""


def main(argv: Sequence[str]) -> int:
    """Writes the file with a progress bar on stderr; one line says what is in it."""
    parser = ArgumentParser(
        "nanollm export",
        "Puts into a GGUF file what nanollm-run needs to run it without Python: the model's graph as a program of a\n"
        "few KB, and the chat template as literal pieces. Other tools pass over both.",
        _EPILOG,
        usage="nanollm export IN.gguf [-o OUT.gguf | --sidecar] [options]",
    )
    add = parser.add_argument
    add("source", metavar="IN.gguf", help="a model")
    add("-o", "--output", metavar="OUT.gguf", help="file to write (default: IN-nanollm.gguf)")
    add("--sidecar", action="store_true", help="write IN.gguf.nanollm, without tensors, beside IN.gguf instead")
    add(
        *("--definition",),
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file that registers an architecture; it is run; may be repeated",
    )
    add("--json", action="store_true", help="print one JSON line")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    if args.sidecar and args.output is not None:
        raise UsageError("-o and --sidecar: give one of the two")
    path = sidecar_path(args.source) if args.sidecar else Path(args.output or default_output(args.source))
    check_output(str(path), args.source, *args.definition)
    for file in args.definition:
        load_definition(file)
    with progress_of(args.quiet or args.json) as progress:
        report = export(args.source, args.output, sidecar=args.sidecar, progress=progress)
    if args.json:
        emit(json.dumps(_as_dict(report), ensure_ascii=False) + "\n")
    elif not args.quiet:
        for note in report.notes:
            log(f"note: {note}")
        log(f"{report.path}: {_summary(report)}, {format_bytes(report.path.stat().st_size)}")
    return EXIT_OK


def _summary(report: ExportReport) -> str:
    pieces = report.pieces
    chat = "no chat pieces" if pieces is None else "chat pieces" if pieces.has_system else "chat pieces without system"
    return f"program version {report.program_version} ({format_bytes(report.program_bytes)}), {chat}"


def _as_dict(report: ExportReport) -> dict[str, object]:
    return {
        "path": str(report.path),
        "program_version": report.program_version,
        "program_bytes": report.program_bytes,
        "chat": None if report.pieces is None else asdict(report.pieces),
        "notes": report.notes,
    }
