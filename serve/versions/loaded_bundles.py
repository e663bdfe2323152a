"""The bundle versions that a process has loaded, and the one that answers each user.

A version is loaded and warmed beside those in use, then swapped in between two requests; a request
keeps its version to the end. The version in use before stays loaded, so going back is instant.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from serve.telemetry.log import logger
from winnow.bundle import Bundle
from winnow.cascade.answer import Variant
from winnow.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class BundleRef:
    """Where a version is read from, and the version found there."""

    uri: str
    version: str


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What all replicas must have loaded; the replica that makes a new plan stores it."""

    bundle: BundleRef
    """Answers as variant a."""
    candidate: BundleRef | None = None
    """Answers as variant b."""
    share: float = 0.0
    """Share of the users that the candidate answers."""
    previous: BundleRef | None = None
    """Replaced by `bundle` and kept loaded."""
    deployed: str = ""
    """The `bundle` argument of the deployment that this plan began with."""
    user_config: dict[str, Any] | None = None
    """The latest `user_config` of the Serve config; it counts again only when it changes."""

    @property
    def versions(self) -> tuple[str, str]:
        """Versions of variants a and b; the second is empty without a candidate."""
        return self.bundle.version, self.candidate.version if self.candidate else ""

    def refs(self) -> list[BundleRef]:
        """All that must be loaded, those in use first."""
        return [ref for ref in (self.bundle, self.candidate, self.previous) if ref is not None]

    def with_bundle(self, bundle: BundleRef) -> "RolloutPlan":
        """The plan with another variant a; the version that it replaces is kept."""
        if bundle == self.bundle:
            return self
        return replace(self, bundle=bundle, previous=self.bundle)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RolloutPlan":
        for name in ("bundle", "candidate", "previous"):
            fields[name] = BundleRef(**fields[name]) if fields[name] else None
        return cls(**fields)


def planned(
    plan: RolloutPlan, bundle: BundleRef, variant: Variant = "a", share: float | None = None
) -> RolloutPlan:
    """The plan after an order for one variant; a candidate without a share gets half the users."""
    if variant == "b":
        return replace(plan, candidate=bundle, share=0.5 if share is None else share)
    plan = plan.with_bundle(bundle)
    if plan.candidate in (None, plan.bundle):  # the candidate won: the comparison ends
        return replace(plan, candidate=None, share=0.0)
    return plan if share is None else replace(plan, share=share)


class Loaded(Protocol):
    """A loaded bundle: whatever `load` returns, with its version."""

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
        """Load the plan's variants, swap them in and let go of versions that it does not name.

        The previous version is kept if it is loaded, and not loaded for the plan.
        """
        standing = self._loaded(plan.bundle)
        candidate = self._loaded(plan.candidate) if plan.candidate else None
        self._in_use = (standing, candidate, plan.share)
        self.plan = plan
        self.keep(ref.version for ref in plan.refs())

    def _loaded(self, ref: BundleRef) -> V:
        return self.hold(ref.uri, ref.version)[1]

    def keep(self, versions: Iterable[str]) -> None:
        """Let go of all versions but these."""
        wanted = set(versions)
        with self._lock:
            self._held = {name: held for name, held in self._held.items() if name in wanted}

    def choose(self, user_id: str | None) -> tuple[Variant, V]:
        """The version that answers the user: the same one every time, on every replica."""
        assert self._in_use is not None
        standing, candidate, share = self._in_use
        if candidate is None or user_id is None or _position(user_id) >= share:
            return "a", standing
        return "b", candidate

    def get(self, version: str) -> V | None:
        return self._held.get(version)

    def others(self, version: str) -> list[V]:
        """The held versions without that one, those in use first."""
        names = [ref.version for ref in self.plan.refs()] if self.plan else []
        return [held for n in names if n != version and (held := self._held.get(n)) is not None]


def _open(uri: str) -> Bundle:
    try:
        return Bundle.open(uri)
    except (OSError, ValueError) as error:  # not a path or URI at all
        raise ArtifactError(f"{uri!r} cannot be read: {error}") from error


def _position(user_id: str) -> float:
    """The user's hash as a position in [0, 1); users are spread evenly."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=4).digest()) / 2**32
