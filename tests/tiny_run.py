"""A dataset and all that is trained on it, small, made in seconds by `winnow` alone.

One run of the tests makes it once: the processes of pytest-xdist share it under a lock.
"""

import fcntl
from dataclasses import asdict
from pathlib import Path

from winnow.artifact import Artifact, create_artifact, open_artifact
from winnow.bundle import PARTS, CascadeConfig, write_bundle
from winnow.bundle.item_paths import tree_paths
from winnow.bundle.lsa import lsa_vectors
from winnow.data.dataset import Dataset
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.readers.simulate import SimulateConfig, simulate
from winnow.ranking.experiment import Experiment as RankerExperiment, RankerConfig
from winnow.ranking.optimizer import OptimizerConfig
from winnow.ranking.ranker import save_ranker
from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.two_tower.experiment import RetrieverConfig, TwoTowerExperiment
from winnow.retrieval.two_tower.model import TwoTowerConfig
from winnow.retrieval.two_tower.retriever import Retriever
from winnow.retrieval.two_tower.train import TrainConfig

LOG = SimulateConfig(num_users=120, num_items=150, views_per_user=60)
TOWERS = TwoTowerConfig(dim=16, hidden=32, history=10, heads=2, vocab_size=500)
CASCADE = CascadeConfig(
    num_candidates=50,
    num_two_tower=20,
    num_text=10,
    num_recent=10,
    num_popular=10,
    num_reranked=20,
    max_k=20,
)
"""A handful of candidates per stage, for a catalogue of 150 items."""


def make_once(folder: Path) -> None:
    """Make the run in the folder, unless another process has made it."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "bundle").exists():  # the last one made
            make(folder)


def make(folder: Path) -> None:
    """Make the artifacts dataset, retriever, ranker, index and bundle."""
    with create_artifact(folder / "dataset", "dataset", config=asdict(LOG)) as draft:
        draft.metrics |= write_dataset(simulate(LOG), SplitConfig(), draft.path)
    dataset = Dataset.open(folder / "dataset")
    train_towers(dataset, folder / "retriever")
    train_ranker(dataset, folder / "ranker")
    build_index(dataset, folder)
    models = {name: open_artifact(folder / name, kind=name) for name in PARTS}
    build_bundle(dataset, models, folder / "bundle")


def train_towers(dataset: Dataset, output: Path) -> None:
    config = RetrieverConfig(
        dataset=str(dataset.artifact.path),
        model=TOWERS,
        train=TrainConfig(epochs=2, batch_size=256, lr=1e-2),
    )
    experiment = TwoTowerExperiment.open(config)
    checkpoint = output.with_name("checkpoint")
    checkpoint.mkdir()

    def keep(metrics: object, save) -> None:
        if save:
            save(checkpoint)

    experiment.train(keep, None)
    retriever = experiment.trained(read_checkpoint(checkpoint))
    parents = {"dataset": dataset.artifact}
    with create_artifact(output, "retriever", config=config.recorded(), parents=parents) as draft:
        retriever.save(draft.path)
        draft.metrics |= experiment.measure(retriever)


def train_ranker(dataset: Dataset, output: Path, **changes: object) -> None:
    config = RankerConfig(
        **{
            "model": "shared_bottom",
            "optimizer": OptimizerConfig(lr=1e-2, weight_decay=1e-6),
            "epochs": 3,
            "batch_size": 128,
        }
        | changes
    )
    experiment = RankerExperiment.open(config, dataset)
    experiment.train()
    result = experiment.measure()
    parents = {"dataset": dataset.artifact}
    with create_artifact(output, "ranker", config=asdict(config), parents=parents) as draft:
        draft.metrics |= result
        spec = config.spec().with_chosen(result["chosen"])
        save_ranker(draft.path, spec, dataset.schema, experiment.trainer.best_weights)


def build_index(dataset: Dataset, folder: Path) -> None:
    retriever = open_artifact(folder / "retriever", kind="retriever")
    vectors_ID = Retriever.load(retriever.path).encode_catalogue(dataset)
    parents = {"dataset": dataset.artifact, "retriever": retriever}
    with create_artifact(folder / "index", "index", config={}, parents=parents) as draft:
        ItemIndex.build(vectors_ID, "flat").save(draft.path)


def build_bundle(dataset: Dataset, models: dict[str, Artifact], output: Path) -> None:
    texts, paths = dataset.items["text"].to_pylist(), tree_paths(dataset, None)
    parents = {"dataset": dataset.artifact, **models}
    config = {"cascade": asdict(CASCADE), "encoder": "lsa"}
    with create_artifact(output, "bundle", config=config, parents=parents) as draft:
        draft.metrics |= write_bundle(
            dataset, models, CASCADE, lsa_vectors(texts), paths, draft.path
        )
