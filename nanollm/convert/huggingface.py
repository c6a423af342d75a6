"""Hugging Face folders: config.json, safetensors, a tokenizer. What is special about a model is in its definition."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from nanollm.convert import safetensors, tokenizer
from nanollm.convert.source import Source, SourceTensor, read_record
from nanollm.errors import NotFoundError, ShapeError, UnsupportedError
from nanollm.models import Array, HuggingFace, Record, Rule, lookup_model_type, pattern

__all__ = ["original_name", "read", "recognises"]

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


def recognises(path: Path) -> bool:
    """Is it a folder with a config.json?"""
    return (path / "config.json").is_file()


def read(folder: Path) -> Source:
    """Maps every tensor to its GGUF name; a tensor without one is an error that names it."""
    config = read_record(folder / "config.json")
    architecture = lookup_model_type(config.text("model_type"), config.source)
    hf = architecture.huggingface
    assert hf is not None  # lookup_model_type finds only such
    metadata = {f"{architecture.name}.{k}": v for k, v in hf.metadata(config).items()}
    c = architecture.read(Record(metadata.get, config.source, f"{architecture.name}."))

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
        metadata=metadata | vocabulary.metadata(),
        tensors=tensors,
        name=folder.resolve().name,
        notes=notes,
        original_name=partial(original_name, hf),
    )


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
    rules = [(_pattern(theirs), ours if isinstance(ours, Rule) else Rule(ours)) for theirs, ours in hf.tensors.items()]
    ignored = pattern(hf.ignored)
    tied = config.flag("tie_word_embeddings", default=False)
    out: dict[str, SourceTensor] = {}
    for origin, entry in safetensors.read_folder(folder).items():
        bare = origin
        for prefix in hf.prefixes:
            bare = bare.removeprefix(prefix)
        if ignored.fullmatch(bare):
            continue
        name, rule = _rename(bare, rules)
        if rule is None:
            raise UnsupportedError(
                f"{entry.path}: tensor '{origin}' is left over: '{config.text('model_type')}' has no place for it"
            )
        if name == _OUTPUT and tied:
            notes.append(f"tensor '{origin}' is left out: tie_word_embeddings puts the embeddings in its place")
            continue
        if name in out:
            raise UnsupportedError(f"{entry.path}: tensors '{out[name].origin}' and '{origin}' have one place")
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


def _rename(name: str, rules: list[tuple[re.Pattern[str], Rule[Any]]]) -> tuple[str, Rule[Any] | None]:
    for theirs, rule in rules:
        if found := theirs.fullmatch(name):
            return rule.name.replace("{i}", found.groupdict().get("i", "")), rule
    return name, None


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
