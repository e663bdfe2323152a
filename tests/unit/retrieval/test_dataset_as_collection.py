"""A dataset as a collection: who asks, what is relevant, and that nothing held out leaks."""

from dataclasses import replace

import numpy as np
import pytest

from jobs import prepare
from winnow.data.dataset import Dataset
from winnow.data.likes import Likes
from winnow.data.raw import RejectedLines
from winnow.errors import DataError
from winnow.retrieval.dataset_as_collection import (
    LikedQueriesConfig,
    _after,
    _documents,
    _trained,
    collection_of,
)

CONFIG = LikedQueriesConfig(queries=300, test_queries=60, history=5, fewest=2)
PREFIX = "Something for a person who liked "


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return Dataset.open(output)


@pytest.fixture(scope="module")
def made(dataset):
    return collection_of(dataset, CONFIG)[0]


def pairs_of(collection, split):
    """(query text, user id, item id) of each judgement of a split."""
    texts = dict(
        zip(*(collection.queries[name].to_pylist() for name in ("id", "text")), strict=True)
    )
    for row in collection.qrels.to_pylist():
        if row["split"] == split:
            user = row["query"].split("@" if split == "train" else ":")[0]
            yield texts[row["query"]], user, row["document"]


def test_documents_are_items_with_the_title_once(dataset, made):
    assert made.documents["id"].to_pylist() == dataset.items["raw_id"].to_pylist()
    assert made.documents["title"].to_pylist() == dataset.items["title"].to_pylist()
    for text, item in zip(made.document_texts(), dataset.items.to_pylist(), strict=True):
        assert text.count(item["title"]) == 1
        assert text.startswith(item["title"])


def test_the_config_bounds_the_queries(made):
    assert len(made.judged("train")) == 300
    assert len(made.judged("test")) == 60
    assert len(set(made.queries["id"].to_pylist())) == made.queries.num_rows == 360


def test_a_train_query_names_earlier_likes_of_the_user_and_not_the_item(dataset, made):
    likes = Likes.of(dataset)
    users = {raw: row for row, raw in enumerate(dataset.users["raw_id"].to_pylist())}
    items = {raw: row for row, raw in enumerate(dataset.items["raw_id"].to_pylist())}
    for text, user, item in pairs_of(made, "train"):
        named = text.removeprefix(PREFIX).split("; ")
        assert 2 <= len(named) <= 5
        mine = likes.user_N == users[user]
        times = likes.time_N[mine & (likes.item_N == items[item])]
        earlier = likes.item_N[mine & (likes.time_N < times.max())]
        assert set(named) <= {likes.titles[row] for row in earlier if row != items[item]}


def test_a_held_out_pair_is_in_no_train_query_and_in_no_history(dataset, made):
    holdout = dataset.split("holdout")
    user_ids, item_ids = (table["raw_id"].to_pylist() for table in (dataset.users, dataset.items))
    titles = dataset.items["title"].to_pylist()
    held_out = {
        user_ids[user]: (item_ids[item], titles[item])
        for user, item in zip(holdout.user_N, holdout.item_N, strict=True)
    }
    for split in ("train", "test"):
        for text, user, item in pairs_of(made, split):
            held_item, held_title = held_out.get(user, ("", ""))
            assert (item == held_item) == (split == "test")
            assert held_title not in text.removeprefix(PREFIX).split("; ")


def test_a_seed_repeats_and_another_draws_others(dataset, made):
    again = collection_of(dataset, CONFIG)[0]
    assert again.queries.equals(made.queries)
    other = collection_of(dataset, replace(CONFIG, seed=1))[0]
    assert not other.queries.equals(made.queries)


def test_users_with_too_few_likes_are_listed(dataset):
    many = replace(CONFIG, history=40, fewest=20, test_queries=10_000)
    made, skipped = collection_of(dataset, many)
    assert {line.reason for line in skipped.lines} == {"too few likes before"}
    assert {line.file for line in skipped.lines} == {"holdout"}
    assert len(made.judged("test")) + skipped.total == len(dataset.split("holdout"))


def test_items_without_words_or_with_a_known_id_are_listed(dataset):
    class Items:
        items = dataset.items.slice(0, 3)

    table = Items.items.to_pydict()
    table["title"][1], table["text"][1] = " ", ""
    table["raw_id"][2] = table["raw_id"][0]
    Items.items = type(dataset.items).from_pydict(table)
    skipped = RejectedLines()
    columns, ids = _documents(Items, skipped)
    assert ids == {0: table["raw_id"][0]}
    assert columns["id"] == [table["raw_id"][0]]
    assert [(line.line, line.reason) for line in skipped.lines] == [
        (2, "the item has no words"),
        (3, "raw_id was there before"),
    ]


@pytest.mark.parametrize(
    ("title", "text", "rest"),
    [
        ("Tides", "Tides. A book.", "A book."),
        ("Tides", "Tides", ""),
        ("Tide", "Tides. A book.", "Tides. A book."),
        ("Tides", "A book.", "A book."),
        ("", "A book.", "A book."),
    ],
)
def test_what_follows_the_title(title, text, rest):
    assert _after(title, text) == rest


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_queries_is_named(dataset, monkeypatch, split):
    if split == "train":
        monkeypatch.setattr(Likes, "moments", lambda *args, **options: iter(()))
    else:
        monkeypatch.setattr(Likes, "past", lambda *args, **options: [])
        monkeypatch.setattr(Likes, "moments", lambda *args, **options: iter([(0, 9, [0], [1])]))
    with pytest.raises(
        DataError, match=rf"no like for split {split} with 2 earlier ones; lower Liked"
    ):
        collection_of(dataset, CONFIG)


@pytest.mark.parametrize("name", ["queries", "test_queries", "history", "fewest"])
def test_counts_must_be_positive(name):
    with pytest.raises(ValueError, match=rf"LikedQueriesConfig\.{name} must be positive, got 0"):
        LikedQueriesConfig(**{name: 0})


def test_the_history_holds_the_fewest():
    with pytest.raises(ValueError, match=r"fewest must be at most history \(2\), got 3"):
        LikedQueriesConfig(history=2, fewest=3)


def test_repeated_likes_make_one_query(dataset):
    doubled = Likes.of(dataset)
    pairs = doubled.user_N.astype(np.int64) * 10**6 + doubled.item_N
    made, _ = collection_of(dataset, replace(CONFIG, queries=10**6, fewest=1))
    assert len(made.judged("train")) <= len(np.unique(pairs))


def test_what_was_liked_at_one_time_is_one_query():
    liked = [(0, 1, 1), (0, 2, 2), (0, 3, 3), (0, 4, 3), (0, 1, 3), (0, 3, 4), (1, 4, 3)]
    columns = (np.array(column) for column in zip(*liked, strict=True))
    titles = [f"t{item}" for item in range(5)]
    likes = Likes(*columns, titles, titles)
    item_ids = dict(enumerate(titles))
    config = LikedQueriesConfig(fewest=1)
    found = {one.query_id: one for one in _trained(likes, ["u", "v"], item_ids, config)}
    # Item 1 was liked before, and is an answer and no history; at time 4 nothing is new, unless
    # it was drawn before time 3.
    assert set(found) - {"u@4"} == {"u@2", "u@3"}
    assert found["u@3"].items == [1, 3, 4]
    assert found["u@3"].past == [2]
    assert found["u@2"].items == [2]
    assert found["u@2"].past == [1]
