"""Chat templates: the built-in ones, the environment that files' templates expect, and hostile ones."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest

from nanollm import ArgumentError, FormatError
from nanollm.chat import BUILTIN_TEMPLATES, ChatTemplate, template_source

USER = [{"role": "user", "content": " U1 "}]
TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "U2"},
]

# As the models' own documentation writes a conversation of system, user, assistant, user.
EXPECTED = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    "gemma": "<s><start_of_turn>user\nS\n\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n"
    "<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU1 [/INST] A1 </s><s>[INST] U2 [/INST]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "U1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] S\n\nU1 [/INST] A1</s>[INST] U2 [/INST]",
    "phi3": "<|system|>\nS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nU2<|end|>\n<|assistant|>\n",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nU1</s>\n<|assistant|>\nA1</s>\n<|user|>\nU2</s>\n<|assistant|>\n",
}


def render(source: str, messages: list[dict[str, str]] = TALK, **variables: object) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(messages, **variables)


@pytest.mark.parametrize("name", sorted(BUILTIN_TEMPLATES))
def test_builtin_templates(name: str) -> None:
    assert render(template_source(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(BUILTIN_TEMPLATES))
def test_builtin_templates_do_without_a_system_message(name: str) -> None:
    text = render(template_source(name), TALK[1:])
    assert "S" not in text.replace("INST", "").replace("<s>", "")
    assert text.count("U1") == text.count("U2") == 1


@pytest.mark.parametrize("name", sorted(BUILTIN_TEMPLATES))
def test_a_conversation_starts_with_what_was_evaluated_before(name: str) -> None:
    """The KV cache of one turn is the start of the next one's."""
    template = ChatTemplate(template_source(name), "<s>", "</s>")
    assert template.render(TALK).startswith(template.render(TALK[:2]))


def test_generation_prompt_is_optional() -> None:
    template = ChatTemplate(BUILTIN_TEMPLATES["chatml"])
    assert template.render(USER, add_generation_prompt=False) == "<|im_start|>user\n U1 <|im_end|>\n"


def test_what_templates_are_promised() -> None:
    assert render("{% if true %}\n    {% for m in messages %}\n{{ m.content }}\n    {% endfor %}\n{% endif %}") == (
        "S\nU1\nA1\nU2\n"
    )
    assert render("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}"
                  "{{ i }}{% endfor %}") == "02"  # fmt: skip
    assert render("a{% generation %}b{{ messages[0].role }}{% endgeneration %}c") == "absystemc"
    value = {"name": "é<&>", "list": [1, None, True]}
    assert render("{{ tools|tojson }}", tools=value) == json.dumps(value, ensure_ascii=False)
    assert render("{{ tools|tojson(indent=2) }}", tools=value) == json.dumps(value, ensure_ascii=False, indent=2)
    assert abs(int(render("{{ strftime_now('%Y') }}")) - datetime.now().year) <= 1
    assert render("{{ bos_token }}|{{ eos_token }}|{{ enable_thinking }}", enable_thinking=False) == "<s>|</s>|False"
    assert render("{{ undefined_name is defined }}{{ messages[0]['content'] }}{{ '%d' % 3 }}{{ 3 * 4 }}") == "FalseS312"
    assert (
        render("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}")
        == "4"
    )


def test_a_template_may_refuse() -> None:
    with pytest.raises(FormatError, match="roles must alternate"):
        render("{{ raise_exception('roles must\nalternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'a' * 10**12 }}",
        "{{ 10**12 * 'a' }}",
        "{{ [1] * 10**12 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% set n = namespace(v=9) %}{% for i in range(99) %}{% set n.v = n.v * n.v %}{% endfor %}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ messages[9].content }}",
        "{{ 1 / 0 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_hostile_templates_fail_soon_with_a_typed_error(source: str) -> None:
    start = time.perf_counter()
    with pytest.raises(FormatError, match=r"^chat template"):
        render(source)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ a", "{% nonsense %}", "{% for x in y %}", "x" * (1 << 21) + "{{ a }}"]
)
def test_what_is_no_jinja_is_a_format_error(source: str) -> None:
    with pytest.raises(FormatError, match=r"^file\.gguf"):
        ChatTemplate(source, name="file.gguf: tokenizer.chat_template")


def test_messages_are_checked() -> None:
    template = ChatTemplate("{{ messages }}")
    for bad, words in (
        ([], "no messages"),
        (["hi"], "message 0"),
        ([{"content": "x"}], "message 0"),
        ([USER[0], {"role": "user"}], "message 1"),
    ):
        with pytest.raises(ArgumentError, match=words):
            template.render(bad)  # type: ignore[arg-type]


def test_names() -> None:
    assert template_source("{{ x }}") == "{{ x }}"
    with pytest.raises(ArgumentError, match=re.escape(", ".join(sorted(BUILTIN_TEMPLATES)))):
        template_source("alpaca")
