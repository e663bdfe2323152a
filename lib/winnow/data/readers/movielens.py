"""MovieLens-1M in its official files: ratings.dat, users.dat, movies.dat (`::`, latin-1).

Label: rating > 3. Scenario: the user's age group. Fields as in Scenario-Wise Rec (CIKM 2025):
user id, gender, occupation, zip code and age; movie id and first genre. An optional
movies_plots.csv (movie_id, ..., plot) adds the plot to the item's text.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from winnow.data.raw import RawLog, RawTable, RejectedLines
from winnow.data.readers.records import read_records, require_files

T = TypeVar("T")

FILES = ("ratings.dat", "users.dat", "movies.dat")
PLOTS = "movies_plots.csv"

SCENARIOS = ("age under 25", "age 25-34", "age 35 and over")
PUBLISHED = dict(zip(SCENARIOS, (210_747, 395_556, 393_906), strict=True))
SCENARIO_OF_AGE = {1: 0, 18: 0, 25: 1, 35: 2, 45: 2, 50: 2, 56: 2}
AGES = {
    1: "under 18",
    18: "18-24",
    25: "25-34",
    35: "35-44",
    45: "45-49",
    50: "50-55",
    56: "56 or older",
}
OCCUPATIONS = (
    "other",
    "academic or educator",
    "artist",
    "clerical or administrative",
    "student",
    "customer service",
    "doctor or health care",
    "executive or managerial",
    "farmer",
    "homemaker",
    "school student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
)


def read_movielens(folder: str | Path) -> RawLog:
    """Read the folder; raises DataError if a file is missing or too many lines are bad."""
    folder = Path(folder)
    require_files(folder, "a MovieLens-1M folder", FILES, optional=PLOTS)
    rejected = RejectedLines()
    users = list(_rows(folder / "users.dat", _parse_user, rejected))
    movies = list(_rows(folder / "movies.dat", _parse_movie, rejected))
    plots = _read_plots(folder / PLOTS, rejected)
    user_row = {user_id: row for row, (user_id, *_) in enumerate(users)}
    movie_row = {movie_id: row for row, (movie_id, *_) in enumerate(movies)}

    def parse_rating(line: str) -> tuple[int, int, int, int]:
        parts = line.split("::")
        if len(parts) != 4:
            raise ValueError(f"4 fields expected, {len(parts)} found")
        rating, time = int(parts[2]), int(parts[3])
        if not 1 <= rating <= 5:
            raise ValueError(f"rating must be 1 to 5, got {rating}")
        if parts[0] not in user_row:
            raise ValueError(f"user {parts[0]!r} is not in users.dat")
        if parts[1] not in movie_row:
            raise ValueError(f"movie {parts[1]!r} is not in movies.dat")
        return user_row[parts[0]], movie_row[parts[1]], rating, time

    ratings = np.array(list(_rows(folder / "ratings.dat", parse_rating, rejected)), np.int64)
    scenario_of_user = np.array([SCENARIO_OF_AGE[age] for _, _, age, _, _ in users], np.int16)
    return RawLog(
        name="movielens_1m",
        scenarios=SCENARIOS,
        users=_user_table(users),
        items=_item_table(movies, plots),
        user_N=ratings[:, 0].astype(np.int32),
        item_N=ratings[:, 1].astype(np.int32),
        label_N=(ratings[:, 2] > 3).astype(np.float32),
        scenario_N=scenario_of_user[ratings[:, 0]],
        time_N=ratings[:, 3],
        rejected=rejected,
        published=PUBLISHED,
    )


def _rows(path: Path, parse: Callable[[str], T], rejected: RejectedLines) -> Iterator[T]:
    with path.open(encoding="latin-1") as file:
        lines = (line.rstrip("\r\n") for line in file)
        yield from rejected.parse(path, enumerate(lines, 1), parse)


def _parse_user(line: str) -> tuple[str, str, int, int, str]:
    parts = line.split("::")
    if len(parts) != 5:
        raise ValueError(f"5 fields expected, {len(parts)} found")
    user_id, gender, age, occupation, zip_code = parts
    if gender not in ("M", "F"):
        raise ValueError(f"gender must be M or F, got {gender!r}")
    if int(age) not in AGES:
        raise ValueError(f"age must be one of {sorted(AGES)}, got {age}")
    if not 0 <= int(occupation) < len(OCCUPATIONS):
        raise ValueError(f"occupation must be 0 to {len(OCCUPATIONS) - 1}, got {occupation}")
    return user_id, gender, int(age), int(occupation), zip_code


def _parse_movie(line: str) -> tuple[str, str, list[str]]:
    parts = line.split("::")
    if len(parts) != 3:
        raise ValueError(f"3 fields expected, {len(parts)} found")
    movie_id, title, genres = parts
    if not title or not genres:
        raise ValueError("title and genres must not be empty")
    return movie_id, title, genres.split("|")


def _read_plots(path: Path, rejected: RejectedLines) -> dict[str, str]:
    """Plots by movie id; empty if the file is absent. A record may span several lines."""
    if not path.is_file():
        return {}
    needed = ("movie_id", "plot")
    return dict(read_records(path, needed, lambda row: (row["movie_id"], row["plot"]), rejected))


def _user_table(users: list[tuple[str, str, int, int, str]]) -> RawTable:
    ids, genders, ages, occupations, zips = (
        np.array(column) for column in zip(*users, strict=True)
    )
    words = [
        f"{'woman' if gender == 'F' else 'man'}, {AGES[age]}, {OCCUPATIONS[occupation]}"
        for _, gender, age, occupation, _ in users
    ]
    return RawTable(
        raw_id=ids,
        text=np.array(words),
        sparse={
            "user_id": ids,
            "gender": genders,
            "occupation": occupations.astype(str),
            "zip": zips,
        },
        dense={"age": ages.astype(np.float64)},
    )


def _item_table(movies: list[tuple[str, str, list[str]]], plots: dict[str, str]) -> RawTable:
    ids = np.array([movie_id for movie_id, _, _ in movies])
    texts = [
        f"{title}. {', '.join(genres)}. {plots.get(movie_id, '')}".strip()
        for movie_id, title, genres in movies
    ]
    return RawTable(
        raw_id=ids,
        title=np.array([title for _, title, _ in movies]),
        text=np.array(texts),
        sparse={"movie_id": ids, "cate_id": np.array([genres[0] for _, _, genres in movies])},
        dense={},
    )
