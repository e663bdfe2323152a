"""Queries trained on per second, beside the trainer of sentence-transformers in the same run.

    python -m jobs.bench_retriever_training --config scifact
    python -m jobs.bench_retriever_training --config cuda

Both train the same encoder by AdamW with the same loss (InfoNCE: a query's positive against all
texts of its batch), the same batches of (query, positive, negatives), the same longest text and the
dropout that the model's files ask for. `ours_without_dropout` is our default, which costs less.
Negatives are drawn at random, since mining is not part of either side's time. Their trainer runs
with its defaults (float32) and with `bf16=True`. Only training steps are timed, and the sides take
turns.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs._bench.turns import rates
from jobs._command import job_command
from winnow.data.collection import Collection, text_digest
from winnow.errors import EncoderError
from winnow.retrieval.encoder_training.instances import Instances, TrainingTexts
from winnow.retrieval.encoder_training.train import MEASURE, EncoderTrainConfig, EncoderTrainer
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.find import find_encoder
from winnow_ray.cluster.paths import absolute

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRetrieverTrainingConfig:
    """What is trained on, in which batches, and on what."""

    collection: str = "runs/scifact/collection"
    """Collection artifact that is trained on."""
    model: str = "all-MiniLM-L6-v2"
    """Text encoder: a folder, a packaged model or a Hugging Face id."""
    batch_size: int = 64
    """Queries of a step."""
    steps: int = 4
    """Optimizer steps of each timing."""
    negatives: int = 1
    """Texts of a query beside its positive."""
    chunk_tokens: int = EncoderTrainConfig().chunk_tokens
    """Tokens that our side encodes at a time, as in `EncoderTrainConfig`."""
    memory_tokens: int = EncoderTrainConfig().memory_tokens
    """Tokens of a batch that our side encodes only once, as in `EncoderTrainConfig`."""
    repeats: int = 3
    """Timings of each side."""
    threads: int = 0
    """Threads of every side; 0: all cores."""
    device: str = "cpu"
    """Device of every side: cpu or cuda."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "negatives", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"BenchRetrieverTrainingConfig.{name} must be positive")


def tiny() -> BenchRetrieverTrainingConfig:
    """Seconds, for tests; needs `collection=` and `model=`, and the figures mean nothing."""
    return BenchRetrieverTrainingConfig(batch_size=4, steps=2, repeats=1)


def cuda() -> BenchRetrieverTrainingConfig:
    """SciFact on a GPU of 80 GB, with a batch that fills it and is encoded only once."""
    return BenchRetrieverTrainingConfig(
        device="cuda", batch_size=256, steps=16, chunk_tokens=65_536, memory_tokens=262_144
    )


def scifact() -> BenchRetrieverTrainingConfig:
    """SciFact on a CPU."""
    return BenchRetrieverTrainingConfig()


PRESETS = {"tiny": tiny, "scifact": scifact, "cuda": cuda}


@dataclass(frozen=True, slots=True)
class Work:
    """Training data of every side: I instances of one query, one positive and N negatives."""

    queries: list[str]
    """Text of each instance's query."""
    texts: list[str]
    """Texts of all documents."""
    positive_I: Rows
    """Position of each instance's positive in `texts`."""
    negative_IN: Rows
    """Positions of each instance's negatives in `texts`."""


def run(config: BenchRetrieverTrainingConfig) -> dict[str, Any]:
    """Queries per second of every side, and ours as a multiple of their trainer."""
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    work = drawn(config)
    sides: dict[str, Callable[[], float]] = {
        "ours": lambda: our_seconds(config, work, dropout=True),
        "ours_without_dropout": lambda: our_seconds(config, work, dropout=False),
        "sentence_transformers": lambda: their_seconds(config, work, bf16=False),
        "sentence_transformers_bfloat16": lambda: their_seconds(config, work, bf16=True),
    }
    rate = rates(sides, len(work.queries), config.repeats, "queries")
    return {
        "queries_per_s": round(rate["ours"], 2),
        "ratio": round(rate["ours"] / rate["sentence_transformers"], 2),
        "ratio_vs_bf16": round(rate["ours"] / rate["sentence_transformers_bfloat16"], 2),
        "baselines": {
            name: round(value, 2) for name, value in rate.items() if not name.startswith("ours")
        },
        "queries_per_s_without_dropout": round(rate["ours_without_dropout"], 2),
        "batch_size": config.batch_size,
        "threads": torch.get_num_threads(),
    }


def drawn(config: BenchRetrieverTrainingConfig) -> Work:
    """Training pairs for all steps, the same for every run."""
    collection = Collection.open(absolute(config.collection))
    judged = collection.judged("train")
    random = np.random.default_rng(0)
    query_P = np.repeat(judged.query_Q, np.diff(judged.start_Q))
    at_I = random.choice(len(query_P), config.steps * config.batch_size, replace=True)
    return Work(
        collection.query_texts(query_P[at_I]),
        collection.document_texts(),
        judged.document_N[at_I].astype(np.int64),
        random.integers(collection.documents.num_rows, size=(len(at_I), config.negatives)),
    )


def our_seconds(config: BenchRetrieverTrainingConfig, work: Work, *, dropout: bool) -> float:
    """Seconds of our training steps, with making batches and tokens.

    Args:
        dropout: whether the model's own dropout is kept, as sentence-transformers keeps it.
    """
    encoder = TextEncoder.load(find_encoder(config.model))
    encoder.model.to(config.device)
    used, code = np.unique(
        np.column_stack([work.positive_I, work.negative_IN]), return_inverse=True
    )
    code_IG = code.reshape(len(work.queries), -1)
    started = time.perf_counter()
    texts = [work.texts[at] for at in used]
    asked = np.arange(len(work.queries))
    tokenised = TrainingTexts.of(
        encoder.tokens(work.queries, "query"),
        encoder.tokens(texts, "document"),
        [text_digest(text) for text in work.queries],
        [text_digest(text) for text in texts],
        asked,
        code_IG[:, 0],
    )
    instances = Instances(asked, code_IG[:, 0], code_IG[:, 1:])
    spent = [time.perf_counter() - started]
    trainer = EncoderTrainer(
        EncoderTrainConfig(
            epochs=1,
            batch_size=config.batch_size,
            chunk_tokens=config.chunk_tokens,
            memory_tokens=config.memory_tokens,
            dropout=own_dropout(encoder.model) if dropout else 0.0,
        ),
        encoder,
        tokenised,
        lambda epoch: instances,
        validate=lambda encoder: {MEASURE: 0.0},
    )
    trainer.train(lambda metrics, save: spent.append(metrics["seconds"]))
    return sum(spent)


def own_dropout(model: torch.nn.Module) -> float:
    """Probability of the dropout layers that the model's files ask for."""
    layers = (layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout))
    return max((layer.p for layer in layers), default=0.0)


def their_seconds(config: BenchRetrieverTrainingConfig, work: Work, *, bf16: bool) -> float:
    """Seconds of `SentenceTransformerTrainer.train`, which makes batches and tokens as it goes."""
    try:
        from datasets import Dataset, disable_progress_bars
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    except ImportError as error:
        raise EncoderError(
            f'{error.name} is not installed: pip install "winnow[dev]" for this benchmark'
        ) from error
    disable_progress_bars()
    model = SentenceTransformer(str(find_encoder(config.model)), device=config.device)
    columns = {"anchor": work.queries, "positive": [work.texts[at] for at in work.positive_I]}
    for n, row_I in enumerate(work.negative_IN.T):
        columns[f"negative_{n}"] = [work.texts[at] for at in row_I]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            per_device_train_batch_size=config.batch_size,
            num_train_epochs=1,
            bf16=bf16,
            use_cpu=config.device == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        scale = 1 / EncoderTrainConfig().temperature
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(columns),
            loss=MultipleNegativesRankingLoss(model, scale=scale),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


main = job_command(run, PRESETS, __doc__, default="scifact")


if __name__ == "__main__":
    main()
