"""The path from a request to its row: ask, read, and ask once more if the answer is unusable.

Nothing here raises over what a model wrote. An unusable answer becomes a row with `valid` false
and the reason, so that no later run asks for it again unless told to.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from winnow.llm.engines.base import Completion, Engine
from winnow.llm.engines.retries import ANSWER_ATTEMPTS
from winnow.llm.generation.rows import copied, storable, unusable_row
from winnow.llm.prompting.correction import corrected
from winnow.llm.prompting.parse_answer import Outcome, Response
from winnow.llm.prompting.request import Request
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import task_named


async def answer_all(
    requests: Sequence[Request], engine: Engine, counts: Counter[str]
) -> list[dict[str, Any]]:
    """One row of `ANSWER_SCHEMA` per request, in the same order."""
    return list(await asyncio.gather(*(answer(request, engine, counts) for request in requests)))


async def answer(request: Request, engine: Engine, counts: Counter[str]) -> dict[str, Any]:
    """The row of one request; what it took is added to `counts`, named as in the job's report.

    Raises:
        EngineUnavailable: the request stays unanswered.
    """
    completion = await engine.complete(request)
    if completion.error:
        _count(counts, completion, Outcome.FAILED, refused=True)
        return unusable_row(**copied(request), reason=completion.error)
    task = task_named(request.task)
    if not isinstance(task, TextTask):
        _count(counts, completion, Outcome.OK)
        return _row(request, completion, Response({}, Outcome.OK))
    response = await _read(task, request, completion)
    for _ in range(1, ANSWER_ATTEMPTS):
        if not response.valid and request.schema:  # free text cannot be told what is wrong with it
            completion, response = await _asked_again(task, request, engine, (completion, response))
    refused = not response.valid and response.parsed is None and completion.finish_reason == "stop"
    _count(counts, completion, response.outcome, refused=refused)
    return _row(request, completion, response)


def next_requests(rows: Sequence[Mapping[str, Any]], requests: Sequence[Request]) -> list[Request]:
    """The follow-up requests of the tasks after these answers; equal ones are asked once."""
    found: dict[str, Request] = {}
    for row, request in zip(rows, requests, strict=True):
        task = task_named(request.task)
        if isinstance(task, TextTask) and task.chained:
            parsed = json.loads(row["parsed"]) if row["valid"] else None
            inputs = task.follow_up(json.loads(request.inputs), parsed)
            if inputs is not None:
                sampling = request.sampling_config
                following = task.request(inputs, model=request.model, sampling=sampling)
                found.setdefault(following.key, following)
    return list(found.values())


async def _asked_again(
    task: TextTask,
    request: Request,
    engine: Engine,
    unusable: tuple[Completion, Response],
) -> tuple[Completion, Response]:
    """The completion and response of another attempt, or the first ones if it is no better."""
    first, rejected = unusable
    second = await engine.complete(corrected(request, first.text, rejected.reason))
    response = await _read(task, request, second)
    if response.valid:
        kept = second
        response = replace(
            response, outcome=Outcome.REPAIRED, reason=f"asked again, {rejected.reason}"
        )
    else:
        kept, response = first, rejected
    both = replace(
        first,
        text=kept.text,
        trimmed=kept.trimmed,
        finish_reason=kept.finish_reason,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
    )
    return both, response


async def _read(task: TextTask, request: Request, completion: Completion) -> Response:
    """The answer as the task reads it; in a thread, since the engine works on the event loop."""
    return await asyncio.to_thread(task.read_answer, request, completion.text)


def _row(request: Request, completion: Completion, response: Response) -> dict[str, Any]:
    parsed = response.parsed
    return {
        **copied(request),
        "text": storable(completion.text),
        "parsed": None if parsed is None else json.dumps(parsed, allow_nan=False),
        "valid": response.valid,
        "outcome": response.outcome.value,
        "reason": storable(response.reason),
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "output_tokens": completion.output_tokens,
        "vector": completion.vector,
        "engine": storable(completion.engine),
        "context": completion.context,
        "trimmed": completion.trimmed,
    }


def _count(
    counts: Counter[str], completion: Completion, outcome: Outcome, refused: bool = False
) -> None:
    counts.update(
        generated=1,
        valid=outcome is not Outcome.FAILED,
        repaired=outcome is Outcome.REPAIRED,
        quarantined=outcome is Outcome.FAILED,
        truncated=completion.finish_reason == "length",
        refused=refused,
        prompt_tokens=completion.prompt_tokens,
        cached_tokens=completion.cached_tokens,
        output_tokens=completion.output_tokens,
    )
