"""A recommendation dataset as a collection, so that one retriever serves search and feeds.

A document is an item in words. A query names a user's earlier likes, and relevant to it is what the
user liked next: every item, if several were liked at one time. Split train is drawn from training
likes. Split test asks for each user's held-out like, given the training likes before it. A held-out
pair appears in no query of split train and in no history.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from winnow.data.collection import Collection
from winnow.data.dataset import Dataset
from winnow.data.likes import Likes
from winnow.data.raw import Rejected, RejectedLines
from winnow.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class LikedQueriesConfig:
    """How many queries a dataset becomes, and how long they are."""

    queries: int = 5000
    """Most queries of split train; each is a random moment at which a user liked something."""
    test_queries: int = 2000
    """Most queries of split test; each is a random user."""
    history: int = 10
    """Most earlier likes that a query names; a title has up to 80 characters."""
    fewest: int = 3
    """Least earlier likes of a query; a moment with fewer makes none."""
    seed: int = 0
    """Seed of the moments and users."""

    def __post_init__(self) -> None:
        for name in ("queries", "test_queries", "history", "fewest"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"LikedQueriesConfig.{name} must be positive, got {getattr(self, name)}"
                )
        if self.fewest > self.history:
            raise ValueError(
                f"LikedQueriesConfig.fewest must be at most history ({self.history}), "
                f"got {self.fewest}"
            )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query before it is put into words; items are rows of the dataset's table."""

    query_id: str
    items: list[int]
    """Relevant items."""
    past: list[int]
    """Earlier likes, which become the query's words."""


def collection_of(dataset: Dataset, config: LikedQueriesConfig) -> tuple[Collection, RejectedLines]:
    """The collection, and the items and held-out likes that it leaves out.

    Raises:
        DataError: a split has no query.
    """
    skipped = RejectedLines()
    documents, item_ids = _documents(dataset, skipped)
    likes = Likes.of(dataset)
    user_ids = dataset.users["raw_id"].to_pylist()
    splits = {
        "train": _trained(likes, user_ids, item_ids, config),
        "test": _held_out(dataset, likes, user_ids, item_ids, config, skipped),
    }
    queries: dict[str, list[str]] = {"id": [], "text": []}
    qrels: dict[str, list[str]] = {"split": [], "query": [], "document": []}
    for split, asked in splits.items():
        before = len(queries["id"])
        for one in asked:
            queries["id"].append(one.query_id)
            queries["text"].append(likes.in_words(one.past))
            for item in one.items:
                qrels["split"].append(split)
                qrels["query"].append(one.query_id)
                qrels["document"].append(item_ids[item])
        if len(queries["id"]) == before:
            raise DataError(
                f"{dataset.artifact.uri} has no like for split {split} with {config.fewest} "
                "earlier ones; lower LikedQueriesConfig.fewest"
            )
    relevance = [1] * len(qrels["query"])
    return Collection.of(documents, queries, {**qrels, "relevance": relevance}), skipped


def _documents(
    dataset: Dataset, skipped: RejectedLines
) -> tuple[dict[str, list[str]], dict[int, str]]:
    """Columns of the documents, and the document id of each item row that has one."""
    columns: dict[str, list[str]] = {"id": [], "title": [], "text": []}
    ids: dict[int, str] = {}
    seen: set[str] = set()
    words = (dataset.items[name].to_pylist() for name in ("raw_id", "title", "text"))
    for row, (raw_id, title, text) in enumerate(zip(*words, strict=True)):
        if raw_id in seen or not (title.strip() or text.strip()):
            reason = "raw_id was there before" if raw_id in seen else "the item has no words"
            skipped.add(Rejected("items.parquet", row + 1, reason, raw_id))
            continue
        seen.add(raw_id)
        ids[row] = raw_id
        for name, value in (("id", raw_id), ("title", title), ("text", _after(title, text))):
            columns[name].append(value)
    return columns, ids


def _after(title: str, text: str) -> str:
    """`text` without the title that most readers put before it, so that it is not repeated."""
    rest = text[len(title) :]
    if not title or not text.startswith(title) or rest[:1].isalnum():
        return text
    return rest.lstrip(" .:,;-")


def _trained(
    likes: Likes, user_ids: list[str], item_ids: dict[int, str], config: LikedQueriesConfig
) -> Iterator[_Asked]:
    """Queries of split train: the likes of one user at one time, unless all were asked before."""
    seen: set[tuple[int, int]] = set()
    found = 0
    drawn = likes.moments(config.seed, length=config.history, fewest=config.fewest)
    for user, time, liked, past in drawn:
        if found == config.queries:
            return
        items = [item for item in liked if item in item_ids]
        pairs = {(user, item) for item in items}
        if not pairs <= seen:
            seen |= pairs
            found += 1
            yield _Asked(f"{user_ids[user]}@{time}", items, past)


def _held_out(
    dataset: Dataset,
    likes: Likes,
    user_ids: list[str],
    item_ids: dict[int, str],
    config: LikedQueriesConfig,
    skipped: RejectedLines,
) -> Iterator[_Asked]:
    """Queries of split test: held-out likes with enough likes before; others are listed."""
    holdout = dataset.split("holdout")
    found = 0
    for at in np.random.default_rng(config.seed).permutation(len(holdout)):
        if found == config.test_queries:
            return
        user, item, time = (int(of[at]) for of in (holdout.user_N, holdout.item_N, holdout.time_N))
        past = likes.past(user, [item], time, length=config.history)
        if item not in item_ids or len(past) < config.fewest:
            reason = "too few likes before" if item in item_ids else "the item has no words"
            skipped.add(Rejected("holdout", int(at) + 1, reason, ""))
            continue
        found += 1
        yield _Asked(f"{user_ids[user]}:{item_ids[item]}", [item], past)
