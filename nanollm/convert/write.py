"""The common end of every converter: types chosen, everything checked, one piece of a tensor in memory at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nanollm import _core
from nanollm.convert.source import Source, SourceTensor
from nanollm.errors import FormatError, UnsupportedError
from nanollm.models import PROGRAM_KEY, Array, Record, Value, build

__all__ = ["OUTTYPES", "write"]

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")

# general.file_type of a file whose matrices are mostly of a type.
_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_QUANTIZATION_VERSION = 2
# The largest magnitude a type can hold, where it is less than float32's.
_LARGEST = {"F16": 65504.0, "Q8_0": 65504.0 * 127}
# Elements converted at a time.
_PIECE = 1 << 22

Progress = Callable[[int, int, str], None]


def write(
    source: Source,
    out: Path,
    outtype: str,
    progress: Progress | None,
    note: Callable[[str], None],
    name: str | None,
    description: str | None,
) -> tuple[dict[str, int], int]:
    """Writes the file; returns how many tensors it has of each type, and their bytes."""
    tensors = sorted(source.tensors, key=_order)
    types = {t.name: _type(t, outtype, note) for t in tensors}
    metadata: dict[str, Value] = {
        "general.architecture": source.architecture.name,
        "general.name": name or source.name,
        **({"general.description": description} if description else {}),
        "general.file_type": _file_type(tensors, types),
        "general.quantization_version": _QUANTIZATION_VERSION,
        **source.metadata,
    }
    # As the file will hold them, so that the program is the one a reader of the file would build.
    metadata = {key: float(np.float32(v)) if isinstance(v, float) else v for key, v in metadata.items()}
    # Building the program now is the check that nothing is missing or left over and that all shapes agree.
    origins = {t.name: t.origin for t in tensors}
    file = Record(metadata.get, str(source.path))
    program = build(
        source.architecture,
        file,
        {t.name: t.shape for t in tensors},
        lambda n: origins.get(n) or source.original_name(n),
    )

    total = sum(_n_bytes(t, types[t.name]) for t in tensors)
    done = 0
    with _core.GgufWriter(out) as w:
        for key, value in metadata.items():
            w.set(key, _kind(key, value), value)
        w.set(PROGRAM_KEY, "uint8", np.frombuffer(program, np.uint8))
        for t in tensors:
            w.add_tensor(t.name, t.shape, types[t.name])
        for t in tensors:
            for piece in _pieces(t, types[t.name], source):
                if progress is not None:
                    progress(done, total, t.name)
                w.write(piece.data)
                done += piece.nbytes
    if progress is not None:
        progress(total, total, "")
    return dict(Counter(types.values())), total


def _order(t: SourceTensor) -> tuple[int, int]:
    """Tensors in the order a step reads them, so that a mapped file is read from front to back."""
    first, _, rest = t.name.partition(".")
    if first == "blk":
        return 1, int(rest.partition(".")[0])
    return (2 if first.startswith("output") else 0), 0


def _type(t: SourceTensor, outtype: str, note: Callable[[str], None]) -> str:
    if len(t.shape) < 2:
        return "F32"
    if outtype == "auto":
        return t.type
    wanted = outtype.upper()
    block = _core.type_block_size(wanted)
    if t.shape[-1] % block:
        note(f"tensor '{t.name}': rows of {t.shape[-1]} are no whole blocks of {block} for {wanted}: written as F16")
        return "F16"
    return wanted


def _file_type(tensors: list[SourceTensor], types: dict[str, str]) -> int:
    """By the type that most of the matrices' elements have."""
    count: Counter[str] = Counter()
    for t in tensors:
        count[types[t.name]] += math.prod(t.shape) if len(t.shape) > 1 else 0
    return _FILE_TYPES[count.most_common(1)[0][0]]


def _n_bytes(t: SourceTensor, kind: str) -> int:
    return math.prod(t.shape[:-1]) * _core.type_row_bytes(kind, t.shape[-1])


def _kind(key: str, value: Value) -> str:
    """GGUF's kind of a value: as the field writes these keys, counts in u32 and reals in f32."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "uint32"
    if isinstance(value, float):
        return "float32"
    if isinstance(value, np.ndarray):
        return value.dtype.name
    return "string"


def _pieces(t: SourceTensor, kind: str, source: Source) -> Iterator[Array]:
    """A tensor's bytes in the type they are written in, some rows at a time."""
    rows = t.load().reshape(-1, t.shape[-1])
    step = max(1, _PIECE // t.shape[-1])
    for i in range(0, rows.shape[0], step):
        part = np.ascontiguousarray(rows[i : i + step])
        x = _to_float(part, t.type)
        limit = _LARGEST.get(kind, np.inf)
        if not (np.abs(x) <= np.minimum(limit, np.finfo(np.float32).max)).all():
            where = f"{source.path}: tensor '{t.origin}'"
            if not np.isfinite(x).all():
                raise FormatError(f"{where}: found a value that is not finite")
            raise UnsupportedError(f"{where}: found a value beyond {kind}'s range: convert to bf16 or f32")
        yield part if kind == t.type else _core.from_float(kind, x.ravel())


def _to_float(x: Array, kind: str) -> Array:
    if kind == "BF16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32, copy=False)
