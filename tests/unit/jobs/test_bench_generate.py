"""The prompts of the generation benchmark, and how it kills engines; no engine is started."""

import json
import subprocess
from collections import Counter
from dataclasses import replace

import pytest

from jobs import prepare
from jobs._baselines.llm_engines import Speed
from jobs._bench.goodput_under_kills import KillsConfig, kill_oldest, killing
from jobs._bench.shared_prefixes import SharedPrefixesConfig, equal_share, few_shot_requests
from winnow.data.dataset import Dataset
from winnow.llm.generation.prompt_order import grouped


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "dataset"
    prepare.run(replace(prepare.tiny(), output=str(folder)))
    return Dataset.open(folder)


def shop(request):
    return json.loads(request.messages)[1]["content"].partition('"examples"')[0]


def test_prompts_of_a_shop_share_a_long_beginning_and_come_in_random_order(dataset):
    config = SharedPrefixesConfig(rows=60, prefixes=6)
    requests = few_shot_requests(dataset, config, "m")
    assert len({request.key for request in requests}) == 60
    assert set(Counter(map(shop, requests)).values()) == {10}
    groups = list(grouped(requests))
    assert [len(group) for group in groups] == [10] * 6
    assert all(len(set(map(shop, group))) == 1 for group in groups)
    assert len(set(map(shop, requests[:10]))) > 1
    assert few_shot_requests(dataset, config, "m") == requests


@pytest.mark.parametrize("settings", [{"prefixes": 0}, {"rows": 3, "prefixes": 4}, {"cache": 0}])
def test_impossible_prompts_are_refused(settings):
    with pytest.raises(ValueError, match=f"{list(settings)[-1]} must be"):
        SharedPrefixesConfig(**settings)


def test_equal_is_the_share_of_equal_texts():
    ours = Speed(tokens=1, seconds=1, ends=[], texts={"a": "x", "b": "y"})
    theirs = replace(ours, texts={"b": "y", "a": "z"})
    assert equal_share(ours, theirs) == 0.5


def test_kills_end_the_oldest_process_of_that_name_and_stop(tmp_path):
    with pytest.raises(ValueError, match="every_s must be positive"):
        KillsConfig(every_s=0)
    assert kill_oldest("no such process") is None
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        assert kill_oldest("sleep") in [process.pid for process in processes]
        assert sum(process.poll() is None for process in processes) >= 1
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with killing(60.0, tmp_path) as kills:
        pass
    assert kills == []
