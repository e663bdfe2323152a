"""Paths from the command line, in a form that means the same on every worker."""

from pathlib import Path


def absolute(uri: str) -> str:
    """A relative path as an absolute one, since workers run in another directory; URIs stay."""
    return uri if "://" in uri or not uri else str(Path(uri).absolute())


def folder_or_name(model: str) -> str:
    """A model's folder as an absolute path; a name, which every worker looks up, stays."""
    return absolute(model) if model and Path(model).is_dir() else model
