"""What a run of Ray Train makes of a training that diverges; no cluster is needed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from jobs import train_ranker
from winnow.errors import DivergenceError
from winnow_ray.training import ray_train

TINY = train_ranker.PRESETS["tiny"]()


def diverge(loop):
    raise DivergenceError("training diverged in epoch 2")


class Trained:
    """Ray Train, if its workers did nothing but run the loop once."""

    runs = 0

    def __init__(self, loop, **settings):
        self.loop = loop

    def fit(self):
        Trained.runs += 1
        checkpoint = SimpleNamespace(path="/storage/checkpoint_1")
        return SimpleNamespace(return_value=self.loop({}), checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("workers", "message"),
    [(0, "epoch 2$"), (1, "epoch 2; the last whole epoch is kept in /storage/checkpoint_1")],
)
def test_a_divergence_is_not_tried_again(monkeypatch, workers, message):
    """An exception in a worker would restart it, as after a lost node."""
    Trained.runs = 0
    monkeypatch.setattr(ray_train, "TorchTrainer", Trained)
    monkeypatch.setattr(ray_train, "connect", lambda: None)
    monkeypatch.setattr(ray_train, "check_cluster", lambda *args, **settings: 1)
    with pytest.raises(DivergenceError, match=message):
        ray_train.fit(diverge, {}, replace(TINY, num_workers=workers), name="run")
    assert Trained.runs == 1
