"""Artifacts: directories with a `manifest.json` that are either whole or absent.

A job writes into a hidden sibling of the target, syncs it to disk and renames it into place, so
a process killed at any moment leaves no half-written artifact; a replaced one is exchanged in one
step, so readers find the old or the new. The manifest records the kind, the config, the digests
of the artifacts it was made from, metrics, and size and SHA-256 of every file. On an object store
(`s3://`, `gs://`: any `pyarrow.fs` URI), which has no rename, the files are uploaded first and
the manifest last; without its manifest an artifact does not exist.
"""

import hashlib
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
from winnow.artifact.atomic_folder import draft_directory, publish
from winnow.config import canonical_json
from winnow.errors import ArtifactError

MANIFEST = "manifest.json"
FORMAT = 1
"""Raised when a reader of today could no longer understand the manifest."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact: local files and what its manifest says of them."""

    path: Path
    """Local directory of the files (a verified local copy if the artifact is remote)."""
    uri: str
    """Where the artifact lives, as the caller named it."""
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.manifest["config"]
        return config

    @property
    def metrics(self) -> Mapping[str, Any]:
        metrics: Mapping[str, Any] = self.manifest["metrics"]
        return metrics

    @property
    def digest(self) -> str:
        """64 hex digits that name the content: kind, config, parents and every file."""
        return _digest_of(self.manifest)


@dataclass(slots=True)
class ArtifactDraft:
    """An artifact being written: put files under `path`, numbers into `metrics`."""

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

    What was at `uri` before is replaced. An exception in the block leaves it untouched.

    Raises:
        ArtifactError: `uri` holds files that are no artifact, so they may be the user's own.

    Example:
        >>> import tempfile
        >>> out = tempfile.mkdtemp() + "/ranker"
        >>> with create_artifact(out, "ranker", config={"lr": 0.1}) as draft:
        ...     _ = (draft.path / "config.json").write_text("{}")
        >>> open_artifact(out, kind="ranker").config["lr"]
        0.1
    """
    local = _local_path(uri)
    if local:
        _check_replaceable(local)  # now, not after hours of work
    remote_name = hashlib.sha256(str(uri).encode()).hexdigest()[:16]
    tmp = draft_directory(local or Path(tempfile.gettempdir()) / remote_name)
    try:
        draft = ArtifactDraft(tmp)
        yield draft
        manifest = {
            "kind": kind,
            "format": FORMAT,
            "winnow": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "config": json.loads(json.dumps(config)),
            "parents": {key: value.digest for key, value in (parents or {}).items()},
            "metrics": draft.metrics,
            "files": {
                str(p.relative_to(tmp)): {"bytes": p.stat().st_size, "sha256": _sha256(p)}
                for p in sorted(tmp.rglob("*"))
                if p.is_file()
            },
        }
        (tmp / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        if local:
            _check_replaceable(local)
            publish(tmp, local)
        else:
            _upload(tmp, *_store(str(uri)))
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def open_artifact(uri: str | Path, *, kind: str | None = None) -> Artifact:
    """The artifact at `uri`, every file checked against the manifest.

    Raises:
        ArtifactError: nothing there, another kind than asked for, or a file that is missing,
            left over or changed; the message names the file.
    """
    local = _local_path(uri)
    store, root = (fs.LocalFileSystem(), str(local)) if local else _store(str(uri))
    manifest = _read_manifest(store, root, uri)
    if kind is not None and manifest["kind"] != kind:
        raise ArtifactError(f"{uri} is a {manifest['kind']!r} artifact, a {kind!r} is needed")
    path = local or _cached_copy(store, root, manifest, uri)
    _verify(path, manifest, uri)
    return Artifact(path, str(uri), manifest)


def up_to_date(
    uri: str | Path, kind: str, *, config: Mapping[str, Any], parents: Mapping[str, Artifact]
) -> Artifact | None:
    """The artifact at `uri` if it was made by this version from these very inputs, else None."""
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


def _digest_of(manifest: Mapping[str, Any]) -> str:
    content = {key: manifest[key] for key in ("kind", "config", "parents", "files")}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _local_path(uri: str | Path) -> Path | None:
    """The absolute local path that `uri` names, or None if it names another file system."""
    text = str(uri)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return None if "://" in text else Path(text).resolve()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _store(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system that holds `uri`, and the path inside it."""
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except ValueError as error:
        raise ArtifactError(f"{uri} is neither a path nor a URI that pyarrow knows") from error
    return filesystem, path


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
        if file.stat().st_size != expected["bytes"] or _sha256(file) != expected["sha256"]:
            raise ArtifactError(f"{uri}: {name} does not match its manifest; it was changed")
    found = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    extra = sorted(found - set(files) - {MANIFEST})
    if extra:
        raise ArtifactError(f"{uri}: {extra[0]} is not in its manifest; it was added later")


def _check_replaceable(target: Path) -> None:
    """Only an artifact or an empty directory may be replaced: never a user's own files."""
    if not target.exists():
        return
    if target.is_dir() and ((target / MANIFEST).exists() or not any(target.iterdir())):
        return
    raise ArtifactError(f"{target} exists and is not an artifact; name another output")


def _upload(tmp: Path, filesystem: fs.FileSystem, path: str) -> None:
    """Copy all files, the manifest last: until it is there, readers see no artifact."""
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
    """A local copy of the remote files, kept in the temporary folder, one for each manifest."""
    name = hashlib.sha256(canonical_json(manifest).encode()).hexdigest()
    cached = Path(tempfile.gettempdir()) / "winnow-artifacts" / name
    if cached.exists() and all((cached / file).is_file() for file in manifest["files"]):
        return cached
    shutil.rmtree(cached, ignore_errors=True)  # what a cleaner of temporary files left of it
    tmp = draft_directory(cached)
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
