"""The console page: plain files of serve/console, read once and answered from memory."""

from pathlib import Path

from serve.http.reply import Refusal, Reply

FOLDER = Path(__file__).parents[1] / "console"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # only the page's own files, and in no frame: markup in an item's title can load and run nothing
    "content-security-policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Pages:
    """Files that existed when the replica started, by name; no name leads out of the folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): Reply(
                200, path.read_bytes(), TYPES[path.suffix], HEADERS
            )
            for path in sorted(folder.rglob("*"))
            if path.suffix in TYPES
        }

    def get(self, name: str) -> Reply:
        if name not in self._files:
            raise Refusal(404, ("path", f"the console has no file {name!r}"))
        return self._files[name]
