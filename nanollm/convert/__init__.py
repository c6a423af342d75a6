"""Converters: other formats to GGUF, one file a format. The source is recognised by what it holds."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanollm.convert import huggingface, llama2c
from nanollm.convert.source import Source
from nanollm.convert.write import OUTTYPES, write
from nanollm.errors import ArgumentError, FileError, UnsupportedError

__all__ = ["OUTTYPES", "Outtype", "Report", "convert"]

Outtype = Literal["auto", "f32", "f16", "bf16", "q8_0"]


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
) -> Report:
    """Writes ``source`` as a GGUF file with its program inside, atomically: a failure leaves no file behind.

    ``source``: a Hugging Face folder, ``org/model`` on its hub (with the ``hub`` extra), or a llama2.c ``.bin``.
    ``outtype``: the type of all matrices; ``"auto"`` keeps each one's own (f32, f16 or bf16). Vectors stay f32, and
    matrices whose rows Q8_0's blocks of 32 do not fill become F16.
    ``progress(bytes done, bytes in all, tensor)`` is called before each piece and at the end; an exception from it
    ends the conversion. ``report(note)`` is called for what a user should know; None: warnings.warn.
    ``tokenizer``: llama2.c's tokenizer file, where it is not beside the model.

    Raises FileError, FormatError, UnsupportedError, NotFoundError or ShapeError, with the file and the key or
    tensor; in particular for every tensor that is missing or left over.
    """
    if outtype not in OUTTYPES:
        raise ArgumentError(f"outtype: found {outtype!r}, expected one of {', '.join(OUTTYPES)}")
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if report is None:
            warnings.warn(text, stacklevel=3)
        else:
            report(text)

    model = _read(Path(source), None if tokenizer is None else Path(tokenizer))
    for text in model.notes:
        note(text)
    types, n_bytes = write(model, Path(out), outtype, progress, note, name, description)
    n_params = sum(math.prod(t.shape) for t in model.tensors)
    return Report(Path(out), model.architecture.name, len(model.tensors), n_params, n_bytes, types, tuple(notes))


def _read(source: Path, tokenizer: Path | None) -> Source:
    if not source.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        source = _download(str(source))
    if not source.exists():
        raise FileError(f"{source}: no such file or folder")
    if huggingface.recognises(source):
        if tokenizer is not None:
            raise ArgumentError("tokenizer: a Hugging Face folder has its own")
        return huggingface.read(source)
    if llama2c.recognises(source):
        return llama2c.read(source, tokenizer)
    raise UnsupportedError(
        f"{source}: neither a Hugging Face folder (with config.json and safetensors) nor a llama2.c .bin file"
    )


def _download(repository: str) -> Path:
    """The files of a model on the Hugging Face hub, in its cache."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise FileError(
            f"{repository}: no such folder (to fetch it from the Hugging Face hub: pip install 'nanollm[hub]')"
        ) from None
    try:
        return Path(
            snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"])
        )
    except (OSError, ValueError) as e:
        raise FileError(f"{repository}: {(str(e).splitlines() or [type(e).__name__])[0]}") from e
