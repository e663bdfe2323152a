"""Turn raw logs into a dataset: split, encode, keep what was rejected.

    python -m jobs.prepare --config simulate --set output=runs/demo/dataset
    python -m jobs.prepare --config movielens_1m --set data=/data/ml-1m output=runs/ml/dataset
    python -m jobs.prepare --config ali_ccp --set data=/data/ali-ccp output=/data/runs/ali/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.prepare --config movielens_1m --set data=/data/ml-1m output=s3://bucket/ml
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from winnow.artifact import create_artifact, up_to_date
from winnow.config import job_main
from winnow.data.aliccp import read_aliccp
from winnow.data.amazon import read_amazon
from winnow.data.douban import read_douban
from winnow.data.kuairand import read_kuairand
from winnow.data.mind import read_mind
from winnow.data.movielens import read_movielens
from winnow.data.prepare import write_dataset
from winnow.data.raw import RawLog, RawStream
from winnow.data.simulate import SimulateConfig, simulate
from winnow.data.split import SplitConfig

logger = logging.getLogger("winnow.prepare")

READERS: dict[str, Callable[[str], RawLog | RawStream]] = {
    "movielens": read_movielens,
    "kuairand": read_kuairand,
    "aliccp": read_aliccp,
    "amazon": read_amazon,
    "douban": read_douban,
    "mind": read_mind,
}
"""Functions from a folder of raw files to a log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    reader: Literal["simulate", "movielens", "kuairand", "aliccp", "amazon", "douban", "mind"]
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
    return PrepareConfig(reader="simulate", output="runs/simulate/dataset")


def tiny() -> PrepareConfig:
    """A simulated log small enough for tests."""
    small = SimulateConfig(num_users=120, num_items=150, views_per_user=60)
    return PrepareConfig(reader="simulate", simulate=small, output="runs/tiny/dataset")


def movielens_1m() -> PrepareConfig:
    """GroupLens' ml-1m folder, as distributed."""
    return PrepareConfig(reader="movielens", data="ml-1m", output="runs/movielens_1m/dataset")


def kuairand_1k() -> PrepareConfig:
    """The KuaiRand-1K folder, as distributed."""
    return PrepareConfig(reader="kuairand", data="KuaiRand-1K", output="runs/kuairand_1k/dataset")


def ali_ccp() -> PrepareConfig:
    """The four files of Ali-CCP in one folder; 85 million rows."""
    return PrepareConfig(reader="aliccp", data="ali-ccp", output="runs/ali_ccp/dataset")


def amazon() -> PrepareConfig:
    """Three 5-core review files of 2014."""
    return PrepareConfig(reader="amazon", data="amazon", output="runs/amazon/dataset")


def douban() -> PrepareConfig:
    """Reviews of books, music and movies by one set of users."""
    return PrepareConfig(reader="douban", data="douban", output="runs/douban/dataset")


def mind() -> PrepareConfig:
    """MINDlarge_train and MINDlarge_dev in one folder; 57 million rows."""
    return PrepareConfig(reader="mind", data="MIND", output="runs/mind/dataset")


PRESETS = {
    "tiny": tiny,
    "simulate": simulated,
    "movielens_1m": movielens_1m,
    "kuairand_1k": kuairand_1k,
    "ali_ccp": ali_ccp,
    "amazon": amazon,
    "douban": douban,
    "mind": mind,
}


def read(config: PrepareConfig) -> RawLog | RawStream:
    """The raw log that the config names."""
    if config.reader == "simulate":
        return simulate(config.simulate)
    return READERS[config.reader](config.data)


def fingerprint(folder: str) -> dict[str, list[int]]:
    """Size and modification time of every raw file: a changed file means a new dataset."""
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file()) if folder else []
    stats = {str(path.relative_to(root)): path.stat() for path in files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def run(config: PrepareConfig) -> dict[str, Any]:
    """Read, split, encode and write; returns the counts that the manifest records."""
    recorded = asdict(config) | {"data": fingerprint(config.data)}
    del recorded["output"]
    if made := up_to_date(config.output, "dataset", config=recorded, parents={}):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    logger.info("reading %s", config.data or "the simulator")
    with create_artifact(config.output, "dataset", config=recorded) as draft:
        draft.metrics |= write_dataset(read(config), config.split, draft.path)
    rows, rejected = draft.metrics["rows"], draft.metrics["rejected"]
    logger.info("wrote %s interactions=%d rejected=%d", config.output, rows, rejected)
    return draft.metrics


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
