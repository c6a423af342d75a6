"""Prompt lookup: the same tokens as without it, in fewer steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from terminal import run

from nanollm import ArgumentError, Generation, Model, _core

SAMPLERS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "repeat_penalty": 1.3, "penalty_last_n": -1},
    {"temperature": 0.3},
    {"temperature": 0.7, "top_k": 3},
    {"temperature": 0.5, "presence_penalty": 0.4, "frequency_penalty": 0.2, "penalty_last_n": 20},
    {"temperature": 0.6, "typical_p": 0.7, "top_k": 0},
    {"temperature": 0.8, "mirostat": 1, "mirostat_tau": 2.0},
    {"temperature": 0.8, "mirostat": 2, "mirostat_tau": 2.0},
    {"temperature": 0.4, "logit_bias": {40: 2.0, 41: float("-inf")}},
]
PROMPT = "Once upon a time, there was a little girl. Once upon a time, there was a little"


@pytest.fixture(scope="module")
def story_model(stories: Path) -> Iterator[Model]:
    with Model(stories, n_threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def tiny_model(tiny: Path) -> Iterator[Model]:
    with Model(tiny, n_threads=1) as model:
        yield model


def n_steps(generation: Generation) -> int:
    return generation.timings.n_eval - generation.timings.n_accepted


def both(model: Model, prompt: str | Sequence[int], **options: Any) -> tuple[Generation, Generation]:
    """A finished generation without lookup and one with it."""
    lookup = options.pop("lookup", 7)
    one = model.generate(prompt, **options)
    plain = list(one)
    two = model.generate(prompt, lookup=lookup, **options)
    assert list(two) == plain
    assert two.ids == one.ids
    assert two.finish_reason == one.finish_reason
    assert (one.timings.n_drafted, one.timings.n_accepted) == (0, 0)
    assert two.timings.n_eval == one.timings.n_eval
    assert two.timings.n_sample == one.timings.n_sample
    assert two.timings.n_accepted <= two.timings.n_drafted
    return one, two


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_tokens_for_every_sampler(story_model: Model, sampler: dict[str, Any], seed: int) -> None:
    _, two = both(story_model, PROMPT, seed=seed, max_tokens=80, **sampler)
    assert two.timings.n_drafted > 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_tokens_where_nothing_can_be_foreseen(tiny_model: Model, sampler: dict[str, Any]) -> None:
    both(tiny_model, "the end the end the", seed=5, max_tokens=90, **sampler)


@pytest.mark.parametrize("lookup", [1, 2, 3, 15])
def test_the_same_tokens_for_every_length_of_draft(story_model: Model, lookup: int) -> None:
    _, two = both(story_model, PROMPT, lookup=lookup, seed=1, temperature=0.2, max_tokens=60)
    assert two.timings.n_drafted > 0


def test_repetitive_text_takes_fewer_steps(story_model: Model) -> None:
    ids = story_model.tokenize("One day, Tim and Sam went to the park. They saw a big dog. " * 4)
    one, two = both(story_model, ids, temperature=0, max_tokens=100, ignore_eos=True)
    assert n_steps(one) == 99
    assert n_steps(two) < 90
    assert two.timings.n_accepted == n_steps(one) - n_steps(two)


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 3, 5, 11])
def test_max_tokens_end_in_the_middle_of_a_draft(story_model: Model, max_tokens: int) -> None:
    one, two = both(story_model, "a b a b a b a b a b", temperature=0, logit_bias=_loop(story_model), seed=1,
                    max_tokens=max_tokens, lookup=15)  # fmt: skip
    assert len(one.ids) == max_tokens
    assert two.finish_reason == "length"


def _loop(model: Model) -> dict[int, float]:
    """Leaves one token to draw."""
    return {model.tokenize("a", add_special=False)[-1]: 1000.0}


def test_the_end_of_the_context_in_the_middle_of_a_draft(tiny_model: Model) -> None:
    one, two = both(tiny_model, "a a a a", temperature=0, logit_bias=_loop(tiny_model), lookup=15)
    assert one.finish_reason == two.finish_reason == "context"
    assert len(two.prompt_ids) + len(two.ids) == tiny_model.n_ctx + 1
    assert n_steps(two) < n_steps(one) / 4


def test_a_stop_text_in_the_middle_of_a_draft(tiny_model: Model) -> None:
    def period_of_five(ids: Sequence[int], logits: NDArray[np.float32]) -> None:
        logits[:] = -10
        logits[260 + len(ids) % 5] = 10

    stop = tiny_model.spelling(263)
    for skip in (0, 3):
        prompt = [1, *[260 + i % 5 for i in range(1, 30 + skip)]]
        one, two = both(tiny_model, prompt, temperature=0, logits_processor=period_of_five, stop=[stop * 2, stop])
        assert one.finish_reason == two.finish_reason == "stop"
        assert one.text_so_far == two.text_so_far


def test_an_end_token_in_the_middle_of_a_draft(tiny_model: Model) -> None:
    eos = tiny_model.tokenizer.eos
    assert eos is not None
    text = [300, 301, 302, 303, eos, 299, 300, 301, 302]

    def goes_on(ids: Sequence[int], logits: NDArray[np.float32]) -> None:
        logits[:] = -10
        logits[{300: 301, 301: 302, 302: 303, 303: eos}.get(ids[-1], 300)] = 10

    one, two = both(tiny_model, text, temperature=0, logits_processor=goes_on)
    assert one.ids == [303, eos]
    assert two.finish_reason == "stop"
    assert two.ended_by_model
    # What a draft put behind the end is no part of what follows.
    more = [*text, 303, eos, 299, 300]
    one, two = both(tiny_model, more, temperature=0, seed=1, max_tokens=20)


def test_a_processor_sees_the_same_tokens_and_logits(story_model: Model) -> None:
    seen: list[tuple[tuple[int, ...], bytes]] = []

    def note(ids: Sequence[int], logits: NDArray[np.float32]) -> None:
        seen.append((tuple(ids), logits.tobytes()))

    one, _ = both(story_model, PROMPT, temperature=0.3, seed=4, max_tokens=50, logits_processor=note)
    assert len(seen) == 2 * len(one.ids)
    assert seen[: len(one.ids)] == seen[len(one.ids) :]


def test_generations_that_take_turns(story_model: Model) -> None:
    options: dict[str, Any] = {"temperature": 0.3, "max_tokens": 40, "seed": 7}
    prompts = [PROMPT, "Tom had a red ball. Tom had a red"]
    expected = [story_model.generate(prompt, **options).text for prompt in prompts]
    open_now = [story_model.generate(prompt, lookup=6, **options) for prompt in prompts]
    texts = ["", ""]
    while any(generation.finish_reason is None for generation in open_now):
        for i, generation in enumerate(open_now):
            texts[i] += next(generation, "")
    assert texts == expected


def test_what_is_evaluated_between_two_draws_does_no_harm(story_model: Model) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30}
    expected = story_model.generate(PROMPT, **options).text
    generation = story_model.generate(PROMPT, lookup=6, **options)
    pieces = []
    for piece in generation:
        pieces.append(piece)
        if len(pieces) % 3 == 0:
            story_model.logits([1, 2, 3])
    assert "".join(pieces) == expected


def test_the_kv_cache_is_right_afterwards(story_model: Model) -> None:
    first = story_model.generate(PROMPT, temperature=0, max_tokens=21, lookup=9)
    list(first)
    follow = first.prompt_ids + first.ids
    again = story_model.generate(follow, temperature=0, max_tokens=20, lookup=9)
    list(again)
    assert again.timings.n_cached >= len(follow) - 1
    story_model.logits([1])
    fresh = story_model.generate(follow, temperature=0, max_tokens=20)
    list(fresh)
    assert fresh.timings.n_cached < 2
    assert fresh.ids == again.ids


def test_a_text_that_only_seems_to_repeat_itself_is_left_alone(tiny_model: Model) -> None:
    def never_twice(ids: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Each time another token comes after token 300."""
        logits[:] = -10
        logits[300 if ids[-1] != 300 else 10 + len(ids)] = 10

    _, two = both(tiny_model, [1, 300], temperature=0, max_tokens=100, logits_processor=never_twice)
    assert 0 < two.timings.n_drafted <= 7 * 7  # with pauses of 1, 3, 7, 15, 31 tokens between
    assert two.timings.n_accepted == 0


def test_the_plan_bounds_a_draft(stories: Path) -> None:
    for limits in ({"n_outputs": 3}, {"n_batch": 3}, {"n_outputs": 1}, {"n_batch": 1}):
        with Model(stories, n_threads=1, **limits) as model:
            _, two = both(model, PROMPT, temperature=0, max_tokens=30, lookup=15)
            assert (two.timings.n_drafted > 0) == (3 in limits.values())
            assert n_steps(two) >= len(two.ids) / 3 - 1


@pytest.mark.parametrize("lookup", [-1, 16, 1 << 40])
def test_a_draft_of_no_length_is_refused(tiny_model: Model, lookup: int) -> None:
    with pytest.raises(ArgumentError, match=r"lookup: .*expected 0 to 15"):
        tiny_model.generate("a", lookup=lookup)


def test_timings_tell_of_it(story_model: Model) -> None:
    _, two = both(story_model, PROMPT, temperature=0, max_tokens=40)
    timings = two.timings
    assert f"{timings.n_drafted} tokens drafted, {timings.n_accepted} accepted" in timings.table()
    assert (timings + timings).n_accepted == 2 * timings.n_accepted
    assert timings.as_dict()["n_drafted"] == timings.n_drafted
    assert "drafted" not in story_model.generate(PROMPT, max_tokens=2).timings.table()


def test_the_command_writes_the_same_text(stories: Path) -> None:
    args = ("-m", stories, "-p", PROMPT, "-n", 60, "-s", 3, "--temp", 0.3)
    plain, drafted = (run("nanollm-cli", *args, *more) for more in ((), ("--lookup", 8)))
    assert plain.returncode == drafted.returncode == 0
    assert plain.stdout == drafted.stdout
    assert "accepted" in drafted.stderr
    assert "accepted" not in plain.stderr
    assert run("nanollm-cli", "-m", stories, "--lookup", 16).returncode == 2


def test_drafts_follow_the_latest_place_of_the_longest_end() -> None:
    assert _core.lookup_draft([1, 2, 3, 4, 5, 2, 3, 6, 1, 2, 3], 3) == [4, 5, 2]
    assert _core.lookup_draft([7, 8, 7, 9, 7], 2) == [9, 7]
    assert _core.lookup_draft([5, 5], 4) == [5, 5, 5, 5]
    assert _core.lookup_draft([1, 2, 3], 4) == []
    assert _core.lookup_draft([], 4) == []
    assert _core.lookup_draft([1, 1], 0) == _core.lookup_draft([1, 1], -1) == []


def test_a_session_is_sampled_as_its_rows_are(tiny_model: Model) -> None:
    session = tiny_model._session
    session.truncate(0, 0)
    session.eval([1, 2, 3], None, [True, False, True])
    for row in (0, 1, -1, -2):
        params = _core.sampler_params_default()
        one, two = _core.Sampler(tiny_model.n_vocab, params), _core.Sampler(tiny_model.n_vocab, params)
        for _ in range(9):
            assert one.sample(session.logits[row]) == two.sample_session(session, row)
    for row in (2, -3):
        with pytest.raises(ArgumentError, match="2 rows"):
            one.sample_session(session, row)
    with pytest.raises(ArgumentError, match="expected 7 logits"):
        _core.Sampler(7).sample_session(session)
