"""GPT-2 (Radford et al., 2019): learned positions, LayerNorm, one matrix for Q, K and V."""

from __future__ import annotations

from dataclasses import dataclass

from nanollm.errors import FormatError
from nanollm.graph import Graph, Tensor
from nanollm.models.base import Architecture, HuggingFace, Record, Rule, Value, register


@dataclass(frozen=True, slots=True)
class Gpt2:
    """Hyper-parameters."""

    n_layer: int
    n_embd: int
    n_head: int
    norm_eps: float


def read(m: Record) -> Gpt2:
    """Hyper-parameters from GGUF metadata."""
    n_embd = m.integer("embedding_length", 1)
    n_head = m.integer("attention.head_count", 1, 1 << 16)
    if n_embd % n_head:
        raise FormatError(f"{m.where('attention.head_count')}: found {n_head}, expected a divisor of {n_embd}")
    return Gpt2(
        n_layer=m.integer("block_count", 1, 1 << 12),
        n_embd=n_embd,
        n_head=n_head,
        norm_eps=m.number("attention.layer_norm_epsilon", 0.0, 1.0),
    )


def build(g: Graph, c: Gpt2) -> Tensor:
    """Token ids (T) to logits (W, n_vocab)."""
    head_dim = c.n_embd // c.n_head
    x = g.add(g.rows("token_embd.weight", g.tokens), g.rows("position_embd.weight", g.positions))
    for i in range(c.n_layer):
        b = g.scope(f"blk.{i}")
        h = g.norm(x, b.w("attn_norm", bias=True), c.norm_eps)
        qkv = g.linear(h, b.w("attn_qkv", bias=True))
        q, k, v = (g.view(qkv, c.n_head, head_dim, at=j * c.n_embd) for j in range(3))
        x = g.add(x, g.linear(g.attention(q, k, v, layer=i), b.w("attn_output", bias=True)))
        h = g.norm(x, b.w("ffn_norm", bias=True), c.norm_eps)
        x = g.add(x, g.linear(g.linear(h, b.w("ffn_up", bias=True), act="gelu"), b.w("ffn_down", bias=True)))
    x = g.norm(g.wanted(x), g.w("output_norm", bias=True), c.norm_eps)
    return g.linear(x, g.w("output", tied="token_embd"))


def metadata(config: Record) -> dict[str, Value]:
    """GGUF metadata from config.json."""
    config.expect("activation_function", "gelu_new", "gelu_pytorch_tanh")
    config.expect("scale_attn_weights", True)
    config.expect("scale_attn_by_inverse_layer_idx", False)
    config.expect("add_cross_attention", False)
    n_embd = config.integer("n_embd", 1)
    return {
        "block_count": config.integer("n_layer", 1),
        "context_length": config.integer("n_positions", 1, default=config.integer("n_ctx", 1, default=1024)),
        "embedding_length": n_embd,
        "feed_forward_length": config.integer("n_inner", 1, default=4 * n_embd),
        "attention.head_count": config.integer("n_head", 1),
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 0.0, 1.0, default=1e-5),
    }


_LAYER = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}

GPT2 = register(
    Architecture(
        name="gpt2",
        read=read,
        build=build,
        huggingface=HuggingFace(
            model_types=("gpt2",),
            prefixes=("transformer.",),
            tensors={
                "wte.weight": "token_embd.weight",
                "wpe.weight": "position_embd.weight",
                "ln_f.weight": "output_norm.weight",
                "ln_f.bias": "output_norm.bias",
                "lm_head.weight": "output.weight",
                **{f"h.{{i}}.{t}.bias": f"blk.{{i}}.{o}.bias" for t, o in _LAYER.items()},
                **{f"h.{{i}}.{t}.weight": f"blk.{{i}}.{o}.weight" for t, o in _LAYER.items() if t.startswith("ln")},
                **{
                    f"h.{{i}}.{t}.weight": Rule(f"blk.{{i}}.{o}.weight", transposed=True)
                    for t, o in _LAYER.items()
                    if not t.startswith("ln")
                },
            },
            metadata=metadata,
            ignored=("h.{i}.attn.bias", "h.{i}.attn.masked_bias"),
            tied=True,
        ),
    )
)
