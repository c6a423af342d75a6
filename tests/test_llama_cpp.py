"""llama.cpp reads what our writer writes, and says the same. Needs the `benchmark` extra; not run in CI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nanollm
from nanollm.convert import convert
from nanollm.model import default_model_path

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `benchmark`)")


def greedy_ids(path: Path, prompt: list[int], n: int) -> list[int]:
    """n greedy tokens after the prompt, by llama.cpp."""
    model = llama_cpp.Llama(str(path), n_ctx=256, n_threads=2, verbose=False, logits_all=True)
    ids = list(prompt)
    for _ in range(n):
        model.reset()
        model.eval(ids)
        ids.append(int(np.argmax(model.scores[len(ids) - 1])))
    model.close()
    return ids[len(prompt) :]


def ours(path: Path, prompt: list[int], n: int) -> list[int]:
    with nanollm.Model(path, n_ctx=256) as model:
        ids = list(prompt)
        for _ in range(n):
            ids.append(int(np.argmax(model.logits(ids)[-1])))
    return ids[len(prompt) :]


def test_stories_in_f32(stories: Path) -> None:
    assert greedy_ids(stories, [1], 60) == ours(stories, [1], 60)


def test_stories_in_f16(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "f16.gguf"
    source = data_dir / "stories260K.bin"
    convert(source, path, "f16", tokenizer=data_dir / "tok512.bin", report=lambda note: None)
    assert greedy_ids(path, [1], 40) == ours(path, [1], 40)


def test_the_default_model_in_q8_0() -> None:
    path = Path(default_model_path())
    with nanollm.Model(path) as model:
        text = "Once upon a time, there was"
        prompt = [int(i) for i in model.tokenize(text)]
        theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        assert theirs.tokenize(text.encode(), add_bos=True, special=False) == prompt
        theirs.close()
    # Quantised activations differ in rounding: the start must agree, a close call later may not.
    assert greedy_ids(path, prompt, 12) == ours(path, prompt, 12)
