"""The plan of bundles that all replicas of one application follow, kept by the cluster.

Ray's key-value store holds it, as it holds Serve's own state. The plan outlives every replica and
Serve's controller, and ends with the cluster. Its keys contain the controller's id, so an
application that was shut down and deployed again starts without a plan.

Plans are numbered, and each has a key of its own that is written once: of two replicas that make
the next plan at the same time, one is told that it was late.
"""

import json

import ray
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from serve.versions.loaded_bundles import RolloutPlan

SPACE = b"winnow_serve"
"""Namespace in the store, where other programs keep keys too."""


def instance_id(app: str) -> str:
    """Name of this deployment of Serve and the application in it."""
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    return f"{controller._actor_id.hex()}-{app}"


async def listening_host() -> str:
    """The interface on which Serve's proxies and replicas listen, if they do."""
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    options = await controller.get_http_config.remote()
    return options.host or "127.0.0.1"


class PlanStore:
    """The latest plan, the same for all replicas. Calls block."""

    def __init__(self, instance: str) -> None:
        self._prefix = f"plan:{instance}:"

    def read(self) -> RolloutPlan | None:
        """The latest plan; None before anything was written."""
        while numbers := self._numbers():
            text = _internal_kv_get(self._key(max(numbers)), namespace=SPACE)
            if text:
                return RolloutPlan.from_json(json.loads(text))
            # later ones were written in the meantime and this one was removed: look again
        return None

    def write(self, plan: RolloutPlan) -> bool:
        """Store the plan; False, with nothing stored, if one of that number or a later one is."""
        numbers = self._numbers()
        if numbers and max(numbers) >= plan.number:
            return False
        text = json.dumps(plan.to_json()).encode()
        if _internal_kv_put(self._key(plan.number), text, overwrite=False, namespace=SPACE):
            return False
        for number in numbers:
            if number < plan.number - 1:
                _internal_kv_del(self._key(number), namespace=SPACE)
        return True

    def _numbers(self) -> list[int]:
        keys = _internal_kv_list(self._prefix.encode(), namespace=SPACE)
        return [int(key.decode().removeprefix(self._prefix)) for key in keys]

    def _key(self, number: int) -> bytes:
        return f"{self._prefix}{number}".encode()
