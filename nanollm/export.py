"""Putting into a GGUF file what a program without Python needs to run it: `export`.

    nanollm.export("model.gguf")                    # writes model-nanollm.gguf
    nanollm.export("model.gguf", sidecar=True)      # writes model.gguf.nanollm, beside a file that must not change

That is the program (``nanollm.program``), which says what is to be computed, and the chat template as literal pieces
(``nanollm.chat.*``). Other tools pass over these keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _core
from .errors import ArgumentError, NanoError, UnsupportedError
from .models import PROGRAM_KEY, build_program, sidecar_path
from .pieces import PIECES_PREFIX, ChatPieces, split

__all__ = ["TEMPLATE_KEY", "ExportReport", "chat_pieces", "default_output", "export", "pieces_of"]

TEMPLATE_KEY = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    path: Path
    program_version: int
    """What a runner must have."""
    program_bytes: int
    pieces: ChatPieces | None
    """None where the file has no chat template, or one that cannot be taken apart: `notes` says why."""
    notes: tuple[str, ...]
    """What a user should know."""


def default_output(source: str | os.PathLike[str]) -> Path:
    """Beside ``source``: "model.gguf" gives "model-nanollm.gguf"."""
    path = Path(source)
    return path.with_name(f"{path.stem}-nanollm{path.suffix or '.gguf'}")


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    sidecar: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ExportReport:
    """Writes ``source`` again with its program and its chat pieces inside, atomically; all else stays as it is.

    ``out``: None stands for `default_output`. ``sidecar``: writes a small file ``source.nanollm`` beside it instead,
    which is read where the model's file has no program. ``progress(bytes done, bytes in all, tensor)`` is called before
    each tensor and at the end; an exception from it ends the work and leaves no file.

    The program comes from the definition of the file's architecture (`nanollm.models.register` adds one); where there
    is none, from the file or its sidecar. Raises UnsupportedError where there is neither, and for a file that is no
    model; ArgumentError rather than write over the source.
    """
    if sidecar and out is not None:
        raise ArgumentError("out: a sidecar has the model's name and .nanollm, it cannot have another")
    path = sidecar_path(source) if sidecar else default_output(source) if out is None else Path(out)
    if path.exists() and path.samefile(source):
        raise ArgumentError(f"{path}: the file to write is the file to read")
    notes: list[str] = []
    with _core.Gguf.open(source) as gguf:
        kind = gguf.get("general.type", "model")
        if kind != "model":
            raise UnsupportedError(f"{gguf.path}: general.type: found {kind!r}, only models can be exported")
        program = build_program(gguf)
        pieces = chat_pieces(gguf, notes)
        with _core.GgufWriter(path) as writer:
            if sidecar:
                writer.set("general.type", "string", "sidecar")
                for key in ("general.architecture", "general.name"):
                    if key in gguf:
                        writer.copy(gguf, key)
            else:
                _copy_metadata(gguf, writer)
            writer.set(PROGRAM_KEY, "uint8", list(program))
            for key, value in (pieces.metadata() if pieces is not None else {}).items():
                writer.set(key, "bool" if isinstance(value, bool) else "string", value)
            if not sidecar:
                _copy_tensors(gguf, writer, progress)
    return ExportReport(path, _core.program_version(program), len(program), pieces, tuple(notes))


def chat_pieces(gguf: _core.Gguf, notes: list[str], source: str | None = None) -> ChatPieces | None:
    """The pieces of a file's chat template, or of the one given. Why there are none is added to ``notes``."""
    where = f"{gguf.path}: {TEMPLATE_KEY}"
    found: Any = gguf.get(TEMPLATE_KEY) if source is None else source
    if found is None:
        return None
    if not isinstance(found, str):
        notes.append(f"no chat pieces: {where}: found {type(found).__name__}, expected a string")
        return None
    try:
        tokenizer = _core.Tokenizer(gguf)
    except NanoError as error:
        notes.append(f"no chat pieces: {error}")
        return None
    spellings = ["" if token is None else tokenizer.spelling(token) for token in (tokenizer.bos, tokenizer.eos)]
    return pieces_of(found, spellings[0], spellings[1], where, notes)


def pieces_of(source: str, bos: str, eos: str, where: str, notes: list[str]) -> ChatPieces | None:
    """The pieces of a template's Jinja source. Why there are none is added to ``notes``."""
    from .chat import ChatTemplate

    try:
        pieces, remarks = split(ChatTemplate(source, bos, eos, where))
    except NanoError as error:
        notes.append(f"no chat pieces: {error}; programs without Python need --chat-template NAME")
        return None
    notes += remarks
    return pieces


def _copy_metadata(gguf: _core.Gguf, writer: _core.GgufWriter) -> None:
    for key in gguf.keys():  # noqa: SIM118 (a Gguf does not iterate)
        if key != PROGRAM_KEY and not key.startswith(PIECES_PREFIX):
            writer.copy(gguf, key)


def _copy_tensors(gguf: _core.Gguf, writer: _core.GgufWriter, progress: Callable[[int, int, str], None] | None) -> None:
    tensors = gguf.tensors
    total, done = sum(tensor.n_bytes for tensor in tensors), 0
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.shape, tensor.type)
    for tensor in tensors:
        if progress is not None:
            progress(done, total, tensor.name)
        writer.write(gguf.tensor_data(tensor.name))
        done += tensor.n_bytes
    if progress is not None:
        progress(total, total, "")
