"""Queries and other texts encoded where the documents of a job are: on its workers' GPU, or here.

Suffixes: N texts, D vector width.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import ray
from numpy.typing import NDArray

from winnow.retrieval.text_encoder.encoder import Kind
from winnow.retrieval.text_encoder.token_lists import Truncation
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect
from winnow_ray.cluster.paths import folder_or_name
from winnow_ray.cluster.room import check_room, process_share
from winnow_ray.indexing.corpus_vectors import EncodingConfig

Floats = NDArray[np.float32]


class QueryEncoder(Protocol):
    """Encodes queries and documents, and counts what it cut; `TextEncoder` is one."""

    @property
    def truncation(self) -> dict[Kind, Truncation]: ...
    def encode_queries(self, texts: Sequence[str]) -> Floats: ...
    def encode_documents(self, texts: Sequence[str]) -> Floats: ...


def encoder_of(config: EncodingConfig) -> QueryEncoder:
    """The encoder of a config. If the GPU is a worker's, so are its calls.

    Raises:
        EncoderError: the model cannot be found or used.
    """
    if config.use_gpu and config.workers[1]:
        return WorkerEncoder(config)
    return config.load()


class WorkerEncoder:
    """A text encoder whose every call is a Ray task with a GPU."""

    def __init__(self, config: EncodingConfig) -> None:
        self._config = replace(config, model=folder_or_name(config.model))
        self.truncation: dict[Kind, Truncation] = {"query": Truncation(), "document": Truncation()}

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Vectors of queries, float32 [N, D]."""
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Vectors of documents, float32 [N, D]."""
        return self._encode(texts, "document")

    def _encode(self, texts: Sequence[str], kind: Kind) -> Floats:
        connect()
        cpus = self._config.cpus_per_worker
        share = process_share(cpus, use_gpu=True)
        check_room("encoding", 1, share, settings="cpus_per_worker or use_gpu")
        task = ray.remote(num_cpus=cpus, num_gpus=1, max_retries=2)(encoded).options(
            runtime_env={"env_vars": WORKER_ENVIRONMENT}
        )
        vector_ND, truncation = ray.get(task.remote(self._config, list(texts), kind))
        self.truncation[kind].add(truncation)
        return vector_ND


def encoded(config: EncodingConfig, texts: Sequence[str], kind: Kind) -> tuple[Floats, Truncation]:
    """Vectors of texts, and how much of them was cut; runs in a Ray task."""
    encoder = config.load()
    vector_ND = encoder.encode_tokens(encoder.tokens(texts, kind))
    return vector_ND, encoder.truncation[kind]
