"""Encode every item with the retriever and build the index that recall searches.

    python -m jobs.build_index --config tiny --set dataset=runs/tiny/dataset \
        retriever=runs/tiny/retriever output=runs/tiny/index
    python -m jobs.build_index --config scifact      # documents, by the encoder trained on them
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.build_index --config movielens_1m --set index=ivf_pq workers=8
"""

from functools import partial

from jobs._command import job_command
from winnow_ray.indexing.build_index import BuildIndexConfig, build_index


def catalogue() -> BuildIndexConfig:
    """Items of `dataset=`, encoded by `retriever=`."""
    return BuildIndexConfig()


def documents(name: str) -> BuildIndexConfig:
    """Documents of a collection, encoded by what `jobs.train_retriever` of that preset trained."""
    return BuildIndexConfig(
        collection=f"runs/{name}/collection",
        model=f"runs/{name}/encoder",
        vectors=f"runs/{name}/encoder_vectors",
        output=f"runs/{name}/index",
    )


PRESETS = dict.fromkeys(("tiny", "simulate", "movielens_1m"), catalogue) | {
    name: partial(documents, name) for name in ("scifact", "beir")
}

run = build_index
main = job_command(run, PRESETS, __doc__)

if __name__ == "__main__":
    main()
