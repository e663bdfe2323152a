"""Deploy a bundle on Ray Serve and answer HTTP requests until interrupted.

python -m jobs.serve --config local --set bundle=runs/simulate/bundle topology=split
serve deploy cluster/serve/recommend_fused.yaml          # on a running cluster
"""

from jobs._command import job_command
from winnow_ray.serving.serve import ServeConfig, serve


def local() -> ServeConfig:
    """One replica on this machine."""
    return ServeConfig()


def tiny() -> ServeConfig:
    """One replica, for tests: returns once the endpoint answers."""
    return ServeConfig(block=False)


PRESETS = {"tiny": tiny, "local": local}

run = serve
main = job_command(run, PRESETS, __doc__, default="local")


if __name__ == "__main__":
    main()
