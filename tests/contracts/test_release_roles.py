"""Who may do what to a release: publishers with a working gateway, the approver, the owner."""

from __future__ import annotations

import ape
import pytest
from mirrors import ZERO, Device, Kind, State
from rollouts import CHANNEL, NO_REPORT, manifest, terms

PUBLISHERS = {  # what only publishers do, and the state in which they could
    "propose": (State.COMPLETED, (CHANNEL, terms(3))),
    "openWave": (State.APPROVED, (CHANNEL, 2)),
    "finalise": (State.ROLLING, (CHANNEL, manifest(2), 0, NO_REPORT)),
}
APPROVERS = {"approve": (State.PROPOSED, (CHANNEL, 2, manifest(2))), "resume": (State.PAUSED, (CHANNEL, 2))}
OF_ALL_IN_CHARGE = {"pause": (State.ROLLING, (CHANNEL, 2)), "rollBack": (State.ROLLING, (CHANNEL, manifest(1)))}
OWNERS = {"setPublisher": (ZERO, ZERO), "setApprover": (ZERO,), "setPaused": (True,)}


@pytest.fixture
def ready(rollout, releases):
    """The act, with everything but its caller in order; it is called with an account."""

    def prepare(name, state, arguments):
        rollout.reach(State.COMPLETED, 1)
        rollout.reach(state, 2)
        return lambda caller: getattr(releases, name)(*arguments, sender=caller)

    return prepare


@pytest.fixture(params=["off", "suspended", "retired"])
def stopped_gateway(request, other_service, gateway, device_owner, service_owner):
    """Stops the gateway the publisher publishes for."""

    def stop():
        if request.param == "off":
            other_service.setActive(gateway, False, sender=device_owner)
        elif request.param == "suspended":
            other_service.setSuspended(gateway, True, sender=service_owner)
        else:
            other_service.retire(gateway, sender=device_owner)

    return stop


@pytest.mark.parametrize("act", PUBLISHERS)
def test_act_of_publishers__by_anybody_else__reverts(
    act, releases, ready, service_owner, approver, stranger, publisher
):
    call = ready(act, *PUBLISHERS[act])
    for caller in (service_owner, approver, stranger):
        with ape.reverts(releases.NotPublisher, caller=caller):
            call(caller)
    call(publisher)


@pytest.mark.parametrize("act", PUBLISHERS)
def test_act_of_publishers__gateway_stopped__reverts(act, releases, ready, stopped_gateway, gateway, publisher):
    call = ready(act, *PUBLISHERS[act])
    stopped_gateway()
    with ape.reverts(releases.GatewayNotUsable, gateway=gateway):
        call(publisher)


@pytest.mark.parametrize("act", APPROVERS)
def test_act_of_the_approver__by_anybody_else__reverts(
    act, releases, ready, service_owner, approver, stranger, publisher
):
    call = ready(act, *APPROVERS[act])
    for caller in (service_owner, publisher, stranger):
        with ape.reverts(releases.NotApprover, caller=caller):
            call(caller)
    call(approver)


@pytest.mark.parametrize("role", ["publisher", "approver", "service_owner"])
@pytest.mark.parametrize("act", OF_ALL_IN_CHARGE)
def test_act_of_all_in_charge__by_one_of_them__works(act, role, ready, request):
    assert ready(act, *OF_ALL_IN_CHARGE[act])(request.getfixturevalue(role)).events


@pytest.mark.parametrize("act", OF_ALL_IN_CHARGE)
def test_act_of_all_in_charge__by_a_stranger__reverts(act, releases, ready, stranger):
    with ape.reverts(releases.NotInCharge, caller=stranger):
        ready(act, *OF_ALL_IN_CHARGE[act])(stranger)


@pytest.mark.parametrize("act", OF_ALL_IN_CHARGE)
def test_act_of_all_in_charge__gateway_stopped__is_left_to_the_others(
    act, releases, ready, stopped_gateway, publisher, approver
):
    call = ready(act, *OF_ALL_IN_CHARGE[act])
    stopped_gateway()
    with ape.reverts(releases.NotInCharge, caller=publisher):
        call(publisher)
    call(approver)


@pytest.mark.parametrize("role", ["publisher", "stranger"])
def test_revoke__by_neither_owner_nor_approver__reverts(role, releases, rollout, request):
    rollout.propose(1)
    caller = request.getfixturevalue(role)
    with ape.reverts(releases.NotInCharge, caller=caller):
        releases.revoke(CHANNEL, manifest(1), sender=caller)


@pytest.mark.parametrize("role", ["publisher", "approver", "stranger"])
@pytest.mark.parametrize("act", OWNERS)
def test_act_of_the_owner__by_anybody_else__reverts(act, role, releases, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(releases.OwnableUnauthorizedAccount, account=caller):
        getattr(releases, act)(*OWNERS[act], sender=caller)


def test_set_publisher__another__publishes_beside_the_first(releases, service_owner, gateway, publisher, stranger):
    assert (releases.gatewayOf(publisher), releases.gatewayOf(stranger)) == (gateway, ZERO)
    tx = releases.setPublisher(stranger, gateway, sender=service_owner)
    assert tx.events == [releases.PublisherChanged(publisher=stranger, gateway=gateway)]
    releases.propose(CHANNEL, terms(1), sender=stranger)
    releases.propose(CHANNEL, terms(2), sender=publisher)


def test_set_publisher__to_no_gateway__ends_it(releases, service_owner, publisher):
    tx = releases.setPublisher(publisher, ZERO, sender=service_owner)
    assert tx.events == [releases.PublisherChanged(publisher=publisher, gateway=ZERO)]
    with ape.reverts(releases.NotPublisher, caller=publisher):
        releases.propose(CHANNEL, terms(1), sender=publisher)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.GATEWAY])
def test_propose__for_a_worker_of_another_kind__reverts(
    kind, releases, other_service, service_owner, device_owner, publisher
):
    other = Device.numbered(1)
    other_service.enrol(other.enrolment(other_service, device_owner, kind), sender=device_owner)
    releases.setPublisher(publisher, other.id, sender=service_owner)
    with ape.reverts(releases.GatewayNotUsable, gateway=other.id):
        releases.propose(CHANNEL, terms(1), sender=publisher)


def test_propose__for_a_gateway_of_another_fleet__reverts(releases, enrol_worker, service_owner, publisher):
    foreign = enrol_worker(Kind.GATEWAY)
    releases.setPublisher(publisher, foreign, sender=service_owner)
    with ape.reverts(releases.GatewayNotUsable, gateway=foreign):
        releases.propose(CHANNEL, terms(1), sender=publisher)


def test_propose__gateway_switched_on_again__works(releases, other_service, gateway, device_owner, publisher):
    other_service.setActive(gateway, False, sender=device_owner)
    other_service.setActive(gateway, True, sender=device_owner)
    releases.propose(CHANNEL, terms(1), sender=publisher)


def test_set_publisher__what_it_is__reverts(releases, service_owner, publisher, gateway, stranger):
    with ape.reverts(releases.Unchanged):
        releases.setPublisher(publisher, gateway, sender=service_owner)
    with ape.reverts(releases.Unchanged):
        releases.setPublisher(stranger, ZERO, sender=service_owner)


def test_set_publisher__nobody__reverts(releases, service_owner, gateway):
    with ape.reverts(releases.ZeroAddress):
        releases.setPublisher(ZERO, gateway, sender=service_owner)


def test_set_approver__to_another__passes_the_right(releases, rollout, service_owner, approver, stranger):
    tx = releases.setApprover(stranger, sender=service_owner)
    assert tx.events == [releases.ApproverChanged(previous=approver, current=stranger)]
    assert releases.approver() == stranger
    rollout.propose(1)
    with ape.reverts(releases.NotApprover, caller=approver):
        rollout.approve()
    releases.approve(CHANNEL, 1, manifest(1), sender=stranger)


def test_set_approver__to_nobody__stops_approvals(releases, rollout, service_owner, approver):
    releases.setApprover(ZERO, sender=service_owner)
    rollout.propose(1)
    for caller in (approver, service_owner):
        with ape.reverts(releases.NotApprover, caller=caller):
            releases.approve(CHANNEL, 1, manifest(1), sender=caller)


def test_set_approver__what_it_is__reverts(releases, service_owner, approver):
    with ape.reverts(releases.Unchanged):
        releases.setApprover(approver, sender=service_owner)


def test_set_paused__and_back__stops_proposals_alone(releases, rollout, service_owner):
    rollout.reach(State.COMPLETED, 1)
    rollout.propose(2, waveCount=2)
    tx = releases.setPaused(True, sender=service_owner)
    assert (tx.events, releases.paused()) == ([releases.PausedChanged(paused=True)], True)
    with ape.reverts(releases.ReleasesPaused):
        rollout.propose(3)
    rollout.approve()
    rollout.open_wave()
    rollout.pause()
    rollout.resume()
    rollout.open_wave()
    rollout.finalise(2)
    rollout.roll_back(1)
    rollout.revoke(1)
    releases.setPaused(False, sender=service_owner)
    rollout.propose(3)


@pytest.mark.parametrize("to", [True, False])
def test_set_paused__what_it_is__reverts(to, releases, service_owner):
    if to:
        releases.setPaused(True, sender=service_owner)
    with ape.reverts(releases.Unchanged):
        releases.setPaused(to, sender=service_owner)


def test_service__any__is_the_one_it_was_deployed_for(releases, other_service):
    assert releases.service() == other_service
