"""Requests with known answers: what a bundle must still answer before it answers anyone.

They are written with the bundle and kept in its `probes.json`: known users, a user that nobody
knows and a history without a user, on several scenarios, each with the top-k of the answer.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from winnow.bundle import Bundle
from winnow.bundle.bundle import PROBES
from winnow.cascade.graph import Cascade
from winnow.cascade.lookup import Lookup
from winnow.cascade.query import Outcome
from winnow.cascade.request import RecommendRequest
from winnow.errors import ArtifactError
from winnow.events import SqliteEvents

K = 10
"""Items of a probe's answer: what a page shows first."""
KNOWN_USERS = 2
"""Known users among the probes; together with a new user and a history, four askers."""
MOST = 32
"""Probes at most: some eight batches, a fraction of a second at each swap."""
TOLERANCE = 0.2
"""Share of the expected items that may differ. Other processors round scores otherwise, which
exchanges items of nearly equal scores."""
NEW_USER = "winnow-probe"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request and the item ids of its answer; None where the bundle holds no answer."""

    request: RecommendRequest
    items: tuple[str, ...] | None = None

    def disagreement(
        self, items: Sequence[str], outcome: Outcome, *, scored: bool, tolerance: float = TOLERANCE
    ) -> str | None:
        """What is wrong with an answer of these items, or None.

        Args:
            scored: the bundle has a ranker, so every item needs a score.
            tolerance: share of the expected items that may be missing.
        """
        if outcome.degraded:
            return f"{outcome.degraded[0].stage} {outcome.degraded[0].reason}"
        score_C = outcome.candidates.score_C[: len(items)]
        if scored and not np.isfinite(score_C).all():
            return "scores are no numbers"
        if self.items is None:
            return None
        if len(items) < len(self.items):
            return f"{len(items)} items instead of {len(self.items)}"
        missing = len(set(self.items) - set(items))
        if missing > tolerance * len(self.items):
            return f"{missing} of {len(self.items)} expected items are missing"
        return None

    def __str__(self) -> str:
        asked = self.request
        who = "a history" if asked.user_id is None else f"user {asked.user_id!r}"
        return f"{who} on scenario {asked.scenario!r}"


def write_probes(bundle: Bundle, folder: Path) -> None:
    """Ask a bundle its probes and write them, with the answers, into its folder.

    Raises:
        ArtifactError: an answer is degraded or has scores that are no numbers.
    """
    lookup, cascade = Lookup(bundle, SqliteEvents(":memory:")), Cascade(bundle)
    asked = []
    for request in probe_requests(bundle):
        query = lookup.resolve(request)
        (outcome,) = cascade([query])
        items = tuple(item.item_id for item in lookup.items(query, outcome.candidates))
        if wrong := Probe(request).disagreement(items, outcome, scored=bundle.is_trained):
            raise ArtifactError(f"the bundle cannot answer {Probe(request)}: {wrong}")
        asked.append({"request": _fields(request), "items": items})
    probes = {"tolerance": TOLERANCE, "probes": asked}
    (folder / PROBES).write_text(json.dumps(probes, indent=1, ensure_ascii=False) + "\n")


def read_probes(bundle: Bundle) -> tuple[list[Probe], float]:
    """The bundle's probes and their tolerance.

    A bundle that was written before there were probes has requests without expected items.

    Raises:
        ArtifactError: `probes.json` holds something else.
    """
    path = bundle.part(PROBES)
    if not path.is_file():
        return [Probe(request) for request in probe_requests(bundle)], TOLERANCE
    try:
        written = json.loads(path.read_text())
        return [_probe(row) for row in written["probes"]], float(written["tolerance"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path} holds no probes: {error!r}") from error


def probe_requests(bundle: Bundle) -> list[RecommendRequest]:
    """Askers times scenarios, at most MOST."""
    known = bundle.users["raw_id"].slice(0, KNOWN_USERS).to_pylist()
    liked = [bundle.items["raw_id"][int(row)].as_py() for row in bundle.popular[0][:3]]
    askers: list[dict[str, Any]] = [*({"user_id": user} for user in known), {"user_id": NEW_USER}]
    if liked:
        askers.append({"history": tuple(liked)})
    k = min(K, bundle.cascade.max_k)
    pairs = product(bundle.schema.scenarios, askers)
    return [RecommendRequest(scenario=name, k=k, **asker) for name, asker in islice(pairs, MOST)]


def _fields(request: RecommendRequest) -> dict[str, Any]:
    """The fields that a probe sets."""
    fields = asdict(request)
    return {name: fields[name] for name in ("user_id", "history", "scenario", "k")}


def _probe(row: dict[str, Any]) -> Probe:
    fields, items = dict(row["request"]), row["items"]
    if fields.get("history") is not None:
        fields["history"] = tuple(fields["history"])
    return Probe(RecommendRequest(**fields), tuple(items))
