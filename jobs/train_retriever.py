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

from typing import Any

from jobs import _encoder, _towers
from jobs._encoder import TrainEncoderConfig
from jobs._towers import TrainTowersConfig
from winnow.config import job_main

PRESETS = {**_towers.PRESETS, **_encoder.PRESETS}


def run(config: TrainTowersConfig | TrainEncoderConfig) -> dict[str, Any]:
    """Train and write the retriever; returns the figures that its manifest records."""
    if isinstance(config, TrainTowersConfig):
        return _towers.run(config)
    return _encoder.run(config)


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
