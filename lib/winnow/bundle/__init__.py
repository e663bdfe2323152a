"""What serving loads: one directory with the models, the indexes and the tables read by id.

    retriever/ index/ ranker/   copies of those artifacts, each with its own manifest; missing where
                                nothing is trained yet
    text/                       index of the items' text vectors; missing if items have no words
    schema.json                 fields of the dataset that all parts were made from
    items.parquet users.parquet words and encoded fields; row = item row, user row
    histories.parquet           per user row: `liked` and `seen` item rows, oldest first, and
                                `liked_on`, the scenario of each like
    popular.parquet             per scenario: item rows by number of positives
    neighbours.npy              per item row: the rows nearest to it, nearest first; -1: no more
    names.json paths.parquet    names of the facet's values, and per item row its place in the item
                                tree, for modes that ask a language model
    cascade.json                how the stages work together

The tables cover the whole log, since online nothing is held out; the models saw training rows.
"""

from winnow.bundle.bundle import Bundle
from winnow.bundle.config import CascadeConfig
from winnow.bundle.tables import Lists, UserHistories
from winnow.bundle.write import PARTS, check_cascade, check_parts, write_bundle

__all__ = [
    "PARTS",
    "Bundle",
    "CascadeConfig",
    "Lists",
    "UserHistories",
    "check_cascade",
    "check_parts",
    "write_bundle",
]
