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

from tests.unit.data.readers.good_folders import (
    FOLDERS,
    GOOD,
    Lines,
    amazon,
    movielens,
    read_all,
    unless_refused,
    write,
)
from winnow.data.raw import RejectedLines
from winnow.data.readers import records
from winnow.data.readers.amazon import FILES as AMAZON, read_amazon
from winnow.data.readers.beir import read_beir
from winnow.data.readers.movielens import read_movielens
from winnow.data.readers.records import read_records
from winnow.errors import DataError

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


SLOW = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


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


@pytest.mark.parametrize(
    "line", ['x","', 'x",y,"', 'x,"', 'x,"y', '"', '""",', 'x,"""', '"\t",', 'x"']
)
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
