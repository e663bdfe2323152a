"""A loopback server that answers the endpoint's contract with made-up films, for the console page.

    python -m tests.ray.console.stub 18800

The user's id asks for a state that a healthy endpoint is hard to bring into: see `STATES`. All
other users get a list that follows from their id, the scenario and the events sent so far.
"""

import json
import random
import sys
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from tests.paths import ROOT

CONSOLE = ROOT / "serve" / "console"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
TYPES |= {".svg": "image/svg+xml", ".png": "image/png"}
SCENARIOS = ("age under 25", "age 25-34", "age 35 and over")
CHANNELS = ("two_tower", "text", "recent", "popular")
MAX_K = 50
BUNDLES = {"a": "5d20f7b1c94e", "b": "e83a06d2174b"}
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> & <b>Sons</b>"
STATES = {
    "state:late": "rank and rerank are skipped by the deadline",
    "state:failed": "recall failed: popular items",
    "state:overloaded": "503 with Retry-After on every second request",
    "state:limited": "429 with Retry-After",
    "state:empty": "no items",
    "state:slow": "an answer after 1.5 seconds",
    "state:broken": "an answer that is no JSON",
    "state:hostile": "titles that hold HTML",
    "state:long": "titles without a place to break",
}
FIELDS = {
    "user_id",
    "history",
    "scenario",
    "context",
    "k",
    "mode",
    "goal",
    "deadline_ms",
    "explain",
}
FIRST = ("Glass", "Quiet", "Paper", "Northern", "Hollow", "Second")
FIRST += ("Borrowed", "Salt", "Copper", "Last", "Distant", "Crooked")
LAST = ("Harbour", "Orchard", "Winter", "Letters", "Kingdom")
LAST += ("Station", "Tides", "Witness", "Garden", "Frontier")


class Refused(Exception):
    """An answer other than 200: status, field, message, and seconds for Retry-After."""


def titles() -> list[str]:
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    names = [f"The {name}" if row % 3 == 0 else name for row, name in enumerate(names)]
    random.Random(1).shuffle(names)
    names[7] += ", or How the Lighthouse Keeper's Daughter Learned to Stop Counting Ships"
    return [f"{name} ({1950 + row * 37 % 50})" for row, name in enumerate(names)]


@dataclass
class Stub:
    token: str = ""
    """Every call must carry it; empty: none is asked for."""
    modes: tuple[str, ...] = ("standard", "goal", "tree")
    context: tuple[dict, ...] = ()
    """Context fields as /catalogue describes them."""
    requests: list[dict] = field(default_factory=list)
    """Bodies of POST /recommend, as they came."""
    events: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.titles = titles()
        self.users = [*(str(17 * row + 3) for row in range(40)), *STATES]

    def catalogue(self) -> dict:
        scenarios = [{"id": str(row), "name": name} for row, name in enumerate(SCENARIOS)]
        users = {"users": self.users, "items": len(self.titles), "max_k": MAX_K}
        head = {"bundle": BUNDLES["a"], "topology": "fused"}
        context = list(self.context)
        return head | users | {"scenarios": scenarios, "context": context, "modes": [*self.modes]}

    def user(self, user_id: str) -> dict:
        live = [e for e in self.events.values() if e["user_id"] == user_id]
        likes = [(e["item_id"], "") for e in live if e["kind"] == "like"]
        past = [(f"m{row}", SCENARIOS[row % 3]) for row in self.past(user_id)]
        liked = [
            self.shown(int(item[1:]), user_id) | {"scenario": on}
            for item, on in [*reversed(likes), *past]
        ]
        views = 4 * len(past) + sum(e["kind"] == "view" for e in live)
        known = user_id in self.users
        return {"user_id": user_id, "known": known, "liked": liked[:50], "views": views}

    def past(self, user_id: str) -> list[int]:
        known = user_id in self.users
        return random.Random(user_id).sample(range(len(self.titles)), 23) if known else []

    def recommend(self, body: dict) -> dict:
        self.requests.append(body)
        check(body, self.modes)
        user_id = body["user_id"]
        self.trouble(user_id)
        live = [e for e in self.events.values() if e["user_id"] == user_id]
        seen = {int(e["item_id"][1:]) for e in live} | set(self.past(user_id))
        tastes = [int(e["item_id"][1:]) % 8 for e in live if e["kind"] == "like"]
        rows = [row for row in range(len(self.titles)) if row not in seen]
        found = stages(random.Random(user_id + body["scenario"]), rows, tastes)
        return self.answer(body, found)

    def trouble(self, user_id: str) -> None:
        tries = sum(request.get("user_id") == user_id for request in self.requests)
        if user_id == "state:overloaded" and tries % 2:
            raise Refused(503, "", "too many requests wait already", 1)
        if user_id == "state:limited":
            raise Refused(429, "", "20 requests a second are allowed", 3)
        if user_id == "state:slow":
            time.sleep(1.5)

    def answer(self, body: dict, found: dict) -> dict:
        user_id, k = body["user_id"], body.get("k", 10)
        skipped = {"state:late": ("rank", "rerank"), "state:failed": ("recall",)}.get(user_id, ())
        recall, score = found["recall"], found["score"]
        rank = recall if "rank" in skipped else found["rank"]
        by_stages = rank if "rerank" in skipped else found["rerank"]
        mode = body.get("mode", "standard")
        final, searched = by_model(mode, by_stages)
        items = []
        for place, row in enumerate([] if user_id == "state:empty" else final[:k]):
            before, ranked = recall.index(row), rank.index(row)
            by = "rerank" if ranked != place else "rank" if before != ranked else "recall"
            item = (
                self.shown(row, user_id)
                | {"score": None if "rank" in skipped else score[row]}
                | {"channel": "popular" if "recall" in skipped else found["channel"][row]}
                | {"recall_position": before + 1, "rank_position": ranked + 1}
                | {"placed_by": by if by_stages[place] == row else "llm"}
            )
            if row in searched:
                item |= {"channel": "tree", "score": None}
                item |= {"recall_position": None, "rank_position": None}
            items.append(item)
        variant = "b" if sum(user_id.encode()) % 5 == 0 else "a"
        reason = "failed" if user_id == "state:failed" else "late"
        answer = {
            "items": items,
            "bundle": BUNDLES[variant],
            "variant": variant,
            "timings_ms": timings(user_id, body.get("mode")),
            "degraded": [{"stage": stage, "reason": reason} for stage in skipped],
            "trace_id": f"{random.Random(str(body)).getrandbits(128):032x}",
        }
        if body.get("explain"):
            answer["proposed"] = {
                "recall": [
                    self.shown(row, user_id) | {"channel": found["channel"][row]}
                    for row in recall[:20]
                ],
                "rank": [
                    self.shown(row, user_id) | {"score": None if "rank" in skipped else score[row]}
                    for row in rank[:20]
                ],
            }
            if mode != "standard":
                answer["proposed"]["rerank"] = [
                    self.shown(row, user_id) | {"channel": found["channel"][row]}
                    for row in by_stages[:20]
                ]
        if mode != "standard":
            answer["llm"] = llm(mode)
        return answer

    def shown(self, row: int, user_id: str) -> dict:
        title = self.titles[row]
        title = {"state:hostile": HOSTILE, "state:long": "Donau" * 40}.get(user_id, title)
        return {"item_id": f"m{row}", "title": title}

    def add(self, body: dict) -> dict:
        new = {event["event_id"]: event for event in body["events"]}
        stored = len(new.keys() - self.events.keys())
        self.events |= new
        return {"stored": stored}


def check(body: dict, modes: tuple[str, ...]) -> None:
    for name in body.keys() - FIELDS:
        raise Refused(422, name, "Extra inputs are not permitted")
    if not 1 <= len(body.get("user_id", "")) <= 256:
        raise Refused(422, "user_id", "give user_id or history")
    if body.get("scenario") not in ("0", "1", "2"):
        raise Refused(422, "scenario", "must be one of 0, 1, 2")
    if body.get("context", {}).get("slot") == "wrong":
        raise Refused(422, "context.slot", "is not a slot")
    if not isinstance(body.get("k", 10), int) or not 1 <= body.get("k", 10) <= MAX_K:
        raise Refused(422, "k", f"must be 1 to {MAX_K}, got {body['k']}")
    if not 1 <= body.get("deadline_ms", 100) <= 60_000:
        raise Refused(422, "deadline_ms", "must be 1 to 60000")
    if body.get("mode", "standard") not in modes:
        raise Refused(422, "mode", f"must be one of {', '.join(modes)}")
    if "goal" in body and body.get("mode") != "goal":
        raise Refused(422, "goal", "only with mode=goal")


def stages(chance: random.Random, rows: list[int], tastes: list[int]) -> dict:
    """Orders of rows: liking a film lifts those of its kind (row modulo 8) in recall and rank."""
    noise = {row: chance.random() for row in range(200)}
    wanted = {row: noise[row] + 0.25 * tastes.count(row % 8) for row in rows}
    recall = sorted(rows, key=lambda row: -wanted[row])
    score = {row: round(0.93 / (1 + 0.06 * (recall.index(row) ** 1.1)), 6) for row in rows}
    score = {row: round(score[row] * (0.6 + 0.4 * noise[row * 7 % 200]), 6) for row in rows}
    rank = sorted(rows, key=lambda row: -score[row])
    head = rank[:15]
    for place in range(2, len(head)):  # the same kind twice in a row moves down by two
        if head[place - 1] % 4 == head[place - 2] % 4:
            head.insert(min(place + 1, len(head) - 1), head.pop(place - 1))
    channel = {row: CHANNELS[int(noise[row] * 97) % 4] for row in rows}
    return {
        "recall": recall,
        "rank": rank,
        "rerank": [*head, *rank[15:]],
        "score": score,
        "channel": channel,
    }


def by_model(mode: str, rows: list[int]) -> tuple[list[int], list[int]]:
    """The list as a language model makes it, and what it found in the item tree."""
    if mode == "goal":
        return [*rows[3::-1], *rows[4:]], []
    searched = rows[-3:] if mode == "tree" else []
    return [*searched, *(row for row in rows if row not in searched)], searched


def timings(user_id: str, mode: str | None) -> dict[str, float]:
    chance = random.Random(user_id)
    spent = {"recall": chance.uniform(0.4, 0.7), "rank": chance.uniform(0.5, 0.9)}
    spent["rerank"] = chance.uniform(0.1, 0.3)
    if mode not in (None, "standard"):
        spent["llm"] = 1840.0
    if user_id == "state:late":
        spent |= {"rank": 0.0, "rerank": 0.0}
    spent["total"] = sum(spent.values()) + 0.31
    return {stage: round(ms, 3) for stage, ms in spent.items()}


def llm(mode: str) -> dict:
    names = ("Accuracy", "Diversity", "Backward", "Fairness") if mode == "goal" else ("root", "7")
    nodes = [{"node": name, "ms": 310.5 + 60 * n, "tokens": 590} for n, name in enumerate(names)]
    nodes[-1]["repaired"] = 2
    return {"stop": "Stop", "nodes": nodes, "calls": len(names), "tokens": 590 * len(names)}


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if path == "/" or path.startswith("/console/"):
            return self.send_file("index.html" if path == "/" else path.split("/")[-1])
        if path == "/catalogue":
            return self.answer(self.stub.catalogue)
        if path.startswith("/users/"):
            return self.answer(lambda: self.stub.user(path.removeprefix("/users/")))
        return self.send(404, b"{}", "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body.get("user_id") == "state:broken":
            return self.send(502, b"<h1>Bad gateway</h1>", "text/html")
        call = self.stub.recommend if self.path == "/recommend" else self.stub.add
        return self.answer(lambda: call(body))

    def answer(self, call) -> None:
        try:
            if self.stub.token and self.headers["authorization"] != f"Bearer {self.stub.token}":
                raise Refused(401, "", "a valid bearer token is required", 0)
            self.send(200, json.dumps(call()).encode(), "application/json")
        except Refused as refused:
            status, named, message, *wait = refused.args
            errors = json.dumps({"errors": [{"field": named, "message": message}]})
            self.send(status, errors.encode(), "application/json", wait[0] if wait else 0)

    def send_file(self, name: str) -> None:
        path = CONSOLE / name
        if not path.is_file():
            return self.send(404, b"{}", "application/json")
        return self.send(200, path.read_bytes(), TYPES[path.suffix] + "; charset=utf-8")

    def send(self, status: int, body: bytes, kind: str, wait_s: int = 0) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", "default-src 'self'")
        self.send_header("cache-control", "no-store")
        if wait_s:
            self.send_header("retry-after", str(wait_s))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet: the tests read the requests from the stub."""


def server_of(stub: Stub, port: int = 0) -> ThreadingHTTPServer:
    """A server bound to loopback; call `serve_forever`."""
    handler = type("StubHandler", (Handler,), {"stub": stub})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    server_of(
        Stub(token=sys.argv[2] if len(sys.argv) > 2 else ""), int(sys.argv[1])
    ).serve_forever()
