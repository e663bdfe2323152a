"""Where each item stands in the item tree."""

import logging

from winnow.artifact import Artifact
from winnow.data.dataset import Dataset
from winnow.data.item_words import ItemWords
from winnow.errors import DataError
from winnow.llm.generation.artifact import read_answers
from winnow.tree.item_tree import TASK, labelled_paths

logger = logging.getLogger("winnow.build_bundle")


def tree_paths(dataset: Dataset, generation: Artifact | None) -> list[list[str]]:
    """The place of every item in the item tree: as labelled or, without labels, by plain values."""
    items = dataset.items.num_rows
    if generation is None:
        words = ItemWords.of(dataset)
        return [words.path(row) for row in range(items)]
    paths = labelled_paths(read_answers(generation.path, TASK).to_pylist(), items)
    if not any(paths):
        raise DataError(f"{generation.uri} has no valid answer of the task {TASK}")
    logger.info("the tree is of %d labelled items of %d", sum(map(bool, paths)), items)
    return paths
