"""How a worker passes to another owner: both have to agree, by two transactions or by one with a signature."""

from __future__ import annotations

import ape
import pytest
from eth_account import Account
from mirrors import CURVE_ORDER, FAR, ZERO, Flag, take_over, typed

MOST_BYTES = 1024


@pytest.fixture
def offered_worker(service, enrol_worker, device_owner, other_owner):
    """A worker that `device_owner` offered to `other_owner`."""
    worker = enrol_worker()
    service.offerTransfer(worker, other_owner, sender=device_owner)
    return worker


@pytest.fixture
def disagreed(service, device_owner, other_owner):
    """Asserts that the signature does not pass the worker to its recipient."""

    def check(worker, signature, to=other_owner, deadline=FAR):
        with ape.reverts(service.NotAgreed, id=worker, to=to):
            service.transferSigned(worker, to, deadline, signature, sender=device_owner)
        assert service.worker(worker).owner == device_owner

    return check


def test_offer_transfer__to_somebody__names_them(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    assert service.pendingOwner(worker) == ZERO
    tx = service.offerTransfer(worker, other_owner, sender=device_owner)
    assert tx.events == [service.TransferOffered(id=worker, to=other_owner, sequence=2)]
    assert (service.pendingOwner(worker), service.worker(worker).owner) == (other_owner, device_owner)


def test_offer_transfer__again_to_another__replaces_the_offer(
    service, offered_worker, device_owner, other_owner, stranger
):
    tx = service.offerTransfer(offered_worker, stranger, sender=device_owner)
    assert tx.events == [service.TransferOffered(id=offered_worker, to=stranger, sequence=3)]
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


@pytest.mark.parametrize("role", ["stranger", "service_owner", "other_owner"])
def test_offer_transfer__by_anyone_but_the_owner__reverts(role, service, enrol_worker, stranger, request):
    worker, caller = enrol_worker(), request.getfixturevalue(role)
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=caller):
        service.offerTransfer(worker, stranger, sender=caller)


def test_offer_transfer__pending__reverts(service, pending_worker, device_owner, other_owner):
    with ape.reverts(service.WorkerPending, id=pending_worker):
        service.offerTransfer(pending_worker, other_owner, sender=device_owner)


def test_offer_transfer__retired__reverts(service, retired_worker, device_owner, other_owner):
    with ape.reverts(service.WorkerRetired, id=retired_worker):
        service.offerTransfer(retired_worker, other_owner, sender=device_owner)


def test_cancel_transfer__offered__takes_it_back(service, offered_worker, device_owner, other_owner):
    tx = service.cancelTransfer(offered_worker, sender=device_owner)
    assert tx.events == [service.TransferCancelled(id=offered_worker, sequence=3)]
    assert service.pendingOwner(offered_worker) == ZERO
    with ape.reverts(service.NotOffered, id=offered_worker, caller=other_owner):
        service.acceptTransfer(offered_worker, sender=other_owner)


def test_cancel_transfer__not_offered__reverts(service, enrol_worker, device_owner):
    worker = enrol_worker()
    with ape.reverts(service.Unchanged):
        service.cancelTransfer(worker, sender=device_owner)


@pytest.mark.parametrize("role", ["other_owner", "service_owner"])
def test_cancel_transfer__by_anyone_but_the_owner__reverts(role, service, offered_worker, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.NotWorkerOwner, id=offered_worker, caller=caller):
        service.cancelTransfer(offered_worker, sender=caller)


def test_accept_transfer__by_the_recipient__passes_it(service, offered_worker, device_owner, other_owner):
    tx = service.acceptTransfer(offered_worker, sender=other_owner)
    change = {"id": offered_worker, "from": device_owner, "to": other_owner, "sequence": 3}
    assert tx.events == [service.OwnerChanged(**change)]
    assert (service.worker(offered_worker).owner, service.pendingOwner(offered_worker)) == (other_owner, ZERO)


def test_accept_transfer__after_it__leaves_the_former_owner_no_power(
    service, offered_worker, device_owner, other_owner
):
    service.acceptTransfer(offered_worker, sender=other_owner)
    calls = [
        lambda: service.setActive(offered_worker, False, sender=device_owner),
        lambda: service.offerTransfer(offered_worker, device_owner, sender=device_owner),
        lambda: service.retire(offered_worker, sender=device_owner),
    ]
    for call in calls:
        with ape.reverts(service.NotWorkerOwner, id=offered_worker, caller=device_owner):
            call()
    service.setActive(offered_worker, False, sender=other_owner)


def test_accept_transfer__twice__reverts(service, offered_worker, other_owner):
    service.acceptTransfer(offered_worker, sender=other_owner)
    with ape.reverts(service.NotOffered, id=offered_worker, caller=other_owner):
        service.acceptTransfer(offered_worker, sender=other_owner)


@pytest.mark.parametrize("role", ["stranger", "service_owner", "device_owner"])
def test_accept_transfer__by_somebody_else__reverts(role, service, offered_worker, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.NotOffered, id=offered_worker, caller=caller):
        service.acceptTransfer(offered_worker, sender=caller)


def test_accept_transfer__switched_off_and_suspended__stays_so(
    service, offered_worker, device_owner, other_owner, service_owner, flags
):
    service.setActive(offered_worker, False, sender=device_owner)
    service.setSuspended(offered_worker, True, sender=service_owner)
    service.acceptTransfer(offered_worker, sender=other_owner)
    assert flags(offered_worker) == [Flag.SUSPENDED]


def test_transfer_signed__by_the_recipient__passes_it_at_once(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    agreed = take_over(other_owner, service, worker, device_owner, 1)
    tx = service.transferSigned(worker, other_owner, FAR, agreed, sender=device_owner)
    assert tx.events == [service.OwnerChanged(**{"id": worker, "from": device_owner, "to": other_owner, "sequence": 2})]
    assert service.worker(worker).owner == other_owner


def test_transfer_signed__while_offered_to_another__ends_the_offer(
    service, enrol_worker, device_owner, other_owner, stranger
):
    worker = enrol_worker()
    service.offerTransfer(worker, stranger, sender=device_owner)
    agreed = take_over(other_owner, service, worker, device_owner, 2)
    service.transferSigned(worker, other_owner, FAR, agreed, sender=device_owner)
    assert service.pendingOwner(worker) == ZERO
    with ape.reverts(service.NotOffered, id=worker, caller=stranger):
        service.acceptTransfer(worker, sender=stranger)


def test_transfer_signed__in_the_last_second__works(service, enrol_worker, device_owner, other_owner, chain):
    worker, deadline = enrol_worker(), chain.pending_timestamp + 100
    agreed = take_over(other_owner, service, worker, device_owner, 1, deadline)
    chain.pending_timestamp = deadline
    service.transferSigned(worker, other_owner, deadline, agreed, sender=device_owner)
    assert service.worker(worker).owner == other_owner


def test_transfer_signed__a_second_later__reverts(service, enrol_worker, device_owner, other_owner, chain):
    worker, deadline = enrol_worker(), chain.pending_timestamp + 100
    agreed = take_over(other_owner, service, worker, device_owner, 1, deadline)
    chain.pending_timestamp = deadline + 1
    with ape.reverts(service.SignatureExpired, deadline=deadline, time=deadline + 1):
        service.transferSigned(worker, other_owner, deadline, agreed, sender=device_owner)


def test_transfer_signed__for_another_worker__reverts(service, enrol_worker, disagreed, device_owner, other_owner):
    worker, other = enrol_worker(), enrol_worker()
    disagreed(worker, take_over(other_owner, service, other, device_owner, 1))


def test_transfer_signed__from_another_owner__reverts(service, enrol_worker, disagreed, other_owner, stranger):
    worker = enrol_worker()
    disagreed(worker, take_over(other_owner, service, worker, stranger, 1))


@pytest.mark.parametrize("sequence", [0, 2])
def test_transfer_signed__for_another_state__reverts(
    sequence, service, enrol_worker, disagreed, device_owner, other_owner
):
    worker = enrol_worker()
    disagreed(worker, take_over(other_owner, service, worker, device_owner, sequence))


def test_transfer_signed__worker_changed_since__reverts(service, enrol_worker, disagreed, device_owner, other_owner):
    """Who agreed to take an active worker does not get one that was switched off in between."""
    worker = enrol_worker()
    agreed = take_over(other_owner, service, worker, device_owner, 1)
    service.setActive(worker, False, sender=device_owner)
    disagreed(worker, agreed)


def test_transfer_signed__until_another_time__reverts(service, enrol_worker, disagreed, device_owner, other_owner):
    worker = enrol_worker()
    disagreed(worker, take_over(other_owner, service, worker, device_owner, 1, FAR - 1))


@pytest.mark.parametrize("domain", [{"chainId": 5}, {"verifyingContract": ZERO}])
def test_transfer_signed__in_another_domain__reverts(
    domain, service, enrol_worker, disagreed, device_owner, other_owner
):
    worker = enrol_worker()
    message = typed(service, "TakeOver", worker, device_owner, 1, FAR, **domain)
    disagreed(worker, bytes(Account.from_key(other_owner.private_key).sign_message(message).signature))


def test_transfer_signed__by_somebody_else__reverts(service, enrol_worker, disagreed, device_owner, stranger):
    worker = enrol_worker()
    disagreed(worker, take_over(stranger, service, worker, device_owner, 1))


def test_transfer_signed__mirrored_high_s__reverts(service, enrol_worker, disagreed, device_owner, other_owner):
    worker = enrol_worker()
    agreed = take_over(other_owner, service, worker, device_owner, 1)
    high = (CURVE_ORDER - int.from_bytes(agreed[32:64], "big")).to_bytes(32, "big")
    disagreed(worker, agreed[:32] + high + bytes([55 - agreed[64]]))


@pytest.mark.parametrize("v", [0, 1, 26, 29])
def test_transfer_signed__v_neither_27_nor_28__reverts(v, service, enrol_worker, disagreed, device_owner, other_owner):
    worker = enrol_worker()
    disagreed(worker, take_over(other_owner, service, worker, device_owner, 1)[:64] + bytes([v]))


@pytest.mark.parametrize("size", [0, 64, 66, MOST_BYTES])
def test_transfer_signed__of_odd_length__reverts(size, service, enrol_worker, disagreed, device_owner, other_owner):
    worker = enrol_worker()
    agreed = take_over(other_owner, service, worker, device_owner, 1)
    disagreed(worker, agreed.ljust(size, b"\0")[:size])


def test_transfer_signed__too_long__reverts(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    with ape.reverts(service.SignatureTooLong, size=MOST_BYTES + 1, bound=MOST_BYTES):
        service.transferSigned(worker, other_owner, FAR, bytes(MOST_BYTES + 1), sender=device_owner)


def test_transfer_signed__there_and_back_again__serves_once(
    service, enrol_worker, disagreed, device_owner, other_owner
):
    worker = enrol_worker()
    there = take_over(other_owner, service, worker, device_owner, 1)
    service.transferSigned(worker, other_owner, FAR, there, sender=device_owner)
    back = take_over(device_owner, service, worker, other_owner, 2)
    service.transferSigned(worker, device_owner, FAR, back, sender=other_owner)
    disagreed(worker, there)


def test_transfer_signed__by_the_recipient_itself__reverts(service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    agreed = take_over(other_owner, service, worker, device_owner, 1)
    with ape.reverts(service.NotWorkerOwner, id=worker, caller=other_owner):
        service.transferSigned(worker, other_owner, FAR, agreed, sender=other_owner)


@pytest.mark.parametrize(("to", "error"), [("zero", "ZeroAddress"), ("owner", "Unchanged")])
def test_transfer_signed__to_nobody_else__reverts(to, error, service, enrol_worker, device_owner):
    worker = enrol_worker()
    agreed = take_over(device_owner, service, worker, device_owner, 1)
    recipient = ZERO if to == "zero" else device_owner
    with ape.reverts(getattr(service, error)):
        service.transferSigned(worker, recipient, FAR, agreed, sender=device_owner)


def test_transfer_signed__pending__reverts(service, pending_worker, device_owner, other_owner):
    agreed = take_over(other_owner, service, pending_worker, device_owner, 1)
    with ape.reverts(service.WorkerPending, id=pending_worker):
        service.transferSigned(pending_worker, other_owner, FAR, agreed, sender=device_owner)


def test_transfer_signed__retired__reverts(service, retired_worker, device_owner, other_owner):
    agreed = take_over(other_owner, service, retired_worker, device_owner, 2)
    with ape.reverts(service.WorkerRetired, id=retired_worker):
        service.transferSigned(retired_worker, other_owner, FAR, agreed, sender=device_owner)


def test_transfer_signed__to_a_contract_that_agrees__passes_it(
    service, enrol_worker, wallet, device_owner, other_owner
):
    worker = enrol_worker()
    agreed = take_over(other_owner, service, worker, device_owner, 1)
    service.transferSigned(worker, wallet, FAR, agreed, sender=device_owner)
    assert service.worker(worker).owner == wallet
    wallet.act(service, service.setActive.encode_input(worker, False), sender=other_owner)


def test_transfer_signed__to_a_contract_whose_keeper_did_not_sign__reverts(
    service, enrol_worker, disagreed, wallet, device_owner, stranger
):
    worker = enrol_worker()
    disagreed(worker, take_over(stranger, service, worker, device_owner, 1), to=wallet)


@pytest.mark.parametrize(("answer", "reverts"), [("0x00000001", False), ("0x1626ba7e", True)])
def test_transfer_signed__to_a_contract_that_answers_amiss__reverts(
    answer, reverts, service, enrol_worker, disagreed, wallet, device_owner, other_owner
):
    worker = enrol_worker()
    wallet.spoil(answer, reverts, sender=other_owner)
    disagreed(worker, take_over(other_owner, service, worker, device_owner, 1), to=wallet)


def test_transfer_signed__to_a_contract_that_answers_nothing__reverts(
    service, enrol_worker, disagreed, probe, device_owner, other_owner
):
    worker = enrol_worker()
    disagreed(worker, take_over(other_owner, service, worker, device_owner, 1), to=probe)
