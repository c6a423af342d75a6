"""LoRA adapters: applied, several at once, merged, made, written for PEFT and read from it; what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from terminal import run
from tiny_models import N_VOCAB, write_tokenizer

import nanollm
from nanollm import Model, _core, lora
from nanollm.convert import convert

Logits = npt.NDArray[np.float32]

IDS = np.random.default_rng(2).integers(0, N_VOCAB, 60).tolist()
CASES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
}


def adapter(
    model: Path, out: Path, seed: int = 0, scale: float = 0.1, type: str = "f32", **options: Any
) -> lora.Adapter:
    """An adapter that changes something: B is random, too (of a table's pair A)."""
    made = lora.create(model, out, seed=seed, **options)
    rng = np.random.default_rng(seed + 100)
    for weight, pair in made.pairs.items():
        matrix = pair.a if lora.is_table(weight) else pair.b
        matrix[...] = scale * rng.standard_normal(matrix.shape)
    made.write(out, type)
    return made


def logits(path: Path, *adapters: Any, ids: list[int] = IDS, **options: Any) -> Logits:
    with Model(path, n_threads=2, cache_type="f32", n_ctx=128, adapters=adapters, **options) as model:
        return np.array(model.logits([token % model.n_vocab for token in ids]))


def close(found: Logits, expected: Logits, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(found - expected).max() <= tolerance * np.ptp(expected))


# ------------------------------------------------------------------ against PEFT


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random model as transformers saves it, and the file converted from it."""
    torch = pytest.importorskip("torch", reason="the reference needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="the reference needs torch and transformers")
    pytest.importorskip("peft", reason="the reference needs peft")
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    parameters = CASES[request.param] | {"vocab_size": N_VOCAB, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.AutoConfig.for_model(request.param, **parameters)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.15 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    model.save_pretrained(folder)
    write_tokenizer(folder)
    convert(folder, folder / "model.gguf", "f32", report=lambda note: None)
    return folder, folder / "model.gguf"


def reference(folder: Path, adapter: Path, **options: Any) -> Logits:
    """The logits of transformers with PEFT's adapter."""
    import peft
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    adapted = peft.PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        return np.asarray(adapted(torch.tensor(IDS)[None]).logits[0].numpy(), np.float32)


@pytest.mark.parametrize("targets", ["all", "attention", "blk.1.*", "all,token_embd"])
def test_peft_reads_what_is_written_for_it(base: tuple[Path, Path], tmp_path: Path, targets: str) -> None:
    folder, model = base
    made = adapter(model, tmp_path / "a.gguf", rank=4, alpha=6.0, targets=targets)
    files = lora.write_peft(tmp_path / "a.gguf", tmp_path / "peft", model)
    assert {file.name for file in files} == {"adapter_config.json", "adapter_model.safetensors"}
    found = logits(model, tmp_path / "a.gguf")
    assert close(found, reference(folder, tmp_path / "peft"))
    assert not close(found, logits(model), 1e-2)
    # And back: the same matrices, to the bit.
    convert(tmp_path / "peft", tmp_path / "back.gguf", base=model, report=lambda note: None)
    again = lora.read(tmp_path / "back.gguf")
    assert again.alpha == 6.0
    assert again.pairs.keys() == made.pairs.keys()
    for weight, pair in made.pairs.items():
        np.testing.assert_array_equal(again.pairs[weight].a, pair.a)
        np.testing.assert_array_equal(again.pairs[weight].b, pair.b)


@pytest.mark.parametrize("type", ["q8_0", "q4_0"])
def test_peft_on_the_dequantised_base(base: tuple[Path, Path], tmp_path: Path, type: str) -> None:
    """An adapter of a quantised file does in PEFT, on what transformers makes of that file's weights, what it does.
    The file's linears round their activations to 8 bits; as f32 the same weights make no difference."""
    folder, model = base
    if "gpt2" in folder.name:
        pytest.skip("transformers expects another shape than GGUF's of a GPT-2's transposed matrices")
    nanollm.quantize(model, tmp_path / "base.gguf", type, pure=True)
    adapter(tmp_path / "base.gguf", tmp_path / "a.gguf", rank=4, alpha=8.0, targets="all")
    lora.write_peft(tmp_path / "a.gguf", tmp_path / "peft", tmp_path / "base.gguf")
    expected = reference(tmp_path, tmp_path / "peft", gguf_file="base.gguf")
    nanollm.quantize(tmp_path / "base.gguf", tmp_path / "f32.gguf", "f32", allow_requantize=True)
    assert close(logits(tmp_path / "f32.gguf", tmp_path / "a.gguf"), expected)
    assert close(logits(tmp_path / "base.gguf", tmp_path / "a.gguf"), expected, 5e-2)
    assert not close(logits(tmp_path / "base.gguf"), expected, 1e-1)


def test_an_adapter_made_by_peft(base: tuple[Path, Path], tmp_path: Path) -> None:
    import peft
    import torch
    import transformers

    folder, model = base
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    is_gpt2 = "gpt2" in folder.name
    config = peft.LoraConfig(
        r=8,
        lora_alpha=12,
        target_modules=["c_attn", "c_fc", "wte"] if is_gpt2 else ["q_proj", "k_proj", "down_proj", "lm_head"],
        fan_in_fan_out=is_gpt2,
        rank_pattern={"c_fc": 4, "down_proj": 4},
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(plain, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn_like(p) * 0.1)
    adapted.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    convert(tmp_path / "peft", tmp_path / "a.gguf", base=folder, report=lambda note: None)
    assert close(logits(model, tmp_path / "a.gguf"), reference(folder, tmp_path / "peft"))


def test_ranks_that_differ_are_written_with_their_scales(base: tuple[Path, Path], tmp_path: Path) -> None:
    folder, model = base
    small = adapter(model, tmp_path / "a.gguf", rank=2, targets="ffn_down", seed=1)
    large = adapter(model, tmp_path / "b.gguf", rank=6, alpha=4.0, targets="attention", seed=2)
    both = lora.Adapter(large.path, large.architecture, 4.0, small.pairs | large.pairs)
    both.write(tmp_path / "both.gguf")
    for alpha in (4.0, 0.0):  # 0 stands for each rank
        lora.Adapter("", both.architecture, alpha, both.pairs).write(tmp_path / "both.gguf")
        lora.write_peft(tmp_path / "both.gguf", tmp_path / "peft", folder)
        assert close(logits(model, tmp_path / "both.gguf"), reference(folder, tmp_path / "peft"))


# ------------------------------------------------------------------ applied and merged


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, Path, Path]:
    """A model and two adapters for it."""
    folder = tmp_path_factory.mktemp("adapters")
    adapter(tiny, folder / "a.gguf", rank=4)
    adapter(tiny, folder / "b.gguf", seed=5, rank=2, targets=["attn_q", "ffn_*"])
    return tiny, folder / "a.gguf", folder / "b.gguf"


def test_several_adapters_are_their_sum_in_the_weights(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, b = llama
    report = nanollm.merge(model, [a, (b, -0.5)], tmp_path / "merged.gguf")
    assert (report.n_merged, report.notes) == (14, ())
    found = logits(model, a, (b, -0.5))
    assert close(found, logits(tmp_path / "merged.gguf"))
    assert not close(found, logits(model, a), 1e-3)
    # In the weights themselves, in float32; and metadata and all other tensors are the same bytes.
    adapters = [(lora.read(a), 1.0), (lora.read(b), -0.5)]
    with _core.Gguf.open(model) as before, _core.Gguf.open(tmp_path / "merged.gguf") as after:
        assert {key: repr(before[key]) for key in before.keys()} == {key: repr(after[key]) for key in after.keys()}  # noqa: SIM118
        for t in before.tensors:
            expected = before.tensor_f32(t.name).reshape(t.shape)
            for one, scale in adapters:
                if t.name in one.pairs:
                    pair = one.pairs[t.name]
                    expected = expected + (pair.b * np.float32(one.factor(t.name, scale))) @ pair.a
            np.testing.assert_allclose(after.tensor_f32(t.name).reshape(t.shape), expected, rtol=0, atol=1e-6)
            if not any(t.name in one.pairs for one, _ in adapters):
                assert bytes(before.tensor_data(t.name)) == bytes(after.tensor_data(t.name))


def test_a_scale_of_0_changes_no_bit(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, b = llama
    np.testing.assert_array_equal(logits(model, (a, 0.0), (b, 0)), logits(model))
    nanollm.merge(model, [(a, 0.0)], tmp_path / "merged.gguf")
    assert (tmp_path / "merged.gguf").read_bytes() == model.read_bytes()


def test_what_is_not_trained_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    made = lora.create(tiny, tmp_path / "new.gguf", rank=3)
    assert all(np.abs(pair.a).max() <= pair.a.shape[1] ** -0.5 and not pair.b.any() for pair in made.pairs.values())
    assert all(np.abs(pair.a).max() > 0.9 * pair.a.shape[1] ** -0.5 for pair in made.pairs.values())
    np.testing.assert_array_equal(logits(tiny, tmp_path / "new.gguf"), logits(tiny))


@pytest.mark.parametrize("type", ["q8_0", "q4_0"])
def test_on_a_quantised_base(stories: Path, tmp_path: Path, type: str) -> None:
    """The adapter is exact; merged, the weights are rounded once more, so that it is as far off as the type is."""
    nanollm.quantize(stories, tmp_path / "base.gguf", type)
    adapter(stories, tmp_path / "a.gguf", rank=4, scale=0.05)
    with _core.Gguf.open(tmp_path / "base.gguf") as file:
        kinds = {t.name: t.type for t in file.tensors}
    report = nanollm.merge(tmp_path / "base.gguf", [tmp_path / "a.gguf"], tmp_path / "merged.gguf")
    assert report.notes[0].startswith("30 weights of type")
    with _core.Gguf.open(tmp_path / "merged.gguf") as file:
        assert {t.name: t.type for t in file.tensors} == kinds
    nanollm.merge(tmp_path / "base.gguf", [tmp_path / "a.gguf"], tmp_path / "exact.gguf", "f32")
    applied = logits(tmp_path / "base.gguf", tmp_path / "a.gguf")
    exact, merged = logits(tmp_path / "exact.gguf"), logits(tmp_path / "merged.gguf")
    plain = logits(tmp_path / "base.gguf")
    of_type = np.abs(plain - logits(stories)).mean()
    assert np.abs(applied - exact).mean() < of_type  # the activations are rounded, that is all
    assert np.abs(merged - exact).mean() < 3 * of_type
    assert np.abs(applied - plain).mean() > 3 * of_type or type == "q4_0"


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0"])
def test_merged_into_another_type(llama: tuple[Path, Path, Path], tmp_path: Path, outtype: Any) -> None:
    model, a, _ = llama
    seen: list[tuple[int, int, str]] = []
    report = nanollm.merge(
        model, [a], tmp_path / "m.gguf", outtype, progress=lambda done, total, name: seen.append((done, total, name))
    )
    with _core.Gguf.open(tmp_path / "m.gguf") as file:
        assert {t.type for t in file.tensors if len(t.shape) == 2} <= {outtype.upper(), "F16"}
        assert {t.type for t in file.tensors if len(t.shape) == 1} == {"F32"}
        assert sum(t.n_bytes for t in file.tensors) == report.n_bytes == seen[-1][0]
    nanollm.merge(model, [a], tmp_path / "exact.gguf")
    error = {"f32": 0.0, "f16": 2**-11, "bf16": 2**-8, "q8_0": 1 / 200}[outtype]  # of the largest in a row
    with _core.Gguf.open(tmp_path / "m.gguf") as file, _core.Gguf.open(tmp_path / "exact.gguf") as exact:
        for t in exact.tensors:
            expected = exact.tensor_f32(t.name).reshape(t.shape)
            difference = np.abs(file.tensor_f32(t.name).reshape(t.shape) - expected)
            assert (difference <= error * np.abs(expected).max(-1, keepdims=True)).all()
    if outtype == "f32":
        assert close(logits(tmp_path / "m.gguf"), logits(model, a))


@pytest.mark.parametrize("type", ["f16", "bf16"])
def test_matrices_of_other_types(llama: tuple[Path, Path, Path], tmp_path: Path, type: str) -> None:
    model, a, _ = llama
    lora.read(a).write(tmp_path / "a.gguf", type)
    assert close(logits(model, tmp_path / "a.gguf"), logits(model, a), 1e-2)
    assert lora.read(tmp_path / "a.gguf").pairs.keys() == lora.read(a).pairs.keys()


def test_memory_counts_adapters(llama: tuple[Path, Path, Path]) -> None:
    model, a, b = llama
    with _core.Gguf.open(a) as one, _core.Gguf.open(b) as other:
        n_bytes = sum(t.n_bytes for file in (one, other) for t in file.tensors)
    plain, adapted = Model.fit(model), Model.fit(model, adapters=[a, (b, 0.5)])
    assert adapted.weights == plain.weights + n_bytes
    assert adapted.cache == plain.cache
    with Model(model, adapters=[a, (b, 0.5)]) as opened:
        assert opened.memory.weights == adapted.weights
        assert opened.adapters == [(str(a), 1.0), (str(b), 0.5)]


def test_a_prompt_cache_belongs_to_its_adapters(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, b = llama
    cache = tmp_path / "prompt.cache"
    with Model(model, adapters=[a]) as one:
        list(one.generate("the tea", max_tokens=4, temperature=0))
        one.save_prompt(cache)
    with Model(model, adapters=[(a, 1.0)]) as same:
        assert same.load_prompt(cache)
    for others in ([], [b], [(a, 0.5)], [a, b]):
        with Model(model, adapters=others) as other, pytest.raises(nanollm.ArgumentError, match="another model"):
            other.load_prompt(cache)


# ------------------------------------------------------------------ making


def test_targets(tiny: Path, tmp_path: Path) -> None:
    def names(targets: Any) -> set[str]:
        return {name.removesuffix(".weight") for name in lora.create(tiny, tmp_path / "a.gguf", targets=targets).pairs}

    layer = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}
    assert names("all") == {f"blk.{i}.{short}" for i in (0, 1) for short in layer}
    assert names("attention") == {f"blk.{i}.{short}" for i in (0, 1) for short in layer if "attn" in short}
    assert names("attn_q,ffn_*") == names(["attn_q", "ffn"])
    assert names("blk.1.attn_v") == {"blk.1.attn_v"}
    assert names(["token_embd", "attn_q"]) == {"token_embd", "blk.0.attn_q", "blk.1.attn_q"}
    for wrong in ("output", "attn_norm", "blk.7.*", ""):
        with pytest.raises(nanollm.ArgumentError, match="has no matrix"):
            lora.create(tiny, tmp_path / "x.gguf", targets=wrong)
    for options in ({"rank": 0}, {"alpha": 0.0}, {"alpha": float("nan")}, {"type": "q8_0"}, {"seed": -1}):
        with pytest.raises(nanollm.ArgumentError, match=next(iter(options))):
            lora.create(tiny, tmp_path / "x.gguf", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "x.gguf").exists()


def test_the_same_seed_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    few, many = (lora.create(tiny, tmp_path / "a.gguf", targets=t, seed=4) for t in ("attn_q", "all"))
    for weight, pair in few.pairs.items():
        np.testing.assert_array_equal(pair.a, many.pairs[weight].a)
    first = (tmp_path / "a.gguf").read_bytes()
    lora.create(tiny, tmp_path / "a.gguf", seed=4)
    assert (tmp_path / "a.gguf").read_bytes() == first
    lora.create(tiny, tmp_path / "a.gguf", seed=5)
    assert (tmp_path / "a.gguf").read_bytes() != first


# ------------------------------------------------------------------ what is refused


def rewritten(path: Path, out: Path, keys: dict[str, Any], without: str = "", **shapes: tuple[int, ...]) -> Path:
    """An adapter with keys changed (None: gone), a tensor left out, or tensors of other shapes."""
    with _core.Gguf.open(path) as g, _core.GgufWriter(out) as w:
        for key in g.keys():  # noqa: SIM118
            if key not in keys:
                w.copy(g, key)
        for key, value in keys.items():
            if value is not None:
                w.set(key, "string" if isinstance(value, str) else "float32", value)
        tensors = [(t.name, shapes.get(t.name.replace(".", "_"), t.shape)) for t in g.tensors if t.name != without]
        for name, shape in tensors:
            w.add_tensor(name, shape, "F32")
        for _, shape in tensors:
            w.write(np.zeros(shape, np.float32))
    return out


def test_adapters_that_do_not_fit(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, _ = llama
    bad = tmp_path / "bad.gguf"

    def refused(error: type[Exception], text: str) -> None:
        for use in (
            lambda: Model(model, adapters=[bad]),
            lambda: nanollm.merge(model, [bad], tmp_path / "out.gguf"),
        ):
            with pytest.raises(error, match=re.escape(text)) as e:
                use()
            assert "\n" not in str(e.value)
            assert "bad.gguf" in str(e.value)
        assert not (tmp_path / "out.gguf").exists()

    rewritten(a, bad, {"general.architecture": "gpt2"})
    refused(nanollm.ArgumentError, "general.architecture: found 'gpt2', expected 'llama' as in")
    rewritten(a, bad, {"adapter.type": "magic"})
    refused(nanollm.UnsupportedError, "adapter.type: found 'magic', expected 'lora'")
    rewritten(a, bad, {"adapter.lora.alpha": None})
    refused(nanollm.NotFoundError, "adapter.lora.alpha")
    rewritten(a, bad, {}, "blk.0.attn_q.weight.lora_b")
    refused(nanollm.NotFoundError, "tensor blk.0.attn_q.weight.lora_b is missing")
    rewritten(a, bad, {}, blk_0_attn_q_weight_lora_a=(4, 16))
    refused(nanollm.ShapeError, "tensor blk.0.attn_q.weight.lora_a: found 2 dims (4, 16), expected (4, 32)")
    bad.write_bytes(a.read_bytes()[:-100])
    refused(nanollm.FormatError, "bad.gguf")
    bad.write_bytes(model.read_bytes())
    refused(nanollm.UnsupportedError, "general.type: found 'model', expected 'adapter'")
    bad.unlink()
    refused(nanollm.FileError, "bad.gguf")
    with pytest.raises(nanollm.UnsupportedError, match="expected a model"):
        Model(a)
    for scale in (float("nan"), float("inf")):
        with pytest.raises(nanollm.ArgumentError, match="scale"):
            Model(model, adapters=[(a, scale)])
    with pytest.raises(TypeError, match="sequence"):
        Model(model, adapters=str(a))


def test_an_adapter_of_another_model(llama: tuple[Path, Path, Path], chatty: Path, tmp_path: Path) -> None:
    model, a, _ = llama
    big = rewritten(a, tmp_path / "big.gguf", {}, blk_1_ffn_up_weight_lora_b=(49, 4))
    with pytest.raises(nanollm.ShapeError, match=r"\(49, 4\), expected \(48, 4\)"):
        Model(model, adapters=[big])
    np.testing.assert_array_equal(logits(chatty, a), logits(model, a))  # the same weights under another name


def test_merge_is_careful(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, _ = llama
    copy = tmp_path / "model.gguf"
    copy.write_bytes(model.read_bytes())
    with pytest.raises(nanollm.ArgumentError, match="the file to write"):
        nanollm.merge(copy, [a], copy)
    with pytest.raises(nanollm.ArgumentError, match="nothing to merge"):
        nanollm.merge(copy, [], tmp_path / "x.gguf")
    adapter(model, tmp_path / "t.gguf", targets="token_embd")
    with pytest.raises(nanollm.UnsupportedError, match="embeddings as its output"):
        nanollm.merge(model, [tmp_path / "t.gguf"], tmp_path / "x.gguf")
    with pytest.raises(nanollm.FormatError, match="beyond F16's range"):
        nanollm.merge(model, [(a, 1e9)], tmp_path / "x.gguf", "f16")

    def stop(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nanollm.merge(model, [a], tmp_path / "x.gguf", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.gguf", "t.gguf"]


def test_the_embeddings_of_an_untied_model_are_merged(base: tuple[Path, Path], tmp_path: Path) -> None:
    folder, model = base
    if "gpt2" in folder.name:
        pytest.skip("its output is tied to the embeddings")
    adapter(model, tmp_path / "a.gguf", targets=["token_embd", "output"])
    nanollm.merge(model, [tmp_path / "a.gguf"], tmp_path / "merged.gguf")
    assert close(logits(tmp_path / "merged.gguf"), logits(model, tmp_path / "a.gguf"))


# ------------------------------------------------------------------ commands


def test_commands(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, b = llama
    merged = tmp_path / "merged.gguf"
    done = run("nanollm", "merge", model, "--lora", a, "--lora-scaled", f"{b}:0.5", "-o", merged)
    assert done.returncode == 0, done.stderr
    assert "14 weights merged" in done.stderr
    greedy = ("-p", "the", "-n", 12, "--temp", 0, "-no-cnv")
    applied = run("nanollm-cli", "-m", model, "--lora", a, "--lora-scaled", f"{b}:0.5", *greedy)
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout == run("nanollm-cli", "-m", merged, *greedy).stdout
    assert applied.stdout != run("nanollm-cli", "-m", model, *greedy).stdout
    assert f"{b}, scale 0.5" in applied.stderr
    row = json.loads(run("nanollm", "bench", "-m", model, "--lora", a, "-p", 0, "-n", 2, "-r", 1, "-o", "json").stdout)
    assert row[0]["model_type"].endswith("+ 1 LoRA")
    fit, plain = (json.loads(run("nanollm", "fit", model, *o, "--json").stdout) for o in (("--lora", a), ()))
    assert fit["weights"] > plain["weights"]
    facts = json.loads(run("nanollm", "info", a, "--json").stdout)
    assert facts["adapter"].pop("targets") == sorted(
        ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    )
    assert facts["adapter"] == {"type": "lora", "alpha": 8.0, "ranks": [4], "weights": 14}
    for arguments, code, words in (
        (("--lora-scaled", "x"), 2, "expected FILE:SCALE"),
        (("--lora-scaled", "x:y"), 2, "expected FILE:SCALE"),
        (("--lora", tmp_path / "none.gguf"), 1, "none.gguf"),
        (("--lora", model), 1, "found 'model', expected 'adapter'"),
    ):
        failed = run("nanollm-cli", "-m", model, *arguments, *greedy)
        assert (failed.returncode, len(failed.stderr.splitlines())) == (code, 1)
        assert words in failed.stderr
    failed = run("nanollm-cli", "-m", a, *greedy)
    assert (failed.returncode, "found 'adapter', expected a model" in failed.stderr) == (1, True)


def test_perplexity_with_an_adapter(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, _ = llama
    (tmp_path / "t.txt").write_text("the tea is in the house on a rainy day. " * 30)
    nanollm.merge(model, [a], tmp_path / "merged.gguf")

    def perplexity(path: Path, *options: object) -> float:
        words = ("-m", path, "-f", tmp_path / "t.txt", "-c", 64, "--json", "-q", *options)
        value: float = json.loads(run("nanollm", "perplexity", *words).stdout)["perplexity"]["value"]
        return value

    expected = perplexity(tmp_path / "merged.gguf")
    assert perplexity(model, "--lora", a) == pytest.approx(expected, rel=1e-3)
    assert perplexity(model) != pytest.approx(expected, rel=1e-2)


def test_peft_from_the_command_line(llama: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, a, _ = llama
    done = run("nanollm", "convert", a, "-o", tmp_path / "peft", "--outtype", "peft", "--base", model)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert (config["r"], config["lora_alpha"]) == (4, 8.0)
    done = run("nanollm", "convert", tmp_path / "peft", "-o", tmp_path / "back.gguf", "--base", model)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(logits(model, tmp_path / "back.gguf"), logits(model, a))
    done = run("nanollm", "convert", a, "-o", tmp_path / "x", "--outtype", "peft")
    assert (done.returncode, "--base" in done.stderr) == (2, True)


def test_the_example_in_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8").split("\n## Adapters\n")[1]
    (code,) = re.findall(r"^```python\n(.*?)^```", text.split("\n## ")[0], flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    assert logits(Path(names["model"]), tmp_path / "new.gguf").shape[0] == len(IDS)
