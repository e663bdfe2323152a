"""The preset files in the repository are ones that a job takes."""

import pytest

from jobs import train_ranker
from tests.paths import ROOT
from winnow.config import preset_of, with_overrides

PRESETS = sorted((ROOT / "jobs" / "presets").glob("*.json"))


def test_there_are_preset_files():
    assert PRESETS


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_file_changes_a_preset(path):
    config = preset_of(str(path), train_ranker.PRESETS)
    assert config.ranker() not in [preset().ranker() for preset in train_ranker.PRESETS.values()]


@pytest.mark.parametrize("preset", ["simulate", "movielens_1m"])
def test_a_model_and_its_architecture_are_set_in_any_order(preset):
    base = train_ranker.PRESETS[preset]()
    given = ["model=mscan", "architecture.all_history=20"]
    for ordered in (given, given[::-1]):
        chosen = with_overrides(base, ordered)
        assert chosen.architecture.all_history == 20
        assert chosen.architecture.dropout == base.architecture.dropout
    with pytest.raises(ValueError, match="StarConfig has no field 'all_history'"):
        with_overrides(base, ["architecture.all_history=20"])
