"""Train a retriever with Ray Train: a text encoder, or two towers over who liked what.

    python -m jobs.train_retriever --config scifact --set num_workers=2
    python -m jobs.train_retriever --config scifact --set negatives.syn_ratio=0.7 num_workers=2 \
        mined=runs/scifact/negatives_llm output=runs/scifact/encoder_llm
    python -m jobs.train_retriever --config tiny --set dataset=runs/tiny/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.train_retriever --config movielens_1m --set num_workers=4

The preset says which: `scifact` and other collections train an encoder, the presets of a dataset
two towers. `negatives.syn_ratio` mixes LLM-written negatives in, which `mined` must have (see
`jobs.mine_negatives`). Started again after it was killed, the same command continues from its last
checkpoint.
"""

from jobs._command import job_command
from winnow.retrieval.encoder_training.train import EncoderTrainConfig
from winnow.retrieval.negatives.mix import MixConfig
from winnow.retrieval.two_tower.model import TwoTowerConfig
from winnow.retrieval.two_tower.train import TrainConfig
from winnow_ray.training.encoder import TrainEncoderConfig
from winnow_ray.training.retriever import train_retriever
from winnow_ray.training.two_tower import TrainTowersConfig


def tiny() -> TrainTowersConfig:
    """About a second, in this process."""
    return TrainTowersConfig(
        model=TwoTowerConfig(dim=16, hidden=32, history=10, heads=2, vocab_size=500),
        train=TrainConfig(epochs=2, batch_size=256, lr=1e-2),
        num_workers=0,
        cpus_per_worker=1,
    )


def simulate() -> TrainTowersConfig:
    """The embedded demo data, whose tastes are few and soon learnt."""
    return TrainTowersConfig(train=TrainConfig(epochs=2))


def scifact() -> TrainEncoderConfig:
    """Half an hour a run on two cores: abstracts say what they are about in their first half."""
    return TrainEncoderConfig(
        collection="runs/scifact/collection",
        mined="runs/scifact/negatives",
        output="runs/scifact/encoder",
        max_tokens=128,
        valid_documents=1000,
        negatives=MixConfig(per_instance=3),
        train=EncoderTrainConfig(epochs=4, lr=1e-4, temperature=0.05),
    )


PRESETS = {
    "tiny": tiny,
    "simulate": simulate,
    "movielens_1m": TrainTowersConfig,
    "scifact": scifact,
}

run = train_retriever
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
