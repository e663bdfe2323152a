"""Sources of an index: the items of a dataset, or the documents of a collection.

Suffixes: I vectors to index, Q queries, D vector width.
"""

import logging
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.data.collection import Collection
from winnow.data.dataset import Dataset
from winnow.errors import DataError
from winnow.retrieval.two_tower.pairs import held_out, training_pairs
from winnow.retrieval.two_tower.retriever import Retriever
from winnow_ray.indexing.corpus_vectors import (
    EncodeCorpusConfig,
    corpus_vectors,
    read_vectors,
    truncation_of,
)
from winnow_ray.indexing.worker_encoder import encoder_of

QUERIES = 1000
"""Most queries compared with exact search: half choose the effort, half check it."""
FEWEST_QUERIES = 2
"""One query to tune on and one to check."""

TRAINED_ON = "train"
"""Split of the queries that encoders are trained on."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

logger = logging.getLogger("winnow.build_index")


class IndexSource(Protocol):
    """Vectors to index, and queries that search them."""

    parents: dict[str, Artifact]
    """Artifacts that decide the vectors, by role."""
    recorded: dict[str, Any]
    """What else decides the queries."""
    figures: dict[str, Any]
    """Shares of texts cut and tokens lost; empty before `encoded` and without texts."""

    def encoded(self) -> tuple[Floats, Floats]:
        """Vectors to index [I, D], by row, and those of at most `QUERIES` queries [Q, D]."""
        ...


class CatalogueSource:
    """Items encoded by a retriever; held-out users are the queries."""

    def __init__(self, dataset: str, retriever: str) -> None:
        self._dataset = Dataset.open(dataset)
        source = open_artifact(retriever, kind="retriever")
        self.parents = {"dataset": self._dataset.artifact, "retriever": source}
        self.recorded: dict[str, Any] = {}
        self.figures: dict[str, Any] = {}

    def encoded(self) -> tuple[Floats, Floats]:
        dataset = self._dataset
        retriever = Retriever.load(self.parents["retriever"].path)
        vectors_ID = retriever.encode_catalogue(dataset)
        pairs = held_out(dataset)
        asked = pairs.take(drawn(len(pairs)))
        liked = training_pairs(dataset).histories()
        users = dataset.table_features("user", retriever.schema)
        return vectors_ID, retriever.encode_askers(asked, liked, *users)


class DocumentSource:
    """Documents encoded by a text encoder; the collection's queries search them.

    Their vectors are those of `jobs.encode_corpus`, made here if they do not exist.

    Raises:
        DataError: the collection has no queries to tune on.
    """

    def __init__(self, encoding: EncodeCorpusConfig) -> None:
        self._collection, self._encoding = Collection.open(encoding.collection), encoding
        assert self._collection.artifact is not None
        queries = self._collection.queries.num_rows
        if queries < FEWEST_QUERIES:
            raise DataError(
                f"{encoding.collection} has {queries} queries; an index is tuned on at least "
                f"{FEWEST_QUERIES}"
            )
        vectors = corpus_vectors(encoding, self._collection)
        self.parents = {"collection": self._collection.artifact, "vectors": vectors}
        self.recorded = {"query_prefix": encoding.query_prefix}
        self.figures: dict[str, Any] = {}

    def encoded(self) -> tuple[Floats, Floats]:
        encoder = encoder_of(self._encoding)
        row_Q = self.query_rows()
        queries_QD = encoder.encode_queries(self._collection.query_texts(row_Q))
        self.figures = truncation_of(self.parents["vectors"], encoder.truncation["query"])
        return read_vectors(self.parents["vectors"]), queries_QD

    def query_rows(self) -> Rows:
        """Rows of the queries, at random: those that no encoder was trained on, if any.

        An encoder puts a query that it was trained on nearer to its document than others.
        """
        queries, qrels = self._collection.queries, self._collection.qrels
        trained = qrels.filter(pc.field("split") == TRAINED_ON)["query"]
        unseen_Q = ~pc.is_in(queries["id"], value_set=pc.unique(trained)).to_numpy()
        row_Q = np.flatnonzero(unseen_Q)
        if len(row_Q) < FEWEST_QUERIES:
            row_Q = np.arange(queries.num_rows)
            logger.warning("every query is of split %s: others may be searched worse", TRAINED_ON)
        return row_Q[drawn(len(row_Q))]


def drawn(queries: int) -> Rows:
    """At most `QUERIES` of this many, at random, the same in every run."""
    return np.random.default_rng(0).permutation(queries)[:QUERIES]
