"""`nanollm fit`: the memory a model needs, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from ..model import DEFAULT_N_CTX, Model, default_model_path
from .common import EXIT_ERROR, EXIT_OK, ArgumentParser, emit
from .options import add_adapters, add_cache_types, add_devices, add_list_devices, device_options

_EPILOG = """\
examples:
  nanollm fit model.gguf                 with the context that nanollm-cli would take
  nanollm fit model.gguf -c 8192 && …    exits with 1 where it does not fit
"""


def main(argv: Sequence[str]) -> int:
    """Prints the plan's table; the exit code says whether it fits."""
    parser = ArgumentParser(
        "nanollm fit",
        "Prints the exact memory that a model needs, and whether it fits this machine. Nothing is loaded.",
        _EPILOG,
        usage="nanollm fit [MODEL] [options]",
    )
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="GGUF file (default: the model that is part of the package)")
    add(
        *("-c", "--ctx-size", "--context"),
        type=int,
        metavar="N",
        help=f"size of the context in tokens; 0: the model's own (default: the model's own, at most {DEFAULT_N_CTX})",
    )
    add("-b", "--batch-size", type=int, default=512, metavar="N", help="most tokens in one step (default: 512)")
    add("-t", "--threads", type=int, default=0, metavar="N", help="threads (default: one per fast core)")
    add("--slots", type=int, default=1, metavar="N", help="sequences held at once (default: 1)")
    add_cache_types(add)
    add_adapters(add)
    add_devices(add)
    add_list_devices(add)
    add("--json", action="store_true", help="print one JSON line, sizes in bytes")
    add("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    path = default_model_path() if args.model is None else args.model
    report = Model.fit(
        path,
        n_ctx=args.ctx_size,
        n_threads=args.threads,
        n_batch=args.batch_size,
        n_slots=args.slots,
        n_outputs=1,
        cache_type=(args.cache_type_k, args.cache_type_v),
        adapters=args.adapters,
        **device_options(args),
    )
    if args.json:
        emit(json.dumps({"model": path, "fits": report.fits, **asdict(report)}) + "\n")
    else:
        verdict = "fits" if report.fits else "does not fit"
        longest = f"a context of {report.largest_n_ctx} would fit" if report.largest_n_ctx else "no context would fit"
        emit(f"{report.table()}\n\n{path}: {verdict}; {longest}\n")
    return EXIT_OK if report.fits else EXIT_ERROR
