"""`nanollm info`: what is in a GGUF file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .. import _core
from .._types import TensorInfo
from ..model import default_model_path
from .common import EXIT_OK, ArgumentParser, emit, format_bytes
from .report import aligned, file_rows, shortened


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
            emit(json.dumps({"file": gguf.path, "version": gguf.version, "metadata": shown, "tensors": tensors}) + "\n")
            return EXIT_OK
        rows = [("file", f"{gguf.path}, {format_bytes(gguf.file_size)}, GGUF version {gguf.version}")]
        lines = [aligned(rows + file_rows(values, gguf.tensors, None))]
        lines += ["", f"metadata ({len(values)} keys)"]
        lines += [aligned([(key, str(_short(value))) for key, value in values.items()], 44)]
        lines += ["", f"tensors ({len(gguf.tensors)})", *map(_tensor_line, gguf.tensors)]
        emit("\n".join(lines) + "\n")
    return EXIT_OK


def _tensor_line(tensor: TensorInfo) -> str:
    shape = " x ".join(map(str, tensor.shape))
    return f"{tensor.name:<36} {tensor.type:<6} {shape:>18} {format_bytes(tensor.n_bytes):>12}"


def _short(value: Any) -> Any:
    """A value for people, and for JSON: arrays by their length and start, long texts by their start."""
    if isinstance(value, str):
        return shortened(value)
    if hasattr(value, "__len__"):
        start = ", ".join(repr(item) if isinstance(item, str) else str(item) for item in value[:4])
        return shortened(f"[{start}{', …' if len(value) > 4 else ''}] ({len(value)} items)")
    return value if math.isfinite(value) else str(value)
