"""Names by content."""

import hashlib

from winnow.artifact.digests import run_key
from winnow.config import canonical_json


def test_a_run_key_is_the_hash_of_its_parts_in_order():
    text = canonical_json([{"b": 1, "a": "x"}, "digest"])
    assert run_key({"a": "x", "b": 1}, "digest") == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert run_key("digest", {"a": "x", "b": 1}) != run_key({"a": "x", "b": 1}, "digest")


def test_a_run_key_may_be_longer():
    assert run_key("a", digits=32).startswith(run_key("a"))
    assert len(run_key("a", digits=32)) == 32
