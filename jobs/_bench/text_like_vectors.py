"""Any number of vectors that resemble encoded texts, drawn from a mixture fitted on real ones.

Suffixes: N source vectors, M drawn vectors, C clusters, R directions of a cluster, D width.

Search through random noise says nothing about search through texts. In 384 dimensions the nearest
noise vectors are hardly nearer than any other, and there are no clusters for an index to use. The
mixture keeps what makes search hard or easy: number and sizes of the clusters, the directions along
which each spreads, and the correlation of the rest. A drawn vector is

    centre of a cluster + spread along the cluster's R main directions + correlated rest,

scaled to length 1. `likeness` measures the resemblance. Left out: the fine structure inside a
cluster, such as passages of one text that repeat each other. Its effect was measured on 17,678
passages and claims of SciFact and as many drawn vectors. For a recall@100 of .95 an IVF index reads
69 of 427 lists of the texts, and 40 to 47 of the drawn vectors (64, 256, 1024 clusters). A graph
needs 58 candidates for the texts, and 61 to 65 for the drawn vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.exact_search import exact_search

DIRECTIONS = 16
"""Main directions kept per cluster, fewer if it is small; the rest is one covariance for all."""
CLUSTER_COUNTS = (16, 64, 128, 256, 512, 1024, 2048)
"""Numbers of clusters to try."""
SMALLEST = 16
"""Least mean size of a cluster for a number to be tried: directions of fewer would be chance."""
CHUNK = 65_536
"""Vectors drawn at a time: 100 MB at width 384."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """Properties of a set of unit vectors that decide how hard it is to search."""

    nearest: tuple[float, float, float]
    """Inner product with the nearest other vector: 10th, 50th and 90th percentile."""
    tenth: float
    """Median inner product with the tenth nearest."""
    hundredth: float
    """Median inner product with the hundredth nearest."""
    effective_dim: float
    """Squared sum of the variances along the principal axes, over the sum of their squares."""


def likeness(vectors_ND: Floats, *, sample: int = 1000) -> Likeness:
    """Measured on at most `sample` of the vectors, each compared with all."""
    rows = np.linspace(0, len(vectors_ND) - 1, min(sample, len(vectors_ND))).astype(np.int64)
    scores, _ = exact_search(vectors_ND[rows], vectors_ND, 101)
    near = scores[:, 1:]  # the first is the vector itself
    variances = np.linalg.eigvalsh(np.cov(vectors_ND[rows].astype(np.float64), rowvar=False))
    low, median, high = np.quantile(near[:, 0].astype(float), [0.1, 0.5, 0.9]).round(3).tolist()
    return Likeness(
        nearest=(low, median, high),
        tenth=round(float(np.median(near[:, min(9, near.shape[1] - 1)])), 3),
        hundredth=round(float(np.median(near[:, -1])), 3),
        effective_dim=round(float(variances.sum() ** 2 / (variances**2).sum()), 1),
    )


@dataclass(frozen=True, slots=True)
class TextLike:
    """The fitted mixture.

    Example:
        >>> source = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
        >>> source /= np.linalg.norm(source, axis=1, keepdims=True)
        >>> TextLike.fit(source, clusters=16).draw(5, seed=1).shape
        (5, 8)
    """

    share_C: NDArray[np.float64]
    """Share of the source vectors in each cluster."""
    centre_CD: Floats
    """Centre of each cluster."""
    spread_CRD: Floats
    """Main directions of each cluster, as long as the standard deviation along them."""
    rest_scale_C: Floats
    """Length of the rest, which the directions leave out, relative to that of all clusters."""
    rest_DD: Floats
    """Matrix that turns independent normal numbers into such a rest."""

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return len(self.share_C)

    @classmethod
    def fit(cls, vectors_ND: Floats, *, clusters: int = 0, seed: int = 0) -> "TextLike":
        """Fit a mixture on unit vectors, at least a thousand for a meaningful one.

        Args:
            clusters: number of clusters; 0 takes the one of `CLUSTER_COUNTS` whose drawn vectors
                have neighbours as near as the source has.
        """
        if vectors_ND.ndim != 2 or len(vectors_ND) < 2 * SMALLEST:
            raise ValueError(
                f"a mixture needs {2 * SMALLEST} source vectors at least, got {vectors_ND.shape}"
            )
        if not 0 <= clusters <= len(vectors_ND):
            raise ValueError(
                f"clusters must be 0 to {len(vectors_ND)}, the vectors, got {clusters}"
            )
        vectors_ND = np.ascontiguousarray(vectors_ND, np.float32)
        if clusters:
            return _fitted(vectors_ND, clusters, seed)
        wanted = likeness(vectors_ND)

        def distance(mixture: TextLike) -> float:
            drawn = likeness(mixture.draw(len(vectors_ND), seed=seed + 1))
            differences = (
                drawn.nearest[1] - wanted.nearest[1],
                drawn.tenth - wanted.tenth,
                drawn.hundredth - wanted.hundredth,
            )
            return sum(map(abs, differences))

        counts = [c for c in CLUSTER_COUNTS if c * SMALLEST <= len(vectors_ND)] or [2]
        return min((_fitted(vectors_ND, count, seed) for count in counts), key=distance)

    def draw(self, count: int, *, seed: int) -> Floats:
        """Draw `count` independent unit vectors, [M, D], in random order."""
        drawn_MD = np.empty((count, self.centre_CD.shape[1]), np.float32)
        start = 0
        for part in self.draw_parts(count, seed=seed):
            drawn_MD[start : start + len(part)] = part
            start += len(part)
        return drawn_MD

    def draw_parts(self, count: int, *, seed: int) -> Iterator[Floats]:
        """Draw the vectors of `draw` in chunks, for more than memory holds."""
        random = np.random.default_rng(seed)
        for start in range(0, count, CHUNK):
            yield self._part(min(CHUNK, count - start), random)

    def _part(self, count: int, random: np.random.Generator) -> Floats:
        _, directions, dim = self.spread_CRD.shape
        cluster_M = np.sort(random.choice(self.clusters, count, p=self.share_C))
        part_MD = random.standard_normal((count, dim), np.float32) @ self.rest_DD
        part_MD *= self.rest_scale_C[cluster_M, None]
        along_MR = random.standard_normal((count, directions), np.float32)
        found, starts = np.unique(cluster_M, return_index=True)
        for cluster, start, end in zip(found, starts, [*starts[1:], count], strict=True):
            rows = slice(start, end)
            part_MD[rows] += self.centre_CD[cluster] + along_MR[rows] @ self.spread_CRD[cluster]
        part_MD /= np.linalg.norm(part_MD, axis=1, keepdims=True)
        return part_MD[random.permutation(count)]


def _fitted(vectors_ND: Floats, clusters: int, seed: int) -> TextLike:
    """Clusters by k-means, directions by principal components, the rest by its covariance."""
    dim = vectors_ND.shape[1]
    kmeans = faiss.Kmeans(
        dim, clusters, niter=10, seed=seed, spherical=True, min_points_per_centroid=1
    )
    kmeans.train(vectors_ND)
    centroids_CD = np.asarray(kmeans.centroids, np.float32)
    nearest_N = exact_search(vectors_ND, centroids_CD, 1)[1][:, 0]
    found = np.unique(nearest_N)  # k-means may leave a cluster empty
    directions = min(DIRECTIONS, dim - 1)
    centre_CD = np.empty((len(found), dim), np.float32)
    spread_CRD = np.zeros((len(found), directions, dim), np.float32)
    rest_ND = np.empty_like(vectors_ND)
    for at, cluster in enumerate(found):
        members = nearest_N == cluster
        centre_CD[at] = vectors_ND[members].mean(axis=0)
        around = vectors_ND[members] - centre_CD[at]
        # a quarter of the members bounds the directions: more would retrace the very members
        kept = min(directions, len(around) // 4)
        _, length, axis = np.linalg.svd(around, full_matrices=False)
        spread_CRD[at, :kept] = axis[:kept] * (length[:kept, None] / np.sqrt(len(around)))
        rest_ND[members] = around - around @ axis[:kept].T @ axis[:kept]
    size_C = np.array([np.count_nonzero(nearest_N == cluster) for cluster in found])
    variance_N = (rest_ND**2).sum(axis=1)
    own_C = np.array([variance_N[nearest_N == cluster].mean() for cluster in found])
    covariance = np.cov(rest_ND.astype(np.float64), rowvar=False, bias=True)
    value, axis = np.linalg.eigh(covariance)
    return TextLike(
        share_C=size_C / size_C.sum(),
        centre_CD=centre_CD,
        spread_CRD=spread_CRD,
        rest_scale_C=np.sqrt(own_C / max(variance_N.mean(), 1e-12)).astype(np.float32),
        rest_DD=(np.sqrt(np.maximum(value, 0))[:, None] * axis.T).astype(np.float32),
    )
