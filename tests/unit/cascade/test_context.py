"""A request's context is encoded as the log's was, and a bundle has what that takes."""

import asyncio
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs import build_bundle
from tests.logs import read_every_kind
from tests.replica import Replica
from winnow.artifact import create_artifact, open_artifact
from winnow.bundle import Bundle, CascadeConfig, check_parts, write_bundle
from winnow.bundle.context import ids_by_scenario
from winnow.bundle.item_paths import tree_paths
from winnow.cascade.answer import ContextField
from winnow.cascade.context import _word
from winnow.cascade.lookup import Lookup
from winnow.cascade.request import RecommendRequest, RequestError
from winnow.data.dataset import Dataset
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.schema import Field
from winnow.errors import ArtifactError
from winnow.events import SqliteEvents
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.ranker import save_ranker
from winnow.ranking.registry import ModelSpec, model_type
from winnow_ray.evaluation.held_out_lists import EvaluationData
from winnow_ray.serving import build_bundle as job


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    with create_artifact(folder / "dataset", "dataset", config={}) as draft:
        write_dataset(read_every_kind(folder), SplitConfig(), draft.path)
    return Dataset.open(folder / "dataset")


def bundle_of(dataset, folder, schema=None):
    """A bundle without an index; with a schema, it has a ranker of these fields."""
    parts = {}
    if schema is not None:
        parts["ranker"] = ranker_of(dataset, folder.with_name("ranker"), schema)
    with create_artifact(folder, "bundle", config={}) as draft:
        paths = tree_paths(dataset, None)
        figures = write_bundle(dataset, parts, CascadeConfig(), None, paths, draft.path)
        draft.metrics |= figures
    return folder


def ranker_of(dataset, folder, schema):
    torch.manual_seed(0)
    spec = ModelSpec(
        model="star", inputs=InputConfig(dim=2), architecture=model_type("star").Config()
    )
    parents = {"dataset": dataset.artifact}
    with create_artifact(folder, "ranker", config={}, parents=parents) as draft:
        save_ranker(draft.path, spec, schema, spec.build(schema).state_dict())
    return open_artifact(folder, kind="ranker")


@pytest.fixture(scope="module")
def bundle(dataset, tmp_path_factory):
    return Bundle.open(bundle_of(dataset, tmp_path_factory.mktemp("bundle") / "bundle"))


def encoded(bundle, scenario="home", **context):
    lookup = Lookup(bundle, SqliteEvents(":memory:"))
    request = RecommendRequest(user_id="user1", scenario=scenario, context=context)
    slot, place = lookup.resolve(request).context.sparse[0].tolist()
    return slot, place, float(lookup.resolve(request).context.dense[0, 0])


def test_values_become_the_ids_of_the_log(bundle):
    assert encoded(bundle, slot="slot 0", place="place 1", hour=0)[:2] == (1, 2)
    assert encoded(bundle, slot="slot 2")[0] == 3
    assert encoded(bundle, hour=1000)[2] == 1.0
    assert encoded(bundle, hour=-1e308)[2] == 0.0


def test_what_is_new_or_left_out_is_unknown(bundle):
    assert encoded(bundle, slot="never seen")[0] == 0
    assert encoded(bundle, slot="")[0] == 0
    slot, _, hour = encoded(bundle)
    assert (slot, hour) == (0, 0.0)


def test_a_field_with_one_value_in_each_scenario_follows_from_it(bundle, dataset):
    assert ids_by_scenario(dataset) == {"place": [1, 2]}
    assert encoded(bundle, "home")[1] == 1
    assert encoded(bundle, "cart")[1] == 2
    assert encoded(bundle, "cart", slot="slot 1")[:2] == (2, 2)
    assert encoded(bundle, "cart", place="place 0")[1] == 1  # what the request says, counts
    assert encoded(bundle, "cart", place="elsewhere")[1] == 0


def test_requests_do_not_change_each_other(bundle):
    lookup = Lookup(bundle, SqliteEvents(":memory:"))
    request = RecommendRequest(user_id="user1", scenario="home")
    lookup.resolve(replace(request, context={"slot": "slot 2", "hour": 20}))
    assert lookup.resolve(request).context.sparse.tolist() == [[0, 1]]
    assert lookup.resolve(request).context.dense.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("context", "field", "message"),
    [
        ({"slto": "x"}, "context.slto", "is not a context field; there are slot, place, hour"),
        ({"user": "u1"}, "context.user", "is not a context field; there are slot, place, hour"),
        ({"hour": "noon"}, "context.hour", "must be a number, got text"),
    ],
)
def test_a_wrong_context_names_its_field(bundle, context, field, message):
    with pytest.raises(RequestError) as caught:
        encoded(bundle, **context)
    assert (caught.value.field, caught.value.message) == (field, message)


def test_a_log_without_context_says_so(tiny_run):
    lookup = Lookup(Bundle.open(tiny_run / "bundle"), SqliteEvents(":memory:"))
    request = RecommendRequest(user_id="u1", scenario="0", context={"slot": "a"})
    with pytest.raises(RequestError, match="is not a context field; there is none"):
        lookup.resolve(request)


def test_numbers_are_the_text_that_a_column_of_numbers_became():
    """Ali-CCP's ids are integers: 301 may come as 301, 301.0 or "301"."""
    assert [_word(value) for value in (301, 301.0, "301", 0.5)] == ["301", "301", "301", "0.5"]


def test_the_catalogue_lists_the_fields(bundle):
    assert Lookup(bundle, SqliteEvents(":memory:")).catalogue().context == [
        ContextField("slot", "text", follows_scenario=False),
        ContextField("place", "text", follows_scenario=True),
        ContextField("hour", "number", follows_scenario=False),
    ]


def test_the_endpoint_takes_a_context(bundle, tmp_path):
    async def run():
        replica = await Replica(bundle.artifact.path, tmp_path).start()
        body = {"user_id": "user1", "scenario": "home", "k": 3}
        right = {"slot": "slot 1", "hour": 12.5}
        good = await replica.call("/recommend", body | {"context": right})
        wrong = await replica.call("/recommend", body | {"context": {"slto": 1}})
        return good, wrong, await replica.call("/catalogue")

    (status, _), (refused, answer), (_, catalogue) = asyncio.run(run())
    assert (status, refused) == (200, 422)
    message = "is not a context field; there are slot, place, hour"
    assert answer == {"errors": [{"field": "context.slto", "message": message}]}
    assert [field["name"] for field in catalogue["context"]] == ["slot", "place", "hour"]


def test_what_the_ranker_knows_from_requests_alone_is_reported(dataset, tmp_path):
    bundle = bundle_of(dataset, tmp_path / "bundle", dataset.schema)
    assert open_artifact(bundle).metrics["context"] == ["slot", "hour"]


def test_a_ranker_without_context_leaves_nothing_to_requests(dataset, tmp_path):
    fields = tuple(field for field in dataset.schema.fields if field.role != "context")
    bundle = bundle_of(dataset, tmp_path / "bundle", replace(dataset.schema, fields=fields))
    assert "context" not in open_artifact(bundle).metrics


def test_the_job_says_what_requests_must_give(tiny_run, tmp_path, caplog, monkeypatch):
    written = job.write_bundle
    monkeypatch.setattr(job, "write_bundle", lambda *a: written(*a) | {"context": ["slot"]})
    made = {name: str(tiny_run / name) for name in ("dataset", "retriever", "index", "ranker")}
    config = replace(build_bundle.tiny(), **made, output=str(tmp_path / "bundle"))
    with caplog.at_level(logging.WARNING):
        assert build_bundle.run(config)["context"] == ["slot"]
    assert "the ranker reads slot from the context of a request" in caplog.text


def test_a_ranker_of_fields_that_the_dataset_lacks_is_refused(dataset, tmp_path):
    strange = Field(name="weather", role="context", kind="sparse", size=4)
    schema = replace(dataset.schema, fields=(*dataset.schema.fields, strange))
    ranker = ranker_of(dataset, tmp_path / "ranker", schema)
    lack = "the ranker reads what the dataset .* does not have: 'weather' is none of its fields"
    with pytest.raises(ArtifactError, match=lack):
        check_parts(dataset.artifact, {"ranker": ranker})


def test_a_bundle_whose_ranker_reads_other_fields_is_not_opened(dataset, tmp_path):
    folder = bundle_of(dataset, tmp_path / "bundle", dataset.schema)
    other = replace(dataset.schema, fields=dataset.schema.fields[1:])
    with create_artifact(tmp_path / "other", "bundle", config={}) as draft:
        shutil.copytree(folder, draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        other.save(draft.path / "schema.json")
    with pytest.raises(ArtifactError, match=r"the ranker reads what the bundle .* does not have"):
        Bundle.open(tmp_path / "other")


def test_a_bundle_without_encoders_is_to_be_built_again(dataset, tmp_path):
    folder = bundle_of(dataset, tmp_path / "bundle")
    with create_artifact(tmp_path / "old", "bundle", config={}) as draft:
        shutil.copytree(folder, draft.path, dirs_exist_ok=True)
        for name in ("manifest.json", "context.json"):
            (draft.path / name).unlink()
    with pytest.raises(ArtifactError, match=r"encoders of context fields; build it again"):
        Bundle.open(tmp_path / "old")


def test_held_out_likes_are_scored_in_their_context(tmp_path):
    with create_artifact(tmp_path / "dataset", "dataset", config={}) as draft:
        write_dataset(read_every_kind(tmp_path), SplitConfig(kind="temporal"), draft.path)
    dataset = Dataset.open(tmp_path / "dataset")
    users = EvaluationData(dataset).held_out(10, seed=0)
    holdout = dataset.split("holdout")
    names = dataset.schema.select("sparse")
    columns = [names.index("slot"), names.index("place")]
    for user in users:
        (row,) = np.flatnonzero(holdout.user_N == user.user_row)
        assert user.context.sparse.tolist() == holdout.sparse_NF[[row]][:, columns].tolist()
        assert user.context.dense.shape == (1, 1)
