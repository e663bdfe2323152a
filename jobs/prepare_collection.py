"""Turn a search set or a recommendation dataset into a collection of documents and queries.

    python -m jobs.prepare_collection --config scifact --set data=/data/scifact
    python -m jobs.prepare_collection --config tiny --set dataset=runs/tiny/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.prepare_collection --config scifact --set data=/data/scifact output=s3://b/s
"""

from jobs._command import job_command
from winnow.retrieval.dataset_as_collection import LikedQueriesConfig
from winnow_ray.data.prepare_collection import PrepareCollectionConfig, prepare_collection


def scifact() -> PrepareCollectionConfig:
    """SciFact: claims of scientific papers (Wadden et al., EMNLP 2020), in BEIR's layout."""
    return PrepareCollectionConfig(reader="beir", data="scifact", output="runs/scifact/collection")


def beir() -> PrepareCollectionConfig:
    """Any set in BEIR's layout, in the folder `data`."""
    return PrepareCollectionConfig(reader="beir", data="beir", output="runs/beir/collection")


def movielens_1m() -> PrepareCollectionConfig:
    """Films of MovieLens-1M; queries are what a person liked before."""
    return PrepareCollectionConfig(
        reader="dataset",
        dataset="runs/movielens_1m/dataset",
        output="runs/movielens_1m/collection",
    )


def tiny() -> PrepareCollectionConfig:
    """A simulated log small enough for tests."""
    return PrepareCollectionConfig(
        reader="dataset",
        dataset="runs/tiny/dataset",
        output="runs/tiny/collection",
        likes=LikedQueriesConfig(queries=200, test_queries=50),
    )


PRESETS = {"tiny": tiny, "scifact": scifact, "beir": beir, "movielens_1m": movielens_1m}

run = prepare_collection
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
