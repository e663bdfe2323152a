"""Artifacts: folders with a `manifest.json` that are either whole or absent.

A job writes into a hidden sibling of the target, syncs it to disk and renames it into place. A
process that is killed at any moment leaves no half-written artifact. An older artifact is exchanged
in one step, so readers find the old or the new one.

The manifest records the kind, the config, the digests of the artifacts it was made from, metrics,
and size and SHA-256 of every file.

An object store (`s3://`, `gs://`: any `pyarrow.fs` URI) has no rename. There the files of a version
go into a folder that is named by their digest, and then one put of the manifest beside it makes
this version the artifact. `versions=True` does the same on disk, and keeps the versions before:

    bundle/manifest.json              names the folder of the version in use
    bundle/de0e5d4ae2a1/manifest.json the version, an artifact by itself, which never changes
    bundle/c47af01b9d3e/manifest.json the version before
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import fs

from winnow import __version__
from winnow.artifact.atomic_folder import create_draft, put_in_place
from winnow.artifact.claim import claimed, local_path, place_of
from winnow.artifact.digests import current_digest, file_digest, json_digest
from winnow.artifact.manifest import (
    FOLDER,
    FORMAT,
    MANIFEST,
    VERSION,
    Manifest,
    digest_of,
    find_manifest,
    in_version_folder,
    is_litter,
    read_manifest,
    version_of,
)
from winnow.artifact.node_copies import find_copy, node_copy
from winnow.artifact.publish import check_replaceable, publish
from winnow.config import canonical_json, json_text
from winnow.errors import ArtifactError
from winnow.secrets import masked

TRIES = 3
"""Reads of an artifact that is replaced while it is read; each replacement takes one."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact: local files and what its manifest says about them."""

    path: Path
    """Local folder of the files; a verified copy if the artifact is remote."""
    uri: str
    """Where the artifact lives, as the caller named it."""
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def config(self) -> Mapping[str, Any]:
        return self.manifest["config"]  # type: ignore[no-any-return]

    @property
    def metrics(self) -> Mapping[str, Any]:
        return self.manifest["metrics"]  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """64 hex digits that name the content: kind, config, parents and every file."""
        return digest_of(self.manifest)

    @property
    def version(self) -> str:
        """The first 12 digits of the digest."""
        return version_of(self.manifest)

    @property
    def version_uri(self) -> str:
        """Where this very version lives; equal to `uri` unless that is a folder of versions."""
        folder = self.manifest.get(FOLDER)
        path, mark, query = self.uri.partition("?")
        return f"{path.rstrip('/')}/{folder}{mark}{query}" if folder else self.uri


@dataclass(slots=True)
class ArtifactDraft:
    """An artifact that is being written: put files under `path`, numbers into `metrics`."""

    path: Path
    metrics: dict[str, Any] = field(default_factory=dict)


@contextmanager
def create_artifact(
    uri: str | Path,
    kind: str,
    *,
    config: Mapping[str, Any],
    parents: Mapping[str, Artifact] | None = None,
    versions: bool = False,
) -> Iterator[ArtifactDraft]:
    """Write an artifact to `uri`; it appears, whole, when the `with` block ends without error.

    An artifact of the same kind that was at `uri` is replaced; readers find the old one or the new
    one at every moment. An exception in the block leaves it untouched.

    Args:
        versions: keeps every version in a folder of its own, named by its digest. `uri` names the
            latest one.

    Raises:
        ArtifactError: `uri` holds files that no artifact of this kind put there, it cannot be
            written, or another process is writing it.

    Example:
        >>> import tempfile
        >>> out = tempfile.mkdtemp() + "/ranker"
        >>> with create_artifact(out, "ranker", config={"lr": 0.1}) as draft:
        ...     _ = (draft.path / "config.json").write_text("{}")
        >>> open_artifact(out, kind="ranker").config["lr"]
        0.1
    """
    with claimed(uri, kind, versions=versions):
        yield from _created(uri, kind, config, parents or {}, versions)


def _created(
    uri: str | Path,
    kind: str,
    config: Mapping[str, Any],
    parents: Mapping[str, Artifact],
    versions: bool,
) -> Iterator[ArtifactDraft]:
    local, (store, root) = local_path(uri), place_of(uri)
    tmp = create_draft(local or Path(tempfile.gettempdir()) / json_digest(str(uri))[:16])
    try:
        draft = ArtifactDraft(tmp)
        yield draft
        manifest = {
            "kind": kind,
            "format": FORMAT,
            "winnow": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "config": json.loads(json.dumps(config)),
            "parents": {key: value.digest for key, value in parents.items()},
            "metrics": draft.metrics,
            "files": {
                str(p.relative_to(tmp)): {"bytes": p.stat().st_size, "sha256": file_digest(p)}
                for p in sorted(tmp.rglob("*"))
                if p.is_file() and not is_litter(p.name)
            },
        }
        (tmp / MANIFEST).write_text(json_text(manifest, indent=1) + "\n")
        replaced = check_replaceable(store, root, kind, uri, versions=versions)
        if local and not versions:
            put_in_place(tmp, local)
        else:
            publish(tmp, manifest, store, root, replaced, uri, keep=versions)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def open_artifact(
    uri: str | Path, *, kind: str | None = None, version: str | None = None, on_node: bool = False
) -> Artifact:
    """The artifact at `uri`; every file is checked against the manifest.

    Args:
        version: opens only this version: the one at `uri`, a folder of it there or, with
            `on_node`, a copy that this machine has.
        on_node: reads a copy on this machine also of a local artifact, so that the files stay
            whatever becomes of `uri`. The files of a remote artifact are always copied.

    Raises:
        ArtifactError: no artifact is there, it has another kind or version, or a file is missing,
            left over or changed; the message names the file.
    """
    if version is not None and on_node and (kept := _kept(uri, version)):
        _check_kind(kept.manifest, kind, uri)
        return kept
    copied = on_node or local_path(uri) is None
    store, root = place_of(uri)
    for left in reversed(range(TRIES)):
        manifest = _manifest(store, root, uri, version)
        _check_kind(manifest, kind, uri)
        folder = f"{root}/{manifest[FOLDER]}" if FOLDER in manifest else root
        try:
            if copied:
                path = _node_copy(store, folder, manifest, uri)
            else:
                path = Path(folder)
                _verify(path, manifest, uri)
            return Artifact(path, str(uri), manifest)
        except ArtifactError:
            if not left or _manifest(store, root, uri, version) == manifest:
                raise
            # it was replaced while it was read: read the new one
    raise AssertionError("the last try returns or raises")


def up_to_date(
    uri: str | Path, kind: str, *, config: Mapping[str, Any], parents: Mapping[str, Artifact]
) -> Artifact | None:
    """The artifact at `uri` if this version made it from these very inputs, else None."""
    try:
        artifact = open_artifact(uri, kind=kind)
    except ArtifactError:
        return None
    made_from = {key: value.digest for key, value in parents.items()}
    same = (
        artifact.manifest["winnow"] == __version__
        and artifact.manifest["parents"] == made_from
        and canonical_json(artifact.config) == canonical_json(json.loads(json.dumps(config)))
    )
    return artifact if same else None


def _check_kind(manifest: Mapping[str, Any], kind: str | None, uri: str | Path) -> None:
    if kind is not None and manifest["kind"] != kind:
        shown = masked(str(uri))
        raise ArtifactError(f"{shown} is a {manifest['kind']!r} artifact, a {kind!r} is needed")


def _manifest(store: fs.FileSystem, root: str, uri: str | Path, version: str | None) -> Manifest:
    """The manifest at `root` or, if that has another version, the one in the version's folder."""
    manifest = read_manifest(store, root, uri)
    if version is None or version_of(manifest) == version:
        return manifest
    known = VERSION.fullmatch(version)  # any other text might name a folder elsewhere
    older = find_manifest(store, f"{root}/{version}", uri) if known else None
    if older is None or version_of(older) != version:
        raise ArtifactError(
            f"{masked(str(uri))} now holds {manifest['kind']} {version_of(manifest)}, not {version}"
        )
    return {**older, FOLDER: version}


def _verify(path: Path, manifest: Mapping[str, Any], uri: str | Path) -> None:
    files, shown = manifest["files"], masked(str(uri))
    for name, expected in files.items():
        file = path / name
        try:
            same = file.stat().st_size == expected["bytes"]
            same = same and current_digest(file) == expected["sha256"]
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ArtifactError(f"{shown}: {name} is missing; make the artifact again") from None
        if not same:
            raise ArtifactError(f"{shown}: {name} does not match its manifest; it was changed")
    found = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    extra = sorted(
        name
        for name in found - set(files) - {MANIFEST}
        if not is_litter(name) and not in_version_folder(name)
    )
    if extra:
        raise ArtifactError(f"{shown}: {extra[0]} is not in its manifest; it was added later")


def _kept(uri: str | Path, version: str) -> Artifact | None:
    """The version from a copy on this machine; None without one that is whole."""
    path = find_copy(version)
    if path is None:
        return None
    try:
        manifest = read_manifest(fs.LocalFileSystem(), str(path), path)
        _verify(path, manifest, path)
    except ArtifactError:
        return None
    return Artifact(path, str(uri), manifest)


def _node_copy(store: fs.FileSystem, folder: str, manifest: Manifest, uri: str | Path) -> Path:
    """The verified copy of a folder of the store on this machine."""

    def fill(draft: Path) -> None:
        for name in manifest["files"]:
            _fetch(store, f"{folder}/{name}", draft / name, uri)
        alone = {key: value for key, value in manifest.items() if key != FOLDER}
        (draft / MANIFEST).write_text(json_text(alone, indent=1) + "\n")

    try:
        path = node_copy(manifest, fill)
        _verify(path, manifest, uri)
    except ArtifactError:  # damaged here or there: another copy tells
        path = node_copy(manifest, fill, again=True)
        _verify(path, manifest, uri)
    return path


def _fetch(store: fs.FileSystem, source: str, target: Path, uri: str | Path) -> None:
    """Copy a file from the store; on one disk a hard link does, as artifacts are never edited."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(store, fs.LocalFileSystem):
        with suppress(OSError):
            os.link(os.path.realpath(source), target)
            return
    try:
        fs.copy_files(source, str(target), source_filesystem=store)
    except FileNotFoundError:
        shown = masked(str(uri))
        raise ArtifactError(f"{shown}: {target.name} is missing; make the artifact again") from None
