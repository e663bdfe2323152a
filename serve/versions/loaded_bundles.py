"""The bundle versions that a process has loaded, and which of them answers whom.

A version is loaded and warmed beside those in use and then swapped in between two requests; a
request keeps the one object that it was given to its end. The version that was in use before is
kept, so that going back to it is instant.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from serve.telemetry.log import logger
from winnow.bundle import Bundle
from winnow.errors import ArtifactError

Variant = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class BundleRef:
    """Where a version is read from, and the version that was found there."""

    uri: str
    version: str


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What all replicas are to have loaded; who makes a new one gives it to the registry."""

    bundle: BundleRef
    candidate: BundleRef | None = None
    share: float = 0.0
    """Of the users, those that the candidate answers as variant b."""
    previous: BundleRef | None = None
    deployed: str = ""
    """The `bundle` argument of the deployment that this plan began with."""
    user_config: dict[str, Any] | None = None
    """The Serve config's part that was given last; it counts again only when it changes."""

    def places(self) -> list[BundleRef]:
        return [p for p in (self.bundle, self.candidate, self.previous) if p is not None]

    def with_bundle(self, place: BundleRef) -> "RolloutPlan":
        """With another variant a; the version that it replaces is kept."""
        if place == self.bundle:
            return self
        return replace(self, bundle=place, previous=self.bundle)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RolloutPlan":
        for name in ("bundle", "candidate", "previous"):
            fields[name] = BundleRef(**fields[name]) if fields[name] else None
        return cls(**fields)


def planned(
    plan: RolloutPlan, place: BundleRef | None, variant: Variant = "a", share: float | None = None
) -> RolloutPlan:
    """The plan after an order for one variant; a candidate without a share gets half the users."""
    if variant == "b":
        return replace(plan, candidate=place, share=0.5 if share is None else share)
    plan = plan if place is None else plan.with_bundle(place)
    if plan.candidate in (None, plan.bundle):  # the candidate won, which ends the comparison
        return replace(plan, candidate=None, share=0.0)
    return plan if share is None else replace(plan, share=share)


class Loaded(Protocol):
    """What `load` makes of a bundle."""

    @property
    def version(self) -> str: ...


V = TypeVar("V", bound=Loaded)


class LoadedBundles(Generic[V]):
    """Loaded versions by name. Loading is slow and safe in any thread; the rest is instant."""

    def __init__(self, load: Callable[[Bundle], V]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._held: dict[str, V] = {}
        self._in_use: tuple[V, V | None, float] | None = None
        self.plan: RolloutPlan | None = None

    def hold(self, uri: str, version: str | None = None) -> tuple[BundleRef, V]:
        """Verify and load the bundle unless it is held already.

        Raises:
            ArtifactError: it is missing, corrupt, or not the `version` that was expected.
        """
        with self._lock:
            if version in self._held:
                return BundleRef(uri, str(version)), self._held[str(version)]
            bundle = _open(uri)
            if version is not None and bundle.version != version:
                raise ArtifactError(f"{uri} now holds bundle {bundle.version}, not {version}")
            if bundle.version not in self._held:
                self._held[bundle.version] = self._load(bundle)
                logger.info("bundle loaded: bundle=%s uri=%s", bundle.version, uri)
            return BundleRef(uri, bundle.version), self._held[bundle.version]

    def follow(self, plan: RolloutPlan) -> None:
        """Load what the plan names, swap it in and let go of the rest.

        The previous version is only a convenience: that it cannot be loaded is no fault.
        """
        wanted = [p for p in (plan.bundle, plan.candidate) if p is not None]
        loaded = [self.hold(place.uri, place.version)[1] for place in wanted]
        candidate = loaded[1] if plan.candidate is not None else None
        self._in_use = (loaded[0], candidate, plan.share)
        self.plan = plan
        self.keep(place.version for place in plan.places())

    def keep(self, versions: Iterable[str]) -> None:
        """Let go of all others."""
        wanted = set(versions)
        with self._lock:
            self._held = {name: held for name, held in self._held.items() if name in wanted}

    def choose(self, user_id: str | None) -> tuple[Variant, V]:
        """The version that answers this user: always the same one, on every replica."""
        assert self._in_use is not None
        standing, candidate, share = self._in_use
        if candidate is None or user_id is None or _point(user_id) >= share:
            return "a", standing
        return "b", candidate

    def get(self, version: str) -> V | None:
        return self._held.get(version)

    def others(self, version: str) -> list[V]:
        """The held versions but that one, those in use first."""
        names = [p.version for p in self.plan.places()] if self.plan else []
        return [held for n in names if n != version and (held := self._held.get(n)) is not None]


def _open(uri: str) -> Bundle:
    try:
        return Bundle.open(uri)
    except (OSError, ValueError) as error:  # of a place that cannot be one
        raise ArtifactError(f"{uri!r} cannot be read: {error}") from error


def _point(user_id: str) -> float:
    """Where in [0, 1) a user stands, as if drawn by chance."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=4).digest()) / 2**32
