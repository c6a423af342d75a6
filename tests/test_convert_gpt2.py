"""GPT-2 from OpenAI's checkpoints and from ggml's first format: the same model as from a Hugging Face folder."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import GPT2, Tensors, gpt2_tensors, write_folder

import nanollm
from nanollm import _core
from nanollm.convert import bytelevel, convert, openai, tensorbundle

DATA = Path(os.environ.get("NANOLLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
VOCAB = DATA / "ggml-vocab-gpt-2.gguf"
N_VOCAB, N_CTX, N_EMBD, N_LAYER, N_HEAD = 320, 256, 64, 2, 4
PIECES = ["e", "t", "th", " ", " the", "in", "ing", " a", "an", "er", "on", " w", " s", "qu", "ick", "ov", "over"]
TEXTS = ["the quick thing, over and over again", "naïve 北京 🦊", "\n\n  tabs\t", ""]


def quiet(source: Path, out: Path, *args: Any, **kwargs: Any) -> Any:
    return convert(source, out, *args, report=lambda note: None, **kwargs)


def refused(source: Path, error: type[Exception], *texts: str) -> None:
    out = source.parent / "out.gguf"
    with pytest.raises(error) as e:
        quiet(source, out)
    assert not out.exists()
    assert "\n" not in str(e.value)
    for text in texts:
        assert text in str(e.value)


def openai_names(tensors: Tensors) -> Tensors:
    """A Hugging Face GPT-2's weights under OpenAI's names and in their shapes: matrices (1, n_in, n_out)."""
    out: Tensors = {}
    for name, x in tensors.items():
        if name.endswith(".attn.bias"):
            continue  # the mask
        module, _, kind = name.rpartition(".")
        if module in ("wte", "wpe"):
            out[f"model/{module}"] = x
            continue
        module = module.replace("h.", "h", 1).replace(".", "/")
        is_norm = "ln_" in module
        letter = {"weight": "g" if is_norm else "w", "bias": "b"}[kind]
        out[f"model/{module}/{letter}"] = x[None] if x.ndim == 2 else x
    return out


def byte_tokens() -> list[bytes]:
    """The 256 bytes in GPT-2's order."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [bytes([b]) for b in printed + [b for b in range(256) if b not in printed]]


def vocabulary() -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """320 tokens and the merges that make them."""
    tokens = byte_tokens()
    pairs: list[tuple[bytes, bytes]] = []
    rng = np.random.default_rng(5)
    words = [p.encode() for p in PIECES]
    while len(tokens) < N_VOCAB - 1:
        a, b = (words[i] if rng.random() < 0.5 else tokens[rng.integers(len(tokens))] for i in rng.integers(17, size=2))
        # What BPE with the merges so far makes of it must be these two.
        parts = [bytes([c]) for c in a + b]
        for x, y in pairs:
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == (x, y):
                    parts[i : i + 2] = [x + y]
                i += 1
        if len(parts) == 2 and a + b not in tokens:
            pairs.append((parts[0], parts[1]))
            tokens.append(a + b)
    return [*tokens, b"<|endoftext|>"], pairs


def write_gpt2_tokenizer(folder: Path, vocab: str, merges: str) -> None:
    tokens, pairs = vocabulary()
    (folder / vocab).write_text(json.dumps({bytelevel.spell(t): i for i, t in enumerate(tokens)}))
    lines = [f"{bytelevel.spell(a)} {bytelevel.spell(b)}" for a, b in pairs]
    (folder / merges).write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return gpt2_tensors(GPT2, np.random.default_rng(2))


@pytest.fixture
def reference(tmp_path: Path, weights: Tensors) -> Path:
    """The same model from a Hugging Face folder."""
    pytest.importorskip("tokenizers")
    folder = write_folder(tmp_path / "hf", GPT2, weights)
    (folder / "tokenizer.json").unlink()
    write_gpt2_tokenizer(folder, "vocab.json", "merges.txt")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    )
    quiet(folder, tmp_path / "reference.gguf")
    return tmp_path / "reference.gguf"


def same_model(found: Path, expected: Path) -> None:
    """Every key but the names, every tensor, bit for bit."""
    with _core.Gguf.open(found) as a, _core.Gguf.open(expected) as b:
        assert set(a.keys()) == set(b.keys())
        for key in set(a.keys()) - {"general.name"}:
            assert np.array_equal(a[key], b[key]), key
        assert {(t.name, t.type, t.shape) for t in a.tensors} == {(t.name, t.type, t.shape) for t in b.tensors}
        for t in a.tensors:
            assert bytes(a.tensor_data(t.name)) == bytes(b.tensor_data(t.name)), t.name


# ---- merges


@pytest.mark.skipif(not VOCAB.exists(), reason=f"no test data in {DATA}")
def test_gpt2_s_merges_follow_from_its_tokens() -> None:
    letters = {bytelevel.spell(bytes([b])): b for b in range(256)}
    with _core.Gguf.open(VOCAB) as g:
        tokens = [bytes(letters[c] for c in token) for token in g["tokenizer.ggml.tokens"]]
        expected = list(g["tokenizer.ggml.merges"])
    pairs, n = bytelevel.merges(tokens)
    assert n == 50256
    assert [f"{bytelevel.spell(a)} {bytelevel.spell(b)}" for a, b in pairs] == expected


def test_merges_are_those_that_made_the_tokens() -> None:
    tokens, pairs = vocabulary()
    assert bytelevel.merges(tokens) == (pairs, len(tokens) - 1)
    several = [*tokens, b"<|im_start|>", b"<|im_end|>"]
    assert bytelevel.merges(several) == (pairs, len(tokens) - 1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t[:200], "256 bytes"),
        (lambda t: [*t[:255], b"xx", *t[256:]], "256 bytes"),
        (lambda t: [*t[:-1], t[300]], "token 319"),
        (lambda t: [*t[:-1], b"never seen"], "token 319 b'never seen'"),
        (lambda t: [*t[:-1], b""], "token 319"),
        (lambda t: [*t[:-1], b"x" * 100_000], "token 319"),
    ],
)
def test_vocabularies_of_another_kind(change: Callable[[list[bytes]], list[bytes]], text: str) -> None:
    with pytest.raises(nanollm.FormatError, match=text):
        bytelevel.merges(change(vocabulary()[0]))


# ---- ggml


def write_ggml(
    path: Path,
    tensors: Tensors,
    *,
    ftype: int = 0,
    matrix_type: str = "F32",
    tokens: list[bytes] | None = None,
    header: dict[int, int] | None = None,
) -> Path:
    """As the old conversion script writes it: 2-D matrices (n_out, n_in)."""
    numbers = [0x67676D6C, N_VOCAB, N_CTX, N_EMBD, N_HEAD, N_LAYER, ftype, N_VOCAB]
    for i, value in (header or {}).items():
        numbers[i] = value
    with path.open("wb") as f:
        f.write(struct.pack("<8i", *numbers))
        for token in tokens or vocabulary()[0]:
            f.write(struct.pack("<i", len(token)) + token)
        for name, x in tensors.items():
            data = x[0].T if x.ndim == 3 else x
            is_matrix = data.ndim == 2 and name != "model/wpe"
            kind = matrix_type if is_matrix else "F32"
            number = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8}[kind]
            f.write(struct.pack("<3i", data.ndim, len(name), number))
            f.write(struct.pack(f"<{data.ndim}i", *data.shape[::-1]) + name.encode())
            f.write(_core.from_float(kind, np.ascontiguousarray(data).ravel()).tobytes())
    return path


def test_a_ggml_file_is_the_same_model(tmp_path: Path, weights: Tensors, reference: Path) -> None:
    path = write_ggml(tmp_path / "model.bin", openai_names(weights))
    quiet(path, tmp_path / "x.gguf")
    same_model(tmp_path / "x.gguf", reference)
    with _core.Gguf.open(tmp_path / "x.gguf") as g, _core.Gguf.open(reference) as r:
        ours, theirs = _core.Tokenizer(g), _core.Tokenizer(r)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(("kind", "ftype"), [("F16", 1), ("Q4_0", 2002), ("Q8_0", 2007)])
def test_types_of_ggml_files(tmp_path: Path, weights: Tensors, kind: str, ftype: int) -> None:
    source = openai_names(weights)
    path = write_ggml(tmp_path / "model.bin", source, ftype=ftype, matrix_type=kind)
    report = quiet(path, tmp_path / "x.gguf")
    assert report.types[kind] == 1 + 4 * N_LAYER
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        assert g["general.file_type"] == ftype % 1000
        expected = _core.from_float(kind, np.ascontiguousarray(source["model/h1/mlp/c_fc/w"][0].T).ravel())
        assert bytes(g.tensor_data("blk.1.ffn_up.weight")) == expected.tobytes()
        kept = g.tensor_f32("blk.1.ffn_up.weight")
    quiet(path, tmp_path / "y.gguf", "f32")
    with _core.Gguf.open(tmp_path / "y.gguf") as g:
        np.testing.assert_array_equal(g.tensor_f32("blk.1.ffn_up.weight"), kept)
    with nanollm.Model(tmp_path / "x.gguf") as a, nanollm.Model(tmp_path / "y.gguf") as b:
        ids = a.tokenize("the quick")
        np.testing.assert_allclose(a.logits(ids), b.logits(ids), atol=0.05)


def test_a_quantised_bias_in_rows(tmp_path: Path, weights: Tensors) -> None:
    source = openai_names(weights)
    bias = np.linspace(-1, 1, source["model/h1/mlp/c_fc/b"].size, dtype=np.float32)
    source["model/h1/mlp/c_fc/b"] = bias.reshape(-1, 32)
    path = write_ggml(tmp_path / "model.bin", source, ftype=2007, matrix_type="Q8_0")
    quiet(path, tmp_path / "x.gguf")
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        expected = _core.to_float("Q8_0", _core.from_float("Q8_0", bias), bias.size)
        np.testing.assert_array_equal(g.tensor_f32("blk.1.ffn_up.bias"), expected)


def test_blocks_of_older_versions(tmp_path: Path, weights: Tensors) -> None:
    for ftype in (2, 1002, 3002):
        path = write_ggml(tmp_path / "model.bin", openai_names(weights), ftype=ftype, matrix_type="Q4_0")
        refused(path, nanollm.UnsupportedError, "model/wte", "Q4_0", f"version {ftype // 1000}")


def test_an_output_of_its_own(tmp_path: Path, weights: Tensors) -> None:
    output = np.ones((N_VOCAB, N_EMBD), np.float32)
    path = write_ggml(tmp_path / "model.bin", {**openai_names(weights), "model/lm_head": output})
    quiet(path, tmp_path / "x.gguf")
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        np.testing.assert_array_equal(g.tensor_f32("output.weight"), output)


@pytest.mark.parametrize(
    ("header", "error", "text"),
    [
        ({0: 0x67676A74}, nanollm.UnsupportedError, "ggjt"),
        ({1: 0, 7: 0}, nanollm.FormatError, "n_vocab 0"),
        ({1: -1, 7: -1}, nanollm.FormatError, "n_vocab -1"),
        ({1: 2**31 - 1, 7: 2**31 - 1}, nanollm.FormatError, "token"),
        ({7: 100}, nanollm.FormatError, "100 tokens"),
        ({2: 512}, nanollm.ShapeError, "model/wpe"),
        ({3: 128}, nanollm.ShapeError, "view"),
        ({4: 5}, nanollm.FormatError, "head_count"),
        ({4: 0}, nanollm.FormatError, "n_head 0"),
        ({5: 3}, nanollm.NotFoundError, "model/h2/"),
        ({5: 1}, nanollm.UnsupportedError, "model/h1/"),
        ({5: 2**31 - 1}, nanollm.FormatError, "n_layer"),
        ({6: -1}, nanollm.FormatError, "ftype -1"),
    ],
)
def test_a_ggml_header_that_is_wrong(
    tmp_path: Path, weights: Tensors, header: dict[int, int], error: type[Exception], text: str
) -> None:
    path = write_ggml(tmp_path / "model.bin", openai_names(weights), header=header)
    refused(path, error, str(path), text)


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<3i", 0, 4, 0),
        struct.pack("<3i", 5, 4, 0) + bytes(100),
        struct.pack("<3i", 1, -1, 0) + bytes(100),
        struct.pack("<3i", 1, 2**31 - 1, 0) + bytes(100),
        struct.pack("<4i", 1, 4, 0, -8) + b"name" + bytes(100),
        struct.pack("<4i", 1, 4, 0, 2**31 - 1) + b"name" + bytes(100),
        struct.pack("<7i", 4, 4, 0, *[2**31 - 1] * 4) + b"name" + bytes(100),
        struct.pack("<4i", 1, 4, 8, 33) + b"name" + bytes(100),
        struct.pack("<2i", 1, 4),
    ],
)
def test_a_malicious_ggml_tensor(tmp_path: Path, weights: Tensors, record: bytes) -> None:
    path = write_ggml(tmp_path / "model.bin", openai_names(weights))
    path.write_bytes(path.read_bytes() + record)
    refused(path, nanollm.FormatError, str(path), "tensor")


def test_ggml_tensors_that_do_not_belong(tmp_path: Path, weights: Tensors) -> None:
    good = openai_names(weights)
    path = tmp_path / "model.bin"
    for name in ("model/h0/attn/sinks/w", "model/wte/w", "model/h0/ln_f/g", "model/ln_1/g", "gpt_neox.embed"):
        write_ggml(path, {**good, name: np.ones(N_EMBD, np.float32)})
        refused(path, nanollm.UnsupportedError, str(path), name)
    missing = {name: x for name, x in good.items() if name != "model/h1/mlp/c_proj/w"}
    write_ggml(path, missing)
    refused(path, nanollm.NotFoundError, "model/h1/mlp/c_proj/w")
    data = write_ggml(path, good).read_bytes()
    last = list(good)[-1]
    path.write_bytes(data + data[data.rindex(last.encode()) - 16 :])
    refused(path, nanollm.FormatError, last, "twice")
    for size in (2, 20, 100, 5000, -1):
        path.write_bytes(data[:size])
        refused(path, nanollm.FormatError, str(path))


# ---- OpenAI's TensorFlow checkpoints


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    out, last = b"", b""
    for key, value in entries:
        shared = next((i for i in range(len(last)) if key[i : i + 1] != last[i : i + 1]), len(last))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<2I", 0, 1)


def bundle_entry(x: npt.NDArray[Any], offset: int, size: int, dtype: int = 1) -> bytes:
    shape = b"".join(field(2, field(1, n)) for n in x.shape)
    return field(1, dtype) + field(2, shape) + (field(4, offset) if offset else b"") + field(5, size)


def write_bundle(prefix: Path, tensors: Tensors, **changes: Any) -> None:
    """A checkpoint written by hand: one block, one data file."""
    entries = [(b"", field(1, 1) + field(3, field(1, 1)))]
    data = b""
    for name in sorted(tensors):
        x = tensors[name]
        entries.append((name.encode(), bundle_entry(x, len(data), x.nbytes, changes.get("dtype", 1))))
        data += x.tobytes()
    write_index(prefix, entries, changes.get("magic", 0xDB4775248B80FB57))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)


def write_index(prefix: Path, entries: list[tuple[bytes, bytes]], magic: int = 0xDB4775248B80FB57) -> None:
    body = block(entries)
    meta = block([])
    index = block([(b"z", varint(0) + varint(len(body)))])
    out = body + bytes(5) + meta + bytes(5) + index + bytes(5)
    at_meta = len(body) + 5
    at_index = at_meta + len(meta) + 5
    footer = varint(at_meta) + varint(len(meta)) + varint(at_index) + varint(len(index))
    out += footer.ljust(40, b"\0") + magic.to_bytes(8, "little")
    prefix.with_name(f"{prefix.name}.index").write_bytes(out)


def write_openai(folder: Path, write: Callable[[Path, Tensors], None], tensors: Tensors) -> Path:
    folder.mkdir()
    sizes = {"n_vocab": N_VOCAB, "n_ctx": N_CTX, "n_embd": N_EMBD, "n_head": N_HEAD, "n_layer": N_LAYER}
    (folder / "hparams.json").write_text(json.dumps(sizes))
    write_gpt2_tokenizer(folder, "encoder.json", "vocab.bpe")
    write(folder / "model.ckpt", tensors)
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
    )
    return folder


def test_an_openai_folder_is_the_same_model(tmp_path: Path, weights: Tensors, reference: Path) -> None:
    folder = write_openai(tmp_path / "117M", write_bundle, openai_names(weights))
    assert quiet(folder, tmp_path / "x.gguf").notes == ()
    same_model(tmp_path / "x.gguf", reference)
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        assert g["general.name"] == "gpt2-117M"
        assert "output.weight" not in [t.name for t in g.tensors]


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow", reason="TensorFlow (extra tf) writes the checkpoints that are read here")


@pytest.mark.parametrize("api", ["Saver", "NewCheckpointReader"])
def test_what_tensorflow_writes_is_read(tmp_path: Path, weights: Tensors, reference: Path, tf: Any, api: str) -> None:
    tensors = openai_names(weights)

    def write(prefix: Path, tensors: Tensors) -> None:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            variables = [tf.compat.v1.get_variable(n, initializer=x) for n, x in tensors.items()]
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver(variables).save(session, str(prefix))

    folder = write_openai(tmp_path / "124M", write, tensors)
    if api == "Saver":
        quiet(folder, tmp_path / "x.gguf")
        same_model(tmp_path / "x.gguf", reference)
    else:
        theirs = tf.train.load_checkpoint(str(folder / "model.ckpt"))
        ours = tensorbundle.read(folder / "model.ckpt")
        assert ours.keys() == theirs.get_variable_to_shape_map().keys()
        for name, entry in ours.items():
            np.testing.assert_array_equal(entry.load(), theirs.get_tensor(name))


def test_tensorflow_is_not_needed(tmp_path: Path, weights: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    quiet(write_openai(tmp_path / "117M", write_bundle, openai_names(weights)), tmp_path / "x.gguf")
    with nanollm.Model(tmp_path / "x.gguf") as model:
        assert np.isfinite(model.logits([1, 2, 3])).all()


def test_what_an_optimiser_left_is_left_out(tmp_path: Path, weights: Tensors) -> None:
    tensors = openai_names(weights)
    more = {"beta1_power": np.float32(0.9).reshape(()), "model/wte/Adam": tensors["model/wte"]}
    folder = write_openai(tmp_path / "117M", write_bundle, {**tensors, **more})
    notes: list[str] = []
    convert(folder, tmp_path / "x.gguf", report=notes.append)
    assert len(notes) == 1
    assert "2 variables" in notes[0]
    write_bundle(folder / "model.ckpt", {**tensors, "model/h0/attn/extra/w": np.ones(3, np.float32)})
    refused(folder, nanollm.UnsupportedError, "model/h0/attn/extra/w")


def test_which_checkpoint_of_a_folder(tmp_path: Path, weights: Tensors) -> None:
    folder = write_openai(tmp_path / "117M", write_bundle, openai_names(weights))
    write_bundle(folder / "model-2", {})
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt"\n')
    quiet(folder, tmp_path / "x.gguf")
    (folder / "checkpoint").unlink()
    refused(folder, nanollm.FileError, str(folder), "2 files")
    (folder / "model-2.index").unlink()
    quiet(folder, tmp_path / "y.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()
    (folder / "model.ckpt.index").unlink()
    refused(folder, nanollm.FileError, str(folder), "no *.index")


def test_openai_folders_that_are_wrong(tmp_path: Path, weights: Tensors) -> None:
    tensors = openai_names(weights)
    folder = write_openai(tmp_path / "117M", write_bundle, tensors)
    prefix = folder / "model.ckpt"
    write_bundle(prefix, {name: x for name, x in tensors.items() if name != "model/h0/ln_2/b"})
    refused(folder, nanollm.NotFoundError, "model/h0/ln_2/b")
    write_bundle(prefix, {**tensors, "model/wpe": np.ones((3, 5), np.float32)})
    refused(folder, nanollm.ShapeError, "model/wpe")
    write_bundle(prefix, {**tensors, "model/wte": np.float32(1).reshape(())})
    refused(folder, nanollm.ShapeError, "model/wte")
    write_bundle(prefix, tensors, dtype=3)
    refused(folder, nanollm.UnsupportedError, "model/", "dtype 3")
    write_bundle(prefix, {})
    refused(folder, nanollm.NotFoundError, "model/wte")
    write_bundle(prefix, tensors)
    (folder / "encoder.json").write_text("[]")
    refused(folder, nanollm.FormatError, "encoder.json")
    write_gpt2_tokenizer(folder, "encoder.json", "vocab.bpe")
    (folder / "vocab.bpe").unlink()
    refused(folder, nanollm.FileError, "vocab.bpe")
    data = folder / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    refused(folder, nanollm.FormatError, "truncated")
    data.unlink()
    refused(folder, nanollm.FileError, str(data))


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_index(tmp_path: Path, weights: Tensors, seed: int) -> None:
    """Whatever the bytes, a checkpoint is read or refused."""
    prefix = tmp_path / "model.ckpt"
    write_bundle(prefix, openai_names(weights))
    path = tmp_path / "model.ckpt.index"
    good = path.read_bytes()
    rng = np.random.default_rng(seed)
    n_refused = 0
    for _ in range(200):
        bad = bytearray(good)
        for i in rng.integers(len(bad), size=rng.integers(1, 5)):
            bad[i] = rng.integers(256)
        path.write_bytes(bad[: rng.integers(len(bad))] if rng.random() < 0.2 else bad)
        try:
            for entry in tensorbundle.read(prefix).values():
                entry.check_type()
                entry.load()
        except nanollm.NanoError:
            n_refused += 1
    assert n_refused > 20


def test_a_malicious_index(tmp_path: Path, weights: Tensors) -> None:
    prefix = tmp_path / "model.ckpt"
    write_bundle(prefix, {"x": np.ones(4, np.float32)})
    x = np.ones(4)
    header = (b"", field(1, 1))
    for entry in (
        bundle_entry(x, 0, 17),
        bundle_entry(x, 1 << 62, 16),
        bundle_entry(x, (1 << 64) - 1, 16),
        field(1, 1) + field(2, field(2, field(1, 1 << 62))) + field(5, 16),
        field(1, 1) + field(2, field(2, field(1, 4)) * 9) + field(5, 16),
        field(1, 1) + field(3, 5) + field(5, 16),
        b"\xff" * 30,
    ):
        write_index(prefix, [header, (b"x", entry)])
        with pytest.raises(nanollm.FormatError, match=r"model\.ckpt"):
            tensorbundle.read(prefix)
    write_index(prefix, [(b"", field(1, 1 << 40))])
    with pytest.raises(nanollm.FormatError):
        tensorbundle.read(prefix)
    write_index(prefix, [(b"", field(2, 1))])
    with pytest.raises(nanollm.UnsupportedError, match="big-endian"):
        tensorbundle.read(prefix)
    write_index(prefix, [(b"x" * 5000, b"")])
    with pytest.raises(nanollm.FormatError):
        tensorbundle.read(prefix)
    write_bundle(prefix, {"x": np.ones(4, np.float32)}, magic=1)
    with pytest.raises(nanollm.FormatError, match="magic"):
        tensorbundle.read(prefix)


def test_names_there_and_back(weights: Tensors) -> None:
    for name in openai_names(weights):
        ours = openai.gguf_name(name)
        assert ours is not None
        assert openai.original_name(ours) == name
    assert openai.original_name("blk.0.other") == "blk.0.other"
