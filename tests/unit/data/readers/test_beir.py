"""The reader on small folders in the layout of BEIR."""

import json
from pathlib import Path

import pytest

from winnow.data.readers import beir
from winnow.data.readers.beir import read_beir
from winnow.errors import DataError

CORPUS = [
    {"_id": "d0", "title": "Tides", "text": "The moon pulls."},
    {"_id": "d1", "title": "", "text": "No title."},
    {"_id": "d2", "text": "Title left out."},
]
QUERIES = [{"_id": "q0", "text": "why tides"}, {"_id": "q1", "text": "what else"}]
HEADER = "query-id\tcorpus-id\tscore"
TEST = ["q0\td0\t1", "q1\td1\t2", "q1\td2\t0"]


def as_bytes(lines) -> bytes:
    texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    return b"".join((t if isinstance(t, bytes) else t.encode()) + b"\n" for t in texts)


def write(folder: Path, corpus=CORPUS, queries=QUERIES, header=HEADER, **splits) -> Path:
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_bytes(as_bytes(corpus))
    (folder / "queries.jsonl").write_bytes(as_bytes(queries))
    for name, lines in (splits or {"test": TEST}).items():
        (folder / "qrels" / f"{name}.tsv").write_bytes(as_bytes([header, *lines]))
    return folder


def skipped_lines(folder: Path) -> list[tuple[str, int, str]]:
    _, skipped = read_beir(folder)
    return [(line.file, line.line, line.reason) for line in skipped.lines]


def test_a_folder_becomes_three_tables(tmp_path):
    read, skipped = read_beir(write(tmp_path, test=TEST, train=["q1\td0\t1"]))
    assert skipped.total == 0
    assert read.documents.to_pydict() == {
        "id": ["d0", "d1", "d2"],
        "title": ["Tides", "", ""],
        "text": ["The moon pulls.", "No title.", "Title left out."],
    }
    assert read.queries.to_pydict() == {"id": ["q0", "q1"], "text": ["why tides", "what else"]}
    assert read.splits() == ["test", "train"]
    assert read.qrels.to_pylist()[1] == {
        "split": "test",
        "query": "q1",
        "document": "d1",
        "relevance": 2,
    }
    assert read.judged("test").document_N.tolist() == [0, 1]
    assert read.artifact is None


def test_blocks_join_to_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(beir, "BLOCK_ROWS", 2)
    read, _ = read_beir(write(tmp_path))
    assert read.documents["id"].to_pylist() == ["d0", "d1", "d2"]
    assert read.documents["id"].num_chunks == 2


def test_line_ends_marks_and_empty_lines_do_no_harm(tmp_path):
    corpus = b"\xef\xbb\xbf" + as_bytes(CORPUS).replace(b"\n", b"\r\n") + b"\n  \n"
    write(tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(corpus)
    (tmp_path / "qrels" / "test.tsv").write_bytes(as_bytes([HEADER, *TEST]).replace(b"\n", b"\r\n"))
    read, skipped = read_beir(tmp_path)
    assert {line.reason for line in skipped.lines} == {"blank line"}
    assert read.documents.num_rows == 3
    assert read.qrels["relevance"].to_pylist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"_id": "d3", "title": "", "text": "\xe9"}', "not UTF-8"),
        ("{broken", "not a JSON object"),
        ('["d3", "title", "text"]', "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ({"title": "t", "text": "x"}, "_id must be there and be text"),
        ({"_id": 3.5, "text": "x"}, "_id must be there and be text"),
        ({"_id": "", "text": "x"}, "_id must not be empty"),
        ({"_id": "d3", "title": "t"}, "text must be there and be text"),
        ({"_id": "d3", "title": 5, "text": "x"}, "title must be there and be text"),
        ('{"_id": "d3", "text": "\\ud800"}', "text has a character that UTF-8 cannot write"),
        ({"_id": "d0", "title": "again", "text": "x"}, "_id was there before; its first"),
        ({"_id": "d3", "title": " ", "text": "\n"}, "the document is empty: title and text"),
    ],
)
def test_a_bad_document_is_listed_with_its_line(tmp_path, line, reason):
    ((file, number, found),) = skipped_lines(write(tmp_path, corpus=[*CORPUS, line]))
    assert (file, number) == ("corpus.jsonl", 4)
    assert found.startswith(reason)


def test_the_first_of_equal_ids_is_kept(tmp_path):
    read, _ = read_beir(write(tmp_path, corpus=[*CORPUS, {"_id": "d0", "text": "second"}]))
    assert read.documents["text"].to_pylist()[0] == "The moon pulls."


def test_an_empty_query_is_listed(tmp_path):
    queries = [*QUERIES, {"_id": "q2", "text": "  "}]
    assert skipped_lines(write(tmp_path, queries=queries)) == [
        ("queries.jsonl", 3, "the query is empty")
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q9\td0\t1", "query-id is not in queries.jsonl"),
        ("q0\td9\t1", "corpus-id is not in corpus.jsonl"),
        ("q0\td1\t0.5", "score must be a whole number"),
        ("q0\td1\t99999999999", "score must be a whole number"),
        ("q0 0 d1 1", "a judgement has three fields, parted by tabs"),
        ("q0\td0\t0", "the pair was judged before; its first line is kept"),
    ],
)
def test_a_bad_judgement_is_listed_with_its_line(tmp_path, line, reason):
    folder = write(tmp_path, test=[*TEST, line])
    assert skipped_lines(folder) == [("qrels/test.tsv", 5, reason)]
    assert read_beir(folder)[0].qrels.num_rows == 3


def test_a_query_without_anything_relevant_is_listed(tmp_path):
    folder = write(tmp_path, test=["q0\td0\t1", "q1\td1\t0", "q1\td9\t1"])
    assert skipped_lines(folder) == [
        ("qrels/test.tsv", 4, "corpus-id is not in corpus.jsonl"),
        ("qrels/test.tsv", 3, "the query has no relevant document in this split"),
    ]


def many(bad: int, good: int) -> list:
    return [{"_id": str(row), "text": "x"} for row in range(good)] + ["{"] * bad


def test_ten_bad_lines_are_not_too_many(tmp_path):
    assert len(skipped_lines(write(tmp_path, corpus=[*CORPUS, *many(10, 5)]))) == 10


def test_eleven_bad_lines_of_a_short_file_are(tmp_path):
    with pytest.raises(
        DataError, match=r"corpus\.jsonl: 11 of 19 lines .* line 9: not a JSON object"
    ):
        read_beir(write(tmp_path, corpus=[*CORPUS, *many(11, 5)]))


def test_eleven_bad_lines_of_a_long_file_are_not(tmp_path):
    assert len(skipped_lines(write(tmp_path, corpus=[*CORPUS, *many(11, 1100)]))) == 11


def test_a_file_of_nothing_but_bad_lines_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"queries\.jsonl: 2 of 2 lines cannot be used"):
        read_beir(write(tmp_path, queries=["x", "y"]))


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"corpus\.jsonl is empty"):
        read_beir(write(tmp_path, corpus=[]))


def test_a_wrong_header_is_quoted(tmp_path):
    with pytest.raises(DataError, match=r"test\.tsv: line 1 must be query-id<tab>corpus-id<tab>sc"):
        read_beir(write(tmp_path, header="q0 0 d0 1"))


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_named_with_the_layout(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing; a BEIR folder holds corpus\.jsonl, "):
        read_beir(tmp_path)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_packed_file_is_not_called_missing(tmp_path, name):
    file = write(tmp_path) / name
    file.rename(file.with_name(f"{name}.gz"))
    with pytest.raises(DataError, match=rf"{name}\.gz is packed; unpack it: gunzip {name}\.gz"):
        read_beir(tmp_path)


def test_missing_judgements_are_named_with_the_layout(tmp_path):
    (write(tmp_path) / "qrels" / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"qrels has no \.tsv file; a BEIR folder holds"):
        read_beir(tmp_path)


def test_ids_may_be_numbers(tmp_path):
    corpus = [{"_id": 10 * row, "text": "x"} for row in range(3)]
    folder = write(tmp_path, corpus=corpus, test=["q0\t20\t1"])
    assert read_beir(folder)[0].documents["id"].to_pylist() == ["0", "10", "20"]
