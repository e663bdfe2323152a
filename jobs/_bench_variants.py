"""Training speed of a ranker: epochs in a row, as configured or in one of its faster ways."""

import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any, Literal

import torch

from jobs._per_row import SIZES, random_rows, schema_of
from winnow.data.batches import Batches
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.train import Trainer

Variant = Literal["sparse", "bfloat16", "compile"]
MANY_USERS = 2_000_000
"""Ids of the user field in `large_table_speeds`: 128 MB of vectors 16 wide, four times that with
Adam's moments and the gradient."""


def speed(ranker: RankerConfig, rows: int, repeats: int, sizes: Mapping[str, int] = SIZES) -> float:
    """Median rows/s over epochs after one that is not timed, the making of batches included."""
    torch.manual_seed(ranker.seed)
    torch.compiler.reset()  # torch stops compiling code that several models before this one shared
    trainer = Trainer(ranker.spec().build(schema_of(sizes)), replace(ranker, epochs=repeats + 1))
    batches = Batches(random_rows(rows, sizes), batch_size=ranker.batch_size)
    seconds = []
    for epoch in range(repeats + 1):
        began = time.perf_counter()
        trainer.train_epoch(batches)
        trainer.epoch = epoch + 1
        seconds.append(time.perf_counter() - began)
    return rows / median(seconds[1:])


def varied(ranker: RankerConfig, variant: Variant) -> RankerConfig:
    """The same training done in another way."""
    changes: dict[Variant, dict[str, Any]] = {
        "sparse": {"inputs": replace(ranker.inputs, sparse=True)},
        "bfloat16": {"precision": "bfloat16"},
        "compile": {"compile": True},
    }
    return replace(ranker, **changes[variant])


def variant_speeds(
    ranker: RankerConfig, variants: tuple[Variant, ...], rows: int, repeats: int
) -> dict[str, int]:
    """Rows/s of each variant."""
    return {name: round(speed(varied(ranker, name), rows, repeats)) for name in variants}


def large_table_speeds(ranker: RankerConfig, rows: int, repeats: int) -> dict[str, int]:
    """Rows/s where Adam has to move the vectors of `MANY_USERS`, or only those of the batch."""
    sizes = SIZES | {"user": MANY_USERS}
    kinds = {"dense": ranker, "sparse": varied(ranker, "sparse")}
    return {name: round(speed(kind, rows, repeats, sizes)) for name, kind in kinds.items()}
