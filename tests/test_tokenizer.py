"""Tokenizers against independent ones (`tokenizers`, `sentencepiece`) on random text, and the published ids."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from nanollm import _core
from nanollm.errors import FormatError, NotFoundError, UnsupportedError

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

quick = hypothesis.settings(max_examples=80, deadline=None, database=None, derandomize=True)

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tokenizer.ggml.pre -> the expressions that cut the text, one after the other.
RULES = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
    "smollm": [r"\p{N}", GPT2],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}
CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's what they'd do; we'll see, THEY'LL see, I'm sure you've been.",
    "def f(x):\n    return x ** 2 + 10000 / 3.14159\n\n\n\tif x >= 100: print('1234567890')\r\n",
    "Größe, naïve café, señor; Привет, мир! Как дела? 你好，世界。今日は。 مرحبا بالعالم 안녕하세요 नमस्ते ١٢٣ ½ Ⅻ",
    "aaaa aaaaaaaa  aaa    ||  == <= => ++ $100 ~~~ ^_^ 🙂🙃🙂 👩‍👩‍👧 ... !!! ??? -- ---- ________",
] * 4
# Assigned characters: another Unicode version may class the others otherwise. U+2581 is SentencePiece's space.
characters = st.characters(exclude_categories=("Cs", "Cn", "Co"), exclude_characters="\0▁")
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\u00a0", "\u3000", "\u0085"]
WORDS = "the 's 'LL 'ſ 'ſx 'T ' 123 1234 99 ١٢ ½ $ + | ` ... _ aaaa é e\u0301 世界 🙂 <= --".split(" ")  # noqa: SIM905
SNIPPETS = [*SPACES, *WORDS, *(" " + word for word in WORDS)]
snippets = st.sampled_from(SNIPPETS)
texts = st.lists(st.one_of(snippets, snippets, characters, st.text(characters, max_size=4)), max_size=30).map("".join)


def write_vocabulary(path: Path, values: list[tuple[str, str, Any]]) -> _core.Tokenizer:
    """A GGUF file of nothing but tokenizer keys, and its tokenizer."""
    with _core.GgufWriter(path) as writer:
        for key, kind, value in values:
            writer.set(f"tokenizer.ggml.{key}", kind, value)
    return _core.Tokenizer(_core.Gguf.open(path))


def bpe_values(tokenizer: Any, pre: str) -> list[tuple[str, str, Any]]:
    """The keys of a byte-level BPE of the `tokenizers` package."""
    model = json.loads(tokenizer.to_str())["model"]
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    kinds = [3 if token == "<|end|>" else 4 if token in ("<tool>", "<tool><x>") else 1 for token in tokens]
    return [
        ("model", "string", "gpt2"),
        ("pre", "string", pre),
        ("tokens", "string", tokens),
        ("token_type", "int32", kinds),
        ("merges", "string", merges),
        ("eos_token_id", "uint32", vocab["<|end|>"]),
    ]


@pytest.fixture(scope="module", params=RULES)
def bpe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, _core.Tokenizer]:
    """A byte-level BPE trained here, with one of the rules: theirs and ours."""
    tokenizers = pytest.importorskip("tokenizers")
    pre: str = request.param
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=pre == "llama-bpe"))
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # Trained on uncut text, so that merges across what the rule cuts exist, and a wrong cut shows.
    theirs.pre_tokenizer = byte_level
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=1,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    theirs.train_from_iterator([*CORPUS, *(a + b for a in SNIPPETS for b in SNIPPETS)], trainer)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [*(tokenizers.pre_tokenizers.Split(tokenizers.Regex(rule), "isolated") for rule in RULES[pre]), byte_level]
    )
    theirs.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in ("<tool>", "<tool><x>")])
    path = tmp_path_factory.mktemp("bpe") / f"{pre}.gguf"
    return theirs, write_vocabulary(path, bpe_values(theirs, pre))


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, _core.Tokenizer]:
    """A SentencePiece BPE with byte fallback trained here: theirs and ours."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=520,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(theirs.get_piece_size())
    kinds = [2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1 for i in ids]
    values = [
        ("model", "string", "llama"),
        ("tokens", "string", [theirs.id_to_piece(i) for i in ids]),
        ("scores", "float32", [theirs.get_score(i) for i in ids]),
        ("token_type", "int32", kinds),
    ]
    return theirs, write_vocabulary(tmp_path_factory.mktemp("spm") / "spm.gguf", values)


@quick
@hypothesis.given(text=texts)
def test_bpe_gives_the_same_ids(bpe: tuple[Any, _core.Tokenizer], text: str) -> None:
    theirs, ours = bpe
    assert ours.encode(text, parse_special=True) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


@quick
@hypothesis.given(parts=st.lists(st.one_of(texts, st.sampled_from(["<|end|>", "<tool>", "<tool><x>", "<tool", "<"]))))
def test_bpe_finds_special_tokens(bpe: tuple[Any, _core.Tokenizer], parts: list[str]) -> None:
    theirs, ours = bpe
    text = "".join(parts)
    ids = ours.encode(text, parse_special=True)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids, show_special=True) == text
    assert ours.decode(ids) == text.replace("<|end|>", "")
    plain = ours.encode(text)
    assert ours.find("<|end|>") not in plain
    assert ours.decode(plain) == text


@quick
@hypothesis.given(text=texts)
def test_spm_gives_the_same_ids(spm: tuple[Any, _core.Tokenizer], text: str) -> None:
    theirs, ours = spm
    assert ours.encode(text) == ([1, *theirs.encode(text)] if text else [1])
    assert ours.decode(ours.encode(text)) == text


@quick
@hypothesis.given(data=st.binary(max_size=60))
def test_any_bytes_are_text(spm: tuple[Any, _core.Tokenizer], data: bytes) -> None:
    _, ours = spm
    data = data.replace("▁".encode(), b" ")
    assert ours.decode(ours.encode(data)) == data.decode("utf-8", errors="replace")


@quick
@hypothesis.given(choice=st.data())
def test_decoder_emits_whole_characters(bpe: tuple[Any, _core.Tokenizer], choice: Any) -> None:
    theirs, ours = bpe
    from_byte = {c: b for b, c in byte_level_alphabet().items()}
    ids = choice.draw(st.lists(st.integers(1, theirs.get_vocab_size(with_added_tokens=False) - 1), max_size=40))
    decoder = ours.decoder()
    pushed = [decoder.push(token) for token in ids]
    raw = bytes(from_byte[c] for token in ids for c in ours.spelling(token))
    assert "".join(pushed) + decoder.flush() == raw.decode("utf-8", errors="replace")


def byte_level_alphabet() -> dict[int, str]:
    """The characters of byte-level vocabularies, as GPT-2 numbers them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "llama-spm", "qwen2"])
def test_published_ids(data_dir: Path, name: str) -> None:
    tokenizer = _core.Tokenizer(_core.Gguf.open(data_dir / f"ggml-vocab-{name}.gguf"))
    inputs = (data_dir / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    outputs = (data_dir / f"ggml-vocab-{name}.gguf.out").read_text().splitlines()
    for text, line in zip(inputs, outputs, strict=True):
        ids = tokenizer.encode(text, add_special=False)
        assert ids == [int(n) for n in line.split()], text
        assert tokenizer.decode(ids) == text


@pytest.fixture(scope="module")
def llama2(data_dir: Path) -> tuple[Any, _core.Tokenizer]:
    """Llama 2's tokenizer: theirs and ours."""
    sentencepiece = pytest.importorskip("sentencepiece")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(data_dir / "llama2-tokenizer.model"))
    return theirs, _core.Tokenizer(_core.Gguf.open(data_dir / "ggml-vocab-llama-spm.gguf"))


@quick
@hypothesis.given(text=texts)
def test_llama2_gives_the_same_ids(llama2: tuple[Any, _core.Tokenizer], text: str) -> None:
    theirs, ours = llama2
    assert ours.encode(text, add_special=False) == theirs.encode(text)


def values() -> dict[str, tuple[str, Any]]:
    """The keys of a small well-formed file."""
    return {
        "model": ("string", "gpt2"),
        "pre": ("string", "gpt-2"),
        "tokens": ("string", ["a", "b", "ab", ""]),
        "token_type": ("int32", [1, 1, 1, 3]),
        "merges": ("string", ["a b"]),
        "eos_token_id": ("uint32", 3),
    }


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("model", ("string", "wordpiece"), UnsupportedError, "wordpiece"),
        ("model", None, NotFoundError, r"tokenizer\.ggml\.model"),
        ("pre", ("string", "mystery"), UnsupportedError, "mystery"),
        ("tokens", None, NotFoundError, r"tokenizer\.ggml\.tokens"),
        ("tokens", ("int32", [1, 2, 3, 4]), FormatError, "strings"),
        ("token_type", ("int32", [1, 1]), FormatError, "found 2 items, expected 4"),
        ("token_type", ("int32", [1, 1, 9, 1]), FormatError, "item 2"),
        ("merges", None, NotFoundError, r"tokenizer\.ggml\.merges"),
        ("merges", ("string", ["a c"]), FormatError, "merge 0"),
        ("merges", ("string", ["ab"]), FormatError, "merge 0"),
        ("eos_token_id", ("uint32", 4), FormatError, "eos_token_id"),
        ("eos_token_id", ("string", "b"), FormatError, "eos_token_id"),
    ],
)
def test_bad_files_are_refused(
    tmp_path: Path, key: str, value: tuple[str, Any] | None, error: type[Exception], message: str
) -> None:
    keys = values()

    def write() -> _core.Tokenizer:
        return write_vocabulary(tmp_path / "v.gguf", [(name, *value) for name, value in keys.items()])

    assert write().encode("ab") == [2]
    if value is None:
        del keys[key]
    else:
        keys[key] = value
    with pytest.raises(error, match=message):
        write()
