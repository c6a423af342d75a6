"""Plots of the little stories: friends, small animals, strangers, wishes.

Templates as in stories.py. Slots of every story: name, kind, trait, he, him, his, himself (the hero); friend, fkind,
ftrait, fhe, fhim, fhis; helper, hhe, hhim, hhis; parent, phe, phim, phis; color, home, hobby, oneday, and SHARED's.
"""

from stories import PARAGRAPH, Plot

# ------------------------------------------------------------------ two friends

FRIEND = (
    "{his} best friend was a {ftrait} {fkind} named {friend}.",
    "{he} had a friend, a {ftrait} {fkind} named {friend}.",
    "next door lived a {ftrait} {fkind} named {friend}, and the two were good friends.",
)
TOGETHER = (
    "and {name} and {friend} stayed friends for ever.",
    "and {name} and {friend} [talked and laughed|told each other stories] until late.",
    "that night {name} and {friend} both slept well.",
    "from then on, {name} and {friend} [did everything together|shared everything].",
    '"you are my best friend," said {friend}, and {name} [smiled|said the same].',
)
QUARREL = Plot(
    "quarrel",
    (
        FRIEND,
        (
            "{oneday}, {name} and {friend} found a {color} {thing} [in the grass|by the road|near the well|under a bush].",
        ),
        (
            '"it is mine!" [cried|shouted] {name}. "no, it is mine!" [cried|shouted] {friend}.',
            '"I saw it first!" shouted {friend}. "no, I saw it first!" shouted {name}.',
            "both of them wanted to have the {thing}.",
        ),
        (
            "they pulled and pulled, and [the {thing} fell into the mud|both of them fell into the mud].",
            "{name} took the {thing} and ran away with it.",
            "{friend} got angry and went home.",
        ),
        (
            PARAGRAPH + "{name} sat alone at home. the {thing} was no fun without {friend}.",
            PARAGRAPH + "{name} had the {thing} now, but {he} [felt bad|was not happy].",
            PARAGRAPH + "that evening {name} could not [eat|sleep]. {he} missed {friend}.",
        ),
        (
            '"what is a {thing} good for without a friend?" asked {his} {parent}.',
            '"a friend is better than a {thing}," {he} thought.',
            '{his} {parent} said, "you can share it."',
        ),
        (
            PARAGRAPH + 'the next morning {name} [went|ran] to {friend}. "I am sorry," said {name}.',
            PARAGRAPH + 'so {name} knocked at the door of {friend}. "I am sorry," said {name}.',
        ),
        ('"I am sorry, too," said {friend}.', '{friend} [smiled|laughed] and said, "I am sorry, too."'),
        (
            "they had the {color} {thing} in turns, one day {name} and one day {friend}.",
            "they played with the {color} {thing} together, and it was much more fun.",
            "they gave the {color} {thing} to a [small child|poor family|little girl] that had no toys at all.",
        ),
        TOGETHER,
    ),
    (({"thing": ("kite", "ball", "drum", "sled", "wagon", "toy boat", "doll", "whistle", "puppet", "toy train")},),),
)
RACE = Plot(
    "race",
    (
        FRIEND,
        (
            "{oneday}, there was a [big|great] {contest} in the village.",
            "{oneday}, {name} and {friend} [went to|heard of] a {contest}.",
        ),
        (
            '"I will win," said {friend}. "I always win."',
            '"you are too slow for that," said {friend}, and {name} was hurt.',
            "{name} and {friend} both wanted to win the {color} medal.",
        ),
        (
            "{name} practised every day [before breakfast|after school|behind the barn].",
            '{name} was nervous, but {his} {parent} said, "just do your best."',
            "",
        ),
        (
            PARAGRAPH + "when the {contest} began, {friend} was [far|a little] ahead.",
            PARAGRAPH + "the {contest} began, and everyone [cheered|clapped|shouted].",
        ),
        (
            "but then {friend} {mishap}.",
            "but in the middle, {friend} {mishap}.",
            "but just before the end, {friend} {mishap}.",
        ),
        (
            "{name} could have won now, but {he} [stopped|turned around] and helped {friend}.",
            '"wait, I will help you!" called {name}, and {he} [ran back|did not think about the medal].',
        ),
        (
            '"why did you do that?" asked {friend}. "because you are my friend," said {name}.',
            '"now you can not win," said {friend}. "that does not matter," said {name}.',
            "",
        ),
        (
            PARAGRAPH + "they came to the end together, hand in hand, and were the very last.",
            PARAGRAPH + "they came in last, but nobody laughed.",
        ),
        (
            "but the [king|judge|mayor] gave the {color} medal to {name}, for [a good heart|being a good friend].",
            "the people clapped for {name} more than for the winner.",
            '"you are the real winner," said {his} {parent}.',
        ),
        TOGETHER,
    ),
    (
        (
            {
                "contest": ("race", "running race", "sack race"),
                "mishap": ("fell over a root", "hurt {fhis} foot", "stepped into a hole"),
            },
            {
                "contest": ("swimming race", "boat race"),
                "mishap": ("got tired and could not go on", "got caught in the weeds", "lost {fhis} way in the reeds"),
            },
            {
                "contest": ("sled race",),
                "mishap": ("slid into deep snow", "lost {fhis} mittens and froze", "fell off the sled"),
            },
        ),
    ),
)
NEW_FRIEND = Plot(
    "new friend",
    (
        ("but {he} was often alone and wished for a friend.", "but {he} had nobody to play with.", ""),
        (
            "{oneday}, a {ftrait} {fkind} named {friend} moved into the house next door.",
            "{oneday}, a new {fkind} came to the school. {fhis} name was {friend}.",
            "{oneday}, {name} saw a {fkind} at the [pond|gate|well]. {fhis} name was {friend}.",
        ),
        (
            "{friend} did not say a word and looked at {fhis} feet.",
            "{friend} sat alone [on the steps|under a tree], far from the others.",
            "nobody talked to {friend}, because {fhe} was so quiet.",
        ),
        (
            "the others laughed at {friend} because of {fhis} {odd}.",
            "{friend} had {odd}, and some children made jokes about it.",
            "",
        ),
        (
            PARAGRAPH + '{name} went to {friend} and said, "[hello|good morning|hi]! do you want to {game} with me?"',
            PARAGRAPH + '{name} thought for a while. then {he} went over and said, "let us {game} together!"',
        ),
        (
            "at first {friend} [shook {fhis} head|said nothing]. but {name} did not give up.",
            "{friend} looked up and [nodded|smiled a little].",
            '"with me?" asked {friend}. "yes, with you!" said {name}.',
        ),
        ("{name} shared {his} {snack} with {friend}.", "{name} gave {friend} half of {his} {snack}.", ""),
        (
            PARAGRAPH + "so they began to {game}, and {friend} was very good at it.",
            PARAGRAPH + "they had so much fun that [they forgot the time|they laughed until it hurt].",
        ),
        ('soon the others came and asked, "can we join you?"', "the others saw it and wanted to {game}, too.", ""),
        (
            '"nobody has ever asked me before," said {friend}.',
            '"thank you for asking me," said {friend}.',
            '"will you come again tomorrow?" asked {friend}. "of course," said {name}.',
        ),
        TOGETHER,
    ),
    (
        (
            {
                "game": (
                    "play ball",
                    "build a hut",
                    "run races",
                    "play hide and seek",
                    "look for shells",
                    "jump rope",
                    "draw",
                    "catch fish",
                    "make music",
                )
            },
        ),
        ({"snack": ("bread", "apple", "cookies", "plums", "cheese", "nuts", "bun", "pear")},),
        (
            {
                "odd": (
                    "big ears",
                    "old shoes",
                    "red hair",
                    "big teeth",
                    "large feet",
                    "patched clothes",
                    "thick glasses",
                    "short legs",
                )
            },
        ),
    ),
)

# ------------------------------------------------------------------ small animals, strangers, wishes

RESCUE = Plot(
    "rescue",
    (
        (
            "{oneday}, {name} heard a [small|thin|sad] voice [behind a bush|in the tall grass|near the path|by the fence].",
            "{oneday}, {name} found something [soft|small] [in the grass|under a leaf|on the path].",
        ),
        (
            "it was a baby {baby}. it {hurt}.",
            "a baby {baby} sat there. it {hurt}.",
            "there was a baby {baby}, all alone. it {hurt}.",
        ),
        (
            '"do not be afraid," said {name}. "I will help you."',
            '"you poor little {baby}," said {name}.',
            "the baby {baby} looked at {name} with big eyes.",
        ),
        (
            "{name} [wrapped|put] it in {his} [scarf|warm coat|hat] and carried it home.",
            "{he} took the baby {baby} home and made a [warm|soft] bed of [hay|wool|leaves] for it.",
        ),
        (
            "{his} {parent} brought [warm milk|some water|a few berries] for the baby {baby}.",
            '"what does a baby {baby} eat?" asked {name}. {his} {parent} knew it.',
            "",
        ),
        (
            PARAGRAPH + "for [three|five|many] days {name} [fed|looked after] the baby {baby}.",
            PARAGRAPH
            + "every morning {name} looked after the baby {baby}, and it got [stronger|better] and [stronger|better].",
        ),
        ("it [followed|watched] {him} everywhere.", "soon it could [run|hop|jump] about again.", ""),
        (
            "but at night it [looked out of the window|called for its mother], and {name} understood.",
            '"it misses its mother," said {his} {parent}. {name} was sad, but {he} knew that it was true.',
        ),
        (
            PARAGRAPH
            + "the next day {name} took the baby {baby} back to [the forest|the meadow|the place where {he} had found it]. its mother was waiting there.",
            PARAGRAPH
            + "so {name} and {his} {parent} looked for the mother of the baby {baby}, and they found her by the old oak.",
        ),
        (
            '"goodbye, little one," said {name}.',
            '"be well," said {name}, and waved.',
            "{name} cried a little, but {he} was happy, too.",
        ),
        (
            "[in spring|a year later|sometimes], a {baby} comes to the window and looks in. {name} knows who it is.",
            "and each time {name} walks there, a {baby} comes and greets {him}.",
            "{night}",
        ),
    ),
    (
        ({"baby": ("bird", "rabbit", "fox", "deer", "duck", "squirrel", "hedgehog", "owl", "seal", "goat")},),
        (
            {
                "hurt": (
                    "had lost its mother",
                    "had hurt its leg",
                    "was cold and hungry",
                    "was shaking all over",
                    "could not find its way home",
                    "was stuck between two stones",
                )
            },
        ),
    ),
)
STRANGER = Plot(
    "stranger",
    (
        (
            "{oneday}, {name} was on the way to [the market|school|the mill|the village] with {food} in {his} basket.",
            "{oneday}, {his} {parent} gave {name} {food} for the way, and {he} set out for [the market|the next village|the mill].",
        ),
        (
            "by the road sat a {helper}. {hhe} looked [tired|cold|hungry|tired and hungry].",
            "at the bridge, {he} met a {helper} who looked very [tired|hungry|weak].",
        ),
        (
            '"I have not eaten since yesterday," said the {helper}.',
            '"could you give me something to eat?" asked the {helper}.',
            '"I am so hungry," said the {helper}.',
        ),
        (
            "{name} was hungry, too. but {he} sat down and shared the {eaten} with the {helper}.",
            "{name} thought for a moment. then {he} gave the {helper} half of the {eaten}.",
            '"then let us eat together," said {name}, and {he} shared the {eaten} with the {helper}.',
        ),
        (
            '"you have a good heart," said the {helper}. "I will not forget it."',
            '"thank you, {name}," said the {helper}. "one day I will help you."',
        ),
        (PARAGRAPH + "[some weeks|a month|some time] later, {trouble}.",),
        (
            "{name} called for help, but nobody heard {him}.",
            "{name} did not know what to do.",
            '"help, help!" cried {name}.',
        ),
        (
            "then the {helper} came.",
            "who came along? it was the {helper}!",
            "but somebody was there at once. it was the {helper}.",
        ),
        ("{solved}",),
        (
            PARAGRAPH + '"you shared with me," said the {helper}, "and now I share with you."',
            PARAGRAPH + '"why did you come?" asked {name}. "because you are my friend," said the {helper}.',
            PARAGRAPH + "{thanks}",
        ),
        ("and {name} learned that a good deed comes back.", "{friends}", "{night}", "{friends} {night}"),
    ),
    (
        tuple(
            {"food": food, "eaten": eaten}
            for food, eaten in (
                ("bread and cheese", "bread and cheese"),
                ("a loaf of bread", "bread"),
                ("an apple pie", "pie"),
                ("two pears", "pears"),
                ("a bag of nuts", "nuts"),
                ("some honey cakes", "honey cakes"),
                ("a basket of plums", "plums"),
                ("a bag of cherries", "cherries"),
            )
        ),
        (
            {
                "trouble": ("{name} fell into a deep hole in the forest", "{name} slipped and fell into an old well"),
                "by_skill": {
                    "hands": (
                        "the {helper} let down a rope and pulled {name} out.",
                        "the {helper} put a ladder into it, and {name} climbed out.",
                    ),
                    "wings": (
                        "the {helper} brought the end of a long vine, and {name} climbed out.",
                        "the {helper} flew to the village and fetched help, and soon {name} was free.",
                    ),
                    "strong": ("the {helper} let down a branch and pulled {name} out with all {hhis} strength.",),
                    "small": (
                        "the {helper} dug a little path into the earth, and {name} climbed out.",
                        "the {helper} ran to the village and fetched help, and soon {name} was free.",
                    ),
                },
            },
            {
                "trouble": ("{name} was lost in the snow", "{name} was out on the hill when a storm came"),
                "by_skill": {
                    "any": (
                        "the {helper} knew a dry cave, and there they waited until the sky was blue again.",
                        "the {helper} showed {name} the way home, step by step.",
                    ),
                    "hands": ("the {helper} put a warm coat around {name} and took {him} home.",),
                    "strong": ("the {helper} let {name} ride on {hhis} back, all the way home.",),
                    "wings": ("the {helper} flew ahead and called, and {name} followed the voice.",),
                },
            },
            {
                "trouble": ("the cart of {name} got stuck in the mud", "a tree fell on the fence of {name}"),
                "by_skill": {
                    "any": (
                        "the {helper} called all {hhis} friends, and together they [pushed and pulled|worked] until all was well.",
                    ),
                    "strong": ("the {helper} pushed with all {hhis} strength, and soon all was well.",),
                    "hands": ("the {helper} brought tools, and soon all was well.",),
                },
            },
        ),
    ),
)
WISH = Plot(
    "wish",
    (
        (
            "{oneday}, {name} found a {magic} [in the sand|under a stone|by the river|in the attic].",
            "{oneday}, {name} [pulled|dug] a {magic} out of the [mud|sand|snow].",
        ),
        (
            'the {magic} [could speak|began to speak|had a voice]. "set me free, and you have one wish," it said.',
            '"[hello|good day], {name}," said the {magic}. "you may wish for one thing."',
        ),
        ("{name} did not think long.", "{name} laughed out loud.", "{name} could not believe {his} ears."),
        ('"I wish {wish}," said {name}.', '"then I wish {wish}!" cried {name}.'),
        (
            PARAGRAPH + "at first it was [wonderful|great fun].",
            PARAGRAPH + "and so it was. {name} was [very happy|happy for a day].",
        ),
        ("but [soon|after a while], {problem}.", "but the next morning, {problem}."),
        ("{sad}",),
        ("{his} {parent} did not know what to do, either.", ""),
        (
            PARAGRAPH + 'so {name} went back to the {magic}. "please take my wish back," {he} asked.',
            PARAGRAPH
            + '{name} ran to the {magic} as fast as {he} could. "I do not want my wish any more," {he} called.',
        ),
        (
            '"are you sure?" asked the {magic}. "yes, very sure," said {name}.',
            'the {magic} [laughed|was silent for a while]. "I thought so," it said.',
            '"what did you learn?" asked the {magic}. "{lesson}," said {name}.',
        ),
        (
            "then everything was as before.",
            "there was a [flash|puff of smoke|soft sound], and everything was as before.",
        ),
        ("{name} [went home|ran home] and hugged {his} {parent}.", "{name} had never been so glad.", "{night}"),
    ),
    (
        (
            {
                "magic": (
                    "golden fish",
                    "magic stone",
                    "silver bottle",
                    "magic ring",
                    "old lantern",
                    "crystal ball",
                    "magic feather",
                )
            },
        ),
        (
            {
                "wish": ("to have as many sweets as I can eat", "that it rains sweets"),
                "problem": ("{his} stomach hurt very much", "{name} could not see anything sweet any more"),
                "lesson": ("too much is not good", "enough is better than too much"),
            },
            {
                "wish": ("to be as big as a house", "to be the tallest of all"),
                "problem": (
                    "{name} did not fit into {his} bed, and everyone ran away",
                    "{he} could not get through the door",
                ),
                "lesson": ("I am just right as I am", "being big is not everything"),
            },
            {
                "wish": ("that it is always summer", "that it never rains again"),
                "problem": (
                    "the flowers [dried up|hung their heads], and the river was empty",
                    "all the animals were thirsty",
                ),
                "lesson": ("rain is good, too", "everything has its time"),
            },
            {
                "wish": ("that I never have to sleep", "that it is never night"),
                "problem": (
                    "{name} was so tired that {he} could not [play|walk]",
                    "nobody was awake to play with {him}, and {he} missed the stars",
                ),
                "lesson": ("the night is good, too", "sleep is good"),
            },
            {
                "wish": ("to be rich", "that everything I touch turns to gold"),
                "problem": (
                    "{he} had so much gold that {he} had to guard it day and night",
                    "everyone wanted {his} gold, and nobody played with {him}",
                ),
                "lesson": ("friends are better than gold", "gold is not everything"),
            },
            {
                "wish": ("that nobody can see me", "to be as light as air"),
                "problem": (
                    "nobody knew that {name} was there, and {he} felt alone",
                    "even {his} {parent} walked past {him}",
                ),
                "lesson": ("it is good to be seen", "I am just right as I am"),
            },
        ),
    ),
)
