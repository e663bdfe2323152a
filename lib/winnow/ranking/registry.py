"""The ranking models by name. To add one, see "Add a model" in README.md beside this file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from winnow.data.schema import DatasetSchema
from winnow.errors import suggestion
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.ada_sparse import AdaSparse
from winnow.ranking.models.adapt_dhm import AdaptDhm
from winnow.ranking.models.base import ModelConfig, RankingModel
from winnow.ranking.models.ep_net import EpNet
from winnow.ranking.models.hamur import Hamur
from winnow.ranking.models.m2m import M2M
from winnow.ranking.models.m3oe import M3oE
from winnow.ranking.models.mmoe import Mmoe
from winnow.ranking.models.mscan import MScan
from winnow.ranking.models.ple import Ple
from winnow.ranking.models.pp_net import PpNet
from winnow.ranking.models.sar_net import SarNet
from winnow.ranking.models.shared_bottom import SharedBottom
from winnow.ranking.models.star import Star

MODELS: Mapping[str, type[RankingModel]] = {
    "ada_sparse": AdaSparse,
    "adapt_dhm": AdaptDhm,
    "ep_net": EpNet,
    "hamur": Hamur,
    "m2m": M2M,
    "m3oe": M3oE,
    "mmoe": Mmoe,
    "ple": Ple,
    "pp_net": PpNet,
    "sar_net": SarNet,
    "shared_bottom": SharedBottom,
    "star": Star,
    "mscan": MScan,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """All that a model is made from beside a schema; a ranker's config.json holds it."""

    model: str
    """A name in `MODELS`."""
    inputs: InputConfig
    """Widths and initial scale of the embeddings."""
    architecture: ModelConfig
    """Sizes of the model, an instance of its `Config`."""

    def build(self, schema: DatasetSchema) -> RankingModel:
        """Make a new model, whose weights follow torch's global seed."""
        return model_type(self.model)(schema, self.inputs, self.architecture)

    def with_chosen(self, chosen: Mapping[str, Any]) -> "ModelSpec":
        """Copy with the fields of the architecture that were chosen after training."""
        return replace(self, architecture=replace(self.architecture, **chosen))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ModelSpec":
        sizes = raw["architecture"].items()
        sizes = {name: tuple(v) if isinstance(v, list) else v for name, v in sizes}
        return cls(
            model=raw["model"],
            inputs=InputConfig(**raw["inputs"]),
            architecture=model_type(raw["model"]).Config(**sizes),
        )


def model_type(name: str) -> type[RankingModel]:
    """Class of a model by name; an unknown name raises ValueError with the nearest one."""
    if name not in MODELS:
        raise ValueError(f"no ranking model {name!r}; {suggestion(name, MODELS)}")
    return MODELS[name]
