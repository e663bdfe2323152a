"""The settings of a vLLM engine, as plain values: the library itself never imports vLLM."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from winnow.config import canonical_json
from winnow.errors import GenerationError
from winnow.precision import has_fast_bfloat16

USUAL_CONTEXT = 8192
"""Tokens of context unless told otherwise: room for every task, and little memory for its cache."""
CPU_SEATS, GPU_SEATS = 256, 1024
"""Requests that `vllm.LLM` decodes together on a CPU and on its largest GPUs."""
SPARE_BATCHES = 2
"""Batches beyond the seats, so that an engine never waits for the next one."""
SET_ELSEWHERE = {
    **dict.fromkeys(("model", "revision", "tokenizer", "tokenizer_revision"), "model="),
    **dict.fromkeys(("runner", "convert", "task", "pooler_config"), "the task"),
    "max_model_len": "engine.max_model_len",
}
"""Arguments of vLLM that others of ours set, by the one to set: prompts are cut and answers are
kept by them."""
ONLY_SPEED = frozenset(
    (
        *("async_scheduling", "block_size", "cpu_offload_gb", "disable_log_stats"),
        *("enable_chunked_prefill", "enable_prefix_caching", "enforce_eager", "load_format"),
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "max_num_batched_tokens"),
        *("max_num_seqs", "num_gpu_blocks_override", "scheduling_policy", "swap_space"),
        *("pipeline_parallel_size", "tensor_parallel_size", "compilation_config"),
        *("distributed_executor_backend", "max_parallel_loading_workers"),
    )
)
"""Arguments that decide how fast an engine is and what it takes, not what it answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Number of engines; Ray Data scales it with the requests that wait."""

    min: int = 1
    """Engines at the start, and at least."""
    max: int = 1
    """Engines at most."""

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.max:
            raise ValueError(
                f"WorkersConfig.min must be in 1..max, got {self.min} with max {self.max}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeLlmConfig:
    """A Ray Serve LLM application on the same cluster."""

    app: str = "default"
    """Name of the Serve application."""
    served_model: str = ""
    """Name of the model in the application; empty means the folder or id that the job names."""
    max_tokens: int = 4096
    """Most tokens per answer; halved for a prompt that leaves the deployment less room."""

    def __post_init__(self) -> None:
        if self.max_tokens <= 0:
            raise ValueError(f"ServeLlmConfig.max_tokens must be positive, got {self.max_tokens}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Size and placement of one engine."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU if the cluster has one."""
    cpus: int = 1
    """CPUs reserved for an engine without a GPU."""
    tensor_parallel: int = 1
    """GPUs that share every layer."""
    pipeline_parallel: int = 1
    """Groups of GPUs that each hold some of the layers; an engine runs on one node."""
    kv_cache_gb: int = 1
    """Memory for the key-value cache of a CPU engine, in GiB."""
    max_model_len: int = 0
    """Most tokens of a prompt and its answer; 0 takes what the model has, 8,192 at most."""
    max_num_seqs: int = 0
    """Most requests that the engine decodes together; 0 takes what `vllm.LLM` would."""
    max_num_batched_tokens: int = 0
    """Most tokens of one step of the engine, prompts included; 0 takes what `vllm.LLM` would."""
    batch_size: int = 16
    """Rows per batch; a kill loses the answers of the batches in flight."""
    concurrent_batches: int = 0
    """Batches in flight per engine; 0 takes a few more than the engine decodes together."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `vllm.EngineArgs` by name, as JSON or text; they replace those above."""

    def __post_init__(self) -> None:
        for name in ("cpus", "kv_cache_gb", "batch_size", "tensor_parallel", "pipeline_parallel"):
            if getattr(self, name) <= 0:
                raise ValueError(f"EngineConfig.{name} must be positive, got {getattr(self, name)}")
        limits = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "concurrent_batches")
        for name in limits:
            if getattr(self, name) < 0:
                raise ValueError(
                    f"EngineConfig.{name} must not be negative, got {getattr(self, name)}"
                )
        for name in self.args:
            if name in SET_ELSEWHERE:
                raise ValueError(
                    f"EngineConfig.args.{name} cannot be set: {SET_ELSEWHERE[name]} decides it"
                )

    @property
    def deciding(self) -> str:
        """The further arguments that decide answers, as JSON; "" if there are none."""
        found = {name: value for name, value in self.args.items() if name not in ONLY_SPEED}
        return canonical_json(found) if found else ""

    def context(self, source: str, most: int) -> int:
        """Tokens of context of an engine for the model at `source`, which has `most`; 0 if unknown.

        Raises:
            GenerationError: the config asks for more than the model has.
        """
        if most and self.max_model_len > most:
            raise GenerationError(
                f"engine.max_model_len={self.max_model_len} is more than the context of "
                f"model={source}, which has {most} tokens; leave it out or set at most {most}"
            )
        return self.max_model_len or min(most or USUAL_CONTEXT, USUAL_CONTEXT)

    def batches_in_flight(self, seats: int) -> int:
        """Batches per worker, for an engine that takes `seats` requests at a time."""
        return self.concurrent_batches or -(-seats // self.batch_size) + SPARE_BATCHES

    def seats(self, on_cpu: bool) -> int:
        """Most requests that one engine decodes together, as far as is known before its start."""
        return self.max_num_seqs or (CPU_SEATS if on_cpu else GPU_SEATS)

    def on_cpu(self, cluster_gpus: float) -> bool:
        """Whether the engine runs without a GPU on a cluster with `cluster_gpus` GPUs."""
        return self.device == "cpu" or (self.device == "auto" and not cluster_gpus)

    def arguments(self, *, vectors: bool = False) -> dict[str, Any]:
        """Keyword arguments of `vllm.AsyncEngineArgs`; with `vectors` for hidden states, not text.

        Call it on the machine that runs the engine: the number format depends on the hardware.
        """
        shared = {
            "max_model_len": self.max_model_len or None,
            "max_num_seqs": self.max_num_seqs or None,
            "max_num_batched_tokens": self.max_num_batched_tokens or None,
            "tensor_parallel_size": self.tensor_parallel,
            "pipeline_parallel_size": self.pipeline_parallel,
            "enable_prefix_caching": True,
            "dtype": "auto" if torch.cuda.is_available() or has_fast_bfloat16() else "float32",
        }
        if vectors:
            return {**shared, "runner": "pooling", "convert": "embed", **self.args}
        # A weak model spends its tokens on white space between the parts of an object.
        grammar = {"backend": "xgrammar", "disable_any_whitespace": True}
        return {**shared, "structured_outputs_config": grammar, **self.args}

    def environment(self, source: str, on_cpu: bool) -> dict[str, str]:
        """Environment variables of the engine's process, for the model at `source`."""
        variables = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        if on_cpu:
            variables["VLLM_CPU_KVCACHE_SPACE"] = str(self.kv_cache_gb)
            variables["OMP_NUM_THREADS"] = str(self.cpus)
            # Two engines on one machine would bind their threads to the same cores.
            variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
            # A thread that waits by spinning takes the core from the thread it waits for.
            variables["OMP_WAIT_POLICY"] = "PASSIVE"
        if Path(source).is_dir():
            variables["HF_HUB_OFFLINE"] = "1"
        return variables
