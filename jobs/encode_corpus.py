"""Encode every document of a collection, on as many workers as the cluster has room for.

    python -m jobs.encode_corpus --config scifact --set model=runs/scifact/encoder
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.encode_corpus --config scifact --set workers=(1,8) use_gpu=true

Every finished shard of documents is kept, so a killed run continues with the rest. The vectors of
one encoder and one collection are made once.
"""

from dataclasses import replace
from functools import partial

from jobs._command import job_command
from winnow_ray.indexing.corpus_vectors import EncodeCorpusConfig, encode_corpus


def on(name: str) -> EncodeCorpusConfig:
    """Collection of `jobs.prepare_collection` with the preset of the same name."""
    return EncodeCorpusConfig(collection=f"runs/{name}/collection", output=f"runs/{name}/vectors")


def tiny() -> EncodeCorpusConfig:
    """In this process, for tests; needs `model=<folder>`."""
    return replace(on("tiny"), workers=(0, 0), cpus_per_worker=1)


PRESETS = {"tiny": tiny} | {name: partial(on, name) for name in ("scifact", "beir", "movielens_1m")}

run = encode_corpus
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
