"""Arguments that hold no secret, and the same ones for the job and for a Serve config."""

from dataclasses import fields

import pytest
from pydantic import ValidationError

from serve.args import LlmArgs, RecommendArgs, events_address
from winnow_ray.serving.serve import PASSED_ON, LlmConfig, ServeConfig

ADDRESSES = ["redis://:s3cret@10.0.0.9:6379/0", "rediss://u:s3cret@h", "redis://:s3cr[et@h:99999x"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("field", ["events", "llm"])
def test_a_password_is_refused_and_not_repeated(address, field):
    given = {"url": address} if field == "llm" else address
    with pytest.raises(ValidationError, match="WINNOW_EVENTS") as caught:
        RecommendArgs(bundle="/data/bundle", **{field: given})
    assert "s3cr" not in str(caught.value)
    given = {"llm": LlmConfig(url=address)} if field == "llm" else {"events": address}
    with pytest.raises(ValueError, match="WINNOW_EVENTS") as caught:
        ServeConfig(**given)
    assert "s3cr" not in str(caught.value)


def test_the_environment_may_hold_the_address_of_events(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert events_address("given", "app", {"WINNOW_EVENTS": "redis://:s3cret@h"}) == "given"
    assert events_address("", "app", {"WINNOW_EVENTS": "redis://:s@h"}) == "redis://:s@h"
    files = {events_address("", app, {}) for app in ("one", "two")}
    assert files == {f"{tmp_path}/winnow/events/{app}.sqlite" for app in ("one", "two")}


def test_the_job_has_every_argument_with_the_same_default():
    of_job = {field.name: field for field in fields(ServeConfig)}
    missing = RecommendArgs.model_fields.keys() - of_job.keys()
    assert missing == {"token_sha256", "admin_token_sha256"}  # from WINNOW_TOKEN
    others = {"bundle", "bundle_roots", "events", "llm"}
    assert {*PASSED_ON, *others} == RecommendArgs.model_fields.keys() - missing
    for name in PASSED_ON:
        default = of_job[name].default
        default = list(default) if isinstance(default, tuple) else default
        assert default == RecommendArgs.model_fields[name].default, name
    given = {field.name: field.default for field in fields(LlmConfig)}
    assert given == {name: field.default for name, field in LlmArgs.model_fields.items()}


def test_a_model_is_not_asked_for_longer_than_the_endpoint_allows():
    args = RecommendArgs(bundle="/data/bundle", llm={"deadline_ms": 5000})
    assert args.deadline_of("standard", None) == 1000
    assert args.deadline_of("standard", 60_000) == 60_000
    for mode in ("goal", "tree"):
        assert [args.deadline_of(mode, asked) for asked in (None, 300, 60_000)] == [5000, 300, 5000]
