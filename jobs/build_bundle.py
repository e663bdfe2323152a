"""Put everything that serving loads into one directory.

    python -m jobs.build_bundle --config local --set dataset=runs/d retriever=runs/r \
        index=runs/i ranker=runs/k output=runs/bundle
    python -m jobs.build_bundle --config untrained --set dataset=runs/d \
        tree_labels=runs/generation output=runs/bundle

The second command is for a catalogue whose log is too short to train on. Recall then uses
popularity and words, rank keeps that order, and a language model can search the item tree.
"""

from jobs._command import job_command
from winnow.bundle import CascadeConfig
from winnow_ray.serving.build_bundle import BundleConfig, build_bundle


def local() -> BundleConfig:
    """Default sizes of the stages."""
    return BundleConfig()


def tiny() -> BundleConfig:
    """A handful of candidates per stage, for catalogues of a hundred items."""
    small = CascadeConfig(
        num_candidates=50,
        num_two_tower=20,
        num_text=10,
        num_recent=10,
        num_popular=10,
        num_reranked=20,
        max_k=20,
    )
    return BundleConfig(cascade=small)


def untrained() -> BundleConfig:
    """A catalogue without trained models, with or without labels for its tree."""
    return BundleConfig(retriever="", index="", ranker="")


PRESETS = {"tiny": tiny, "local": local, "untrained": untrained}

run = build_bundle
main = job_command(run, PRESETS, __doc__)

if __name__ == "__main__":
    main()
