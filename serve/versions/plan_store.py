"""The plan of bundles that all replicas of one application follow, kept by the cluster.

Ray's key-value store holds it, as it holds Serve's own state. The plan outlives every replica and
Serve's controller, and ends with the cluster. Its key contains the controller's id, so an
application that was shut down and deployed again starts without a plan.
"""

import json

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
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
    """One plan, the same for all replicas; the last write wins. Calls block."""

    def __init__(self, instance: str) -> None:
        self._key = f"plan:{instance}".encode()

    def read(self) -> RolloutPlan | None:
        """The plan; None before anything was written."""
        text = _internal_kv_get(self._key, namespace=SPACE)
        return RolloutPlan.from_json(json.loads(text)) if text else None

    def write(self, plan: RolloutPlan) -> None:
        _internal_kv_put(self._key, json.dumps(plan.to_json()).encode(), namespace=SPACE)
