"""Rows of an evaluation of rerankers: baselines, and orders that a language model makes.

The rows of a language model also hold its cost: calls, tokens and milliseconds of a request, how
requests ended, which nodes were visited, and the shares of visits whose answer was repaired or of
no use. `candidate_tokens` of a search of the tree are those of the lists that the model read;
`flat_tokens` are those of one list of the whole catalogue, and `fewer_tokens` is the share saved.
Suffix: U users.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from winnow.artifact import Artifact
from winnow.bundle.item_paths import tree_paths
from winnow.errors import GenerationError
from winnow.llm.online.chat import Chat
from winnow.metrics.lists import hit_rate, ndcg
from winnow.ranking.ranker import Ranker
from winnow.reranking.evaluate import EvaluationList, baseline_orders, measured
from winnow.reranking.goal.aspects import standard_aspects
from winnow.reranking.goal.rerank import GoalGraph, GraphResult
from winnow.tree.chain import TreeResult, TreeSearch, filled
from winnow.tree.item_tree import ItemTree
from winnow.tree.questions import Question
from winnow_ray.evaluation.held_out_lists import EvaluationData, HeldOut
from winnow_ray.evaluation.reranker_config import GOALS, EvaluateRerankerConfig

logger = logging.getLogger("winnow.evaluate_reranker")

T = TypeVar("T")

Rows = dict[str, dict[str, Any]]

SEARCH_DEPTHS = (1, 3, 5, 10, 20)
"""Values of k in the measures of a search, those of the paper's tables."""
UNANSWERED = ("unavailable", "refused")
"""Ends of a request that the endpoint never answered."""
MEASURES = (
    *("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20"),
    *("alpha_ndcg@5", "alpha_ndcg_free@5", "mad", "mad_per_user", "ild", "coverage"),
    *("calls", "tokens", "fewer_tokens", "p50_ms", "p95_ms"),
)
"""Columns of the table, in order."""


def goal_rows(
    config: EvaluateRerankerConfig, data: EvaluationData, users: Sequence[HeldOut], ranker: Ranker
) -> tuple[Rows, list[dict[str, Any]]]:
    """Rows of the ways to order lists, and a trace of every walk through the goal graph."""
    lists = data.lists(
        users, ranker, pool=config.pool, length=config.num_candidates, seed=config.seed
    )
    facet, split = data.words.facet, data.split
    items = data.dataset.items.num_rows

    def row(orders: Sequence[Sequence[int]]) -> dict[str, Any]:
        return measured(lists, orders, facet=facet, split=split, num_items=items)

    rows = {name: row(orders) for name, orders in baseline_orders(lists, config.seed).items()}
    traces = []
    for goal in config.goals if config.llm.url else ():
        words = GOALS.get(goal, goal)

        def walks(chat: Chat, goal: str = words) -> Callable[[EvaluationList], Awaitable[Any]]:
            graph = GoalGraph(chat, standard_aspects(facet, split), config.graph)
            return lambda one: graph.rerank(
                one.user, one.history, one.candidates, goal, time.monotonic() + config.deadline_s
            )

        results: list[GraphResult] = asyncio.run(asked(config, lists, walks, goal))
        figures = endpoint_figures([result.trace.as_dict() for result in results])
        spent = milliseconds([result.trace.ms for result in results])
        rows[f"goal: {goal}"] = row([result.order for result in results]) | figures | spent
        traces += [{"goal": goal, **result.trace.as_dict()} for result in results]
    share = float(np.mean([one.positive >= 0 for one in lists]))
    return {name: {"with_positive": round(share, 4)} | row for name, row in rows.items()}, traces


def tree_rows(
    config: EvaluateRerankerConfig,
    data: EvaluationData,
    users: Sequence[HeldOut],
    generation: Artifact | None,
) -> tuple[Rows, list[dict[str, Any]]]:
    """Rows of searches of the whole catalogue, in the tree that a bundle would have."""
    popular = np.argsort(-data.likes_I, kind="stable").tolist()
    rows = {"popular": searched([_most_liked(user, popular, config.k) for user in users], users)}
    if not config.llm.url:
        return rows, []
    # within a leaf the most liked items come first, since a part of a leaf may fill the list
    tree = ItemTree.of(tree_paths(data.dataset, generation), popular)

    def searches(chat: Chat) -> Callable[[HeldOut], Awaitable[TreeResult]]:
        search = TreeSearch(chat, data.words.titles, data.likes_I, config.tree)
        return lambda user: search.recommend(
            data.titles(user.history),
            tree,
            config.k,
            time.monotonic() + config.deadline_s,
            set(user.known.tolist()),
        )

    results = asyncio.run(asked(config, users, searches, "tree"))
    figures = endpoint_figures([result.trace.as_dict() for result in results])
    spent = milliseconds([result.trace.ms for result in results])
    lists = float(np.mean([result.trace.candidate_tokens for result in results]))
    filled_up = sum(r.trace.filled for r in results) / max(1, sum(len(r.items) for r in results))
    rows["tree"] = searched([result.items for result in results], users) | figures | spent
    flat = Question("", "", data.words.titles, config.k).candidate_tokens
    rows["tree"] |= {
        "candidate_tokens": round(lists, 1),
        "flat_tokens": flat,
        "fewer_tokens": round(1 - lists / flat, 4),
        "filled_share": round(filled_up, 4),
    }
    return rows, [result.trace.as_dict() for result in results]


def _most_liked(user: HeldOut, popular: Sequence[int], k: int) -> Sequence[int]:
    """The k most liked items that the user has not seen."""
    known = set(user.known.tolist())
    return filled((), (item for item in popular if item not in known), k)


def searched(items: Sequence[Sequence[int]], users: Sequence[HeldOut]) -> dict[str, Any]:
    """Hit rate, which with one held-out item is recall, and NDCG of lists of item rows."""
    position_U = np.zeros(len(users), np.int64)
    for at, (found, user) in enumerate(zip(items, users, strict=True)):
        if user.item_row in found:
            position_U[at] = list(found).index(user.item_row) + 1
    measures = {"hr": hit_rate, "ndcg": ndcg}
    return {
        f"{name}@{k}": round(measure(position_U, k), 4)
        for name, measure in measures.items()
        for k in SEARCH_DEPTHS
    }


async def asked(
    config: EvaluateRerankerConfig,
    users: Sequence[T],
    maker: Callable[[Chat], Callable[[T], Awaitable[Any]]],
    what: str,
) -> list[Any]:
    """Results of all users, `config.concurrency` of them at a time.

    Raises:
        GenerationError: the endpoint answered nobody.
    """
    chat, slots, done = Chat(config.llm), asyncio.Semaphore(config.concurrency), Counter[str]()
    ask = maker(chat)

    async def one(user: T) -> Any:
        async with slots:
            result = await ask(user)
        done["users"] += 1
        if done["users"] % max(1, len(users) // 10) == 0:
            logger.info("%s: users=%d of %d", what, done["users"], len(users))
        return result

    try:
        results = await asyncio.gather(*map(one, users))
    finally:
        await chat.close()
    if all(result.trace.stop in UNANSWERED for result in results):
        raise GenerationError(
            f"{config.llm.url} answered none of {len(users)} users; check llm.url, "
            f"llm.served_model and that it takes response_format with a JSON schema"
        )
    return results


def endpoint_figures(traces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean calls and tokens of a request, and shares of repaired and useless answers."""
    nodes = [node for trace in traces for node in trace["nodes"]]
    repaired = sum(bool(node.get("repairs")) for node in nodes)
    useless = sum(node.get("how") == "fallback" for node in nodes)
    useless += sum(trace["stop"] == "fallback" for trace in traces)
    figures = {
        "calls": round(float(np.mean([trace["calls"] for trace in traces])), 2),
        "tokens": round(float(np.mean([trace["tokens"] for trace in traces])), 1),
        "repaired_share": round(repaired / max(1, len(nodes)), 4),
        "fallback_share": round(useless / max(1, len(nodes)), 4),
        "stops": dict(Counter(trace["stop"] for trace in traces)),
    }
    if nodes and "next" in nodes[0]:
        figures["visits"] = dict(Counter(node["node"] for node in nodes))
        figures["next"] = dict(Counter(node["next"] for node in nodes if node["next"]))
    return figures


def milliseconds(spent: Sequence[float]) -> dict[str, float]:
    """The 50th and 95th percentile."""
    return {f"p{q}_ms": round(float(np.percentile(spent, q)), 1) for q in (50, 95)}


def table(rows: Rows) -> str:
    """The rows as a Markdown table."""
    names = [name for name in MEASURES if any(name in row for row in rows.values())]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for title, row in rows.items():
        cells = ["-" if row.get(name) is None else f"{row[name]:g}" for name in names]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
