"""The settings of a vLLM engine: device, number format and environment."""

from dataclasses import replace

import pytest

from winnow.errors import GenerationError
from winnow.llm.engines.vllm_config import EngineConfig, WorkersConfig


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (EngineConfig(), "batch_size", 0),
        (EngineConfig(), "max_model_len", -1),
        (WorkersConfig(), "min", 2),
    ],
)
def test_a_bad_config_is_refused_by_the_field(config, field, value):
    with pytest.raises(ValueError, match=rf"{type(config).__name__}.{field} must .*got {value}"):
        replace(config, **{field: value})


@pytest.mark.parametrize(
    ("device", "gpus", "on_cpu"),
    [("auto", 0, True), ("auto", 1, False), ("cpu", 1, True), ("cuda", 0, False)],
)
def test_the_device_follows_the_cluster(device, gpus, on_cpu):
    assert EngineConfig(device=device).on_cpu(gpus) is on_cpu


@pytest.mark.parametrize(("fast", "dtype"), [(True, "auto"), (False, "float32")])
def test_a_cpu_that_is_slow_in_bfloat16_computes_in_float32(fast, dtype, monkeypatch):
    monkeypatch.setattr("winnow.llm.engines.vllm_config.has_fast_bfloat16", lambda: fast)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert EngineConfig().arguments()["dtype"] == dtype
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert EngineConfig().arguments()["dtype"] == "auto"  # vLLM knows GPUs


def test_a_model_in_a_folder_never_asks_the_hub(tmp_path):
    engine = EngineConfig(kv_cache_gb=2)
    assert engine.environment(str(tmp_path), True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in engine.environment("org/model", True)
    assert engine.environment("org/model", True)["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert "VLLM_CPU_KVCACHE_SPACE" not in engine.environment("org/model", False)
    assert EngineConfig(cpus=3).environment("org/model", True)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("vectors", [False, True])
def test_further_arguments_replace_those_of_the_config(vectors):
    engine = EngineConfig(args={"block_size": 32, "max_num_seqs": 7})
    made = engine.arguments(vectors=vectors)
    assert (made["block_size"], made["max_num_seqs"]) == (32, 7)


@pytest.mark.parametrize(
    ("name", "decides"),
    [("model", "model="), ("max_model_len", "engine.max_model_len"), ("runner", "the task")],
)
def test_an_argument_that_another_setting_decides_is_refused(name, decides):
    with pytest.raises(ValueError, match=f"EngineConfig.args.{name} cannot be set: {decides}"):
        EngineConfig(args={name: 1})


def test_an_argument_that_changes_answers_is_part_of_what_answers():
    assert EngineConfig(args={"block_size": 32, "max_num_seqs": 7}).deciding == ""
    engine = EngineConfig(args={"quantization": "fp8", "block_size": 32})
    assert engine.deciding == '{"quantization":"fp8"}'


@pytest.mark.parametrize(
    ("asked", "most", "taken"),
    [(0, 2048, 2048), (0, 131072, 8192), (0, 0, 8192), (16384, 131072, 16384), (16384, 0, 16384)],
)
def test_the_context_is_the_models_unless_asked_for(asked, most, taken):
    assert EngineConfig(max_model_len=asked).context("m", most) == taken


def test_more_context_than_the_model_has_is_refused():
    message = "engine.max_model_len=8192 is more than the context of model=m, which has 2048 tokens"
    with pytest.raises(GenerationError, match=message):
        EngineConfig(max_model_len=8192).context("m", 2048)


def test_a_step_takes_what_vllm_takes_by_itself_unless_told_otherwise():
    names = ("max_num_seqs", "max_num_batched_tokens")
    assert [EngineConfig().arguments()[name] for name in names] == [None, None]
    asked = EngineConfig(max_num_seqs=16, max_num_batched_tokens=4096).arguments()
    assert [asked[name] for name in names] == [16, 4096]


def test_more_rows_are_in_flight_than_an_engine_decodes_together():
    for engine, on_cpu, seats in (
        (EngineConfig(), True, 256),
        (EngineConfig(), False, 1024),
        (EngineConfig(max_num_seqs=100), False, 100),
    ):
        rows = engine.batches_in_flight(engine.seats(on_cpu)) * engine.batch_size
        assert seats < rows <= seats + 3 * engine.batch_size
    assert EngineConfig(concurrent_batches=4).batches_in_flight(1024) == 4
