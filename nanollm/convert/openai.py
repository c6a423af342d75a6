"""OpenAI's GPT-2 checkpoint folders: checkpoint, hparams.json, encoder.json, vocab.bpe, model.ckpt.*.

Names and shapes: https://github.com/openai/gpt-2 (src/model.py). TensorFlow is not needed: see tensorbundle.py.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from nanollm.convert import tensorbundle, tokenizer
from nanollm.convert.source import Source, SourceTensor, read_record
from nanollm.convert.vocabulary import Kind, Vocabulary
from nanollm.errors import FileError, FormatError, ShapeError, UnsupportedError
from nanollm.models import Array, Record, Value, lookup

__all__ = ["END_OF_TEXT", "check_sizes", "gguf_name", "metadata", "original_name", "read", "recognises", "set_end"]

END_OF_TEXT = "<|endoftext|>"

_MODULES = {
    "wte": "token_embd.weight",
    "wpe": "position_embd.weight",
    "lm_head": "output.weight",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn/c_attn": "attn_qkv",
    "attn/c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp/c_fc": "ffn_up",
    "mlp/c_proj": "ffn_down",
}
_KINDS = {"": "", "/w": ".weight", "/g": ".weight", "/b": ".bias"}
_NAME = re.compile(r"model/(?:h(?P<i>0|[1-9]\d{0,5})/)?(?P<module>.+?)(?P<kind>|/[wgb])")
# What an optimiser leaves in a checkpoint of a fine-tuned model.
_TRAINING = re.compile(r".*/(Adam|Adam_1|Momentum)|beta[12]_power(_\d+)?|global_step|counter")


def recognises(path: Path) -> bool:
    """Is it a folder with hparams.json?"""
    return (path / "hparams.json").is_file()


def read(folder: Path) -> Source:
    """Maps every variable to its GGUF name; one without is an error that names it, but for an optimiser's."""
    hparams = read_record(folder / "hparams.json")
    n_vocab = hparams.integer("n_vocab", 1)
    prefix = _prefix(folder)
    notes: list[str] = []
    tensors: list[SourceTensor] = []
    left_out: list[str] = []
    for origin, entry in tensorbundle.read(prefix).items():
        if _TRAINING.fullmatch(origin):
            left_out.append(origin)
            continue
        name = gguf_name(origin)
        if name is None:
            raise UnsupportedError(f"{prefix}: variable '{origin}' is left over: GPT-2 has no place for it")
        entry.check_type()
        # Convolutions of width 1: (1, n_in, n_out).
        is_conv = len(entry.shape) == 3 and entry.shape[0] == 1
        shape = entry.shape[:0:-1] if is_conv else entry.shape
        tensors.append(SourceTensor(name, shape, entry.type, partial(_load, entry, is_conv), origin))
    if left_out:
        notes.append(f"{len(left_out)} variables of the optimiser are left out: '{left_out[0]}', …")

    n_ctx = hparams.integer("n_ctx", 1)
    check_sizes(prefix, tensors, n_vocab, n_ctx)
    vocabulary = tokenizer.from_vocab_and_merges(folder / "encoder.json", folder / "vocab.bpe")
    set_end(vocabulary)
    vocabulary.fit(n_vocab, str(folder), notes)
    sizes = [hparams.integer(key, 1) for key in ("n_embd", "n_layer", "n_head")]
    return Source(
        path=folder,
        architecture=lookup("gpt2", hparams.source),
        metadata=metadata(hparams.source, n_ctx, *sizes) | vocabulary.metadata(),
        tensors=tensors,
        name=f"gpt2-{folder.resolve().name}",
        notes=notes,
        original_name=original_name,
    )


def _load(entry: tensorbundle.Entry, is_conv: bool) -> Array:
    array = entry.load()
    return array[0].T if is_conv else array


def _prefix(folder: Path) -> Path:
    """The checkpoint that the file ``checkpoint`` names, which may have moved here from elsewhere; or the only one."""
    try:
        text = (folder / "checkpoint").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r'^model_checkpoint_path:\s*"([^"\n]*)"', text, re.MULTILINE)
    if named:
        return folder / Path(named[1]).name
    found = sorted(folder.glob("*.index"))
    if len(found) != 1:
        there = f"{len(found)} files *.index" if found else "no *.index"
        raise FileError(f"{folder}: found no file 'checkpoint' that names a checkpoint, and {there}")
    return found[0].with_suffix("")


def gguf_name(origin: str) -> str | None:
    """The GGUF name of a variable of OpenAI's model; None for one that is not."""
    found = _NAME.fullmatch(origin)
    name = _MODULES.get(found["module"]) if found else None
    if not found or name is None:
        return None
    module, kind = found["module"], found["kind"]
    in_layer = module not in ("wte", "wpe", "lm_head", "ln_f")
    known = ("",) if name.endswith(".weight") else ("/g" if module.startswith("ln_") else "/w", "/b")
    if in_layer != (found["i"] is not None) or kind not in known:
        return None
    return f"blk.{found['i']}.{name}{_KINDS[kind]}" if in_layer else f"{name}{_KINDS[kind]}"


def original_name(name: str) -> str:
    """A GGUF name as OpenAI spells it; itself when it has none."""
    layer, _, rest = name.removeprefix("blk.").partition(".") if name.startswith("blk.") else ("", "", name)
    where = f"model/h{layer}/" if layer else "model/"
    candidates = (f"{where}{module}{kind}" for module in _MODULES for kind in _KINDS)
    return next((c for c in candidates if gguf_name(c) == f"{'blk.' + layer + '.' if layer else ''}{rest}"), name)


def check_sizes(path: Path, tensors: list[SourceTensor], n_vocab: int, n_ctx: int) -> None:
    """Raises ShapeError where the header's sizes are not those of the embeddings."""
    for t in tensors:
        n = {"token_embd.weight": n_vocab, "position_embd.weight": n_ctx}.get(t.name)
        if n is not None and t.shape[:1] != (n,):
            raise ShapeError(f"{path}: tensor '{t.origin}': found {list(t.shape)}, expected {n} rows")


def metadata(source: str, n_ctx: int, n_embd: int, n_layer: int, n_head: int) -> dict[str, Value]:
    """GGUF metadata from GPT-2's sizes, which its definition turns into keys as it does config.json's."""
    config: dict[str, Any] = {"n_positions": n_ctx, "n_embd": n_embd, "n_layer": n_layer, "n_head": n_head}
    architecture = lookup("gpt2", source)
    assert architecture.huggingface is not None
    keys = architecture.huggingface.metadata(Record(config.get, source))
    return {f"{architecture.name}.{key}": value for key, value in keys.items()}


def set_end(v: Vocabulary) -> None:
    """GPT-2's one special token begins and ends a text. Raises FormatError where it is missing."""
    if END_OF_TEXT not in v.tokens:
        raise FormatError(f"the vocabulary has no token '{END_OF_TEXT}'")
    i = v.tokens.index(END_OF_TEXT)
    v.kinds[i] = Kind.CONTROL
    v.special = {"bos": i, "eos": i}
    v.add_bos = v.add_eos = False
