"""The reader on small files in the official layout."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.readers.douban import FILES, MOVIES, PUBLISHED, read_douban
from winnow.errors import DataError

USERS = [
    ("UID", "user_id", "living_place", "join_time", "self_statement"),
    ("7", "ann", "北京", "2007-07-10", "a statement\nof two lines"),
    ("8", "bob", "", "2005-05-16", ""),
    ("9", "cem", "上海", "2018-04-02", 'with "quotes"'),
]
BOOKS = [
    ("user_id", "book_id", "rating", "labels", "comment", "time", "ID"),
    ("7", "1", "4", "novel|old", "good", "2008-10-21", "1"),
    ("8", "1", "3", "", "", "2009-01-01", "2"),
]
MUSIC = [
    ("user_id", "music_id", "rating", "labels", "comment", "useful_num", "time", "ID"),
    ("7", "1", "5", "", "tab\there", "0", "2010-02-03", "1"),
]
FILMS = [
    (
        "user_id",
        "movie_id",
        "rating",
        "comment",
        "time",
        "labels",
        "useful_num",
        "CategoryID",
        "ID",
    ),
    ("9", "1", "2.0", "", "2011-01-01 08:30:00", "", "0", "1", "1"),
    ("11", "2", "5", "", "1970-01-02", "", "0", "1", "2"),
    ("7", "2", "", "seen", "2011-01-01", "", "0", "1", "3"),
]


def quoted(rows) -> str:
    lines = ("\t".join('"{}"'.format(cell.replace('"', '""')) for cell in row) for row in rows)
    return "".join(f"{line}\n" for line in lines)


def write(folder: Path, users=USERS, books=BOOKS, music=MUSIC, films=FILMS) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in zip(FILES, (users, books, music, films), strict=True):
        (folder / name).write_text(quoted(rows), encoding="utf-8")
    return folder


def test_every_column_of_the_files(tmp_path):
    log = read_douban(write(tmp_path))
    assert log.scenarios == ("book", "music", "movie")
    assert log.label_N.tolist() == [1, 0, 1, 0, 1]
    assert log.scenario_N.tolist() == [0, 0, 1, 2, 2]
    assert log.user_N.tolist() == [0, 1, 0, 2, 3]
    assert log.item_N.tolist() == [0, 0, 1, 2, 3]  # book 1, music 1 and movie 1 are three items
    assert log.time_N.tolist() == [1224547200, 1230768000, 1265155200, 1293840000, 86400]
    assert log.dropped == {"no rating": 1}
    assert log.rejected.lines == []
    assert sum(PUBLISHED.values()) == 1_685_499


def test_tables(tmp_path):
    log = read_douban(write(tmp_path))
    assert log.users.sparse["user_id"] == ["7", "8", "9", "11"]
    assert log.users.sparse["living_place"] == ["北京", "missing", "上海", "missing"]
    # as in the published sample: July 2007 is 27 and May 2005 is 1; April 2018 is too late
    assert log.users.sparse["time_bin"] == ["27", "1", "missing", "missing"]
    assert log.users.text[0] == "lives in: 北京, joined: 2007-07"
    assert log.items.sparse["item_id"] == ["book 1", "music 1", "movie 1", "movie 2"]
    assert log.items.title == ["book 1", "music 1", "movie 1", "movie 2"]


def test_movies_may_have_names(tmp_path):
    write(tmp_path)
    rows = [
        ("movie_id", "name", "director", "summary", "tag", "UID"),
        ("1292052", "肖申克的救赎", "", "Hope.", "classic|prison", "2"),
    ]
    (tmp_path / MOVIES).write_text(quoted(rows), encoding="utf-8")
    items = read_douban(tmp_path).items
    assert items.title[3] == "肖申克的救赎"
    assert items.text[2:] == ["movie 1", "肖申克的救赎. classic|prison. Hope."]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("7", "1", "9", "", "", "2008-10-21", "1"), "rating must be 1 to 5, got 9"),
        (("7", "1", "good", "", "", "2008-10-21", "1"), "rating must be a number, got 'good'"),
        (("ann", "1", "4", "", "", "2008-10-21", "1"), "user_id must be a whole number, got 'ann'"),
        (("7", "", "4", "", "", "2008-10-21", "1"), "book_id must be a whole number, got ''"),
        (("7", "1", "4", "", "", "in May", "1"), "Invalid isoformat string: 'in May'"),
        (("7", "1", "4"), "7 fields expected, 3 found"),
    ],
)
def test_a_bad_line_is_kept_with_its_number_and_reason(tmp_path, row, reason):
    log = read_douban(write(tmp_path, books=[BOOKS[0], *BOOKS[1:] * 60, row]))
    assert len(log.label_N) == 123
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line) == ("bookreviews_cleaned.txt", 122)
    assert reason in rejected.reason


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / FILES[0]).unlink()
    with pytest.raises(DataError, match=r"not a folder of Douban reviews: users_cleaned.txt miss"):
        read_douban(tmp_path)


def test_missing_columns_are_named(tmp_path):
    write(tmp_path, music=[("user_id", "song", "rating", "time"), ("7", "1", "4", "2008-10-21")])
    with pytest.raises(DataError, match="columns music_id are needed, got"):
        read_douban(tmp_path)


def test_who_is_unseen_in_training_is_unknown(tmp_path):
    old = [("7", "1", str(1 + at % 5), "", "", f"2008-10-{at + 10}", "1") for at in range(8)]
    new = [("9", "2", "5", "", "", "2019-01-01", "2")]
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    films = [FILMS[0], ("7", "1", "2", "", "2018-01-01", "", "0", "1", "1")]
    music = [MUSIC[0], ("7", "1", "2", "", "", "0", "2008-01-01", "1")]
    log = read_douban(write(tmp_path / "raw", USERS, [BOOKS[0], *old, *new], music, films))
    write_dataset(log, SplitConfig(kind="temporal"), dataset)
    (row,) = pq.read_table(dataset / "test").to_pylist()
    assert (row["user_id"], row["item_id"], row["living_place"], row["time_bin"]) == (0, 0, 0, 0)
    assert (row["scenario"], row["label"]) == (0, 1)
