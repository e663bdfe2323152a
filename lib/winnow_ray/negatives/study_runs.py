"""What `jobs.study_negatives` compares, and where its runs take place."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import ray
import torch

from winnow.artifact import up_to_date
from winnow.artifact.digests import run_key
from winnow.retrieval.encoder_training.experiment import EncoderConfig
from winnow.retrieval.negatives.mix import Mode
from winnow.retrieval.toy import make_toy_search
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect
from winnow_ray.training.ray_train import check_workers

Call = Callable[[], list[dict[str, Any]]]
"""Makes some runs (see `winnow.retrieval.negatives_study.table`)."""
UNTRAINED = ("collection", "model", "query_prefix", "document_prefix")
"""Fields that decide how good an encoder is before any training; its length is its own."""
NEVER = 10**9
"""Patience of a run that takes all of its steps: variants that stop early would not compare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyNegativesConfig(EncoderConfig):
    """How every variant is trained. `negatives.mode`, `train.patience` and the seeds of both are
    the study's to set."""

    mined: str = "runs/negatives"
    """A negatives artifact with all the sources that the variants need, an LLM's too."""
    variants: tuple[Mode, ...] = get_args(Mode)
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides order, dropout, turns of the negatives, and which queries validate."""
    test: str = "test"
    """The split that all are measured on; no seed changes it."""
    output: str = "runs/negatives_study"
    """Where study.md and study.json go; `.<name>.work` beside it holds finished runs."""
    num_workers: int = 4
    """Runs at a time, at most, as Ray tasks; 0 makes them in this process. A run of a MiniLM takes
    some 6 GB of memory."""
    cpus_per_worker: int = 2
    use_gpu: bool = False
    """A GPU for each run."""

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)
        check_workers(self)
        for name in ("variants", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"StudyNegativesConfig.{name} must name each value once, got {values}"
                )
        for variant in self.variants:
            self.cell(variant, 0)  # says what is wrong with the settings

    def cell(self, variant: Mode, seed: int) -> EncoderConfig:
        """How that variant is trained with that seed; `mined` also says what all validate on."""
        common = {name: getattr(self, name) for name in EncoderConfig.__dataclass_fields__}
        ratio = self.negatives.syn_ratio if variant == "hybrid" else None
        mine = {
            "negatives": replace(self.negatives, mode=variant, syn_ratio=ratio, seed=seed),
            "train": replace(self.train, seed=seed, patience=NEVER),
        }
        return EncoderConfig(**common | mine)

    def untrained(self) -> EncoderConfig:
        """The encoder that every variant starts from, equal for all settings of training."""
        return EncoderConfig(**{name: getattr(self, name) for name in UNTRAINED})

    def key(self, cell: EncoderConfig) -> str:
        """Names a run by all that decides its result."""
        return run_key(cell.run_key(), self.test, digits=32)


class ToyStudyConfig(StudyNegativesConfig):
    """Of a toy search, which is made where it is missing."""

    __slots__ = ()

    def make_search(self) -> None:
        if up_to_date(self.mined, "negatives", config={}, parents={}) is None:
            make_toy_search(Path(self.collection), Path(self.model), Path(self.mined))


def made(
    calls: Mapping[str, Call], config: StudyNegativesConfig
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The results of the calls under their keys, as they come."""
    if not config.num_workers:
        for key, call in calls.items():
            yield key, on_threads(call, config.cpus_per_worker)
        return
    connect()
    remote = ray.remote(
        num_cpus=config.cpus_per_worker, num_gpus=int(config.use_gpu), max_retries=2
    )(on_threads).options(runtime_env={"env_vars": WORKER_ENVIRONMENT})
    waiting, running = list(calls.items()), {}
    while waiting or running:
        while waiting and len(running) < config.num_workers:
            key, call = waiting.pop(0)
            running[remote.remote(call, config.cpus_per_worker)] = key
        (ready,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ready), ray.get(ready)


def on_threads(call: Call, threads: int) -> list[dict[str, Any]]:
    """Make runs in this process, which may be that of a Ray task."""
    logging.basicConfig(format="%(name)s: %(message)s")  # a task has no handler: hours in silence
    logging.getLogger("winnow").setLevel(logging.INFO)
    torch.set_num_threads(threads)
    return call()
