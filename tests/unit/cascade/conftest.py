"""The tiny bundle with tables and an empty event store."""

import pytest

from winnow.bundle import Bundle
from winnow.cascade.lookup import Lookup
from winnow.events import SqliteEvents


@pytest.fixture(scope="session")
def bundle(tiny_run):
    return Bundle.open(tiny_run / "bundle")


@pytest.fixture
def events():
    return SqliteEvents(":memory:")


@pytest.fixture
def lookup(bundle, events):
    return Lookup(bundle, events)
