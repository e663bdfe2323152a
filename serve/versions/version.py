"""One loaded bundle, ready to answer."""

from dataclasses import dataclass
from itertools import cycle

from serve.versions.catalogue_words import CatalogueWords
from winnow.bundle import Bundle
from winnow.cascade import Cascade, Fallbacks
from winnow.cascade.lookup import Lookup
from winnow.cascade.request import RecommendRequest
from winnow.events import EventStore


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle ready to answer; `cascade` is None where the stages are other deployments."""

    version: str
    lookup: Lookup
    fallbacks: Fallbacks
    cascade: Cascade | None
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
    return Version(
        bundle.version,
        lookup=Lookup(bundle, events),
        fallbacks=Fallbacks(bundle),
        cascade=Cascade(bundle) if with_stages else None,
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
