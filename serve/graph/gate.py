"""The gate before a swap: a version must answer its probes before it answers a user."""

import time
from collections.abc import Sequence

from serve.graph.request_state import RequestState
from serve.versions.version import Version
from winnow.cascade.query import Outcome
from winnow.cascade.request import RequestError
from winnow.errors import ArtifactError

WARM_S = 600.0
"""Time that warming and probes may take; no stage is skipped in it."""
AT_A_TIME = 4
"""Probes of a batch, as many as the endpoint computes together by default."""


def probe_batches(version: Version) -> list[list[RequestState]]:
    """The version's probes, resolved without live events, which would change the answers.

    Raises:
        ArtifactError: the version cannot resolve a probe.
    """
    lookup, end_s = version.lookup.without_events(), time.monotonic() + WARM_S
    states = []
    for probe in version.probes:
        try:
            query = lookup.resolve(probe.request)
        except RequestError as error:
            raise _refusal(version, f"it cannot answer {probe}: {error}") from error
        states.append(RequestState(probe.request, end_s, version, query))
    return [states[start : start + AT_A_TIME] for start in range(0, len(states), AT_A_TIME)]


def check_probes(
    version: Version,
    states: Sequence[RequestState],
    results: Sequence[Outcome | Exception],
) -> None:
    """Raise ArtifactError unless each answer is whole and the one that the bundle was built with.

    Args:
        states: a batch of `probe_batches`.
        results: what a graph made of it.
    """
    probes = {id(probe.request): probe for probe in version.probes}
    for state, outcome in zip(states, results, strict=True):
        probe = probes[id(state.request)]
        if isinstance(outcome, Exception):
            raise _refusal(version, f"it cannot answer {probe}: {outcome}") from outcome
        if state.version is not version:
            raise _refusal(version, f"a stage that lacks it had to answer {probe}")
        rows = version.lookup.items(state.resolve(), outcome.candidates)
        wrong = probe.disagreement(
            [row.item_id for row in rows],
            outcome,
            scored=version.is_trained,
            tolerance=version.tolerance,
        )
        if wrong:
            raise _refusal(version, f"its answer to {probe} is wrong: {wrong}")


def _refusal(version: Version, why: str) -> ArtifactError:
    return ArtifactError(f"bundle {version.version} is not swapped in, as {why}")
