"""Turn raw logs into a dataset: split, encode, keep what was rejected.

    python -m jobs.prepare --config simulate --set output=runs/demo/dataset
    python -m jobs.prepare --config movielens_1m --set data=/data/ml-1m output=runs/ml/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.prepare --config movielens_1m --set data=/data/ml-1m output=s3://bucket/ml
"""

import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from winnow.artifact import create_artifact, up_to_date
from winnow.config import job_main
from winnow.data.movielens import read_movielens
from winnow.data.prepare import write_dataset
from winnow.data.raw import RawLog
from winnow.data.simulate import SimulateConfig, simulate
from winnow.data.split import SplitConfig

logger = logging.getLogger("winnow.prepare")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    reader: Literal["simulate", "movielens"]
    data: str = ""
    """Folder of raw files; unused by the simulator."""
    output: str = "runs/dataset"
    """Where the dataset artifact goes: a path or any pyarrow URI."""
    split: SplitConfig = field(default_factory=SplitConfig)
    simulate: SimulateConfig = field(default_factory=SimulateConfig)

    def __post_init__(self) -> None:
        if self.reader != "simulate" and not self.data:
            raise ValueError(f"PrepareConfig.data must be the folder that {self.reader} reads")


def simulated() -> PrepareConfig:
    """The embedded demo: a click log with known click probabilities."""
    return PrepareConfig(reader="simulate")


def tiny() -> PrepareConfig:
    """A simulated log small enough for tests."""
    small = SimulateConfig(num_users=120, num_items=150, views_per_user=60)
    return replace(simulated(), simulate=small)


def movielens_1m() -> PrepareConfig:
    """GroupLens' ml-1m folder, as distributed."""
    return PrepareConfig(reader="movielens", data="ml-1m")


PRESETS = {"tiny": tiny, "simulate": simulated, "movielens_1m": movielens_1m}


def read(config: PrepareConfig) -> RawLog:
    """The raw log that the config names."""
    if config.reader == "simulate":
        return simulate(config.simulate)
    return read_movielens(config.data)


def fingerprint(folder: str) -> dict[str, list[int]]:
    """Size and modification time of every raw file: a changed file means a new dataset."""
    files = sorted(path for path in Path(folder).glob("*") if path.is_file()) if folder else []
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def run(config: PrepareConfig) -> dict[str, Any]:
    """Read, split, encode and write; returns the counts that the manifest records."""
    recorded = asdict(config) | {"data": fingerprint(config.data)}
    del recorded["output"]
    if made := up_to_date(config.output, "dataset", config=recorded, parents={}):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    logger.info("reading %s", config.data or "the simulator")
    log = read(config)
    logger.info("read interactions=%d rejected=%d", len(log.label_N), len(log.rejected))
    with create_artifact(config.output, "dataset", config=recorded) as draft:
        draft.metrics |= write_dataset(log, config.split, draft.path)
    logger.info("wrote %s", config.output)
    return draft.metrics


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
