"""llama2.c's exports of version 1 and 2, written as its export.py does: the same model as the legacy export."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import nanollm
from nanollm import _core
from nanollm.convert import convert

DATA = Path(os.environ.get("NANOLLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

N_EMBD, N_FF, N_LAYER, N_HEAD, N_HEAD_KV, N_VOCAB, N_CTX = SIZES = (64, 96, 2, 4, 2, 40, 32)
Weights = dict[str, list[npt.NDArray[np.float32]]]
MATRICES = ("token_embd", "wq", "wk", "wv", "wo", "w1", "w2", "w3")
NAMES = dict(
    zip(MATRICES[1:], ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down", "ffn_up"), strict=True)
)


def make_weights(sizes: tuple[int, ...] = SIZES) -> Weights:
    n, ff, layers, heads, heads_kv, vocab, _ = sizes
    kv = n // heads * heads_kv
    shapes = {
        "wq": (n, n),
        "wk": (kv, n),
        "wv": (kv, n),
        "wo": (n, n),
        "w1": (ff, n),
        "w2": (n, ff),
        "w3": (ff, n),
        "attn_norm": (n,),
        "ffn_norm": (n,),
    }
    rng = np.random.default_rng(4)
    out = {name: [rng.normal(0, 0.2, s).astype(np.float32) for _ in range(layers)] for name, s in shapes.items()}
    single = {"token_embd": (vocab, n), "output": (vocab, n), "norm": (n,)}
    return out | {name: [rng.normal(0, 0.2, s).astype(np.float32)] for name, s in single.items()}


def header(version: int, tied: bool, group: int, sizes: tuple[int, ...] = SIZES) -> bytes:
    out = struct.pack("<Ii7iB", 0x616B3432, version, *sizes, tied)
    return (out + (struct.pack("<i", group) if version == 2 else b"")).ljust(256, b"\0")


def quantised(w: npt.NDArray[np.float32], group: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    groups = w.reshape(-1, group)
    scales = np.abs(groups).max(1) / np.float32(127)
    return np.round(groups / scales[:, None]).astype(np.int8), scales


def write(
    folder: Path, version: int, tied: bool = True, group: int = 32, weights: Weights | None = None, sizes: Any = SIZES
) -> Path:
    w = make_weights(sizes) if weights is None else weights
    matrices = [x for name in MATRICES for x in w[name]] + ([] if tied else w["output"])
    norms = [*w["attn_norm"], *w["ffn_norm"], *w["norm"]]
    data = header(version, tied, group, sizes) + b"".join(x.tobytes() for x in norms)
    for x in matrices:
        if version == 1:
            data += x.tobytes()
        else:
            q, s = quantised(x, group)
            data += q.tobytes() + s.tobytes()
    path = folder / f"v{version}.bin"
    path.write_bytes(data)
    tokens = [(0.0, "<unk>"), (0.0, "\n<s>\n"), (0.0, "\n</s>\n"), *((-float(i), f" t{i}") for i in range(3, N_VOCAB))]
    texts = b"".join(struct.pack("<fi", s, len(t.encode())) + t.encode() for s, t in tokens)
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 7) + texts)
    return path


def quiet(source: Path, out: Path, *args: Any, **kwargs: Any) -> Any:
    return convert(source, out, *args, report=lambda note: None, **kwargs)


def tensors_of(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    with _core.Gguf.open(path) as g:
        return {t.name: g.tensor_f32(t.name).reshape(t.shape) for t in g.tensors}


@pytest.mark.parametrize("tied", [True, False])
def test_version_1(tmp_path: Path, tied: bool) -> None:
    w = make_weights()
    quiet(write(tmp_path, 1, tied), tmp_path / "x.gguf")
    found = tensors_of(tmp_path / "x.gguf")
    for theirs, ours in NAMES.items():
        for i in range(N_LAYER):
            np.testing.assert_array_equal(found[f"blk.{i}.{ours}.weight"], w[theirs][i])
    np.testing.assert_array_equal(found["blk.1.ffn_norm.weight"], w["ffn_norm"][1])
    np.testing.assert_array_equal(found["output_norm.weight"], w["norm"][0])
    np.testing.assert_array_equal(found["token_embd.weight"], w["token_embd"][0])
    assert ("output.weight" in found) is not tied
    with nanollm.Model(tmp_path / "x.gguf") as model:
        assert np.isfinite(model.logits([1, 5, 6])).all()
    # A file is known by its magic number, whatever it is called.
    (tmp_path / "v1.bin").rename(tmp_path / "model")
    quiet(tmp_path / "model", tmp_path / "y.gguf", name="v1")
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()


@pytest.mark.parametrize("group", [32, 64])
@pytest.mark.parametrize("tied", [True, False])
def test_version_2_keeps_its_int8(tmp_path: Path, tied: bool, group: int) -> None:
    w = make_weights()
    path = write(tmp_path, 2, tied, group)
    notes: list[str] = []
    report = convert(path, tmp_path / "x.gguf", report=notes.append)
    assert report.types == {"Q8_0": 7 * N_LAYER + (1 if tied else 2), "F32": 2 * N_LAYER + 1}
    assert len(notes) == 1
    assert "float16" in notes[0]
    quiet(path, tmp_path / "y.gguf", "f32")
    kept, exact = tensors_of(tmp_path / "x.gguf"), tensors_of(tmp_path / "y.gguf")
    for theirs, ours in NAMES.items():
        for i in range(N_LAYER):
            q, s = quantised(w[theirs][i], group)
            name, shape = f"blk.{i}.{ours}.weight", w[theirs][i].shape
            np.testing.assert_array_equal(exact[name], (q * s[:, None]).reshape(shape))
            rounded = s.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(kept[name], (q * rounded[:, None]).reshape(shape))
    np.testing.assert_array_equal(exact["blk.0.attn_norm.weight"], w["attn_norm"][0])
    with nanollm.Model(tmp_path / "x.gguf") as a, nanollm.Model(tmp_path / "y.gguf") as b:
        np.testing.assert_allclose(a.logits([1, 5, 6]), b.logits([1, 5, 6]), atol=0.05)


def test_version_2_in_groups_that_q8_0_has_not(tmp_path: Path) -> None:
    w = make_weights()
    notes: list[str] = []
    report = convert(write(tmp_path, 2, group=16), tmp_path / "x.gguf", report=notes.append)
    assert set(report.types) == {"F32"}
    assert "groups of 16" in notes[0]
    q, s = quantised(w["w2"][1], 16)
    found = tensors_of(tmp_path / "x.gguf")["blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(found, (q * s[:, None]).reshape(N_EMBD, N_FF))


def test_version_2_with_rows_that_groups_straddle(tmp_path: Path) -> None:
    """Groups run through a matrix, not along its rows: rows of 80 with groups of 32 share some."""
    sizes = (64, 80, 2, 4, 2, N_VOCAB, N_CTX)
    w = make_weights(sizes)
    report = quiet(write(tmp_path, 2, group=32, weights=w, sizes=sizes), tmp_path / "x.gguf")
    assert report.types == {"Q8_0": 6 * N_LAYER + 1, "F32": 3 * N_LAYER + 1}
    q, s = quantised(w["w2"][0], 32)
    found = tensors_of(tmp_path / "x.gguf")["blk.0.ffn_down.weight"]
    np.testing.assert_array_equal(found, (q * s[:, None]).reshape(64, 80))


@pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=f"no test data in {DATA}")
@pytest.mark.parametrize("version", [1, 2])
def test_stories260k_in_later_versions_tells_its_story(tmp_path: Path, version: int) -> None:
    data = (DATA / "stories260K.bin").read_bytes()
    sizes = struct.unpack_from("<7i", data)
    n, ff, layers, heads, heads_kv, vocab, _ = sizes
    kv = n // heads * heads_kv
    order = [("token_embd", 1, (vocab, n)), ("attn_norm", layers, (n,)), ("wq", layers, (n, n))]
    order += [("wk", layers, (kv, n)), ("wv", layers, (kv, n)), ("wo", layers, (n, n)), ("ffn_norm", layers, (n,))]
    order += [("w1", layers, (ff, n)), ("w2", layers, (n, ff)), ("w3", layers, (ff, n)), ("norm", 1, (n,))]
    weights: Weights = {}
    at = 28
    for name, copies, shape in order:
        size = int(np.prod(shape))
        weights[name] = [np.frombuffer(data, "<f4", size, at + 4 * size * i).reshape(shape) for i in range(copies)]
        at += 4 * size * copies
    path = write(tmp_path, version, True, 4, weights, sizes)
    quiet(path, tmp_path / "x.gguf", tokenizer=DATA / "tok512.bin")
    with nanollm.Model(tmp_path / "x.gguf") as model:
        text = "".join(model.generate("", max_tokens=20, temperature=0.0))
    assert text.strip().startswith("Once upon a time, there was a little girl named Lily.")


@pytest.mark.parametrize("version", [1, 2])
def test_files_that_are_wrong(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, version)
    good = path.read_bytes()

    def refused(data: bytes, error: type[Exception], text: str = "") -> None:
        path.write_bytes(data)
        with pytest.raises(error) as e:
            quiet(path, tmp_path / "x.gguf")
        assert str(path) in str(e.value)
        assert text in str(e.value)
        assert not (tmp_path / "x.gguf").exists()

    def changed(offset: int, value: int) -> bytes:
        return good[:offset] + struct.pack("<i", value) + good[offset + 4 :]

    for size in (30, 200, 256, 3000, -1):
        refused(good[:size], nanollm.FormatError)
    refused(good + b"\0", nanollm.FormatError, "expected")
    refused(changed(4, 3), nanollm.UnsupportedError, "version 3")
    refused(changed(4, -1), nanollm.UnsupportedError, "version -1")
    for i in range(7):
        for value in (0, -1, 2**31 - 1):
            if i != 6 or value < 1:  # the context's length changes nothing in the file
                refused(changed(8 + 4 * i, value), nanollm.FormatError)
    if version == 2:
        for group in (0, -32, 48, 2**31 - 1):
            refused(changed(37, group), nanollm.FormatError, "group" if group > 0 else "")
        inf = struct.pack("<f", np.inf)
        refused(good[:-4] + inf, nanollm.UnsupportedError, "scale")
