"""Is a story coherent? What can be told from the text by someone who knows the grammar of stories.py.

    python tools/story_check.py                                     # stories of the grammar itself
    python tools/story_check.py --model nanollm/data/default.gguf   # and those of a model

A model that only strings words together fails: new names turn up, a kite becomes a drum, he becomes she.
"""

import argparse
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import stories
import story_words as words
from story_plots import PLOTS

PROMPTS = (
    "Once upon a time",
    "Once upon a time, there was a little girl named Mia.",
    "There once was a brave boy named Oscar.",
    "In a small village by the sea, there lived a curious fox named Rusty.",
    "Long ago, there was a shy dragon named Berry. She lived under the tall mountains.",
    "Emma was a clever girl. She lived by a blue lake with her grandmother.",
)
"""Beginnings with different heroes, whose names are in the grammar's lists."""
NEW_NAMES = (
    "Once upon a time, there was a kind boy named Tilo. He lived in a cosy hut near the forest.",
    "Once there was a quiet hedgehog named Bramble. Every evening, he liked to look at the stars.",
    "Long ago, there was a little girl named Charlotte.",
)
"""With names that are not."""

RULES = ("end", "sentences", "names", "pronouns", "things", "colors", "helper", "hero")

_QUOTED = re.compile(r'"[^"]*"')
_INTRODUCED = re.compile(
    r"\b(?:named|name (?:was|is)) ([A-Z]\w+)|(?:^|\n)([A-Z]\w+) was an? |\b([A-Z]\w+), (?:an?|the) "
)
_GENDER = dict.fromkeys(("he", "him", "his", "himself"), "he") | dict.fromkeys(("she", "her", "herself"), "she")


@dataclass(frozen=True)
class Lexicon:
    """What the grammar's stories are made of."""

    plain: frozenset[str]
    """Words that are written small somewhere."""
    things: tuple[str, ...]
    """Objects that plots turn on, the longest first."""
    helpers: tuple[str, ...]
    people: re.Pattern[str]
    """Anyone but the hero who may be meant by he or she."""


def _strings(value: Any) -> Iterator[str]:
    """Every text in nested tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, stories.Plot):
        yield from _strings([value.beats, value.cases])
    else:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


@cache
def lexicon() -> Lexicon:
    tables = [words.OPENINGS, words.HABITS, words.PLACES, words.HOBBIES, words.TIMES, words.SHARED, PLOTS]
    tables += [words.TRAITS, words.COLORS, words.ANIMALS, words.FAMILY, [helper.name for helper in words.HELPERS]]
    tables += ["boy girl", *_GENDER]
    plain = {word for text in _strings(tables) for word in re.findall(r"\b[a-z]+", re.sub(r"\{\w+\}", " ", text))}
    things: set[str] = set()

    def collect(case: stories.Case) -> None:
        for key, value in case.items():
            if key == "also":
                for inner in value:
                    collect(inner)
            elif key in ("thing", "plant", "magic"):
                things.update((value,) if isinstance(value, str) else value)

    for plot in PLOTS:
        for group in plot.cases:
            for case in group:
                collect(case)
    family = [word for word, _ in words.FAMILY]
    helpers = [helper.name for helper in words.HELPERS]
    others = "boy girl man woman king teacher mayor baker farmer miller gardener fisherman cousin friend neighbour"
    people = [*family, *helpers, *others.split(), *words.ANIMALS, "godmother", "godfather", "mother", "father"]
    return Lexicon(
        frozenset(plain),
        tuple(sorted(things, key=len, reverse=True)),
        tuple(helpers),
        re.compile(rf"\b(?:{'|'.join(map(re.escape, people))})\b"),
    )


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r'(?<=[.!?])\s+|(?<=[.!?]")\s+|\n', text) if s]


def _names(text: str) -> list[str]:
    """Names in their order: capitals inside a sentence, and at its start those that are no plain word."""
    plain = lexicon().plain
    found = []
    for match in re.finditer(r'(^|["\n]|[.!?]"? )?\b([A-Z][a-z]+)\b', text):
        begins = match[1] is not None
        if not (begins and match[2].lower() in plain):
            found.append(match[2])
    return found


def _mentions(text: str, phrases: Iterable[str]) -> dict[str, list[tuple[int, str]]]:
    """Where each phrase stands, with the word before it; longer phrases take their words from shorter ones."""
    out: dict[str, list[tuple[int, str]]] = {}
    taken: set[int] = set()
    for phrase in phrases:
        for match in re.finditer(rf"(?:(\w+) )?\b{re.escape(phrase)}s?\b", text):
            at = match.end()
            if at not in taken:
                taken.update(range(match.end() - len(phrase), at + 1))
                out.setdefault(phrase, []).append((match.start(), (match[1] or "").lower()))
    return out


def faults(text: str, finished: bool = True) -> set[str]:
    """The rules that a story breaks; `finished`: its writer ended it."""
    known = lexicon()
    text = text.strip()
    broken: set[str] = set()
    if not finished or not re.search(r'[.!?]"?$', text) or len(text.split()) < 50:
        broken.add("end")
    for paragraph in text.split("\n"):
        if paragraph.count('"') % 2 or not re.search(r'[.!?]"?$', paragraph) or not re.match(r'"?[A-Z]', paragraph):
            broken.add("sentences")
    introduced = [a or b or c for a, b, c in _INTRODUCED.findall(text)]
    names = _names(text)
    if not introduced or set(names) - set(introduced) - {"I"}:
        broken.add("names")
    if introduced and names.count(introduced[0]) < 4:
        broken.add("hero")
    if introduced and _wrong_pronoun(text, introduced[0], introduced[1:]):
        broken.add("pronouns")
    broken |= _thing_faults(text)
    helpers = _mentions(text, known.helpers)
    for found in helpers.values():
        if found[0][1] not in ("a", "an"):
            broken.add("helper")
    return broken


def _thing_faults(text: str) -> set[str]:
    """A thing is there before it is "the" thing, is the only one of its sort, and keeps its colour."""
    broken: set[str] = set()
    mentions = _mentions(text, lexicon().things)
    if len(mentions) > 1:
        broken.add("things")
    colors: dict[str, set[str]] = {}
    for thing, places in mentions.items():
        if places[0][1] == "the":
            broken.add("things")
        colors[thing] = {before for _, before in places if before in words.COLORS}
    if len(set(re.findall(r"\bbaby (\w+)", text))) > 1:
        broken.add("things")
    if any(len(found) > 1 for found in colors.values()):
        broken.add("colors")
    return broken


def _wrong_pronoun(text: str, hero: str, friends: Sequence[str]) -> bool:
    """Is the hero called he and she? Looked at is what is told before anyone else comes in, and sentences that name
    the hero and nobody else."""
    known = lexicon()
    kind = re.search(rf"\b(boy|girl) named {hero}\b|\b{hero} was an? \w+ (boy|girl)\b", text)
    told = _QUOTED.sub("", text)
    first = next((w for w in re.findall(r"\b[A-Za-z]+\b(?! name was)", told) if w.lower() in _GENDER), "it")
    gender = {"boy": "he", "girl": "she"}[kind[1] or kind[2]] if kind else _GENDER.get(first.lower())
    alone = True
    for i, sentence in enumerate(_sentences(told)):
        rest = sentence if i else re.sub(rf"^.*?\b{hero}\b", hero, sentence)
        others = bool(known.people.search(rest)) or any(friend in rest for friend in friends)
        if i and others and not (i < 2 and "lived" in rest):
            alone = False
        found = [_GENDER[w] for w in re.findall(r"[a-z]+", rest.lower()) if w in _GENDER]
        if (alone or (hero in rest and not others and rest.startswith(hero))) and any(g != gender for g in found):
            return True
    return False


def score(write: Callable[[int], tuple[str, bool]], count: int) -> tuple[dict[str, float], list[tuple[str, set[str]]]]:
    """How many of `count` stories keep each rule, and all of them ("all"), as fractions; the stories with their faults.

    `write` gives story i and whether its writer ended it.
    """
    broken: Counter[str] = Counter()
    told = []
    for i in range(count):
        text, finished = write(i)
        found = faults(text, finished)
        told.append((text, found))
        broken.update(found)
        broken["all"] += bool(found)
    return {rule: 1 - broken[rule] / count for rule in (*RULES, "all")}, told


def recited(texts: Iterable[str], corpus: str, n: int) -> float:
    """The part of the texts' runs of `n` words that stand in the corpus, too."""
    runs = [tuple(words[i : i + n]) for text in texts for words in [text.split()] for i in range(len(words) - n + 1)]
    wanted, found = set(runs), set[tuple[str, ...]]()
    for story in corpus.split(stories.SEPARATOR):
        words = story.split()
        found.update(run for i in range(len(words) - n + 1) if (run := tuple(words[i : i + n])) in wanted)
    return sum(run in found for run in runs) / max(1, len(runs))


def model_writer(
    path: str, temperature: float, prompts: Sequence[str] = PROMPTS, max_tokens: int = 400
) -> Callable[[int], tuple[str, bool]]:
    """Stories of a model: `prompts` in turn, each time with another seed."""
    from nanollm import Model

    model = Model(path)

    def write(i: int) -> tuple[str, bool]:
        prompt = prompts[i % len(prompts)]
        made = model.generate(prompt, max_tokens=max_tokens, temperature=temperature, top_k=40, seed=i)
        text = prompt + "".join(made)
        return text, made.finish_reason == "stop"

    return write


def main() -> None:
    parser = argparse.ArgumentParser(description="Tell how coherent stories are.")
    parser.add_argument("--model", help="GGUF file whose stories are looked at, too")
    parser.add_argument("--count", type=int, default=200, help="stories (default 200)")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the model (default 0.7)")
    parser.add_argument("--show", type=int, default=0, help="print so many of the stories with faults")
    parser.add_argument("--corpus", type=Path, help="tell how much is recited from this file, which was learnt")
    args = parser.parse_args()
    corpus = args.corpus.read_text(encoding="utf-8") if args.corpus else ""
    writers: dict[str, Callable[[int], tuple[str, bool]]] = {
        "grammar": lambda i: (stories.story(random.Random(1_000_003 + i)), True)
    }
    if args.model:
        writers["model"] = model_writer(args.model, args.temperature)
        writers["new names"] = model_writer(args.model, args.temperature, NEW_NAMES)
    print(f"{'':10}" + "".join(f"{rule:>11}" for rule in (*RULES, "all")))
    for name, write in writers.items():
        fractions, told = score(write, args.count)
        print(f"{name:10}" + "".join(f"{fractions[rule]:11.3f}" for rule in (*RULES, "all")))
        if corpus:
            parts = [f"{recited([text for text, _ in told], corpus, n):.3f} of {n}" for n in (8, 16, 24, 32)]
            print(f"{'':10} runs of words that stand in the corpus: {', '.join(parts)}")
        for text, found in [t for t in told if t[1]][: args.show]:
            print(f"\n--- {', '.join(sorted(found))}\n{text}")


if __name__ == "__main__":
    main()
