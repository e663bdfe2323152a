"""The table of negatives: what is written, counted and read back as row numbers."""

import json

import numpy as np
import pyarrow as pa
import pytest

from winnow.artifact import create_artifact
from winnow.data.collection import text_digest
from winnow.errors import ArtifactError
from winnow.retrieval.negatives.pools import SOURCES, NegativePool
from winnow.retrieval.negatives.table import NEGATIVES_SCHEMA, NegativesTable, Skip, digest_numbers

QUERIES = pa.chunked_array([["q0", "q1", "q2"]])
DOCUMENTS = pa.chunked_array([["d0", "d1"], ["d2"]])


def row(query, document=None, *, source="bm25", verdict="kept", text=None, words=None):
    return {
        "query": query,
        "document": document,
        "text": text,
        "source": source,
        "rank": 0,
        "score": 0.5,
        "positive_score": 0.9,
        "verdict": verdict,
        "digest": text_digest(words or text or document or ""),
        "provenance": "{}",
    }


def table(*rows):
    return pa.Table.from_pylist(list(rows), NEGATIVES_SCHEMA)


def saved(folder, *tables, skips=(), wanted=2, queries=3):
    with create_artifact(folder, "negatives", config={}) as draft:
        draft.metrics |= NegativesTable.save(
            draft.path, iter(tables), skips, wanted=wanted, queries=queries
        )
    return NegativesTable.open(folder)


def test_dropped_rows_stay_and_are_counted(tmp_path):
    found = saved(
        tmp_path / "negatives",
        table(row("q0", "d0"), row("q0", "d1"), row("q0", "d2", verdict="positive")),
        table(row("q1", "d1"), row("q1", "d1", source="dense", verdict="duplicate")),
        skips=[Skip("q9", "d9", "gone"), Skip("q8", None, "gone")],
    )
    assert found.rows().num_rows == 5
    assert found.rows(["verdict"]).column_names == ["verdict"]
    assert found.artifact.metrics == {
        "queries": 3,
        "rows": 5,
        "verdicts": {"bm25": {"kept": 3, "positive": 1}, "dense": {"duplicate": 1}},
        # q0 has two of bm25; q1 has one, q2 none, and dense none of any
        "short_queries": {"bm25": 2, "dense": 3},
        "queries_without": {"bm25": 1, "dense": 3},
        "skipped": {"gone": 2},
    }
    lines = (found.artifact.path / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["q9", "q8"]


def test_pools_hold_row_numbers_of_what_was_kept(tmp_path):
    found = saved(
        tmp_path / "negatives",
        table(
            row("q2", "d2"),
            row("q0", "d1"),
            row("q0", "d0", verdict="positive"),
            row("q0", "d0", source="dense"),
            row("q0", source="llm", text="one"),
        ),
        table(row("q2", source="llm", text="two"), row("q0", source="llm", text="three")),
    ).pools(QUERIES, DOCUMENTS)
    assert (found.num_queries, found.num_documents) == (3, 3)
    assert set(found.by_source) == set(SOURCES)
    assert found.by_source["bm25"].start_Q.tolist() == [0, 1, 1, 2]
    assert found.by_source["bm25"].candidate_N.tolist() == [1, 2]
    assert found.by_source["dense"].candidate_N.tolist() == [0]
    assert not len(found.by_source["random"].candidate_N)
    llm = found.by_source["llm"]
    texts = [found.texts_M[number - 3] for number in llm.candidate_N]
    assert texts == ["one", "three", "two"]
    assert llm.size_Q.tolist() == [2, 0, 1]


def test_what_several_sources_found_is_in_their_union_once(tmp_path):
    found = saved(
        tmp_path / "negatives",
        table(
            row("q0", "d0", source="bm25"),
            row("q0", "d1", source="bm25", words="same"),
            row("q0", "d0", source="dense"),
            row("q0", "d2", source="dense", words="SAME "),
            row("q1", "d2", source="dense", words="same"),
        ),
    ).pools(QUERIES, DOCUMENTS)
    union = found.union(("bm25", "dense"))
    assert union.start_Q.tolist() == [0, 2, 3, 3]
    assert union.candidate_N.tolist() == [0, 1, 2]
    assert found.union(()).size_Q.tolist() == [0, 0, 0]


def test_an_empty_table_has_empty_pools(tmp_path):
    found = saved(tmp_path / "negatives").pools(QUERIES, DOCUMENTS)
    assert found.union(SOURCES).size_Q.tolist() == [0, 0, 0]
    assert found.texts_M == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("q7", "d0"), "names the query 'q7', which the collection lacks"),
        (("q0", "d7"), "names the document 'd7', which the collection lacks"),
    ],
)
def test_another_collection_is_refused(tmp_path, wrong, message):
    found = saved(tmp_path / "negatives", table(row(*wrong)))
    with pytest.raises(ArtifactError, match=message):
        found.pools(QUERIES, DOCUMENTS)


def test_dropped_rows_may_name_anything(tmp_path):
    found = saved(tmp_path / "negatives", table(row("q7", verdict="unknown_query", source="llm")))
    assert found.pools(QUERIES, DOCUMENTS).texts_M == []


def test_another_kind_of_artifact_is_refused(tmp_path):
    with create_artifact(tmp_path / "other", "index", config={}):
        pass
    with pytest.raises(ArtifactError, match="is a 'index' artifact, a 'negatives' is needed"):
        NegativesTable.open(tmp_path / "other")


def test_digests_as_numbers():
    digests = pa.array([text_digest("a"), text_digest("b"), text_digest(" A ")])
    numbers = digest_numbers(digests)
    assert numbers[0] == numbers[2] != numbers[1]
    assert numbers.dtype == np.uint64
    assert int(numbers[0]) == int(text_digest("a"), 16)


def test_a_pool_keeps_the_first_of_equal_texts_and_the_order():
    query_N = np.array([1, 0, 1, 1, 0])
    pool = NegativePool.build(query_N, np.array([5, 6, 7, 8, 9]), np.array([3, 3, 1, 3, 2]), 3)
    assert pool.start_Q.tolist() == [0, 2, 4, 4]
    assert pool.candidate_N.tolist() == [6, 9, 5, 7]
    assert pool.query_N.tolist() == [0, 0, 1, 1]
