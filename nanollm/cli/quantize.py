"""`nanollm-quantize`, also `nanollm quantize`: GGUF files with smaller types."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from .. import _core
from ..quantize import QuantizedTensor, QuantizeReport, default_output, quantize
from .common import EXIT_OK, ArgumentParser, UsageError, check_output, emit, format_bytes, log, run
from .progress import progress_of

_PROG = "nanollm-quantize"
_EPILOG = """\
examples:
  nanollm-quantize gpt2-f16.gguf 7                      Q8_0, to gpt2-q8_0.gguf
  nanollm-quantize gpt2-f16.gguf small.gguf q4_k_m 4    with 4 threads
  nanollm-quantize --imatrix im.gguf in.gguf iq4_xs     with importances from `nanollm imatrix`
  nanollm-quantize --tensor-type 'ffn_.*=q5_k' --tensor-type attn_v=q8_0 in.gguf q4_k_m
  nanollm-quantize --dry-run in.gguf q2_k               what would become of each tensor

A file is written beside the target and renamed when it is whole: an interrupted run leaves the old one or none.
The bytes do not depend on the number of threads.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `nanollm-quantize`, and of `nanollm quantize`, which gives `argv`."""
    if argv is None:
        return run(_PROG, lambda: _quantize(sys.argv[1:]))
    return _quantize(argv)


def _parser() -> ArgumentParser:
    types = ", ".join(f"{name} {number}" if number >= 0 else name for name, number in _core.ftypes().items())
    parser = ArgumentParser(
        _PROG,
        f"Writes a GGUF model again as TYPE, a name in any case or its number:\n{types}.",
        _EPILOG,
        usage=f"{_PROG} [options] IN.gguf [OUT.gguf] TYPE [THREADS]",
    )
    add = parser.add_argument
    add("words", nargs="*", help=argparse.SUPPRESS)
    add("--allow-requantize", action="store_true", help="take matrices that are quantised already; costs quality")
    add("--leave-output-tensor", action="store_true", help="keep output.weight as it is; better, and larger")
    add("--pure", action="store_true", help="one type for all matrices, no mix")
    add("--imatrix", metavar="FILE", help="importances of the columns, as `nanollm imatrix` writes them (GGUF or .dat)")
    add("--include-weights", action="append", default=[], metavar="NAME", help="importances for these tensors only")
    add("--exclude-weights", action="append", default=[], metavar="NAME", help="no importances for these tensors")
    add("--output-tensor-type", metavar="TYPE", help="type of output.weight")
    add("--token-embedding-type", metavar="TYPE", help="type of token_embd.weight")
    add(
        *("--tensor-type",),
        action="append",
        default=[],
        metavar="REGEX=TYPE",
        help="type of tensors whose names match; may be repeated, the first match counts",
    )
    add(
        *("--override-kv",),
        action="append",
        default=[],
        metavar="KEY=TYPE:VALUE",
        help="metadata to set; TYPE is int, float, bool or str; may be repeated",
    )
    add("--dry-run", action="store_true", help="print what would be done, write nothing")
    add("--no-fallback", action="store_true", help="fail where a row is not whole blocks of its type")
    add("--json", action="store_true", help="print one JSON line")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("--version", action="version", version=f"nanollm {_core.version()}", help="print the version and exit")
    add("-h", "--help", action="help", help="print this and exit")
    return parser


def _quantize(argv: Sequence[str]) -> int:
    args = _parser().parse(argv)
    source, out, ftype, n_threads = _positional(args.words)
    if out is None:
        out = str(default_output(source, ftype))
    check_output(out, source, args.imatrix)
    start = time.perf_counter()
    with progress_of(args.quiet or args.json or args.dry_run) as progress:
        report = quantize(
            source,
            out,
            ftype,
            n_threads=n_threads,
            allow_requantize=args.allow_requantize,
            leave_output_tensor=args.leave_output_tensor,
            pure=args.pure,
            imatrix=args.imatrix,
            include_weights=args.include_weights,
            exclude_weights=args.exclude_weights,
            output_tensor_type=args.output_tensor_type,
            token_embedding_type=args.token_embedding_type,
            tensor_types=[_tensor_type(text) for text in args.tensor_type],
            override_kv=dict(_override(text) for text in args.override_kv),
            dry_run=args.dry_run,
            no_fallback=args.no_fallback,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    if args.json:
        emit(json.dumps(_as_dict(source, report, seconds), ensure_ascii=False) + "\n")
    elif not args.quiet:
        emit("\n".join(_lines(source, report, seconds)) + "\n")
        for note in report.notes:
            log(f"note: {note}")
        _warn(report)
    return EXIT_OK


def _positional(words: Sequence[str]) -> tuple[str, str | None, str, int]:
    """IN [OUT] TYPE [THREADS]: the second word is OUT unless it is a type."""
    rest = list(words[1:])
    out = rest.pop(0) if len(rest) > 1 and not _is_type(rest[0]) else None
    if not 1 <= len(rest) <= 2:
        raise UsageError(f"expected IN.gguf [OUT.gguf] TYPE [THREADS], found {' '.join(words) or 'nothing'}")
    if not _is_type(rest[0]):
        raise UsageError(f"{rest[0]!r}: no type, known are {', '.join(_core.ftypes())} and their numbers")
    threads = rest[1] if len(rest) == 2 else "0"
    if not (threads.isascii() and threads.isdigit()):
        raise UsageError(f"{threads!r}: expected a number of threads")
    return words[0], out, rest[0], int(threads)


def _is_type(word: str) -> bool:
    try:
        _core.ftype_from_name(word)
    except ValueError:
        return False
    return True


def _tensor_type(text: str) -> tuple[str, str]:
    expression, equals, wanted = text.rpartition("=")
    if not equals or not expression:
        raise UsageError(f"--tensor-type: found {text!r}, expected REGEX=TYPE")
    return expression, wanted


def _override(text: str) -> tuple[str, int | float | bool | str]:
    key, equals, typed = text.partition("=")
    kind, colon, value = typed.partition(":")
    try:
        if not (key and equals and colon):
            raise ValueError
        if kind == "str":
            return key, value
        if kind == "bool":
            return key, {"true": True, "false": False}[value]
        return key, {"int": int, "float": float}[kind](value)
    except (KeyError, ValueError):
        raise UsageError(
            f"--override-kv: found {text!r}, expected KEY=int:N, KEY=float:X, KEY=bool:true or KEY=str:TEXT"
        ) from None


def _lines(source: str, report: QuantizeReport, seconds: float) -> list[str]:
    n = len(report.tensors)
    width = max((len(tensor.name) for tensor in report.tensors), default=0)
    lines = [f"[{i:{len(str(n))}}/{n}] {_tensor_line(tensor, width)}" for i, tensor in enumerate(report.tensors, 1)]
    types = Counter(tensor.type for tensor in report.tensors)
    lines += [
        "",
        f"old   {format_bytes(report.old_bytes):>12}  {report.old_bits:5.2f} bits a weight  {source}",
        f"new   {format_bytes(report.n_bytes):>12}  {report.bits:5.2f} bits a weight  {report.path or 'not written'}",
        f"{report.ftype}: {', '.join(f'{count} {name}' for name, count in types.most_common())}; {seconds:.2f} s",
    ]
    return lines


def _tensor_line(tensor: QuantizedTensor, width: int) -> str:
    shape = " x ".join(map(str, tensor.shape))
    old = f"{tensor.name:<{width}}  {shape:>15}  {tensor.old_type:>6} {format_bytes(tensor.old_bytes):>10}"
    new = "as it is" if tensor.type == tensor.old_type else f"-> {tensor.type:>6} {format_bytes(tensor.n_bytes):>10}"
    marks = ", with importances" if tensor.has_importance else ""
    marks += f"  FALLBACK: rows do not fill {tensor.wanted}" if tensor.is_fallback else ""
    return f"{old}  {new}{marks}"


def _warn(report: QuantizeReport) -> None:
    """Says loudly what did not become what was asked for."""
    count = Counter((t.shape[-1], t.wanted, t.type) for t in report.fallbacks)
    for (n, wanted, taken), times in count.items():
        block = _core.type_block_size(wanted)
        log(f"WARNING: {times} tensor(s) have rows of {n}, not whole blocks of {block}: {taken} instead of {wanted}")


def _as_dict(source: str, report: QuantizeReport, seconds: float) -> dict[str, object]:
    return {
        "source": source,
        "path": None if report.path is None else str(report.path),
        "ftype": report.ftype,
        "old_bytes": report.old_bytes,
        "bytes": report.n_bytes,
        "old_bits_per_weight": report.old_bits,
        "bits_per_weight": report.bits,
        "n_fallbacks": len(report.fallbacks),
        "seconds": seconds,
        "notes": report.notes,
        "tensors": [asdict(tensor) for tensor in report.tensors],
    }
