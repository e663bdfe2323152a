"""The settings of a vLLM engine: device, number format and environment."""

from dataclasses import replace

import pytest

from winnow.llm.engines.vllm_config import EngineConfig, WorkersConfig


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [(EngineConfig(), "batch_size", 0), (WorkersConfig(), "min", 2)],
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
