"""One retriever experiment: what is read, what is trained, what the result measures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from winnow.artifact import Artifact, open_artifact
from winnow.artifact.digests import run_key
from winnow.data.dataset import Dataset
from winnow.retrieval.two_tower.data import TrainingData
from winnow.retrieval.two_tower.model import TwoTowerConfig
from winnow.retrieval.two_tower.pairs import held_out
from winnow.retrieval.two_tower.recall import popularity_recall
from winnow.retrieval.two_tower.retriever import Retriever
from winnow.retrieval.two_tower.tokenizer import train_tokenizer
from winnow.retrieval.two_tower.train import Report, TrainConfig, best_model, recall_of, train

RECALL_AT = 100
"""Length of the candidate list that the result measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrieverConfig:
    model: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    dataset: str = "runs/dataset"
    """The dataset artifact; every worker reads it."""
    generation: str = ""
    """A generation artifact with the task `hard_negatives`; empty: train without."""

    def recorded(self) -> dict[str, Any]:
        """What decides the result beside the artifacts that it is made from."""
        return {"model": asdict(self.model), "train": asdict(self.train)}

    def parents(self) -> dict[str, Artifact]:
        """The artifacts that the retriever is made from, opened."""
        parents = {"dataset": open_artifact(self.dataset, kind="dataset")}
        if self.generation:
            parents["generation"] = open_artifact(self.generation, kind="generation")
        return parents

    def run_key(self) -> str:
        """Name of the run, equal for equal inputs: a killed run finds its checkpoints by it."""
        made_from = {role: parent.digest for role, parent in self.parents().items()}
        return run_key(self.recorded(), made_from)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A config with the data it is for; every process of a run opens its own."""

    config: RetrieverConfig
    dataset: Dataset
    tokenizer: Tokenizer
    data: TrainingData

    @classmethod
    def open(cls, config: RetrieverConfig, tokenizer: str = "") -> "Experiment":
        """Read the artifacts that the config names.

        Args:
            tokenizer: the tokenizer as JSON text; empty: train one on the item texts.
        """
        parents = config.parents()
        dataset = Dataset.open(config.dataset)
        if tokenizer:
            trained = Tokenizer.from_str(tokenizer)
        else:
            trained = train_tokenizer(
                dataset.items["text"].to_pylist(),
                vocab_size=config.model.vocab_size,
                max_tokens=config.model.max_tokens,
            )
        data = TrainingData.build(
            dataset,
            trained,
            parents.get("generation"),
            generated=config.train.generated,
            validation_users=config.train.validation_users,
            seed=config.train.seed,
        )
        return cls(config, dataset, trained, data)

    def train(self, report: Report, resume: Path | None) -> None:
        """See `winnow.retrieval.two_tower.train.train`."""
        train(
            self.config.train,
            self.config.model,
            self.dataset.schema,
            self.tokenizer,
            self.data,
            report=report,
            resume=resume,
        )

    def best(self, checkpoint: Path) -> tuple[Retriever, Mapping[str, Any]]:
        """The retriever of the best epoch in a checkpoint folder, and its figures on holdout."""
        schema = self.dataset.schema
        model, epochs = best_model(checkpoint, self.config.model, schema, self.tokenizer)
        retriever = Retriever(model, schema, self.tokenizer, self.data.item_sparse_IF)
        asked, items = held_out(self.dataset), self.dataset.items.num_rows
        found = recall_of(retriever, self.data, asked, k=RECALL_AT)
        popular = popularity_recall(asked, self.data.histories, items=items, k=RECALL_AT)
        return retriever, {
            f"recall_at_{RECALL_AT}": found,
            f"popularity_at_{RECALL_AT}": popular,
            "ratio": found / popular if popular else None,
            "epochs": epochs,
            "pairs": len(self.data.train_N),
            "generated_negatives": dict(self.data.negatives.counts),
        }
