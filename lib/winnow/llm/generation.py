"""The generation artifact's table, and where answers wait until it is complete.

Every finished batch becomes one part file in a work folder beside the output, written under a
hidden name and renamed, so a part file is whole or absent. A run that is killed loses only the
batches in flight: the next one reads the keys of the part files and asks for the rest.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from winnow.llm.registry import text_task
from winnow.llm.request import Request

__all__ = ["ANSWERS_FILE", "ANSWER_SCHEMA", "AnswerStore", "answer_row", "missing", "summary"]

ANSWERS_FILE = "answers.parquet"
"""The one file of a generation artifact."""

ANSWER_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("task", pa.string()),
        ("inputs", pa.string()),
        ("text", pa.string()),
        ("parsed", pa.string()),
        ("valid", pa.bool_()),
        ("repair", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("model", pa.string()),
        ("template", pa.string()),
        ("sampling", pa.string()),
    ]
)


class AnswerStore:
    """Requests and part files of answers in one work folder (a path or a `pyarrow.fs` URI)."""

    def __init__(self, work: str | Path) -> None:
        if "://" in str(work):
            self._fs, self._root = fs.FileSystem.from_uri(str(work))
        else:
            self._fs, self._root = fs.LocalFileSystem(), str(Path(work).absolute())

    @property
    def filesystem(self) -> fs.FileSystem:
        return self._fs

    def write_requests(self, requests: Sequence[Request], rows_per_file: int) -> list[str]:
        """Write Parquet files of at most `rows_per_file` requests; returns their paths."""
        folder = f"{self._root}/requests-{uuid.uuid4().hex}"
        self._fs.create_dir(folder, recursive=True)
        paths = []
        for start in range(0, len(requests), rows_per_file):
            rows = [asdict(request) for request in requests[start : start + rows_per_file]]
            paths.append(f"{folder}/{start:09d}.parquet")
            pq.write_table(pa.Table.from_pylist(rows), paths[-1], filesystem=self._fs)
        return paths

    def commit(self, answers: pa.Table) -> None:
        """Keep a batch of answers; after the return they survive the end of this process."""
        folder = f"{self._root}/answers"
        self._fs.create_dir(folder, recursive=True)
        name = f"{uuid.uuid4().hex}.parquet"
        pq.write_table(
            answers.select(ANSWER_SCHEMA.names).cast(ANSWER_SCHEMA),
            f"{folder}/.{name}",
            filesystem=self._fs,
        )
        self._fs.move(f"{folder}/.{name}", f"{folder}/{name}")

    def answers(self, keys: Iterable[str], finished: pa.Table | None = None) -> pa.Table:
        """The stored answers to `keys`, one row a key, in the order of `keys`.

        Args:
            keys: content keys that are wanted; those without an answer are left out.
            finished: answers of an earlier artifact; they go before those of the part files.
        """
        parts = [pq.read_table(path, filesystem=self._fs) for path in self._part_files()]
        every = pa.concat_tables([finished or ANSWER_SCHEMA.empty_table(), *parts])
        place: dict[str, int] = {}
        for row, key in enumerate(every["key"].to_pylist()):
            place.setdefault(key, row)
        wanted = [place[key] for key in dict.fromkeys(keys) if key in place]
        return every.take(pa.array(wanted, pa.int64()))

    def clear(self) -> None:
        """Remove the work folder."""
        if self._fs.get_file_info(self._root).type == fs.FileType.Directory:
            self._fs.delete_dir(self._root)

    def _part_files(self) -> list[str]:
        selector = fs.FileSelector(f"{self._root}/answers", allow_not_found=True)
        return sorted(
            info.path
            for info in self._fs.get_file_info(selector)
            if info.path.endswith(".parquet") and not info.base_name.startswith(".")
        )


def missing(requests: Sequence[Request], answers: pa.Table) -> list[Request]:
    """The requests whose key has no row in `answers`."""
    done = set(answers["key"].to_pylist())
    return [request for request in requests if request.key not in done]


def answer_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One engine output as a row of `ANSWER_SCHEMA`, plus `seconds` that the engine took.

    The engine stage of Ray Data does not pass on why an answer ended. So `finish_reason` is
    `error` if the engine refused the row, `length` if the tokens ran out or the object was left
    open (the context was full), else `stop`.
    """
    inputs, error = json.loads(row["inputs"]), row["__inference_error__"]
    text = "" if error else row["generated_text"]
    response = text_task(row["task"]).read(inputs, text)
    most = json.loads(row["sampling"])["max_tokens"]
    cut = row["num_generated_tokens"] >= most or not text.rstrip().endswith(("}", "```"))
    return {
        **{name: row[name] for name in ("key", "task", "inputs", "template", "sampling")},
        "text": text,
        "parsed": None if response.parsed is None else json.dumps(response.parsed),
        "valid": response.valid,
        "repair": f"failed: {error}" if error else response.repair,
        "finish_reason": "error" if error else "length" if cut else "stop",
        "prompt_tokens": row["num_input_tokens"],
        "output_tokens": row["num_generated_tokens"],
        "model": row["answered_by"],
        "seconds": max(row["time_taken_llm"], 0.0),
    }


def summary(answers: pa.Table) -> dict[str, Any]:
    """Counts and shares over all answers, and for each task."""

    def share(rows: list[dict[str, Any]]) -> float:
        return round(float(sum(row["valid"] for row in rows)) / max(len(rows), 1), 4)

    rows = answers.select(["task", "valid", "repair", "output_tokens"]).to_pylist()
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    return {
        "prompts": len(rows),
        "valid_share": share(rows),
        "repaired": sum(row["repair"].startswith("repaired") for row in rows),
        "output_tokens": sum(row["output_tokens"] for row in rows),
        "tasks": {
            name: {"prompts": len(part), "valid_share": share(part)}
            for name, part in by_task.items()
        },
    }
