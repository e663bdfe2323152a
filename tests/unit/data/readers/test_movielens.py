"""The reader on a small folder in the official layout."""

import os
from pathlib import Path

import numpy as np
import pytest

from winnow.data.readers.movielens import read_movielens
from winnow.errors import DataError

USERS = ["1::F::1::10::48067", "2::M::56::16::70072", "3::M::25::15::55117"]
MOVIES = ["1::Toy Story (1995)::Animation|Comedy", "7::Amélie (2001)::Comedy"]
RATINGS = ["1::1::5::978300760", "2::7::3::978300761", "3::1::4::978300762"]


def write(folder: Path, users=USERS, movies=MOVIES, ratings=RATINGS) -> Path:
    for name, lines in (("users", users), ("movies", movies), ("ratings", ratings)):
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{name}.dat").write_text(text, encoding="latin-1")
    return folder


def test_every_column_of_the_files(tmp_path):
    log = read_movielens(write(tmp_path))
    assert log.label_N.tolist() == [1, 0, 1]
    assert log.scenario_N.tolist() == [0, 2, 1]
    assert log.item_N.tolist() == [0, 1, 0]
    assert log.items.title == ["Toy Story (1995)", "Amélie (2001)"]
    assert log.items.sparse["cate_id"] == ["Animation", "Comedy"]
    assert log.users.dense["age"].tolist() == [1, 56, 25]
    assert log.users.text[0] == "woman, under 18, school student"
    assert log.rejected.lines == []


def test_plots_join_the_text(tmp_path):
    write(tmp_path)
    plots = 'movie_id,title,plot\n1,Toy Story,"A cowboy doll,\nand a spaceman."\n'
    (tmp_path / "movies_plots.csv").write_text(plots)
    texts = read_movielens(tmp_path).items.text
    assert texts[0] == "Toy Story (1995). Animation, Comedy. A cowboy doll,\nand a spaceman."
    assert texts[1] == "Amélie (2001). Comedy."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1::1::5", "4 fields expected, 3 found"),
        ("1::1::9::978300760", "rating must be 1 to 5, got '9'"),
        ("99::1::5::978300760", "user '99' is not in users.dat"),
        ("1::99::5::978300760", "movie '99' is not in movies.dat"),
        ("1::1::x::978300760", "rating must be 1 to 5, got 'x'"),
    ],
)
def test_a_bad_rating_is_kept_with_its_line_and_reason(tmp_path, line, reason):
    write(tmp_path, ratings=[*RATINGS * 50, line, *RATINGS])
    log = read_movielens(tmp_path)
    assert len(log.label_N) == 153
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line, rejected.text) == ("ratings.dat", 151, line)
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4::X::25::1::1", "gender must be M or F"),
        ("4::M::26::1::1", "age must be one of"),
        ("4::M::25::21::1", "occupation must be 0 to 20"),
        ("4::M::25::1", "5 fields expected"),
    ],
)
def test_a_bad_user_is_kept_with_its_line_and_reason(tmp_path, line, reason):
    log = read_movielens(write(tmp_path, users=[*USERS, line]))
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line, rejected.text) == ("users.dat", 4, line)
    assert rejected.reason.startswith(reason)


def test_too_many_bad_lines_stop_the_reader(tmp_path):
    write(tmp_path, users=[*USERS, *["4::X::25::1::1"] * 11])
    with pytest.raises(DataError, match=r"11 of 14 lines cannot be used.*line 4: gender must be"):
        read_movielens(tmp_path)


def test_one_item_a_catalogue_id_and_one_user_a_user_id(tmp_path):
    again = [MOVIES[0].replace("Toy Story", "Toy Story, restored"), USERS[0]]
    log = read_movielens(write(tmp_path, movies=[*MOVIES, again[0]], users=[*USERS, again[1]]))
    assert (len(log.items.raw_id), len(log.users.raw_id)) == (len(MOVIES), len(USERS))
    assert log.items.title[0] == "Toy Story (1995)"
    assert log.dropped == {"a user's later line": 1, "a movie's later line": 1}


def test_a_copy_in_utf_8_has_the_same_titles(tmp_path):
    latin = read_movielens(write(tmp_path)).items.title
    path = tmp_path / "movies.dat"
    path.write_text(path.read_text("latin-1"), encoding="utf-8")
    assert read_movielens(tmp_path).items.title == latin


def test_a_movie_needs_a_title(tmp_path):
    with pytest.raises(DataError, match="title and genres must not be empty"):
        read_movielens(write(tmp_path, movies=["1::::Comedy"]))


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "movies.dat").unlink()
    with pytest.raises(DataError, match=r"not a MovieLens-1M folder: movies.dat missing"):
        read_movielens(tmp_path)


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"ratings\.dat is empty"):
        read_movielens(write(tmp_path, ratings=[]))


def test_plots_need_their_columns(tmp_path):
    write(tmp_path)
    (tmp_path / "movies_plots.csv").write_text("id,story\n1,x\n")
    with pytest.raises(DataError, match="columns movie_id, plot are needed"):
        read_movielens(tmp_path)


@pytest.mark.skipif(
    "WINNOW_ML1M" not in os.environ, reason="set WINNOW_ML1M to a MovieLens-1M folder"
)
def test_the_real_files_have_the_published_counts():
    log = read_movielens(os.environ["WINNOW_ML1M"])
    assert np.bincount(log.scenario_N).tolist() == [210_747, 395_556, 393_906]
    assert len(log.users.raw_id) == 6040
    assert len(log.items.raw_id) == 3883
