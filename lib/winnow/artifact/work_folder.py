"""A hidden folder beside an output that keeps the finished parts of an unfinished job."""

import uuid
from collections.abc import Iterable
from pathlib import Path

from pyarrow import fs


class WorkFolder:
    """Texts and bytes by key. Each is whole or absent, whenever its writer is killed.

    Example:
        >>> import tempfile
        >>> work = WorkFolder.beside(tempfile.mkdtemp() + "/board")
        >>> work.write("star-0", "0.81")
        >>> work.read(["star-0", "star-1"])
        {'star-0': '0.81'}
        >>> work.clear()
    """

    def __init__(self, uri: str) -> None:
        """`uri` is an absolute path or a `pyarrow.fs` URI; nothing is made before a write."""
        if "://" in uri:
            self._fs, self._root = fs.FileSystem.from_uri(uri)
        else:
            self._fs, self._root = fs.LocalFileSystem(), str(Path(uri).absolute())

    @classmethod
    def beside(cls, output: str) -> "WorkFolder":
        """The folder `.<name>.work` next to the output `<name>`."""
        parent, _, name = output.rpartition("/")
        return cls(f"{parent}/.{name}.work")

    def write(self, key: str, content: str | bytes) -> None:
        self._fs.create_dir(self._root, recursive=True)
        hidden = f"{self._root}/.{uuid.uuid4().hex}"
        with self._fs.open_output_stream(hidden) as out:
            out.write(content.encode() if isinstance(content, str) else content)
        self._fs.move(hidden, self._path(key))

    def read(self, keys: Iterable[str]) -> dict[str, str]:
        """The texts of those keys that have one."""
        return {key: self.read_bytes(key).decode() for key in self.finished(keys)}

    def read_bytes(self, key: str) -> bytes:
        """What was written under a key that is there."""
        with self._fs.open_input_stream(self._path(key)) as file:
            return bytes(file.read())

    def finished(self, keys: Iterable[str]) -> set[str]:
        """Which of the keys something was written under."""
        paths = {self._path(key): key for key in keys}
        infos = self._fs.get_file_info(list(paths))
        return {paths[info.path] for info in infos if info.type == fs.FileType.File}

    def clear(self) -> None:
        """Remove the folder."""
        if self._fs.get_file_info(self._root).type == fs.FileType.Directory:
            self._fs.delete_dir(self._root)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"
