"""What each recall channel finds, and the rules of the list, on bundles of other settings."""

from dataclasses import replace

import numpy as np
import pytest

from jobs import build_bundle
from serve.versions.catalogue_words import CatalogueWords
from winnow.bundle import Bundle, CascadeConfig
from winnow.cascade import Cascade, Fallbacks, Recall
from winnow.cascade.lookup import Lookup
from winnow.cascade.nearest import Nearest
from winnow.cascade.query import RECALL_CHANNELS
from winnow.cascade.request import RecommendRequest
from winnow.errors import DataError
from winnow.events import SqliteEvents
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.index.ids import IdTable
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.toy import make_tiny_encoder

TINY = build_bundle.tiny().cascade
NO_CHANNELS = replace(TINY, num_two_tower=0, num_text=0, num_recent=0, num_popular=0)


@pytest.fixture
def bundle_with(tiny_run, tmp_path):
    """Builds a bundle of the run's parts with another cascade."""

    def build(cascade: CascadeConfig) -> Bundle:
        parts = {n: str(tiny_run / n) for n in ("dataset", "retriever", "index", "ranker")}
        output = str(tmp_path / "bundle")
        build_bundle.run(build_bundle.BundleConfig(**parts, output=output, cascade=cascade))
        return Bundle.open(output)

    return build


def ask(bundle, **changes):
    lookup = Lookup(bundle, SqliteEvents(":memory:"))
    return lookup.resolve(replace(RecommendRequest(scenario="home", user_id="u3"), **changes))


def by_channel(found):
    return {
        name: found.item_C[found.channel_C == channel].tolist()
        for channel, name in enumerate(RECALL_CHANNELS)
    }


def test_channels_keep_to_their_numbers(tiny_run):
    bundle = Bundle.open(tiny_run / "bundle")
    (found,) = Recall(bundle)([ask(bundle)], [])
    sizes = {name: len(items) for name, items in by_channel(found).items()}
    assert sum(sizes.values()) == len(set(found.item_C.tolist())) == 50
    assert sizes["two_tower"] >= 20  # its own, and what the others left free
    assert 0 < sizes["text"] <= 10
    assert 0 < sizes["recent"] <= 10
    assert sizes["popular"] == 10


def test_a_new_user_is_filled_up_from_the_user_tower(tiny_run):
    bundle = Bundle.open(tiny_run / "bundle")
    (found,) = Recall(bundle)([ask(bundle, user_id="nobody")], [])
    sizes = {name: len(items) for name, items in by_channel(found).items()}
    assert sizes == {"two_tower": 40, "text": 0, "recent": 0, "popular": 10}


def test_the_text_channel_finds_the_nearest_in_words(bundle_with):
    bundle = bundle_with(replace(NO_CHANNELS, num_text=10))
    query = ask(bundle, user_id=None, history=("i4", "i9"))
    (found,) = Recall(bundle)([query], [])
    text = ItemIndex.load(bundle.part("text"))
    score = text.vectors @ text.vectors[query.history].mean(axis=0)
    score[query.seen] = -np.inf
    best = np.sort(score)[::-1][:10]
    mine = score[by_channel(found)["text"]]
    np.testing.assert_allclose(mine, best, atol=1e-6)


def test_an_encoder_makes_the_text_vectors_instead(tiny_run, tmp_path):
    texts = Bundle.open(tiny_run / "bundle").items["text"].to_pylist()
    make_tiny_encoder(tmp_path / "encoder", texts, dim=24)
    parts = {n: str(tiny_run / n) for n in ("dataset", "retriever", "index", "ranker")}
    config = replace(build_bundle.tiny(), encoder=str(tmp_path / "encoder"), **parts)
    build_bundle.run(replace(config, output=str(tmp_path / "bundle")))
    bundle = Bundle.open(tmp_path / "bundle")
    vectors = ItemIndex.load(bundle.part("text")).vectors
    expected = TextEncoder.for_inference(tmp_path / "encoder").encode_documents(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    (found,) = Recall(bundle)([ask(bundle)], [])
    assert by_channel(found)["text"]


def test_the_recent_channel_takes_turns_among_the_last_likes(bundle_with):
    bundle = bundle_with(replace(NO_CHANNELS, num_recent=6))
    query = ask(bundle, user_id=None, history=("i1", "i2", "i3", "i4", "i5", "i6", "i7"))
    (found,) = Recall(bundle)([query], [])
    newest_first = query.history[::-1][:5]
    turns = bundle.neighbours_IM[newest_first].T.ravel().tolist()
    expected = [row for row in dict.fromkeys(turns) if row not in query.seen]
    assert by_channel(found)["recent"] == expected[:6]


def test_the_popular_channel_follows_the_scenario(bundle_with):
    bundle = bundle_with(replace(NO_CHANNELS, num_popular=10))
    query = ask(bundle, scenario="cart")
    (found,) = Recall(bundle)([query], [])
    unseen = [row for row in bundle.popular[2].tolist() if row not in query.seen]
    assert by_channel(found)["popular"] == unseen[:10]


def test_an_item_belongs_to_the_first_channel_that_found_it(bundle_with):
    # two channels that find the very same items: the second keeps none
    bundle = bundle_with(replace(NO_CHANNELS, num_text=10, num_popular=10))
    query = ask(bundle)
    in_words = set(by_channel(Recall(bundle)([query], [])[0])["text"])
    overlap = [row for row in bundle.popular[0].tolist() if row not in query.seen][:10]
    popular = by_channel(Recall(bundle)([query], [])[0])["popular"]
    assert not in_words & set(popular)
    assert len(popular) == 10  # what text took is made up for
    assert set(overlap) - in_words <= set(popular)


@pytest.mark.parametrize("over_fetch", [1000, 0], ids=["over-fetched", "filtered"])
def test_large_indexes_find_the_same(tiny_run, monkeypatch, over_fetch):
    bundle = Bundle.open(tiny_run / "bundle")
    query = ask(bundle)
    expected = Recall(bundle)([query], [])[0]
    monkeypatch.setattr("winnow.cascade.nearest.COMPARED_WITH_ALL", 0)  # as if items were many
    monkeypatch.setattr("winnow.cascade.nearest.OVER_FETCH", over_fetch)
    searched = Recall(bundle)([query], [])[0]
    # texts of one wording are equally near, and which of them comes first is FAISS' affair
    assert searched.item_C[:20].tolist() == expected.item_C[:20].tolist()
    assert len(set(searched.item_C.tolist())) == 50
    assert not set(searched.item_C.tolist()) & set(query.seen.tolist())


@pytest.mark.parametrize("hidden", [0, 3, 40, 75, 110, 150])
def test_a_search_costs_no_look_up_of_the_whole_catalogue(monkeypatch, hidden):
    """The index looks up each id that a search names; those are the fewer ones."""
    vectors = np.random.default_rng(3).standard_normal((150, 8)).astype(np.float32)
    free = np.ones(150, bool)
    free[np.random.default_rng(4).choice(150, hidden, replace=False)] = False
    index, looked_up, positions = ItemIndex.build(vectors, "flat"), [], IdTable.positions

    def counted(self, ids):
        looked_up.append(len(ids))
        return positions(self, ids)

    monkeypatch.setattr(IdTable, "positions", counted)
    monkeypatch.setattr("winnow.cascade.nearest.COMPARED_WITH_ALL", 0)
    monkeypatch.setattr("winnow.cascade.nearest.OVER_FETCH", 10)
    found = Nearest(index).search(vectors[0], 20, free)
    best = np.argsort(-(vectors @ vectors[0]))
    assert found[free[found]].tolist()[:20] == best[free[best]][:20].tolist()
    assert sum(looked_up) <= min(hidden, 150 - hidden)


def test_items_without_common_words_leave_the_text_channel_out(bundle_with, monkeypatch):
    monkeypatch.setattr("winnow_ray.serving.build_bundle.lsa_vectors", lambda texts: None)
    bundle = bundle_with(TINY)
    assert not bundle.has_text
    (found,) = Recall(bundle)([ask(bundle)], [])
    channels = by_channel(found)
    assert channels["text"] == []
    assert channels["recent"]
    assert len(found.item_C) == 50


def test_blocked_items_are_never_offered(tiny_run, bundle_with):
    plain = Bundle.open(tiny_run / "bundle")
    offered = Cascade(plain)([ask(plain)])[0].candidates.item_C[:5]
    ids = plain.items["raw_id"].to_pylist()
    bundle = bundle_with(replace(TINY, blocked=tuple(ids[row] for row in offered)))
    query = ask(bundle)
    (outcome,) = Cascade(bundle)([query])
    assert len(outcome.candidates.item_C) == 50
    assert not set(outcome.candidates.item_C.tolist()) & set(offered.tolist())
    assert not set(Fallbacks(bundle).recall(query).item_C.tolist()) & set(offered.tolist())


def test_the_tree_keeps_the_rules(bundle_with):
    rules = replace(TINY, blocked=("i3", "i7"), quota_field="topic", quota=2)
    bundle = bundle_with(rules)
    words, query = CatalogueWords(bundle, None), ask(bundle)
    ids, topic = bundle.items["raw_id"].to_pylist(), bundle.items["topic"].to_numpy()
    assert {ids[row] for row in words.tree.items()} == {*ids} - {"i3", "i7"}
    (outcome,) = Cascade(bundle)([query])
    searched = np.flatnonzero(topic == topic[0])[:6].tolist()
    assert len(searched) == 6
    found = words.searched(query, searched, outcome.candidates)
    in_first = topic[found.item_C[:10]].tolist()
    assert found.item_C[:2].tolist() == searched[:2]
    assert in_first.count(topic[0]) == 2
    assert len(set(found.item_C.tolist())) == len(found.item_C)
    items = Lookup(bundle, SqliteEvents(":memory:")).items(query, found, outcome.candidates)
    assert [item.channel for item in items[:2]] == ["tree"] * 2
    assert [item.placed_by for item in items[:2]] == ["llm"] * 2
    assert items[0].recall_position is items[0].rank_position is items[0].score is None
    assert all(item.recall_position for item in items if item.channel != "tree")


def test_a_model_is_told_names_and_not_numbers(tiny_run):
    bundle = Bundle.open(tiny_run / "bundle")
    words = CatalogueWords(bundle, None)
    (outcome,) = Cascade(bundle)([ask(bundle)])
    topics = {row["topic"] for row in words.shown(outcome.candidates).fields if "topic" in row}
    assert topics
    assert topics <= set(bundle.value_names["topic"])
    assert not {name for name in words.tree.children() if name.startswith("topic ")}


def test_a_catalogue_on_which_nothing_is_trained_is_served(tiny_run, tmp_path):
    untrained = build_bundle.untrained()
    output = str(tmp_path / "bundle")
    dataset = str(tiny_run / "dataset")
    build_bundle.run(replace(untrained, dataset=dataset, output=output, cascade=TINY))
    bundle = Bundle.open(output)
    assert not bundle.is_trained
    for user in ("u3", "nobody"):
        query = ask(bundle, user_id=user)
        (outcome,) = Cascade(bundle)([query])
        assert outcome.degraded == []
        found = outcome.candidates
        assert len(set(found.item_C.tolist())) == len(found.item_C) == 50
        assert not set(found.item_C.tolist()) & set(query.seen.tolist())
        assert np.isnan(found.score_C).all()
        channels = {name for name, items in by_channel(found).items() if items}
        assert channels == ({"popular"} if user == "nobody" else {"text", "recent", "popular"})
    words = CatalogueWords(bundle, None)
    assert len(words.tree) == bundle.items.num_rows
    assert words.shown(found).vector_CD is not None


def test_half_trained_is_refused():
    with pytest.raises(ValueError, match="ranker is empty: give retriever, index and ranker, or"):
        replace(build_bundle.local(), ranker="")


@pytest.mark.parametrize("reranker", ["mmr", "dpp", "none"])
def test_the_quota_holds_whatever_reranks(bundle_with, reranker):
    bundle = bundle_with(replace(TINY, reranker=reranker, quota_field="topic", quota=2))
    topic = bundle.items["topic"].to_numpy()
    for number in range(8):
        query = ask(bundle, user_id=f"u{number}")
        (outcome,) = Cascade(bundle)([query])
        ranked = outcome.proposed["rank"]
        assert sorted(outcome.candidates.item_C.tolist()) == sorted(ranked.item_C.tolist())
        in_first = topic[outcome.candidates.item_C[:10]].tolist()
        assert all(in_first.count(t) <= 2 for t in set(in_first) - {0})
        without_rerank = Fallbacks(bundle).rerank(query, ranked)
        in_first = topic[without_rerank.item_C[:10]].tolist()
        assert all(in_first.count(t) <= 2 for t in set(in_first) - {0})


def test_without_a_reranker_the_order_is_the_rankers(bundle_with):
    bundle = bundle_with(replace(TINY, reranker="none"))
    (outcome,) = Cascade(bundle)([ask(bundle)])
    assert outcome.candidates.item_C.tolist() == outcome.proposed["rank"].item_C.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quota_field": "colour"}, r"quota_field must be a sparse item field .*topic.*'colour'"),
        ({"quota_field": "age"}, "quota_field must be a sparse item field"),
        ({"blocked": ("i1", "no such")}, "blocked must name items of .*, which has no 'no such'"),
    ],
)
def test_rules_about_what_the_dataset_lacks_are_refused(bundle_with, changes, message):
    with pytest.raises(DataError, match=message):
        bundle_with(replace(TINY, **changes))
