"""Chat templates without Jinja: `split` takes a template apart into the literal texts around messages.

Programs that run without Python put these pieces together again (``nano_chat`` in ggml_core.h):

    open user answer ... next user answer ...                              without a system message
    system_open system system_close user answer ... next user answer ...   with one

The pieces are found by rendering short conversations whose messages are markers, and believed only after longer ones
have come out the same both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from .chat import ChatTemplate

__all__ = ["PIECES_PREFIX", "ChatPieces", "split"]

PIECES_PREFIX = "nanollm.chat."
"""Of the metadata keys that hold the pieces."""

# Around a marker: white space that no template writes itself, so that what is left of it tells who takes it out.
_SPACE = "\u2003\u2009"
_DATE = "\ue0da"

# Contents that a template might treat differently from other text.
_USERS = (
    "What is 2 + 2?",
    "Two\n\nlines",
    "{{ no }} {% code %}",
    '{"role": "system"}',
    "<think>x</think> /no_think",
    "Ü",
)
_ANSWERS = ("Four.", "One\nline", '["list"]')
_REASONING = "<think>\nHm.\n</think>\n\nFour."


@dataclass(frozen=True, slots=True)
class ChatPieces:
    """A template's literal texts; the metadata keys ``nanollm.chat.*`` have these names."""

    open: str
    """Before the first user message where there is no system message."""
    answer: str
    """Between a user message and the answer."""
    next: str
    """Between an answer and the next user message."""
    system_open: str | None = None
    """Before the system message; None where the template takes none."""
    system_close: str | None = None
    """Between the system message and the first user message."""
    trim: bool = False
    """White space around a user message is taken out."""
    trim_system: bool = False

    @property
    def has_system(self) -> bool:
        return self.system_open is not None

    def metadata(self) -> dict[str, str | bool]:
        """The keys that carry the pieces in a file."""
        values = {f"{PIECES_PREFIX}{field.name}": getattr(self, field.name) for field in fields(self)}
        return {key: value for key, value in values.items() if value is not None}


def split(template: ChatTemplate) -> tuple[ChatPieces, list[str]]:
    """The pieces of a template, and what a user should know about them.

    Raises UnsupportedError for a template whose text is more than its messages put between literal pieces, and
    FormatError for one that cannot be rendered at all.
    """
    notes: list[str] = []
    return _Splitter(template, _fixed_date(template, notes), notes).split(), notes


def _messages(users: Sequence[str], answers: Sequence[str] = (), system: str | None = None) -> list[dict[str, str]]:
    """A conversation that ends with a question: one answer less than questions."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    for i, user in enumerate(users):
        messages.append({"role": "user", "content": user})
        if i + 1 < len(users):
            messages.append({"role": "assistant", "content": answers[i % len(answers)]})
    return messages


# ------------------------------------------------------------------ dates


def _fixed_date(template: ChatTemplate, notes: list[str]) -> dict[str, Any]:
    """What to render with so that a date in the template's text stays what it is: its own one where it has one."""
    from jinja2 import Undefined

    for system in (None, "S"):
        marked = _rendered(template, system, {"strftime_now": lambda pattern: _DATE})
        if marked is not None and _DATE in marked:
            break
    else:
        return {}
    before, after = marked.split(_DATE)[:2]
    own = {"strftime_now": Undefined(name="strftime_now")}
    fallback = _rendered(template, system, own)
    if fallback is not None and fallback.startswith(before):
        date = fallback[len(before) :].partition(after[:16])[0]
        notes.append(f"the template writes the day's date: fixed as {date!r}, its own where there is no clock")
        return own
    now = datetime.now()
    notes.append(f"the template writes the day's date and has no other: fixed as that of {now:%Y-%m-%d}")
    return {"strftime_now": now.strftime}


def _rendered(template: ChatTemplate, system: str | None, variables: Mapping[str, Any]) -> str | None:
    try:
        return template.render(_messages(["U"], system=system), **variables)
    except FormatError:
        return None


# ------------------------------------------------------------------ pieces


@dataclass(frozen=True, slots=True)
class _Cut:
    """A text taken apart at its markers: one more piece than markers, and the ends at which white space was left."""

    pieces: tuple[str, ...]
    kept: tuple[tuple[bool, bool], ...]


class _Splitter:
    def __init__(self, template: ChatTemplate, variables: dict[str, Any], notes: list[str]) -> None:
        self._template = template
        self._variables = variables
        self._notes = notes

    def split(self) -> ChatPieces:
        first = self._cut("U", _messages([_marker("U")]))
        opening, answer = first.pieces
        talk = self._cut("UAV", _messages([_marker("U"), _marker("V")], [_marker("A")]))
        before, between, following, end = talk.pieces
        if before != opening or end != answer:
            raise self._refused("a question's text changes with what comes before or after it")
        pieces = ChatPieces(opening, answer, following, trim=first.kept[0] == (False, False))
        history = _History(pieces, between, self._render)
        if not between.startswith(answer) and not answer.startswith(between):
            raise self._refused("what opens an answer changes when the answer is there")
        if between.startswith(answer) and between[len(answer) :].strip():
            raise self._refused("an answer is written with words around it that the model would not have written")
        self._check(history)
        if answer != between and answer.startswith(between):
            self._note(f"{answer[len(between) :]!r} opens an answer and is taken out of earlier ones: there it stays")
        elif not history.agrees(["U", "V"], [_REASONING]):
            self._note("reasoning is taken out of earlier answers: there it stays")
        return self._with_system(pieces, history)

    def _with_system(self, pieces: ChatPieces, history: _History) -> ChatPieces:
        """The pieces with those around a system message, where the template has a place for one."""
        try:
            text = self._render(_messages([_marker("U")], system=_marker("S")))
        except FormatError as error:
            self._note(f"no system messages: the template refuses them ({error})")
            return pieces
        if "S" not in [label for label, _ in _found(text)]:
            self._note("no system messages: the template passes over them")
            return pieces
        try:
            cut = self._cut("SU", _messages([_marker("U")], system=_marker("S")))
            system_open, system_close, answer = cut.pieces
            if answer != pieces.answer:
                raise self._refused("the text after the question changes")
            whole = ChatPieces(
                pieces.open, pieces.answer, pieces.next, system_open, system_close, pieces.trim, not any(cut.kept[0])
            )
            self._check(_History(whole, history.between, self._render), ["Be brief.", "Be\nkind.", "{{ x }}"])
        except UnsupportedError as error:
            self._note(f"no system messages: with one, {error}")
            return pieces
        if cut.kept[0] not in ((True, True), (False, False)) or cut.kept[1] != (not pieces.trim, not pieces.trim):
            self._note("with a system message, white space around the first question is treated in another way")
        return whole

    def _check(self, history: _History, systems: Sequence[str | None] = (None,)) -> None:
        """Longer conversations, of texts of many kinds, come out the same both ways."""
        for system in systems:
            for n in range(1, 5):
                if not history.agrees([f"U{i}" for i in range(n)], [f"A{i}" for i in range(n)], system):
                    raise self._refused(f"a conversation of {n} questions is no repetition of a shorter one")
            for user in _USERS:
                if not history.agrees([user, "U", user], _ANSWERS, system):
                    raise self._refused(f"the text around a message depends on it: {user!r} among them")

    def _cut(self, labels: str, messages: list[dict[str, str]]) -> _Cut:
        """Takes the text of `messages` apart at the markers of `labels`, each of which must be there once."""
        text = self._render(messages)
        found = _found(text)
        if [label for label, _ in found] != list(labels):
            there = ", ".join(label for label, _ in found) or "none"
            raise self._refused(f"of the messages {', '.join(labels)} the text has {there}")
        pieces: list[str] = []
        kept: list[tuple[bool, bool]] = []
        start = 0
        for label, at in found:
            end = at + len(_core_of(label))
            left, right = text[:at].endswith(_SPACE), text[end:].startswith(_SPACE)
            pieces.append(text[start : at - len(_SPACE) * left])
            kept.append((left, right))
            start = end + len(_SPACE) * right
        pieces.append(text[start:])
        if any(mark in piece for piece in pieces for mark in _SPACE):
            raise self._refused("white space around a message is changed")
        return _Cut(tuple(pieces), tuple(kept))

    def _render(self, messages: list[dict[str, str]]) -> str:
        return self._template.render(messages, **self._variables)

    def _refused(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"{self._template.name}: {why}")

    def _note(self, text: str) -> None:
        self._notes.append(f"{self._template.name}: {text}")


class _History:
    """Conversations put together of pieces, beside the template's text of them."""

    def __init__(self, pieces: ChatPieces, between: str, render: Callable[[list[dict[str, str]]], str]) -> None:
        self.pieces = pieces
        self.between = between
        """Between a question and its answer, where that is a message and not about to be written."""
        self._render = render

    def agrees(self, users: Sequence[str], answers: Sequence[str], system: str | None = None) -> bool:
        try:
            return self._render(_messages(users, answers, system)) == "".join(self._joined(users, answers, system))
        except FormatError:
            return False

    def _joined(self, users: Sequence[str], answers: Sequence[str], system: str | None) -> Iterator[str]:
        p = self.pieces
        for i, user in enumerate(users):
            if i:
                yield self.between + answers[(i - 1) % len(answers)] + p.next
            elif system is not None:
                yield f"{p.system_open}{system}{p.system_close}"
            else:
                yield p.open
            yield user
        yield p.answer


def _core_of(label: str) -> str:
    return f"\ue000{label}\ue001"


def _marker(label: str) -> str:
    return f"{_SPACE}{_core_of(label)}{_SPACE}"


def _found(text: str) -> list[tuple[str, int]]:
    """The markers in a text, and where each one's core starts."""
    return [(text[i + 1], i) for i in range(len(text) - 2) if text[i] == "\ue000" and text[i + 2] == "\ue001"]
