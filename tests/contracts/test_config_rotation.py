from __future__ import annotations

import ape
import pytest
from mirrors import ZERO

DAY = 86_400
SOON = 0  # the contract's word for "as soon as may be"
FIELDS = {
    "activeFrom": SOON,
    "grace": 60,
    "minPow": 200_000_000,
    "maxTtl": 60,
    "maxSize": 131_072,
    "oracle": "0x" + "0a" * 20,
    "gateway": "0x" + "0b" * 20,
    "epochKeyCommitment": b"\x01" * 32,
    "oracleCardDigest": b"\x02" * 32,
    "gatewayCardDigest": b"\x03" * 32,
}


def given(**changes):
    """A configuration input in the order of the struct."""
    return tuple((FIELDS | changes).values())


def stored(version, active_from, previous_block, **changes):
    """What the contract should make of it."""
    fields = FIELDS | changes
    addresses = [fields[name].lower() for name in ("oracle", "gateway")]
    numbers = [fields[name] for name in ("grace", "minPow", "maxTtl", "maxSize")]
    digests = [fields[name] for name in ("epochKeyCommitment", "oracleCardDigest", "gatewayCardDigest")]
    return (version, active_from, *numbers, *addresses, *digests, previous_block)


def plain(configuration):
    """A configuration as Ape decodes it, in values that compare."""
    return tuple(value.lower() if isinstance(value, str) else value for value in configuration)


def both(service):
    latest, previous = service.configuration()
    return plain(latest), plain(previous)


NONE_YET = (0, 0, 0, 0, 0, 0, ZERO, ZERO, bytes(32), bytes(32), bytes(32), 0)


@pytest.fixture
def time_of(chain):
    return lambda tx: chain.blocks[tx.block_number].timestamp


def test_configuration__before_the_first_rotation__has_version_zero(service):
    assert both(service) == (NONE_YET, NONE_YET)


@pytest.mark.parametrize("role", ["service_owner", "rotator"])
def test_rotate__by_whom_may__becomes_the_latest(role, service, request, time_of):
    tx = service.rotate(given(), sender=request.getfixturevalue(role))
    expected = stored(1, time_of(tx), 0)
    assert both(service) == (expected, NONE_YET)
    (event,) = tx.events
    assert (event.event_name, event.version, plain(event.configuration)) == ("ConfigurationRotated", 1, expected)


def test_rotate__again__keeps_the_one_before_and_names_its_block(service, rotator, time_of):
    first = service.rotate(given(), sender=rotator)
    second = service.rotate(given(grace=0, epochKeyCommitment=b"\x07" * 32), sender=rotator)
    third = service.rotate(given(maxTtl=30), sender=rotator)
    old = stored(2, time_of(second), first.block_number, grace=0, epochKeyCommitment=b"\x07" * 32)
    new = stored(3, time_of(third), second.block_number, maxTtl=30)
    assert both(service) == (new, old)


def test_rotate__ahead_of_time__is_announced(service, rotator, chain):
    service.rotate(given(), sender=rotator)
    later = chain.pending_timestamp + 300
    service.rotate(given(activeFrom=later), sender=rotator)
    (latest, previous) = both(service)
    assert (latest[:2], previous[0]) == ((2, later), 1)


def test_rotate__while_one_waits__replaces_it_and_keeps_the_one_in_force(service, rotator, chain):
    service.rotate(given(), sender=rotator)
    later = chain.pending_timestamp + 300
    service.rotate(given(activeFrom=later), sender=rotator)
    service.rotate(given(activeFrom=SOON), sender=rotator)
    (latest, previous) = both(service)
    assert (latest[:2], previous[0]) == ((3, later), 1)


def test_rotate__before_one_that_waits__reverts(service, rotator, chain):
    later = chain.pending_timestamp + 300
    service.rotate(given(activeFrom=later), sender=rotator)
    with ape.reverts(service.BadActivation, activeFrom=later - 1, earliest=later):
        service.rotate(given(activeFrom=later - 1), sender=rotator)


def test_rotate__into_the_past__reverts(service, rotator, chain):
    past = chain.pending_timestamp - 1
    with ape.reverts(service.BadActivation, activeFrom=past):
        service.rotate(given(activeFrom=past), sender=rotator)


def test_rotate__too_far_ahead__reverts(service, rotator, chain):
    far = chain.pending_timestamp + 7 * DAY + 60
    with ape.reverts(service.BadActivation, activeFrom=far):
        service.rotate(given(activeFrom=far), sender=rotator)


@pytest.mark.parametrize(
    "changes",
    [
        {"grace": 0},
        {"grace": 7 * DAY},
        {"minPow": 1},
        {"minPow": 1000 * 10**9},
        {"maxTtl": 1},
        {"maxTtl": DAY},
        {"maxSize": 8192},
        {"maxSize": 10 * 2**20},
        {"gateway": ZERO, "gatewayCardDigest": bytes(32)},
    ],
)
def test_rotate__at_a_bound__works(changes, service, rotator, time_of):
    tx = service.rotate(given(**changes), sender=rotator)
    assert both(service)[0] == stored(1, time_of(tx), 0, **changes)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        ("BadGrace", {"grace": 7 * DAY + 1}),
        ("BadMinPow", {"minPow": 0}),
        ("BadMinPow", {"minPow": 1000 * 10**9 + 1}),
        ("BadMaxTtl", {"maxTtl": 0}),
        ("BadMaxTtl", {"maxTtl": DAY + 1}),
        ("BadMaxSize", {"maxSize": 8191}),
        ("BadMaxSize", {"maxSize": 10 * 2**20 + 1}),
    ],
)
def test_rotate__beyond_a_bound__reverts(error, changes, service, rotator):
    with ape.reverts(getattr(service, error), **changes):
        service.rotate(given(**changes), sender=rotator)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        ("ZeroAddress", {"oracle": ZERO}),
        ("MissingCommitment", {"epochKeyCommitment": bytes(32)}),
        ("MissingCommitment", {"oracleCardDigest": bytes(32)}),
        ("GatewayWithoutCard", {"gatewayCardDigest": bytes(32)}),
        ("GatewayWithoutCard", {"gateway": ZERO}),
    ],
)
def test_rotate__with_something_missing__reverts(error, changes, service, rotator):
    with ape.reverts(getattr(service, error)):
        service.rotate(given(**changes), sender=rotator)


@pytest.mark.parametrize("role", ["stranger", "device_owner"])
def test_rotate__by_whom_may_not__reverts(role, service, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.NotRotator, caller=caller):
        service.rotate(given(), sender=caller)


def test_rotate__any_time__leaves_workers_alone(service, enrol_worker, rotator):
    worker = enrol_worker()
    before = tuple(service.worker(worker))
    service.rotate(given(), sender=rotator)
    assert tuple(service.worker(worker)) == before


def test_set_rotator__to_another__passes_the_right(service, service_owner, rotator, stranger):
    tx = service.setRotator(stranger, sender=service_owner)
    assert tx.events == [service.RotatorChanged(previous=rotator, current=stranger)]
    assert service.rotator() == stranger
    with ape.reverts(service.NotRotator, caller=rotator):
        service.rotate(given(), sender=rotator)
    service.rotate(given(), sender=stranger)


def test_set_rotator__to_nobody__leaves_the_owner(service, service_owner, rotator):
    service.setRotator(ZERO, sender=service_owner)
    with ape.reverts(service.NotRotator, caller=rotator):
        service.rotate(given(), sender=rotator)
    service.rotate(given(), sender=service_owner)


def test_set_rotator__to_the_same__reverts(service, service_owner, rotator):
    with ape.reverts(service.Unchanged):
        service.setRotator(rotator, sender=service_owner)


def test_set_rotator__by_the_rotator__reverts(service, rotator, stranger):
    with ape.reverts(service.OwnableUnauthorizedAccount, account=rotator):
        service.setRotator(stranger, sender=rotator)
