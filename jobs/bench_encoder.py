"""Documents encoded per second, beside sentence-transformers on the same documents in the same run.

    python -m jobs.bench_encoder --config scifact

Two baselines: `SentenceTransformer.encode` as it comes (float32, batches of 32), and with its
weights in bfloat16. Each side gets the texts and gives an array, so tokenising is part of the time.
The sides take turns, and medians are compared; that they give the same vectors is checked.
"""

import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs._ray import absolute
from winnow.config import job_main
from winnow.data.collection import Collection
from winnow.errors import EncoderError
from winnow.precision import Precision
from winnow.retrieval.encoder import TextEncoder, find_encoder

logger = logging.getLogger("winnow.bench_encoder")

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]

WARM_UP = 64
"""Documents that each side encodes before it is timed."""
SAME = 0.99
"""Least mean cosine between two sides' vectors of a document; bfloat16 costs less than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchEncoderConfig:
    collection: str = "runs/scifact/collection"
    """The collection artifact whose documents are encoded."""
    model: str = "all-MiniLM-L6-v2"
    """A folder, a packaged model or a Hugging Face id."""
    documents: int = 1000
    """Of the collection, drawn at random; 0: all."""
    repeats: int = 3
    precision: Precision = "auto"
    """Of our side."""
    threads: int = 0
    """Of every side; 0: all cores."""
    device: str = "cpu"
    """Of every side: cpu or cuda."""

    def __post_init__(self) -> None:
        if self.documents < 0 or self.repeats < 1:
            raise ValueError("BenchEncoderConfig.documents and repeats must be positive")


def tiny() -> BenchEncoderConfig:
    """A second; needs `collection=` and `model=`, and the figures mean nothing."""
    return BenchEncoderConfig(documents=20, repeats=1)


PRESETS = {"tiny": tiny, "scifact": BenchEncoderConfig}


def run(config: BenchEncoderConfig) -> dict[str, Any]:
    """Documents/s of every side, and ours as a multiple of each baseline's."""
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    texts = documents(config)
    sides = {
        "ours": our_side(config),
        "sentence_transformers": their_side(config, torch.float32),
        "sentence_transformers_bfloat16": their_side(config, torch.bfloat16),
    }
    for name, encode in sides.items():
        encode(texts[:WARM_UP])
        logger.info("ready: %s", name)
    spent, vectors = timed_in_turn(sides, texts, config.repeats)
    check_same(vectors)
    rate = {name: len(texts) / statistics.median(seconds) for name, seconds in spent.items()}
    return {
        "documents_per_s": round(rate["ours"], 1),
        "ratio_vs_default": round(rate["ours"] / rate["sentence_transformers"], 2),
        "ratio_vs_bf16": round(rate["ours"] / rate["sentence_transformers_bfloat16"], 2),
        "baselines": {name: round(value, 1) for name, value in rate.items() if name != "ours"},
        "documents": len(texts),
        "threads": torch.get_num_threads(),
    }


def documents(config: BenchEncoderConfig) -> list[str]:
    """The same ones for every run."""
    collection = Collection.open(absolute(config.collection))
    rows = np.random.default_rng(0).permutation(collection.documents.num_rows)
    return collection.document_texts(rows[: config.documents or None])


def our_side(config: BenchEncoderConfig) -> Encode:
    encoder = TextEncoder.load(find_encoder(config.model), precision=config.precision)
    encoder.model.to(config.device)
    return encoder.encode_documents


def their_side(config: BenchEncoderConfig, dtype: torch.dtype) -> Encode:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EncoderError(
            'sentence-transformers is not installed: pip install "winnow[dev]"'
        ) from error
    folder = str(Path(find_encoder(config.model)))
    model = SentenceTransformer(folder, device=config.device, model_kwargs={"dtype": dtype})
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False))


def timed_in_turn(
    sides: dict[str, Encode], texts: Sequence[str], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Floats]]:
    """Seconds of each repeat and the last vectors; what else runs here slows every side."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    vectors: dict[str, Floats] = {}
    for repeat in range(repeats):
        for name, encode in sides.items():
            started = time.perf_counter()
            vectors[name] = encode(texts)
            spent[name].append(time.perf_counter() - started)
            rate = len(texts) / spent[name][-1]
            logger.info("repeat=%d side=%s documents_per_s=%.1f", repeat, name, rate)
    return spent, vectors


def check_same(vectors: dict[str, Floats]) -> None:
    """Refuse to compare sides that do not do the same."""
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in vectors.items()}
    for name, other in unit.items():
        cosine = float((unit["ours"] * other).sum(axis=1).mean())
        if cosine < SAME:
            raise EncoderError(
                f"our vectors are not those of {name}: their mean cosine is {cosine:.3f}"
            )


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv, default="scifact")


if __name__ == "__main__":
    main()
