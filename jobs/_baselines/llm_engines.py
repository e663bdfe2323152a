"""Baselines of `jobs.bench_generate`: plain vLLM, and Transformers.

Each runs in a separate process, in the environment that our workers give their engines.
"""

import io
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from winnow.llm.engines.vllm_config import EngineConfig
from winnow.llm.prompting.fit_context import Tokenizer
from winnow.llm.prompting.request import Request


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed of one run, without its start."""

    tokens: int
    """Generated tokens."""
    seconds: float
    """Time from the first request to the last answer."""
    ends: Sequence[float]
    """Time of each answer."""
    start_s: float = 0.0
    """Time that the engine took to start."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Answer of each request, by its key."""
    cached: float = 0.0
    """Share of the prompts' tokens that the engine had computed before."""

    def __str__(self) -> str:
        """The speed as a line of the log shows it."""
        return (
            f"tokens={self.tokens} seconds={self.seconds:.1f} "
            f"tokens_per_s={self.tokens_per_s:.0f} steady={self.steady_tokens_per_s:.0f} "
            f"cached={self.cached:.3f} start_s={self.start_s:.1f}"
        )

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def steady_tokens_per_s(self) -> float:
        """Speed between 15 % and 95 % of the answers, without ramp and tail."""
        first, last = np.quantile(self.ends, (0.15, 0.95))
        return 0.8 * self.tokens / max(float(last - first), 1e-3)


def in_own_process(
    measure: Callable[..., Speed], *arguments: Any, environment: Mapping[str, str]
) -> Speed:
    """Call `measure(*arguments)` in a new process with these environment variables."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        1, mp_context=spawn, initializer=_set_environment, initargs=(dict(environment),)
    ) as pool:
        return pool.submit(measure, *arguments).result()


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.update(variables)


def bare_vllm(source: str, config: EngineConfig, requests: Sequence[Request]) -> Speed:
    """Run `vllm.LLM.generate` on all prompts at once, with the same sampling and schemas."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    began = time.time()
    engine = LLM(model=source, **config.arguments())
    start_s = time.time() - began
    prompts = [Tokenizer(source).render(json.loads(request.messages)) for request in requests]
    parameters = [
        SamplingParams(
            **json.loads(request.sampling),
            structured_outputs=StructuredOutputsParams(json=request.schema),
        )
        for request in requests
    ]
    clock = _Clock()
    began = time.time()
    outputs = engine.generate(prompts, parameters, use_tqdm=clock)
    seconds = time.time() - began
    answers = [output.outputs[0] for output in outputs]
    prompted = sum(len(output.prompt_token_ids or ()) for output in outputs)
    cached = sum(output.num_cached_tokens or 0 for output in outputs)
    return Speed(
        tokens=sum(len(answer.token_ids) for answer in answers),
        seconds=seconds,
        ends=clock.ends,
        start_s=start_s,
        texts={r.key: answer.text for r, answer in zip(requests, answers, strict=True)},
        cached=cached / max(prompted, 1),
    )


def transformers_generate(
    source: str, requests: Sequence[Request], batch_size: int, most_tokens: int
) -> Speed:
    """Run `generate` of Transformers on batches sorted by length, without schemas."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    texts = [Tokenizer(source).render(json.loads(request.messages)) for request in requests]
    texts.sort(key=len)
    tokens, ends, began = 0, [], time.time()
    for first in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[first : first + batch_size],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        length = batch["input_ids"].shape[1]
        sampling = json.loads(requests[0].sampling)
        with torch.inference_mode():
            answer_BT = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                temperature=sampling["temperature"],
                max_new_tokens=most_tokens,
            )[:, length:]
        tokens += int((answer_BT != tokenizer.pad_token_id).sum())
        ends += [time.time()] * len(answer_BT)
    return Speed(tokens=tokens, seconds=time.time() - began, ends=ends)


class _Clock:
    """Record of the time of each answer; vLLM takes it for a class of progress bars."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __call__(self, sending: Any = None, **settings: Any) -> Any:
        if sending is not None:
            return sending  # the bar over requests as they are sent
        bar = tqdm(**settings, file=io.StringIO())

        def update(n: float | None = 1) -> None:
            self.ends.extend([time.time()] * int(n or 0))
            bar.n += n or 0

        bar.update = update
        return bar
