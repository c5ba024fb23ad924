from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatch_kit import Chain, Oracle, counting

from quietfleet.dispatch import Dispatcher, DispatchStore
from quietfleet.storage import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "oracle.db") as database:
        yield database


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def strangers(chain: Chain) -> set[tuple[str, str]]:
    """Seeker and provider pairs that the registry keeps apart."""
    return chain.apart


@pytest.fixture
def oracle(database: Database, chain: Chain) -> Oracle:
    random = counting()
    store = DispatchStore(database, b"k" * 32, random)
    return Oracle(Dispatcher(store, random, chain))
