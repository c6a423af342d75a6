"""Little stories from a grammar: training text for the placeholder default model.

A story is a hero with a wish, something in the way, a failed try, a helper, a way out and an end. Choices that must
go together (a name and its pronouns, a wish and what can stand in its way, a way out and who can do it) are made
together, so a model that learns the text learns to keep its characters and objects straight. All of the text is the
project's own. Run the file to read some: ``python tools/stories.py --count 3 --seed 1``.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIRLS = _words(
    "Mia Anna Lucy Rosa Ella Nora Lily Emma Zoe Clara Ruby Ivy Maya Tess Jane Hana Lena Kate Nina Sara Amy Bella Dora "
    "Olive Pia Greta Alma Wilma Daisy Molly"
)
BOYS = _words(
    "Tom Ben Max Sam Leo Jack Finn Noah Oscar Hugo Tim Ali Paul Nick Emil Otto Dan Luke Jim Theo Bruno Carl Peter Adam "
    "Felix Hans Ravi Milo Rob Walter"
)
ANIMAL_NAMES = _words(
    "Pip Dot Bobo Fluff Nibbles Coco Biscuit Pepper Momo Button Tiny Patch Rusty Snow Berry Honey Poppy Sunny Toffee "
    "Mossy Waffle Bean Cloud Ziggy Plum"
)
ANIMALS = _words("fox rabbit mouse bear cat dog duck hedgehog squirrel frog lamb pony kitten puppy otter badger")
TRAITS = _words("little small kind brave shy happy clever curious quiet cheerful gentle funny young merry busy")
PLACES = (
    "in a small village by the sea",
    "in a little house near the forest",
    "on a farm with green hills",
    "at the edge of a big town",
    "in a valley full of flowers",
    "next to an old mill",
    "by a blue lake",
    "under the tall mountains",
    "in a yellow house with a red door",
    "on a quiet street with many trees",
    "near a wide river",
    "in a cottage behind the hill",
)
TIMES = (
    "One day",
    "One morning",
    "One sunny day",
    "One windy day",
    "One cold morning",
    "One warm afternoon",
    "On a bright spring day",
    "One day in autumn",
    "Early one morning",
    "One fine day",
)
COLORS = _words("red blue green yellow white purple golden orange silver pink")


@dataclass(frozen=True)
class Helper:
    """Who comes along: ``name`` takes "a"; ``skill`` is what solutions ask for; ``pronoun`` "" means either."""

    name: str
    skill: str
    pronoun: str = ""


HELPERS = (
    Helper("old woman", "hands", "she"),
    Helper("old man", "hands", "he"),
    Helper("farmer", "hands", "he"),
    Helper("baker", "hands", "she"),
    Helper("teacher", "hands", "she"),
    Helper("fisherman", "hands", "he"),
    Helper("gardener", "hands", "she"),
    Helper("tall girl", "hands", "she"),
    Helper("friendly boy", "hands", "he"),
    Helper("wise owl", "wings"),
    Helper("black crow", "wings"),
    Helper("white goose", "wings"),
    Helper("little robin", "wings"),
    Helper("big bear", "strong"),
    Helper("brown horse", "strong"),
    Helper("strong donkey", "strong"),
    Helper("old goat", "strong"),
    Helper("slow turtle", "small"),
    Helper("gray mouse", "small"),
    Helper("friendly beaver", "small"),
    Helper("clever monkey", "small"),
)


@dataclass(frozen=True)
class Trouble:
    """What is in the way: told, said by the hero, tried in vain, and solved (each with the skills that can)."""

    told: tuple[str, ...]
    said: str
    tried: tuple[str, ...]
    solved: tuple[tuple[str, str], ...]  # (skills, "any" for all; sentence)


@dataclass(frozen=True)
class Wish:
    """What the hero wants. ``{thing}`` is one of ``things``, with the same colour throughout the story."""

    things: tuple[str, ...]
    wanted: tuple[str, ...]
    troubles: tuple[Trouble, ...]
    ended: tuple[str, ...]


TOO_HIGH = Trouble(
    (
        "But {the} was high up in a tree.",
        "But the wind blew {the} up into a tall tree.",
        "But {the} got stuck on the roof.",
    ),
    "I can not reach my {thing}",
    (
        "{He} jumped and jumped, but {he} was too small.",
        "{He} tried to climb up, but {he} slipped down again.",
        "{He} threw a stick, but {the} did not move.",
    ),
    (
        ("hands", "The {helper} brought a long ladder and held it while {name} climbed up."),
        ("hands", "The {helper} lifted {name} up, and {name} took {the} down."),
        ("wings", "The {helper} flew up, took {the} and dropped it into the arms of {name}."),
        ("strong", "{Name} stood on the back of the {helper} and took {the} down."),
        ("strong", "The {helper} shook the wall and the branches until {the} fell down."),
        ("small", "The {helper} climbed up quickly and pushed {the} down to {name}."),
    ),
)
LOST_IN_DARK = Trouble(
    ("But {the} was gone.", "But {he} could not find {the} anywhere.", "But {the} had fallen out of {his} bag."),
    "I lost my {thing}",
    (
        "{He} looked under the bed and behind the door, but it was not there.",
        "{He} looked in the tall grass until it was dark, but {he} found nothing.",
        "{He} asked everyone, but no one had seen it.",
    ),
    (
        ("hands", "The {helper} lit a lamp, and soon they saw {the} under a bush."),
        ("wings", "The {helper} flew in a big circle and saw {the} next to the well."),
        ("strong", "The {helper} moved a heavy stone, and {the} was behind it."),
        ("small", "The {helper} crept into a hole and came back with {the}."),
        ("any", "They walked back the same way, step by step, and found {the} on the path."),
        ("any", '"Think of the last place where you had it," said the {helper}. {Name} did, and {the} was there.'),
    ),
)
BROKEN = Trouble(
    ("But {the} was broken.", "But {the} fell down and broke.", "But there was a big hole in {the}."),
    "My {thing} is broken",
    (
        "{He} tried to mend it with mud, but it did not hold.",
        "{He} tied it with grass, but the grass was too weak.",
        "{He} pushed the parts together, but they fell down again.",
    ),
    (
        ("hands", "The {helper} had some glue, and together they made {the} as good as new."),
        ("hands", "The {helper} took out a needle and a thread and mended {the}."),
        ("wings", "The {helper} brought long strings, and together they tied {the} up well."),
        ("strong", "The {helper} held the parts together while {name} tied a rope around {the}."),
        ("small", "The {helper} had tiny hands and put every part of {the} back in its place."),
    ),
)
WIDE_RIVER = Trouble(
    ("But there was a wide river in the way.", "But the old bridge was broken.", "But the water was deep and fast."),
    "I can not get over the water",
    (
        "{He} put one foot in the water, but it was too cold and too deep.",
        "{He} tried to jump over it, but {he} fell in and got all wet.",
        "{He} walked up and down, but there was no way across.",
    ),
    (
        ("hands", "The {helper} had a little boat and rowed {name} to the other side."),
        ("hands", "Together they put a long tree over the water and walked across."),
        ("wings", "The {helper} knew a place with flat stones and showed {name} the way."),
        ("strong", "{Name} sat on the back of the {helper}, and they swam to the other side."),
        ("small", "The {helper} gathered wood, and together they made a raft."),
        ("any", "Together they put big stones into the water and jumped from one to the next."),
    ),
)
NO_WAY = Trouble(
    (
        "But the forest was dark and {he} did not know the way.",
        "But the snow was deep and {he} could not see the path.",
    ),
    "I do not know the way",
    (
        "{He} went left and right, but every tree looked the same.",
        "{He} walked for an hour and came back to the same place.",
    ),
    (
        ("wings", "The {helper} flew ahead and sang, and {name} followed the song."),
        ("hands", "The {helper} took {name} by the hand and they walked with a bright lamp."),
        ("strong", "{Name} rode on the back of the {helper}, who knew every path."),
        ("small", "The {helper} left a small white stone at every turn, and {name} followed them."),
        ("any", "The {helper} showed {name} how to find the way by the stars."),
    ),
)
NOTHING_THERE = Trouble(
    (
        "But {he} had no {need}.",
        "But there was no {need} left in the house.",
        "But someone had used up all the {need}.",
    ),
    "I have no {need}",
    (
        "{He} looked in every box, but the boxes were empty.",
        "{He} went to the shop, but the shop was closed.",
        "{He} tried it with sand, but that did not work at all.",
    ),
    (
        ("hands", "The {helper} had plenty of {need} at home and gave {name} as much as {he} needed."),
        ("wings", "The {helper} flew over the hill and came back with some {need}."),
        ("strong", "The {helper} carried some {need} all the way from the market."),
        ("small", "The {helper} had saved some {need} for the winter and shared it."),
        ("any", "{Name} gave the {helper} a song, and the {helper} gave {name} some {need}."),
    ),
)
AFRAID = Trouble(
    ("But {he} was afraid.", "But {he} thought {he} could never do it.", "But the others laughed, and {he} ran away."),
    "I am too afraid",
    (
        "{He} closed {his} eyes and tried, but {he} fell over.",
        "{He} tried once, but {his} legs shook and {he} stopped.",
        "{He} hid behind a tree and cried a little.",
    ),
    (
        (
            "any",
            '"I was afraid too when I was young," said the {helper}. "Let us try slowly." And they tried together.',
        ),
        (
            "any",
            'The {helper} stayed close and said, "One small step each day." So {name} took one small step each day.',
        ),
        ("hands", "The {helper} held the hand of {name} until {name} was not afraid any more."),
        ("wings", "The {helper} sang a brave song, and {name} sang it too and forgot to be afraid."),
        ("strong", "The {helper} stood next to {name}, as big as a house, and {name} felt safe."),
        ("small", '"Look how small I am," said the {helper}, "and I can do it." Then {name} wanted to try again.'),
    ),
)
DRY = Trouble(
    (
        "But it did not rain for many days.",
        "But the ground was hard and dry.",
        "But the birds came and picked at the ground.",
    ),
    "My {thing} will not grow",
    (
        "{He} sang to it every night, but nothing happened.",
        "{He} pulled at it, but that did not help.",
        "{He} waited and waited, but nothing came up.",
    ),
    (
        ("hands", "The {helper} showed {name} how to dig the ground and water it every evening."),
        ("wings", "The {helper} kept the other birds away and brought drops of water."),
        ("strong", "The {helper} carried water from the river, one bucket after the other."),
        ("small", "The {helper} dug tiny holes so that the water could get to the roots."),
        ("any", '"Good things need time," said the {helper}. So {name} gave it water and waited with the {helper}.'),
    ),
)

WISHES = (
    Wish(
        ("kite", "ball", "balloon", "hat", "paper plane"),
        ("{name} wanted to play with {his} {color} {thing}.", "{name} went out to play with a {color} {thing}."),
        (TOO_HIGH, LOST_IN_DARK, BROKEN),
        ("Then they played with {the} until the sun went down.", "{Name} played with {the} all day long."),
    ),
    Wish(
        ("ring", "key", "book", "cup", "bell", "scarf"),
        (
            "{name} wanted to give {his} mother a {color} {thing}.",
            "{name} had a {color} {thing} for {his} grandmother and wanted to bring it to her.",
        ),
        (LOST_IN_DARK, BROKEN, TOO_HIGH),
        (
            "{He} gave {the} away with a big smile, and everyone was glad.",
            "That night {the} lay on the table and shone.",
        ),
    ),
    Wish(
        ("boat", "drum", "wagon", "sled", "lamp"),
        (
            "{name} wanted to show {his} {color} {thing} to {his} friends.",
            "{name} found an old {color} {thing} in the shed.",
        ),
        (BROKEN, LOST_IN_DARK),
        ("Soon all the children came to see {the}.", "From then on, {name} took good care of {the}."),
    ),
    Wish(
        ("island", "castle", "garden", "tower", "market"),
        ("{name} wanted to see the {color} {thing} far away.", "{name} set out to find the {color} {thing}."),
        (WIDE_RIVER, NO_WAY, AFRAID),
        (
            "At last they came to {the}, and it was even more beautiful than in the dream.",
            "In the evening they stood before {the} and laughed.",
        ),
    ),
    Wish(
        ("grandmother", "uncle", "cousin", "best friend"),
        ("{name} wanted to visit {his} {thing}.", "{name} packed some bread and went to visit {his} {thing}."),
        (WIDE_RIVER, NO_WAY),
        (
            "{His} {thing} opened the door and gave them warm milk.",
            "{His} {thing} was so happy that they all danced in the kitchen.",
        ),
    ),
    Wish(
        ("cake", "pie", "bread", "soup", "pancake"),
        ("{name} wanted to make a big {thing} for the party.", "{name} wanted to make a {thing} for {his} father."),
        (NOTHING_THERE,),
        ("Soon {the} was ready, and it smelled very good.", "They ate {the} together, and there was not a crumb left."),
    ),
    Wish(
        ("picture", "mask", "flag", "dress", "puppet"),
        ("{name} wanted to make a {color} {thing}.", "{name} wanted to make a {color} {thing} for the spring feast."),
        (NOTHING_THERE,),
        ("{The} was the finest in the whole land.", "Everyone clapped when they saw {the}."),
    ),
    Wish(
        ("swim", "dance", "sing", "climb", "skate", "ride a bike", "whistle"),
        ("{name} wanted to learn to {thing}.", "{name} saw the others and wanted to {thing} too."),
        (AFRAID,),
        ("After a week, {name} could {thing} better than anyone.", "Now {name} loves to {thing} every day."),
    ),
    Wish(
        ("sunflower", "pumpkin", "apple tree", "rose", "carrot"),
        ("{name} wanted to grow a {thing}.", "{name} put a seed into the ground and wished for a {thing}."),
        (DRY,),
        ("After many days, a fine {thing} stood in the sun.", "In summer {the} was the biggest in the village."),
    ),
)
NEEDS = {
    "cake": ("flour", "sugar", "butter", "milk"),
    "pie": ("flour", "honey", "butter"),
    "bread": ("flour", "salt"),
    "soup": ("salt", "rice"),
    "pancake": ("flour", "milk", "sugar"),
    "picture": ("paint", "paper"),
    "mask": ("paper", "paint", "string"),
    "flag": ("cloth", "paint", "string"),
    "dress": ("cloth", "wool"),
    "puppet": ("cloth", "wood", "string"),
}

OPENINGS = (
    "Once upon a time, there was a {trait} {kind} named {name}. {He} lived {place}.",
    "Once upon a time, there was a {trait} {kind} named {name}, who lived {place}.",
    "Once upon a time, a {trait} {kind} named {name} lived {place}.",
    "Once upon a time, {place}, there lived a {trait} {kind}. {His} name was {name}.",
    "Once there was a {trait} {kind} named {name}. {He} lived {place}.",
    "{Name} was a {trait} {kind}. {He} lived {place}.",
    "There once was a {trait} {kind} named {name}, who lived {place}.",
)
SAD = (
    "{Name} was sad.",
    "{Name} sat down on a stone and cried.",
    "{Name} felt very sad and did not know what to do.",
    "{Name} wanted to give up.",
)
MEETINGS = (
    "Then a {helper} came by.",
    "Just then, a {helper} came along the path.",
    "After a while, {he} met a {helper}.",
    "A {helper} heard {him} and came closer.",
)
QUESTIONS = (
    '"Why are you so sad?" asked the {helper}.',
    '"What is wrong, {name}?" asked the {helper}.',
    '"Can I help you?" asked the {helper}.',
    '"Tell me what happened," said the {helper}.',
)
ANSWERS = (
    '"{said}," said {name}.',
    '"Oh, {said_low}," said {name} in a low voice.',
    '"{said}. Please help me," said {name}.',
)
OFFERS = (
    '"Do not worry," said the {helper}. "I have an idea."',
    '"I will help you," said the {helper}.',
    '"We can do it together," said the {helper}, and {hhe} smiled.',
    "The {helper} thought for a moment. Then {hhe} smiled.",
)
THANKS = (
    '"Thank you!" said {name}.',
    '"Thank you, dear friend!" said {name}, and {he} hugged the {helper}.',
    "{Name} jumped for joy and thanked the {helper}.",
    '"You are so kind," said {name}.',
)
MORALS = (
    "From that day on, {name} and the {helper} were best friends.",
    "And {name} learned that it is good to ask for help.",
    "And {name} never forgot the {helper}.",
    "Since then, {name} helps everyone who is sad.",
    "That night {name} slept well and had sweet dreams.",
    "And they were happy for a long, long time.",
    "{Name} learned that even a big problem gets small when you have a friend.",
    "And when you pass by, you can still hear them laugh.",
)


def _fill(template: str, slots: dict[str, str]) -> str:
    """The sentence with its slots filled, "a" turned to "an" where a vowel follows, and a capital at its start."""
    words = template.format(**slots).split(" ")
    for i, word in enumerate(words[:-1]):
        if word in ("a", "A") and words[i + 1][0].lower() in "aeiou" and not words[i + 1].startswith("uni"):
            words[i] += "n"
    text = " ".join(words)
    at = 1 if text.startswith('"') else 0
    return text[:at] + text[at].upper() + text[at + 1 :]


def _hero(rng: random.Random) -> dict[str, str]:
    pronoun = rng.choice(("he", "she"))
    if rng.random() < 0.6:
        name = rng.choice(BOYS if pronoun == "he" else GIRLS)
        kind = "boy" if pronoun == "he" else "girl"
    else:
        name, kind = rng.choice(ANIMAL_NAMES), rng.choice(ANIMALS)
    he, him, his = ("he", "him", "his") if pronoun == "he" else ("she", "her", "her")
    return {
        "name": name,
        "kind": kind,
        "he": he,
        "him": him,
        "his": his,
        "Name": name,
        "He": he.capitalize(),
        "His": his.capitalize(),
    }


def story(rng: random.Random) -> str:
    """One story of 70 to 170 words, in three paragraphs; `rng` decides all of it."""
    slots = _hero(rng)
    wish = rng.choice(WISHES)
    trouble = rng.choice(wish.troubles)
    thing = rng.choice(wish.things)
    helper = rng.choice([h for h in HELPERS if h.name.split()[-1] != slots["kind"]])
    slots |= {
        "trait": rng.choice(TRAITS),
        "place": rng.choice(PLACES),
        "color": rng.choice(COLORS),
        "thing": thing,
        "the": f"the {thing}",
        "The": f"The {thing}",
        "need": rng.choice(NEEDS.get(thing, ("",))),
        "helper": helper.name,
        "hhe": helper.pronoun or rng.choice(("he", "she")),
    }
    said = trouble.said.format(**slots)
    slots |= {"said": said, "said_low": said if said.startswith("I ") else said[0].lower() + said[1:]}

    def pick(choices: Sequence[str]) -> str:
        return _fill(rng.choice(choices), slots)

    wanted = rng.choice(TIMES) + ", " + pick(wish.wanted)
    begin = [pick(OPENINGS), wanted, pick(trouble.told), pick(trouble.tried)]
    if rng.random() < 0.6:
        begin.append(pick(SAD))
    middle = [pick(MEETINGS)]
    if rng.random() < 0.8:
        middle += [pick(QUESTIONS), pick(ANSWERS)]
    if rng.random() < 0.7:
        middle.append(pick(OFFERS))
    middle.append(pick([s for skills, s in trouble.solved if skills in ("any", helper.skill)]))
    end = []
    if rng.random() < 0.7:
        end.append(pick(THANKS))
    end += [pick(wish.ended), pick(MORALS)]
    return "\n".join(" ".join(part) for part in (begin, middle, end))


def main() -> None:
    parser = argparse.ArgumentParser(description="Print stories from the grammar.")
    parser.add_argument("--count", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (default 1)")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print("\n\n".join(story(rng) for _ in range(args.count)))


if __name__ == "__main__":
    main()
