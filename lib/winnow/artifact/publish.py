"""The last step of writing an artifact where several versions of it lie side by side.

The new version is whole in its own folder before one put of the manifest above makes it the
artifact. Nothing is removed but the files that a replaced manifest lists.
"""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs

from winnow.artifact.atomic_folder import put_in_place, sync
from winnow.artifact.digests import looks_like_artifact
from winnow.artifact.manifest import (
    FOLDER,
    MANIFEST,
    Manifest,
    find_manifest,
    in_version_folder,
    is_litter,
    version_of,
)
from winnow.config import json_text
from winnow.errors import ArtifactError
from winnow.secrets import masked


def check_replaceable(
    store: fs.FileSystem, root: str, kind: str | None, uri: object, *, versions: bool
) -> Manifest | None:
    """The manifest of the artifact that is to be replaced, None where nothing is.

    Raises:
        ArtifactError: somebody's own files are there, or an artifact of another kind.
    """
    shown = masked(str(uri))
    local = isinstance(store, fs.LocalFileSystem)
    if local:
        _check_above(Path(root), shown)
    if local and Path(root).exists() and not Path(root).is_dir():
        raise ArtifactError(f"{shown} exists and is not an artifact; name another output")
    try:
        manifest = find_manifest(store, root, uri)
    except ArtifactError as error:
        raise ArtifactError(f"{error}; it is kept: name another output") from None
    if manifest and kind and manifest["kind"] != kind:
        raise ArtifactError(
            f"{shown} holds a {manifest['kind']!r} artifact, which a {kind!r} does not replace; "
            f"name another output"
        )
    if local:
        _check_files(Path(root), manifest, shown, versions=versions)
    return manifest


def _check_above(root: Path, shown: str) -> None:
    """Raise if the folder lies in another artifact, which a further file would spoil."""
    for folder in root.parents:
        if looks_like_artifact(folder):
            raise ArtifactError(
                f"{shown} lies inside the artifact {folder}, which would be refused with a file "
                "more; name another output"
            )


def _check_files(root: Path, manifest: Manifest | None, shown: str, *, versions: bool) -> None:
    """Raise if the folder holds what no artifact put there; other writers' drafts may stay."""
    written = set() if manifest is None or FOLDER in manifest else set(manifest["files"])
    for name in _files(root):
        ours = name in written or name == MANIFEST or name.startswith(f".{MANIFEST}.")
        if ours or (versions and in_version_folder(name)):
            continue
        if manifest is None:
            raise ArtifactError(f"{shown} exists and is not an artifact; name another output")
        raise ArtifactError(
            f"{shown} holds {name}, which is not part of the artifact there; "
            f"move it away or name another output"
        )


def _files(root: Path) -> list[str]:
    names = (str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())
    return sorted(name for name in names if not is_litter(name))


def publish(
    draft: Path,
    manifest: Manifest,
    store: fs.FileSystem,
    root: str,
    replaced: Mapping[str, Any] | None,
    uri: object,
    *,
    keep: bool,
) -> None:
    """Put the draft into its version's folder, then name it in the manifest above.

    Args:
        draft: files and manifest of the version.
        replaced: manifest of the artifact before.
        keep: leaves the version before; otherwise its files are removed once nobody is sent there.
    """
    folder = version_of(manifest)
    above = json_text({**manifest, FOLDER: folder}, indent=1) + "\n"
    try:
        if isinstance(store, fs.LocalFileSystem):
            Path(root).mkdir(parents=True, exist_ok=True)
            put_in_place(draft, Path(root, folder))
            _write_atomically(Path(root, MANIFEST), above)
        else:
            _upload(draft, store, f"{root}/{folder}")
            _put(store, f"{root}/{MANIFEST}", above.encode())
    except OSError as error:
        shown, why = masked(str(uri)), masked(str(error))
        raise ArtifactError(f"{shown} cannot be written: {why}") from error
    before = replaced.get(FOLDER) if replaced else None
    if replaced and before != folder and not (keep and before):
        _remove(store, f"{root}/{before}" if before else root, replaced, with_manifest=bool(before))


def _upload(draft: Path, store: fs.FileSystem, folder: str) -> None:
    """Copy the files and then the manifest, without which the folder is no artifact."""
    manifest = (draft / MANIFEST).read_bytes()
    (draft / MANIFEST).unlink()
    fs.copy_files(str(draft), folder, destination_filesystem=store)
    _put(store, f"{folder}/{MANIFEST}", manifest)


def _put(store: fs.FileSystem, path: str, content: bytes) -> None:
    """Write an object, which a store shows whole once it is closed."""
    store.create_dir(path.rpartition("/")[0], recursive=True)
    with store.open_output_stream(path) as out:
        out.write(content)


def _write_atomically(path: Path, text: str) -> None:
    """Replace a file; a reader finds the old text or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes it private, but other users read artifacts too
        os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    sync(path.parent)


def _remove(
    store: fs.FileSystem, folder: str, manifest: Mapping[str, Any], *, with_manifest: bool
) -> None:
    """Remove the files that the manifest lists, and the folders that this leaves empty."""
    names = [*manifest["files"], *([MANIFEST] if with_manifest else [])]
    for name in names:
        with suppress(OSError):  # gone already, or kept: the new version is in place either way
            store.delete_file(f"{folder}/{name}")
    emptied = {str(up) for name in names for up in PurePosixPath(name).parents}
    for name in sorted(emptied, key=len, reverse=True):
        path = folder if name == "." else f"{folder}/{name}"
        with suppress(OSError):
            if not store.get_file_info(fs.FileSelector(path)):
                store.delete_dir(path)
