"""Writes GGUF files of real shapes with random weights and a real-sized vocabulary, for measuring speed and memory.

Speed does not depend on the weights' values, so one block of random numbers, quantised once, is repeated. Which type a
matrix gets says the file type's recipe, as `nanollm quantize` has it, or --pure.

    python benchmarks/make_model.py llama-3.2-1b Q8_0 -o 1b-q8_0.gguf
    python benchmarks/make_model.py llama-3.2-1b Q4_K_M -o 1b-q4_k_m.gguf
    python benchmarks/make_model.py gpt2-117m Q3_K --pure -o gpt2-q3_k.gguf
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np

from nanollm import _core

FILE_TYPES = {name: number for name, number in _core.ftypes().items() if number >= 0}
TILE_ROWS = 64  # rows of random numbers that are repeated


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters of a published model."""

    architecture: str
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    n_ctx: int
    tied: bool
    rope_freq_base: float = 10000.0


SHAPES = {
    "llama-tiny": Shape("llama", 4, 256, 512, 4, 2, 512, 2304, False),
    "gpt2-tiny": Shape("gpt2", 4, 256, 1024, 4, 4, 512, 2304, True),
    "llama-1m": Shape("llama", 4, 128, 384, 4, 4, 2048, 256, True),
    "llama-15m": Shape("llama", 6, 288, 768, 6, 6, 32000, 256, True),
    "llama-50m": Shape("llama", 4, 768, 2304, 12, 4, 32000, 2048, True),
    "gpt2-2l": Shape("gpt2", 2, 768, 3072, 12, 12, 50257, 1024, True),
    "gpt2-117m": Shape("gpt2", 12, 768, 3072, 12, 12, 50257, 1024, True),
    "tinyllama-1.1b": Shape("llama", 22, 2048, 5632, 32, 4, 32000, 2048, False),
    "llama-3.2-1b": Shape("llama", 16, 2048, 8192, 32, 8, 128256, 131072, True, 500000.0),
    "llama-3.2-3b": Shape("llama", 28, 3072, 8192, 24, 8, 128256, 131072, True, 500000.0),
}


def tensors(s: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, outermost dim first, as GGUF files of this architecture have them."""
    head_dim = s.n_embd // s.n_head
    yield "token_embd.weight", (s.n_vocab, s.n_embd)
    if s.architecture == "gpt2":
        yield "position_embd.weight", (s.n_ctx, s.n_embd)
        yield "output_norm.bias", (s.n_embd,)
    yield "output_norm.weight", (s.n_embd,)
    if not s.tied:
        yield "output.weight", (s.n_vocab, s.n_embd)
    for i in range(s.n_layer):
        if s.architecture == "gpt2":
            layer = {
                "attn_norm": (s.n_embd,),
                "attn_qkv": (3 * s.n_embd, s.n_embd),
                "attn_output": (s.n_embd, s.n_embd),
                "ffn_norm": (s.n_embd,),
                "ffn_up": (s.n_ff, s.n_embd),
                "ffn_down": (s.n_embd, s.n_ff),
            }
            for name, shape in layer.items():
                yield f"blk.{i}.{name}.weight", shape
                yield f"blk.{i}.{name}.bias", shape[:1]
        else:
            layer = {
                "attn_norm": (s.n_embd,),
                "attn_q": (s.n_head * head_dim, s.n_embd),
                "attn_k": (s.n_head_kv * head_dim, s.n_embd),
                "attn_v": (s.n_head_kv * head_dim, s.n_embd),
                "attn_output": (s.n_embd, s.n_head * head_dim),
                "ffn_norm": (s.n_embd,),
                "ffn_gate": (s.n_ff, s.n_embd),
                "ffn_up": (s.n_ff, s.n_embd),
                "ffn_down": (s.n_embd, s.n_ff),
            }
            for name, shape in layer.items():
                yield f"blk.{i}.{name}.weight", shape


def vocabulary(n_vocab: int) -> tuple[list[str], list[str]]:
    """A byte-level BPE vocabulary: the 256 bytes, then pairs of them with their merges, then one end token."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    byte_chars = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    n_merges = n_vocab - 257
    pairs = [(a, b) for a, b in islice(product(byte_chars, byte_chars), n_merges)]
    triples = islice(product([a + b for a, b in pairs], byte_chars), max(0, n_merges - len(pairs)))
    merges = pairs + list(triples)
    return [*byte_chars, *(a + b for a, b in merges), "<|end|>"], [f"{a} {b}" for a, b in merges]


def metadata(s: Shape, name: str, file_type: int | None) -> Iterator[tuple[str, str, object]]:
    """Keys, kinds and values."""
    a = s.architecture
    tokens, merges = vocabulary(s.n_vocab)
    yield "general.architecture", "string", a
    yield "general.name", "string", f"{name}, random weights"
    if file_type is not None:
        yield "general.file_type", "uint32", file_type
    yield f"{a}.block_count", "uint32", s.n_layer
    yield f"{a}.context_length", "uint32", s.n_ctx
    yield f"{a}.embedding_length", "uint32", s.n_embd
    yield f"{a}.feed_forward_length", "uint32", s.n_ff
    yield f"{a}.attention.head_count", "uint32", s.n_head
    if a == "gpt2":
        yield f"{a}.attention.layer_norm_epsilon", "float32", 1e-5
    else:
        yield f"{a}.attention.head_count_kv", "uint32", s.n_head_kv
        yield f"{a}.attention.layer_norm_rms_epsilon", "float32", 1e-5
        yield f"{a}.rope.freq_base", "float32", s.rope_freq_base
        yield f"{a}.rope.dimension_count", "uint32", s.n_embd // s.n_head
        yield f"{a}.vocab_size", "uint32", s.n_vocab
    yield "tokenizer.ggml.model", "string", "gpt2"
    yield "tokenizer.ggml.pre", "string", "gpt-2"
    yield "tokenizer.ggml.tokens", "string", tokens
    yield "tokenizer.ggml.token_type", "int32", [1] * (len(tokens) - 1) + [3]
    yield "tokenizer.ggml.merges", "string", merges
    yield "tokenizer.ggml.eos_token_id", "uint32", len(tokens) - 1
    yield "tokenizer.ggml.bos_token_id", "uint32", len(tokens) - 1


def is_quantised(tensor: str) -> bool:
    """Not so vectors and learned positions."""
    return tensor.endswith(".weight") and "norm" not in tensor and tensor != "position_embd.weight"


def recipe(name: str, file_type: int) -> dict[str, str]:
    """The type that each tensor of the model `name` gets in a file of this type."""
    types = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "shapes.gguf")
        write(name, path, lambda tensor: "Q4_0", file_type=None)  # small, and rows of whole blocks
        with _core.Gguf.open(path) as gguf:
            _core.quantize_file(
                gguf,
                None,
                file_type,
                dry_run=True,
                allow_requantize=True,
                progress=lambda step: types.update({step.tensor.name: step.type}),
            )
    return types


def write(
    name: str, path: str, type_of: Callable[[str], str], file_type: int | None = None, distinct: bool = False
) -> None:
    """Writes the model `name`, its matrices in the types that `type_of` says. `distinct`: no row is repeated."""
    s = SHAPES[name]
    rng = np.random.default_rng(1)
    with _core.GgufWriter(path) as w:
        for key, kind, value in metadata(s, name, file_type):
            w.set(key, kind, value)
        listed = [(tensor, shape, type_of(tensor) if is_quantised(tensor) else "F32") for tensor, shape in tensors(s)]
        for tensor, shape, type_name in listed:
            w.add_tensor(tensor, shape, type_name)
        for _, shape, type_name in listed:
            if len(shape) == 1:
                w.write(np.ones(shape, np.float32))
                continue
            n_rows, n = shape
            data = b""
            for at in range(0, n_rows, TILE_ROWS):
                if distinct or not data:
                    tile = (rng.standard_normal((TILE_ROWS, n)) * 0.02).astype(np.float32)
                    data = bytes(_core.from_float(type_name, tile))
                w.write(data[: len(data) // TILE_ROWS * min(TILE_ROWS, n_rows - at)])


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("type", type=str.upper, help=f"{', '.join(FILE_TYPES)}; with --pure a tensor's type")
    p.add_argument("-o", "--output", required=True, metavar="FILE")
    p.add_argument("--pure", action="store_true", help="all matrices in the one type")
    p.add_argument("--distinct", action="store_true", help="repeat no row: slower; for measuring quality, not speed")
    args = p.parse_args()
    number = FILE_TYPES.get(args.type)
    if args.pure:
        if not _core.type_is_supported(args.type):
            p.error(f"{args.type}: no type that a tensor can have")
        write(args.shape, args.output, lambda tensor: str(args.type), number, args.distinct)
    elif number is None:
        p.error(f"{args.type}: no type that a file can have; --pure takes those of tensors")
    else:
        write(args.shape, args.output, recipe(args.shape, number).__getitem__, number, args.distinct)


if __name__ == "__main__":
    main()
