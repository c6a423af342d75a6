"""The model inside the package: small, honest about what it is, and able to tell a story."""

import re
from pathlib import Path

import pytest

from nanollm import Model
from nanollm.model import default_model_path


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def test_it_is_small_and_says_what_it_is(model: Model) -> None:
    assert Path(default_model_path()).stat().st_size <= 1_500_000
    assert "placeholder" in model.metadata["general.name"]
    assert "placeholder" in model.metadata["general.description"]


def test_it_tells_a_whole_story(model: Model) -> None:
    prompt = "Once upon a time, there was a little girl named Mia."
    text = prompt + "".join(model.generate(prompt, max_tokens=400, temperature=0))
    assert 60 <= len(text.split()) <= 200
    assert text.count("Mia") >= 3
    assert text.endswith(".")
    assert not re.search(r"\b(he|his|him)\b", text.split("\n")[0])


def test_a_seed_is_a_story(model: Model) -> None:
    first, again, other = ("".join(model.generate("Once upon a time", max_tokens=60, seed=s)) for s in (1, 1, 2))
    assert first == again
    assert first != other
