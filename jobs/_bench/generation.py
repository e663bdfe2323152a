"""What the parts of `jobs.bench_generate` share: a cluster on this machine, and our side's run."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from jobs._baselines.llm_engines import Speed
from winnow.llm.engines.vllm_config import WorkersConfig
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.prompting.request import Request
from winnow_ray.cluster.connect import OBJECT_STORE_BYTES, set_niceness
from winnow_ray.cluster.terminal import divert, forward_worker_lines
from winnow_ray.generation.generate import GenerateConfig, vllm_pool
from winnow_ray.generation.workers import answer_items


def pooled(
    config: GenerateConfig, source: str, requests: Sequence[Request], work: Path, workers: int
) -> Speed:
    """Answers by `jobs.generate`, from its request files to its committed answers."""
    store = AnswerStore(work)
    items = list(store.write_requests(requests, rows_per_batch=config.engine.batch_size))
    sized = replace(config, workers=WorkersConfig(min=workers, max=workers))
    report = answer_items(items, store, vllm_pool(sized, source, vectors=False))
    rows = [row for table in store.tables(["key", "text"]) for row in table.to_pylist()]
    return Speed(
        tokens=report.counts["output_tokens"],
        seconds=report.seconds,
        ends=report.ends,
        start_s=report.start_s,
        texts={row["key"]: row["text"] for row in rows},
        cached=report.counts["cached_tokens"] / max(report.counts["prompt_tokens"], 1),
    )


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """A cluster of that many nodes on this machine, each with an equal part of its CPUs."""
    node: dict[str, Any] = {
        "num_cpus": max((os.cpu_count() or 1) // nodes, 1),
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    divert()
    set_niceness()
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(nodes - 1):
            made.add_node(**node)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.WARNING)
        forward_worker_lines()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
