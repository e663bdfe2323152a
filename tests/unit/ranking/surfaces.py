"""Schemas of a log with three surfaces, and rows of it, for the tests of single models."""

from dataclasses import replace

import torch

from winnow.data.schema import DatasetSchema, Field

SCHEMA = DatasetSchema(
    name="three surfaces",
    fields=(
        Field(name="user", role="user", kind="sparse", size=20),
        Field(name="item", role="item", kind="sparse", size=30),
        Field(name="age", role="user", kind="dense"),
    ),
    scenarios=("home", "search", "cart"),
)
USER_SCHEMA = replace(SCHEMA, fields=(SCHEMA.fields[0], SCHEMA.fields[2]))
"""The same without items."""


def rows(count):
    """Random rows of `SCHEMA`, the same in every call."""
    generator = torch.Generator().manual_seed(1)
    sparse = torch.randint(20, (count, 2), generator=generator, dtype=torch.int32)
    scenario = torch.randint(3, (count,), generator=generator)
    return sparse, torch.rand(count, 1, generator=generator), scenario


def user_rows(count=30):
    """Rows of `USER_SCHEMA`: row i holds user i modulo 20 in scenario i modulo 3."""
    numbers = torch.arange(count)
    return (numbers % 20).int().unsqueeze(1), torch.linspace(0, 1, count)[:, None], numbers % 3
