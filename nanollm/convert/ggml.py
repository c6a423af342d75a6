"""GPT-2 in ggml's first file format, magic "ggml": sizes, the vocabulary, then tensors until the file ends.

Layout: the GPT-2 example of https://github.com/ggml-org/ggml (its conversion script and loader). All numbers are
little-endian int32: the magic; n_vocab, n_ctx, n_embd, n_head, n_layer, 1000 * quantisation version + type of file;
n_vocab again, and for each token its length and bytes; for each tensor the number of dims, the length of its name,
its type, the dims (innermost first), the name, the data. Quantised blocks are GGUF's from version 2 on.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nanollm import _core
from nanollm.convert import bytelevel
from nanollm.convert.openai import check_sizes, gguf_name, metadata, original_name, set_end
from nanollm.convert.source import FLOATS, Source, SourceTensor, elements, first_bytes, map_file
from nanollm.convert.vocabulary import Kind, Vocabulary
from nanollm.errors import FormatError, UnsupportedError
from nanollm.models import lookup

__all__ = ["read", "recognises"]

_MAGIC = b"lmgg"  # 0x67676d6c
_LATER = {b"fmgg": "ggmf", b"tjgg": "ggjt", b"algg": "ggla"}
_HEADER = struct.Struct("<4s7i")
_QUANTIZATION_VERSION = 2
_VERSION_FACTOR = 1000
# Numbers that mean the same type there and in GGUF.
_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0"}
_TYPES |= {10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"}
_MAX_DIMS = 4
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor. ``shape`` outermost first; ``offset`` of the data from the start of the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int


def recognises(path: Path) -> bool:
    """Does the file begin with a magic number of ggml's before GGUF?"""
    magic = first_bytes(path, 4)
    return magic == _MAGIC or magic in _LATER


def read(path: Path) -> Source:
    """Maps every tensor to its GGUF name; one without is an error that names it."""
    data = map_file(path)
    if bytes(data[:4]) in _LATER:
        raise UnsupportedError(f"{path}: found a file of format '{_LATER[bytes(data[:4])]}', only 'ggml' is supported")
    if len(data) < _HEADER.size:
        raise FormatError(f"{path}: found {len(data)} bytes, too short for a ggml file")
    _, n_vocab, n_ctx, n_embd, n_head, n_layer, file_type, n_tokens = _HEADER.unpack_from(data)
    if min(n_vocab, n_ctx, n_embd, n_head, n_layer) < 1 or file_type < 0 or n_head > n_embd or n_layer > 1 << 12:
        raise FormatError(
            f"{path}: not a GPT-2 in ggml's format: found n_vocab {n_vocab}, n_ctx {n_ctx}, n_embd {n_embd}, "
            f"n_head {n_head}, n_layer {n_layer}, ftype {file_type}"
        )
    if n_tokens != n_vocab:
        raise FormatError(f"{path}: found a vocabulary of {n_tokens} tokens, its header says {n_vocab}")
    notes: list[str] = []
    tokens, offset = _tokens(path, data, n_vocab)
    version = file_type // _VERSION_FACTOR
    tensors = [_tensor(path, entry, version) for entry in _entries(path, data, offset)]
    names = [t.name for t in tensors]
    if len(set(names)) != len(names):
        twice = next(t.origin for t in tensors if names.count(t.name) > 1)
        raise FormatError(f"{path}: found tensor '{twice}' twice")
    check_sizes(path, tensors, n_vocab, n_ctx)
    vocabulary = _vocabulary(path, tokens)
    return Source(
        path=path,
        architecture=lookup("gpt2", str(path)),
        metadata=metadata(str(path), n_ctx, n_embd, n_layer, n_head) | vocabulary.metadata(),
        tensors=tensors,
        name=path.stem,
        notes=notes,
        original_name=original_name,
    )


def _tokens(path: Path, data: memoryview, n_vocab: int) -> tuple[list[bytes], int]:
    """The vocabulary, and where it ends."""
    tokens: list[bytes] = []
    offset = _HEADER.size
    for i in range(n_vocab):
        where = f"{path}: token {i}"
        if offset + 4 > len(data):
            raise FormatError(f"{where}: the file is truncated")
        size = int.from_bytes(data[offset : offset + 4], "little")
        offset += 4
        if size > len(data) - offset:
            raise FormatError(f"{where}: found {size} bytes, the file ends after {len(data) - offset}")
        tokens.append(bytes(data[offset : offset + size]))
        offset += size
    return tokens, offset


def _vocabulary(path: Path, tokens: list[bytes]) -> Vocabulary:
    """The file has tokens alone; which pairs were merged follows from their order."""
    try:
        merges, n = bytelevel.merges(tokens)
        v = Vocabulary(
            model="gpt2",
            pre="gpt-2",
            tokens=[bytelevel.spell(t) for t in tokens],
            kinds=[Kind.NORMAL] * n + [Kind.CONTROL] * (len(tokens) - n),
            merges=[" ".join(map(bytelevel.spell, pair)) for pair in merges],
        )
        set_end(v)
    except FormatError as e:
        raise FormatError(f"{path}: {e}") from None
    return v


def _entries(path: Path, data: memoryview, offset: int) -> Iterator[Entry]:
    """The tensors' headers, each checked against the file's end."""
    while offset < len(data):
        if offset + 12 > len(data):
            raise FormatError(f"{path}: a tensor at byte {offset}: the file is truncated")
        n_dims, n_name, kind = struct.unpack_from("<3i", data, offset)
        if not 1 <= n_dims <= _MAX_DIMS or not 1 <= n_name <= _MAX_NAME:
            raise FormatError(f"{path}: a tensor at byte {offset}: found {n_dims} dims, a name of {n_name} bytes")
        start = offset + 12 + 4 * n_dims
        if start + n_name > len(data):
            raise FormatError(f"{path}: a tensor at byte {offset}: the file is truncated")
        dims = struct.unpack_from(f"<{n_dims}i", data, offset + 12)
        name = bytes(data[start : start + n_name]).decode(errors="replace")
        where = f"{path}: tensor '{name}'"
        if kind not in _TYPES:
            raise UnsupportedError(f"{where}: found type {kind}, known are {', '.join(_TYPES.values())}")
        block = _core.type_block_size(_TYPES[kind])
        if min(dims) < 1 or dims[0] % block:
            raise FormatError(f"{where}: found dims {list(dims)} for {_TYPES[kind]} with blocks of {block}")
        offset = start + n_name
        n_bytes = math.prod(dims) // block * _core.type_block_bytes(_TYPES[kind])
        if n_bytes > len(data) - offset:
            raise FormatError(f"{where}: found {len(data) - offset} bytes, expected {n_bytes}: the file is truncated")
        yield Entry(name, _TYPES[kind], dims[::-1], offset)
        offset += n_bytes


def _tensor(path: Path, entry: Entry, version: int) -> SourceTensor:
    name = gguf_name(entry.name)
    where = f"{path}: tensor '{entry.name}'"
    if name is None:
        raise UnsupportedError(f"{where} is left over: GPT-2, the one model that is read here, has no place for it")
    # Biases may be kept as rows of a matrix.
    is_vector = name.endswith((".bias", "norm.weight"))
    shape = (math.prod(entry.shape),) if is_vector else entry.shape
    if entry.type in FLOATS:
        load = partial(elements, path, FLOATS[entry.type], entry.offset, entry.shape)
    elif version != _QUANTIZATION_VERSION:
        raise UnsupportedError(
            f"{where}: {entry.type} in blocks of quantisation version {version}, only {_QUANTIZATION_VERSION} is "
            "supported: quantise again from f16"
        )
    else:
        rows = (math.prod(shape[:-1]), _core.type_row_bytes(entry.type, shape[-1]))
        load = partial(elements, path, "u1", entry.offset, rows)
    return SourceTensor(name, shape, entry.type, load, entry.name)
