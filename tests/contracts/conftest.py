"""Roles and factories; contract state is rolled back after each test."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path

import pytest
from mirrors import FAR, FEE, Device, Kind


@pytest.fixture(scope="session")
def service_owner(accounts):
    return accounts[0]


@pytest.fixture(scope="session")
def device_owner(accounts):
    return accounts[1]


@pytest.fixture(scope="session")
def other_owner(accounts):
    return accounts[2]


@pytest.fixture(scope="session")
def stranger(accounts):
    return accounts[3]


@pytest.fixture(scope="session")
def rotator(accounts):
    return accounts[4]


@pytest.fixture(scope="session")
def publisher(accounts):
    return accounts[5]


@pytest.fixture(scope="session")
def rich_device(accounts):
    """An account that is a device with ether of its own."""
    return accounts[6]


@pytest.fixture(scope="session")
def service(project, service_owner, rotator):
    deployed = service_owner.deploy(project.Service, service_owner, FEE)
    deployed.setRotator(rotator, sender=service_owner)
    return deployed


@pytest.fixture(scope="session")
def releases(project, service_owner, publisher):
    return service_owner.deploy(project.ModelReleases, service_owner, publisher)


@pytest.fixture
def device():
    """Makes another device."""
    numbers = count(1)
    return lambda: Device.numbered(next(numbers))


@pytest.fixture
def enrol_worker(service, device, device_owner):
    """Enrols another device and hands its id back."""

    def enrol(kind=Kind.SENSOR, owner=device_owner):
        new = device()
        consent = new.consent(service, owner, kind)
        service.enrol(*new.point, kind, FAR, consent, sender=owner, value=FEE)
        return new.id

    return enrol


@pytest.fixture
def pending_worker(service, rich_device, device_owner):
    """The id of a device that enrolled itself and waits for its owner."""
    service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, device_owner, sender=rich_device, value=FEE)
    return rich_device.address


@pytest.fixture(scope="session")
def deployment_script():
    """The logic behind `ape run deploy`; scripts are no package, so it is loaded by its path."""
    path = Path(__file__).parents[2] / "scripts" / "_deployment.py"
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
