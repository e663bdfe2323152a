"""A retriever of either kind, trained as the type of its config says."""

from typing import Any

from winnow_ray.training.encoder import TrainEncoderConfig, train_encoder
from winnow_ray.training.two_tower import TrainTowersConfig, train_two_tower


def train_retriever(config: TrainTowersConfig | TrainEncoderConfig) -> dict[str, Any]:
    """Train and write two towers or a text encoder; returns the figures of its manifest."""
    if isinstance(config, TrainTowersConfig):
        return train_two_tower(config)
    return train_encoder(config)
