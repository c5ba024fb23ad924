"""What an enrolment costs, how that changes, and what a pause stops."""

from __future__ import annotations

import ape
import pytest
from configurations import given
from mirrors import DAY, FAR, FEE, FEE_CAP, Device, Flag, Kind, Right, take_over

WINDOW = 7 * DAY
OWNERS_CALLS = [("announceFee", 0), ("cancelFee",), ("applyFee",), ("lowerFeeCap", FEE), ("setPaused", True)]


@pytest.fixture
def announced(service, service_owner):
    """Announces another fee; when it may be applied."""

    def announce(fee=2 * FEE):
        service.announceFee(fee, sender=service_owner)
        return service.announcedFee().applicableFrom

    return announce


@pytest.fixture
def paused(service, service_owner):
    """The service, with enrolments paused."""
    service.setPaused(True, sender=service_owner)
    return service


def test_deploy__fee_at_the_cap__works(project, service_owner):
    deployed = service_owner.deploy(project.Service, service_owner, FEE, FEE)
    assert (deployed.fee(), deployed.feeCap(), deployed.paused()) == (FEE, FEE, False)


def test_deploy__fee_above_the_cap__reverts(project, service_owner):
    with ape.reverts(project.Service.FeeAboveCap, fee=FEE + 1, cap=FEE):
        service_owner.deploy(project.Service, service_owner, FEE + 1, FEE)


@pytest.mark.parametrize("fee", [0, FEE - 1, FEE_CAP])
def test_announce_fee__up_to_the_cap__changes_nothing_yet(fee, service, service_owner):
    tx = service.announceFee(fee, sender=service_owner)
    applicable_from = tx.timestamp + DAY
    assert tx.events == [service.FeeAnnounced(fee=fee, applicableFrom=applicable_from)]
    assert tuple(service.announcedFee()) == (fee, applicable_from)
    assert service.fee() == FEE


def test_announce_fee__above_the_cap__reverts(service, service_owner):
    with ape.reverts(service.FeeAboveCap, fee=FEE_CAP + 1, cap=FEE_CAP):
        service.announceFee(FEE_CAP + 1, sender=service_owner)


def test_announce_fee__what_it_is__reverts(service, service_owner):
    with ape.reverts(service.Unchanged):
        service.announceFee(FEE, sender=service_owner)


def test_announce_fee__again__waits_anew(service, announced, service_owner, chain):
    first = announced()
    chain.pending_timestamp = first - 1
    second = announced(3 * FEE)
    assert second == first - 1 + DAY
    chain.pending_timestamp = first
    with ape.reverts(service.OutsideFeeWindow, opens=second, closes=second + WINDOW, time=first):
        service.applyFee(sender=service_owner)


@pytest.mark.parametrize("late", [0, WINDOW])
def test_apply_fee__at_an_edge_of_its_window__changes_it(late, service, announced, service_owner, chain):
    chain.pending_timestamp = announced() + late
    tx = service.applyFee(sender=service_owner)
    assert tx.events == [service.FeeChanged(previous=FEE, current=2 * FEE)]
    assert (service.fee(), tuple(service.announcedFee())) == (2 * FEE, (0, 0))


@pytest.mark.parametrize("late", [-1, WINDOW + 1])
def test_apply_fee__a_second_outside__reverts(late, service, announced, service_owner, chain):
    opens = announced()
    chain.pending_timestamp = opens + late
    with ape.reverts(service.OutsideFeeWindow, opens=opens, closes=opens + WINDOW, time=opens + late):
        service.applyFee(sender=service_owner)
    assert service.fee() == FEE


def test_apply_fee__twice_or_not_announced__reverts(service, announced, service_owner, chain):
    with ape.reverts(service.NoFeeAnnounced):
        service.applyFee(sender=service_owner)
    chain.pending_timestamp = announced()
    service.applyFee(sender=service_owner)
    with ape.reverts(service.NoFeeAnnounced):
        service.applyFee(sender=service_owner)


def test_apply_fee__cap_lowered_since__reverts(service, announced, service_owner, chain):
    opens = announced(2 * FEE)
    service.lowerFeeCap(2 * FEE - 1, sender=service_owner)
    chain.pending_timestamp = opens
    with ape.reverts(service.FeeAboveCap, fee=2 * FEE, cap=2 * FEE - 1):
        service.applyFee(sender=service_owner)


def test_enrol__around_a_change__costs_what_is_in_force(service, announced, service_owner, device, device_owner, chain):
    chain.pending_timestamp = announced(2 * FEE)
    service.enrol(device().enrolment(service, device_owner), sender=device_owner, value=FEE)
    service.applyFee(sender=service_owner)
    new = device().enrolment(service, device_owner)
    with ape.reverts(service.WrongFee, sent=FEE, expected=2 * FEE):
        service.enrol(new, sender=device_owner, value=FEE)
    service.enrol(new, sender=device_owner, value=2 * FEE)


def test_enrol__free_of_charge__takes_no_ether(service, announced, service_owner, device, device_owner, chain):
    chain.pending_timestamp = announced(0)
    service.applyFee(sender=service_owner)
    new = device().enrolment(service, device_owner)
    with ape.reverts(service.WrongFee, sent=1, expected=0):
        service.enrol(new, sender=device_owner, value=1)
    service.enrol(new, sender=device_owner)


def test_cancel_fee__announced__takes_it_back(service, announced, service_owner, chain):
    opens = announced(2 * FEE)
    tx = service.cancelFee(sender=service_owner)
    assert tx.events == [service.FeeAnnouncementCancelled(fee=2 * FEE)]
    assert tuple(service.announcedFee()) == (0, 0)
    chain.pending_timestamp = opens
    with ape.reverts(service.NoFeeAnnounced):
        service.applyFee(sender=service_owner)


def test_cancel_fee__not_announced__reverts(service, service_owner):
    with ape.reverts(service.NoFeeAnnounced):
        service.cancelFee(sender=service_owner)


@pytest.mark.parametrize("cap", [FEE, FEE_CAP - 1])
def test_lower_fee_cap__not_below_the_fee__works(cap, service, service_owner):
    tx = service.lowerFeeCap(cap, sender=service_owner)
    assert tx.events == [service.FeeCapLowered(previous=FEE_CAP, current=cap)]
    assert service.feeCap() == cap


@pytest.mark.parametrize("cap", [0, FEE - 1, FEE_CAP + 1])
def test_lower_fee_cap__below_the_fee_or_up__reverts(cap, service, service_owner):
    with ape.reverts(service.BadFeeCap, cap=cap, least=FEE, most=FEE_CAP):
        service.lowerFeeCap(cap, sender=service_owner)


def test_lower_fee_cap__to_what_it_is__reverts(service, service_owner):
    with ape.reverts(service.Unchanged):
        service.lowerFeeCap(FEE_CAP, sender=service_owner)


@pytest.mark.parametrize("role", ["stranger", "rotator", "device_owner"])
@pytest.mark.parametrize("call", OWNERS_CALLS, ids=lambda call: call[0])
def test_admission__by_anyone_but_the_service_owner__reverts(call, role, service, request):
    (name, *arguments), caller = call, request.getfixturevalue(role)
    with ape.reverts(service.OwnableUnauthorizedAccount, account=caller):
        getattr(service, name)(*arguments, sender=caller)


def test_set_paused__and_back__tells_of_each(service, service_owner):
    tx = service.setPaused(True, sender=service_owner)
    assert (tx.events, service.paused()) == ([service.PausedChanged(paused=True)], True)
    tx = service.setPaused(False, sender=service_owner)
    assert (tx.events, service.paused()) == ([service.PausedChanged(paused=False)], False)


@pytest.mark.parametrize("to", [True, False])
def test_set_paused__to_what_it_is__reverts(to, service, service_owner):
    if to:
        service.setPaused(True, sender=service_owner)
    with ape.reverts(service.Unchanged):
        service.setPaused(to, sender=service_owner)


def test_paused__any_enrolment__reverts_until_resumed(paused, device, device_owner, rich_device, service_owner):
    new = device().enrolment(paused, device_owner)
    itself = (*Device.of(rich_device).point, Kind.SENSOR, device_owner)
    with ape.reverts(paused.EnrolmentPaused):
        paused.enrol(new, sender=device_owner, value=FEE)
    with ape.reverts(paused.EnrolmentPaused):
        paused.enrolBatch([new], sender=device_owner, value=FEE)
    with ape.reverts(paused.EnrolmentPaused):
        paused.enrolSelf(*itself, sender=rich_device, value=FEE)
    paused.setPaused(False, sender=service_owner)
    paused.enrolBatch([new], sender=device_owner, value=FEE)
    paused.enrolSelf(*itself, sender=rich_device, value=FEE)


def test_paused__everything_of_an_owner__goes_on(
    service, service_owner, enrol_worker, pending_worker, device, device_owner, other_owner, operator, grant
):
    worker, other = enrol_worker(), enrol_worker()
    service.setPaused(True, sender=service_owner)
    service.accept(pending_worker, sender=device_owner)
    grant(Right.OFF)
    service.setActive(worker, False, sender=operator)
    service.setActiveBatch([worker], True, sender=device_owner)
    service.rotateKey(device().new_key(service, worker, device_owner, 1), sender=device_owner)
    service.rotateKeyBatch([device().new_key(service, worker, device_owner, 2)], sender=device_owner)
    service.offerTransfer(worker, other_owner, sender=device_owner)
    service.cancelTransfer(worker, sender=device_owner)
    service.offerTransfer(worker, other_owner, sender=device_owner)
    service.acceptTransfer(worker, sender=other_owner)
    agreed = take_over(other_owner, service, other, device_owner, 1)
    service.transferSigned(other, other_owner, FAR, agreed, sender=device_owner)
    service.retire(worker, sender=other_owner)
    assert service.worker(worker).flags == Flag.RETIRED


def test_paused__everything_of_the_service__goes_on(
    service, service_owner, enrol_worker, announced, rotator, stranger, chain
):
    worker = enrol_worker()
    service.setPaused(True, sender=service_owner)
    service.setSuspended(worker, True, sender=service_owner)
    chain.pending_timestamp = announced()
    service.applyFee(sender=service_owner)
    announced(3 * FEE)
    service.cancelFee(sender=service_owner)
    service.lowerFeeCap(2 * FEE, sender=service_owner)
    service.rotate(given(), sender=rotator)
    service.rotateAtOnce(given(grace=0), sender=rotator)
    service.setPowBounds(1, 10**9, sender=service_owner)
    service.setRotator(stranger, sender=service_owner)
    service.nameSuccessor(stranger, sender=service_owner)
    service.withdraw(service_owner, sender=service_owner)
    service.transferOwnership(stranger, sender=service_owner)
    service.acceptOwnership(sender=stranger)
    assert (service.owner(), service.balance) == (stranger, 0)
