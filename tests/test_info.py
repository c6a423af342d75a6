"""`nanollm info` on every kind of GGUF file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHAT_TEMPLATE, write_tiny

import nanollm
from nanollm import _core
from nanollm.cli import info, main


def text_of(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    assert info.main([str(a) for a in args]) == 0
    return capsys.readouterr().out


def facts_of(capsys: pytest.CaptureFixture[str], *args: str | Path) -> Any:
    out = text_of(capsys, *args, "--json")
    assert out.count("\n") == 1
    return json.loads(out)


def write(path: Path, metadata: dict[str, tuple[str, Any]], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> Path:
    with _core.GgufWriter(path) as w:
        for key, (kind, value) in metadata.items():
            w.set(key, kind, value)
        for name, (kind, shape) in tensors.items():
            w.add_tensor(name, shape, kind)
        for kind, shape in tensors.values():
            w.write(np.zeros(int(np.prod(shape[:-1])) * _core.type_row_bytes(kind, shape[-1]), np.uint8))
    return path


def test_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", n_ctx=6000, template=CHAT_TEMPLATE)
    facts = facts_of(capsys, path)
    with nanollm.Model(path, n_outputs=1) as model:
        n_parameters = sum(int(np.prod(t.shape)) for t in model.tensors)
        assert facts["memory"][0]["total"] == model.memory.total
        assert facts["memory"][0]["limits"]["n_ctx"] == 4096
        assert facts["chat_templates"] == {"default": CHAT_TEMPLATE}
        n_vocab = model.n_vocab
    assert facts["memory"][1]["total"] == nanollm.Model.fit(path, n_ctx=0, n_outputs=1).total
    assert facts["memory"][1]["limits"]["n_ctx"] == 6000
    assert all(row["fits"] for row in facts["memory"])
    assert (facts["kind"], facts["parameters"], facts["bits_per_weight"]) == ("model", n_parameters, 32)
    assert facts["types"]["F32"]["parameters"] == n_parameters
    assert len(facts["tensors"]) == facts["types"]["F32"]["tensors"]
    tokenizer = facts["tokenizer"]
    assert (tokenizer["model"], tokenizer["n_tokens"], tokenizer["problem"]) == ("llama", n_vocab, None)
    assert tokenizer["special"]["eos"] == {"id": 2, "text": "</s>"}

    text = text_of(capsys, path)
    for line in (
        r"kind +model",
        rf"parameters +{n_parameters:,}",
        r"bits/weight +32\.00",
        rf"F32 +\d+ +{n_parameters:,} +32\.00 .*",
        rf"  tokens +{n_vocab:,}",
        r"  eos +2 '</s>'",
        r"  context 4096 .*weights .*KV cache .*: fits",
        r"  context 6000 .*: fits",
        r"chat template 'default' .*",
        r"tokenizer\.ggml\.tokens +\['<unk>', '<s>', '</s>', '<0x00>', …\] \(\d+ items\)",
    ):
        assert re.search(rf"^{line}$", text, re.MULTILINE), line
    assert "blk.0.attn_q.weight" not in text
    assert re.search(
        r"^blk\.0\.attn_q\.weight +F32 +32 x 32 +4\.00 KiB$", text_of(capsys, path, "--tensors"), re.MULTILINE
    )


def test_a_short_context_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(capsys, write_tiny(tmp_path / "tiny.gguf", n_ctx=100))
    assert [row["limits"]["n_ctx"] for row in facts["memory"]] == [100]


def test_types_that_cannot_be_computed_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    with _core.Gguf.open(source) as g:
        metadata = {key: (g.kind(key)[0], g[key]) for key in g.keys()}  # noqa: SIM118 (a Gguf does not iterate)
        tensors = {t.name: (t.type, t.shape) for t in g.tensors}
    tensors["token_embd.weight"] = ("I16", tensors["token_embd.weight"][1])
    path = write(tmp_path / "x.gguf", metadata, tensors)
    facts = facts_of(capsys, path)
    assert facts["types"]["I16"]["supported"] is False
    assert facts["memory"] == []
    assert "I16" in facts["cannot_run"]
    text = text_of(capsys, path)
    assert re.search(r"^I16 .* cannot be computed with$", text, re.MULTILINE)
    assert re.search(r"^cannot run: .*token_embd\.weight.*I16", text, re.MULTILINE)


def test_an_architecture_that_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.gguf", {"general.architecture": ("string", "mamba")}, {"a": ("F16", (2, 64))})
    assert re.search(r"^cannot run: .*'mamba'", text_of(capsys, path), re.MULTILINE)


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "llama-spm", "qwen2"])
def test_a_vocabulary(data_dir: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    facts = facts_of(capsys, data_dir / f"ggml-vocab-{name}.gguf")
    assert (facts["kind"], facts["parameters"], facts["bits_per_weight"]) == ("vocabulary", 0, None)
    assert facts["tokenizer"]["n_tokens"] > 30000
    assert facts["tokenizer"]["problem"] is None
    text = text_of(capsys, data_dir / f"ggml-vocab-{name}.gguf")
    assert "and no weights" in text
    assert "to run" not in text


def test_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {
        "general.architecture": ("string", "llama"),
        "general.type": ("string", "adapter"),
        "adapter.type": ("string", "lora"),
        "adapter.lora.alpha": ("float32", 16.0),
    }
    tensors = {
        f"blk.{i}.attn_q.weight.lora_{part}": ("F16", shape)
        for i in range(2)
        for part, shape in (("a", (8, 64)), ("b", (32, 8)))
    }
    path = write(tmp_path / "x.gguf", metadata, tensors)
    facts = facts_of(capsys, path)
    assert facts["kind"] == "adapter"
    assert facts["adapter"] == {"type": "lora", "alpha": 16.0, "ranks": [8], "weights": 2, "targets": ["attn_q"]}
    assert facts["memory"] == []
    assert re.search(r"^adapter +lora for 2 weights, rank 8, alpha 16\.0$", text_of(capsys, path), re.MULTILINE)


def test_an_importance_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"general.type": ("string", "imatrix"), "imatrix.datasets": ("string", ["a.txt"])}
    tensors = {"blk.0.attn_q.weight.in_sum2": ("F32", (1, 64)), "blk.0.attn_q.weight.counts": ("F32", (1, 1))}
    path = write(tmp_path / "x.gguf", metadata, tensors)
    assert facts_of(capsys, path)["kind"] == "imatrix"
    assert "importance matrix" in text_of(capsys, path)


def test_log_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.gguf", {"general.type": ("string", "logprobs")}, {"distances": ("I16", (2, 8))})
    assert facts_of(capsys, path)["kind"] == "logprobs"
    text = text_of(capsys, path)
    assert "log-probabilities" in text
    assert "cannot run" not in text


def test_values_that_are_not_what_they_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = {
        "general.architecture": ("string", ["a", "b"]),
        "general.type": ("uint32", 5),
        "general.name": ("float32", float("nan")),
        "tokenizer.ggml.tokens": ("string", ["a", "b\x1b[31m"]),
        "tokenizer.ggml.model": ("int32", np.zeros(3, np.int32)),
        "tokenizer.ggml.bos_token_id": ("uint32", 70000),
        "tokenizer.ggml.eos_token_id": ("string", "x"),
        "tokenizer.ggml.merges": ("bool", True),
        "tokenizer.chat_template": ("uint32", 3),
        "adapter.lora.alpha": ("string", "x"),
    }
    path = write(tmp_path / "x.gguf", strange, {"a": ("F32", (1,))})
    facts = facts_of(capsys, path)
    assert facts["tokenizer"]["special"] == {"bos": {"id": 70000, "text": None}}
    assert facts["tokenizer"]["problem"]
    assert facts["cannot_run"]
    assert "problem" in text_of(capsys, path)
    path = write(tmp_path / "y.gguf", {**strange, "general.type": ("string", "adapter")}, {})
    assert facts_of(capsys, path)["adapter"]["ranks"] == []
    assert "adapter" in text_of(capsys, path)


def test_commands_run_as_modules(capsys: pytest.CaptureFixture[str]) -> None:
    import runpy
    import sys

    for module in ("nanollm", "nanollm.cli"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [module, "--version"])
            with pytest.raises(SystemExit) as stop:
                runpy.run_module(module, run_name="__main__")
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"nanollm {_core.version()}\n"
    assert main(["info", "/nope.gguf"]) == 1
    assert "/nope.gguf" in capsys.readouterr().err
