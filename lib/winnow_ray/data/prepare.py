"""From raw logs to a dataset: read, split, encoded; rejected lines are kept."""

import logging
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from winnow.artifact import create_artifact, up_to_date
from winnow.artifact.claim import local_path
from winnow.artifact.digests import file_digest, source_files
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
    min_count: int = 0
    """Training rows that a sparse value needs to be known; 0 takes the reader's own number."""
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    """Size and seed of the simulated log."""

    def __post_init__(self) -> None:
        if self.reader not in (known := ("simulate", *READERS)):
            hint = suggestion(self.reader, known)
            raise ValueError(f"PrepareConfig.reader: no reader {self.reader!r}; {hint}")
        if self.min_count < 0:
            raise ValueError(f"PrepareConfig.min_count must be 0 or more, got {self.min_count}")
        if self.reader != "simulate" and not self.data:
            raise ValueError(f"PrepareConfig.data must be the folder that {self.reader} reads")


def read(config: PrepareConfig) -> RawLog | RawStream:
    """The raw log that the config names."""
    if config.reader == "simulate":
        log: RawLog | RawStream = simulate(config.simulate)
    else:
        log = READERS[config.reader](config.data)
    return replace(log, min_count=config.min_count) if config.min_count else log


def fingerprint(folder: str, output: str) -> dict[str, str]:
    """SHA-256 of every raw file below `folder`: equal files make equal datasets wherever they are.

    Hidden files, artifacts and what lies below `output` are no raw data.
    """
    files = source_files(folder, local_path(output)) if folder else []
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


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
    recorded = asdict(config) | {"data": fingerprint(config.data, config.output)}
    del recorded["output"]
    if made := up_to_date(config.output, "dataset", config=recorded, parents={}):
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    logger.info("reading %s", config.data or "the simulator")
    with create_artifact(config.output, "dataset", config=recorded) as draft:
        draft.metrics |= write_dataset(read(config), config.split, draft.path)
    rows, rejected = draft.metrics["rows"], draft.metrics["rejected"]
    logger.info("wrote %s interactions=%d rejected=%d", config.output, rows, rejected)
    return draft.metrics
