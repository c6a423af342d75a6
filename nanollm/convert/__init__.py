"""Converters: other formats to GGUF, one file a format. The source is recognised by what it holds."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanollm.convert import ggml, gguf, hub, huggingface, llama2c, openai, peft
from nanollm.convert.source import Source
from nanollm.convert.write import OUTTYPES, write
from nanollm.errors import ArgumentError, FileError, UnsupportedError

__all__ = ["OUTTYPES", "Outtype", "Report", "convert"]

Outtype = Literal["auto", "f32", "f16", "bf16", "q8_0"]

# Is it this format? How is it read? Which options does that take? In order: an adapter's folder may hold a
# config.json, and of llama2.c's files the oldest have no mark of their own.
_Format = tuple[Callable[[Path], bool], Callable[..., Source], frozenset[str]]
_FORMATS: tuple[_Format, ...] = (
    (gguf.recognises, gguf.read, frozenset()),
    (peft.recognises, peft.read, frozenset({"base"})),
    (huggingface.recognises, huggingface.read, frozenset()),
    (openai.recognises, openai.read, frozenset()),
    (ggml.recognises, ggml.read, frozenset()),
    (llama2c.recognises, llama2c.read, frozenset({"tokenizer"})),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    path: Path
    architecture: str
    n_tensors: int
    n_params: int
    n_bytes: int
    """Of the tensors."""
    types: dict[str, int]
    """Tensors by type."""
    notes: tuple[str, ...]
    """What a user should know: tensors of another type than asked for, tokens made up or left out."""


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    outtype: Outtype = "auto",
    *,
    progress: Callable[[int, int, str], None] | None = None,
    report: Callable[[str], None] | None = None,
    name: str | None = None,
    description: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Report:
    """Writes ``source`` as a GGUF file with its program inside, atomically: a failure leaves no file behind.

    ``source``: a Hugging Face folder, ``org/model`` on its hub (with the ``hub`` extra), a folder of a PEFT LoRA
    adapter (which becomes an adapter: no program), OpenAI's folder of a GPT-2, a ggml ``.bin`` of a GPT-2, a llama2.c
    ``.bin``, or a GGUF file.
    ``outtype``: the type of all matrices; ``"auto"`` keeps each one's own. Vectors become f32, and matrices whose rows
    Q8_0's blocks of 32 do not fill F16.
    ``progress(bytes done, bytes in all, tensor)`` is called before each piece and at the end; an exception from it
    ends the conversion. ``report(note)`` is called for what a user should know; None: warnings.warn.
    ``tokenizer``: llama2.c's tokenizer file, where it is not beside the model. ``base``: the model that an adapter is
    for, a Hugging Face folder, its name on the hub or a GGUF file, where the one that it names is not at hand.

    Raises FileError, FormatError, UnsupportedError, NotFoundError or ShapeError, with the file and the key or
    tensor; in particular for every tensor that is missing or left over.
    """
    if outtype not in OUTTYPES:
        raise ArgumentError(f"outtype: found {outtype!r}, expected one of {', '.join(OUTTYPES)}")
    if Path(out).exists() and not Path(out).is_file():
        raise FileError(f"{out}: not a regular file")  # a device would be replaced, a folder found at the end
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if report is None:
            warnings.warn(text, stacklevel=3)
        else:
            report(text)

    options = {"tokenizer": tokenizer, "base": base}
    model = _read(Path(source), {key: Path(value) for key, value in options.items() if value is not None})
    for text in model.notes:
        note(text)
    types, n_bytes = write(model, Path(out), outtype, progress, note, name, description)
    n_params = sum(math.prod(t.shape) for t in model.tensors)
    return Report(Path(out), model.architecture.name, len(model.tensors), n_params, n_bytes, types, tuple(notes))


def _read(source: Path, options: dict[str, Path]) -> Source:
    if hub.is_name(source):
        model = _read(hub.fetch(str(source)), options)
        model.name = source.name
        return model
    if not source.exists():
        raise FileError(f"{source}: no such file or folder")
    for recognises, read, known in _FORMATS:
        if recognises(source):
            for key in options.keys() - known:
                raise ArgumentError(f"{key}: {source} is of a format that takes none")
            return read(source, **options)
    raise UnsupportedError(
        f"{source}: neither a Hugging Face folder (config.json), a PEFT adapter (adapter_config.json), an OpenAI GPT-2 "
        "(hparams.json), nor a file of ggml, llama2.c or GGUF"
    )
