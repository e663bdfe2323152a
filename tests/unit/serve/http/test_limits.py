"""Tokens and rates."""

import pytest

from serve.http.limits import Keys, RateLimit, digest
from serve.http.reply import Refusal


def refused(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


def test_without_tokens_all_but_admin_is_open():
    keys = Keys.of([], [], {})
    assert keys.check("Bearer anything") == keys.check(None) == ""
    refusal = refused(keys.check_admin, "Bearer anything")
    assert refusal.status == 403
    assert "WINNOW_ADMIN_TOKEN" in refusal.errors[0][1]


@pytest.mark.parametrize(
    "keys",
    [
        Keys([digest("one"), digest("two")], [digest("root")]),
        Keys.of([], [], {"WINNOW_TOKEN": "one, two", "WINNOW_ADMIN_TOKEN": "root"}),
    ],
    ids=["by digest", "by environment"],
)
def test_tokens_open_what_they_should(keys):
    for token in ("one", "two", "root"):
        assert keys.check(f"Bearer {token}") == digest(token)
        assert keys.check(f"bearer {token}") == digest(token)
    assert keys.check_admin("Bearer root") == digest("root")
    for header in (None, "", "one", "Basic one", "Bearer", "Bearer onetwo", "Bearer three"):
        assert refused(keys.check, header).status == 401
        assert refused(keys.check_admin, header).status == 401
    assert refused(keys.check_admin, "Bearer one").status == 401
    assert refused(keys.check, None).headers == {"www-authenticate": "Bearer"}


def test_a_client_gets_its_burst_and_then_its_rate(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    limit = RateLimit(2.0, 4)
    for _ in range(4):
        limit.check("a")
    refusal = refused(limit.check, "a")
    assert refusal.status == 429
    assert refusal.headers == {"retry-after": "1"}
    limit.check("b")  # another client is not concerned
    clock[0] += 0.5
    limit.check("a")
    assert refused(limit.check, "a").status == 429
    clock[0] += 3600
    for _ in range(4):
        limit.check("a")
    assert refused(limit.check, "a").status == 429


def test_a_part_of_a_request_counts_as_a_part():
    limit = RateLimit(0.001, 1)
    for _ in range(9):
        limit.check("a", 0.1)
    assert refused(limit.check, "a").status == 429
    limit.check("b", 0.5)


def test_no_rate_is_no_limit():
    assert RateLimit.of(0) is None


def test_the_memory_for_clients_is_bounded(monkeypatch):
    monkeypatch.setattr("serve.http.limits.MAX_CLIENTS", 3)
    limit = RateLimit(1.0, 1)
    for client in "abcd":
        limit.check(client)
    assert refused(limit.check, "d").status == 429
    limit.check("a")  # forgotten
