"""The posts at the top: passed on in two steps, never left empty; and where the service has moved to."""

from __future__ import annotations

import ape
import pytest
from mirrors import FEE, FEE_CAP, ZERO


@pytest.fixture(params=["service", "releases"])
def owned(request, service, releases):
    return {"service": service, "releases": releases}[request.param]


def test_deploy__without_owner__reverts(project, service_owner, service):
    with ape.reverts(project.Service.OwnableInvalidOwner, owner=ZERO):
        service_owner.deploy(project.Service, ZERO, FEE, FEE_CAP)
    with ape.reverts(project.ModelReleases.OwnableInvalidOwner, owner=ZERO):
        service_owner.deploy(project.ModelReleases, ZERO, service, service_owner)


def test_transfer_ownership__accepted__passes_the_post(owned, service_owner, stranger):
    owned.transferOwnership(stranger, sender=service_owner)
    assert (owned.owner(), owned.pendingOwner()) == (service_owner, stranger)
    owned.acceptOwnership(sender=stranger)
    assert owned.owner() == stranger
    with ape.reverts(owned.OwnableUnauthorizedAccount, account=service_owner):
        owned.setPaused(True, sender=service_owner)
    owned.setPaused(True, sender=stranger)


def test_accept_ownership__not_offered__reverts(owned, stranger):
    with ape.reverts(owned.OwnableUnauthorizedAccount, account=stranger):
        owned.acceptOwnership(sender=stranger)


def test_transfer_ownership__by_a_stranger__reverts(owned, stranger):
    with ape.reverts(owned.OwnableUnauthorizedAccount, account=stranger):
        owned.transferOwnership(stranger, sender=stranger)


def test_renounce_ownership__even_by_the_owner__reverts(owned, service_owner):
    with ape.reverts(owned.OwnerRequired):
        owned.renounceOwnership(sender=service_owner)
    assert owned.owner() == service_owner


def test_name_successor__by_the_service_owner__tells_where_to_go(service, service_owner, other_service):
    assert service.successor() == ZERO
    tx = service.nameSuccessor(other_service, sender=service_owner)
    assert tx.events == [service.SuccessorNamed(previous=ZERO, current=other_service)]
    assert service.successor() == other_service
    tx = service.nameSuccessor(ZERO, sender=service_owner)
    assert tx.events == [service.SuccessorNamed(previous=other_service, current=ZERO)]


def test_name_successor__what_it_is__reverts(service, service_owner):
    with ape.reverts(service.Unchanged):
        service.nameSuccessor(ZERO, sender=service_owner)


@pytest.mark.parametrize("role", ["rotator", "device_owner", "stranger"])
def test_name_successor__by_anyone_but_the_service_owner__reverts(role, service, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.OwnableUnauthorizedAccount, account=caller):
        service.nameSuccessor(caller, sender=caller)


def test_successor__of_a_service__has_no_power_there(service, service_owner, wallet, other_owner, enrol_worker):
    worker = enrol_worker()
    service.nameSuccessor(wallet, sender=service_owner)
    calls = [service.setSuspended.encode_input(worker, True), service.withdraw.encode_input(wallet)]
    for call in calls:
        with ape.reverts(service.OwnableUnauthorizedAccount, account=wallet):
            wallet.act(service, call, sender=other_owner)
