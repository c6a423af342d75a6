"""Chat templates: from a list of messages to the text that a model was trained to answer.

A model's file brings its template as Jinja source (``tokenizer.chat_template``). It comes from outside, so it
is rendered in a sandbox, with what Hugging Face's documentation promises to templates: ``trim_blocks`` and
``lstrip_blocks``, loop controls, ``raise_exception``, ``strftime_now``, ``tojson`` and ``{% generation %}``
(https://huggingface.co/docs/transformers/chat_templating_writing).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import ArgumentError, FormatError

__all__ = ["BUILTIN_TEMPLATES", "ChatTemplate", "Message", "template_source"]

Message = Mapping[str, Any]
"""A message: ``role`` ("system", "user", "assistant", …), ``content``, and what else a template reads."""

_MAX_RENDERED = 16 << 20  # characters; far above any context, far below what hurts
_MAX_BITS = 4096  # of an integer
_MAX_SOURCE = 1 << 20

# For templates without a place for it, the system message goes in front of the first user message.
_MERGE_SYSTEM = (
    "{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}"
    "{%- set turns = messages[1:] if messages and messages[0].role == 'system' else messages %}"
)

BUILTIN_TEMPLATES: dict[str, str] = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama2": _MERGE_SYSTEM
    + (
        "{% for m in turns %}{% if m.role == 'assistant' %}{{ ' ' + m.content|trim + ' ' + eos_token }}"
        "{% else %}{{ bos_token + '[INST] ' }}"
        "{% if loop.first and system %}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{% endif %}"
        "{{ m.content|trim + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content|trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "gemma": _MERGE_SYSTEM
    + (
        "{{ bos_token }}{% for m in turns %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
        "{% if loop.first and system %}{{ system|trim + '\\n\\n' }}{% endif %}"
        "{{ m.content|trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral": _MERGE_SYSTEM
    + (
        "{{ bos_token }}{% for m in turns %}{% if m.role == 'assistant' %}{{ ' ' + m.content|trim + eos_token }}"
        "{% else %}{{ '[INST] ' }}{% if loop.first and system %}{{ system + '\\n\\n' }}{% endif %}"
        "{{ m.content + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "phi3": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
}
"""Templates that ``--chat-template NAME`` can name, for files that bring none."""


def template_source(name_or_jinja: str) -> str:
    """The Jinja source for a built-in name, or `name_or_jinja` itself when it is one.

    Raises ArgumentError for what is neither: a single word that no template has.
    """
    if name_or_jinja in BUILTIN_TEMPLATES:
        return BUILTIN_TEMPLATES[name_or_jinja]
    if "{" not in name_or_jinja:
        known = ", ".join(sorted(BUILTIN_TEMPLATES))
        raise ArgumentError(f"chat template {name_or_jinja!r}: not Jinja source and not one of {known}")
    return name_or_jinja


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses the short expressions whose value would take all memory or time."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            n_bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if n_bits > _MAX_BITS:
                raise SecurityError("a number too large")
        elif not isinstance(left, int | float) or not isinstance(right, int | float):
            sequence, count = (left, right) if isinstance(right, int) else (right, left)
            if operator == "**" or not isinstance(count, int) or len(sequence) * count > _MAX_RENDERED:
                raise SecurityError("a repetition too long")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}`` marks the assistant's words for training; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own spelling)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


@lru_cache(maxsize=1)
def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"], autoescape=False
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class ChatTemplate:
    """A compiled template.

    `source` is Jinja; `bos_token` and `eos_token` are the spellings the template may write. `name` stands in
    messages for where it came from. Raises FormatError when the source is not Jinja.
    """

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "", name: str = "chat template") -> None:
        self.source = source
        self.name = name
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        if len(source) > _MAX_SOURCE:
            raise FormatError(f"{name}: {len(source)} characters of Jinja, expected at most {_MAX_SOURCE}")
        try:
            self._template: Template = _environment().from_string(source)
        except (TemplateError, RecursionError, ValueError, MemoryError) as error:
            raise self._error(error) from None

    def render(self, messages: Iterable[Message], add_generation_prompt: bool = True, **variables: Any) -> str:
        """The conversation as one text, ending where the assistant starts to speak.

        `variables` reach the template beside ``messages`` (``tools``, ``enable_thinking``, …). Raises
        ArgumentError for a message that is none, FormatError when the template refuses or fails.
        """
        values: dict[str, Any] = {
            **self._tokens,
            **variables,
            "messages": _checked(list(messages)),
            "add_generation_prompt": add_generation_prompt,
        }
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                size += len(piece)
                if size > _MAX_RENDERED:
                    raise SecurityError(f"more than {_MAX_RENDERED} characters of text")
        except Exception as error:  # a template is a program from outside: it can raise anything
            raise self._error(error) from None
        return "".join(pieces)

    def _error(self, error: BaseException) -> FormatError:
        line = getattr(error, "lineno", None)
        where = f"{self.name}, line {line}" if line else self.name
        words = " ".join(str(error).split()) or type(error).__name__
        return FormatError(f"{where}: {words}")


def _checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    if not messages:
        raise ArgumentError("chat: no messages")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ArgumentError(f"chat: message {i}: expected a mapping with a role and a content")
        if "content" not in message:
            raise ArgumentError(f"chat: message {i}: no content")
    return [dict(message) for message in messages]
