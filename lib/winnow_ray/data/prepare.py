"""From raw logs to a dataset: read, split, encoded; rejected lines are kept."""

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from winnow.artifact import create_artifact, up_to_date
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.raw import RawLog, RawStream
from winnow.data.readers.registry import READERS
from winnow.data.readers.simulate import SimulateConfig, simulate
from winnow.errors import suggestion

logger = logging.getLogger("winnow.prepare")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """What to read, how to split it and where to write it."""

    reader: str
    """Name in `winnow.data.readers.registry`; `simulate` makes a click log instead."""
    data: str = ""
    """Folder of raw files; the simulator reads none."""
    output: str = "runs/dataset"
    """Dataset artifact to write: a path or any pyarrow URI."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Rows of training, validation and test."""
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    """Size and seed of the simulated log."""

    def __post_init__(self) -> None:
        if self.reader not in (known := ("simulate", *READERS)):
            hint = suggestion(self.reader, known)
            raise ValueError(f"PrepareConfig.reader: no reader {self.reader!r}; {hint}")
        if self.reader != "simulate" and not self.data:
            raise ValueError(f"PrepareConfig.data must be the folder that {self.reader} reads")


def read(config: PrepareConfig) -> RawLog | RawStream:
    """The raw log that the config names."""
    if config.reader == "simulate":
        return simulate(config.simulate)
    return READERS[config.reader](config.data)


def fingerprint(folder: str) -> dict[str, list[int]]:
    """Size and modification time of every raw file: a changed file makes a new dataset."""
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file()) if folder else []
    stats = {str(path.relative_to(root)): path.stat() for path in files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Read a log, split it by rows, encode its fields and write the dataset.

    Returns:
        The counts that the manifest records: rows by split and scenario, rejected lines.

    Raises:
        DataError: a raw file is missing, or more than 1 % of its lines are bad.

    Example:
        >>> import tempfile
        >>> small = SimulateConfig(num_users=50, num_items=40, views_per_user=20)
        >>> folder = tempfile.mkdtemp()
        >>> config = PrepareConfig(reader="simulate", simulate=small, output=f"{folder}/dataset")
        >>> prepare(config)["rows"]
        1000
    """
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
