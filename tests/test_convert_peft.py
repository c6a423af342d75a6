"""LoRA adapters: what is in the file, added to the base model's file, is the merged model's file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import GPT2, LLAMA, Tensors, gpt2_tensors, llama_tensors, write_folder, write_safetensors

import nanollm
from nanollm import _core
from nanollm.convert import convert

R, ALPHA = 4, 10.0
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": R,
    "lora_alpha": ALPHA,
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "init_lora_weights": True,
    "rank_pattern": {},
    "alpha_pattern": {},
    "target_modules": ["q_proj"],
}
LLAMA_MODULES = [
    f"model.layers.{i}.{m}" for i in range(2) for m in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj")
]
GPT2_MODULES = [f"transformer.h.{i}.{m}" for i in range(2) for m in ("attn.c_attn", "mlp.c_proj")]


def quiet(source: Path, out: Path, *args: Any, **kwargs: Any) -> Any:
    return convert(source, out, *args, report=lambda note: None, **kwargs)


def matrices(base: Tensors, modules: list[str], transposed: bool, prefix: str = "", r: int = R) -> Tensors:
    """A and B of each module under PEFT's names."""
    rng = np.random.default_rng(6)
    out: Tensors = {}
    for module in modules:
        w = base[f"{module.removeprefix(prefix)}.weight"]
        n_out, n_in = w.shape[::-1] if transposed else w.shape
        out[f"base_model.model.{module}.lora_A.weight"] = rng.normal(0, 1, (r, n_in)).astype(np.float32)
        out[f"base_model.model.{module}.lora_B.weight"] = rng.normal(0, 1, (n_out, r)).astype(np.float32)
    return out


def merged(
    base: Tensors, adapter: Tensors, scale: Callable[[str], float], transposed: bool, prefix: str = ""
) -> Tensors:
    out = dict(base)
    for name, a in adapter.items():
        if ".lora_A." in name:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            delta = adapter[name.replace("lora_A", "lora_B")] @ a * np.float32(scale(module))
            key = f"{module.removeprefix(prefix)}.weight"
            out[key] = base[key] + (delta.T if transposed else delta)
    return out


def write_adapter(folder: Path, tensors: Tensors, base: Path | str, bf16: bool = False, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | {"base_model_name_or_path": str(base)} | changes))
    write_safetensors(folder / "adapter_model.safetensors", tensors, bf16)
    return folder


def tensors_of(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    with _core.Gguf.open(path) as g:
        return {t.name: g.tensor_f32(t.name).reshape(t.shape) for t in g.tensors}


def check(base: Path, adapter: Path, merged_model: Path) -> None:
    """base + alpha / r * B A = merged, tensor by tensor."""
    with _core.Gguf.open(adapter) as g:
        alpha = g["adapter.lora.alpha"]
    weights, lora, expected = tensors_of(base), tensors_of(adapter), tensors_of(merged_model)
    assert {n.removesuffix(".lora_a").removesuffix(".lora_b") for n in lora} == {
        n for n in weights if not np.array_equal(weights[n], expected[n])
    }
    for name in weights:
        if f"{name}.lora_a" in lora:
            a, b = lora[f"{name}.lora_a"], lora[f"{name}.lora_b"]
            np.testing.assert_allclose(weights[name] + alpha / a.shape[0] * (b @ a), expected[name], atol=2e-4)


@pytest.fixture
def llama(tmp_path: Path) -> tuple[Path, Tensors]:
    tensors = llama_tensors(LLAMA, np.random.default_rng(1))
    folder = write_folder(tmp_path / "base", LLAMA, tensors)
    quiet(folder, tmp_path / "base.gguf")
    return folder, tensors


@pytest.mark.parametrize("per_root", [False, True])
def test_llama(tmp_path: Path, llama: tuple[Path, Tensors], per_root: bool) -> None:
    folder, base = llama
    lora = matrices(base, LLAMA_MODULES, False)
    write_adapter(tmp_path / "my-adapter", lora, folder, use_rslora=per_root)
    report = quiet(tmp_path / "my-adapter", tmp_path / "adapter.gguf")
    assert (report.architecture, report.n_tensors, report.types) == ("llama", 12, {"F32": 12})
    scale = ALPHA / (math.sqrt(R) if per_root else R)
    write_folder(tmp_path / "merged", LLAMA, merged(base, lora, lambda module: scale, False))
    quiet(tmp_path / "merged", tmp_path / "merged.gguf")
    check(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tmp_path / "merged.gguf")
    with _core.Gguf.open(tmp_path / "adapter.gguf") as g:
        found = {key: g[key] for key in g.keys()}  # noqa: SIM118 (a Gguf does not iterate)
    assert found.pop("adapter.lora.alpha") == pytest.approx(scale * R)
    assert found == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": "my-adapter",
        "general.file_type": 0,
        "general.quantization_version": 2,
        "general.base_model.count": 1,
        "general.base_model.0.name": str(folder),
        "adapter.type": "lora",
    }
    # The base may be named, as a folder or a GGUF file.
    write_adapter(tmp_path / "my-adapter", lora, "", use_rslora=per_root)
    for i, where in enumerate((folder, tmp_path / "base.gguf")):
        quiet(tmp_path / "my-adapter", tmp_path / f"{i}.gguf", base=where)
        check(tmp_path / "base.gguf", tmp_path / f"{i}.gguf", tmp_path / "merged.gguf")


def test_gpt2(tmp_path: Path) -> None:
    base = gpt2_tensors(GPT2, np.random.default_rng(1))
    write_folder(tmp_path / "base", GPT2, base)
    lora = matrices(base, GPT2_MODULES, True, "transformer.")
    write_adapter(tmp_path / "adapter", lora, tmp_path / "base", fan_in_fan_out=True)
    write_folder(tmp_path / "merged", GPT2, merged(base, lora, lambda module: ALPHA / R, True, "transformer."))
    for name in ("base", "adapter", "merged"):
        quiet(tmp_path / name, tmp_path / f"{name}.gguf")
    check(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tmp_path / "merged.gguf")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_llama_cpp_takes_the_adapter_for_the_merged_model(tmp_path: Path, name: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    rng = np.random.default_rng(1)
    if name == "llama":
        config, base, modules, transposed, prefix = LLAMA, llama_tensors(LLAMA, rng), LLAMA_MODULES, False, ""
    else:
        config, base, modules, transposed, prefix = GPT2, gpt2_tensors(GPT2, rng), GPT2_MODULES, True, "transformer."
    lora = matrices(base, modules, transposed, prefix)
    lora = {n: x * np.float32(0.1) if "lora_B" in n else x for n, x in lora.items()}
    write_folder(tmp_path / "base", config, base)
    write_adapter(tmp_path / "adapter", lora, tmp_path / "base")
    write_folder(tmp_path / "merged", config, merged(base, lora, lambda module: ALPHA / R, transposed, prefix))
    for part in ("base", "adapter", "merged"):
        quiet(tmp_path / part, tmp_path / f"{part}.gguf")

    def logits(part: str, adapter: str | None = None) -> npt.NDArray[Any]:
        model = llama_cpp.Llama(
            str(tmp_path / part),
            lora_path=adapter and str(tmp_path / adapter),
            logits_all=True,
            verbose=False,
            n_ctx=64,
        )
        model.eval([5, 6, 7, 8, 9, 10])
        return np.array(model.scores[:6])

    expected = logits("merged.gguf")
    np.testing.assert_allclose(logits("base.gguf", "adapter.gguf"), expected, atol=1e-5)
    assert np.abs(logits("base.gguf") - expected).max() > 0.05


@pytest.mark.parametrize("outtype", ["auto", "f16", "f32"])
def test_types(tmp_path: Path, llama: tuple[Path, Tensors], outtype: Any) -> None:
    folder, base = llama
    lora = matrices(base, LLAMA_MODULES, False)
    write_adapter(tmp_path / "adapter", lora, folder, bf16=True)
    report = quiet(tmp_path / "adapter", tmp_path / "x.gguf", outtype)
    assert report.types == {"BF16" if outtype == "auto" else outtype.upper(): 12}
    a = lora["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"]
    expected = (a.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(tensors_of(tmp_path / "x.gguf")["blk.1.ffn_down.weight.lora_a"], expected)


def test_modules_with_a_rank_and_an_alpha_of_their_own(tmp_path: Path, llama: tuple[Path, Tensors]) -> None:
    folder, base = llama
    lora = matrices(base, LLAMA_MODULES[:2], False) | matrices(base, LLAMA_MODULES[2:], False, r=8)
    write_adapter(
        tmp_path / "adapter",
        lora,
        folder,
        rank_pattern={"down_proj": 8, "layers.1": 8},
        alpha_pattern={"down_proj": 20.0, "^model.layers.1.self_attn.q_proj": 30.0, "roj": 7.0},
    )

    def scale(module: str) -> float:
        alpha = 20.0 if "down" in module else 30.0 if "1.self_attn.q" in module else ALPHA
        return alpha / (R if module in LLAMA_MODULES[:2] else 8)

    write_folder(tmp_path / "merged", LLAMA, merged(base, lora, scale, False))
    notes: list[str] = []
    convert(tmp_path / "adapter", tmp_path / "adapter.gguf", report=notes.append)
    quiet(tmp_path / "merged", tmp_path / "merged.gguf")
    check(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tmp_path / "merged.gguf")
    assert len(notes) == 3
    assert any("layers.1.self_attn.q_proj.lora_B.weight' is multiplied by 3" in n for n in notes)
    write_adapter(tmp_path / "adapter", lora, folder, alpha_pattern={".*_proj": 3.0})
    with pytest.raises(nanollm.UnsupportedError, match=r"alpha_pattern: \.\*_proj"):
        quiet(tmp_path / "adapter", tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"peft_type": "IA3"}, nanollm.UnsupportedError, "peft_type: found 'IA3'"),
        ({"use_dora": True}, nanollm.UnsupportedError, "use_dora"),
        ({"lora_bias": True}, nanollm.UnsupportedError, "lora_bias"),
        ({"bias": "all"}, nanollm.UnsupportedError, "bias: found 'all'"),
        ({"modules_to_save": ["lm_head"]}, nanollm.UnsupportedError, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, nanollm.UnsupportedError, "pissa"),
        ({"layer_replication": [[0, 2]]}, nanollm.UnsupportedError, "layer_replication"),
        ({"lora_alpha": 0}, nanollm.FormatError, "lora_alpha"),
        ({"lora_alpha": "8"}, nanollm.FormatError, "lora_alpha"),
        ({"r": 0}, nanollm.FormatError, "r: found 0"),
        ({"alpha_pattern": [1]}, nanollm.FormatError, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj": "x"}}, nanollm.FormatError, "q_proj"),
        ({"base_model_name_or_path": None}, nanollm.FileError, "--base"),
        ({"base_model_name_or_path": "/no/such/folder"}, nanollm.FileError, "/no/such/folder"),
    ],
)
def test_configs_that_are_refused(
    tmp_path: Path, llama: tuple[Path, Tensors], changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    folder, base = llama
    refused(write_adapter(tmp_path / "a", matrices(base, LLAMA_MODULES, False), folder, **changes), error, text)


def refused(source: Path, error: type[Exception], *texts: str, **kwargs: Any) -> None:
    out = source.parent / "refused.gguf"
    with pytest.raises(error) as e:
        quiet(source, out, **kwargs)
    assert not out.exists()
    assert "\n" not in str(e.value)
    for text in texts:
        assert text in str(e.value)


def test_tensors_that_are_refused(tmp_path: Path, llama: tuple[Path, Tensors]) -> None:
    folder, base = llama
    good = matrices(base, LLAMA_MODULES, False)
    prefix = "base_model.model.model"
    x = np.ones((R, 64), np.float32)
    for name in (
        f"{prefix}.layers.0.mlp.up_proj.lora_magnitude_vector",
        "base_model.model.lm_head.weight",
    ):
        write_adapter(tmp_path / "a", good | {name: x}, folder)
        refused(tmp_path / "a", nanollm.UnsupportedError, name)
    for module in ("model.embed_tokens", "model.layers.0.mlp.router"):
        more = {f"base_model.model.{module}.lora_{part}.weight": x for part in "AB"}
        write_adapter(tmp_path / "a", good | more, folder)
        refused(tmp_path / "a", nanollm.UnsupportedError, module)
    beyond = {f"base_model.model.model.layers.7.mlp.up_proj.lora_{part}.weight": x for part in "AB"}
    write_adapter(tmp_path / "a", good | beyond, folder)
    refused(tmp_path / "a", nanollm.NotFoundError, "model.layers.7.mlp.up_proj.weight")
    write_adapter(tmp_path / "a", good, folder, r=8)
    refused(tmp_path / "a", nanollm.ShapeError, "rank 4", "8")
    first = next(iter(good))
    for changed in (x[:, :32], x[0], x[:2], np.ones((0, 64), np.float32)):
        write_adapter(tmp_path / "a", good | {first: np.ascontiguousarray(changed)}, folder)
        refused(tmp_path / "a", nanollm.ShapeError, first)
    write_adapter(tmp_path / "a", {n: v for n, v in good.items() if n != first}, folder)
    refused(tmp_path / "a", nanollm.NotFoundError, first)
    write_adapter(tmp_path / "a", {}, folder)
    refused(tmp_path / "a", nanollm.NotFoundError, "no tensors")
    write_adapter(tmp_path / "a", good | {first: x.astype(np.uint8)}, folder)
    refused(tmp_path / "a", nanollm.UnsupportedError, first, "U8")
    write_adapter(tmp_path / "a", good, folder)
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    refused(tmp_path / "a", nanollm.FileError, "adapter_model.bin")
    with pytest.raises(nanollm.ArgumentError, match="base"):
        quiet(folder, tmp_path / "x.gguf", base=folder)
    with pytest.raises(nanollm.ArgumentError, match="tokenizer"):
        quiet(tmp_path / "a", tmp_path / "x.gguf", tokenizer=folder)


def test_the_output_where_it_is_the_embeddings(tmp_path: Path) -> None:
    config = LLAMA | {"tie_word_embeddings": True}
    base = llama_tensors(config, np.random.default_rng(1))
    folder = write_folder(tmp_path / "base", config, base)
    tensors = {
        f"base_model.model.lm_head.lora_{p}.weight": np.ones(s, np.float32)
        for p, s in (("A", (R, 64)), ("B", (320, R)))
    }
    write_adapter(tmp_path / "a", tensors, folder)
    refused(tmp_path / "a", nanollm.UnsupportedError, "lm_head")


def test_the_base_s_weights_need_not_be_there(tmp_path: Path, llama: tuple[Path, Tensors]) -> None:
    folder, base = llama
    write_adapter(tmp_path / "a", matrices(base, LLAMA_MODULES, False), folder)
    quiet(tmp_path / "a", tmp_path / "x.gguf")
    (folder / "model.safetensors").unlink()
    quiet(tmp_path / "a", tmp_path / "y.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()
