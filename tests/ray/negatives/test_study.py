"""The study of negatives as Ray tasks: as many at a time as asked, and what one process gets."""

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from jobs import study_negatives
from winnow.artifact import open_artifact
from winnow.artifact.work_folder import WorkFolder
from winnow.errors import DataError
from winnow_ray.negatives.study_runs import made

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path):
    places = {"collection": "collection", "model": "encoder", "mined": "negatives"}
    found = {name: str(tmp_path / place) for name, place in places.items()}
    return replace(
        study_negatives.tiny(), output=str(tmp_path / "study"), num_workers=2,
        variants=("none", "hybrid"), seeds=(0,), **found,
    )  # fmt: skip


def napping(folder, number):
    """Leaves how long it ran, by the clock of the machine."""
    began = time.time()
    time.sleep(0.2)
    (Path(folder) / str(number)).write_text(json.dumps([began, time.time()]))
    return [{"number": number}]


def failing():
    raise DataError("no query has negatives")


def test_no_more_runs_at_a_time_than_asked(ray_cluster, config, tmp_path):
    calls = {str(n): partial(napping, str(tmp_path), n) for n in range(6)}
    found = dict(made(calls, config))
    assert found == {str(n): [{"number": n}] for n in range(6)}
    spans = [json.loads((tmp_path / key).read_text()) for key in calls]
    assert max(sum(b <= at < e for b, e in spans) for at, _ in spans) <= 2


def test_tasks_make_what_one_process_does(ray_cluster, config, tmp_path, monkeypatch):
    alone = replace(config, num_workers=0, output=str(tmp_path / "alone"))
    expected = study_negatives.run(alone)
    write, written = WorkFolder.write, []

    def killed_after_two(work, key, text):
        write(work, key, text)
        written.append(key)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(WorkFolder, "write", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        study_negatives.run(config)
    monkeypatch.undo()
    kept = WorkFolder.beside(config.output).read(written)
    assert len(kept) == 2
    assert study_negatives.run(config) == expected  # one thread everywhere: to the last digit
    artifact = open_artifact(config.output, kind="negatives_study")
    rows = json.loads((artifact.path / "study.json").read_text())["rows"]
    for one in (one for text in kept.values() for one in json.loads(text)):
        assert rows[one["variant"]]["seconds"] == one["seconds"]  # that very run


def test_what_goes_wrong_in_a_task_is_said_here(ray_cluster, config):
    with pytest.raises(DataError, match="no query has negatives"):
        list(made({"a": failing}, config))
