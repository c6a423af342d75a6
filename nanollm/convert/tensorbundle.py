"""TensorFlow's checkpoint files (tensor bundles): ``NAME.index`` and ``NAME.data-00000-of-00001``, …

The index is a LevelDB table from a tensor's name to its place: blocks of prefix-compressed keys, whose values are
protocol-buffer messages. The data files hold the elements. Reading them takes less than importing TensorFlow.

Layout: https://github.com/google/leveldb/blob/main/doc/table_format.md;
fields: tensorflow/core/protobuf/tensor_bundle.proto and tensor_shape.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from nanollm.convert.protobuf import fields, message, number, varint
from nanollm.convert.source import FLOATS, Entry, map_file
from nanollm.errors import FileError, FormatError, UnsupportedError

__all__ = ["Entry", "read"]

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
# Far beyond any GPT-2, and little enough to hold in memory.
_MAX_INDEX, _MAX_ENTRIES, _MAX_KEY = 1 << 22, 1 << 16, 1 << 10
_DTYPES = {1: "F32", 14: "BF16", 19: "F16"}


def read(prefix: Path) -> dict[str, Entry]:
    """All variables of the checkpoint ``prefix``, every offset checked."""
    path = prefix.with_name(f"{prefix.name}.index")
    data = map_file(path)
    if not _FOOTER <= len(data) <= _MAX_INDEX:
        raise FormatError(f"{path}: found {len(data)} bytes, a checkpoint's index has {_FOOTER} to {_MAX_INDEX}")
    try:
        values = dict(_table(bytes(data)))
        header = message(values.pop(b"", b""))
        n_shards = number(header, 1, 1)
        if number(header, 2, 0) != 0:
            raise UnsupportedError(f"{path}: found a big-endian checkpoint, only little-endian ones are supported")
        if not 1 <= n_shards < 100000:
            raise ValueError(f"{n_shards} data files")
        shards = [prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{n_shards:05d}") for i in range(n_shards)]
        return {key.decode(): _entry(key.decode(), value, shards) for key, value in values.items()}
    except FormatError:
        raise
    except ValueError as e:  # UnicodeDecodeError too
        raise FormatError(f"{path}: not a TensorFlow checkpoint's index: {e}") from None


def _entry(name: str, value: bytes, shards: list[Path]) -> Entry:
    entry = message(value)
    shape = entry.get(2, b"")
    dims = [number(message(dim), 1, 0) for i, dim in fields(shape if isinstance(shape, bytes) else b"") if i == 2]
    shard, offset, size = number(entry, 3, 0), number(entry, 4, 0), number(entry, 5, 0)
    if not 0 <= shard < len(shards) or min(offset, size, *dims, 0) < 0 or len(dims) > 8:
        raise ValueError(f"variable '{name}' with shape {dims}, {size} bytes at {offset} of data file {shard}")
    path = shards[shard]
    where = f"{path}: variable '{name}'"
    if 7 in entry:
        raise UnsupportedError(f"{where}: found a partitioned variable")
    try:
        n_file = path.stat().st_size
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
    if size > n_file - offset:
        raise FormatError(f"{where}: ends at byte {offset + size} of {n_file}: the file is truncated")
    dtype = number(entry, 1, 0)
    kind = _DTYPES.get(dtype, f"dtype {dtype}")
    n_bytes = math.prod(dims) * (4 if kind == "F32" else 2)
    if kind in FLOATS and size != n_bytes:
        raise FormatError(f"{where}: found {size} bytes, expected {n_bytes} for {kind} {dims}")
    return Entry(path, name, kind, tuple(dims), offset, "variable")


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values of a LevelDB table. Raises ValueError."""
    footer = data[-_FOOTER:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("the magic number at its end is missing")
    _, _, at = _handle(footer, 0)  # the meta index: filters, of no use here
    offset, size, _ = _handle(footer, at)
    left = _MAX_ENTRIES
    for _, handle in _block(data, offset, size):
        offset, size, _ = _handle(handle, 0)
        left -= 1
        for entry in _block(data, offset, size):
            yield entry
            left -= 1
        if left < 0:
            raise ValueError(f"more than {_MAX_ENTRIES} blocks and variables")


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block: each key shares its start with the one before."""
    if offset + size + 5 > len(data) or size < 4:  # a byte for the compression and four of checksum follow
        raise ValueError("a block beyond its end")
    if data[offset + size] != 0:
        raise ValueError(f"blocks with compression {data[offset + size]}")
    block = data[offset : offset + size]
    n_restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * n_restarts
    if end < 0:
        raise ValueError("a block shorter than its restarts")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        n_key, at = varint(block, at)
        n_value, at = varint(block, at)
        if shared > len(key) or n_key + n_value > end - at or shared + n_key > _MAX_KEY:
            raise ValueError("an entry beyond its block")
        key = key[:shared] + block[at : at + n_key]
        yield key, block[at + n_key : at + n_key + n_value]
        at += n_key + n_value
