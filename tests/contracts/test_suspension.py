"""What the service can do to a worker: suspend it, and nothing more."""

from __future__ import annotations

import ape
import pytest
from mirrors import FAR, Flag, Kind, take_over


def test_set_suspended__and_back__tells_of_each(service, enrol_worker, service_owner, flags):
    worker = enrol_worker()
    tx = service.setSuspended(worker, True, sender=service_owner)
    assert tx.events == [service.SuspendedChanged(id=worker, suspended=True, sequence=2)]
    assert (flags(worker), service.isUsable(worker, Kind.SENSOR)) == ([Flag.ACTIVE | Flag.SUSPENDED], False)
    tx = service.setSuspended(worker, False, sender=service_owner)
    assert tx.events == [service.SuspendedChanged(id=worker, suspended=False, sequence=3)]
    assert (flags(worker), service.isUsable(worker, Kind.SENSOR)) == ([Flag.ACTIVE], True)


@pytest.mark.parametrize("suspended", [True, False])
def test_set_suspended__to_what_it_is__reverts(suspended, service, enrol_worker, service_owner):
    worker = enrol_worker()
    if suspended:
        service.setSuspended(worker, True, sender=service_owner)
    with ape.reverts(service.Unchanged):
        service.setSuspended(worker, suspended, sender=service_owner)


@pytest.mark.parametrize("role", ["device_owner", "stranger", "rotator"])
def test_set_suspended__by_anyone_but_the_service_owner__reverts(role, service, enrol_worker, request):
    worker, caller = enrol_worker(), request.getfixturevalue(role)
    with ape.reverts(service.OwnableUnauthorizedAccount, account=caller):
        service.setSuspended(worker, True, sender=caller)


def test_set_suspended__never_enrolled__reverts(service, device, service_owner):
    unknown = device().id
    with ape.reverts(service.UnknownWorker, id=unknown):
        service.setSuspended(unknown, True, sender=service_owner)


@pytest.mark.parametrize("suspended", [True, False])
def test_set_suspended__retired__reverts(suspended, service, enrol_worker, device_owner, service_owner):
    worker = enrol_worker()
    if not suspended:
        service.setSuspended(worker, True, sender=service_owner)
    service.retire(worker, sender=device_owner)
    with ape.reverts(service.WorkerRetired, id=worker):
        service.setSuspended(worker, suspended, sender=service_owner)


def test_retire__suspended__keeps_the_mark(service, enrol_worker, device_owner, service_owner, flags):
    worker = enrol_worker()
    service.setSuspended(worker, True, sender=service_owner)
    service.retire(worker, sender=device_owner)
    assert flags(worker) == [Flag.SUSPENDED | Flag.RETIRED]


def test_set_suspended__switched_off__does_not_switch_on(service, enrol_worker, device_owner, service_owner, flags):
    worker = enrol_worker()
    service.setActive(worker, False, sender=device_owner)
    service.setSuspended(worker, True, sender=service_owner)
    service.setSuspended(worker, False, sender=service_owner)
    assert flags(worker) == [Flag(0)]


def test_suspended__any_right_of_the_owner__stays(
    service, enrol_worker, device, device_owner, other_owner, service_owner
):
    """All an owner can do, it can do while suspended; and none of it lifts the suspension."""
    worker = enrol_worker()
    service.setSuspended(worker, True, sender=service_owner)
    service.setActive(worker, False, sender=device_owner)
    service.setActiveBatch([worker], True, sender=device_owner)
    service.rotateKey(device().new_key(service, worker, device_owner, 1), sender=device_owner)
    service.offerTransfer(worker, other_owner, sender=device_owner)
    service.cancelTransfer(worker, sender=device_owner)
    service.offerTransfer(worker, other_owner, sender=device_owner)
    service.acceptTransfer(worker, sender=other_owner)
    agreed = take_over(device_owner, service, worker, other_owner, 9)
    service.transferSigned(worker, device_owner, FAR, agreed, sender=other_owner)
    assert service.worker(worker).flags == Flag.ACTIVE | Flag.SUSPENDED
    service.retire(worker, sender=device_owner)


def test_service_owner__over_a_suspended_worker__has_no_power_of_its_owner(
    service, enrol_worker, device, service_owner, stranger
):
    worker = enrol_worker()
    service.setSuspended(worker, True, sender=service_owner)
    calls = [
        lambda: service.setActive(worker, False, sender=service_owner),
        lambda: service.setActiveBatch([worker], False, sender=service_owner),
        lambda: service.rotateKey(device().new_key(service, worker, service_owner, 1), sender=service_owner),
        lambda: service.offerTransfer(worker, service_owner, sender=service_owner),
        lambda: service.cancelTransfer(worker, sender=service_owner),
        lambda: service.transferSigned(
            worker, stranger, FAR, take_over(stranger, service, worker, service_owner, 2), sender=service_owner
        ),
        lambda: service.retire(worker, sender=service_owner),
        lambda: service.accept(worker, sender=service_owner),
    ]
    for call in calls:
        with ape.reverts(service.NotWorkerOwner, id=worker, caller=service_owner):
            call()
    with ape.reverts(service.NotOffered, id=worker, caller=service_owner):
        service.acceptTransfer(worker, sender=service_owner)
