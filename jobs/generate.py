"""Ask language models about a dataset with Ray Data and vLLM; a killed run continues.

    python -m jobs.generate --config simulate --set input=runs/demo/dataset
    python -m jobs.generate --config hard_negatives --set model=/models/qwen workers.max=8
    python -m jobs.generate --config hard_negatives --set input=pairs.parquet estimate=true
    python -m jobs.generate --config table --set prompts=mine.jsonl template=prompt.txt
    python -m jobs.generate --config batch --set input=requests.jsonl output=runs/batch
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.generate --config movielens_1m --set num_prompts.hard_negatives=100000
"""

from collections.abc import Callable
from functools import partial

from jobs._command import job_command
from winnow.llm.models.tiny_model import TinyConfig
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.registry import TASKS
from winnow_ray.generation.generate import GenerateConfig, generate

OWN_MODEL = "smollm2-135m"
"""Model of the prompts of one's own; the tiny one knows the words of a catalogue alone."""


def tiny() -> GenerateConfig:
    """A few prompts, to a model that is trained for five seconds on the spot."""
    return GenerateConfig(
        num_prompts={"hard_negatives": 12, "user_summary": 6},
        tiny_model=TinyConfig(hidden=64, vocabulary=1024, chats=20, answers=100, seconds=5.0),
        sampling=SamplingConfig(temperature=0.5),  # a hotter one draws stray bytes so early
    )


def usual() -> GenerateConfig:
    """Hard negatives and summaries of users, for the dataset of `input=`."""
    return GenerateConfig()


def only(task: str) -> GenerateConfig:
    """The task of that name alone."""
    return GenerateConfig(tasks=(task,))


def table() -> GenerateConfig:
    """Prompts of one's own: rows of `prompts=`, with `template=` and `schema=` if wanted."""
    return GenerateConfig(
        tasks=("table",), prompts="prompts.jsonl", output="runs/table", model=(OWN_MODEL,)
    )


def batch() -> GenerateConfig:
    """An OpenAI batch file of `input=`, into output.jsonl and errors.jsonl."""
    return GenerateConfig(
        tasks=("batch",),
        input="requests.jsonl",
        output="runs/batch",
        model=(OWN_MODEL,),
        sampling=SamplingConfig(temperature=1.0),  # OpenAI's own, for a body that sets none
    )


PRESETS: dict[str, Callable[[], GenerateConfig]] = {
    "tiny": tiny,
    "simulate": usual,
    "movielens_1m": usual,
    "table": table,
    "batch": batch,
    **{name: partial(only, name) for name in TASKS},
}

run = generate
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
