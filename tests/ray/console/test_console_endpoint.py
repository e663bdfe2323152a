"""The console page as a replica serves it, in a real browser; no Ray is involved."""

import asyncio
import json
import threading
import urllib.request

import pytest
import uvicorn

from tests.ray.console.browser import Browser, in_browser
from tests.replica import Replica
from winnow.bundle import Bundle
from winnow_ray.cluster.ports import free_port

pytestmark = [pytest.mark.slow, in_browser]

PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
SHOWN = "!document.querySelector('#answer').hidden && !document.querySelector('.busy')"


@pytest.fixture(scope="module")
def endpoint(tiny_run, tmp_path_factory):
    """A replica behind uvicorn, on a thread of this process."""
    folder, servers, ready = tmp_path_factory.mktemp("console"), [], threading.Event()

    async def serve():
        replica = await Replica(tiny_run / "bundle", folder).start()
        servers.append(uvicorn.Server(uvicorn.Config(replica.app, port=PORT, log_level="error")))
        ready.set()
        await servers[0].serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    while not servers[0].started:
        thread.join(0.05)
    yield
    servers[0].should_exit = True
    thread.join(20)


@pytest.fixture
def page(endpoint):
    browser = Browser()
    browser.show(1280)
    yield browser
    problems = browser.problems
    browser.close()
    assert not problems


def recommend(**body: object) -> list[dict]:
    data = json.dumps(body | {"scenario": "0"}).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/recommend", data, headers)) as said:
        return json.load(said)["items"]


def test_from_a_user_to_the_list_after_a_like(page, endpoint, tiny_run):
    page.open(f"{URL}/?user_id=u3")
    page.until(SHOWN)
    before = recommend(user_id="u3")
    assert page.texts("#items .title") == [item["title"] for item in before]
    assert page.texts(".column.list .title") == [item["title"] for item in before]
    assert len(page.texts(".column.recall li")) >= 10
    bundle = Bundle.open(tiny_run / "bundle")
    assert page.text("#bundle") == bundle.version
    assert page.texts("#scenario option") == list(bundle.schema.scenarios)
    page.click("#items li:nth-child(2) [data-kind=like]")
    page.until("document.querySelector('#likes .new') && " + SHOWN)
    after = recommend(user_id="u3")
    assert before[1]["item_id"] not in {item["item_id"] for item in after}
    assert page.texts("#items .title") == [item["title"] for item in after]
    assert page.texts("#likes .title")[0] == before[1]["title"]
    assert before[1]["title"] in page.texts("#gone li")


def test_a_refusal_stands_at_its_field(page):
    page.open(f"{URL}/?user_id=u3&k=4000")
    page.until("document.querySelector('#k-error').textContent")
    assert "4000" in page.text("#k-error")
    page.problems.clear()  # the refused call


def test_any_id_has_a_history(page):
    page.open(URL)
    page.until(SHOWN)
    page.type("#user_id", "a/ü?#%2f")
    page.click("#send")
    page.until("document.querySelector('#summary').textContent.includes('a/ü?#%2f') && " + SHOWN)
    page.click("#items li:first-child [data-kind=like]")
    page.until("document.querySelector('#likes .new') && " + SHOWN)
    assert "cold start" in page.text("#history-sum")
