"""Who sets the fleet's configuration, within which bounds, and which ones are accepted when."""

from __future__ import annotations

import ape
import pytest
from configurations import LEAD, LONGEST_GRACE, MOST_POW, SOON, as_set, digest_of, given, told
from mirrors import DAY, ZERO

NOTHING = (0, 0, 0, 0, bytes(32), 0, 0, bytes(32))
MANNERS = {"rotate": given(), "rotateAtOnce": given(grace=0)}


@pytest.fixture
def rotate(service, rotator):
    """Rotates; what was set, and its digest."""

    def go(manner="rotate", **changes):
        tx = getattr(service, manner)(given(**changes), sender=rotator)
        (event,) = tx.events
        return told(event), digest_of(service, told(event))

    return go


@pytest.fixture
def at_once(rotate):
    return lambda **changes: rotate("rotateAtOnce", grace=0, **changes)


@pytest.fixture
def accepted_at(service, ask_at):
    """Which of these digests are accepted at an exact time."""

    def ask(time, *digests):
        return [bool(ask_at(time + seconds, service.accepts, digest)) for seconds, digest in enumerate(digests)]

    return ask


def test_configuration__before_the_first_rotation__is_none(service):
    assert tuple(service.configuration()) == NOTHING
    assert not service.accepts(bytes(32))


@pytest.mark.parametrize("role", ["service_owner", "rotator"])
@pytest.mark.parametrize("manner", MANNERS)
def test_rotate__by_whom_may__sets_the_newest(manner, role, service, request):
    tx = getattr(service, manner)(MANNERS[manner], sender=request.getfixturevalue(role))
    grace = 60 if manner == "rotate" else 0
    expected = as_set(1, tx.timestamp, 0, grace=grace)
    (event,) = tx.events
    assert (event.event_name, event.version, told(event)) == ("ConfigurationRotated", 1, expected)
    digest = digest_of(service, expected)
    anchor = (1, tx.timestamp, grace, tx.block_number, digest, 0, 0, bytes(32))
    assert tuple(service.configuration()) == anchor
    assert service.accepts(digest)
    assert not service.accepts(bytes(32))


@pytest.mark.parametrize("role", ["stranger", "device_owner"])
@pytest.mark.parametrize("manner", MANNERS)
def test_rotate__by_whom_may_not__reverts(manner, role, service, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(service.NotRotator, caller=caller):
        getattr(service, manner)(MANNERS[manner], sender=caller)


def test_digest_of__any_configuration__is_that_of_eip_712(service, other_service):
    configuration = as_set(7, 1_900_000_000, 5, gateway=ZERO, gatewayCardDigest=bytes(32))
    assert service.digestOf(configuration) == digest_of(service, configuration)
    assert other_service.digestOf(configuration) == digest_of(other_service, configuration)
    assert service.digestOf(configuration) != other_service.digestOf(configuration)


def test_rotate__again_and_again__keeps_two_and_their_blocks(service, rotator):
    transactions = [service.rotate(given(grace=0, maxTtl=ttl), sender=rotator) for ttl in (10, 20, 30)]
    blocks = [tx.block_number for tx in transactions]
    digests = [
        digest_of(service, as_set(version, tx.timestamp, previous, grace=0, maxTtl=10 * version))
        for version, (tx, previous) in enumerate(zip(transactions, [0, *blocks], strict=False), 1)
    ]
    newest = (3, transactions[2].timestamp, 0, blocks[2], digests[2])
    assert tuple(service.configuration()) == (*newest, 2, blocks[1], digests[1])


def test_history__read_backwards_by_block__is_complete(service, rotator, chain):
    for ttl in (10, 20, 30, 40):
        service.rotate(given(grace=0, maxTtl=ttl), sender=rotator)
        chain.mine()
    service.rotate(given(activeFrom=chain.pending_timestamp + 99), sender=rotator)
    service.rotate(given(activeFrom=chain.pending_timestamp + 999), sender=rotator)
    chain.mine()
    block, found = service.configuration().newestBlock, []
    while block:
        (log,) = service.ConfigurationRotated.range(block, block + 1)
        found.append(told(log))
        block = found[-1].previousBlock
    assert [configuration.version for configuration in found] == [6, 5, 4, 3, 2, 1]
    anchor = service.configuration()
    assert anchor.digest == digest_of(service, found[0])
    assert anchor.previousDigest == digest_of(service, found[2])  # the fifth never came into force
    assert anchor.previousVersion == found[2].version


def test_accepts__a_version_that_waits__only_from_its_time_on(rotate, accepted_at, chain):
    _, first = rotate()
    start = chain.pending_timestamp + 300
    _, second = rotate(activeFrom=start, grace=60)
    assert accepted_at(start - 3, first, second) == [True, False]
    assert accepted_at(start, second, first) == [True, True]
    assert accepted_at(start + 59, first) == [True]
    assert accepted_at(start + 60, first, second) == [False, True]
    assert accepted_at(start + LEAD, first, second) == [False, True]


def test_accepts__the_first_one_still_waiting__is_none(rotate, accepted_at, chain):
    start = chain.pending_timestamp + 300
    _, first = rotate(activeFrom=start)
    assert accepted_at(start - 2, first, bytes(32)) == [False, False]
    assert accepted_at(start, first, bytes(32)) == [True, False]


@pytest.mark.parametrize("known", [0, 1, 2])
def test_accepts__an_unknown_digest__never(known, service, rotate):
    for _ in range(known):
        rotate(grace=0)
    assert not service.accepts(b"\x77" * 32)
    assert not service.accepts(bytes(32))


def test_rotate__while_one_waits__replaces_it_and_keeps_the_one_in_force(service, rotate, accepted_at, chain):
    first, first_digest = rotate()
    start = chain.pending_timestamp + 300
    _, never = rotate(activeFrom=start)
    third, digest = rotate(activeFrom=start + 5, grace=9)
    anchor = service.configuration()
    assert (anchor.version, anchor.activeFrom, anchor.grace, anchor.digest) == (3, start + 5, 9, digest)
    assert (anchor.previousVersion, anchor.previousDigest) == (first.version, first_digest)
    assert third.previousBlock > anchor.previousBlock
    assert accepted_at(start, never, first_digest) == [False, True]
    assert accepted_at(start + 5, digest, first_digest, never) == [True, True, False]
    assert accepted_at(start + 14, first_digest, digest) == [False, True]


def test_rotate__as_soon_as_may_be_while_one_waits__starts_with_it(rotate, chain):
    rotate()
    start = chain.pending_timestamp + 300
    rotate(activeFrom=start)
    third, _ = rotate(activeFrom=SOON)
    assert (third.version, third.activeFrom) == (3, start)


@pytest.mark.parametrize("ahead", [0, LEAD])
def test_rotate__at_an_edge_of_the_lead__works(ahead, rotate, chain):
    now = chain.pending_timestamp + 10
    chain.pending_timestamp = now
    configuration, _ = rotate(activeFrom=now + ahead)
    assert configuration.activeFrom == now + ahead


@pytest.mark.parametrize("ahead", [-1, LEAD + 1])
def test_rotate__a_second_outside_the_lead__reverts(ahead, service, rotator, chain):
    now = chain.pending_timestamp + 10
    chain.pending_timestamp = now
    with ape.reverts(service.BadActivation, activeFrom=now + ahead, earliest=now, latest=now + LEAD):
        service.rotate(given(activeFrom=now + ahead), sender=rotator)


def test_rotate__before_one_that_waits__reverts(service, rotate, rotator, chain):
    start = chain.pending_timestamp + 300
    rotate(activeFrom=start)
    with ape.reverts(service.BadActivation, activeFrom=start - 1, earliest=start):
        service.rotate(given(activeFrom=start - 1), sender=rotator)
    rotate(activeFrom=start)


def test_rotate__while_the_promised_grace_runs__reverts(service, rotate, rotator, chain):
    rotate()
    second, _ = rotate(grace=100)
    until = second.activeFrom + 100
    chain.pending_timestamp = until - 1
    with ape.reverts(service.GraceRunning, until=until):
        service.rotate(given(), sender=rotator)
    chain.pending_timestamp = until
    third, _ = rotate()
    assert (third.version, third.activeFrom) == (3, until)


def test_rotate__after_the_first__finds_no_grace_to_keep(rotate):
    rotate(grace=100)
    second, _ = rotate()
    assert second.version == 2


def test_rotate_at_once__while_one_waits__cancels_it(service, rotate, at_once, accepted_at, chain):
    _, first = rotate()
    start = chain.pending_timestamp + 300
    _, never = rotate(activeFrom=start)
    third, digest = at_once()
    assert third.activeFrom < start
    assert accepted_at(third.activeFrom + 1, first, never, digest) == [False, False, True]
    assert accepted_at(start + 1, first, never, digest) == [False, False, True]
    assert service.configuration().previousVersion == 1


def test_rotate_at_once__while_a_grace_runs__cuts_it_short(rotate, at_once, accepted_at):
    _, first = rotate()
    second, digest_of_second = rotate(grace=1000)
    third, digest = at_once()
    assert accepted_at(third.activeFrom + 1, first, digest_of_second, digest) == [False, False, True]
    assert third.activeFrom < second.activeFrom + 1000


def test_rotate_at_once__then_rotate__waits_for_nothing(at_once, rotate):
    at_once()
    at_once(maxTtl=30)
    third, _ = rotate()
    assert third.version == 3


def test_rotate_at_once__for_another_time__reverts(service, rotator, chain):
    now = chain.pending_timestamp + 10
    chain.pending_timestamp = now
    with ape.reverts(service.BadActivation, activeFrom=now, earliest=now, latest=now):
        service.rotateAtOnce(given(activeFrom=now, grace=0), sender=rotator)


def test_rotate_at_once__with_grace__reverts(service, rotator):
    with ape.reverts(service.BadGrace, grace=1, most=0):
        service.rotateAtOnce(given(grace=1), sender=rotator)


@pytest.mark.parametrize(
    "changes",
    [
        {"grace": 0},
        {"grace": LONGEST_GRACE},
        {"minPow": 1},
        {"minPow": MOST_POW},
        {"maxTtl": 1},
        {"maxTtl": DAY},
        {"maxSize": 8192},
        {"maxSize": 10 * 2**20},
        {"gateway": ZERO, "gatewayCardDigest": bytes(32)},
    ],
)
def test_rotate__at_a_bound__works(changes, service, rotator):
    tx = service.rotate(given(**changes), sender=rotator)
    assert told(tx.events[0]) == as_set(1, tx.timestamp, 0, **changes)


@pytest.mark.parametrize(
    ("error", "bounds", "changes"),
    [
        ("BadGrace", {"most": LONGEST_GRACE}, {"grace": LONGEST_GRACE + 1}),
        ("BadMinPow", {"least": 1, "most": MOST_POW}, {"minPow": 0}),
        ("BadMinPow", {"least": 1, "most": MOST_POW}, {"minPow": MOST_POW + 1}),
        ("BadMaxTtl", {"least": 1, "most": DAY}, {"maxTtl": 0}),
        ("BadMaxTtl", {"least": 1, "most": DAY}, {"maxTtl": DAY + 1}),
        ("BadMaxSize", {"least": 8192, "most": 10 * 2**20}, {"maxSize": 8191}),
        ("BadMaxSize", {"least": 8192, "most": 10 * 2**20}, {"maxSize": 10 * 2**20 + 1}),
    ],
)
def test_rotate__beyond_a_bound__reverts(error, bounds, changes, service, rotator):
    with ape.reverts(getattr(service, error), **changes, **bounds):
        service.rotate(given(**changes), sender=rotator)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(
    ("error", "changes"),
    [
        ("BadMinPow", {"minPow": 0}),
        ("ZeroAddress", {"oracle": ZERO}),
        ("MissingCommitment", {"epochKeyCommitment": bytes(32)}),
        ("MissingCommitment", {"oracleCardDigest": bytes(32)}),
        ("GatewayWithoutCard", {"gatewayCardDigest": bytes(32)}),
        ("GatewayWithoutCard", {"gateway": ZERO}),
    ],
)
def test_rotate__with_something_missing__reverts(error, changes, manner, service, rotator):
    with ape.reverts(getattr(service, error)):
        getattr(service, manner)(given(**{"grace": 0} | changes), sender=rotator)


def test_rotate__any_time__leaves_workers_alone(service, enrol_worker, rotate, at_once):
    worker = enrol_worker()
    before = tuple(service.worker(worker))
    rotate()
    at_once()
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


def test_set_pow_bounds__within_the_widest__binds_every_rotation(service, service_owner, rotator, rotate, at_once):
    assert tuple(service.powBounds()) == (1, MOST_POW)
    tx = service.setPowBounds(100, 200, sender=service_owner)
    assert tx.events == [service.PowBoundsChanged(least=100, most=200)]
    assert tuple(service.powBounds()) == (100, 200)
    for caller in (rotator, service_owner):
        for pow_ in (99, 201):
            with ape.reverts(service.BadMinPow, minPow=pow_, least=100, most=200):
                service.rotate(given(minPow=pow_), sender=caller)
    at_once(minPow=200)  # raised under a flood
    rotate(minPow=100)  # and lowered again


@pytest.mark.parametrize("bounds", [(1, 1), (MOST_POW, MOST_POW), (2, MOST_POW), (1, MOST_POW - 1)])
def test_set_pow_bounds__at_the_widest__works(bounds, service, service_owner):
    service.setPowBounds(*bounds, sender=service_owner)
    assert tuple(service.powBounds()) == bounds


@pytest.mark.parametrize(
    ("bounds", "inputs"),
    [
        ((0, 5), {"minPow": 0, "least": 1, "most": 5}),
        ((6, 5), {"minPow": 6, "least": 1, "most": 5}),
        ((1, MOST_POW + 1), {"minPow": MOST_POW + 1, "least": 1, "most": MOST_POW}),
    ],
)
def test_set_pow_bounds__crossed_or_too_wide__reverts(bounds, inputs, service, service_owner):
    with ape.reverts(service.BadMinPow, **inputs):
        service.setPowBounds(*bounds, sender=service_owner)


def test_set_pow_bounds__to_what_they_are__reverts(service, service_owner):
    with ape.reverts(service.Unchanged):
        service.setPowBounds(1, MOST_POW, sender=service_owner)


@pytest.mark.parametrize("role", ["rotator", "stranger"])
@pytest.mark.parametrize("call", [("setRotator", ZERO), ("setPowBounds", 5, 6)], ids=lambda call: call[0])
def test_config_powers__by_anyone_but_the_service_owner__reverts(call, role, service, request):
    (name, *arguments), caller = call, request.getfixturevalue(role)
    with ape.reverts(service.OwnableUnauthorizedAccount, account=caller):
        getattr(service, name)(*arguments, sender=caller)
