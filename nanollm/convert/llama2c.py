"""llama2.c's exports: a header, then every weight in a fixed order; and its tokenizer file.

The legacy export has seven int32 and no magic number. Versions 1 (float32) and 2 (int8 in groups, each with a float32
scale) have a header of 256 bytes: magic, version, the seven, a byte that says whether the output matrix is the
embeddings', and in version 2 the size of a group.

Layout: https://github.com/karpathy/llama2.c (export.py, legacy_export, version1_export and version2_export;
tokenizer.py, export).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nanollm.convert.source import Source, SourceTensor, elements, first_bytes, map_file
from nanollm.convert.vocabulary import Kind, Vocabulary
from nanollm.errors import FileError, FormatError, UnsupportedError
from nanollm.models import Array, lookup

__all__ = ["read", "recognises"]

_LEGACY = struct.Struct("<7i")
_HEADER = struct.Struct("<4si7iBi")
_HEADER_SIZE = 256
_MAGIC = b"24ka"  # 0x616b3432
_BOS, _EOS = 1, 2
_Q8_0_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Header:
    """The file's numbers. ``tied``: the output matrix is the embeddings'. ``group``: values a scale, in version 2."""

    version: int
    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    n_ctx: int
    tied: bool
    group: int

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    def layout(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        """(name, copies: one a layer or a single one, shape) in the file's order; an empty name is skipped."""
        kv = self.n_head_kv * self.head_dim
        n, ff, layers = self.n_embd, self.n_ff, self.n_layer
        embeddings = ("token_embd", 0, (self.n_vocab, n))
        attention_norm, ffn_norm, output_norm = ("attn_norm", layers, (n,)), ("ffn_norm", layers, (n,)), (n,)
        attention = (
            ("attn_q", layers, (n, n)),
            ("attn_k", layers, (kv, n)),
            ("attn_v", layers, (kv, n)),
            ("attn_output", layers, (n, n)),
        )
        ffn = (("ffn_gate", layers, (ff, n)), ("ffn_down", layers, (n, ff)), ("ffn_up", layers, (ff, n)))
        if self.version == 0:
            yield from (embeddings, attention_norm, *attention, ffn_norm, *ffn)
            yield "output_norm", 0, output_norm
            yield "", 0, (self.n_ctx, self.head_dim)  # cos and sin of the rotary embeddings, computed anyway
        else:
            yield from (attention_norm, ffn_norm)
            yield "output_norm", 0, output_norm
            yield from (embeddings, *attention, *ffn)
        if not self.tied:
            yield "output", 0, (self.n_vocab, n)


def recognises(path: Path) -> bool:
    """Is it a file that may be llama2.c's? Its legacy export has no magic number; ``read`` checks its size."""
    start = first_bytes(path, 4)
    return start == _MAGIC or (path.suffix == ".bin" and path.is_file())


def read(path: Path, tokenizer: Path | None = None) -> Source:
    """``tokenizer`` defaults to tokenizer.bin or tok<n_vocab>.bin beside the file."""
    data = map_file(path)
    h = _header(path, data)
    tensors: list[SourceTensor] = []
    offset = _HEADER_SIZE if h.version else _LEGACY.size
    for name, copies, shape in h.layout():
        is_quantised = h.version == 2 and len(shape) > 1
        if is_quantised and math.prod(shape) % h.group:
            raise FormatError(f"{path}: found groups of {h.group}, which do not divide '{name}' {list(shape)}")
        size = _quantised_size(h, shape) if is_quantised else 4 * math.prod(shape)
        for i in range(max(copies, 1)):
            full = f"blk.{i}.{name}.weight" if copies else f"{name}.weight"
            if is_quantised:
                tensors.append(_quantised(path, full, shape, offset, h.group))
            elif name:
                tensors.append(SourceTensor(full, shape, "F32", partial(elements, path, "<f4", offset, shape), full))
            offset += size
    if offset != len(data):
        raise FormatError(f"{path}: found {len(data)} bytes, expected {offset} for the sizes in its header")
    return _source(path, h, tensors, tokenizer)


def _quantised_size(h: Header, shape: tuple[int, ...]) -> int:
    return math.prod(shape) + 4 * (math.prod(shape) // h.group)


def _quantised(path: Path, name: str, shape: tuple[int, ...], offset: int, group: int) -> SourceTensor:
    """int8 values and the scales behind them: as Q8_0 where its blocks lie within the groups."""

    def parts() -> tuple[Array, Array]:
        n = math.prod(shape)
        values = elements(path, "i1", offset, (n // group, group))
        return values, elements(path, "<f4", offset + n, (n // group, 1))

    def floats() -> Array:
        values, scales = parts()
        return (values * scales).reshape(shape)

    def blocks() -> Array:
        values, scales = parts()
        rounded = np.repeat(scales, group // _Q8_0_BLOCK).astype("<f2")
        if not np.isfinite(rounded).all():
            raise UnsupportedError(f"{path}: tensor '{name}': found a scale beyond Q8_0's range: convert to f32")
        out = np.empty((rounded.size, 2 + _Q8_0_BLOCK), np.uint8)
        out[:, :2] = rounded.view(np.uint8).reshape(-1, 2)
        out[:, 2:] = values.view(np.uint8).reshape(-1, _Q8_0_BLOCK)
        return out.reshape(shape[0], -1)

    if group % _Q8_0_BLOCK or shape[-1] % _Q8_0_BLOCK:
        return SourceTensor(name, shape, "F32", floats, name)
    return SourceTensor(name, shape, "Q8_0", blocks, name, floats)


def _source(path: Path, h: Header, tensors: list[SourceTensor], tokenizer: Path | None) -> Source:
    if tokenizer is None:
        beside = [path.with_name("tokenizer.bin"), path.with_name(f"tok{h.n_vocab}.bin")]
        tokenizer = next((p for p in beside if p.exists()), None)
        if tokenizer is None:
            raise FileError(f"{path}: neither {beside[0].name} nor {beside[1].name} is beside it")
    vocabulary = _read_tokenizer(tokenizer, h.n_vocab)
    notes = []
    if any(t.type == "Q8_0" for t in tensors):
        notes.append("float32 scales of int8 groups become Q8_0's float16 ones (exact values: convert to f32)")
    elif h.version == 2:
        notes.append(f"groups of {h.group} do not make Q8_0's blocks of {_Q8_0_BLOCK}: the values become float32")
    return Source(
        path=path,
        architecture=lookup("llama", str(path)),
        metadata={
            "llama.block_count": h.n_layer,
            "llama.context_length": h.n_ctx,
            "llama.embedding_length": h.n_embd,
            "llama.feed_forward_length": h.n_ff,
            "llama.vocab_size": h.n_vocab,
            "llama.attention.head_count": h.n_head,
            "llama.attention.head_count_kv": h.n_head_kv,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.dimension_count": h.head_dim,
            "llama.rope.freq_base": 10000.0,
            **vocabulary.metadata(),
        },
        tensors=tensors,
        name=path.stem,
        notes=notes,
    )


def _header(path: Path, data: memoryview) -> Header:
    if len(data) < _LEGACY.size:
        raise FormatError(f"{path}: found {len(data)} bytes, too short for a llama2.c file")
    if bytes(data[:4]) == _MAGIC:
        if len(data) < _HEADER_SIZE:
            raise FormatError(f"{path}: found {len(data)} bytes, too short for a llama2.c file")
        _, version, n_embd, n_ff, n_layer, n_head, n_head_kv, n_vocab, n_ctx, tied, group = _HEADER.unpack_from(data)
        if version not in (1, 2):
            raise UnsupportedError(f"{path}: llama2.c export of version {version}, only 0 (legacy) to 2 are supported")
        group = group if version == 2 else 1
        h = Header(version, n_embd, n_ff, n_layer, n_head, n_head_kv, n_vocab, n_ctx, bool(tied), group)
    else:
        n_embd, n_ff, n_layer, n_head, n_head_kv, n_vocab, n_ctx = _LEGACY.unpack_from(data)
        h = Header(0, n_embd, n_ff, n_layer, n_head, n_head_kv, abs(n_vocab), n_ctx, n_vocab > 0, 1)
    if min(h.n_embd, h.n_ff, h.n_layer, h.n_head, h.n_head_kv, h.n_vocab, h.n_ctx, h.group) < 1:
        raise FormatError(f"{path}: not a llama2.c file: found a size below 1 in its header")
    if h.n_embd % h.n_head or h.n_head % h.n_head_kv or h.head_dim % 2 or h.n_layer > 1 << 12:
        raise FormatError(
            f"{path}: not a llama2.c file: found width {h.n_embd}, {h.n_head} heads, {h.n_head_kv} of keys, "
            f"{h.n_layer} layers"
        )
    return h


def _read_tokenizer(path: Path, n_vocab: int) -> Vocabulary:
    data = bytes(map_file(path))
    tokens: list[str] = []
    scores: list[float] = []
    offset = 4  # the longest token's length
    while offset < len(data):
        if len(tokens) == n_vocab:
            raise FormatError(f"{path}: found more than the {n_vocab} tokens that the model has")
        where = f"{path}: token {len(tokens)}"
        if offset + 8 > len(data):
            raise FormatError(f"{where}: the file is truncated")
        score, size = struct.unpack_from("<fi", data, offset)
        offset += 8
        if not 0 <= size <= len(data) - offset:
            raise FormatError(f"{where}: found {size} bytes, the file ends after {len(data) - offset}")
        try:
            # The export writes spaces for SentencePiece's mark.
            tokens.append(data[offset : offset + size].decode().replace(" ", "▁"))
        except UnicodeDecodeError as e:
            raise FormatError(f"{where}: not UTF-8: {e}") from None
        scores.append(score)
        offset += size
    if len(tokens) != n_vocab:
        raise FormatError(f"{path}: found {len(tokens)} tokens, expected {n_vocab}")
    # ... and "\n<s>\n", "\n</s>\n" for the two control tokens.
    kinds = [Kind.BYTE if _is_byte(t) else Kind.NORMAL for t in tokens]
    for i, (spelling, kind) in enumerate((("<unk>", Kind.UNKNOWN), ("<s>", Kind.CONTROL), ("</s>", Kind.CONTROL))):
        if i >= n_vocab or tokens[i].strip("\n") != spelling:
            raise FormatError(f"{path}: token {i}: found {tokens[i : i + 1]}, expected '{spelling}'")
        tokens[i], kinds[i] = spelling, kind
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        kinds=kinds,
        scores=scores,
        special={"unknown": 0, "bos": _BOS, "eos": _EOS},
        add_bos=True,
        add_eos=False,
        add_space_prefix=True,
    )


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")
