import io
import logging

import pytest
from hypothesis import given, strategies as st

from winnow.secrets import MaskingFormatter, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:s3cret@cache:6379/0", "redis://***@cache:6379/0"),
        ("https://me:pw@llm.example/v1", "https://***@llm.example/v1"),
        ("s3://AK:se/cr@et@bucket/key", "s3://***@bucket/key"),  # not encoded, as people type it
        (
            "s3://bucket/key?secret_key=x&region=eu",
            "s3://bucket/key?secret_key=***&region=***",
        ),
        ("'s3://a:b@c/d' and \"gs://e:f@g\"", "'s3://***@c/d' and \"gs://***@g\""),
        ('{"events":"redis://:p@h"}', '{"events":"redis://***@h"}'),
        ("redis://:a@one,redis://:b@two", "redis://***@two"),
        ("/data/bundle", "/data/bundle"),
        ("mail me@example.org?subject=x", "mail me@example.org?subject=x"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text, shown):
    assert masked(text) == shown
    assert masked(shown) == shown


@given(st.text("ab:/@?&=% '", max_size=30), st.text("abc:/@%", min_size=1, max_size=20))
def test_no_user_part_passes_whatever_it_holds(before, secret):
    assert f"{secret}7391" not in masked(f"{before} s3://key:{secret}7391@bucket/x")
    assert f"{secret}7391" not in masked(f"{before} s3://bucket/x?token={secret}7391")


def test_log_lines_and_their_tracebacks_are_masked():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MaskingFormatter("%(message)s"))
    ours = logging.Logger("ours")
    ours.addHandler(handler)
    try:
        raise OSError("denied: s3://AK:s3cret@bucket/key")
    except OSError:
        ours.exception("cannot read %s", "s3://AK:s3cret@bucket/key")
    assert "OSError: denied: s3://***@bucket/key" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()
