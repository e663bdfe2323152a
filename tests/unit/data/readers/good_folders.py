"""Good folders of every reader, small, and what reading one gives."""

import json
from pathlib import Path

from winnow.data.raw import RawLog, RejectedLines
from winnow.data.readers.aliccp import read_aliccp
from winnow.data.readers.amazon import FILES as AMAZON, read_amazon
from winnow.data.readers.douban import FILES as DOUBAN, MOVIES, read_douban
from winnow.data.readers.kuairand import (
    COUNTS,
    LOG_COLUMNS,
    LOGS,
    USER_FIELDS,
    USERS,
    VIDEO_FIELDS,
    VIDEOS,
    read_kuairand,
)
from winnow.data.readers.mind import read_mind
from winnow.data.readers.movielens import read_movielens
from winnow.errors import WinnowError

Lines = list[str]
GOOD = 30
"""Good lines of every file, so that a few bad ones are tolerated."""


def movielens() -> dict[str, Lines]:
    return {
        "users.dat": [f"{n}::F::25::1::10000" for n in range(1, GOOD)],
        "movies.dat": [f"{n}::Film {n} (1990)::Drama|War" for n in range(1, GOOD)],
        "ratings.dat": [f"{n}::{n}::{n % 5 + 1}::97830{n:04}" for n in range(1, GOOD)],
        "movies_plots.csv": ["movie_id,plot", *(f'{n},"A ""plot"", {n}"' for n in range(1, GOOD))],
    }


def amazon() -> dict[str, Lines]:
    review = {"reviewerID": "A", "asin": "B", "overall": 4.0, "unixReviewTime": 1390000000}
    return {
        name: [json.dumps(review | {"asin": f"B{n}", "overall": n % 5 + 1}) for n in range(GOOD)]
        for name in AMAZON
    }


def douban() -> dict[str, Lines]:
    files = {DOUBAN[0]: ["UID\tliving_place\tjoin_time"]}
    files[DOUBAN[0]] += [f'"{n}"\t"北京"\t"2010-01-01"' for n in range(GOOD)]
    for kind, name in zip(("book", "music", "movie"), DOUBAN[1:], strict=True):
        files[name] = [f"user_id\t{kind}_id\trating\tcomment\ttime"]
        files[name] += [f'{n}\t{n}\t{n % 5 + 1}\t"a ""b"""\t2012-03-01' for n in range(GOOD)]
    files[MOVIES] = ["UID\tname\ttag\tsummary", *(f"{n}\tFilm\tx\ty" for n in range(GOOD))]
    return files


def kuairand() -> dict[str, Lines]:
    users, videos = [*USER_FIELDS, *COUNTS], [*VIDEO_FIELDS, "upload_type", "tag"]
    files = {name: [",".join(LOG_COLUMNS)] for name in LOGS}
    for lines in files.values():
        lines += [f"{n},{n},16500000{n:05},{n % 2},1" for n in range(GOOD)]
    files[USERS] = [",".join(users)]
    files[USERS] += [",".join([str(n), *["1"] * (len(users) - 1)]) for n in range(GOOD)]
    files[VIDEOS] = [",".join(videos)]
    files[VIDEOS] += [",".join([str(n), *["1"] * 5, '"2,3"']) for n in range(GOOD)]
    return files


def mind() -> dict[str, Lines]:
    news = [f"N{n}\tsports\tgolf\tTitle\tText\turl\t[]\t[]" for n in range(GOOD)]
    shown = [f"{n}\tU{n}\t11/15/2019 9:05:58 AM\t\tN{n}-1 N1-0" for n in range(GOOD)]
    parts = ("MINDlarge_train", "MINDlarge_dev")
    return {f"{part}/news.tsv": news for part in parts} | {
        f"{part}/behaviors.tsv": shown for part in parts
    }


def aliccp() -> dict[str, Lines]:
    files = {}
    for part in ("train", "test"):
        common = "101\x02{0}\x031.0\x01121\x027\x031.0\x01109_14\x025\x032.5"
        item = "205\x02{0}\x031.0\x01206\x022\x031.0\x01301\x02{1}\x031.0"
        files[f"common_features_{part}.csv"] = [f"c{n},3,{common.format(n)}" for n in range(GOOD)]
        files[f"sample_skeleton_{part}.csv"] = [
            f"{n},{n % 2},0,c{n},3,{item.format(n, n % 3)}" for n in range(GOOD)
        ]
    return files


FOLDERS = {
    "movielens": (movielens, read_movielens),
    "amazon": (amazon, read_amazon),
    "douban": (douban, read_douban),
    "kuairand": (kuairand, read_kuairand),
    "mind": (mind, read_mind),
    "aliccp": (aliccp, read_aliccp),
}


def write(root: Path, files: dict[str, Lines]) -> None:
    for name, lines in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes("\n".join(lines).encode() + b"\n")


def read_all(reader, root: Path) -> tuple[int, RejectedLines, dict[str, int], int, int]:
    """Interactions, rejected lines, dropped lines, users and items of a log that is read whole."""
    log = reader(root)
    stream = log.stream() if isinstance(log, RawLog) else log
    rows = sum(len(chunk) for chunk in stream.chunks)
    users, items = stream.tables()
    return rows, stream.rejected, stream.dropped, len(users.raw_id), len(items.raw_id)


def unless_refused(read):
    """What `read` returns; None if it refuses the files in one sentence."""
    message = ""
    try:
        return read()
    except WinnowError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 1000
    return None
