"""What an epoch's negatives are: how many of which kind, in which turn, and that they add up."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from winnow.retrieval.negatives.mix import MixConfig, Mixer
from winnow.retrieval.negatives.pools import SOURCES, NegativePool, NegativePools

DOCUMENTS = 1_000_000


def pool(lists):
    """A pool with these candidates of each query; equal numbers are equal texts."""
    query_N = np.repeat(np.arange(len(lists)), [len(of) for of in lists])
    candidate_N = np.array([number for of in lists for number in of], np.int64)
    return NegativePool.build(query_N, candidate_N, candidate_N, len(lists))


def pools(**by_source):
    queries = len(next(iter(by_source.values())))
    found = {source: pool(by_source.get(source, [[]] * queries)) for source in SOURCES}
    texts = [f"text {m}" for of in by_source.get("llm", []) for m in of]
    return NegativePools(queries, DOCUMENTS, texts, found)


def numbers(first, sizes):
    """As many numbers for each query, none of them twice."""
    ends = first + np.cumsum(sizes)
    return [list(range(end - size, end)) for size, end in zip(sizes, ends.tolist(), strict=True)]


def both(retrieved, llm):
    return pools(dense=numbers(0, retrieved), llm=numbers(DOCUMENTS, llm))


def mixed(given_pools, epoch=0, **config):
    mixer = Mixer(given_pools, MixConfig(**config))
    return mixer.epoch(epoch, np.arange(given_pools.num_queries))


def llm_of(mix):
    return (mix.candidate_IN >= DOCUMENTS).sum(axis=1)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.7, 1.0, 2.7])
def test_the_ratio_is_met_on_average_in_every_epoch(ratio):
    queries, most = 4_000, 7
    given_pools = both([20] * queries, [20] * queries)
    expected = np.clip(most * ratio / (1 + ratio), 1, most - 1)
    for epoch in (0, 1, 57):
        mix = mixed(given_pools, epoch, per_instance=most, syn_ratio=ratio)
        number_I = llm_of(mix)
        assert number_I.mean() == pytest.approx(expected, abs=0.03)  # 4 standard errors
        assert set(number_I) <= {int(np.floor(expected)), int(np.ceil(expected))}
        assert (mix.candidate_IN >= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
    st.integers(2, 8),
    st.floats(0.01, 50),
    st.integers(0, 2**31),
    st.integers(0, 40),
)
def test_every_instance_has_both_kinds_where_there_are_both(sizes, most, ratio, seed, epoch):
    retrieved, llm = zip(*sizes, strict=True)
    mix = mixed(both(retrieved, llm), epoch, per_instance=most, syn_ratio=ratio, seed=seed)
    number_I = llm_of(mix)
    for q, (of_retrieved, of_llm) in enumerate(sizes):
        row = mix.candidate_IN[q][mix.candidate_IN[q] >= 0]
        assert len(row) == min(most, of_retrieved + of_llm)  # full if it can be
        assert len(set(row)) == len(row)  # nothing twice
        assert number_I[q] >= min(1, of_llm)
        assert len(row) - number_I[q] >= min(1, of_retrieved)
        if not of_retrieved or not of_llm:
            assert number_I[q] == min(most, of_llm)
    only_own = (
        [set(of) for of in numbers(0, retrieved)],
        [set(of) for of in numbers(DOCUMENTS, llm)],
    )
    for q in range(len(sizes)):
        assert set(mix.candidate_IN[q]) <= only_own[0][q] | only_own[1][q] | {-1}


def test_the_audit_counts_every_place():
    mix = mixed(both([9, 9, 0, 0, 1], [9, 0, 9, 0, 1]), per_instance=4, syn_ratio=1.0)
    assert mix.audit == {
        "instances": 5,
        "written": 2 + 0 + 4 + 0 + 1,
        "retrieved": 2 + 4 + 0 + 0 + 1,
        "with_both": 2,
        "written_only": 1,
        "retrieved_only": 1,
        "without": 1,
        "short": 2,
        "absent": 4 + 2,
    }


def test_candidates_take_turns():
    """Over some epochs each candidate of a query is used equally often, give or take one pass."""
    mixer = Mixer(both([10], [5]), MixConfig(per_instance=5, syn_ratio=0.7))
    used = Counter()
    for epoch in range(100):
        used.update(mixer.epoch(epoch, np.array([0])).candidate_IN[0].tolist())
    retrieved = [used[candidate] for candidate in range(10)]
    taken = [used[DOCUMENTS + m] for m in range(5)]
    assert max(retrieved) - min(retrieved) <= 1
    assert max(taken) - min(taken) <= 1
    assert sum(taken) == pytest.approx(100 * 5 * 0.7 / 1.7, abs=1)


def test_what_is_drawn_depends_on_seed_query_and_turn_alone():
    given_pools = both([30] * 50, [8] * 50)
    hybrid = MixConfig(mode="hybrid")
    mixer = Mixer(given_pools, hybrid)
    whole = mixer.epoch(3, np.arange(50)).candidate_IN
    # Two workers with half the queries each, in another order.
    for part in (np.arange(0, 50, 2), np.arange(1, 50, 2)[::-1]):
        assert (mixer.epoch(3, part).candidate_IN == whole[part]).all()
    assert (Mixer(given_pools, hybrid).epoch(3, np.arange(50)).candidate_IN == whole).all()
    other = replace(hybrid, seed=1)
    assert (Mixer(given_pools, other).epoch(3, np.arange(50)).candidate_IN != whole).any()
    assert (mixer.epoch(4, np.arange(50)).candidate_IN != whole).any()


def test_a_query_with_several_positives_gets_several_turns_in_an_epoch():
    mixer = Mixer(both([12, 3], [4, 4]), MixConfig(per_instance=4, syn_ratio=1.0))
    mix = mixer.epoch(0, np.array([0, 1, 0, 0]))
    of_query = mix.candidate_IN[[0, 2, 3]]
    retrieved = of_query[of_query < DOCUMENTS]
    assert len(retrieved) == 6
    assert len(set(retrieved.tolist())) == 6
    following = mixer.epoch(1, np.array([0, 1, 0, 0])).candidate_IN[[0, 2, 3]]
    assert set(following[following < DOCUMENTS].tolist()) == set(range(12)) - set(
        retrieved.tolist()
    )


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        ("none", set()),
        ("random", {1, 2}),
        ("bm25", {3, 4}),
        ("mined", {5, 6}),
        ("llm", {DOCUMENTS, DOCUMENTS + 1}),
    ],
)
def test_a_mode_draws_from_its_sources_alone(mode, allowed):
    given_pools = pools(
        random=[[1, 2]],
        bm25=[[3, 4]],
        dense=[[5]],
        fused=[[5, 6]],
        llm=[[DOCUMENTS, DOCUMENTS + 1]],
    )
    mix = mixed(given_pools, mode=mode, per_instance=4)
    assert set(mix.candidate_IN[0]) - {-1} == allowed
    assert (mix.candidate_IN[0] >= 0).sum() == len(allowed)
    assert mix.audit["short"] == 1


def test_direct_mixing_shuffles_instances_of_one_kind_each():
    mix = mixed(both([9] * 40, [9] * 39 + [0]), mode="direct", per_instance=3)
    number_I = llm_of(mix)
    assert set(number_I) == {0, 3}
    assert mix.audit["with_both"] == 0
    assert mix.audit["written_only"] == 39
    assert mix.audit["retrieved_only"] == 40
    assert sorted(mix.query_at_I.tolist()) == sorted([*range(40), *range(39)])
    assert len(set(number_I[:20])) == 2  # and not one kind after the other
    again = mixed(both([9] * 40, [9] * 39 + [0]), mode="direct", per_instance=3)
    assert (again.candidate_IN == mix.candidate_IN).all()
    later = mixed(both([9] * 40, [9] * 39 + [0]), 1, mode="direct", per_instance=3)
    assert (later.query_at_I != mix.query_at_I).any()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"per_instance": 0}, "per_instance must be positive, got 0"),
        (
            {"per_instance": 1, "mode": "hybrid"},
            "per_instance must be at least 2 to hold both kinds, got 1",
        ),
        ({"syn_ratio": 0.0}, "syn_ratio must be positive and finite, got 0.0"),
        ({"syn_ratio": float("nan")}, "syn_ratio must be positive and finite, got nan"),
        ({"syn_ratio": float("inf")}, "syn_ratio must be positive and finite, got inf"),
        ({"syn_ratio": 0.7, "mode": "mined"}, "syn_ratio is of mode=hybrid alone, got mode=mined"),
        ({"retrieved": ()}, r"retrieved must name sources other than llm, got \(\)"),
        ({"retrieved": ("dense", "llm")}, "retrieved must name sources other than llm"),
    ],
)
def test_a_mix_that_cannot_be(config, message):
    with pytest.raises(ValueError, match=message):
        MixConfig(**config)


def test_a_ratio_asks_for_the_hybrid_mix():
    assert MixConfig().kind == "mined"
    assert MixConfig(syn_ratio=0.5).kind == "hybrid"
    assert MixConfig(mode="hybrid") != MixConfig(mode="hybrid", syn_ratio=0.5)
    assert MixConfig(mode="hybrid").ratio == 0.7


def test_one_negative_is_enough_for_one_kind():
    assert mixed(both([3], [3]), mode="mined", per_instance=1).candidate_IN.shape == (1, 1)
