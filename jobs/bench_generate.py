"""Speed of `jobs.generate`, beside plain vLLM and Transformers, measured in the same run.

    python -m jobs.bench_generate
    python -m jobs.bench_generate --config default --set rows=1000 model=/models/qwen

All answer the same prompts with the same model, sampling and JSON schemas, one after the other.
Ours and plain vLLM have the same settings: context, number format, grammar, threads, cache, and
what a step may take, which is by default what `vllm.LLM` takes. There are three parts:

    rows     hard negatives, which share no more than the words of the task
    shared   prompts that share long beginnings, in a cache too small for all of them
    kills    two engines, one of which is killed again and again

Engine starts are not part of any speed, except after a kill. The model is trained on the spot
unless another is named.
"""

import logging
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from jobs import prepare
from jobs._baselines.llm_engines import bare_vllm, in_own_process, transformers_generate
from jobs._bench import goodput_under_kills, shared_prefixes
from jobs._bench.generation import cluster, pooled
from jobs._bench.goodput_under_kills import KillsConfig
from jobs._bench.shared_prefixes import SharedPrefixesConfig, few_shot_requests
from jobs._command import job_command
from jobs.generate import tiny
from winnow.data.dataset import Dataset
from winnow.llm.generation.generate import find_models
from winnow.llm.models.context import context_of
from winnow.llm.models.find import TINY, LanguageModel
from winnow.llm.prompting.request import Request
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import DatasetSource, open_source
from winnow_ray.generation.generate import GenerateConfig

logger = logging.getLogger("winnow.bench_generate")

TASK = "hard_negatives"
"""Task of the prompts that share nothing."""
TAUGHT = (TASK, shared_prefixes.TASK)
"""Tasks that the tiny model learns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchGenerateConfig:
    """The model and prompts of the benchmark, and its baselines."""

    rows: int = 4_000
    """Prompts of our side and of plain vLLM that share nothing; 0 leaves them out."""
    shared: SharedPrefixesConfig = field(default_factory=SharedPrefixesConfig)
    """Prompts that share long beginnings; 0 rows leave them out."""
    kills: KillsConfig = field(default_factory=KillsConfig)
    """Two engines that are killed in turn; 0 rows leave them out."""
    model: str = TINY
    """Folder or Hugging Face id of the model; `tiny` is trained on the spot."""
    generate: GenerateConfig = field(default_factory=lambda: GenerateConfig(tasks=TAUGHT))
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
    return BenchGenerateConfig(
        rows=300,
        shared=SharedPrefixesConfig(rows=96, prefixes=6),
        kills=KillsConfig(rows=300, every_s=15.0),
        generate=replace(tiny(), tasks=TAUGHT),
        transformers_rows=32,
        two_nodes=False,
    )


PRESETS = {"default": default, "tiny": small}


def run(config: BenchGenerateConfig) -> dict[str, Any]:
    """Tokens per second of each side and the ratios between them."""
    folder = Path(tempfile.mkdtemp(prefix="winnow-bench-"))
    try:
        model, dataset = prepared(config, folder)
        on_cpu = config.generate.engine.on_cpu(torch.cuda.device_count())
        figures: dict[str, Any] = {}
        if config.rows:
            requests = questions(config, model, dataset, config.rows)
            figures |= measure(config, model.source, requests, folder, on_cpu)
        if config.shared.rows:
            requests = few_shot_requests(dataset, config.shared, model.digest)
            figures["shared_prefixes"] = shared_prefixes.measure(
                config.shared, config.generate, model.source, requests, folder / "shared", on_cpu
            )
        if config.kills.rows:
            requests = questions(config, model, dataset, config.kills.rows)
            figures["goodput_under_kills"] = goodput_under_kills.measure(
                config.kills, config.generate, model.source, requests, folder / "kills"
            )
        return figures
    finally:
        shutil.rmtree(folder)


def prepared(config: BenchGenerateConfig, folder: Path) -> tuple[LanguageModel, Dataset]:
    """The model, and the simulated dataset that all prompts are about."""
    prepare.run(replace(prepare.simulated(), output=str(folder / "dataset")))
    source = open_source(str(folder / "dataset"))
    assert isinstance(source, DatasetSource)
    named = replace(config.generate, model=(config.model,), output=str(folder / "generation"))
    (model,), _ = find_models(named, source)
    return model, source.dataset


def questions(
    config: BenchGenerateConfig, model: LanguageModel, dataset: Dataset, rows: int
) -> list[Request]:
    """Requests that share no more than the words of the task."""
    task = TASKS[TASK]
    asked = task.requests(dataset, rows, config.generate.seed)
    sampling = config.generate.sampling
    return [task.request(inputs, model=model.digest, sampling=sampling) for inputs in asked]


def measure(
    config: BenchGenerateConfig,
    source: str,
    requests: list[Request],
    folder: Path,
    on_cpu: bool,
) -> dict[str, Any]:
    """Measure one side after the other."""
    engine = config.generate.engine
    engine = replace(engine, max_model_len=engine.context(source, context_of(source)))
    environment = engine.environment(source, on_cpu)
    with cluster(nodes=1):
        ours = pooled(config.generate, source, requests, folder / "one", workers=1)
    logger.info("one engine: %s", ours)
    logger.info("starting vllm.LLM by itself")
    bare = in_own_process(bare_vllm, source, engine, requests, environment=environment)
    logger.info("vllm.LLM.generate: %s", bare)
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
    logger.info("transformers: %s", hf)
    two_nodes = None
    if config.two_nodes:
        with cluster(nodes=2):
            two = pooled(config.generate, source, requests, folder / "two", workers=2)
        logger.info("two engines on two nodes: %s", two)
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


main = job_command(run, PRESETS, __doc__, default="default")


if __name__ == "__main__":
    main()
