"""Settings of an evaluation of rerankers."""

from dataclasses import dataclass, field
from typing import Literal

from winnow.llm.engines.http import HttpConfig
from winnow.llm.online.chat import online
from winnow.reranking.goal.walk import GoalGraphConfig
from winnow.tree.search import TreeSearchConfig

GOALS = {
    "accuracy": "Accuracy is what counts.",
    "diversity": "Diversity is what counts; accuracy comes second.",
    "fairness": "Fairness is what counts; accuracy comes second.",
    "balance": "Accuracy, diversity and fairness count alike.",
}
"""Goals as the model reads them, by the name that the table shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateRerankerConfig:
    """The users and lists of an evaluation, and the language model that orders them."""

    dataset: str = "runs/dataset"
    """Dataset artifact whose held-out likes are looked for."""
    ranker: str = "runs/ranker"
    """Ranker artifact that makes the lists; `mode=tree` reads none."""
    output: str = "runs/reranking"
    """Evaluation artifact to write, with a trace of every request."""
    mode: Literal["goal", "tree"] = "goal"
    """`goal` orders the ranker's lists, `tree` searches the whole catalogue."""
    num_users: int = 1000
    """Most users; with an endpoint, each costs some calls for every goal."""
    pool: int = 100
    """Unseen items beside the held-out one from which the ranker takes a list; 0: all of them."""
    num_candidates: int = 20
    """Items of a list."""
    goals: tuple[str, ...] = tuple(GOALS)
    """Names of goals (accuracy, diversity, fairness, balance), or goals in words."""
    k: int = 20
    """Items that a search of the tree returns."""
    tree_labels: str = ""
    """Generation artifact with tree labels, which make the tree; empty: a tree of plain values."""
    llm: HttpConfig = field(default_factory=online)
    """Endpoint and model; without `llm.url` no model is asked."""
    graph: GoalGraphConfig = field(default_factory=lambda: GoalGraphConfig(max_visits=5))
    """Walk through the goal graph."""
    tree: TreeSearchConfig = field(default_factory=TreeSearchConfig)
    """Search of the item tree."""
    concurrency: int = 8
    """Users that are asked about at the same time."""
    deadline_s: float = 120.0
    """Time for one user; what is not done by then stays as the ranker left it."""
    seed: int = 0
    """Seed of the users, the pools and the random order."""
