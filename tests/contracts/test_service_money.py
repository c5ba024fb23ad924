from __future__ import annotations

import ape
import pytest
from mirrors import FAR, FEE, ZERO, Kind


@pytest.fixture
def force_ether(service, stranger, networks):
    """Pushes ether in past every function: a contract that destroys itself in favour of the service."""

    def force(amount):
        code = bytes.fromhex("73" + service.address[2:] + "ff")
        stranger.call(networks.provider.network.ecosystem.create_transaction(data=code, value=amount))

    return force


def test_set_fee__by_the_service_owner__changes_it(service, service_owner):
    tx = service.setFee(2 * FEE, sender=service_owner)
    assert tx.events == [service.FeeChanged(previous=FEE, current=2 * FEE)]
    assert service.fee() == 2 * FEE


def test_set_fee__to_zero__makes_enrolment_free(service, service_owner, device, device_owner):
    service.setFee(0, sender=service_owner)
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR)
    with ape.reverts(service.WrongFee, sent=FEE, expected=0):
        service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=FEE)
    service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner)


def test_set_fee__to_the_same__reverts(service, service_owner):
    with ape.reverts(service.Unchanged):
        service.setFee(FEE, sender=service_owner)


def test_set_fee__at_the_bound__works(service, service_owner):
    service.setFee(service.MAX_FEE(), sender=service_owner)


def test_set_fee__beyond_the_bound__reverts(service, service_owner):
    bound = service.MAX_FEE()
    with ape.reverts(service.FeeTooHigh, fee=bound + 1, bound=bound):
        service.setFee(bound + 1, sender=service_owner)


def test_set_fee__by_a_stranger__reverts(service, stranger):
    with ape.reverts(service.OwnableUnauthorizedAccount, account=stranger):
        service.setFee(0, sender=stranger)


def test_withdraw__by_the_service_owner__sends_all_revenue(service, enrol_worker, service_owner, stranger):
    enrol_worker()
    enrol_worker()
    before = stranger.balance
    tx = service.withdraw(stranger, sender=service_owner)
    assert tx.events == [service.Withdrawn(to=stranger, amount=2 * FEE)]
    assert (stranger.balance - before, service.balance) == (2 * FEE, 0)


def test_withdraw__twice__reverts(service, enrol_worker, service_owner):
    enrol_worker()
    service.withdraw(service_owner, sender=service_owner)
    with ape.reverts(service.NothingToWithdraw):
        service.withdraw(service_owner, sender=service_owner)


def test_withdraw__to_nobody__reverts(service, enrol_worker, service_owner):
    enrol_worker()
    with ape.reverts(service.ZeroAddress):
        service.withdraw(ZERO, sender=service_owner)


def test_withdraw__to_a_contract_that_refuses__reverts_and_keeps_it(service, releases, enrol_worker, service_owner):
    enrol_worker()
    with ape.reverts(service.WithdrawalFailed, to=releases):
        service.withdraw(releases, sender=service_owner)
    assert service.balance == FEE


def test_withdraw__by_a_device_owner__reverts(service, enrol_worker, device_owner):
    enrol_worker()
    with ape.reverts(service.OwnableUnauthorizedAccount, account=device_owner):
        service.withdraw(device_owner, sender=device_owner)


def test_plain_ether__sent_to_the_service__reverts(service, stranger):
    with ape.reverts():
        stranger.transfer(service, 1)


def test_forced_ether__leaves_with_the_revenue__and_changes_nothing(
    service, force_ether, enrol_worker, service_owner, stranger
):
    force_ether(7)
    enrol_worker()
    assert (service.fee(), service.workerCount()) == (FEE, 1)
    tx = service.withdraw(stranger, sender=service_owner)
    assert tx.events == [service.Withdrawn(to=stranger, amount=FEE + 7)]
