"""Titles and descriptions for simulated items: eight topics with words of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    things: tuple[str, ...]
    """Subjects of titles."""
    deeds: tuple[str, ...]
    """What the reader of a book learns, for descriptions."""


TOPICS = (
    Topic(
        "cooking",
        ("Kitchen", "Sourdough", "Market Table", "Spice Route", "Broth", "Orchard", "Wood Fire"),
        ("bake bread with a long rise", "season with whole spices", "cook for a full table"),
    ),
    Topic(
        "astronomy",
        ("Nebula", "Telescope", "Far Orbit", "Meteor", "Night Sky", "Eclipse", "Red Planet"),
        ("find planets with a small telescope", "read a star chart", "follow a comet for a year"),
    ),
    Topic(
        "gardening",
        ("Greenhouse", "Hedge", "Seed Bed", "Rose Walk", "Compost", "Meadow", "Glass House"),
        ("grow herbs on a sill", "prune fruit trees in winter", "keep bees near the beds"),
    ),
    Topic(
        "music",
        ("Quartet", "Night Chorus", "Fiddle", "Drum Line", "Organ Loft", "Ballad", "Brass Band"),
        ("hear how a melody is built", "keep time with a drum", "tune an old string instrument"),
    ),
    Topic(
        "mystery",
        ("Alibi", "Locked Room", "Inspector", "Cold Case", "Cipher", "Witness", "Harbour Fog"),
        ("follow a detective to the last clue", "doubt every witness", "break a coded letter"),
    ),
    Topic(
        "travel",
        ("Ferry", "Mountain Pass", "Desert Road", "Lighthouse", "Old Port", "Train North", "Atlas"),
        ("cross a border on foot", "sleep in harbour towns", "pack for a month by rail"),
    ),
    Topic(
        "fitness",
        ("Marathon", "Ridge Run", "Rowing", "Balance", "Strength", "Open Water", "Long Ride"),
        ("train for a first marathon", "breathe well under load", "recover after hard miles"),
    ),
    Topic(
        "coding",
        ("Compiler", "Debugger", "Protocol", "Kernel", "Parser", "Cluster", "Algorithm"),
        ("write a parser by hand", "trace a bug through the kernel", "prove a program correct"),
    ),
)

QUALITIES = (
    "Quiet",
    "Hidden",
    "Golden",
    "Broken",
    "Distant",
    "Patient",
    "Silver",
    "Restless",
    "Simple",
    "Ancient",
    "Little",
    "Bright",
    "Lost",
    "Northern",
    "Endless",
    "Honest",
    "Winter",
    "Summer",
)
FRAMES = ("The {} {}", "A {} {}", "{} {} Days", "{} {} Notes", "My {} {}", "{} {} Stories")
AUDIENCES = ("for beginners", "for the curious", "for experts", "for families", "for rainy days")


def describe_items(
    topic_I: NDArray[np.integer], rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """A distinct title and a one-sentence text for each item."""
    titles: list[str] = []
    texts: list[str] = []
    seen: dict[str, int] = {}
    for index in topic_I:
        topic = TOPICS[index]
        title = _pick(FRAMES, rng).format(_pick(QUALITIES, rng), _pick(topic.things, rng))
        seen[title] = seen.get(title, 0) + 1
        if seen[title] > 1:
            title = f"{title}, Volume {seen[title]}"
        deeds = rng.choice(topic.deeds, size=2, replace=False)
        texts.append(
            f"{title}. A book on {topic.name} {_pick(AUDIENCES, rng)}: {deeds[0]} and {deeds[1]}."
        )
        titles.append(title)
    return titles, texts


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
