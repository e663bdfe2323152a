"""What a run spends, and the limits at which it stops."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceConfig:
    """Speed and prices, in any currency; 0 where unknown."""

    tokens_per_s: float = 0.0
    """Output tokens per second of one worker; 0 takes the last run's speed, if there was one."""
    worker_hour: float = 0.0
    """Price of one worker for an hour."""
    prompt_million: float = 0.0
    """Price of a million prompt tokens."""
    output_million: float = 0.0
    """Price of a million output tokens."""

    def cost(self, prompt_tokens: float, output_tokens: float, worker_hours: float) -> float:
        """Price of so many tokens and hours.

        Example:
            >>> PriceConfig(prompt_million=2.0, worker_hour=1.5).cost(500_000, 0, 2.0)
            4.0
        """
        tokens = prompt_tokens * self.prompt_million + output_tokens * self.output_million
        return tokens / 1e6 + worker_hours * self.worker_hour


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetConfig:
    """Most that one run may spend; 0 means no limit. What is in flight then is not waited for."""

    tokens: int = 0
    """Tokens of prompts and answers together."""
    money: float = 0.0
    """Cost by the prices of the run."""
    hours: float = 0.0
    """Hours from the first batch on."""

    def __post_init__(self) -> None:
        for name in ("tokens", "money", "hours"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"BudgetConfig.{name} must not be negative, got {getattr(self, name)}"
                )


class Spending:
    """Sums what the engines of one run report."""

    def __init__(self, budget: BudgetConfig, prices: PriceConfig, workers: int) -> None:
        """`workers` is the number that is paid for at a time, at most."""
        self._budget, self._prices, self._workers = budget, prices, workers
        self._done = {"prompt_tokens": 0.0, "output_tokens": 0.0, "seconds": 0.0}

    def add(self, report: Mapping[str, float]) -> None:
        """Add the figures of an engine that has ended."""
        self._done = self._with(report)

    def cost(self) -> float:
        """What all that was added cost."""
        return self._cost(self._done)

    def used_up(self, report: Mapping[str, float]) -> str:
        """The limit that is reached with an engine's figures so far, in words; "" if none is."""
        spent = self._with(report)
        used = {
            "tokens": spent["prompt_tokens"] + spent["output_tokens"],
            "money": self._cost(spent),
            "hours": spent["seconds"] / 3600,
        }
        for name, amount in used.items():
            limit = getattr(self._budget, name)
            if limit and amount >= limit:
                return f"budget.{name}={limit} is used up"
        return ""

    def _with(self, report: Mapping[str, float]) -> dict[str, float]:
        return {name: amount + report.get(name, 0) for name, amount in self._done.items()}

    def _cost(self, spent: Mapping[str, float]) -> float:
        hours = spent["seconds"] / 3600 * self._workers
        return self._prices.cost(spent["prompt_tokens"], spent["output_tokens"], hours)
