"""llama.cpp reads what our writer writes, and says the same. Needs the `benchmark` extra; not run in CI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nanollm
from nanollm.convert import convert
from nanollm.model import default_model_path
from nanollm.quantize import quantize

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
        text = 'Mia found a magic stone. "Set me free, and you'
        prompt = [int(i) for i in model.tokenize(text)]
        theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        assert theirs.tokenize(text.encode(), add_bos=True, special=False) == prompt
        theirs.close()
    # Quantised activations differ in rounding: what the model is sure of must agree, a close call later may not.
    assert greedy_ids(path, prompt, 8) == ours(path, prompt, 8)


# ------------------------------------------------------------- quantised files

Logits = np.ndarray[tuple[int, int], np.dtype[np.float64]]
IDS = [(7 * i * i + 3 * i) % 30000 for i in range(200)]


def divergence(p: Logits, q: Logits) -> float:
    """Mean over rows of KL(softmax(p) || softmax(q))."""
    log_p = p - p.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    log_q = q - q.max(1, keepdims=True)
    log_q -= np.log(np.exp(log_q).sum(1, keepdims=True))
    return float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())


def our_logits(path: Path) -> Logits:
    with nanollm.Model(path, n_ctx=256, cache_type="f32") as model:
        return np.asarray(model.logits(IDS), np.float64)


def their_logits(path: Path) -> Logits:
    model = llama_cpp.Llama(str(path), n_ctx=256, n_threads=2, verbose=False, logits_all=True)
    model.eval(IDS)
    out = np.array(model.scores[: len(IDS)], np.float64)
    model.close()
    return out


def their_quantised(source: Path, out: Path, ftype: int) -> Path:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = 2
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), params) == 0
    return out


@pytest.fixture(scope="module", params=["gpt2-2l", "llama-50m"])
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """F16 files in the shape of GPT-2 and of a small Llama, with random weights."""
    path = tmp_path_factory.mktemp("shaped") / f"{request.param}.gguf"
    script = Path(__file__).parents[1] / "benchmarks" / "make_model.py"
    command = [sys.executable, "-P", str(script), request.param, "F16", "--distinct", "-o", str(path)]
    subprocess.run(command, check=True, timeout=300)
    return path


@pytest.mark.parametrize(("name", "ftype"), [("Q4_K_M", 15), ("Q8_0", 7), ("Q5_K_M", 17), ("Q4_0", 2), ("IQ4_XS", 30)])
def test_quantised_files_go_both_ways(shaped: Path, tmp_path: Path, name: str, ftype: int) -> None:
    exact = our_logits(shaped)
    mine, theirs = tmp_path / "ours.gguf", their_quantised(shaped, tmp_path / "theirs.gguf", ftype)
    quantize(shaped, mine, name)
    # Each engine on the other's file: apart by no more than how activations are rounded.
    assert divergence(their_logits(theirs), our_logits(theirs)) < 1e-3
    assert divergence(their_logits(mine), our_logits(mine)) < 1e-3
    # Our file is no further from the original; a tenth is left to the chance of 200 tokens.
    assert divergence(exact, our_logits(mine)) <= 1.1 * divergence(exact, our_logits(theirs))
