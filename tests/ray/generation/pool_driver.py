"""Answers requests with the real pool and engines that only wait; tests run it as a process.

    python tests/ray/generation/pool_driver.py <folder> <rows> <seconds a row> <most workers>

The last batch takes ten times as long. The last line of output is the report's counts.
"""

import asyncio
import json
import sys

from winnow.llm.engines.base import Completion
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.registry import TASKS
from winnow_ray.generation.workers import WorkerPool, answer_items

ROWS_PER_BATCH = 2


def start():
    """Defined by value for the workers: they cannot import this file."""

    class WaitingEngine:
        async def complete(self, request):
            await asyncio.sleep(json.loads(request.inputs)["seconds"])
            return Completion(text='{"path": ["music", "quiet"]}', output_tokens=5)

        async def close(self):
            pass

    return WaitingEngine()


def main(work, rows, seconds, workers):
    task = TASKS["tree_labels"]
    last = range(int(rows) - ROWS_PER_BATCH, int(rows))
    requests = [
        task.request(
            task.from_row(
                {
                    "title": f"Song {i}",
                    "text": "quiet music",
                    "seconds": float(seconds) * (10 if i in last else 1),
                },
                seed=0,
            ),
            model="waiting",
            sampling=SamplingConfig(),
        )
        for i in range(int(rows))
    ]
    requests = requests[-ROWS_PER_BATCH:] + requests[:-ROWS_PER_BATCH]
    store = AnswerStore(work)
    items = list(store.write_requests(requests, rows_per_batch=ROWS_PER_BATCH))
    pool = WorkerPool(
        start=start, least=1, most=int(workers), concurrent_batches=2, resources={"num_cpus": 1}
    )
    report = answer_items(items, store, pool)
    print(json.dumps({**report.counts, "again": store.rows_begun_again()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
