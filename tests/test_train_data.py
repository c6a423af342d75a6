"""Documents of training data, their tokens, the windows and the order they are read in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHAT_TEMPLATE

from nanollm import ArgumentError, FileError, FormatError, NotFoundError, _core
from nanollm.chat import ChatTemplate
from nanollm.train import Corpus, Order

N_CTX = 16
TEXT = "Once upon a time there was a fox.\nIt sat in the sun, and it ate a pear.\n\nThe end.\n" * 5


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> _core.Tokenizer:
    return _core.Tokenizer(_core.Gguf.open(tiny))


def corpus(tokenizer: _core.Tokenizer, *files: Path, n_ctx: int = N_CTX, **options: Any) -> Corpus:
    return Corpus(files, tokenizer, n_ctx, n_vocab=tokenizer.n_tokens, **options)


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def plain(ids: np.ndarray[Any, Any]) -> list[int]:
    """The ids, whether they are learnt or not."""
    return np.where(ids < 0, ~ids, ids).tolist()


def learnt(tokenizer: _core.Tokenizer, data: Corpus, number: int = 0) -> str:
    """The text of the targets of a sequence."""
    batch = data.batch([number])
    return tokenizer.decode(batch.targets[batch.targets >= 0].tolist(), True)


def test_windows_read_every_token_of_a_text_once(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    data = corpus(tokenizer, tmp_path / "a.txt")
    ids = [1, *tokenizer.encode(TEXT, False), 2]
    assert plain(data.ids) == ids
    batches = [data.batch([i]) for i in range(len(data))]
    assert [t for b in batches for t in b.tokens.tolist()] == ids[:-1]
    assert [t for b in batches for t in b.targets.tolist()] == ids[1:]
    assert all(len(b.tokens) == N_CTX for b in batches[:-1])


def test_a_batch_has_sequences_side_by_side(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    data = corpus(tokenizer, tmp_path / "a.txt")
    batch = data.batch([2, 0])
    assert batch.slots.tolist() == [0] * N_CTX + [1] * N_CTX
    assert batch.tokens.tolist() == data.batch([2]).tokens.tolist() + data.batch([0]).tokens.tolist()
    assert batch.tokens.dtype == batch.slots.dtype == batch.targets.dtype == np.int32
    assert batch.n_targets == 2 * N_CTX


def test_texts_lie_end_to_end_or_each_alone(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("the fox\n<|end|>\nthe sea\n<|end|>\n")
    packed = corpus(tokenizer, file, n_ctx=100, separator="<|end|>")
    fox, sea = ([1, *tokenizer.encode(text, False), 2] for text in ("the fox", "the sea"))
    assert len(packed) == 1
    assert packed.batch([0]).tokens.tolist() == [*fox, *sea[:-1]]
    # That another text begins is not to be learnt.
    assert packed.batch([0]).targets[len(fox) - 1] < 0
    alone = corpus(tokenizer, file, n_ctx=100, separator="<|end|>", pack=False)
    assert [alone.batch([i]).tokens.tolist() for i in range(len(alone))] == [fox[:-1], sea[:-1]]


@pytest.mark.parametrize("vocabulary", ["gpt-2", "llama-bpe", "qwen2", "llama-spm"])
def test_a_long_text_is_tokenised_in_pieces_as_if_it_were_whole(data_dir: Path, vocabulary: str) -> None:
    tokenizer = _core.Tokenizer(_core.Gguf.open(data_dir / f"ggml-vocab-{vocabulary}.gguf"))
    file = data_dir / "tinyshakespeare.txt"
    data = corpus(tokenizer, file, n_ctx=256)
    ids = tokenizer.encode(file.read_text(encoding="utf-8"), False)
    start = 1 if tokenizer.adds_bos else 0
    assert plain(data.ids)[start : start + len(ids)] == ids
    assert len(data.ids) == start + len(ids) + 1


def test_records(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl", {"text": "the sea"}, {"prompt": "the fox", "completion": " in a pear"}, {"text": "a sun"}
    )
    data = corpus(tokenizer, file)
    assert [learnt(tokenizer, data, i) for i in range(3)] == ["the sea</s>", "in a pear</s>", "a sun</s>"]
    assert tokenizer.decode(data.batch([1]).tokens.tolist()) == "the fox in a pear"


def test_of_a_conversation_the_assistants_words_are_learnt(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "the fox"},
        {"role": "assistant", "content": "in the sea"},
        {"role": "user", "content": "and"},
        {"role": "assistant", "content": "the end"},
    ]
    file = write_lines(tmp_path / "chat.jsonl", {"messages": messages})
    template = ChatTemplate(CHAT_TEMPLATE, "<s>", "</s>")
    data = corpus(tokenizer, file, n_ctx=200, template=template)
    assert learnt(tokenizer, data) == "in the sea</s>the end</s>"
    batch = data.batch([0])
    prompt = tokenizer.encode(template.render(messages[:2]), False, True)
    assert batch.tokens[: len(prompt)].tolist() == prompt  # what the model is asked later begins the same
    assert prompt[0] == 1
    assert prompt.count(1) == batch.tokens.tolist().count(1) == 1


def test_a_template_that_writes_earlier_answers_otherwise(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    """Each answer is then learnt as the last of a conversation of its own."""
    source = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and loop.last %}!{% endif %}{{ m.content }}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    talk = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b")) * 2]
    file = write_lines(tmp_path / "chat.jsonl", {"messages": talk})
    data = corpus(tokenizer, file, n_ctx=200, template=ChatTemplate(source, "<s>", "</s>"))
    assert [learnt(tokenizer, data, i) for i in range(len(data))] == ["!b</s>", "!b</s>"]


def test_what_is_behind_the_end_of_a_turn_is_not_learnt(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ m.content }}{{ eos_token }}the sea{% endfor %}"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    file = write_lines(tmp_path / "chat.jsonl", {"messages": messages})
    data = corpus(tokenizer, file, n_ctx=200, template=ChatTemplate(source, "<s>", "</s>"))
    assert learnt(tokenizer, data) == "b</s>"


def test_examples_that_are_too_long_are_cut_off_and_told(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl",
        {"prompt": "the", "completion": " fox" * 20},
        {"prompt": "the" * 40, "completion": "fox"},
        {"prompt": "a", "completion": "b"},
    )
    data = corpus(tokenizer, file)
    assert len(data) == 2
    assert len(data.batch([0]).tokens) == N_CTX
    assert data.notes == [
        "2 of 3 examples are longer than 16 tokens: cut off there",
        "1 of 3 examples leave nothing to learn: left out",
    ]


def test_refusals(tokenizer: _core.Tokenizer, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, content: str, name: str = "a.jsonl", **options: Any) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(error, match=match):
            corpus(tokenizer, tmp_path / name, **options)

    refused(FormatError, "a.jsonl, line 2: not JSON", '{"text": "a"}\n{"text": \n')
    refused(FormatError, r"line 1: keys: found 'txt', expected messages", '{"txt": "a"}\n')
    refused(FormatError, "line 1: completion: found none, expected a string", '{"prompt": "a"}\n')
    refused(FormatError, "line 1: text: found int, expected a string", '{"text": 3}\n')
    refused(FormatError, "line 1: found list, expected a JSON object", "[1]\n")
    refused(NotFoundError, "line 1: a conversation needs a chat template", '{"messages": []}\n')
    template = ChatTemplate(CHAT_TEMPLATE)
    refused(FormatError, "line 1: messages: found int, expected a list", '{"messages": 1}\n', template=template)
    for message in ("3", "{}", '{"role": 3, "content": "a"}'):
        refused(FormatError, "line 1: message 0: expected", f'{{"messages": [{message}]}}\n', template=template)
    bad = '{"messages": [{"role": "assistant"}]}\n'
    refused(ArgumentError, "line 1: chat: ", bad, template=template)
    refused(ArgumentError, "nothing to learn from", "", name="empty.txt")
    long = json.dumps({"prompt": "a" * 99, "completion": "b"})
    refused(ArgumentError, "nothing to learn from; 1 of 1 examples are longer than 8 tokens", long, n_ctx=8)
    with pytest.raises(FileError, match=r"gone\.txt: No such file"):
        corpus(tokenizer, tmp_path / "gone.txt")


def test_a_full_temporary_folder_is_named(
    tokenizer: _core.Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "a.txt").write_text("The fox sees the sea.\n" * 5000)
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda prefix: full)
        with pytest.raises(FileError, match=r"\(TMPDIR\), which keeps the data's tokens: No space left on device"):
            corpus(tokenizer, tmp_path / "a.txt")


def test_each_sequence_is_read_once_an_epoch_in_an_order_of_the_seed() -> None:
    order = Order(50, seed=7)
    epochs = [[order[k] for k in range(e * 50, (e + 1) * 50)] for e in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert Order(50, seed=7)[63] == epochs[1][13]  # the place alone decides: a run can go on anywhere
    assert [Order(50, seed=8)[k] for k in range(50)] != epochs[0]
