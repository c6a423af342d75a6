"""Plots of the little stories: what is wanted, what is in the way, who helps, and how it ends.

Templates as in stories.py. Slots of every story: name, kind, trait, he, him, his, himself (the hero); friend, fkind,
ftrait, fhe, fhim, fhis; helper, hhe, hhim, hhis; parent, phe, phim, phis; color, home, hobby, oneday, and SHARED's.
"""

from stories import PARAGRAPH, Case, Plot

# ------------------------------------------------------------------ a thing is out of reach, gone or broken

OUT_OF_REACH: Case = {
    "told": (
        "but the {thing} [was|hung|got caught] high up in a [tree|pine|pear tree].",
        "but the wind [blew|carried] the {thing} up into a [tall|high|very old] tree.",
        "but the {thing} [got stuck|landed] on the roof.",
    ),
    "said": ("I [can not|cannot] reach my {thing}", "my {thing} is too high up"),
    "tried": (
        "{he} jumped [and jumped|as high as {he} could], but {he} was too small.",
        "{he} tried to climb up, but {he} slipped [down again|and fell on the grass].",
        "{he} threw a stick, but the {thing} did not move.",
    ),
    "by_skill": {
        "hands": (
            "the {helper} [brought|fetched] a long ladder and held it while {name} climbed up.",
            "the {helper} lifted {name} up, and {name} took the {thing} down.",
        ),
        "wings": ("the {helper} flew up, took the {thing} and dropped it [at the feet|into the arms] of {name}.",),
        "strong": (
            "{name} stood on the back of the {helper} and took the {thing} down.",
            "the {helper} shook the [wall and the branches|branches] until the {thing} fell down.",
        ),
        "small": ("the {helper} climbed up [quickly|step by step] and pushed the {thing} down to {name}.",),
    },
}
LOST: Case = {
    "told": (
        "but the {thing} was [gone|not there any more].",
        "but {he} could not find the {thing} [anywhere|any more].",
        "but the {thing} had fallen out of {his} [pocket|basket].",
    ),
    "said": ("I lost my {thing}", "my {thing} is gone", "I [can not|cannot] find my {thing}"),
    "tried": (
        "{he} looked [under the bed and behind the door|under every chair], but it was not there.",
        "{he} looked in the tall grass until it was dark, but {he} found nothing.",
        "{he} asked everyone, but no one had seen it.",
    ),
    "by_skill": {
        "hands": ("the {helper} lit a candle, and soon they saw the {thing} under a bush.",),
        "wings": ("the {helper} flew in a big circle and saw the {thing} next to the well.",),
        "strong": ("the {helper} moved a heavy stone, and the {thing} was behind it.",),
        "small": ("the {helper} crept into a [hole|dark corner] and came back with the {thing}.",),
        "any": (
            "they walked back the same way, step by step, and found the {thing} on the path.",
            '"think of the last place where you had it," said the {helper}. {name} did, and the {thing} was there.',
        ),
    },
}
BROKEN: Case = {
    "told": (
        "but the {thing} was broken.",
        "but the {thing} fell down and broke.",
        "but there was a [big|deep] crack in the {thing}.",
    ),
    "said": ("my {thing} is broken", "my {thing} fell down and broke"),
    "tried": (
        "{he} tried to mend it with mud, but it did not hold.",
        "{he} tied it with grass, but the grass was too weak.",
        "{he} pushed the parts together, but they fell down again.",
    ),
    "by_skill": {
        "hands": (
            "the {helper} had some glue, and together they made the {thing} as good as new.",
            "the {helper} [took out|brought] some tools and mended the {thing}.",
        ),
        "wings": ("the {helper} brought long strings, and together they tied the {thing} up well.",),
        "strong": ("the {helper} held the parts together while {name} tied a rope around the {thing}.",),
        "small": ("the {helper} had [tiny|clever] hands and put every part of the {thing} back in its place.",),
    },
}
THINGS = Plot(
    "things",
    (
        ("{oneday}, {wanted}",),
        ("{told}",),
        ("{tried}", "{tried}", ""),
        ("{sad}", "{sad}", ""),
        (PARAGRAPH + "{meet}",),
        ("{ask} {answer}", "{ask} {answer}", ""),
        ("{offer}",),
        ("{solved}",),
        (PARAGRAPH + "{thanks}",),
        ("{ended}",),
        ("{friends}", "{night}", "{friends} {night}"),
    ),
    (
        (
            {
                "thing": ("kite", "ball", "balloon", "hat", "paper plane"),
                "wanted": (
                    "{name} wanted to play with {his} {color} {thing}.",
                    "{name} went out to play with a {color} {thing}.",
                    "{name} got a {color} {thing} from {his} {parent} and ran outside to play with it.",
                ),
                "also": (OUT_OF_REACH, LOST),
                "ended": (
                    "then they played with the {thing} until the sun went down.",
                    "{name} played with the {thing} all day long.",
                    "{name} held the {thing} tight all the way home.",
                ),
            },
            {
                "thing": ("ring", "book", "bell", "scarf", "necklace", "music box", "comb"),
                "wanted": (
                    "{name} wanted to give {his} {parent} a {color} {thing}.",
                    "{name} had a {color} {thing} for {his} {parent}.",
                    "it was the birthday of {his} {parent}, and {name} had a {color} {thing} for {phim}.",
                ),
                "also": (LOST, OUT_OF_REACH),
                "ended": (
                    "{name} gave the {thing} to {his} {parent}, and {phe} was [so glad|very happy].",
                    "when {his} {parent} saw the {thing}, {phe} gave {name} a kiss.",
                ),
            },
            {
                "thing": ("boat", "drum", "wagon", "sled", "violin", "clock", "toy train"),
                "wanted": (
                    "{name} wanted to show {his} {color} {thing} to {his} friends.",
                    "{name} found an old {color} {thing} in the shed.",
                    "{name} was playing with {his} new {color} {thing}.",
                ),
                "also": (BROKEN, BROKEN, LOST),
                "ended": (
                    "soon all the children came to see the {thing}.",
                    "from then on, {name} took good care of the {thing}.",
                ),
            },
        ),
    ),
)

# ------------------------------------------------------------------ a way to somewhere

RIVER: Case = {
    "told": (
        "but there was a [wide|wild|deep] river in the way.",
        "but the old bridge was [broken|gone].",
        "but the water was deep and fast.",
    ),
    "said": ("I [can not|cannot] get over the water", "there is no way to the other side"),
    "tried": (
        "{he} put one foot in the water, but it was too cold and too deep.",
        "{he} tried to jump over it, but {he} fell in and got all wet.",
        "{he} walked up and down, but there was no way across.",
    ),
    "by_skill": {
        "hands": (
            "the {helper} had a little raft and took {name} to the other side.",
            "together they put a long tree over the water and walked across.",
        ),
        "wings": ("the {helper} knew a place with flat stones and showed {name} the way.",),
        "strong": ("{name} sat on the back of the {helper}, and they swam to the other side.",),
        "small": ("the {helper} gathered wood, and together they made a raft.",),
        "any": ("together they put big stones into the water and jumped from one to the next.",),
    },
}
NO_WAY: Case = {
    "told": (
        "but the forest was dark, and {he} did not know the way.",
        "but the snow was deep, and {he} could not see the path.",
        "but the fog came, and {he} could not see {his} own feet.",
    ),
    "said": ("I do not know the way", "I am lost"),
    "tried": (
        "{he} went left and right, but [every tree|everything] looked the same.",
        "{he} walked for an hour and came back to the same place.",
        "{he} called, but only the wind answered.",
    ),
    "by_skill": {
        "wings": ("the {helper} flew ahead and sang, and {name} followed the song.",),
        "hands": ("the {helper} took {name} by the hand, and they walked with a bright torch.",),
        "strong": ("{name} rode on the back of the {helper}, who knew every path.",),
        "small": ("the {helper} left a small white stone at every turn, and {name} followed them.",),
        "any": ("the {helper} showed {name} how to find the way [by the stars|by the sun|along the stream].",),
    },
}
JOURNEY = Plot(
    "journey",
    (
        ("{oneday}, {wanted}",),
        (
            "{he} [packed some bread|put on {his} boots|said goodbye] and set out.",
            "the way was long, and {he} [sang|hummed] a song.",
            "",
        ),
        ("{told}",),
        ("{tried}",),
        ("{sad}", ""),
        (PARAGRAPH + "{meet}",),
        ("{ask} {answer}",),
        ("{offer}",),
        ("{solved}",),
        (PARAGRAPH + "{ended}",),
        ("{thanks}",),
        ("{friends}", "{night}", "{friends} {night}"),
    ),
    (
        (
            {
                "goal": ("island", "castle", "secret garden", "tower", "waterfall", "snowy mountain", "lighthouse"),
                "wanted": (
                    "{name} wanted to see the {goal} far away.",
                    "{name} set out to find the {goal}.",
                    "{name} heard of a {goal} that no one had ever seen.",
                    "{name} dreamed of a {goal} and wanted to find it.",
                ),
                "ended": (
                    "at last they came to the {goal}, and it was even more beautiful than in the dream.",
                    "in the evening they stood before the {goal} and laughed.",
                    "and there was the {goal}, bright in the evening sun.",
                ),
            },
            {
                "goal": ("cousin", "best friend", "old nurse", "godmother", "godfather", "old neighbour"),
                "wanted": (
                    "{name} wanted to visit {his} {goal}.",
                    '{name} got a letter from {his} {goal}. "come and visit me," it said.',
                    "{name} heard that {his} {goal} was [ill|all alone|sad] and wanted to go there at once.",
                ),
                "ended": (
                    "the {goal} of {name} opened the door and gave them warm milk.",
                    "{his} {goal} was so happy that they all danced in the kitchen.",
                    "{his} {goal} was waiting at the gate and [waved|laughed|called their names].",
                ),
            },
        ),
        (RIVER, NO_WAY),
    ),
)

# ------------------------------------------------------------------ something is made

MAKING = Plot(
    "making",
    (
        ("{oneday}, {wanted}",),
        (
            "but {he} had no {need}.",
            "but there was no {need} left in the house.",
            "but someone had used up all the {need}.",
            '"we need {need}," said {his} {parent}, "and there is none."',
        ),
        (
            "{he} looked in every box, but the boxes were empty.",
            "{he} went to the shop, but the shop was closed.",
            "{he} tried it with sand, but that did not work at all.",
            "",
        ),
        ("{sad}", ""),
        (PARAGRAPH + "{meet}",),
        ("{ask} {answer}", "{ask} {answer}", ""),
        ("{solved}",),
        ("{thanks}",),
        (PARAGRAPH + "{name} [ran|hurried|went] home and {work}.",),
        ("{ended}",),
        ("{name} gave {taste} to the {helper}, too.", ""),
        ("{friends}", "{night}"),
    ),
    (
        (
            {
                "wanted": (
                    "{name} wanted to [make|bake] a big {thing} for the party.",
                    "{name} wanted to make a {thing} for {his} {parent}.",
                    "{name} was hungry and wanted to make a {thing}.",
                ),
                "work": (
                    "stirred [and baked|and tasted|for an hour]",
                    "lit the fire in the stove",
                    "put everything into a big pot",
                ),
                "taste": ("a piece", "a big piece", "the biggest piece"),
                "ended": (
                    "soon the {thing} was ready, and it smelled very good.",
                    "they ate the {thing} together, and there was not a crumb left.",
                    "it was the best {thing} that they had ever tasted.",
                ),
                "also": (
                    {"thing": "cake", "need": ("flour", "sugar", "butter", "milk")},
                    {"thing": "pie", "need": ("flour", "honey", "butter")},
                    {"thing": "loaf of bread", "need": ("flour", "salt")},
                    {"thing": "pancake", "need": ("flour", "milk", "sugar")},
                    {"thing": "pizza", "need": ("cheese", "flour")},
                    {"thing": "pudding", "need": ("milk", "sugar", "honey")},
                ),
            },
            {
                "wanted": (
                    "{name} wanted to make a {color} {thing}.",
                    "{name} wanted to make a {color} {thing} for the [spring|summer|winter] feast.",
                    "{name} saw one at the market and wanted to make a {color} {thing}.",
                ),
                "work": ("worked [all day|until the evening|for two days]", "sat down at the table and began"),
                "taste": ("a ribbon", "a flower", "a song"),
                "ended": (
                    "the {color} {thing} was the finest in the whole land.",
                    "everyone clapped when they saw the {color} {thing}.",
                    "{his} {parent} said that {phe} had never seen such a beautiful {thing}.",
                ),
                "also": (
                    {"thing": "mask", "need": ("paper", "paint", "string")},
                    {"thing": "flag", "need": ("cloth", "paint", "string")},
                    {"thing": "dress", "need": ("cloth", "wool", "thread")},
                    {"thing": "puppet", "need": ("cloth", "wood", "string")},
                    {"thing": "birdhouse", "need": ("wood", "paint", "nails")},
                    {"thing": "blanket", "need": ("wool", "thread")},
                ),
            },
        ),
        (
            {
                "said": ("I have no {need}", "there is no {need} left"),
                "by_skill": {
                    "hands": ("the {helper} had plenty of {need} at home and gave {name} as much as {he} needed.",),
                    "wings": ("the {helper} flew over the hill and came back with some {need}.",),
                    "strong": ("the {helper} carried some {need} all the way from the market.",),
                    "small": ("the {helper} had saved some {need} for the winter and shared it.",),
                    "any": ("{name} gave the {helper} a song, and the {helper} gave {name} some {need}.",),
                },
            },
        ),
    ),
)

# ------------------------------------------------------------------ something is learnt

LEARNING = Plot(
    "learning",
    (
        ("{oneday}, {name} [saw the others {skills} and wanted to learn it, too|wanted to learn to {action}].",),
        (
            "but {he} was afraid.",
            "but {he} thought {he} could never do it.",
            "but the others laughed, and {he} ran away.",
            "but it was [hard|harder than {he} thought].",
        ),
        (
            "{he} closed {his} eyes and tried, but {he} fell over.",
            "{he} tried once, but {his} legs shook, and {he} stopped.",
            "{he} hid behind a tree and cried a little.",
            '"I will never learn to {action}," {he} thought.',
        ),
        ("{sad}", ""),
        (PARAGRAPH + "{meet}",),
        ("{ask} {answer}",),
        (
            '"I was afraid, too, when I was young," said the {helper}. "let us try slowly."',
            '"one small step each day," said the {helper}.',
            '"nobody can do it the first time," said the {helper}.',
            '"you only have to begin," said the {helper}.',
        ),
        ("{solved}",),
        (
            PARAGRAPH
            + "on the [first|second] day, {name} [fell again|was not good at it], but {he} [got up|laughed|tried again].",
            "",
        ),
        (
            "after a week, {name} could {action} better than anyone.",
            "now {name} loves to {action} every day.",
            '"look, I can {action}!" called {name}[| to {his} {parent}].',
        ),
        ("{thanks}", ""),
        (
            "and {name} learned that everyone has to begin somewhere.",
            "and {name} was not afraid any more.",
            "soon {name} helped the little ones to learn it, too.",
            "{friends}",
        ),
    ),
    (
        tuple(
            {"action": action, "skills": action}
            for action in (
                "swim",
                "dance",
                "sing",
                "climb",
                "skate",
                "ride a bike",
                "whistle",
                "read",
                "juggle",
                "play the flute",
                "row",
                "cook",
                "jump over the brook",
                "stand on one leg",
                "write",
            )
        ),
        (
            {
                "said": ("I am too afraid", "I want to {action}, but I can not", "I will never learn it"),
                "by_skill": {
                    "hands": ("the {helper} held the hand of {name} until {name} was not afraid any more.",),
                    "wings": ("the {helper} sang a brave song, and {name} sang it, too, and forgot to be afraid.",),
                    "strong": ("the {helper} stood next to {name}, as big as a house, and {name} felt safe.",),
                    "small": (
                        '"look how small I am," said the {helper}, "and I can do it." then {name} wanted to try again.',
                    ),
                    "any": (
                        "so {name} took one small step each day.",
                        "they tried it together, again and again, until the sun went down.",
                        "the {helper} showed {name} how to do it, very slowly.",
                    ),
                },
            },
        ),
    ),
)

# ------------------------------------------------------------------ something grows

GROWING = Plot(
    "growing",
    (
        (
            '{oneday}, {name} [wanted to grow a {plant}|put a seed into the ground and wished for a {plant}|got a seed from {his} {parent}. "it will be a {plant}," said {his} {parent}].',
        ),
        (
            "but it did not rain for many days.",
            "but the ground was hard and dry.",
            "but nothing came out of the ground.",
        ),
        (
            "{he} sang to it every night, but nothing happened.",
            "{he} waited and waited, but nothing came up.",
            "{he} looked every morning, but there was only brown earth.",
        ),
        ("{sad}", ""),
        (PARAGRAPH + "{meet}",),
        ("{ask} {answer}",),
        ("{offer}", '"good things need time," said the {helper}.'),
        ("{solved}",),
        (
            PARAGRAPH + "after [many|ten|seven] days, {name} saw a tiny green leaf.",
            PARAGRAPH + "then, one morning, there was a little green leaf.",
        ),
        ("{name} shouted for joy.", "{name} ran to tell {his} {parent}.", ""),
        (
            "[in summer|a few weeks later] the {plant} was the biggest in the village.",
            "the leaf grew and grew, and soon a fine {plant} stood in the sun.",
            "soon everyone came to see the {plant}.",
        ),
        ("{name} [gave|brought] the {helper} {fruit}.", "{friends}", "and {name} learned to wait."),
    ),
    (
        (
            {"plant": ("sunflower", "rose", "tulip", "daisy"), "fruit": ("the first flower", "a bunch of flowers")},
            {
                "plant": ("pumpkin", "carrot", "plum tree", "cherry tree", "melon"),
                "fruit": ("the first fruit", "a basket full of fruit"),
            },
        ),
        (
            {
                "said": ("my {plant} will not grow", "nothing comes out of the ground"),
                "by_skill": {
                    "hands": ("the {helper} showed {name} how to dig the ground and water it every evening.",),
                    "wings": ("the {helper} kept the birds away and brought drops of water.",),
                    "strong": ("the {helper} carried water from the river, one bucket after the other.",),
                    "small": ("the {helper} dug tiny holes so that the water could get to the roots.",),
                    "any": ("so {name} gave it water every day and waited with the {helper}.",),
                },
            },
        ),
    ),
)
