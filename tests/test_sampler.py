"""The sampler, reached through the bindings, against NumPy."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nanollm import _core
from nanollm.errors import ArgumentError

N_VOCAB = 300
DRAWS = 6000


def plain(**changes: Any) -> Any:
    """Everything off, with `changes`."""
    off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    return replace(_core.sampler_params_default(), **off | changes)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def expected(logits: np.ndarray, p: Any) -> np.ndarray:
    """The probability of every token after the chain: top-k, typical, top-p, min-p, temperature."""
    x = logits.astype(np.float64)
    if p.top_k > 0:
        x = np.where(x >= np.sort(x)[-p.top_k], x, -np.inf)
    if p.typical_p < 1:
        prob = softmax(x)
        surprise = -np.log(np.maximum(prob, 1e-300))
        order = np.argsort(np.abs(surprise - (prob * surprise).sum()), kind="stable")
        x[order[np.searchsorted(np.cumsum(prob[order]), p.typical_p) + 1 :]] = -np.inf
    if p.top_p < 1:
        prob = softmax(x)
        order = np.argsort(-prob, kind="stable")
        x[order[np.searchsorted(np.cumsum(prob[order]), p.top_p) + 1 :]] = -np.inf
    prob = softmax(x)
    x[prob < p.min_p * prob.max()] = -np.inf
    return softmax(x / p.temperature)


@pytest.fixture
def logits() -> np.ndarray:
    return (3 * np.random.default_rng(5).standard_normal(N_VOCAB)).astype(np.float32)


def test_defaults_are_the_fields() -> None:
    p = _core.sampler_params_default()
    assert (p.temperature, p.top_k, p.top_p, p.min_p, p.typical_p) == (0.8, 40, 0.95, 0.05, 1.0)
    assert (p.repeat_penalty, p.presence_penalty, p.frequency_penalty, p.penalty_last_n) == (1.0, 0.0, 0.0, 64)
    assert (p.mirostat, p.mirostat_tau, p.mirostat_eta) == (0, 5.0, 0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 7},
        {"typical_p": 0.5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"top_k": 30, "typical_p": 0.95, "top_p": 0.9, "min_p": 0.02, "temperature": 1.5},
    ],
    ids=lambda changes: " ".join(changes) or "plain",
)
def test_frequencies(logits: np.ndarray, changes: dict[str, Any]) -> None:
    p = plain(seed=11, **changes)
    prob = expected(logits, p)
    sampler = _core.Sampler(N_VOCAB, p)
    seen = np.bincount([sampler.sample(logits) for _ in range(DRAWS)], minlength=N_VOCAB)
    assert not seen[prob == 0].any()
    big = prob * DRAWS >= 5
    groups = np.append(prob[big], prob[~big].sum()) * DRAWS, np.append(seen[big], seen[~big].sum())
    used = groups[0] > 0.5
    chi2 = ((groups[1] - groups[0])[used] ** 2 / groups[0][used]).sum()
    freedom = max(1, int(used.sum()) - 1)
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 5


def test_penalties_against_a_counted_window() -> None:
    rng = np.random.default_rng(3)
    p = plain(temperature=0.0, repeat_penalty=1.2, presence_penalty=0.3, frequency_penalty=0.1, penalty_last_n=9)
    sampler = _core.Sampler(8, p)
    history: list[int] = []
    for _ in range(300):
        x = rng.standard_normal(8).astype(np.float32)
        y = x.astype(np.float64)
        for token, count in Counter(history[-9:]).items():
            y[token] = y[token] / 1.2 if y[token] > 0 else y[token] * 1.2
            y[token] -= 0.3 + 0.1 * count
        token = sampler.sample(x)
        assert token == int(y.argmax())
        sampler.accept(token)
        history.append(token)


@pytest.mark.parametrize("mirostat", [1, 2])
def test_mirostat_holds_the_surprise(mirostat: int) -> None:
    logits = (-np.log(np.arange(1, 2001))).astype(np.float32)
    surprise = -np.log2(softmax(logits.astype(np.float64)))
    sampler = _core.Sampler(2000, plain(mirostat=mirostat, mirostat_tau=5.0, seed=2))
    drawn = [surprise[sampler.sample(logits)] for _ in range(4000)]
    assert np.mean(drawn[1000:]) == pytest.approx(5.0, abs=0.1)


def test_a_seed_is_a_stream(logits: np.ndarray) -> None:
    first, second = (_core.Sampler(N_VOCAB, plain(seed=8)) for _ in range(2))
    stream = [first.sample(logits) for _ in range(50)]
    assert [second.sample(logits) for _ in range(50)] == stream
    first.reset(8)
    assert [first.sample(logits) for _ in range(50)] == stream
    first.reset(9)
    assert [first.sample(logits) for _ in range(50)] != stream


def test_bias(logits: np.ndarray) -> None:
    best = int(logits.argmax())
    sampler = _core.Sampler(N_VOCAB, plain(temperature=0.0, logit_bias=((best, float("-inf")),)))
    assert sampler.sample(logits) == int(np.argsort(-logits)[1])
    sampler = _core.Sampler(N_VOCAB, plain(logit_bias=((4, float("inf")),)))
    assert sampler.sample(logits) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mirostat": 3}, "mirostat"),
        ({"top_p": float("nan")}, "top_p"),
        ({"repeat_penalty": -1.0}, "repeat_penalty"),
        ({"penalty_last_n": -1}, "penalty_last_n"),
        ({"logit_bias": ((N_VOCAB, 1.0),)}, "token 300"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _core.Sampler(N_VOCAB, plain(**changes))


def test_nothing_to_draw() -> None:
    sampler = _core.Sampler(3)
    with pytest.raises(ArgumentError, match="NaN or -inf"):
        sampler.sample(np.array([np.nan, -np.inf, np.nan], dtype=np.float32))
    assert sampler.sample(np.array([np.nan, -1.0, -np.inf], dtype=np.float32)) == 1
