"""What serving loads: one directory with the models, the indexes and the tables read by id.

    retriever/ index/ ranker/   copies of those artifacts with their manifests; missing from an
                                untrained bundle
    text/                       index of the items' text vectors; missing if texts say nothing
    schema.json                 fields of the dataset that all parts were made from
    items.parquet users.parquet words and encoded fields; row = item row, user row
    histories.parquet           per user row: `liked` and `seen` item rows, oldest first, and
                                `liked_on`, the scenario of each like
    popular.parquet             per scenario: item rows by number of positives
    neighbours.npy              per item row: the nearest rows, nearest first; -1: no more
    names.json paths.parquet    names of the facet's values, and per item row its path in the item
                                tree, for modes that ask a language model
    vocab/ context.json         encoders of the context fields, and what follows from the scenario
    cascade.json                settings of the stages
    probes.json                 requests with the answers that the bundle must give before it serves

`jobs.build_bundle` keeps every version in a folder of its own, `<output>/<version>/`, which never
changes; `<output>` names the latest. A bundle directly in a folder is read as well.

The tables cover the whole log, as nothing is held out online; models saw the training rows only.
"""

from winnow.bundle.bundle import Bundle
from winnow.bundle.config import CascadeConfig
from winnow.bundle.context import ContextFields
from winnow.bundle.tables import Lists, UserHistories
from winnow.bundle.write import PARTS, check_cascade, check_parts, write_bundle

__all__ = [
    "PARTS",
    "Bundle",
    "CascadeConfig",
    "ContextFields",
    "Lists",
    "UserHistories",
    "check_cascade",
    "check_parts",
    "write_bundle",
]
