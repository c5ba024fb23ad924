"""Who names the relays that workers begin with, within which bounds, and how a reader finds the newest list."""

from __future__ import annotations

import ape
import pytest
from eth_abi import encode
from eth_utils import keccak

NONE = bytes(22)


def enode(number, size=164):
    return (f"enode://{number:0128x}@" + (size - 139) * "a" + ":1")[:size]


def digest_of(enodes):
    return keccak(encode(["string[]"], [enodes]))[:22]


def told(log):
    return log.version, list(log.enodes), log.previousBlock


def test_bootstrap__before_anybody_named_one__is_none(service):
    assert tuple(service.bootstrap()) == (0, 0, NONE)


def test_set_bootstrap__by_the_service_owner__tells_the_list_and_keeps_its_digest(service, service_owner):
    enodes = [enode(1), enode(2)]
    tx = service.setBootstrap(enodes, sender=service_owner)
    (event,) = tx.events
    assert (event.event_name, told(event)) == ("BootstrapNamed", (1, enodes, 0))
    assert tuple(service.bootstrap()) == (1, tx.block_number, digest_of(enodes))


@pytest.mark.parametrize("role", ["rotator", "stranger", "device_owner"])
def test_set_bootstrap__by_anyone_but_the_service_owner__reverts(role, service, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.OwnableUnauthorizedAccount, account=caller):
        service.setBootstrap([enode(1)], sender=caller)


def test_history_of_lists__read_backwards_by_block__is_complete(service, service_owner, chain):
    lists = [[enode(1)], [enode(2), enode(1)], [], [enode(3)]]
    for enodes in lists:
        service.setBootstrap(enodes, sender=service_owner)
        chain.mine()
    (_, block, digest), found = service.bootstrap(), []
    while block:
        (log,) = service.BootstrapNamed.range(block, block + 1)
        found.append(told(log))
        block = log.previousBlock
    assert [(version, enodes) for version, enodes, _ in found] == list(enumerate(lists, 1))[::-1]
    assert digest == digest_of(found[0][1])


def test_set_bootstrap__to_none__takes_the_list_back(service, service_owner):
    service.setBootstrap([enode(1)], sender=service_owner)
    tx = service.setBootstrap([], sender=service_owner)
    assert tuple(service.bootstrap()) == (2, tx.block_number, NONE)


def test_set_bootstrap__at_a_bound__works(service, service_owner):
    enodes = [enode(1, 140), enode(2, 200), *(enode(number) for number in range(3, 17))]
    service.setBootstrap(enodes, sender=service_owner)
    assert service.bootstrap().digest == digest_of(enodes)


def test_set_bootstrap__one_too_many__reverts(service, service_owner):
    with ape.reverts(service.TooManyEnodes, count=17, most=16):
        service.setBootstrap([enode(number) for number in range(17)], sender=service_owner)


@pytest.mark.parametrize("size", [139, 201])
def test_set_bootstrap__one_too_short_or_too_long__reverts(size, service, service_owner):
    with ape.reverts(service.BadEnodeSize, index=1, size=size, least=140, most=200):
        service.setBootstrap([enode(1), enode(2, size)], sender=service_owner)


def test_set_bootstrap__to_what_it_is__reverts(service, service_owner):
    for enodes in ([], [enode(1)]):
        if enodes:
            service.setBootstrap(enodes, sender=service_owner)
        with ape.reverts(service.Unchanged):
            service.setBootstrap(enodes, sender=service_owner)


def test_set_bootstrap__any__leaves_configuration_and_workers_alone(service, service_owner, enrol_worker):
    worker = enrol_worker()
    before = tuple(service.worker(worker)), tuple(service.configuration()), service.rotator()
    service.setBootstrap([enode(1)], sender=service_owner)
    assert (tuple(service.worker(worker)), tuple(service.configuration()), service.rotator()) == before
