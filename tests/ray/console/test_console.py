"""The console page in a real browser, before a stub that can be brought into rare states."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from tests.paths import ROOT
from tests.ray.console.browser import Browser, in_browser
from tests.ray.console.stub import HOSTILE, STATES, Stub, server_of

pytestmark = [pytest.mark.slow, in_browser]

CONSOLE = ROOT / "serve" / "console"
IDLE = "!document.querySelector('.busy')"
SHOWN = f"!document.querySelector('#answer').hidden && {IDLE}"
TITLES = "#items .title"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@contextmanager
def served(stub: Stub) -> Iterator[str]:
    """URL of the stub: a port, and so a storage of its own in the browser."""
    server = server_of(stub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    page = Browser()
    yield page
    page.close()


@pytest.fixture
def page(chromium) -> Iterator[Browser]:
    """The browser at its usual size; the test fails if the page caused it to complain.

    Refused calls are complaints too: a test that wants them clears `problems`.
    """
    chromium.show(1280)
    chromium.open("about:blank")
    chromium.problems.clear()
    yield chromium
    assert not chromium.problems


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def url(stub) -> Iterator[str]:
    with served(stub) as url:
        yield url


def open_list(page: Browser, url: str, query: str = "?user_id=37") -> None:
    page.open(url + query)
    page.until("!document.querySelector('#about').hidden")
    if page.run("document.querySelector('#mode').value") != "standard":
        page.click("#send")  # a link does not ask a language model by itself
    page.until(SHOWN)


def send(page: Browser, shown: str = IDLE) -> None:
    """Press Recommend and wait for what comes of it."""
    page.click("#send")
    page.until(shown)


def expected(stub: Stub, user_id: str = "37", **more: object) -> dict:
    body = {"user_id": user_id, "scenario": "0", "k": 10, "mode": "standard", "explain": True}
    return stub.recommend(body | more)


# --- the list ---------------------------------------------------------------------------------


def test_the_page_opens_with_the_list_of_the_first_user(page, stub, url):
    open_list(page, url, "")
    (body,) = stub.requests
    assert body == {
        "user_id": stub.users[0],
        "scenario": "0",
        "k": 10,
        "mode": "standard",
        "explain": True,
    }
    assert page.texts(TITLES) == [item["title"] for item in expected(stub, "3")["items"]]
    assert "120 items" in page.text("#about")


def test_a_row_says_how_the_item_came_to_its_place(page, stub, url):
    open_list(page, url, "?user_id=3")
    rows = page.run(
        "Array.from(document.querySelectorAll('#items > li'), (row) => ({"
        " id: row.dataset.item, score: row.querySelector('.score').innerText,"
        " by: row.querySelector('.stage').lastChild.data,"
        " way: Array.from(row.querySelectorAll('.way > span:not(.spoken, .arrow)'),"
        "   (step) => Number(step.textContent)),"
        " arrows: Array.from(row.querySelectorAll('.arrow'), (arrow) => arrow.textContent) }))"
    )
    items = expected(stub, "3")["items"]
    assert len(rows) == 10
    for place, (row, item) in enumerate(zip(rows, items, strict=True), 1):
        way = [item["recall_position"], item["rank_position"], place]
        arrows = ["↗" if b < a else "↘" if b > a else "→" for a, b in pairwise(way)]
        assert (row["id"], row["by"]) == (item["item_id"], item["placed_by"])
        assert (row["way"], row["arrows"]) == (way, arrows)
        assert f"{item['score']:.3f}" in row["score"]
    assert {row["by"] for row in rows} == {"recall", "rank", "rerank"}


def test_lines_join_the_places_of_an_item(page, stub, url):
    """Measured on the screen: both ends of a line are beside the item's rows."""
    open_list(page, url)
    ends = page.run(
        """(() => {
          const box = (node) => node.getBoundingClientRect();
          const middle = (node) => box(node).y + box(node).height / 2;
          const [left, right] = document.querySelectorAll('#flow-chart svg');
          const columns = document.querySelectorAll('#flow-chart .column');
          const found = [];
          for (const [svg, from, to] of [[left, 0, 1], [right, 1, 2]]) {
            const top = box(svg).y;
            for (const path of svg.querySelectorAll('path')) {
              const row = (column) => Array.from(columns[column].querySelectorAll('li'))
                .find((node) => node.dataset.item === path.dataset.item);
              const end = (at) => top + path.getPointAtLength(at).y;
              if (row(from)) found.push([end(0), middle(row(from))]);
              if (row(to)) found.push([end(path.getTotalLength()), middle(row(to))]);
            }
          }
          return found;
        })()"""
    )
    assert len(ends) >= 40
    assert all(abs(line - row) < 1.5 for line, row in ends)
    proposed = expected(stub)["proposed"]
    assert page.texts(".column.recall .title") == [row["title"] for row in proposed["recall"]]
    assert page.texts(".column.rank .title") == [row["title"] for row in proposed["rank"]]
    assert page.texts(".column.list .title") == page.texts(TITLES)


def test_an_item_of_the_list_is_in_every_column_however_deep_it_was(page, stub, url):
    open_list(page, url, "?user_id=37&k=20")
    items = expected(stub, k=20)["items"]
    assert max(item["recall_position"] for item in items) > 20
    for column, position in (("recall", "recall_position"), ("rank", "rank_position")):
        rows = page.run(
            f"Array.from(document.querySelectorAll('.column.{column} li'), (row) =>"
            " [row.dataset.item, Number(row.querySelector('.place').textContent),"
            " row.classList.contains('gap')])"
        )
        places = {item: place for item, place, _ in rows}
        assert all(places[item["item_id"]] == item[position] for item in items)
        numbers = [place for _, place, _ in rows]
        assert numbers == sorted(numbers)
        assert [gap for *_, gap in rows][1:] == [b != a + 1 for a, b in pairwise(numbers)]
    assert page.run("document.querySelectorAll('#flow-chart path.kept').length") == 40


def test_the_bar_is_divided_as_the_time_was(page, stub, url):
    open_list(page, url)
    spent = expected(stub)["timings_ms"]
    widths = page.run(
        "Array.from(document.querySelectorAll('#bar > span'),"
        " (part) => [part.className, part.getBoundingClientRect().width])"
    )
    whole = sum(width for _, width in widths)
    for stage, width in widths[:3]:
        assert width / whole == pytest.approx(spent[stage] / spent["total"], abs=0.01)
    assert page.text("#total") == f"{spent['total']:.2f} ms"
    assert f"rank {spent['rank']:.2f} ms" in page.text("#legend")
    assert page.text("#bundle") == expected(stub)["bundle"]


def test_pointing_at_an_item_lights_it_in_every_stage(page, stub, url):
    open_list(page, url)
    page.focus("#items li:nth-child(2) button")
    item = expected(stub)["items"][1]["item_id"]
    lit = page.run("Array.from(document.querySelectorAll('.lit'), (node) => node.dataset.item)")
    assert len(lit) >= 4
    assert set(lit) == {item}


def test_the_form_says_what_to_ask(page, stub, url):
    open_list(page, url)
    page.type("#user_id", "no such user")
    page.run("document.querySelector('#scenario').value = '2'")
    page.type("#k", "3")
    page.type("#deadline_ms", "250")
    send(page)
    wanted = {"user_id": "no such user", "scenario": "2", "k": 3, "deadline_ms": 250}
    assert stub.requests[-1] == wanted | {"mode": "standard", "explain": True}
    assert len(page.texts(TITLES)) == 3
    assert "cold start" in page.text("#history-sum")
    assert "deadline 250 ms" in page.text("#beside")
    page.open(page.run("location.href"))  # the address is a link to this very list
    page.until(SHOWN)
    assert stub.requests[-1] == stub.requests[-2]


def test_a_new_user_is_one_that_nobody_knows(page, stub, url):
    open_list(page, url)
    page.click("#new-user")
    page.until("document.querySelector('#user_id').value.startsWith('guest-') && " + IDLE)
    assert stub.requests[-1]["user_id"].startswith("guest-")
    assert not page.run("document.querySelector('#no-likes').hidden")


# --- events -----------------------------------------------------------------------------------


def test_a_like_changes_the_list_and_the_page_says_how(page, stub, url):
    open_list(page, url)
    before = [item["item_id"] for item in expected(stub)["items"]]
    page.click("#items li:nth-child(3) [data-kind=like]")
    page.until("document.querySelector('#likes .new')")
    (event,) = stub.events.values()
    assert UUID.fullmatch(event.pop("event_id"))
    assert event == {"user_id": "37", "item_id": before[2], "kind": "like", "scenario": "0"}
    after = [item["item_id"] for item in expected(stub)["items"]]
    assert before[2] not in after
    marks = page.run(
        "Array.from(document.querySelectorAll('#items > li'), (row) => [row.dataset.item,"
        " row.querySelector('.change').firstChild?.textContent ?? ''])"
    )
    assert marks == [[item, mark(before, after, item)] for item in after]
    assert len({kind[:1] for _, kind in marks}) >= 3  # the event moves enough to see every mark
    titles = {item: stub.titles[int(item[1:])] for item in before}
    assert page.texts("#gone li") == [titles[item] for item in before if item not in after]
    assert page.texts("#likes .title")[0] == titles[before[2]]
    assert page.texts("#likes li.new .title") == [titles[before[2]]]
    assert page.text("#summary").startswith(f"Liked {titles[before[2]]}.")


def mark(before: list[str], after: list[str], item: str) -> str:
    if item not in before:
        return "new"
    by = before.index(item) - after.index(item)
    return f"▲{by}" if by > 0 else f"▼{-by}" if by else ""


def test_seen_takes_an_item_off_the_list_and_not_into_the_history(page, stub, url):
    open_list(page, url)
    first = page.texts(TITLES)[0]
    likes = page.texts("#likes .title")
    page.click("#items li:first-child [data-kind=view]")
    page.until(f"document.querySelector('#summary').textContent.startsWith('Marked') && {IDLE}")
    assert [event["kind"] for event in stub.events.values()] == ["view"]
    assert first not in page.texts(TITLES)
    assert page.texts("#likes .title") == likes


def test_another_request_is_not_compared_with_the_list_before(page, stub, url):
    open_list(page, url)
    page.type("#k", "12")
    send(page)
    assert not any(page.texts(".change"))
    assert page.run("document.querySelector('#gone').hidden")
    send(page)  # the same again
    assert page.text("#summary").endswith("Nothing changed.")


def test_ids_are_random_without_crypto_random_uuid(page, url):
    """It is absent from pages that come neither from loopback nor over TLS."""
    open_list(page, url)
    ids = page.run(
        "(async () => { const { uniqueId } = await import('/console/dom.js');"
        " crypto.randomUUID = undefined; return [uniqueId(), uniqueId()]; })()"
    )
    assert len(set(ids)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


# --- states -----------------------------------------------------------------------------------


def test_a_degraded_answer_is_named(page, stub, url):
    open_list(page, url, "?user_id=state:late")
    lines = page.texts("#degraded-list li")
    assert [line.split()[0] for line in lines] == ["rank", "rerank"]
    assert "would not have met the deadline" in lines[0]
    assert all("no score" in score for score in page.texts("#items .score"))
    page.type("#user_id", "state:failed")
    send(page)
    assert page.text("#degraded-list") == "recall failed: popular items stand in."
    page.type("#user_id", "37")
    send(page)
    assert page.run("document.querySelector('#degraded').hidden")


def test_an_overload_is_told_and_can_be_tried_again(page, stub, url):
    open_list(page, url)
    before = page.texts(TITLES)
    page.type("#user_id", "state:overloaded")
    send(page)
    said = page.text("#notice")
    assert "Overloaded (503): too many requests wait already. Try again in 1 s." in said
    assert "Below is the answer before." in said
    assert page.texts(TITLES) == before
    page.click("#retry")
    page.until("document.querySelector('#notice').hidden && " + IDLE)
    assert page.texts(TITLES) != before
    page.problems.clear()


@pytest.mark.parametrize(
    ("user_id", "words"),
    [
        ("state:limited", "Too many requests (429): 20 requests a second are allowed."),
        ("state:broken", "Refused (502): the answer 502 (Bad Gateway) holds no JSON"),
    ],
)
def test_a_refusal_is_told_in_words(page, url, user_id, words):
    page.open(f"{url}?user_id={user_id}")
    page.until("!document.querySelector('#notice').hidden")
    assert words in page.text("#notice")
    page.problems.clear()


def test_an_empty_list_says_so(page, url):
    open_list(page, url, "?user_id=state:empty")
    assert page.text("#empty").startswith("No items")
    assert page.text("#summary") == "0 items for user state:empty."
    assert page.run("document.querySelector('#flow').hidden")


def test_a_slow_answer_is_waited_for_and_given_up_for_the_next(page, stub, url):
    open_list(page, url)
    page.type("#user_id", "state:slow")
    page.click("#send")
    page.until("document.querySelector('#send').textContent === 'Asking…'")
    assert page.run("document.querySelector('#answer').ariaBusy") == "true"
    page.type("#user_id", "54")
    send(page, f"document.querySelector('#summary').textContent.includes('user 54') && {IDLE}")
    titles = page.texts(TITLES)
    page.run("new Promise((done) => setTimeout(done, 2000))")
    assert page.texts(TITLES) == titles  # the late answer of the other user is not shown


def test_a_dead_endpoint_is_told(page, stub):
    with served(stub) as url:
        open_list(page, url)
    send(page)
    assert page.text("#notice-text").startswith("No answer: is the endpoint running")
    page.problems.clear()


def test_errors_stand_at_the_fields_they_name(page, stub, url):
    open_list(page, url)
    page.type("#k", "51")
    send(page, "document.querySelector('#k-error').textContent")
    assert page.text("#k-error") == "must be 1 to 50, got 51"
    assert page.run("document.activeElement.id") == "k"
    assert page.run("document.querySelector('#k').ariaInvalid") == "true"
    page.problems.clear()
    page.type("#k", "5")
    send(page)
    assert page.text("#k-error") == ""
    assert page.run("document.querySelector('#k').hasAttribute('aria-invalid')") is False
    page.type("#deadline_ms", "70000")
    send(page, "document.querySelector('#deadline_ms-error').textContent")
    page.problems.clear()


# --- modes ------------------------------------------------------------------------------------


def test_a_goal_is_sent_and_the_model_s_steps_are_shown(page, stub, url):
    open_list(page, url)
    assert page.run("document.querySelector('#goal-field').hidden")
    assert page.run("document.querySelector('#llm').hidden")
    page.focus("#mode")
    page.key("ArrowDown")
    page.type("#goal", "{more} variety")
    send(page)
    assert stub.requests[-1]["mode"] == "goal"
    assert stub.requests[-1]["goal"] == "{more} variety"
    assert page.text("#llm-sum") == "4 calls, 2,360 tokens. Ended by: Stop."
    assert page.texts("#llm-nodes b") == ["Accuracy", "Diversity", "Backward", "Fairness"]
    assert "repaired 2" in page.texts("#llm-nodes .facts")[-1]
    assert "llm 1840 ms" in page.text("#legend")
    placed = page.texts("#items .stage")
    assert [by.endswith("llm") for by in placed[:5]] == [True, True, True, True, False]
    by_stages = expected(stub, mode="goal", goal="x")["proposed"]["rerank"]
    assert page.texts(".column.rerank .title") == [row["title"] for row in by_stages]
    assert page.texts(".column.list .title") == page.texts(TITLES)
    assert not page.run("document.querySelector('#by-llm').hidden")


def test_a_link_alone_asks_no_language_model(page, stub, url):
    page.open(f"{url}?user_id=37&mode=goal&goal=variety")
    page.until("!document.querySelector('#about').hidden")
    send(page, SHOWN)
    assert [request["goal"] for request in stub.requests] == ["variety"]


def test_items_of_the_tree_have_no_place_in_the_stages(page, stub, url):
    open_list(page, url, "?user_id=37&mode=tree")
    found = [item for item in expected(stub, mode="tree")["items"] if item["channel"] == "tree"]
    assert len(found) == 3
    assert page.texts("#items .channel")[:3] == ["found by item tree"] * 3
    for item in found:
        columns = page.run(
            f"document.querySelectorAll('#flow-chart li[data-item=\"{item['item_id']}\"]').length"
        )
        assert columns == 1  # the list's


def test_a_mode_is_offered_only_where_there_is_a_choice(page):
    with served(Stub(modes=("standard",))) as url:
        open_list(page, url, "?user_id=37&mode=goal&goal=variety")
        assert page.run("document.querySelector('#mode-field').hidden")
        assert page.run("document.querySelector('#goal-field').hidden")


def test_context_fields_are_sent_where_they_are_filled_in(page):
    fields = [("slot", "text", False), ("hour", "number", False), ("place", "text", True)]
    names = ("name", "kind", "follows_scenario")
    stub = Stub(context=tuple(dict(zip(names, field, strict=True)) for field in fields))
    with served(stub) as url:
        open_list(page, url, "?user_id=37&context.hour=17.5")
        assert page.texts("#context label") == ["slot", "hour", "place"]
        assert stub.requests[-1]["context"] == {"hour": 17.5}
        page.type("[id='context.slot']", "top")
        send(page)
        assert stub.requests[-1]["context"] == {"slot": "top", "hour": 17.5}
        assert page.run("location.search").endswith("context.slot=top&context.hour=17.5")
        page.type("[id='context.slot']", "wrong")
        send(page, "document.querySelector('[id=\"context.slot-error\"]').textContent")
        assert page.text("[id='context.slot-error']") == "is not a slot"
        page.problems.clear()


# --- safety -----------------------------------------------------------------------------------


def test_titles_are_text(page, stub, url):
    """Hostile titles in list, stages, history, gone items and the spoken summary."""
    open_list(page, url, "?user_id=state:hostile")
    page.click("#items li:first-child [data-kind=like]")
    page.until("document.querySelector('#likes .new')")
    assert set(page.texts(TITLES)) == {HOSTILE}
    assert HOSTILE in page.text("#gone")
    assert HOSTILE in page.text("#summary")
    assert page.run("document.querySelectorAll('main img, main b b, main script').length") == 0
    assert page.run("document.title") == "Winnow console"
    page.type("#user_id", HOSTILE)
    send(page)
    assert HOSTILE in page.text("#summary")
    assert page.run("document.querySelectorAll('main img').length") == 0


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    files = [path for path in CONSOLE.iterdir() if path.suffix in {".html", ".js", ".css"}]
    assert len(files) >= 3
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|@import|innerHTML|outerHTML|insertAdjacent|eval\(", text)
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", text)


def test_a_token_is_asked_for_and_kept_for_this_tab(page):
    with served(Stub(token="right")) as url:
        page.open(url)
        page.until("!document.querySelector('#token-form').hidden")
        assert page.run("document.activeElement.id") == "token"
        page.type("#token", "wrong")
        page.key("Enter")
        page.until("document.querySelector('#token-error').textContent.includes('refused')")
        page.type("#token", "right")
        page.key("Enter")
        page.until(SHOWN)
        assert page.run("document.querySelector('#token-form').hidden")
        assert page.run("sessionStorage.length") == 1
        assert page.run("localStorage.length + document.cookie.length") == 0
        page.problems.clear()
        open_list(page, url)  # a reload keeps it


# --- for everyone -----------------------------------------------------------------------------


def test_it_works_by_keyboard_alone(page, stub, url):
    open_list(page, url)
    page.focus("#user_id")
    page.type("#user_id", "2")
    assert page.run("document.querySelector('#user_id').ariaExpanded") == "true"
    page.key("ArrowDown", 2)
    active = "document.querySelector('#user_id').getAttribute('aria-activedescendant')"
    wanted = page.run(f"document.getElementById({active}).textContent")
    matching = [user for user in stub.users if "2" in user]
    assert wanted == matching[1]
    page.key("Enter")
    page.until(
        f"document.querySelector('#summary').textContent.includes('user {wanted}') && {IDLE}"
    )
    page.key("ArrowDown")
    page.until("!document.querySelector('#users').hidden")
    page.key("Escape")
    assert page.run("document.querySelector('#users').hidden")
    page.key("Tab", 6)
    assert page.run("document.activeElement.id") == "send"
    page.key("Tab", 2)  # the goal is hidden; the first row's Like, then its Seen
    assert page.run("document.activeElement.dataset.kind") == "view"
    page.key(" ")
    page.until(f"document.querySelector('#summary').textContent.startsWith('Marked') && {IDLE}")
    where = "document.activeElement.closest('li') === document.querySelector('#items li')"
    page.until(f"document.activeElement.dataset.kind === 'view' && {where}")


def test_every_control_has_a_name(page, url):
    open_list(page, url, "?user_id=37&mode=goal")
    page.send("Accessibility.enable")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"textbox", "combobox", "spinbutton", "button", "listbox"}
    controls = [node for node in nodes if node.get("role", {}).get("value") in roles]
    names = [node.get("name", {}).get("value", "") for node in controls]
    assert {"User", "Scenario", "Items", "Mode", "Goal", "Deadline, ms", "Recommend"} <= {*names}
    assert all(names)
    assert len(set(names)) == len(names)  # each Like names its item
    assert page.run("document.querySelector('[aria-live=polite]').id") == "summary"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(page, url, scheme):
    """Contrast of 4.5 to 1 or more (WCAG 2.1 AA) for the texts of a degraded, changed list."""
    page.show(1280, scheme=scheme)
    open_list(page, url, "?user_id=state:late")
    page.click("#items li:nth-child(3) [data-kind=like]")
    page.until("document.querySelector('#likes .new')")
    page.run("document.activeElement.blur()")
    low = page.run(
        """(() => {
          const parts = (color) => color.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
            .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
            .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
          const ground = (node) => {
            for (; node; node = node.parentElement) {
              const color = parts(getComputedStyle(node).backgroundColor);
              if (color.length < 4 || color[3] > 0) return color;
            }
          };
          const low = [];
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const node = texts.currentNode.parentElement;
            if (!texts.currentNode.data.trim() || node.closest('.spoken, .arrow, option')) continue;
            if (!node.checkVisibility()) continue;
            const [a, b] = [light(parts(getComputedStyle(node).color)), light(ground(node))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) low.push([node.className, texts.currentNode.data, ratio]);
          }
          return low;
        })()"""
    )
    assert low == []
    assert page.run("getComputedStyle(document.body).colorScheme") in ("normal", "light dark")
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (int(re.search(r"\d+", ground)[0]) > 128) == (scheme == "light")


@pytest.mark.parametrize(
    "query", ["37&mode=goal&goal=variety", "state:long", "state:late", "37&k=50"]
)
def test_a_narrow_screen_needs_no_sideways_scroll(page, url, query):
    page.show(390, 844)
    open_list(page, url, f"?user_id={query}")
    page.click("#items li:first-child [data-kind=like]")
    page.until("document.querySelector('#likes .new')")
    page.click("#user_id")
    wide = page.run(
        "Array.from(document.body.querySelectorAll('*')).filter((node) => node.checkVisibility()"
        " && node.getBoundingClientRect().right > 390.5 && !node.closest('.spoken'))"
        ".map((node) => node.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert page.run("document.scrollingElement.scrollWidth") == 390
    small = page.run(
        "Array.from(document.querySelectorAll('button, input, select')).filter((node) =>"
        " node.checkVisibility() && node.getBoundingClientRect().height < 32).length"
    )
    assert small == 0


def test_the_stub_offers_each_of_its_states(stub):
    assert set(STATES) <= set(stub.users)
