"""`manifest.json`: read from anywhere, and checked before anything in it is believed."""

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pyarrow import fs

from winnow.artifact.digests import LARGEST_MANIFEST, json_digest
from winnow.errors import ArtifactError
from winnow.secrets import masked

MANIFEST = "manifest.json"
FORMAT = 1
"""Format of the manifest; to be raised when older code could not read it."""
VERSION_DIGITS = 12
"""Hex digits of a digest that name a version: two of a million versions are the same once in
hundreds of times."""
DIGESTED = ("kind", "config", "parents", "files")
"""Parts of the manifest that an artifact's digest covers: not version, time and metrics."""
FOLDER = "folder"
"""Optional field: the files lie in this folder beside the manifest, not directly beside it."""

FIELDS = {
    "kind": str,
    "winnow": str,
    "created": str,
    "config": dict,
    "parents": dict,
    "metrics": dict,
    "files": dict,
}
"""Fields that every manifest has besides `format`, and their JSON types."""
SHA256 = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(rf"[0-9a-f]{{{VERSION_DIGITS}}}")
LITTER = frozenset({".DS_Store", ".directory", "Thumbs.db", "desktop.ini"})
"""Files that file managers leave in any folder that somebody looks at. They are ignored in an
artifact, and go with it."""

Manifest = dict[str, Any]


def digest_of(manifest: Mapping[str, Any]) -> str:
    """64 hex digits that name the content: kind, config, parents and every file."""
    return json_digest({key: manifest[key] for key in DIGESTED})


def version_of(manifest: Mapping[str, Any]) -> str:
    """Short digest of the content, the name of a version's folder."""
    return digest_of(manifest)[:VERSION_DIGITS]


def in_version_folder(name: str) -> bool:
    """Whether a path is inside of a folder that is named by a version."""
    first, slash, _ = name.partition("/")
    return bool(slash) and VERSION.fullmatch(first) is not None


def is_litter(name: str) -> bool:
    """Whether a path is of a file that a file manager or a file system left there."""
    last = PurePosixPath(name).name
    return last in LITTER or last.startswith(("._", ".nfs"))


def find_manifest(store: fs.FileSystem, folder: str, uri: object) -> Manifest | None:
    """The checked manifest in a folder, None without one.

    Raises:
        ArtifactError: the file there is no manifest of this format; the message names `uri`.
    """
    shown = masked(str(uri))
    try:
        with store.open_input_stream(f"{folder}/{MANIFEST}") as file:
            text = file.read(LARGEST_MANIFEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{shown}: {MANIFEST} cannot be read ({masked(str(error))})") from error
    if len(text) > LARGEST_MANIFEST:
        raise ArtifactError(f"{shown}: {MANIFEST} has more than {LARGEST_MANIFEST:,} bytes")
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{shown}: {MANIFEST} cannot be read ({error})") from error
    if wrong := _what_is_wrong(manifest):
        raise ArtifactError(f"{shown}: {MANIFEST} {wrong}")
    return manifest  # type: ignore[no-any-return]


def read_manifest(store: fs.FileSystem, folder: str, uri: object) -> Manifest:
    """The checked manifest in a folder; raises ArtifactError also if none is there."""
    manifest = find_manifest(store, folder, uri)
    if manifest is None:
        raise ArtifactError(f"{masked(str(uri))} holds no artifact: {MANIFEST} is missing there")
    return manifest


def _what_is_wrong(manifest: object) -> str | None:
    """The first thing that keeps a JSON value from being a manifest."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return f"is not of the format {FORMAT} that this reads"
    for name, type_ in FIELDS.items():
        if not isinstance(manifest.get(name), type_):
            return f"has no {name!r} that is a JSON {'text' if type_ is str else 'object'}"
    for name, entry in manifest["files"].items():
        if _leaves(name):
            return f"names {name}, outside the artifact"
        if not _is_entry(entry):
            return f"gives no bytes and sha256 of {name}"
    folder = manifest.get(FOLDER)
    if folder is not None and not (isinstance(folder, str) and VERSION.fullmatch(folder)):
        return f"names the folder {folder!r}, which is not a version"
    return None


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return not name or path.is_absolute() or ".." in path.parts or str(path) in (".", MANIFEST)


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    size, digest = entry.get("bytes"), entry.get("sha256")
    return (
        isinstance(size, int)
        and not isinstance(size, bool)
        and size >= 0
        and isinstance(digest, str)
        and SHA256.fullmatch(digest) is not None
    )
