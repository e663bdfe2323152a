"""Amazon product reviews (2014), the 5-core files of three categories, as .json or .json.gz.

Label: overall > 3. Scenario: the category. Fields as in Scenario-Wise Rec (CIKM 2025): only user
and item. Left out: text and summary of a review, which reveal the rating. The files have no product
names.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from winnow.data.raw import RawLog, RawTable, RejectedLines, shortened
from winnow.data.readers.records import LAST_SECOND, read_lines
from winnow.errors import DataError

FILES = (
    "reviews_Beauty_5.json",
    "reviews_Clothing_Shoes_and_Jewelry_5.json",
    "reviews_Health_and_Personal_Care_5.json",
)
SCENARIOS = ("beauty", "clothing, shoes and jewelry", "health and personal care")
PUBLISHED = dict(zip(SCENARIOS, (198_502, 278_677, 346_355), strict=True))
ROW = np.dtype([("user", "i4"), ("item", "i4"), ("label", "f4"), ("time", "i8")])


def read_amazon(folder: str | Path) -> RawLog:
    """Read the folder; raises DataError if a file is missing or too many lines are bad."""
    root = Path(folder)
    paths = [path for name in FILES for path in _present(root / name)]
    missing = [name for name in FILES if not _present(root / name)]
    if missing:
        raise DataError(
            f"{root} is not a folder of Amazon reviews: {', '.join(missing)} missing "
            f"(needed, each as it is or as .gz: {', '.join(FILES)})"
        )
    rejected = RejectedLines()
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    kinds: list[str] = []
    parts = []
    for path, scenario in zip(paths, SCENARIOS, strict=True):
        parts.append(np.fromiter(_rows(path, users, items, rejected), ROW))
        kinds += [scenario] * (len(items) - len(kinds))
    rows = np.concatenate(parts)
    return RawLog(
        name="amazon",
        scenarios=SCENARIOS,
        users=_user_table(list(users)),
        items=_item_table(list(items), kinds),
        user_N=rows["user"],
        item_N=rows["item"],
        label_N=rows["label"],
        scenario_N=np.repeat(np.arange(len(parts), dtype=np.int16), [len(part) for part in parts]),
        time_N=rows["time"],
        rejected=rejected,
        published=PUBLISHED,
    )


def _present(path: Path) -> list[Path]:
    """The file, unpacked if it exists so, else packed; empty if neither exists."""
    return [found for found in (path, Path(f"{path}.gz")) if found.is_file()][:1]


def _rows(
    path: Path, users: dict[str, int], items: dict[str, int], rejected: RejectedLines
) -> Iterator[tuple[int, int, float, int]]:
    """One tuple of ROW per review; new users and items get the next rows."""
    for user, item, label, time in read_lines(path, _parse, rejected):
        user_row = users.setdefault(user, len(users))
        yield user_row, items.setdefault(item, len(items)), label, time


def _parse(line: str) -> tuple[str, str, float, int]:
    review = json.loads(line)
    if not isinstance(review, dict):
        raise ValueError("a JSON object expected")
    rating = _value(review, "overall", (int, float))
    if not 1 <= rating <= 5:
        raise ValueError(f"overall must be 1 to 5, got {shortened(str(rating))}")
    time = _value(review, "unixReviewTime", (int,))
    if not 0 <= time <= LAST_SECOND:
        raise ValueError("unixReviewTime must be seconds since 1970")
    return _id(review, "reviewerID"), _id(review, "asin"), float(rating > 3), time


def _id(review: dict[str, Any], name: str) -> str:
    found: str = _value(review, name, (str,))
    if not found or "\0" in found:
        raise ValueError(f"{name} must not be empty or have a NUL character")
    found.encode()  # half of a character, which JSON can spell, raises a ValueError
    return found


def _value(review: dict[str, Any], name: str, types: tuple[type, ...]) -> Any:
    found = review.get(name)
    if not isinstance(found, types) or isinstance(found, bool):
        wanted = " or ".join(kind.__name__ for kind in types)
        raise ValueError(f"{name} must be {wanted}, got {shortened(repr(found))}")
    return found


def _user_table(users: list[str]) -> RawTable:
    text = ["customer"] * len(users)
    return RawTable(raw_id=users, text=text, sparse={"user": users}, dense={})


def _item_table(items: list[str], kinds: list[str]) -> RawTable:
    text = [f"{kind}: {item}" for item, kind in zip(items, kinds, strict=True)]
    return RawTable(raw_id=items, text=text, sparse={"item": items}, dense={})
