"""One loaded bundle, ready to answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from serve.versions.catalogue_words import CatalogueWords
from winnow.bundle import Bundle
from winnow.cascade import Cascade, Fallbacks
from winnow.cascade.lookup import Lookup
from winnow.cascade.probes import Probe, read_probes
from winnow.cascade.request import RecommendRequest
from winnow.events import EventStore


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle ready to answer; `cascade` is None where the stages are other deployments."""

    version: str
    lookup: Lookup
    fallbacks: Fallbacks
    cascade: Cascade | None
    probes: Sequence[Probe]
    """What the version is asked before it answers anyone."""
    tolerance: float
    """Share of a probe's expected items that may be missing."""
    is_trained: bool
    """Whether every answer must have scores."""
    catalogue_words: CatalogueWords | None
    """What a language model is told of the bundle; None where its modes are not offered."""


def load(
    bundle: Bundle,
    events: EventStore,
    *,
    with_stages: bool,
    catalogue_words: CatalogueWords | None = None,
) -> Version:
    """Read the bundle's tables and, `with_stages`, its models and indexes."""
    probes, tolerance = read_probes(bundle)
    return Version(
        bundle.version,
        lookup=Lookup(bundle, events),
        fallbacks=Fallbacks(bundle),
        cascade=Cascade(bundle) if with_stages else None,
        probes=probes,
        tolerance=tolerance,
        is_trained=bundle.is_trained,
        catalogue_words=catalogue_words,
    )


def samples(version: Version, count: int) -> list[RecommendRequest]:
    """Requests of known users, scenario by scenario, for warming up."""
    catalogue = version.lookup.catalogue()
    users = cycle(catalogue.users or ["nobody"])
    scenarios = cycle(scenario.name for scenario in catalogue.scenarios)
    k = min(10, catalogue.max_k)
    return [
        RecommendRequest(user_id=next(users), scenario=next(scenarios), k=k) for _ in range(count)
    ]
