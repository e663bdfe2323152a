"""Directories with a `manifest.json` that are either whole or absent, and what is kept until then.

artifact.py       an artifact: created, opened, found up to date
atomic_folder.py  a folder that appears at once or not at all
work_folder.py    finished pieces of a run that is not finished
digests.py        names by content: of a model, of a run
"""

from winnow.artifact.artifact import (
    Artifact,
    ArtifactDraft,
    create_artifact,
    open_artifact,
    up_to_date,
)

__all__ = ["Artifact", "ArtifactDraft", "create_artifact", "open_artifact", "up_to_date"]
