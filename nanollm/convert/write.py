"""The common end of every converter: types chosen, everything checked, one piece of a tensor in memory at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nanollm import _core
from nanollm.convert.source import FLOATS, Source, SourceTensor
from nanollm.errors import FormatError, ShapeError, UnsupportedError
from nanollm.export import TEMPLATE_KEY, chat_pieces, pieces_of
from nanollm.models import PROGRAM_KEY, Array, Record, Value, build
from nanollm.pieces import PIECES_PREFIX

__all__ = ["OUTTYPES", "write"]

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")

# general.file_type of a file whose matrices are mostly of a type; of K-quants that of the medium mix.
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12}
_FILE_TYPES |= {"Q4_K": 15, "Q5_K": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32}
_QUANTIZATION_VERSION = 2
# The largest magnitude a type can hold, where it is less than float32's; what is beyond BF16's rounds to infinity.
_LARGEST = {"F16": 65504.0, "BF16": float.fromhex("0x1.fefffep127"), "Q8_0": 65504.0 * 127}
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
    metadata = _metadata(source, tensors, types, outtype, name, description)
    program = None if source.is_adapter else _program(source, tensors, metadata)
    metadata |= {} if source.is_adapter else _chat(source, metadata, note)

    total = sum(_n_bytes(t, types[t.name]) for t in tensors)
    done = 0
    with _core.GgufWriter(out) as w:
        kept = source.gguf.keys() if source.gguf is not None else []
        for key in dict.fromkeys((*kept, *metadata)):
            if key in metadata:
                w.set(key, _kind(metadata[key]), metadata[key])
            elif source.gguf is not None and key != PROGRAM_KEY and not key.startswith(PIECES_PREFIX):
                w.copy(source.gguf, key)
        if program is not None:
            w.set(PROGRAM_KEY, "uint8", np.frombuffer(program, np.uint8))
        for t in tensors:
            w.add_tensor(t.name, t.shape, types[t.name])
        for t in tensors:
            # A function's work, so that the last piece, a view of the tensor, ends before the next tensor is read.
            done = _write_tensor(w, t, types[t.name], source, progress, done, total)
    if progress is not None:
        progress(total, total, "")
    return dict(Counter(types.values())), total


def _write_tensor(
    w: _core.GgufWriter, t: SourceTensor, kind: str, source: Source, progress: Progress | None, done: int, total: int
) -> int:
    for piece in _pieces(t, kind, source):
        if progress is not None:
            progress(done, total, t.name)
        w.write(piece.data)
        done += piece.nbytes
    return done


def _metadata(
    source: Source,
    tensors: list[SourceTensor],
    types: dict[str, str],
    outtype: str,
    name: str | None,
    description: str | None,
) -> dict[str, Value]:
    """The keys to set, in the file's order; a key of ``source.gguf`` that is not among them is kept."""
    out: dict[str, Value] = {
        "general.architecture": source.architecture.name,
        "general.name": name or source.name,
        **({} if source.is_adapter else {"general.size_label": _size_label(sum(math.prod(t.shape) for t in tensors))}),
        **({"general.description": description} if description else {}),
        **_file_type(tensors, types),
        "general.quantization_version": _QUANTIZATION_VERSION,
    }
    if source.gguf is not None:
        computed = ("general.size_label", *(("general.file_type",) if outtype == "auto" else ()))
        out = {key: value for key, value in out.items() if key not in computed or key not in source.gguf}
    out |= source.metadata
    # As the file will hold them, so that the program is the one a reader of the file would build.
    return {key: float(np.float32(v)) if isinstance(v, float) else v for key, v in out.items()}


def _size_label(n_params: int) -> str:
    """The number of parameters in two digits at least: 124M, 1.1B."""
    scale, unit = next((s, u) for s, u in ((1e9, "B"), (1e6, "M"), (1e3, "K"), (1.0, "")) if n_params >= s or s == 1.0)
    n = n_params / scale
    return f"{n:.1f}{unit}" if n < 9.95 and unit else f"{n:.0f}{unit}"


def _program(source: Source, tensors: list[SourceTensor], metadata: dict[str, Value]) -> bytes:
    """Building it now is the check that nothing is missing or left over and that all shapes agree."""
    origins = {t.name: t.origin for t in tensors}
    kept = source.gguf
    try:
        return build(
            source.architecture,
            Record(lambda key: metadata.get(key, None if kept is None else kept.get(key)), str(source.path)),
            {t.name: t.shape for t in tensors},
            lambda n: origins.get(n) or source.original_name(n),
        )
    except ShapeError as e:  # of two activations: no tensor is to blame
        raise e if str(source.path) in str(e) else ShapeError(f"{source.path}: {e}") from None


def _chat(source: Source, metadata: dict[str, Value], note: Callable[[str], None]) -> dict[str, str | bool]:
    """The chat template's pieces, where there is one and it has some."""
    notes: list[str] = []
    if source.gguf is not None:
        pieces = chat_pieces(source.gguf, notes)
    else:
        template, tokens = metadata.get(TEMPLATE_KEY), metadata.get("tokenizer.ggml.tokens")
        if not isinstance(template, str) or not isinstance(tokens, list):
            return {}
        ids = [metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos")]
        bos, eos = ["" if not isinstance(i, int) else tokens[i] for i in ids]
        pieces = pieces_of(template, bos, eos, f"{source.path}: {TEMPLATE_KEY}", notes)
    for text in notes:
        note(text)
    return pieces.metadata() if pieces is not None else {}


def _order(t: SourceTensor) -> tuple[int, int]:
    """Tensors in the order a step reads them, so that a mapped file is read from front to back."""
    first, _, rest = t.name.partition(".")
    layer = rest.partition(".")[0]
    if first == "blk" and layer.isdecimal():
        return 1, int(layer[:9])
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


def _file_type(tensors: list[SourceTensor], types: dict[str, str]) -> dict[str, Value]:
    """By the type that most of the matrices' elements have; no key where it has no number."""
    count: Counter[str] = Counter()
    for t in tensors:
        count[types[t.name]] += math.prod(t.shape) if len(t.shape) > 1 else 0
    most = max(count, key=lambda name: count[name], default="")
    return {"general.file_type": _FILE_TYPES[most]} if most in _FILE_TYPES else {}


def _n_bytes(t: SourceTensor, kind: str) -> int:
    return math.prod(t.shape[:-1]) * _core.type_row_bytes(kind, t.shape[-1])


def _kind(value: Value) -> str:
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
    n = t.shape[-1]
    step = max(1, _PIECE // n)
    if kind == t.type and kind not in FLOATS:
        rows = t.load()
        for i in range(0, rows.shape[0], step):
            yield np.ascontiguousarray(rows[i : i + step])
        return
    where = f"{source.path}: tensor '{t.origin}'"
    exact = t.floats is not None
    rows = (t.floats or t.load)()
    if not exact and t.type not in FLOATS:
        if not _core.type_is_supported(t.type):
            raise UnsupportedError(f"{where}: type {t.type} can be kept, but not converted")
    else:
        rows = rows.reshape(-1, n)
    for i in range(0, rows.shape[0], step):
        part = np.ascontiguousarray(rows[i : i + step])
        x = part if exact else _to_float(part, t.type, part.shape[0] * n)
        limit = _LARGEST.get(kind, np.inf)
        if not (np.abs(x) <= np.minimum(limit, np.finfo(np.float32).max)).all():
            if not np.isfinite(x).all():
                raise FormatError(f"{where}: found a value that is not finite")
            wider = "f32" if kind == "BF16" else "bf16 or f32"
            raise UnsupportedError(f"{where}: found a value beyond {kind}'s range: convert to {wider}")
        yield part if kind == t.type else _core.from_float(kind, x.ravel())


def _to_float(x: Array, kind: str, n: int) -> Array:
    if kind == "BF16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32, copy=False) if kind in FLOATS else _core.to_float(kind, x.data, n)
