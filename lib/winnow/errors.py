"""The exceptions that Winnow raises when the fault is not a programming error.

WinnowError
├── ArtifactError    an artifact is missing, has another kind, or does not match its manifest
├── DataError        raw data cannot be read, or too much of it is bad
├── DivergenceError  training left the finite numbers
├── EncoderError     a text encoder is missing or cannot be used
├── GenerationError  the LLM engine did not produce what the job needs
├── RegressionError  a trained model is worse than the one that it started from
└── StoreError       the store of live events cannot be reached or refuses a request

A wrong value from a caller is a plain `ValueError`. Each type takes one message, so it survives
pickling between Ray processes.
"""

import difflib
from collections.abc import Iterable


class WinnowError(Exception):
    """Root of Winnow's errors; the message is one sentence that a user can act on."""


class ArtifactError(WinnowError):
    """An artifact is missing, has another kind, or does not match its manifest."""


class DataError(WinnowError):
    """Raw data cannot be read, or more of it is bad than allowed."""


class DivergenceError(WinnowError):
    """Training left the finite numbers; repeating it would only do so again."""


class EncoderError(WinnowError):
    """A text encoder is missing, or its files ask for something unsupported."""


class GenerationError(WinnowError):
    """The LLM engine did not produce what the job needs."""


class RegressionError(WinnowError):
    """A trained model is worse than the one that it started from."""


class StoreError(WinnowError):
    """The store of live events cannot be reached or refuses a request; a later retry may work."""


def suggestion(name: str, known: Iterable[str], *, otherwise: str = "there are") -> str:
    """End of a message about an unknown name: the most similar known one, else all of them.

    Example:
        >>> suggestion("mmo", ["star", "mmoe"])
        "did you mean 'mmoe'?"
        >>> suggestion("x", ["star", "mmoe"])
        'there are star, mmoe'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(known)}"
