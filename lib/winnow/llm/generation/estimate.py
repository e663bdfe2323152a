"""What a generation would take, before anything is spent."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from winnow.errors import GenerationError
from winnow.llm.generation.generate import GenerationConfig, find_models, new_plan
from winnow.llm.generation.plan import OpenRequests
from winnow.llm.models.find import TINY, check_loadable
from winnow.llm.prompting.request import Request
from winnow.llm.tasks.sources import open_source

SAMPLE = 256
"""Prompts of each task that are tokenized."""
BYTES_A_TOKEN = 4
"""Of an answer nobody has seen yet, about right for English and common tokenizers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceConfig:
    """What the estimate multiplies with; 0 where unknown."""

    tokens_per_s: float = 0.0
    """Output tokens of one worker; 0: the speed of the last run with the same output, if any."""
    worker_hour: float = 0.0
    """Money."""
    prompt_million: float = 0.0
    """Money for a million prompt tokens."""
    output_million: float = 0.0


def estimate(config: GenerationConfig, prices: PriceConfig, workers: int) -> dict[str, Any]:
    """Rows, tokens, hours and cost of what has no answer yet. Writes nothing and asks no model.

    Prompt tokens are counted on a sample of each task with the model's tokenizer. Output tokens of
    a task are the mean of its answers so far or, without any, what half of its longest answer
    makes. What a task asks after an answer is not included.

    Raises:
        GenerationError: the tiny model, which a run would train first, is not there yet.
    """
    source = open_source(config.input)
    if TINY in config.model:
        raise GenerationError(f"model={TINY} is trained by the run itself; name another model")
    models, _ = find_models(config, source)
    plan, earlier = new_plan(config, source)
    plan.keeps_misfits = False
    known = _mean_output_tokens(plan)
    total: dict[str, float] = defaultdict(float)
    for model in models:
        encode = check_loadable(model.source).encode
        for name in config.tasks:
            requests = plan.unanswered(name, config.num_prompts[name], model.digest)
            sample = list(islice(requests, SAMPLE))
            rows = len(sample) + sum(1 for _ in requests)
            total["open"] += rows
            total["prompt_tokens"] += rows * _prompt_tokens(sample, encode)
            total["output_tokens"] += rows * known.get(name, _assumed_output_tokens(sample))
    speed = prices.tokens_per_s or (earlier.metrics["tokens_per_s"] if earlier else 0.0)
    hours = total["output_tokens"] / speed / workers / 3600 if speed else None
    cost = (
        total["prompt_tokens"] / 1e6 * prices.prompt_million
        + total["output_tokens"] / 1e6 * prices.output_million
        + (hours or 0.0) * workers * prices.worker_hour
    )
    return {
        "rows": len(plan.wanted),
        "skipped": len(plan.wanted) - int(total["open"]) - plan.misfits,
        "open": int(total["open"]),
        "prompt_tokens": round(total["prompt_tokens"]),
        "output_tokens": round(total["output_tokens"]),
        "tokens_per_s": speed,
        "hours": None if hours is None else round(hours, 3),
        "cost": round(cost, 2),
    }


def _mean_output_tokens(plan: OpenRequests) -> dict[str, float]:
    """Of the answers that are there, by task."""
    tokens: dict[str, list[int]] = defaultdict(list)
    for table in plan.tables(["task", "output_tokens"]):
        for row in table.to_pylist():
            tokens[row["task"]].append(row["output_tokens"])
    return {task: sum(numbers) / len(numbers) for task, numbers in tokens.items()}


def _prompt_tokens(
    sample: Sequence[Request], encode: Callable[[list[dict[str, str]]], list[int]]
) -> float:
    lengths = [len(encode(json.loads(request.messages))) for request in sample]
    return sum(lengths) / max(len(lengths), 1)


def _assumed_output_tokens(sample: Sequence[Request]) -> float:
    longest = [json.loads(request.sampling).get("max_tokens", 0) for request in sample]
    return float(sum(longest)) / max(len(longest), 1) / 2 / BYTES_A_TOKEN
