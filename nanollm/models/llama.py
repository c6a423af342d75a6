"""Llama 1 to 3.2, Mistral, TinyLlama, SmolLM (Touvron et al., 2023, arXiv:2302.13971)."""

from __future__ import annotations

from nanollm.graph import Graph, Tensor
from nanollm.models import decoder
from nanollm.models.base import Architecture, HuggingFace, Record, Rule, Value, halves_to_pairs, register
from nanollm.models.decoder import Decoder, rotate


def read(m: Record) -> Decoder:
    """Hyper-parameters from GGUF metadata."""
    return decoder.read(m, "pairs")


def build(g: Graph, c: Decoder) -> Tensor:
    """Token ids (T) to logits (W, n_vocab)."""
    x = g.rows("token_embd.weight", g.tokens)
    for i in range(c.n_layer):
        b = g.scope(f"blk.{i}")
        h = g.rms_norm(x, b.w("attn_norm"), c.norm_eps)
        q = g.view(g.linear(h, b.w("attn_q")), c.n_head, c.head_dim)
        k = g.view(g.linear(h, b.w("attn_k")), c.n_head_kv, c.head_dim)
        v = g.view(g.linear(h, b.w("attn_v")), c.n_head_kv, c.head_dim)
        h = g.attention(rotate(g, q, c), rotate(g, k, c), v, layer=i, window=c.window)
        x = g.add(x, g.linear(h, b.w("attn_output")))
        h = g.rms_norm(x, b.w("ffn_norm"), c.norm_eps)
        h = g.swiglu(g.linear(h, b.w("ffn_gate")), g.linear(h, b.w("ffn_up")))
        x = g.add(x, g.linear(h, b.w("ffn_down")))
    x = g.rms_norm(g.wanted(x), g.w("output_norm"), c.norm_eps)
    return g.linear(x, g.w("output", tied="token_embd"))


def metadata(config: Record) -> dict[str, Value]:
    """GGUF metadata from config.json. Mistral's first version attends within a window."""
    out = decoder.metadata(config)
    if config.text("model_type") == "mistral" and config.get("sliding_window") is not None:
        out["attention.sliding_window"] = config.integer("sliding_window", 1)
    return out


def _rows(role: str, kind: str) -> Rule[Decoder]:
    return Rule(
        f"blk.{{i}}.attn_{role}.{kind}",
        lambda rows, c: halves_to_pairs(rows, c.n_head if role == "q" else c.n_head_kv),
    )


LLAMA = register(
    Architecture(
        name="llama",
        read=read,
        build=build,
        ignored=("blk.{i}.attn_rot_embd.weight",),
        huggingface=HuggingFace(
            model_types=("llama", "mistral"),
            tensors={
                **decoder.TENSORS,
                **{f"layers.{{i}}.self_attn.{r}_proj.{k}": _rows(r, k) for r in "qk" for k in ("weight", "bias")},
            },
            metadata=metadata,
            ignored=decoder.IGNORED,
            required=decoder.required,
            derived=decoder.factors,
        ),
    )
)
