"""Plots of the little stories: at home.

Templates as in stories.py. Slots of every story: name, kind, trait, he, him, his, himself (the hero); friend, fkind,
ftrait, fhe, fhim, fhis; helper, hhe, hhim, hhis; parent, phe, phim, phis; color, home, hobby, oneday, and SHARED's.
"""

from stories import PARAGRAPH, Plot

TRUTH = Plot(
    "truth",
    (
        (
            "{oneday}, {name} was playing in the [kitchen|house|living room], and {crash} the {color} {thing} of {his} {parent} fell down and broke.",
            "{oneday}, {name} ran through the house. {crash} the {color} {thing} of {his} {parent} lay on the floor, broken.",
        ),
        ("it was the {thing} that {phe} [loved|liked] most.", "{his} {parent} had had the {thing} for many years.", ""),
        (
            "{name} hid the pieces [under the bed|behind the stove|in a box|in the garden].",
            "quickly {name} put the pieces [under the carpet|into a drawer|into a sack].",
        ),
        (
            PARAGRAPH + 'when {his} {parent} came home, {phe} asked, "where is my {thing}?"',
            PARAGRAPH + '"have you seen my {color} {thing}?" asked {his} {parent} in the evening.',
        ),
        (
            '"I do not know," said {name}, and {his} face got red.',
            '"maybe {other}," said {name}. but {he} could not look up.',
            "{name} only shook {his} head.",
        ),
        (
            "that night {he} could not sleep.",
            "{name} did not want to eat, and nothing was fun any more.",
            "{he} had a [heavy|strange] feeling in {his} stomach.",
        ),
        (
            PARAGRAPH
            + 'in the morning, {name} took the pieces and went to {his} {parent}. "it was me," {he} said. "I am sorry."',
            PARAGRAPH
            + 'at last {name} [could not bear it any longer|got up]. "I broke the {thing}," {he} said, and {he} began to cry.',
        ),
        (
            "{his} {parent} was silent for a moment. then {phe} took {name} in {phis} arms.",
            '"I know," said {his} {parent}, "and I am glad that you told me."',
            '"a {thing} can be mended," said {his} {parent}. "but you told me the truth, and that is worth more."',
        ),
        (
            "together they glued the {thing}, piece by piece.",
            "they made a new {thing} out of [clay|wood], and {name} painted it {color}.",
            '"shall we glue it together?" asked {his} {parent}. and so they did.',
        ),
        (
            "and {name} felt as light as a feather.",
            "and {name} always told the truth after that.",
            "{night}",
            "now you can see the cracks, but {his} {parent} likes the {thing} even more.",
        ),
    ),
    (
        ({"thing": ("vase", "cup", "bowl", "plate", "teapot", "mirror", "clock", "jug")},),
        ({"crash": ("crash,", "bang,", "bump,")},),
        ({"other": ("the wind did it", "a mouse took it", "the cat knows it", "it ran away")},),
    ),
)
NOISE = Plot(
    "noise",
    (
        (
            "{oneday}, {name} could not sleep. there was a noise [outside|under the bed|in the attic|behind the door].",
            "one dark night, {name} woke up. something was [outside|under the bed|in the attic|behind the door].",
        ),
        (
            "{sound}, it went. {sound}.",
            '"{sound}," it went, again and again.',
            "first it was quiet, and then it came again: {sound}.",
        ),
        (
            "{name} pulled the pillow over {his} head.",
            "the heart of {name} beat very fast.",
            '"it is a [monster|ghost|wolf]," thought {name}.',
        ),
        (
            PARAGRAPH + "{he} called {his} {parent}, and {phe} came with a candle.",
            PARAGRAPH + '{name} ran to {his} {parent}. "I am afraid," {he} whispered.',
            PARAGRAPH + 'then {name} remembered what {his} {parent} always said: "look, and then you know."',
        ),
        (
            '"come, we will look together," said {his} {parent}.',
            '"what can it be?" asked {his} {parent}. "let us find out."',
            "hand in hand they went to look.",
        ),
        (
            "slowly, step by step, they went on. {sound}, it went again.",
            "{his} knees were shaking, but {he} did not run away.",
            "",
        ),
        (
            PARAGRAPH + "and what did they see? {cause}!",
            PARAGRAPH + "there was no [monster|ghost|wolf] at all. {cause}!",
        ),
        ("{name} [began to laugh|laughed and laughed].", '"was that all?" laughed {name}.', "how they laughed!"),
        ("{solution}.",),
        (
            "then {he} went back to bed and slept until the sun came up.",
            '"things are bigger in the dark," said {his} {parent}, and {name} nodded.',
            "after that, {name} was not afraid of noises any more.",
            "and if there is a noise now, {name} gets up and looks.",
        ),
    ),
    (
        (
            {
                "sound": ("tap, tap, tap", "knock, knock"),
                "cause": ("it was a branch that tapped on the wall", "it was a bird that knocked at the wood"),
                "solution": ("{name} said good night to it", "they listened for a while, and it was almost like music"),
            },
            {
                "sound": ("scratch, scratch", "crunch, crunch"),
                "cause": ("it was a tiny mouse with a crumb", "it was a hedgehog that ate an apple"),
                "solution": ("{name} gave it a piece of cheese", "they let it eat and went away on their toes"),
            },
            {
                "sound": ("drip, drip, drip", "plop, plop"),
                "cause": (
                    "it was the rain that came through a hole in the roof",
                    "it was water that dropped into a bucket",
                ),
                "solution": ("they put a pot under it, and it was quiet", "they closed the hole with a bit of wood"),
            },
            {
                "sound": ("meow, meow", "whine, whine"),
                "cause": ("it was a kitten that was cold", "it was a puppy that had lost its way"),
                "solution": ("{name} took it into {his} warm bed", "they gave it some milk and a place by the stove"),
            },
            {
                "sound": ("hoo, hoo", "whoosh, whoosh"),
                "cause": ("it was only the wind in the chimney", "it was an owl that sang to the moon"),
                "solution": ("{name} waved to the moon", "they sat by the window and listened"),
            },
        ),
    ),
)
HELPING = Plot(
    "helping",
    (
        ("but {he} did not like to [work|help|tidy up].", "but there was one thing {he} never did: help at home.", ""),
        (
            '{oneday}, {his} {parent} asked, "can you help me {chore}?" "[no|later|not now], I want to play," said {name}.',
            '{oneday}, {his} {parent} wanted to {chore}. "help me," {phe} said. but {name} ran away to play.',
        ),
        (
            "so {his} {parent} did it alone, and it took the whole day.",
            "{his} {parent} said nothing and did it alone.",
            "{his} {parent} sighed and began alone.",
        ),
        (
            PARAGRAPH + "in the afternoon, {name} wanted to {fun}, but {his} {parent} was too tired.",
            PARAGRAPH
            + '"now let us {fun}!" said {name} in the evening. but {his} {parent} was already asleep in the chair.',
        ),
        (
            "{name} sat there alone, and {he} thought about it.",
            "then {name} saw how tired {phe} was, and {he} [was sorry|felt bad].",
            "{name} looked at the tired hands of {his} {parent}.",
        ),
        (
            PARAGRAPH
            + "the next morning {name} got up before [everyone else|the sun]. {he} began to {chore}, all by {himself}.",
            PARAGRAPH + 'the next day {name} said, "today I will help you {chore}."',
        ),
        (
            "it was hard work, but it was fun, too.",
            "{he} sang while {he} worked, and the time went by fast.",
            "first {he} did it wrong, but then {he} saw how it was done.",
        ),
        (
            "when {his} {parent} saw it, {phe} could not believe {phis} eyes.",
            "{his} {parent} was so [glad|proud] that {phe} gave {name} a kiss.",
            '"with two it is only half the work," said {his} {parent}.',
        ),
        (
            "and then they had time to {fun} together.",
            "and in the evening they could {fun}, both of them.",
        ),
        ("since then, {name} helps every day.", "{night}", "and {name} learned that work is light when two do it."),
    ),
    (
        (
            {
                "chore": (
                    "sweep the floor",
                    "wash the dishes",
                    "pick the apples",
                    "feed the hens",
                    "carry the wood",
                    "clean the windows",
                    "hang up the washing",
                    "dig the garden",
                    "peel the potatoes",
                    "paint the fence",
                )
            },
        ),
        (
            {
                "fun": (
                    "play cards",
                    "read a story",
                    "go fishing",
                    "play a game",
                    "go to the fair",
                    "bake cookies",
                    "swim in the lake",
                    "build a snowman",
                    "look at the stars",
                )
            },
        ),
    ),
)
DIFFERENT = Plot(
    "different",
    (
        (
            "but {name} had {odd}, and the others laughed about it.",
            '{name} had {odd}. "look at that!" said the others again and again.',
        ),
        (
            "even {friend}, [a|the] {ftrait} {fkind} from next door, laughed.",
            "{friend}, a {ftrait} {fkind}, laughed the loudest.",
        ),
        (
            '"I wish I were like the others," thought {name}.',
            "{name} often sat alone [by the pond|behind the house] and was sad.",
            "so {name} tried to hide it [under a hat|with a big coat], but that did not help.",
        ),
        (
            '"one day you will be glad of it," said {his} {parent}.',
            '"you are just right as you are," said {his} {parent}, but {name} did not believe it.',
            "",
        ),
        (PARAGRAPH + "{oneday}, {danger}.",),
        (
            "everyone [cried|shouted|ran here and there], and nobody knew what to do.",
            '"what shall we do?" asked {friend}.',
            '"help!" called {friend}, who was very afraid.',
        ),
        ("only {name} [stayed calm|knew what to do]. {use}.", "then {name} had an idea. {use}."),
        (
            "and so everyone was safe.",
            "and so all was well again.",
        ),
        (
            PARAGRAPH + '"{name} saved us!" [called|cried|shouted] everyone.',
            PARAGRAPH + "nobody laughed any more. they all thanked {name}.",
        ),
        (
            '"I am sorry that I laughed about you," said {friend}.',
            '"I wish I had {odd}, too," said {friend}.',
            '"we are sorry," the others said. "will you play with us?"',
        ),
        (
            "and {name} was glad to have {odd}.",
            "from then on, {name} was proud of {himself}.",
            "{night}",
            '"did I not tell you?" said {his} {parent}, and {phe} smiled.',
        ),
    ),
    (
        (
            {
                "odd": ("very big ears",),
                "also": (
                    {
                        "danger": "the fog was so thick that nobody found the way home",
                        "use": (
                            "{he} listened with {his} big ears and heard the church of the village",
                            "{his} big ears could hear the sea, and {he} led them home",
                        ),
                    },
                    {
                        "danger": "a flood came in the night",
                        "use": "{he} had heard the water from far away with {his} big ears and woke them all in time",
                    },
                ),
            },
            {
                "odd": ("a very loud voice",),
                "also": (
                    {
                        "danger": "a fire broke out in the barn",
                        "use": "{he} shouted with {his} loud voice until the whole village came with buckets",
                    },
                    {
                        "danger": "the little ones were lost in the woods",
                        "use": "{he} called so loudly that they heard {him} and found the way",
                    },
                ),
            },
            {
                "odd": ("very long legs",),
                "also": (
                    {
                        "danger": "the bridge broke and the children were on the other side",
                        "use": "{he} walked through the river on {his} long legs and carried them over, one by one",
                    },
                    {
                        "danger": "a flood came, and the water was everywhere",
                        "use": "{he} waded through it on {his} long legs and took everyone to the hill",
                    },
                ),
            },
            {
                "odd": ("a very long nose", "a big red nose"),
                "also": (
                    {
                        "danger": "a fire broke out in the night",
                        "use": "{his} nose had smelled the smoke, and {he} woke them all in time",
                    },
                    {
                        "danger": "there was nothing to eat in the long winter",
                        "use": "{his} nose smelled the sweet roots under the snow, and there was enough for all",
                    },
                ),
            },
            {
                "odd": ("very small hands", "such a small body"),
                "also": (
                    {
                        "danger": "the key fell into a crack in the floor, and they were locked in",
                        "use": "{he} was so small that {he} got it out at once",
                    },
                    {
                        "danger": "a chick fell into a narrow pipe",
                        "use": "{he} was so small that {he} crept in and got it out",
                    },
                ),
            },
            {
                "odd": ("eyes that saw in the dark", "very big round eyes"),
                "also": (
                    {
                        "danger": "all the candles went out in the deep cave",
                        "use": "{he} saw the way with {his} big eyes and led them out",
                    },
                    {
                        "danger": "somebody got lost on a night without a moon",
                        "use": "{he} looked around with {his} big eyes and found the lost one behind a rock",
                    },
                ),
            },
        ),
    ),
)
CELEBRATION = Plot(
    "birthday",
    (
        (
            "{oneday}, it was the birthday of {his} {parent}, but {name} had no [money|present].",
            '{oneday}, {name} thought, "tomorrow is the birthday of my {parent}, and I have no present."',
        ),
        (
            "in the window of the shop was a {color} {thing}, but it was too [dear|expensive].",
            "{name} wanted to buy a {color} {thing}, but {he} had only one coin.",
        ),
        ("{sad}", "{he} looked at the {thing} for a long time.", ""),
        (
            PARAGRAPH + 'then {he} had an idea. {he} went to a {boss} and asked, "can I work for you?"',
            PARAGRAPH + 'a {boss} saw {him} and said, "you can earn some money if you help me."',
        ),
        ("all day long {name} {work}.", "{name} {work} until {his} arms were tired."),
        (
            '"well done," said the {boss} and gave {him} [three|five|some] coins.',
            'in the evening the {boss} gave {him} the money. "you are a good worker," said the {boss}.',
        ),
        (
            "{name} ran to the shop. but the {thing} was gone!",
            "quickly {name} ran to the shop and bought the {thing}.",
            "there was just enough for the {color} {thing}.",
        ),
    ),
    (
        ({"thing": ("scarf", "vase", "hat", "teapot", "necklace", "umbrella", "lamp", "mirror")},),
        (
            {"boss": "baker", "work": ("carried sacks of flour", "swept the bakery")},
            {"boss": "farmer", "work": ("picked apples", "fed the pigs", "gathered eggs")},
            {"boss": "miller", "work": ("carried sacks of corn", "cleaned the old wheel")},
            {"boss": "gardener", "work": ("pulled weeds", "watered the flowers", "raked the leaves")},
            {"boss": "fisherman", "work": ("washed the nets", "carried baskets of fish")},
        ),
    ),
)
# The birthday goes on in one of two ways, which the beat before decides.
BIRTHDAYS = tuple(
    Plot(f"birthday {name}", (*CELEBRATION.beats[:-1], *rest), CELEBRATION.cases)
    for name, rest in (
        (
            "bought",
            (
                CELEBRATION.beats[-1][1:],
                (PARAGRAPH + "the next morning {name} gave the {thing} to {his} {parent}.",),
                (
                    '"where did you get it?" asked {his} {parent}. "I worked for it," said {name}.',
                    '"what a beautiful {color} {thing}!" said {his} {parent}.',
                ),
                (
                    "{his} {parent} [hugged {him}|was so happy that {phe} cried].",
                    '"it is the best present of all," said {his} {parent}, "because you worked for it."',
                ),
                ("{night}", "and {name} was proud of {himself}."),
            ),
        ),
        (
            "gone",
            (
                CELEBRATION.beats[-1][:1],
                ("somebody else had bought it.", '"I sold it an hour ago," said the woman in the shop.'),
                (
                    PARAGRAPH
                    + "so {name} [made|painted] a picture of the {color} {thing} and gave it to {his} {parent}.",
                    PARAGRAPH
                    + "on the way home {name} picked flowers, as many as {he} could carry, and gave them to {his} {parent}.",
                ),
                ('"I wanted to buy you a {thing}," said {name}, "but it was gone."',),
                (
                    '{his} {parent} laughed and hugged {him}. "I like this much more than a {thing}," {phe} said.',
                    '"you are my best present," said {his} {parent}.',
                ),
                ("with the coins they [bought|ate] two big buns.", "{night}"),
            ),
        ),
    )
)
