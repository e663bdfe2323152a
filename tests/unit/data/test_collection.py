"""The collection artifact: what it holds comes back, and judgements are rows of its tables."""

import json

import pytest

from winnow.artifact import create_artifact
from winnow.data.collection import Collection, text_digest
from winnow.data.raw import Rejected
from winnow.errors import ArtifactError, DataError

DOCUMENTS = {
    "id": ["d0", "d1", "d2", "d3"],
    "title": ["Tides", "", "Rain", "Hail"],
    "text": ["The moon pulls.", "No title here.", "", " Ice falls. "],
}
QUERIES = {"id": ["q0", "q1", "q2"], "text": ["why tides", "what falls", "nothing"]}
QRELS = {
    "split": ["test", "test", "test", "test", "train"],
    "query": ["q1", "q1", "q0", "q2", "q0"],
    "document": ["d3", "d2", "d0", "d1", "d1"],
    "relevance": [1, 2, 1, 0, 1],
}


def collection(**changes):
    return Collection.of(DOCUMENTS, QUERIES, QRELS | changes)


def test_a_document_is_its_title_a_space_and_its_text():
    assert collection().document_texts() == [
        "Tides The moon pulls.",
        "No title here.",
        "Rain",
        "Hail  Ice falls.",
    ]
    assert collection().document_texts([2, 0]) == ["Rain", "Tides The moon pulls."]


def test_query_texts_of_rows_and_of_all():
    assert collection().query_texts([2, 0]) == ["nothing", "why tides"]
    assert collection().query_texts() == QUERIES["text"]


def test_judgements_are_sorted_rows_and_leave_out_relevance_0():
    judged = collection().judged("test")
    assert len(judged) == 2
    assert judged.query_Q.tolist() == [0, 1]
    assert judged.start_Q.tolist() == [0, 1, 3]
    assert judged.document_N.tolist() == [0, 2, 3]
    assert judged.relevance_N.tolist() == [1, 2, 1]
    assert judged.positives(1).tolist() == [2, 3]
    assert judged.relevances(1).tolist() == [2, 1]


def test_a_split_in_which_nothing_is_relevant_has_no_queries():
    judged = collection(relevance=[0, 0, 0, 0, 1]).judged("test")
    assert len(judged) == 0
    assert judged.start_Q.tolist() == [0]


def test_the_splits_are_named():
    assert collection().splits() == ["test", "train"]
    with pytest.raises(DataError, match="no split 'dev'; there are test, train"):
        collection().judged("dev")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("query", ["q1", "q9", "q0", "q2", "q0"], "the judged query of split test 'q9' is in no"),
        ("document", ["d3", "d2", "x", "d1", "d1"], "the judged document of split test 'x' is in"),
    ],
)
def test_a_judged_id_that_is_nowhere_is_named(column, values, message):
    with pytest.raises(ValueError, match=message):
        collection(**{column: values}).judged("test")


def test_saved_and_opened(tmp_path):
    with create_artifact(tmp_path / "made", "collection", config={}) as draft:
        collection().save(draft.path, [Rejected("corpus.jsonl", 7, "not UTF-8", "\ufffd")])
    opened = Collection.open(tmp_path / "made")
    assert opened.documents.to_pydict() == DOCUMENTS
    assert opened.queries.to_pydict() == QUERIES
    assert opened.qrels.to_pydict() == QRELS
    assert opened.artifact.kind == "collection"
    (line,) = (tmp_path / "made" / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "file": "corpus.jsonl",
        "line": 7,
        "reason": "not UTF-8",
        "text": "\ufffd",
    }


def test_another_artifact_is_no_collection(tmp_path):
    with create_artifact(tmp_path / "made", "dataset", config={}):
        pass
    with pytest.raises(ArtifactError, match="is a 'dataset' artifact, a 'collection' is needed"):
        Collection.open(tmp_path / "made")


def test_digests_fold_case_and_white_space_only():
    assert text_digest("Straße  am\tMeer ") == text_digest("strasse am meer")
    assert text_digest("a b") != text_digest("ab")
    assert len(text_digest("")) == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ["a", None, "", "b"]}, r"documents: text of row 1 is null"),
        ({"title": [None, "", "x", "y"]}, r"documents: title of row 0 is null"),
        ({"id": ["d0", "d1", "d0", "d3"]}, r"documents: id 'd0' is there twice"),
        ({"id": ["d0"]}, r"documents must have the columns \['id', 'title', 'text'\]"),
        ({"text": ["a", 7, "", "b"]}, r"documents must have the columns"),
        ({"text": ["a", "\ud800", "", "b"]}, r"documents must have the columns"),
    ],
)
def test_columns_that_are_no_collection_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        Collection.of(DOCUMENTS | changes, QUERIES, QRELS)
