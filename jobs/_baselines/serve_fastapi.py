"""What a good engineer writes by hand in a day: FastAPI on uvicorn in one process, no Ray.

    python -m jobs._baselines.serve_fastapi BUNDLE PORT

The same `Cascade` on one thread beside the event loop, which takes what waits as its next batch;
uvloop, httptools and a fast JSON encoder. No deadlines, bounds, tokens, swaps or metrics. The
other side of `jobs.bench_serve`.
"""

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import torch
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

from jobs._baselines.serve_models import Models
from winnow.cascade import Cascade
from winnow.cascade.query import Outcome, Query

MAX_BATCH = 16


class FastApiBody(BaseModel):
    user_id: str
    scenario: str
    k: int = 10


class FastApiBatches:
    """Computes what waits, at most MAX_BATCH at a time."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Query, asyncio.Future[Outcome]]] = []
        self._work: asyncio.Task[None] | None = None

    def compute(self, query: Query) -> "asyncio.Future[Outcome]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((query, future))
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._drain())
        return future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            queries = [query for query, _ in batch]
            outcomes = await loop.run_in_executor(self._thread, self._cascade, queries)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)


def build(models: Models) -> FastAPI:
    app, encode = FastAPI(), msgspec.json.Encoder().encode
    batches = FastApiBatches(Cascade(models.bundle))

    @app.post("/recommend")
    async def recommend(body: FastApiBody) -> Response:
        query = models.query(body.model_dump())
        outcome = await batches.compute(query)
        answer = models.answer(query, outcome.candidates, outcome.degraded)
        return Response(encode(answer), media_type="application/json")

    return app


def main() -> None:
    bundle, port = sys.argv[1:]
    torch.set_num_threads(1)
    app = build(Models(bundle))
    gc.freeze()
    uvicorn.run(
        app, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
