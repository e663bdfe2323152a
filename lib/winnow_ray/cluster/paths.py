"""Names of places that the command line gives, as every worker understands them."""

from pathlib import Path


def absolute(uri: str) -> str:
    """Workers run in another directory, where a relative path would mean another place."""
    return uri if "://" in uri or not uri else str(Path(uri).absolute())


def folder_or_name(model: str) -> str:
    """A model's folder as an absolute path; a name stays one, which every worker looks up."""
    return absolute(model) if model and Path(model).is_dir() else model
