"""Little stories from a grammar: the training text of the default model.

A story has a hero and a plot; the plot's cases (a wish and what can stand in its way, a thing and who can mend it) are
chosen together with everything that depends on them, and stay as they are to the story's end: names, pronouns, things
and their colours. So a model that learns the text learns to keep its characters and objects straight. All of the text
is the project's own. Read some, or write a corpus::

    python tools/stories.py --count 3 --seed 1
    python tools/stories.py --count 60000 --seed 1 -o stories.txt

Sentences are templates: ``[a|b]`` is one of the two (nested as one likes, and "" is a choice), ``{slot}`` a value of
the story, a template itself. Capitals at the start of sentences and "an" for "a" come by themselves.
"""

import argparse
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import story_words as words

SEPARATOR = "\n\n"
"""Between stories in a corpus; paragraphs of a story end with one line end."""
PARAGRAPH = "//"

Case = Mapping[str, Any]
"""Slots that go together: a string, a tuple to choose from once and for all, or ``by_skill``: what the helper can do.
Under ``also``: cases of which one is taken, too."""


@dataclass(frozen=True)
class Plot:
    """Beats in order, each a choice of templates; ``cases``: of each group one is taken."""

    name: str
    beats: tuple[Sequence[str], ...]
    cases: tuple[Sequence[Case], ...] = ()


_INNER_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_PRONOUNS = {"he": ("he", "him", "his", "himself"), "she": ("she", "her", "her", "herself")}
# A sentence begins at the start, after a sentence's end, or inside a quotation. What follows a question or a call in
# quotation marks may be its "said Tom", and a quotation may go on behind that.
_START = re.compile(
    r"(^|\n|[.!?] |(?:^|\n|(?<!,) )\"|, \"(?!(?:and|but|because) )"
    r"|[.!?]\" (?!(?:(?:he|she|it) )?"
    r"(?:said|asked|cried|called|whispered|shouted|answered|laughed|thought|roared)\b))([a-z])"
)
_A = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ni))")


class Teller:
    """A story's choices: slots, and the generator that decides what is still open."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.slots: dict[str, str | Sequence[str]] = dict(words.SHARED)

    def take(self, case: Case) -> None:
        """Adds the case's slots; tuples become one of their templates."""
        for key, value in case.items():
            if key == "also":
                self.take(self.rng.choice(value))
            elif key == "by_skill":
                skill = str(self.slots["skill"])
                self.slots["solved"] = self.rng.choice([*value.get(skill, ()), *value.get("any", ())])
            else:
                self.slots[key] = value if isinstance(value, str) else self.rng.choice(value)

    def person(self, prefix: str, pronoun: str) -> None:
        """Pronouns, each after `prefix`."""
        for key, form in zip(("he", "him", "his", "himself"), _PRONOUNS[pronoun], strict=True):
            self.slots[prefix + key] = form

    def expand(self, template: str) -> str:
        """The template without slots and choices."""
        while "[" in template or "{" in template:
            template = _SLOT.sub(self._slot, template)
            while _INNER_CHOICE.search(template):
                template = _INNER_CHOICE.sub(lambda m: self.rng.choice(m[1].split("|")), template, count=1)
        return template

    def _slot(self, match: re.Match[str]) -> str:
        value = self.slots[match[1]]
        return value if isinstance(value, str) else self.rng.choice(value)


def _finished(text: str) -> str:
    """Spaces, capitals and articles put right."""
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r" ?\n ?", "\n", text).replace(" ,", ",").replace(" .", ".")
    text = _START.sub(lambda m: m[1] + m[2].upper(), text)
    text = _START.sub(lambda m: m[1] + m[2].upper(), text)  # starts that shared a character with the one before
    return _A.sub(r"\1n ", text)


def _name(rng: random.Random, pronoun: str, kind: str) -> str:
    if rng.random() < 0.08:
        ends = rng.choice(words.NAME_ENDS[pronoun])
        return rng.choice(words.NAME_BEGINNINGS) + rng.choice(words.NAME_MIDDLES) + ends
    if kind in ("boy", "girl"):
        return rng.choice(words.BOYS if pronoun == "he" else words.GIRLS)
    return rng.choice(words.ANIMAL_NAMES)


def _cast(teller: Teller) -> None:
    """Hero, friend, helper and a member of the family; a plot uses of them what it needs."""
    rng, slots = teller.rng, teller.slots
    taken: set[str] = set()
    for prefix in ("", "f"):
        pronoun = rng.choice(("he", "she"))
        kind = ("boy" if pronoun == "he" else "girl") if rng.random() < 0.6 else rng.choice(words.ANIMALS)
        name = _name(rng, pronoun, kind)
        while name in taken:
            name = _name(rng, pronoun, kind)
        taken.add(name)
        teller.person(prefix, pronoun)
        slots["friend" if prefix else "name"] = name
        slots[prefix + "kind"] = kind
    helper = rng.choice([h for h in words.HELPERS if h.name.split()[-1] not in (slots["kind"], slots["fkind"])])
    slots["helper"], slots["skill"] = helper.name, helper.skill
    teller.person("h", helper.pronoun or rng.choice(("he", "she")))
    slots["parent"], pronoun = rng.choice(words.FAMILY)
    teller.person("p", pronoun)
    slots |= {
        "trait": rng.choice(words.TRAITS),
        "ftrait": rng.choice(words.TRAITS),
        "color": rng.choice(words.COLORS),
        "home": teller.expand(rng.choice(words.PLACES)),
        "hobby": teller.expand(rng.choice(words.HOBBIES)),
        "oneday": rng.choice(words.TIMES),
    }


def story(rng: random.Random, plot: Plot | None = None) -> str:
    """One story in a few paragraphs; `rng` decides all of it, but for the plot where one is given."""
    from story_plots import PLOTS

    plot = plot or rng.choice(PLOTS)
    teller = Teller(rng)
    _cast(teller)
    for group in plot.cases:
        teller.take(rng.choice(group))
    beats = [words.OPENINGS, words.HABITS, *plot.beats]
    text = " ".join(teller.expand(rng.choice(beat)) for beat in beats)
    return _finished(text.replace(PARAGRAPH, "\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Print stories from the grammar, or write a corpus of them.")
    parser.add_argument("--count", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (default 1)")
    parser.add_argument("--plot", help="this plot alone")
    parser.add_argument("-o", "--output", type=Path, help="file to write instead of stdout")
    args = parser.parse_args()
    from story_plots import PLOTS

    chosen = [plot for plot in PLOTS if plot.name == args.plot] if args.plot else [None]
    if not chosen:
        parser.error(f"{args.plot}: no such plot, there are {', '.join(plot.name for plot in PLOTS)}")
    rng = random.Random(args.seed)
    text = SEPARATOR.join(story(rng, chosen[0]) for _ in range(args.count)) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
