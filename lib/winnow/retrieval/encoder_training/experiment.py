"""One encoder experiment: what is read, what is trained and validated, what the result measures.

Suffixes: P training pairs (query, positive), Q queries, I instances, N negatives of an instance or
candidates, G = 1 + N candidates of an instance, M LLM texts, K results, D vector width, C texts.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.artifact.digests import model_digest, run_key
from winnow.data.collection import Collection, Judgements, text_digest
from winnow.errors import DataError
from winnow.retrieval.checkpoint import Report
from winnow.retrieval.distributed import rank_and_world
from winnow.retrieval.encoder_training.encode_over_ranks import encode_together
from winnow.retrieval.encoder_training.instances import Instances, TrainingTexts, text_groups
from winnow.retrieval.encoder_training.train import EncoderTrainConfig, EncoderTrainer, Validate
from winnow.retrieval.evaluation.measures import Measured, exact_ranking, measure
from winnow.retrieval.evaluation.order import Rows
from winnow.retrieval.negatives.mix import Mix, MixConfig, Mixer, shortfall
from winnow.retrieval.negatives.pools import SOURCES, NegativePool, NegativePools, Source
from winnow.retrieval.negatives.table import NegativesTable
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.find import find_encoder, folder_of
from winnow.retrieval.text_encoder.ref import EncoderRef

logger = logging.getLogger(__name__)

FOUND: tuple[Source, ...] = ("bm25", "dense", "fused")
"""Sources that search for documents near the query, in the order in which they are taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig(EncoderRef):
    """The encoder to start from, its training and the artifacts it is made from."""

    collection: str = "runs/collection"
    """The collection artifact; every worker reads it."""
    mined: str = ""
    """A negatives artifact (`jobs.mine_negatives`); only `negatives.mode=none` needs none."""
    negatives: MixConfig = field(default_factory=MixConfig)
    """Kinds and number of the negatives of each training instance."""
    train: EncoderTrainConfig = field(default_factory=EncoderTrainConfig)
    """Loss, optimizer and stopping."""
    split: str = "train"
    """The split that is trained on."""
    valid_share: float = 0.1
    """Share of the split's queries that pick the best weights instead of being trained on."""
    valid_documents: int = 0
    """Documents that validation searches: the relevant ones, then those mined for the same
    queries, then random ones; 0: all."""
    teacher: str = ""
    """An encoder whose similarities are distilled, if `train.distil` is above 0. Its prompts are
    those of its files."""

    def __post_init__(self) -> None:
        EncoderRef.__post_init__(self)
        if not 0 < self.valid_share < 1:
            raise ValueError(f"valid_share must be above 0 and below 1, got {self.valid_share}")
        if bool(self.teacher) != bool(self.train.distil):
            raise ValueError("set both teacher and train.distil, or neither")

    def recorded(self) -> dict[str, Any]:
        """What decides the result besides the artifacts it is made from."""
        names = EncoderConfig.__dataclass_fields__.keys() - {"collection", "mined", "revision"}
        content = asdict(self)
        content["negatives"] |= {"mode": self.negatives.kind, "syn_ratio": self.negatives.ratio}
        # By content: another encoder may replace this one at the same path.
        content["model"] = model_digest(folder_of(self))
        content["teacher"] = model_digest(find_encoder(self.teacher)) if self.teacher else ""
        return {name: content[name] for name in sorted(names)}

    def parents(self, collection: Collection) -> dict[str, Artifact]:
        """The artifacts that the encoder is made from: the collection, opened, and the negatives.

        Opening an artifact reads all of it, so a process does it once.
        """
        assert collection.artifact is not None
        parents = {"collection": collection.artifact}
        if self.mined:
            parents["negatives"] = open_artifact(self.mined, kind="negatives")
        return parents

    def run_key(self, parents: Mapping[str, Artifact]) -> str:
        """Name of the run, equal for equal inputs: a killed run finds its checkpoints by it.

        What the result is measured on is no part of it, so a corrected split trains nothing anew.

        Args:
            parents: what `parents` found.
        """
        made_from = {role: parent.digest for role, parent in parents.items()}
        return run_key(EncoderConfig.recorded(self), made_from)

    def check_splits(self, collection: Collection, test: str) -> None:
        """Raise DataError if the collection lacks the split to train on or that to measure on."""
        for split in (self.split, test):
            collection.judged(split)

    def untuned(self) -> TextEncoder:
        """The encoder to start from."""
        return TextEncoder.load(self)

    def trained(self, checkpoint: Mapping[str, Any]) -> TextEncoder:
        """The encoder with the best weights in a checkpoint's content."""
        encoder = self.untuned()
        encoder.model.load_state_dict(checkpoint["best_weights"])
        return encoder


class EncoderExperiment:
    """A config with its data and its encoder; every process of a run opens its own."""

    def __init__(self, config: EncoderConfig) -> None:
        self.config = config
        self.collection = Collection.open(config.collection)
        self.encoder = config.untuned()
        judged = _unseen_elsewhere(self.collection, config.split)
        at_Q = np.random.default_rng(config.train.seed).permutation(len(judged))
        held = max(int(len(judged) * config.valid_share), 1)
        # Copies of a query are all trained on or all validated on.
        group_Q = text_groups(_digests(self.collection.query_texts(judged.query_Q)))
        held_Q = np.isin(group_Q, group_Q[at_Q[:held]])
        if held_Q.all():
            raise DataError(
                f"split {config.split} has {len(np.unique(group_Q))} queries with a relevant "
                "document and a text of their own; training needs two, one of them to validate on"
            )
        self._valid = _part(judged, np.flatnonzero(held_Q))
        self._trained = _part(judged, np.flatnonzero(~held_Q))
        pools = self._pools()
        self._build_texts(pools)
        self._valid_rows = self._searched(pools)

    def train(self, report: Report, resume: Path | None) -> list[Mapping[str, int]]:
        """Train `encoder` in place, or continue from a checkpoint; see `EncoderTrainer.train`.

        Returns:
            Exact counts of the negatives in each epoch that was begun, see `Mix.audit`.
        """
        trainer = EncoderTrainer(
            self.config.train,
            self.encoder,
            self.texts,
            self.instances,
            self._validator(),
            first_llm_text=self._first_llm_text,
        )
        trainer.train(report, resume)
        return self.audit(trainer.epoch + bool(trainer.step))

    def measure(self, encoder: TextEncoder, split: str) -> Measured:
        """Measures of an encoder on the queries of a split, over the whole collection."""
        judged = self.collection.judged(split)
        queries = encoder.encode_queries(self.collection.query_texts(judged.query_Q))
        documents = encoder.encode_documents(self.collection.document_texts())
        row_QK = exact_ranking(queries, documents, judged, self.collection)
        return measure(row_QK, judged, self.collection)

    def instances(self, epoch: int) -> Instances:
        """The epoch's instances: all pairs in a new order, each with its next negatives."""
        order_P, mix = self._mixed(epoch)
        note = shortfall(self.config.negatives, mix.audit)
        if note and epoch == 0 and rank_and_world()[0] == 0:
            logger.warning("%s", note)
        pair_P = order_P[mix.query_at_I]
        negative_PN = np.where(
            mix.candidate_IN >= 0, np.searchsorted(self._used, mix.candidate_IN), -1
        )
        query_P, positive_P = self._pair_query_P[pair_P], self._pair_code_P[pair_P]
        teacher_PG = self._teach(query_P, np.column_stack([positive_P, negative_PN]))
        return Instances(query_P, positive_P, negative_PN, teacher_PG, mix.audit)

    def audit(self, epochs: int) -> list[Mapping[str, int]]:
        """Exact counts of the negatives in each of the first epochs, see `Mix.audit`."""
        return [self._mixed(epoch)[1].audit for epoch in range(epochs)]

    def _mixed(self, epoch: int) -> tuple[Rows, Mix]:
        """The epoch's order of the pairs, and their negatives."""
        order_P = np.random.default_rng([self.config.train.seed, epoch]).permutation(
            len(self._pair_query_P)
        )
        return order_P, self._mixer.epoch(epoch, self._query_rows[self._pair_query_P[order_P]])

    def _pools(self) -> NegativePools:
        if not self.config.mined:
            return _no_negatives(self.collection)
        ids = self.collection.queries["id"], self.collection.documents["id"]
        return NegativesTable.open(self.config.mined).pools(*ids)

    def _searched(self, pools: NegativePools) -> Rows:
        """Rows of the documents that validation searches, in ascending order."""
        rows = np.arange(self.collection.documents.num_rows)
        most = self.config.valid_documents
        if not most or most >= len(rows):
            return rows
        # Among random documents alone, the epochs of a run can hardly be told apart.
        mined = pools.union(FOUND)
        query_N = mined.query_N
        position_N = np.arange(len(query_N)) - mined.start_Q[query_N]
        asked_N = np.isin(query_N, self._valid.query_Q)
        hard = mined.candidate_N[asked_N][np.argsort(position_N[asked_N], kind="stable")]
        at_random = np.random.default_rng(self.config.train.seed).permutation(rows)
        in_turn = [self._valid.document_N, hard, at_random]
        found, first = np.unique(np.concatenate(in_turn), return_index=True)
        relevant = len(np.unique(self._valid.document_N))
        return np.sort(found[np.argsort(first)][: max(most, relevant)])

    def _build_texts(self, pools: NegativePools) -> None:
        """Tokenise the queries and texts that are trained on, and note known positives."""
        collection, trained = self.collection, self._trained
        self._mixer = Mixer(pools, self.config.negatives)
        mixed = [pools.by_source[source] for source in self.config.negatives.sources]
        candidates = [pool.candidate_N[np.isin(pool.query_N, trained.query_Q)] for pool in mixed]
        self._used = np.unique(np.concatenate([trained.document_N, *candidates]))
        first = self._first_llm_text = int(np.searchsorted(self._used, pools.num_documents))
        llm_texts = [pools.texts_M[at] for at in self._used[first:] - pools.num_documents]
        texts = collection.document_texts(self._used[:first]) + llm_texts
        self._query_rows = trained.query_Q
        queries = collection.query_texts(self._query_rows)
        counts_Q = np.diff(trained.start_Q)
        self._pair_query_P = np.repeat(np.arange(len(trained)), counts_Q)
        self._pair_code_P = np.searchsorted(self._used, trained.document_N)
        self.texts = TrainingTexts.of(
            self.encoder.tokens(queries, "query"),
            self.encoder.tokens(texts, "document"),
            _digests(queries),
            _digests(texts),
            self._pair_query_P,
            self._pair_code_P,
        )
        self._words = (queries, texts) if self.config.teacher else ([], [])

    @cached_property
    def _taught(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The teacher's vectors of queries and texts; only training needs them.

        Each rank encodes an equal part, on the device that it trains on.
        """
        device = next(self.encoder.model.parameters()).device.type
        teacher = TextEncoder.for_inference(find_encoder(self.config.teacher), device=device)
        queries, texts = self._words
        return (
            encode_together(teacher, teacher.tokens(queries, "query")),
            encode_together(teacher, teacher.tokens(texts, "document")),
        )

    def _teach(self, query_P: Rows, code_PG: Rows) -> NDArray[np.float32] | None:
        if not self.config.teacher:
            return None
        query_QD, text_CD = self._taught
        score_PG = np.einsum("pd,pgd->pg", query_QD[query_P], text_CD[code_PG])
        return np.where(code_PG >= 0, score_PG, np.nan).astype(np.float32)

    def _validator(self) -> Validate:
        """A function that measures an encoder on the held-out queries of the split."""
        collection, judged, rows = self.collection, self._valid, self._valid_rows
        query_tokens = self.encoder.tokens(collection.query_texts(judged.query_Q), "query")
        document_tokens = self.encoder.tokens(collection.document_texts(rows), "document")

        def validate(encoder: TextEncoder) -> Mapping[str, float]:
            queries = encode_together(encoder, query_tokens)
            documents = encode_together(encoder, document_tokens)
            row_QK = exact_ranking(queries, documents, judged, collection, rows)
            return measure(row_QK, judged, collection).means()

        return validate


def _unseen_elsewhere(collection: Collection, split: str) -> Judgements:
    """The judgements of a split, without queries whose text another split asks too.

    Training on such a query would leak what the other split measures.
    """
    judged = collection.judged(split)
    others = collection.qrels.filter((pc.field("split") != split) & (pc.field("relevance") > 0))
    asked = pc.is_in(collection.queries["id"], value_set=pc.unique(others["query"]))
    elsewhere = set(_digests(collection.queries["text"].filter(asked).to_pylist()))
    digests = _digests(collection.query_texts(judged.query_Q))
    own_Q = np.array([digest not in elsewhere for digest in digests], bool)
    if not own_Q.all():
        message = "split=%s queries=%d left_out=%d: they have the text of a query of another split"
        logger.info(message, split, len(own_Q), len(own_Q) - int(own_Q.sum()))
    return _part(judged, np.flatnonzero(own_Q))


def _digests(texts: Iterable[str]) -> list[str]:
    return [text_digest(text) for text in texts]


def _no_negatives(collection: Collection) -> NegativePools:
    queries, nothing = collection.queries.num_rows, np.empty(0, np.int64)
    empty = NegativePool.build(nothing, nothing, nothing, queries)
    by_source = dict.fromkeys(SOURCES, empty)
    return NegativePools(queries, collection.documents.num_rows, [], by_source)


def _part(judged: Judgements, at_Q: Rows) -> Judgements:
    """The judgements of some of the queries."""
    size_Q = np.diff(judged.start_Q)[at_Q]
    bounds = zip(judged.start_Q[at_Q], judged.start_Q[at_Q + 1], strict=True)
    at_N = np.concatenate([np.empty(0, np.int64), *(np.arange(*bound) for bound in bounds)])
    return Judgements(
        query_Q=judged.query_Q[at_Q],
        start_Q=np.cumsum([0, *size_Q], dtype=np.int64),
        document_N=judged.document_N[at_N],
        relevance_N=judged.relevance_N[at_N],
    )
