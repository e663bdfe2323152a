"""Generation on two engines while one of them is killed again and again.

Each engine is on a node of its own. SIGKILL goes to the engine that has run longest, so it is one
engine after the other; its worker starts another and asks again what was in flight.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from jobs._bench.generation import cluster, pooled
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.prompting.request import Request
from winnow_ray.generation.generate import GenerateConfig

logger = logging.getLogger("winnow.bench_generate")

ENGINE_PROCESS = "VLLM::EngineCor"
"""How the name of an engine's process begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KillsConfig:
    """How many prompts are answered, and how often an engine is killed meanwhile."""

    rows: int = 12_000
    """Prompts; at least some minutes of work. 0 leaves the part out."""
    every_s: float = 120.0
    """Time from one kill to the next; the first comes that long after the first answer."""

    def __post_init__(self) -> None:
        if self.every_s <= 0:
            raise ValueError(f"KillsConfig.every_s must be positive, got {self.every_s}")


def measure(
    config: KillsConfig,
    generate: GenerateConfig,
    source: str,
    requests: Sequence[Request],
    folder: Path,
) -> dict[str, Any]:
    """Measure two engines in peace, then under kills."""
    with cluster(nodes=2):
        calm = pooled(generate, source, requests, folder / "calm", workers=2)
    logger.info("two engines: %s", calm)
    with cluster(nodes=2), killing(config.every_s, folder / "killed") as kills:
        killed = pooled(generate, source, requests, folder / "killed", workers=2)
    logger.info("two engines, one killed every %.0f s: %s", config.every_s, killed)
    keys = [key for t in AnswerStore(folder / "killed").tables(["key"]) for key in t["key"]]
    wanted = {request.key for request in requests}
    return {
        "rows": len(requests),
        "goodput": round(killed.tokens_per_s / calm.tokens_per_s, 3),
        "kills": len(kills),
        "every_s": config.every_s,
        "seconds": [round(side.seconds) for side in (calm, killed)],
        "every_key_once": len(keys) == len(wanted) and {k.as_py() for k in keys} == wanted,
    }


@contextmanager
def killing(every_s: float, work: Path) -> Iterator[list[int]]:
    """Kill an engine below this process every so often; gives the ids of the killed."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while not list((work / "answers").glob("*.parquet")):
            if ended.wait(0.1):
                return
        while not ended.wait(every_s):
            if (pid := kill_oldest()) is not None:
                killed.append(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def kill_oldest(name: str = ENGINE_PROCESS) -> int | None:
    """SIGKILL the longest-running process below this one with such a name; its id, if any."""
    found: list[tuple[float, int]] = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith(name):
                found.append((process.create_time(), process.pid))
        except psutil.NoSuchProcess:
            continue
    if not found:
        return None
    _, pid = min(found)
    os.kill(pid, signal.SIGKILL)
    return pid
