"""No part of an answer leaves a process before the rest of it, over a real connection."""

import re
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.paths import ROOT

SERVER = """
import os, socket, sys
import uvicorn
from serve.http.one_write import write_answers_whole

if "plain" not in sys.argv:
    write_answers_whole()

async def app(scope, receive, send):
    if scope["path"] == "/broken":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError
    length = (b"content-length", b"6")
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    if scope["path"] == "/dies":
        os._exit(1)
    if scope["path"] == "/parts":
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await receive()
        await receive()  # ends with the connection
        os._exit(1)
    await send({"type": "http.response.body", "body": b"abcdef"})

server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", loop=sys.argv[1]))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
server.run([listening])
"""


@contextmanager
def serving(*arguments):
    command = [sys.executable, "-c", SERVER, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def ask(port, *requests):
    """All that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"".join(b"%s HTTP/1.1\r\nhost: a\r\n\r\n" % line for line in requests))
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_process_killed_between_head_and_body_has_sent_neither(loop):
    with serving(loop) as port:
        assert ask(port, b"GET /dies") == b""
    with serving(loop, "plain") as port:
        assert ask(port, b"GET /dies").startswith(b"HTTP/1.1 200")


def test_answers_are_those_of_uvicorn():
    asked = [b"GET /", b"HEAD /", b"GET /", b"GET /broken"]
    with serving("uvloop") as port, serving("uvloop", "plain") as plain:
        ours, uvicorns = (re.sub(rb"date: .*\r\n", b"", ask(p, *asked)) for p in (port, plain))
    assert ours == uvicorns
    assert (ours.count(b"HTTP/1.1 200"), ours.count(b"abcdef")) == (4, 2)


def test_a_part_of_a_streamed_body_is_sent_at_once():
    with (
        serving("uvloop") as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(b"GET /parts HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.recv(65536).endswith(b"\r\n\r\nabc")
