from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatch_kit import Oracle, counting

from quietfleet.dispatch import Dispatcher, DispatchStore
from quietfleet.storage import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "oracle.db") as database:
        yield database


@pytest.fixture
def strangers() -> set[tuple[str, str]]:
    """Seeker and provider pairs that the registry keeps apart."""
    return set()


@pytest.fixture
def oracle(database: Database, strangers: set[tuple[str, str]]) -> Oracle:
    random = counting()
    store = DispatchStore(database, b"k" * 32, random)
    return Oracle(Dispatcher(store, random, lambda seeker, provider: (seeker, provider) not in strangers))
