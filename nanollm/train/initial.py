"""Models from scratch: sizes and a tokenizer, to a GGUF file with random weights.

As GPT-2 begins (Radford et al., 2019): matrices from a normal distribution of deviation 0.02, those that write to the
residual stream divided by sqrt(2 n_layer), scales of norms 1, biases 0.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..convert import sentencepiece
from ..convert.source import Source, SourceTensor, first_bytes, read_json
from ..convert.tokenizer import read as read_tokenizer
from ..convert.write import write
from ..errors import ArgumentError, FileError, FormatError, UnsupportedError
from ..models import Record, Value, lookup

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ARCHITECTURES", "ModelConfig", "create_model", "read_config"]

ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3")
"""Those that a model from scratch can have."""

_DEVIATION = 0.02
_RESIDUAL = ("attn_output.weight", "ffn_down.weight")

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The sizes of a model, whose `architecture` is one of ARCHITECTURES."""

    architecture: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int | None = None
    """Heads of keys and values; None: n_head."""
    n_ff: int | None = None
    """Width between the two layers of a feed-forward network; None: 4 n_embd for gpt2, else 8/3 n_embd, rounded up
    to a multiple of 32."""
    head_dim: int | None = None
    """Width of a head; None: n_embd / n_head."""
    n_ctx: int = 512
    """The longest text that the model is for."""
    tied: bool = True
    """Is the output matrix the embeddings'?"""
    rope_freq_base: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise UnsupportedError(f"architecture: found {self.architecture!r}, from scratch there are {known}")
        for name in ("n_layer", "n_embd", "n_head", "n_ctx", "n_kv", "width"):
            value = getattr(self, name)
            if not 1 <= value < 1 << 31:
                raise ArgumentError(f"{name}: {value}, expected 1 or more")
        if self.n_head % self.n_kv:
            raise ArgumentError(f"n_head_kv: {self.n_kv}, expected a divisor of n_head, {self.n_head}")
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ArgumentError(f"n_head: {self.n_head}, expected a divisor of n_embd, {self.n_embd}")
        if self.architecture != "gpt2" and self.head_size % 2:
            raise ArgumentError(f"heads of {self.head_size}: rotary embeddings need an even number")
        if self.architecture == "gpt2" and (self.n_kv, self.head_size * self.n_head) != (self.n_head, self.n_embd):
            raise ArgumentError("n_head_kv, head_dim: a gpt2 has heads of keys as many as of queries, n_embd in all")

    @property
    def n_kv(self) -> int:
        return self.n_head if self.n_head_kv is None else self.n_head_kv

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @property
    def width(self) -> int:
        """Of the feed-forward network."""
        if self.n_ff is not None:
            return self.n_ff
        return 4 * self.n_embd if self.architecture == "gpt2" else -(-8 * self.n_embd // 96) * 32

    def metadata(self) -> dict[str, Value]:
        """GGUF's keys, without the architecture's name before them."""
        out: dict[str, Value] = {
            "block_count": self.n_layer,
            "context_length": self.n_ctx,
            "embedding_length": self.n_embd,
            "feed_forward_length": self.width,
            "attention.head_count": self.n_head,
        }
        if self.architecture == "gpt2":
            return out | {"attention.layer_norm_epsilon": self.norm_eps}
        return out | {
            "attention.head_count_kv": self.n_kv,
            "attention.key_length": self.head_size,
            "attention.value_length": self.head_size,
            "attention.layer_norm_rms_epsilon": self.norm_eps,
            "rope.dimension_count": self.head_size,
            "rope.freq_base": self.rope_freq_base,
        }


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of ModelConfig that a JSON file has, and ``tokenizer``: a path, seen from the file's folder."""
    values = read_json(Path(path))
    if not isinstance(values, dict):
        raise FormatError(f"{path}: expected a JSON object")
    record = Record(values.get, str(path))
    readers: dict[str, Callable[[str], Any]] = {
        "str": record.text,
        "bool": record.flag,
        "float": record.number,
        "int": partial(record.integer, low=1),
    }
    kinds = {field.name: str(field.type).split(" ")[0] for field in dataclasses.fields(ModelConfig)}
    for key in values:
        if key not in kinds and key != "tokenizer":
            raise FormatError(f"{record.where(key)}: unknown, expected one of {', '.join(kinds)}, tokenizer")
    config = {key: readers[kind](key) for key, kind in kinds.items() if values.get(key) is not None}
    if values.get("tokenizer") is not None:
        config["tokenizer"] = str(Path(path).parent / record.text("tokenizer"))
    return config


def create_model(
    path: str | os.PathLike[str],
    config: ModelConfig,
    tokenizer: str | os.PathLike[str],
    *,
    seed: int = 0,
    name: str | None = None,
    description: str | None = None,
) -> int:
    """Writes a GGUF file with random weights, f32, that `seed` decides; returns how many parameters it has.

    `tokenizer`: a GGUF file, a tokenizer.json or its folder, or SentencePiece's tokenizer.model.
    """
    architecture = lookup(config.architecture, "architecture")
    notes: list[str] = []
    vocabulary = _vocabulary(Path(tokenizer), config.architecture, notes)
    tokens = vocabulary.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise FormatError(f"{tokenizer}: tokenizer.ggml.tokens: not found")
    keys = {**config.metadata(), "vocab_size": len(tokens)}
    shapes = _shapes(config, len(tokens))
    source = Source(
        path=Path(path),
        architecture=architecture,
        metadata={f"{config.architecture}.{key}": value for key, value in keys.items()} | vocabulary,
        tensors=[
            SourceTensor(t, shape, "F32", partial(_random, t, shape, config.n_layer, (seed, i)), t)
            for i, (t, shape) in enumerate(shapes.items())
        ],
        name=Path(path).stem,
    )
    write(source, Path(path), "f32", None, notes.append, name, description)
    return sum(math.prod(shape) for shape in shapes.values())


def _random(name: str, shape: tuple[int, ...], n_layer: int, key: tuple[int, int]) -> NDArray[np.float32]:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    deviation = _DEVIATION / math.sqrt(2 * n_layer) if name.endswith(_RESIDUAL) else _DEVIATION
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, np.float32) * np.float32(deviation)


def _shapes(c: ModelConfig, n_vocab: int) -> Shapes:
    """Every tensor, outermost dim first. Writing the file checks that they are what the definition asks for."""
    n, ff = c.n_embd, c.width
    shapes: Shapes = {"token_embd.weight": (n_vocab, n)}
    if c.architecture == "gpt2":
        shapes["position_embd.weight"] = (c.n_ctx, n)
        norms = {f"{norm}.{kind}": (n,) for norm in ("attn_norm", "ffn_norm") for kind in ("weight", "bias")}
        matrices = {"attn_qkv": (3 * n, n), "attn_output": (n, n), "ffn_up": (ff, n), "ffn_down": (n, ff)}
        has_bias = tuple(matrices)
        shapes["output_norm.bias"] = (n,)
    else:
        q, kv = c.n_head * c.head_size, c.n_kv * c.head_size
        norms = {"attn_norm.weight": (n,), "ffn_norm.weight": (n,)}
        if c.architecture == "qwen3":
            norms |= {"attn_q_norm.weight": (c.head_size,), "attn_k_norm.weight": (c.head_size,)}
        matrices = {"attn_q": (q, n), "attn_k": (kv, n), "attn_v": (kv, n), "attn_output": (n, q)}
        matrices |= {"ffn_gate": (ff, n), "ffn_up": (ff, n), "ffn_down": (n, ff)}
        has_bias = ("attn_q", "attn_k", "attn_v") if c.architecture == "qwen2" else ()
    layer: Shapes = norms | {f"{name}.weight": shape for name, shape in matrices.items()}
    layer |= {f"{name}.bias": matrices[name][:1] for name in has_bias}
    for i in range(c.n_layer):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    shapes["output_norm.weight"] = (n,)
    return shapes if c.tied else shapes | {"output.weight": (n_vocab, n)}


def _vocabulary(path: Path, architecture: str, notes: list[str]) -> dict[str, Value]:
    """The ``tokenizer.*`` keys of a file."""
    if not path.exists():
        raise FileError(f"{path}: no such file or folder")
    if path.is_dir() or path.name == "tokenizer.json":
        folder = path if path.is_dir() else path.parent
        return read_tokenizer(folder, architecture, notes).metadata()
    if first_bytes(path, 4) == b"GGUF":
        with _core.Gguf.open(path) as gguf:
            return {key: gguf[key] for key in gguf.keys() if key.startswith("tokenizer.")}  # noqa: SIM118
    if path.suffix == ".model":
        return sentencepiece.read(path).metadata()
    raise UnsupportedError(f"{path}: neither GGUF, a tokenizer.json or its folder, nor a tokenizer.model")
