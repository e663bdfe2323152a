"""A worker without an engine, and the sentence that names the cause."""

import asyncio
import os
import subprocess
import sys

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError, field_validator

from winnow.errors import GenerationError
from winnow.llm.engines.base import EngineUnavailable
from winnow_ray.generation.causes import cause_of, starting_engine
from winnow_ray.generation.workers import AnswerWorker, PoolReport

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


def test_an_interrupt_is_no_cause():
    with pytest.raises(KeyboardInterrupt), starting_engine():
        raise KeyboardInterrupt
    with pytest.raises(EngineUnavailable), starting_engine():
        raise RuntimeError("x")
