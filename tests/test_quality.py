"""Perplexity, divergence, importance and comparison: against PyTorch, against themselves, and on damaged files."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import write_tiny
from terminal import Terminal, assert_one_line_error, command, run

from nanollm import ArgumentError, FormatError, Model, UnsupportedError, _core, quantize
from nanollm.imatrix import Importance
from nanollm.quality import (
    Estimate,
    Logprobs,
    LogprobsWriter,
    Windows,
    collect_importance,
    compare,
    divergence,
    perplexity,
    rows_per_step,
)
from nanollm.quality.reduce import Softmax, blocks

F32_CACHE = "f32"


@pytest.fixture(scope="module")
def own_stories(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of about 2000 tokens that stories260K wrote, with fixed seeds."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    with Model(stories) as model:
        texts = [model.generate("", max_tokens=250, temperature=0.8, seed=seed).text for seed in range(9)]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def in_types(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """stories260K as f32, f16, q8_0 and q4_0; rows of 172 stay wider where blocks do not fill them."""
    folder = tmp_path_factory.mktemp("types")
    files = {"f32": stories}
    for name in ("f16", "q8_0", "q4_0"):
        files[name] = folder / f"stories-{name}.gguf"
        quantize(stories, files[name], name)
    return files


@pytest.fixture(scope="module")
def base(stories: Path, own_stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log-probabilities of stories260K for its own stories."""
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    with Model(stories, n_ctx=128) as model, LogprobsWriter(path, model, windows_of(model, own_stories)) as writer:
        perplexity(model, windows_of(model, own_stories), writer=writer)
    return path


def windows_of(model: Model, text: Path, **options: Any) -> Windows:
    return Windows.of(model, text.read_text(encoding="utf-8"), model.n_ctx, **options)


def nanollm(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return run("nanollm", *args, **options)


def nanollm_json(*args: object) -> dict[str, Any]:
    done = nanollm(*args, "--json", "-q")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


# ------------------------------------------------------------------ reductions


def test_softmax_parts_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(0, 4, (7, 1000)).astype(np.float32)
    b = (a + rng.normal(0, 0.3, a.shape)).astype(np.float32)
    ids = rng.integers(0, 1000, 7, dtype=np.int32)
    p, q = log_softmax(a), log_softmax(b)
    left, right = Softmax(a.copy()), Softmax(b.copy())
    np.testing.assert_allclose(left.nll(ids), -p[np.arange(7), ids], rtol=1e-6)
    np.testing.assert_allclose(left.kl(right), (np.exp(p) * (p - q)).sum(axis=1), atol=1e-6)
    np.testing.assert_array_equal(left.kl(Softmax(a.copy())), 0)
    np.testing.assert_array_equal(left.top, a.argmax(axis=1))
    with pytest.raises(FormatError, match="no numbers"):
        Softmax(np.array([[1, np.nan]], np.float32))


@pytest.mark.parametrize(("n_rows", "n_vocab"), [(0, 10), (1, 10), (513, 512), (3, 200_000)])
def test_blocks_cover_every_row_once(n_rows: int, n_vocab: int) -> None:
    assert [i for part in blocks(n_rows, n_vocab) for i in range(part.start, part.stop)] == list(range(n_rows))


def test_estimates_show_digits_that_mean_something() -> None:
    assert str(Estimate(8.123456, 0.0567891)) == "8.1235 ± 0.0568"
    assert str(Estimate(1.5, math.nan)) == "1.5 ± nan"
    assert str(Estimate(0.0, 0.0)) == "0 ± 0"
    assert str(Estimate(1.0327285e-06, 1.36e-07)) == "1.0327e-06 ± 1.4e-07"


# ------------------------------------------------------------------ windows


def test_windows_score_the_second_half_or_the_stride(stories: Path, own_stories: Path) -> None:
    with Model(stories, n_ctx=64) as model:
        ids = model.tokenize(own_stories.read_text(encoding="utf-8"))
        halves = windows_of(model, own_stories)
        assert (halves.n_windows, halves.n_scored, halves.first_row) == (len(ids) // 64, 31, 32)
        assert halves.ids(3) == [model.tokenizer.bos, *ids[3 * 64 + 1 : 4 * 64]]
        strided = windows_of(model, own_stories, stride=10, n_windows=5)
        assert (strided.n_windows, strided.n_scored, strided.n_tokens) == (5, 10, 104)
        assert strided.ids(2)[1:] == ids[21:84]


def naive_nll(model: Model, ids: list[int], n_ctx: int, step: int, n_scored: int) -> npt.NDArray[np.float64]:
    """From whole tables of logits, as the definition reads."""
    result = []
    for start in range(0, len(ids) - n_ctx + 1, step):
        window = [1, *ids[start + 1 : start + n_ctx]]
        p = log_softmax(model.logits(window))
        result += [-p[j - 1, window[j]] for j in range(n_ctx - n_scored, n_ctx)]
    return np.array(result)


@pytest.mark.parametrize(("n_ctx", "stride"), [(64, None), (65, None), (2, None), (64, 16), (64, 63), (9, 1)])
def test_perplexity_is_that_of_the_definition(stories: Path, own_stories: Path, n_ctx: int, stride: int | None) -> None:
    text = own_stories.read_text(encoding="utf-8")[:700]
    for n_batch, n_outputs in ((512, None), (7, 3)):
        with Model(stories, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs) as model:
            windows = Windows.of(model, text, n_ctx, stride=stride)
            n_scored = stride or max(1, (n_ctx - 1) // 2)
            nll = naive_nll(model, model.tokenize(text), n_ctx, stride or n_ctx, n_scored)
            result = perplexity(model, windows)
        assert result.n_scored == len(nll) == windows.n_rows
        assert result.nll.value == pytest.approx(nll.mean(), rel=1e-6)
        assert result.perplexity.value == pytest.approx(math.exp(nll.mean()), rel=1e-6)
        error = nll.std(ddof=1) / math.sqrt(len(nll))
        assert result.nll.error == pytest.approx(error, rel=1e-5)
        assert result.perplexity.error == pytest.approx(error * math.exp(nll.mean()), rel=1e-5)


# ------------------------------------------------------------------ perplexity against PyTorch, over types


def torch_llama(path: Path) -> Any:
    """The same model in transformers, its weights those of the file."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with _core.Gguf.open(path) as gguf:
        get: Callable[[str], int] = lambda key: int(gguf[f"llama.{key}"])  # noqa: E731
        n_head, n_head_kv = get("attention.head_count"), get("attention.head_count_kv")
        weights = {tensor.name: gguf.tensor_f32(tensor.name) for tensor in gguf.tensors}
        config = transformers.LlamaConfig(
            vocab_size=weights["token_embd.weight"].shape[0],
            hidden_size=get("embedding_length"),
            intermediate_size=get("feed_forward_length"),
            num_hidden_layers=get("block_count"),
            num_attention_heads=n_head,
            num_key_value_heads=n_head_kv,
            max_position_embeddings=get("context_length"),
            rms_norm_eps=gguf["llama.attention.layer_norm_rms_epsilon"],
            rope_theta=gguf.get("llama.rope.freq_base", 10000.0),
            tie_word_embeddings="output.weight" not in weights,
        )
    names = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    state = {}
    for name, w in weights.items():
        stem = name.removesuffix(".weight")
        if stem in top:
            state[f"{top[stem]}.weight"] = torch.from_numpy(w)
            continue
        _, layer, part = stem.split(".")
        if part in ("attn_q", "attn_k"):  # pairs of a rotation are neighbours in the file, half a head apart there
            heads = n_head if part == "attn_q" else n_head_kv
            w = w.reshape(heads, -1, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        state[f"model.layers.{layer}.{names[part]}.weight"] = torch.from_numpy(np.ascontiguousarray(w))
    model = transformers.LlamaForCausalLM(config).eval()
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model


def test_perplexity_in_f32_is_that_of_pytorch(stories: Path, own_stories: Path) -> None:
    torch = pytest.importorskip("torch")
    reference = torch_llama(stories)
    with Model(stories, n_ctx=256, cache_type=F32_CACHE) as model:
        windows = windows_of(model, own_stories)
        result = perplexity(model, windows)
    nll = []
    for i in range(windows.n_windows):
        ids = torch.tensor([windows.ids(i)])
        with torch.no_grad():
            logits = reference(ids).logits[0].double()
        p = torch.log_softmax(logits, -1)
        nll += [-float(p[j - 1, ids[0, j]]) for j in range(256 - windows.n_scored, 256)]
    assert len(nll) > 800
    assert result.perplexity.value == pytest.approx(math.exp(sum(nll) / len(nll)), abs=5e-5)


def test_perplexity_of_types_is_in_order(in_types: dict[str, Path], own_stories: Path) -> None:
    found = {}
    for name, path in in_types.items():
        with Model(path, n_ctx=128) as model:
            found[name] = perplexity(model, windows_of(model, own_stories)).perplexity.value
    assert found["f32"] == pytest.approx(found["f16"], rel=1e-3)
    assert found["f32"] == pytest.approx(found["q8_0"], rel=1e-2)
    assert max(found["f32"], found["f16"], found["q8_0"]) < found["q4_0"]
    assert 1 < found["f32"] < 8


# ------------------------------------------------------------------ memory


def test_memory_is_that_of_a_few_rows(tmp_path: Path) -> None:
    """A vocabulary of 30,000: the logits of one window would be 30 MB."""
    path = write_wide(tmp_path / "wide.gguf", 30_000)
    n_ctx = 512
    with Model(path, n_ctx=n_ctx, n_outputs=8) as model:
        assert model.memory.outputs < 1 << 20
        ids = np.random.default_rng(0).integers(3, 259, 2 * n_ctx, dtype=np.int32)
        windows = Windows(ids, n_ctx, n_ctx, 255, 2, None)
        perplexity(model, replace(windows, n_windows=1))  # what is made once
        tracemalloc.start()
        perplexity(model, windows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 << 20
    assert 8 < rows_per_step(path, n_ctx) < 256


def write_wide(path: Path, n_vocab: int) -> Path:
    """The tiny model with more tokens than it will ever see."""
    small = write_tiny(path.with_name("small.gguf"), n_ctx=512)
    with _core.Gguf.open(small) as gguf, _core.GgufWriter(path) as writer:
        n = gguf.tensor("token_embd.weight").shape[0]
        wide = {
            "tokenizer.ggml.tokens": gguf["tokenizer.ggml.tokens"] + [f"<extra {i}>" for i in range(n_vocab - n)],
            "tokenizer.ggml.scores": np.zeros(n_vocab, np.float32),
            "tokenizer.ggml.token_type": np.resize(gguf["tokenizer.ggml.token_type"], n_vocab),
        }
        for key in gguf.keys():  # noqa: SIM118 (a Gguf does not iterate)
            if key in wide:
                writer.set(key, gguf.kind(key)[0], wide[key])
            else:
                writer.copy(gguf, key)
        for tensor in gguf.tensors:
            shape = (n_vocab, tensor.shape[1]) if tensor.name == "token_embd.weight" else tensor.shape
            writer.add_tensor(tensor.name, shape, "F32")
        for tensor in gguf.tensors:
            data = gguf.tensor_f32(tensor.name)
            if tensor.name == "token_embd.weight":
                data = np.resize(data, (n_vocab, tensor.shape[1]))
            writer.write(data.data)
    return path


# ------------------------------------------------------------------ divergence


def test_divergence_from_itself_is_nothing(stories: Path, own_stories: Path, base: Path) -> None:
    with Model(stories, n_ctx=128) as model, Logprobs(base) as file:
        result = divergence(model, file)
        assert result.perplexity.perplexity == perplexity(model, windows_of(model, own_stories)).perplexity
    assert 0 <= result.kl.value < 1e-6
    assert result.kl_quantiles[1.0] < 1e-5
    assert result.same_top == Estimate(1.0, 0.0)
    assert result.ratio.value == pytest.approx(1, abs=1e-7)
    assert result.rms_delta_p.value < 1e-7
    result = compare([stories, stories], own_stories.read_text(encoding="utf-8"), n_ctx=128)[1].quality
    assert (result.kl, set(result.kl_quantiles.values())) == (Estimate(0.0, 0.0), {0.0})
    assert (result.ratio, result.rms_delta_p) == (Estimate(1.0, 0.0), Estimate(0.0, 0.0))


def test_divergence_is_that_of_the_definition(in_types: dict[str, Path], own_stories: Path, base: Path) -> None:
    p, q, ids = [], [], []
    with Model(in_types["f32"], n_ctx=128) as first, Model(in_types["q4_0"], n_ctx=128) as second:
        windows = windows_of(first, own_stories)
        for i in range(windows.n_windows):
            at = slice(windows.first_row, -1)
            p.append(log_softmax(first.logits(windows.ids(i)))[at])
            q.append(log_softmax(second.logits(windows.ids(i)))[at])
            ids += windows.ids(i)[windows.first_row + 1 :]
        with Logprobs(base) as file:
            from_file = divergence(second, file)
            few = divergence(second, file, n_windows=2)
    a, b, rows = np.concatenate(p), np.concatenate(q), np.arange(len(ids))
    kl = (np.exp(a) * (a - b)).sum(axis=1)
    direct = compare([in_types["f32"], in_types["q4_0"]], own_stories.read_text(encoding="utf-8"), n_ctx=128)[1].quality
    for result, tolerance in ((direct, 1e-5), (from_file, 1e-3)):
        assert result.kl.value == pytest.approx(kl.mean(), rel=tolerance)
        assert result.kl.error == pytest.approx(kl.std(ddof=1) / math.sqrt(len(kl)), rel=tolerance)
        for share, value in result.kl_quantiles.items():
            assert value == pytest.approx(np.quantile(kl, share), rel=0.05 if tolerance > 1e-4 else 1e-4, abs=1e-6)
        assert result.same_top.value == pytest.approx((a.argmax(axis=1) == b.argmax(axis=1)).mean(), abs=2e-3)
        nll = b[rows, ids] - a[rows, ids]
        assert result.ratio.value == pytest.approx(math.exp(-nll.mean()), rel=1e-6)
        changes = np.exp(b[rows, ids]) - np.exp(a[rows, ids])
        assert result.rms_delta_p.value == pytest.approx(math.sqrt((changes**2).mean()), rel=1e-5)
    assert few.perplexity.n_scored == 2 * windows.n_scored
    assert few.kl.value == pytest.approx(kl[: few.perplexity.n_scored].mean(), rel=1e-3)


def test_a_file_of_logprobs_keeps_what_it_was_given(stories: Path, own_stories: Path, base: Path) -> None:
    with Model(stories, n_ctx=128) as model, Logprobs(base) as file:
        windows = windows_of(model, own_stories)
        assert file.windows.is_same(windows.tokens)
        assert (file.n_vocab, file.windows.n_rows, file.windows.bos) == (512, windows.n_rows, 1)
        size = LogprobsWriter.size(model, windows)
        assert size < base.stat().st_size < size + 2000
        p = log_softmax(model.logits(windows.ids(1)))[windows.first_row : -1]
        kept = file.rows(slice(windows.n_scored, 2 * windows.n_scored))
        distances = np.minimum(p.max(axis=1, keepdims=True) - p, 24)
        assert np.abs(distances + kept).max() < 4e-4
        assert (np.exp(p) * np.abs(distances + kept)).sum(axis=1).max() < 1e-4


# Each makes another mistake of the file; the words are what the error must say.
HOSTILE: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("another type", "general.type", {"general.type": "model"}, {}),
    ("another version", "version", {"logprobs.version": 2}, {}),
    ("no n_ctx", "n_ctx", {"logprobs.n_ctx": None}, {}),
    ("a text for n_ctx", "n_ctx", {"logprobs.n_ctx": "128"}, {}),
    ("windows beyond the tokens", "windows", {"logprobs.n_ctx": 1 << 30}, {}),
    ("windows of nothing", "windows", {"logprobs.n_ctx": 0}, {}),
    ("no step", "windows", {"logprobs.step": 0}, {}),
    ("more windows than tokens", "windows", {"logprobs.n_windows": 1 << 30}, {}),
    ("no windows", "windows", {"logprobs.n_windows": 0}, {}),
    ("more scored than there are", "scored", {"logprobs.n_scored": 16}, {}),
    ("fewer rows", "rows", {"logprobs.n_windows": 1}, {}),
    ("a strange start", "vocabulary", {"logprobs.bos": 9999}, {}),
    ("no tokens", "tokens", {}, {"tokens": None}),
    ("tokens of another type", "tokens", {}, {"tokens": np.zeros(32, np.float32)}),
    ("tokens out of the vocabulary", "vocabulary", {}, {"tokens": np.full(32, 40, np.int32)}),
    ("negative tokens", "vocabulary", {}, {"tokens": np.full(32, -1, np.int32)}),
    ("no rows", "distances", {}, {"distances": None}),
    ("rows of another type", "distances", {}, {"distances": np.zeros((14, 40), np.int32)}),
    ("too few rows", "rows", {}, {"distances": np.zeros((13, 40), np.int16)}),
    ("nll that is none", "nll", {}, {"nll": np.full(14, np.nan, np.float32)}),
    ("nll below zero", "nll", {}, {"nll": np.full(14, -1, np.float32)}),
    ("nll of another length", "rows", {}, {"nll": np.zeros(15, np.float32)}),
]


def write_logprobs(path: Path, values: dict[str, Any], arrays: dict[str, Any]) -> Path:
    """A small valid file but for what is given; None leaves it out."""
    numbers = {"version": 1, "n_ctx": 16, "step": 16, "n_scored": 7, "n_windows": 2, "bos": 1}
    all_values: dict[str, Any] = {"general.type": "logprobs", "logprobs.vocabulary": "00"}
    all_values |= {f"logprobs.{key}": value for key, value in numbers.items()} | values
    zeros = {"tokens": np.zeros(32, np.int32), "distances": np.zeros((14, 40), np.int16)}
    all_arrays: dict[str, Any] = zeros | {"nll": np.zeros(14, np.float32)} | arrays
    present = {name: array for name, array in all_arrays.items() if array is not None}
    with _core.GgufWriter(path) as writer:
        for key, value in all_values.items():
            if value is not None:
                writer.set(key, "string" if isinstance(value, str) else "uint32", value)
        for name, array in present.items():
            kind = {"int32": "I32", "int16": "I16", "float32": "F32"}[array.dtype.name]
            writer.add_tensor(name, array.shape, kind)
        for array in present.values():
            writer.write(array.data)
    return path


@pytest.mark.parametrize(("words", "values", "arrays"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_damaged_logprobs_are_refused(
    tmp_path: Path, words: str, values: dict[str, Any], arrays: dict[str, Any]
) -> None:
    Logprobs(write_logprobs(tmp_path / "good.gguf", {}, {})).close()
    path = write_logprobs(tmp_path / "bad.gguf", values, arrays)
    with pytest.raises((FormatError, UnsupportedError), match=words) as caught:
        Logprobs(path)
    assert str(path) in str(caught.value)


def test_logprobs_of_another_vocabulary_or_text_are_refused(tiny: Path, stories: Path, base: Path) -> None:
    with Logprobs(base) as file, Model(tiny) as model, pytest.raises(ArgumentError, match="vocabulary of"):
        divergence(model, file)
    done = nanollm("perplexity", "-m", stories, "--kl-divergence-base", base, "--kl-divergence", "-f", __file__)
    assert_one_line_error(done, 1, "other tokens", name="nanollm perplexity")


def test_same_size_of_vocabulary_is_not_enough(stories: Path, tmp_path: Path) -> None:
    path = write_logprobs(tmp_path / "other.gguf", {}, {"distances": np.zeros((14, 512), np.int16)})
    with Logprobs(path) as file, Model(stories) as model, pytest.raises(ArgumentError, match="another vocabulary"):
        divergence(model, file)


# ------------------------------------------------------------------ importance


def test_importance_is_that_of_pytorch(stories: Path, own_stories: Path) -> None:
    torch = pytest.importorskip("torch")
    reference = torch_llama(stories)
    sums: dict[str, Any] = {}
    parts = {"attn_q": "self_attn.q_proj", "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}

    def adding(name: str) -> Callable[[Any, Any, Any], None]:
        def add(module: Any, inputs: Any, output: Any) -> None:
            sums[name] = sums.get(name, 0) + inputs[0][0].double().square().sum(dim=0)

        return add

    for layer in (0, 3):
        for ours, theirs in parts.items():
            module = reference.get_submodule(f"model.layers.{layer}.{theirs}")
            module.register_forward_hook(adding(f"blk.{layer}.{ours}.weight"))
    reference.lm_head.register_forward_hook(adding("token_embd.weight"))
    with Model(stories, n_ctx=100, importance=True, cache_type=F32_CACHE) as model:
        windows = windows_of(model, own_stories, n_windows=3)
        found = collect_importance(model, windows, with_output=True)
    with torch.no_grad():
        for i in range(windows.n_windows):
            reference(torch.tensor([windows.ids(i)]))
    assert len(sums) == 7
    for name, expected in sums.items():
        assert found.counts[name].tolist() == [300]
        np.testing.assert_allclose(found.values[name][0], expected.numpy() / 300, rtol=1e-3, err_msg=name)


def test_importance_goes_through_its_file(stories: Path, own_stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "stories.imatrix.gguf"
    done = nanollm("imatrix", "-m", stories, "-f", own_stories, "-o", out, "-c", 100, "--chunks", 3)
    assert done.returncode == 0, done.stderr
    assert "35 matrices from 300 tokens" in done.stderr
    with Model(stories, n_ctx=100, importance=True) as model:
        expected = collect_importance(model, windows_of(model, own_stories, n_windows=3))
    found = Importance.read(out)
    assert (found.chunk_count, found.chunk_size, found.datasets) == (3, 100, ("stories.txt",))
    assert found.values.keys() == expected.values.keys()
    assert "token_embd.weight" not in found.values
    for name, values in expected.values.items():
        np.testing.assert_allclose(found.values[name], values, rtol=1e-6)
        np.testing.assert_array_equal(found.counts[name], [300])


def test_importance_files_are_what_the_gguf_package_reads(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    values = {"a.weight": np.array([[1, 4, 9]], np.float32), "b.weight": np.ones((2, 3), np.float32)}
    counts = {"a.weight": np.array([10], np.float32), "b.weight": np.array([5, 0], np.float32)}
    path = tmp_path / "i.gguf"
    Importance(values, counts, 512, 7, ("x.txt",)).write(path)
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["a.weight.in_sum2"].data.ravel().tolist() == [10, 40, 90]
    assert tensors["a.weight.counts"].data.ravel().tolist() == [10]
    assert tensors["b.weight.counts"].data.ravel().tolist() == [5, 0]
    assert reader.get_field("general.type").contents() == "imatrix"
    assert reader.get_field("imatrix.chunk_count").contents() == 7
    assert reader.get_field("imatrix.chunk_size").contents() == 512
    found = Importance.read(path)
    np.testing.assert_array_equal(found.values["a.weight"], values["a.weight"])
    np.testing.assert_array_equal(found.values["b.weight"], values["b.weight"])


def dat(*entries: tuple[str, int, list[float]], tail: bytes = b"") -> bytes:
    data = len(entries).to_bytes(4, "little")
    for name, n_calls, sums in entries:
        data += len(name).to_bytes(4, "little") + name.encode()
        data += n_calls.to_bytes(4, "little") + len(sums).to_bytes(4, "little")
        data += np.array(sums, "<f4").tobytes()
    return data + tail


def test_the_older_importance_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    tail = (8).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"a.txt"
    path.write_bytes(dat(("a.weight", 4, [4, 8]), ("b.weight", 0, [0, 0]), tail=tail))
    found = Importance.read(path)
    assert found.values["a.weight"].tolist() == [[1, 2]]
    assert found.values["b.weight"].tolist() == [[1, 1]]
    assert (found.chunk_count, found.datasets) == (8, ("a.txt",))
    path.write_bytes(dat(("a.weight", 4, [4, 8])))
    assert Importance.read(path).chunk_count == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        dat(("a", 1, [1, 2]))[:-1],
        dat(("a", 1, [1, 2]))[:9],
        dat(("a", 1, [math.nan])),
        dat(("a", 1, [-1])),
        (1).to_bytes(4, "little") + (1 << 30).to_bytes(4, "little"),
        b"GGUF",
    ],
)
def test_damaged_importance_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(data)
    with pytest.raises(FormatError, match="bad"):
        Importance.read(path)


def test_a_model_is_no_importance_file(tiny: Path) -> None:
    with pytest.raises(FormatError, match=r"general\.type"):
        Importance.read(tiny)


# ------------------------------------------------------------------ commands


def test_perplexity_command(stories: Path, own_stories: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    args = ("-m", stories, "-f", own_stories, "-c", 128)
    done = nanollm("perplexity", *args, "--kl-divergence-base", base)
    assert done.returncode == 0, done.stderr
    assert f"{base}: " in done.stderr
    assert "will be written" in done.stderr
    assert "100 %" in done.stderr
    result = nanollm_json("perplexity", *args)
    assert f"perplexity    {Estimate(**result['perplexity'])}\n" in done.stdout
    with Model(stories, n_ctx=128) as model:
        expected = perplexity(model, windows_of(model, own_stories))
    assert result["perplexity"]["value"] == pytest.approx(expected.perplexity.value, rel=1e-6)
    assert (result["n_windows"], result["n_scored"], result["n_ctx"]) == (expected.n_windows, expected.n_scored, 128)
    own = nanollm_json("perplexity", "-m", stories, "--kl-divergence-base", base, "--kl-divergence")
    assert own["kl"]["value"] < 1e-6
    assert set(own["kl_quantiles"]) == {"0.5", "0.9", "0.95", "0.99", "0.999", "1.0"}
    shown = nanollm("perplexity", "-m", stories, "--kl-divergence-base", base, "--kl-divergence", "-f", own_stories)
    for word in ("mean KL", "median", "99.9 %", "largest", "same top token  100.00", "RMS change of p"):
        assert word in shown.stdout
    strided = nanollm_json("perplexity", *args, "--ppl-stride", 32, "--chunks", 4)
    assert (strided["n_windows"], strided["n_scored"]) == (4, 128)


def test_perplexity_in_a_terminal_shows_a_bar(stories: Path, own_stories: Path) -> None:
    with Terminal("nanollm", "perplexity", "-m", stories, "-f", own_stories, "-c", "128") as terminal:
        terminal.expect(r"tokens.*perplexity \d+\.\d{4}")
        terminal.expect(r"perplexity +\d+\.\d+ ± ")
        assert terminal.exit_code() == 0


def test_text_from_a_pipe_and_the_default_window(stories: Path, own_stories: Path) -> None:
    done = nanollm("perplexity", "-m", stories, "-f", "-", "-q", stdin=own_stories.read_bytes())
    assert done.returncode == 0, done.stderr
    assert "of 512 tokens" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["perplexity", "-m", "M"], 2, "-f"),
        (["perplexity", "-m", "M", "-f", "none.txt"], 1, "none.txt"),
        (["perplexity", "-m", "none.gguf", "-f", "T"], 1, "none.gguf"),
        (["perplexity", "-m", "M", "-f", "T", "-c", "4000"], 1, "4000"),
        (["perplexity", "-m", "M", "-f", "T", "-c", "1"], 1, "at least 2"),
        (["perplexity", "-m", "M", "-f", "T", "-c", "64", "--ppl-stride", "64"], 1, "stride"),
        (["perplexity", "-m", "M", "--kl-divergence"], 2, "--kl-divergence-base"),
        (["perplexity", "-m", "M", "--kl-divergence", "--kl-divergence-base", "M"], 1, "general.type"),
        (["perplexity", "-m", "M", "--kl-divergence", "--kl-divergence-base", "B", "-c", "64"], 2, "-c"),
        (["perplexity", "-m", "M", "-f", "T", "-c", "64", "--kl-divergence-base", "no/where"], 1, "no"),
        (["imatrix", "-m", "M", "-f", "T"], 2, "-o"),
        (["imatrix", "-m", "M", "-f", "T", "-c", "64", "-o", "no/where"], 1, "no"),
        (["perplexity", "-m", "M", "-f", "T", "--kl-divergence-base", "M"], 2, "the file to read"),
        (["perplexity", "-m", "M", "-f", "T", "--kl-divergence-base", "T"], 2, "the file to read"),
        (["imatrix", "-m", "M", "-f", "T", "-o", "M"], 2, "the file to read"),
        (["imatrix", "-m", "M", "-f", "T", "-o", "T"], 2, "the file to read"),
        (["compare", "X", "M", "-f", "T", "--plot", "M"], 2, "the file to read"),
        (["compare", "-f", "T"], 2, "FILE.gguf"),
        (["compare", "M", "X", "-f", "T", "-c", "64"], 1, "another vocabulary"),
        (["compare", "M", "-f", "T", "-c", "64", "--plot", "no.format"], 1, "no"),
    ],
)
def test_mistakes_are_one_line(
    stories: Path, tiny: Path, own_stories: Path, base: Path, tmp_path: Path, args: list[str], code: int, word: str
) -> None:
    if "--plot" in args:
        pytest.importorskip("matplotlib")
    files: dict[str, object] = {"M": stories, "T": own_stories, "X": tiny, "B": base}
    done = nanollm(*(files.get(arg, arg) for arg in args), cwd=tmp_path)
    assert_one_line_error(done, code, word, name=f"nanollm {args[0]}")
    assert list(tmp_path.iterdir()) == []


def test_compare_command(in_types: dict[str, Path], own_stories: Path) -> None:
    files = [in_types[name] for name in ("f32", "f16", "q4_0")]
    result = nanollm_json("compare", *files, "-f", own_stories, "-c", 128, "--chunks", 6)
    first, second, third = result["files"]
    assert [Path(file["path"]) for file in result["files"]] == files
    for path, file in zip(files, result["files"], strict=True):
        assert file["file_size"] == path.stat().st_size
        assert file["prompt_speed"] > 0
        assert file["decode_speed"] > 0
    assert first["bits_per_weight"] == 32
    assert third["bits_per_weight"] < second["bits_per_weight"] < 16.1
    assert first["quality"]["kl"] == {"value": 0.0, "error": 0.0}
    assert 0 < second["quality"]["kl"]["value"] < third["quality"]["kl"]["value"] < 1
    alone = nanollm_json("perplexity", "-m", files[2], "-f", own_stories, "-c", 128, "--chunks", 6)
    assert third["quality"]["perplexity"]["perplexity"] == pytest.approx(alone["perplexity"])
    table = nanollm("compare", *files, "-f", own_stories, "-c", 128, "--chunks", 2, "-q")
    lines = table.stdout.splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split()[:3] == ["file", "size", "bits/weight"]
    with Terminal("nanollm", "compare", *files, "-f", own_stories, "-c", "128", "--chunks", "2") as terminal:
        terminal.expect("┃")
        assert terminal.exit_code() == 0


def test_compare_draws(in_types: dict[str, Path], own_stories: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "plot.svg"
    done = nanollm("compare", *in_types.values(), "-f", own_stories, "-c", 128, "--chunks", 2, "-q", "--plot", out)
    assert done.returncode == 0, done.stderr
    assert "<svg" in out.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [out]


def test_drawing_without_matplotlib_is_refused_at_once(stories: Path, own_stories: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['matplotlib'] = None\n")
    args = ("compare", stories, "-f", own_stories, "--plot", tmp_path / "x.png")
    done = nanollm(*args, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert_one_line_error(done, 1, "nanollm[plot]", name="nanollm compare")


@pytest.mark.parametrize("name", ["perplexity", "imatrix", "compare"])
def test_ctrl_c_ends_a_command_and_leaves_nothing(stories: Path, tmp_path: Path, name: str) -> None:
    text = tmp_path / "long.txt"
    text.write_text("Once upon a time there was a little girl. " * 20_000)
    out = tmp_path / "out.gguf"
    model = (stories, stories) if name == "compare" else ("-m", stories)
    options = {"perplexity": ("--kl-divergence-base", out), "imatrix": ("-o", out), "compare": ()}[name]
    args = [command("nanollm"), name, *map(str, (*model, "-f", text, "-c", 256, *options))]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "%" not in (line := process.stderr.readline()):
            assert line, "ended by itself"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(20) == 130
        assert time.monotonic() - start < 10
        assert rest.splitlines()[-1] == f"nanollm {name}: error: interrupted"
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert list(tmp_path.iterdir()) == [text]
