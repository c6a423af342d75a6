"""Rotary embeddings' scaling: from GGUF metadata, and from config.json to GGUF metadata."""

from __future__ import annotations

import math
from typing import Literal

from nanollm.errors import UnsupportedError
from nanollm.graph import Rope
from nanollm.models.base import Array, Record, Value

__all__ = ["FACTORS", "factors_from_config", "metadata_from_config", "read"]

FACTORS = "rope_freqs.weight"

_OFFERED = ("default", "linear", "llama3", "yarn")


def read(m: Record, head_dim: int, order: Literal["pairs", "halves"], n_ctx: int) -> Rope:
    """The ``rope.*`` keys of a GGUF file. FACTORS is used where the file has that tensor: see ``with_factors``."""
    n_rot = m.integer("rope.dimension_count", 2, head_dim, default=head_dim)
    if n_rot % 2:
        raise UnsupportedError(f"{m.where('rope.dimension_count')}: found {n_rot}, only even numbers are supported")
    m.expect("rope.scaling.type", "none", "linear", "yarn")
    scaling = m.text("rope.scaling.type", default="none")
    # Files older than rope.scaling.* have one key for linear scaling alone.
    old = m.number("rope.scale_linear", 1e-6, 1e6, default=1.0)
    if scaling == "none" and old != 1.0:
        scaling = "linear"
    beta_fast = m.number("rope.scaling.yarn_beta_fast", 1e-6, default=32.0)
    beta_slow = m.number("rope.scaling.yarn_beta_slow", 1e-6, default=1.0)
    attn_factor = m.number("rope.scaling.attn_factor", 1e-6, 1e6, default=1.0)
    return Rope(
        n_rot=n_rot,
        order=order,
        freq_base=m.number("rope.freq_base", 1e-3, 1e12, default=10000.0),
        scaling="linear" if scaling == "linear" else "yarn" if scaling == "yarn" else "none",
        factor=1.0 if scaling == "none" else m.number("rope.scaling.factor", 1e-6, 1e6, default=old),
        n_ctx_orig=m.integer("rope.scaling.original_context_length", 1, default=n_ctx),
        ext_factor=m.number("rope.scaling.yarn_ext_factor", 0.0, 1e6, default=1.0),
        attn_factor=m.number("rope.scaling.yarn_attn_factor", 1e-6, 1e6, default=attn_factor),
        beta_fast=beta_fast,
        beta_slow=beta_slow,
    )


def _section(config: Record) -> tuple[str, Record]:
    """The scaling's kind and its keys; transformers 5 writes rope_parameters, older versions rope_scaling."""
    for key in ("rope_parameters", "rope_scaling"):
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise UnsupportedError(f"{config.where(key)}: found {value!r}, expected an object")
        section = Record(value.get, config.where(key))
        # Before 2024 the kind was called "type".
        kind = section.text("rope_type", default=section.text("type", default="default"))
        if kind not in _OFFERED:
            raise UnsupportedError(
                f"{config.where(key)}: rope_type: found '{kind}', only {', '.join(_OFFERED)} are supported"
            )
        return kind, section
    return "default", Record(lambda key: None, config.source)


def _theta(config: Record, section: Record) -> float:
    return section.number("rope_theta", 1e-3, 1e12, default=config.number("rope_theta", 1e-3, 1e12, default=10000.0))


def metadata_from_config(config: Record, head_dim: int) -> dict[str, Value]:
    """``rope.*`` metadata from config.json."""
    kind, s = _section(config)
    for r in (config, s):
        r.expect("partial_rotary_factor", 1.0)
    out: dict[str, Value] = {"rope.dimension_count": head_dim, "rope.freq_base": _theta(config, s)}
    if kind == "linear":
        out |= {"rope.scaling.type": "linear", "rope.scaling.factor": s.number("factor", 1.0, 1e6)}
    elif kind == "yarn":
        s.expect("truncate", True)
        n_ctx = config.integer("max_position_embeddings", 1)
        n_ctx_orig = s.integer("original_max_position_embeddings", 1, default=n_ctx)
        factor = s.number("factor", 1.0, 1e6, default=n_ctx / n_ctx_orig)
        out |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": factor,
            "rope.scaling.original_context_length": n_ctx_orig,
            "rope.scaling.yarn_beta_fast": s.number("beta_fast", 1e-6, default=32.0),
            "rope.scaling.yarn_beta_slow": s.number("beta_slow", 1e-6, default=1.0),
        }
        # GGUF's factor multiplies YaRN's own 0.1 ln(factor) + 1, config.json's stands in its place.
        own = _magnitude(factor, 1.0)
        m, m_all = s.number("mscale", default=0.0), s.number("mscale_all_dim", default=0.0)
        wanted = _magnitude(factor, m) / _magnitude(factor, m_all) if m and m_all else own
        wanted = s.number("attention_factor", 1e-6, 1e6, default=wanted)
        if wanted != own:
            out["rope.scaling.attn_factor"] = wanted / own
    return out


def _magnitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * scale * math.log(factor) + 1.0


def factors_from_config(config: Record, head_dim: int) -> dict[str, Array]:
    """FACTORS (head_dim / 2) for Llama 3's scaling, nothing for the others.

    Wavelengths beyond n_ctx_orig / low_freq_factor are stretched by ``factor``, those below
    n_ctx_orig / high_freq_factor are left alone, those between blend from one to the other.
    """
    kind, s = _section(config)
    if kind != "llama3":
        return {}
    import numpy as np

    factor = s.number("factor", 1.0, 1e6)
    low, high = s.number("low_freq_factor", 1e-6), s.number("high_freq_factor", 1e-6)
    n_ctx_orig = s.integer("original_max_position_embeddings", 1)
    if high <= low:
        raise UnsupportedError(f"{s.where('high_freq_factor')}: found {high}, expected more than low_freq_factor {low}")
    frequency = _theta(config, s) ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = n_ctx_orig * frequency / (2 * np.pi)
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return {FACTORS: (1.0 / ((1.0 - blend) / factor + blend)).astype(np.float32)}
