"""Plots of the little stories: things built and lost, the family, nights, treasures, letters. Templates as in stories.py."""

from stories import PARAGRAPH, Plot

FRIEND = (
    "{his} best friend was a {ftrait} {fkind} named {friend}.",
    "{he} had a friend, a {ftrait} {fkind} named {friend}.",
    "next door lived a {ftrait} {fkind} named {friend}, and the two were good friends.",
    "{he} often played with a {ftrait} {fkind} named {friend}.",
)

BUILT = Plot(
    "built",
    (
        FRIEND,
        (
            "{oneday}, {name} and {friend} [built|made] a {size} {thing} {where}.",
            '{oneday}, {name} said to {friend}, "let us build a {thing} {where}!" they [began at once|worked all morning].',
        ),
        (
            "{friend} brought {part}, and {name} did the rest.",
            "{name} put {part} on top.",
            "they worked until their hands were [cold|dirty|tired].",
        ),
        (
            '"it is the best {thing} in the world," said {friend}.',
            '"look how [big|beautiful] it is!" cried {name}.',
            "it was so [big|beautiful] that everyone stopped to look.",
        ),
        (PARAGRAPH + "but in the night, {loss}.", PARAGRAPH + "but the next day, {loss}."),
        (
            "in the morning, only {part} [was left|lay there].",
            "there was nothing left of the {thing}.",
            "when {name} saw it, {he} could not say a word.",
        ),
        (
            '{name} began to cry. "all that work!" {he} said.',
            '{friend} kicked a stone. "it is not fair," {fhe} said.',
            "{sad}",
        ),
        (
            PARAGRAPH
            + '"was it fun to build it?" asked {his} {parent}. {name} nodded. "then build it again," said {his} {parent}.',
            PARAGRAPH + '"nobody can take the fun away that you had," said {his} {parent}.',
            PARAGRAPH + '{name} thought for a while. then {he} said, "we know now how it is done!"',
        ),
        (
            "so {name} and {friend} built a new {thing}, and it was even better than the first.",
            "{name} and {friend} began again, and this time {all} came to help.",
            "the second {thing} was done in half the time.",
        ),
        (
            "and they laughed more than before.",
            "and if it goes again, they will build another one.",
            "{night}",
            "{name} made a picture of it, and it hangs over {his} bed.",
        ),
    ),
    (
        (
            {
                "thing": "snowman",
                "where": ("in the garden", "in front of the house", "on the hill"),
                "part": ("a long turnip", "an old pot", "two black stones"),
                "loss": ("the sun melted it", "a warm wind came, and it melted away"),
            },
            {
                "thing": "sandcastle",
                "where": ("on the beach", "by the sea", "at the shore"),
                "part": ("a white shell", "a little ribbon", "a long feather"),
                "loss": ("the sea washed it away", "a big wave took it"),
            },
            {
                "thing": "tree house",
                "where": ("in the old oak", "in the biggest tree", "in the garden"),
                "part": ("an old door", "a rope ladder", "a small window"),
                "loss": ("a storm blew it down", "a thick branch fell and broke it"),
            },
            {
                "thing": "raft",
                "where": ("by the river", "on the pond", "at the lake"),
                "part": ("an old sheet", "a long pole", "a strong rope"),
                "loss": ("the flood took it away", "it floated off in the rain"),
            },
            {
                "thing": "tower of stones",
                "where": ("by the brook", "on the hill", "behind the house"),
                "part": ("a round stone", "a green branch", "a flat stone"),
                "loss": ("a cow knocked it over", "the wind knocked it over"),
            },
        ),
        ({"size": ("big", "huge", "tall", "wonderful")},),
        ({"all": ("all the neighbours", "the whole street", "all the others", "even {his} {parent}")},),
    ),
)
LOST_CHILD = Plot(
    "lost",
    (
        ("{oneday}, {name} went to {place} with {his} {parent}.", "{oneday}, {his} {parent} took {name} to {place}."),
        (
            "there was so much to see.",
            "it was [loud|full of people], and there was something new at every corner.",
            '"stay close to me," said {his} {parent}.',
        ),
        ("{name} stopped to look at {sight}.", "then {name} saw {sight} and ran to look."),
        (
            "when {he} turned around, {his} {parent} was gone.",
            "{he} looked for a long time. then {he} looked up, and {his} {parent} was not there.",
        ),
        (
            PARAGRAPH + "{name} [ran up and down|looked left and right|called], but {he} saw only strangers.",
            PARAGRAPH + "{name} wanted to cry. all the faces were strange.",
        ),
        ("the heart of {name} beat fast.", '"what shall I do now?" thought {name}.', "{sad}"),
        (
            'then {he} remembered what {his} {parent} had said: "if you are lost, {advice}."',
            '"if you are lost, {advice}," {his} {parent} always said. now {name} remembered it.',
        ),
        ("{done}.",),
        (
            PARAGRAPH + 'it was not long, and {name} heard a voice. "{name}! there you are!" it was {his} {parent}.',
            PARAGRAPH + "soon {his} {parent} came running. {phe} was out of breath.",
        ),
        (
            "{phe} took {name} in {phis} arms and did not let {him} go.",
            '"I looked for you everywhere," said {his} {parent}. "I am so glad."',
            '"you did just the right thing," said {his} {parent}.',
        ),
        (
            "then they had a look at {sight} together.",
            "hand in hand they went home.",
            "{name} held the hand of {his} {parent} all the way home.",
            "{night}",
        ),
    ),
    (
        ({"place": ("the market", "the fair", "the big town", "the harbour", "the circus")},),
        (
            {
                "sight": (
                    "a dancing bear",
                    "the colorful fish",
                    "a man with a flute",
                    "a big wheel with lights",
                    "the baskets full of cherries",
                    "a parrot that could talk",
                    "a ship with white sails",
                    "the soap bubbles",
                )
            },
        ),
        (
            {
                "advice": "stay where you are",
                "done": "so {name} sat down on a step and waited, and {he} counted to one hundred",
            },
            {
                "advice": "go to the well in the middle",
                "done": "{name} asked for the way and went to the well in the middle",
            },
            {"advice": "ask a friendly face", "done": "{name} went to {face} and told {his} name"},
            {"advice": "sing our song", "done": "{name} climbed on a box and sang their song as loudly as {he} could"},
        ),
        ({"face": ("a woman with apples", "an old couple", "a young man with a broom")},),
    ),
)
STAGE = Plot(
    "stage",
    (
        FRIEND,
        (
            "{oneday}, the [school|village|town] got ready for the big feast. {name} was to {act} in front of everyone.",
            '{oneday}, the teacher said to {name}, "at the feast, you will {act}."',
        ),
        (
            "{name} practised [every day|in the bath|behind the barn|for the hens].",
            "at home, {he} could do it without a mistake.",
            '"you will be wonderful," said {his} {parent}.',
        ),
        (
            "but when {he} thought of all the people, {his} knees shook.",
            "but the night before, {name} could not sleep.",
            '"what if I forget everything?" asked {name}.',
        ),
        (
            PARAGRAPH + "then the evening came. the hall was full of people, and all of them looked at {name}.",
            PARAGRAPH + "on the day of the feast, {name} stood in front of all the people. it was very quiet.",
        ),
        (
            "{name} opened {his} mouth, but [nothing came out|{his} head was empty].",
            "{he} began, and then {he} stopped. {he} did not know how to go on.",
        ),
        ("somebody laughed, and {name} wanted to run away.", "{his} face got red, and {he} looked at the floor.", ""),
        (
            "but there in the first row sat {friend}. {fhe} [smiled and nodded|waved|showed {fhis} thumbs].",
            "then {he} saw {friend}, who [nodded|smiled] and hummed very softly.",
        ),
        (
            PARAGRAPH + "{name} took a deep breath and began again. and this time it went well.",
            PARAGRAPH + '"I do it only for {friend}," thought {name}, and {he} began again.',
        ),
        (
            "in the end, everyone clapped.",
            "the people stood up and clapped for a long time.",
            '"bravo!" called the people.',
        ),
        (
            '"I knew that you could do it," said {friend}.',
            '"without you I would have run away," said {name} to {friend}.',
            "{his} {parent} was so proud that {phe} cried a little.",
        ),
        (
            "now {name} is not afraid of people any more.",
            "and {name} learned that one friend is enough to be brave.",
            "{night}",
        ),
    ),
    (
        (
            {
                "act": (
                    "sing a song",
                    "play the flute",
                    "say a poem",
                    "dance",
                    "show a magic trick",
                    "tell a story",
                    "play the horn",
                )
            },
        ),
    ),
)
FISHING = Plot(
    "fishing",
    (
        (
            "{oneday}, {name} went fishing with {his} {parent}.",
            '{oneday}, {his} {parent} said, "come, we will catch a fish for dinner."',
        ),
        (
            "they sat down [on a log|on a flat stone|under a willow] by the [lake|river|pond] and waited.",
            "the water was [still|smooth|like a mirror], and they waited.",
        ),
        ("[an hour|a long time] went by, and nothing happened.", "no fish came. {name} [yawned|sighed|moved about]."),
        (
            '"when will it bite?" asked {name}. "when it wants to," said {his} {parent}.',
            '"this is boring," said {name}. {his} {parent} only smiled.',
        ),
        (
            PARAGRAPH + '"look over there," whispered {his} {parent}. there was {sight}.',
            PARAGRAPH + "then {name} saw something. it was {sight}.",
        ),
        (
            "{name} had never seen anything like it.",
            "they sat very still and watched it.",
            '"you see that only if you wait," said {his} {parent}.',
        ),
        (
            "{his} {parent} told {him} {tale}.",
            "they shared bread and apples, and {his} {parent} told {him} {tale}.",
            "",
        ),
        (
            PARAGRAPH + 'suddenly the line began to [pull|shake]. "now!" called {his} {parent}.',
            PARAGRAPH + "just when {name} had forgotten the fish, something pulled at the line.",
        ),
        (
            "{name} pulled with all {his} strength, and there it was: a [big|silver|golden|tiny] fish.",
            "together they pulled a [big|silver|shiny] fish out of the water.",
        ),
        (
            'the fish looked at {name} with round eyes. "shall we let it go?" asked {name}. {his} {parent} nodded.',
            '"it is too beautiful to eat," said {name}, and {he} put it back into the water.',
            "{name} was so proud that {he} carried it home in both arms.",
        ),
        (
            "there was only soup for dinner, but it was the best day of all.",
            '"when do we go again?" asked {name} on the way home.',
            "and {name} learned that waiting can be fun.",
            "{night}",
        ),
    ),
    (
        (
            {
                "sight": (
                    "a deer with her fawn",
                    "a blue bird on a branch",
                    "a family of ducks",
                    "an otter with a shell",
                    "a dragonfly as big as a hand",
                    "a heron on one leg",
                    "a turtle in the sun",
                )
            },
        ),
        (
            {
                "tale": (
                    "how {phe} was once lost in the fog",
                    "what {phe} did when {phe} was small",
                    "a story about a giant fish",
                    "the names of all the trees",
                    "why the moon gets thin and fat",
                )
            },
        ),
    ),
)
MOON = Plot(
    "moon",
    (
        (
            "{oneday}, {name} [looked out of the window|lay in the grass] and saw {light}.",
            "every night, {name} looked at {light} before {he} went to sleep.",
        ),
        (
            '"I want to have it," said {name}.',
            '"if only I could touch it!" {he} thought.',
            '"I will catch it," said {name}, "and put it next to my bed."',
        ),
        ("first {he} {try1}, but {it} was too far away.", "{he} {try1}. it did not help."),
        ("then {he} {try2}, but {it} was still too high.", "then {he} {try2}, but {it} did not come closer.", ""),
        (PARAGRAPH + "{meet}",),
        (
            '"what are you doing there?" asked the {helper}. "I want to catch {it}," said {name}.',
            'the {helper} laughed. "nobody can catch {it}," {hhe} said.',
        ),
        (
            '"come with me," said the {helper}, and {hhe} took {name} to the [pond|well|lake].',
            "the {helper} led {name} to the quiet [pond|lake].",
        ),
        (
            "there {it} was, right in the water, so close that {name} could touch it.",
            '"look down," said the {helper}. and there {it} was, in the water, bright and round.',
        ),
        (
            PARAGRAPH
            + "{name} put a hand into the water. {it} broke into a hundred pieces, and then it was whole again.",
            PARAGRAPH + "{name} took a cup of the water, and {it} was in the cup, too.",
        ),
        (
            '"you see," said the {helper}, "it belongs to everyone."',
            '"some things are there to look at," said the {helper}.',
            '"now it is yours, and it is still mine," said the {helper}.',
        ),
        (
            "{name} nodded. {he} was happy with that.",
            "{thanks}",
            "they sat by the water for a long time and said nothing.",
        ),
        ("and when {name} can not sleep, {he} thinks of the light in the water.", "{friends}", "{night}"),
    ),
    (
        (
            {"light": "the moon", "it": "the moon"},
            {"light": "a bright star", "it": "the star"},
            {"light": "the evening star", "it": "the star"},
        ),
        (
            {
                "try1": (
                    "jumped as high as {he} could",
                    "stood on {his} toes",
                    "climbed on a chair",
                    "put one box on the other",
                )
            },
        ),
        ({"try2": ("climbed the highest tree", "went up the hill", "climbed on the roof", "took a long net")},),
    ),
)
TRADE = Plot(
    "trade",
    (
        (
            '{oneday}, {name} went to the market with {one}. {his} {parent} had said, "bring home {four}."',
            '{oneday}, {his} {parent} gave {name} {one} and said, "please get {four} for it."',
        ),
        ("but nobody wanted to give {four} for {the1}.", "but at the market, everyone only shook their heads."),
        ("{sad}", "{name} thought hard.", ""),
        (
            PARAGRAPH
            + 'then {he} met a {helper}. "I could use {the1}," said the {helper}. "I will give you {two} for it."',
            PARAGRAPH + 'a {helper} saw {the1} and liked it. "will you take {two} for it?" asked the {helper}.',
        ),
        ("{name} said yes.", '"why not?" said {name}.', '"thank you," said {name}.'),
        (
            'a little later, a {fkind} named {friend} saw {the2}. "oh, I need that!" said {friend}. "I have {three}."',
            "by the well stood a {fkind} named {friend}. {fhe} had {three} and was looking for {two}.",
        ),
        ("so they traded, and both were happy.", '"let us trade," said {name}, and so they did.'),
        (
            PARAGRAPH + "at the last stall, an old man had {four}. but what did he need? he needed {three}!",
            PARAGRAPH + 'then a woman called out, "who has {three}? I give {four} for it!" {name} ran to her.',
        ),
        ("with {the4} in {his} arms, {name} ran home.", "so {name} got {the4} after all."),
        (
            '"how did you do that?" asked {his} {parent}. {name} told {phim} the whole story.',
            "{his} {parent} laughed when {phe} heard how it had been.",
            '"you are a clever one," said {his} {parent}.',
        ),
        (
            "and {name} learned that everyone needs something else.",
            "{night}",
            "since then, {name} likes to go to the market.",
        ),
    ),
    (
        tuple(
            {"one": one, "the1": the}
            for one, the in (
                ("a jar of jam", "the jam"),
                ("a big cheese", "the cheese"),
                ("a fresh bread", "the bread"),
                ("a sack of corn", "the corn"),
            )
        ),
        tuple(
            {"two": two, "the2": the}
            for two, the in (
                ("a woolen cap", "the cap"),
                ("a good rope", "the rope"),
                ("a silk shawl", "the shawl"),
                ("a sharp axe", "the axe"),
            )
        ),
        ({"three": ("a basket of apples", "a bag of salt", "a fat goose", "a pot of honey")},),
        tuple(
            {"four": four, "the4": the}
            for four, the in (
                ("a new broom", "the broom"),
                ("a warm coat", "the coat"),
                ("a copper pan", "the pan"),
                ("a wooden chair", "the chair"),
            )
        ),
    ),
)
WINTER = Plot(
    "winter",
    (
        FRIEND,
        (
            "all summer long, {name} gathered {food} for the winter.",
            "in the summer, {name} worked every day and put {food} into {his} cellar.",
        ),
        (
            '"come and play!" called {friend}. "the winter is far away."',
            '{friend} lay in the sun and laughed. "why do you work so much?" {fhe} asked.',
            "but {friend} only [sang|danced|slept] and did not think of the winter.",
        ),
        (
            '"winter always comes," said {name}.',
            '"I want to have enough to eat," said {name}.',
            "{name} played a little, and then {he} went on.",
        ),
        (
            PARAGRAPH + "then the winter came. the snow was as high as the door.",
            PARAGRAPH + "the days got short and cold, and then it snowed for a week.",
        ),
        ("{name} sat by the warm stove and ate {food}.", "{name} had enough, and {his} house was warm."),
        (
            "one evening, somebody knocked at the door. it was {friend}, cold and hungry.",
            "then there was a soft knock. {friend} stood in the snow and shivered.",
        ),
        (
            '"I have nothing to eat," said {friend} and looked down.',
            '"you were right," whispered {friend}. "I am so hungry."',
        ),
        (
            PARAGRAPH + '{name} could have said, "I told you so." but {he} said, "come in! there is enough for two."',
            PARAGRAPH + '"come in quickly," said {name}, and {he} gave {friend} a bowl of {food}.',
        ),
        (
            "{friend} ate and ate, and then {fhe} sang for {name}, all the songs of the summer.",
            "so they stayed together until spring, and {friend} told funny stories every evening.",
            "the long evenings were not long any more, because {friend} sang so well.",
        ),
        (
            "and the next summer, {friend} helped {name} to gather {food}.",
            "the next summer they worked together, and they sang together, too.",
            '"next summer I will help you," said {friend}, and {fhe} did.',
        ),
    ),
    (({"food": ("nuts", "corn", "apples", "potatoes", "dry mushrooms", "beans", "honey", "chestnuts")},),),
)
SICK = Plot(
    "sick",
    (
        FRIEND,
        (
            "{oneday}, {friend} did not come to play.",
            "{oneday}, {name} waited for {friend}, but {friend} did not come.",
        ),
        (
            '"{friend} is ill," said {his} {parent}.',
            "{name} went to the house of {friend}. {friend} lay in bed and was ill.",
        ),
        (
            '"my {ache} hurts so much," said {friend}.',
            "{friend} had a hot head and a red nose.",
            "{friend} could not even laugh.",
        ),
        (
            PARAGRAPH + "{name} wanted to help. so {he} brought {gift}.",
            PARAGRAPH + '"what could help?" thought {name}. then {he} had an idea and brought {gift}.',
        ),
        (
            "{friend} smiled a little.",
            '"that is nice of you," said {friend} in a weak voice.',
            '"I can not even eat," said {friend}.',
        ),
        (
            "then {name} sat down on the bed and told {friend} [a story|a funny story|the news of the day].",
            "{name} read to {friend} until {fhe} fell asleep.",
            "{name} made funny faces until {friend} had to laugh.",
        ),
        ("every day {name} came again.", "the next day {name} came again, and the day after, too."),
        (
            PARAGRAPH + 'after [three days|a week], {friend} got up. "I am well again!" {fhe} called.',
            PARAGRAPH + "and then, one morning, {friend} stood at the door of {name}. {fhe} was well again.",
        ),
        (
            '"it was you who made me well," said {friend}.',
            "they [danced|jumped] about in the garden.",
            '"now we can play again," said {name}.',
        ),
        (
            "but then {name} began to [cough|sneeze]. and who came with {gift}? {friend}!",
            "a month later, {name} was ill. and every day {friend} came and brought {gift}.",
            "from then on, they looked after each other.",
            "{night}",
        ),
    ),
    (
        (
            {
                "gift": (
                    "hot soup",
                    "sweet tea",
                    "a bunch of flowers",
                    "warm milk with honey",
                    "a bowl of berries",
                    "a soft pillow",
                )
            },
        ),
        ({"ache": ("head", "stomach", "throat", "tooth", "ear")},),
    ),
)
BRIDGE = Plot(
    "bridge",
    (
        (
            "{oneday}, {name} had to go over the old bridge to {errand}.",
            "{oneday}, {his} {parent} sent {name} over the bridge to {errand}.",
        ),
        (
            "but everyone said that a {monster} lived under it.",
            '"be careful," said {his} {parent}. "a {monster} lives under it."',
        ),
        ("{name} went on {his} toes, but the wood creaked.", "{name} was afraid, but {he} went on, step by step."),
        (
            '"who is walking over my bridge?" [roared|called] a deep voice. it was the {monster}.',
            'and there it stood, the {monster}, as big as a barn. "this is my bridge!" it [roared|called].',
        ),
        (
            PARAGRAPH + '{name} wanted to run. but then {he} said, "good morning. my name is {name}."',
            PARAGRAPH + '{his} knees shook. but {name} said, "good day. may I please go over your bridge?"',
        ),
        (
            'the {monster} was [silent|surprised]. "nobody has ever said good morning to me," it said.',
            'the {monster} opened its mouth and closed it again. "you are not afraid?" it asked.',
        ),
        (
            "then {name} saw that the {monster} had [sad eyes|a thorn in its foot|tears in its eyes].",
            "and {name} saw that it was not angry at all. it was lonely.",
        ),
        (
            '"are you alone here?" asked {name}. the {monster} nodded.',
            '"everyone runs away from me," said the {monster}.',
            '"would you like {gift}?" asked {name}.',
        ),
        (
            PARAGRAPH + "{name} sat down and shared {gift} with the {monster}.",
            PARAGRAPH + "so {name} gave it {gift}, and the {monster} smiled with all its teeth.",
        ),
        (
            "they talked until it was time to go.",
            "the {monster} told {him} what the river says at night.",
            "then it carried {name} over the bridge.",
        ),
        (
            "now {name} goes over the bridge every week, and the {monster} is waiting.",
            "and the {monster} was never lonely again.",
            '"it is only big, not bad," {name} told everyone, and soon the others came, too.',
            "{night}",
        ),
    ),
    (
        ({"monster": ("troll", "dragon", "giant", "big monster", "water monster")},),
        ({"gift": ("an apple", "some bread", "a piece of cheese", "a plum", "a cookie")},),
        (
            {
                "errand": (
                    "fetch milk",
                    "bring a letter to the mill",
                    "buy salt",
                    "visit the miller",
                    "pick mushrooms",
                    "get to school",
                )
            },
        ),
    ),
)
TREASURE = Plot(
    "treasure",
    (
        FRIEND,
        (
            "{oneday}, {name} found an old map [in the attic|behind a stone|in a bottle|under the floor].",
            "{oneday}, a piece of paper fell out of an old box. it was a map.",
        ),
        (
            'a red cross was on it. "a treasure!" cried {name}.',
            '"that is a treasure map," whispered {name}.',
            "there was a path on it, and at the end a big cross.",
        ),
        (
            "{he} showed it to {friend}, and they set out at once.",
            '"we must look for it!" said {friend}, and they took a [shovel|rope|lantern] and went.',
        ),
        (PARAGRAPH + "first they had to go {leg1}.", PARAGRAPH + 'the map said, "go {leg1}."'),
        (
            "then they went {leg2}, and {friend} fell and laughed.",
            "then they had to go {leg2}. {friend} was tired, but {name} gave {fhim} a hand.",
            "after that they went {leg2}. it was not easy.",
        ),
        ("at last they stood before {spot}.", "and there was {spot}, just as on the map."),
        (
            '"here we must dig," said {friend}.',
            "they dug until it was almost dark.",
            "{name} dug, and then {friend} dug.",
        ),
        (
            PARAGRAPH + "there was a [small|rusty|wooden] chest. slowly they opened it. inside was {find}.",
            PARAGRAPH + "then something went clonk. it was a [small|rusty|wooden] chest, and in it was {find}.",
        ),
        ('"is that all?" asked {friend}. but {name} {meaning}.', "first they were silent. then {name} {meaning}."),
        (
            '"the best treasure was the way," said {friend}.',
            "on the way home they [sang|laughed] the whole time.",
            "they hid the map again, for somebody else to find.",
            "{night}",
        ),
    ),
    (
        (
            {
                "leg1": (
                    "through the dark woods",
                    "along the river",
                    "up the steep hill",
                    "across the meadow",
                    "past the old mill",
                )
            },
        ),
        (
            {
                "leg2": (
                    "over the slippery stones",
                    "through a narrow cave",
                    "across the swamp",
                    "down into the valley",
                    "through the thorns",
                )
            },
        ),
        (
            {
                "spot": (
                    "an oak with two trunks",
                    "a rock like a face",
                    "an old well",
                    "a big white stone",
                    "a hollow tree",
                )
            },
        ),
        (
            {
                "find": ('a letter. "you were brave enough to come here," it said',),
                "meaning": ("read it again and smiled", "put the letter into {his} pocket and was proud"),
            },
            {
                "find": ("a bag of seeds",),
                "meaning": ("put them into the ground, and in summer it was a sea of flowers",),
            },
            {"find": ("a music box",), "meaning": ("opened it, and it began to play the most beautiful song",)},
            {"find": ("an old toy bear",), "meaning": ("held it in {his} arms and gave it a name",)},
            {"find": ("a heap of chocolate coins",), "meaning": ("began to laugh, and they ate them all on the spot",)},
        ),
    ),
)
LETTER = Plot(
    "letter",
    (
        (
            "{oneday}, {name} found a bottle [on the beach|in the river|in the reeds]. there was a letter in it.",
            "{oneday}, {name} saw something in the water. it was a bottle with a letter in it.",
        ),
        (
            '"hello, you out there," it said. "my name is {friend}, and I live {far}. who are you?"',
            '"who finds this letter?" it said. "I am a {fkind} named {friend}, and I live {far}."',
        ),
        (
            "{name} read it three times.",
            "{name} ran home to show it to {his} {parent}.",
            "the heart of {name} beat faster.",
        ),
        (
            "{he} wrote an answer, put it into the bottle and threw it into the water.",
            '"dear {friend}," wrote {name}, and {he} told about {his} home and that {he} loved to {hobby}.',
        ),
        (
            PARAGRAPH + "then {name} waited. [a week|a month|the whole summer] went by.",
            PARAGRAPH + "every day {name} looked for a bottle, but there was none.",
        ),
        (
            '"maybe the sea has lost it," said {his} {parent}.',
            "{name} did not give up hope.",
            '"a letter needs time," said {his} {parent}.',
        ),
        (
            "but one morning, there was a bottle again. it was from {friend}!",
            "and then, when {he} had almost forgotten it, a bottle came. it was from {friend}!",
        ),
        (
            "so they wrote to each other for [a year|a long time].",
            "they wrote about everything: the weather, their friends, their dreams.",
        ),
        (
            PARAGRAPH
            + 'then, one day in summer, somebody knocked. a {ftrait} {fkind} stood at the door. "I am {friend}," {fhe} said.',
            PARAGRAPH
            + 'at last {friend} wrote, "I will come and visit you." and then a ship came, and on it stood a {ftrait} {fkind} and waved.',
        ),
        (
            "it was as if they had always known each other.",
            "{name} and {friend} talked all night long.",
            "{name} showed {friend} everything: the house, the garden, the place where the first bottle had been.",
        ),
        ("and the bottle stands by the window to this day.", "{name} and {friend} stayed friends for ever.", "{night}"),
    ),
    (
        (
            {
                "far": (
                    "on a small island",
                    "on the other side of the sea",
                    "far up in the north",
                    "where the river begins",
                    "in a lighthouse",
                    "behind the seven hills",
                )
            },
        ),
    ),
)
MACHINE = Plot(
    "machine",
    (
        ("{he} liked to build things.", "{his} room was full of wheels, wires and nails.", ""),
        (
            '{oneday}, {name} said, "I will build a machine that can {job}."',
            '{oneday}, {name} did not want to {job}. "I will build a machine for that," {he} said.',
        ),
        (
            "{he} took {part1}, {part2} and a lot of string.",
            "out of {part1} and {part2} {he} built something very strange.",
        ),
        (
            '"will it work?" asked {his} {parent}. "of course," said {name}.',
            '"what is that?" asked {friend}, the {ftrait} {fkind} from next door. "wait and see," said {name}.',
        ),
        (
            PARAGRAPH + "{name} pulled the lever. the machine went {sound}.",
            PARAGRAPH + "then {name} pushed the button, and the machine began to shake. {sound}, it went.",
        ),
        ("at first it went well.", '"it works!" cried {name}.', "slowly the wheels began to turn."),
        ("but then it went faster and faster, and {mess}.", "but it did not stop any more, and {mess}."),
        ('"stop, stop!" shouted {name}. but a machine has no ears.', "{name} pulled every lever, but nothing helped."),
        (
            PARAGRAPH + "in the end it made a loud bang and fell into pieces.",
            PARAGRAPH + "{his} {parent} pulled out a cord, and it was quiet.",
        ),
        (
            "{name} looked around. everything was upside down.",
            "{name} was black from head to foot.",
            "for a moment, nobody said a word.",
        ),
        (
            "then {his} {parent} began to laugh, and {name} laughed, too.",
            '"tomorrow I will make it better," said {name}. "today you will clean up," said {his} {parent}.',
            '"that was a good idea," said {his} {parent}, "but maybe a small one next time."',
        ),
        (
            "it is still easier to {job} by hand.",
            "{night}",
            "and now {name} is building something new. nobody knows what it is.",
        ),
    ),
    (
        (
            {
                "job": "wash the dishes",
                "mess": ("the plates flew through the window", "there was soap up to the ceiling"),
            },
            {
                "job": "make the beds",
                "mess": ("the pillows burst, and feathers came down like snow", "the sheets were in knots"),
            },
            {
                "job": "peel potatoes",
                "mess": ("the potatoes flew around like birds", "nothing was left of the potatoes"),
            },
            {"job": "feed the hens", "mess": ("it rained corn on the whole village", "the hens ran over the hill")},
            {"job": "sweep the floor", "mess": ("the dust was as thick as fog", "it swept the shoes out of the door")},
            {"job": "brush teeth", "mess": ("everything was full of white foam", "it brushed the cat")},
        ),
        ({"part1": ("an old bike", "a broken clock", "two wheels", "a rusty bucket")},),
        ({"part2": ("a pan", "a horn", "three spoons", "a broomstick", "a kettle")},),
        ({"sound": ("clack, clack, clack", "rattle, rattle", "puff, puff, puff", "zoom")},),
    ),
)
