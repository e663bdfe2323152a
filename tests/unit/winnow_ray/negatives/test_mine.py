"""The job: mined once without an LLM, then with the answers to what the first run asks."""

import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import mine_negatives
from winnow.artifact import create_artifact
from winnow.data.collection import Collection
from winnow.errors import ArtifactError, EncoderError
from winnow.llm.generation.artifact import ANSWERS_FILE, SHARED_FILE, SHARED_SCHEMA
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import TableSource
from winnow.retrieval.negatives.mine import _partners
from winnow.retrieval.negatives.mix import MixConfig, Mixer
from winnow.retrieval.negatives.table import NegativesTable
from winnow.retrieval.toy import make_tiny_encoder

WORDS = [
    "tide",
    "moon",
    "rain",
    "hill",
    "night",
    "fox",
    "bread",
    "oven",
    "lamp",
    "door",
    "river",
    "stone",
    "cloud",
    "seed",
    "glass",
]
DOCUMENTS, QUERIES = 60, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A collection of random sentences, and an encoder without training."""
    folder = tmp_path_factory.mktemp("mine")
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=24)) for _ in range(DOCUMENTS)]
    ids = [f"q{q}" for q in range(QUERIES)]
    # A query is a part of its document, so that its words find it.
    queries = [" ".join(texts[q].split()[:10]) for q in range(QUERIES)]
    splits = ["test" if q % 4 == 3 else "train" for q in range(QUERIES)]
    collection = Collection.of(
        {
            "id": [f"d{n}" for n in range(DOCUMENTS)],
            "title": [""] * DOCUMENTS,
            "text": texts,
        },
        {"id": ids, "text": queries},
        {
            "split": splits,
            "query": ids,
            "document": [f"d{q}" for q in range(QUERIES)],
            "relevance": [1] * QUERIES,
        },
    )
    with create_artifact(folder / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(folder / "encoder", texts)
    mine_negatives.run(config_of(folder))
    return folder


def config_of(folder, **changes):
    named = {name: str(folder / name) for name in ("collection", "vectors", "output")}
    config = replace(mine_negatives.tiny(), model=str(folder / "encoder"), **named)
    # Untrained vectors hardly tell the positive apart: any margin would drop nearly all.
    return replace(config, mining=replace(config.mining, margin=0.0), **changes)


def answered(folder):
    """A generation artifact whose answers are those that a tiny model is taught."""
    task, draw = TASKS["hard_negatives"], random.Random(1)
    texts = Collection.open(folder / "collection").document_texts()
    rows = []
    source = TableSource(str(folder / "output" / "llm_inputs.parquet"))
    for number, inputs in enumerate(source.inputs(task, 10**6, 0)):
        row = {"key": f"{number:064x}", "task": task.name, "inputs": json.dumps(inputs)}
        row |= {"parsed": json.dumps(task.example(inputs, texts, draw)), "valid": True}
        rows.append(row | {"model": "m", "template": task.template.id})
    with create_artifact(folder / "generation", "generation", config={}) as draft:
        pq.write_table(pa.Table.from_pylist(rows, ANSWER_SCHEMA), draft.path / ANSWERS_FILE)
        pq.write_table(pa.Table.from_pylist([], SHARED_SCHEMA), draft.path / SHARED_FILE)
    return str(folder / "generation")


def test_training_queries_are_mined_from_every_source(folder):
    table = NegativesTable.open(folder / "output")
    assert table.artifact.metrics["queries"] == 18
    assert set(table.artifact.metrics["verdicts"]) == {"bm25", "dense", "fused", "random"}
    asked = {f"q{q}" for q in range(QUERIES) if q % 4 != 3}
    rows = table.rows().to_pylist()
    assert {row["query"] for row in rows} == asked
    for row in rows:
        if row["document"][1:] == row["query"][1:]:
            assert row["verdict"] == "positive"
    prompts = pq.read_table(table.artifact.path / "llm_inputs.parquet")
    assert set(prompts["query_id"].to_pylist()) == asked
    assert table.artifact.metrics["llm_inputs"] == 18


def test_an_output_that_may_not_be_written_is_refused_before_the_encoding(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    changes = {"vectors": str(tmp_path / "vectors"), "output": str(tmp_path)}
    with pytest.raises(ArtifactError, match="is not an artifact"):
        mine_negatives.run(config_of(folder, **changes))
    assert not (tmp_path / "vectors").exists()


def test_a_second_run_finds_its_output(folder):
    before = NegativesTable.open(folder / "output").artifact.manifest
    assert mine_negatives.run(config_of(folder)) == before["metrics"]
    assert NegativesTable.open(folder / "output").artifact.manifest == before


def test_chunks_do_not_matter(folder):
    config = config_of(folder, output=str(folder / "chunked"))
    mine_negatives.run(replace(config, mining=replace(config.mining, chunk_queries=5)))
    whole, chunked = (NegativesTable.open(folder / name).rows() for name in ("output", "chunked"))
    columns = ["query", "document", "source", "rank", "verdict"]
    key = [(name, "ascending") for name in columns]
    assert whole.select(columns).sort_by(key).equals(chunked.select(columns).sort_by(key))


def test_answers_of_an_llm_join_and_are_mixed(folder):
    output = folder / "with_llm"
    metrics = mine_negatives.run(config_of(folder, generation=answered(folder), output=str(output)))
    counts = metrics["verdicts"]["llm"]
    assert sum(counts.values()) == 18 * 2
    assert counts["kept"] > 0
    assert 0 <= metrics["source_auc_before"] <= 1
    table = NegativesTable.open(output)
    assert set(table.artifact.manifest["parents"]) == {"collection", "vectors", "generation"}
    collection = Collection.open(folder / "collection")
    pools = table.pools(collection.queries["id"], collection.documents["id"])
    query_rows = collection.judged("train").query_Q
    mix = Mixer(pools, MixConfig(mode="hybrid", per_instance=4)).epoch(0, query_rows)
    assert mix.audit["with_both"] > 0
    positive_I = np.array(collection.judged("train").document_N)
    assert not (mix.candidate_IN == positive_I[:, None]).any()


def test_the_probe_compares_with_documents_of_every_query(tmp_path, monkeypatch):
    """Not those of the first queries, and none on two sides of it."""
    rows = [
        {"query": f"q{q}", "document": f"d{4 * q + n}", "source": "dense", "verdict": verdict}
        for q in range(50)
        for n, verdict in enumerate(["kept"] * 9 + ["positive"])
    ]
    rows += [{**row, "source": "random", "document": "far"} for row in rows[:10]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=70)
    monkeypatch.setattr("winnow.retrieval.negatives.mine.MOST_PARTNERS", 2 * 40)
    found = _partners(tmp_path / "rows.parquet", pa.chunked_array([[f"q{q}" for q in range(40)]]))
    counts = Counter(found["query"].to_pylist())
    assert max(counts.values()) == 2
    assert set(counts) <= {f"q{q}" for q in range(40)}
    assert len(counts) > 30
    documents = found["document"].to_pylist()
    assert len(documents) == len(set(documents))
    assert "far" not in documents


def test_an_encoder_that_is_nowhere_is_one_clear_error(folder):
    with pytest.raises(EncoderError, match="/nowhere is neither a folder here"):
        mine_negatives.run(replace(config_of(folder), model="/nowhere"))
