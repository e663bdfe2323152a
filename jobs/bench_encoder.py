"""Documents encoded per second, beside sentence-transformers on the same documents in the same run.

    python -m jobs.bench_encoder --config scifact
    python -m jobs.bench_encoder --config cuda

Two baselines: `SentenceTransformer.encode` with its defaults (float32, batches of 32), and with
weights in bfloat16. Ours is measured at `precision`, int8 by default, and under "auto" at the
default of `jobs.encode_corpus` and `jobs.evaluate_retriever`: bfloat16 where that is fast, which
moves the vectors less. Each side takes texts and returns an array, so tokenizing is part of the
time. The sides take turns and medians are compared. The distance of each side's vectors from those
of the first baseline is printed and checked.

On a GPU our side is also split into tokenizing and encoding. The FLOP of encoding are counted and
compared with the fastest matrix products of the GPU.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs._bench.device_limits import ceilings, flop_of
from jobs._bench.turns import rates, seconds_of
from jobs._command import job_command
from winnow.data.collection import Collection
from winnow.errors import EncoderError
from winnow.precision import InferencePrecision
from winnow.retrieval.text_encoder.encoder import BATCH_TOKENS, TextEncoder
from winnow.retrieval.text_encoder.find import find_encoder
from winnow.retrieval.text_encoder.token_lists import TokenLists, token_batches
from winnow_ray.cluster.paths import absolute

logger = logging.getLogger("winnow.bench_encoder")

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]

WARM_UP = 64
"""Documents that each side encodes before it is timed, two batches of the default."""
SAME = 0.99
"""Least mean cosine between a side's vectors and those of the default; int8 stays above it."""
OURS, OURS_AUTO = "ours", "ours_auto"
DEFAULT, BFLOAT16 = "sentence_transformers", "sentence_transformers_bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchEncoderConfig:
    """The documents and the encoder of the benchmark, and what it runs on."""

    collection: str = "runs/scifact/collection"
    """Collection artifact whose documents are encoded."""
    model: str = "all-MiniLM-L6-v2"
    """Text encoder: a folder, a packaged model or a Hugging Face id."""
    documents: int = 1000
    """Documents drawn at random from the collection; 0: all."""
    repeats: int = 3
    """Timings of each side."""
    precision: InferencePrecision = "int8"
    """Number format of our side; `jobs.evaluate_retriever` measures what int8 costs in quality."""
    threads: int = 0
    """Threads of every side; 0: all cores."""
    device: str = "cpu"
    """Device of every side: cpu or cuda."""

    def __post_init__(self) -> None:
        if self.documents < 0 or self.repeats < 1:
            raise ValueError("BenchEncoderConfig.documents and repeats must be positive")


def tiny() -> BenchEncoderConfig:
    """A second, for tests; needs `collection=` and `model=`, and the figures mean nothing."""
    return BenchEncoderConfig(documents=20, repeats=1, precision="auto")


def scifact() -> BenchEncoderConfig:
    """A thousand documents of SciFact on a CPU."""
    return BenchEncoderConfig()


def cuda() -> BenchEncoderConfig:
    """All documents of SciFact on a GPU, in bfloat16."""
    return BenchEncoderConfig(device="cuda", precision="bfloat16", documents=0)


PRESETS = {"tiny": tiny, "scifact": scifact, "cuda": cuda}


def run(config: BenchEncoderConfig) -> dict[str, Any]:
    """Documents per second of every side, and ours as a multiple of each baseline."""
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
    vectors: dict[str, Floats] = {}

    def seconds(name: str) -> float:
        return seconds_of(lambda: vectors.update({name: sides[name](texts)}))

    timed = {name: partial(seconds, name) for name in sides}
    rate = rates(timed, len(texts), config.repeats, "documents")
    cosines = checked_cosines(vectors)
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
    """Seconds of tokenizing and encoding, and the FLOP rate of encoding beside the GPU's best."""
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
    """Floating-point operations of `encode_tokens`, those on padding included."""
    device = next(encoder.model.parameters()).device
    total = 0
    for rows_B in token_batches(tokens.length_N, BATCH_TOKENS[device.type]):
        ids_BL, real_BL = tokens.padded(rows_B, encoder.padding)
        total += flop_of(partial(encoder, ids_BL.to(device), real_BL.to(device)))
    return total


def ratios(rate: Mapping[str, float], ours: str) -> dict[str, float]:
    """A side of ours beside the two baselines."""
    return {
        "documents_per_s": round(rate[ours], 1),
        "ratio_vs_default": round(rate[ours] / rate[DEFAULT], 2),
        "ratio_vs_bf16": round(rate[ours] / rate[BFLOAT16], 2),
    }


def documents(config: BenchEncoderConfig) -> list[str]:
    """Texts of the drawn documents, the same for every run."""
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
    folder = str(find_encoder(config.model))
    model = SentenceTransformer(folder, device=config.device, model_kwargs={"dtype": dtype})
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False))


def checked_cosines(vectors: dict[str, Floats]) -> dict[str, float]:
    """Mean cosine of each side with the default.

    Raises:
        EncoderError: a side makes other vectors.
    """
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
