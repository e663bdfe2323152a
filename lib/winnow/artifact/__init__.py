"""Folders with a `manifest.json` that are either whole or absent, and the unfinished work before.

artifact.py       artifacts: created, opened, found up to date
claim.py          one process at a time for an output
manifest.py       `manifest.json`: read, checked, digested
publish.py        versions side by side, and the one put that names the latest
node_copies.py    copies on this machine, by digest, up to a limit
atomic_folder.py  folders that appear at once or not at all
work_folder.py    finished pieces of an unfinished run, in a hidden folder beside its output
digests.py        names by content: of a file, a model, a run
"""

from winnow.artifact.artifact import (
    Artifact,
    ArtifactDraft,
    create_artifact,
    open_artifact,
    up_to_date,
)
from winnow.artifact.claim import claimed

__all__ = ["Artifact", "ArtifactDraft", "claimed", "create_artifact", "open_artifact", "up_to_date"]
