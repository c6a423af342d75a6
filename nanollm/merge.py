"""Folding LoRA adapters into a model's file: `merge`.

    nanollm.merge("model.gguf", ["adapter.gguf"], "merged.gguf")

Each adapted weight W is written as W + scale * alpha / r * B A, computed in float32.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from . import _core, lora
from .errors import ArgumentError, FileError, FormatError, UnsupportedError
from .models import build_program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._types import TensorInfo

__all__ = ["OUTTYPES", "MergeReport", "Outtype", "merge"]

Outtype = Literal["auto", "f32", "f16", "bf16", "q8_0"]
OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")
_FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}  # general.file_type
_FLOATS = ("F32", "F16", "BF16")
_LARGEST = {"F16": 65504.0, "BF16": float.fromhex("0x1.fefffep127")}
# Elements worked on at a time.
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What was written."""

    path: Path
    n_tensors: int
    n_merged: int
    """Of the tensors."""
    n_bytes: int
    types: dict[str, int]
    """Tensors by type."""
    notes: tuple[str, ...]
    """What a user should know."""


@dataclass(frozen=True, slots=True)
class _Addition:
    """What one adapter adds to one weight: left (n_out, r) times right (r, n_in)."""

    left: NDArray[np.float32]
    right: NDArray[np.float32]


def merge(
    model: str | os.PathLike[str],
    adapters: Sequence[lora.AdapterLike],
    out: str | os.PathLike[str],
    outtype: Outtype = "auto",
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> MergeReport:
    """Writes ``model`` with the adapters, each a file or (file, scale), folded into its weights, atomically.

    ``outtype``: the type of all matrices; "auto" leaves each in its own, quantised again where it is adapted and
    quantised. Metadata and all other tensors stay as they are. A few MiB are needed, whatever the file's size.
    ``progress(bytes done, bytes in all, tensor)`` is called before each piece and at the end; an exception from it ends
    the work and leaves no file.

    Raises what `Model` raises for adapters that do not go with the model, before anything is written;
    UnsupportedError for an adapter of the embeddings where these are the output as well; FormatError for results that
    the type cannot hold.
    """
    if outtype not in OUTTYPES:
        raise ArgumentError(f"outtype: found {outtype!r}, expected one of {', '.join(OUTTYPES)}")
    if not adapters:
        raise ArgumentError("adapters: none given, there is nothing to merge")
    names = lora.named(adapters)
    for source in (os.fspath(model), *(name for name, _ in names)):
        if Path(out).exists() and Path(out).samefile(source):
            raise ArgumentError(f"{out}: the file to write is a file to read")
    if Path(out).exists() and not Path(out).is_file():
        raise FileError(f"{out}: not a regular file")
    with _core.Gguf.open(model) as gguf:
        lora.bind(gguf, build_program(gguf), lora.open_all(names)).close()  # every check there is
        additions = _additions(gguf, [(lora.read(name), scale) for name, scale in names])
        notes: list[str] = []
        types = {t.name: _type(t, outtype, notes) for t in gguf.tensors}
        again = Counter(t.type for t in gguf.tensors if t.name in additions and types[t.name] not in _FLOATS)
        for kind, n in again.items():
            notes.append(f"{n} weights of type {kind} are quantised again: what they lose is lost once more")
        n_bytes = _write(gguf, Path(out), types, outtype, additions, progress)
    counts = dict(Counter(types.values()))
    return MergeReport(Path(out), len(types), len(additions), n_bytes, counts, tuple(notes))


def _additions(gguf: _core.Gguf, adapters: Sequence[tuple[lora.Adapter, float]]) -> dict[str, list[_Addition]]:
    """What is added to each weight, in the order of the adapters."""
    import numpy as np

    out: dict[str, list[_Addition]] = {}
    for adapter, scale in adapters:
        if not scale:
            continue  # no bit changes
        for weight, pair in adapter.pairs.items():
            if weight == "token_embd.weight" and not gguf.has_tensor("output.weight"):
                raise UnsupportedError(
                    f"{adapter.path}: tensor '{weight}.lora_a': {gguf.path} has the embeddings as its output, too, "
                    "which the adapter leaves as it is: it can be applied, but not merged"
                )
            factor = np.float32(adapter.factor(weight, scale))
            left, right = (pair.a, pair.b.T) if lora.is_table(weight) else (pair.b, pair.a)
            out.setdefault(weight, []).append(_Addition(left * factor, np.ascontiguousarray(right)))
    return out


def _type(t: TensorInfo, outtype: str, notes: list[str]) -> str:
    if outtype == "auto" or len(t.shape) < 2:
        return t.type
    wanted = outtype.upper()
    block = _core.type_block_size(wanted)
    if t.shape[-1] % block:
        notes.append(f"tensor '{t.name}': rows of {t.shape[-1]} are no whole blocks of {block}: written as F16")
        return "F16"
    return wanted


def _write(
    gguf: _core.Gguf,
    out: Path,
    types: dict[str, str],
    outtype: str,
    additions: dict[str, list[_Addition]],
    progress: Callable[[int, int, str], None] | None,
) -> int:
    tensors = gguf.tensors
    total = sum(math.prod(t.shape[:-1]) * _core.type_row_bytes(types[t.name], t.shape[-1]) for t in tensors)
    done = 0
    with _core.GgufWriter(out) as w:
        for key in gguf.keys():  # noqa: SIM118 (a Gguf does not iterate)
            if outtype == "auto" or key != "general.file_type":
                w.copy(gguf, key)
        if outtype != "auto":
            w.set("general.file_type", "uint32", _FILE_TYPES[outtype])
            if "general.quantization_version" not in gguf:
                w.set("general.quantization_version", "uint32", 2)
        for t in tensors:
            w.add_tensor(t.name, t.shape, types[t.name])
        for t in tensors:
            for piece in _pieces(gguf, t, types[t.name], additions.get(t.name, [])):
                if progress is not None:
                    progress(done, total, t.name)
                w.write(piece)
                done += len(piece)
    if progress is not None:
        progress(total, total, "")
    return total


def _pieces(gguf: _core.Gguf, t: TensorInfo, kind: str, additions: Sequence[_Addition]) -> Iterator[memoryview]:
    """The tensor's bytes in the type they are written in, some rows at a time."""
    import numpy as np

    n, n_rows = t.shape[-1], math.prod(t.shape[:-1])
    data, row_bytes = gguf.tensor_data(t.name).cast("B"), _core.type_row_bytes(t.type, t.shape[-1])
    step = max(1, _PIECE // n)
    for i in range(0, n_rows, step):
        last = min(i + step, n_rows)
        raw = data[i * row_bytes : last * row_bytes]
        if not additions and kind == t.type:
            yield raw
            continue
        x = _core.to_float(t.type, raw, (last - i) * n).reshape(last - i, n)
        for addition in additions:
            x = x + addition.left[i:last] @ addition.right
        if not (np.abs(x) <= _LARGEST.get(kind, float(np.finfo(np.float32).max))).all():
            raise FormatError(f"{gguf.path}: tensor '{t.name}': with the adapters: found a value beyond {kind}'s range")
        packed = _core.from_float(kind, x.ravel()) if kind in _FLOATS else _core.quantize(kind, x)
        yield packed.data.cast("B")
