"""One cell of a study of negatives: an encoder trained with one kind of them, and measured.

Variants must differ in their negatives alone, so each takes the same number of steps and none stops
early. The best weights by validation are measured, as in `jobs.train_retriever`.

Suffixes: P training pairs (query, positive), N negatives of an instance, G = 1 + N.
"""

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from winnow.data.collection import Collection
from winnow.errors import DataError
from winnow.retrieval.bm25 import Bm25
from winnow.retrieval.checkpoint import Save, read_checkpoint
from winnow.retrieval.encoder_training.experiment import EncoderConfig, EncoderExperiment
from winnow.retrieval.encoder_training.instances import Instances
from winnow.retrieval.evaluation.measures import DEPTH, exact_ranking, measure, own_documents
from winnow.retrieval.evaluation.order import Rows
from winnow.retrieval.negatives_study.table import FUSED, LEXICAL, UNTUNED
from winnow.retrieval.rank_fusion import reciprocal_rank_fusion

logger = logging.getLogger(__name__)


class EvenExperiment(EncoderExperiment):
    """An experiment with as many instances per epoch as there are pairs, in every mode.

    The mix `direct` makes two instances of a pair, one for each kind of negatives, and would take
    twice the steps of the others. Here its instances continue from one epoch to the next instead.
    """

    def instances(self, epoch: int) -> Instances:
        pairs = len(self._pair_query_P)
        first, last = epoch * pairs, (epoch + 1) * pairs
        parts: list[Instances] = []
        begin = number = 0
        while begin < last:
            mixed = super().instances(number)
            if not len(mixed):
                raise DataError(f"no query has negatives for mode={self.config.negatives.mode}")
            parts.append(_between(mixed, first - begin, last - begin))
            begin, number = begin + len(mixed), number + 1
        return _joined(parts)


def trained_run(config: EncoderConfig, *, test: str, device: str) -> dict[str, Any]:
    """Train on `config.split` and measure on `test`; returns a `table.Run`."""
    started = time.perf_counter()
    logger.info("training variant=%s seed=%d", config.negatives.mode, config.train.seed)
    experiment = EvenExperiment(config)
    experiment.encoder.model.to(device)
    trained = _train(experiment)
    seconds = time.perf_counter() - started
    encoder = config.trained(trained)
    encoder.model.to(device)
    return {
        "variant": config.negatives.mode,
        "seed": config.train.seed,
        "per_query": experiment.measure(encoder, test).per_query.to_pydict(),
        "truncated": encoder.truncated(),
        "valid": trained["best"],
        "steps": len(trained["losses"]),
        "gradient_variance": float(np.var(trained["norms"])),
        **_negatives_of(experiment, trained["epoch"]),
        "seconds": seconds,
    }


def baseline_runs(config: EncoderConfig, *, test: str, device: str) -> list[dict[str, Any]]:
    """Runs of the untrained encoder, BM25, and both fused; `seconds` are those of the search."""
    collection = Collection.open(config.collection)
    judged = collection.judged(test)
    queries, documents = collection.query_texts(judged.query_Q), collection.document_texts()
    encoder = config.untuned()
    encoder.model.to(device)

    own = list(own_documents(judged, collection))

    def dense() -> Rows:
        vectors = encoder.encode_queries(queries), encoder.encode_documents(documents)
        return exact_ranking(*vectors, judged, collection)

    def lexical() -> Rows:
        return Bm25.build(documents).search(queries, DEPTH, own)[1]

    def both() -> Rows:
        return reciprocal_rank_fusion([found[UNTUNED], found[LEXICAL]], DEPTH)[1]

    found: dict[str, Rows] = {}
    runs = []
    for variant, search in ((UNTUNED, dense), (LEXICAL, lexical), (FUSED, both)):
        started = time.perf_counter()
        found[variant] = search()
        per_query = measure(found[variant], judged, collection).per_query.to_pydict()
        seconds = time.perf_counter() - started
        runs.append({"variant": variant, "seed": None, "per_query": per_query, "seconds": seconds})
    runs[0]["truncated"] = encoder.truncated()
    return runs


def _train(experiment: EncoderExperiment) -> dict[str, Any]:
    """The content of the last checkpoint of a whole training; no other one is written."""
    saves: list[Save] = []

    def report(metrics: Mapping[str, Any], save: Save | None) -> None:
        if save:
            saves[:] = [save]

    experiment.train(report, None)
    with tempfile.TemporaryDirectory() as folder:
        saves[0](Path(folder))
        return read_checkpoint(Path(folder))


def _negatives_of(experiment: EncoderExperiment, epochs: int) -> dict[str, float]:
    """Negatives of an instance by where they come from, on average."""
    audits = experiment.audit(max(epochs, 1))
    instances = max(sum(audit["instances"] for audit in audits), 1)
    kinds = {"llm_negatives": "written", "retrieved_negatives": "retrieved"}
    return {
        name: sum(audit[counted] for audit in audits) / instances for name, counted in kinds.items()
    }


def _between(instances: Instances, first: int, last: int) -> Instances:
    """Instances from number `first` to before `last`, as far as they exist."""
    at = slice(max(first, 0), max(last, 0))
    return Instances(
        instances.query_P[at],
        instances.positive_P[at],
        instances.negative_PN[at],
        None if instances.teacher_PG is None else instances.teacher_PG[at],
    )


def _joined(parts: list[Instances]) -> Instances:
    teachers = [part.teacher_PG for part in parts if part.teacher_PG is not None]
    return Instances(
        np.concatenate([part.query_P for part in parts]),
        np.concatenate([part.positive_P for part in parts]),
        np.concatenate([part.negative_PN for part in parts]),
        np.concatenate(teachers) if teachers else None,
    )
