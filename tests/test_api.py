"""The Python API: `Model` and `Generation`."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import write_tiny
from tiny_models import GPT2, gpt2_tensors, write_folder

import nanollm
from nanollm import Generation, Model, _core
from nanollm.convert import convert

GREEDY: dict[str, Any] = {"temperature": 0.0}


class Script:
    """A logits processor that makes a model write the given tokens, then end."""

    def __init__(self, ids: Sequence[int], end: int = 2) -> None:
        self._ids = iter([*ids, end])

    def __call__(self, tokens: Sequence[int], logits: npt.NDArray[np.float32]) -> None:
        logits[:] = -100
        logits[next(self._ids)] = 100


def run(generation: Generation) -> Generation:
    """Runs it to its end."""
    for _ in generation:
        pass
    return generation


def test_stories_greedy_is_the_known_text(stories: Path, stories_text: str) -> None:
    for level in _core.cpu_levels():
        _core.set_cpu_level(level)
        try:
            for n_threads in (1, 2, 3, 4):
                with Model(stories, n_threads=n_threads) as model:
                    generation = model.generate("", max_tokens=256, **GREEDY)
                    text = generation.text
                    assert text.startswith(stories_text), (level, n_threads)
        finally:
            _core.set_cpu_level(None)


def test_stories_continues_a_prompt_in_whole_words(stories: Path) -> None:
    with Model(stories) as model:
        assert model.generate("Once upon a time,", max_tokens=24, **GREEDY).text.startswith(" there was a little girl")


def test_pieces_add_up_to_text(tiny: Path) -> None:
    with Model(tiny) as model:
        generation = model.generate("the", max_tokens=20, seed=5)
        pieces = list(generation)
        assert "".join(pieces) == generation.text == generation.text_so_far
        assert generation.finish_reason in ("length", "stop")
        assert generation.sampler_params.seed == 5
        t = generation.timings
        assert t.n_sample == len(generation.ids)
        assert t.n_eval == len(generation.ids) - 1
        assert t.n_prompt == len(generation.prompt_ids)
        assert t.prompt_ms > 0
        assert t.total_ms >= t.prompt_ms + t.eval_ms
        assert (t + t).n_eval == 2 * t.n_eval


def test_seed_decides(tiny: Path) -> None:
    with Model(tiny) as model:
        first, again, other = (model.generate("the", max_tokens=20, seed=s, ignore_eos=True) for s in (11, 11, 12))
        assert first.text == again.text
        assert first.ids == again.ids
        assert other.text != first.text
        seeds = {model.generate("the", max_tokens=1).sampler_params.seed for _ in range(3)}
        assert len(seeds) == 3


def test_every_sampler_option_arrives(tiny: Path) -> None:
    options: dict[str, Any] = {
        "seed": 7,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.75,
        "min_p": 0.125,
        "typical_p": 0.5,
        "repeat_penalty": 1.5,
        "presence_penalty": 0.25,
        "frequency_penalty": 0.5,
        "penalty_last_n": 9,
        "mirostat": 2,
        "mirostat_tau": 3.0,
        "mirostat_eta": 0.25,
        "min_keep": 2,
    }
    assert options.keys() | {"logit_bias", "max_last_n"} == set(nanollm.SamplerParams.__dataclass_fields__)
    with Model(tiny) as model:
        generation = run(model.generate("a", max_tokens=2, logit_bias={5: -1.0}, **options))
        assert {name: getattr(generation.sampler_params, name) for name in options} == options
        assert generation.sampler_params.logit_bias == ((5, -1.0),)
        assert len(generation.ids) >= 1


def test_unknown_option_is_a_type_error(tiny: Path) -> None:
    with Model(tiny) as model, pytest.raises(TypeError, match="tempreature"):
        model.generate("a", tempreature=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"mirostat": 3}, "mirostat"),
        ({"stop": "abc"}, "stop"),
        ({"top_k": 1 << 40}, "top_k: 1099511627776, expected a number of 32 bits"),
        ({"min_keep": 1 << 70}, "min_keep"),
        ({"penalty_last_n": -(1 << 40)}, "penalty_last_n"),
    ],
)
def test_bad_option_is_an_argument_error(tiny: Path, options: dict[str, Any], words: str) -> None:
    with Model(tiny) as model, pytest.raises(nanollm.ArgumentError, match=words):
        model.generate("a", **options)


@pytest.mark.parametrize("token", [-1, 1 << 31, 1 << 40])
@pytest.mark.parametrize("lookup", [0, 5])
def test_a_prompt_of_unknown_tokens_is_an_argument_error(tiny: Path, token: int, lookup: int) -> None:
    with Model(tiny) as model:
        with pytest.raises(nanollm.ArgumentError, match=f"token {token}: expected one from 0 to {model.n_vocab - 1}"):
            model.generate([1, token], lookup=lookup)
        with pytest.raises(nanollm.ArgumentError, match=f"token {token}"):
            model.logits([1, token])


def test_max_tokens(tiny: Path) -> None:
    with Model(tiny) as model:
        none = model.generate("the", max_tokens=0)
        assert (none.text, none.ids, none.finish_reason) == ("", [], "length")
        assert none.timings.n_prompt == len(none.prompt_ids)
        three = run(model.generate("the", max_tokens=3, ignore_eos=True))
        assert len(three.ids) == 3
        assert three.finish_reason == "length"


def test_context_fills_up_and_says_so(tiny: Path) -> None:
    with Model(tiny, n_ctx=16) as model:
        generation = run(model.generate("the", ignore_eos=True, seed=1))
        assert generation.finish_reason == "context"
        # Every position is used, and the last token drawn needs none.
        assert len(generation.prompt_ids) + len(generation.ids) == 17
        with pytest.raises(nanollm.LimitError, match=r"prompt has 17 tokens.*room for 16"):
            model.generate([1] * 17)
        full = run(model.generate([1] * 16, max_tokens=5, ignore_eos=True))
        assert (len(full.ids), full.finish_reason) == (1, "context")


def test_end_token_ends(tiny: Path) -> None:
    with Model(tiny) as model:
        ids = model.tokenize("the end", add_special=False)
        generation = model.generate("a", logits_processor=Script(ids), **GREEDY)
        assert generation.text == " the end"
        assert generation.finish_reason == "stop"
        assert generation.ended_by_model
        assert generation.ids == [*ids, 2]
        assert model.end_tokens == (2,)
        forced = run(model.generate("a", max_tokens=9, ignore_eos=True, logit_bias={2: 50.0}))
        assert 2 not in forced.ids
        assert forced.finish_reason == "length"


def test_stop_texts_end_before_themselves(tiny: Path) -> None:
    with Model(tiny) as model:
        ids = model.tokenize("one, two. three", add_special=False)

        def written(*stop: str) -> tuple[list[str], str | None]:
            generation = model.generate("a", stop=stop, logits_processor=Script(ids), **GREEDY)
            return list(generation), generation.finish_reason

        pieces, reason = written("o. t")
        assert "".join(pieces) == " one, tw"
        assert reason == "stop"
        assert "".join(written("nothing", "two", ". ")[0]) == " one, "
        # What might have become a stop text and did not is written all the same, at the end too.
        assert "".join(written("two!", "threex")[0]) == " one, two. three"
        assert "".join(written("")[0]) == " one, two. three"


def test_multi_byte_characters_are_never_cut(tiny: Path) -> None:
    with Model(tiny) as model:
        text = "é€😀ü"
        ids = model.tokenize(text, add_special=False)
        assert len(ids) >= len(text.encode())
        pieces = list(model.generate("a", logits_processor=Script(ids), **GREEDY))
        assert "".join(pieces).strip() == text
        assert all("\ufffd" not in piece for piece in pieces)
        cut = model.generate("a", logits_processor=Script(ids[:-1]), **GREEDY)
        assert cut.text.strip() == "é€😀\ufffd"


def test_logits_processor_sees_tokens_and_may_replace(tiny: Path) -> None:
    with Model(tiny) as model:
        seen: list[list[int]] = []

        def processor(tokens: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            seen.append(list(tokens))
            assert logits.shape == (model.n_vocab,)
            assert logits.dtype == np.float32
            changed = np.full_like(logits, -np.inf)
            changed[40 + len(seen)] = 0
            return changed

        generation = run(model.generate("a", max_tokens=3, logits_processor=processor))
        assert generation.ids == [41, 42, 43]
        assert seen == [generation.prompt_ids + generation.ids[:i] for i in range(3)]
        with pytest.raises(nanollm.ArgumentError, match="shape"):
            run(model.generate("a", logits_processor=lambda tokens, logits: logits[:5]))


def test_logits_match_stepwise_evaluation(tiny: Path) -> None:
    ids = [1, 280, 281, 60, 61, 290, 291]
    with Model(tiny, deterministic=True) as whole, Model(tiny, deterministic=True, n_batch=2) as pieces:
        logits = whole.logits(ids)
        assert logits.shape == (len(ids), whole.n_vocab)
        assert logits.dtype == np.float32
        assert np.array_equal(logits, pieces.logits(ids))
        assert np.array_equal(logits[:4], whole.logits(ids[:4]))
        for bad in ([], [whole.n_vocab], [-1], [1] * (whole.n_ctx + 1)):
            with pytest.raises(nanollm.NanoError):
                whole.logits(bad)
        assert np.array_equal(logits, whole.logits(ids))


@pytest.mark.parametrize("n_batch", [1, 3, 512])
def test_prompt_cache_gives_the_same_bits(tiny: Path, n_batch: int) -> None:
    """Deterministic mode: what is found in the KV cache is what would have been computed."""
    texts = ["the one in the red", "the one in the end", "the one", "on the one in the red again, the"]
    captured: list[npt.NDArray[np.float32]] = []

    def capture(tokens: Sequence[int], logits: npt.NDArray[np.float32]) -> None:
        captured.append(logits.copy())

    with Model(tiny, deterministic=True, n_batch=n_batch) as model:
        for text in texts:
            generation = run(model.generate(text, max_tokens=4, logits_processor=capture, ignore_eos=True, **GREEDY))
            with Model(tiny, deterministic=True) as fresh:
                expected = fresh.logits([*generation.prompt_ids, *generation.ids[:-1]])[-4:]
            assert np.array_equal(np.array(captured), expected), text
            captured.clear()


def test_prompt_cache_is_used(tiny: Path) -> None:
    with Model(tiny) as model:
        first = run(model.generate("the one in the red", max_tokens=1, **GREEDY))
        assert first.timings.n_cached == 0
        again = run(model.generate("the one in the red", max_tokens=1, **GREEDY))
        assert again.timings.n_cached == len(again.prompt_ids) - 1
        assert again.timings.n_prompt == 1
        assert again.ids == first.ids


def test_generations_may_take_turns(tiny: Path) -> None:
    with Model(tiny, deterministic=True) as model:

        def start(prompt: str) -> nanollm.Generation:
            return model.generate(prompt, max_tokens=12, ignore_eos=True, seed=4)

        alone = [start("the").text, start("once in").text]
        a, b = start("the"), start("once in")
        mixed = ["", ""]
        for generation in (a, b, a, b, b, a):
            mixed[0 if generation is a else 1] += next(generation, "")
        mixed[0] += "".join(a)
        mixed[1] += "".join(b)
        assert mixed == alone


def test_threads_share_a_model(tiny: Path) -> None:
    with Model(tiny, deterministic=True) as model:
        prompts = ["the", "once in a", "red, red", "on"]
        expected = [run(model.generate(p, max_tokens=10, **GREEDY)).ids for p in prompts]
        results: dict[int, list[int]] = {}

        def work(i: int) -> None:
            results[i] = run(model.generate(prompts[i], max_tokens=10, **GREEDY)).ids

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [results[i] for i in range(len(prompts))] == expected


def test_cancel_from_another_thread(chatty: Path) -> None:
    with Model(chatty) as model:
        generation = model.generate("the", ignore_eos=True)
        next(generation)
        timer = threading.Timer(0.05, generation.cancel)
        timer.start()
        rest = list(generation)
        timer.join()
        assert generation.finish_reason == "cancelled"
        assert len(rest) < 3900
        # A cancellation ends one generation; the next is whole, though it came too late for the first.
        generation.cancel()
        after = run(model.generate("the", max_tokens=5, ignore_eos=True))
        assert after.finish_reason == "length"
        stopped = model.generate("the", max_tokens=5)
        stopped.cancel()
        assert stopped.text == ""
        assert stopped.finish_reason == "cancelled"


def test_close_ends_a_generation(tiny: Path) -> None:
    with Model(tiny) as model:
        generation = model.generate("the", ignore_eos=True)
        next(generation)
        generation.close()
        assert list(generation) == []
        assert generation.finish_reason == "cancelled"


def test_close_gives_back_and_later_calls_fail(tiny: Path) -> None:
    model = Model(tiny)
    generation = model.generate("the", ignore_eos=True)
    next(generation)
    model.close()
    model.close()
    with pytest.raises(nanollm.NanoError):
        run(generation)
    with pytest.raises(nanollm.NanoError):
        run(model.generate("the"))
    with pytest.raises(nanollm.NanoError):
        model.logits([1])


def test_tokens_and_text(tiny: Path) -> None:
    with Model(tiny) as model:
        ids = model.tokenize("the end")
        assert ids[0] == 1
        assert model.tokenize("the end", add_special=False) == ids[1:]
        assert model.detokenize(ids) == "the end"
        assert model.tokenize("a</s>", parse_special=True)[-1] == 2
        assert 2 not in model.tokenize("a</s>")
        assert [model.spelling(i) for i in (1, 2)] == ["<s>", "</s>"]
        assert model.generate("").prompt_ids == [1]


def test_memory_is_told_and_kept(tiny: Path) -> None:
    with Model(tiny, n_ctx=64, n_slots=2, n_batch=8) as model:
        memory = model.memory
        parts = memory.cache + memory.activations + memory.outputs + memory.scratch + memory.bookkeeping
        assert memory.allocated == parts
        assert memory.total == memory.weights + memory.allocated
        # K and V of 2 layers, 2 KV heads of 8, 64 positions, 2 slots, 2 bytes each
        assert memory.cache == 2 * 2 * 2 * 8 * 64 * 2 * 2
        assert (memory.limits.n_ctx, memory.limits.n_slots, memory.limits.n_batch) == (64, 2, 8)
        table = str(memory)
        assert table.splitlines()[1].split()[:2] == ["KV", "cache"]
        assert "2 slots" in table
    with Model(tiny, cache_type="f32") as wide, Model(tiny, cache_type=("f32", "f16")) as mixed, Model(tiny) as narrow:
        assert wide.memory.cache == 2 * narrow.memory.cache
        assert 2 * mixed.memory.cache == 3 * narrow.memory.cache


def test_context_sizes(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "long.gguf", n_ctx=10000)
    for n_ctx, expected in ((None, 4096), (0, 10000), (77, 77)):
        with Model(path, n_ctx=n_ctx) as model:
            assert model.n_ctx == expected
            assert model.n_ctx_train == 10000


def test_learned_positions_bound_the_context(tmp_path: Path) -> None:
    write_folder(tmp_path, GPT2, gpt2_tensors(GPT2, np.random.default_rng(0)))
    convert(tmp_path, tmp_path / "gpt2.gguf", report=lambda note: None)
    with Model(tmp_path / "gpt2.gguf") as model:
        assert model.n_ctx == model.n_ctx_train == 256
        assert run(model.generate("the", ignore_eos=True)).finish_reason == "context"
    with pytest.raises(nanollm.ArgumentError, match="n_ctx 257: the model has positions for 256 tokens"):
        Model(tmp_path / "gpt2.gguf", n_ctx=257)


@pytest.mark.parametrize(
    "limits",
    [
        {"n_ctx": -1},
        {"n_batch": 0},
        {"n_threads": -1},
        {"n_slots": 0},
        {"n_outputs": 0},
        {"n_ctx": 1 << 40},
        {"n_threads_batch": -1},
        {"n_threads_batch": 300},
        {"cpu_mask": -1},
        {"cpu_mask": 1 << 255},
        {"cpu_mask": 1 << 256},
        {"poll": -1},
        {"poll": 101},
    ],
)
def test_bad_limits_are_argument_errors(tiny: Path, limits: dict[str, int]) -> None:
    with pytest.raises(nanollm.ArgumentError, match=next(iter(limits))):
        Model(tiny, **limits)  # type: ignore[arg-type]


def test_bad_cache_type_is_an_argument_error(tiny: Path) -> None:
    with pytest.raises(nanollm.NanoError, match=r"(?i)q9"):
        Model(tiny, cache_type="q9")
    wrong: Any
    for wrong in (8, None, ("q8_0",), ("q8_0", 8), ("f16", "f16", "f16")):
        with pytest.raises(nanollm.ArgumentError, match="cache_type: found"):
            Model(tiny, cache_type=wrong)


def test_a_mask_may_be_any_integer(tiny: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    for kind in (int, np.uint64):
        with Model(tiny, cpu_mask=kind(1 << cpu)) as model:  # type: ignore[arg-type]
            assert model.memory.limits.cpu_mask == 1 << cpu


def test_what_does_not_fit_is_refused_with_what_would(tiny: Path) -> None:
    n_ctx = 2_000_000_000
    with pytest.raises(nanollm.MemoryLimitError) as caught:
        Model(tiny, n_ctx=n_ctx)
    message = str(caught.value)
    assert str(tiny) in message
    assert f"context of {n_ctx}" in message
    longest = int(message.split("a context of ")[-1].split()[0])
    assert 1000 < longest < n_ctx
    # What is free may change a little between the two looks at it.
    assert Model.fit(tiny, n_ctx=longest // 2).fits
    assert not Model.fit(tiny, n_ctx=n_ctx).fits
    assert isinstance(caught.value, MemoryError)


def test_fit_agrees_with_the_model(tiny: Path) -> None:
    report = Model.fit(tiny, n_ctx=64)
    with Model(tiny, n_ctx=64) as model:
        assert report.total == model.memory.total
    assert report.fits
    assert report.largest_n_ctx == 128


def test_metadata(tiny: Path) -> None:
    with Model(tiny) as model:
        assert model.architecture == "llama"
        assert model.metadata["general.name"] == "tiny"
        assert "tokenizer.ggml.tokens" not in model.metadata
        assert model.n_vocab == model.tensors[0].shape[0]
        assert {t.name for t in model.tensors} >= {"token_embd.weight", "output_norm.weight"}


def test_wrong_types_and_ranges_are_told(tiny: Path) -> None:
    with Model(tiny) as model:
        wrong: Any
        for wrong in (5, None, b"on", ["on"]):
            with pytest.raises(TypeError, match="expected a str"):
                model.tokenize(wrong)
        for wrong in ([1.5], "on", 5):
            with pytest.raises(TypeError):
                model.detokenize(wrong)
        for wrong in ({"max_tokens": "5"}, {"max_tokens": 1.5}, {"top_k": 1.5}, {"seed": "1"}, {"mirostat": 1.0}):
            with pytest.raises(TypeError, match="integer"):
                model.generate("on", **wrong)
        for wrong in ({"max_tokens": -1}, {"seed": -1}, {"seed": 1 << 64}):
            with pytest.raises(nanollm.ArgumentError, match=next(iter(wrong))):
                model.generate("on", **wrong)
        assert len(run(model.generate("on", max_tokens=2, seed=(1 << 64) - 1, ignore_eos=True)).ids) == 2
    for wrong in ({"n_ctx": 1.5}, {"n_ctx": "64"}, {"n_batch": 8.0}, {"n_threads": None}):
        with pytest.raises(TypeError, match="integer"):
            Model(tiny, **wrong)


def test_a_level_that_the_machine_lacks_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOLLM_CPU", "nonesuch")
    with pytest.raises(nanollm.ArgumentError, match=r"NANOLLM_CPU: found nonesuch, .*generic"):
        Model(tiny)
    monkeypatch.setenv("NANOLLM_CPU", "")
    Model(tiny).close()


def _answer_of_child(model: Model, path: Path, answers: Any) -> None:
    try:
        run(model.generate("on", max_tokens=2))
    except nanollm.ArgumentError as error:
        answers.put(str(error))
    model.close()
    del model
    with Model(path, n_threads=2) as fresh:
        answers.put(fresh.generate("on", max_tokens=4, ignore_eos=True, **GREEDY).text)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_to_open_the_file_again(tiny: Path) -> None:
    with Model(tiny, n_threads=2) as model:
        text = model.generate("on", max_tokens=4, ignore_eos=True, **GREEDY).text
        context = multiprocessing.get_context("fork")
        answers: Any = context.Queue()
        child = context.Process(target=_answer_of_child, args=(model, tiny, answers))
        child.start()
        try:
            assert "fork" in answers.get(timeout=60)
            assert answers.get(timeout=60) == text
            child.join(60)
            assert child.exitcode == 0
        finally:
            child.kill()
        # The parent's own session goes on.
        assert model.generate("on", max_tokens=4, ignore_eos=True, **GREEDY).text == text


# ---------------------------------------------------------------------- chat


def test_chat_renders_the_files_template(chatty: Path) -> None:
    with Model(chatty) as model:
        assert model.has_chat_template
        generation = run(model.chat([{"role": "user", "content": "hi"}], max_tokens=3, ignore_eos=True))
        expected = [1, *model.tokenize("[user]hi</s>[assistant]", add_special=False, parse_special=True)]
        assert generation.prompt_ids == expected
        assert generation.prompt_ids.count(1) == 1
        assert len(generation.ids) == 3


def test_chat_keeps_the_cache_between_turns(chatty: Path) -> None:
    with Model(chatty) as model:
        messages = [{"role": "user", "content": "the red one"}]
        # Cut another way than the tokenizer would: byte by byte.
        answer_ids = [3 + byte for byte in b"on the end"]
        first = model.chat(messages, logits_processor=Script(answer_ids), **GREEDY)
        assert first.text == "on the end"
        messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "in"}]
        second = run(model.chat(messages, max_tokens=2))
        assert second.timings.n_cached == len(first.prompt_ids) + len(answer_ids)
        assert second.prompt_ids[: second.timings.n_cached] == first.prompt_ids + answer_ids
        # A changed answer is rendered and cut anew.
        messages[1] = {"role": "assistant", "content": "other"}
        third = run(model.chat(messages, max_tokens=2))
        assert third.timings.n_cached >= len(first.prompt_ids) - 1
        assert model.detokenize(third.prompt_ids).count("other") == 1


def test_chat_without_a_template_says_what_is_missing(tiny: Path) -> None:
    with Model(tiny) as model:
        assert not model.has_chat_template
        with pytest.raises(nanollm.NotFoundError, match=r"tokenizer\.chat_template"):
            model.chat([{"role": "user", "content": "hi"}])
        generation = model.chat([{"role": "user", "content": "hi"}], template="zephyr", max_tokens=1)
        assert model.detokenize(generation.prompt_ids).endswith("<|assistant|>\n")
        with pytest.raises(nanollm.ArgumentError, match="chatml"):
            model.chat([{"role": "user", "content": "hi"}], template="nonesuch")
