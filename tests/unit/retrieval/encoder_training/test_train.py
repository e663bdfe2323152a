"""Training of the text encoder: steps, checkpoints, world sizes, validation."""

import multiprocessing
import os
import socket
from dataclasses import replace
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import distributed

from winnow.artifact import create_artifact
from winnow.data.collection import Collection
from winnow.errors import DataError, EncoderError
from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.encoder_training import experiment as experiment_module, train as train_module
from winnow.retrieval.encoder_training.experiment import EncoderConfig, EncoderExperiment
from winnow.retrieval.encoder_training.instances import (
    Instances,
    TrainingTexts,
    number_of_steps,
    steps,
)
from winnow.retrieval.encoder_training.train import MEASURE, EncoderTrainConfig
from winnow.retrieval.negatives.mix import MixConfig
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.token_lists import TokenLists
from winnow.retrieval.toy import make_tiny_encoder, make_toy_search
from winnow_ray.training.encoder import TrainEncoderConfig

TOPICS = ["moon", "rain", "tide", "harbour", "night", "hill", "road", "bread", "glass", "wool"]
OTHER_WORDS = dict(
    zip(TOPICS, ["la", "re", "mi", "fa", "so", "ti", "do", "ka", "ne", "zu"], strict=True)
)


def small_collection():
    """Forty documents, each about the two topics of a query, in other words."""
    documents = [(a, b) for a in TOPICS for b in TOPICS if a < b][:40]
    ids = [str(at) for at in range(len(documents))]
    texts = [f"{OTHER_WORDS[b]} and {OTHER_WORDS[a]}" for a, b in documents]
    asking = [f"q{at}" for at in ids]
    queries = {"id": asking, "text": [f"{a} {b}" for a, b in documents]}
    split = ["train" if at % 4 else "test" for at in range(len(ids))]
    qrels = {"split": split, "query": asking, "document": ids, "relevance": [1] * len(ids)}
    return Collection.of({"id": ids, "title": [""] * len(ids), "text": texts}, queries, qrels)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    collection = small_collection()
    with create_artifact(folder / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(folder / "model", collection.document_texts() + TOPICS)
    return EncoderConfig(
        collection=str(folder / "collection"),
        model=str(folder / "model"),
        negatives=MixConfig(mode="none"),
        train=EncoderTrainConfig(
            epochs=4, batch_size=8, lr=5e-3, temperature=0.1, precision="float32", patience=9
        ),
        valid_share=0.2,
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """With negatives of every source."""
    folder = tmp_path_factory.mktemp("toy")
    places = {name: folder / name for name in ("collection", "model", "mined")}
    make_toy_search(*places.values())
    return EncoderConfig(
        **{name: str(path) for name, path in places.items()},
        train=EncoderTrainConfig(epochs=2, batch_size=8, precision="float32"),
    )


def train(config, tmp_path, *, resume=None, stop_after=None):
    """All reported metrics; checkpoints lie in folders named after their number."""
    metrics = []

    def report(measured, save):
        metrics.append(measured)
        folder = tmp_path / str(len(metrics))
        folder.mkdir(parents=True)
        save(folder)
        if stop_after == len(metrics):
            raise InterruptedError

    experiment = EncoderExperiment(config)
    try:
        experiment.train(report, resume)
    except InterruptedError:
        return metrics, None
    return metrics, read_checkpoint(folder_of(tmp_path, len(metrics)))


def folder_of(tmp_path, number):
    return tmp_path / str(number)


def test_training_learns_and_keeps_the_best_weights(config, tmp_path):
    metrics, last = train(config, tmp_path)
    assert metrics[0]["epoch"] == 0  # the encoder as it was
    assert len(metrics) == 5
    assert last["losses"][-1] < last["losses"][0]
    best = max(measured[MEASURE] for measured in metrics)
    assert last["best"] == best > metrics[0][MEASURE]
    experiment = EncoderExperiment(config)
    config.trained(last).save(tmp_path)
    again = TextEncoder.load(tmp_path)
    assert experiment.measure(again, "test").means()["queries"] == 10


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(config, tmp_path):
    dropout = replace(config, train=replace(config.train, dropout=0.2, check_steps=2))
    _, whole = train(dropout, tmp_path / "whole")
    train(dropout, tmp_path / "killed", stop_after=4)
    resumed = folder_of(tmp_path / "killed", 4)
    assert read_checkpoint(resumed)["step"] > 0  # in the middle of an epoch
    _, parts = train(dropout, tmp_path / "again", resume=resumed)
    assert parts["losses"] == whole["losses"]
    for name, weight in whole["model"].items():
        assert torch.equal(parts["model"][name], weight), name


def test_a_checkpoint_of_a_gpu_is_read_where_there_is_none(config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    train(config, tmp_path / "killed", stop_after=2)
    monkeypatch.undo()
    left = folder_of(tmp_path / "killed", 2)
    assert {weight.device.type for weight in read_checkpoint(left)["best_weights"].values()} == {
        "cpu"
    }
    metrics, _ = train(config, tmp_path / "again", resume=left)
    assert [measured["epoch"] for measured in metrics] == [2, 3, 4]


def on_two(rank, port, config, folder, resume, results):
    """One of two processes; the first leaves its checkpoints in `folder`."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    numbers = count(1)

    def report(measured, save):
        place = folder / str(next(numbers))
        if save:
            place.mkdir(parents=True)
            save(place)

    experiment = EncoderExperiment(config)
    experiment.train(report, resume)
    weights = experiment.encoder.model.state_dict().values()
    results[rank] = [weight.double().sum().item() for weight in weights]
    distributed.destroy_process_group()


def trained_by_two(config, folder, resume=None):
    """Sums of the weights that each of two processes ends with."""
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        workers = [
            context.Process(
                target=on_two, args=(rank, port, config, folder, resume, results), daemon=True
            )
            for rank in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        return results[0], results[1]


def test_two_processes_go_on_with_the_dropout_of_each(config, tmp_path):
    uneven = {"batch_size": 7, "check_steps": 2, "epochs": 2}  # so they draw more and less
    dropout = replace(config, train=replace(config.train, dropout=0.2, **uneven))
    whole = trained_by_two(dropout, tmp_path / "whole")
    assert whole[0] == whole[1]
    # The one checkpoint is the first process'; the second must not draw what the first did.
    again = trained_by_two(dropout, tmp_path / "again", folder_of(tmp_path / "whole", 2))
    assert again == whole


def test_copies_of_a_query_are_trained_on_together_or_not_at_all(config, tmp_path):
    ids = [str(at) for at in range(40)]
    texts = [f"moon {at % 8}" for at in range(40)]
    qrels = {"split": ["train"] * 40, "query": ids, "document": ids, "relevance": [1] * 40}
    documents = {"id": ids, "title": [""] * 40, "text": ids}
    collection = Collection.of(documents, {"id": ids, "text": texts}, qrels)
    with create_artifact(tmp_path / "copies", "collection", config={}) as draft:
        collection.save(draft.path)
    made = EncoderExperiment(replace(config, collection=str(tmp_path / "copies"), valid_share=0.1))
    sides = (made._trained, made._valid)
    trained, held = (collection.query_texts(side.query_Q) for side in sides)
    assert len(trained) + len(held) == 40
    assert not set(trained) & set(held)
    assert len(held) >= 5
    with pytest.raises(DataError, match="has 8 queries with a relevant document and a text"):
        EncoderExperiment(replace(made.config, valid_share=0.99))


def test_patience_ends_training(config, tmp_path):
    still = replace(config, train=replace(config.train, lr=1e-12, patience=1, epochs=9))
    metrics, _ = train(still, tmp_path)
    assert len(metrics) == 2  # the encoder as it was, and one check that is no better


@pytest.mark.parametrize("memory", [0, 40, 100, 10_000])
def test_texts_and_queries_of_a_step_share_its_memory(config, monkeypatch, memory):
    kept, cached = [], train_module.CachedVectors

    def noted(*args, **settings):
        found = cached(*args, **settings)
        kept.append(found.kept_tokens)
        return found

    monkeypatch.setattr(train_module, "CachedVectors", noted)
    settings = replace(config.train, epochs=1, memory_tokens=memory, chunk_tokens=16)
    EncoderExperiment(replace(config, train=settings)).train(lambda metrics, save: None, None)
    assert kept
    assert all(text + query <= memory for text, query in zip(kept[::2], kept[1::2], strict=True))


def test_training_that_diverges_ends_with_the_best_weights_so_far(config, tmp_path, caplog):
    wild = replace(config, train=replace(config.train, lr=1e30, max_norm=1e30))
    metrics, last = train(wild, tmp_path)
    assert "epoch 0, step" in last["diverged"]
    assert "training diverged at epoch 0" in caplog.text
    assert len(metrics) == 2  # the encoder as it was, and the end
    best = config.trained(last)
    assert np.isfinite(best.encode_documents(["moon"])).all()
    reports = []
    EncoderExperiment(wild).train(lambda *report: reports.append(report), folder_of(tmp_path, 2))
    assert not reports  # it does not diverge twice


def test_weights_that_give_no_vectors_are_refused_before_training(config, tmp_path):
    experiment = EncoderExperiment(config)
    with torch.no_grad():
        experiment.encoder.model.embeddings.LayerNorm.weight.fill_(float("nan"))
    with pytest.raises(EncoderError, match="gives vectors with NaN or infinity"):
        experiment.train(lambda metrics, save: None, None)


def texts_of(ids, digests, known, queries=None):
    tokens = TokenLists.of([[1]] * len(ids))
    query, code = (np.array(side, np.int64) for side in zip(*known, strict=True))
    queries = queries or [str(at) for at in range(max(query) + 1)]
    return TrainingTexts.of(tokens, tokens, queries, digests, query, code)


def test_copies_are_one_column_and_known_positives_are_no_negatives():
    # texts 1 and 3 are copies; query 0 likes 0 and 1, query 1 likes 2
    texts = texts_of(range(5), ["a", "b", "c", "b", "e"], [(0, 0), (0, 1), (1, 2)])
    instances = Instances(np.array([0, 1]), np.array([0, 2]), np.array([[3, 4], [3, -1]]))
    (step,) = steps(instances, texts, batch_size=2, rank=0, world_size=1, in_batch=True)
    assert len(step.code_U) == 4  # a, b, c, e
    names = np.array(list("abcbe"))[step.code_U].tolist()
    counted = [{n for n, c in zip(names, row, strict=True) if c} for row in step.counts_BU]
    assert counted == [{"c", "e"}, {"a", "b", "e"}]
    assert [names[at] for at in step.target_B] == ["a", "c"]


def test_what_one_copy_of_a_query_likes_is_no_negative_of_the_other():
    texts = texts_of(range(3), list("abc"), [(0, 0), (1, 1)], queries=["who", "who"])
    instances = Instances(np.array([0, 1]), np.array([0, 1]), np.array([[2], [2]]))
    (step,) = steps(instances, texts, batch_size=2, rank=0, world_size=1, in_batch=True)
    counted = [step.code_U[row].tolist() for row in step.counts_BU]
    assert counted == [[2], [2]]


def test_only_own_negatives_count_where_others_are_not_wanted():
    texts = texts_of(range(5), list("abcde"), [(0, 0), (1, 1)])
    instances = Instances(np.array([0, 1]), np.array([0, 1]), np.array([[2], [4]]))

    def counted(**how):
        (step,) = steps(instances, texts, batch_size=2, rank=0, world_size=1, **how)
        return [set(step.code_U[row].tolist()) for row in step.counts_BU]

    assert counted(in_batch=True) == [{1, 2, 4}, {0, 2, 4}]
    assert counted(in_batch=False) == [{2}, {4}]
    assert counted(in_batch=True, own_only_from=4) == [{1, 2}, {0, 2, 4}]


def test_any_world_size_sees_the_same_global_batch():
    draw = np.random.default_rng(0)
    texts = texts_of(range(30), [str(at % 25) for at in range(30)], [(at, at) for at in range(12)])
    instances = Instances(np.arange(12), np.arange(12), draw.integers(0, 30, (12, 3)))

    def columns(world_size):
        found = []
        for rank in range(world_size):
            how = {"batch_size": 5, "rank": rank, "world_size": world_size, "in_batch": True}
            for step in steps(instances, texts, **how):
                group = texts.group_C[step.code_U]
                assert (np.diff(group) > 0).all()
                own = step.own_code_T
                assert step.size in (5, 2)
                assert set(own) <= set(np.append(instances.positive_P, instances.negative_PN))
                for b, query in enumerate(step.query_B):
                    found.append((query, tuple(group), tuple(step.counts_BU[b]), step.target_B[b]))
        return sorted(found)

    assert columns(1) == columns(2) == columns(3) == columns(5)
    assert number_of_steps(12, 5) == 3


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"dropout": 1.5}, r"dropout must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_that_make_no_sense(bad, said):
    with pytest.raises(ValueError, match=said):
        EncoderTrainConfig(**bad)


def test_experiments_that_make_no_sense(config):
    with pytest.raises(ValueError, match="valid_share must be above 0 and below 1"):
        replace(config, valid_share=1.0)
    with pytest.raises(ValueError, match=r"both teacher and train\.distil"):
        replace(config, teacher="x")


def asking_test_queries(config, folder, places):
    """A collection whose training queries at the given places have the text of a test query."""
    collection = Collection.open(config.collection)
    texts = collection.query_texts()
    for at in places:
        texts[at] = f" {texts[0].upper()} " if at % 2 else texts[4]  # the test asks 0 and 4
    queries = collection.queries.set_column(1, "text", pa.array(texts))
    with create_artifact(folder, "collection", config={}) as draft:
        replace(collection, queries=queries).save(draft.path)
    return replace(config, collection=str(folder))


def trained_queries(experiment):
    """Token ids of the queries that are trained on."""
    tokens = experiment.texts.query_tokens
    parts = np.split(tokens.token_T, tokens.start_N[1:-1])
    return {tuple(part.tolist()) for part in parts}


def test_queries_that_the_test_asks_too_are_not_trained_on(config, tmp_path, caplog):
    caplog.set_level("INFO", logger="winnow")
    whole = EncoderExperiment(config)
    assert "left_out" not in caplog.text  # nothing to leave out, nothing said
    places = [at for at in range(40) if at % 4][:20]
    asked = EncoderExperiment(asking_test_queries(config, tmp_path / "asked", places))
    assert "split=train queries=30 left_out=20: they have the text of a query of" in caplog.text
    assert len(trained_queries(whole)) == 24  # and 6 that pick the best weights
    assert len(trained_queries(asked)) == 8  # and 2
    assert trained_queries(asked) <= {
        tuple(whole.encoder.tokens([text], "query").token_T.tolist())
        for text in whole.collection.query_texts(range(21, 40))
    }
    assert len(asked.collection.judged("test")) == 10  # what is measured stays
    every = asking_test_queries(config, tmp_path / "every", [at for at in range(40) if at % 4])
    with pytest.raises(DataError, match=r"split train has 0 queries .* training needs two"):
        EncoderExperiment(every)


def test_a_teacher_is_distilled(config, tmp_path):
    taught = replace(config, teacher=config.model, train=replace(config.train, distil=1.0))
    _, last = train(taught, tmp_path)
    assert last["losses"][-1] == pytest.approx(0, abs=1e-6)  # no negatives: nothing to compare


def test_a_teacher_is_asked_once_by_all_ranks_where_there_is_training(config, monkeypatch):
    asked, shared = [], []
    inference, together = TextEncoder.for_inference, experiment_module.encode_together

    def load(at, *, device):
        asked.append(device)
        return inference(at, device=device)

    def encode_together(encoder, tokens):
        shared.append(len(tokens))
        return together(encoder, tokens)

    monkeypatch.setattr(TextEncoder, "for_inference", load)
    monkeypatch.setattr(experiment_module, "encode_together", encode_together)
    experiment = EncoderExperiment(
        replace(config, teacher=config.model, train=replace(config.train, distil=1.0))
    )
    experiment.measure(experiment.encoder, "test")
    assert not asked
    experiment.instances(0)
    experiment.instances(1)
    assert asked == ["cpu"]  # where the encoder is
    assert shared == [len(experiment.texts.query_tokens), len(experiment.texts.text_tokens)]


@pytest.mark.parametrize("mode", ["none", "random", "bm25", "mined", "llm", "hybrid", "direct"])
def test_only_texts_that_are_trained_on_are_tokenised(toy, mode):
    experiment = EncoderExperiment(replace(toy, negatives=MixConfig(mode=mode, per_instance=2)))
    epochs = [experiment.instances(epoch) for epoch in range(40)]  # every candidate has its turn
    drawn = np.concatenate([epoch.negative_PN.ravel() for epoch in epochs])
    own = np.searchsorted(experiment._used, experiment._trained.document_N)
    assert set(range(len(experiment.texts.text_tokens))) == {*drawn[drawn >= 0], *own}


def test_every_epoch_says_what_its_negatives_are(toy, tmp_path, caplog):
    caplog.set_level("INFO", logger="winnow")
    config = replace(toy, negatives=MixConfig(per_instance=4, syn_ratio=0.7))
    train(config, tmp_path)
    audit = EncoderExperiment(config).audit(2)
    assert [one["instances"] for one in audit] == [len(EncoderExperiment(config).instances(0))] * 2
    assert audit[0]["with_both"] == audit[0]["instances"]
    for epoch, one in enumerate(audit):
        counts = f"epoch={epoch} negatives: instances={one['instances']} written={one['written']} "
        assert caplog.text.count(counts) == 1


def test_validation_searches_what_was_mined_for_its_queries(toy):
    config = replace(toy, valid_share=0.05, valid_documents=5)
    experiment = EncoderExperiment(config)
    words = [
        set(text.split(" and ")) for text in experiment.collection.documents["text"].to_pylist()
    ]
    (relevant,) = experiment._valid.document_N.tolist()
    searched = set(experiment._valid_rows.tolist())
    assert relevant in searched
    assert len(searched) == 5
    assert all(words[row] & words[relevant] for row in searched)  # mined here: a topic in common
    found = experiment._validator()(experiment.encoder)
    assert found["recall@100"] == 1  # of five documents all are found, if not a hundred
    more = EncoderExperiment(replace(config, valid_documents=18))._valid_rows.tolist()
    assert searched < set(more)
    assert len(more) == len(set(more)) == 18
    plain = EncoderExperiment(replace(config, mined="", negatives=MixConfig(mode="none")))
    assert not all(words[row] & words[relevant] for row in plain._valid_rows)


def test_a_split_that_is_missing_is_said_before_training(config):
    collection = Collection.open(config.collection)
    config.check_splits(collection, "test")
    with pytest.raises(DataError, match="no split 'dev'; there are test, train"):
        config.check_splits(collection, "dev")
    with pytest.raises(DataError, match="no split 'tests'"):
        replace(config, split="tests").check_splits(collection, "test")


def test_the_split_that_is_measured_is_no_part_of_a_run(config):
    settings = {name: getattr(config, name) for name in EncoderConfig.__dataclass_fields__}
    made_from = config.parents(Collection.open(config.collection))
    configs = [TrainEncoderConfig(**settings, test=test) for test in ("test", "dev")]
    assert {one.run_key(made_from) for one in configs} == {config.run_key(made_from)}


@pytest.mark.parametrize(("ratio", "warned"), [(9.0, True), (1.0, False)])
def test_a_ratio_that_the_table_cannot_give_is_said(toy, tmp_path, caplog, ratio, warned):
    negatives = MixConfig(mode="hybrid", per_instance=2, syn_ratio=ratio)
    train(replace(toy, negatives=negatives), tmp_path, stop_after=2)
    assert ("negatives.syn_ratio asks for 9 LLM" in caplog.text) == warned
