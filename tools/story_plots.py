"""All plots of the little stories."""

from story_plots_days import (
    BRIDGE,
    BUILT,
    FISHING,
    LETTER,
    LOST_CHILD,
    MACHINE,
    MOON,
    SICK,
    STAGE,
    TRADE,
    TREASURE,
    WINTER,
)
from story_plots_friends import NEW_FRIEND, QUARREL, RACE, RESCUE, STRANGER, WISH
from story_plots_home import BIRTHDAYS, DIFFERENT, HELPING, NOISE, TRUTH
from story_plots_wishes import GROWING, JOURNEY, LEARNING, MAKING, THINGS

PLOTS = (
    THINGS,
    THINGS,
    JOURNEY,
    JOURNEY,
    MAKING,
    MAKING,
    LEARNING,
    GROWING,
    QUARREL,
    QUARREL,
    RACE,
    NEW_FRIEND,
    RESCUE,
    RESCUE,
    STRANGER,
    STRANGER,
    WISH,
    WISH,
    TRUTH,
    NOISE,
    HELPING,
    DIFFERENT,
    *BIRTHDAYS,
    BUILT,
    LOST_CHILD,
    STAGE,
    FISHING,
    MOON,
    TRADE,
    WINTER,
    SICK,
    BRIDGE,
    TREASURE,
    LETTER,
    MACHINE,
)
"""As often as a plot should come."""
