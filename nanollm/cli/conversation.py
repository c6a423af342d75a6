"""The conversation of `nanollm-cli`: turns in a terminal, or one answer anywhere."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import LimitError
from ..generation import Timings
from .common import EXIT_INTERRUPTED, EXIT_OK, Interruptible, UsageError, clean_text, emit, is_terminal, log
from .generate import describe_prompt, ended
from .options import generation_options, text_of
from .prompt_cache import PromptCache
from .report import result_dict, timing_block

if TYPE_CHECKING:
    from ..chat import Message
    from ..generation import Generation
    from ..model import Model

_HELP = """\
A conversation: end a line with \\ to go on in the next one; Ctrl-C stops an answer; Ctrl-D ends.
"""
_PROMPT = "> "
_CONTINUATION = ". "


def converse(model: Model, args: argparse.Namespace, prompt: str | None) -> int:
    """Runs the conversation that starts with `prompt`; goes on only where there is a terminal to ask."""
    # With a prompt and a stdout that is no terminal, nobody waits for a second question.
    is_dialogue = is_terminal(sys.stdin) and not args.single_turn and (prompt is None or is_terminal(sys.stdout))
    if args.json and is_dialogue:
        raise UsageError("--json: one answer only: give the question with -p, and -st")
    conversation = _Conversation(model, args)
    if is_dialogue:
        log(_HELP)
    if prompt is None:
        prompt = _ask(args.simple_io)
    elif args.display_prompt and not args.json:
        (emit if is_terminal(sys.stdout) else log)(f"{_PROMPT}{prompt}\n")
    interrupted = False
    while prompt is not None:
        if prompt.strip():
            interrupted = not conversation.answer(prompt)
        prompt = _ask(args.simple_io) if is_dialogue and not conversation.is_full else None
    if not args.json:
        log(timing_block(conversation.timings))
    return EXIT_INTERRUPTED if interrupted and not is_dialogue else EXIT_OK


class _Conversation:
    """The messages so far, and what answering them has cost."""

    def __init__(self, model: Model, args: argparse.Namespace) -> None:
        self.timings = Timings(load_ms=model.load_ms)
        self.is_full = False
        self._model = model
        self._args = args
        self._described = args.json
        self._cache = PromptCache(model, args)
        self._messages: list[Message] = []
        if args.system_prompt:
            self._messages.append({"role": "system", "content": text_of(args, args.system_prompt)})

    def answer(self, question: str) -> bool:
        """Streams the answer to `question`; False when it was interrupted."""
        args, model = self._args, self._model
        self._messages.append({"role": "user", "content": question})
        try:
            generation = model.chat(self._messages, template=args.chat_template, **generation_options(args))
        except LimitError as error:
            if not self.timings.n_prompt:
                raise
            log(f"{error}: the conversation ends here (-c makes the context larger)")
            self.is_full = True
            return True
        if not self._described:
            log(describe_prompt(model, generation, args.verbose_prompt))
            self._described = True
        with Interruptible(generation.cancel):
            for piece in generation:
                self._cache.after_prompt(generation)
                if not args.json:
                    emit(piece)
        self._cache.at_end(generation)
        self._messages.append({"role": "assistant", "content": generation.text})
        self._finish(generation)
        return generation.finish_reason != "cancelled"

    def _finish(self, generation: Generation) -> None:
        self.timings += generation.timings
        self.timings.load_ms = self._model.load_ms
        if self._args.json:
            result = result_dict(self._model.path, generation, generation.text, self.timings, self._model.memory)
            emit(json.dumps(result, ensure_ascii=False) + "\n")
            return
        if is_terminal(sys.stdout):
            emit("\n")
        else:
            log()
        if generation.finish_reason != "stop":
            log(f"[{ended(generation, self._model)}]")
        self.is_full = generation.finish_reason == "context"


def _ask(simple_io: bool) -> str | None:
    """A question from the terminal, of one line or of several that end with a backslash; None at its end."""
    lines: list[str] = []
    try:
        while True:
            line = _read_line(_CONTINUATION if lines else _PROMPT, simple_io)
            if not line.endswith("\\"):
                return clean_text("\n".join([*lines, line]))
            lines.append(line[:-1])
    except (EOFError, KeyboardInterrupt):
        log()
        return None


def _read_line(prompt: str, simple_io: bool) -> str:
    if not simple_io and is_terminal(sys.stdout):
        _enable_editing()
        return input(prompt)
    log(prompt, end="")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _enable_editing() -> None:
    """Line editing and history: importing readline is what turns them on in `input`."""
    with suppress(ImportError):  # a Python built without it still reads lines
        import readline  # noqa: F401
