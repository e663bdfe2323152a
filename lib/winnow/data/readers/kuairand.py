"""KuaiRand-1K (CIKM 2022) in its official files: two standard logs, users, basic video features.

Label: is_click. Scenario: the raw tab 0, 1, 2, 4 or 6; rows of other tabs are dropped. Fields as
in Scenario-Wise Rec (CIKM 2025), with their raw values: 27 user fields, four counts of the user as
numbers, and id, type, status, width and height of the video. Left out: play, duration, profile and
comment times of a row (known only after the click), the log of random exposures, and the
statistics by video, which count the clicks of the whole month.

Suffix: N lines of a block.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.data.raw import Chunk, RawStream, RawTable, RejectedLines, Words
from winnow.data.readers.lines import Block, DelimitedFile
from winnow.data.readers.records import (
    LAST_SECOND,
    Record,
    finite,
    first_of_each,
    read_records,
    require_files,
    whole_number,
)
from winnow.data.readers.row_numbers import RowNumbers

LOGS = ("log_standard_4_08_to_4_21_1k.csv", "log_standard_4_22_to_5_08_1k.csv")
USERS = "user_features_1k.csv"
VIDEOS = "video_features_basic_1k.csv"
FILES = (*LOGS, USERS, VIDEOS)

TABS = (0, 1, 2, 4, 6)
SCENARIOS = tuple(f"tab {tab}" for tab in TABS)
PUBLISHED = dict(zip(SCENARIOS, (2_407_352, 7_760_237, 895_385, 402_366, 183_403), strict=True))

LOG_COLUMNS = ("user_id", "video_id", "time_ms", "is_click", "tab")
COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_FIELDS = (
    "user_id",
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    *(f"{count}_range" for count in COUNTS),
    *(f"onehot_feat{number}" for number in range(18)),
)
VIDEO_FIELDS = ("video_id", "video_type", "visible_status", "server_width", "server_height")
OTHER_TAB = f"tab other than {', '.join(map(str, TABS))}"
LATER_VIDEO = "a video's later line"
MISSING = "missing"
"""The value of an empty field, because absence is informative too."""


def read_kuairand(folder: str | Path) -> RawStream:
    """Read the folder (KuaiRand-1K or its `data`); raises DataError if a file is missing."""
    root = Path(folder)
    root = root / "data" if (root / "data").is_dir() else root
    require_files(root, "a KuaiRand-1K folder", FILES)
    rejected = RejectedLines()
    dropped = {OTHER_TAB: 0}
    user_row, users = _read_users(root / USERS, rejected, dropped)
    video_row, videos = _read_videos(root / VIDEOS, rejected, dropped)
    return RawStream(
        name="kuairand_1k",
        scenarios=SCENARIOS,
        chunks=_chunks(root, user_row, video_row, rejected, dropped),
        tables=lambda: (users, videos),
        rejected=rejected,
        dropped=dropped,
        published=PUBLISHED,
    )


def _chunks(
    root: Path,
    user_row: RowNumbers,
    video_row: RowNumbers,
    rejected: RejectedLines,
    dropped: dict[str, int],
) -> Iterator[Chunk]:
    scenario_of_tab = np.full(15, -1, np.int16)
    scenario_of_tab[list(TABS)] = np.arange(len(TABS))
    for name in LOGS:
        for block in DelimitedFile(root / name, LOG_COLUMNS, rejected).blocks():
            block = _checked(block, user_row, video_row)
            scenario_N = scenario_of_tab[block.ints("tab")]
            dropped[OTHER_TAB] += int((scenario_N < 0).sum())
            block = block.take(scenario_N >= 0)
            yield Chunk(
                user_N=user_row.find(block.ints("user_id")),
                item_N=video_row.find(block.ints("video_id")),
                label_N=block.ints("is_click").astype(np.float32),
                scenario_N=scenario_N[scenario_N >= 0],
                time_N=block.ints("time_ms") // 1000,
            )


def _checked(block: Block, user_row: RowNumbers, video_row: RowNumbers) -> Block:
    block = block.whole_numbers(*LOG_COLUMNS)
    block = block.require(np.isin(block.ints("is_click"), (0, 1)), "is_click", "must be 0 or 1")
    time_N = block.ints("time_ms")
    good_N = (time_N >= 0) & (time_N <= LAST_SECOND * 1000)
    block = block.require(good_N, "time_ms", "must be milliseconds since 1970")
    block = block.require(np.isin(block.ints("tab"), range(15)), "tab", "must be 0 to 14")
    known_N = user_row.find(block.ints("user_id")) >= 0
    block = block.require(known_N, "user_id", f"must be in {USERS}")
    known_N = video_row.find(block.ints("video_id")) >= 0
    return block.require(known_N, "video_id", f"must be in {VIDEOS}")


def _read_users(
    path: Path, rejected: RejectedLines, dropped: dict[str, int]
) -> tuple[RowNumbers, RawTable]:
    records = read_records(path, (*USER_FIELDS, *COUNTS), _parse_user, rejected)
    by_number = first_of_each(records, dropped, "a user's later line")
    rows = RowNumbers()
    rows.add(np.array(list(by_number), np.int64))
    users = list(by_number.values())
    ids = [user["user_id"] for user in users]
    fields: dict[str, Words] = {name: [user[name] for user in users] for name in USER_FIELDS}
    counts = {name: np.array([user[name] for user in users], np.float64) for name in COUNTS}
    text = [_describe(user) for user in users]
    return rows, RawTable(raw_id=ids, text=text, sparse=fields, dense=counts)


def _parse_user(record: Record) -> tuple[int, dict[str, Any]]:
    """The user's number and fields."""
    number = whole_number(record["user_id"], "user_id")
    words = {name: record[name] or MISSING for name in USER_FIELDS}
    counts = {name: finite(record[name], name) if record[name] else np.nan for name in COUNTS}
    return number, words | counts


def _describe(user: dict[str, Any]) -> str:
    return (
        f"{user['user_active_degree']} user, follows {user['follow_user_num_range']}, "
        f"followed by {user['fans_user_num_range']}, friends {user['friend_user_num_range']}, "
        f"registered {user['register_days_range']} days ago"
    )


def _read_videos(
    path: Path, rejected: RejectedLines, dropped: dict[str, int]
) -> tuple[RowNumbers, RawTable]:
    rows = RowNumbers()
    names = (*VIDEO_FIELDS, "upload_type", "tag")
    pieces: dict[str, list[pa.Array]] = {name: [] for name in names}
    for block in DelimitedFile(path, names, rejected, quoted=True).blocks():
        block = block.whole_numbers("video_id")
        first = rows.add(block.ints("video_id"))
        if later := len(block) - len(first):
            dropped[LATER_VIDEO] = dropped.get(LATER_VIDEO, 0) + later
        for name in names:
            values = block[name].take(first)
            pieces[name].append(pc.if_else(pc.equal(values, ""), MISSING, values))
    columns = {name: pa.concat_arrays(pieces[name]) for name in names}
    described = ("video_type", "upload_type", "server_width", "server_height", "tag")
    pairs = zip(described, (" video, ", ", ", " x ", ", tags ", ""), strict=True)
    parts = [part for name, words in pairs for part in (columns[name], words)]
    text = pc.binary_join_element_wise(*parts, "")
    fields = {name: columns[name] for name in VIDEO_FIELDS}
    return rows, RawTable(raw_id=columns["video_id"], text=text, sparse=fields, dense={})
