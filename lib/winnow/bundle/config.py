"""How the stages work together: sizes, and the rules of the last one."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from winnow.errors import ArtifactError


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeConfig:
    num_candidates: int = 200
    """Candidates for rank in all. Those that the channels below leave free are filled with the next
    nearest by the two-tower index."""
    num_two_tower: int = 160
    """Candidates nearest to the user by the two-tower index; 0 leaves the channel out."""
    num_text: int = 10
    """Candidates whose texts are nearest to those of the latest likes; 0 leaves the channel out."""
    num_recent: int = 20
    """Candidates nearest to the last few likes, over all of these; 0 leaves the channel out."""
    num_popular: int = 10
    """Candidates among the scenario's most popular items; 0 leaves the channel out."""
    num_reranked: int = 50
    """Best ranked candidates that the reranker may reorder."""
    reranker: Literal["mmr", "dpp", "none"] = "mmr"
    """Method that spreads the best candidates; `none` keeps the ranker's order."""
    trade_off: float = 0.7
    """Weight of the score in mmr and dpp: 1 keeps the ranker's order, 0 maximizes variety alone."""
    blocked: tuple[str, ...] = ()
    """Item ids that no user is offered."""
    quota_field: str = ""
    """Sparse item field, such as a category, with a quota per value; empty for no quota."""
    quota: int = 3
    """Most items of one value of `quota_field` among the first k; the unknown value has none."""
    max_k: int = 100
    """Most items a request may ask for."""

    def __post_init__(self) -> None:
        for name in ("num_candidates", "num_reranked", "quota", "max_k"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"CascadeConfig.{name} must be positive, got {getattr(self, name)}"
                )
        channels = ("num_two_tower", "num_text", "num_recent", "num_popular")
        for name in channels:
            if getattr(self, name) < 0:
                raise ValueError(f"CascadeConfig.{name} must be >= 0, got {getattr(self, name)}")
        wanted = sum(getattr(self, name) for name in channels)
        if wanted > self.num_candidates:
            raise ValueError(
                f"CascadeConfig.num_candidates must be at least the sum of its channels "
                f"({wanted}), got {self.num_candidates}"
            )
        if self.num_candidates < self.max_k:
            raise ValueError(
                f"CascadeConfig.num_candidates must be at least max_k ({self.max_k}), "
                f"got {self.num_candidates}"
            )
        if not 0 <= self.trade_off <= 1:
            raise ValueError(f"CascadeConfig.trade_off must be in [0, 1], got {self.trade_off}")

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "CascadeConfig":
        """Read the file; a field that it lacks, as an older bundle's may, has its default.

        Raises:
            ArtifactError: the file has fields that these stages lack, or impossible values.
        """
        try:
            written = json.loads(path.read_text())
            known = {field.name for field in fields(cls)}
            if strange := sorted(written.keys() - known):
                raise ArtifactError(
                    f"{path} was written for other stages than these ({', '.join(strange)}); "
                    f"build the bundle again with jobs.build_bundle"
                )
            return cls(**written | {"blocked": tuple(written.get("blocked", ()))})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} holds no settings of the stages: {error}") from error
