"""The Ray Data stage that answers batches of requests, and the pool of workers that runs it.

A row of the dataset is one `WorkItem`: the address of a batch in the work folder. A worker reads
the batch, answers it and commits the answers itself; only counts travel through Ray.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import ray
import ray.exceptions
from ray.data import ActorPoolStrategy
from ray.util import metrics

from winnow.errors import GenerationError, WinnowError
from winnow.llm.engines.base import Engine, EngineUnavailable
from winnow.llm.engines.restarting import SupervisedEngine
from winnow.llm.engines.retries import WORKER_ATTEMPTS
from winnow.llm.generation.answer import answer_all, next_requests
from winnow.llm.generation.rows import copied, unusable_row
from winnow.llm.generation.work_store import AnswerStore, WorkItem
from winnow_ray.cluster.connect import connect
from winnow_ray.cluster.room import check_room
from winnow_ray.cluster.starting import starting
from winnow_ray.generation.causes import cause_of, starting_engine

logger = logging.getLogger("winnow.generate")

SPARE_TASKS = 2
"""Batches queued at a worker, so that it never waits for Ray."""
MOST_BLOCKS = 4_096
"""Most blocks of a run: the driver keeps some kilobytes for each, so more batches share one."""
CALLS_PER_TASK = 4
"""Batches of one block that Ray Data runs at a time in an asynchronous worker: its own default."""
LOG_EVERY_S = 5.0
"""Time between two lines of progress."""
COUNTED = (
    "generated",
    "valid",
    "repaired",
    "quarantined",
    "truncated",
    "refused",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
)
"""Counters of a batch that a worker reports."""


@dataclass(frozen=True, kw_only=True)
class WorkerPool:
    """The workers of one run: what each holds, and how many there are."""

    name: str = "engine"
    """What `start` makes, for log lines."""
    start: Callable[[], Engine]
    """Function that makes an engine in the worker's process; it may take minutes."""
    least: int
    """Workers at the start and at the end."""
    most: int
    """Workers that Ray Data may add up to."""
    concurrent_batches: int
    """Batches in progress in one worker."""
    resources: Mapping[str, Any]
    """Ray's options of a worker: num_cpus, num_gpus."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of a worker."""


class AnswerWorker:
    """An engine with the batches in it; Ray Data makes and calls it."""

    def __init__(self, start: Callable[[], Engine], uri: str) -> None:
        began = time.time()
        self._store = AnswerStore(uri)
        self._stopped = ""
        """Why no batch can be answered; empty while the engine works."""
        first: list[Engine] = []
        try:
            first.append(_made(start))
        except EngineUnavailable as error:  # Ray would start it again, for ever
            self._stopped = str(error)
        self._engine = SupervisedEngine(_starter(first, start))
        self._start_s = time.time() - began
        self._rows = metrics.Counter(
            "winnow_generate_rows", "Answered requests by outcome.", tag_keys=("task", "outcome")
        )
        self._tokens = metrics.Counter(
            "winnow_generate_tokens", "Tokens by direction.", tag_keys=("direction",)
        )
        self._deaths = metrics.Gauge(
            "winnow_generate_engine_deaths", "Engine deaths of this worker."
        )

    async def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        item = WorkItem(**{name: values.tolist()[0] for name, values in batch.items()})
        began, counts, stopped = time.time(), Counter[str](), self._stopped
        try:
            if not stopped:
                await self._answer(item, counts)
        except (WinnowError, OSError) as error:  # Ray would bury the text of an exception
            stopped = self._stopped = str(error)  # no later batch would fare better
        figures: dict[str, list[Any]] = {name: [counts[name]] for name in COUNTED}
        times = {"began": [began], "ended": [time.time()], "start_s": [self._start_s]}
        return figures | times | {"stopped": [stopped]}

    async def _answer(self, item: WorkItem, counts: Counter[str]) -> None:
        """Answer a batch and the follow-up requests of its tasks; commit after each round.

        Files are read and written in threads: the engine works on the event loop.
        """
        given_up = await asyncio.to_thread(self._store.begin, item) >= WORKER_ATTEMPTS
        requests, round_number = await asyncio.to_thread(self._store.requests, item), 0
        while requests:
            name = f"{item.name}-{round_number}"
            rows = await asyncio.to_thread(self._store.committed, name)
            if rows is None and given_up:
                reason = f"{WORKER_ATTEMPTS} workers died with its batch"
                rows = [unusable_row(**copied(request), reason=reason) for request in requests]
                await asyncio.to_thread(self._store.commit, name, rows)
            elif rows is None:
                before = counts.copy()
                rows = await answer_all(requests, self._engine, counts)
                await asyncio.to_thread(self._store.commit, name, rows)
                self._export(requests[0].task, counts - before)
            requests = next_requests(rows, requests)
            round_number += 1

    def _export(self, task: str, counts: Counter[str]) -> None:
        """Add to the metrics on Ray's Prometheus endpoint."""
        for outcome in ("valid", "repaired", "quarantined", "truncated", "refused"):
            if counts[outcome]:
                self._rows.inc(counts[outcome], tags={"task": task, "outcome": outcome})
        for direction in ("prompt", "cached", "output"):
            if counts[f"{direction}_tokens"]:
                self._tokens.inc(counts[f"{direction}_tokens"], tags={"direction": direction})
        self._deaths.set(self._engine.deaths)


def _made(start: Callable[[], Engine]) -> Engine:
    """The engine that `start` makes; EngineUnavailable says in one sentence why there is none."""
    with starting_engine():
        return start()


def _starter(ready: list[Engine], start: Callable[[], Engine]) -> Callable[[], Awaitable[Engine]]:
    """A function that first returns the engine that is ready, and then starts another each time."""

    async def next_engine() -> Engine:
        return ready.pop() if ready else await asyncio.to_thread(_made, start)

    return next_engine


def concurrent_tasks(batches: int, batches_per_block: int) -> int:
    """Blocks in progress in one worker, so that about `batches` batches are.

    Example:
        >>> concurrent_tasks(18, 1), concurrent_tasks(18, 2), concurrent_tasks(18, 150)
        (18, 9, 5)
    """
    return -(-batches // min(batches_per_block, CALLS_PER_TASK))


def batches_together(concurrent_batches: int, workers: int) -> int:
    """Adjacent batches that one of several workers gets at a time.

    Their prompts begin alike, so fewer workers compute the same beginning. A worker has four such
    blocks in progress at least: it does not wait for the slowest answer of one.

    Example:
        >>> batches_together(18, 1), batches_together(18, 2), batches_together(6, 2)
        (1, 4, 1)
    """
    return 1 if workers == 1 else min(max(concurrent_batches // 4, 1), CALLS_PER_TASK)


def answer_items(
    items: Sequence[WorkItem],
    store: AnswerStore,
    pool: WorkerPool,
    *,
    used_up: Callable[[Mapping[str, float]], str] = lambda figures: "",
) -> "PoolReport":
    """Answer every batch with a pool of workers; logs progress.

    Args:
        items: the batches.
        store: where requests are and answers go.
        pool: the workers.
        used_up: says which limit the figures so far have reached, "" if none.

    Raises:
        GenerationError: a worker cannot continue: its engine is unavailable, or a disk is full; or
            a limit is reached with rows left.
    """
    connect(log_to_driver=False)
    check_room(
        "generation",
        max(pool.least, 1),
        {"CPU": pool.resources.get("num_cpus", 0), "GPU": pool.resources.get("num_gpus", 0)},
        settings="workers.min, engine.cpus or number of GPUs of an engine",
    )
    together = batches_together(pool.concurrent_batches, pool.most)
    blocks = min(-(-len(items) // together), MOST_BLOCKS)
    tasks = concurrent_tasks(pool.concurrent_batches, len(items) // blocks)
    rows = [asdict(item) for item in items]
    answers = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        AnswerWorker,
        fn_constructor_args=(pool.start, store.uri),
        batch_size=1,
        compute=ActorPoolStrategy(
            min_size=pool.least,
            max_size=pool.most,
            max_concurrent_calls_per_actor=tasks,
            max_tasks_in_flight_per_actor=tasks + SPARE_TASKS,
        ),
        runtime_env={"env_vars": dict(pool.environment)},
        **pool.resources,
    )
    names = {item.name for item in items}
    report = PoolReport(sum(item.rows for item in items))
    try:
        with starting(pool.name, doing=partial(_doing, store, names)) as started:
            batches: Iterable[Any] = answers.iter_batches(batch_size=None)
            for batch in batches:
                figures = {name: values.tolist() for name, values in batch.items()}
                started(figures["start_s"][0])
                report.add(figures)
                report.check(used_up)
    except ray.exceptions.RayError as error:
        cause = cause_of(error)
        raise GenerationError(f"generation stopped, answered rows are kept: {cause}") from error
    return report


def _doing(store: AnswerStore, names: Container[str]) -> str:
    """What workers do before the first batch is done: their engine starts, or answers it."""
    try:
        return "answers its first batches" if store.has_begun(names) else "starting"
    except OSError:  # the disk is the workers' to complain about
        return "starting"


class PoolReport:
    """Sums over the batches that workers report, with progress in the log and in metrics."""

    def __init__(self, rows: int) -> None:
        self.counts: Counter[str] = Counter()
        self._ended: list[tuple[float, int]] = []
        """Time and rows of each batch, in the order in which they were reported."""
        self.start_s = 0.0
        """Seconds that the first engine that answered took to start."""
        self._rows = rows
        self._began, self._last = float("inf"), 0.0
        self._logged = 0.0
        self._left = metrics.Gauge("winnow_generate_rows_left", "Requests without an answer.")
        self._left.set(rows)

    def add(self, batch: Mapping[str, list[Any]]) -> None:
        """Add the figures of some batches; GenerationError if one could not be answered."""
        if stopped := next(filter(None, batch["stopped"]), None):
            raise GenerationError(f"generation stopped, answered rows are kept: {stopped}")
        if not self._ended:
            self.start_s = batch["start_s"][0]
        self.counts.update({name: sum(batch[name]) for name in COUNTED})
        self._began = min(self._began, *batch["began"])
        self._ended += zip(batch["ended"], batch["generated"], strict=True)
        self._last = max(self._last, *batch["ended"])
        left = max(self._rows - self.counts["generated"], 0)
        self._left.set(left)
        if time.monotonic() - self._logged >= LOG_EVERY_S or not left:
            self._logged = time.monotonic()
            self._log(left)

    def check(self, used_up: Callable[[Mapping[str, float]], str]) -> None:
        """GenerationError if a limit is reached and rows are left."""
        done, limit = self.counts["generated"], used_up({**self.counts, "seconds": self.seconds})
        if limit and done < self._rows:
            raise GenerationError(
                f"{limit}: {done} of {self._rows} open rows are answered and kept; the same "
                "command continues with the rest"
            )

    @property
    def seconds(self) -> float:
        """Time from the start of the first batch to the end of the last."""
        return max(self._last - self._began, 1e-3)

    @property
    def ends(self) -> list[float]:
        """Time of each answer, in the order of the batches."""
        return [ended for ended, rows in self._ended for _ in range(rows)]

    def _log(self, left: int) -> None:
        done, seconds = self.counts["generated"], self.seconds
        logger.info(
            "rows=%d/%d rows_per_s=%.1f output_tokens_per_s=%.0f left_s=%.0f",
            done,
            self._rows,
            done / seconds,
            self.counts["output_tokens"] / seconds,
            left * seconds / max(done, 1),
        )
