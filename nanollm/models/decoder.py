"""What Llama, Mistral and Qwen files have in common: hyper-parameters and names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nanollm.errors import FormatError, UnsupportedError
from nanollm.graph import Graph, Rope, Tensor
from nanollm.models import rope
from nanollm.models.base import Array, Record, Value

__all__ = ["IGNORED", "TENSORS", "Decoder", "factors", "metadata", "read", "required", "rotate"]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Hyper-parameters. ``window`` 0: a token sees all before it; else itself and the ``window`` - 1 before it."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    norm_eps: float
    window: int
    rope: Rope


def read(m: Record, order: Literal["pairs", "halves"]) -> Decoder:
    """From GGUF metadata; ``order`` is the architecture's, the file does not say it."""
    if m.integer("expert_count", default=0) > 0:
        raise UnsupportedError(f"{m.where('expert_count')}: mixtures of experts are not supported")
    n_embd = m.integer("embedding_length", 1)
    n_head = m.integer("attention.head_count", 1, 1 << 16)
    n_head_kv = m.integer("attention.head_count_kv", 1, n_head, default=n_head)
    if n_head % n_head_kv:
        raise FormatError(f"{m.where('attention.head_count_kv')}: found {n_head_kv}, expected a divisor of {n_head}")
    if m.get("attention.key_length") is None and n_embd % n_head:
        raise FormatError(f"{m.where('attention.head_count')}: found {n_head}, expected a divisor of {n_embd}")
    head_dim = m.integer("attention.key_length", 1, 1 << 16, default=n_embd // n_head)
    m.expect("attention.value_length", head_dim)
    return Decoder(
        n_layer=m.integer("block_count", 1, 1 << 12),
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        norm_eps=m.number("attention.layer_norm_rms_epsilon", 0.0, 1.0),
        window=m.integer("attention.sliding_window", default=0),
        rope=rope.read(m, head_dim, order, m.integer("context_length", 1)),
    )


def rotate(g: Graph, x: Tensor, c: Decoder) -> Tensor:
    """Rotary embeddings, with the file's frequency factors where it has them."""
    return g.rope(x, replace(c.rope, factors=rope.FACTORS) if g.has(rope.FACTORS) else c.rope)


def metadata(config: Record) -> dict[str, Value]:
    """From config.json to GGUF metadata."""
    config.expect("hidden_act", "silu")
    n_embd, n_head = config.integer("hidden_size", 1), config.integer("num_attention_heads", 1)
    if config.get("head_dim") is None and n_embd % n_head:
        raise FormatError(f"{config.where('num_attention_heads')}: found {n_head}, expected a divisor of {n_embd}")
    head_dim = config.integer("head_dim", 1, default=n_embd // n_head)
    return {
        "block_count": config.integer("num_hidden_layers", 1),
        "context_length": config.integer("max_position_embeddings", 1),
        "embedding_length": n_embd,
        "feed_forward_length": config.integer("intermediate_size", 1),
        "vocab_size": config.integer("vocab_size", 1),
        "attention.head_count": n_head,
        "attention.head_count_kv": config.integer("num_key_value_heads", 1, default=n_head),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 0.0, 1.0, default=1e-6),
        **rope.metadata_from_config(config, head_dim),
    }


def factors(config: Record) -> dict[str, Array]:
    """The frequency factors that config.json asks for."""
    n_embd, n_head = config.integer("hidden_size", 1), config.integer("num_attention_heads", 1)
    return rope.factors_from_config(config, config.integer("head_dim", 1, default=n_embd // n_head))


def required(config: Record) -> list[str]:
    """Biases that config.json promises."""
    attention = ("attn_q", "attn_k", "attn_v", "attn_output") if config.flag("attention_bias", default=False) else ()
    ffn = ("ffn_gate", "ffn_up", "ffn_down") if config.flag("mlp_bias", default=False) else ()
    return [
        f"blk.{i}.{name}.bias" for i in range(config.integer("num_hidden_layers", 1)) for name in (*attention, *ffn)
    ]


# Hugging Face -> GGUF.
TENSORS = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "layers.{i}.input_layernorm.weight": "blk.{i}.attn_norm.weight",
    "layers.{i}.post_attention_layernorm.weight": "blk.{i}.ffn_norm.weight",
    **{
        f"layers.{{i}}.{theirs}.{kind}": f"blk.{{i}}.{ours}.{kind}"
        for theirs, ours in {
            "self_attn.q_proj": "attn_q",
            "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output",
            "mlp.gate_proj": "ffn_gate",
            "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        }.items()
        for kind in ("weight", "bias")
    },
}

IGNORED = ("layers.{i}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq")
