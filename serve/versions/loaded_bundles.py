"""The bundle versions that a process has loaded, and the one that answers each user.

A version is loaded and warmed beside those in use, then swapped in between two requests; a request
keeps its version to the end. The version in use before stays loaded, so going back is instant.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from serve.telemetry.log import logger
from winnow.artifact.node_copies import let_go
from winnow.bundle import Bundle
from winnow.cascade.answer import Variant
from winnow.errors import ArtifactError
from winnow.secrets import masked

MAX_WHY = 300
"""Characters of a foreign error's text in a refusal: a sentence or two."""


@dataclass(frozen=True, slots=True)
class BundleRef:
    """Where a version is read from, and the version found there."""

    uri: str
    """Where this very version lives, so that a later build cannot change what is there."""
    version: str

    @property
    def root(self) -> str:
        """The folder of versions that `uri` lies in; `uri` itself if it lies in none."""
        path, mark, query = self.uri.partition("?")
        return f"{path.removesuffix(f'/{self.version}')}{mark}{query}"


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
    number: int = 0
    """Counts the plans of a deployment; a later one is never replaced by an earlier one."""

    @property
    def versions(self) -> tuple[str, str]:
        """Versions of variants a and b; the second is empty without a candidate."""
        return self.bundle.version, self.candidate.version if self.candidate else ""

    def refs(self) -> list[BundleRef]:
        """All that must be loaded, those in use first."""
        return [ref for ref in (self.bundle, self.candidate, self.previous) if ref is not None]

    def with_bundle(self, bundle: BundleRef) -> "RolloutPlan":
        """The plan with another variant a; the version that it replaces is kept."""
        if bundle.version == self.bundle.version:
            return replace(self, bundle=bundle)
        return replace(self, bundle=bundle, previous=self.bundle)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RolloutPlan":
        for name in ("bundle", "candidate", "previous"):
            fields[name] = BundleRef(**fields[name]) if fields[name] else None
        return cls(**fields)


def planned(
    plan: RolloutPlan,
    bundle: BundleRef | None,
    variant: Variant = "a",
    share: float | None = None,
) -> RolloutPlan:
    """The plan after an order for one variant; a candidate without a share gets half the users.

    Variant b without a bundle ends the comparison.
    """
    if bundle is None:
        return replace(plan, candidate=None, share=0.0)
    if variant == "b":
        return replace(plan, candidate=bundle, share=0.5 if share is None else share)
    plan = plan.with_bundle(bundle)
    if plan.versions[1] in ("", bundle.version):  # the candidate won: the comparison ends
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
        self._switch = threading.Lock()
        self.plan: RolloutPlan | None = None
        """The plan that users are answered by."""
        self.wanted: RolloutPlan | None = None
        """The plan that all replicas were told to follow, where this one cannot."""

    @property
    def planned(self) -> RolloutPlan:
        """The plan that this process follows or would follow."""
        plan = self.wanted or self.plan
        assert plan is not None
        return plan

    @property
    def is_behind(self) -> bool:
        """Whether users are answered by other versions than planned."""
        return self.plan is not None and self.planned.versions != self.plan.versions

    def hold(self, uri: str, version: str | None = None) -> tuple[BundleRef, V]:
        """Verify and load the bundle unless it is held already.

        The files are read from a copy on this node, which stays whatever becomes of `uri`.

        Raises:
            ArtifactError: it is missing, corrupt, not the `version` that was expected, or cannot
                answer its probes.
        """
        with self._lock:
            if version in self._held:
                return BundleRef(uri, str(version)), self._held[str(version)]
            with _one_sentence(uri):
                bundle = Bundle.open(uri, version=version, on_node=True)
                if bundle.version not in self._held:
                    self._held[bundle.version] = self._load(bundle)
                    logger.info("bundle loaded: bundle=%s uri=%s", bundle.version, masked(uri))
            ref = BundleRef(bundle.artifact.version_uri, bundle.version)
            return ref, self._held[bundle.version]

    def load(self, plan: RolloutPlan) -> tuple[V, V | None]:
        """The plan's variants, loaded; users are answered as before.

        The previous version is not loaded for a plan.
        """
        standing = self.hold(plan.bundle.uri, plan.bundle.version)[1]
        if plan.candidate is None:
            return standing, None
        return standing, self.hold(plan.candidate.uri, plan.candidate.version)[1]

    def follow(self, plan: RolloutPlan) -> None:
        """Load the plan's variants, swap them in and let go of versions that it does not name.

        Nothing changes if a later plan was followed in the meantime.
        """
        standing, candidate = self.load(plan)
        with self._switch:
            if self.plan is not None and self.plan.number > plan.number:
                return
            self._in_use = (standing, candidate, plan.share)
            self.plan = plan
        self.keep(ref.version for ref in plan.refs())

    def keep(self, versions: Iterable[str]) -> None:
        """Let go of all versions but these."""
        wanted = set(versions)
        with self._lock:
            for version in self._held.keys() - wanted:
                del self._held[version]
                let_go(version)

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


@contextmanager
def _one_sentence(uri: str) -> Iterator[None]:
    """Turn whatever a strange bundle makes its readers raise into an ArtifactError."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:
        logger.exception("bundle not loaded: uri=%s", masked(uri))
        why = masked(f"{type(error).__name__}: {error}")[:MAX_WHY]
        raise ArtifactError(f"{masked(uri)} cannot be loaded: {why}") from error


def _position(user_id: str) -> float:
    """The user's hash as a position in [0, 1); users are spread evenly."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=4).digest()) / 2**32
