"""Where Ray Data reads training rows; nothing is read here."""

from pathlib import Path

from pyarrow import fs

from winnow.artifact import create_artifact, open_artifact
from winnow_ray.training.ranker_stream import training_files

NAMES = ("train/part-1.parquet", "train/part-0.parquet", "valid/part-0.parquet", "schema.json")
REMOTE = "fsspec+memory:///streams/dataset"


def dataset(uri):
    with create_artifact(uri, "dataset", config={}) as draft:
        for name in NAMES:
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(name)
    return open_artifact(uri)


def read(store, path):
    with store.open_input_stream(path) as file:
        return file.read().decode()


def test_a_local_dataset_is_read_from_its_folder(tmp_path):
    store, files = training_files(dataset(tmp_path / "dataset"))
    assert [Path(file).name for file in files] == ["part-0.parquet", "part-1.parquet"]
    assert [read(store, file) for file in files] == ["train/part-0.parquet", "train/part-1.parquet"]


def test_a_remote_dataset_is_read_where_it_lies_and_not_from_this_nodes_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    artifact = dataset(REMOTE)
    store, files = training_files(artifact)
    assert not any(Path(file).is_relative_to(tmp_path) for file in files)
    assert [read(store, file) for file in files] == ["train/part-0.parquet", "train/part-1.parquet"]
    assert not isinstance(store, fs.LocalFileSystem)
    store.delete_dir("/streams")
