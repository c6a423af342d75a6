"""The words of the little stories: names, animals, places, times, helpers, and the sentences that many plots share.

Texts are templates, see stories.py: ``[a|b]`` is a choice, ``{slot}`` a value of the story.
"""

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Few enough that each is met often: a model this small learns to keep names apart before it learns to keep one.
GIRLS = _words(
    "Mia Anna Lucy Rosa Ella Nora Lily Emma Zoe Clara Ruby Ivy Maya Tess Jane Hana Lena Kate Nina Sara Amy Bella Dora "
    "Olive Pia Greta Alma Daisy Molly Freya Ada Alice Mary Grace Noor Yuki"
)
BOYS = _words(
    "Tom Ben Max Sam Leo Jack Finn Noah Oscar Hugo Tim Ali Paul Nick Emil Otto Dan Luke Jim Theo Bruno Carl Peter Adam "
    "Felix Hans Ravi Milo Rob Anton Simon David Omar Kenji Luca Fritz"
)
ANIMAL_NAMES = _words(
    "Pip Dot Bobo Fluff Nibbles Coco Biscuit Pepper Momo Button Tiny Patch Rusty Snowy Berry Honey Poppy Sunny Toffee "
    "Mossy Waffle Bean Ziggy Plum Ginger Clover Noodle Pebble Socks Tango"
)
# Names that nobody has, so that a name is something to remember and not something to know.
NAME_BEGINNINGS = _words(
    "Ba Be Bo Da Di Do Fa Fi Ga Ka Ki Ko La Lo Lu Ma Mi Mo Na Ni No Pa Po Ra Ri Ro Sa Si Ta To Va Zi"
)
NAME_MIDDLES = _words("b d ff k l ll lm m mb n nd nk p r rb rl s st t v z")
NAME_ENDS = {"he": _words("o in us an ek i or"), "she": _words("a ia ina elle i ika ya")}

ANIMALS = _words(
    "fox rabbit mouse bear cat dog duck hedgehog squirrel frog lamb pony kitten puppy otter badger hen pig goat deer "
    "owl sparrow penguin elephant monkey turtle dragon elf robot troll"
)
TRAITS = _words(
    "little small kind brave shy happy clever curious quiet cheerful gentle funny young merry busy tiny friendly lively "
    "dreamy proud careful playful"
)
HOBBIES = (
    "sing",
    "dance in the rain",
    "count the clouds",
    "look at the stars",
    "run over the meadow",
    "listen to stories",
    "pick berries",
    "jump into puddles",
    "sit by the water",
    "climb trees",
    "draw in the sand",
    "watch the birds",
    "help in the kitchen",
    "play hide and seek",
    "tell jokes",
    "eat [apples|warm bread|sweet plums|soup]",
)
PLACES = (
    "in a [small|little|tiny|quiet] [village|town] [by the sea|near the forest|in the mountains|on an island]",
    "in a [small|little|cosy|tiny] [house|cottage|hut] [near|at the edge of|behind] the [forest|village|meadow|hill]",
    "in a [yellow|white|blue] house with a [red|green|brown] door",
    "on a [small|big|quiet|busy] farm [with green hills|near the river|far from the town]",
    "at the edge of a [big|deep|dark|green] forest",
    "in a valley full of [flowers|apple trees|butterflies]",
    "next to an old [mill|bridge|church]",
    "by a [blue|deep|quiet|wide] [lake|river|pond]",
    "under [the tall mountains|an old oak tree|a mossy rock]",
    "on a [quiet|long|narrow] street with many trees",
    "on top of a [green|windy|little] hill",
    "in a land where [it was always spring|the winters were long|it rained every morning]",
)
TIMES = (
    "one [day|morning|evening|afternoon]",
    "one [sunny|windy|cold|warm|bright|rainy|foggy|fine] [day|morning|afternoon]",
    "one day in [spring|summer|autumn|winter]",
    "on a [sunny|windy|cold|warm|bright|rainy|fine] [spring|summer|autumn|winter] day",
    "early one morning",
    "[late one|one quiet|one warm] evening",
)
COLORS = _words("red blue green yellow white purple golden orange silver pink")

# Of the family: word, pronoun.
FAMILY = (
    ("mother", "she"),
    ("father", "he"),
    ("grandmother", "she"),
    ("grandfather", "he"),
    ("aunt", "she"),
    ("uncle", "he"),
    ("big sister", "she"),
    ("big brother", "he"),
)


@dataclass(frozen=True)
class Helper:
    """Who comes along: ``name`` takes "a"; ``skill`` is what ways out ask for; ``pronoun`` "" means either."""

    name: str
    skill: str
    pronoun: str = ""


HELPERS = (
    *(
        Helper(name, "hands", "she")
        for name in ("old woman", "baker", "weaver", "gardener", "tall girl", "shepherd girl")
    ),
    *(Helper(name, "hands", "he") for name in ("old man", "farmer", "fisherman", "sailor", "friendly boy", "postman")),
    *(
        Helper(name, "wings")
        for name in ("wise owl", "black crow", "white goose", "little robin", "gray pigeon", "stork")
    ),
    *(
        Helper(name, "strong")
        for name in ("big bear", "brown horse", "strong donkey", "old goat", "huge ox", "gentle giant")
    ),
    *(
        Helper(name, "small")
        for name in ("slow turtle", "gray mouse", "busy beaver", "clever monkey", "old mole", "lizard")
    ),
)

OPENINGS = (
    "[once upon a time, there was|once there was|there once was|long ago, there was] a {trait} {kind} named {name}. {he} lived {home}.",
    "[once upon a time|once|long ago], there was a {trait} {kind} named {name}, who lived {home}.",
    "once upon a time, a {trait} {kind} named {name} lived {home}.",
    "once upon a time, {home}, there lived a {trait} {kind}. {his} name was {name}.",
    "{name} was a {trait} {kind}. {he} lived {home}.",
    "there once was a {trait} {kind} named {name}. {he} lived {home} with {his} [{parent}|{parent}|{parent}|whole family|two brothers].",
    "{home}, there lived a {trait} {kind} named {name}.",
)
HABITS = (
    "",
    "",
    "{name} loved to {hobby}.",
    "[every day|every morning|in the evening], {he} liked to {hobby}.",
    "everyone liked {name}, because {he} [always smiled|was so kind|made them laugh|had a good heart].",
    "more than anything else, {name} liked to {hobby}.",
    "{he} was [never|not often] bored.",
)

# Sentences that plots take by name.
SHARED: dict[str, tuple[str, ...]] = {
    "sad": (
        "{name} was [very|so|] sad.",
        "{name} sat down [on a stone|under a tree|in the grass|on the steps] and [cried|sighed|began to cry].",
        "{name} did not know what to do.",
        "a [big|little] tear ran down {his} [cheek|nose|face].",
        "{name} wanted to give up.",
        '"[oh no|oh dear]!" [said|cried|whispered] {name}.',
    ),
    "meet": (
        "[then|just then|at that moment], a {helper} came [by|along the path|out of the woods|down the road].",
        "after a while, {he} met a {helper}.",
        "a {helper} heard {him} and came [closer|to see what was wrong].",
        "a {helper} was [resting|sitting|humming a song] [nearby|in the shade] and looked up.",
        "on the way, {he} met a {helper}.",
    ),
    "ask": (
        '"why [are you so sad|do you look so sad|are you crying]?" asked the {helper}.',
        '"what is [wrong|the matter], [{name}|little one|my friend]?" asked the {helper}.',
        '"[can|may] I help you?" asked the {helper}.',
        '"tell me what happened," said the {helper}.',
        "the {helper} asked {name} [what was wrong|what had happened].",
    ),
    "answer": (
        '"{said}," [said|answered|whispered] {name}.',
        '"oh, {said}," said {name} in a [low|sad|small] voice.',
        '"{said}. [please help me,|what should I do?]" said {name}.',
        "{name} told the {helper} everything.",
    ),
    "offer": (
        '"do not [worry|cry|be sad]," said the {helper}. "I have an idea."',
        '"I will help you," said the {helper}.',
        '"[we can do it together|two can do more than one|come with me]," said the {helper}, and {hhe} smiled.',
        "the {helper} thought for a [moment|while]. then {hhe} [smiled|nodded|laughed].",
        '"let me see," said the {helper}.',
        "",
    ),
    "thanks": (
        '"thank you[|so much| very much]!" [said|cried|called] {name}.',
        '"thank you, dear {helper}!" said {name}[|, and {he} hugged {hhim}].',
        "{name} [jumped for joy and|laughed and] thanked the {helper}.",
        '"you are so kind," said {name}.',
        "{name} [gave the {helper} a big hug|was so glad that {he} danced].",
        "",
    ),
    "friends": (
        "from that day on, {name} and the {helper} were [best|good|close] friends.",
        "and {name} never forgot the {helper}.",
        "{name} and the {helper} [met|talked|laughed together] [every day|every week|many times] after that.",
        "and {name} learned that it is good to ask for help.",
        "since then, {name} helps everyone who is sad.",
        "{name} learned that a big problem gets small when you have a friend.",
    ),
    "night": (
        "that night {name} [slept well|had sweet dreams|fell asleep with a smile].",
        "that evening {name} went to bed [happy|tired but happy|with a warm heart].",
        "when the [moon|first star] came out, {name} was [fast asleep|already dreaming].",
        "and they [were|stayed] happy for a long, long time.",
        "it was the best day of [the year|{his} life|the whole summer].",
        "{name} told the story again and again.",
    ),
}
