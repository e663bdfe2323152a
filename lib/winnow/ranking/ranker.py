"""A trained ranking model, as serving and evaluation load it from three files.

    model.safetensors   weights
    config.json         a `ModelSpec`: which model, how wide
    schema.json         the fields it reads, in order

Suffixes: N rows to score, F sparse fields, E dense fields, both in schema order.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor

from winnow.data.batches import HistoryBatch
from winnow.data.schema import DatasetSchema
from winnow.errors import ArtifactError
from winnow.ranking.models.base import RankingModel
from winnow.ranking.registry import ModelSpec


class Ranker:
    """A trained model that scores candidates, from any number of threads.

    Scoring does not check ids: pass only what `check_features` accepts.
    """

    def __init__(self, model: RankingModel, schema: DatasetSchema) -> None:
        self.schema = schema
        self._model = model.eval().requires_grad_(False)
        self._model.freeze()
        self.history = model.history
        """Liked items before each row that `score` needs; 0 for none."""

    @classmethod
    def load(cls, path: str | Path) -> "Ranker":
        """Read a ranker from the folder that `save_ranker` wrote."""
        folder = Path(path)
        try:
            spec = ModelSpec.from_json(json.loads((folder / "config.json").read_text()))
            schema = DatasetSchema.load(folder / "schema.json")
            model = spec.build(schema)
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except FileNotFoundError as error:
            raise ArtifactError(f"{path} holds no ranker: {error.filename} is missing") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: config.json does not fit here ({error})") from error
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: model.safetensors does not fit config.json and schema.json"
            ) from error
        return cls(model, schema)

    def score(
        self,
        sparse_NF: NDArray[np.integer],
        dense_NE: NDArray[np.floating],
        scenario_N: NDArray[np.integer],
        history: HistoryBatch | None = None,
    ) -> NDArray[np.float32]:
        """Score rows: float32 [N], from 0 to 1; takes the arguments of `logits`.

        Scores are click probabilities, except for models such as M-scan that remove a scenario's
        effect from them. Order rows by `logits`, since all scores of logits above 17 are 1.
        """
        return as_scores(self.logits(sparse_NF, dense_NE, scenario_N, history))

    @torch.inference_mode()
    def logits(
        self,
        sparse_NF: NDArray[np.integer],
        dense_NE: NDArray[np.floating],
        scenario_N: NDArray[np.integer],
        history: HistoryBatch | None = None,
    ) -> NDArray[np.float32]:
        """Logits of the rows' scores, float32 [N]; each is independent of the other rows.

        `history` is required if `self.history` is positive and must not be given otherwise.
        """
        if (history is not None) != (self.history > 0):
            raise ValueError(f"this ranker reads {self.history} history steps of each row")
        logit_N = self._model.score(
            torch.from_numpy(np.require(sparse_NF, np.int32, "W")),
            torch.from_numpy(np.require(dense_NE, np.float32, "W")),
            torch.from_numpy(np.require(scenario_N, np.int64, "W")),
            *([] if history is None else [history]),
        )
        values_N: NDArray[np.float32] = logit_N.numpy()
        return values_N


def as_scores(logit_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores from 0 to 1 that belong to logits."""
    score_N: NDArray[np.float32] = expit(logit_N)
    return score_N


def save_ranker(
    folder: Path, spec: ModelSpec, schema: DatasetSchema, weights: Mapping[str, Tensor]
) -> None:
    """Write the files that `Ranker.load` reads into an existing folder."""
    (folder / "config.json").write_text(json.dumps(spec.to_json(), indent=1) + "\n")
    schema.save(folder / "schema.json")
    save_file(dict(weights), folder / "model.safetensors")
