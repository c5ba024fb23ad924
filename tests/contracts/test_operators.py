"""Whom an owner lets act upon its workers, what each right allows, and when it ends."""

from __future__ import annotations

import ape
import pytest
from mirrors import DAY, FEE, ZERO, Right, take_over

TERM = 366 * DAY
EVERY = Right.OFF | Right.ON | Right.KEYS


@pytest.mark.parametrize("rights", range(1, 8))
def test_set_operator__with_rights__allows_exactly_these(
    rights, service, enrol_worker, device, device_owner, operator, grant
):
    on, off, key = enrol_worker(), enrol_worker(), device()
    service.setActive(off, False, sender=device_owner)
    calls = {
        Right.OFF: (on, lambda: service.setActive(on, False, sender=operator)),
        Right.ON: (off, lambda: service.setActive(off, True, sender=operator)),
        Right.KEYS: (on, lambda: service.rotateKey(key.new_key(service, on, device_owner, 1), sender=operator)),
    }
    grant(rights)
    for right, (worker, call) in calls.items():
        if rights & right:
            call()
        else:
            with ape.reverts(service.NotWorkerOwner, id=worker, caller=operator):
                call()


def test_set_operator__any__tells_of_it(service, device_owner, operator, chain):
    until = chain.pending_timestamp + DAY
    tx = service.setOperator(operator, Right.OFF, until, sender=device_owner)
    expected = service.OperatorChanged(owner=device_owner, operator=operator, rights=Right.OFF, until=until)
    assert tx.events == [expected]
    assert service.operatorRights(device_owner, operator) == Right.OFF
    assert service.operatorRights(operator, device_owner) == 0


def test_set_active__by_an_operator__names_it(service, enrol_worker, operator, grant):
    worker = enrol_worker()
    grant(Right.OFF)
    tx = service.setActive(worker, False, sender=operator)
    assert tx.events == [service.ActiveChanged(id=worker, by=operator, active=False, sequence=2)]


def test_set_active_batch__by_an_operator_of_one_owner_alone__switches_none(
    service, enrol_worker, other_owner, operator, grant
):
    own, foreign = enrol_worker(), enrol_worker(owner=other_owner)
    grant(Right.OFF)
    with ape.reverts(service.NotWorkerOwner, id=foreign, caller=operator):
        service.setActiveBatch([own, foreign], False, sender=operator)
    service.setActiveBatch([own], False, sender=operator)


def test_operator__in_its_last_second__may_act(service, enrol_worker, device_owner, operator, chain, ask_at):
    worker, until = enrol_worker(), chain.pending_timestamp + DAY
    service.setOperator(operator, Right.OFF | Right.ON, until, sender=device_owner)
    assert ask_at(until - 1, service.operatorRights, device_owner, operator) == Right.OFF | Right.ON
    chain.pending_timestamp = until
    service.setActive(worker, False, sender=operator)


def test_operator__a_second_later__may_not(service, enrol_worker, device_owner, operator, chain, ask_at):
    worker, until = enrol_worker(), chain.pending_timestamp + DAY
    service.setOperator(operator, Right.OFF, until, sender=device_owner)
    assert ask_at(until + 1, service.operatorRights, device_owner, operator) == 0
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=operator):
        service.setActive(worker, False, sender=operator)


def test_set_operator__for_the_longest_term__works(service, device_owner, operator, chain):
    now = chain.pending_timestamp + 10
    chain.pending_timestamp = now
    service.setOperator(operator, Right.OFF, now + TERM, sender=device_owner)
    assert service.operatorRights(device_owner, operator) == Right.OFF


@pytest.mark.parametrize("after_now", [-10, 0, TERM + 1])
def test_set_operator__until_no_valid_time__reverts(after_now, service, device_owner, operator, chain):
    now = chain.pending_timestamp + 10
    chain.pending_timestamp = now
    with ape.reverts(service.BadTerm, until=now + after_now, latest=now + TERM):
        service.setOperator(operator, Right.OFF, now + after_now, sender=device_owner)


def test_set_operator__without_rights_but_a_term__reverts(service, device_owner, operator, grant, chain):
    grant(EVERY)
    until = chain.pending_timestamp + 10
    with ape.reverts(service.BadTerm, until=until):
        service.setOperator(operator, 0, until, sender=device_owner)


@pytest.mark.parametrize("rights", [8, 255])
def test_set_operator__unknown_rights__reverts(rights, service, device_owner, operator, chain):
    with ape.reverts(service.BadRights, rights=rights):
        service.setOperator(operator, rights, chain.pending_timestamp + DAY, sender=device_owner)


def test_set_operator__nobody__reverts(service, device_owner, chain):
    with ape.reverts(service.ZeroAddress):
        service.setOperator(ZERO, Right.OFF, chain.pending_timestamp + DAY, sender=device_owner)


def test_set_operator__what_it_is__reverts(service, device_owner, operator, chain):
    call = (operator, Right.OFF, chain.pending_timestamp + DAY)
    with ape.reverts(service.Unchanged):
        service.setOperator(operator, 0, 0, sender=device_owner)
    service.setOperator(*call, sender=device_owner)
    with ape.reverts(service.Unchanged):
        service.setOperator(*call, sender=device_owner)


@pytest.mark.parametrize("change", ["rights", "term"])
def test_set_operator__in_part_otherwise__replaces_the_grant(change, service, device_owner, operator, chain):
    until = chain.pending_timestamp + DAY
    service.setOperator(operator, Right.OFF, until, sender=device_owner)
    rights, until = (Right.ON, until) if change == "rights" else (Right.OFF, until + 1)
    service.setOperator(operator, rights, until, sender=device_owner)
    assert service.operatorRights(device_owner, operator) == rights


def test_set_operator__taken_back__ends_at_once(service, enrol_worker, device_owner, operator, grant):
    worker = enrol_worker()
    grant(EVERY)
    tx = service.setOperator(operator, 0, 0, sender=device_owner)
    assert tx.events == [service.OperatorChanged(owner=device_owner, operator=operator, rights=0, until=0)]
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=operator):
        service.setActive(worker, False, sender=operator)


def test_operator__with_every_right__never_passes_a_worker_on_or_ends_it(
    service, enrol_worker, device_owner, operator, other_owner, grant
):
    worker = enrol_worker()
    service.offerTransfer(worker, other_owner, sender=device_owner)
    grant(EVERY)
    agreed = take_over(other_owner, service, worker, operator, 2)
    calls = [
        lambda: service.offerTransfer(worker, operator, sender=operator),
        lambda: service.cancelTransfer(worker, sender=operator),
        lambda: service.transferSigned(worker, other_owner, 4_000_000_000, agreed, sender=operator),
        lambda: service.retire(worker, sender=operator),
        lambda: service.accept(worker, sender=operator),
    ]
    for call in calls:
        with ape.reverts(service.NotWorkerOwner, id=worker, caller=operator):
            call()
    with ape.reverts(service.NotOffered, id=worker, caller=operator):
        service.acceptTransfer(worker, sender=operator)


def test_operator__with_every_right__does_not_accept_a_pending_worker(service, pending_worker, operator, grant):
    grant(EVERY)
    with ape.reverts(service.NotWorkerOwner, id=pending_worker, caller=operator):
        service.accept(pending_worker, sender=operator)


def test_operator__with_every_right__enrols_for_nobody_else(service, device, device_owner, operator, grant):
    grant(EVERY)
    new = device()
    with ape.reverts(service.WrongSigner, expected=new.id):
        service.enrol(new.enrolment(service, device_owner), sender=operator, value=FEE)


def test_operator__of_the_former_owner__is_left_behind_by_a_transfer(
    service, enrol_worker, device_owner, other_owner, operator, grant, chain
):
    worker = enrol_worker()
    grant(EVERY)
    service.offerTransfer(worker, other_owner, sender=device_owner)
    service.acceptTransfer(worker, sender=other_owner)
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=operator):
        service.setActive(worker, False, sender=operator)
    service.setOperator(operator, Right.OFF, chain.pending_timestamp + DAY, sender=other_owner)
    service.setActive(worker, False, sender=operator)
