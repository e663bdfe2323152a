"""The console page as the endpoint serves it, in a real browser."""

import json
import urllib.request
from dataclasses import replace

import pytest
from ray import serve as ray_serve

from jobs import serve as serve_job
from tests.ray.console.browser import Browser, in_browser
from winnow.bundle import Bundle

pytestmark = [pytest.mark.slow, in_browser]

PORT = 18_851
URL = f"http://127.0.0.1:{PORT}"
SHOWN = "!document.querySelector('#answer').hidden && !document.querySelector('.busy')"


@pytest.fixture(scope="module")
def endpoint(tiny_run, tmp_path_factory):
    events = tmp_path_factory.mktemp("console") / "events.sqlite"
    config = replace(serve_job.tiny(), bundle=str(tiny_run / "bundle"), port=PORT)
    yield serve_job.run(replace(config, events=str(events)))
    ray_serve.shutdown()


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
    assert page.text("#bundle") == endpoint["bundle"]
    scenarios = Bundle.open(tiny_run / "bundle").schema.scenarios
    assert page.texts("#scenario option") == list(scenarios)
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
