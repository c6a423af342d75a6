"""KV caches of every type: what they take, and how close what the model says stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from terminal import run

from nanollm import Model
from nanollm.cli.options import CACHE_TYPES
from nanollm.model import default_model_path

# A row of one head of 8, in whole blocks.
ROW_BYTES = {"f32": 8 * 4, "f16": 8 * 2, "q8_0": 34, "q4_0": 18}


@pytest.mark.parametrize("type_k", CACHE_TYPES)
@pytest.mark.parametrize("type_v", CACHE_TYPES)
def test_memory_of_every_pair(tiny: Path, type_k: str, type_v: str) -> None:
    n_ctx, n_slots, n_layer, n_head_kv = 100, 3, 2, 2
    with Model(tiny, n_ctx=n_ctx, n_slots=n_slots, cache_type=(type_k, type_v)) as model:
        # Float keys lie in blocks of 64 positions; every cache starts on a cache line.
        positions = 128 if type_k in ("f32", "f16") else n_ctx
        heads = n_slots * n_head_kv
        k, v = (-(-heads * n * ROW_BYTES[t] // 64) * 64 for n, t in ((positions, type_k), (n_ctx, type_v)))
        assert model.memory.cache == n_layer * (k + v)
        assert model.memory.limits.type_k == type_k.upper()
        assert type_k.upper() in model.memory.table()


def log_probabilities(ids: list[int], cache_type: str | tuple[str, str], n_batch: int = 512) -> NDArray[np.float64]:
    with Model(n_ctx=256, n_batch=n_batch, n_threads=2, deterministic=True, cache_type=cache_type) as model:
        logits = np.array(model.logits(ids), np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def story() -> list[int]:
    """A text of the model in the package, by itself."""
    with Model(n_ctx=256, n_threads=1) as model:
        text = "".join(model.generate("Once upon a time", max_tokens=200, temperature=0.8, seed=1, ignore_eos=True))
        return model.tokenize("Once upon a time" + text)[:200]


@pytest.mark.parametrize(
    ("cache_type", "most"),
    [("q8_0", 1e-4), (("f16", "q8_0"), 1e-4), (("q8_0", "q4_0"), 2e-3), (("q8_0", "f32"), 1e-4), ("q4_0", 5e-3)],
)
def test_divergence_from_an_f32_cache(story: list[int], cache_type: str | tuple[str, str], most: float) -> None:
    base, found = log_probabilities(story, "f32"), log_probabilities(story, cache_type)
    divergence = float((np.exp(base) * (base - found)).sum(-1).mean())
    assert 1e-9 < divergence < most
    assert float((base.argmax(-1) == found.argmax(-1)).mean()) > 0.95


@pytest.mark.parametrize("cache_type", ["q8_0", "q4_0", ("f16", "q4_0")])
def test_the_same_bits_for_every_split(story: list[int], cache_type: str | tuple[str, str]) -> None:
    whole = log_probabilities(story, cache_type)
    for n_batch in (1, 29):
        assert np.array_equal(whole, log_probabilities(story, cache_type, n_batch))


def test_commands_take_every_type() -> None:
    path = default_model_path()
    report = json.loads(run("nanollm", "fit", path, "-c", 128, "-ctk", "q8_0", "-ctv", "Q4_0", "--json").stdout)
    assert (report["limits"]["type_k"], report["limits"]["type_v"]) == ("Q8_0", "Q4_0")
    table = run("nanollm", "fit", path, "-c", 128, "-ctk", "q8_0", "-ctv", "q4_0").stdout
    assert "128 positions, Q8_0 keys, Q4_0 values" in table
    args = ("-m", path, "-p", "Once upon a time", "-n", 24, "--temp", 0, "-c", 128)
    texts = {t: run("nanollm-cli", *args, "-ctk", t, "-ctv", t).stdout for t in CACHE_TYPES}
    assert min(map(len, texts.values())) > 40
    assert texts["q8_0"] == texts["f16"] == texts["f32"]
