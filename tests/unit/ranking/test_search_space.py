"""Every value of a search space is a valid override of the config."""

import pytest

from winnow.config import with_overrides
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.registry import MODELS
from winnow.ranking.search_space import ARCHITECTURE, TRAINING, Choice, LogUniform, search_space


def test_every_model_with_a_space_exists():
    assert ARCHITECTURE.keys() <= MODELS.keys()


@pytest.mark.parametrize("model", MODELS)
def test_every_value_of_every_field_is_a_valid_override(model):
    config = RankerConfig(model=model)
    space = search_space(model, config.batch_size)
    assert space["batch_size"] == Choice(["2048", "4096", "8192"])
    assert TRAINING.keys() <= space.keys()
    for name, domain in space.items():
        values = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        changed = {str(with_overrides(config, [f"{name}={value}"])) for value in values}
        assert len(changed) == len(values) > 1


def test_a_log_uniform_field_has_a_range():
    for domain in TRAINING.values():
        if isinstance(domain, LogUniform):
            assert 0 < domain.low < domain.high
