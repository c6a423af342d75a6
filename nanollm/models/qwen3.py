"""Qwen 3, dense models: each head of Q and K is normalised before it turns (Yang et al., 2025, arXiv:2505.09388)."""

from __future__ import annotations

from nanollm.graph import Graph, Tensor
from nanollm.models import decoder
from nanollm.models.base import Architecture, HuggingFace, Record, Value, register
from nanollm.models.decoder import Decoder, rotate


def read(m: Record) -> Decoder:
    """Hyper-parameters from GGUF metadata."""
    return decoder.read(m, "halves")


def build(g: Graph, c: Decoder) -> Tensor:
    """Token ids (T) to logits (W, n_vocab)."""
    x = g.rows("token_embd.weight", g.tokens)
    for i in range(c.n_layer):
        b = g.scope(f"blk.{i}")
        h = g.rms_norm(x, b.w("attn_norm"), c.norm_eps)
        q = g.view(g.linear(h, b.w("attn_q")), c.n_head, c.head_dim)
        k = g.view(g.linear(h, b.w("attn_k")), c.n_head_kv, c.head_dim)
        v = g.view(g.linear(h, b.w("attn_v")), c.n_head_kv, c.head_dim)
        q = g.rms_norm(q, b.w("attn_q_norm"), c.norm_eps)
        k = g.rms_norm(k, b.w("attn_k_norm"), c.norm_eps)
        h = g.attention(rotate(g, q, c), rotate(g, k, c), v, layer=i, window=c.window)
        x = g.add(x, g.linear(h, b.w("attn_output")))
        h = g.rms_norm(x, b.w("ffn_norm"), c.norm_eps)
        h = g.swiglu(g.linear(h, b.w("ffn_gate")), g.linear(h, b.w("ffn_up")))
        x = g.add(x, g.linear(h, b.w("ffn_down")))
    x = g.rms_norm(g.wanted(x), g.w("output_norm"), c.norm_eps)
    return g.linear(x, g.w("output", tied="token_embd"))


def metadata(config: Record) -> dict[str, Value]:
    """GGUF metadata from config.json. Unlike the others', the heads' size does not follow from the width."""
    config.expect("use_sliding_window", False)
    config.integer("head_dim", 1)
    return decoder.metadata(config)


QWEN3 = register(
    Architecture(
        name="qwen3",
        read=read,
        build=build,
        huggingface=HuggingFace(
            model_types=("qwen3",),
            tensors={
                **decoder.TENSORS,
                "layers.{i}.self_attn.q_norm.weight": "blk.{i}.attn_q_norm.weight",
                "layers.{i}.self_attn.k_norm.weight": "blk.{i}.attn_k_norm.weight",
            },
            metadata=metadata,
            ignored=decoder.IGNORED,
            required=decoder.required,
            derived=decoder.factors,
        ),
    )
)
