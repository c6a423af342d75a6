"""Model definitions: logits against transformers, and what happens to files that do not fit them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import LLAMA, N_VOCAB, llama_tensors, write_folder, write_tokenizer

import nanollm
from nanollm import _core, models
from nanollm.convert import convert
from nanollm.graph import Graph

DECODER = {
    "vocab_size": N_VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def rope(kind: str, **parameters: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "gpt2",
        {"vocab_size": N_VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256, "bos_token_id": 0},
    ),
    "llama": ("llama", DECODER),
    "llama-tied-mha": ("llama", DECODER | {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama-biases": ("llama", DECODER | {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": ("llama", DECODER | {"head_dim": 32}),
    "llama-llama3": (
        "llama",
        DECODER
        | rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
    ),
    "llama-linear": ("llama", DECODER | rope("linear", factor=3.0)),
    "llama-yarn": (
        "llama",
        DECODER | rope("yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=16.0, beta_slow=2.0),
    ),
    "llama-yarn-factor": (
        "llama",
        DECODER | rope("yarn", factor=4.0, original_max_position_embeddings=64, attention_factor=0.7),
    ),
    "mistral-window": ("mistral", DECODER | {"sliding_window": 48}),
    "mistral": ("mistral", DECODER | {"sliding_window": None}),
    "qwen2": ("qwen2", DECODER | {"use_sliding_window": False}),
    "qwen2-tied-yarn": (
        "qwen2",
        DECODER | {"tie_word_embeddings": True} | rope("yarn", factor=2.0, original_max_position_embeddings=128),
    ),
    "qwen3": ("qwen3", DECODER | {"head_dim": 32, "tie_word_embeddings": True}),
}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random model saved by transformers, the logits it gives, and the file converted from it."""
    torch = pytest.importorskip("torch", reason="the reference needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="the reference needs torch and transformers")
    kind, parameters = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **parameters)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # so that norms, biases and every part of the sum matter
            p.copy_(torch.randn_like(p) * 0.15 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    model.save_pretrained(folder)
    write_tokenizer(folder)
    ids = np.random.default_rng(2).integers(0, N_VOCAB, 200)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    out = folder / "model.gguf"
    convert(folder, out, "f32", report=lambda note: None)
    return out, ids.tolist(), expected


@pytest.mark.parametrize("n_batch", [512, 7])
def test_logits_are_those_of_transformers(reference: Any, n_batch: int) -> None:
    path, ids, expected = reference
    with nanollm.Model(path, n_ctx=256, n_batch=n_batch, n_threads=2, cache_type="f32") as model:
        found = np.array(model.logits(ids))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


# ---- files that do not fit


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A converted random Llama."""
    folder = write_folder(tmp_path / "hf", LLAMA, llama_tensors(LLAMA, np.random.default_rng(1)))
    out = tmp_path / "llama.gguf"
    convert(folder, out, report=lambda note: None)
    return out


def rewrite(path: Path, changes: dict[str, Any], without: str = "", extra: str = "") -> Path:
    """The same file with metadata changed (None: gone), a tensor left out or one added."""
    out = path.with_name("changed.gguf")
    with _core.Gguf.open(path) as g, _core.GgufWriter(out) as w:
        kept_keys = set(g.keys()) - set(changes)
        for key in sorted(kept_keys):
            w.copy(g, key)
        for key, value in changes.items():
            if value is not None:
                w.set(
                    key,
                    "string" if isinstance(value, str) else "float32" if isinstance(value, float) else "uint32",
                    value,
                )
        kept = [t for t in g.tensors if t.name != without]
        for t in kept:
            w.add_tensor(t.name, t.shape, t.type)
        if extra:
            w.add_tensor(extra, (4,), "F32")
        for t in kept:
            w.write(g.tensor_data(t.name))
        if extra:
            w.write(bytes(16))
    return out


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"llama.attention.head_count": None}, nanollm.NotFoundError, "llama.attention.head_count is missing"),
        ({"llama.attention.head_count": "four"}, nanollm.FormatError, "llama.attention.head_count: found 'four'"),
        ({"llama.attention.head_count": 0}, nanollm.FormatError, "llama.attention.head_count: found 0"),
        ({"llama.attention.head_count": 8}, nanollm.ShapeError, "64 elements"),
        ({"llama.attention.head_count_kv": 3}, nanollm.FormatError, "llama.attention.head_count_kv: found 3"),
        (
            {"llama.attention.head_count_kv": np.full(40, 2, np.uint32)},
            nanollm.FormatError,
            "llama.attention.head_count_kv: found array",
        ),
        (
            {"llama.attention.value_length": np.full(40, 2, np.uint32)},
            nanollm.UnsupportedError,
            "llama.attention.value_length: found array",
        ),
        ({"llama.attention.value_length": 8}, nanollm.UnsupportedError, "llama.attention.value_length: found 8"),
        ({"llama.block_count": 3}, nanollm.NotFoundError, "blk.2.attn_norm.weight"),
        ({"llama.block_count": 1}, nanollm.UnsupportedError, "blk.1"),
        ({"llama.block_count": 2**31}, nanollm.FormatError, "llama.block_count: found 2147483648"),
        ({"llama.rope.dimension_count": 7}, nanollm.UnsupportedError, "llama.rope.dimension_count: found 7"),
        ({"llama.rope.scaling.type": "longrope"}, nanollm.UnsupportedError, "rope.scaling.type: found 'longrope'"),
        ({"llama.rope.freq_base": 0.0}, nanollm.FormatError, "llama.rope.freq_base: found 0.0"),
        ({"llama.expert_count": 8}, nanollm.UnsupportedError, "llama.expert_count"),
        ({"general.architecture": None}, nanollm.NotFoundError, "general.architecture is missing"),
    ],
)
def test_metadata_is_checked(llama: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    path = rewrite(llama, changes)
    with _core.Gguf.open(path) as g, pytest.raises(error) as e:
        models.build_program(g)
    assert message in str(e.value)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


def test_a_missing_tensor_is_named(llama: Path) -> None:
    with (
        _core.Gguf.open(rewrite(llama, {}, without="blk.1.ffn_up.weight")) as g,
        pytest.raises(nanollm.NotFoundError) as e,
    ):
        models.build_program(g)
    assert "'blk.1.ffn_up.weight' is missing" in str(e.value)


def test_a_tensor_without_use_is_named(llama: Path) -> None:
    with (
        _core.Gguf.open(rewrite(llama, {}, extra="blk.0.attn_sinks.weight")) as g,
        pytest.raises(nanollm.UnsupportedError, match=r"blk\.0\.attn_sinks\.weight"),
    ):
        models.build_program(g)


def test_a_tied_output_is_the_embedding(llama: Path) -> None:
    with _core.Gguf.open(rewrite(llama, {}, without="output.weight")) as g:
        assert _core.CoreModel(g, models.build_program(g)).n_vocab == N_VOCAB


def test_an_unknown_architecture_is_named_with_those_known(llama: Path) -> None:
    path = rewrite(llama, {"general.architecture": "mamba", models.PROGRAM_KEY: None})
    with _core.Gguf.open(path) as g, pytest.raises(nanollm.UnsupportedError) as e:
        models.build_program(g)
    for text in (str(path), "'mamba'", "gpt2, llama, qwen2, qwen3"):
        assert text in str(e.value)


def test_a_file_of_unknown_architecture_runs_on_its_own_program(llama: Path) -> None:
    ids = [5, 6, 7]
    with nanollm.Model(llama) as model:
        expected = np.array(model.logits(ids))
    path = rewrite(llama, {"general.architecture": "mine"})
    with nanollm.Model(path) as model:
        assert np.array_equal(model.logits(ids), expected)


def test_the_program_in_the_file_is_the_definition_s(llama: Path) -> None:
    with _core.Gguf.open(llama) as g:
        assert bytes(bytearray(g[models.PROGRAM_KEY])) == models.build_program(g)


# ---- a definition of one's own

DEFINITION = """
from dataclasses import dataclass

from nanollm.models import Architecture, HuggingFace, register


@dataclass
class Bigram:
    n_embd: int


def read(m):
    return Bigram(n_embd=m.integer("embedding_length", 1))


def build(g, c):
    x = g.rows("token_embd.weight", g.tokens)
    x = g.add(x, g.silu(g.linear(x, g.w("mix"))))
    return g.linear(g.scale(g.wanted(x), 0.5), g.w("output", tied="token_embd"))


register(
    Architecture(
        name="bigram",
        read=read,
        build=build,
        huggingface=HuggingFace(
            model_types=("bigram",),
            tensors={"embed.weight": "token_embd.weight", "mix.weight": "mix.weight"},
            metadata=lambda config: {"embedding_length": config.integer("width", 1), "context_length": 64},
        ),
    )
)
"""


def test_an_architecture_of_one_s_own(tmp_path: Path) -> None:
    file = tmp_path / "bigram.py"
    file.write_text(DEFINITION)
    spec = importlib.util.spec_from_file_location("bigram", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert "bigram" in models.known()

    rng = np.random.default_rng(3)
    table = rng.standard_normal((N_VOCAB, 32)).astype(np.float32)
    mix = rng.standard_normal((32, 32)).astype(np.float32)
    config = {"model_type": "bigram", "width": 32, "vocab_size": N_VOCAB}
    folder = write_folder(tmp_path / "hf", config, {"embed.weight": table, "mix.weight": mix})
    out = tmp_path / "bigram.gguf"
    convert(folder, out, report=lambda note: None)
    ids = [1, 2, 300, 4]
    x = table[ids]
    h = x @ mix.T
    expected = 0.5 * (x + h / (1 + np.exp(-h))) @ table.T
    with nanollm.Model(out) as model:
        np.testing.assert_allclose(model.logits(ids), expected, rtol=1e-4, atol=1e-4)


# ---- the builder


def test_shapes_are_written_outermost_first() -> None:
    g = Graph({"a.weight": (10, 6), "b.weight": (8, 6), "b.bias": (8,)})
    x = g.rows("a.weight", g.tokens)
    assert x.shape == ("T", 6)
    y = g.linear(x, g.w("b"))
    assert y.shape == ("T", 8)
    assert g.view(y, 2, 4).shape == ("T", 2, 4)
    assert g.view(y, 3, at=5).shape == ("T", 3)
    assert g.wanted(x).shape == ("W", 6)
    assert g.unused() == []


def test_the_builder_refuses_what_does_not_fit() -> None:
    g = Graph({"a.weight": (10, 6), "b.weight": (8, 5)}, source="file.gguf")
    x = g.rows("a.weight", g.tokens)
    with pytest.raises(nanollm.ShapeError, match=r"b\.weight"):
        g.linear(x, g.w("b"))
    with pytest.raises(nanollm.ShapeError, match="12 elements"):
        g.view(x, 2, 6)
    with pytest.raises(nanollm.NotFoundError, match=r"file\.gguf: tensor 'b\.bias' is missing"):
        g.w("b", bias=True)
    with pytest.raises(nanollm.NanoError):
        g.op("no_such_op", [x])


def test_json_configs_are_read_the_same_whatever_transformers_wrote_them(tmp_path: Path) -> None:
    """rope_scaling with rope_theta beside it (4.x) and rope_parameters (5.x) give one program and one file."""
    tensors = llama_tensors(LLAMA, np.random.default_rng(1))
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    old = LLAMA | {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **scaling}}
    new = {k: v for k, v in LLAMA.items() if k != "rope_theta"}
    new["rope_parameters"] = {"rope_type": "llama3", "rope_theta": 500000.0, **scaling}
    files = []
    for config in (old, new):
        folder = write_folder(tmp_path / "hf", json.loads(json.dumps(config)), tensors)
        convert(folder, tmp_path / "x.gguf", report=lambda note: None)
        files.append((tmp_path / "x.gguf").read_bytes())
    assert files[0] == files[1]
