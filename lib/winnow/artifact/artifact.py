"""Artifacts: folders with a `manifest.json` that are either whole or absent.

A job writes into a hidden sibling of the target, syncs it to disk and renames it into place. A
process that is killed at any moment leaves no half-written artifact. An older artifact is exchanged
in one step, so readers find the old or the new one.

The manifest records the kind, the config, the digests of the artifacts it was made from, metrics,
and size and SHA-256 of every file. An object store (`s3://`, `gs://`: any `pyarrow.fs` URI) has no
rename, so the files are uploaded first and the manifest last. An artifact without its manifest
does not exist.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import fs

from winnow import __version__
from winnow.artifact.atomic_folder import create_draft, put_in_place
from winnow.artifact.claim import (
    MANIFEST,
    check_replaceable,
    claimed,
    file_system_and_path,
    local_path,
)
from winnow.artifact.digests import file_digest, json_digest
from winnow.config import canonical_json, json_text
from winnow.errors import ArtifactError

FORMAT = 1
"""Format of the manifest; to be raised when older code could not read it."""

DIGESTED = ("kind", "config", "parents", "files")
"""Parts of the manifest that an artifact's digest covers: not version, time and metrics."""


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
        return json_digest({key: self.manifest[key] for key in DIGESTED})


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
) -> Iterator[ArtifactDraft]:
    """Write an artifact to `uri`; it appears, whole, when the `with` block ends without error.

    An artifact that was at `uri` is replaced. An exception in the block leaves it untouched.

    Raises:
        ArtifactError: `uri` holds files that are no artifact and may be the user's own, it cannot
            be written, or another process is writing it.

    Example:
        >>> import tempfile
        >>> out = tempfile.mkdtemp() + "/ranker"
        >>> with create_artifact(out, "ranker", config={"lr": 0.1}) as draft:
        ...     _ = (draft.path / "config.json").write_text("{}")
        >>> open_artifact(out, kind="ranker").config["lr"]
        0.1
    """
    with claimed(uri):
        yield from _created(uri, kind, config, parents or {})


def _created(
    uri: str | Path, kind: str, config: Mapping[str, Any], parents: Mapping[str, Artifact]
) -> Iterator[ArtifactDraft]:
    local = local_path(uri)
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
                if p.is_file()
            },
        }
        (tmp / MANIFEST).write_text(json_text(manifest, indent=1) + "\n")
        if local:
            check_replaceable(local)
            put_in_place(tmp, local)
        else:
            _upload(tmp, *file_system_and_path(str(uri)))
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def open_artifact(uri: str | Path, *, kind: str | None = None) -> Artifact:
    """The artifact at `uri`; every file is checked against the manifest.

    Raises:
        ArtifactError: no artifact is there, it has another kind, or a file is missing, left over
            or changed; the message names the file.
    """
    local = local_path(uri)
    store, root = (fs.LocalFileSystem(), str(local)) if local else file_system_and_path(str(uri))
    manifest = _read_manifest(store, root, uri)
    if kind is not None and manifest["kind"] != kind:
        raise ArtifactError(f"{uri} is a {manifest['kind']!r} artifact, a {kind!r} is needed")
    path = local or _cached_copy(store, root, manifest, uri)
    _verify(path, manifest, uri)
    return Artifact(path, str(uri), manifest)


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


def _read_manifest(store: fs.FileSystem, root: str, uri: str | Path) -> dict[str, Any]:
    try:
        with store.open_input_stream(f"{root}/{MANIFEST}") as file:
            manifest = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{uri} holds no artifact: {MANIFEST} is missing there") from None
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{uri}: {MANIFEST} cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{uri}: {MANIFEST} is not of the format {FORMAT} that this reads")
    for name in manifest["files"]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{uri}: {MANIFEST} names {name}, outside the artifact")
    return manifest


def _verify(path: Path, manifest: Mapping[str, Any], uri: str | Path) -> None:
    files = manifest["files"]
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(f"{uri}: {name} is missing; make the artifact again")
        if file.stat().st_size != expected["bytes"] or file_digest(file) != expected["sha256"]:
            raise ArtifactError(f"{uri}: {name} does not match its manifest; it was changed")
    found = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    extra = sorted(found - set(files) - {MANIFEST})
    if extra:
        raise ArtifactError(f"{uri}: {extra[0]} is not in its manifest; it was added later")


def _upload(tmp: Path, filesystem: fs.FileSystem, path: str) -> None:
    """Copy all files and then the manifest: until it is there, readers see no artifact."""
    manifest = (tmp / MANIFEST).read_bytes()
    (tmp / MANIFEST).unlink()
    target = f"{path}/{MANIFEST}"
    if filesystem.get_file_info(target).type == fs.FileType.File:
        filesystem.delete_file(target)  # first, so that a killed replacement reads as absent
        filesystem.delete_dir_contents(path)
    fs.copy_files(str(tmp), path, destination_filesystem=filesystem)
    with filesystem.open_output_stream(target) as out:
        out.write(manifest)


def _cached_copy(
    store: fs.FileSystem, root: str, manifest: Mapping[str, Any], uri: str | Path
) -> Path:
    """A local copy of the remote files; the temporary folder keeps one per manifest."""
    cached = Path(tempfile.gettempdir()) / "winnow-artifacts" / json_digest(manifest)
    if cached.exists() and all((cached / file).is_file() for file in manifest["files"]):
        return cached
    shutil.rmtree(cached, ignore_errors=True)  # a cleaner of temporary files left part of it
    tmp = create_draft(cached)
    try:
        for file in manifest["files"]:
            _fetch(store, root, file, tmp, uri)
        os.rename(tmp, cached)
    except OSError:
        if not cached.exists():  # if it does, another process made the same copy faster
            raise
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return cached


def _fetch(store: fs.FileSystem, root: str, file: str, target: Path, uri: str | Path) -> None:
    (target / file).parent.mkdir(parents=True, exist_ok=True)
    try:
        fs.copy_files(f"{root}/{file}", str(target / file), source_filesystem=store)
    except FileNotFoundError:
        raise ArtifactError(f"{uri}: {file} is missing; make the artifact again") from None
