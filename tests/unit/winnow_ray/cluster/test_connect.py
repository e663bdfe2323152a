"""A cluster that cannot be joined or started is one sentence."""

import pytest
import ray
from ray.exceptions import AuthenticationError

from winnow.errors import WinnowError
from winnow_ray.cluster.connect import connect


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /very/long"), "RAY_TMPDIR"),
        (ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"), "RAY_AUTH_MODE"),
        (AuthenticationError("no token was\nfound"), "RAY_AUTH_TOKEN_PATH"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_the_error_says_what_to_do(monkeypatch, error, advice):
    def fails(**_):
        raise error

    monkeypatch.setattr(ray, "init", fails)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(WinnowError, match=advice) as caught:
        connect()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.0.1:6379", None])
def test_only_the_cluster_that_the_environment_names_is_joined(monkeypatch, address):
    asked = []
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    connect()
    (options,) = asked
    assert options.get("address") == (None if address else "local")
