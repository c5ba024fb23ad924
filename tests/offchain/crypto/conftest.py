from __future__ import annotations

from collections.abc import Callable

import pytest

from quietfleet.crypto import PrivateKey


@pytest.fixture
def device() -> PrivateKey:
    return PrivateKey.from_bytes(b"\x01" * 32)


@pytest.fixture
def stranger() -> PrivateKey:
    return PrivateKey.from_bytes(b"\x02" * 32)


@pytest.fixture
def repeat() -> Callable[[int], bytes]:
    """Randomness that is always the same, so that two sealings can be compared."""
    return lambda size: b"\x07" * size
