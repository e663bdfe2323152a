"""Pages that can be read to their end, and whose commands are all tested."""

import ast
import re
import shutil

import pytest

from tests.pages import EXECUTABLE, LINE, add_line, blocks, pages
from tests.paths import ROOT

CELL = 120
"""Characters of a table's cell at most: more is a paragraph."""
VERBS = {"run", "file", "line", "needs", "tested"}
PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
EXPECTED = {
    "README.md",
    "lib/winnow/README.md",
    "lib/winnow/data/README.md",
    "lib/winnow/llm/README.md",
    "lib/winnow/ranking/README.md",
    "lib/winnow/reranking/README.md",
    "lib/winnow/retrieval/README.md",
    "lib/winnow/tree/README.md",
    "lib/winnow_ray/README.md",
    "jobs/README.md",
    "jobs/RESULTS.md",
    "serve/README.md",
    "cluster/README.md",
    "tests/README.md",
}


def test_every_room_has_its_page():
    assert PAGES.keys() >= EXPECTED


def test_the_first_page_can_be_read_to_its_end():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 200
    assert len(text.encode()) <= 10_000


@pytest.mark.parametrize("name", PAGES)
def test_cells_of_tables_are_short(name):
    for number, line in enumerate(PAGES[name].read_text().splitlines(), 1):
        if line.lstrip().startswith("|"):
            for cell in line.strip().strip("|").split(" | "):
                assert len(cell) <= CELL, f"{name}:{number}: {len(cell)} characters: {cell[:60]}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_executed_or_says_why_not(name):
    for block in blocks(PAGES[name]):
        if block.language not in EXECUTABLE:
            continue
        assert block.verb in VERBS, f"{name}:{block.line}: say above the block how it is tested"
        assert block.verb == "run" or block.argument, f"{name}:{block.line}: <!-- {block.note} -->"
        if block.verb == "tested":
            assert (ROOT / block.argument.split("::")[0]).is_file(), f"{name}:{block.line}"


@pytest.mark.parametrize("name", PAGES)
def test_lines_that_a_page_adds_have_their_place(name, tmp_path):
    for block in blocks(PAGES[name]):
        if block.verb == "line":
            path = LINE.fullmatch(block.argument)["path"]
            if not (tmp_path / path).exists():
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, tmp_path / path)
            add_line(block, tmp_path)
            ast.parse((tmp_path / path).read_text(), filename=f"{name}:{block.line}")
