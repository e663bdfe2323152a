"""Ways to order a ranker's lists, and searches of an item tree, measured on held-out likes."""

import logging
from dataclasses import asdict
from typing import Any

from winnow.artifact import create_artifact, open_artifact
from winnow.bundle import check_parts
from winnow.config import json_text
from winnow.data.dataset import Dataset
from winnow.errors import GenerationError
from winnow.ranking.ranker import Ranker
from winnow_ray.evaluation.held_out_lists import EvaluationData
from winnow_ray.evaluation.reranker_config import (
    EvaluateRerankerConfig as EvaluateRerankerConfig,
)
from winnow_ray.evaluation.reranker_rows import goal_rows, table, tree_rows

logger = logging.getLogger("winnow.evaluate_reranker")


def evaluate_reranker(config: EvaluateRerankerConfig) -> dict[str, Any]:
    """Measure every way to order the lists, write the rows and log them as a table.

    Returns:
        The mode, the number of users, and the measures of each row.

    Raises:
        GenerationError: an endpoint is named without a model, or it answered nobody.
        DataError: the dataset has no user with a held-out like.

    Example:
        With the artifacts of `make demo`, and no language model:

            evaluate_reranker(EvaluateRerankerConfig(dataset="runs/simulate/dataset",
                ranker="runs/simulate/ranker", output="runs/simulate/reranking"))
    """
    if config.llm.url and not config.llm.served_model:
        raise GenerationError("llm.url names an endpoint, so llm.served_model must name its model")
    data = EvaluationData(Dataset.open(config.dataset))
    users = data.held_out(config.num_users, config.seed)
    parents = {"dataset": data.dataset.artifact}
    if config.mode == "goal":
        parents["ranker"] = open_artifact(config.ranker, kind="ranker")
        check_parts(data.dataset.artifact, {"ranker": parents["ranker"]})
    elif config.tree_labels:
        parents["generation"] = open_artifact(config.tree_labels, kind="generation")
        check_parts(data.dataset.artifact, {"generation": parents["generation"]})
    recorded = asdict(config)
    with create_artifact(config.output, "evaluation", config=recorded, parents=parents) as draft:
        if config.mode == "goal":
            rows, traces = goal_rows(config, data, users, Ranker.load(parents["ranker"].path))
        else:
            rows, traces = tree_rows(config, data, users, parents.get("generation"))
        result = {"mode": config.mode, "users": len(users), "rows": rows}
        (draft.path / "traces.jsonl").write_text("".join(json_text(t) + "\n" for t in traces))
        draft.metrics |= result
    logger.info("wrote %s\n%s", config.output, table(rows))
    return result
