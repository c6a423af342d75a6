"""`nanollm info`: what is in a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .. import _core
from ..model import default_model_path
from .common import EXIT_OK, ArgumentParser, format_bytes
from .report import aligned, file_rows

_MAX_SHOWN = 100  # characters of a value


def main(argv: Sequence[str]) -> int:
    """Prints metadata and tensors."""
    parser = ArgumentParser(
        "nanollm info",
        "Prints a GGUF file's hyper-parameters, metadata and tensors.",
        usage="nanollm info [FILE] [options]",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="GGUF file (default: the model in the package)")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    with _core.Gguf.open(args.file or default_model_path()) as gguf:
        values = {key: gguf[key] for key in gguf.keys()}  # noqa: SIM118 (a Gguf does not iterate)
        if args.json:
            shown = {key: _short(value) for key, value in values.items()}
            tensors = [asdict(tensor) for tensor in gguf.tensors]
            print(json.dumps({"file": gguf.path, "version": gguf.version, "metadata": shown, "tensors": tensors}))
            return EXIT_OK
        rows = [("file", f"{gguf.path}, {format_bytes(gguf.file_size)}, GGUF version {gguf.version}")]
        print(aligned(rows + file_rows(values, gguf.tensors, None)))
        print(f"\nmetadata ({len(values)} keys)")
        print(aligned([(key, str(_short(value))) for key, value in values.items()], 44))
        print(f"\ntensors ({len(gguf.tensors)})")
        for tensor in gguf.tensors:
            shape = " x ".join(map(str, tensor.shape))
            print(f"{tensor.name:<36} {tensor.type:<6} {shape:>18} {format_bytes(tensor.n_bytes):>12}")
    return EXIT_OK


def _short(value: Any) -> Any:
    """A value for people: arrays by their length and start, long texts by their start."""
    if isinstance(value, str):
        text = " ".join(value.split())
        return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
    if hasattr(value, "__len__"):
        start = ", ".join(repr(item) if isinstance(item, str) else str(item) for item in value[:4])
        return f"[{start}{', …' if len(value) > 4 else ''}] ({len(value)} items)"
    return value
