"""Generation of prompts that share long beginnings, in a cache too small for all of them.

Shops ask for summaries of their users. A prompt begins with examples of its shop, the same for all
users of the shop, and the prompts come in random order. Bare vLLM answers them in that order, and
once more in the best order that its caller can give: sorted. Engine arguments, prompts, schemas and
sampling are the same on all sides.
"""

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs._baselines.llm_engines import Speed, bare_vllm, in_own_process
from jobs._bench.generation import cluster, pooled
from winnow.data.dataset import Dataset
from winnow.data.likes import Likes
from winnow.llm.engines.vllm_config import EngineConfig
from winnow.llm.prompting.fit_context import Tokenizer
from winnow.llm.prompting.json_schema import longest_answer
from winnow.llm.prompting.request import Request
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import task_named
from winnow_ray.generation.generate import GenerateConfig

logger = logging.getLogger("winnow.bench_generate")

TASK = "user_summary"
"""Task that the prompts are of. The tiny model's answers fit it, so none is asked twice."""
LIKED = 4
"""Items that a user liked: little beside the beginning of a prompt."""
BLOCK_TOKENS = 128
"""Tokens of a block of the key-value cache: vLLM's own size on a CPU."""
LONGER = 256
"""Tokens by which a prompt may exceed another of its shop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedPrefixesConfig:
    """The prompts of this part."""

    rows: int = 4_000
    """Prompts of each side."""
    prefixes: int = 40
    """Shops; each has as many prompts as any other."""
    examples: int = 10
    """Summaries at the beginning of a prompt, about 150 tokens each."""
    cache: float = 0.5
    """Size of the key-value cache, as a share of what all beginnings need."""

    def __post_init__(self) -> None:
        if self.prefixes < 1 or 0 < self.rows < self.prefixes:
            raise ValueError(
                f"SharedPrefixesConfig.prefixes must be in 1..rows, got {self.prefixes} "
                f"with rows {self.rows}"
            )
        if self.cache <= 0:
            raise ValueError(f"SharedPrefixesConfig.cache must be positive, got {self.cache}")


def few_shot_requests(
    dataset: Dataset, config: SharedPrefixesConfig, model: str, seed: int = 0
) -> list[Request]:
    """Requests for summaries of users, in random order, at temperature 0."""
    task = task_named(TASK)
    assert isinstance(task, TextTask)
    draw = random.Random(seed)
    found = task.requests(dataset, config.rows, seed)
    users = [{**user, "liked": user["liked"][-LIKED:]} for user in found]
    titles = Likes.of(dataset).titles
    shops = []
    for number in range(config.prefixes):
        shown = draw.choices(users, k=config.examples)
        examples = [{**task.data(user), **task.example(user, titles, draw)} for user in shown]
        shops.append({"shop": f"No. {number}", "examples": examples})
    asked = []
    for row in range(config.rows):
        user = users[row // config.prefixes % len(users)]
        schema = task.schema(user)
        request = Request.new(
            task=TASK,
            template="few_shot_summary/1",
            messages=task.template.render({**shops[row % config.prefixes], **task.data(user)}),
            schema=schema,
            sampling={"temperature": 0.0, "top_p": 1.0, "max_tokens": longest_answer(schema) + 1},
            model=model,
            inputs=user,
        )
        asked.append(request)
    draw.shuffle(asked)
    return asked


def evicting(
    engine: EngineConfig, source: str, requests: Sequence[Request], config: SharedPrefixesConfig
) -> EngineConfig:
    """The engine with a cache that holds the given share of the prompts' beginnings."""
    tokenizer = Tokenizer(source)
    shops = {json.loads(r.messages)[1]["content"].partition('"examples"')[0]: r for r in requests}
    lengths = [len(tokenizer.encode(json.loads(r.messages))) for r in shops.values()]
    answer = json.loads(requests[0].sampling)["max_tokens"]
    context = -(-(max(lengths) + answer + LONGER) // BLOCK_TOKENS) * BLOCK_TOKENS
    blocks = max(int(config.cache * sum(lengths)), context) // BLOCK_TOKENS + 1
    logger.info("prompts of %.0f tokens, %d blocks", sum(lengths) / len(lengths), blocks)
    arguments = {"block_size": BLOCK_TOKENS, "num_gpu_blocks_override": blocks}
    return replace(engine, max_model_len=context, args={**engine.args, **arguments})


def measure(
    config: SharedPrefixesConfig,
    generate: GenerateConfig,
    source: str,
    requests: Sequence[Request],
    folder: Path,
    on_cpu: bool,
) -> dict[str, Any]:
    """Measure ours, then bare vLLM in the given order and sorted."""
    engine = evicting(generate.engine, source, requests, config)
    with cluster(nodes=1):
        ours = pooled(replace(generate, engine=engine), source, requests, folder, workers=1)
    logger.info("shared prefixes, ours: %s", ours)
    environment = engine.environment(source, on_cpu)
    ordered = sorted(requests, key=lambda request: request.messages)
    given = in_own_process(bare_vllm, source, engine, requests, environment=environment)
    logger.info("shared prefixes, vllm.LLM: %s", given)
    best = in_own_process(bare_vllm, source, engine, ordered, environment=environment)
    logger.info("shared prefixes, vllm.LLM, sorted: %s", best)
    return {
        "rows": len(requests),
        "ratio": round(ours.tokens_per_s / given.tokens_per_s, 2),
        "ratio_sorted": round(ours.tokens_per_s / best.tokens_per_s, 3),
        "equal": round(equal_share(ours, given), 4),
        "tokens_per_s": round(ours.tokens_per_s),
        "vllm_tokens_per_s": round(given.tokens_per_s),
        "vllm_sorted_tokens_per_s": round(best.tokens_per_s),
        "cached": [round(side.cached, 3) for side in (ours, given, best)],
    }


def equal_share(ours: Speed, theirs: Speed) -> float:
    """Share of the requests that got the same text from both."""
    same = sum(ours.texts[key] == text for key, text in theirs.texts.items())
    return same / len(theirs.texts)
