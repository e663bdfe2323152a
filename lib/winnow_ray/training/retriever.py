"""Training of a retriever: two towers or a text encoder, as the type of the config says."""

from typing import Any

from winnow_ray.training.encoder import TrainEncoderConfig, train_encoder
from winnow_ray.training.two_tower import TrainTowersConfig, train_two_tower


def train_retriever(config: TrainTowersConfig | TrainEncoderConfig) -> dict[str, Any]:
    """Train two towers on a dataset, or a text encoder on a collection, and write the result.

    A run that was killed continues from its last checkpoint.

    Returns:
        Figures of the manifest: recall of the towers, or the encoder's measures.

    Raises:
        DataError: an input is missing or lacks the negatives that the mode takes.
        RegressionError: an encoder is worse than the one that it started from.

    Example:
        With the dataset of `jobs.prepare --config tiny`, in this process:

            train_retriever(TrainTowersConfig(dataset="runs/tiny/dataset",
                output="runs/tiny/retriever", num_workers=0))
    """
    if isinstance(config, TrainTowersConfig):
        return train_two_tower(config)
    return train_encoder(config)
