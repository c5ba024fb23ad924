from __future__ import annotations

import ape
import pytest
from mirrors import Flag, Kind


def flags(service, id_):
    return Flag(service.worker(id_).flags)


def test_set_active__off_and_on__tells_of_each(service, enrol_worker, device_owner):
    worker = enrol_worker()
    off = service.setActive(worker, False, sender=device_owner)
    assert off.events == [service.ActiveChanged(id=worker, owner=device_owner, active=False, sequence=2)]
    assert flags(service, worker) == Flag(0)
    on = service.setActive(worker, True, sender=device_owner)
    assert on.events == [service.ActiveChanged(id=worker, owner=device_owner, active=True, sequence=3)]
    assert flags(service, worker) == Flag.ACTIVE


@pytest.mark.parametrize("active", [True, False])
def test_set_active__to_what_it_is__reverts(active, service, enrol_worker, device_owner):
    worker = enrol_worker()
    if not active:
        service.setActive(worker, False, sender=device_owner)
    with ape.reverts(service.Unchanged):
        service.setActive(worker, active, sender=device_owner)


@pytest.mark.parametrize("role", ["stranger", "other_owner", "service_owner", "rotator"])
def test_set_active__by_anyone_but_the_owner__reverts(role, service, enrol_worker, request):
    worker, caller = enrol_worker(), request.getfixturevalue(role)
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=caller):
        service.setActive(worker, False, sender=caller)


def test_set_active__never_enrolled__reverts(service, device, device_owner):
    unknown = device().id
    with ape.reverts(service.UnknownWorker, id=unknown):
        service.setActive(unknown, True, sender=device_owner)


def test_set_active__not_accepted_yet__reverts(service, pending_worker, device_owner):
    with ape.reverts(service.WorkerPending, id=pending_worker):
        service.setActive(pending_worker, True, sender=device_owner)


def test_set_active__retired__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    service.retire(worker, sender=device_owner)
    with ape.reverts(service.WorkerRetired, id=worker):
        service.setActive(worker, True, sender=device_owner)


def test_set_active__a_batch__equals_single_calls(service, enrol_worker, device_owner):
    batch = [enrol_worker(), enrol_worker(Kind.PROCESSOR), enrol_worker(Kind.GATEWAY)]
    tx = service.setActive(batch, False, sender=device_owner)
    expected = [service.ActiveChanged(id=id_, owner=device_owner, active=False, sequence=2) for id_ in batch]
    assert tx.events == expected
    assert [flags(service, id_) for id_ in batch] == [Flag(0)] * 3


def test_set_active__a_batch_with_another_owners_worker__changes_none(service, enrol_worker, device_owner, other_owner):
    mine, other = enrol_worker(), enrol_worker(owner=other_owner)
    with ape.reverts(service.NotWorkerOwner, id=other, caller=device_owner):
        service.setActive([mine, other], False, sender=device_owner)
    assert flags(service, mine) == flags(service, other) == Flag.ACTIVE


def test_set_active__a_batch_with_a_repetition__changes_none(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.Unchanged):
        service.setActive([worker, worker], False, sender=device_owner)
    assert flags(service, worker) == Flag.ACTIVE


@pytest.mark.parametrize("size", [0, 501])
def test_set_active__a_batch_of_bad_size__reverts(size, service, enrol_worker, device_owner):
    batch = [enrol_worker()] * size
    with ape.reverts(service.BadBatchSize, size=size, bound=500):
        service.setActive(batch, False, sender=device_owner)


def test_set_suspended__on_and_off__leaves_the_owners_switch(service, enrol_worker, device_owner, service_owner):
    worker = enrol_worker()
    on = service.setSuspended(worker, True, sender=service_owner)
    assert on.events == [service.SuspendedChanged(id=worker, suspended=True, sequence=2)]
    assert flags(service, worker) == Flag.ACTIVE | Flag.SUSPENDED
    service.setActive(worker, False, sender=device_owner)
    off = service.setSuspended(worker, False, sender=service_owner)
    assert off.events == [service.SuspendedChanged(id=worker, suspended=False, sequence=4)]
    assert flags(service, worker) == Flag(0)


@pytest.mark.parametrize("suspended", [True, False])
def test_set_suspended__to_what_it_is__reverts(suspended, service, enrol_worker, service_owner):
    worker = enrol_worker()
    if suspended:
        service.setSuspended(worker, True, sender=service_owner)
    with ape.reverts(service.Unchanged):
        service.setSuspended(worker, suspended, sender=service_owner)


def test_set_suspended__by_the_device_owner__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.OwnableUnauthorizedAccount, account=device_owner):
        service.setSuspended(worker, True, sender=device_owner)


def test_set_suspended__never_enrolled__reverts(service, device, service_owner):
    unknown = device().id
    with ape.reverts(service.UnknownWorker, id=unknown):
        service.setSuspended(unknown, True, sender=service_owner)


def test_set_suspended__retired__reverts(service, enrol_worker, device_owner, service_owner):
    worker = enrol_worker()
    service.retire(worker, sender=device_owner)
    with ape.reverts(service.WorkerRetired, id=worker):
        service.setSuspended(worker, True, sender=service_owner)


def test_retire__by_the_owner__is_for_good(service, enrol_worker, device_owner):
    worker = enrol_worker()
    tx = service.retire(worker, sender=device_owner)
    assert tx.events == [service.Retired(id=worker, owner=device_owner, sequence=2)]
    assert flags(service, worker) == Flag.RETIRED
    with ape.reverts(service.WorkerRetired, id=worker):
        service.retire(worker, sender=device_owner)


def test_retire__suspended__stays_marked(service, enrol_worker, device_owner, service_owner):
    worker = enrol_worker()
    service.setSuspended(worker, True, sender=service_owner)
    service.retire(worker, sender=device_owner)
    assert flags(service, worker) == Flag.RETIRED | Flag.SUSPENDED


def test_retire__pending__declines_it(service, pending_worker, device_owner):
    service.retire(pending_worker, sender=device_owner)
    assert flags(service, pending_worker) == Flag.RETIRED
    with ape.reverts(service.NotPending, id=pending_worker):
        service.accept(pending_worker, sender=device_owner)


def test_retire__by_a_stranger__reverts(service, enrol_worker, stranger):
    worker = enrol_worker()
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=stranger):
        service.retire(worker, sender=stranger)
