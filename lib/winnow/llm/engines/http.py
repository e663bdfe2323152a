"""An engine behind any OpenAI-compatible endpoint: vLLM's server, Ray Serve LLM, hosted ones."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from winnow.circuit_breaker import CircuitBreaker
from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.engines.openai_json import (
    ERROR_CHARACTERS,
    fitting,
    is_over_context,
    payload,
    read_completion,
)
from winnow.llm.engines.retries import ENDPOINT_ATTEMPTS, is_final, pause_s
from winnow.llm.prompting.request import Request

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Bounds of one sleep before an open breaker: no busy loop, and the news of a probe is heard."""
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading a body raises that is not the documented JSON."""
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

    def __post_init__(self) -> None:
        positive = ("max_in_flight", "max_tokens", "timeout_s", "tries", "breaker_failures")
        for name in (*positive, "breaker_pause_s"):
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


class HttpEngine:
    """An `Engine` behind an endpoint; use it from one event loop."""

    def __init__(self, config: HttpConfig, source: str) -> None:
        """`source` is the folder or id of the model, as the job names it."""
        self._config = config
        self._model = config.served_model or source
        self._key = os.environ.get(config.api_key_env, "")
        self._session: Any = None
        self.slots = asyncio.Semaphore(config.max_in_flight)
        self.rate = CallRate(config.requests_per_s)
        self.breaker = CircuitBreaker(
            f"the endpoint {config.url}",
            failures=config.breaker_failures,
            pause_s=config.breaker_pause_s,
        )

    async def complete(self, request: Request) -> Completion:
        async with self.slots:
            error = ""
            for version in fitting(request, self._config.max_tokens):
                completion, error = await self._post(version)
                if completion is not None:
                    return replace(completion, trimmed=version.messages != request.messages)
                if not is_over_context(error):
                    break
            return Completion(finish_reason="error", error=error[:ERROR_CHARACTERS])

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, request: Request) -> tuple[Completion | None, str]:
        """The completion; or None, and what the server finds wrong with the request."""
        reason = ""
        for attempt in range(self._config.tries):
            await wait_for_turn(self.breaker, self._config.tries)
            await self.rate.wait()
            status, headers, body, reason = await self.attempt(request)
            if status == 200:
                self.breaker.succeeded()
                return body, ""
            if status in WRONG_SETTINGS:
                advice = WRONG_SETTINGS[status].format(config=self._config)
                raise EngineUnavailable(
                    f"{self._config.url} answered {status} ({reason}); {advice}"
                )
            if is_final(status):
                self.breaker.succeeded()  # it works, and says what is wrong with the request
                return None, reason
            self.breaker.failed(reason)
            if attempt + 1 < self._config.tries:
                await asyncio.sleep(pause_s(attempt, headers))
        raise EngineUnavailable(
            f"{self._config.url} failed {self._config.tries} times, at last with: {reason}; "
            "run the job again when it works, answered rows are kept"
        )

    async def attempt(
        self, request: Request
    ) -> tuple[int, Mapping[str, str], Completion | None, str]:
        """Send the request once; callers must heed `slots`, `rate` and `breaker` themselves.

        Returns:
            status (0 without a proper answer), headers, completion or None, what went wrong.
        """
        import aiohttp

        if self._session is None:
            self._session = self._new_session()
        path = "chat/completions" if request.schema else "embeddings"
        url = f"{self._config.url.rstrip('/')}/{path}"
        try:
            body = payload(request, self._model)
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                text = await response.text()
                if response.status != 200:
                    reason = _message(text)
                    if self._key:  # some servers repeat it
                        reason = reason.replace(self._key, "***")
                    return response.status, response.headers, None, reason
                return 200, response.headers, read_completion(json.loads(text)), ""
        except MALFORMED as error:
            return 0, {}, None, f"not an OpenAI-compatible answer ({error!r})"
        except TimeoutError:
            return 0, {}, None, f"no answer within {self._config.timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return 0, {}, None, str(error) or type(error).__name__

    def _new_session(self) -> Any:
        import aiohttp

        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
            connector=aiohttp.TCPConnector(limit=self._config.max_in_flight),
        )


def _message(text: str) -> str:
    """The server's own words about an error, on one line and cut to `ERROR_CHARACTERS`."""
    try:
        body = json.loads(text)
        error = body.get("error", body)
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:ERROR_CHARACTERS] or "no reason given"
