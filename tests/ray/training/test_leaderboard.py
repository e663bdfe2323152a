"""The leaderboard as Ray tasks: whole, continued after a kill, and not made twice."""

import json
from dataclasses import replace

import pytest

from jobs import leaderboard, prepare
from winnow.artifact import open_artifact
from winnow.artifact.work_folder import WorkFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=path))
    return path


def test_a_leaderboard_continues_where_it_was_killed(ray_cluster, dataset, tmp_path, monkeypatch):
    config = replace(leaderboard.tiny(), dataset=dataset, output=str(tmp_path / "board"))
    write, written = WorkFolder.write, []

    def killed_after_one(work, key, text):
        write(work, key, text)
        written.append(key)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkFolder, "write", killed_after_one)
    with pytest.raises(KeyboardInterrupt):
        leaderboard.run(config)
    monkeypatch.undo()
    assert not (tmp_path / "board").exists()
    kept = WorkFolder.beside(config.output).read(written)
    assert len(kept) == 1

    result = leaderboard.run(config)
    artifact = open_artifact(tmp_path / "board", kind="leaderboard")
    runs = json.loads((artifact.path / "runs.json").read_text())
    assert [(run["model"], run["seed"]) for run in runs] == [
        (model, seed) for model in ("shared_bottom", "star") for seed in (0, 1)
    ]
    assert json.loads(next(iter(kept.values()))) in runs  # not trained again
    board = json.loads((artifact.path / "leaderboard.json").read_text())
    assert board == result == artifact.metrics
    assert set(board) == {"shared_bottom", "star"}
    assert board["star"]["seeds"] == [0, 1]
    assert 0.5 < board["star"]["auc"] < 1
    assert (artifact.path / "leaderboard.md").read_text().startswith("| model | AUC |")
    assert (artifact.path / "leaderboard.png").stat().st_size > 10_000
    assert not (tmp_path / ".board.work").exists()

    monkeypatch.setattr("winnow_ray.training.leaderboard.finished_runs", None)
    assert leaderboard.run(config) == result


def test_a_model_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="did you mean 'star'"):
        replace(leaderboard.tiny(), models=("starr",))
    with pytest.raises(ValueError, match="no model of that name in 'starr:epochs=1'"):
        replace(leaderboard.tiny(), own=("starr:epochs=1",))
    with pytest.raises(ValueError, match="no field 'epoch'; did you mean 'epochs'"):
        replace(leaderboard.tiny(), own=("star:epoch=1",))
    with pytest.raises(ValueError, match="models and seeds must not be empty"):
        replace(leaderboard.tiny(), seeds=())


def test_a_setting_can_be_one_models_own():
    config = replace(leaderboard.tiny(), own=("star:epochs=9", "star:architecture.hidden=4"))
    assert config.run_of("shared_bottom", 5) == replace(config.ranker, seed=5)
    star = config.run_of("star", 5)
    assert (star.epochs, star.architecture.hidden, star.seed) == (9, (4,), 5)
