"""Send each row through the branch of its own scenario, and through no other.

The rows of a batch are sorted by scenario once, unless they already are. Every branch then works on
one contiguous slice: S branches cost as much as one, and the batch statistics of a branch come from
its own rows. The alternative, every branch on all rows, exists for comparison with reference code.

Suffixes: B rows, S scenarios, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScenarioRoute:
    """The branch of every row of one batch."""

    order_B: Tensor | None
    """Row numbers sorted by scenario, stably; None if the rows already are."""
    counts: list[int]
    """Number of rows of scenario 0, 1, ..."""
    masked_B: Tensor | None = None
    """Scenario of each row where every branch runs on all rows, else None."""

    @classmethod
    def of(cls, scenario_B: Tensor, num_scenarios: int, *, masked: bool = False) -> "ScenarioRoute":
        """Sort a batch, with one or two synchronisations of a GPU.

        `masked` runs every branch on all rows and keeps each row's result of its own scenario. That
        is S times the work, and takes batch statistics over all rows.

        Example:
            >>> route = ScenarioRoute.of(torch.tensor([1, 0, 1]), 2)
            >>> route.counts
            [1, 2]
            >>> route.apply(lambda s, x_BD: x_BD * 10**s, torch.tensor([[1], [2], [3]])).tolist()
            [[10], [2], [30]]
        """
        if masked:
            return cls(None, [len(scenario_B)] * num_scenarios, scenario_B)
        counts: list[int] = torch.bincount(scenario_B, minlength=num_scenarios).tolist()
        # one scenario, as in most requests, or sorted, as training batches are
        if max(counts) == len(scenario_B) or bool((scenario_B.diff() >= 0).all()):
            return cls(None, counts)
        return cls(torch.argsort(scenario_B, stable=True), counts)

    def apply(self, branch: Callable[[int, Tensor], Tensor], x_BD: Tensor) -> Tensor:
        """Call `branch(s, rows of scenario s)` for every s; returns results in batch order."""
        return self.restore(self.run(branch, self.sort(x_BD)))

    def sort(self, x_BD: Tensor) -> Tensor:
        """Sort rows as `run` expects them.

        A model with several routed layers sorts its input once and restores its output once.
        """
        return x_BD if self.order_B is None else x_BD.index_select(0, self.order_B)

    def run(self, branch: Callable[..., Tensor], *sorted_BD: Tensor) -> Tensor:
        """Call `branch(s, rows of scenario s of each sorted tensor)` for every s.

        While gradients are recorded, a scenario without rows runs on empty tensors. Its parameters
        then get zero gradients and take part in a distributed step, as every rank expects.

        Example:
            >>> route = ScenarioRoute.of(torch.tensor([1, 0, 1]), 2)
            >>> x, y = route.sort(torch.tensor([1, 2, 3])), torch.tensor([20, 10, 30])
            >>> route.restore(route.run(lambda s, x_B, y_B: 100 * s + x_B + y_B, x, y)).tolist()
            [111, 22, 133]
        """
        count = len(sorted_BD[0])
        if self.masked_B is not None:
            every_SBD = torch.stack([branch(s, *sorted_BD) for s in range(len(self.counts))])
            return every_SBD[self.masked_B, torch.arange(count, device=every_SBD.device)]
        run_all = torch.is_grad_enabled() or not count  # without rows, a branch gives the shape
        slices = zip(*(torch.split(x_BD, self.counts) for x_BD in sorted_BD), strict=True)
        parts = [
            branch(scenario, *rows)
            for scenario, rows in enumerate(slices)
            if run_all or self.counts[scenario]
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def restore(self, x_BD: Tensor) -> Tensor:
        """Put sorted rows back into the order of the batch."""
        if self.order_B is None:
            return x_BD
        return torch.empty_like(x_BD).index_copy(0, self.order_B, x_BD)
