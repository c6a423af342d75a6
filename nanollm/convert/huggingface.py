"""Hugging Face folders: config.json, safetensors, a tokenizer. What is special about a model is in its definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nanollm.convert import safetensors, tokenizer
from nanollm.convert.source import Source, SourceTensor, read_record
from nanollm.errors import NotFoundError, ShapeError, UnsupportedError
from nanollm.models import Architecture, Array, HuggingFace, Record, Rule, Value, lookup_model_type, pattern

__all__ = ["original_name", "read", "read_base", "recognises", "renamer"]

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


def recognises(path: Path) -> bool:
    """Is it a folder with a config.json?"""
    return (path / "config.json").is_file()


def read(folder: Path) -> Source:
    """Maps every tensor to its GGUF name; a tensor without one is an error that names it."""
    config, architecture, hf, metadata, c = _definition(folder)
    notes: list[str] = []
    tensors = _tensors(folder, hf, c, config, notes)
    for name, array in hf.derived(config).items():
        tensors.append(SourceTensor(name, array.shape, "F32", partial(_same, array), "config.json"))
    n_vocab = _n_vocab(folder, config, tensors)

    vocabulary = tokenizer.read(folder, config.text("model_type"), notes)
    vocabulary.fit(n_vocab, str(folder), notes)
    return Source(
        path=folder,
        architecture=architecture,
        metadata=_card(folder) | metadata | vocabulary.metadata(),
        tensors=tensors,
        name=folder.resolve().name,
        notes=notes,
        original_name=partial(original_name, hf),
    )


def read_base(folder: Path) -> tuple[Architecture[Any], object, dict[str, tuple[int, ...]], bool]:
    """What an adapter needs to know of its base: definition, hyper-parameters, shapes, and is the output tied?

    No shapes are known where the folder holds no weights.
    """
    config, architecture, hf, _, c = _definition(folder)
    has_weights = any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json"))
    tensors = _tensors(folder, hf, c, config, []) if has_weights else []
    tied = config.flag("tie_word_embeddings", default=hf.tied)
    return architecture, c, {t.name: t.shape for t in tensors}, tied


def _definition(folder: Path) -> tuple[Record, Architecture[Any], HuggingFace[Any], dict[str, Value], object]:
    """config.json, the definition it asks for, metadata for GGUF and the hyper-parameters in it."""
    config = read_record(folder / "config.json")
    architecture = lookup_model_type(config.text("model_type"), config.source)
    hf = architecture.huggingface
    assert hf is not None  # lookup_model_type finds only such
    metadata = {f"{architecture.name}.{k}": v for k, v in hf.metadata(config).items()}
    c: object = architecture.read(Record(metadata.get, config.source, f"{architecture.name}."))
    return config, architecture, hf, metadata, c


def _card(folder: Path) -> dict[str, Value]:
    """What the head of README.md says in a form that needs no YAML: the licence."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as f:
            head = f.read(1 << 16)
    except OSError:
        return {}
    front = re.match(r"---\n(.*?)\n---\n", head, re.DOTALL)
    found = re.search(r"^license: *[\"']?([\w.+-]+)[\"']? *$", front[1], re.MULTILINE) if front else None
    return {"general.license": found[1]} if found else {}


def _same(array: Array) -> Array:
    return array


def _n_vocab(folder: Path, config: Record, tensors: list[SourceTensor]) -> int:
    embedding = next((t for t in tensors if t.name == _EMBEDDING), None)
    if embedding is None or len(embedding.shape) != 2:
        raise NotFoundError(f"{folder}: the matrix of token embeddings ('{_EMBEDDING}' in GGUF) is missing")
    n_vocab = config.integer("vocab_size", 1, default=embedding.shape[0])
    if n_vocab != embedding.shape[0]:
        raise ShapeError(
            f"{folder}: tensor '{embedding.origin}': found {embedding.shape[0]} rows, vocab_size is {n_vocab}"
        )
    return n_vocab


def _tensors(folder: Path, hf: HuggingFace[Any], c: object, config: Record, notes: list[str]) -> list[SourceTensor]:
    """The folder's tensors under their GGUF names; no values are read yet."""
    rename = renamer(hf)
    ignored = pattern(hf.ignored)
    tied = config.flag("tie_word_embeddings", default=hf.tied)
    out: dict[str, SourceTensor] = {}
    for origin, entry in safetensors.read_folder(folder).items():
        if ignored.fullmatch(_bare(hf, origin)):
            continue
        name, rule = rename(origin)
        if rule is None:
            raise UnsupportedError(
                f"{entry.path}: tensor '{origin}' is left over: '{config.text('model_type')}' has no place for it"
            )
        if name == _OUTPUT and tied:
            notes.append(f"tensor '{origin}' is left out: the embeddings are in its place (tie_word_embeddings)")
            continue
        if name in out:
            raise UnsupportedError(f"{entry.path}: tensors '{out[name].origin}' and '{origin}' have one place")
        entry.check_type()
        shape = entry.shape[::-1] if rule.transposed else entry.shape
        out[name] = SourceTensor(name, shape, entry.type, partial(_load, entry, rule, c), origin)

    required = list(hf.required(config))
    if config.get("tie_word_embeddings") is False:
        required.append(_OUTPUT)
    for name in required:
        if name not in out:
            raise NotFoundError(f"{folder}: tensor '{original_name(hf, name)}' is missing, {config.source} asks for it")
    return list(out.values())


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(?P<i>0|[1-9]\d{0,5})"))


def _bare(hf: HuggingFace[Any], origin: str) -> str:
    for prefix in hf.prefixes:
        origin = origin.removeprefix(prefix)
    return origin


def renamer(hf: HuggingFace[Any]) -> Callable[[str], tuple[str, Rule[Any] | None]]:
    """A tensor's name there -> its GGUF name and rule; itself and None where the architecture has no place for it."""
    rules = [(_pattern(theirs), ours if isinstance(ours, Rule) else Rule(ours)) for theirs, ours in hf.tensors.items()]

    def rename(origin: str) -> tuple[str, Rule[Any] | None]:
        for theirs, rule in rules:
            if found := theirs.fullmatch(_bare(hf, origin)):
                return rule.name.replace("{i}", found.groupdict().get("i", "")), rule
        return origin, None

    return rename


def _load(entry: safetensors.Entry, rule: Rule[Any], c: object) -> Array:
    array = entry.load()
    if rule.transposed:
        array = array.T
    return array if rule.change is None else rule.change(array, c)


def original_name(hf: HuggingFace[Any], name: str) -> str:
    """A GGUF name as the folder would spell it; itself when no rule leads to it."""
    for theirs, ours in hf.tensors.items():
        found = _pattern(ours.name if isinstance(ours, Rule) else ours).fullmatch(name)
        if found:
            bare = theirs.replace("{i}", found.groupdict().get("i", ""))
            return bare if bare.startswith("lm_head") else f"{hf.prefixes[0] if hf.prefixes else ''}{bare}"
    return name
