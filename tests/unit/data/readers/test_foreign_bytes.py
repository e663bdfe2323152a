"""Whatever bytes a file holds: no traceback, and lines in = kept + dropped + rejected.

Each example takes a good folder, changes lines of one file to hypothesis' bytes, and reads it.
"""

import gzip
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from winnow.data.raw import FileLines, RawLog, RejectedLines
from winnow.data.readers import records
from winnow.data.readers.aliccp import read_aliccp
from winnow.data.readers.amazon import FILES as AMAZON, read_amazon
from winnow.data.readers.beir import read_beir
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
from winnow.data.readers.records import read_records
from winnow.errors import DataError

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

ODD = [
    *(b"", b" ", b"\xff\xfe", "北京".encode("gbk"), b"\xed\xa0\x80", b"\0", b"\r", b'"', b'""'),
    *(b'"x', b'x"y', b"\xef\xbb\xbf", b"9" * 30, b"-1", b"1e999", b"nan", "٣".encode(), b"1_0"),
    *(b"[" * 3000, b'{"a":' * 2000, b'"\\ud800"', b"x" * 200_000, b"\x01", b"\x02", b"\x03", b"\t"),
    *(
        b"::",
        b",",
        b"{}",
        b"null",
        b"\xe2\x80\xa8",
        b"\x85",
        b"\x1c",
        b"9" * 5000,
        b"99999999999999",
    ),
]
PIECE = st.one_of(st.sampled_from(ODD), st.binary(max_size=20))


def spoiled(draw, line: bytes) -> bytes:
    """A line with a piece put in, put in place of a field, or put in place of all."""
    piece = draw(PIECE).replace(b"\n", b"")
    how = draw(st.sampled_from(["insert", "field", "whole", "again"]))
    if how == "whole":
        return piece
    if how == "again":
        return line
    if how == "insert":
        at = draw(st.integers(0, len(line)))
        return line[:at] + piece + line[at:]
    for delimiter in (b"::", b"\t", b",", b"\x02"):
        if delimiter in line:
            fields = line.split(delimiter)
            fields[draw(st.integers(0, len(fields) - 1))] = piece
            return delimiter.join(fields)
    return line.replace(b"B", piece, 1)


@st.composite
def damage(draw, files: dict[str, Lines], headers: bool = False):
    """The name of a file, and its bytes with up to five lines spoiled and odd line ends."""
    name = draw(st.sampled_from(sorted(files)))
    lines = [line.encode() for line in files[name]]
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0 if headers else 1, len(lines) - 1))
        lines[at] = spoiled(draw, lines[at])
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    return name, end.join(lines) + draw(st.sampled_from([b"", b"\n", end, b"\n\n"]))


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
    except DataError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 1000
    return None


SLOW = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def counted(monkeypatch):
    """Good and bad lines of every file that has been read, by name."""
    counts: Counter[str] = Counter()
    finish = FileLines.finish

    def counting(self):
        counts[self._name] = self._seen - self._bad
        finish(self)

    monkeypatch.setattr(FileLines, "finish", counting)
    return counts


@pytest.mark.parametrize("name", FOLDERS)
@SLOW
@given(data=st.data())
def test_no_bytes_end_in_a_traceback_and_no_line_is_lost(tmp_path, counted, name, data):
    make, reader = FOLDERS[name]
    files = make()
    write(tmp_path, files)
    changed, content = data.draw(damage(files))
    (tmp_path / changed).write_bytes(content)
    counted.clear()
    found = unless_refused(lambda: read_all(reader, tmp_path))
    if not found:
        return
    rejected = found[1]
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    short = changed if name == "mind" else Path(changed).name
    header = name in ("kuairand", "douban") or changed.endswith("plots.csv")
    bad = [line for line in rejected.lines if line.file == short]
    assert len({line.line for line in bad}) == len(bad)
    assert all(1 + header <= line.line <= lines for line in bad)
    assert counted[short] + len(bad) + header == lines


@pytest.mark.parametrize("name", FOLDERS)
@SLOW
@given(data=st.data())
def test_nor_does_a_spoiled_header(tmp_path, name, data):
    make, reader = FOLDERS[name]
    write(tmp_path, make())
    changed, content = data.draw(damage(make(), headers=True))
    (tmp_path / changed).write_bytes(data.draw(st.sampled_from([content, content[:40], b""])))
    unless_refused(lambda: read_all(reader, tmp_path))


@SLOW
@given(data=st.data())
def test_no_line_of_a_search_set_is_lost(tmp_path, data):
    files = {
        "corpus.jsonl": [json.dumps({"_id": f"d{n}", "text": f"text {n}"}) for n in range(GOOD)],
        "queries.jsonl": [json.dumps({"_id": f"q{n}", "text": f"query {n}"}) for n in range(GOOD)],
        "qrels/test.tsv": ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in range(GOOD))],
    }
    write(tmp_path, files)
    changed, content = data.draw(damage(files))
    (tmp_path / changed).write_bytes(content)
    read = unless_refused(lambda: read_beir(tmp_path))
    if not read:
        return
    found, skipped = read
    tables = dict(zip(files, (found.documents, found.queries, found.qrels), strict=True))
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    bad = {line.line for line in skipped.lines if line.file == changed}
    assert tables[changed].num_rows + len(bad) + changed.endswith("tsv") >= lines


@pytest.mark.parametrize("cut", [10, 100, -9, -4, -1])
def test_a_cut_archive_is_named(tmp_path, cut):
    write(tmp_path, amazon())
    path = tmp_path / AMAZON[0]
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    Path(f"{path}.gz").write_bytes(packed[:cut])
    with pytest.raises(DataError, match=r"5\.json\.gz is cut or damaged after line"):
        read_amazon(tmp_path)


def plain(path: Path, text: str) -> tuple[list[str], RejectedLines]:
    """Numbers and words of a file of numbers and words, and what was rejected."""
    path.write_text(text)
    rejected = RejectedLines()

    def parse(record):
        int(record["n"])
        return record["words"]

    return list(read_records(path, ("n", "words"), parse, rejected)), rejected


def test_an_open_quote_costs_its_own_line_only(tmp_path):
    lines = [f"{n},{chr(34) if n == 7 else ''}some words" for n in range(100)]
    words, rejected = plain(tmp_path / "x.csv", "\n".join(["n,words", *lines]))
    assert len(words) == 99
    assert [(bad.line, bad.reason) for bad in rejected.lines] == [(9, "a quote is never closed")]


def test_nor_does_a_later_quote_close_it(tmp_path):
    lines = [f"{n},some words" for n in range(100)]
    lines[7], lines[50] = '7,"some words', '50,a screen of 7"'
    words, rejected = plain(tmp_path / "x.csv", "\n".join(["n,words", *lines]))
    assert len(words) == 99
    assert words[49] == 'a screen of 7"'
    assert [bad.line for bad in rejected.lines] == [9]


def test_a_field_in_quotes_spans_lines(tmp_path):
    words, rejected = plain(tmp_path / "x.csv", 'n,words\n1,"one,\n\n""two""\nthree"\n2,four\n')
    assert words == ['one,\n\n"two"\nthree', "four"]
    assert not rejected.lines


@pytest.mark.parametrize("line", ['x,"', 'x,"y', '"', '""",', 'x,"""', '"\t",', 'x"'])
def test_quotes_are_read_in_linear_time(tmp_path, monkeypatch, line):
    """Counts how often a line is looked at, as twice the lines may take at most twice the looks."""
    looks: Counter[int] = Counter()
    split = records._split

    def counting(text, delimiter):
        looks[size] += 1
        return split(text, delimiter)

    monkeypatch.setattr(records, "_split", counting)
    for size in (200, 400):
        with pytest.raises(DataError, match="lines cannot be used"):
            plain(tmp_path / "x.csv", "n,words\n" + f"{line}\n" * size)
    assert looks[400] <= 2.1 * looks[200]


def test_one_long_text_takes_the_memory_of_one_long_text(tmp_path):
    files = movielens()
    files["movies_plots.csv"][3] = "3," + "word " * 20_000
    files["movies.dat"] += [f"{n}::Film {n}::Drama" for n in range(100, 3000)]
    write(tmp_path, files)
    tracemalloc.start()
    read_movielens(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the files have .2 MB; an array of the longest text took 1.2 GB


@pytest.mark.parametrize("name", FOLDERS)
def test_unspoiled_folders_are_read_whole(tmp_path, name):
    make, reader = FOLDERS[name]
    write(tmp_path, make())
    rows, rejected, *_ = read_all(reader, tmp_path)
    assert rows >= GOOD - 1
    assert not rejected.lines
