"""An engine behind any OpenAI-compatible endpoint: vLLM's server, Ray Serve LLM, hosted ones."""

import asyncio
import email.utils
import json
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.engines.openai_json import (
    ERROR_CHARACTERS,
    fitting,
    is_over_context,
    payload,
    read_completion,
)
from winnow.llm.prompting.request import Request

logger = logging.getLogger(__name__)

TRANSIENT = frozenset({408, 409, 425, 429})
"""Besides every 5xx."""
LONGEST_PAUSE_S = 60.0
REDIRECTS = range(300, 400)
WRONG_SETTINGS = {
    **dict.fromkeys(REDIRECTS, "check http.url: it leads elsewhere, and prompts do not follow"),
    402: "its account has no credit left",
    401: "set the environment variable {config.api_key_env} to a key it accepts",
    403: "set the environment variable {config.api_key_env} to a key with the right to do this",
    404: "check http.url and http.served_model",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Where the endpoint is and how hard it may be driven."""

    url: str = ""
    """Its base, such as `http://host:8000/v1`."""
    served_model: str = ""
    """The name by which it knows the model; empty: the folder or id that the job names."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key, if it needs one. The key itself is never recorded."""
    requests_per_s: float = 0.0
    """Most requests that one worker starts in a second, retries included; 0: no limit."""
    max_in_flight: int = 64
    """Most requests of one worker under way at once."""
    max_tokens: int = 4096
    """Most tokens of an answer; halved for a prompt that leaves the server less room."""
    timeout_s: float = 120.0
    """For one attempt."""
    tries: int = 6
    """Attempts of a request, and probes of a server that only fails, before the run stops."""
    breaker_failures: int = 20
    """Failures in a row after which nothing is sent but one probe every `breaker_pause_s`."""
    breaker_pause_s: float = 30.0

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
    """Spaces starts evenly, at most `per_s` a second."""

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


class CircuitBreaker:
    """Stops sending to a server that only fails; one probe at a time finds out when it is back."""

    def __init__(self, failures: int, pause_s: float, probes: int) -> None:
        """Opens after so many failures in a row; gives up after so many probes in a row."""
        self._most, self._pause_s, self._probes_left = failures, pause_s, probes
        self._probes = probes
        self._failures = 0
        self._probe_at = 0.0
        self._probing = False

    async def wait(self) -> None:
        """Return when a request may be sent.

        Raises:
            EngineUnavailable: no probe succeeded; for everyone who waits.
        """
        while self._failures >= self._most:
            if not self._probes_left:
                raise EngineUnavailable(
                    f"the endpoint failed {self._failures} times in a row and {self._probes} "
                    "probes after that; run the job again when it works, answered rows are kept"
                )
            now = time.monotonic()
            if now >= self._probe_at and not self._probing:
                self._probing = True  # this caller probes, the others wait on
                return
            await asyncio.sleep(min(max(self._probe_at - now, 0.05), 1.0))

    def ready(self) -> bool:
        """Whether a request may be sent now, for callers that cannot wait; never gives up.

        Of a caller that gets True, `succeeded`, `failed` or `released` must follow.
        """
        if self._failures < self._most:
            return True
        if self._probing or time.monotonic() < self._probe_at:
            return False
        self._probing = True
        return True

    def released(self) -> None:
        """A request ended without saying anything about the server."""
        self._probing = False

    def succeeded(self) -> None:
        if self._failures >= self._most:
            logger.info("the endpoint answers again")
        self._failures, self._probing, self._probes_left = 0, False, self._probes

    def failed(self) -> None:
        if self._probing:
            self._probing = False
            self._probes_left -= 1
            self._probe_at = time.monotonic() + self._pause_s
            return
        self._failures += 1
        if self._failures == self._most:
            self._probe_at = time.monotonic() + self._pause_s
            logger.warning(
                "%d failures in a row; one probe every %.0f s", self._failures, self._pause_s
            )


class HttpEngine:
    """An `Engine`; use it from one event loop."""

    def __init__(self, config: HttpConfig, source: str) -> None:
        """`source` is the folder or id that the job names."""
        self._config = config
        self._model = config.served_model or source
        self._key = os.environ.get(config.api_key_env, "")
        self._session: Any = None
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._limit = CallRate(config.requests_per_s)
        self._breaker = CircuitBreaker(
            config.breaker_failures, config.breaker_pause_s, config.tries
        )

    async def complete(self, request: Request) -> Completion:
        async with self._slots:
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
        """The completion, or None and what the server finds wrong with the request."""
        reason = ""
        for attempt in range(self._config.tries):
            await self._breaker.wait()
            await self._limit.wait()
            status, headers, body, reason = await self.attempt(request)
            if status == 200:
                self._breaker.succeeded()
                return body, ""
            if status in WRONG_SETTINGS:
                advice = WRONG_SETTINGS[status].format(config=self._config)
                raise EngineUnavailable(
                    f"{self._config.url} answered {status} ({reason}); {advice}"
                )
            if 0 < status < 500 and status not in TRANSIENT:
                self._breaker.succeeded()  # it works, and says what is wrong with the request
                return None, reason
            self._breaker.failed()
            if attempt + 1 < self._config.tries:
                await asyncio.sleep(pause(attempt, headers))
        raise EngineUnavailable(
            f"{self._config.url} failed {self._config.tries} times, at last with: {reason}; "
            "run the job again when it works, answered rows are kept"
        )

    async def attempt(
        self, request: Request
    ) -> tuple[int, Mapping[str, str], Completion | None, str]:
        """Send once, whatever limits and breaker say.

        Returns:
            status (0 if there was no proper answer), headers, completion, what went wrong.
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
        except (
            KeyError,
            TypeError,
            IndexError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
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


def pause(attempt: int, headers: Mapping[str, str]) -> float:
    """Seconds before the next attempt: what the server asks for, else random up to 2^attempt."""
    asked = headers.get("Retry-After", "")
    if asked.isdigit():
        return min(float(asked), LONGEST_PAUSE_S)
    if date := email.utils.parsedate_tz(asked):
        return min(max(email.utils.mktime_tz(date) - time.time(), 0.0), LONGEST_PAUSE_S)
    return random.uniform(0, min(2.0**attempt, LONGEST_PAUSE_S))


def _message(text: str) -> str:
    """The server's own words about an error, on one line."""
    try:
        body = json.loads(text)
        error = body.get("error", body)
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:ERROR_CHARACTERS] or "no reason given"
