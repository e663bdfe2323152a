"""A worker without an engine, and the sentence that names the cause."""

import asyncio
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError, field_validator

from winnow.errors import GenerationError
from winnow.llm.engines.base import EngineUnavailable
from winnow.llm.generation.work_store import AnswerStore, WorkItem
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.registry import TASKS
from winnow_ray.generation import workers
from winnow_ray.generation.causes import cause_of, starting_engine
from winnow_ray.generation.workers import (
    COUNTED,
    MOST_BLOCKS,
    AnswerWorker,
    PoolReport,
    WorkerPool,
    answer_items,
)

BATCH = {
    "path": np.array(["requests.parquet"]),
    "row_group": np.array([0]),
    "rows": np.array([3]),
}


class Limits(BaseModel):
    max_model_len: int

    @field_validator("max_model_len")
    @classmethod
    def check(cls, value):
        raise ValueError("User-specified max_model_len (8192) is greater than 2048")


def refused():
    with pytest.raises(ValidationError) as caught:
        Limits(max_model_len=8192)
    return caught.value


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("a\n  b\nValueError: no room\n\n"), "ValueError: no room"),
        (RuntimeError(""), "RuntimeError"),
        (RuntimeError("x" * 10_000), "x" * 300),
    ],
)
def test_the_cause_is_the_last_line(error, cause):
    assert cause_of(error) == cause


def test_the_cause_of_a_validator_is_what_it_says():
    assert cause_of(refused()) == (
        "Value error, User-specified max_model_len (8192) is greater than 2048"
    )


@pytest.mark.parametrize("error", [RuntimeError("no room"), GenerationError("no room"), OSError()])
def test_an_engine_that_does_not_start_is_started_once_and_stops_the_run(tmp_path, error):
    starts = []

    def start():
        starts.append(1)
        raise error

    worker = AnswerWorker(start, str(tmp_path))
    for _ in range(3):
        figures = asyncio.run(worker(BATCH))
    cause = str(error) or "OSError"
    assert figures["stopped"] == [f"the engine does not start: {cause}"]
    assert len(starts) == 1
    with pytest.raises(GenerationError, match=f"answered rows are kept: .*: {cause}$"):
        PoolReport(3).add(figures)


CORE = """
import os, sys
from winnow_ray.generation.causes import starting_engine
print("ValueError: of an earlier engine", file=sys.stderr, flush=True)
try:
    with starting_engine():
        os.system("echo '(EngineCore pid=7) ValueError: no memory for the cache' >&2")
        raise RuntimeError("Engine core initialization failed. See root cause above.")
except Exception as error:
    print(error)
"""


def test_the_cause_of_a_process_that_failed_is_in_what_it_wrote(tmp_path):
    with (tmp_path / "err").open("w") as err:
        run = subprocess.run(
            [sys.executable, "-c", CORE], stdout=subprocess.PIPE, stderr=err, env=os.environ
        )
    assert run.stdout.decode() == (
        "the engine does not start: ValueError: no memory for the cache\n"
    )


def batch(began, ended, rows):
    figures = {name: [0] * len(rows) for name in COUNTED}
    figures |= {"generated": rows, "output_tokens": [2 * n for n in rows]}
    times = {"began": began, "ended": ended, "start_s": [3.0] * len(rows)}
    return figures | times | {"stopped": [""] * len(rows)}


def test_a_report_sums_batches_that_come_one_by_one_or_in_blocks():
    report = PoolReport(9)
    report.add(batch([10.0, 11.0], [14.0, 13.0], [2, 3]))
    report.add(batch([12.0], [16.0], [4]))
    assert report.ends == [14.0] * 2 + [13.0] * 3 + [16.0] * 4
    assert (report.seconds, report.start_s) == (6.0, 3.0)
    assert report.counts["output_tokens"] == 18


def test_after_a_batch_that_cannot_be_answered_no_other_is_tried(tmp_path):
    class Engine:
        asked = 0

        async def complete(self, request):
            self.asked += 1
            raise EngineUnavailable("the key is wrong")

    engine, store = Engine(), AnswerStore(tmp_path / "work")
    task = TASKS["tree_labels"]
    inputs = task.from_row({"title": "Heat", "text": "A heist."}, seed=0)
    request = task.request(inputs, model="m", sampling=SamplingConfig())
    worker = AnswerWorker(lambda: engine, store.uri)
    for item in store.write_requests([request] * 3, rows_per_batch=1):
        row = {name: np.array([value]) for name, value in asdict(item).items()}
        figures = asyncio.run(worker(row))
        assert figures["stopped"] == ["the key is wrong"]
    assert engine.asked == 1


def test_an_interrupt_is_no_cause():
    with pytest.raises(KeyboardInterrupt), starting_engine():
        raise KeyboardInterrupt
    with pytest.raises(EngineUnavailable), starting_engine():
        raise RuntimeError("x")


@pytest.mark.parametrize(("batches", "blocks"), [(3, 3), (3 * MOST_BLOCKS, MOST_BLOCKS)])
def test_a_run_of_any_size_has_a_bounded_number_of_blocks(tmp_path, monkeypatch, batches, blocks):
    made = []

    def from_items(rows, *, override_num_blocks):
        made.append((len(rows), override_num_blocks))
        raise InterruptedError

    monkeypatch.setattr(workers.ray.data, "from_items", from_items)
    monkeypatch.setattr(workers, "connect", lambda log_to_driver: None)
    monkeypatch.setattr(workers, "check_room", lambda *args, **settings: 1)
    pool = WorkerPool(start=print, least=1, most=1, concurrent_batches=1, resources={})
    items = [WorkItem(path="a.parquet", row_group=at, rows=16) for at in range(batches)]
    with pytest.raises(InterruptedError):
        answer_items(items, AnswerStore(str(tmp_path)), pool)
    assert made == [(batches, blocks)]


def test_a_run_stops_once_its_budget_is_used_up():
    report = PoolReport(rows=3)
    report.counts.update(generated=2, output_tokens=9)
    report.check(lambda figures: "")
    with pytest.raises(GenerationError, match="budget: 2 of 3 open rows are answered and kept; th"):
        report.check(lambda figures: "budget" if figures["output_tokens"] == 9 else "")
    report.counts.update(generated=1)
    report.check(lambda figures: "budget")  # nothing is left to stop
