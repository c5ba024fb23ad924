"""A worker's messaging keys: replaced with the new key's proof, and never seen again once they were."""

from __future__ import annotations

import ape
import pytest
from mirrors import FAR, FEE, MAX_BATCH, ZERO, Device, Flag, Kind, Right, malleated, other_parity


@pytest.fixture
def rotate(service, device, device_owner):
    """Gives a worker another key, which it hands back."""

    def go(worker, owner=device_owner):
        new = device()
        proof = new.new_key(service, worker, owner, service.worker(worker).epoch + 1)
        service.rotateKey(proof, sender=owner)
        return new

    return go


@pytest.fixture
def refused(service, device, device_owner):
    """Asserts that the proof of another key, made for these terms, is none for the worker's next key."""

    def check(worker, *terms, **domain):
        new = device()
        signed = new.new_key(service, *terms, **domain)
        with ape.reverts(service.WrongSigner, expected=new.id):
            service.rotateKey((worker, *new.point, FAR, *signed[4:]), sender=device_owner)

    return check


def test_rotate_key__with_the_new_keys_proof__replaces_it(service, enrol_worker, device, device_owner):
    worker, new = enrol_worker(Kind.RELAY), device()
    since = service.worker(worker).since
    tx = service.rotateKey(new.new_key(service, worker, device_owner, 1), sender=device_owner)
    x, y = new.point
    assert tx.events == [service.KeyRotated(id=worker, key=new.id, x=x, y=y, epoch=1, sequence=2)]
    assert tuple(service.worker(worker)) == (device_owner, since, 1, 2, Kind.RELAY, Flag.ACTIVE)
    assert tuple(service.workerOf(worker)) == (worker, 0, False)
    assert tuple(service.workerOf(new.id)) == (worker, 1, True)


def test_rotate_key__again__leaves_only_the_newest_current(service, enrol_worker, rotate):
    worker = enrol_worker()
    first, second = rotate(worker), rotate(worker)
    assert tuple(service.workerOf(first.id)) == (worker, 1, False)
    assert tuple(service.workerOf(second.id)) == (worker, 2, True)


@pytest.mark.parametrize("switch", ["off", "suspended"])
def test_rotate_key__of_a_worker_that_does_not_work__works(
    switch, service, enrol_worker, rotate, device_owner, service_owner
):
    worker = enrol_worker()
    if switch == "off":
        service.setActive(worker, False, sender=device_owner)
    else:
        service.setSuspended(worker, True, sender=service_owner)
    before = service.worker(worker).flags
    new = rotate(worker)
    assert (service.worker(worker).flags, service.workerOf(new.id).current) == (before, True)


def test_rotate_key__in_the_last_second_of_the_proof__works(service, enrol_worker, device, device_owner, chain):
    worker, new, deadline = enrol_worker(), device(), chain.pending_timestamp + 100
    proof = new.new_key(service, worker, device_owner, 1, deadline)
    chain.pending_timestamp = deadline
    service.rotateKey(proof, sender=device_owner)
    assert service.workerOf(new.id).current


def test_rotate_key__a_second_later__reverts(service, enrol_worker, device, device_owner, chain):
    worker, deadline = enrol_worker(), chain.pending_timestamp + 100
    proof = device().new_key(service, worker, device_owner, 1, deadline)
    chain.pending_timestamp = deadline + 1
    with ape.reverts(service.SignatureExpired, deadline=deadline, time=deadline + 1):
        service.rotateKey(proof, sender=device_owner)


def test_rotate_key__proof_for_another_worker__reverts(enrol_worker, refused, device_owner):
    worker, other = enrol_worker(), enrol_worker()
    refused(worker, other, device_owner, 1)


def test_rotate_key__proof_for_another_owner__reverts(enrol_worker, refused, other_owner):
    worker = enrol_worker()
    refused(worker, worker, other_owner, 1)


@pytest.mark.parametrize("epoch", [0, 2])
def test_rotate_key__proof_for_another_epoch__reverts(epoch, enrol_worker, refused, device_owner):
    worker = enrol_worker()
    refused(worker, worker, device_owner, epoch)


def test_rotate_key__proof_until_another_time__reverts(enrol_worker, refused, device_owner):
    worker = enrol_worker()
    refused(worker, worker, device_owner, 1, FAR - 1)


@pytest.mark.parametrize("domain", [{"chainId": 5}, {"verifyingContract": ZERO}])
def test_rotate_key__proof_in_another_domain__reverts(domain, enrol_worker, refused, device_owner):
    worker = enrol_worker()
    refused(worker, worker, device_owner, 1, **domain)


@pytest.mark.parametrize("change", [malleated, other_parity])
def test_rotate_key__changed_signature__is_another_signer(change, service, enrol_worker, device, device_owner):
    worker, new = enrol_worker(), device()
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.rotateKey(change(new.new_key(service, worker, device_owner, 1)), sender=device_owner)


def test_rotate_key__signed_by_the_old_key__reverts(service, device, device_owner):
    old, new = device(), device()
    service.enrol(old.enrolment(service, device_owner), sender=device_owner, value=FEE)
    signature = old.new_key(service, old.id, device_owner, 1)[4:]
    with ape.reverts(service.WrongSigner, expected=new.id, signer=old.id):
        service.rotateKey((old.id, *new.point, FAR, *signature), sender=device_owner)


def test_rotate_key__the_same_proof_again__reverts(service, enrol_worker, device, device_owner):
    worker, new = enrol_worker(), device()
    proof = new.new_key(service, worker, device_owner, 1)
    service.rotateKey(proof, sender=device_owner)
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.rotateKey(proof, sender=device_owner)


def test_rotate_key__proof_from_before_a_transfer__reverts(service, enrol_worker, device, device_owner, other_owner):
    worker, new = enrol_worker(), device()
    proof = new.new_key(service, worker, device_owner, 1)
    service.offerTransfer(worker, other_owner, sender=device_owner)
    service.acceptTransfer(worker, sender=other_owner)
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.rotateKey(proof, sender=other_owner)


def test_rotate_key__back_to_any_former_key__reverts_for_every_worker(
    service, device, rotate, enrol_worker, device_owner
):
    first, other = device(), enrol_worker()
    service.enrol(first.enrolment(service, device_owner), sender=device_owner, value=FEE)
    second = rotate(first.id)
    third = rotate(first.id)
    for key in (first, second, third):
        for worker, epoch in ((first.id, 3), (other, 1)):
            with ape.reverts(service.KeyTaken, key=key.id):
                service.rotateKey(key.new_key(service, worker, device_owner, epoch), sender=device_owner)


def test_rotate_key__of_a_retired_worker__never_comes_back(service, enrol_worker, rotate, device_owner):
    worker, other = enrol_worker(), enrol_worker()
    last = rotate(worker)
    service.retire(worker, sender=device_owner)
    with ape.reverts(service.KeyTaken, key=last.id):
        service.rotateKey(last.new_key(service, other, device_owner, 1), sender=device_owner)


def test_enrol__a_key_some_worker_was_given__reverts(service, enrol_worker, rotate, other_owner):
    worker = enrol_worker()
    for key in (rotate(worker), rotate(worker)):
        with ape.reverts(service.KeyTaken, key=key.id):
            service.enrol(key.enrolment(service, other_owner), sender=other_owner, value=FEE)


def test_enrol_self__a_key_some_worker_was_given__reverts(service, enrol_worker, rich_device, device_owner):
    worker, key = enrol_worker(), Device.of(rich_device)
    service.rotateKey(key.new_key(service, worker, device_owner, 1), sender=device_owner)
    with ape.reverts(service.KeyTaken, key=key.id):
        service.enrolSelf(*key.point, Kind.SENSOR, device_owner, sender=rich_device, value=FEE)


def test_later_key__as_an_id__is_no_worker(service, enrol_worker, rotate, device_owner):
    processor, sensor = enrol_worker(Kind.PROCESSOR), enrol_worker()
    key = rotate(sensor).id
    assert tuple(service.worker(key)) == (ZERO, 0, 0, 0, 0, 0)
    assert not service.canCooperate(key, processor)
    assert not service.isUsable(key, Kind.SENSOR)
    with ape.reverts(service.UnknownWorker, id=key):
        service.setActive(key, False, sender=device_owner)


@pytest.mark.parametrize("role", ["stranger", "service_owner", "rotator", "other_owner"])
def test_rotate_key__by_anyone_but_the_owner__reverts(role, service, enrol_worker, device, device_owner, request):
    worker, caller = enrol_worker(), request.getfixturevalue(role)
    for bound_to in (device_owner, caller):
        with ape.reverts(service.NotWorkerOwner, id=worker, caller=caller):
            service.rotateKey(device().new_key(service, worker, bound_to, 1), sender=caller)


def test_rotate_key__by_an_operator_with_the_right__works(service, enrol_worker, device, device_owner, operator, grant):
    worker, new = enrol_worker(), device()
    grant(Right.KEYS)
    service.rotateKey(new.new_key(service, worker, device_owner, 1), sender=operator)
    assert service.workerOf(new.id).current


def test_rotate_key__by_an_operator_without_the_right__reverts(
    service, enrol_worker, device, device_owner, operator, grant
):
    worker = enrol_worker()
    grant(Right.OFF | Right.ON)
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=operator):
        service.rotateKey(device().new_key(service, worker, device_owner, 1), sender=operator)


def test_rotate_key__never_enrolled__reverts(service, device, device_owner):
    unknown = device().id
    with ape.reverts(service.UnknownWorker, id=unknown):
        service.rotateKey(device().new_key(service, unknown, device_owner, 1), sender=device_owner)


def test_rotate_key__pending__reverts(service, pending_worker, device, device_owner):
    with ape.reverts(service.WorkerPending, id=pending_worker):
        service.rotateKey(device().new_key(service, pending_worker, device_owner, 1), sender=device_owner)


def test_rotate_key__retired__reverts(service, retired_worker, device, device_owner):
    with ape.reverts(service.WorkerRetired, id=retired_worker):
        service.rotateKey(device().new_key(service, retired_worker, device_owner, 1), sender=device_owner)


def test_rotate_key_batch__several__equals_as_many_single_ones(service, enrol_worker, device, device_owner):
    workers, keys = [enrol_worker() for _ in range(2)], [device() for _ in range(3)]
    plan = [(workers[0], keys[0], 1, 2), (workers[1], keys[1], 1, 2), (workers[0], keys[2], 2, 3)]
    proofs = [key.new_key(service, worker, device_owner, epoch) for worker, key, epoch, _ in plan]
    tx = service.rotateKeyBatch(proofs, sender=device_owner)
    assert tx.events == [
        service.KeyRotated(id=worker, key=key.id, x=key.point[0], y=key.point[1], epoch=epoch, sequence=sequence)
        for worker, key, epoch, sequence in plan
    ]
    assert [service.workerOf(key.id).current for key in keys] == [False, True, True]


def test_rotate_key_batch__one_bad__replaces_none(service, enrol_worker, device, device_owner, other_owner):
    own, foreign, new = enrol_worker(), enrol_worker(owner=other_owner), device()
    proofs = [new.new_key(service, own, device_owner, 1), device().new_key(service, foreign, other_owner, 1)]
    with ape.reverts(service.NotWorkerOwner, id=foreign, caller=device_owner):
        service.rotateKeyBatch(proofs, sender=device_owner)
    assert (service.worker(own).epoch, service.workerOf(new.id).id) == (0, ZERO)


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
def test_rotate_key_batch__none_or_too_many__reverts(size, service, enrol_worker, device, device_owner):
    proof = device().new_key(service, enrol_worker(), device_owner, 1)
    with ape.reverts(service.BadBatchSize, size=size, bound=MAX_BATCH):
        service.rotateKeyBatch([proof] * size, sender=device_owner)
