"""The trained two towers as one loadable object: users and items become vectors of one space.

    model.safetensors    weights of both towers
    items.safetensors    encoded sparse fields of every item row, for looking up histories
    config.json          TwoTowerConfig
    schema.json          fields of the dataset it was trained on
    tokenizer.json       byte-pair tokenizer of the item texts

Suffixes: Q users, H history length, I items, F sparse fields, E dense fields, D vector width.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.data.schema import DatasetSchema
from winnow.retrieval.evaluation.order import Floats
from winnow.retrieval.two_tower.model import TwoTower, TwoTowerConfig
from winnow.retrieval.two_tower.pairs import Pairs
from winnow.retrieval.two_tower.tokenizer import encode_texts

CHUNK = 4096
"""Items encoded at a time."""

Rows = NDArray[np.integer[Any]]


class Retriever:
    """Encodes users and items; history items are looked up, never read as text.

    Args:
        item_sparse_IF: encoded sparse fields of every row of the item table.
    """

    def __init__(
        self,
        model: TwoTower,
        schema: DatasetSchema,
        tokenizer: Tokenizer,
        item_sparse_IF: Tensor,
    ) -> None:
        self.model = model.eval()
        self.schema = schema
        self.tokenizer = tokenizer
        self.item_sparse_IF = item_sparse_IF
        with torch.inference_mode():
            self.history_ID = model.user.history(item_sparse_IF)

    @property
    def dim(self) -> int:
        return self.model.config.dim

    @property
    def history_length(self) -> int:
        """Liked items of a user that count; `encode_users` ignores older ones."""
        return self.model.config.history

    def save(self, folder: Path) -> None:
        """Write the five files into an existing folder."""
        save_file(self.model.state_dict(), folder / "model.safetensors")
        save_file({"sparse": self.item_sparse_IF}, folder / "items.safetensors")
        (folder / "config.json").write_text(json.dumps(asdict(self.model.config), indent=1) + "\n")
        self.schema.save(folder / "schema.json")
        self.tokenizer.save(str(folder / "tokenizer.json"))

    @classmethod
    def load(cls, folder: str | Path) -> "Retriever":
        """Read the files of a retriever artifact (its verified local folder)."""
        folder = Path(folder)
        config = TwoTowerConfig(**json.loads((folder / "config.json").read_text()))
        schema = DatasetSchema.load(folder / "schema.json")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        model = TwoTower(config, schema, tokenizer.get_vocab_size())
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return cls(model, schema, tokenizer, load_file(folder / "items.safetensors")["sparse"])

    @torch.inference_mode()
    def encode_users(
        self,
        history_QH: Rows,
        user_sparse_QF: Rows,
        user_dense_QE: Floats,
        scenario_Q: Rows,
    ) -> Floats:
        """Unit vectors of users, float32 [Q, D].

        Args:
            history_QH: rows of the item table, newest last, padded with -1. Items beyond
                `history_length` are ignored.
            user_sparse_QF: encoded sparse user fields in schema order; 0 is unknown.
            user_dense_QE: encoded dense user fields in schema order.
            scenario_Q: number of the scenario.
        """
        length = self.model.config.history
        history = torch.from_numpy(history_QH[:, -length:].astype(np.int64))
        vectors: Tensor = self.model.user(
            self.history_ID[history.clamp(min=0)],
            history >= 0,
            torch.from_numpy(user_sparse_QF.astype(np.int64)),
            torch.from_numpy(user_dense_QE.astype(np.float32)),
            torch.from_numpy(scenario_Q.astype(np.int64)),
        )
        return vectors.numpy()

    def encode_items(
        self, texts: Sequence[str], item_sparse_IF: Rows, item_dense_IE: Floats
    ) -> Floats:
        """Unit vectors of items, float32 [I, D]; a new item has id 0 and its text.

        Args:
            item_sparse_IF: encoded sparse item fields in schema order; 0 is unknown.
            item_dense_IE: encoded dense item fields in schema order.
        """
        return self.encode_tokens(
            torch.from_numpy(encode_texts(self.tokenizer, texts)),
            torch.from_numpy(item_sparse_IF),
            torch.from_numpy(item_dense_IE),
        )

    @torch.inference_mode()
    def encode_tokens(self, tokens_IT: Tensor, sparse_IF: Tensor, dense_IE: Tensor) -> Floats:
        """Unit vectors of items whose texts are token ids already, float32 [I, D]."""
        out = np.empty((len(tokens_IT), self.dim), np.float32)
        for start in range(0, len(out), CHUNK):
            rows = slice(start, start + CHUNK)
            text_ID = self.model.item.text(tokens_IT[rows])
            out[rows] = self.model.item(text_ID, sparse_IF[rows], dense_IE[rows]).numpy()
        return out

    def encode_askers(
        self, asked: Pairs, liked: Histories, user_sparse_UF: Rows, user_dense_UE: Floats
    ) -> Floats:
        """Unit vectors of the pairs' users, float32 [Q, D], each as of just before its pair.

        Args:
            user_sparse_UF: encoded sparse fields of every row of the user table.
            user_dense_UE: encoded dense fields of every row of the user table.
        """
        return self.encode_users(
            liked.before(asked.user_N, asked.time_N, length=self.history_length),
            user_sparse_UF[asked.user_N],
            user_dense_UE[asked.user_N],
            asked.scenario_N,
        )

    def encode_catalogue(self, dataset: Dataset) -> Floats:
        """Unit vectors of every row of the item table, float32 [I, D]."""
        features = dataset.table_features("item", self.schema)
        return self.encode_items(dataset.items["text"].to_pylist(), *features)
