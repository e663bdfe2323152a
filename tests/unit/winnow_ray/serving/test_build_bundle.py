"""The job that writes bundles: versions that never change, and probes that they answer."""

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from tests.tiny_run import CASCADE
from winnow.artifact import create_artifact, open_artifact
from winnow.bundle import Bundle
from winnow.cascade.probes import read_probes
from winnow.errors import ArtifactError
from winnow_ray.serving.build_bundle import BundleConfig, build_bundle


@pytest.fixture
def config(tiny_run, tmp_path):
    parts = {name: str(tiny_run / name) for name in ("dataset", "retriever", "index", "ranker")}
    return BundleConfig(**parts, cascade=CASCADE, output=str(tmp_path / "bundle"))


def test_a_second_build_leaves_the_first_version_as_it_was(config, tmp_path):
    first = build_bundle(config)["bundle"]
    files = {p: p.read_bytes() for p in (tmp_path / "bundle" / first).rglob("*") if p.is_file()}
    second = build_bundle(replace(config, cascade=replace(CASCADE, quota=1)))["bundle"]
    assert second != first
    assert {p: p.read_bytes() for p in files} == files
    root = tmp_path / "bundle"
    assert Bundle.open(root).version == Bundle.open(root / second).version == second
    assert Bundle.open(root / first).version == Bundle.open(root, version=first).version == first
    assert Bundle.open(root).artifact.version_uri == str(root / second)
    written = (root / "manifest.json").stat().st_mtime_ns
    assert build_bundle(replace(config, cascade=replace(CASCADE, quota=1)))["bundle"] == second
    assert (root / "manifest.json").stat().st_mtime_ns == written  # it was up to date


def test_the_probes_are_known_and_new_users_and_a_history_on_every_scenario(config):
    build_bundle(config)
    bundle = Bundle.open(config.output)
    probes, tolerance = read_probes(bundle)
    assert 0 < tolerance < 1
    assert {probe.request.scenario for probe in probes} == set(bundle.schema.scenarios)
    known = set(bundle.users["raw_id"].to_pylist())
    asked = [probe.request for probe in probes]
    assert any(request.user_id in known for request in asked)
    assert any(request.user_id and request.user_id not in known for request in asked)
    assert any(request.history and request.user_id is None for request in asked)
    assert all(probe.items for probe in probes)


def test_an_untrained_bundle_has_probes_too(config):
    build_bundle(replace(config, retriever="", index="", ranker=""))
    probes, _ = read_probes(Bundle.open(config.output))
    assert all(probe.items for probe in probes)


def test_a_bundle_whose_ranker_gives_no_numbers_is_not_written(config, tmp_path):
    made = open_artifact(config.ranker)
    parents = {"dataset": open_artifact(config.dataset)}
    with create_artifact(tmp_path / "nan", "ranker", config={}, parents=parents) as draft:
        shutil.copytree(made.path, draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        for file in draft.path.rglob("*.safetensors"):
            nan = {name: tensor.float() * float("nan") for name, tensor in load_file(file).items()}
            save_file(nan, file)
    with pytest.raises(ArtifactError, match=r"cannot answer user .*: rank failed"):
        build_bundle(replace(config, ranker=str(tmp_path / "nan")))
    assert not (tmp_path / "bundle").exists()


def test_a_folder_with_a_manifest_of_its_own_is_refused_before_the_work(config, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps({"name": "a web page"}))
    with pytest.raises(ArtifactError, match="name another output"):
        build_bundle(config)
