"""Quantising files: types as llama.cpp's recipes have them, bytes, refusals, interruptions, memory, commands."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tiny
from terminal import run

import nanollm
from nanollm import _core
from nanollm.errors import ArgumentError, CancelledError, FileError, ShapeError, UnsupportedError
from nanollm.imatrix import Importance
from nanollm.models import PROGRAM_KEY, build_program
from nanollm.quantize import default_output, quantize

RECIPES = ("2", "3", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "25", "30")


def write_model(
    path: Path, architecture: str, n_layer: int, n_embd: int, n_ff: int, n_head_kv: int, tied: bool
) -> Path:
    """A file with GPT-2's or Llama's tensors in F16, narrow: what a recipe asks for is rows, layers, heads, names."""
    rng = np.random.default_rng(n_layer)
    n_head, n_vocab = 8, 258
    n_kv = n_embd // n_head * n_head_kv
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, n_embd), "output_norm.weight": (n_embd,)}
    if not tied:
        shapes["output.weight"] = (n_vocab, n_embd)
    common = {"attn_norm": (n_embd,), "attn_output": (n_embd, n_embd), "ffn_norm": (n_embd,), "ffn_up": (n_ff, n_embd)}
    common["ffn_down"] = (n_embd, n_ff)
    parts = {"attn_qkv": (3 * n_embd, n_embd)}
    if architecture == "gpt2":
        shapes |= {"position_embd.weight": (64, n_embd), "output_norm.bias": (n_embd,)}
    else:
        parts = {"attn_q": (n_embd, n_embd), "attn_k": (n_kv, n_embd), "attn_v": (n_kv, n_embd)}
        parts["ffn_gate"] = (n_ff, n_embd)
    for i in range(n_layer):
        for name, shape in (common | parts).items():
            shapes[f"blk.{i}.{name}.weight"] = shape
            if architecture == "gpt2":
                shapes[f"blk.{i}.{name}.bias"] = shape[:1]
    metadata: dict[str, Any] = {
        "block_count": n_layer,
        "context_length": 64,
        "embedding_length": n_embd,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
    }
    with _core.GgufWriter(path) as w:
        w.set("general.architecture", "string", architecture)
        w.set("general.file_type", "uint32", 1)
        for key, value in metadata.items():
            w.set(f"{architecture}.{key}", "uint32", value)
        for key in ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"):
            w.set(f"{architecture}.{key}", "float32", 1e-5)
        w.set("tokenizer.ggml.model", "string", "gpt2")
        w.set("tokenizer.ggml.tokens", "string", [f"t{i}" for i in range(n_vocab)])
        for name, shape in shapes.items():
            w.add_tensor(name, shape, "F16" if len(shape) == 2 else "F32")
        for shape in shapes.values():
            x = 0.02 * rng.standard_normal(shape)
            w.write(x.astype(np.float16 if len(shape) == 2 else np.float32))
    return path


MODELS: dict[str, tuple[str, int, int, int, int, bool]] = {
    "gpt2": ("gpt2", 12, 256, 512, 8, True),
    "llama": ("llama", 22, 256, 512, 2, False),
    "llama-tied": ("llama", 5, 256, 512, 8, True),
    "odd": ("gpt2", 12, 64, 172, 8, True),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_model(folder / f"{name}.gguf", *shape) for name, shape in MODELS.items()}


# ----------------------------------------------------------------- recipes


def layers(types: dict[str, str], part: str) -> str:
    """The types of one part in all layers, run-length coded: "2 Q5_K, 10 Q4_K"."""
    names = [name for name in types if name.startswith("blk.") and name.endswith(f".{part}.weight")]
    names.sort(key=lambda name: int(name.split(".")[1]))
    runs = [(name, len(list(run))) for name, run in groupby(types[name] for name in names)]
    return runs[0][0] if len(runs) == 1 else ", ".join(f"{n} {name}" for name, n in runs)


SIXTH_12 = "1 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 3 Q6_K"
SIXTH_22 = "2 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 1 Q6_K, 2 {0}, 3 Q6_K"

# Recipe: value matrix (fused in GPT-2), ffn_down, attn_output, ffn_up, output; as llama.cpp (of late 2026) has them.
GPT2_TYPES = {
    "q4_0": ("Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q6_K"),
    "q4_1": ("Q4_1", "Q4_1", "Q4_1", "Q4_1", "Q6_K"),
    "q8_0": ("Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"),
    "q2_k": ("Q3_K", "Q3_K", "Q3_K", "Q2_K", "Q6_K"),
    "q3_k_s": ("Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q6_K"),
    "q3_k_m": ("2 Q5_K, 10 Q4_K", "Q4_K", "Q4_K", "Q3_K", "Q6_K"),
    "q3_k_l": ("Q5_K", "Q5_K", "Q5_K", "Q3_K", "Q6_K"),
    "q4_k_s": ("4 Q5_K, 8 Q4_K", "1 Q5_K, 11 Q4_K", "Q4_K", "Q4_K", "Q6_K"),
    "q4_k_m": (SIXTH_12.format("Q4_K"), SIXTH_12.format("Q4_K"), "Q4_K", "Q4_K", "Q6_K"),
    "q5_k_s": ("Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q6_K"),
    "q5_k_m": (SIXTH_12.format("Q5_K"), SIXTH_12.format("Q5_K"), "Q5_K", "Q5_K", "Q6_K"),
    "q6_k": ("Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K"),
    "iq4_nl": ("IQ4_NL", "1 Q5_K, 11 IQ4_NL", "IQ4_NL", "IQ4_NL", "Q6_K"),
    "iq4_xs": ("IQ4_XS", "1 Q5_K, 11 IQ4_XS", "IQ4_XS", "IQ4_XS", "Q6_K"),
    "f16": ("F16", "F16", "F16", "F16", "F16"),
    "bf16": ("BF16", "BF16", "BF16", "BF16", "BF16"),
}
LLAMA_TYPES = {
    "q5_0": ("Q5_0", "Q5_0", "Q5_0", "Q5_0", "Q6_K"),
    "q8_0": ("Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"),
    "q2_k": ("Q4_K", "Q3_K", "Q3_K", "Q2_K", "Q6_K"),
    "q3_k_m": ("2 Q5_K, 20 Q4_K", "1 Q5_K, 21 Q4_K", "Q4_K", "Q3_K", "Q6_K"),
    "q3_k_l": ("Q5_K", "Q5_K", "Q5_K", "Q3_K", "Q6_K"),
    "q4_k_s": ("4 Q5_K, 18 Q4_K", "2 Q5_K, 20 Q4_K", "Q4_K", "Q4_K", "Q6_K"),
    "q4_k_m": (SIXTH_22.format("Q4_K"), SIXTH_22.format("Q4_K"), "Q4_K", "Q4_K", "Q6_K"),
    "q5_k_m": (SIXTH_22.format("Q5_K"), SIXTH_22.format("Q5_K"), "Q5_K", "Q5_K", "Q6_K"),
    "iq4_nl": ("Q5_K", "2 Q5_K, 20 IQ4_NL", "IQ4_NL", "IQ4_NL", "Q6_K"),
    "iq4_xs": ("Q5_K", "2 Q5_K, 20 IQ4_XS", "IQ4_XS", "IQ4_XS", "Q6_K"),
}


@pytest.mark.parametrize(
    ("model", "value", "output", "table"),
    [("gpt2", "attn_qkv", "token_embd", GPT2_TYPES), ("llama", "attn_v", "output", LLAMA_TYPES)],
)
def test_recipes(
    models: dict[str, Path], model: str, value: str, output: str, table: dict[str, tuple[str, str, str, str, str]]
) -> None:
    for recipe, expected in table.items():
        report = quantize(models[model], None, recipe, dry_run=True)
        types = {t.name: t.type for t in report.tensors}
        found = [layers(types, part) for part in (value, "ffn_down", "attn_output", "ffn_up")]
        assert (*found, types[f"{output}.weight"]) == expected, recipe
        assert not report.fallbacks
        assert {t.type for t in report.tensors if len(t.shape) == 1} == {"F32"}
        assert types.get("position_embd.weight", "F16") == "F16"


def test_recipes_where_rows_are_odd(models: dict[str, Path]) -> None:
    """Rows of 64 and of 172."""
    expected = {
        "q4_k_m": "Q5_0",
        "q2_k": "Q4_0",
        "q3_k_s": "Q4_0",
        "q5_k_s": "Q5_1",
        "q6_k": "Q8_0",
        "iq4_xs": "IQ4_NL",
    }
    for recipe, fitting in expected.items():
        report = quantize(models["odd"], None, recipe, dry_run=True)
        types = {t.name: t.type for t in report.tensors}
        assert layers(types, "ffn_up") == fitting
        assert layers(types, "ffn_down") == "F16"
        assert types["token_embd.weight"] == "Q8_0"
        assert all(t.is_fallback for t in report.tensors if "ffn_down.weight" in t.name)
    with pytest.raises(ShapeError, match="rows of 172"):
        quantize(models["odd"], None, "q8_0", dry_run=True, no_fallback=True)


@pytest.mark.parametrize("model", MODELS)
def test_types_and_sizes_are_those_of_llama_cpp(models: dict[str, Path], model: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    gguf = pytest.importorskip("gguf")
    import ctypes

    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, None)
    theirs_path, ours_path = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    for recipe in (*RECIPES, "0", "1", "32"):
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.nthread = int(recipe), 2
        code = llama_cpp.llama_model_quantize(
            str(models[model]).encode(), str(theirs_path).encode(), ctypes.byref(params)
        )
        assert code == 0
        quantize(models[model], ours_path, recipe)
        theirs = {t.name: (t.tensor_type.name, int(t.n_bytes)) for t in gguf.GGUFReader(theirs_path).tensors}
        ours = {t.name: (t.tensor_type.name, int(t.n_bytes)) for t in gguf.GGUFReader(ours_path).tensors}
        assert ours == theirs, recipe


def test_importances_change_recipes(models: dict[str, Path]) -> None:
    """Four-bit types without minimum are guarded in the first layers; the guard of IQ4 is not needed then."""
    values = {f"blk.{i}.ffn_down.weight": np.ones((1, 512), np.float32) for i in range(12)}
    importance = Importance(values, {name: np.ones(1, np.float32) for name in values})
    for recipe, expected in (("q4_0", "1 Q4_1, 11 Q4_0"), ("q5_0", "1 Q5_1, 11 Q5_0"), ("iq4_xs", "IQ4_XS")):
        report = quantize(models["gpt2"], None, recipe, dry_run=True, imatrix=importance)
        assert layers({t.name: t.type for t in report.tensors}, "ffn_down") == expected


def test_options_that_choose_types(models: dict[str, Path]) -> None:
    def types(**options: Any) -> dict[str, str]:
        report = quantize(models["llama"], None, "q4_k_m", dry_run=True, **options)
        return {t.name: t.type for t in report.tensors}

    assert set(types(pure=True).values()) == {"Q4_K", "F32"}
    assert types(leave_output_tensor=True)["output.weight"] == "F16"
    assert types(output_tensor_type="q8_0")["output.weight"] == "Q8_0"
    assert types(token_embedding_type="Q5_1")["token_embd.weight"] == "Q5_1"
    chosen = types(tensor_types=[(r"blk\.[01]\.ffn_.*", "q8_0"), ("ffn_up", "bf16")])
    assert layers(chosen, "ffn_up") == "2 Q8_0, 20 BF16"
    assert layers(chosen, "attn_q") == "Q4_K"
    for options, word in (
        ({"tensor_types": [("(", "q8_0")]}, "regular expression"),
        ({"tensor_types": [("nothing", "q8_0")]}, "no tensor"),
        ({"tensor_types": [("ffn_up", "q9_9")]}, "q9_9"),
        ({"output_tensor_type": "q9_9"}, "q9_9"),
    ):
        with pytest.raises(ArgumentError, match=word):
            types(**options)
    with pytest.raises(UnsupportedError, match=r"output.weight.*IQ1_S"):
        types(output_tensor_type="iq1_s")
    with pytest.raises(ArgumentError, match="unknown file type 'q9'"):
        quantize(models["llama"], None, "q9")


# -------------------------------------------------------------------- bytes


def test_threads_change_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    for recipe in ("q8_0", "q4_k_m"):
        made = []
        for n_threads in (1, 2, 3):
            quantize(models["gpt2"], tmp_path / "out.gguf", recipe, n_threads=n_threads)
            made.append((tmp_path / "out.gguf").read_bytes())
        assert made[0] == made[1] == made[2]


def test_importances_reach_the_quantiser(models: dict[str, Path], tmp_path: Path) -> None:
    name = "blk.2.ffn_up.weight"
    weights = np.arange(1, 257, dtype=np.float32) ** 2
    Importance({name: weights[None, :]}, {name: np.ones(1, np.float32)}, chunk_count=3, datasets=("text",)).write(
        tmp_path / "im.gguf"
    )
    report = quantize(models["gpt2"], tmp_path / "out.gguf", "q4_k_m", imatrix=tmp_path / "im.gguf")
    assert [t.name for t in report.tensors if t.has_importance] == [name]
    with _core.Gguf.open(models["gpt2"]) as old, _core.Gguf.open(tmp_path / "out.gguf") as new:
        expected = _core.quantize("Q4_K", old.tensor_f32(name), weights)
        assert bytes(new.tensor_data(name)) == expected.tobytes()
        other = "blk.3.ffn_up.weight"
        assert bytes(new.tensor_data(other)) == _core.quantize("Q4_K", old.tensor_f32(other)).tobytes()
        assert new["quantize.imatrix.entries_count"] == 1
        assert new["quantize.imatrix.chunks_count"] == 3
        assert new["quantize.imatrix.dataset"] == "text"
    left = quantize(models["gpt2"], None, "15", dry_run=True, imatrix=tmp_path / "im.gguf", include_weights=["ffn_up"])
    assert any(t.has_importance for t in left.tensors)
    with pytest.raises(ArgumentError, match="no importances"):
        quantize(models["gpt2"], None, "15", dry_run=True, imatrix=tmp_path / "im.gguf", exclude_weights=["ffn_up"])


def test_metadata_is_kept_and_a_program_put_in(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", template="{{ messages }}")
    report = quantize(
        source, tmp_path / "out.gguf", "q8_0", override_kv={"general.name": "other", "a.b": -1, "a.f": 0.5}
    )
    assert len(report.notes) == 1
    assert "no chat pieces" in report.notes[0]  # the template has no place for a message
    with _core.Gguf.open(source) as old, _core.Gguf.open(tmp_path / "out.gguf") as new:
        for key in old.keys():  # noqa: SIM118 (a Gguf does not iterate)
            if key != "general.name":
                assert new.kind(key) == old.kind(key)
                assert np.array_equal(new[key], old[key])
        assert (new["general.name"], new["a.b"], new["a.f"]) == ("other", -1, 0.5)
        assert (new.kind("a.b"), new.kind("a.f")) == (("int32", False), ("float32", False))
        assert (new["general.file_type"], new["general.quantization_version"]) == (7, 2)
        assert bytes(bytearray(new[PROGRAM_KEY])) == build_program(old)
    again = quantize(tmp_path / "out.gguf", tmp_path / "again.gguf", "copy")
    assert again.bits == report.bits
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "out.gguf").read_bytes()


def test_metadata_that_is_set_keeps_its_kind(tmp_path: Path) -> None:
    source = tmp_path / "old.gguf"
    kinds = {"a.f32": "float32", "a.f64": "float64", "a.u8": "uint8", "a.i64": "int64"}
    with _core.GgufWriter(source) as writer:
        writer.set("general.architecture", "string", "other")
        for key, kind in kinds.items():
            writer.set(key, kind, 1)
    quantize(source, tmp_path / "new.gguf", "copy", override_kv=dict.fromkeys(kinds, 7) | {"a.f64": 1e300})
    with _core.Gguf.open(tmp_path / "new.gguf") as new:
        assert {key: new.kind(key) for key in kinds} == {key: (kind, False) for key, kind in kinds.items()}
        assert [new[key] for key in kinds] == [7, 1e300, 7, 7]
    for value in (1e300, 10**400):
        with pytest.raises(ArgumentError, match=r"a\.f32: .* is too large for float32"):
            quantize(source, tmp_path / "new.gguf", "copy", override_kv={"a.f32": value})


def test_requantising_must_be_allowed(models: dict[str, Path], tmp_path: Path) -> None:
    quantize(models["gpt2"], tmp_path / "q8.gguf", "q8_0")
    with pytest.raises(ArgumentError, match="allow_requantize"):
        quantize(tmp_path / "q8.gguf", tmp_path / "q4.gguf", "q4_0")
    assert not (tmp_path / "q4.gguf").exists()
    quantize(tmp_path / "q8.gguf", tmp_path / "q4.gguf", "q4_0", allow_requantize=True)


def test_stories_in_every_type(stories: Path, tmp_path: Path) -> None:
    """Rows of 64 and 172: most types fall back, say so, and the model still tells a story."""
    n_bytes = {}
    for recipe in _core.ftypes():
        report = quantize(stories, tmp_path / f"{recipe}.gguf", recipe)
        n_bytes[recipe] = report.n_bytes
        down = [t for t in report.tensors if t.name.endswith("ffn_down.weight")]
        assert all(t.is_fallback and t.type == "F16" for t in down) == (recipe not in ("COPY", "F32", "F16", "BF16"))
        with nanollm.Model(tmp_path / f"{recipe}.gguf", n_ctx=64) as model:
            text = "".join(model.generate("Once upon a time", max_tokens=20, temperature=0))
        assert len(text.split()) >= 5, recipe
    assert n_bytes["F32"] > n_bytes["F16"] > n_bytes["Q8_0"] > n_bytes["Q4_K_M"] > n_bytes["Q2_K"]


# ------------------------------------------------------ what may go wrong


def test_cancelled_by_progress(models: dict[str, Path], tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str) -> None:
        assert 0 < done <= total
        raise CancelledError("enough")

    with pytest.raises(CancelledError, match="enough"):
        quantize(models["gpt2"], tmp_path / "out.gguf", "q8_0", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_killed_in_the_middle(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_text("old")
    program = (
        "import sys, time; from nanollm.quantize import quantize\n"
        "def slowly(done, total, name):\n    print(done, flush=True); time.sleep(0.02)\n"
        "quantize(sys.argv[1], sys.argv[2], 'q4_k_m', progress=slowly)"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(models["gpt2"]), str(tmp_path / "out.gguf")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline()
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "out.gguf").read_text() == "old"


def test_ctrl_c(models: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    program = (
        "import sys, time; from nanollm.cli import quantize as cli; real = cli.quantize\n"
        "def slow(*a, progress, **k):\n"
        "    return real(*a, progress=lambda *x: (print(x[0], flush=True), time.sleep(0.02)), **k)\n"
        "cli.quantize = slow; sys.exit(cli.main())"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, "-q", str(models["gpt2"]), str(target), "q4_k_m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "nanollm-quantize: error: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_full_disk(models: dict[str, Path], tmp_path: Path) -> None:
    """A limit on the size of files stands in for it."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    (tmp_path / "out.gguf").write_text("old")
    done = run("nanollm-quantize", models["gpt2"], tmp_path / "out.gguf", "q8_0", preexec_fn=limit)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"nanollm-quantize: error: {tmp_path / 'out.gguf'}: cannot write at byte" in done.stderr
    assert "File too large" in done.stderr
    assert (tmp_path / "out.gguf").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]


def test_memory_is_small(tmp_path: Path) -> None:
    """A file of 150 MB goes through a process that never holds more than a small part of it."""
    rng = np.random.default_rng(1)
    rows = (0.02 * rng.standard_normal((1024, 1024))).astype(np.float32)
    with _core.GgufWriter(tmp_path / "big.gguf") as w:
        w.set("general.architecture", "string", "unknown")
        w.add_tensor("output.weight", (16 * 1024, 1024), "F32")
        w.add_tensor("blk.0.ffn_up.weight", (20 * 1024, 1024), "F32")
        for _ in range(36):
            w.write(rows)
    program = (
        "import sys; from nanollm import _core; from nanollm.quantize import quantize\n"
        "before = _core.memory_peak(); quantize(sys.argv[1], sys.argv[2], 'q4_0', n_threads=2)\n"
        "print(_core.memory_peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path / "big.gguf"), str(tmp_path / "out.gguf")],
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) < 24 << 20


def test_refusals(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the file to read"):
        quantize(models["gpt2"], models["gpt2"], "q8_0")
    with pytest.raises(FileError):
        quantize(tmp_path / "nothing.gguf", None, "q8_0")
    with pytest.raises(ArgumentError, match="there is none"):
        quantize(models["gpt2"], None, "q8_0", dry_run=True, include_weights=["x"])
    for n_threads in (-1, 1 << 40):
        with pytest.raises(ArgumentError, match="n_threads"):
            quantize(models["gpt2"], None, "q8_0", dry_run=True, n_threads=n_threads)


# ------------------------------------------------------------- the command


def test_default_names() -> None:
    assert default_output("a/gpt2-f16.gguf", "7") == Path("a/gpt2-q8_0.gguf")
    assert default_output("model.gguf", "Q4_K") == Path("model-q4_k_m.gguf")
    assert default_output("model.Q4_K_M.gguf", "iq4_xs") == Path("model-iq4_xs.gguf")
    assert default_output("model", "f16") == Path("model-f16.gguf")


def test_importances_are_not_written_over(models: dict[str, Path], tmp_path: Path) -> None:
    importances = tmp_path / "importances.gguf"
    importances.write_bytes(b"not to be lost")
    done = run("nanollm-quantize", "--imatrix", importances, models["odd"], importances, "q4_0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the file to read" in done.stderr
    assert importances.read_bytes() == b"not to be lost"


def test_command(models: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "odd-f16.gguf"
    source.write_bytes(models["odd"].read_bytes())
    done = run("nanollm-quantize", source, "7", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    words = "[ 1/148] token_embd.weight 258 x 64 F16 32.25 KiB -> Q8_0 17.13 KiB"
    assert lines[0].split() == words.split()
    assert sum("FALLBACK: rows do not fill Q8_0" in line for line in lines) == 12
    assert "WARNING: 12 tensor(s) have rows of 172, not whole blocks of 32: F16 instead of Q8_0" in done.stderr
    assert "bits a weight" in done.stdout
    assert done.stderr.splitlines()[0].startswith("  0 %")
    quantize(models["odd"], tmp_path / "expected.gguf", "q8_0")
    assert (tmp_path / "odd-q8_0.gguf").read_bytes() == (tmp_path / "expected.gguf").read_bytes()

    done = run("nanollm", "quantize", "--json", "--dry-run", source, tmp_path / "x.gguf", "Q4_k_M")
    assert done.returncode == 0
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["ftype"] == "Q4_K_M"
    assert result["path"] is None
    assert len(result["tensors"]) == 148
    assert result["bytes"] == sum(t["n_bytes"] for t in result["tensors"])
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ((), 2, "found nothing"),
        (("in.gguf",), 2, "expected IN.gguf"),
        (("in.gguf", "q9"), 2, "no type"),
        (("in.gguf", "out.gguf", "q8_0", "x"), 2, "threads"),
        (("in.gguf", "out.gguf", "q8_0", "1", "2"), 2, "expected IN.gguf"),
        (("--tensor-type", "x", "in.gguf", "q8_0"), 2, "REGEX=TYPE"),
        (("--override-kv", "a=int:x", "in.gguf", "q8_0"), 2, "KEY=int:N"),
        (("in.gguf", "q8_0"), 1, "No such file"),
        ((".", "q8_0"), 1, "is a directory"),
    ],
)
def test_command_line_mistakes(args: tuple[str, ...], code: int, word: str, tmp_path: Path) -> None:
    done = run("nanollm-quantize", *args, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith("nanollm-quantize: error: ")
    assert done.stderr.count("\n") == 1
    assert word in done.stderr


def test_help_lists_types() -> None:
    done = run("nanollm-quantize", "--help")
    assert done.returncode == 0
    assert "Q4_K_M 15" in done.stdout
    assert "COPY" in done.stdout


def test_bar_is_drawn_on_a_terminal(models: dict[str, Path], tmp_path: Path) -> None:
    from terminal import Terminal

    with Terminal("nanollm-quantize", models["gpt2"], tmp_path / "out.gguf", "q8_0") as terminal:
        terminal.expect(r"bits a weight")
    assert (tmp_path / "out.gguf").exists()
