"""The application refuses to be open by itself, whoever deploys it."""

import pytest

from serve.args import RecommendArgs
from serve.http.exposure import check_exposure
from serve.http.limits import digest
from winnow.errors import WinnowError

OPEN = ["0.0.0.0", "::", "10.1.2.3", "rec.example"]


@pytest.mark.parametrize("host", OPEN)
def test_an_endpoint_that_others_reach_needs_a_token_or_a_clear_word(host):
    args = RecommendArgs(bundle="/data/bundle")
    with pytest.raises(WinnowError, match="WINNOW_TOKEN") as caught:
        check_exposure(args, host, {"WINNOW_ADMIN_TOKEN": "root", "WINNOW_TOKEN": " , "})
    assert "\n" not in str(caught.value)
    with pytest.raises(WinnowError, match="WINNOW_TOKEN has a token of 6 characters"):
        check_exposure(args, host, {"WINNOW_TOKEN": "secret"})
    check_exposure(args, host, {"WINNOW_TOKEN": "a longer secret!"})
    with pytest.raises(WinnowError, match="WINNOW_ADMIN_TOKEN has a token of 4 characters"):
        check_exposure(args, host, {"WINNOW_TOKEN": "x" * 16, "WINNOW_ADMIN_TOKEN": "root"})
    check_exposure(args.model_copy(update={"token_sha256": [digest("secret")]}), host, {})
    check_exposure(args.model_copy(update={"allow_open": True}), host, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_none(host):
    check_exposure(RecommendArgs(bundle="/data/bundle"), host, {"WINNOW_TOKEN": "short"})
