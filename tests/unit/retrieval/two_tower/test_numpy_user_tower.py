"""The user tower in NumPy equals that in torch."""

import numpy as np
import pytest
import torch

from winnow.data.schema import DatasetSchema, Field
from winnow.retrieval.two_tower.model import TwoTower, TwoTowerConfig
from winnow.retrieval.two_tower.numpy_user_tower import UserVectors
from winnow.retrieval.two_tower.retriever import Retriever
from winnow.retrieval.two_tower.tokenizer import train_tokenizer

USER = (Field(name="user_id", role="user", kind="sparse", size=5),)
AGE = (Field(name="age", role="user", kind="dense"),)
ITEM = (Field(name="item_id", role="item", kind="sparse", size=9),)
HISTORIES = [[0, 1, 2, 3, 4, 5, 6, 7], [7, 7], [], [3]]


@pytest.mark.parametrize("dense", [AGE, ()])
def test_vectors_are_those_of_the_tower(dense):
    torch.manual_seed(1)
    schema = DatasetSchema(name="log", fields=USER + dense + ITEM, scenarios=("home", "cart"))
    texts = ["a red fox", "a blue whale"]
    tokenizer = train_tokenizer(texts, vocab_size=100, max_tokens=4)
    config = TwoTowerConfig(dim=8, hidden=16, history=5, heads=3, vocab_size=100)
    items = torch.arange(8, dtype=torch.int32)[:, None]
    model = TwoTower(config, schema, tokenizer.get_vocab_size())
    retriever = Retriever(model, schema, tokenizer, items)
    padded = np.full((4, 5), -1)
    for row, history in enumerate(HISTORIES):
        padded[row, 5 - len(history[-5:]) :] = history[-5:]
    sparse = np.array([[1], [4], [0], [2]], np.int32)
    dense_QE = np.arange(4, dtype=np.float32)[:, None][:, : len(dense)]
    scenario = np.array([0, 1, 1, 0])
    wanted = retriever.encode_users(padded, sparse, dense_QE, scenario)
    vectors_of = UserVectors(model.user, retriever.history_ID)
    histories = [np.array(history, np.int32) for history in HISTORIES]
    found = vectors_of(histories, sparse, dense_QE, scenario)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    alone = vectors_of(histories[:1], sparse[:1], dense_QE[:1], scenario[:1])
    np.testing.assert_allclose(alone, wanted[:1], atol=1e-6)
