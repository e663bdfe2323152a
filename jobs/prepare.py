"""Turn raw logs into a dataset: split, encode, and keep rejected lines.

    python -m jobs.prepare --config simulate --set output=runs/demo/dataset
    python -m jobs.prepare --config movielens_1m --set data=/data/ml-1m output=runs/ml/dataset
    python -m jobs.prepare --config ali_ccp --set data=/data/ali-ccp output=/data/runs/ali/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.prepare --config movielens_1m --set data=/data/ml-1m output=s3://bucket/ml
"""

from jobs._command import job_command
from winnow.data.readers.simulate import SimulateConfig
from winnow_ray.data.prepare import PrepareConfig, prepare


def simulated() -> PrepareConfig:
    """A simulated click log with known click probabilities; nothing to download."""
    return PrepareConfig(reader="simulate", output="runs/simulate/dataset")


def tiny() -> PrepareConfig:
    """A simulated log small enough for tests."""
    small = SimulateConfig(num_users=120, num_items=150, views_per_user=60)
    return PrepareConfig(reader="simulate", simulate=small, output="runs/tiny/dataset")


def movielens_1m() -> PrepareConfig:
    """GroupLens' ml-1m folder, as distributed."""
    return PrepareConfig(reader="movielens", data="ml-1m", output="runs/movielens_1m/dataset")


def kuairand_1k() -> PrepareConfig:
    """The KuaiRand-1K folder, as distributed."""
    return PrepareConfig(reader="kuairand", data="KuaiRand-1K", output="runs/kuairand_1k/dataset")


def ali_ccp() -> PrepareConfig:
    """The four files of Ali-CCP in one folder: 85 million rows."""
    return PrepareConfig(reader="aliccp", data="ali-ccp", output="runs/ali_ccp/dataset")


def amazon() -> PrepareConfig:
    """Three 5-core review files of 2014."""
    return PrepareConfig(reader="amazon", data="amazon", output="runs/amazon/dataset")


def douban() -> PrepareConfig:
    """Reviews of books, music and movies by one set of users."""
    return PrepareConfig(reader="douban", data="douban", output="runs/douban/dataset")


def mind() -> PrepareConfig:
    """MINDlarge_train and MINDlarge_dev in one folder: 57 million rows."""
    return PrepareConfig(reader="mind", data="MIND", output="runs/mind/dataset")


PRESETS = {
    "tiny": tiny,
    "simulate": simulated,
    "movielens_1m": movielens_1m,
    "kuairand_1k": kuairand_1k,
    "ali_ccp": ali_ccp,
    "amazon": amazon,
    "douban": douban,
    "mind": mind,
}

run = prepare
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
