"""Who may bring a device into the fleet: its owner with its consent, or the device with its owner's acceptance."""

from __future__ import annotations

import ape
import pytest
from mirrors import FAR, FEE, MAX_BATCH, ZERO, Device, Flag, Kind, malleated, other_parity

TRANSACTION_GAS_LIMIT = 16_777_216  # EIP-7825


@pytest.mark.parametrize("kind", list(Kind))
def test_enrol__with_consent__starts_active(kind, service, device, device_owner):
    new = device()
    x, y = new.point
    tx = service.enrol(new.enrolment(service, device_owner, kind), sender=device_owner, value=FEE)
    assert tx.events == [service.Enrolled(id=new.id, owner=device_owner, kind=kind, x=x, y=y)]
    worker = service.worker(new.id)
    assert (worker.owner, worker.kind, worker.flags) == (device_owner, kind, Flag.ACTIVE)
    assert (worker.epoch, worker.sequence, worker.since) == (0, 1, tx.timestamp)
    assert tuple(service.workerOf(new.id)) == (new.id, 0, True)
    assert service.balance == FEE


def test_worker__never_enrolled__is_all_zero(service, device):
    assert tuple(service.worker(device().id)) == (ZERO, 0, 0, 0, 0, 0)
    assert tuple(service.workerOf(device().id)) == (ZERO, 0, False)


@pytest.mark.parametrize("sent", [0, FEE - 1, FEE + 1])
def test_enrol__inexact_fee__reverts(sent, service, device, device_owner):
    with ape.reverts(service.WrongFee, sent=sent, expected=FEE):
        service.enrol(device().enrolment(service, device_owner), sender=device_owner, value=sent)


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_enrol__unknown_kind__reverts(kind, service, device, device_owner):
    with ape.reverts(service.BadKind, kind=kind):
        service.enrol(device().enrolment(service, device_owner, kind), sender=device_owner, value=FEE)


def test_enrol__in_the_last_second_of_the_consent__works(service, device, device_owner, chain):
    new, deadline = device(), chain.pending_timestamp + 100
    enrolment = new.enrolment(service, device_owner, deadline=deadline)
    chain.pending_timestamp = deadline
    service.enrol(enrolment, sender=device_owner, value=FEE)
    assert service.worker(new.id).since == deadline


def test_enrol__a_second_later__reverts(service, device, device_owner, chain):
    deadline = chain.pending_timestamp + 100
    enrolment = device().enrolment(service, device_owner, deadline=deadline)
    chain.pending_timestamp = deadline + 1
    with ape.reverts(service.SignatureExpired, deadline=deadline, time=deadline + 1):
        service.enrol(enrolment, sender=device_owner, value=FEE)


def test_enrol__twice__reverts_and_moves_no_value(service, device, device_owner):
    new = device()
    enrolment = new.enrolment(service, device_owner)
    service.enrol(enrolment, sender=device_owner, value=FEE)
    with ape.reverts(service.KeyTaken, key=new.id):
        service.enrol(enrolment, sender=device_owner, value=FEE)
    assert (service.worker(new.id).sequence, service.balance) == (1, FEE)


def test_enrol__after_retirement__reverts_for_everybody(service, device, device_owner, other_owner):
    new = device()
    service.enrol(new.enrolment(service, device_owner), sender=device_owner, value=FEE)
    service.retire(new.id, sender=device_owner)
    for owner in (device_owner, other_owner):
        with ape.reverts(service.KeyTaken, key=new.id):
            service.enrol(new.enrolment(service, owner), sender=owner, value=FEE)


def test_enrol__signed_by_another_key__reverts(service, device, device_owner):
    new, other = device(), device()
    enrolment = (*new.point, *other.enrolment(service, device_owner)[2:])
    with ape.reverts(service.WrongSigner, expected=new.id, signer=other.id):
        service.enrol(enrolment, sender=device_owner, value=FEE)


def test_enrol__by_whom_the_device_did_not_consent_to__reverts(service, device, device_owner, stranger):
    new = device()
    enrolment = new.enrolment(service, device_owner)
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol(enrolment, sender=stranger, value=FEE)
    service.enrol(enrolment, sender=device_owner, value=FEE)  # having seen it helped nobody


@pytest.mark.parametrize(("kind", "deadline"), [(Kind.GATEWAY, FAR), (Kind.SENSOR, FAR - 1)])
def test_enrol__consent_to_other_terms__reverts(kind, deadline, service, device, device_owner):
    new = device()
    signature = new.enrolment(service, device_owner, kind, deadline)[4:]
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol((*new.point, Kind.SENSOR, FAR, *signature), sender=device_owner, value=FEE)


@pytest.mark.parametrize("domain", [{"chainId": 5}, {"name": "Noisyfleet"}, {"version": "2"}])
def test_enrol__consent_in_another_domain__reverts(domain, service, device, device_owner):
    new = device()
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol(new.enrolment(service, device_owner, **domain), sender=device_owner, value=FEE)


def test_enrol__consent_for_another_service__reverts_here_and_works_there(service, other_service, device, device_owner):
    new = device()
    enrolment = new.enrolment(other_service, device_owner)
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol(enrolment, sender=device_owner, value=FEE)
    other_service.enrol(enrolment, sender=device_owner)


def test_enrol__proof_of_a_new_key__is_no_consent(service, device, device_owner):
    new = device()
    proof = new.new_key(service, new.id, device_owner, 1)[3:]
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol((*new.point, Kind.SENSOR, *proof), sender=device_owner, value=FEE)


def test_enrol__mirrored_signature__is_another_signer(service, device, device_owner):
    """The mirrored s is so high that it fills the parity bit: what is left of it is another signature altogether."""
    new = device()
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol(malleated(new.enrolment(service, device_owner)), sender=device_owner, value=FEE)


def test_enrol__s_above_half_the_order__reverts(service, device, device_owner):
    *rest, _vs = device().enrolment(service, device_owner)
    high = bytes([0x7F]) + b"\xff" * 31  # the greatest s that the compact form can hold
    with ape.reverts(service.ECDSAInvalidSignatureS, s=high):
        service.enrol((*rest, high), sender=device_owner, value=FEE)


def test_enrol__turned_parity__is_another_signer(service, device, device_owner):
    new = device()
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol(other_parity(new.enrolment(service, device_owner)), sender=device_owner, value=FEE)


def test_enrol__r_of_no_point__reverts(service, device, device_owner):
    enrolment = device().enrolment(service, device_owner)
    with ape.reverts(service.ECDSAInvalidSignature):
        service.enrol((*enrolment[:4], bytes(32), enrolment[5]), sender=device_owner, value=FEE)


def test_enrol__a_contract_as_owner__works(service, device, wallet, other_owner):
    new = device()
    call = service.enrol.encode_input(new.enrolment(service, wallet))
    wallet.act(service, call, sender=other_owner, value=FEE)
    assert service.worker(new.id).owner == wallet


def test_enrol_batch__several__equals_as_many_single_ones(service, device, device_owner):
    devices = [device() for _ in Kind]
    enrolments = [new.enrolment(service, device_owner, kind) for new, kind in zip(devices, Kind, strict=True)]
    tx = service.enrolBatch(enrolments, sender=device_owner, value=FEE * len(Kind))
    assert tx.events == [
        service.Enrolled(id=new.id, owner=device_owner, kind=kind, x=new.point[0], y=new.point[1])
        for new, kind in zip(devices, Kind, strict=True)
    ]
    for new, kind in zip(devices, Kind, strict=True):
        worker = service.worker(new.id)
        assert tuple(worker) == (device_owner, tx.timestamp, 0, 1, kind, Flag.ACTIVE)
    assert service.balance == FEE * len(Kind)


def test_enrol_batch__one_bad__enrols_none(service, device, device_owner, other_owner):
    good, bad = device(), device()
    enrolments = [good.enrolment(service, device_owner), bad.enrolment(service, other_owner)]
    with ape.reverts(service.WrongSigner, expected=bad.id):
        service.enrolBatch(enrolments, sender=device_owner, value=2 * FEE)
    assert (service.worker(good.id).kind, service.balance) == (0, 0)


def test_enrol_batch__one_twice__enrols_none(service, device, device_owner):
    new = device()
    with ape.reverts(service.KeyTaken, key=new.id):
        service.enrolBatch([new.enrolment(service, device_owner)] * 2, sender=device_owner, value=2 * FEE)


@pytest.mark.parametrize("sent", [FEE, 3 * FEE])
def test_enrol_batch__inexact_fee__reverts(sent, service, device, device_owner):
    enrolments = [device().enrolment(service, device_owner) for _ in range(2)]
    with ape.reverts(service.WrongFee, sent=sent, expected=2 * FEE):
        service.enrolBatch(enrolments, sender=device_owner, value=sent)


def test_enrol_batch__the_most__fits_one_transaction(other_service, device, device_owner):
    devices = [device() for _ in range(MAX_BATCH)]
    enrolments = [new.enrolment(other_service, device_owner) for new in devices]
    tx = other_service.enrolBatch(enrolments, sender=device_owner)
    assert tx.gas_used <= TRANSACTION_GAS_LIMIT
    assert other_service.worker(devices[-1].id).flags == Flag.ACTIVE


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
def test_enrol_batch__none_or_too_many__reverts(size, other_service, device, device_owner):
    enrolment = device().enrolment(other_service, device_owner)
    with ape.reverts(other_service.BadBatchSize, size=size, bound=MAX_BATCH):
        other_service.enrolBatch([enrolment] * size, sender=device_owner)


def test_enrol_self__naming_an_owner__is_pending(service, rich_device, device_owner):
    x, y = Device.of(rich_device).point
    tx = service.enrolSelf(x, y, Kind.RELAY, device_owner, sender=rich_device, value=FEE)
    assert tx.events == [service.EnrolledItself(id=rich_device, owner=device_owner, kind=Kind.RELAY, x=x, y=y)]
    assert tuple(service.worker(rich_device)) == (device_owner, tx.timestamp, 0, 1, Kind.RELAY, Flag.PENDING)
    assert not service.isUsable(rich_device, Kind.RELAY)


def test_enrol_self__with_another_key__reverts(service, device, rich_device, device_owner):
    other = device()
    with ape.reverts(service.NotTheWorker, caller=rich_device, id=other.id):
        service.enrolSelf(*other.point, Kind.SENSOR, device_owner, sender=rich_device, value=FEE)


def test_enrol_self__without_owner__reverts(service, rich_device):
    with ape.reverts(service.ZeroAddress):
        service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, ZERO, sender=rich_device, value=FEE)


@pytest.mark.parametrize("kind", [0, 6])
def test_enrol_self__unknown_kind__reverts(kind, service, rich_device, device_owner):
    with ape.reverts(service.BadKind, kind=kind):
        service.enrolSelf(*Device.of(rich_device).point, kind, device_owner, sender=rich_device, value=FEE)


@pytest.mark.parametrize("sent", [0, FEE + 1])
def test_enrol_self__inexact_fee__reverts(sent, service, rich_device, device_owner):
    with ape.reverts(service.WrongFee, sent=sent, expected=FEE):
        service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, device_owner, sender=rich_device, value=sent)


def test_enrol_self__twice__reverts(service, pending_worker, rich_device, stranger):
    with ape.reverts(service.KeyTaken, key=pending_worker):
        service.enrolSelf(*Device.of(rich_device).point, Kind.SENSOR, stranger, sender=rich_device, value=FEE)


def test_accept__by_the_named_owner__makes_it_active(service, pending_worker, device_owner, flags):
    tx = service.accept(pending_worker, sender=device_owner)
    assert tx.events == [service.Accepted(id=pending_worker, owner=device_owner, sequence=2)]
    assert flags(pending_worker) == [Flag.ACTIVE]


def test_accept__while_suspended__stays_suspended(service, pending_worker, device_owner, service_owner, flags):
    service.setSuspended(pending_worker, True, sender=service_owner)
    service.accept(pending_worker, sender=device_owner)
    assert flags(pending_worker) == [Flag.ACTIVE | Flag.SUSPENDED]


@pytest.mark.parametrize("role", ["stranger", "service_owner", "rich_device"])
def test_accept__by_somebody_else__reverts(role, service, pending_worker, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.NotWorkerOwner, id=pending_worker, caller=caller):
        service.accept(pending_worker, sender=caller)


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


def test_decline__by_retiring_it__is_final(service, pending_worker, device_owner, flags):
    tx = service.retire(pending_worker, sender=device_owner)
    assert tx.events == [service.Retired(id=pending_worker, owner=device_owner, sequence=2)]
    assert flags(pending_worker) == [Flag.RETIRED]
    with ape.reverts(service.NotPending, id=pending_worker):
        service.accept(pending_worker, sender=device_owner)
