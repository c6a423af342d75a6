"""Gradients and training against PyTorch: whole models of transformers, from the same weights and batches."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import N_VOCAB, write_tokenizer

from nanollm import _core, models, optim
from nanollm.convert import convert

N_SEQUENCES, N_TOKENS, N_STEPS, RATE = 3, 24, 50, 3e-3

DECODER = {
    "vocab_size": N_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "gpt2",
        {"vocab_size": N_VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 0}
        | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    ),
    "llama": ("llama", DECODER),
    "llama-tied": ("llama", DECODER | {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama-biases": ("llama", DECODER | {"attention_bias": True, "mlp_bias": True}),
    "mistral-window": ("mistral", DECODER | {"sliding_window": 10}),
    "qwen2": ("qwen2", DECODER | {"use_sliding_window": False}),
    "qwen3": ("qwen3", DECODER | {"head_dim": 16, "tie_word_embeddings": True}),
}


@dataclass(frozen=True)
class Case:
    """A model of transformers, the same as a file, and a batch (N_STEPS, N_SEQUENCES, N_TOKENS) for every step."""

    reference: Any
    path: Path
    batches: np.ndarray[Any, np.dtype[np.int64]]


def to_file(model: Any, folder: Path) -> Path:
    """A model, or anything of its shapes, as a file."""
    folder.mkdir()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    convert(folder, folder / "model.gguf", "f32", report=lambda note: None)
    return folder / "model.gguf"


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One of the models with random weights, all of which matter."""
    torch = pytest.importorskip("torch", reason="the reference needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="the reference needs torch and transformers")
    kind, parameters = CASES[request.param]
    torch.set_num_threads(1)  # models this small gain nothing from more, and lose much where cores are busy
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **parameters)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.1 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    path = to_file(model, tmp_path_factory.mktemp("model") / "model")
    # Tokens that follow from the ones before, more often than not: there is something to learn.
    rng = np.random.default_rng(2)
    starts = rng.integers(0, N_VOCAB, (N_STEPS, N_SEQUENCES, 1))
    batches = (starts + 7 * np.arange(N_TOKENS)) % N_VOCAB
    noise = rng.random(batches.shape) < 0.1
    return Case(model, path, np.where(noise, rng.integers(0, N_VOCAB, batches.shape), batches))


def reference_loss(model: Any, batch: Any) -> Any:
    """The mean over all tokens that have one behind them."""
    import torch

    ids = torch.from_numpy(batch)
    logits = model(ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, N_VOCAB), ids[:, 1:].reshape(-1))


def training_session(path: Path, *, recompute: bool = False, n_threads: int = 2) -> tuple[_core.Session, _core.Plan]:
    """A session that trains all weights of a file."""
    gguf = _core.Gguf.open(path)
    graph = _core.Graph.load(models.build_program(gguf))
    names = [t.name for t in gguf.tensors]
    params = [i for i in (graph.find_weight(name) for name in names) if i is not None]
    assert len(params) == len(names)
    graph.backward(graph.loss(), params, recompute)
    limits = replace(
        _core.limits_default(),
        n_ctx=N_TOKENS,
        n_slots=N_SEQUENCES,
        n_batch=N_SEQUENCES * N_TOKENS,
        n_outputs=N_SEQUENCES * N_TOKENS,
        n_threads=n_threads,
        type_k="F32",
        type_v="F32",
        optimizer="adam",
    )
    plan = _core.Plan(_core.CoreModel(gguf, graph.save()), limits)
    return _core.Session(plan), plan


def gradient(session: _core.Session, batch: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    """The loss of a batch, whose gradients the session then has."""
    targets = np.full(batch.shape, -1)
    targets[:, :-1] = batch[:, 1:]
    slots = np.repeat(np.arange(N_SEQUENCES), N_TOKENS)
    session.zero_gradients()
    return session.gradient(batch.ravel(), slots, targets.ravel())


def test_gradients_are_those_of_pytorch(case: Case, tmp_path: Path) -> None:
    model = copy.deepcopy(case.reference)
    expected_loss = reference_loss(model, case.batches[0])
    expected_loss.backward()
    for p in model.parameters():
        p.data = p.grad
    session, _ = training_session(case.path)
    loss = gradient(session, case.batches[0])
    assert loss == pytest.approx(expected_loss.item(), rel=1e-6)
    found = {p.name: p.gradient for p in session.params}
    with _core.Gguf.open(to_file(model, tmp_path / "gradients")) as g:  # under our names, in our order of rows
        assert {t.name for t in g.tensors} == set(found)
        for t in g.tensors:
            expected = np.frombuffer(g.tensor_data(t.name), np.float32).reshape(t.shape)
            assert np.linalg.norm(expected) > 1e-5, t.name
            assert np.linalg.norm(found[t.name] - expected) <= 1e-5 * np.linalg.norm(expected), t.name


def test_adam_goes_as_in_pytorch(case: Case) -> None:
    import torch

    model = copy.deepcopy(case.reference)
    reference = torch.optim.Adam(model.parameters(), lr=RATE)
    session, _ = training_session(case.path)
    adam = optim.Adam(session, rate=RATE)
    expected, found = [], []
    for batch in case.batches:
        loss = reference_loss(model, batch)
        reference.zero_grad()
        loss.backward()
        reference.step()
        expected.append(loss.item())
        found.append(gradient(session, batch))
        adam.step()
    assert expected[-1] < 0.9 * expected[0]
    assert np.abs(np.array(found) / np.array(expected) - 1.0).max() <= 1e-5


def test_computing_again_changes_no_bit(case: Case) -> None:
    kept, kept_plan = training_session(case.path, n_threads=1)
    again, again_plan = training_session(case.path, recompute=True, n_threads=3)
    assert gradient(kept, case.batches[0]) == gradient(again, case.batches[0])
    for a, b in zip(kept.params, again.params, strict=True):
        assert a.name == b.name
        assert a.gradient.tobytes() == b.gradient.tobytes(), a.name
    assert again_plan.memory.activations < kept_plan.memory.activations
