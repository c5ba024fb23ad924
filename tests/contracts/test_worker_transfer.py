from __future__ import annotations

import ape
import pytest
from mirrors import ZERO, Flag


@pytest.fixture
def offered_worker(service, enrol_worker, device_owner, other_owner):
    """A worker that `device_owner` offered to `other_owner`."""
    worker = enrol_worker()
    service.offerTransfer(worker, other_owner, sender=device_owner)
    return worker


def test_offer_transfer__to_somebody__names_them(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    tx = service.offerTransfer(worker, other_owner, sender=device_owner)
    assert tx.events == [service.TransferOffered(**{"id": worker, "from": device_owner, "to": other_owner})]
    assert service.pendingOwner(worker) == other_owner
    assert service.worker(worker).owner == device_owner


def test_offer_transfer__again_to_another__replaces_the_offer(
    service, offered_worker, device_owner, other_owner, stranger
):
    service.offerTransfer(offered_worker, stranger, sender=device_owner)
    with ape.reverts(service.NotOffered, id=offered_worker, caller=other_owner):
        service.acceptTransfer(offered_worker, sender=other_owner)
    service.acceptTransfer(offered_worker, sender=stranger)


def test_offer_transfer__again_to_the_same__reverts(service, offered_worker, device_owner, other_owner):
    with ape.reverts(service.Unchanged):
        service.offerTransfer(offered_worker, other_owner, sender=device_owner)


def test_offer_transfer__to_oneself__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.Unchanged):
        service.offerTransfer(worker, device_owner, sender=device_owner)


def test_offer_transfer__to_nobody__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.ZeroAddress):
        service.offerTransfer(worker, ZERO, sender=device_owner)


def test_offer_transfer__by_a_stranger__reverts(service, enrol_worker, stranger):
    worker = enrol_worker()
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=stranger):
        service.offerTransfer(worker, stranger, sender=stranger)


def test_offer_transfer__pending__reverts(service, pending_worker, device_owner, other_owner):
    with ape.reverts(service.WorkerPending, id=pending_worker):
        service.offerTransfer(pending_worker, other_owner, sender=device_owner)


def test_offer_transfer__retired__reverts(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    service.retire(worker, sender=device_owner)
    with ape.reverts(service.WorkerRetired, id=worker):
        service.offerTransfer(worker, other_owner, sender=device_owner)


def test_accept_transfer__by_the_named__passes_all_power(service, offered_worker, device_owner, other_owner):
    tx = service.acceptTransfer(offered_worker, sender=other_owner)
    expected = service.OwnerChanged(**{"id": offered_worker, "from": device_owner, "to": other_owner, "sequence": 2})
    assert tx.events == [expected]
    assert (service.worker(offered_worker).owner, service.pendingOwner(offered_worker)) == (other_owner, ZERO)
    assert service.worker(offered_worker).flags == Flag.ACTIVE
    with ape.reverts(service.NotWorkerOwner, id=offered_worker, caller=device_owner):
        service.setActive(offered_worker, False, sender=device_owner)
    service.setActive(offered_worker, False, sender=other_owner)


def test_accept_transfer__twice__reverts(service, offered_worker, other_owner):
    service.acceptTransfer(offered_worker, sender=other_owner)
    with ape.reverts(service.NotOffered, id=offered_worker, caller=other_owner):
        service.acceptTransfer(offered_worker, sender=other_owner)


def test_accept_transfer__by_a_stranger__reverts(service, offered_worker, stranger):
    with ape.reverts(service.NotOffered, id=offered_worker, caller=stranger):
        service.acceptTransfer(offered_worker, sender=stranger)


def test_cancel_transfer__by_the_owner__ends_the_offer(service, offered_worker, device_owner, other_owner):
    tx = service.cancelTransfer(offered_worker, sender=device_owner)
    expected = service.TransferCancelled(**{"id": offered_worker, "from": device_owner, "to": other_owner})
    assert tx.events == [expected]
    with ape.reverts(service.NotOffered, id=offered_worker, caller=other_owner):
        service.acceptTransfer(offered_worker, sender=other_owner)


def test_cancel_transfer__without_offer__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.Unchanged):
        service.cancelTransfer(worker, sender=device_owner)


def test_cancel_transfer__by_the_one_offered_to__reverts(service, offered_worker, other_owner):
    with ape.reverts(service.NotWorkerOwner, id=offered_worker, caller=other_owner):
        service.cancelTransfer(offered_worker, sender=other_owner)


def test_retire__while_offered__ends_the_offer_too(service, offered_worker, device_owner, other_owner):
    tx = service.retire(offered_worker, sender=device_owner)
    assert tx.events == [
        service.TransferCancelled(**{"id": offered_worker, "from": device_owner, "to": other_owner}),
        service.Retired(id=offered_worker, owner=device_owner, sequence=2),
    ]
    with ape.reverts(service.NotOffered, id=offered_worker, caller=other_owner):
        service.acceptTransfer(offered_worker, sender=other_owner)
