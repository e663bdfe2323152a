"""MIND (ACL 2020) in its official files: behaviors.tsv and news.tsv of train and dev.

Label: whether a shown news item was clicked. Scenario: its category, one of four; items of other
categories are dropped. Fields as in Scenario-Wise Rec (CIKM 2025): user, news and subcategory.
Train and dev are one log, as in that paper. Left out: the history column.

Suffixes: N lines of a block, M news items shown in them, I news items of the four categories.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.data.raw import Chunk, RawStream, RawTable, RejectedLines
from winnow.data.readers.lines import Block, DelimitedFile
from winnow.data.readers.records import first_of_each, read_lines
from winnow.data.readers.row_numbers import RowNumbers
from winnow.errors import DataError

PARTS = ("train", "dev")
FILES = ("behaviors.tsv", "news.tsv")
COLUMNS = ("impression_id", "user_id", "time", "history", "impressions")

SCENARIOS = ("news", "lifestyle", "sports", "finance")
PUBLISHED = dict(zip(SCENARIOS, (26_057_579, 11_206_494, 10_237_589, 9_226_382), strict=True))

TIME = "%m/%d/%Y %I:%M:%S %p"
SHOWN = "^N[0-9]+-[01]( N[0-9]+-[01])*$"
OTHER = "another category"
OTHER_NEWS = "news of another category"
UNKNOWN = "not in news.tsv"

News = tuple[str, str, str, str, str]
"""Id, category, subcategory, title, abstract."""


def read_mind(folder: str | Path) -> RawStream:
    """Read the folders in `folder` whose names end in `train` and `dev`, as MINDlarge_train does.

    Raises:
        DataError: a folder or file is missing.
    """
    root = Path(folder)
    parts = [_part(root, name) for name in PARTS]
    rejected, dropped = RejectedLines(), {OTHER: 0, UNKNOWN: 0}
    records = ((record[0], record) for part in parts for record in _read_news(part, rejected))
    news = first_of_each(records, dropped, "a news item's later line")
    reader = _Reader(parts, list(news.values()), rejected, dropped)
    return RawStream(
        name="mind",
        scenarios=SCENARIOS,
        chunks=reader.chunks(),
        tables=reader.tables,
        rejected=rejected,
        dropped=reader.dropped,
        published=PUBLISHED,
    )


class _Reader:
    def __init__(
        self,
        parts: Sequence[Path],
        news: list[News],
        rejected: RejectedLines,
        dropped: dict[str, int],
    ) -> None:
        self.dropped = dropped
        self._parts = parts
        self._rejected = rejected
        self._users = RowNumbers()
        self._items = [record for record in news if record[1] in SCENARIOS]
        self._others = [record[0] for record in news if record[1] not in SCENARIOS]
        dropped[OTHER_NEWS] = len(self._others)
        self._news_id = pa.array([*(item[0] for item in self._items), *self._others], pa.string())
        kinds = [SCENARIOS.index(category) for _, category, *_ in self._items]
        self._scenario_I = np.array(kinds, np.int16)

    def chunks(self) -> Iterator[Chunk]:
        for part in self._parts:
            path = part / "behaviors.tsv"
            file = DelimitedFile(
                path, COLUMNS, self._rejected, delimiter="\t", header=COLUMNS, name=_name(path)
            )
            for block in file.blocks():
                yield self._chunk(_checked(block))

    def tables(self) -> tuple[RawTable, RawTable]:
        readers = [f"U{number}" for number in self._users.ids().tolist()]
        text = ["reader"] * len(readers)
        users = RawTable(raw_id=readers, text=text, sparse={"user_id": readers}, dense={})
        return users, _item_table(self._items)

    def _chunk(self, block: Block) -> Chunk:
        shown = pc.split_pattern(block["shown"], " ")
        line_M = np.repeat(np.arange(len(block)), pc.list_value_length(shown).to_numpy())
        pairs = shown.flatten()
        known = pc.index_in(pc.utf8_slice_codeunits(pairs, 0, -2), self._news_id)
        item_M = pc.fill_null(known, -1).to_numpy()
        kept_M = (item_M >= 0) & (item_M < len(self._items))
        self.dropped[UNKNOWN] += int((item_M < 0).sum())
        self.dropped[OTHER] += int((item_M >= len(self._items)).sum())
        line_M, item_M = line_M[kept_M], item_M[kept_M]
        user_M = block.ints("user_number")[line_M]
        self._users.add(user_M)
        return Chunk(
            user_N=self._users.find(user_M),
            item_N=item_M,
            label_N=pc.ends_with(pairs, "1").to_numpy(zero_copy_only=False)[kept_M].astype("f4"),
            scenario_N=self._scenario_I[item_M],
            time_N=block.ints("seconds")[line_M],
        )


def _part(root: Path, name: str) -> Path:
    found = [
        path
        for path in sorted(root.glob(f"*{name}"))
        if all((path / file).is_file() for file in FILES)
    ]
    if len(found) != 1:
        raise DataError(
            f"{root} must have one folder like MINDlarge_{name} with {' and '.join(FILES)}, "
            f"found {[path.name for path in found]}"
        )
    return found[0]


def _name(path: Path) -> str:
    """Name in rejected lines, with the folder: train and dev have files of the same name."""
    return f"{path.parent.name}/{path.name}"


def _read_news(part: Path, rejected: RejectedLines) -> Iterator[News]:
    path = part / "news.tsv"
    return read_lines(path, _parse_news, rejected, name=_name(path))


def _parse_news(line: str) -> News:
    fields = line.split("\t")
    if len(fields) != 8:
        raise ValueError(f"8 fields expected, {len(fields)} found")
    news_id, category, subcategory, title, abstract = fields[:5]
    if not (news_id and category and title):
        raise ValueError("id, category and title must not be empty")
    return news_id, category, subcategory, title, abstract


def _checked(block: Block) -> Block:
    good_N = np.asarray(pc.match_substring_regex(block["user_id"], "^U(0|[1-9][0-9]{0,17})$"))
    block = block.require(good_N, "user_id", "must be like U13")
    seconds = pc.strptime(block["time"], format=TIME, unit="s", error_is_null=True)
    block = block.joined({"seconds": seconds.cast(pa.int64())})
    block = block.require(
        np.asarray(seconds.is_valid()), "time", "must be like 11/15/2019 9:05:58 AM"
    )
    block = block.joined(
        {
            "shown": pc.utf8_trim_whitespace(block["impressions"]),
            "user_number": pc.utf8_slice_codeunits(block["user_id"], 1).cast(pa.int64()),
        }
    )
    good_N = np.asarray(pc.match_substring_regex(block["shown"], SHOWN))
    return block.require(good_N, "impressions", "must be like N1-0 N2-1")


def _item_table(items: list[News]) -> RawTable:
    ids = [news_id for news_id, *_ in items]
    kinds = [subcategory for _, _, subcategory, *_ in items]
    texts = [" ".join(filter(None, (f"{title}.", abstract))) for _, _, _, title, abstract in items]
    return RawTable(
        raw_id=ids,
        title=pa.array([title for _, _, _, title, _ in items], pa.string()),
        text=pa.array(texts, pa.string()),
        sparse={"news_id": ids, "subcategory": kinds},
        dense={},
    )
