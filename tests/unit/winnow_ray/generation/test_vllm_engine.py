"""What of a vLLM engine needs no engine; tests/ray/generation starts real ones."""

import pytest

from winnow.llm.engines.base import EngineUnavailable
from winnow_ray.generation.vllm_engine import check_names


def test_an_argument_that_vllm_lacks_is_one_sentence():
    check_names(["block_size"], ["block_size", "seed"])
    with pytest.raises(EngineUnavailable, match="no argument 'blok_size'; did you mean 'block_s"):
        check_names(["seed", "blok_size"], ["block_size", "seed"])
    with pytest.raises(EngineUnavailable, match=r"no argument 'x'; see vllm\.EngineArgs"):
        check_names(["x"], ["block_size", "seed"])
