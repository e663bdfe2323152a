"""One experiment with two towers: what is read, what is trained, what the result measures.

Suffixes: N pairs, Q users asked about, I items, D vector width.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from winnow.artifact import Artifact, open_artifact
from winnow.artifact.digests import run_key
from winnow.data.dataset import Dataset
from winnow.retrieval.checkpoint import Report
from winnow.retrieval.two_tower.data import TrainingData
from winnow.retrieval.two_tower.model import TwoTower, TwoTowerConfig
from winnow.retrieval.two_tower.pairs import Pairs, held_out
from winnow.retrieval.two_tower.recall import popularity_recall, vector_recall
from winnow.retrieval.two_tower.retriever import Retriever
from winnow.retrieval.two_tower.tokenizer import train_tokenizer
from winnow.retrieval.two_tower.train import VALIDATION_K, TrainConfig, TwoTowerTrainer

RECALL_AT = 100
"""Length of the candidate list that the result measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrieverConfig:
    """The towers, their training and the artifacts they are made from."""

    model: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    """Widths and lengths of the towers."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Loss, optimizer and stopping."""
    dataset: str = "runs/dataset"
    """The dataset artifact; every worker reads it."""
    generation: str = ""
    """A generation artifact with the task `hard_negatives`; empty: train without."""

    def recorded(self) -> dict[str, Any]:
        """What decides the result besides the artifacts it is made from."""
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
class TwoTowerExperiment:
    """A config with the data it is for; every process of a run opens its own."""

    config: RetrieverConfig
    dataset: Dataset
    tokenizer: Tokenizer
    data: TrainingData

    @classmethod
    def open(cls, config: RetrieverConfig, tokenizer: str = "") -> "TwoTowerExperiment":
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
            llm_negatives=config.train.generated,
            validation_users=config.train.validation_users,
            seed=config.train.seed,
        )
        return cls(config, dataset, trained, data)

    def train(self, report: Report, resume: Path | None) -> None:
        """Train new towers, or those of a checkpoint; see `TwoTowerTrainer.train`."""
        torch.manual_seed(self.config.train.seed)
        trainer = TwoTowerTrainer(self.config.train, self._model(), self.data, self._validate)
        trainer.train(report, resume)

    def trained(self, checkpoint: Mapping[str, Any]) -> Retriever:
        """The retriever of the best epoch in a checkpoint's content."""
        model = self._model()
        model.load_state_dict(checkpoint["best_weights"])
        return self._retriever(model)

    def measure(self, retriever: Retriever) -> dict[str, Any]:
        """Recall of each user's held-out positive beside that of popularity, and what was read."""
        asked, items = held_out(self.dataset), self.dataset.items.num_rows
        found = self._recall(retriever, asked, k=RECALL_AT)
        popular = popularity_recall(asked, self.data.histories, items=items, k=RECALL_AT)
        return {
            f"recall_at_{RECALL_AT}": found,
            f"popularity_at_{RECALL_AT}": popular,
            "ratio": found / popular if popular else None,
            "pairs": len(self.data.train_N),
            "generated_negatives": dict(self.data.negatives.counts),
        }

    def _model(self) -> TwoTower:
        return TwoTower(self.config.model, self.dataset.schema, self.tokenizer.get_vocab_size())

    def _retriever(self, model: TwoTower) -> Retriever:
        return Retriever(model, self.dataset.schema, self.tokenizer, self.data.item_sparse_IF)

    def _validate(self, model: TwoTower) -> float | None:
        """Recall of the validation slice, on which nothing is trained; None if it is empty."""
        asked = self.data.pairs.take(self.data.valid_N)
        return self._recall(self._retriever(model), asked, k=VALIDATION_K) if len(asked) else None

    def _recall(self, retriever: Retriever, asked: Pairs, *, k: int) -> float:
        """Recall@k of the asked pairs, with histories strictly before them."""
        data = self.data
        users = data.user_sparse_UF.numpy(), data.user_dense_UE.numpy()
        user_QD = retriever.encode_askers(asked, data.histories, *users)
        item_ID = retriever.encode_tokens(data.tokens_IT, data.item_sparse_IF, data.item_dense_IE)
        return vector_recall(user_QD, item_ID, asked, data.histories, k=k)
