"""Tiny Hugging Face folders with random weights, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Tensors = dict[str, npt.NDArray[Any]]

N_VOCAB = 320
TEXT = ["the quick brown fox jumps over the lazy dog", "Once upon a time, there was a little girl named Lily."] * 4

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": N_VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}

GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": N_VOCAB,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}


def write_tokenizer(folder: Path, pre: str = "gpt-2", special: str = "<|end|>") -> None:
    """A byte-level BPE of about 300 tokens as tokenizer.json, trained on TEXT."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    word = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    steps = {
        "gpt-2": gpt2,
        "llama-bpe": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(word + r"\p{N}{1,3}" + rest), "isolated"), plain]
        ),
        "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(word + r"\p{N}" + rest), "isolated"), plain]),
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
        "unknown": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\w+"), "isolated"), plain]),
    }
    t = tokenizers.Tokenizer(models.BPE())
    t.pre_tokenizer = steps[pre]
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[special], initial_alphabet=alphabet, show_progress=False
    )
    t.train_from_iterator(TEXT, trainer)
    t.save(str(folder / "tokenizer.json"))


def llama_tensors(c: dict[str, Any], rng: np.random.Generator) -> Tensors:
    """Random weights under Llama's names in Hugging Face files."""
    n, ff, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    kv = n // c["num_attention_heads"] * c["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, n), "model.norm.weight": (n,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, n)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (n,),
            f"{layer}.self_attn.q_proj.weight": (n, n),
            f"{layer}.self_attn.k_proj.weight": (kv, n),
            f"{layer}.self_attn.v_proj.weight": (kv, n),
            f"{layer}.self_attn.o_proj.weight": (n, n),
            f"{layer}.post_attention_layernorm.weight": (n,),
            f"{layer}.mlp.gate_proj.weight": (ff, n),
            f"{layer}.mlp.up_proj.weight": (ff, n),
            f"{layer}.mlp.down_proj.weight": (n, ff),
        }
    return {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def gpt2_tensors(c: dict[str, Any], rng: np.random.Generator) -> Tensors:
    """Random weights under GPT-2's first names: no prefix, matrices (n_in, n_out), masks beside the weights."""
    n = c["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (c["vocab_size"], n), "wpe.weight": (c["n_positions"], n)}
    shapes |= {f"ln_f.{kind}": (n,) for kind in ("weight", "bias")}
    for i in range(c["n_layer"]):
        for name, n_in, n_out in (
            ("attn.c_attn", n, 3 * n),
            ("attn.c_proj", n, n),
            ("mlp.c_fc", n, 4 * n),
            ("mlp.c_proj", 4 * n, n),
        ):
            shapes |= {f"h.{i}.{name}.weight": (n_in, n_out), f"h.{i}.{name}.bias": (n_out,)}
        shapes |= {f"h.{i}.{ln}.{kind}": (n,) for ln in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    tensors: Tensors = {name: (0.1 * rng.standard_normal(s)).astype(np.float32) for name, s in shapes.items()}
    for i in range(c["n_layer"]):
        tensors[f"h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 8, 8), np.uint8))
    return tensors


def write_safetensors(path: Path, tensors: Tensors, bf16: bool = False) -> None:
    """The format written by hand; with ``bf16``, float32 arrays are cut to it."""
    types = {"float32": "F32", "float16": "F16", "uint8": "U8"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, x in tensors.items():
        kind = types[x.dtype.name]
        blob = x.tobytes()
        if bf16 and kind == "F32":
            kind, blob = "BF16", (x.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def write_folder(
    folder: Path, config: dict[str, Any], tensors: Tensors, pre: str = "gpt-2", bf16: bool = False
) -> Path:
    """A whole folder: config, tokenizer, one safetensors file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, pre)
    write_safetensors(folder / "model.safetensors", tensors, bf16)
    return folder
