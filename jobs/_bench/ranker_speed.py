"""Training speed of a ranker, as configured or in one of its faster variants."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import torch

from jobs._baselines.per_row_training import SIZES, random_rows, schema_of
from winnow.data.batches import Batches
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.train import Trainer

Variant = Literal["sparse", "bfloat16", "compile"]
"""Sparse gradients of the embeddings, products in bfloat16, or a compiled model."""
MANY_USERS = 2_000_000
"""Ids of the user field in `large_table_speeds`: vectors of width 16 take 128 MB, and four times
that with Adam's moments and the gradient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How a speed is measured."""

    rows: int
    """Rows of an epoch."""
    repeats: int
    """Epochs that are timed, after one that is not."""
    device: str = "cpu"
    """Device of the model: cpu or cuda."""


def speed(ranker: RankerConfig, timing: Timing, sizes: Mapping[str, int] = SIZES) -> float:
    """Median rows per second over the epochs, with making batches."""
    torch.manual_seed(ranker.seed)
    torch.compiler.reset()  # torch stops compiling code that several earlier models shared
    model = ranker.spec().build(schema_of(sizes)).to(timing.device)
    trainer = Trainer(model, replace(ranker, epochs=timing.repeats + 1))
    rows = random_rows(timing.rows, sizes)
    batches = Batches(rows, batch_size=ranker.batch_size, device=timing.device)
    seconds = []
    for epoch in range(timing.repeats + 1):
        began = time.perf_counter()
        trainer.train_epoch(batches)
        trainer.epoch = epoch + 1
        seconds.append(time.perf_counter() - began)
    return timing.rows / median(seconds[1:])


def least_bytes_per_row(ranker: RankerConfig, sizes: Mapping[str, int] = SIZES) -> float:
    """Fewest bytes that a training step moves per row.

    They are the row's features, its vectors read once, their gradients written once, and its part
    of Adam's pass, which reads four numbers of every parameter and writes three.
    """
    model = ranker.spec().build(schema_of(sizes))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    features = len(sizes) * 4 + 4 + 8 + 4
    vectors = 2 * len(sizes) * ranker.inputs.dim * 4
    return features + vectors + 7 * 4 * parameters / ranker.batch_size


def varied(ranker: RankerConfig, variant: Variant) -> RankerConfig:
    """The config of the same training in another variant."""
    changes: dict[Variant, dict[str, Any]] = {
        "sparse": {"inputs": replace(ranker.inputs, sparse=True)},
        "bfloat16": {"precision": "bfloat16"},
        "compile": {"compile": True},
    }
    return replace(ranker, **changes[variant])


def variant_speeds(
    ranker: RankerConfig, variants: tuple[Variant, ...], timing: Timing
) -> dict[str, int]:
    """Rows per second of each variant."""
    return {name: round(speed(varied(ranker, name), timing)) for name in variants}


def large_table_speeds(ranker: RankerConfig, timing: Timing) -> dict[str, int]:
    """Rows per second where Adam moves the vectors of all `MANY_USERS`, or only of the batch."""
    sizes = SIZES | {"user": MANY_USERS}
    kinds = {"dense": ranker, "sparse": varied(ranker, "sparse")}
    return {name: round(speed(kind, timing, sizes)) for name, kind in kinds.items()}
