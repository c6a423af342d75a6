"""Prompt cache files: the same text as without, and only what is new is evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tiny
from terminal import run

from nanollm import ArgumentError, FileError, FormatError, LimitError, Model, _core

PROMPT = "Once the dog, a cat and the hen were on the hill. "


@pytest.fixture
def model(tiny: Path) -> Iterator[Model]:
    with Model(tiny, deterministic=True) as model:
        yield model


def generate(model: Model, prompt: str, **options: Any) -> tuple[str, int, int]:
    """The text, and how many of the prompt's tokens were found and evaluated."""
    generation = model.generate(prompt, max_tokens=30, seed=7, **options)
    return generation.text, generation.timings.n_cached, generation.timings.n_prompt


# ------------------------------------------------------------------ from Python


@pytest.mark.parametrize("cache_type", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("n_batch", [1, 512])
def test_a_hit_is_the_same_text(tiny: Path, tmp_path: Path, cache_type: str, n_batch: int) -> None:
    file = tmp_path / "cache"
    longer = PROMPT + "Then it rained"
    with Model(tiny, deterministic=True, cache_type=cache_type) as model:
        text, n_cached, n = generate(model, PROMPT)
        assert n_cached == 0
        assert model.save_prompt(file, n) == n
        expected = generate(model, longer, temperature=1.5)[0]
    with Model(tiny, deterministic=True, cache_type=cache_type, n_batch=n_batch, n_threads=1) as model:
        assert model.load_prompt(file) == model.tokenize(PROMPT) == model.cached_tokens
        assert generate(model, PROMPT) == (text, n - 1, 1)
    with Model(tiny, deterministic=True, cache_type=cache_type, n_batch=n_batch) as model:
        model.load_prompt(file)
        found, n_cached, n_new = generate(model, longer, temperature=1.5)
        assert found == expected
        assert n_cached + n_new == len(model.tokenize(longer))
        assert n_cached >= n - 2  # where the texts part, tokens may be others


def test_another_prompt_takes_what_is_common(model: Model, tmp_path: Path) -> None:
    generate(model, PROMPT)
    model.save_prompt(tmp_path / "cache", 20)
    expected = generate(model, PROMPT[:12] + "sea")[0]
    assert model.load_prompt(tmp_path / "cache") == model.tokenize(PROMPT)[:20]
    text, n_cached, _ = generate(model, PROMPT[:12] + "sea")
    assert text == expected
    assert 3 < n_cached < 20
    model.load_prompt(tmp_path / "cache")
    assert generate(model, "x")[1] == 2  # the start of all texts


def test_the_session_goes_on_as_if_it_had_evaluated(tiny: Path, tmp_path: Path) -> None:
    ids = [1, *range(70, 90)]
    with _core.Gguf.open(tiny) as gguf:
        from nanollm.models import build_program

        plan = _core.Plan(_core.CoreModel(gguf, build_program(gguf)))
        a, b = _core.Session(plan), _core.Session(plan)
    a.eval(ids)
    a.save(tmp_path / "cache", ids[:15])
    assert b.load(tmp_path / "cache", 15) == ids[:15]
    assert b.n_past() == 15
    b.eval(ids[15:])
    assert np.array_equal(a.logits, b.logits)
    with pytest.raises(LimitError, match="found 15, the caller has room for 14"):
        b.load(tmp_path / "cache", 14)
    assert b.n_past() == len(ids)


def test_refusals_leave_the_model_as_it_was(model: Model, tmp_path: Path, tiny: Path) -> None:
    file, other = tmp_path / "cache", write_tiny(tmp_path / "other.gguf", n_ctx=40, name="another")
    expected = generate(model, PROMPT)[0]
    model.save_prompt(file)
    damaged = bytearray(file.read_bytes())
    damaged[1000] ^= 4
    (tmp_path / "damaged").write_bytes(damaged)
    for path, error, words in (
        (tmp_path / "damaged", FormatError, "damaged: damaged: hash: found"),
        (tmp_path / "none", FileError, "none: "),
        (tiny, FormatError, "no prompt cache"),
    ):
        with pytest.raises(error, match=words):
            model.load_prompt(path)
        assert generate(model, PROMPT)[0] == expected
    with Model(other) as another, pytest.raises(ArgumentError, match="made with another model or program"):
        another.load_prompt(file)
    with Model(tiny, cache_type="f32") as another, pytest.raises(ArgumentError, match="cache type of keys: found F16"):
        another.load_prompt(file)
    with Model(tiny, n_ctx=8) as another, pytest.raises(LimitError, match="n_ctx has room for 8"):
        another.load_prompt(file)
    with pytest.raises(FileError, match="such"):
        model.save_prompt(tmp_path / "no" / "such")
    with pytest.raises(ArgumentError, match="n_tokens: -1"):
        model.save_prompt(file, -1)


# ------------------------------------------------------------------ the command


def cli(*args: object) -> dict[str, Any]:
    done = run("nanollm-cli", *args, "-s", 5, "-n", 25, "--deterministic", "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_command(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "cache"
    plain = cli("-m", tiny, "-p", PROMPT)
    n = plain["n_prompt"]
    args = ("-m", tiny, "-p", PROMPT, "--prompt-cache", file)
    first = cli(*args)
    assert (first["text"], first["timings"]["n_cached"]) == (plain["text"], 0)
    stamp = file.stat().st_mtime_ns
    second = cli(*args)
    assert (second["text"], second["timings"]["n_cached"], second["timings"]["n_prompt"]) == (plain["text"], n - 1, 1)
    assert file.stat().st_mtime_ns == stamp  # nothing new
    # Without the option a longer prompt is the same text, and nothing is written with -ro.
    longer = PROMPT + "and then a"
    expected = cli("-m", tiny, "-p", longer)["text"]
    read_only = cli("-m", tiny, "-p", longer, "--prompt-cache", file, "--prompt-cache-ro")
    assert read_only["text"] == expected
    assert read_only["timings"]["n_cached"] >= n - 1
    assert file.stat().st_mtime_ns == stamp
    # A longer prompt replaces it, and so does all that was generated.
    assert cli("-m", tiny, "-p", longer, "--prompt-cache", file)["text"] == expected
    assert file.stat().st_mtime_ns != stamp
    size = file.stat().st_size
    assert cli("-m", tiny, "-p", longer, "--prompt-cache", file, "--prompt-cache-all")["text"] == expected
    assert file.stat().st_size > size
    done = run("nanollm-cli", *args, "-n", 1)
    assert "prompt cache: " in done.stderr


def test_command_saves_before_it_has_generated_all(tiny: Path, tmp_path: Path) -> None:
    done = run("nanollm-cli", "-m", tiny, "-p", PROMPT, "-n", 0, "--prompt-cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    with Model(tiny) as model:
        assert model.load_prompt(tmp_path / "cache") == model.tokenize(PROMPT)


def test_command_keeps_no_drafts(tiny: Path, tmp_path: Path) -> None:
    with Model(tiny) as model:
        the = model.tokenize("the the")[-1]
    text = " the" * 4  # ends in the middle of a draft
    args = ("-m", tiny, "-p", "the" + text, "--temp", 0, "-l", f"{the}+200", "-r", text, "--prompt-cache-all")
    plain = cli(*args, "--prompt-cache", tmp_path / "plain")
    drafted = cli(*args, "--prompt-cache", tmp_path / "drafted", "--lookup", 7)
    assert drafted["timings"]["n_drafted"] > drafted["timings"]["n_accepted"] > 0
    assert drafted["text"] == plain["text"] == ""
    with Model(tiny, deterministic=True) as model:
        assert model.load_prompt(tmp_path / "drafted") == model.load_prompt(tmp_path / "plain")


def test_command_in_a_conversation(chatty: Path, tmp_path: Path) -> None:
    file = tmp_path / "cache"
    args = ("-m", chatty, "-cnv", "-st", "-sys", "Be brief.", "-p", "the dog")
    plain, first = cli(*args), cli(*args, "--prompt-cache", file)
    second = cli(*args, "--prompt-cache", file)
    assert plain["text"] == first["text"] == second["text"]
    assert (first["timings"]["n_cached"], second["timings"]["n_cached"]) == (0, plain["n_prompt"] - 1)


def test_command_refusals(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no cache")
    for path, words in (
        (tmp_path / "text", "found 8 bytes"),
        (tiny, "no prompt cache"),
        (tmp_path / "no" / "such", "such"),
    ):
        done = run("nanollm-cli", "-m", tiny, "-p", PROMPT, "-n", 1, "--prompt-cache", path)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    for option in ("--prompt-cache-all", "--prompt-cache-ro"):
        done = run("nanollm-cli", "-m", tiny, "-p", PROMPT, "-n", 1, option)
        assert (done.returncode, done.stdout) == (2, "")
        assert "need --prompt-cache" in done.stderr
