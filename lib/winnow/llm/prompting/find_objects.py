"""The JSON objects in a model's text, found in one pass that never goes back.

Outside an object everything is prose: fences, quotes and braces that open no object. An attempt
that breaks ends where it broke and the search goes on from there, so the work grows linearly with
the text whatever it holds. Objects inside an object are part of it.

What models write beyond JSON is read where it has one meaning: a trailing comma, a comment, `True`,
typographic quotes, an end that was cut off. All else breaks the object.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

THINK, END_THINK = "<think>", "</think>"
DEEPEST = 32
"""Levels of nesting that are read: more than any schema has, and no later step recurses too far."""
LONGEST_WORD = 64
"""Characters of a number or a literal; Python takes square time for long numbers."""
LONGEST_ESCAPE = 6
"""Characters of `\\u0041`, of which a cut may leave any part."""
LITERALS = {"true": True, "false": False, "null": None}
PYTHONS = {"True": True, "False": False, "None": None}
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
CLOSERS = {'"': '"', "\u201c": "\u201d", "\u201d": "\u201d"}
"""The quote that ends a string, by the one that began it."""

THINKING_REMOVED = "thinking removed"
FENCE_REMOVED = "code fence removed"
PROSE_REMOVED = "text around the object removed"
CUT_OFF = "open brackets closed"


@dataclass(slots=True)
class FoundObject:
    """An object of the text, and what had to be undone to read it."""

    value: dict[str, Any] = field(default_factory=dict)
    repairs: dict[str, None] = field(default_factory=dict)
    """What was undone, in order and each once."""
    flaw: str = ""
    """Why the object cannot be an answer, such as a key that it has twice."""
    whole: bool = True
    """Whether its end is in the text."""


class _Broken(Exception):
    """This is no object; the scan goes on from here."""


class _Ended(Exception):
    """The text ends within the object."""


def find_objects(text: str) -> list[FoundObject]:
    """The objects outside of thinking, in the order of the text; the last may be cut off."""
    found: list[FoundObject] = []
    around: dict[str, None] = {}
    brace, think, end_think = (_Finder(text, word) for word in ("{", THINK, END_THINK))
    at = 0
    while at < len(text):
        start = min(brace.after(at), think.after(at), end_think.after(at))
        around |= _prose(text[at:start])
        if start == len(text):
            break
        if text[start] == "{":
            one, at = _object_at(text, start)
            found += [one] if one else []
        elif (end := end_think.after(start)) < len(text):  # all before it is thinking, tag or not
            found, around, at = [], {THINKING_REMOVED: None}, end + len(END_THINK)
        else:  # thinking that never ends holds no answer
            around[THINKING_REMOVED] = None
            break
    if FENCE_REMOVED in around:
        around.pop(PROSE_REMOVED, None)
    for one in found:
        one.repairs = around | one.repairs
    return found


class _Finder:
    """The next place of a word; each character is looked at once, if places only grow."""

    def __init__(self, text: str, word: str) -> None:
        self._text, self._word, self._at = text, word, -1

    def after(self, at: int) -> int:
        """The first place from `at` on, or the end of the text."""
        if self._at < at:
            found = self._text.find(self._word, at)
            self._at = len(self._text) if found < 0 else found
        return self._at


def _prose(text: str) -> dict[str, None]:
    """What leaving out this text means."""
    if "```" in text:
        return {FENCE_REMOVED: None}
    return {} if not text or text.isspace() else {PROSE_REMOVED: None}


def _object_at(text: str, start: int) -> tuple[FoundObject | None, int]:
    """The object that begins at `start`, if one does, and where the text goes on."""
    reader = _Reader(text, start)
    try:
        reader.object(reader.found.value, DEEPEST)
    except _Broken:
        return None, reader.at
    except _Ended:
        reader.found.whole = False
        reader.note(CUT_OFF)
        return (reader.found if reader.found.value else None), len(text)
    return reader.found, reader.at


class _Reader:
    """Reads one object from the place `at`, which only grows.

    A value is put in its place before it is complete, so that a text that ends leaves what came.
    """

    def __init__(self, text: str, at: int) -> None:
        self._text, self.at = text, at
        self.found = FoundObject()

    def note(self, repair: str) -> None:
        self.found.repairs[repair] = None

    def object(self, made: dict[str, Any], levels: int) -> None:
        self.at += 1
        while self._look() != "}":
            key = self._key()
            if key in made:
                self.found.flaw = f"the key {key!r:.60} is there twice"
            if self._look() != ":":
                raise _Broken
            self.at += 1
            self._value(partial(made.__setitem__, key), levels - 1)
            self._separator("}")
        self.at += 1

    def array(self, made: list[Any], levels: int) -> None:
        self.at += 1
        while self._look() != "]":
            self._value(made.append, levels - 1)
            self._separator("]")
        self.at += 1

    def _value(self, put: Callable[[Any], None], levels: int) -> None:
        """Read a value of at most `levels` levels and put it in its place."""
        opener = self._look()
        if opener in "{[":
            if not levels:
                raise _Broken
            made: Any = {} if opener == "{" else []
            put(made)
            (self.object if opener == "{" else self.array)(made, levels)
        elif opener in CLOSERS:
            text, ended = self._string(CLOSERS[opener])
            put(text)
            if ended:
                raise _Ended
        else:
            put(self._word())

    def _key(self) -> str:
        opener = self._look()
        if opener not in CLOSERS:
            raise _Broken
        key, ended = self._string(CLOSERS[opener])
        if ended:
            raise _Ended
        return key

    def _separator(self, closer: str) -> None:
        """Pass the comma after a value, or stay at the closer."""
        if self._look() == ",":
            self.at += 1
            if self._look() == closer:
                self.note("trailing comma removed")
        elif self._look() != closer:
            raise _Broken

    def _look(self) -> str:
        """The next character that is neither blank nor in a comment."""
        while self.at < len(self._text):
            character = self._text[self.at]
            if character == "/":
                self._pass_comment()
            elif not character.isspace():
                return character
            else:
                self.at += 1
        raise _Ended

    def _pass_comment(self) -> None:
        ends = {"//": "\n", "/*": "*/"}
        end = ends.get(self._text[self.at : self.at + 2])
        if end is None:
            raise _Broken
        self.note("comments removed")
        found = self._text.find(end, self.at + 2)
        self.at = len(self._text) if found < 0 else found + len(end)

    def _string(self, closer: str) -> tuple[str, bool]:
        """The string whose opening quote is next, and whether the text ends within it."""
        start = self.at + 1
        if closer != '"':
            self.note("typographic quotes read")
        end = _end_of_string(self._text, start, closer)
        if end >= 0:
            self.at = end + 1
            return self._decoded(self._text[start:end], closer), False
        self.at = len(self._text)
        rest = self._text[start:]
        for lost in range(LONGEST_ESCAPE):
            try:
                return self._decoded(rest[: len(rest) - lost], closer), True
            except _Broken:
                continue
        raise _Broken

    def _decoded(self, body: str, closer: str) -> str:
        """The text that a string stands for, of characters that can be stored."""
        if closer != '"' and '"' in body:
            raise _Broken
        try:
            text: str = json.loads(f'"{body}"', strict=False)  # a bare tab does no harm
        except ValueError:
            raise _Broken from None
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON allows half a pair, neither files nor tokenizers do
            text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
            self.note("lone surrogates replaced")
        while "\ufffd\ufffd" in text:  # a grammar counts an ill-formed byte sequence as one
            text = text.replace("\ufffd\ufffd", "\ufffd")
            self.note("stray bytes merged")
        return text

    def _word(self) -> Any:
        """The number or literal that is next."""
        start = self.at
        while self.at < len(self._text) and _in_word(self._text[self.at]):
            self.at += 1
        word = self._text[start : min(self.at, start + LONGEST_WORD + 1)]
        if word in LITERALS:
            return LITERALS[word]
        if word in PYTHONS:
            self.note("Python's literals read")
            return PYTHONS[word]
        if self.at == len(self._text):  # 1 may be the beginning of 12
            raise _Ended
        return self._number(word)

    def _number(self, word: str) -> float | None:
        if len(word) > LONGEST_WORD:
            raise _Broken
        if word not in NOT_FINITE:
            try:
                number: float = json.loads(word)
            except ValueError:
                raise _Broken from None
            if math.isfinite(number):
                return number
        self.found.flaw = f"{word[:20]} is no finite number"
        return None


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "+-."


def _end_of_string(text: str, start: int, closer: str) -> int:
    """Place of the closing quote, or -1; an odd number of backslashes escapes a quote."""
    end = text.find(closer, start)
    while end >= 0:
        slashes = end
        while slashes > start and text[slashes - 1] == "\\":
            slashes -= 1
        if (end - slashes) % 2 == 0:
            return end
        end = text.find(closer, end + 1)
    return -1
