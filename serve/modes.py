"""The modes that ask a language model. None is offered until one is configured."""

from typing import Any

from serve.args import LlmArgs
from serve.reply import Refusal
from serve.version import Job
from winnow.desk import Outcome

__all__ = ["Modes"]


class Modes:
    def __init__(self, args: LlmArgs) -> None:
        self.available = ["standard"]

    def check(self, mode: str) -> None:
        """Refuse a mode that this endpoint does not offer."""
        if mode not in self.available:
            offered = ", ".join(self.available)
            raise Refusal(422, ("mode", f"must be one of {offered} at this endpoint, got {mode}"))

    async def apply(self, job: Job, outcome: Outcome) -> tuple[Outcome, dict[str, Any] | None]:
        """The outcome as the mode makes it, and the model's part in it."""
        return outcome, None
