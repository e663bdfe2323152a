"""A hidden folder beside an output that keeps the finished pieces of an unfinished run."""

import uuid
from collections.abc import Iterable
from pathlib import Path

from pyarrow import fs


def hidden_sibling(output: str, ending: str) -> str:
    """Path or URI of the hidden folder `.<name>.<ending>` beside an output `<name>`.

    Example:
        >>> hidden_sibling("s3://bucket/runs/board", "work")
        's3://bucket/runs/.board.work'
    """
    parent, slash, name = output.rpartition("/")
    return f"{parent}{slash}.{name}.{ending}"


def file_system_of(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or `pyarrow.fs` URI, and the absolute path inside it."""
    if "://" in uri:
        return fs.FileSystem.from_uri(uri)  # type: ignore[no-any-return]
    return fs.LocalFileSystem(), str(Path(uri).absolute())


class WorkFolder:
    """Texts and bytes by key; a writer that is killed leaves each whole or absent.

    Example:
        >>> import tempfile
        >>> work = WorkFolder.beside(tempfile.mkdtemp() + "/board")
        >>> work.write("star-0", "0.81")
        >>> work.read(["star-0", "star-1"])
        {'star-0': '0.81'}
        >>> work.clear()
    """

    def __init__(self, uri: str) -> None:
        """`uri` is a path or a `pyarrow.fs` URI; the first write creates the folder."""
        self._fs, self._root = file_system_of(uri)

    @classmethod
    def beside(cls, output: str) -> "WorkFolder":
        """The folder `.<name>.work` beside the output `<name>`."""
        return cls(hidden_sibling(output, "work"))

    def write(self, key: str, content: str | bytes) -> None:
        self._fs.create_dir(self._root, recursive=True)
        draft = f"{self._root}/.{uuid.uuid4().hex}"
        with self._fs.open_output_stream(draft) as out:
            out.write(content.encode() if isinstance(content, str) else content)
        self._fs.move(draft, self._path(key))

    def read(self, keys: Iterable[str]) -> dict[str, str]:
        """The texts by key; keys that were never written are left out."""
        return {key: self.read_bytes(key).decode() for key in self.finished(keys)}

    def read_bytes(self, key: str) -> bytes:
        """The content of a key that was written."""
        with self._fs.open_input_stream(self._path(key)) as file:
            return bytes(file.read())

    def finished(self, keys: Iterable[str]) -> set[str]:
        """The given keys that were written."""
        paths = {self._path(key): key for key in keys}
        infos = self._fs.get_file_info(list(paths))
        return {paths[info.path] for info in infos if info.type == fs.FileType.File}

    def clear(self) -> None:
        """Remove the folder."""
        if self._fs.get_file_info(self._root).type == fs.FileType.Directory:
            self._fs.delete_dir(self._root)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"
