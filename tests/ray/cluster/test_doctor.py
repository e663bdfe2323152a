import pytest

from winnow.doctor import IMPORTS, examine


@pytest.mark.slow
def test_this_installation_has_no_fault():
    """The whole examination, with Ray and the engine imported for real."""
    findings = {finding.subject: finding for finding in examine()}
    assert {f"import {name}" for name in IMPORTS} <= findings.keys()
    faults = [finding for finding in findings.values() if finding.status == "fail"]
    assert not faults
