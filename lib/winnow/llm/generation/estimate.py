"""The cost of a generation in rows, tokens, hours and money, before anything is spent."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from statistics import fmean
from typing import Any

from winnow.errors import GenerationError
from winnow.llm.generation.budget import PriceConfig
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.generate import find_models
from winnow.llm.generation.open_requests import OpenRequests
from winnow.llm.models.find import TINY, check_loadable
from winnow.llm.prompting.request import Request

SAMPLE = 256
"""Prompts of each task that are tokenized: enough for a mean, and quick."""
BYTES_PER_TOKEN = 4
"""Assumed for answers that do not exist yet: about right for English and common tokenizers."""


def estimate(config: GenerationConfig, prices: PriceConfig, workers: int) -> dict[str, Any]:
    """Rows, tokens, hours and cost of all open requests. Writes nothing and asks no model.

    Prompt tokens are counted with the model's tokenizer on a sample of each task. Output tokens
    are the mean of the task's answers so far, or without any half of its longest answer.
    Follow-up questions are not included.

    Raises:
        GenerationError: `model=tiny`, which the run itself would train first.
    """
    source = config.source()
    if TINY in config.model:
        raise GenerationError(f"model={TINY} is trained by the run itself; name another model")
    models, _ = find_models(config, source)
    requests = OpenRequests(config, source, models, keeps_misfits=False)
    known = _mean_output_tokens(requests)
    total: dict[str, float] = defaultdict(float)
    for model in models:
        encode = check_loadable(model.source).encode
        for name in config.tasks:
            unanswered = requests.unanswered(name, model.digest)
            sample = list(islice(unanswered, SAMPLE))
            rows = len(sample) + sum(1 for _ in unanswered)
            total["open"] += rows
            total["prompt_tokens"] += rows * _prompt_tokens(sample, encode)
            total["output_tokens"] += rows * known.get(name, _assumed_output_tokens(sample))
    last_speed = requests.earlier.metrics["tokens_per_s"] if requests.earlier else 0.0
    speed = prices.tokens_per_s or last_speed
    hours = total["output_tokens"] / speed / workers / 3600 if speed else None
    cost = prices.cost(total["prompt_tokens"], total["output_tokens"], (hours or 0.0) * workers)
    return {
        "rows": len(requests.wanted),
        "skipped": len(requests.wanted) - int(total["open"]) - requests.misfits,
        "open": int(total["open"]),
        "prompt_tokens": round(total["prompt_tokens"]),
        "output_tokens": round(total["output_tokens"]),
        "tokens_per_s": speed,
        "hours": None if hours is None else round(hours, 3),
        "cost": round(cost, 2),
    }


def _mean_output_tokens(requests: OpenRequests) -> dict[str, float]:
    """Mean output tokens of the answers so far, by task."""
    tokens: dict[str, list[int]] = defaultdict(list)
    for table in requests.tables(["task", "output_tokens"]):
        for row in table.to_pylist():
            tokens[row["task"]].append(row["output_tokens"])
    return {task: fmean(numbers) for task, numbers in tokens.items()}


def _prompt_tokens(
    sample: Sequence[Request], encode: Callable[[list[dict[str, str]]], list[int]]
) -> float:
    return fmean(len(encode(json.loads(r.messages))) for r in sample) if sample else 0.0


def _assumed_output_tokens(sample: Sequence[Request]) -> float:
    longest = [json.loads(request.sampling).get("max_tokens", 0) for request in sample]
    return fmean(longest) / 2 / BYTES_PER_TOKEN if longest else 0.0
