"""Vectors of every document of a collection, encoded in shards on many workers.

Suffixes: I documents, D vector width.
"""

import io
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy

from winnow.artifact import Artifact, claimed, create_artifact, open_artifact, up_to_date
from winnow.artifact.digests import model_digest, run_key
from winnow.artifact.work_folder import WorkFolder
from winnow.data.collection import Collection
from winnow.data.progress import Progress
from winnow.precision import InferencePrecision, dtype_of
from winnow.retrieval.text_encoder.encoder import TextEncoder, inference_backend
from winnow.retrieval.text_encoder.find import folder_of
from winnow.retrieval.text_encoder.ref import EncoderRef
from winnow.retrieval.text_encoder.token_lists import Truncation
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect
from winnow_ray.cluster.paths import absolute, folder_or_name
from winnow_ray.cluster.room import check_room, process_share

logger = logging.getLogger("winnow.encode_corpus")
VECTORS_FILE = "vectors.npy"
"""File of a vectors artifact: float32 [I, D], row by row as the documents."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig(EncoderRef):
    """An encoder, the documents that it reads, and the workers that run it.

    It has no slots, so that a config can inherit it beside another one.
    """

    collection: str = "runs/collection"
    """Collection artifact whose documents are encoded, row by row."""
    precision: InferencePrecision = "auto"
    """Number format of matrix products; `auto` is bfloat16 where that is fast. int8, on a CPU,
    takes three quarters of that time and moves the vectors a little more."""
    workers: tuple[int, int] = (1, 1)
    """Least and most workers; (0, 0) encodes in this process."""
    cpus_per_worker: int = 2
    """Torch threads of each worker, and CPUs reserved for it."""
    use_gpu: bool = False
    """Whether each worker takes a GPU."""

    def __post_init__(self) -> None:
        EncoderRef.__post_init__(self)
        name = type(self).__name__
        if not 0 <= self.workers[0] <= self.workers[1]:
            raise ValueError(f"{name}.workers must be 0 <= least <= most, got {self.workers}")
        if self.cpus_per_worker < 1:
            raise ValueError(f"{name}.cpus_per_worker must be positive, got {self.cpus_per_worker}")

    @property
    def device(self) -> str:
        """Device of each worker's encoder."""
        return "cuda" if self.use_gpu else "cpu"

    def load(self) -> TextEncoder:
        """The encoder, in this process and on the device of the workers."""
        return TextEncoder.for_inference(self, precision=self.precision, device=self.device)

    def encoding(self, output: str) -> "EncodeCorpusConfig":
        """Config that writes the vectors of this encoder and these documents to `output`."""
        shared = {f.name: getattr(self, f.name) for f in fields(EncodingConfig)}
        return EncodeCorpusConfig(**shared, output=output)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeCorpusConfig(EncodingConfig):
    """Where the vectors go, and how many documents are one piece of work."""

    output: str = "runs/vectors"
    """Vectors artifact to write; `.<name>.work` beside it holds finished shards."""
    shard_documents: int = 4_096
    """Documents of a shard, which a killed worker encodes again."""

    def __post_init__(self) -> None:
        EncodingConfig.__post_init__(self)
        if self.shard_documents < 1:
            raise ValueError(
                f"EncodeCorpusConfig.shard_documents must be positive, got {self.shard_documents}"
            )


class ShardEncoder:
    """An encoder with the collection that it reads; Ray Data makes and calls it.

    Each worker opens the collection; a process that has it open passes it.
    """

    def __init__(self, config: EncodeCorpusConfig, collection: Collection | None = None) -> None:
        if config.workers[1]:  # only a worker's process is ours; the caller sets its own threads
            torch.set_num_threads(config.cpus_per_worker)
        self._collection = collection or Collection.open(config.collection)
        self._encoder = config.load()
        self._work = WorkFolder.beside(config.output)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[int]]:
        (key,), (first,), (end,) = batch["key"], batch["first"], batch["end"]
        texts = self._collection.document_texts(np.arange(first, end))
        self._encoder.truncation["document"] = Truncation()
        vectors = self._encoder.encode_documents(texts)
        shard = io.BytesIO()
        np.savez(
            shard,
            vectors=vectors,
            truncation=astuple(self._encoder.truncation["document"]),
            backend=self._encoder.backend,
        )
        self._work.write(str(key), shard.getvalue())
        return {"documents": [len(texts)]}


def encode_corpus(config: EncodeCorpusConfig) -> dict[str, Any]:
    """Encode the documents that are not yet encoded and write their vectors.

    Finished shards are kept, so a killed run continues with the rest.

    Returns:
        Number of documents, width of the vectors, library that encoded, seconds, and shares of
        texts that were cut and of tokens that were lost.

    Raises:
        EncoderError: the model cannot be found, or gives a document a vector with NaN.
        DataError: the collection is not whole.

    Example:
        With the collection of `jobs.prepare_collection --config scifact`, in this process:

            encode_corpus(EncodeCorpusConfig(collection="runs/scifact/collection",
                output="runs/scifact/vectors", workers=(0, 0)))
    """
    return dict(corpus_vectors(config, Collection.open(config.collection)).metrics)


def corpus_vectors(config: EncodeCorpusConfig, collection: Collection) -> Artifact:
    """Artifact with the vectors, for `read_vectors`; it is made if it does not exist.

    Args:
        collection: that of `config.collection`, opened.
    """
    started = time.perf_counter()
    model = model_digest(folder_of(config))
    config = replace(
        config,
        collection=absolute(config.collection),
        output=absolute(config.output),
        model=folder_or_name(config.model),
    )
    assert collection.artifact is not None
    recorded = recorded_of(config, model)
    parents = {"collection": collection.artifact}
    if made := up_to_date(config.output, "vectors", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return made
    documents, size = collection.documents.num_rows, config.shard_documents
    name = run_key(recorded, collection.artifact.digest, size)
    shards = [
        {"key": f"{name}-{first}", "first": first, "end": min(first + size, documents)}
        for first in range(0, documents, size)
    ]
    with claimed(config.output, "vectors"):
        encode(shards, config, collection)
        work = WorkFolder.beside(config.output)
        with create_artifact(config.output, "vectors", config=recorded, parents=parents) as draft:
            counted = Counted()
            parts = (counted.read(work.read_bytes(str(shard["key"]))) for shard in shards)
            dim = write_vectors(draft.path / VECTORS_FILE, parts, documents)
            seconds = time.perf_counter() - started
            draft.metrics |= {"documents": documents, "dim": dim, "seconds": seconds}
            draft.metrics |= counted.figures()
        work.clear()
    logger.info("wrote %s documents=%d seconds=%.1f", config.output, documents, seconds)
    return open_artifact(config.output)


def recorded_of(config: EncodeCorpusConfig, model: str) -> dict[str, Any]:
    """What decides the vectors besides the collection; `model` is the digest of the encoder.

    Two libraries, and two devices, give vectors that differ by their rounding. What `auto` means
    on a GPU is known there alone.
    """
    exact = config.precision == "int8" or config.use_gpu
    return {
        "model": model,
        "document_prefix": config.document_prefix,
        "max_tokens": config.max_tokens,
        "precision": config.precision if exact else str(dtype_of(config.precision)),
        "backend": inference_backend(config.device),
        "device": config.device,
    }


class Counted:
    """Reads finished shards one by one, and counts what their encoders cut."""

    def __init__(self) -> None:
        self._truncation = Truncation()
        self._backends: set[str] = set()

    def read(self, content: bytes) -> NDArray[np.float32]:
        """The vectors of a shard."""
        shard = np.load(io.BytesIO(content))
        self._truncation.add(Truncation(*shard["truncation"].tolist()))
        self._backends.add(str(shard["backend"]))
        vectors: NDArray[np.float32] = shard["vectors"]
        return vectors

    def figures(self) -> dict[str, Any]:
        """Library that encoded, and shares of texts cut and tokens lost."""
        backend = ",".join(sorted(self._backends))
        return {"backend": backend} | self._truncation.shares("document")


def encode(
    shards: Sequence[Mapping[str, Any]], config: EncodeCorpusConfig, collection: Collection
) -> None:
    """Encode the shards that are not finished."""
    documents = collection.documents.num_rows
    done = WorkFolder.beside(config.output).finished(str(shard["key"]) for shard in shards)
    todo = [dict(shard) for shard in shards if shard["key"] not in done]
    logger.info("documents=%d shards=%d finished_before=%d", documents, len(shards), len(done))
    if not todo:
        return
    least, most = config.workers
    if not most:
        encoder = ShardEncoder(config, collection)
        for shard in todo:
            encoder({name: [value] for name, value in shard.items()})
        return
    connect()
    share = process_share(config.cpus_per_worker, use_gpu=config.use_gpu)
    settings = "workers, cpus_per_worker or use_gpu"
    check_room("encoding", max(least, 1), share, settings=settings)
    workers = ActorPoolStrategy(min_size=max(least, 1), max_size=most)
    encoded = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        ShardEncoder,
        fn_constructor_args=(config,),
        batch_size=1,
        compute=workers,
        num_cpus=config.cpus_per_worker,
        num_gpus=1 if config.use_gpu else 0,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    progress = Progress("encoded documents", documents)
    for row in encoded.iter_rows():
        progress.add(row["documents"])


def write_vectors(path: Path, parts: Iterable[NDArray[np.float32]], documents: int) -> int:
    """Write the shards into one array file, in order; returns the width of the vectors."""
    file: np.memmap[Any, np.dtype[np.float32]] | None = None
    begin = width = 0
    for part in parts:
        if file is None:
            width = part.shape[1]
            file = open_memmap(path, "w+", np.float32, (documents, width))
        file[begin : begin + len(part)] = part
        begin += len(part)
    if file is not None:
        file.flush()
    return width


def truncation_of(vectors: Artifact, queries: Truncation) -> dict[str, float]:
    """Shares of texts cut and tokens lost: of the documents, and of queries encoded since."""
    names = Truncation().shares("document")
    of_documents = {name: vectors.metrics[name] for name in names}
    return of_documents | queries.shares("query")


def read_vectors(artifact: Artifact) -> NDArray[np.float32]:
    """Vectors of the documents, float32 [I, D], mapped into memory."""
    vectors: NDArray[np.float32] = np.load(artifact.path / VECTORS_FILE, mmap_mode="r")
    return vectors
