"""Similarity of texts: near copies of each other, and texts in different scripts."""

import unicodedata
from collections import Counter

NEAR_COPY = 0.8
"""Similarity above which a text is a copy of another with a few letters changed."""

GRAM = 5
"""Characters of a gram: about a word, so that a changed letter costs five grams."""


def folded(text: str) -> str:
    """`text` in lower case, with single spaces.

    Example:
        >>> folded("  The Quiet\\nHarbour ")
        'the quiet harbour'
    """
    return " ".join(text.casefold().split())


def copy_similarity(one: str, other: str) -> float:
    """Jaccard similarity of the sets of character 5-grams of two folded texts, 0 to 1.

    A text of fewer characters is one gram. Cost: the sum of both lengths.

    Example:
        >>> copy_similarity("abcdefg", "ABCDEFX")  # abcde and bcdef of abcde, bcdef, cdefg, cdefx
        0.5
    """
    grams, others = (
        {text[i : i + GRAM] for i in range(max(len(text) - GRAM + 1, 1))}
        for text in (folded(one), folded(other))
    )
    return len(grams & others) / len(grams | others)


def script_share(text: str, other: str) -> float:
    """Share of the letters of `text` in the script of most letters of `other`, 0 to 1.

    This tells Russian from English, but not French from English: no dictionary is used. Chinese
    characters and kana count as one script, because Japanese uses both. 1 if either text has no
    letters.

    Example:
        >>> script_share("\u043b\u0443\u043d\u0430 moon", "the tides")
        0.5
    """
    ours, theirs = (
        Counter(_script(letter) for letter in one if letter.isalpha()) for one in (text, other)
    )
    if not ours or not theirs:
        return 1.0
    return ours[theirs.most_common(1)[0][0]] / ours.total()


def _script(letter: str) -> str:
    """The first word of a letter's Unicode name, which is its script, such as LATIN."""
    script = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
