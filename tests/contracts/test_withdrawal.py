"""The revenue: one way in, one way out."""

from __future__ import annotations

import ape
import pytest
from mirrors import FEE, ZERO
from stand_ins import stand_in


@pytest.fixture
def force_ether(service, stranger, networks):
    """Pushes ether in past every function: a contract that destroys itself in favour of the service."""

    def force(amount):
        code = bytes.fromhex("73" + service.address[2:] + "ff")
        stranger.call(networks.provider.network.ecosystem.create_transaction(data=code, value=amount))

    return force


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


def test_withdraw__to_a_contract_that_refuses__reverts_and_keeps_it(service, wallet, enrol_worker, service_owner):
    enrol_worker()
    with ape.reverts(service.WithdrawalFailed, to=wallet):
        service.withdraw(wallet, sender=service_owner)
    assert service.balance == FEE
    service.withdraw(service_owner, sender=service_owner)


@pytest.mark.parametrize("role", ["device_owner", "rotator", "stranger"])
def test_withdraw__by_anyone_but_the_service_owner__reverts(role, service, enrol_worker, request):
    enrol_worker()
    caller = request.getfixturevalue(role)
    with ape.reverts(service.OwnableUnauthorizedAccount, account=caller):
        service.withdraw(caller, sender=caller)


def test_withdraw__again_from_within__takes_nothing_twice(service, enrol_worker, service_owner, stranger):
    enrol_worker()
    thief = service_owner.deploy(stand_in("Thief"), service)
    service.transferOwnership(thief, sender=service_owner)
    thief.acceptOwnership(sender=stranger)
    with ape.reverts(service.WithdrawalFailed, to=thief):
        thief.withdraw(thief, sender=stranger)
    assert (service.balance, thief.balance) == (FEE, 0)
    before = stranger.balance
    thief.withdraw(service_owner, sender=stranger)
    assert (service.balance, thief.balance) == (0, 0)
    assert stranger.balance <= before


def test_plain_ether__sent_to_the_service__reverts(service, stranger):
    with ape.reverts():
        stranger.transfer(service, 1)
    assert service.balance == 0


def test_forced_ether__leaves_with_the_revenue__and_changes_nothing(
    service, force_ether, enrol_worker, service_owner, stranger
):
    force_ether(7)
    enrol_worker()
    assert (service.fee(), service.balance) == (FEE, FEE + 7)
    tx = service.withdraw(stranger, sender=service_owner)
    assert tx.events == [service.Withdrawn(to=stranger, amount=FEE + 7)]
    assert service.balance == 0
