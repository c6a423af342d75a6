"""The tokenizer of a Hugging Face folder: tokenizer.json, tokenizer.model or vocab.json with merges.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanollm.convert import sentencepiece
from nanollm.convert.source import read_json, read_record
from nanollm.convert.vocabulary import Kind, Special, Vocabulary
from nanollm.errors import FileError, FormatError, UnsupportedError
from nanollm.models import Record

__all__ = ["PRE_TOKENIZERS", "from_vocab_and_merges", "read"]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# id -> (text, special?)
Added = dict[int, tuple[str, bool]]

# What cuts text before the merges -> GGUF's name for it. Steps as _steps writes them.
_PRE_TOKENIZERS: dict[tuple[str, ...], str] = {
    ("ByteLevel regex",): "gpt-2",
    (f"Split {_GPT2}", "ByteLevel"): "gpt-2",
    (f"Split {_CONTRACTIONS}\\p{{N}}{{1,3}}{_REST}", "ByteLevel"): "llama-bpe",
    (f"Split {_CONTRACTIONS}\\p{{N}}{_REST}", "ByteLevel"): "qwen2",
    ("Digits", "ByteLevel regex"): "smollm",
}
PRE_TOKENIZERS: dict[str, tuple[str, ...]] = {name: steps for steps, name in reversed(_PRE_TOKENIZERS.items())}
"""GGUF's name -> the shortest form in tokenizer.json."""


def read(folder: Path, model_type: str, notes: list[str]) -> Vocabulary:
    """The folder's vocabulary with special tokens and chat templates."""
    # A folder may hold both: tokenizer.model has the exact scores, but some files of that name are something else.
    json_path, model_path = folder / "tokenizer.json", folder / "tokenizer.model"
    tokenizer = read_record(json_path) if json_path.exists() else None
    model = _section(tokenizer, "model") if tokenizer is not None else None
    added = _added(folder, tokenizer)
    if tokenizer is not None and model is not None and not (_is_sentencepiece(model) and model_path.exists()):
        spm = _is_sentencepiece(model)
        v = _from_sentencepiece_json(tokenizer, model, added) if spm else _from_bpe(tokenizer, model)
    elif model_path.exists():
        v = sentencepiece.read(model_path)
    elif (folder / "vocab.json").exists() and model_type == "gpt2":
        v = from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt")
    else:
        raise FileError(f"{folder}: neither tokenizer.json nor tokenizer.model is there")
    _add_tokens(v, added, folder)
    _special(v, folder, tokenizer, notes)
    _chat_templates(v, folder)
    return v


# ---- vocabularies


def _section(record: Record, key: str) -> Record | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise FormatError(f"{record.where(key)}: expected an object")
    return Record(value.get, record.where(key))


def _is_sentencepiece(model: Record) -> bool:
    return model.get("byte_fallback") is True or model.text("type", default="BPE") == "Unigram"


def _vocab(model: Record) -> list[str]:
    """Tokens by id; ids that no token has are left to be filled by the added ones."""
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise FormatError(f"{model.where('vocab')}: expected an object of tokens to ids")
    tokens: list[str | None] = [None] * (2 * len(vocab) + 65536)
    for token, i in vocab.items():
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < len(tokens) or tokens[i] is not None:
            raise FormatError(f"{model.where('vocab')}: token {token!r}: id {i!r} is taken, negative or far too large")
        tokens[i] = token
    while tokens[-1] is None:
        tokens.pop()
    return [_filler(i) if t is None else t for i, t in enumerate(tokens)]


def _filler(i: int) -> str:
    return f"[PAD{i}]"


def _kinds(tokens: list[str]) -> list[Kind]:
    return [Kind.UNUSED if t == _filler(i) else Kind.NORMAL for i, t in enumerate(tokens)]


def _merges(model: Record) -> list[tuple[str, str]]:
    """Pairs in order; older files write "a b", newer ones ["a", "b"]."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise FormatError(f"{model.where('merges')}: expected a list")
    pairs = []
    for i, m in enumerate(merges):
        pair = m.split(" ") if isinstance(m, str) else m
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise FormatError(f"{model.where('merges')}[{i}]: found {m!r}, expected a pair of tokens")
        pairs.append((pair[0], pair[1]))
    return pairs


def _refuse_options(model: Record) -> None:
    model.expect("type", "BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        model.expect(key, "", 0, 0.0)


def _from_bpe(tokenizer: Record, model: Record) -> Vocabulary:
    _refuse_options(model)
    steps = _steps(tokenizer.get("pre_tokenizer"))
    if steps not in _PRE_TOKENIZERS:
        raise UnsupportedError(
            f"{tokenizer.where('pre_tokenizer')}: found {' + '.join(steps) or 'none'}, "
            f"only those of {', '.join(dict.fromkeys(_PRE_TOKENIZERS.values()))} are supported"
        )
    pre = _PRE_TOKENIZERS[steps]
    _expect_kinds(tokenizer, "normalizer", ("NFC",) if pre == "qwen2" else ())
    if model.get("ignore_merges") is True and pre != "llama-bpe":
        raise UnsupportedError(f"{model.where('ignore_merges')}: found true, supported for llama-bpe only, not {pre}")
    tokens = _vocab(model)
    # Byte-level spellings hold no space, so "a b" is unambiguous.
    merges = [f"{a} {b}" for a, b in _merges(model)]
    if any(m.count(" ") != 1 for m in merges):
        raise FormatError(f"{model.where('merges')}: found a space inside a byte-level token")
    return Vocabulary(model="gpt2", pre=pre, tokens=tokens, kinds=_kinds(tokens), merges=merges)


def _steps(pre_tokenizer: Any) -> tuple[str, ...]:
    """A pre_tokenizer in canonical words: its steps with the options that change the cut."""
    if not isinstance(pre_tokenizer, dict):
        return ()
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        inner = pre_tokenizer.get("pretokenizers")
        return tuple(s for p in (inner if isinstance(inner, list) else []) for s in _steps(p))
    if kind == "ByteLevel":
        prefix = " with a prefix space" if pre_tokenizer.get("add_prefix_space") else ""
        return ("ByteLevel" + (" regex" if pre_tokenizer.get("use_regex", True) else "") + prefix,)
    if kind == "Split":
        pattern = pre_tokenizer.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        plain = pre_tokenizer.get("behavior") == "Isolated" and not pre_tokenizer.get("invert")
        return (f"Split {regex}",) if plain and regex else (f"Split {pre_tokenizer}",)
    if kind == "Digits":
        return ("Digits" if pre_tokenizer.get("individual_digits") else "Digits in groups",)
    return (str(kind),)


def _expect_kinds(record: Record, key: str, allowed: tuple[str, ...]) -> None:
    value = record.get(key)
    kind = value.get("type") if isinstance(value, dict) else value
    if kind is not None and kind not in allowed:
        only = " or ".join(allowed) or "none"
        raise UnsupportedError(f"{record.where(key)}: found {kind!r}, only {only} is supported here")


def from_vocab_and_merges(vocab_path: Path, merges_path: Path) -> Vocabulary:
    """GPT-2's first files: tokens with their ids as JSON, merges as text."""
    try:
        lines = merges_path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise FileError(f"{merges_path}: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        raise FormatError(f"{merges_path}: not UTF-8: {e}") from None
    content = {"vocab": read_json(vocab_path), "merges": [m for m in lines if m and not m.startswith("#v")]}
    model = Record(content.get, str(vocab_path))
    tokens = _vocab(model)
    v = Vocabulary(model="gpt2", pre="gpt-2", tokens=tokens, kinds=_kinds(tokens))
    v.merges = [f"{a} {b}" for a, b in _merges(model)]
    return v


def _from_sentencepiece_json(tokenizer: Record, model: Record, added: Added) -> Vocabulary:
    """A SentencePiece BPE model that was turned into tokenizer.json: pieces with scores again.

    There the pairs of merges stand in the order of their results' scores, so a token's score is minus its order.
    That is exact when every way to put a token together is listed, which is checked.
    """
    _refuse_options(model)
    tokens = _vocab(model)
    known = set(tokens)
    pairs = set(pairs_in_order := _merges(model))
    order: dict[str, int] = {}
    for a, b in pairs_in_order:
        order.setdefault(a + b, len(order))
    unlisted: list[str] = []
    for i, token in enumerate(tokens):
        ways = [(token[:k], token[k:]) for k in range(1, len(token))]
        missing = [w for w in ways if w not in pairs and w[0] in known and w[1] in known]
        if missing and i not in added:
            unlisted.append(token)
            if token in order or len(unlisted) > 1:
                raise UnsupportedError(
                    f"{model.where('merges')}: {missing[0]} is not among them: not SentencePiece's BPE, which is all "
                    "that is supported with byte_fallback"
                )
    # Older conversions lost the first token of all, whose score is 0.
    order |= dict.fromkeys(unlisted, -1)
    first, last = min(order.values(), default=0), max(order.values(), default=0) + 1
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        kinds=[Kind.BYTE if _is_byte(t) else k for t, k in zip(tokens, _kinds(tokens), strict=True)],
        scores=[float(first - order.get(t, last)) for t in tokens],
        add_space_prefix=_space_prefix(tokenizer),
    )


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _space_prefix(tokenizer: Record) -> bool:
    """Does the text get a space in front? Older files say so in the normalizer, newer ones in Metaspace."""
    normalizer, pre = tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")
    if isinstance(pre, dict) and pre.get("type") == "Metaspace" and normalizer is None:
        if pre.get("replacement") == "▁" and pre.get("split") is False:
            return bool(pre.get("prepend_scheme", "always") != "never")
    elif isinstance(normalizer, dict) and pre is None:
        steps = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
        prepend = {"type": "Prepend", "prepend": "▁"}
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        if steps in ([prepend, replace], [replace]):
            return len(steps) == 2
    raise UnsupportedError(
        f"{tokenizer.source}: normalizer {normalizer}, pre_tokenizer {pre}: not SentencePiece's way of marking spaces"
    )


# ---- added and special tokens, templates


def _added(folder: Path, tokenizer: Record | None) -> Added:
    """Tokens outside the model's vocabulary, or with a role of their own."""
    entries: list[Any] = []
    if tokenizer is not None:
        listed = tokenizer.get("added_tokens")
        entries += listed if isinstance(listed, list) else []
    config = folder / "tokenizer_config.json"
    if config.exists():
        decoder = read_record(config).get("added_tokens_decoder")
        if isinstance(decoder, dict):
            entries += [{"id": int(i) if i.isdecimal() else i, **e} for i, e in decoder.items() if isinstance(e, dict)]
    extra = folder / "added_tokens.json"
    if extra.exists():
        content = read_json(extra)
        if isinstance(content, dict):
            entries += [{"id": i, "content": t} for t, i in content.items()]
    out: Added = {}
    for e in entries:
        i, text = (e.get("id"), e.get("content")) if isinstance(e, dict) else (None, None)
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < 1 << 20 or not isinstance(text, str):
            raise FormatError(f"{folder}: added token {e!r}: expected an id and a content")
        if i in out and out[i][0] != text:
            raise FormatError(f"{folder}: added token {i}: found {text!r} and {out[i][0]!r}")
        if i not in out:
            out[i] = (text, e.get("special") is True)
    return out


def _add_tokens(v: Vocabulary, added: Added, folder: Path) -> None:
    for i in range(len(v.tokens), max(added, default=-1) + 1):
        v.tokens.append(_filler(i))
        v.kinds.append(Kind.UNUSED)
        if v.scores is not None:
            v.scores.append(-1000.0)
    for i, (text, special) in added.items():
        if v.tokens[i] not in (text, _filler(i)):
            raise FormatError(f"{folder}: added token {i}: found {text!r}, the vocabulary has {v.tokens[i]!r}")
        v.tokens[i] = text
        if v.kinds[i] not in (Kind.UNKNOWN, Kind.BYTE):
            v.kinds[i] = Kind.CONTROL if special else Kind.USER_DEFINED


def _special(v: Vocabulary, folder: Path, tokenizer: Record | None, notes: list[str]) -> None:
    """Ids of special tokens: tokenizer_config.json names them, generation_config.json and config.json number them."""
    ids = {token: i for i, token in enumerate(v.tokens)}
    path = folder / "tokenizer_config.json"
    config = read_record(path) if path.exists() else Record(lambda key: None, str(path))
    ends: list[int] = []
    for file in ("generation_config.json", "config.json"):
        if not (folder / file).exists():
            continue
        numbers = read_record(folder / file)
        found = numbers.get("eos_token_id")
        ends += [i for i in (found if isinstance(found, list) else [found]) if isinstance(i, int)]
        for role in ("bos", "pad"):
            i = numbers.get(f"{role}_token_id")
            if isinstance(i, int) and 0 <= i < len(v.tokens):
                v.special.setdefault("bos" if role == "bos" else "padding", i)
    ends = [i for i in dict.fromkeys(ends) if 0 <= i < len(v.tokens)]
    roles: dict[str, Special] = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    for theirs, ours in roles.items():
        value = config.get(f"{theirs}_token")
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text in ids:
            v.special[ours] = ids[text]
    if "eos" not in v.special and ends:
        v.special["eos"] = ends[0]
    # GGUF has room for three ends: of the text, of a turn, of a message (which waits for a tool).
    rest = [i for i in ends if i != v.special.get("eos")]
    for i in rest:
        role_of: Special = "eom" if v.tokens[i] == "<|eom_id|>" else "eot"
        if role_of in v.special:
            notes.append(f"end token {i} {v.tokens[i]!r} is left out: GGUF has no further place for it")
        else:
            v.special[role_of] = i
    unknown = v.special.get("unknown")
    if v.model == "llama" and unknown is not None:
        v.kinds[unknown] = Kind.UNKNOWN
    for role_of, i in v.special.items():
        if role_of != "padding" and v.kinds[i] in (Kind.NORMAL, Kind.USER_DEFINED):
            v.kinds[i] = Kind.CONTROL
    v.add_bos = _adds(v, config, tokenizer, "bos")
    v.add_eos = _adds(v, config, tokenizer, "eos")


def _adds(v: Vocabulary, config: Record, tokenizer: Record | None, role: Special) -> bool:
    """Is the token put around every text? The post-processor does it; the config's word is a fallback."""
    i = v.special.get(role)
    if i is None:
        return False
    if tokenizer is not None:
        processor = tokenizer.get("post_processor")
        several = isinstance(processor, dict) and "processors" in processor
        steps = processor["processors"] if isinstance(processor, dict) and several else [processor]
        for step in steps if isinstance(steps, list) else []:
            single = step.get("single") if isinstance(step, dict) else None
            if isinstance(single, list) and single:
                end = single[0 if role == "bos" else -1]
                token = end.get("SpecialToken") if isinstance(end, dict) else None
                return isinstance(token, dict) and token.get("id") == v.tokens[i]
    value = config.get(f"add_{role}_token")
    return value if isinstance(value, bool) else v.model == "llama" and role == "bos"


def _chat_templates(v: Vocabulary, folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    found = read_record(path).get("chat_template") if path.exists() else None
    if isinstance(found, str):
        v.chat_templates["default"] = found
    elif isinstance(found, list):
        for e in found:
            if not isinstance(e, dict) or not isinstance(e.get("name"), str) or not isinstance(e.get("template"), str):
                raise FormatError(f"{path}: chat_template: expected a name and a template each")
            v.chat_templates[e["name"]] = e["template"]
    single = folder / "chat_template.jinja"
    if single.exists():
        try:
            v.chat_templates["default"] = single.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise FormatError(f"{single}: {e}") from None
