"""Speed of `jobs.generate`, beside plain vLLM and Transformers, measured in the same run.

    python -m jobs.bench_generate
    python -m jobs.bench_generate --config default --set rows=1000 model=/models/qwen

All answer the same hard-negative prompts with the same model, sampling and JSON schemas, one after
the other. Ours and plain vLLM have the same settings: context, number format, grammar, and what a
step may take, which is by default what `vllm.LLM` takes.
Engine starts are not part of any speed. The model is trained on the spot unless another is named.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from jobs import prepare
from jobs._baselines.llm_engines import Speed, bare_vllm, in_own_process, transformers_generate
from jobs._command import job_command
from jobs.generate import tiny
from winnow.llm.engines.vllm_config import WorkersConfig
from winnow.llm.generation.generate import find_models
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.models.context import context_of
from winnow.llm.models.find import TINY
from winnow.llm.prompting.request import Request
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import DatasetSource, open_source
from winnow_ray.cluster.connect import OBJECT_STORE_BYTES, set_niceness
from winnow_ray.cluster.terminal import divert, forward_worker_lines
from winnow_ray.generation.generate import GenerateConfig, vllm_pool
from winnow_ray.generation.workers import answer_items

logger = logging.getLogger("winnow.bench_generate")

TASK = "hard_negatives"
"""Task that all sides answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchGenerateConfig:
    """The model and prompts of the benchmark, and its baselines."""

    rows: int = 4_000
    """Prompts of our side and of plain vLLM."""
    model: str = TINY
    """Folder or Hugging Face id of the model; `tiny` is trained on the spot."""
    generate: GenerateConfig = field(default_factory=lambda: GenerateConfig(tasks=(TASK,)))
    """Sampling and engine of all sides."""
    transformers_rows: int = 256
    """Prompts of Transformers, which is slow."""
    transformers_batch: int = 64
    """Prompts that Transformers answers at a time."""
    two_nodes: bool = True
    """Whether two engines are measured too, each on a node of its own on this machine."""


def default() -> BenchGenerateConfig:
    """Four thousand prompts, long enough that ramp and tail weigh little."""
    return BenchGenerateConfig()


def small() -> BenchGenerateConfig:
    """A few minutes, for tests; ramp and tail weigh more than they should."""
    return BenchGenerateConfig(rows=300, generate=tiny(), transformers_rows=32, two_nodes=False)


PRESETS = {"default": default, "tiny": small}


def run(config: BenchGenerateConfig) -> dict[str, Any]:
    """Tokens per second of each side and the ratios between them."""
    folder = Path(tempfile.mkdtemp(prefix="winnow-bench-"))
    try:
        source, requests = questions(config, folder)
        return measure(config, source, requests, folder)
    finally:
        shutil.rmtree(folder)


def questions(config: BenchGenerateConfig, folder: Path) -> tuple[str, list[Request]]:
    """Folder of the model, and the requests that all sides answer."""
    prepare.run(replace(prepare.simulated(), output=str(folder / "dataset")))
    source = open_source(str(folder / "dataset"))
    assert isinstance(source, DatasetSource)
    named = replace(config.generate, model=(config.model,), output=str(folder / "generation"))
    (model,), _ = find_models(named, source)
    task = TASKS[TASK]
    asked = task.requests(source.dataset, config.rows, config.generate.seed)
    sampling = config.generate.sampling
    requests = [task.request(inputs, model=model.digest, sampling=sampling) for inputs in asked]
    return model.source, requests


def measure(
    config: BenchGenerateConfig, source: str, requests: list[Request], folder: Path
) -> dict[str, Any]:
    """Measure one side after the other."""
    engine = config.generate.engine
    engine = replace(engine, max_model_len=engine.context(source, context_of(source)))
    with cluster(nodes=1):
        on_cpu = engine.on_cpu(ray.cluster_resources().get("GPU", 0))
        environment = engine.environment(source, on_cpu)
        ours = pooled(config, source, requests, folder / "one", workers=1)
    logger.info("one engine: %s", describe(ours))
    logger.info("starting vllm.LLM by itself")
    bare = in_own_process(bare_vllm, source, engine, requests, environment=environment)
    logger.info("vllm.LLM.generate: %s", describe(bare))
    length = round(bare.tokens / len(requests))
    few = requests[: config.transformers_rows]
    hf = in_own_process(
        transformers_generate,
        source,
        few,
        config.transformers_batch,
        length,
        environment=environment,
    )
    logger.info("transformers: %s", describe(hf))
    two_nodes = None
    if config.two_nodes:
        with cluster(nodes=2):
            two = pooled(config, source, requests, folder / "two", workers=2)
        logger.info("two engines on two nodes: %s", describe(two))
        two_nodes = round(two.tokens_per_s / ours.tokens_per_s, 3)
    return {
        "rows": len(requests),
        "tokens_per_s": round(ours.tokens_per_s),
        "vllm_tokens_per_s": round(bare.tokens_per_s),
        "ratio_vs_vllm": round(ours.tokens_per_s / bare.tokens_per_s, 3),
        "steady_tokens_per_s": round(ours.steady_tokens_per_s),
        "vllm_steady_tokens_per_s": round(bare.steady_tokens_per_s),
        "ratio_steady": round(ours.steady_tokens_per_s / bare.steady_tokens_per_s, 3),
        "transformers_tokens_per_s": round(hf.tokens_per_s),
        "ratio_vs_transformers": round(ours.tokens_per_s / hf.tokens_per_s, 2),
        "engine_start_s": round(ours.start_s, 1),
        "vllm_start_s": round(bare.start_s, 1),
        "two_nodes_ratio": two_nodes,
    }


def pooled(
    config: BenchGenerateConfig, source: str, requests: list[Request], work: Path, workers: int
) -> Speed:
    """Answers by `jobs.generate`, from its request files to its committed answers."""
    store = AnswerStore(work)
    batch = config.generate.engine.batch_size
    items = list(store.write_requests(requests, rows_per_batch=batch))
    sized = replace(config.generate, workers=WorkersConfig(min=workers, max=workers))
    report = answer_items(items, store, vllm_pool(sized, source, vectors=False))
    tokens = report.counts["output_tokens"]
    return Speed(tokens=tokens, seconds=report.seconds, ends=report.ends, start_s=report.start_s)


def describe(speed: Speed) -> str:
    """A speed as a line of the log shows it."""
    return (
        f"tokens={speed.tokens} seconds={speed.seconds:.1f} tokens_per_s={speed.tokens_per_s:.0f} "
        f"steady={speed.steady_tokens_per_s:.0f} start_s={speed.start_s:.1f}"
    )


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """A cluster of that many nodes on this machine, each with an equal part of its CPUs."""
    node: dict[str, Any] = {
        "num_cpus": max((os.cpu_count() or 1) // nodes, 1),
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    divert()
    set_niceness()
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(nodes - 1):
            made.add_node(**node)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.WARNING)
        forward_worker_lines()
        yield
    finally:
        ray.shutdown()
        made.shutdown()


main = job_command(run, PRESETS, __doc__, default="default")


if __name__ == "__main__":
    main()
