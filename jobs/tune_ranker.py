"""Search hyper-parameters of one ranking model with Ray Tune: Optuna proposes, ASHA stops early.

    python -m jobs.tune_ranker --config movielens_1m --set model=star num_samples=20
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.tune_ranker --config movielens_1m --set model=star num_samples=200
    python -m jobs.train_ranker --config runs/movielens_1m/tuned/preset.json

The trial with the best validation AUC becomes a preset file that `jobs.train_ranker` takes. After a
kill, the same command continues the search. A trial trains in its own process, or with
num_workers=N on N Ray Train workers. As many trials run at a time as the cluster has room for.
"""

from dataclasses import fields
from functools import partial
from typing import Any

from jobs import train_ranker
from jobs._command import job_command
from winnow_ray.training.tune_ranker import TuneRankerConfig, tune_ranker


def tuning(preset: str, **changes: Any) -> TuneRankerConfig:
    """A search around the preset of `jobs.train_ranker` with the same name.

    A trial trains in its own process, or on workers if the preset streams its rows.
    """
    base = train_ranker.PRESETS[preset]()
    kept = {field.name: getattr(base, field.name) for field in fields(base)}
    own: dict[str, Any] = {"output": f"runs/{preset}/tuned", "preset": preset}
    if base.data == "memory":
        own["num_workers"] = 0
    return TuneRankerConfig(**kept | own | changes)


PRESETS = {name: partial(tuning, name) for name in train_ranker.PRESETS}
PRESETS["tiny"] = partial(tuning, "tiny", num_samples=2)


def run(config: TuneRankerConfig) -> dict[str, Any]:
    """Search around the preset that the config names."""
    return tune_ranker(config, train_ranker.PRESETS[config.preset]())


main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
