"""Blocks of a delimited file: line numbers hold whatever is wrong with other lines."""

import numpy as np
import pytest

from winnow.data.raw import RejectedLines
from winnow.data.readers import lines
from winnow.data.readers.lines import DelimitedFile
from winnow.data.readers.row_numbers import FirstSeen, RowNumbers
from winnow.errors import DataError

GOOD = ["1,2,3"] * 300


def read(tmp_path, text, columns=("a", "c"), **options):
    """Columns and line numbers of all lines with a whole number in `a`, and what was rejected."""
    path = tmp_path / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    rejected = RejectedLines()
    blocks = DelimitedFile(path, columns, rejected, **options).blocks()
    checked = [block.whole_numbers("a") for block in blocks]
    numbers = np.concatenate([block.line_N for block in checked]).tolist()
    columns = {name: [v for block in checked for v in block[name].to_pylist()] for name in columns}
    return numbers, columns, rejected


@pytest.mark.parametrize("block_bytes", [7, 64, 1 << 20])
def test_every_line_keeps_its_number(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
    text = "\n".join(["a,b,c", "4,5,x", "", "1,2", "7,8,y", *GOOD])
    numbers, columns, rejected = read(tmp_path, text)
    assert numbers == [2, *range(5, 306)]
    assert columns["a"][:3] == ["4", "7", "1"]
    assert columns["c"][:3] == ["x", "y", "3"]
    assert {(bad.line, bad.reason, bad.text) for bad in rejected.lines} == {
        (3, "a must be a whole number, got ''", ""),
        (4, "3 fields expected, 2 found", "1,2"),
    }


def test_a_file_may_have_no_header(tmp_path):
    options = {"header": ("a", "b"), "delimiter": "\t"}
    numbers, columns, _ = read(tmp_path, "4\t5\n6\t7\n", ("b", "a"), **options)
    assert numbers == [1, 2]
    assert columns == {"b": ["5", "7"], "a": ["4", "6"]}


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
    numbers, columns, _ = read(tmp_path, b"\xef\xbb\xbfa,b,c\r\n4,5,x\ry\r\n")
    assert (numbers, columns) == ([2], {"a": ["4"], "c": ["x y"]})


@pytest.mark.parametrize(("byte", "reason"), [(b"\xff", "not UTF-8"), (b"\0", "a NUL character")])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_line_that_is_no_text_is_rejected(tmp_path, byte, reason, quoted):
    text = b"a,b,c\n1,2," + byte + b'\n3,4,"5"\n'
    numbers, _, rejected = read(tmp_path, text, quoted=quoted)
    assert numbers == [3]
    assert [(bad.line, bad.reason) for bad in rejected.lines] == [(2, reason)]


def test_quotes_hold_a_field_together(tmp_path):
    _, columns, _ = read(tmp_path, 'a,b,c\n1,2,"x,y"\n', quoted=True)
    assert columns["c"] == ["x,y"]


def test_an_open_quote_spoils_its_own_line_only(tmp_path):
    text = "\n".join(["a,b,c", '1,"2', *GOOD])
    numbers, _, rejected = read(tmp_path, text, quoted=True)
    assert numbers == list(range(3, 303))
    assert [(bad.line, bad.reason) for bad in rejected.lines] == [(2, "a quote is never closed")]


def test_a_quote_within_a_field_merges_no_lines(tmp_path):
    numbers, columns, rejected = read(tmp_path, 'a,b,c\n1"y,"z,1\n1,2,3\n2,x"y",3\n', quoted=True)
    assert (numbers, columns["c"]) == ([3, 4], ["3", "3"])
    assert [(bad.line, bad.reason) for bad in rejected.lines] == [(2, "a quote is never closed")]


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.csv: columns c are needed, got \['a', 'b'\]"):
        read(tmp_path, "a,b\n1,2\n")


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"x\.csv is empty"):
        read(tmp_path, "a,b,c\n")


def test_too_many_bad_lines_stop_the_reading(tmp_path):
    with pytest.raises(DataError, match=r"11 of 13 lines cannot be.*line 3: a must be a whole"):
        read(tmp_path, f"a,b,c\n1,2,3\nx,2,3\n-1,2,3\n{'1e3,2,3' * 1}\n" + "y,2,3\n" * 9)


def test_only_so_many_bad_lines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("winnow.data.raw.MAX_KEPT_LINES", 2)
    _, _, rejected = read(tmp_path, "\n".join(["a,b,c", "x", "y", "z", *GOOD]))
    assert (rejected.total, len(rejected.lines)) == (3, 2)


def test_ids_are_numbered_as_they_appear():
    rows = RowNumbers()
    assert rows.add(np.array([9, 5, 9, 7])).tolist() == [0, 1, 3]
    assert rows.add(np.array([5, 1, 9, 1, 8])).tolist() == [1, 4]
    assert rows.ids().tolist() == [9, 5, 7, 1, 8]
    assert rows.find(np.array([8, 9, 2])).tolist() == [4, 0, -1]
    assert RowNumbers().find(np.array([3])).tolist() == [-1]


def test_properties_stay_as_first_seen():
    seen = FirstSeen(["size"])
    assert seen.add(np.array([9, 5, 9]), {"size": np.array([1, 2, 1])}).tolist() == [0, 1, 0]
    assert seen.add(np.array([7, 5, 9]), {"size": np.array([3, 4, 1])}).tolist() == [2, 1, 0]
    assert seen.column("size").tolist() == [1, 2, 3]
    assert seen.changed == 1
