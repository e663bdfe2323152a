"""The reader on a small folder in the official layout."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.readers.kuairand import (
    FILES,
    LOGS,
    PUBLISHED,
    USER_FIELDS,
    USERS,
    VIDEOS,
    read_kuairand,
)
from winnow.errors import DataError

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
USER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,"
    "friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{number}" for number in range(18))
)
VIDEO = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)
ONEHOT = "0,1,29,949,,0,0,14,135,6,3,0,0.0,1.0,0.0,0.0,0.0,0.0"
USER_LINES = [
    f'7,full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,{ONEHOT}',
    f'3,UNKNOWN,0,-124,0,500,500+,0,0,1,"[1,5)",20,15-30,{ONEHOT}',
]
VIDEO_LINES = [
    '11,1,NORMAL,2020-07-08,ShortImport,1.0,17200.0,720.0,1280.0,98,4.0,"12,65"',
    "10,2,AD,2020-07-08,,,17200.0,720.0,1280.0,98,4.0,9",
]


def shown(user: int, video: int, time_ms: int, click: int, tab: int) -> str:
    return f"{user},{video},20220421,400,{time_ms},{click},0,0,0,0,0,0,863,30066,0,0,0,0,{tab}"


LOG_LINES = [
    [
        shown(7, 11, 1650485801301, 1, 0),
        shown(3, 10, 1650485802999, 0, 1),
        shown(7, 10, 5000, 1, 3),
    ],
    [shown(3, 11, 1650485900000, 0, 6), shown(3, 10, 7999, 1, 4), shown(7, 11, 9000, 0, 2)],
]


def write(folder: Path, logs=LOG_LINES, users=USER_LINES, videos=VIDEO_LINES) -> Path:
    folder.mkdir(exist_ok=True)
    texts = {USERS: [USER, *users], VIDEOS: [VIDEO, *videos]}
    texts |= {name: [LOG, *rows] for name, rows in zip(LOGS, logs, strict=True)}
    for name, rows in texts.items():
        (folder / name).write_text("".join(f"{row}\n" for row in rows))
    return folder


def read(folder: Path):
    """The log, and the columns of all its chunks."""
    log = read_kuairand(folder)
    chunks = list(log.chunks)
    names = ("user_N", "item_N", "label_N", "scenario_N", "time_N")
    return log, {n: np.concatenate([getattr(c, n) for c in chunks]).tolist() for n in names}


def test_interactions(tmp_path):
    log, columns = read(write(tmp_path))
    assert columns == {
        "user_N": [0, 1, 1, 1, 0],
        "item_N": [0, 1, 0, 1, 0],
        "label_N": [1, 0, 0, 1, 0],
        "scenario_N": [0, 1, 4, 3, 2],  # tabs 0, 1, 6, 4, 2
        "time_N": [1650485801, 1650485802, 1650485900, 7, 9],
    }
    assert log.dropped == {"tab other than 0, 1, 2, 4, 6": 1}
    assert log.scenarios == ("tab 0", "tab 1", "tab 2", "tab 4", "tab 6")
    assert sum(PUBLISHED.values()) == 11_648_743


def test_tables_hold_raw_values(tmp_path):
    log, _ = read(write(tmp_path))
    users, videos = log.tables()
    assert list(users.raw_id) == ["7", "3"]
    assert users.sparse["fans_user_num_range"] == ["[100,1k)", "0"]
    assert users.sparse["is_live_streamer"] == ["0", "-124"]
    assert users.sparse["onehot_feat4"] == ["missing", "missing"]
    assert users.dense["register_days"].tolist() == [3624, 20]
    assert users.text[0] == (
        "full_active user, follows (0,10], followed by [100,1k), friends 0, "
        "registered 730+ days ago"
    )
    assert videos.sparse["video_id"].to_pylist() == ["11", "10"]
    assert videos.sparse["visible_status"].to_pylist() == ["1.0", "missing"]
    assert videos.text.to_pylist() == [
        "NORMAL video, ShortImport, 720.0 x 1280.0, tags 12,65",
        "AD video, missing, 720.0 x 1280.0, tags 9",
    ]


def test_fields_are_those_of_the_benchmark(tmp_path):
    # the 38 columns of its processed sample, less label, tab and what is known after the click
    log, _ = read(write(tmp_path))
    users, videos = log.tables()
    assert list(users.sparse) == list(USER_FIELDS)
    assert len(users.sparse) + len(videos.sparse) == 32
    assert list(users.dense) == [
        "follow_user_num",
        "fans_user_num",
        "friend_user_num",
        "register_days",
    ]


def test_the_outer_folder_will_do(tmp_path):
    write(tmp_path / "data")
    assert len(read(tmp_path)[1]["user_N"]) == 5


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (shown(7, 11, 1, 2, 0), "is_click must be 0 or 1, got '2'"),
        (shown(7, 11, 1, 1, 15), "tab must be 0 to 14, got '15'"),
        (shown(8, 11, 1, 1, 0), "user_id must be in user_features_1k.csv, got '8'"),
        (shown(7, 12, 1, 1, 0), "video_id must be in video_features_basic_1k.csv, got '12'"),
        (shown(7, 11, 1, 1, 0).replace(",1,", ",x,", 1), "time_ms must be a whole number, got 'x'"),
        ("7,11,20220421", "19 fields expected, 3 found"),
    ],
)
def test_a_bad_line_is_kept_with_its_number_and_reason(tmp_path, line, reason):
    log, columns = read(write(tmp_path, logs=[[*LOG_LINES[0] * 50, line], LOG_LINES[1]]))
    assert len(columns["user_N"]) == 103
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line, rejected.text) == (LOGS[0], 152, line)
    assert rejected.reason == reason


def test_too_many_bad_lines_stop_the_reader(tmp_path):
    log = read_kuairand(write(tmp_path, logs=[[*LOG_LINES[0], *"x" * 11], LOG_LINES[1]]))
    with pytest.raises(
        DataError, match=r"11 of 14 lines cannot be used.*line 5: 19 fields expected"
    ):
        list(log.chunks)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("7,full_active", "31 fields expected, 2 found"),
        (USER_LINES[0].replace("7,", "x,", 1), "user_id must be a whole number, got 'x'"),
        (USER_LINES[0].replace("3624", "long"), "register_days must be a number, got 'long'"),
    ],
)
def test_bad_users(tmp_path, line, reason):
    log = read_kuairand(write(tmp_path, users=[*USER_LINES, line]))
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line, rejected.reason) == (USERS, 4, reason)


def test_one_row_a_user_and_one_a_video(tmp_path):
    again = USER_LINES[0].replace("full_active", "high_active")
    log, _ = read(write(tmp_path, users=[*USER_LINES, again]))
    assert len(log.tables()[0].raw_id) == len(USER_LINES)
    assert log.dropped["a user's later line"] == 1


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / LOGS[0]).unlink()
    with pytest.raises(DataError, match=rf"not a KuaiRand-1K folder: {LOGS[0]} missing"):
        read_kuairand(tmp_path)
    assert len(FILES) == 4


def test_missing_columns_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / USERS).write_text("user_id,age\n1,2\n")
    with pytest.raises(DataError, match="columns user_active_degree, is_lowactive_period"):
        read_kuairand(tmp_path)


def test_a_video_unseen_in_training_is_unknown(tmp_path):
    old = [shown(7, 11, 1000 * at, at % 2, 0) for at in range(9)]
    new = [shown(3, 10, 99_000, 1, 1)]
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    log = read_kuairand(write(tmp_path / "raw", logs=[old, new]))
    write_dataset(log, SplitConfig(kind="temporal", valid=0.1, test=0.1), dataset)
    assert pq.read_table(dataset / "test")["video_id"].to_pylist() == [0]
    assert pq.read_table(dataset / "test")["user_id"].to_pylist() == [0]
    assert set(pq.read_table(dataset / "train")["video_id"].to_pylist()) == {1}
