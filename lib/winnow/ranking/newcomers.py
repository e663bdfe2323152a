"""Training rows in which some users and items look new, so that unknown ids are trained.

Encoders see every id of the training rows, so id 0, the unknown one, occurs in none of them. Its
vectors stay 0, as they begin, and every new user gets them. Here a small share of the rows shows
its user or its item as serving shows a new one: half of these without the id alone, half without
any field of the user or item.

Suffixes: B rows of a batch on this rank, G rows of the global batch.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from winnow.data.batches import Batch, HistoryBatch
from winnow.data.schema import DatasetSchema, Role
from winnow.ranking.data import TrainRows

ROLES: tuple[Role, ...] = ("user", "item")


class WithNewcomers:
    """The given rows; of each batch, `share` have a new user and as many a new item.

    Which ones depends on the seed, the epoch and the batch, not on the number of ranks.
    """

    def __init__(self, rows: TrainRows, schema: DatasetSchema, share: float, seed: int) -> None:
        self.num_rows, self.rank, self.world_size = rows.num_rows, rows.rank, rows.world_size
        self._rows, self._share, self._seed = rows, share, seed
        sparse, dense = schema.select("sparse"), schema.select("dense")
        self._sparse = {role: _positions(sparse, schema.select("sparse", [role])) for role in ROLES}
        self._dense = {role: _positions(dense, schema.select("dense", [role])) for role in ROLES}

    def __len__(self) -> int:
        return len(self._rows)

    def shuffled(self, epoch: int) -> Iterator[Batch]:
        """Yield all rows once, in their order."""
        for number, batch in enumerate(self._rows.shuffled(epoch)):
            draw = np.random.default_rng([self._seed, epoch, number]).random((2, batch.global_rows))
            for role, draw_G in zip(ROLES, torch.from_numpy(draw), strict=True):
                draw_B = draw_G[self.rank :: self.world_size][: len(batch.label_B)]
                batch = self._with_new(role, batch, draw_B.to(batch.label_B.device))
            yield batch

    def _with_new(self, role: Role, batch: Batch, draw_B: Tensor) -> Batch:
        """The batch with the rows of small draws shown as those of new users or items."""
        columns = self._sparse[role]
        if not columns:
            return batch
        new_B, bare_B = draw_B < self._share, draw_B < self._share / 2
        sparse_BF = batch.sparse_BF.clone()
        sparse_BF[:, columns[0]] *= ~new_B
        sparse_BF[:, columns[1:]] *= ~bare_B.unsqueeze(1)
        dense_BE = batch.dense_BE.clone()
        dense_BE[:, self._dense[role]] *= ~bare_B.unsqueeze(1)
        history = batch.history
        if role == "user" and history is not None:
            history = HistoryBatch(
                history.sparse_BTF * ~bare_B.reshape(-1, 1, 1),
                history.scenario_BT.masked_fill(bare_B.unsqueeze(1), -1),
            )
        return replace(batch, sparse_BF=sparse_BF, dense_BE=dense_BE, history=history)


def _positions(names: list[str], wanted: list[str]) -> list[int]:
    return [at for at, name in enumerate(names) if name in wanted]
