"""Roles and factories; contract state is rolled back after each test."""

from __future__ import annotations

from ast import literal_eval
from functools import cache
from itertools import count

import pytest
from ape.api import ReceiptAPI
from ape_ethereum.ecosystem import Ethereum
from ape_test.provider import LocalProvider
from eth_tester.exceptions import TransactionFailed
from mirrors import FEE, FEE_CAP, Device, Kind
from rollouts import Rollout
from stand_ins import stand_in
from web3.providers.eth_tester import middleware


@pytest.fixture(scope="session", autouse=True)
def _no_debug_logs():
    """No contract here prints anything; to look for prints, Ape would run every transaction twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReceiptAPI, "show_debug_logs", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _reverts_with_an_apostrophe():
    """Python writes bytes that hold 0x27 as b"…" and Ape expects b'…': such a revert would lose its name.

    Which reverts do is chance where a time is among the arguments.
    """
    decode = LocalProvider.get_virtual_machine_error

    def decode_either(self, exception, **kwargs):
        shown = str(exception).removeprefix("execution reverted: ")
        if isinstance(exception, TransactionFailed) and shown.startswith('b"'):
            exception = TransactionFailed(f"0x{literal_eval(shown).hex()}")
        return decode(self, exception, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalProvider, "get_virtual_machine_error", decode_either)
        yield


@pytest.fixture(scope="session", autouse=True)
def _asked_once(networks):
    """What is the same for every call: its type, which Ape works out from all networks, and who asks if nobody else."""
    known = networks.ethereum.default_transaction_type
    first = cache(lambda web3: web3.eth.accounts[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ethereum, "default_transaction_type", property(lambda _: known))
        patch.setattr(middleware, "guess_from", lambda web3, _: first(web3))
        yield


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
def approver(accounts):
    return accounts[7]


@pytest.fixture(scope="session")
def operator(accounts):
    return accounts[8]


@pytest.fixture(scope="session")
def service(project, service_owner, rotator):
    deployed = service_owner.deploy(project.Service, service_owner, FEE, FEE_CAP)
    deployed.setRotator(rotator, sender=service_owner)
    return deployed


@pytest.fixture(scope="session")
def other_service(project, service_owner):
    """Another fleet's; it charges nothing."""
    return service_owner.deploy(project.Service, service_owner, 0, FEE_CAP)


@pytest.fixture(scope="session")
def gateway(other_service, device_owner):
    """The gateway that trains the models of the other service's fleet."""
    new = Device.numbered(0)
    other_service.enrol(new.enrolment(other_service, device_owner, Kind.GATEWAY), sender=device_owner)
    return new.id


@pytest.fixture(scope="session")
def releases(project, service_owner, other_service, gateway, publisher, approver):
    deployed = service_owner.deploy(project.ModelReleases, service_owner, other_service, approver)
    deployed.setPublisher(publisher, gateway, sender=service_owner)
    return deployed


@pytest.fixture
def rollout(releases, publisher, approver):
    """A hand on the usual channel."""
    return Rollout(releases, publisher, approver)


@pytest.fixture(scope="session")
def wallet(service_owner, other_owner):
    """A contract that acts for `other_owner`."""
    return service_owner.deploy(stand_in("Wallet"), other_owner)


@pytest.fixture(scope="session")
def probe(service_owner):
    return service_owner.deploy(stand_in("Probe"))


@pytest.fixture
def ask_at(probe, chain, networks, stranger):
    """Asks a view at an exact time."""

    def ask(time, view, *arguments):
        chain.pending_timestamp = time
        question = view.encode_input(*arguments)
        (log,) = probe.ask(view.contract, question, sender=stranger).events
        (answer,) = networks.ethereum.decode_returndata(view.abis[0], bytes(log.answer))
        return answer

    return ask


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
        service.enrol(new.enrolment(service, owner, kind), sender=owner, value=FEE)
        return new.id

    return enrol


@pytest.fixture
def pending_worker(service, rich_device, device_owner):
    """The id of a device that enrolled itself and waits for its owner."""
    service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, device_owner, sender=rich_device, value=FEE)
    return rich_device.address


@pytest.fixture
def retired_worker(service, enrol_worker, device_owner):
    worker = enrol_worker()
    service.retire(worker, sender=device_owner)
    return worker


@pytest.fixture
def grant(service, chain, device_owner, operator):
    """Gives the operator rights upon the workers of `device_owner`, for a day from now."""

    def give(rights):
        service.setOperator(operator, rights, chain.pending_timestamp + 86_400, sender=device_owner)

    return give


@pytest.fixture
def flags(service):
    """The flags of these workers."""
    return lambda *ids: [service.worker(id_).flags for id_ in ids]
