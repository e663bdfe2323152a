"""The job: each reader once, what it counts, and that it does nothing twice."""

import json
from dataclasses import replace

import pytest

from jobs import prepare, prepare_collection
from winnow.data.collection import Collection
from winnow.errors import DataError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    (root / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{row}", "title": "", "text": f"text {row}"} for row in range(4)]
    documents.append({"_id": "d4", "title": "", "text": ""})
    queries = [{"_id": "q0", "text": "zero"}, {"_id": "q1", "text": "one"}]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, lines in (("train", "q0\td0\t1\n"), ("test", "q1\td1\t1\nq1\td2\t1\nq0\td4\t1\n")):
        text = f"query-id\tcorpus-id\tscore\n{lines}"
        (root / "qrels" / f"{name}.tsv").write_text(text)
    return root


def config_of(folder, tmp_path):
    output = str(tmp_path / "collection")
    return replace(prepare_collection.scifact(), data=str(folder), output=output)


def test_a_beir_folder_becomes_a_collection(folder, tmp_path):
    config = config_of(folder, tmp_path)
    assert prepare_collection.run(config) == {
        "documents": 4,
        "queries": {"test": 1, "train": 1},
        "relevant": {"test": 2, "train": 1},
        "skipped": {
            "the document is empty: title and text have no words": 1,
            "corpus-id is not in corpus.jsonl": 1,
            "the query has no relevant document in this split": 1,
        },
    }
    made = Collection.open(config.output)
    assert made.documents["id"].to_pylist() == ["d0", "d1", "d2", "d3"]
    lines = (tmp_path / "collection" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [5, 4, 4]


def test_it_is_made_again_only_if_a_file_changed(folder, tmp_path):
    config = config_of(folder, tmp_path)
    first = prepare_collection.run(config)
    created = Collection.open(config.output).artifact.manifest
    assert prepare_collection.run(config) == first
    assert Collection.open(config.output).artifact.manifest == created
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d5", "title": "", "text": "new"}\n')
    assert prepare_collection.run(config)["documents"] == 5


def test_a_dataset_becomes_a_collection(tmp_path):
    dataset = str(tmp_path / "dataset")
    prepare.run(replace(prepare.tiny(), output=dataset))
    output = str(tmp_path / "collection")
    config = replace(prepare_collection.tiny(), dataset=dataset, output=output)
    counts = prepare_collection.run(config)
    made = Collection.open(output)
    assert counts["documents"] == 150
    assert counts["queries"] == {"test": 50, "train": 200}
    assert made.artifact.manifest["parents"].keys() == {"dataset"}
    assert prepare_collection.run(config) == counts


def test_a_bad_folder_leaves_no_artifact(tmp_path):
    config = config_of(tmp_path / "nothing", tmp_path)
    with pytest.raises(DataError, match=r"corpus\.jsonl is missing"):
        prepare_collection.run(config)
    assert not (tmp_path / "collection").exists()


def test_beir_needs_a_folder():
    with pytest.raises(ValueError, match=r"PrepareCollectionConfig\.data must be the folder"):
        prepare_collection.PrepareCollectionConfig(reader="beir")
