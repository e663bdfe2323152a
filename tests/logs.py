"""Small logs in the raw files of every reader, and one with a field of every kind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.unit.data.readers import (
    test_aliccp as aliccp,
    test_amazon as amazon,
    test_douban as douban,
    test_kuairand as kuairand,
    test_mind as mind,
    test_movielens as movielens,
)
from winnow.data.raw import Chunk, RawLog, RawStream, RawTable
from winnow.data.readers.registry import READERS

ROWS = 120
USERS, ITEMS = 6, 10


def drawn(items: int = ITEMS) -> Iterator[tuple[int, int, int, int, int]]:
    """Row number, user, item, label and a number below 3 of each row."""
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        yield row, *(int(rng.integers(top)) for top in (USERS, items, 2, 3))


def write_movielens(folder: Path) -> None:
    ages = (1, 18, 25, 35, 45, 56)
    movielens.write(
        folder,
        users=[f"{u}::{'FM'[u % 2]}::{age}::{u}::4806{u}" for u, age in enumerate(ages)],
        movies=[f"{i}::Film {i} (199{i})::{('Drama', 'Comedy')[i % 2]}" for i in range(ITEMS)],
        ratings=[f"{u}::{i}::{3 + label}::{9_000 + row}" for row, u, i, label, _ in drawn()],
    )


def write_kuairand(folder: Path) -> None:
    shown = [
        kuairand.shown(u, i, 1_000 * row, label, (0, 1, 4)[tab])
        for row, u, i, label, tab in drawn()
    ]
    profile, video = (
        lines[0].split(",", 1)[1] for lines in (kuairand.USER_LINES, kuairand.VIDEO_LINES)
    )
    kuairand.write(
        folder,
        logs=[shown[: ROWS // 2], shown[ROWS // 2 :]],
        users=[f"{u},{profile}" for u in range(USERS)],
        videos=[f"{i},{video}" for i in range(ITEMS)],
    )


def write_aliccp(folder: Path) -> None:
    commons = [
        aliccp.common(f"c{u}", 100 + u, ("109_14", 500 + u % 2, 0.5 * u)) for u in range(USERS)
    ]
    shown = [
        aliccp.shown(
            row, label, 0, f"c{u}", 70 + i, aliccp.POSITION[at], ("508", 900 + i % 2, 0.1 * i)
        )
        for row, u, i, label, at in drawn()
    ]
    aliccp.write(
        folder, train=shown[:80], train_common=commons, test=shown[80:], test_common=commons
    )


def write_amazon(folder: Path) -> None:
    kinds: list[list[str]] = [[], [], []]
    for row, u, i, label, kind in drawn():
        kinds[kind].append(amazon.review(f"A{u}", f"B{i}", 3.0 + label, 1_000 + row))
    amazon.write(folder, *kinds)


def write_douban(folder: Path) -> None:
    books, music, films = douban.BOOKS[:1], douban.MUSIC[:1], douban.FILMS[:1]
    for row, u, i, label, kind in drawn():
        who, day, number = str(7 + u), f"2011-01-{1 + row % 28:02}", str(row)
        rating = str(3 + label)
        if kind == 0:
            books.append((who, str(i), rating, "", "", day, number))
        elif kind == 1:
            music.append((who, str(i), rating, "", "", "0", day, number))
        else:
            films.append((who, str(i), rating, "", day, "", "0", "1", number))
    douban.write(folder, books=books, music=music, films=films)


def write_mind(folder: Path) -> None:
    news = [
        mind.news(i, ("news", "lifestyle", "sports", "finance")[i % 4], f"part{i % 3}")
        for i in range(ITEMS)
    ]
    lines = [
        f"{row}\tU{u}\t11/1{row % 5}/2019 1:{row % 60:02}:29 PM\t\tN{i}-{label}"
        for row, u, i, label, _ in drawn()
    ]
    mind.write(folder, train=lines[:80], dev=lines[80:], train_news=news, dev_news=news)


def read_every_kind(folder: Path) -> RawStream:
    """A log whose users, items and interactions each have sparse and dense fields."""
    items = 5 * ITEMS  # enough for likes that are the only one of their user and item
    rows = np.array(list(drawn(items)))
    user_N, item_N, label_N, slot_N = (rows[:, at] for at in (1, 2, 3, 4))

    def table(name: str, count: int) -> RawTable:
        ids = np.array([f"{name}{row}" for row in range(count)])
        kind = np.array([f"{name}kind{row % 3}" for row in range(count)])
        dense = {f"{name}_number": np.arange(count) / 3}
        return RawTable(raw_id=ids, text=ids, sparse={name: ids, f"{name}_kind": kind}, dense=dense)

    chunk = Chunk(
        user_N=user_N.astype(np.int32),
        item_N=item_N.astype(np.int32),
        label_N=label_N.astype(np.float32),
        scenario_N=(rows[:, 0] % 2).astype(np.int16),
        time_N=rows[:, 0],
        sparse={
            "slot": pa.array([f"slot {slot}" for slot in slot_N]),
            "place": pa.array([f"place {row % 2}" for row in rows[:, 0]]),  # is the scenario
        },
        dense={"hour": np.where(slot_N == 0, np.nan, rows[:, 0] % 24).astype(np.float64)},
    )
    return RawStream(
        name="every_kind",
        scenarios=("home", "cart"),
        chunks=iter([chunk]),
        tables=lambda: (table("user", USERS), table("item", items)),
    )


def _reader(name: str, write: Callable[[Path], None]) -> Callable[[Path], RawLog | RawStream]:
    def read(folder: Path) -> RawLog | RawStream:
        folder.mkdir(exist_ok=True)
        write(folder)
        return READERS[name](str(folder))

    return read


LOGS: dict[str, Callable[[Path], RawLog | RawStream]] = {
    name: _reader(name, globals()[f"write_{name}"]) for name in READERS
} | {"every_kind": read_every_kind}
"""By reader: writes its raw files into a folder and reads them."""
