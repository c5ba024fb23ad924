from __future__ import annotations

from random import Random

import pytest
from mixnet_world import DOMAIN, Chain, Register

from quietfleet.mixnet import RelayBook


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def book(register: Register) -> RelayBook:
    return RelayBook(DOMAIN, register.owner_of)


@pytest.fixture
def rng() -> Random:
    return Random(7)
