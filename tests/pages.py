"""The pages of the repository: their code blocks, and what the line above each block says of it.

    <!-- run -->                     the block is executed by tests/ray/pages/test_pages.py
    <!-- file: lib/winnow/x.py -->   the block is a whole file, put into a copy of the checkout
    <!-- line: lib/winnow/y.py below "text" -->
                                     its lines are added below the first line with that text
    <!-- needs: a GPU -->            nothing here can execute the block, and why
    <!-- tested: tests/x.py -->      the test in that file executes it

The blocks of a page are executed in order, in one copy of the checkout.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

FENCE = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.M | re.S
)
LINE = re.compile(r'(?P<path>\S+) below "(?P<text>.+)"')
EXECUTABLE = ("sh", "python", "json")
"""Languages whose blocks must say how they are tested."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    note: str
    """What the comment above says, empty without one."""
    text: str

    @property
    def verb(self) -> str:
        return self.note.partition(":")[0]

    @property
    def argument(self) -> str:
        return self.note.partition(":")[2].strip()


def pages() -> list[Path]:
    """Every Markdown page that is committed or about to be."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sorted(ROOT / name for name in listed.splitlines() if (ROOT / name).is_file())


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page,
            text[: found.start("language")].count("\n") + 1,
            found["language"],
            (found["note"] or "").strip(),
            found["text"],
        )
        for found in FENCE.finditer(text)
    ]


def write_file(block: Block, checkout: Path) -> None:
    """Put a `file` block into the copy of the checkout."""
    path = checkout / block.argument
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)


def add_line(block: Block, checkout: Path) -> None:
    """Add a `line` block to its file in the copy of the checkout."""
    found = LINE.fullmatch(block.argument)
    assert found, f"{block.page}:{block.line}: {block.argument}"
    path = checkout / found["path"]
    lines = path.read_text().splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines) if found["text"] in line), None)
    assert at is not None, f"{block.page}:{block.line}: no line of {found['path']} has that text"
    path.write_text("".join([*lines[: at + 1], block.text, *lines[at + 1 :]]))
