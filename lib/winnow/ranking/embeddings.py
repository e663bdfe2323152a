"""Embeddings: from encoded fields to the input vector of a ranking model.

`InputConfig.std` sets the scale at which all of them are initialized.

Suffixes: B rows, F sparse fields, E dense fields, K embedding width, D = F * K + E input width,
N rows of a whole table, V rows of the embedding table.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from winnow.config import check_finite
from winnow.data.schema import DatasetSchema


@dataclass(frozen=True, kw_only=True, slots=True)
class InputConfig:
    """Size and initial scale of the embeddings."""

    dim: int = 16
    """Width K of every field's vector; 4 * K bytes per id."""

    std: float = 1e-4
    """Standard deviation of the initial vectors. The default, 1e-4, is that of the benchmark,
    Scenario-Wise Rec. The MovieLens preset sets .03: at 1e-4, models without a norm on their input
    (M3oE, AdaptDHM, SAR-Net) lost .003 to .007 AUC; at .1, STAR is clearly worse."""

    sparse: bool = False
    """Whether a step updates only the vectors of its batch, by `torch.optim.SparseAdam` and without
    weight decay. Use it for tables so large that updating every row costs more than the model. The
    published figures come from dense Adam and differ."""

    def __post_init__(self) -> None:
        check_finite(self)
        if self.dim < 1:
            raise ValueError(f"InputConfig.dim must be at least 1, got {self.dim}")
        if self.std < 0:
            raise ValueError(f"InputConfig.std must not be negative, got {self.std}")


class Inputs(nn.Module):
    """One embedding table for all sparse fields, so that a batch costs one lookup.

    `use_dense=False` leaves the dense fields out of the input vector.
    """

    offset_F: Tensor

    def __init__(
        self, schema: DatasetSchema, config: InputConfig, *, use_dense: bool = True
    ) -> None:
        super().__init__()
        sizes = schema.sizes(schema.select("sparse"))
        starts = [0, *accumulate(sizes)]
        self.table = nn.Embedding(starts[-1], config.dim, sparse=config.sparse)
        nn.init.normal_(self.table.weight, std=config.std)
        with torch.no_grad():  # the unknown id of a field, which most training rows never have
            self.table.weight[torch.tensor(starts[:-1], device=self.table.weight.device)] = 0
        ids = torch.int32 if starts[-1] <= torch.iinfo(torch.int32).max else torch.int64
        offset_F = torch.tensor(starts[:-1], dtype=ids)
        self.register_buffer("offset_F", offset_F, persistent=False)  # follows from the schema
        self.use_dense = use_dense
        self.width = len(sizes) * config.dim + use_dense * len(schema.select("dense"))

    def fields(self, sparse_BF: Tensor) -> Tensor:
        """One vector per sparse field, [B, F, K]. `check_features` checks ids; this does not."""
        id_BF = sparse_BF + self.offset_F
        if id_BF.is_cpu and torch.is_grad_enabled() and not self.table.sparse:
            fast_BFK: Tensor = _Lookup.apply(self.table.weight, id_BF)  # type: ignore[no-untyped-call]
            return fast_BFK
        field_BFK: Tensor = self.table(id_BF)
        return field_BFK

    def lookup(self, sparse: Tensor, fields: list[int]) -> Tensor:
        """Vectors [..., len(fields), K] of ids [..., len(fields)] of the numbered fields."""
        vectors: Tensor = self.table(sparse + self.offset_F[fields])
        return vectors

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor) -> Tensor:
        """[all embeddings | dense fields], shape [B, D]."""
        embedded_BD = self.fields(sparse_BF).flatten(1)
        if not (self.use_dense and dense_BE.shape[1]):
            return embedded_BD
        return torch.cat([embedded_BD, dense_BE], dim=1)


class _Lookup(torch.autograd.Function):
    """`functional.embedding` whose gradient is summed three times as fast on a CPU."""

    @staticmethod
    def forward(ctx: Any, table_VK: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = len(table_VK)
        return functional.embedding(ids, table_VK)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        gradient_NK = gradient.reshape(-1, gradient.shape[-1])
        table_VK = gradient.new_zeros(ctx.rows, gradient.shape[-1])
        # int64: index_add_ has a fast path for no other type
        return table_VK.index_add_(0, ids.flatten().long(), gradient_NK), None


def scenario_embedding(num_scenarios: int, config: InputConfig) -> nn.Embedding:
    """A table of one vector per scenario, for models that read the scenario as an input."""
    table = nn.Embedding(num_scenarios, config.dim)
    nn.init.normal_(table.weight, std=config.std)
    return table


def check_features(
    schema: DatasetSchema,
    sparse_NF: NDArray[np.integer],
    dense_NE: NDArray[np.floating],
    scenario_N: NDArray[np.integer],
) -> None:
    """Raise ValueError, naming field and row, unless a model can look up every value.

    Call it once on data from outside; the models do not check. In their one table, an id too large
    for its field is a vector of the next field.
    """
    sparse, dense = schema.select("sparse"), schema.select("dense")
    for what, names, values in (("sparse", sparse, sparse_NF), ("dense", dense, dense_NE)):
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ValueError(
                f"{what} features must have shape [rows, {len(names)}] ({', '.join(names)}), "
                f"got {values.shape}"
            )
    columns = [*sparse_NF.T, scenario_N]
    limits = [*schema.sizes(sparse), len(schema.scenarios)]
    for name, limit, ids_N in zip([*sparse, "scenario"], limits, columns, strict=True):
        wrong_N = np.flatnonzero((ids_N < 0) | (ids_N >= limit))
        if len(wrong_N):
            raise ValueError(
                f"{name} of row {wrong_N[0]} must be in [0, {limit}), got {ids_N[wrong_N[0]]}"
            )
    for name, value_N in zip(dense, dense_NE.T, strict=True):
        wrong_N = np.flatnonzero(~np.isfinite(value_N))
        if len(wrong_N):
            raise ValueError(
                f"{name} of row {wrong_N[0]} must be finite, got {value_N[wrong_N[0]]}"
            )
