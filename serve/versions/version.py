"""One loaded bundle, and one request on its way through it."""

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
    words: CatalogueWords | None
    """For the modes that ask a language model; None where they are not offered."""


def load(
    bundle: Bundle, events: EventStore, *, with_stages: bool, words: CatalogueWords | None = None
) -> Version:
    cascade = Cascade(bundle) if with_stages else None
    lookup, fallbacks = Lookup(bundle, events), Fallbacks(bundle)
    return Version(bundle.version, lookup, fallbacks, cascade, words)


def samples(version: Version, count: int) -> list[RecommendRequest]:
    """Requests of known users on every scenario, for warming up."""
    catalogue = version.lookup.catalogue()
    users = cycle(catalogue.users or ["nobody"])
    scenarios = cycle(name for _, name in catalogue.scenarios)
    k = min(10, catalogue.max_k)
    return [
        RecommendRequest(user_id=next(users), scenario=next(scenarios), k=k) for _ in range(count)
    ]
