"""Files of texts, conversations and prompts with answers, as documents: pieces of text that are learnt or only read.

A file that ends in ``.jsonl`` holds a JSON object a line: ``{"messages": [...]}``, a conversation whose assistant's
words are learnt; ``{"prompt": ..., "completion": ...}``, of which the completion is; or ``{"text": ...}``. Any other
file is one text, or several with a separator between them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import FileError, FormatError, NanoError, NotFoundError

if TYPE_CHECKING:
    from ..chat import ChatTemplate

__all__ = ["Document", "Piece", "is_records", "read"]

_JSON_SUFFIXES = (".jsonl", ".ndjson")
_CHUNK = 1 << 16  # characters tokenised at a time
# A line end between two characters that are not white space: no tokenizer joins what is on both sides of it.
_LINE_END = re.compile(r"(?<=\S\n)(?=\S)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document."""

    text: str
    is_learnt: bool = True


@dataclass(frozen=True, slots=True)
class Document:
    """What belongs together. `pieces` may be read once, one after the other."""

    where: str
    """File and line, for messages."""
    pieces: Iterable[Piece]
    is_example: bool = False
    """A question with its answer: stands alone, is never cut into several windows."""
    is_rendered: bool = False
    """By a chat template: special tokens are spelt out, the first of all among them."""


def is_records(path: str | os.PathLike[str]) -> bool:
    """Does the file hold a JSON object a line?"""
    return Path(path).suffix.lower() in _JSON_SUFFIXES


def read(
    path: str | os.PathLike[str], *, template: ChatTemplate | None = None, separator: str | None = None
) -> Iterator[Document]:
    """The documents of a file, one at a time. `template` renders conversations; `separator` stands between the texts
    of a file that is no JSON. Raises FileError, and FormatError with the line."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace", newline="") as file:
            if is_records(path):
                yield from _records(file, os.fspath(path), template)
            elif separator:
                yield from _separated(file, os.fspath(path), separator)
            else:
                yield Document(os.fspath(path), (Piece(text) for text in _chunks(_blocks(file))))
    except OSError as error:
        raise FileError(f"{os.fspath(path)}: {error.strerror or error}") from None


# ------------------------------------------------------------------ texts


def _blocks(file: TextIO) -> Iterator[str]:
    while block := file.read(_CHUNK):
        yield block


def _chunks(blocks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that can be tokenised one by one."""
    rest = ""
    for block in blocks:
        rest += block
        ends = [match.start() for match in _LINE_END.finditer(rest)]
        if ends or len(rest) > 16 * _CHUNK:  # a line that never ends is cut somewhere
            at = ends[-1] if ends else len(rest)
            yield rest[:at]
            rest = rest[at:]
    if rest:
        yield rest


def _separated(file: TextIO, path: str, separator: str) -> Iterator[Document]:
    """Texts between separators, without the white space around them."""
    rest, number = "", 0
    for block in _blocks(file):
        *texts, rest = (rest + block).split(separator)
        for text in texts:
            number += 1
            yield from _text(text.strip(), f"{path}, text {number}")
    yield from _text(rest.strip(), f"{path}, text {number + 1}")


def _text(text: str, where: str) -> Iterator[Document]:
    if text:
        blocks = (text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK))
        yield Document(where, (Piece(part) for part in _chunks(blocks)))


# ------------------------------------------------------------------ records


def _records(file: TextIO, path: str, template: ChatTemplate | None) -> Iterator[Document]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{where}: not JSON: {error}") from None
        if not isinstance(record, dict):
            raise FormatError(f"{where}: found {type(record).__name__}, expected a JSON object")
        if "messages" in record:
            yield from _conversation(record["messages"], where, template)
        elif "prompt" in record or "completion" in record:
            prompt, answer = (_string(record, key, where) for key in ("prompt", "completion"))
            yield Document(where, (Piece(prompt, False), Piece(answer)), is_example=True)
        elif "text" in record:
            yield from _text(_string(record, "text", where), where)
        else:
            found = ", ".join(map(repr, record)) or "none"
            raise FormatError(f"{where}: keys: found {found}, expected messages, prompt and completion, or text")


def _string(record: dict[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        found = type(value).__name__ if key in record else "none"
        raise FormatError(f"{where}: {key}: found {found}, expected a string")
    return value.encode("utf-8", "replace").decode("utf-8")  # JSON can spell half a character


def _conversation(messages: Any, where: str, template: ChatTemplate | None) -> Iterator[Document]:
    """The conversation as one document where the template lets turns stand as they are, else a document an answer."""
    if template is None:
        raise NotFoundError(f"{where}: a conversation needs a chat template: the model's file has none, name one")
    if not isinstance(messages, list):
        raise FormatError(f"{where}: messages: found {type(messages).__name__}, expected a list")
    for i, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str):
            raise FormatError(f"{where}: message {i}: expected an object with a role, a string")
    try:
        answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        # (where each answer begins, the text up to its end)
        turns = [
            (template.render(messages[:i]), template.render(messages[: i + 1], add_generation_prompt=False))
            for i in answers
        ]
    except NanoError as error:
        raise type(error)(f"{where}: {error}") from None
    for i, (before, after) in zip(answers, turns, strict=True):
        if not after.startswith(before):
            raise FormatError(f"{where}: message {i}: the chat template does not put the answer where it asks for it")
    if all(turns[i + 1][0].startswith(turns[i][1]) for i in range(len(turns) - 1)):
        turns_of_documents = [turns] if turns else []
    else:  # a template that writes earlier answers otherwise than the last
        turns_of_documents = [[turn] for turn in turns]
    for members in turns_of_documents:
        pieces, end = [], 0
        for before, after in members:
            pieces += [Piece(before[end:], False), Piece(after[len(before) :])]
            end = len(after)
        yield Document(where, pieces, is_example=True, is_rendered=True)
