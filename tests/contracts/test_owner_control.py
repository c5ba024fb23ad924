"""The owner's switch, for one worker or many, and the end of a worker."""

from __future__ import annotations

import ape
import pytest
from mirrors import MAX_BATCH, Flag, Kind


def test_set_active__off_and_on__tells_of_each(service, enrol_worker, device_owner, flags):
    worker = enrol_worker()
    off = service.setActive(worker, False, sender=device_owner)
    assert off.events == [service.ActiveChanged(id=worker, by=device_owner, active=False, sequence=2)]
    assert flags(worker) == [Flag(0)]
    assert not service.isUsable(worker, Kind.SENSOR)
    on = service.setActive(worker, True, sender=device_owner)
    assert on.events == [service.ActiveChanged(id=worker, by=device_owner, active=True, sequence=3)]
    assert flags(worker) == [Flag.ACTIVE]
    assert service.isUsable(worker, Kind.SENSOR)


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


@pytest.mark.parametrize("active", [True, False])
def test_set_active__pending__reverts(active, service, pending_worker, device_owner):
    with ape.reverts(service.WorkerPending, id=pending_worker):
        service.setActive(pending_worker, active, sender=device_owner)


@pytest.mark.parametrize("active", [True, False])
def test_set_active__retired__reverts(active, service, retired_worker, device_owner):
    with ape.reverts(service.WorkerRetired, id=retired_worker):
        service.setActive(retired_worker, active, sender=device_owner)


def test_set_active_batch__several__equals_as_many_single_ones(service, enrol_worker, device_owner, flags):
    workers = [enrol_worker() for _ in range(3)]
    tx = service.setActiveBatch(workers, False, sender=device_owner)
    assert tx.events == [service.ActiveChanged(id=id_, by=device_owner, active=False, sequence=2) for id_ in workers]
    assert flags(*workers) == [Flag(0)] * 3
    service.setActiveBatch(workers[:2], True, sender=device_owner)
    assert flags(*workers) == [Flag.ACTIVE, Flag.ACTIVE, Flag(0)]


def test_set_active_batch__one_of_somebody_else__switches_none(service, enrol_worker, device_owner, other_owner, flags):
    own, foreign = enrol_worker(), enrol_worker(owner=other_owner)
    with ape.reverts(service.NotWorkerOwner, id=foreign, caller=device_owner):
        service.setActiveBatch([own, foreign], False, sender=device_owner)
    assert flags(own, foreign) == [Flag.ACTIVE] * 2


def test_set_active_batch__one_twice__switches_none(service, enrol_worker, device_owner, flags):
    worker = enrol_worker()
    with ape.reverts(service.Unchanged):
        service.setActiveBatch([worker, worker], False, sender=device_owner)
    assert flags(worker) == [Flag.ACTIVE]


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
def test_set_active_batch__none_or_too_many__reverts(size, service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.BadBatchSize, size=size, bound=MAX_BATCH):
        service.setActiveBatch([worker] * size, False, sender=device_owner)


def test_retire__by_the_owner__is_told_and_final(service, enrol_worker, device_owner, flags):
    worker = enrol_worker()
    tx = service.retire(worker, sender=device_owner)
    assert tx.events == [service.Retired(id=worker, owner=device_owner, sequence=2)]
    assert flags(worker) == [Flag.RETIRED]
    with ape.reverts(service.WorkerRetired, id=worker):
        service.retire(worker, sender=device_owner)


def test_retire__while_offered__ends_the_offer(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    service.offerTransfer(worker, other_owner, sender=device_owner)
    tx = service.retire(worker, sender=device_owner)
    assert tx.events == [service.Retired(id=worker, owner=device_owner, sequence=3)]
    with ape.reverts(service.NotOffered, id=worker, caller=other_owner):
        service.acceptTransfer(worker, sender=other_owner)


@pytest.mark.parametrize("role", ["stranger", "other_owner", "service_owner", "rotator"])
def test_retire__by_anyone_but_the_owner__reverts(role, service, enrol_worker, request):
    worker, caller = enrol_worker(), request.getfixturevalue(role)
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=caller):
        service.retire(worker, sender=caller)


def test_retire__never_enrolled__reverts(service, device, device_owner):
    unknown = device().id
    with ape.reverts(service.UnknownWorker, id=unknown):
        service.retire(unknown, sender=device_owner)


def test_owner_control__of_a_contract__is_as_of_anybody(
    service, enrol_worker, wallet, device_owner, other_owner, flags
):
    worker = enrol_worker()
    service.offerTransfer(worker, wallet, sender=device_owner)
    calls = [
        service.acceptTransfer.encode_input(worker),
        service.setActive.encode_input(worker, False),
        service.retire.encode_input(worker),
    ]
    for call in calls:
        wallet.act(service, call, sender=other_owner)
    assert (service.worker(worker).owner, flags(worker)) == (wallet, [Flag.RETIRED])
