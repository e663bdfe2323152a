"""What unit tests share: examples without a time limit, and a language model that plays a script,
behind a real HTTP server on this machine."""

import asyncio
import json

import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings

# an example may take any time: a busy machine is no fault of what is tested
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def answered(text, finish="stop", prompt_tokens=None):
    """The endpoint's form of an answer; tokens are words."""
    return {
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": len(text.split())},
    }


class ScriptedLlm:
    """Answers one question after the other, the last answer for ever.

    An answer is a text, a pair of text and finish reason, a status with a message and maybe headers
    as `(503, "message", {...})`, `None` (never answers), or a function of the body that gives one.
    """

    def __init__(self, *script, delay_s=0.0):
        self.script, self.delay_s = list(script), delay_s
        self.bodies, self.billed, self.cancelled = [], 0, 0
        self.url = ""

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        # as servers do that stop working on what nobody waits for
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_):
        await self.runner.cleanup()

    async def answer(self, received):
        body = await received.json()
        self.bodies.append(body)
        made = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        made = made(body) if callable(made) else made
        try:
            await asyncio.sleep(3600 if made is None else self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(made, tuple) and isinstance(made[0], int):
            status, message, *headers = made
            error = {"error": {"message": message}}
            return web.json_response(error, status=status, headers=headers[0] if headers else None)
        text, finish = made if isinstance(made, tuple) else (made, "stop")
        asked = sum(len(message["content"].split()) for message in body["messages"])
        self.billed += asked + len(text.split())
        return web.json_response(answered(text, finish, asked))

    def prompt(self, call):
        """The user's part of a call."""
        return self.bodies[call]["messages"][1]["content"]

    def data(self, call, block=0):
        """The JSON between the nth pair of <data> and </data> of a call's first question."""
        return json.loads(self.prompt(call).split("<data>\n")[block + 1].split("\n</data>")[0])


@pytest.fixture
def scripted_llm():
    """The class; use it as `async with scripted_llm(...) as llm`."""
    return ScriptedLlm
