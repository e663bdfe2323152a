"""Train a retriever with Ray Train: a text encoder, or two towers over users and their likes.

    python -m jobs.train_retriever --config scifact --set num_workers=2
    python -m jobs.train_retriever --config scifact --set negatives.syn_ratio=0.7 num_workers=2 \
        mined=runs/scifact/negatives_llm output=runs/scifact/encoder_llm
    python -m jobs.train_retriever --config tiny --set dataset=runs/tiny/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.train_retriever --config movielens_1m --set num_workers=4

The preset decides which: `scifact`, a collection, trains an encoder; presets of a dataset train two
towers. `negatives.syn_ratio` mixes in an LLM's negatives, which `mined` must have (see
`jobs.mine_negatives`). After a kill, the same command continues from its last checkpoint.
"""

from collections.abc import Callable

from jobs._command import job_command
from winnow.retrieval.encoder_training.train import EncoderTrainConfig
from winnow.retrieval.negatives.mix import MixConfig
from winnow.retrieval.two_tower.model import TwoTowerConfig
from winnow.retrieval.two_tower.train import TrainConfig
from winnow_ray.training.encoder import TrainEncoderConfig
from winnow_ray.training.retriever import train_retriever
from winnow_ray.training.two_tower import TrainTowersConfig


def tiny() -> TrainTowersConfig:
    """Small towers on a small log, for tests: about a second in this process."""
    return TrainTowersConfig(
        model=TwoTowerConfig(dim=16, hidden=32, history=10, heads=2, vocab_size=500),
        train=TrainConfig(epochs=2, batch_size=256, lr=1e-2),
        num_workers=0,
        cpus_per_worker=1,
    )


def simulate() -> TrainTowersConfig:
    """Two towers on the simulated log, whose few tastes are soon learned."""
    return TrainTowersConfig(train=TrainConfig(epochs=2))


def scifact() -> TrainEncoderConfig:
    """A text encoder on SciFact: half an hour on two cores. Abstracts are cut at 128 tokens, since
    their first half says what they are about."""
    return TrainEncoderConfig(
        collection="runs/scifact/collection",
        mined="runs/scifact/negatives",
        vectors="runs/scifact/vectors",
        output="runs/scifact/encoder",
        max_tokens=128,
        valid_documents=1000,
        negatives=MixConfig(per_instance=3),
        train=EncoderTrainConfig(epochs=4, lr=1e-4, temperature=0.05),
    )


def beir() -> TrainEncoderConfig:
    """A text encoder on any set in BEIR's layout, with default settings."""
    return TrainEncoderConfig(
        collection="runs/beir/collection",
        mined="runs/beir/negatives",
        vectors="runs/beir/vectors",
        output="runs/beir/encoder",
    )


def movielens_1m() -> TrainTowersConfig:
    """Two towers on MovieLens-1M, in the default sizes."""
    return TrainTowersConfig()


PRESETS: dict[str, Callable[[], TrainTowersConfig | TrainEncoderConfig]] = {
    "tiny": tiny,
    "simulate": simulate,
    "movielens_1m": movielens_1m,
    "scifact": scifact,
    "beir": beir,
}

run = train_retriever
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
