"""What is served is what was trained: scores and histories, for every ranker, log and topology."""

import asyncio
import json
import pickle
import shutil
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from serve.graph.fused import FusedGraph
from serve.graph.request_state import RequestState
from serve.graph.split import SplitGraph
from serve.graph.split_stage import _attempt
from serve.versions.version import load
from tests.logs import LOGS
from winnow.artifact import create_artifact
from winnow.bundle import Bundle, CascadeConfig, write_bundle
from winnow.bundle.item_paths import tree_paths
from winnow.cascade import STAGES, Rank
from winnow.cascade.lookup import Lookup
from winnow.cascade.query import Candidates
from winnow.cascade.request import RecommendRequest
from winnow.data.batches import HistorySource
from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.events import SqliteEvents
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.mscan import MScanConfig
from winnow.ranking.ranker import Ranker, save_ranker
from winnow.ranking.registry import MODELS, ModelSpec, model_type
from winnow.retrieval.two_tower.model import TwoTower
from winnow.retrieval.two_tower.retriever import Retriever

STEPS = 4
SPECS = {
    name: ModelSpec(
        model=name, inputs=InputConfig(dim=4, std=0.5), architecture=model_type(name).Config()
    )
    for name in MODELS
}
SPECS["mscan with histories"] = replace(SPECS["mscan"], architecture=MScanConfig(all_history=STEPS))
CHECKED = 30
"""Rows of a log that are compared."""


@dataclass(frozen=True)
class Case:
    """A dataset, and a bundle of it into which rankers are put."""

    dataset: Dataset
    bundle: Bundle


@pytest.fixture(scope="module")
def case_of(tmp_path_factory):
    """The case of a log by name, made once."""
    made: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            with create_artifact(folder / "dataset", "dataset", config={}) as draft:
                write_dataset(LOGS[name](folder / "raw"), SplitConfig(), draft.path)
            dataset = Dataset.open(folder / "dataset")
            with create_artifact(folder / "bundle", "bundle", config={}) as draft:
                paths = tree_paths(dataset, None)
                write_bundle(dataset, {}, CascadeConfig(), None, paths, draft.path)
            made[name] = Case(dataset, Bundle.open(folder / "bundle"))
            made[name].bundle.part("ranker").mkdir()
        return made[name]

    return case


def put_ranker(case: Case, name: str, schema) -> Ranker:
    """Put a model of random weights into the bundle, as after training on fields of `schema`."""
    torch.manual_seed(0)
    model = SPECS[name].build(schema)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    save_ranker(case.bundle.part("ranker"), SPECS[name], schema, model.state_dict())
    return Ranker.load(case.bundle.part("ranker"))


def histories_of(dataset: Dataset) -> Histories:
    train = dataset.split("train")
    liked = train.label_N > 0
    columns = (train.user_N, train.item_N, train.time_N, train.scenario_N)
    return Histories.build(*(column[liked] for column in columns))


def offline(ranker: Ranker, dataset: Dataset, *, known_users: bool) -> np.ndarray:
    """Scores of the first test rows, as an evaluation has them."""
    rows = dataset.split("test")
    sparse, dense = rows.sparse_NF[:CHECKED].copy(), rows.dense_NE[:CHECKED].copy()
    if not known_users:
        for kind, values in (("sparse", sparse), ("dense", dense)):
            names = dataset.schema.select(kind)
            of_user = dataset.schema.select(kind, ["user"])
            values[:, [names.index(name) for name in of_user]] = 0
    history = None
    if ranker.history:
        items = dataset.table_features("item").sparse
        source = HistorySource(histories_of(dataset), items, ranker.history)
        history = source.before(rows.user_N[:CHECKED], rows.time_N[:CHECKED])
    return ranker.score(sparse, dense, rows.scenario_N[:CHECKED], history)


def raw_context(dataset: Dataset, row: int) -> dict[str, str | float]:
    """What a request says of the situation of a test row; what the log did not know is left out."""
    rows, said = dataset.split("test"), {}
    for kind, values in (("sparse", rows.sparse_NF), ("dense", rows.dense_NE)):
        names = dataset.schema.select(kind)
        for name in dataset.schema.select(kind, ["context"]):
            known = json.loads((dataset.artifact.path / "vocab" / f"{name}.json").read_text())
            value = values[row, names.index(name)]
            if kind == "dense":
                said[name] = known["low"] + float(value) * (known["high"] - known["low"])
            elif value:
                said[name] = known[value - 1]
    return said


def asked(case: Case, *, known_users: bool):
    """A query and one candidate for each of the first test rows."""
    rows, users = case.dataset.split("test"), case.dataset.users["raw_id"].to_pylist()
    lookup, past = Lookup(case.bundle, SqliteEvents(":memory:")), histories_of(case.dataset)
    queries, candidates = [], []
    for row in range(min(CHECKED, len(rows))):
        query = lookup.resolve(
            RecommendRequest(
                user_id=users[rows.user_N[row]] if known_users else "nobody",
                scenario=str(rows.scenario_N[row]),
                context=raw_context(case.dataset, row),
            )
        )
        # the likes that the log held at the time of the row
        start, end = past.bounds(rows.user_N[row : row + 1], rows.time_N[row : row + 1])
        mine = slice(int(start[0]), int(end[0]))
        queries.append(
            replace(query, history=past.item_N[mine], history_scenario=past.scenario_N[mine])
        )
        candidates.append(Candidates.recalled(rows.item_N[row : row + 1], np.zeros(1, np.int8)))
    return queries, candidates


def served(case: Case, *, known_users: bool) -> dict[str, list[float]]:
    """Scores of the rows by topology; split stages get their queries from another process."""
    rank, batch = Rank(case.bundle), asked(case, known_users=known_users)
    sent = pickle.loads(pickle.dumps(batch))
    found = {"fused": rank(*batch), "split": _attempt(rank, *sent)}
    return {topology: [float(one.score_C[0]) for one in of] for topology, of in found.items()}


def check(case: Case, name: str, schema, *, known_users: bool = True) -> None:
    ranker = put_ranker(case, name, schema)
    dataset = Dataset(case.dataset.artifact, schema)
    expected = offline(ranker, dataset, known_users=known_users)
    assert len(set(expected.tolist())) > 3
    for scores in served(case, known_users=known_users).values():
        np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("model", SPECS)
def test_a_score_served_is_the_score_of_the_evaluation(case_of, log, model):
    case = case_of(log)
    check(case, model, case.dataset.schema)


@pytest.mark.parametrize("log", LOGS)
def test_a_new_user_is_a_row_of_unknown_user_fields(case_of, log):
    case = case_of(log)
    check(case, "shared_bottom", case.dataset.schema, known_users=False)


@pytest.mark.parametrize("model", SPECS)
def test_a_ranker_of_fewer_fields_is_served_these(case_of, model):
    case = case_of("every_kind")
    fields = {field.name: field for field in case.dataset.schema.fields}
    names = ("slot", "item_kind", "item", "user", "user_number", "hour")  # in an order of its own
    check(case, model, replace(case.dataset.schema, fields=tuple(fields[name] for name in names)))


def test_every_kind_of_field_is_served(case_of):
    fields = case_of("every_kind").dataset.schema.fields
    kinds = {(field.role, field.kind) for field in fields}
    assert len(kinds) == 6
    assert len(LOGS) == 7


@pytest.mark.parametrize("log", LOGS)
def test_a_history_served_is_the_history_trained_on(case_of, log):
    """After the whole log, a bundle holds for each user what a row of a later time would read."""
    case = case_of(log)
    splits = [case.dataset.split(name) for name in ("train", "valid", "test")]
    columns = [
        np.concatenate([getattr(split, name)[split.label_N > 0] for split in splits])
        for name in ("user_N", "item_N", "time_N", "scenario_N")
    ]
    past, users = Histories.build(*columns), case.dataset.users["raw_id"].to_pylist()
    put_ranker(case, "mscan with histories", case.dataset.schema)
    rank, lookup = Rank(case.bundle), Lookup(case.bundle, SqliteEvents(":memory:"))
    queries = [lookup.resolve(RecommendRequest(user_id=user, scenario="0")) for user in users]
    found = rank._scorer._history(queries, np.arange(len(users)))
    source = HistorySource(past, case.dataset.table_features("item").sparse, STEPS)
    expected = source.before(np.arange(len(users)), None)
    assert torch.equal(found.sparse_BTF, expected.sparse_BTF)
    assert torch.equal(found.scenario_BT, expected.scenario_BT)


class Handle:
    """A stage of the split topology in this process; arguments go through pickle as in Ray."""

    def __init__(self, stage):
        self.stage = stage

    async def remote(self, version, queries, candidates):
        return _attempt(self.stage, *pickle.loads(pickle.dumps((queries, candidates))))


def graphs(bundle, stages):
    """Both topologies over the same stages."""
    fused = FusedGraph()
    yield fused
    yield SplitGraph({name: Handle(stage) for name, stage in stages.items()}, lambda version: [])


def test_both_topologies_serve_the_scores_of_the_evaluation(tiny_run):
    dataset, bundle = Dataset.open(tiny_run / "dataset"), Bundle.open(tiny_run / "bundle")
    version = load(bundle, SqliteEvents(":memory:"), with_stages=True)
    ranker = Ranker.load(bundle.part("ranker"))
    for graph in graphs(bundle, {name: stage(bundle) for name, stage in STAGES.items()}):
        for row, user in enumerate(dataset.users["raw_id"].to_pylist()[:5]):
            request = RecommendRequest(user_id=user, scenario="1", k=10)
            state = RequestState(request, time.monotonic() + 600, version)
            (outcome,) = asyncio.run(graph.run([state]))
            assert outcome.degraded == []
            found = outcome.candidates
            tables = {"user": (dataset.users, [row]), "item": (dataset.items, found.item_C)}
            sparse, dense = (
                np.stack(
                    [
                        np.broadcast_to(table[field.name].to_numpy()[at], len(found.item_C))
                        for field in dataset.schema.fields
                        if field.kind == kind
                        for table, at in [tables[field.role]]
                    ],
                    axis=1,
                )
                for kind in ("sparse", "dense")
            )
            expected = ranker.score(sparse, dense, np.ones(len(sparse), np.int64))
            np.testing.assert_allclose(found.score_C, expected, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_fail_the_rank_stage(tiny_run, bad):
    bundle = Bundle.open(tiny_run / "bundle")
    version = load(bundle, SqliteEvents(":memory:"), with_stages=True)
    rank = version.cascade.stages["rank"]
    whole = rank._scorer._ranker.logits

    def broken(*rows):
        logits = whole(*rows)
        logits[0] = bad
        return logits

    rank._scorer._ranker.logits = broken
    for graph in graphs(bundle, version.cascade.stages):
        request = RecommendRequest(user_id="u1", scenario="0", k=5)
        state = RequestState(request, time.monotonic() + 600, version)
        (outcome,) = asyncio.run(graph.run([state]))
        assert [(one.stage, one.reason) for one in outcome.degraded] == [("rank", "failed")]
        assert np.isnan(outcome.candidates.score_C).all()


def test_rows_whose_scores_are_all_1_keep_their_order(tiny_run):
    bundle = Bundle.open(tiny_run / "bundle")
    rank, lookup = Rank(bundle), Lookup(bundle, SqliteEvents(":memory:"))
    query = lookup.resolve(RecommendRequest(user_id="u1", scenario="0"))
    recalled = Candidates.recalled(np.arange(20, dtype=np.int32), np.zeros(20, np.int8))
    logits = np.random.default_rng(0).permutation(20).astype(np.float32) + 30
    rank._scorer._ranker.logits = lambda *rows: logits
    (ranked,) = rank([query], [recalled])
    assert (ranked.score_C == 1).all()
    assert ranked.item_C.tolist() == np.argsort(-logits).tolist()


def test_a_retriever_of_fewer_fields_is_given_these(tiny_run, tmp_path):
    dataset = Dataset.open(tiny_run / "dataset")
    fields = tuple(f for f in dataset.schema.fields if f.kind == "sparse")[::-1]
    reads = replace(dataset.schema, fields=fields)
    whole = Retriever.load(tiny_run / "retriever")
    torch.manual_seed(0)
    words = whole.tokenizer.get_vocab_size()
    liked = torch.from_numpy(dataset.table_features("item", reads).sparse)
    narrow = Retriever(TwoTower(whole.model.config, reads, words), reads, whole.tokenizer, liked)
    assert narrow.encode_catalogue(dataset).shape == (dataset.items.num_rows, narrow.dim)
    source = Bundle.open(tiny_run / "bundle")
    shutil.copytree(source.artifact.path, tmp_path / "bundle")
    narrow.save(tmp_path / "bundle" / "retriever")
    bundle = Bundle(replace(source.artifact, path=tmp_path / "bundle"), source.schema)
    recall, lookup = STAGES["recall"](bundle), Lookup(bundle, SqliteEvents(":memory:"))
    query = lookup.resolve(RecommendRequest(user_id="u3", scenario="0"))
    found = recall._user_vectors(recall._vectors_of, [query])
    row = dataset.users["raw_id"].to_pylist().index("u3")
    user = dataset.table_features("user", reads).take(slice(row, row + 1))
    expected = narrow.encode_users(query.history[None], *user, np.zeros(1, np.int64))
    np.testing.assert_allclose(found, expected, atol=1e-5)
