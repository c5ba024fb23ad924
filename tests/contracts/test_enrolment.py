from __future__ import annotations

import ape
import pytest
from mirrors import CURVE_ORDER, FAR, FEE, ZERO, Device, Flag, Kind


@pytest.mark.parametrize("kind", list(Kind))
def test_enrol__with_consent__starts_active(kind, service, device, device_owner, chain):
    new = device()
    x, y = new.point
    tx = service.enrol(x, y, kind, FAR, new.consent(service, device_owner, kind), sender=device_owner, value=FEE)
    expected = service.Enrolled(id=new.id, owner=device_owner, kind=kind, pending=False, x=x, y=y, sequence=1)
    assert tx.events == [expected]
    worker = service.worker(new.id)
    assert (worker.owner, worker.kind, worker.flags) == (device_owner, kind, Flag.ACTIVE)
    assert (worker.epoch, worker.sequence) == (0, 1)
    assert worker.since == chain.blocks[tx.block_number].timestamp
    assert service.workerCount() == 1
    assert service.balance == FEE


def test_worker__never_enrolled__is_all_zero(service, device):
    assert tuple(service.worker(device().id)) == (ZERO, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("sent", [0, FEE - 1, FEE + 1])
def test_enrol__inexact_fee__reverts(sent, service, device, device_owner):
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR)
    with ape.reverts(service.WrongFee, sent=sent, expected=FEE):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=sent)


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_enrol__unknown_kind__reverts(kind, service, device, device_owner):
    new = device()
    consent = new.consent(service, device_owner, kind)
    with ape.reverts(service.BadKind, kind=kind):
        service.enrol(*new.point, kind, FAR, consent, sender=device_owner, value=FEE)


def test_enrol__expired_consent__reverts(service, device, device_owner, chain):
    new, deadline = device(), chain.pending_timestamp - 1
    consent = new.consent(service, device_owner, Kind.SENSOR, deadline)
    with ape.reverts(service.ConsentExpired, deadline=deadline):
        service.enrol(*new.point, Kind.SENSOR, deadline, consent, sender=device_owner, value=FEE)


def test_enrol__in_the_last_second_of_the_consent__works(service, device, device_owner, chain):
    new, deadline = device(), chain.pending_timestamp + 100
    consent = new.consent(service, device_owner, Kind.SENSOR, deadline)
    chain.pending_timestamp = deadline
    service.enrol(*new.point, Kind.SENSOR, deadline, consent, sender=device_owner, value=FEE)
    assert service.worker(new.id).since == deadline


def test_enrol__twice__reverts(service, device, device_owner):
    new = device()
    call = (*new.point, Kind.SENSOR, FAR, new.consent(service, device_owner, Kind.SENSOR))
    service.enrol(*call, sender=device_owner, value=FEE)
    with ape.reverts(service.AlreadyEnrolled, id=new.id):
        service.enrol(*call, sender=device_owner, value=FEE)
    assert (service.workerCount(), service.balance) == (1, FEE)


def test_enrol__after_retirement__reverts(service, device, device_owner, other_owner):
    new = device()
    first = new.consent(service, device_owner, Kind.SENSOR)
    service.enrol(*new.point, Kind.SENSOR, FAR, first, sender=device_owner, value=FEE)
    service.retire(new.id, sender=device_owner)
    second = new.consent(service, other_owner, Kind.SENSOR)
    with ape.reverts(service.AlreadyEnrolled, id=new.id):
        service.enrol(*new.point, Kind.SENSOR, FAR, second, sender=other_owner, value=FEE)


def test_enrol__signed_by_another_key__reverts(service, device, device_owner):
    new, other = device(), device()
    consent = other.consent(service, device_owner, Kind.SENSOR)
    with ape.reverts(service.WrongSigner, id=new.id, signer=other.id):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=FEE)


def test_enrol__consent_to_another_owner__reverts(service, device, device_owner, stranger):
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR)
    with ape.reverts(service.WrongSigner, id=new.id):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=stranger, value=FEE)


@pytest.mark.parametrize(("kind", "deadline"), [(Kind.GATEWAY, FAR), (Kind.SENSOR, FAR - 1)])
def test_enrol__consent_to_other_terms__reverts(kind, deadline, service, device, device_owner):
    new = device()
    consent = new.consent(service, device_owner, kind, deadline)
    with ape.reverts(service.WrongSigner, id=new.id):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=FEE)


@pytest.mark.parametrize("domain", [{"chainId": 5}, {"verifyingContract": ZERO}, {"name": "Noisyfleet"}])
def test_enrol__consent_in_another_domain__reverts(domain, service, device, device_owner):
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR, **domain)
    with ape.reverts(service.WrongSigner, id=new.id):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=FEE)


def test_enrol__mirrored_high_s_signature__reverts(service, device, device_owner):
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR)
    high = (CURVE_ORDER - int.from_bytes(consent[32:64], "big")).to_bytes(32, "big")
    mirrored = consent[:32] + high + bytes([55 - consent[64]])
    with ape.reverts(service.ECDSAInvalidSignatureS, s=high):
        service.enrol(*new.point, Kind.SENSOR, FAR, mirrored, sender=device_owner, value=FEE)


@pytest.mark.parametrize("v", [0, 1, 26, 29])
def test_enrol__v_neither_27_nor_28__reverts(v, service, device, device_owner):
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR)
    with ape.reverts(service.ECDSAInvalidSignature):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent[:64] + bytes([v]), sender=device_owner, value=FEE)


@pytest.mark.parametrize("length", [0, 64, 66])
def test_enrol__signature_of_odd_length__reverts(length, service, device, device_owner):
    new = device()
    consent = (new.consent(service, device_owner, Kind.SENSOR) + b"\0")[:length]
    with ape.reverts(service.ECDSAInvalidSignatureLength, length=length):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=FEE)


def test_enrol_self__naming_an_owner__is_pending(service, rich_device, device_owner):
    x, y = Device.of(rich_device).point
    tx = service.enrolSelf(x, y, Kind.RELAY, device_owner, sender=rich_device, value=FEE)
    expected = service.Enrolled(id=rich_device, owner=device_owner, kind=Kind.RELAY, pending=True, x=x, y=y, sequence=1)
    assert tx.events == [expected]
    assert service.worker(rich_device).flags == Flag.PENDING


def test_enrol_self__with_another_key__reverts(service, device, rich_device, device_owner):
    other = device()
    with ape.reverts(service.NotTheWorker, caller=rich_device, id=other.id):
        service.enrolSelf(*other.point, Kind.SENSOR, device_owner, sender=rich_device, value=FEE)


def test_enrol_self__without_owner__reverts(service, rich_device):
    with ape.reverts(service.ZeroAddress):
        service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, ZERO, sender=rich_device, value=FEE)


def test_enrol_self__unknown_kind__reverts(service, rich_device, device_owner):
    with ape.reverts(service.BadKind, kind=9):
        service.enrolSelf(*Device.of(rich_device).point, 9, device_owner, sender=rich_device, value=FEE)


def test_enrol_self__without_fee__reverts(service, rich_device, device_owner):
    with ape.reverts(service.WrongFee, sent=0, expected=FEE):
        service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, device_owner, sender=rich_device)


def test_enrol_self__twice__reverts(service, pending_worker, rich_device, stranger):
    with ape.reverts(service.AlreadyEnrolled, id=pending_worker):
        service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, stranger, sender=rich_device, value=FEE)


def test_accept__by_the_named_owner__makes_it_active(service, pending_worker, device_owner):
    tx = service.accept(pending_worker, sender=device_owner)
    assert tx.events == [service.Accepted(id=pending_worker, owner=device_owner, sequence=2)]
    assert service.worker(pending_worker).flags == Flag.ACTIVE


def test_accept__while_suspended__stays_suspended(service, pending_worker, device_owner, service_owner):
    service.setSuspended(pending_worker, True, sender=service_owner)
    service.accept(pending_worker, sender=device_owner)
    assert service.worker(pending_worker).flags == Flag.ACTIVE | Flag.SUSPENDED


def test_accept__by_somebody_else__reverts(service, pending_worker, stranger):
    with ape.reverts(service.NotWorkerOwner, id=pending_worker, caller=stranger):
        service.accept(pending_worker, sender=stranger)


def test_accept__twice__reverts(service, pending_worker, device_owner):
    service.accept(pending_worker, sender=device_owner)
    with ape.reverts(service.NotPending, id=pending_worker):
        service.accept(pending_worker, sender=device_owner)


def test_accept__enrolled_by_its_owner__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.NotPending, id=worker):
        service.accept(worker, sender=device_owner)


def test_accept__never_enrolled__reverts(service, device, device_owner):
    unknown = device().id
    with ape.reverts(service.UnknownWorker, id=unknown):
        service.accept(unknown, sender=device_owner)
