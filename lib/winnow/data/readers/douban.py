"""Douban reviews of books, music and movies, in the text files of the data set by Zhu et al.

Label: rating > 3; reviews without a rating are dropped. Scenario: book, music or movie. Fields as
in Scenario-Wise Rec (CIKM 2025): user, item, living place, and the month of joining, counted from
April 2005. An item's id is its kind and its number, so items of two kinds are never the same.
Left out: comments and labels of a review, which reveal the rating. An optional movies_cleaned.txt
adds name, tags and summary to a movie's text.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from winnow.data.raw import RawLog, RawTable, RejectedLines, Words
from winnow.data.readers.records import (
    Record,
    finite,
    first_of_each,
    read_records,
    require_files,
    whole_number,
)

SCENARIOS = ("book", "music", "movie")
TAB = "\t"
PUBLISHED = dict(zip(SCENARIOS, (227_251, 179_847, 1_278_401), strict=True))
USERS = "users_cleaned.txt"
FILES = (USERS, *(f"{kind}reviews_cleaned.txt" for kind in SCENARIOS))
MOVIES = "movies_cleaned.txt"

ROW = np.dtype([("user", "i4"), ("item", "i4"), ("label", "f4"), ("time", "i8")])
FIRST_MONTH = 2005 * 12 + 4
MONTHS = 156
"""April 2005 to March 2018; the month of users who joined before or after counts as missing."""
MISSING = "missing"
"""The value of an empty field, because absence is informative too."""
EPOCH = date(1970, 1, 1).toordinal()


def read_douban(folder: str | Path) -> RawLog:
    """Read the folder; raises DataError if a file is missing or too many lines are bad."""
    root = Path(folder)
    require_files(root, "a folder of Douban reviews", FILES, optional=MOVIES)
    rejected = RejectedLines()
    needed = ("UID", "living_place", "join_time")
    dropped = {"no rating": 0}
    records = read_records(root / USERS, needed, _by_number, rejected, delimiter=TAB)
    profiles = first_of_each(records, dropped, "a user's later line")
    users = {user: row for row, user in enumerate(profiles)}
    items: dict[str, int] = {}
    parts = [
        np.fromiter(_rows(root, kind, users, items, rejected, dropped), ROW) for kind in SCENARIOS
    ]
    rows = np.concatenate(parts)
    return RawLog(
        name="douban",
        scenarios=SCENARIOS,
        users=_user_table(list(users), profiles),
        items=_item_table(list(items), _read_movies(root / MOVIES, rejected, dropped)),
        user_N=rows["user"],
        item_N=rows["item"],
        label_N=rows["label"],
        scenario_N=np.repeat(np.arange(len(parts), dtype=np.int16), [len(part) for part in parts]),
        time_N=rows["time"],
        rejected=rejected,
        dropped=dropped,
        published=PUBLISHED,
    )


def _rows(
    root: Path,
    kind: str,
    users: dict[str, int],
    items: dict[str, int],
    rejected: RejectedLines,
    dropped: dict[str, int],
) -> Iterator[tuple[int, int, float, int]]:
    """One tuple of ROW per rated review; new users and items get the next rows."""
    item_column = f"{kind}_id"

    def parse(record: Record) -> tuple[str, str, float, int] | None:
        record = _stripped(record)
        if not record["rating"]:
            return None
        rating = finite(record["rating"], "rating")
        if not 1 <= rating <= 5:
            raise ValueError(f"rating must be 1 to 5, got {rating:g}")
        item = f"{kind} {_number(record, item_column)}"
        return _number(record, "user_id"), item, float(rating > 3), _day(record["time"]) * 86_400

    path = root / f"{kind}reviews_cleaned.txt"
    needed = ("user_id", item_column, "rating", "time")
    for review in read_records(path, needed, parse, rejected, delimiter=TAB):
        if review is None:
            dropped["no rating"] += 1
            continue
        user, item, label, time = review
        user_row = users.setdefault(user, len(users))
        yield user_row, items.setdefault(item, len(items)), label, time


def _by_number(record: Record) -> tuple[str, Record]:
    """A record of a user or movie with its number before it."""
    record = _stripped(record)
    return _number(record, "UID"), record


def _stripped(record: Record) -> Record:
    return {name: value.strip() for name, value in record.items()}


def _number(record: Record, name: str) -> str:
    """The field as text; "7.0" and "007" become "7"."""
    return str(whole_number(record[name].removesuffix(".0"), name))


def _day(text: str) -> int:
    """Days since 1970 of `2008-10-21`, whatever time of day follows."""
    return date.fromisoformat(text[:10]).toordinal() - EPOCH


def _time_bin(joined: str) -> str:
    """Month of joining as text, from 0 for April 2005."""
    try:
        day = date.fromisoformat(joined[:10])
    except ValueError:
        return MISSING
    month = day.year * 12 + day.month - FIRST_MONTH
    return str(month) if 0 <= month < MONTHS else MISSING


def _read_movies(path: Path, rejected: RejectedLines, dropped: dict[str, int]) -> dict[str, Record]:
    """Records of movies by item id; empty if the file is absent."""
    if not path.is_file():
        return {}
    needed = ("UID", "name", "tag", "summary")
    records = read_records(path, needed, _by_number, rejected, delimiter=TAB)
    movies = first_of_each(records, dropped, "a movie's later line")
    return {f"movie {number}": record for number, record in movies.items()}


def _user_table(users: list[str], profiles: dict[str, Record]) -> RawTable:
    places = [profiles.get(user, {}).get("living_place") or MISSING for user in users]
    joined = [profiles.get(user, {}).get("join_time") or MISSING for user in users]
    words = [
        f"lives in: {place}, joined: {day[:7]}" for place, day in zip(places, joined, strict=True)
    ]
    fields: dict[str, Words] = {
        "user_id": users,
        "living_place": places,
        "time_bin": [_time_bin(day) for day in joined],
    }
    return RawTable(raw_id=users, text=words, sparse=fields, dense={})


def _item_table(items: list[str], movies: dict[str, Record]) -> RawTable:
    known = [movies.get(item, {}) for item in items]
    titles = [record.get("name") or item for item, record in zip(items, known, strict=True)]
    texts = [
        ". ".join(filter(None, (title, record.get("tag"), record.get("summary"))))
        for title, record in zip(titles, known, strict=True)
    ]
    return RawTable(
        raw_id=items,
        title=titles,
        text=texts,
        sparse={"item_id": items},
        dense={},
    )
