"""Qwen 2 and 2.5: a Llama with biases on Q, K and V (Yang et al., 2024, arXiv:2407.10671)."""

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
        q = g.view(g.linear(h, b.w("attn_q", bias=True)), c.n_head, c.head_dim)
        k = g.view(g.linear(h, b.w("attn_k", bias=True)), c.n_head_kv, c.head_dim)
        v = g.view(g.linear(h, b.w("attn_v", bias=True)), c.n_head_kv, c.head_dim)
        h = g.attention(rotate(g, q, c), rotate(g, k, c), v, layer=i, window=c.window)
        x = g.add(x, g.linear(h, b.w("attn_output")))
        h = g.rms_norm(x, b.w("ffn_norm"), c.norm_eps)
        h = g.swiglu(g.linear(h, b.w("ffn_gate")), g.linear(h, b.w("ffn_up")))
        x = g.add(x, g.linear(h, b.w("ffn_down")))
    x = g.rms_norm(g.wanted(x), g.w("output_norm"), c.norm_eps)
    return g.linear(x, g.w("output", tied="token_embd"))


def metadata(config: Record) -> dict[str, Value]:
    """GGUF metadata from config.json. Windows on some layers only, which no released model uses, are refused."""
    config.expect("use_sliding_window", False)
    return decoder.metadata(config)


QWEN2 = register(
    Architecture(
        name="qwen2",
        read=read,
        build=build,
        huggingface=HuggingFace(
            model_types=("qwen2",),
            tensors=decoder.TENSORS,
            metadata=metadata,
            ignored=decoder.IGNORED,
            required=decoder.required,
            derived=decoder.factors,
        ),
    )
)
