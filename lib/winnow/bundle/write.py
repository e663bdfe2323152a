"""Checks that the parts of a bundle belong together, and fills its folder.

Suffixes: N interactions, P positives, I items, M neighbours, D vector width.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact
from winnow.bundle.bundle import MODELS, NAMES, NEIGHBOURS, PATHS, TEXT, check_fields
from winnow.bundle.config import CascadeConfig
from winnow.bundle.context import left_to_requests, write_context
from winnow.bundle.tables import Lists, UserHistories
from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.data.item_words import value_names
from winnow.data.prepare.split import SPLITS
from winnow.data.schema import DatasetSchema
from winnow.errors import ArtifactError, DataError
from winnow.retrieval.index import ItemIndex, choose_kind
from winnow.secrets import masked

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

PARTS = ("retriever", "index", "ranker")
NUM_POPULAR = 1000
"""Popular items kept per scenario: enough for any request after seen ones are left out."""
EARLIEST = 631_152_000
"""The year 1990: logs of an earlier end are not of users online; small numbers count something."""
DAY_S = 86_400
"""Seconds that a log may be ahead of this machine's clock: time zones differ by less than that."""
CHUNK = 1024
"""Items whose neighbours are searched at a time: a few MB of vectors and results."""


def check_parts(dataset: Artifact, parts: Mapping[str, Artifact]) -> None:
    """Raise ArtifactError for parts not made from each other, whose ids would mean other rows.

    `parts` may also hold a generation, whose answers are about items of the dataset.
    """
    made_from = {
        "retriever": {"dataset": dataset},
        "index": {"retriever": parts.get("retriever", dataset)},
        "ranker": {"dataset": dataset},
        "generation": {"dataset": dataset},
    }
    for name, parents in made_from.items():
        if name not in parts:
            continue
        for role, parent in parents.items():
            if parts[name].manifest["parents"].get(role) != parent.digest:
                raise ArtifactError(
                    f"{parts[name].uri} was not made from the {role} at {parent.uri}; "
                    f"run the {name} job again on it"
                )
    schema = DatasetSchema.load(dataset.path / "schema.json")
    for name in MODELS:
        if name in parts:
            check_fields(name, parts[name].path, schema, f"the dataset {masked(dataset.uri)}")


def check_cascade(cascade: CascadeConfig, dataset: Dataset) -> None:
    """Raise DataError for rules about items or fields that the dataset does not have."""
    named = dataset.schema.select("sparse", ["item"])
    if cascade.quota_field and cascade.quota_field not in named:
        raise DataError(
            f"cascade.quota_field must be a sparse item field of {dataset.artifact.uri} "
            f"({', '.join(named)}), got {cascade.quota_field!r}"
        )
    known = set(dataset.items["raw_id"].to_pylist())
    if strange := [item for item in cascade.blocked if item not in known]:
        raise DataError(
            f"cascade.blocked must name items of {dataset.artifact.uri}, "
            f"which has no {strange[0]!r}"
        )


def write_bundle(
    dataset: Dataset,
    parts: Mapping[str, Artifact],
    cascade: CascadeConfig,
    text_ID: Floats | None,
    tree_paths: Sequence[Sequence[str]],
    folder: Path,
) -> dict[str, Any]:
    """Fill `folder` with everything that serving reads; returns figures for the manifest.

    These are counts, `events_until` (see `Bundle.events_until`) if it is known and, if the ranker
    reads any, `context`: the fields that only requests can give. One that a request leaves out is
    unknown to the ranker.

    Args:
        parts: artifacts by the names in `PARTS`; empty for an untrained bundle.
        text_ID: unit vectors of the item texts; None leaves the text channel out.
        tree_paths: path of each item row in the item tree, coarse to fine.
    """
    for name, part in parts.items():
        shutil.copytree(part.path, folder / name)
    source = dataset.artifact.path
    for name in ("schema.json", "items.parquet", "users.parquet"):
        shutil.copyfile(source / name, folder / name)
    cascade.save(folder / "cascade.json")
    if text_ID is not None:
        (folder / TEXT).mkdir()
        ItemIndex.build(text_ID, choose_kind(len(text_ID))).save(folder / TEXT)
    near = next((folder / n for n in ("index", TEXT) if (folder / n).is_dir()), None)
    index = None if near is None else ItemIndex.load(near)
    np.save(folder / NEIGHBOURS, neighbours_of(index, dataset.items.num_rows, cascade.num_recent))
    (folder / NAMES).write_text(json.dumps(value_names(dataset), ensure_ascii=False))
    paths = pa.array([list(path) for path in tree_paths], pa.list_(pa.string()))
    pq.write_table(pa.table({"path": paths}), folder / PATHS)
    figures: dict[str, Any] = {
        "users": dataset.users.num_rows,
        "items": dataset.items.num_rows,
        **_write_log(dataset, folder),
    }
    by_scenario = write_context(dataset, folder)
    if "ranker" in parts:
        reads = DatasetSchema.load(parts["ranker"].path / "schema.json")
        if names := left_to_requests(reads, by_scenario):
            figures["context"] = names
    return figures


def neighbours_of(index: ItemIndex | None, num_items: int, count: int) -> Ints:
    """Rows nearest to each item [I, count], nearest first, without the item itself; -1: no more."""
    found_IM = np.full((num_items, count), -1, np.int32)
    if not count or index is None:
        return found_IM
    for start in range(0, num_items, CHUNK):
        rows = np.arange(start, min(start + CHUNK, num_items))
        vectors = index.vectors_of(rows)
        _, near = index.search(vectors, count, exclude=list(rows[:, None]))
        found_IM[rows, : near.shape[1]] = near
        found_IM[rows[~np.any(vectors, axis=1)]] = -1  # zero vectors: texts without a known word
    return found_IM


def _write_log(dataset: Dataset, folder: Path) -> dict[str, int]:
    """Histories and popular items; returns the number of interactions and `events_until`."""
    splits = [dataset.split(name) for name in SPLITS]
    user_N = np.concatenate([split.user_N for split in splits])
    item_N = np.concatenate([split.item_N for split in splits])
    time_N = np.concatenate([split.time_N for split in splits])
    label_N = np.concatenate([split.label_N for split in splits])
    scenario_N = np.concatenate([split.scenario_N for split in splits])

    def per_user(chosen_N: NDArray[np.bool_]) -> tuple[Lists, Lists]:
        """Item rows and scenarios."""
        log = Histories.build(
            user_N[chosen_N], item_N[chosen_N], time_N[chosen_N], scenario_N[chosen_N]
        )
        start, end = log.bounds(np.arange(dataset.users.num_rows))
        offsets = np.append(start, end[-1])
        return Lists(log.item_N, offsets), Lists(log.scenario_N, offsets)

    positive_N = label_N > 0
    liked, liked_on = per_user(positive_N)
    seen, _ = per_user(np.ones(len(label_N), bool))
    UserHistories(liked, liked_on, seen).write(folder / "histories.parquet")
    popular = popular_items(
        item_N[positive_N],
        scenario_N[positive_N],
        len(dataset.schema.scenarios),
        dataset.items.num_rows,
    )
    pq.write_table(pa.table({"items": popular.to_arrow()}), folder / "popular.parquet")
    until = last_epoch_second(time_N)
    known = {} if until is None else {"events_until": until}
    return {"interactions": len(label_N), **known}


def last_epoch_second(time_N: NDArray[np.integer]) -> int | None:
    """The latest of the times; None if they are no epoch seconds, such as milliseconds or counts.

    Example:
        >>> last_epoch_second(np.array([1_600_000_000, 1_500_000_000]))
        1600000000
        >>> last_epoch_second(np.array([1_600_000_000_000])), last_epoch_second(np.array([7]))
        (None, None)
    """
    latest = int(time_N.max(initial=0))
    return latest if EARLIEST <= latest <= time.time() + DAY_S else None


def popular_items(
    item_P: NDArray[np.integer],
    scenario_P: NDArray[np.integer],
    num_scenarios: int,
    num_items: int,
) -> Lists:
    """Item rows of each scenario by its positives, then by all scenarios' positives, then by row.

    A scenario without positives thus gets what is popular elsewhere.
    """
    overall_I = np.bincount(item_P, minlength=num_items)
    tops = []
    for scenario in range(num_scenarios):
        here_I = np.bincount(item_P[scenario_P == scenario], minlength=num_items)
        tops.append(np.lexsort((-overall_I, -here_I))[:NUM_POPULAR])
    lengths = [len(top) for top in tops]
    return Lists(np.concatenate(tops).astype(np.int32), np.cumsum([0, *lengths]))
