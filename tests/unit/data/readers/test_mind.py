"""The reader on small folders in the official layout."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.readers.mind import PUBLISHED, read_mind
from winnow.errors import DataError


def news(number: int, category: str, subcategory: str, abstract: str = "") -> str:
    fields = [f"N{number}", category, subcategory, f'Title "{number}', abstract, "url", "[]", "[]"]
    return "\t".join(fields)


TRAIN_NEWS = [
    news(10, "sports", "football_nfl", "An abstract."),
    news(11, "tv", "tv-gossip"),
    news(12, "finance", "markets"),
]
DEV_NEWS = [
    news(12, "finance", "changed"),
    news(13, "news", "newsus"),
    news(14, "lifestyle", "pets"),
]
TRAIN = [
    "1\tU87243\t11/10/2019 11:30:54 AM\tN8668 N39081\tN10-0 N11-1 N12-1",
    "2\tU598644\t11/12/2019 1:45:29 PM\t\tN12-0 N99-0",
]
DEV = ["1\tU87243\t11/15/2019 12:00:00 AM\tN10\tN13-1 N14-0 N10-0 "]


def write(
    folder: Path, train=TRAIN, dev=DEV, train_news=TRAIN_NEWS, dev_news=DEV_NEWS, kind="large"
) -> Path:
    for name, rows, items in (("train", train, train_news), ("dev", dev, dev_news)):
        part = folder / f"MIND{kind}_{name}"
        part.mkdir(parents=True, exist_ok=True)
        for file, lines in (("behaviors.tsv", rows), ("news.tsv", items)):
            (part / file).write_text("".join(f"{line}\n" for line in lines))
    return folder


def read(folder: Path):
    """The log and its chunks: one of train, one of dev."""
    log = read_mind(folder)
    train, dev = log.chunks
    return log, train, dev


def test_interactions(tmp_path):
    log, train, dev = read(write(tmp_path))
    assert log.scenarios == ("news", "lifestyle", "sports", "finance")
    assert train.user_N.tolist() == [0, 0, 1]
    assert train.item_N.tolist() == [0, 1, 1]  # N10, N12, N12
    assert train.label_N.tolist() == [0, 1, 0]
    assert train.scenario_N.tolist() == [2, 3, 3]
    assert train.time_N.tolist() == [1573385454, 1573385454, 1573566329]
    assert dev.user_N.tolist() == [0, 0, 0]
    assert dev.item_N.tolist() == [2, 3, 0]
    assert dev.label_N.tolist() == [1, 0, 0]
    assert dev.scenario_N.tolist() == [0, 1, 2]
    assert dev.time_N.tolist() == [1573776000] * 3
    assert log.dropped == {
        "another category": 1,
        "not in news.tsv": 1,
        "a news item's later line": 1,
        "news of another category": 1,
    }
    assert sum(PUBLISHED.values()) == 56_728_044


def test_tables(tmp_path):
    log, _, _ = read(write(tmp_path))
    users, items = log.tables()
    assert users.sparse["user_id"] == ["U87243", "U598644"]
    assert items.sparse["news_id"] == ["N10", "N12", "N13", "N14"]
    assert items.sparse["subcategory"] == ["football_nfl", "markets", "newsus", "pets"]
    assert items.title.to_pylist()[0] == 'Title "10'
    assert items.text.to_pylist()[:2] == ['Title "10. An abstract.', 'Title "12.']


def test_other_names_of_the_folders(tmp_path):
    write(tmp_path)
    (tmp_path / "MINDlarge_train").rename(tmp_path / "train")
    (tmp_path / "MINDlarge_dev").rename(tmp_path / "dev")
    assert len(read(tmp_path)[1]) == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("3\t87243\t11/10/2019 11:30:54 AM\t\tN10-0", "user_id must be like U13, got '87243'"),
        ("3\tU1\t2019-11-10 11:30:54\t\tN10-0", "time must be like 11/15/2019 9:05:58 AM, got '2"),
        ("3\tU1\t11/10/2019 11:30:54 AM\t\tN10", "impressions must be like N1-0 N2-1, got 'N10'"),
        ("3\tU1\t11/10/2019 11:30:54 AM\t\tN10-2", "impressions must be like N1-0 N2-1, got"),
        ("3\tU1\t11/10/2019 11:30:54 AM", "5 fields expected, 3 found"),
    ],
)
def test_a_bad_line_is_kept_with_its_number_and_reason(tmp_path, line, reason):
    log, train, _ = read(write(tmp_path, train=[*TRAIN * 60, line]))
    assert len(train) == 180
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line) == ("MINDlarge_train/behaviors.tsv", 121)
    assert rejected.text == line
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("N15\tsports", "8 fields expected, 2 found"),
        ("N15\tsports\tx\t\tabstract\turl\t[]\t[]", "id, category and title must not be empty"),
    ],
)
def test_bad_news(tmp_path, line, reason):
    log = read_mind(write(tmp_path, dev_news=[*DEV_NEWS, line]))
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line) == ("MINDlarge_dev/news.tsv", 4)
    assert rejected.reason == reason


def test_a_missing_folder_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "MINDlarge_dev" / "news.tsv").unlink()
    with pytest.raises(
        DataError, match=r"one folder like MINDlarge_dev with behaviors\.tsv and news"
    ):
        read_mind(tmp_path)


def test_two_folders_are_one_too_many(tmp_path):
    write(write(tmp_path, kind="small"))
    with pytest.raises(DataError, match=r"found \['MINDlarge_train', 'MINDsmall_train'\]"):
        read_mind(tmp_path)


def test_who_is_unseen_in_training_is_unknown(tmp_path):
    old = [f"{at}\tU1\t11/10/2019 {at + 1}:00:00 AM\t\tN10-{at % 2}" for at in range(8)]
    new = ["1\tU2\t11/15/2019 1:00:00 AM\t\tN13-1", "2\tU1\t11/16/2019 1:00:00 AM\t\tN12-1"]
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    write_dataset(
        read_mind(write(tmp_path / "raw", old, new)), SplitConfig(kind="temporal"), dataset
    )
    (valid,) = pq.read_table(dataset / "valid").to_pylist()
    (test,) = pq.read_table(dataset / "test").to_pylist()
    assert (valid["user_id"], valid["news_id"], valid["subcategory"]) == (0, 0, 0)
    assert (test["user_id"], test["news_id"], test["subcategory"]) == (1, 0, 0)
