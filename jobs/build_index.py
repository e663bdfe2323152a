"""Encode every item with the retriever and build the index that recall searches.

    python -m jobs.build_index --config tiny --set dataset=runs/tiny/dataset \
        retriever=runs/tiny/retriever output=runs/tiny/index
    python -m jobs.build_index --config scifact      # documents, by the encoder trained on them
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.build_index --config movielens_1m --set index=ivf_pq workers=8
"""

from jobs._command import job_command
from winnow_ray.indexing.build_index import BuildIndexConfig, build_index


def catalogue() -> BuildIndexConfig:
    """Items of `dataset=`, encoded by `retriever=`."""
    return BuildIndexConfig()


def scifact() -> BuildIndexConfig:
    """Documents of SciFact, encoded by what `jobs.train_retriever --config scifact` trained."""
    return BuildIndexConfig(
        collection="runs/scifact/collection",
        model="runs/scifact/encoder",
        vectors="runs/scifact/encoder_vectors",
        output="runs/scifact/index",
    )


PRESETS = {"tiny": catalogue, "simulate": catalogue, "movielens_1m": catalogue, "scifact": scifact}

run = build_index
main = job_command(run, PRESETS, __doc__)

if __name__ == "__main__":
    main()
