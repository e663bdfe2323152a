"""The preset files in the repository are ones that a job takes."""

from pathlib import Path

import pytest

from jobs import train_ranker
from winnow.config import preset_of

PRESETS = sorted((Path(__file__).parents[2] / "jobs" / "presets").glob("*.json"))


def test_there_are_preset_files():
    assert PRESETS


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_file_changes_a_preset(path):
    config = preset_of(str(path), train_ranker.PRESETS)
    assert config.ranker() not in [preset().ranker() for preset in train_ranker.PRESETS.values()]
