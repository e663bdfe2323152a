"""The examples of serve/README.md: each request gets an answer of the example's shape."""

import asyncio
import json
import re

import pytest

from tests.pages import Block, blocks
from tests.paths import ROOT
from tests.replica import ADMIN, Replica, renamed_bundle

PAGE = ROOT / "serve" / "README.md"
ROUTE = re.compile(r"### (?:`(GET|POST|DELETE) (\S+)`|(Refusals))$", re.M)


def examples() -> dict[str, list[Block]]:
    """JSON blocks below each heading that names a route."""
    lines = PAGE.read_text().splitlines()
    found: dict[str, list[Block]] = {}
    for block in blocks(PAGE):
        if block.language == "json":
            above = [line for line in lines[: block.line] if line.startswith("#")]
            found.setdefault(above[-1], []).append(block)
    return found


EXAMPLES = examples()


def check_shape(example, answer, where="answer"):
    """The same fields, and values of the same kinds; null stands for any value."""
    if isinstance(example, dict):
        assert isinstance(answer, dict), where
        assert list(answer) == list(example), where
        for name, value in example.items():
            check_shape(value, answer[name], f"{where}.{name}")
    elif isinstance(example, list):
        assert isinstance(answer, list), where
        assert bool(answer) == bool(example), where
        for value in answer if example else []:
            check_shape(example[0], value, f"{where}[]")
    elif example is not None and answer is not None:
        numbers = (int, float)
        alike = isinstance(example, numbers) and isinstance(answer, numbers)
        assert alike or type(answer) is type(example), where


def test_every_route_has_an_example():
    assert [ROUTE.fullmatch(heading)[0] for heading in EXAMPLES] == list(EXAMPLES)
    assert len(EXAMPLES) == 8


@pytest.fixture(scope="module")
def call(tiny_run, tmp_path_factory):
    """Asks one replica for all examples."""
    loop = asyncio.new_event_loop()
    replica = Replica(tiny_run / "bundle", tmp_path_factory.mktemp("page"))
    loop.run_until_complete(replica.start())
    yield lambda *request: loop.run_until_complete(replica.call(*request))
    loop.close()


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_is_answered_as_shown(heading, call, tiny_run, tmp_path):
    method, path, refused = ROUTE.fullmatch(heading).groups()
    *bodies, shown = [json.loads(block.text) for block in EXAMPLES[heading]]
    body = bodies[0] if bodies else None
    if path == "/admin/bundle":
        body["bundle"] = str(tmp_path / "next")
        renamed_bundle(tiny_run / "bundle", tmp_path / "next", "(next)")
    status, answer = call(path or "/recommend", body, ADMIN, method)
    assert status == (422 if refused else 200)
    assert (method in ("GET", "DELETE")) == (body is None)
    check_shape(shown, answer)
