"""The FAISS indexes behind `ItemIndex`: how each is trained, filled in parts, merged and searched.

Suffixes: I vectors, Q queries, K results, C candidates, D vector width.

| kind | results | memory per vector, besides the vectors | built |
|---|---|---|---|
| flat | exact | 4 D bytes | at once |
| ivf_flat | from the lists nearest to the query | 4 D + 8 bytes | in parts |
| ivf_pq | the same, by codes; then by the vectors | D / 4 + 8 bytes | in parts |
| hnsw | from a walk on a graph | 4 D + about 270 bytes | at once, slowly |

ivf_pq codes two dimensions in four bits (product quantization; Jegou et al., TPAMI 2011), which
FAISS compares sixteen at a time in registers (Andre et al., ICMR 2017): 96 bytes at a width of
384. The codes only nominate: for each result, `refine` candidates are compared again by their full
vectors, which stay on disk, memory-mapped. Without that step no code this short reaches a recall of
.95. Left out: OPQ rotation, scalar quantization, RaBitQ.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Floats, Rows
from winnow.retrieval.index.exact import best_first, inner_products

IndexKind = Literal["flat", "ivf_flat", "ivf_pq", "hnsw"]
KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

LISTS = 4
"""Lists per square root of I: half of a search then goes to choosing lists, half to reading."""
POINTS_PER_LIST = 39
"""Least training vectors per list; with fewer, k-means finds noise (FAISS warns there)."""
SAMPLED_PER_LIST = 50
"""Training vectors per list: more cost time and gain nothing measurable."""
CODED_TOGETHER = 2
"""Dimensions per code; an odd width is coded one by one."""
CODE_BITS = 4
"""Bits of a code, the width that FAISS's register lookup is made for."""

LINKS = 32
"""Neighbours of a graph node, FAISS's default: more take memory, fewer lose recall."""
BUILD_WIDTH = 200
"""Candidates examined to place a graph node, five times FAISS's default: built once, read often."""
WIDEST_WALK = 4096
"""Most candidates of a walk; more would cost more than comparing with all vectors."""

TUNED_K = 100
"""Results for which an effort is tuned; a search for more widens the walk on a graph."""
CHUNK = 65_536
"""Vectors added at a time, so that a memory-mapped array is never in memory as a whole."""
QUERY_CHUNK = 4096
"""Queries refined at a time; bounds the table of candidates."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much an approximate search examines; a flat index ignores it."""

    width: int
    """Lists read (ivf_flat, ivf_pq: `nprobe`) or candidates kept on the walk (hnsw: `efSearch`)."""
    refine: int = 1
    """Candidates for each result that ivf_pq compares by their full vectors."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.refine < 1:
            raise ValueError(f"Effort must be 1 or more in width and refine, got {self}")

    def named(self, kind: IndexKind) -> str:
        """The effort in FAISS's terms, for logs and reports."""
        return {
            "flat": "none",
            "ivf_flat": f"nprobe={self.width}",
            "ivf_pq": f"nprobe={self.width} refine={self.refine}",
            "hnsw": f"efSearch={self.width}",
        }[kind]


def lists_for(items: int) -> int:
    """Number of lists: about `4 * sqrt(items)`, limited by `POINTS_PER_LIST`."""
    return max(1, min(round(LISTS * math.sqrt(items)), items // POINTS_PER_LIST))


def coded_parts(dim: int) -> int:
    """Number of codes of an ivf_pq vector, half a byte each."""
    return dim // CODED_TOGETHER if dim % CODED_TOGETHER == 0 else dim


def default_effort(kind: IndexKind, items: int) -> Effort:
    """Effort without tuning: a sixteenth of the lists, or twice the results on a graph."""
    if kind == "hnsw":
        return Effort(2 * TUNED_K)
    return Effort(max(1, lists_for(items) // 16), 8 if kind == "ivf_pq" else 1)


def widest(index: Any, kind: IndexKind) -> int:
    """The width beyond which a search gains nothing."""
    if kind == "flat":
        return 1
    return min(int(index.ntotal), WIDEST_WALK) if kind == "hnsw" else int(index.nlist)


def train_empty(vectors_ID: Floats, kind: IndexKind, *, seed: int = 0) -> Any:
    """A trained index without vectors.

    Lists and codes are trained on a random sample of at most `SAMPLED_PER_LIST` vectors per list.
    Kinds without lists need no training.
    """
    items, dim = vectors_ID.shape
    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_WIDTH
        return graph
    lists = lists_for(items)
    quantizer: Any = faiss.IndexFlatIP(dim)
    if kind == "ivf_flat":
        index: Any = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
    else:
        codes = coded_parts(dim)
        index = faiss.IndexIVFPQ(
            quantizer, dim, lists, codes, CODE_BITS, faiss.METRIC_INNER_PRODUCT
        )
        index.pq.cp.min_points_per_centroid = 1
    quantizer.this.disown()  # the index frees it, also once merged or packed
    index.own_fields = True
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1  # `lists_for` ensures enough, except for a few vectors
    index.train(_sample(vectors_ID, lists, seed))
    return index


def _sample(vectors_ID: Floats, lists: int, seed: int) -> Floats:
    items = len(vectors_ID)
    codes = 2**CODE_BITS  # k-means needs a vector for each, so a few vectors are repeated
    if items < codes:
        return np.ascontiguousarray(vectors_ID[np.resize(np.arange(items), codes)])
    size = min(items, max(lists * SAMPLED_PER_LIST, codes * POINTS_PER_LIST))
    rows = np.sort(np.random.default_rng(seed).choice(items, size, replace=False))
    return np.ascontiguousarray(vectors_ID[rows])


def build_shard(trained: Any, vectors_ID: Floats, start: int = 0) -> Any:
    """Add the vectors of positions `start`, `start + 1`, ... to a trained, empty index.

    Only indexes with lists can be merged; others must be built as one part.
    """
    for at in range(0, len(vectors_ID), CHUNK):
        chunk_ID = np.ascontiguousarray(vectors_ID[at : at + CHUNK], np.float32)
        if isinstance(trained, faiss.IndexIVF):
            first = start + at
            trained.add_with_ids(chunk_ID, np.arange(first, first + len(chunk_ID)))
        else:
            trained.add(chunk_ID)
    return trained


def merge(shards: Iterable[Any]) -> Any:
    """Merge shards of one training, in order of `start`; the shards must not be used afterwards."""
    following = iter(shards)
    whole = next(following)
    for shard in following:
        whole.merge_from(shard, 0)
    if not isinstance(whole, faiss.IndexIVFPQ):
        return whole
    packed = faiss.IndexIVFPQFastScan(whole)  # the layout that registers compare
    whole.own_fields, packed.own_fields = False, True
    return packed


def to_bytes(index: Any) -> NDArray[np.uint8]:
    """The index as bytes, for sending to another process."""
    array: NDArray[np.uint8] = faiss.serialize_index(index)
    return array


def from_bytes(array: NDArray[np.uint8]) -> Any:
    """The FAISS index of bytes that `to_bytes` made."""
    return faiss.deserialize_index(array)


def nearest(
    index: Any,
    kind: IndexKind,
    vectors_ID: Floats,
    queries_QD: Floats,
    k: int,
    effort: Effort,
    allowed_I: NDArray[np.bool_] | None = None,
) -> tuple[Floats, Rows]:
    """Scores and positions [Q, K], best first, padded with position -1.

    Scores are inner products of the full vectors, in every kind.
    """
    chosen = {} if allowed_I is None else {"sel": _selector(allowed_I)}
    if kind == "flat":
        params = faiss.SearchParameters(**chosen)
    elif kind == "hnsw":
        # a walk that keeps fewer candidates than results cannot return k
        width = math.ceil(effort.width * max(1, k / TUNED_K))
        params = faiss.SearchParametersHNSW(efSearch=width, **chosen)  # type: ignore[attr-defined]
    else:
        width = min(effort.width, index.nlist)
        params = faiss.SearchParametersIVF(nprobe=width, **chosen)  # type: ignore[call-arg]
    if kind != "ivf_pq":
        scores_QK, at_QK = index.search(queries_QD, k, params=params)
        return scores_QK, at_QK
    parts = []
    for start in range(0, len(queries_QD), QUERY_CHUNK):
        part_QD = queries_QD[start : start + QUERY_CHUNK]
        _, at_QC = index.search(part_QD, min(k * effort.refine, index.ntotal), params=params)
        parts.append(best_first(inner_products(part_QD, vectors_ID, at_QC), at_QC, k))
    scores, positions = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(positions)


def _selector(allowed_I: NDArray[np.bool_]) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(allowed_I, bitorder="little"))  # type: ignore[arg-type,call-arg]
