"""Safetensors files, mapped: https://huggingface.co/docs/safetensors (eight bytes of length, a JSON header, data).

The ``safetensors`` package has no bf16 for NumPy, so the layout is read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanollm.convert.source import FLOATS, Entry, map_file, read_json, write_atomically
from nanollm.errors import FileError, FormatError, NotFoundError, UnsupportedError

__all__ = ["Entry", "read_file", "read_folder", "write_file"]

_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2}
_BYTES |= {"U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}
# The format's own limit on the header.
_MAX_HEADER = 100_000_000


def read_file(path: Path) -> dict[str, Entry]:
    """All tensors of one file, every offset checked."""
    data = map_file(path)
    if len(data) < 8:
        raise FormatError(f"{path}: found {len(data)} bytes, too short for a safetensors file")
    size = int.from_bytes(data[:8], "little")
    if size > min(_MAX_HEADER, len(data) - 8):
        raise FormatError(f"{path}: header of {size} bytes in a file of {len(data)}: truncated or not safetensors")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
    except (ValueError, RecursionError) as e:
        raise FormatError(f"{path}: header is not JSON: {e}") from None
    if not isinstance(header, dict):
        raise FormatError(f"{path}: header: expected a JSON object")
    return dict(_entries(path, len(data), 8 + size, header))


def _entries(path: Path, size: int, start: int, header: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    for name, value in header.items():
        if name == "__metadata__":
            continue
        where = f"{path}: tensor '{name}'"
        try:
            kind, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise FormatError(f"{where}: expected dtype, shape and data_offsets") from None
        if not isinstance(kind, str):
            raise FormatError(f"{where}: dtype: found {kind!r}, expected a string")
        if kind not in _BYTES:
            raise UnsupportedError(f"{where}: unknown type {kind!r}")
        numbers = (*shape, begin, end)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise FormatError(f"{where}: shape and data_offsets must be whole numbers")
        n_bytes = _BYTES[kind] * math.prod(shape)
        if end - begin != n_bytes:
            raise FormatError(f"{where}: found {end - begin} bytes, expected {n_bytes} for {kind} {list(shape)}")
        if start + end > size:
            raise FormatError(f"{where}: ends at byte {start + end} of {size}: the file is truncated")
        yield name, Entry(path, name, kind if kind in FLOATS else f"type {kind}", shape, start + begin)


def write_file(path: Path, tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> None:
    """Writes float32 tensors, atomically."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, x in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    parts = (len(text).to_bytes(8, "little"), text, *(x.astype("<f4", copy=False).tobytes() for x in tensors.values()))
    write_atomically(path, parts)


def read_folder(folder: Path) -> dict[str, Entry]:
    """All tensors of a folder: ``model.safetensors``, or the shards that ``model.safetensors.index.json`` lists."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        single = folder / "model.safetensors"
        if not single.exists():
            others = sorted(p.name for p in folder.glob("*.bin"))
            hint = f" (found {others[0]}: PyTorch's pickles are not read; save as safetensors)" if others else ""
            raise FileError(f"{folder}: neither model.safetensors nor {index.name} is there{hint}")
        return read_file(single)
    content = read_json(index)
    where = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        raise FormatError(f"{index}: weight_map: expected an object of tensor names to file names")
    out: dict[str, Entry] = {}
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard:
            raise FormatError(f"{index}: weight_map: '{shard}' is not a plain file name")
        if not (folder / shard).exists():
            raise FileError(f"{folder / shard}: listed in {index.name}, but missing")
        entries = read_file(folder / shard)
        for name in entries:
            if where.get(name) != shard:
                raise FormatError(f"{folder / shard}: tensor '{name}' is not listed for this file in {index.name}")
        out |= entries
    for name, shard in where.items():
        if name not in out:
            raise NotFoundError(f"{folder / shard}: tensor '{name}' is missing, {index.name} lists it")
    return out
