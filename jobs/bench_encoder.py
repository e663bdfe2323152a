"""Documents encoded per second, beside sentence-transformers on the same documents in the same run.

    python -m jobs.bench_encoder --config scifact
    python -m jobs.bench_encoder --config cuda

Two baselines: `SentenceTransformer.encode` as it comes (float32, batches of 32), and with its
weights in bfloat16. Ours is measured at `precision`, int8 unless told otherwise, and under "auto"
at what `jobs.encode_corpus` and `jobs.evaluate_retriever` use unless told otherwise: bfloat16 where
that is fast, which moves the vectors less. Each side gets the texts and gives an array, so
tokenising is part of the time. The sides take turns, and medians are compared; how far each side's
vectors are from the first baseline's is printed, and checked.

On a GPU our side is also split into tokenising and the rest, whose matrix products are counted and
compared with the fastest that the GPU makes.
"""

import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs._bench.device_limits import ceilings, flop_of
from jobs._command import job_command
from winnow.data.collection import Collection
from winnow.errors import EncoderError
from winnow.precision import InferencePrecision
from winnow.retrieval.text_encoder.encoder import BATCH_TOKENS, TextEncoder, find_encoder
from winnow.retrieval.text_encoder.token_lists import TokenLists, token_batches
from winnow_ray.cluster.paths import absolute

logger = logging.getLogger("winnow.bench_encoder")

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]

WARM_UP = 64
"""Documents that each side encodes before it is timed."""
SAME = 0.99
"""Least mean cosine between a side's vectors and the default's; int8 costs less than this."""
OURS, OURS_AUTO = "ours", "ours_auto"
DEFAULT, BFLOAT16 = "sentence_transformers", "sentence_transformers_bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchEncoderConfig:
    collection: str = "runs/scifact/collection"
    """The collection artifact whose documents are encoded."""
    model: str = "all-MiniLM-L6-v2"
    """A folder, a packaged model or a Hugging Face id."""
    documents: int = 1000
    """Of the collection, drawn at random; 0: all."""
    repeats: int = 3
    precision: InferencePrecision = "int8"
    """Of our side; what int8 costs in quality is for `jobs.evaluate_retriever` to say."""
    threads: int = 0
    """Of every side; 0: all cores."""
    device: str = "cpu"
    """Of every side: cpu or cuda."""

    def __post_init__(self) -> None:
        if self.documents < 0 or self.repeats < 1:
            raise ValueError("BenchEncoderConfig.documents and repeats must be positive")


def tiny() -> BenchEncoderConfig:
    """A second; needs `collection=` and `model=`, and the figures mean nothing."""
    return BenchEncoderConfig(documents=20, repeats=1, precision="auto")


PRESETS = {
    "tiny": tiny,
    "scifact": BenchEncoderConfig,
    "cuda": lambda: BenchEncoderConfig(device="cuda", precision="bfloat16", documents=0),
}


def run(config: BenchEncoderConfig) -> dict[str, Any]:
    """Documents/s of every side, and ours as a multiple of each baseline's."""
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    texts = documents(config)
    sides = {
        OURS: our_side(config, config.precision),
        OURS_AUTO: our_side(config, "auto"),
        DEFAULT: their_side(config, torch.float32),
        BFLOAT16: their_side(config, torch.bfloat16),
    }
    for name, encode in sides.items():
        encode(texts[:WARM_UP])
        logger.info("ready: %s", name)
    spent, vectors = timed_in_turn(sides, texts, config.repeats)
    cosines = checked_cosines(vectors)
    rate = {name: len(texts) / statistics.median(seconds) for name, seconds in spent.items()}
    on_gpu = {"gpu": gpu_share(config, texts)} if config.device == "cuda" else {}
    return on_gpu | {
        **ratios(rate, OURS),
        "precision": config.precision,
        "auto": ratios(rate, OURS_AUTO),
        "others": {name: round(rate[name], 1) for name in (DEFAULT, BFLOAT16)},
        "cosine_to_default": {name: round(value, 5) for name, value in cosines.items()},
        "documents": len(texts),
        "threads": torch.get_num_threads(),
    }


def gpu_share(config: BenchEncoderConfig, texts: Sequence[str]) -> dict[str, Any]:
    """Seconds of our two parts, and what the second is of the GPU's fastest products."""
    encoder = our_encoder(config, config.precision)
    encoder.encode_documents(texts)
    started = time.perf_counter()
    tokens = encoder.tokens(texts, "document")
    tokenised = time.perf_counter()
    encoder.encode_tokens(tokens)
    seconds = time.perf_counter() - tokenised
    possible = ceilings(config.device)
    tflops = flop(encoder, tokens) / seconds / 1e12
    return possible | {
        "tokenising_s": round(tokenised - started, 3),
        "encoding_s": round(seconds, 3),
        "tokens": int(tokens.length_N.sum()),
        "encoding_tflops": round(tflops, 1),
        "share_of_bfloat16": round(tflops / possible["tflops"]["bfloat16"], 3),
    }


@torch.inference_mode()
def flop(encoder: TextEncoder, tokens: TokenLists) -> int:
    """Operations of `encode_tokens`, counted in this thread; paddings count too."""
    device = next(encoder.model.parameters()).device
    total = 0
    for rows_B in token_batches(tokens.length_N, BATCH_TOKENS[device.type]):
        ids_BL, real_BL = tokens.padded(rows_B, encoder.padding)
        total += flop_of(partial(encoder, ids_BL.to(device), real_BL.to(device)))
    return total


def ratios(rate: Mapping[str, float], ours: str) -> dict[str, float]:
    """What a side of ours is beside the two baselines."""
    return {
        "documents_per_s": round(rate[ours], 1),
        "ratio_vs_default": round(rate[ours] / rate[DEFAULT], 2),
        "ratio_vs_bf16": round(rate[ours] / rate[BFLOAT16], 2),
    }


def documents(config: BenchEncoderConfig) -> list[str]:
    """The same ones for every run."""
    collection = Collection.open(absolute(config.collection))
    rows = np.random.default_rng(0).permutation(collection.documents.num_rows)
    return collection.document_texts(rows[: config.documents or None])


def our_side(config: BenchEncoderConfig, precision: InferencePrecision) -> Encode:
    return our_encoder(config, precision).encode_documents


def our_encoder(config: BenchEncoderConfig, precision: InferencePrecision) -> TextEncoder:
    folder = find_encoder(config.model)
    return TextEncoder.for_inference(folder, precision=precision, device=config.device)


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


def checked_cosines(vectors: dict[str, Floats]) -> dict[str, float]:
    """Mean cosine of each side with the default; refuses a side that does another thing."""
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in vectors.items()}
    cosines = {name: float((v * unit[DEFAULT]).sum(axis=1).mean()) for name, v in unit.items()}
    for name, cosine in cosines.items():
        if cosine < SAME:
            raise EncoderError(
                f"the vectors of {name} are not those of {DEFAULT}: their mean cosine is "
                f"{cosine:.3f}"
            )
    return cosines


main = job_command(run, PRESETS, __doc__, default="scifact")


if __name__ == "__main__":
    main()
