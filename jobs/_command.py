"""The command line of a job, with Ray's own output kept off the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from winnow.config import job_main
from winnow_ray.cluster.terminal import our_lines_only

C = TypeVar("C")


def job_command(
    run: Callable[[C], Mapping[str, Any]],
    presets: Mapping[str, Callable[[], C]],
    description: str | None,
    *,
    default: str | None = None,
) -> Callable[..., None]:
    """Make the `main` of a job's file.

    Args:
        run: the job, a function from config to result.
        presets: functions that make configs, by the name that `--config` takes.
        description: docstring of the job's file, shown by `--help`.
        default: preset of a command without `--config`; None if it must name one.
    """

    def main(argv: Sequence[str] | None = None) -> None:
        job_main(our_lines_only()(run), presets, description, argv, default=default)

    return main
