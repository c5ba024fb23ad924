"""A real chain with the real contracts, started once for all tests that need one."""

from __future__ import annotations

import asyncio

import pytest

from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import compile_contracts, deploy


@pytest.fixture(scope="session")
def artifacts(request):
    return compile_contracts(request.config.cache.mkdir("contracts"))


@pytest.fixture(scope="session")
def anvil():
    with Anvil() as anvil:
        yield anvil


@pytest.fixture(scope="session")
def service_owner_key(anvil):
    return anvil.keys()[0]


@pytest.fixture(scope="session")
def device_owner_key(anvil):
    return anvil.keys()[1]


@pytest.fixture(scope="session")
def deployment(anvil, artifacts, service_owner_key):
    return asyncio.run(deploy(anvil.url, anvil.chain_id, artifacts, service_owner_key, fee=1000))
