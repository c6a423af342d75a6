"""Tokenizers learnt from text: read back by our own converters, the same ids as `tokenizers` gives."""

from __future__ import annotations

import builtins
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import LLAMA, N_VOCAB, llama_tensors, write_folder

from nanollm import Model
from nanollm.cli import main
from nanollm.convert import convert
from nanollm.errors import ArgumentError, FileError, FormatError, UnsupportedError
from nanollm.train.tokenizer import train_tokenizer

tokenizers = pytest.importorskip("tokenizers")

LINE = "Once upon a time, in 1984, a little girl's dog said: \"We'll find it!\"\n\n  They searched everywhere.\n"
NEVER_SEEN = ["", " ", "Größe 世界 🙂 1234567", "a\0b\r\n\t x", "\u3000\u00a0 don't DON'T", "</s", LINE]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(LINE * 200, encoding="utf-8")
    return path


def run(*words: object) -> int:
    return main(["train-tokenizer", *map(str, words)])


def with_model(folder: Path) -> Path:
    """A random Llama around the folder's tokenizer.json, as GGUF."""
    learnt = (folder / "tokenizer.json").read_bytes()
    write_folder(folder, LLAMA, llama_tensors(LLAMA, np.random.default_rng(1)))
    (folder / "tokenizer.json").write_bytes(learnt)
    return Path(convert(folder, folder / "model.gguf", "f32").path)


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_ids_are_those_of_the_tokenizers_package(text: Path, tmp_path: Path, pre: str) -> None:
    folder = tmp_path / "folder"
    assert run(text, "-o", folder, "--vocab-size", N_VOCAB, "--pre", pre, "-q") == 0
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert theirs.get_vocab_size() == N_VOCAB
    with Model(with_model(folder)) as model:
        assert model.metadata["tokenizer.ggml.pre"] == pre
        assert model.metadata["tokenizer.ggml.bos_token_id"] == 0
        assert model.metadata["tokenizer.ggml.eos_token_id"] == 1
        for sample in NEVER_SEEN:
            ids = model.tokenize(sample)
            assert ids == theirs.encode(sample).ids
            assert ids[0] == 0
            assert model.detokenize(ids[1:]) == sample
        assert len(model.tokenize(LINE)) < 0.6 * len(LINE)


def test_pieces_of_a_large_file_cut_no_word(text: Path, tmp_path: Path) -> None:
    from nanollm.train.tokenizer import _pieces

    large = "".join(f"line {i}\n" + "\n  " * (i % 3) for i in range(250_000))
    text.write_text(large, encoding="utf-8", newline="")
    pieces = list(_pieces([text], len(large), None))
    assert len(pieces) > 2
    assert "".join(pieces) == large
    assert all(p.endswith("\n") and not n[0].isspace() for p, n in itertools.pairwise(pieces))


def test_one_special_token_may_do_both(text: Path, tmp_path: Path) -> None:
    report = train_tokenizer([text], tmp_path, 300, bos="<|end|>", eos="<|end|>")
    assert report.n_vocab == 300
    assert report.n_bytes == text.stat().st_size
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["bos_token"] == config["eos_token"] == "<|end|>"
    assert tokenizers.Tokenizer.from_file(str(report.path)).encode("<|end|>").ids == [0, 0]


def test_little_text_gives_fewer_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("abab", encoding="utf-8")
    assert run(tmp_path / "text.txt", "-o", tmp_path / "tokenizer.json", "--vocab-size", 999) == 0
    assert "the text gave 260 tokens, not 999" in capsys.readouterr().err


def test_what_cannot_be_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="found 257 tokens, expected 258 to"):
        train_tokenizer([text], tmp_path, 257)
    with pytest.raises(ArgumentError, match="pre-tokenizer: found 'words', expected one of smollm"):
        train_tokenizer([text], tmp_path, 300, pre="words")
    with pytest.raises(ArgumentError, match="empty"):
        train_tokenizer([text], tmp_path, 300, eos="")
    with pytest.raises(ArgumentError, match="no text"):
        train_tokenizer([], tmp_path, 300)
    with pytest.raises(FileError, match=r"none\.txt: No such file"):
        train_tokenizer([tmp_path / "none.txt"], tmp_path, 300)
    with pytest.raises(FileError, match=r"tokenizer\.json: No such file"):
        train_tokenizer([text], tmp_path / "no" / "folder", 300)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ArgumentError, match=r"empty\.txt: no text to learn"):
        train_tokenizer([tmp_path / "empty.txt"], tmp_path, 300)
    (tmp_path / "empty.txt").unlink()
    text.write_bytes(b"fine\n\xff\xfe")
    with pytest.raises(FormatError, match=r"text\.txt: not UTF-8"):
        train_tokenizer([text], tmp_path, 300)
    assert list(tmp_path.iterdir()) == [text]
    assert run(text, "-o", tmp_path / "words.json") == 2
    assert run(tmp_path / "none.txt", "-o", text) == 2


def test_without_the_package_its_name_is_told(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UnsupportedError, match=r"pip install 'nanollm\[tokenizer\]'"):
        train_tokenizer([text], tmp_path, 300)
