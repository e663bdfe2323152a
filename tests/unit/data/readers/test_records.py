"""Small delimited files, read record by record."""

import pytest

from winnow.data.raw import RejectedLines
from winnow.data.readers.records import read_records, require_files
from winnow.errors import DataError


def test_missing_files_are_named_with_all_that_are_needed(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    require_files(tmp_path, "a shop's folder", ["a.csv"])
    message = r"is not a shop's folder: b\.csv missing \(needed: a\.csv, b\.csv; optional: c\.csv\)"
    with pytest.raises(DataError, match=message):
        require_files(tmp_path, "a shop's folder", ["a.csv", "b.csv"], optional="c.csv")


def test_records_are_named_by_the_header_and_may_span_lines(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes(b'\xef\xbb\xbfid,text\n1,"two\nlines"\n2,\xff\n')
    rejected = RejectedLines()
    rows = list(read_records(path, ["id"], lambda record: record["text"], rejected))
    assert rows == ["two\nlines"]
    assert [(line.line, line.reason) for line in rejected.lines] == [(4, "not UTF-8")]


def test_a_bad_record_is_rejected_with_its_line(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("id\n" + "1\n" * 200 + "x\n1,2\n")
    rejected = RejectedLines()
    assert len(list(read_records(path, ["id"], lambda record: int(record["id"]), rejected))) == 200
    assert [(line.line, line.reason[:8]) for line in rejected.lines] == [
        (202, "invalid "),
        (203, "1 fields"),
    ]


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "items.csv").write_text("id\n1\n")
    with pytest.raises(DataError, match=r"columns title, brand are needed, got \['id'\]"):
        list(read_records(tmp_path / "items.csv", ["title", "id", "brand"], dict, RejectedLines()))
