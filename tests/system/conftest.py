"""One chain and one fleet for most system tests: each leaves it as it found it, with readings flowing."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from system_fleet import System, standing

from quietfleet.testbed.contracts import ROOT, compile_contracts


def pytest_configure(config):
    config.addinivalue_line("markers", "shared_fleet: on the fleet that each such test leaves as it found it")
    config.addinivalue_line("markers", "second_fleet: on such a fleet too, beside those of the first")


def pytest_collection_modifyitems(items):
    """Name the tests of the shared fleet, so that others may run beside them; a second one stands up last of all."""
    items.sort(key=_second)
    for item in items:
        if "flowing" in item.fixturenames and not _second(item):
            item.add_marker(pytest.mark.shared_fleet)


def _second(item):
    return item.get_closest_marker("second_fleet") is not None


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A copy of the project, so that a fleet somebody keeps in the real one is left alone."""
    copy = tmp_path_factory.mktemp("project")
    for folder in ("contracts", "scripts", ".build"):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, copy / folder)
    for file in ("ape-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / file, copy / file)
    (copy / "node_modules").symlink_to(ROOT / "node_modules")
    (copy / "deployments").mkdir()
    return copy


@pytest.fixture(scope="session")
def system(request, tmp_path_factory):
    artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
    with standing(System, tmp_path_factory.mktemp("system")) as system:
        asyncio.run(system.found(artifacts))
        yield system


@pytest.fixture
async def flowing(system):
    """The fleet with every sensor being answered."""
    await system.flowing()
    return system
