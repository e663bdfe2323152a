"""Searches per second at a recall, beside exact search in the same run, on text-like vectors.

    python -m jobs.encode_corpus --config scifact
    python -m jobs.bench_index

`vectors` are encoded texts, float32 [N, D], of length 1. A mixture with their clusters and
covariance is fitted on them, and documents and queries are drawn from it independently. The log
says how alike drawn and encoded vectors are. The baseline is FAISS's `IndexFlatIP` with the same
threads, all queries in one call. Recall is that of queries that tuned nothing.

Suffixes: N encoded texts, I documents, Q queries, D vector width.
"""

import logging
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from jobs._bench.text_like_vectors import TextLike, likeness
from jobs._bench.turns import rates, seconds_of
from jobs._command import job_command
from winnow.artifact import open_artifact
from winnow.errors import DataError
from winnow.retrieval.index import TUNED_K, ItemIndex, choose_kind, shares_found, tune
from winnow_ray.indexing.corpus_vectors import read_vectors

logger = logging.getLogger("winnow.bench_index")

Floats = NDArray[np.float32]
Search = Callable[[Floats], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchIndexConfig:
    """The vectors, sizes and recall of the indexes."""

    vectors: str = "runs/scifact/vectors"
    """Encoded texts to resemble: an artifact of `jobs.encode_corpus` or an .npy file; empty: noise
    in clusters, on which the figures mean nothing."""
    sizes: tuple[int, ...] = (200_000, 1_000_000)
    """Documents of each index."""
    index: Literal["auto", "flat", "ivf_flat", "ivf_pq", "hnsw"] = "auto"
    """Kind of index; `auto` takes what `jobs.build_index` would."""
    recall: float = 0.95
    """Share of the exact best 100 that a search must find; the least effort that does is timed."""
    queries: int = 1000
    """Queries timed; as many others are used for tuning."""
    repeats: int = 3
    """Timings of each side, in turn; medians are reported."""
    clusters: int = 0
    """Clusters of the mixture; 0: the number nearest to the encoded texts. Fewer make search
    harder."""
    threads: int = 0
    """Threads of both sides; 0: all cores."""


def tiny() -> BenchIndexConfig:
    """A second, for tests; the figures mean nothing."""
    return BenchIndexConfig(vectors="", sizes=(3000,), index="ivf_pq", queries=100, repeats=1)


def text() -> BenchIndexConfig:
    """Up to a million vectors that resemble the encoded abstracts of SciFact."""
    return BenchIndexConfig()


PRESETS = {"tiny": tiny, "text": text}


def run(config: BenchIndexConfig) -> dict[str, Any]:
    """Figures of an index of each size."""
    faiss.omp_set_num_threads(config.threads or os.cpu_count() or 1)
    source_ND = source_vectors(config.vectors)
    mixture = TextLike.fit(source_ND, clusters=config.clusters)
    logger.info("encoded rows=%d %s", len(source_ND), likeness(source_ND))
    alike = likeness(mixture.draw(len(source_ND), seed=9))
    logger.info("drawn as many, clusters=%d %s", mixture.clusters, alike)
    return {str(size): figures(mixture, size, config) for size in config.sizes}


def source_vectors(path: str) -> Floats:
    """Encoded texts, or noise in clusters for tests."""
    if not path:
        random = np.random.default_rng(0)
        noise = random.normal(size=(1000, 32)) + 2 * np.repeat(random.normal(size=(20, 32)), 50, 0)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        return np.asarray(noise, np.float32)
    if Path(path).is_dir():
        vectors_ND: Floats = np.array(read_vectors(open_artifact(path, kind="vectors")))
    elif Path(path).is_file():
        vectors_ND = np.asarray(np.load(path))
    else:
        raise DataError(
            f"vectors={path} is missing: it must be an artifact of jobs.encode_corpus or an .npy "
            f"of encoded texts, [N, D]"
        )
    length_N = np.linalg.norm(vectors_ND, axis=-1)
    if vectors_ND.ndim != 2 or vectors_ND.dtype != np.float32 or abs(length_N - 1).max() > 0.01:
        raise DataError(f"vectors={path} must be float32 [N, D] with rows of length 1")
    return vectors_ND


def figures(mixture: TextLike, size: int, config: BenchIndexConfig) -> dict[str, Any]:
    """Build, tune and time an index of `size` drawn documents."""
    documents_ID = mixture.draw(size, seed=1)
    tuned_QD, fresh_QD = mixture.draw(config.queries, seed=2), mixture.draw(config.queries, seed=3)
    logger.info("documents=%d %s", size, likeness(documents_ID, sample=500))
    kind = choose_kind(size) if config.index == "auto" else config.index
    index, build_s = timed(ItemIndex.build, documents_ID, kind)
    tuning, tune_s = timed(tune, index, tuned_QD, recall=config.recall)
    logger.info(
        "documents=%d kind=%s build_s=%.1f tune_s=%.1f %s", size, kind, build_s, tune_s, tuning
    )
    exact = faiss.IndexFlatIP(documents_ID.shape[1])
    exact.add(documents_ID)
    sides: dict[str, Search] = {
        "exact": lambda queries_QD: exact.search(queries_QD, TUNED_K),
        "ours": lambda queries_QD: index.search(queries_QD, TUNED_K),
    }
    timed_sides = {name: partial(seconds_of, partial(s, fresh_QD)) for name, s in sides.items()}
    qps = rates(timed_sides, len(fresh_QD), config.repeats, "queries")
    found, truth = sides["ours"](fresh_QD)[1], sides["exact"](fresh_QD)[1]
    result = {
        "ratio": round(qps["ours"] / qps["exact"], 2),
        f"recall_at_{TUNED_K}": round(float(shares_found(found, truth).mean()), 4),
        "kind": kind,
        "parameter": index.effort.named(kind),
        "qps": round(qps["ours"], 1),
        "exact_qps": round(qps["exact"], 1),
        "p50_ms": p50_ms(sides["ours"], fresh_QD[:200]),
        "exact_p50_ms": p50_ms(sides["exact"], fresh_QD[:20]),
        "build_s": round(build_s, 1),
        "tune_s": round(tune_s, 1),
    }
    logger.info("documents=%d %s", size, result)
    return result


def p50_ms(search: Search, queries_QD: Floats) -> float:
    """Median time of a search for one query."""
    spent = [seconds_of(partial(search, query_D[None])) for query_D in queries_QD]
    return round(1000 * statistics.median(spent), 2)


def timed(work: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[Any, float]:
    """Result of the work, and the seconds it took."""
    results: list[Any] = []
    seconds = seconds_of(lambda: results.append(work(*arguments, **named)))
    return results[0], seconds


main = job_command(run, PRESETS, __doc__, default="text")


if __name__ == "__main__":
    main()
