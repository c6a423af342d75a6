"""llama2.c's legacy export: seven int32, then every float32 weight in a fixed order; and its tokenizer file.

Layout: https://github.com/karpathy/llama2.c (export.py, legacy_export; tokenizer.py, export).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nanollm.convert.source import Source, SourceTensor, elements, map_file
from nanollm.convert.vocabulary import Kind, Vocabulary
from nanollm.errors import FileError, FormatError, UnsupportedError
from nanollm.models import lookup

__all__ = ["read", "recognises"]

_HEADER = struct.Struct("<7i")
_LATER_VERSIONS = 0x616B3432  # "ak42"
_BOS, _EOS = 1, 2


@dataclass(frozen=True, slots=True)
class Header:
    """The file's seven numbers; a negative n_vocab there says that the output matrix is the model's own."""

    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    n_ctx: int
    tied: bool

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    def layout(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        """(name, copies: one a layer or a single one, shape) in the file's order; an empty name is skipped."""
        kv = self.n_head_kv * self.head_dim
        n, ff, layers = self.n_embd, self.n_ff, self.n_layer
        yield "token_embd", 0, (self.n_vocab, n)
        yield "attn_norm", layers, (n,)
        yield "attn_q", layers, (n, n)
        yield "attn_k", layers, (kv, n)
        yield "attn_v", layers, (kv, n)
        yield "attn_output", layers, (n, n)
        yield "ffn_norm", layers, (n,)
        yield "ffn_gate", layers, (ff, n)
        yield "ffn_down", layers, (n, ff)
        yield "ffn_up", layers, (ff, n)
        yield "output_norm", 0, (n,)
        yield "", 0, (self.n_ctx, self.head_dim)  # cos and sin of the rotary embeddings, computed anyway
        if not self.tied:
            yield "output", 0, (self.n_vocab, n)


def recognises(path: Path) -> bool:
    """Is it a file that may be llama2.c's? It has no magic number; ``read`` checks its size."""
    return path.is_file() and path.suffix == ".bin"


def read(path: Path, tokenizer: Path | None = None) -> Source:
    """``tokenizer`` defaults to tokenizer.bin or tok<n_vocab>.bin beside the file."""
    data = map_file(path)
    h = _header(path, data)
    tensors: list[SourceTensor] = []
    offset = _HEADER.size
    for name, copies, shape in h.layout():
        size = 4 * math.prod(shape)
        for i in range(max(copies, 1)):
            if name:
                full = f"blk.{i}.{name}.weight" if copies else f"{name}.weight"
                load = partial(elements, data, "<f4", offset, shape)
                tensors.append(SourceTensor(full, shape, "F32", load, full))
            offset += size
    if offset != len(data):
        raise FormatError(f"{path}: found {len(data)} bytes, expected {offset} for the sizes in its header")
    if tokenizer is None:
        beside = [path.with_name("tokenizer.bin"), path.with_name(f"tok{h.n_vocab}.bin")]
        tokenizer = next((p for p in beside if p.exists()), None)
        if tokenizer is None:
            raise FileError(f"{path}: neither {beside[0].name} nor {beside[1].name} is beside it")
    vocabulary = _read_tokenizer(tokenizer, h.n_vocab)
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
    )


def _header(path: Path, data: memoryview) -> Header:
    if len(data) < _HEADER.size:
        raise FormatError(f"{path}: found {len(data)} bytes, too short for a llama2.c file")
    n_embd, n_ff, n_layer, n_head, n_head_kv, n_vocab, n_ctx = _HEADER.unpack_from(data)
    if n_embd == _LATER_VERSIONS:
        raise UnsupportedError(f"{path}: llama2.c export of version {n_ff}, only the legacy format (0) is supported")
    h = Header(n_embd, n_ff, n_layer, n_head, n_head_kv, abs(n_vocab), n_ctx, tied=n_vocab > 0)
    if min(n_embd, n_ff, n_layer, n_head, n_head_kv, h.n_vocab, n_ctx) < 1:
        raise FormatError(f"{path}: not a llama2.c file: found a size below 1 in its header")
    if n_embd % n_head or n_head % n_head_kv or h.head_dim % 2 or n_layer > 1 << 12:
        raise FormatError(
            f"{path}: not a llama2.c file: found width {n_embd}, {n_head} heads, {n_head_kv} of keys, {n_layer} layers"
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
