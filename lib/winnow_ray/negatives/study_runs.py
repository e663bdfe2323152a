"""The runs of `jobs.study_negatives`: their settings, and the tasks that make them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import ray
import torch

from winnow.artifact import Artifact, up_to_date
from winnow.artifact.digests import run_key
from winnow.retrieval.encoder_training.experiment import EncoderConfig
from winnow.retrieval.negatives.mix import Mode
from winnow.retrieval.negatives_study.table import Run
from winnow.retrieval.toy import make_toy_search
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect
from winnow_ray.cluster.room import check_room, process_share
from winnow_ray.cluster.terminal import log_in_worker
from winnow_ray.training.ray_train import check_workers

Call = Callable[[], list[Run]]
"""Function that makes some runs."""
UNTRAINED = ("collection", "model", "revision", "query_prefix", "document_prefix")
"""Fields that decide how good an encoder is before training; it reads as much text as its own files
say."""
NEVER = 10**9
"""Patience of a run that takes all of its steps: variants that stop early are not comparable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyNegativesConfig(EncoderConfig):
    """How every variant is trained. The study itself sets `negatives.mode`, `train.patience` and
    the seeds of both."""

    mined: str = "runs/negatives"
    """Negatives artifact with all sources that the variants take, those of an LLM too."""
    variants: tuple[Mode, ...] = get_args(Mode)
    """Mixes of negatives to compare."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; each decides order, dropout, turns of the negatives, and which queries validate."""
    test: str = "test"
    """Split that all runs are measured on; no seed changes it."""
    output: str = "runs/negatives_study"
    """Study artifact to write; `.<name>.work` beside it holds finished runs."""
    num_workers: int = 4
    """Most runs at the same time, as Ray tasks; 0 makes them in this process. A run of a MiniLM
    takes some 6 GB of memory."""
    cpus_per_worker: int = 2
    """Torch threads of each run, and CPUs reserved for it."""
    use_gpu: bool = False
    """Whether each run takes a GPU."""

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
        """How that variant is trained with that seed; all variants validate on the same queries."""
        common = {name: getattr(self, name) for name in EncoderConfig.__dataclass_fields__}
        ratio = self.negatives.syn_ratio if variant == "hybrid" else None
        mine = {
            "negatives": replace(self.negatives, mode=variant, syn_ratio=ratio, seed=seed),
            "train": replace(self.train, seed=seed, patience=NEVER),
        }
        return EncoderConfig(**common | mine)

    def untrained(self) -> EncoderConfig:
        """The encoder that every variant starts from, the same for all settings of training."""
        return EncoderConfig(**{name: getattr(self, name) for name in UNTRAINED})

    def key(self, cell: EncoderConfig, parents: Mapping[str, Artifact]) -> str:
        """Name of a run by all that decides its result.

        Args:
            parents: artifacts of the study; the untrained encoder is not made from negatives.
        """
        own = parents if cell.mined else {"collection": parents["collection"]}
        return run_key(cell.run_key(own), self.test, digits=32)


class ToyStudyConfig(StudyNegativesConfig):
    """A study of a toy search, which is made where it does not exist."""

    __slots__ = ()

    def make_search(self) -> None:
        """Make collection, encoder and negatives unless they exist."""
        if up_to_date(self.mined, "negatives", config={}, parents={}) is None:
            make_toy_search(Path(self.collection), Path(self.model), Path(self.mined))


def made(
    calls: Mapping[str, Call], config: StudyNegativesConfig
) -> Iterator[tuple[str, list[Run]]]:
    """Results of the calls with their keys, in the order in which they finish."""
    if not config.num_workers:
        for key, call in calls.items():
            yield key, on_threads(call, config.cpus_per_worker)
        return
    connect()
    share = process_share(config.cpus_per_worker, use_gpu=config.use_gpu)
    check_room("a run of the study", 1, share, settings="cpus_per_worker or use_gpu")
    remote = ray.remote(
        num_cpus=config.cpus_per_worker, num_gpus=int(config.use_gpu), max_retries=2
    )(on_threads).options(runtime_env={"env_vars": WORKER_ENVIRONMENT})
    waiting, running = list(calls.items()), dict[ray.ObjectRef[list[Run]], str]()
    while waiting or running:
        while waiting and len(running) < config.num_workers:
            key, call = waiting.pop(0)
            running[remote.remote(call, config.cpus_per_worker)] = key
        (ready,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ready), ray.get(ready)


def on_threads(call: Call, threads: int) -> list[Run]:
    """Make runs in this process, which may be that of a Ray task."""
    log_in_worker()
    torch.set_num_threads(threads)
    return call()
