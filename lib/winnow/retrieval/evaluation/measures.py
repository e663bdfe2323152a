"""Measures of a ranking, as the literature computes them.

nDCG, recall and MAP are trec_eval's, computed by ir-measures. trec_eval sorts by score, and equal
scores by descending document id. Here it gets scores that fall with the rank, so the order of
`winnow.retrieval.evaluation.order` decides: smaller row first.

As with BEIR, the document with the query's own id is not a candidate (`own_documents`). Otherwise
queries that are documents themselves would find themselves.

Suffixes: Q queries, I documents, D vector width, K results.
"""

from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ir_measures import AP, RR, R, nDCG

from winnow.data.collection import Collection, Judgements
from winnow.retrieval.evaluation.exact_search import Vectors, exact_search
from winnow.retrieval.evaluation.order import Rows

MEASURES = {"ndcg@10": nDCG @ 10, "recall@100": R @ 100, "mrr@10": RR @ 10, "map": AP}
DEPTH = 100
"""Results that a ranking needs for recall@100. MAP uses all it is given, so its figures compare
only between rankings of one depth."""


def own_documents(judged: Judgements, collection: Collection) -> Rows:
    """Row of the document with each judged query's id, [Q, 1]; -1 if no document has it.

    A measured ranking must not hold it.
    """
    ids = collection.queries["id"].take(pa.array(judged.query_Q))
    own_Q = pc.index_in(ids, value_set=collection.documents["id"]).fill_null(-1).to_numpy()
    return own_Q.astype(np.int64)[:, None]  # type: ignore[no-any-return]


def exact_ranking(
    query_QD: Vectors,
    document_ID: Vectors,
    judged: Judgements,
    collection: Collection,
    row_I: Rows | None = None,
) -> Rows:
    """Exact search for the judged queries, as `measure` takes it: document rows [Q, DEPTH].

    Args:
        row_I: rows of the documents that have a vector, ascending; None: all.
    """
    row_I = np.arange(collection.documents.num_rows) if row_I is None else row_I
    own_Q1 = own_documents(judged, collection)
    at_Q1 = np.searchsorted(row_I, own_Q1).clip(max=len(row_I) - 1)
    exclude = np.where(row_I[at_Q1] == own_Q1, at_Q1, -1)
    _, at_QK = exact_search(query_QD, document_ID, DEPTH, list(exclude))
    row_QK = np.full((len(at_QK), DEPTH), -1)
    row_QK[:, : at_QK.shape[1]] = row_I[at_QK]
    return row_QK


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of one ranking of one split."""

    per_query: pa.Table
    """A row for each judged query: its id as `query`, and a column for each of MEASURES."""
    documents: int
    """Number of documents in the collection."""

    def means(self) -> dict[str, float | int]:
        """The mean of each measure over queries, and the counts `queries` and `documents`."""
        return {
            **{name: float(self.per_query[name].to_numpy().mean()) for name in MEASURES},
            "queries": self.per_query.num_rows,
            "documents": self.documents,
        }

    def save(self, folder: Path) -> None:
        """Write `per_query.parquet` into an existing folder."""
        pq.write_table(self.per_query, folder / "per_query.parquet")


def measure(row_QK: Rows, judged: Judgements, collection: Collection) -> Measured:
    """Measure the rankings of the judged queries.

    A query without any result has 0 in every measure. Unjudged documents count as irrelevant.

    Args:
        row_QK: document rows, best first, in the order of `judged`; -1 is padding and is ignored.
            K must be at least DEPTH, or the number of documents. `own_documents` must be left out.
    """
    documents = collection.documents.num_rows
    ids = collection.queries["id"].take(pa.array(judged.query_Q)).to_pylist()
    _check_rankings(row_QK, ids, documents, own_documents(judged, collection))
    qrels, run = {}, {}
    for q, (query, row_K) in enumerate(zip(ids, row_QK, strict=True)):
        pairs = zip(judged.positives(q).tolist(), judged.relevances(q).tolist(), strict=True)
        qrels[query] = {str(row): relevance for row, relevance in pairs}
        found = row_K[row_K >= 0].tolist()
        if found:  # pytrec_eval takes no query without results; it is 0 below
            run[query] = {str(row): float(len(found) - at) for at, row in enumerate(found)}
    name_of = {measure: name for name, measure in MEASURES.items()}
    values = {name: dict.fromkeys(ids, 0.0) for name in MEASURES}
    for metric in ir_measures.iter_calc(MEASURES.values(), qrels, run):
        values[name_of[metric.measure]][metric.query_id] = metric.value
    columns = {name: list(by_query.values()) for name, by_query in values.items()}
    return Measured(pa.table({"query": ids, **columns}), documents)


def _check_rankings(row_QK: Rows, ids: list[str], documents: int, own_Q1: Rows) -> None:
    if not ids:
        raise ValueError("there must be a judged query to measure, got none")
    if len(row_QK) != len(ids):
        raise ValueError(f"{len(row_QK)} rankings for {len(ids)} judged queries")
    wanted = min(DEPTH, documents)
    if row_QK.shape[1] < wanted:
        raise ValueError(f"recall@100 needs {wanted} results a query, got {row_QK.shape[1]}")
    if row_QK.max() >= documents:
        raise ValueError(f"document row {row_QK.max()} is not one of {documents} documents")
    has_own_Q = ((row_QK == own_Q1) & (own_Q1 >= 0)).any(axis=1)
    if has_own_Q.any():
        query = ids[int(has_own_Q.argmax())]
        raise ValueError(
            f"the ranking of query {query!r} has the document of that id; leave own_documents out"
        )
    sorted_QK = np.sort(row_QK, axis=1)
    repeated_QK = (sorted_QK[:, 1:] == sorted_QK[:, :-1]) & (sorted_QK[:, 1:] >= 0)
    if repeated_QK.any():
        q, at = np.argwhere(repeated_QK)[0]
        raise ValueError(f"the ranking of query {ids[q]!r} has row {sorted_QK[q, at]} twice")
