"""Stories: the check of their coherence, how models of them are made, and the GPT-2 that was made for tests."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest

from nanollm import Model

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import make_default_model  # noqa: E402
import stories  # noqa: E402
import story_check  # noqa: E402

GOOD = """\
Once upon a time, there was a kind girl named Mia. She lived by a blue lake. One sunny day, Mia wanted to play with \
her red kite. But the kite got stuck on the roof. She jumped and jumped, but she was too small. Mia sat down and cried.
Then an old man came by. "Why are you crying?" asked the old man. "I can not reach my kite," said Mia. The old man \
lifted Mia up, and Mia took the kite down.
"Thank you!" said Mia. Mia played with the red kite all day long. And Mia never forgot the old man."""


# ------------------------------------------------------------------ the check


def test_a_good_story_has_no_faults() -> None:
    assert story_check.faults(GOOD) == set()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Mia sat down", "Rosa sat down", "names"),
        ("asked the old man", "asked Tom", "names"),
        ("but she was too small", "but he was too small", "pronouns"),
        ("with the red kite", "with the red drum", "things"),
        ("with the red kite", "with the green kite", "colors"),
        ("Then an old man", "Then the old man", "helper"),
        ('crying?" asked', "crying? asked", "sentences"),
        ("And Mia never forgot the old man.", "And Mia never", "end"),
    ],
)
def test_each_fault_is_found(old: str, new: str, fault: str) -> None:
    assert old in GOOD
    assert fault in story_check.faults(GOOD.replace(old, new))


def test_an_unfinished_story_has_no_end() -> None:
    assert story_check.faults(GOOD, finished=False) == {"end"}


def test_the_grammar_keeps_its_own_rules() -> None:
    fractions, told = story_check.score(lambda i: (stories.story(random.Random(i)), True), 100)
    assert fractions["all"] >= 0.95
    assert min(fractions.values()) == fractions["all"]
    assert len({text for text, _ in told}) == 100


# ------------------------------------------------------------------ models of them


def test_the_recipe_works_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    recipe = make_default_model.Recipe(
        target=Path("tiny.gguf"),
        name="tiny",
        description="Made by a test.",
        n_stories=24,
        plot=None,
        n_vocab=320,
        shape={"arch": "llama", "n-layer": 1, "n-embd": 32, "n-head": 2, "model-ctx": 64},
        steps={"ctx-size": 64, "batch-size": 8, "rate": 1e-3},
        outtype="q8_0",
    )
    done = make_default_model.make(recipe, tmp_path, seed=1, threads=1)
    first = done.read_bytes()
    with Model(done) as model:
        assert (model.metadata["general.name"], model.metadata["general.license"]) == ("tiny", "MIT")
        assert model.metadata["llama.context_length"] == 64
        assert model.generate("Once", max_tokens=4, ignore_eos=True).text
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert len(log) > 3
    done.unlink()
    assert make_default_model.make(recipe, tmp_path, seed=1, threads=1).read_bytes() == first


def test_the_sibling_writes_english() -> None:
    """Another architecture, trained by the same commands: nearly every word is one of the grammar's, or a name."""
    path = make_default_model.GPT2.target
    assert path.stat().st_size <= 250_000
    known = story_check.lexicon().plain
    with Model(path) as model:
        assert model.metadata["general.architecture"] == "gpt2"
        texts = ["".join(model.generate("Once upon a time", max_tokens=200, temperature=0.3, seed=s)) for s in range(8)]
    words = [word for text in texts for word in re.findall(r"\b[a-z]+\b", text)]
    assert len(words) > 400
    assert sum(word in known for word in words) / len(words) > 0.95
    assert len(set(words)) > 100
