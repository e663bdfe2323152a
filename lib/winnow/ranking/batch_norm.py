"""Batch normalisation for batches that are split by scenario and over ranks.

Suffixes: B rows on this rank, D features.
"""

from torch import Tensor, distributed, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that accepts 0 or 1 rows and takes its statistics over all ranks.

    A scenario may have any number of rows in a batch. One row has no variance, so the running
    statistics normalise it. In distributed training the statistics come from the rows of all ranks,
    so that a run means the same for any world size; every rank must then call the same norms in the
    same order.
    """

    def forward(
        self, x_BD: Tensor, weight_D: Tensor | None = None, bias_D: Tensor | None = None
    ) -> Tensor:
        """Normalise, then scale and shift by the given vectors, or else by this layer's own."""
        weight_D = self.weight if weight_D is None else weight_D
        bias_D = self.bias if bias_D is None else bias_D
        if self.training and _world_size() > 1:
            # that module imports torch's compiler, which a replica would wait a second for
            from winnow.ranking.norm_over_ranks import normalised_over_ranks

            normal_BD: Tensor = normalised_over_ranks(self, x_BD)
            scaled_BD = normal_BD if weight_D is None else normal_BD * weight_D
            return (scaled_BD if bias_D is None else scaled_BD + bias_D).to(x_BD.dtype)
        # a plain `and` gives torch.compile a symbol, which batch_norm does not accept
        by_batch = True if self.training and len(x_BD) > 1 else False  # noqa: SIM210
        return functional.batch_norm(
            x_BD,
            self.running_mean,
            self.running_var,
            weight_D,
            bias_D,
            training=by_batch,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )


def _world_size() -> int:
    alone = not (distributed.is_available() and distributed.is_initialized())
    return 1 if alone else distributed.get_world_size()
