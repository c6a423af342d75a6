"""Programs and chat pieces in files: what `nanollm export` writes, and that it is enough to run from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_templates
import numpy as np
import pytest
from conftest import CHAT_TEMPLATE, write_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal import run

import nanollm
from nanollm import ArgumentError, FileError, FormatError, Model, UnsupportedError, _core
from nanollm.chat import BUILTIN_TEMPLATES, ChatTemplate
from nanollm.convert import convert
from nanollm.models import base, load_definition
from nanollm.pieces import ChatPieces, split

PROGRAM = "nanollm.program"


def metadata(path: Path) -> dict[str, Any]:
    with _core.Gguf.open(path) as gguf:
        return {key: gguf[key] for key in gguf.keys()}  # noqa: SIM118 (a Gguf does not iterate)


def with_template(path: Path, source: str) -> Path:
    return write_tiny(path, template=source)


# ------------------------------------------------------------------ pieces

# Which templates take a system message, and a word of what a user is told.
EXPECTED = {
    "llama2": (True, "white space around the first question"),
    "llama3": (True, None),
    "llama32": (True, "26 Jul 2024"),
    "chatml": (True, None),
    "qwen25": (True, None),
    "qwen3": (True, "reasoning is taken out"),
    "smollm2": (True, None),
    "gemma": (False, "System role not supported"),
    "mistral_v1": (False, "refuses"),
    "mistral_v3": (False, "2 questions"),
    "phi3": (False, "passes over"),
    "zephyr": (True, None),
    "deepseek_r1": (True, "'<think>\\n' opens an answer"),
}

# Words and lines without white space at their ends; answers without reasoning.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\ue000\ue001"), min_size=1, max_size=20).filter(
    lambda s: s == s.strip() and "</think>" not in s
)


class Pieces:
    """A template's pieces as a program without Python has them: through a file and the core."""

    def __init__(self, folder: Path, source: str) -> None:
        self.path = folder / "out.gguf"
        self.report = nanollm.export(with_template(folder / "in.gguf", source), self.path)
        with _core.Gguf.open(self.path) as gguf:
            self.template = ChatTemplate(source, "<s>", "</s>")
            self.chat = _core.Chat(gguf)

    def joined(self, users: list[str], answers: list[str], system: str | None) -> str:
        text = self.chat.turn(users[0], system)
        for user, answer in zip(users[1:], answers, strict=True):
            text += answer + self.chat.turn(user, None, False)
        return text


@pytest.fixture(scope="module", params=sorted(chat_templates.ALL))
def named_pieces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Pieces]:
    return request.param, Pieces(tmp_path_factory.mktemp(request.param), chat_templates.ALL[request.param])


def messages_of(users: list[str], answers: list[str], system: str | None) -> list[dict[str, str]]:
    messages = [] if system is None else [{"role": "system", "content": system}]
    for i, user in enumerate(users):
        messages.append({"role": "user", "content": user})
        if i < len(answers):
            messages.append({"role": "assistant", "content": answers[i]})
    return messages


def rendered(pieces: Pieces, messages: list[dict[str, str]]) -> str:
    """As nanollm-cli renders it, on the day that the pieces have."""
    return pieces.template.render(messages, date_string="26 Jul 2024")


def test_pieces_of_the_templates_that_models_have(named_pieces: tuple[str, Pieces]) -> None:
    name, pieces = named_pieces
    has_system, word = EXPECTED[name]
    found = pieces.report.pieces
    assert found is not None
    assert found.has_system == has_system
    assert (word is None and pieces.report.notes == ()) or (word is not None and word in pieces.report.notes[0])
    assert len(pieces.report.notes) <= 1
    values = metadata(pieces.path)
    assert {k: v for k, v in values.items() if k.startswith("nanollm.chat.")} == found.metadata()
    if not has_system:
        with pytest.raises(UnsupportedError, match="no place for a system message"):
            pieces.chat.turn("U", "S")


@settings(deadline=None, max_examples=40)
@given(users=st.lists(texts, min_size=1, max_size=4), answers=st.lists(texts, min_size=3, max_size=3), system=texts)
def test_any_conversation_is_the_templates_text(
    named_pieces: tuple[str, Pieces], users: list[str], answers: list[str], system: str
) -> None:
    """Turn by turn out of pieces, with the answers as models write them, the text is what the template renders."""
    name, pieces = named_pieces
    answers = answers[: len(users) - 1]
    # What a model writes first itself, after "[/INST]", and what a template takes out of earlier answers.
    lead = " " if name in ("llama2", "mistral_v3") else ""
    for s in (None, system) if EXPECTED[name][0] else (None,):
        text = rendered(pieces, messages_of(users, answers, s))
        if name == "deepseek_r1":
            text = text.replace("<|Assistant|>", "<|Assistant|><think>\n").replace("<think>\n<think>\n", "<think>\n")
        assert pieces.joined(users, [lead + answer for answer in answers], s) == text


def test_white_space_at_the_ends_of_messages(named_pieces: tuple[str, Pieces]) -> None:
    name, pieces = named_pieces
    for user in (" U ", "\n\tU\u00a0\u2003\x1c", "\u200bU\u200b"):
        assert pieces.chat.turn(user) == rendered(pieces, messages_of([user], [], None))
        if EXPECTED[name][0]:
            assert pieces.chat.turn("U", user) == rendered(pieces, messages_of(["U"], [], user))


@pytest.mark.parametrize("name", sorted(BUILTIN_TEMPLATES))
def test_builtin_pieces_are_the_builtin_templates(tiny: Path, name: str) -> None:
    """The core's table and chat.py's Jinja are the same templates."""
    assert _core.Chat.names() == sorted(BUILTIN_TEMPLATES)
    with _core.Gguf.open(tiny) as gguf:
        chat = _core.Chat(None, _core.Tokenizer(gguf), name)
    template = ChatTemplate(BUILTIN_TEMPLATES[name], "<s>", "</s>")
    for user in ("U", " U \n"):
        for system in (None, "S", " S\n"):
            assert chat.turn(user, system) == template.render(messages_of([user], [], system))
            talk = template.render(messages_of(["V", user], ["A"], system))
            lead = " " if name in ("llama2", "mistral") else ""
            assert talk == chat.turn("V", system) + lead + "A" + chat.turn(user, None, False)
    pieces, notes = split(template)
    assert pieces.has_system
    assert not notes


EACH = "{% for m in messages %}[{{ m.role }}]"

REFUSED = {
    "tools only": ("{{ raise_exception('needs tools') if not tools }}", "needs tools"),
    "the last question only": ("{{ messages[-1].content }}[answer]", "of the messages U, A, V the text has V"),
    "upper case": (f"{EACH}{{{{ m.content|upper }}}}{{% endfor %}}[assistant]", "depends on it: 'What is 2 + 2?'"),
    "twice": ("{% for m in messages %}{{ m.content }}{{ m.content }}|{% endfor %}", "has U, U"),
    "numbered": (
        f"{EACH}{{{{ loop.index if m.role == 'user' }}}}{{{{ m.content }}}}{{% endfor %}}[assistant]",
        "of 3 questions",
    ),
    "of a word": (
        f"{EACH}{{{{ m.content.replace('no_think', '') }}}}{{% endfor %}}[assistant]",
        "depends on it: '<think>x</think> /no_think'",
    ),
    "broken": ("{% for m in messages %}", "endfor"),
    "no string": ("{% for m in messages %}{{ m.content.a.b }}{% endfor %}", "has no attribute"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_apart_is_named(tmp_path: Path, name: str) -> None:
    source, words = REFUSED[name]
    report = nanollm.export(with_template(tmp_path / "in.gguf", source))
    assert report.pieces is None
    assert len(report.notes) == 1
    assert words in report.notes[0]
    assert "in.gguf: tokenizer.chat_template" in report.notes[0]
    assert "--chat-template NAME" in report.notes[0]
    values = metadata(report.path)
    assert PROGRAM in values
    assert not any(key.startswith("nanollm.chat.") for key in values)


def test_a_date_without_a_choice_is_told() -> None:
    source = "{{ strftime_now('%Y') }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    pieces, notes = split(ChatTemplate(source, name="t"))
    assert pieces.open[:2] == "20"
    assert len(notes) == 1
    assert "fixed as that of 20" in notes[0]


def test_a_date_beside_the_system_message_alone_is_told() -> None:
    day = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}1 May 2024{% endif %}"
    source = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'system' %}" + day + " {% endif %}{{ m.content }}"
        "{% endfor %}[assistant]"
    )
    pieces, notes = split(ChatTemplate(source, name="t"))
    assert pieces.system_open == "[system]1 May 2024 "
    assert len(notes) == 1
    assert "fixed as '1 May 2024'" in notes[0]


def test_a_template_of_another_kind(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "in.gguf")
    with _core.Gguf.open(source) as gguf, _core.GgufWriter(tmp_path / "odd.gguf") as writer:
        for key in gguf.keys():  # noqa: SIM118
            writer.copy(gguf, key)
        writer.set("tokenizer.chat_template", "uint32", 7)
        for tensor in gguf.tensors:
            writer.add_tensor(tensor.name, tensor.shape, tensor.type)
        for tensor in gguf.tensors:
            writer.write(gguf.tensor_data(tensor.name))
    report = nanollm.export(tmp_path / "odd.gguf")
    assert report.pieces is None
    assert "found int, expected a string" in report.notes[0]


# ------------------------------------------------------------------ files


def test_export_keeps_all_else(chatty: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    seen: list[int] = []
    report = nanollm.export(chatty, out, progress=lambda done, total, name: seen.append(done))
    assert report.path == out
    assert report.program_version == _core.PROGRAM_VERSION == 1
    assert seen == sorted(seen)
    old, new = metadata(chatty), metadata(out)
    added = {PROGRAM, *(f"nanollm.chat.{name}" for name in ("open", "answer", "next", "system_open", "system_close"))}
    assert new.keys() - old.keys() == added | {"nanollm.chat.trim", "nanollm.chat.trim_system"}
    assert len(new[PROGRAM]) == report.program_bytes
    for key, value in old.items():
        assert np.array_equal(new[key], value), key
    with _core.Gguf.open(chatty) as a, _core.Gguf.open(out) as b:
        assert [(t.name, t.shape, t.type) for t in a.tensors] == [(t.name, t.shape, t.type) for t in b.tensors]
        assert all(bytes(a.tensor_data(t.name)) == bytes(b.tensor_data(t.name)) for t in a.tensors)
    again = nanollm.export(out, tmp_path / "again.gguf")
    assert again.path.read_bytes() == out.read_bytes()


def test_default_names_and_refusals(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "m.gguf")
    assert nanollm.export(source).path == tmp_path / "m-nanollm.gguf"
    before = source.read_bytes()
    (tmp_path / "link.gguf").symlink_to(source)
    (tmp_path / "hard.gguf").hardlink_to(source)
    for name in ("m.gguf", "link.gguf", "hard.gguf", "../" + tmp_path.name + "/m.gguf"):
        with pytest.raises(ArgumentError, match="the file to write is the file to read"):
            nanollm.export(source, tmp_path / name)
    with pytest.raises(ArgumentError, match="sidecar"):
        nanollm.export(source, tmp_path / "x", sidecar=True)
    with pytest.raises(FileError):
        nanollm.export(source, tmp_path / "no" / "such.gguf")
    assert source.read_bytes() == before


def test_an_exception_leaves_no_file(tiny: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nanollm.export(tiny, tmp_path / "out.gguf", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_convert_and_quantize_put_both_in(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "in.gguf", template=CHAT_TEMPLATE)
    exported = metadata(nanollm.export(source).path)
    both = {key: value for key, value in exported.items() if key.startswith("nanollm.")}
    assert len(both) == 8
    convert(source, tmp_path / "c.gguf", report=lambda note: None)
    nanollm.quantize(source, tmp_path / "q.gguf", "q8_0")
    nanollm.quantize(tmp_path / "c.gguf", tmp_path / "cq.gguf", "q8_0")
    for name in ("c", "q", "cq"):
        values = metadata(tmp_path / f"{name}.gguf")
        assert values.keys() >= both.keys()
        assert all(np.array_equal(values[key], value) for key, value in both.items())
    # Another template has other pieces.
    other = {"tokenizer.chat_template": chat_templates.CHATML}
    nanollm.quantize(tmp_path / "c.gguf", tmp_path / "o.gguf", "copy", override_kv=other)
    assert metadata(tmp_path / "o.gguf")["nanollm.chat.open"] == "<|im_start|>user\n"


# ------------------------------------------------------------------ architectures of one's own

DEFINITION = """
from nanollm.models import Architecture, decoder, register


def build(g, c):
    x = g.rows("token_embd.weight", g.tokens)
    for i in range(c.n_layer):
        b = g.scope(f"blk.{i}")
        h = g.rms_norm(x, b.w("attn_norm"), c.norm_eps)
        q = g.view(g.linear(h, b.w("attn_q")), c.n_head, c.head_dim)
        k = g.view(g.linear(h, b.w("attn_k")), c.n_head_kv, c.head_dim)
        v = g.view(g.linear(h, b.w("attn_v")), c.n_head_kv, c.head_dim)
        a = g.attention(decoder.rotate(g, q, c), decoder.rotate(g, k, c), v, layer=i)
        f = g.swiglu(g.linear(h, b.w("ffn_gate")), g.linear(h, b.w("ffn_up")))  # side by side with attention
        x = g.add(x, g.add(g.linear(a, b.w("attn_output")), g.linear(f, b.w("ffn_down"))))
        x = g.rms_norm(x, b.w("ffn_norm"), c.norm_eps)
    return g.linear(g.rms_norm(g.wanted(x), g.w("output_norm"), c.norm_eps), g.w("output", tied="token_embd"))


register(Architecture("parallel", read=lambda m: decoder.read(m, "pairs"), build=build))
"""


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(base._registry)
    yield
    base._registry.clear()
    base._registry.update(before)


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A file of an architecture that nobody knows, and its definition."""
    with (
        _core.Gguf.open(write_tiny(tmp_path / "llama.gguf")) as gguf,
        _core.GgufWriter(tmp_path / "own.gguf") as writer,
    ):
        for key in gguf.keys():  # noqa: SIM118
            if key == "general.architecture":
                writer.set(key, "string", "parallel")
            elif key.startswith("llama."):
                writer.set(key.replace("llama.", "parallel."), gguf.kind(key)[0], gguf[key])
            else:
                writer.copy(gguf, key)
        for tensor in gguf.tensors:
            writer.add_tensor(tensor.name, tensor.shape, tensor.type)
        for tensor in gguf.tensors:
            writer.write(gguf.tensor_data(tensor.name))
    (tmp_path / "definition.py").write_text(DEFINITION)
    return tmp_path / "own.gguf", tmp_path / "definition.py"


IDS = [1, 70, 80, 260, 270, 65, 300]


def core_logits(path: Path, program: bytes) -> np.ndarray[Any, Any]:
    """With nothing but the core."""
    with _core.Gguf.open(path) as gguf:
        plan = _core.Plan(_core.CoreModel(gguf, program))
        session = _core.Session(plan)
        session.eval(IDS)
        return np.array(session.logits[-1])


def test_an_architecture_of_ones_own_runs_from_the_file_alone(
    own: tuple[Path, Path], tmp_path: Path, registry: None
) -> None:
    path, definition = own
    with pytest.raises(UnsupportedError, match="'parallel', known are"):
        nanollm.export(path)
    assert load_definition(definition) == ["parallel"]
    with Model(path) as model:
        expected = model.logits(IDS)
    report = nanollm.export(path, tmp_path / "out.gguf")
    nanollm.export(path, sidecar=True)
    del base._registry["parallel"]
    sidecar = Path(f"{path}.nanollm")
    for file, where in ((report.path, report.path), (path, sidecar)):
        with Model(file) as model:
            assert np.array_equal(model.logits(IDS), expected)
        program = bytes(metadata(where)[PROGRAM])
        assert len(program) == report.program_bytes
        assert np.array_equal(core_logits(file, program), expected[-1])
    # What the sidecar has goes along.
    assert bytes(metadata(nanollm.export(path, tmp_path / "whole.gguf").path)[PROGRAM]) == program
    nanollm.quantize(path, tmp_path / "q.gguf", "q8_0")
    assert bytes(metadata(tmp_path / "q.gguf")[PROGRAM]) == program
    sidecar.unlink()
    with pytest.raises(UnsupportedError, match="'parallel', known are"):
        Model(path)


def test_definitions_that_are_none(tmp_path: Path, registry: None) -> None:
    for name, text, words in (
        ("a.py", "x = 1", "registers no architecture"),
        ("b.py", "1 / 0", "ZeroDivisionError"),
        ("c.py", "def", "SyntaxError"),
        ("d.txt", "x = 1", "no Python file"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ArgumentError, match=words):
            load_definition(tmp_path / name)
    with pytest.raises(FileError, match=r"no\.py: no such file"):
        load_definition(tmp_path / "no.py")


# ------------------------------------------------------------------ damage


def damaged(path: Path, program: Any, kind: str = "uint8") -> None:
    """A sidecar with another program."""
    with _core.GgufWriter(path) as writer:
        writer.set(PROGRAM, kind, program)


def test_a_program_that_is_damaged_or_newer_is_named(own: tuple[Path, Path], registry: None) -> None:
    path, definition = own
    load_definition(definition)
    sidecar = nanollm.export(path, sidecar=True).path
    del base._registry["parallel"]
    good = list(metadata(sidecar)[PROGRAM])
    where = rf"own\.gguf\.nanollm: {PROGRAM}: "
    damaged(sidecar, good[:50])
    with pytest.raises(FormatError, match=where + "program: ends too early at byte 40 of 50"):
        Model(path)
    damaged(sidecar, [*good[:4], 9, *good[5:]])
    with pytest.raises(UnsupportedError, match=where + "program: needs program version 9, this build has 1"):
        Model(path)
    damaged(sidecar, "text", "string")
    with pytest.raises(FormatError, match=where + "found string, expected an array of uint8"):
        Model(path)
    with _core.GgufWriter(sidecar) as writer:
        writer.set("general.name", "string", "nothing")
    with pytest.raises(nanollm.NotFoundError, match=rf"nanollm: {PROGRAM}: not found"):
        Model(path)


# ------------------------------------------------------------------ the command


def test_command(own: tuple[Path, Path], tmp_path: Path) -> None:
    path, definition = own
    done = run("nanollm", "export", path)
    assert done.returncode == 1
    assert "'parallel', known are" in done.stderr
    done = run("nanollm", "export", path, "--definition", definition, "-o", tmp_path / "out.gguf")
    assert done.returncode == 0, done.stderr
    assert "out.gguf: program version 1 (" in done.stderr
    assert "no chat pieces" in done.stderr
    text = run("nanollm-cli", "-m", tmp_path / "out.gguf", "-p", "the", "-n", "20", "--temp", "0")
    assert text.returncode == 0, text.stderr
    done = run("nanollm", "export", path, "--definition", definition, "--sidecar", "--json")
    result = json.loads(done.stdout)
    assert result["path"] == f"{path}.nanollm"
    assert result["chat"] is None
    again = run("nanollm-cli", "-m", path, "-p", "the", "-n", "20", "--temp", "0")
    assert again.stdout == text.stdout != ""
    done = run("nanollm", "convert", path, "-o", tmp_path / "c.gguf", "--definition", definition)
    assert done.returncode == 0, done.stderr
    assert bytes(metadata(tmp_path / "c.gguf")[PROGRAM]) == bytes(metadata(tmp_path / "out.gguf")[PROGRAM])


def test_command_refusals(tiny: Path, tmp_path: Path) -> None:
    for args, code, words in (
        ((tiny, "-o", tiny), 2, "the file to write is the file to read"),
        ((tiny, "-o", "x", "--sidecar"), 2, "give one of the two"),
        ((tiny, "--definition", tmp_path / "no.py"), 1, "no such file"),
        ((tmp_path / "no.gguf",), 1, "no.gguf"),
    ):
        done = run("nanollm", "export", *args)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_info_tells_what_is_inside(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "in.gguf", template=chat_templates.GEMMA)
    out = nanollm.export(source)
    sidecar = nanollm.export(source, sidecar=True)

    def info(path: Path) -> tuple[str, dict[str, Any]]:
        return run("nanollm", "info", path).stdout, json.loads(run("nanollm", "info", path, "--json").stdout)

    text, facts = info(source)
    assert (facts["program"], facts["chat_pieces"]) == (None, None)
    assert "none inside (nanollm export adds it)" in text
    for path, kind in ((out.path, "model"), (sidecar.path, "sidecar")):
        text, facts = info(path)
        assert facts["kind"] == kind
        assert facts["program"] == {"version": 1, "bytes": out.program_bytes, "problem": None}
        assert facts["chat_pieces"] == {"system": False, "problem": None}
        assert "version 1, " in text
        assert "inside, without system messages" in text
    damaged(sidecar.path, [1, 2, 3])
    text, facts = info(sidecar.path)
    assert facts["program"]["version"] is None
    assert "ends too early" in facts["program"]["problem"]


def test_pieces_have_a_name_each() -> None:
    """The keys in files are those that ggml_core.h documents."""
    pieces = ChatPieces("o", "a", "n", "so", "sc", True, False)
    names = {"open", "answer", "next", "system_open", "system_close", "trim", "trim_system"}
    assert set(pieces.metadata()) == {f"nanollm.chat.{name}" for name in names}
    assert set(ChatPieces("o", "a", "n").metadata()) == {
        f"nanollm.chat.{name}" for name in ("open", "answer", "next", "trim", "trim_system")
    }
