"""Converters: values and metadata as the `gguf` package reads them, and every way a source can be wrong."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import (
    GPT2,
    LLAMA,
    N_VOCAB,
    Tensors,
    gpt2_tensors,
    llama_tensors,
    write_folder,
    write_safetensors,
    write_tokenizer,
)

import nanollm
from nanollm import _core
from nanollm.convert import convert
from nanollm.convert.huggingface import original_name
from nanollm.models import lookup, pattern

gguf = pytest.importorskip("gguf", reason="files are read back with the gguf package")

DATA = Path(os.environ.get("NANOLLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=f"no test data in {DATA}")


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama folder; tests break it."""
    return write_folder(tmp_path / "my-model", LLAMA, llama_tensors(LLAMA, rng()))


def quiet(source: Path, out: Path, *args: Any, **kwargs: Any) -> Any:
    return convert(source, out, *args, report=lambda note: None, **kwargs)


def tensors_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Name -> float32 values, as the gguf package reads them."""
    out = {}
    for t in gguf.GGUFReader(path).tensors:
        shape = [int(n) for n in reversed(t.shape)]
        out[t.name] = gguf.quants.dequantize(t.data, t.tensor_type).reshape(shape)
    return out


def fields_of(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(source: Path, error: type[Exception], *texts: str, **kwargs: Any) -> None:
    """The conversion fails with one line that holds all texts, and leaves no file behind."""
    out = source.parent / "out" / "x.gguf"
    out.parent.mkdir(exist_ok=True)
    with pytest.raises(error) as e:
        quiet(source, out, **kwargs)
    for text in texts:
        assert text in str(e.value)
    assert "\n" not in str(e.value)
    assert list(out.parent.iterdir()) == []


# ---- Hugging Face folders


def test_llama_s_metadata(folder: Path, tmp_path: Path) -> None:
    quiet(folder, tmp_path / "x.gguf", description="A test.")
    found = fields_of(tmp_path / "x.gguf")
    expected = {
        "general.architecture": "llama",
        "general.name": "my-model",
        "general.description": "A test.",
        "general.file_type": 0,
        "general.quantization_version": 2,
        "llama.block_count": 2,
        "llama.context_length": 256,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.vocab_size": N_VOCAB,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["llama.attention.layer_norm_rms_epsilon"] == np.float32(1e-5)
    assert len(found["tokenizer.ggml.tokens"]) == len(found["tokenizer.ggml.token_type"]) == N_VOCAB


def test_llama_s_values(folder: Path, tmp_path: Path) -> None:
    source = llama_tensors(LLAMA, rng())
    quiet(folder, tmp_path / "x.gguf")
    found = tensors_of(tmp_path / "x.gguf")
    assert len(found) == len(source)
    names = lookup("llama", "").huggingface
    assert names is not None
    for name, values in found.items():
        expected = source[original_name(names, name)]
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            head_dim, half = 16, 8
            order = [  # row 2i is component i of a head's first half, 2i + 1 of its second
                head * head_dim + part * half + i
                for head in range(len(expected) // head_dim)
                for i in range(half)
                for part in range(2)
            ]
            expected = expected[order]
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_gpt2_s_values(tmp_path: Path) -> None:
    source = gpt2_tensors(GPT2, rng())
    write_folder(tmp_path / "hf", GPT2, source)
    quiet(tmp_path / "hf", tmp_path / "x.gguf")
    found = tensors_of(tmp_path / "x.gguf")
    np.testing.assert_array_equal(found["blk.1.attn_qkv.weight"], source["h.1.attn.c_attn.weight"].T)
    np.testing.assert_array_equal(found["blk.0.ffn_down.weight"], source["h.0.mlp.c_proj.weight"].T)
    np.testing.assert_array_equal(found["blk.0.ffn_up.bias"], source["h.0.mlp.c_fc.bias"])
    np.testing.assert_array_equal(found["position_embd.weight"], source["wpe.weight"])
    assert len(found) == len(source) - GPT2["n_layer"]  # all but the masks


@pytest.mark.parametrize(
    ("outtype", "bf16", "kind", "file_type"),
    [
        ("auto", False, "F32", 0),
        ("auto", True, "BF16", 32),
        ("f32", True, "F32", 0),
        ("f16", False, "F16", 1),
        ("bf16", False, "BF16", 32),
        ("q8_0", False, "Q8_0", 7),
    ],
)
def test_types(tmp_path: Path, outtype: Any, bf16: bool, kind: str, file_type: int) -> None:
    source = llama_tensors(LLAMA, rng())
    write_folder(tmp_path / "hf", LLAMA, source, bf16=bf16)
    result = quiet(tmp_path / "hf", tmp_path / "x.gguf", outtype)
    n_vectors = 2 * LLAMA["num_hidden_layers"] + 1
    assert result.types == ({kind: len(source)} if kind == "F32" else {kind: len(source) - n_vectors, "F32": n_vectors})
    assert fields_of(tmp_path / "x.gguf")["general.file_type"] == file_type
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    for t in reader.tensors:
        assert t.tensor_type.name == (kind if len(t.shape) > 1 else "F32")
    assert result.n_bytes == sum(t.n_bytes for t in reader.tensors)
    assert result.n_params == sum(x.size for x in source.values())
    expected = source["model.layers.1.mlp.down_proj.weight"]
    if bf16:
        expected = (expected.view(np.uint32) & 0xFFFF0000).view(np.float32)
    step = 0.0 if kind == "F32" or bf16 else {"F16": 2.0**-11, "BF16": 2.0**-8, "Q8_0": 0.505 / 127}[kind]
    found = tensors_of(tmp_path / "x.gguf")["blk.1.ffn_down.weight"]
    assert np.abs(found - expected).max() <= step * np.abs(expected).max()


def test_rows_without_whole_blocks_become_f16_and_are_reported(tmp_path: Path) -> None:
    config = LLAMA | {"intermediate_size": 40}
    write_folder(tmp_path / "hf", config, llama_tensors(config, rng()))
    notes: list[str] = []
    result = convert(tmp_path / "hf", tmp_path / "x.gguf", "q8_0", report=notes.append)
    assert result.types["F16"] == 2
    assert sum("ffn_down.weight" in n and "rows of 40" in n and "F16" in n for n in notes) == 2
    assert result.notes == tuple(notes)
    with pytest.warns(UserWarning, match="ffn_down|PAD") as warned:
        convert(tmp_path / "hf", tmp_path / "x.gguf", "q8_0")
    assert [str(w.message) for w in warned] == notes


def test_shards_are_one_model(folder: Path, tmp_path: Path) -> None:
    quiet(folder, tmp_path / "one.gguf")
    shard(folder, llama_tensors(LLAMA, rng()))
    quiet(folder, tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def shard(folder: Path, tensors: Tensors) -> None:
    """Splits the folder's weights into two files and an index."""
    names = list(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    for file, part in parts.items():
        write_safetensors(folder / file, {n: tensors[n] for n in part})
    index = {"metadata": {}, "weight_map": {n: file for file, part in parts.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def test_what_safetensors_writes_is_read(folder: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    quiet(folder, tmp_path / "one.gguf")
    safetensors.save_file(llama_tensors(LLAMA, rng()), folder / "model.safetensors")
    quiet(folder, tmp_path / "two.gguf")
    found, expected = tensors_of(tmp_path / "two.gguf"), tensors_of(tmp_path / "one.gguf")
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])


def test_frequency_factors_of_llama_3(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = LLAMA | {"rope_scaling": {"rope_type": "llama3", **scaling}}
    write_folder(tmp_path / "hf", config, llama_tensors(LLAMA, rng()))
    quiet(tmp_path / "hf", tmp_path / "x.gguf")
    factors = tensors_of(tmp_path / "x.gguf")["rope_freqs.weight"]
    expected = []
    for i in range(8):
        wavelength = 2 * np.pi * 10000.0 ** (2 * i / 16)
        if wavelength < 64 / 4:
            expected.append(1.0)
        elif wavelength > 64 / 1:
            expected.append(8.0)
        else:
            smooth = (64 / wavelength - 1) / (4 - 1)
            expected.append(1 / ((1 - smooth) / 8 + smooth))
    np.testing.assert_allclose(factors, expected, rtol=1e-6)
    assert 1.0 < factors[2] < 8.0


def test_a_tied_output_is_left_out(tmp_path: Path) -> None:
    tensors = llama_tensors(LLAMA, rng())
    write_folder(tmp_path / "hf", LLAMA | {"tie_word_embeddings": True}, tensors)
    notes: list[str] = []
    convert(tmp_path / "hf", tmp_path / "x.gguf", report=notes.append)
    assert "output.weight" not in tensors_of(tmp_path / "x.gguf")
    assert any("lm_head.weight" in n for n in notes)


@pytest.mark.parametrize("said", [None, True, False])
def test_gpt2_s_output_is_tied_unless_its_config_says_no(tmp_path: Path, said: bool | None) -> None:
    output = rng().standard_normal((N_VOCAB, GPT2["n_embd"])).astype(np.float32)
    config = GPT2 if said is None else GPT2 | {"tie_word_embeddings": said}
    write_folder(tmp_path / "hf", config, gpt2_tensors(GPT2, rng()) | {"lm_head.weight": output})
    notes = quiet(tmp_path / "hf", tmp_path / "x.gguf").notes
    assert ("output.weight" in tensors_of(tmp_path / "x.gguf")) is (said is False)
    assert any("lm_head.weight" in n for n in notes) is (said is not False)


def test_progress_is_told_and_can_stop(folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    result = quiet(folder, tmp_path / "x.gguf", progress=lambda *a: calls.append(a))
    assert calls[0][:2] == (0, result.n_bytes)
    assert calls[-1] == (result.n_bytes, result.n_bytes, "")
    assert [c[0] for c in calls] == sorted(c[0] for c in calls)
    assert {c[2] for c in calls[:-1]} == set(tensors_of(tmp_path / "x.gguf"))
    before = (tmp_path / "x.gguf").read_bytes()

    def stop(done: int, total: int, name: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quiet(folder, tmp_path / "x.gguf", "q8_0", progress=stop)
    assert (tmp_path / "x.gguf").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my-model", "x.gguf"]


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """100 MiB in tensors of at most 4: the peak grows by a few tensors' worth."""
    sizes = {"hidden_size": 1024, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 16}
    config = LLAMA | sizes | {"num_key_value_heads": 16}
    folder = write_folder(tmp_path / "hf", config, llama_tensors(config, rng()))
    size = (folder / "model.safetensors").stat().st_size
    assert size > 100 << 20
    child = (
        "import sys\nfrom nanollm import _core\nfrom nanollm.convert import convert\n"
        "convert(sys.argv[1], sys.argv[3], report=lambda note: None)\nbefore = _core.memory_peak()\n"
        "convert(sys.argv[2], sys.argv[3], report=lambda note: None)\nprint(_core.memory_peak() - before)\n"
    )
    small = write_folder(tmp_path / "small", LLAMA, llama_tensors(LLAMA, rng()))
    done = subprocess.run(
        [sys.executable, "-P", "-c", child, small, folder, tmp_path / "x.gguf"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(done.stdout) < 32 << 20


# ---- Hugging Face folders that are wrong


def test_a_missing_shard(folder: Path) -> None:
    shard(folder, llama_tensors(LLAMA, rng()))
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, nanollm.FileError, "model-00002-of-00002.safetensors", "missing")


def test_a_shard_outside_the_folder(folder: Path) -> None:
    shard(folder, llama_tensors(LLAMA, rng()))
    index = folder / "model.safetensors.index.json"
    edit_json(index, lambda c: c["weight_map"].update({"x": "../../model.safetensors"}))
    refused(folder, nanollm.FormatError, "../../model.safetensors")


def test_a_tensor_that_the_index_lists_and_no_shard_has(folder: Path) -> None:
    tensors = llama_tensors(LLAMA, rng())
    shard(folder, tensors)
    second = folder / "model-00002-of-00002.safetensors"
    write_safetensors(second, {n: tensors[n] for n in list(tensors)[8:]})
    refused(folder, nanollm.NotFoundError, str(second), list(tensors)[7])


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"]
)
def test_a_missing_tensor(folder: Path, name: str) -> None:
    tensors = llama_tensors(LLAMA, rng())
    del tensors[name]
    write_safetensors(folder / "model.safetensors", tensors)
    refused(folder, nanollm.NotFoundError, str(folder), name if "embed" not in name else "token_embd.weight")


def test_a_bias_that_the_config_promises(folder: Path) -> None:
    edit_json(folder / "config.json", lambda c: c.update(attention_bias=True))
    refused(folder, nanollm.NotFoundError, "model.layers.0.self_attn.q_proj.bias", "config.json")


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.sinks", "model.layers.2.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.scale"]
)
def test_a_tensor_left_over(folder: Path, name: str) -> None:
    tensors = llama_tensors(LLAMA, rng()) | {name: np.ones((96, 64), np.float32)}
    write_safetensors(folder / "model.safetensors", tensors)
    refused(folder, nanollm.UnsupportedError, name)


def test_tensors_that_are_no_parameters_are_left_out(folder: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    write_safetensors(folder / "model.safetensors", llama_tensors(LLAMA, rng()) | {name: np.ones(8, np.float32)})
    quiet(folder, tmp_path / "x.gguf")
    assert len(tensors_of(tmp_path / "x.gguf")) == len(llama_tensors(LLAMA, rng()))


def test_a_tensor_of_the_wrong_shape(folder: Path) -> None:
    tensors = llama_tensors(LLAMA, rng())
    tensors["model.layers.0.self_attn.k_proj.weight"] = np.ones((64, 64), np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    refused(folder, nanollm.ShapeError, str(folder))


@pytest.mark.parametrize(
    ("value", "outtype", "error"),
    [
        (np.nan, "f16", nanollm.FormatError),
        (np.inf, "f16", nanollm.FormatError),
        (1e6, "f16", nanollm.UnsupportedError),
        (np.finfo(np.float32).max, "bf16", nanollm.UnsupportedError),
        (1e7, "q8_0", nanollm.UnsupportedError),
    ],
)
def test_values_that_the_type_cannot_hold(folder: Path, value: float, outtype: Any, error: type[Exception]) -> None:
    tensors = llama_tensors(LLAMA, rng())
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = value
    write_safetensors(folder / "model.safetensors", tensors)
    refused(folder, error, "model.layers.0.mlp.up_proj.weight", outtype=outtype)


def test_a_tensor_of_an_unknown_type(folder: Path) -> None:
    tensors = llama_tensors(LLAMA, rng())
    tensors["model.norm.weight"] = np.ones(64, np.uint8)
    write_safetensors(folder / "model.safetensors", tensors)
    refused(folder, nanollm.UnsupportedError, "model.norm.weight", "U8")


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1])
def test_a_truncated_safetensors_file(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(folder, nanollm.FormatError, str(path))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"\xff",
        b"[" * 100000,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [18446744073709551616], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [4000000000, 4000000000], "data_offsets": [0, 64000000000000000000]}}',
        b'{"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}',
    ],
)
def test_a_malicious_safetensors_header(folder: Path, header: bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(folder, nanollm.FormatError, str(path))


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        ("model_type", "mamba", nanollm.UnsupportedError, "'mamba', known are gpt2, llama, mistral, qwen2, qwen3"),
        ("model_type", None, nanollm.NotFoundError, "model_type is missing"),
        ("hidden_size", None, nanollm.NotFoundError, "hidden_size is missing"),
        ("hidden_size", "64", nanollm.FormatError, "hidden_size: found '64'"),
        ("hidden_size", 66, nanollm.FormatError, "num_attention_heads: found 4"),
        ("hidden_act", "gelu", nanollm.UnsupportedError, "hidden_act: found 'gelu'"),
        ("num_attention_heads", 0, nanollm.FormatError, "num_attention_heads: found 0"),
        ("rope_scaling", {"rope_type": "longrope"}, nanollm.UnsupportedError, "found 'longrope'"),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}, nanollm.UnsupportedError, "found 'dynamic'"),
        ("rope_scaling", {"type": "linear"}, nanollm.NotFoundError, "factor is missing"),
        ("partial_rotary_factor", 0.5, nanollm.UnsupportedError, "partial_rotary_factor: found 0.5"),
        ("vocab_size", 300, nanollm.ShapeError, "vocab_size is 300"),
    ],
)
def test_a_config_that_is_wrong(folder: Path, key: str, value: object, error: type[Exception], text: str) -> None:
    edit_json(folder / "config.json", lambda c: c.update({key: value}))
    refused(folder, error, "config.json" if key != "vocab_size" else str(folder), text)


def test_what_is_no_model_at_all(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", nanollm.FileError, "nothing")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", nanollm.UnsupportedError, "neither")
    (tmp_path / "folder" / "config.json").write_text("{")
    refused(tmp_path / "folder", nanollm.FormatError, "config.json")
    (tmp_path / "folder" / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "folder" / "pytorch_model.bin").write_bytes(b"x")
    refused(tmp_path / "folder", nanollm.FileError, "model.safetensors", "pytorch_model.bin")
    with pytest.raises(nanollm.ArgumentError, match="q4_0"):
        convert(tmp_path, tmp_path / "x.gguf", "q4_0")  # type: ignore[arg-type]


def test_a_name_on_the_hub_without_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(nanollm.FileError, match=r"org/my-model: .*nanollm\[hub\]"):
        quiet(Path("org/my-model"), tmp_path / "y.gguf")


def test_names_of_layers_are_numbers() -> None:
    assert pattern(["blk.{i}.x"]).fullmatch("blk.12.x")
    assert not pattern(["blk.{i}.x"]).fullmatch("blk.a.x")
    assert not pattern([]).fullmatch("")


# ---- tokenizers


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_pre_tokenizers_are_recognised_and_give_the_same_ids(folder: Path, tmp_path: Path, pre: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    write_tokenizer(folder, pre)
    quiet(folder, tmp_path / "x.gguf")
    assert fields_of(tmp_path / "x.gguf")["tokenizer.ggml.pre"] == pre
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        ours = _core.Tokenizer(g)
    for text in ("Once upon a time, there's 1234 foxes!", "  tabs\t\n\nnew  lines ", "naïve ÜBER 北京 🦊 12345", ""):
        assert ours.encode(text) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


def test_an_unknown_pre_tokenizer_is_shown(folder: Path) -> None:
    write_tokenizer(folder, "unknown")
    refused(folder, nanollm.UnsupportedError, "tokenizer.json", "pre_tokenizer", r"\w+", "llama-bpe")


def test_special_tokens_templates_and_padding(folder: Path, tmp_path: Path) -> None:
    config = {
        "bos_token": {"content": "<|end|>"},
        "eos_token": "<|end|>",
        "chat_template": [{"name": "default", "template": "{{ x }}"}, {"name": "tools", "template": "{{ y }}"}],
        "added_tokens_decoder": {
            "302": {"content": "<|turn|>", "special": True},
            "303": {"content": "<tag>", "special": False},
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 302]}))
    notes: list[str] = []
    convert(folder, tmp_path / "x.gguf", report=notes.append)
    f = fields_of(tmp_path / "x.gguf")
    tokens, kinds = f["tokenizer.ggml.tokens"], f["tokenizer.ggml.token_type"]
    assert (tokens[302], kinds[302]) == ("<|turn|>", 3)
    assert (tokens[303], kinds[303]) == ("<tag>", 4)
    assert (tokens[300], kinds[300]) == ("[PAD300]", 5)
    assert (tokens[319], kinds[319]) == ("[PAD319]", 5)
    assert kinds[0] == 3
    assert kinds[5] == 1
    ids = {k: f.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos", "eot")}
    assert ids == {"bos": 0, "eos": 0, "eot": 302}
    assert f["tokenizer.chat_template"] == "{{ x }}"
    assert f["tokenizer.chat_template.tools"] == "{{ y }}"
    assert f["tokenizer.chat_templates"] == ["tools"]
    assert any("[PADn]" in n for n in notes)
    (folder / "chat_template.jinja").write_text("{{ z }}")
    quiet(folder, tmp_path / "x.gguf")
    assert fields_of(tmp_path / "x.gguf")["tokenizer.chat_template"] == "{{ z }}"


def test_a_bos_put_in_front_by_the_post_processor(folder: Path, tmp_path: Path) -> None:
    single = [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    processor = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    edit_json(folder / "tokenizer.json", lambda c: c.update(post_processor=processor))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|end|>", "eos_token": "<|end|>"}))
    quiet(folder, tmp_path / "x.gguf")
    f = fields_of(tmp_path / "x.gguf")
    assert f["tokenizer.ggml.add_bos_token"] is True
    assert f["tokenizer.ggml.add_eos_token"] is False


def test_more_added_tokens_than_rows(folder: Path, tmp_path: Path) -> None:
    extra = {"320": {"content": "[PAD]", "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": extra, "pad_token": "[PAD]"}))
    notes: list[str] = []
    convert(folder, tmp_path / "x.gguf", report=notes.append)
    f = fields_of(tmp_path / "x.gguf")
    assert len(f["tokenizer.ggml.tokens"]) == N_VOCAB
    assert "tokenizer.ggml.padding_token_id" not in f
    assert any("left out" in n for n in notes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["model"].update(type="WordPiece"), "WordPiece"),
        (lambda c: c["model"].update(vocab=[]), "vocab"),
        (lambda c: c["model"]["vocab"].update(x=5), "'x'"),
        (lambda c: c["model"]["vocab"].update(x=-1), "'x'"),
        (lambda c: c["model"]["vocab"].update(x=1 << 40), "'x'"),
        (lambda c: c["model"].update(merges=["a b c"]), "merges"),
        (lambda c: c["model"].update(ignore_merges=True), "ignore_merges"),
        (lambda c: c.update(normalizer={"type": "Lowercase"}), "Lowercase"),
        (lambda c: c.update(added_tokens=[{"id": 1 << 40, "content": "x"}]), "added token"),
        (lambda c: c.update(added_tokens=[{"id": 5, "content": "something else"}]), "something else"),
        (lambda c: c.update(model=3), "model"),
    ],
)
def test_a_tokenizer_that_is_wrong(folder: Path, change: Callable[[Any], None], text: str) -> None:
    edit_json(folder / "tokenizer.json", change)
    refused(folder, nanollm.NanoError, str(folder), text)


def test_a_folder_without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(folder, nanollm.FileError, "tokenizer.json")


def test_gpt2_s_first_tokenizer_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", GPT2, gpt2_tensors(GPT2, rng()))
    quiet(folder, tmp_path / "one.gguf")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer.json").unlink()
    quiet(folder, tmp_path / "two.gguf")
    one, two = fields_of(tmp_path / "one.gguf"), fields_of(tmp_path / "two.gguf")
    for key in ("tokens", "merges", "pre", "model"):
        assert one[f"tokenizer.ggml.{key}"] == two[f"tokenizer.ggml.{key}"]


def spm_folder(tmp_path: Path, n_vocab: int) -> Path:
    config = LLAMA | {"vocab_size": n_vocab}
    folder = write_folder(tmp_path / "spm", config, llama_tensors(config, rng()))
    (folder / "tokenizer.json").unlink()
    return folder


TEXTS = ["Hello world", " leading", "  two spaces", "", "naïve 北京 🦊", "tabs\tand\nlines", "I'm 1234 years old.\n\n"]


@needs_data
def test_a_sentencepiece_model_gives_the_same_ids(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = spm_folder(tmp_path, 32000)
    (folder / "tokenizer.model").write_bytes((DATA / "llama2-tokenizer.model").read_bytes())
    quiet(folder, tmp_path / "x.gguf", "q8_0")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        ours = _core.Tokenizer(g)
        assert g["tokenizer.ggml.model"] == "llama"
        assert g["tokenizer.ggml.scores"][300] == theirs.get_score(300)
    assert (ours.bos, ours.eos, ours.adds_bos, ours.adds_eos) == (1, 2, True, False)
    for text in TEXTS:
        assert ours.encode(text, add_special=False) == theirs.encode(text)


@needs_data
def test_a_sentencepiece_model_in_a_tokenizer_json_gives_the_same_ids(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "llama2-tokenizer.model"))
    pieces = [theirs.id_to_piece(i) for i in range(2000)]  # the first merges of the model are one too
    ids = {piece: i for i, piece in enumerate(pieces)}
    letters = [theirs.id_to_piece(i) for i in range(29871, 32000)]
    ids |= {piece: len(ids) + i for i, piece in enumerate(letters)}
    merges = []
    for piece in pieces[259:]:
        merges += [[piece[:i], piece[i:]] for i in range(1, len(piece)) if piece[:i] in ids and piece[i:] in ids]
    tokenizer: dict[str, Any] = {
        "model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "vocab": ids, "merges": merges},
        "added_tokens": [
            {"id": i, "content": t, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for i, t in enumerate(("<unk>", "<s>", "</s>"))
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
    }
    folder = spm_folder(tmp_path, len(ids))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    )
    quiet(folder, tmp_path / "x.gguf", "q8_0")
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        ours = _core.Tokenizer(g)
        assert g["tokenizer.ggml.model"] == "llama"
        assert g["tokenizer.ggml.token_type"][:4].tolist() == [2, 3, 3, 6]
    tokenizers = pytest.importorskip("tokenizers")
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS[:3] + TEXTS[4:]:
        assert ours.encode(text) == reference.encode(text).ids
    assert merges[0] == ["▁", "▁"]  # which older conversions leave out
    edit_json(folder / "tokenizer.json", lambda c: c["model"]["merges"].pop(0))
    quiet(folder, tmp_path / "y.gguf", "q8_0")
    assert (tmp_path / "y.gguf").read_bytes() == (tmp_path / "x.gguf").read_bytes()
    edit_json(folder / "tokenizer.json", lambda c: c["model"]["merges"].pop(100))
    refused(folder, nanollm.UnsupportedError, "merges", "byte_fallback")


def test_sentencepiece_models_of_other_kinds(tmp_path: Path) -> None:
    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value

    folder = spm_folder(tmp_path, N_VOCAB)
    piece = field(1, field(1, b"a"))
    path = folder / "tokenizer.model"
    path.write_bytes(piece + field(2, field(3, 1)))
    refused(folder, nanollm.UnsupportedError, str(path), "unigram")
    path.write_bytes(piece + field(2, field(3, 2)) + field(3, field(1, b"nmt_nfkc") + field(2, b"x")))
    refused(folder, nanollm.UnsupportedError, str(path), "nmt_nfkc")
    for damaged in (b"", b"\xff" * 20, piece[:-1], b"\x0b", field(2, field(3, 2)), field(1, field(1, b"\xff"))):
        path.write_bytes(damaged)
        refused(folder, nanollm.FormatError, str(path))


# ---- llama2.c

HEADER = (32, 48, 2, 4, 2, 40, 64)


def llama2c_tokens(n: int = 40) -> list[tuple[float, str]]:
    return [(0.0, "<unk>"), (0.0, "\n<s>\n"), (0.0, "\n</s>\n"), *((-float(i), f" t{i}") for i in range(3, n))]


def write_llama2c(folder: Path, tied: bool = True) -> Path:
    n, ff, layers, heads, heads_kv, vocab, n_ctx = HEADER
    head = n // heads
    per_layer = 2 * n + 2 * n * n + 2 * n * head * heads_kv + 3 * n * ff
    count = vocab * n * (1 if tied else 2) + layers * per_layer + n + n_ctx * head
    values = (0.1 * rng().standard_normal(count)).astype(np.float32)
    path = folder / "model.bin"
    path.write_bytes(struct.pack("<7i", *HEADER[:5], vocab if tied else -vocab, n_ctx) + values.tobytes())
    tokens = b"".join(struct.pack("<fi", s, len(t.encode())) + t.encode() for s, t in llama2c_tokens())
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 7) + tokens)
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_s_values(tmp_path: Path, tied: bool) -> None:
    path = write_llama2c(tmp_path, tied)
    quiet(path, tmp_path / "x.gguf")
    values = np.frombuffer(path.read_bytes()[28:], np.float32)
    found, f = tensors_of(tmp_path / "x.gguf"), fields_of(tmp_path / "x.gguf")
    np.testing.assert_array_equal(found["token_embd.weight"], values[: 40 * 32].reshape(40, 32))
    start = 40 * 32 + 2 * 32
    np.testing.assert_array_equal(found["blk.1.attn_q.weight"], values[start + 1024 : start + 2048].reshape(32, 32))
    assert found["blk.1.attn_k.weight"].shape == (16, 32)
    assert found["blk.1.ffn_down.weight"].shape == (32, 48)
    assert ("output.weight" in found) is not tied
    if not tied:
        np.testing.assert_array_equal(found["output.weight"], values[-40 * 32 :].reshape(40, 32))
    assert f["general.architecture"] == "llama"
    assert f["tokenizer.ggml.tokens"][:4] == ["<unk>", "<s>", "</s>", "▁t3"]
    assert f["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 1]
    assert f["tokenizer.ggml.scores"][5] == -5.0
    assert (f["tokenizer.ggml.bos_token_id"], f["tokenizer.ggml.eos_token_id"]) == (1, 2)


@needs_data
@pytest.mark.parametrize("outtype", ["auto", "q8_0"])
def test_stories260k_becomes_a_model_that_tells_a_story(tmp_path: Path, outtype: Any) -> None:
    quiet(DATA / "stories260K.bin", tmp_path / "x.gguf", outtype)
    assert fields_of(tmp_path / "x.gguf")["general.name"] == "stories260K"
    with nanollm.Model(tmp_path / "x.gguf") as model:
        text = "".join(model.generate("", max_tokens=20, temperature=0.0))
    assert text.strip().startswith("Once upon a time, there was a little girl named Lily.")


@pytest.mark.parametrize("size", [0, 10, 28, 1000, -4])
def test_a_truncated_llama2c_file(tmp_path: Path, size: int) -> None:
    path = write_llama2c(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    refused(path, nanollm.FormatError, str(path))


@pytest.mark.parametrize(
    ("i", "value", "error"),
    [
        (0, 0x616B3432, nanollm.UnsupportedError),
        (0, -32, nanollm.FormatError),
        (0, 2**31 - 1, nanollm.FormatError),
        (2, 2**31 - 1, nanollm.FormatError),
        (3, 5, nanollm.FormatError),
        (4, 3, nanollm.FormatError),
        (5, 0, nanollm.FormatError),
        (6, 65, nanollm.FormatError),
    ],
)
def test_a_malicious_llama2c_header(tmp_path: Path, i: int, value: int, error: type[Exception]) -> None:
    path = write_llama2c(tmp_path)
    data = bytearray(path.read_bytes())
    data[4 * i : 4 * i + 4] = struct.pack("<i", value)
    path.write_bytes(data)
    refused(path, error, str(path))


def test_a_llama2c_tokenizer_that_is_wrong(tmp_path: Path) -> None:
    path = write_llama2c(tmp_path)
    tokenizer = tmp_path / "tokenizer.bin"
    good = tokenizer.read_bytes()
    for bad in (b"", good[:-3], good[:-20], good + good[4:30], good[:8] + struct.pack("<i", -1) + good[12:]):
        tokenizer.write_bytes(bad)
        refused(path, nanollm.FormatError, str(tokenizer))
    tokenizer.write_bytes(good.replace(b"<unk>", b"<nope"))
    refused(path, nanollm.FormatError, "<unk>")
    tokenizer.unlink()
    refused(path, nanollm.FileError, "tokenizer.bin", "tok40.bin")
    (tmp_path / "elsewhere.bin").write_bytes(good)
    quiet(path, tmp_path / "x.gguf", tokenizer=tmp_path / "elsewhere.bin")
