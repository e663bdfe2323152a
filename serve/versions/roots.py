"""Where an order by HTTP may name bundles: below the roots that the operator set."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from winnow.errors import ArtifactError


def check_root(uri: str, roots: Sequence[str]) -> None:
    """Raise ArtifactError unless `uri` lies below a root. Nothing is looked up but local links.

    A URI must have the user part and the query of its root: they name servers and keys.
    """
    try:
        below = any(_is_below(uri, root) for root in roots)
    except ValueError:  # no path and no URI
        below = False
    if not below:
        raise ArtifactError(
            "the bundle does not lie below a root that this endpoint takes bundles from; "
            "its argument bundle_roots names them"
        )


def root_of(bundle: str) -> str:
    """The folder that a bundle lies in: the root where none was set."""
    path, mark, query = bundle.partition("?")
    return f"{path.rstrip('/').rpartition('/')[0] or '/'}{mark}{query}"


def _is_below(uri: str, root: str) -> bool:
    if "://" not in uri or "://" not in root:
        return "://" not in uri + root and Path(uri).resolve().is_relative_to(Path(root).resolve())
    asked, allowed = urlsplit(uri), urlsplit(root)
    path = PurePosixPath(unquote(asked.path))
    same = (asked.scheme, asked.netloc, asked.query, asked.fragment) == (
        *(allowed.scheme, allowed.netloc, allowed.query, allowed.fragment),
    )
    return same and ".." not in path.parts and path.is_relative_to(unquote(allowed.path) or "/")
