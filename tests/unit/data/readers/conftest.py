from collections import Counter

import pytest

from winnow.data.raw import FileLines


@pytest.fixture
def counted(monkeypatch):
    """Good and bad lines of every file that has been read, by name."""
    counts: Counter[str] = Counter()
    finish = FileLines.finish

    def counting(self):
        counts[self._name] = self._seen - self._bad
        finish(self)

    monkeypatch.setattr(FileLines, "finish", counting)
    return counts
