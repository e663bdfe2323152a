"""MovieLens-1M in its official files: ratings.dat, users.dat, movies.dat (`::`).

A line is read as UTF-8 or, as the publisher wrote it, as Latin-1.

Label: rating > 3. Scenario: the user's age group. Fields as in Scenario-Wise Rec (CIKM 2025):
user id, gender, occupation, zip code and age; movie id and first genre. An optional
movies_plots.csv (movie_id, ..., plot) adds the plot to the item's text.
"""

from pathlib import Path

import numpy as np

from winnow.data.raw import RawLog, RawTable, RejectedLines, shortened
from winnow.data.readers.records import (
    Record,
    first_of_each,
    read_lines,
    read_records,
    require_files,
    seconds,
    whole_number,
)

FILES = ("ratings.dat", "users.dat", "movies.dat")
PLOTS = "movies_plots.csv"
ENCODINGS = ("utf-8", "latin-1")
RATINGS = ("1", "2", "3", "4", "5")

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
    dropped: dict[str, int] = {}
    profiles = read_lines(folder / "users.dat", _parse_user, rejected, encodings=ENCODINGS)
    films = read_lines(folder / "movies.dat", _parse_movie, rejected, encodings=ENCODINGS)
    of_users = first_of_each(((user[0], user) for user in profiles), dropped, "a user's later line")
    of_movies = first_of_each(((film[0], film) for film in films), dropped, "a movie's later line")
    users, movies = list(of_users.values()), list(of_movies.values())
    plots = _read_plots(folder / PLOTS, rejected, dropped)
    user_row = {user_id: row for row, (user_id, *_) in enumerate(users)}
    movie_row = {movie_id: row for row, (movie_id, *_) in enumerate(movies)}

    def parse_rating(line: str) -> tuple[int, int, int, int]:
        parts = line.split("::")
        if len(parts) != 4:
            raise ValueError(f"4 fields expected, {len(parts)} found")
        if parts[2] not in RATINGS:
            raise ValueError(f"rating must be 1 to 5, got {shortened(repr(parts[2]))}")
        if parts[0] not in user_row:
            raise ValueError(f"user {shortened(repr(parts[0]))} is not in users.dat")
        if parts[1] not in movie_row:
            raise ValueError(f"movie {shortened(repr(parts[1]))} is not in movies.dat")
        return (
            user_row[parts[0]],
            movie_row[parts[1]],
            int(parts[2]),
            seconds(parts[3], "timestamp"),
        )

    lines = read_lines(folder / "ratings.dat", parse_rating, rejected, encodings=ENCODINGS)
    ratings = np.array(list(lines), np.int64)
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
        dropped=dropped,
        published=PUBLISHED,
    )


def _parse_user(line: str) -> tuple[str, str, int, int, str]:
    parts = line.split("::")
    if len(parts) != 5:
        raise ValueError(f"5 fields expected, {len(parts)} found")
    user_id, gender, age, occupation, zip_code = parts
    if not user_id:
        raise ValueError("the user's id must not be empty")
    if gender not in ("M", "F"):
        raise ValueError(f"gender must be M or F, got {shortened(repr(gender))}")
    years, work = whole_number(age, "age"), whole_number(occupation, "occupation")
    if years not in AGES:
        raise ValueError(f"age must be one of {sorted(AGES)}, got {age}")
    if work >= len(OCCUPATIONS):
        raise ValueError(f"occupation must be 0 to {len(OCCUPATIONS) - 1}, got {occupation}")
    return user_id, gender, years, work, zip_code


def _parse_movie(line: str) -> tuple[str, str, list[str]]:
    parts = line.split("::")
    if len(parts) != 3:
        raise ValueError(f"3 fields expected, {len(parts)} found")
    movie_id, title, genres = parts
    if not (movie_id and title and genres):
        raise ValueError("id, title and genres must not be empty")
    return movie_id, title, genres.split("|")


def _read_plots(path: Path, rejected: RejectedLines, dropped: dict[str, int]) -> dict[str, str]:
    """Plots by movie id; empty if the file is absent. A record may span several lines."""
    if not path.is_file():
        return {}
    records = read_records(path, ("movie_id", "plot"), _parse_plot, rejected)
    return first_of_each(records, dropped, "a plot's later line")


def _parse_plot(record: Record) -> tuple[str, str]:
    whole_number(record["movie_id"], "movie_id")
    return record["movie_id"], record["plot"]


def _user_table(users: list[tuple[str, str, int, int, str]]) -> RawTable:
    ids, genders, ages, occupations, zips = (list(column) for column in zip(*users, strict=True))
    words = [
        f"{'woman' if gender == 'F' else 'man'}, {AGES[age]}, {OCCUPATIONS[occupation]}"
        for _, gender, age, occupation, _ in users
    ]
    return RawTable(
        raw_id=ids,
        text=words,
        sparse={"user_id": ids, "gender": genders, "occupation": occupations, "zip": zips},
        dense={"age": np.array(ages, np.float64)},
    )


def _item_table(movies: list[tuple[str, str, list[str]]], plots: dict[str, str]) -> RawTable:
    ids = [movie_id for movie_id, _, _ in movies]
    texts = [
        f"{title}. {', '.join(genres)}. {plots.get(movie_id, '')}".strip()
        for movie_id, title, genres in movies
    ]
    return RawTable(
        raw_id=ids,
        title=[title for _, title, _ in movies],
        text=texts,
        sparse={"movie_id": ids, "cate_id": [genres[0] for _, _, genres in movies]},
        dense={},
    )
