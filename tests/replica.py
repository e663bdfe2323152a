"""A replica without Ray around it, whose every answer is held against its closed schema."""

import asyncio
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serve.admin import Admin
from serve.args import RecommendArgs
from serve.endpoint import Endpoint
from serve.graph.fused import FusedGraph
from serve.http import openapi, schema
from serve.llm_modes import Modes
from serve.routes import build_http_app
from serve.telemetry.metrics_file import MetricsFile
from serve.versions.loaded_bundles import LoadedBundles
from serve.versions.version import load
from winnow.artifact import create_artifact, open_artifact
from winnow.events import GuardedEvents, open_events

ADMIN = "root"


def renamed_bundle(source: Path, target: Path, mark: str) -> str:
    """A copy whose titles all end with `mark`, so that answers show which bundle made them."""
    artifact = open_artifact(source, kind="bundle")
    with create_artifact(target, "bundle", config={**artifact.config, "mark": mark}) as draft:
        shutil.copytree(artifact.path, draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        items = pq.read_table(artifact.path / "items.parquet")
        titles = pa.array([f"{title} {mark}" for title in items["title"].to_pylist()])
        at = items.column_names.index("title")
        pq.write_table(items.set_column(at, "title", titles), draft.path / "items.parquet")
    return open_artifact(target, kind="bundle").version


ANSWERS = {
    (one.method.upper(), one.path): schema.schema_of(one.answer, closed=True)
    for one in openapi.OPERATIONS
    if isinstance(one.answer, type)
}
ERRORS = schema.schema_of(schema.Errors, closed=True)


def check_answer(method, path, status, text):
    """Raise unless the JSON has exactly the fields that /openapi.json describes."""
    if status != 200:
        ERRORS.validate_json(text)
        return
    known = "/users/{user_id}" if path.startswith("/users/") else path
    if (method, known) in ANSWERS:
        ANSWERS[method, known].validate_json(text)


class Memory:
    """A plan store of one process, in place of the cluster's."""

    def __init__(self):
        self.plan = None

    def read(self):
        return self.plan

    def write(self, plan):
        if self.plan is not None and self.plan.number >= plan.number:
            return False
        self.plan = plan
        return True


class Replica:
    """Everything of a replica of the fused graph, asked in this process. Use in one event loop."""

    def __init__(self, bundle, folder, **fields):
        fields = {"events": f"{folder}/e.sqlite", "bundle_roots": ["/"]} | fields
        self.args = RecommendArgs(bundle=str(bundle), **fields)
        self.folder = folder / "metrics"
        self.numbers = MetricsFile(self.folder)
        self.events = GuardedEvents(open_events(self.args.events))
        self.modes = Modes(self.args.llm)
        self.fused = FusedGraph()
        self.plans = Memory()
        self.bundles = LoadedBundles(self.load)
        self.endpoint = Endpoint(
            self.args, self.bundles, self.fused, self.events, self.numbers, self.modes
        )
        self.admin = Admin(
            self.bundles,
            self.plans,
            self.numbers,
            "fused",
            self.args.bundle_roots,
            self.prepare,
            self.tell,
        )
        self.app = build_http_app(
            self.args,
            self.endpoint,
            self.admin,
            folder=self.folder,
            node="n",
            host="127.0.0.1",
            env={"WINNOW_ADMIN_TOKEN": ADMIN},
        )

    def load(self, bundle):
        words = self.modes.words(bundle)
        version = load(bundle, self.events, with_stages=True, catalogue_words=words)
        self.fused.warm(version)
        return version

    async def prepare(self, version, uri):
        pass

    async def tell(self):
        return [await self.admin.follow()]

    async def start(self):
        await self.admin.start(self.args.bundle)
        return self

    @property
    def stages(self):
        """Of the version that answers; replace one to break it."""
        return self.bundles.choose(None)[1].cascade.stages

    async def raw(self, method, path, body=b"", **headers):
        """Status, headers and body."""
        sent, left = [], [body]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
        }

        async def receive():
            return {"type": "http.request", "body": left.pop()} if left else await asyncio.sleep(60)

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        start, whole = sent
        check_answer(method, path, start["status"], whole["body"])
        return start["status"], dict(start["headers"]), whole["body"]

    async def call(self, path, body=None, token=None, method=None):
        """Status and decoded JSON; without a method of a GET or, with a body, of a POST."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        usual, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        status, _, text = await self.raw(method or usual, path, data, **headers)
        return status, json.loads(text)

    async def metric(self, start):
        """The value of the series whose line starts so; 0 if there is none."""
        _, _, text = await self.raw("GET", "/metrics")
        found = [line for line in text.decode().splitlines() if line.startswith(start)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)
