"""An engine behind any OpenAI-compatible endpoint: vLLM's server, Ray Serve LLM, hosted ones."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from winnow.circuit_breaker import CircuitBreaker
from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.engines.dialect import Dialect, Spelling
from winnow.llm.engines.openai_json import (
    fitting,
    is_over_context,
    message_of,
    one_line,
    passing_code,
    payload,
    read_completion,
    tokens_cut,
)
from winnow.llm.engines.refusals import REFUSALS, Refusals
from winnow.llm.engines.retries import ENDPOINT_ATTEMPTS, is_final, pause_s
from winnow.llm.prompting.request import Request

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Bounds of one sleep before an open breaker: no busy loop, and the news of a probe is heard."""
MOST_BYTES = 4 << 20
"""Most bytes of a body that are read: 20 times the longest answer or vector, and quick to parse."""
REDIRECTS = range(300, 400)
WRONG_SETTINGS = {
    **dict.fromkeys(REDIRECTS, "check http.url: it leads elsewhere, and prompts do not follow"),
    402: "its account has no credit left",
    401: "set the environment variable {config.api_key_env} to a key it accepts",
    403: "set the environment variable {config.api_key_env} to a key with the right to do this",
    404: "check http.url and http.served_model",
}
"""What to check, by status: a retry cures none of these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Where the endpoint is and how hard it may be driven."""

    url: str = ""
    """Base URL of the endpoint, such as `http://host:8000/v1`."""
    served_model: str = ""
    """Name of the model at the endpoint; empty means the folder or id that the job names."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key, if any. The key is never recorded."""
    requests_per_s: float = 0.0
    """Most requests that one worker starts per second, retries included; 0 means no limit."""
    max_in_flight: int = 64
    """Most requests of one worker in flight."""
    max_tokens: int = 4096
    """Most tokens per answer; halved for a prompt that leaves the server less room."""
    timeout_s: float = 120.0
    """Timeout of one attempt."""
    tries: int = ENDPOINT_ATTEMPTS
    """Attempts per request, and probes of a server that only fails, before the run stops."""
    breaker_failures: int = 20
    """Failures in a row after which nothing is sent but one probe every `breaker_pause_s`."""
    breaker_pause_s: float = 30.0
    """Time between two probes; the longest until a server that is back gets requests again."""
    refusals: int = REFUSALS
    """Equal refusals in a row, with no answer between them, after which the run stops."""

    def __post_init__(self) -> None:
        positive = ("max_in_flight", "max_tokens", "timeout_s", "tries", "breaker_failures")
        for name in (*positive, "breaker_pause_s", "refusals"):
            if getattr(self, name) <= 0:
                raise ValueError(f"HttpConfig.{name} must be positive, got {getattr(self, name)}")
        if self.requests_per_s < 0:
            raise ValueError(
                f"HttpConfig.requests_per_s must not be negative, got {self.requests_per_s}"
            )
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"HttpConfig.url must start with http:// or https://, got {self.url!r}"
            )


class CallRate:
    """Spaces starts evenly, at most `per_s` per second; 0 means no limit."""

    def __init__(self, per_s: float) -> None:
        self._gap = 1 / per_s if per_s else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        if not self._gap:
            return
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + self._gap
        if start > now:
            await asyncio.sleep(start - now)


async def wait_for_turn(breaker: CircuitBreaker, most_probes: int) -> None:
    """Return when a request may be sent.

    Raises:
        EngineUnavailable: `most_probes` probes in a row failed; every waiting caller gets it.
    """
    while not breaker.is_closed:
        if breaker.failed_probes >= most_probes:
            raise EngineUnavailable(
                f"the endpoint only fails, and so did {most_probes} probes of it; "
                "run the job again when it works, answered rows are kept"
            )
        if breaker.admits():
            return
        await asyncio.sleep(min(max(breaker.wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What one attempt brought."""

    status: int = 0
    """The HTTP status; 0 without an answer that is JSON. A code inside the body takes its place."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers of the response."""
    completion: Completion | None = None
    """The answer, without an error; None if there is none."""
    reason: str = ""
    """What went wrong, in the server's words."""
    arrived: bool = False
    """Whether the status was 200 all the same, so that this request is at fault at the last."""


class HttpEngine:
    """An `Engine` behind an endpoint; use it from one event loop."""

    def __init__(self, config: HttpConfig, source: str) -> None:
        """`source` is the folder or id of the model, as the job names it."""
        self._config = config
        self._model = config.served_model or source
        self._key = os.environ.get(config.api_key_env, "")
        self._session: Any = None
        self._spelling = Spelling()
        self._room = config.max_tokens
        """Most tokens per answer that the server had room for at the last request."""
        self._answered = 0
        self._refusals = Refusals(config.refusals)
        self.slots = asyncio.Semaphore(config.max_in_flight)
        self.rate = CallRate(config.requests_per_s)
        self.breaker = CircuitBreaker(
            f"the endpoint {config.url}",
            failures=config.breaker_failures,
            pause_s=config.breaker_pause_s,
        )

    async def complete(self, request: Request) -> Completion:
        async with self.slots:
            self._refusals.check()
            return await self._refusals.completion(self._fitted(request))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _fitted(self, request: Request) -> tuple[Completion | None, str]:
        """The completion of the largest version that fits; or None, and the server's words.

        It begins with the room that the last request found, and only an answer that this cuts off
        is asked for again with all the room there may be.
        """
        begin = self._room
        completion, error = await self._largest(request, begin)
        if completion and completion.finish_reason == "length" and begin < self._most(request):
            completion, error = await self._largest(request, self._config.max_tokens)
        return completion, error

    def _most(self, request: Request) -> int:
        """Most tokens that the answer could be given if the server had the room."""
        asked: int = json.loads(request.sampling).get("max_tokens", 0)
        return min(asked, self._config.max_tokens)

    async def _largest(self, request: Request, room: int) -> tuple[Completion | None, str]:
        error = ""
        for version in fitting(request, room):
            completion, error = await self._post(version)
            if completion is not None:
                if not version.for_vector and self._most(version) < min(room, self._most(request)):
                    self._room = self._most(version)
                cut = tokens_cut(request, version, completion.prompt_tokens)
                return replace(completion, trimmed=cut), ""
            if not is_over_context(error):
                break
        return None, error

    async def _post(self, request: Request) -> tuple[Completion | None, str]:
        """The completion; or None, and what the server finds wrong with the request."""
        reply, answered = Reply(), self._answered
        for attempt in range(self._config.tries):
            await wait_for_turn(self.breaker, self._config.tries)
            await self.rate.wait()
            reply = await self.attempt(request)
            if reply.completion is not None or is_final(reply.status):
                return self._decided(reply)
            self.breaker.failed(reply.reason)
            if attempt + 1 < self._config.tries:
                await asyncio.sleep(pause_s(attempt, reply.headers))
        others_work = reply.status == 500 and self._answered > answered
        if reply.arrived or others_work:  # the request is at fault, not the server
            return None, reply.reason
        raise EngineUnavailable(
            f"{self._config.url} failed {self._config.tries} times, at last with: {reply.reason}; "
            "run the job again when it works, answered rows are kept"
        )

    def _decided(self, reply: Reply) -> tuple[Completion | None, str]:
        """The completion or refusal in a reply that no retry would change."""
        if reply.status in WRONG_SETTINGS:
            advice = WRONG_SETTINGS[reply.status].format(config=self._config)
            raise EngineUnavailable(
                f"{self._config.url} answered {reply.status} ({reply.reason}); {advice}"
            )
        self.breaker.succeeded()  # it works, even if it says what is wrong with the request
        self._answered += reply.completion is not None
        return reply.completion, reply.reason

    async def attempt(self, request: Request) -> Reply:
        """Send the request once; callers must heed `slots`, `rate` and `breaker` themselves.

        A refusal of the way in which the request is spelled is followed by other spellings.
        """
        return await self._spelling.send(partial(self._send, request), _refusal)

    async def _send(self, request: Request, dialect: Dialect) -> Reply:
        import aiohttp

        if self._session is None:
            self._session = self._new_session()
        path = "embeddings" if request.for_vector else "chat/completions"
        url = f"{self._config.url.rstrip('/')}/{path}"
        body = payload(request, self._model, dialect)
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                data = await _bounded(response.content)
                reply = self._read(response.status, response.headers, data)
        except TimeoutError:
            return Reply(reason=f"no answer within {self._config.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Reply(reason=one_line(str(error) or type(error).__name__))
        if reply.completion is None:
            return reply
        named = replace(reply.completion, engine=dialect.named(reply.completion.engine))
        return replace(reply, completion=named)

    def _read(self, status: int, headers: Mapping[str, str], data: bytes | None) -> Reply:
        """The reply in a body; None stands for one of more than `MOST_BYTES`."""
        if data is None:
            reason = f"an answer of more than {MOST_BYTES} bytes, which is not read"
            return Reply(status=status, headers=headers, reason=reason, arrived=status == 200)
        text = data.decode(errors="replace")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            reason = f"no JSON but: {one_line(text)}" if status == 200 else one_line(text)
            known = 0 if status == 200 else status
            return Reply(
                status=known, headers=headers, reason=self._masked(reason), arrived=not known
            )
        if status != 200:
            return Reply(status=status, headers=headers, reason=self._masked(message_of(body)))
        if code := passing_code(body):
            reason = self._masked(message_of(body))
            return Reply(status=code, headers=headers, reason=reason, arrived=True)
        made = read_completion(body)
        if made.error:
            reason = self._masked(made.error)
            return Reply(status=200, headers=headers, reason=reason, arrived=True)
        return Reply(status=200, headers=headers, completion=made)

    def _masked(self, reason: str) -> str:
        """The reason without the key, which some servers repeat."""
        return reason.replace(self._key, "***") if self._key else reason

    def _new_session(self) -> Any:
        import aiohttp

        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
            connector=aiohttp.TCPConnector(limit=self._config.max_in_flight),
        )


def _refusal(reply: Reply) -> str | None:
    """The words of a reply that refuses its request; "" if it was taken, None if neither."""
    if reply.completion is not None or is_over_context(reply.reason):
        return ""
    return reply.reason if is_final(reply.status) else None


async def _bounded(content: Any) -> bytes | None:
    """A body of at most `MOST_BYTES`; None if it is longer."""
    data = bytearray()
    async for part in content.iter_any():
        data += part
        if len(data) > MOST_BYTES:
            return None
    return bytes(data)
