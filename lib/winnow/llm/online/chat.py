"""A language model asked while a user waits, within calls, tokens and a deadline per request.

`winnow.llm.engines.http` answers a batch and waits as long as it takes. Here a caller cannot wait:
it learns at once why there is no answer (`ChatStopped`) and goes on without one.

All requests share the connections, the circuit breaker and the remembered answers. An answer is
remembered under the digest of its whole prompt, so one user's answer cannot reach another user.
Everything else belongs to one request and is in its `winnow.llm.online.budget.Ledger`.
"""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from winnow.llm.engines.base import Completion
from winnow.llm.engines.http import WRONG_SETTINGS, HttpConfig, HttpEngine
from winnow.llm.engines.openai_json import is_over_context
from winnow.llm.engines.retries import (
    ANSWER_ATTEMPTS,
    ONLINE_ENDPOINT_ATTEMPTS,
    ONLINE_SOONER,
    is_final,
    pause_s,
)
from winnow.llm.online.budget import Call, ChatStopped, Ledger, Spent
from winnow.llm.prompting.correction import corrected
from winnow.llm.prompting.json_schema import Schema, longest_answer
from winnow.llm.prompting.parse_answer import bounded_text
from winnow.llm.prompting.request import Request
from winnow.llm.prompting.template import Messages

logger = logging.getLogger(__name__)

T = TypeVar("T")

REMEMBERED = 2048
"""Answers that are kept, some hundred bytes each."""
PATIENCE_S = 1.0
"""A timeout below this is the caller's haste and says nothing about the endpoint."""
BYTES_PER_TOKEN = 3
"""Assumed in a prompt that is not tokenized here: English has four, so the estimate is high."""
SLACK = 64
"""Tokens beyond the longest answer, for models that wrap it in a code fence or a sentence."""
RAISED = 4
"""Factor of the token limit after an answer was cut off: models that think aloud need more."""


def online(url: str = "", served_model: str = "") -> HttpConfig:
    """Settings for an endpoint that users wait for: few retries, a breaker that opens soon."""
    return HttpConfig(
        url=url,
        served_model=served_model,
        timeout_s=30.0,
        tries=ONLINE_ENDPOINT_ATTEMPTS,
        breaker_failures=5,
        breaker_pause_s=5.0,
    )


def chat_request(*, task: str, template: str, messages: Messages, schema: Schema) -> Request:
    """A request for the likeliest answer; `template` is the id and version of its words."""
    sampling = {"temperature": 0.0, "max_tokens": longest_answer(schema) + SLACK}
    return Request.new(
        task=task, template=template, messages=messages, schema=schema, sampling=sampling
    )


def tokens_in(messages: Messages) -> int:
    """An estimate of the messages' tokens, rather too high than too low."""
    return sum(len(message["content"].encode()) for message in messages) // BYTES_PER_TOKEN


class Chat:
    """A client of one model at one endpoint; use it from one event loop."""

    def __init__(self, config: HttpConfig) -> None:
        for name in ("url", "served_model"):
            if not getattr(config, name):
                raise ValueError(f"HttpConfig.{name} must be set to ask a model")
        self._config = config
        self._engine = HttpEngine(config, config.served_model)
        self._answers: OrderedDict[str, str] = OrderedDict()
        self.spent = Spent()
        """What this client spent so far, for metrics."""

    async def ask(
        self,
        ledger: Ledger,
        step: str,
        request: Request,
        read: Callable[[str], tuple[T | None, str]],
    ) -> T:
        """The first usable answer; the model is asked once more if its first one is not.

        A cut-off answer gets more tokens; an unusable one is shown to the model with the reason.

        Args:
            ledger: the ledger of the user's request; it gets an entry per call.
            step: the name of the call in the ledger.
            request: a request made by `chat_request`.
            read: returns what the text says, or None and what is wrong with it. It is called in a
                thread, with texts of bounded length, and must not raise.

        Raises:
            ChatStopped: no usable answer; it names the reason.
        """
        remembered = self._remembered(request.key)
        if remembered is not None:
            value, problem = await _read_in_thread(ledger, request, read, remembered)
            if value is not None:
                self._enter(ledger, Call(step, "remembered"))
                return value
        completion = await self._complete(ledger, step, request)
        value, problem = await _read_in_thread(ledger, request, read, completion.text)
        if value is None and completion.finish_reason == "length":
            roomier = self._with_more_room(request)
            if roomier is not None:
                completion = await self._complete(ledger, step, roomier)
                value, problem = await _read_in_thread(ledger, request, read, completion.text)
        for _ in range(1, ANSWER_ATTEMPTS):
            if value is None:
                again = corrected(request, completion.text, problem)
                completion = await self._complete(ledger, step, again)
                value, problem = await _read_in_thread(ledger, request, read, completion.text)
        if value is None:
            raise ChatStopped("unreadable", problem)
        self._remember(request.key, completion.text)
        return value

    async def close(self) -> None:
        await self._engine.close()

    async def _complete(self, ledger: Ledger, step: str, request: Request) -> Completion:
        reason = ""
        most = tokens_in(json.loads(request.messages)) + json.loads(request.sampling)["max_tokens"]
        for attempt in range(self._config.tries):
            with ledger.call(most):
                status, headers, completion, reason = await self._send(ledger, step, request)
            if completion is not None:
                return completion
            if status in WRONG_SETTINGS:
                logger.warning("%s answered %d (%s)", self._config.url, status, reason)
                raise ChatStopped("unavailable", reason)
            if is_final(status):
                raise ChatStopped("too_long" if is_over_context(reason) else "refused", reason)
            if attempt + 1 < self._config.tries:
                wait_s = pause_s(attempt - ONLINE_SOONER, headers)
                if wait_s >= ledger.left_s():
                    break
                await asyncio.sleep(wait_s)
        raise ChatStopped("unavailable", reason)

    async def _send(
        self, ledger: Ledger, step: str, request: Request
    ) -> tuple[int, dict[str, str], Completion | None, str]:
        """One attempt within the deadline, recorded in the ledger and in the breaker."""
        sent_s = None
        try:
            async with asyncio.timeout(ledger.left_s()), self._engine.slots:
                await self._engine.rate.wait()
                if not self._engine.breaker.admits():
                    raise ChatStopped("unavailable", "the endpoint failed too often just now")
                sent_s = time.monotonic()
                reply = await self._engine.attempt(request)
        except TimeoutError:
            if sent_s is not None:
                if time.monotonic() - sent_s >= PATIENCE_S:
                    self._engine.breaker.failed("no answer before the deadline")
                else:
                    self._engine.breaker.released()
                self._enter(ledger, Call(step, "late", ms=milliseconds(sent_s)))
            raise ChatStopped("deadline", "no answer in time") from None
        except asyncio.CancelledError:
            if sent_s is not None:
                self._engine.breaker.released()
            raise
        status, completion, reason = reply.status, reply.completion, reply.reason
        if completion is not None or (is_final(status) and status not in WRONG_SETTINGS):
            self._engine.breaker.succeeded()
        else:
            self._engine.breaker.failed(reason)
        made = completion or Completion()
        call = Call(
            step,
            "failed" if completion is None else "answered",
            milliseconds(sent_s),
            made.prompt_tokens,
            made.cached_tokens,
            made.output_tokens,
        )
        self._enter(ledger, call)
        return status, dict(reply.headers), completion, reason

    def _enter(self, ledger: Ledger, call: Call) -> None:
        ledger.entries.append(call)
        self.spent.add(call)

    def _with_more_room(self, request: Request) -> Request | None:
        """The request with a higher token limit; None if it had the highest."""
        sampling = json.loads(request.sampling)
        room = min(RAISED * sampling["max_tokens"], self._config.max_tokens)
        if room <= sampling["max_tokens"]:
            return None
        return replace(request, sampling=json.dumps({**sampling, "max_tokens": room}))

    def _remembered(self, key: str) -> str | None:
        text = self._answers.get(key)
        if text is not None:
            self._answers.move_to_end(key)
        return text

    def _remember(self, key: str, text: str) -> None:
        self._answers[key] = text
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)


async def _read_in_thread(
    ledger: Ledger, request: Request, read: Callable[[str], tuple[T | None, str]], text: str
) -> tuple[T | None, str]:
    """What the reader makes of a text, while the event loop serves others.

    Raises:
        ChatStopped: the deadline passed first.
    """
    text, problem = bounded_text(text, json.loads(request.schema))
    if problem is not None:
        return None, problem
    try:
        async with asyncio.timeout(ledger.left_s()):
            return await asyncio.to_thread(read, text)
    except TimeoutError:
        raise ChatStopped("deadline", "the answer was not read in time") from None


def milliseconds(since_s: float) -> float:
    return round(1000 * (time.monotonic() - since_s), 3)
