"""Ten thousand damaged files, some for every reader: no traceback, no lost line, linear work.

The damage is drawn from pytest's `--hypothesis-seed`: the same seed makes the same files.
"""

import gzip
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.readers.good_folders import (
    FOLDERS,
    GOOD,
    Lines,
    read_all,
    unless_refused,
    write,
)
from winnow.data.readers.aliccp import FILES as ALICCP
from winnow.data.readers.amazon import FILES as AMAZON
from winnow.data.readers.beir import read_beir
from winnow.data.readers.kuairand import LOGS as KUAIRAND
from winnow.llm.tasks.sources import Misfit, TableSource

FILES = 10_000
"""Damaged files of all readers together in the long test."""
FEW = 40
"""Damaged files of each reader in the fast one."""
LONG = 50_000
"""Bytes of a long field."""

PIECES = [
    *(
        b"",
        b" ",
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b'"',
        b'""',
        b'"""',
        b'",',
        b'\t"',
        b"'",
        b"\\",
        b"#",
    ),
    *(b"::", b",", b"\t", b"|", b"\x01", b"\x02", b"\x03", b"\x1a", b"\x1c", b"\x85", b"\x0c"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b'"\\ud800"', b"\xf4\x90\x80\x80", b"\xc3"),
    *("北京".encode("gbk"), "é".encode("latin-1"), "\u2028".encode(), "٣".encode(), b"\xc2\xa0"),
    *(b"9" * 19, b"9" * 5000, b"-1", b"-0", b"1e999", b"nan", b"-inf", b"1_0", b"0x1", b"1.0"),
    *(b"9223372036854775808", b"2147483648", b"99999999999999", b"1e-400", b"+1", b"007"),
    *(b"[" * 3000, b'{"a":' * 2000, b"[]" * 500, b"{}", b"null", b"true", b"[null]", b'{"_id":{}}'),
    *(b"x" * LONG, b'"' * 999, b'x","' * 500, b"\0" * 500, b"\xff" * 500, b"," * 500),
]
DELIMITERS = (b"::", b"\t", b",", b"\x02", b"\x03", b"\x01", b" ", b":")


def whole_line(draw, lines):
    lines[draw.randrange(len(lines))] = draw.choice(PIECES)


def inserted(draw, lines):
    at = draw.randrange(len(lines))
    cut = draw.randint(0, len(lines[at]))
    lines[at] = lines[at][:cut] + draw.choice(PIECES) + lines[at][cut:]


def field(draw, lines):
    at = draw.randrange(len(lines))
    delimiter = draw.choice([d for d in DELIMITERS if d in lines[at]] or [b","])
    fields = lines[at].split(delimiter)
    fields[draw.randrange(len(fields))] = draw.choice(PIECES)
    lines[at] = delimiter.join(fields)


def doubled(draw, lines):
    lines.insert(draw.randint(0, len(lines)), draw.choice(lines))


def lost(draw, lines):
    del lines[draw.randrange(len(lines))]


def swapped(draw, lines):
    draw.shuffle(lines)


def nested(draw, lines):
    at = draw.randrange(len(lines))
    lines[at] = draw.choice([b'{"a":%s}', b"[%s]", b'{"_id":"x","text":%s}']) % lines[at]


BY_LINES = (whole_line, inserted, field, field, doubled, lost, swapped, nested)


def flipped(draw, data):
    data = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        if data:
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def cut(draw, data):
    return data[: draw.randint(0, len(data))]


def cut_out(draw, data):
    start = draw.randint(0, len(data))
    return data[:start] + data[start + draw.randint(0, 50) :]


def other_encoding(draw, data):
    text = data.decode(errors="replace")
    return text.encode(draw.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "gb18030"]))


def other_line_ends(draw, data):
    return data.replace(b"\n", draw.choice([b"\r\n", b"\r", b"\n\n", b"\n \n", b"\x0b"]))


BY_BYTES = (flipped, flipped, cut, cut_out, other_encoding, other_line_ends)


def damaged(draw: random.Random, data: bytes) -> bytes:
    """The bytes with one to four of the damages above."""
    for _ in range(draw.randint(1, 4)):
        if draw.random() < 0.3:
            data = draw.choice(BY_BYTES)(draw, data)
            continue
        lines = data.split(b"\n")
        draw.choice(BY_LINES)(draw, lines)
        data = b"\n".join(lines)
    return data


class Anything:
    """A task that takes every row."""

    columns = ("text",)

    def from_row(self, row, seed):
        return row


class Reader(NamedTuple):
    make: Callable[[], dict[str, Lines]]
    """Lines of good files, by name."""
    read: Callable[[Path], tuple]
    """Reads the files in a folder and returns rejected lines, kept rows and dropped rows."""
    of_rows: tuple[str, ...] = ()
    """Files of which every good line is a row, kept or dropped."""
    headers: tuple[str, ...] = ()
    """Files whose first line names the columns."""


def of_log(name: str, **more) -> Reader:
    make, read = FOLDERS[name]

    def read_log(root):
        kept, rejected, dropped, *_ = read_all(read, root)
        return rejected, kept, sum(n for why, n in dropped.items() if "later line" not in why)

    return Reader(make, read_log, **more)


def search_set() -> dict[str, Lines]:
    return {
        "corpus.jsonl": [json.dumps({"_id": f"d{n}", "text": f"text {n}"}) for n in range(GOOD)],
        "queries.jsonl": [json.dumps({"_id": f"q{n}", "text": f"query {n}"}) for n in range(GOOD)],
        "qrels/test.tsv": ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in range(GOOD))],
    }


def read_search_set(root):
    found, skipped = read_beir(root)
    unanswered = "the query has no relevant document in this split"
    skipped.lines = [line for line in skipped.lines if line.reason != unanswered]
    return skipped, found.qrels.num_rows, 0


READERS = {
    "movielens": of_log("movielens", of_rows=("ratings.dat",), headers=("movies_plots.csv",)),
    "amazon": of_log("amazon", of_rows=AMAZON),
    "douban": of_log("douban", headers=tuple(FOLDERS["douban"][0]())),
    "kuairand": of_log("kuairand", of_rows=KUAIRAND, headers=tuple(FOLDERS["kuairand"][0]())),
    "mind": of_log("mind"),
    "aliccp": of_log("aliccp", of_rows=ALICCP[::2]),
    "beir": Reader(search_set, read_search_set, ("qrels/test.tsv",), ("qrels/test.tsv",)),
}


@pytest.fixture(scope="session")
def seed(pytestconfig):
    return int(pytestconfig.getoption("--hypothesis-seed") or 0)


def name_of(path: str, reader: str) -> str:
    """The name of a file in rejected lines."""
    return path if reader in ("mind", "beir") else Path(path).name


def check(root: Path, counted, name: str, path: str, data: bytes) -> None:
    """With `data` in a file, the folder is refused in a sentence, or no line is lost."""
    reader = READERS[name]
    (root / path).write_bytes(data)
    counted.clear()
    found = unless_refused(lambda: reader.read(root))
    if not found:
        return
    rejected, kept, dropped = found
    short = name_of(path, name)
    bad = [line.line for line in rejected.lines if line.file == short]
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    assert len(set(bad)) == len(bad)
    assert counted[short] + len(bad) + (path in reader.headers) == lines
    if reader.of_rows:
        assert kept + dropped == sum(counted[name_of(file, name)] for file in reader.of_rows)


def check_files(root: Path, counted, name: str, seed: int, files: int) -> None:
    good = READERS[name].make()
    write(root, good)
    for number in range(files):
        draw = random.Random(f"{seed} {name} {number}")
        path = draw.choice(sorted(good))
        whole = (root / path).read_bytes()
        check(root, counted, name, path, damaged(draw, whole))
        (root / path).write_bytes(whole)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_accounted_for(tmp_path, counted, seed, name):
    check_files(tmp_path, counted, name, seed, FEW)


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_so_are_ten_thousand(tmp_path, counted, seed, name):
    check_files(tmp_path, counted, name, seed, FILES // len(READERS) + 1)


def calls(read) -> int:
    """Function calls of Python and of its libraries that `read` makes, refused or not."""
    count = 0

    def counting(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        unless_refused(read)
    finally:
        sys.setprofile(None)
    return count


def check_work(root: Path, name: str, draw: random.Random) -> None:
    """Ten times the lines of a damaged file take at most twice the calls of five times as many."""
    reader = READERS[name]
    good = reader.make()
    path = draw.choice(sorted(good))
    write(root, good)
    first, _, lines = damaged(draw, (root / path).read_bytes()).partition(b"\n")
    work = []
    for times in (5, 10):
        (root / path).write_bytes(first + b"\n" + (lines.rstrip(b"\n") + b"\n") * times)
        work.append(calls(lambda: reader.read(root)))
    assert work[1] <= 2.1 * work[0], (path, work)


@pytest.mark.parametrize("name", READERS)
def test_work_grows_as_the_file_does(tmp_path, seed, name):
    for number in range(FEW // 4):
        check_work(tmp_path, name, random.Random(f"{seed} {name} {number}"))


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_so_it_does_for_a_thousand_files(tmp_path, seed, name):
    for number in range(1000 // len(READERS)):
        check_work(tmp_path, name, random.Random(f"{seed} {name} {number}"))


@pytest.mark.parametrize("files", [FEW, pytest.param(1000, marks=pytest.mark.long)])
def test_a_damaged_archive_is_refused_or_read_whole(tmp_path, counted, seed, files):
    write(tmp_path, FOLDERS["amazon"][0]())
    path = tmp_path / AMAZON[0]
    whole, read = path.read_bytes(), 0
    path.unlink()
    for number in range(files):
        draw = random.Random(f"{seed} archive {number}")
        packed = gzip.compress(damaged(draw, whole))
        damage = draw.choice([flipped, cut, cut_out, lambda _, data: data])
        archive = Path(f"{path}.gz")
        archive.write_bytes(damage(draw, packed))
        if found := unless_refused(lambda: READERS["amazon"].read(tmp_path)):
            data = gzip.decompress(archive.read_bytes())
            bad = [line for line in found[0].lines if line.file == archive.name]
            lines = data.count(b"\n") + (not data.endswith(b"\n"))
            assert counted[archive.name] + len(bad) == lines
            read += 1
    assert 0 < read < files  # both ways were taken


@pytest.mark.parametrize("files", [FEW, pytest.param(1000, marks=pytest.mark.long)])
def test_every_line_of_a_damaged_table_is_a_row(tmp_path, seed, files):
    path = tmp_path / "in.jsonl"
    rows = [json.dumps({"id": n, "text": f"{n}", "x": [n / 7]}) for n in range(GOOD)]
    whole = "\n".join(rows).encode() + b"\n"
    for number in range(files):
        path.write_bytes(data := damaged(random.Random(f"{seed} table {number}"), whole))
        found = unless_refused(lambda: rows_of(path))
        assert len(found) == sum(bool(line.strip()) for line in data.splitlines())


@pytest.mark.parametrize("files", [FEW, pytest.param(1000, marks=pytest.mark.long)])
def test_a_damaged_parquet_file_is_refused_or_read(tmp_path, seed, files):
    table = pa.table({"id": range(GOOD), "text": [f"text {n}" for n in range(GOOD)]})
    pq.write_table(table, file := io.BytesIO())
    path = tmp_path / "in.parquet"
    for number in range(files):
        path.write_bytes(flipped(random.Random(f"{seed} parquet {number}"), file.getvalue()))
        unless_refused(lambda: rows_of(path))


def rows_of(path: Path) -> list:
    """The rows of a table, each of which JSON and UTF-8 can hold."""
    rows = list(TableSource(str(path)).inputs(Anything(), 10**9, 0))
    for row in rows:
        plain = row.row if isinstance(row, Misfit) else row
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    return rows
