"""`nanollm merge`: LoRA adapters folded into a model's file."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..lora import named
from ..merge import OUTTYPES, merge
from .common import EXIT_OK, ArgumentParser, UsageError, check_output, format_bytes, log
from .options import add_adapters
from .progress import progress_of

_EPILOG = """\
examples:
  nanollm merge model-f16.gguf --lora adapter.gguf -o merged.gguf
  nanollm merge model-f16.gguf --lora a.gguf --lora-scaled b.gguf:0.5 -o merged.gguf --outtype q8_0

A weight that is quantised is quantised again, which costs a little quality: merging into an F16 or F32 file and
quantising that is better. A file is written beside the target and renamed when it is whole.
"""


def main(argv: Sequence[str]) -> int:
    """Merges with a progress bar on stderr."""
    parser = ArgumentParser(
        "nanollm merge",
        "Writes a model with LoRA adapters folded into its weights: W + scale * B A.",
        _EPILOG,
        usage="nanollm merge MODEL --lora FILE... -o OUT.gguf [options]",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="GGUF file")
    add_adapters(add)
    add("-o", "--output", metavar="OUT.gguf", required=True, help="file to write")
    add("--outtype", choices=OUTTYPES, default="auto", help="type of all matrices; auto: each in its own (default)")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    if not args.adapters:
        raise UsageError("--lora FILE: name an adapter at least")
    check_output(args.output, args.model, *(path for path, _ in named(args.adapters)))
    start = time.perf_counter()
    with progress_of(args.quiet) as progress:
        report = merge(args.model, args.adapters, args.output, args.outtype, progress=progress)
    if not args.quiet:
        for note in report.notes:
            log(f"note: {note}")
        types = ", ".join(f"{n} {name}" for name, n in report.types.items())
        size = f"{report.n_tensors} tensors ({types}), {format_bytes(report.n_bytes)}"
        log(f"{report.path}: {report.n_merged} weights merged; {size} in {time.perf_counter() - start:.1f} s")
    return EXIT_OK
