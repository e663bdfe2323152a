import pytest
from pyarrow import fs

from winnow.artifact.work_folder import WorkFolder, hidden_sibling


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_texts_come_back_by_key(tmp_path, scheme):
    work = WorkFolder.beside(f"{scheme}{tmp_path}/board")
    assert work.read(["a", "b"]) == {}
    work.write("a", "first")
    work.write("a", "second")
    assert WorkFolder.beside(f"{scheme}{tmp_path}/board").read(["a", "b"]) == {"a": "second"}
    assert (tmp_path / ".board.work" / "a").read_text() == "second"
    work.clear()
    work.clear()
    assert not (tmp_path / ".board.work").exists()


def test_a_killed_write_leaves_no_text(tmp_path, monkeypatch):
    work = WorkFolder(str(tmp_path / "w"))
    work.write("a", "old")

    class Dies(fs.LocalFileSystem):
        def move(self, source, target):
            raise KeyboardInterrupt

    monkeypatch.setattr(work, "_fs", Dies())
    with pytest.raises(KeyboardInterrupt):
        work.write("a", "new")
    assert WorkFolder(str(tmp_path / "w")).read(["a"]) == {"a": "old"}


def test_the_hidden_folder_of_a_bare_name_is_beside_it():
    assert hidden_sibling("board", "work") == ".board.work"
    assert hidden_sibling("/board", "train") == "/.board.train"
