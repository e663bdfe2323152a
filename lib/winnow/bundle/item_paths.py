"""Path of each item in the item tree."""

import logging

from winnow.artifact import Artifact
from winnow.data.dataset import Dataset
from winnow.data.item_words import ItemWords
from winnow.errors import DataError
from winnow.llm.generation.artifact import read_answers
from winnow.tree.item_tree import TASK, labelled_paths

logger = logging.getLogger("winnow.build_bundle")


def tree_paths(dataset: Dataset, generation: Artifact | None) -> list[list[str]]:
    """Path of every item row: its labels or, without a generation, its plain values."""
    items = dataset.items.num_rows
    if generation is None:
        words = ItemWords.of(dataset)
        return [words.path(row) for row in range(items)]
    paths = labelled_paths(read_answers(generation.path, TASK).to_pylist(), items)
    if not any(paths):
        raise DataError(f"{generation.uri} has no valid answer of the task {TASK}")
    logger.info("the tree holds %d labelled items of %d", sum(map(bool, paths)), items)
    return paths
