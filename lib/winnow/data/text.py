"""When two texts are too alike to count as two: folding, and overlap of character 5-grams."""

__all__ = ["NEAR_COPY", "copy_similarity", "folded"]

NEAR_COPY = 0.8
"""Similarity above which a text is a copy of another with a few letters changed."""

GRAM = 5


def folded(text: str) -> str:
    """`text` without differences of case and white space.

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
