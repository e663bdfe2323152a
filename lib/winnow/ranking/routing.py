"""Send each row through the branch of its own scenario, and only through that one.

The rows of a batch are sorted by scenario once, if they do not come so; every branch then works on
one contiguous slice, so S branches cost as much as one, and a branch's batch statistics come from
its own rows only.
The other way, every branch on all rows, is there to compare with code that does that.
Suffixes: B rows, S scenarios, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScenarioRoute:
    """Where the rows of one batch go."""

    order_B: Tensor | None
    """Rows sorted by scenario, those of one scenario in their old order; None: already so."""
    counts: list[int]
    """Rows of scenario 0, 1, ..."""
    masked_B: Tensor | None = None
    """Scenario of each row, if every branch is to run on all rows."""

    @classmethod
    def of(cls, scenario_B: Tensor, num_scenarios: int, *, masked: bool = False) -> "ScenarioRoute":
        """Sort a batch; one or two device synchronisations on a GPU.

        `masked` runs every branch on all rows and keeps, of each row, its own scenario's result:
        S times the work, and batch statistics over all rows.

        Example:
            >>> route = Route.of(torch.tensor([1, 0, 1]), 2)
            >>> route.counts
            [1, 2]
            >>> route.apply(lambda s, x_BD: x_BD * 10**s, torch.tensor([[1], [2], [3]])).tolist()
            [[10], [2], [30]]
        """
        if masked:
            return cls(None, [len(scenario_B)] * num_scenarios, scenario_B)
        counts: list[int] = torch.bincount(scenario_B, minlength=num_scenarios).tolist()
        # of one scenario, as most requests are, or in order, as batches to train on are
        if max(counts) == len(scenario_B) or bool((scenario_B.diff() >= 0).all()):
            return cls(None, counts)
        return cls(torch.argsort(scenario_B, stable=True), counts)

    def apply(self, branch: Callable[[int, Tensor], Tensor], x_BD: Tensor) -> Tensor:
        """`branch(s, rows of scenario s)` for every scenario, back in the order of the batch."""
        return self.restore(self.run(branch, self.sort(x_BD)))

    def sort(self, x_BD: Tensor) -> Tensor:
        """The rows in the order that `run` takes them in.

        A model with more than one routed layer sorts its input once and restores its output.
        """
        return x_BD if self.order_B is None else x_BD.index_select(0, self.order_B)

    def run(self, branch: Callable[..., Tensor], *sorted_BD: Tensor) -> Tensor:
        """`branch(s, rows of scenario s of each tensor)` for every scenario, on sorted rows.

        While gradients are recorded, a scenario without rows runs on empty tensors: its
        parameters get zeros and so take part in a distributed step, as every rank expects.

        Example:
            >>> route = Route.of(torch.tensor([1, 0, 1]), 2)
            >>> x, y = route.sort(torch.tensor([1, 2, 3])), torch.tensor([20, 10, 30])
            >>> route.restore(route.run(lambda s, x_B, y_B: 100 * s + x_B + y_B, x, y)).tolist()
            [111, 22, 133]
        """
        count = len(sorted_BD[0])
        if self.masked_B is not None:
            every_SBD = torch.stack([branch(s, *sorted_BD) for s in range(len(self.counts))])
            return every_SBD[self.masked_B, torch.arange(count, device=every_SBD.device)]
        run_all = torch.is_grad_enabled() or not count  # no rows: some branch gives the shape
        slices = zip(*(torch.split(x_BD, self.counts) for x_BD in sorted_BD), strict=True)
        parts = [
            branch(scenario, *rows)
            for scenario, rows in enumerate(slices)
            if run_all or self.counts[scenario]
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def restore(self, x_BD: Tensor) -> Tensor:
        """Sorted rows back in the order of the batch."""
        if self.order_B is None:
            return x_BD
        return torch.empty_like(x_BD).index_copy(0, self.order_B, x_BD)
