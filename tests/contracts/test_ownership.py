"""The post of the service owner, and that of the releases' owner: passed on in two steps, never left empty."""

from __future__ import annotations

import ape
import pytest
from mirrors import FEE, ZERO


@pytest.fixture(params=["service", "releases"])
def owned(request, service, releases):
    return {"service": service, "releases": releases}[request.param]


def test_deploy__without_owner__reverts(project, service_owner):
    with ape.reverts():
        service_owner.deploy(project.Service, ZERO, FEE)
    with ape.reverts():
        service_owner.deploy(project.ModelReleases, ZERO, service_owner)


def test_deploy__with_a_mistaken_fee__reverts(project, service, service_owner):
    with ape.reverts():
        service_owner.deploy(project.Service, service_owner, service.MAX_FEE() + 1)


def test_transfer_ownership__accepted__passes_the_post(owned, service_owner, stranger):
    owned.transferOwnership(stranger, sender=service_owner)
    assert (owned.owner(), owned.pendingOwner()) == (service_owner, stranger)
    owned.acceptOwnership(sender=stranger)
    assert owned.owner() == stranger


def test_accept_ownership__not_offered__reverts(owned, stranger):
    with ape.reverts(owned.OwnableUnauthorizedAccount, account=stranger):
        owned.acceptOwnership(sender=stranger)


def test_transfer_ownership__by_a_stranger__reverts(owned, stranger):
    with ape.reverts(owned.OwnableUnauthorizedAccount, account=stranger):
        owned.transferOwnership(stranger, sender=stranger)


def test_renounce_ownership__even_by_the_owner__reverts(owned, service_owner):
    with ape.reverts(owned.OwnerRequired):
        owned.renounceOwnership(sender=service_owner)
