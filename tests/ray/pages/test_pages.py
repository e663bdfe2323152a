"""The commands and steps of every page, executed as they are written there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import Block, add_line, blocks, pages, write_file
from tests.paths import ROOT

pytestmark = pytest.mark.slow

DOING = {"run", "file", "line"}
TESTED = [page for page in pages() if any(block.verb in DOING for block in blocks(page))]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what is committed, for steps that add files."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    subprocess.run(["git", "-C", str(tmp_path), "init", "--quiet"], check=True)
    return tmp_path


def run(block: Block, checkout: Path) -> None:
    command = ["bash", "-euc"] if block.language == "sh" else [sys.executable, "-c"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*command, block.text],
        cwd=checkout,
        env=os.environ | {"PATH": path, "PYTHONPATH": f"{checkout / 'lib'}:{checkout}"},
        capture_output=True,
        text=True,
        check=False,
    )
    where = f"{block.page.relative_to(ROOT)}:{block.line}"
    assert done.returncode == 0, f"{where}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", TESTED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_works_as_written(page, checkout):
    steps = {"run": run, "file": write_file, "line": add_line}
    for block in blocks(page):
        if block.verb in DOING:
            steps[block.verb](block, checkout)
