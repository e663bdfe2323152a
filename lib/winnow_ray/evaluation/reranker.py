"""Ways to order a ranker's lists, or to search an item tree, measured on held-out likes."""

import json
import logging
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from winnow.artifact import create_artifact, open_artifact
from winnow.bundle import check_parts
from winnow.data.dataset import Dataset
from winnow.errors import GenerationError
from winnow.llm.engines.http import HttpConfig
from winnow.llm.online.chat import online
from winnow.ranking.ranker import Ranker
from winnow.reranking.goal.rerank import GoalGraphConfig
from winnow.tree.chain import TreeSearchConfig
from winnow_ray.evaluation.held_out_lists import EvaluationData
from winnow_ray.evaluation.reranker_rows import GOALS, goal_rows, table, tree_rows

logger = logging.getLogger("winnow.evaluate_reranker")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateRerankerConfig:
    dataset: str = "runs/dataset"
    ranker: str = "runs/ranker"
    output: str = "runs/reranking"
    mode: Literal["goal", "tree"] = "goal"
    num_users: int = 1000
    """With an endpoint, each costs some calls for every goal."""
    pool: int = 100
    """Unseen items beside the held-out one from which the ranker takes a list; 0: all there are."""
    num_candidates: int = 20
    """Items of a list."""
    goals: tuple[str, ...] = tuple(GOALS)
    """Names of goals, or goals in words."""
    k: int = 20
    """Items of a search."""
    tree_labels: str = ""
    """As in `jobs.build_bundle`."""
    llm: HttpConfig = field(default_factory=online)
    """Endpoint and model; without `llm.url` no model is asked."""
    graph: GoalGraphConfig = field(default_factory=lambda: GoalGraphConfig(max_visits=5))
    tree: TreeSearchConfig = field(default_factory=TreeSearchConfig)
    concurrency: int = 8
    """Users at once."""
    deadline_s: float = 120.0
    """Of one user."""
    seed: int = 0


def evaluate_reranker(config: EvaluateRerankerConfig) -> dict[str, Any]:
    """Measure every row, write them and print them as a table."""
    if config.llm.url and not config.llm.served_model:
        raise GenerationError("llm.url names an endpoint, so llm.served_model must name its model")
    data = EvaluationData(Dataset.open(config.dataset))
    users = data.held_out(config.num_users, config.seed)
    parents = {"dataset": data.dataset.artifact}
    if config.mode == "goal":
        parents["ranker"] = open_artifact(config.ranker, kind="ranker")
        rows, traces = goal_rows(config, data, users, Ranker.load(parents["ranker"].path))
    else:
        labels = None
        if config.tree_labels:
            labels = parents["generation"] = open_artifact(config.tree_labels, kind="generation")
            check_parts(data.dataset.artifact, {"generation": labels})
        rows, traces = tree_rows(config, data, users, labels)
    result = {"mode": config.mode, "users": len(users), "rows": rows}
    recorded = asdict(config)
    with create_artifact(config.output, "evaluation", config=recorded, parents=parents) as draft:
        (draft.path / "traces.jsonl").write_text("".join(json.dumps(t) + "\n" for t in traces))
        draft.metrics |= result
    logger.info("wrote %s\n%s", config.output, table(rows))
    return result
