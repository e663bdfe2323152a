"""The two towers: shapes, padding, and texts without an id."""

import numpy as np
import pytest
import torch

from winnow.data.schema import DatasetSchema, Field
from winnow.retrieval.two_tower.model import TwoTower, TwoTowerBatch, TwoTowerConfig
from winnow.retrieval.two_tower.retriever import Retriever
from winnow.retrieval.two_tower.tokenizer import encode_texts, train_tokenizer

SCHEMA = DatasetSchema(
    name="log",
    fields=(
        Field(name="user_id", role="user", kind="sparse", size=4),
        Field(name="age", role="user", kind="dense"),
        Field(name="item_id", role="item", kind="sparse", size=4),
        Field(name="topic", role="item", kind="sparse", size=3),
    ),
    scenarios=("home", "cart"),
)
CONFIG = TwoTowerConfig(dim=8, hidden=16, history=3, heads=2, vocab_size=100, max_tokens=6)
TEXTS = ["a red fox", "a blue whale", "the red whale"]
ITEM_SPARSE = np.array([[1, 1], [2, 2], [0, 1]], np.int32)  # the last item is new: id 0
ITEM_DENSE = np.empty((3, 0), np.float32)


@pytest.fixture
def retriever():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, vocab_size=100, max_tokens=6)
    model = TwoTower(CONFIG, SCHEMA, tokenizer.get_vocab_size())
    return Retriever(model, SCHEMA, tokenizer, torch.from_numpy(ITEM_SPARSE))


def users(retriever, history, user=1, scenario=0):
    return retriever.encode_users(
        np.array([history]), np.array([[user]]), np.array([[0.5]], np.float32), np.array([scenario])
    )


def test_vectors_have_length_one(retriever):
    for vectors in (retriever.encode_items(TEXTS, ITEM_SPARSE, ITEM_DENSE), users(retriever, [0])):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_padding_changes_nothing_and_only_the_newest_items_count(retriever):
    expected = users(retriever, [2, 0])
    np.testing.assert_allclose(users(retriever, [-1, 2, 0]), expected, rtol=1e-5)
    three = users(retriever, [1, 2, 0])
    np.testing.assert_allclose(users(retriever, [0, 0, 1, 2, 0]), three, rtol=1e-5)
    assert not np.allclose(three, expected)


def test_order_field_and_scenario_matter(retriever):
    expected = users(retriever, [2, 0])
    for other in (
        users(retriever, [0, 2]),
        users(retriever, [2, 0], user=0),
        users(retriever, [2, 0], scenario=1),
    ):
        assert not np.allclose(other, expected, atol=1e-4)


def test_a_user_without_history_has_a_vector(retriever):
    assert np.isfinite(users(retriever, [-1, -1])).all()


def test_new_items_differ_by_their_text(retriever):
    unknown = np.zeros((2, 2), np.int32)
    vectors = retriever.encode_items(["a red fox", "a blue whale"], unknown, ITEM_DENSE[:2])
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_saved_retriever_gives_the_same_vectors(retriever, tmp_path):
    retriever.save(tmp_path)
    loaded = Retriever.load(tmp_path)
    np.testing.assert_array_equal(users(loaded, [1, 0]), users(retriever, [1, 0]))
    np.testing.assert_array_equal(
        loaded.encode_items(TEXTS, ITEM_SPARSE, ITEM_DENSE),
        retriever.encode_items(TEXTS, ITEM_SPARSE, ITEM_DENSE),
    )
    assert not list(tmp_path.glob("*.p*t*"))  # no pickles


def test_training_and_serving_see_the_same(retriever):
    batch = TwoTowerBatch(
        user_sparse_BF=torch.tensor([[1], [2]]),
        user_dense_BE=torch.tensor([[0.5], [0.5]]),
        scenario_B=torch.tensor([0, 1]),
        history_BH=torch.tensor([[-1, 2, 0], [-1, -1, 1]]),
        item_B=torch.tensor([1, 1]),
        text_only_B=torch.tensor([False, True]),
        negative_tokens_NT=torch.from_numpy(encode_texts(retriever.tokenizer, ["red whale"])),
        negative_at_N=torch.tensor([3]),  # pair 1, second place of two
    )
    tokens = torch.from_numpy(encode_texts(retriever.tokenizer, TEXTS))
    features = tokens, torch.from_numpy(ITEM_SPARSE), torch.from_numpy(ITEM_DENSE)
    user, item, hard = (t.detach().numpy() for t in retriever.model(batch, *features, 2))
    unknown = np.zeros((2, 2), np.int32)
    alone = retriever.encode_items(["a blue whale", "red whale"], unknown, ITEM_DENSE[:2])
    known = retriever.encode_items(TEXTS, ITEM_SPARSE, ITEM_DENSE)
    np.testing.assert_allclose(user[0], users(retriever, [2, 0])[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(item, [known[1], alone[0]], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(hard[1, 1], alone[1], rtol=1e-4, atol=1e-6)
    assert not hard[0].any()
    assert not hard[1, 0].any()


def test_the_tokenizer_depends_on_the_texts_alone():
    texts = [f"the {a}{b} runs past {b}{a}s" for a in "abcdefgh" for b in ("own", "light", "er")]
    one, other = (train_tokenizer(texts, vocab_size=200, max_tokens=9).to_str() for _ in range(2))
    assert one == other


def test_texts_are_cut_padded_and_lower_cased():
    tokenizer = train_tokenizer(["red fox"] * 9, vocab_size=100, max_tokens=3)
    fox, red, upper, long, empty = encode_texts(
        tokenizer, ["fox", "red", "RED", "fox fox red fox", ""]
    ).tolist()
    assert upper == red == [red[0], 0, 0]
    assert long == [fox[0], fox[0], red[0]]
    assert empty == [0, 0, 0]
    assert encode_texts(tokenizer, []).shape == (0, 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"dim": 0}, "TwoTowerConfig.dim must be positive, got 0"),
        ({"vocab_size": 9}, "TwoTowerConfig.vocab_size must be at least 100, got 9"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        TwoTowerConfig(**bad)
