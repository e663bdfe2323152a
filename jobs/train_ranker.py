"""Train a ranking model with Ray Train.

    python -m jobs.train_ranker --config tiny --set dataset=runs/tiny/dataset
    python -m jobs.train_ranker --config movielens_1m --set model=shared_bottom num_workers=2
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.train_ranker --config movielens_1m --set num_workers=8

After a kill, the same command continues from the last finished epoch.
"""

from typing import Any

from jobs._command import job_command
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig
from winnow.ranking.optimizer import OptimizerConfig
from winnow_ray.training.ranker import TrainRankerConfig, train_ranker


def on(name: str, **fields: Any) -> TrainRankerConfig:
    """A config for the dataset that `jobs.prepare` makes with the preset of the same name."""
    return TrainRankerConfig(dataset=f"runs/{name}/dataset", output=f"runs/{name}/ranker", **fields)


def tiny() -> TrainRankerConfig:
    """A small model on a small log, for tests: about a second in this process."""
    return on(
        "tiny",
        model="shared_bottom",
        optimizer=OptimizerConfig(lr=1e-2, weight_decay=1e-6),
        epochs=3,
        batch_size=128,
        num_workers=0,
    )


def simulate() -> TrainRankerConfig:
    """The simulated log. Batches are small and the learning rate falls fast, since vectors of users
    start to fit noise in the third pass."""
    optimizer = OptimizerConfig(lr=4e-3, weight_decay=1e-6)
    return on("simulate", optimizer=optimizer, epochs=2, batch_size=512)


def movielens_1m() -> TrainRankerConfig:
    """MovieLens-1M: test AUC .816 in six passes.

    The benchmark's batch of 4096 needs more passes for less. Its weight decay of 1e-5 shrinks every
    embedding in every step, and models without a norm on their input do not recover from that.
    """
    return on(
        "movielens_1m",
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=1e-7),
        architecture=ModelConfig(dropout=0.2),
        inputs=InputConfig(std=0.03),
        epochs=6,
        batch_size=1024,
    )


def kuairand_1k() -> TrainRankerConfig:
    """KuaiRand-1K in the settings of Scenario-Wise Rec (CIKM 2025), not tuned here."""
    return on("kuairand_1k", batch_size=9_048, patience=4)


def ali_ccp() -> TrainRankerConfig:
    """Ali-CCP in the settings of Scenario-Wise Rec, not tuned here; rows are streamed."""
    return on("ali_ccp", batch_size=102_400, patience=5, data="stream")


def amazon() -> TrainRankerConfig:
    """Amazon 2014 in the settings of Scenario-Wise Rec, not tuned here."""
    return on("amazon", patience=5)


def douban() -> TrainRankerConfig:
    """Douban in the settings of Scenario-Wise Rec, not tuned here."""
    return on("douban", patience=4)


def mind() -> TrainRankerConfig:
    """MIND in the settings of Scenario-Wise Rec, not tuned here; rows are streamed."""
    return on("mind", patience=4, data="stream")


PRESETS = {
    "tiny": tiny,
    "simulate": simulate,
    "movielens_1m": movielens_1m,
    "kuairand_1k": kuairand_1k,
    "ali_ccp": ali_ccp,
    "amazon": amazon,
    "douban": douban,
    "mind": mind,
}

run = train_ranker
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
