"""Encode every item with the retriever and build the index that recall searches.

    python -m jobs.build_index --config tiny --set dataset=runs/tiny/dataset \
        retriever=runs/tiny/retriever output=runs/tiny/index
    python -m jobs.build_index --config scifact      # documents, by the encoder trained on them
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.build_index --config movielens_1m --set index=ivf_pq workers=8
"""

from jobs._command import job_command
from winnow_ray.indexing.build_index import BuildIndexConfig, build_index


def scifact() -> BuildIndexConfig:
    """With what `jobs.train_retriever` made of its preset of that name."""
    return BuildIndexConfig(
        collection="runs/scifact/collection",
        model="runs/scifact/encoder",
        vectors="runs/scifact/encoder_vectors",
        output="runs/scifact/index",
    )


PRESETS = {
    "tiny": BuildIndexConfig,
    "simulate": BuildIndexConfig,
    "movielens_1m": BuildIndexConfig,
    "scifact": scifact,
}

run = build_index
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
