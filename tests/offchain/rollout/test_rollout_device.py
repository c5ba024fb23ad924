from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quietfleet.chain.channel import Channel, ChannelHead, Release, ReleaseState
from quietfleet.errors import ReleaseRefused, RolloutError
from quietfleet.rollout import Device, Gate, Install, Offer, Reason, Slots, Ticket, make_plan
from quietfleet.rollout.device import LEADS_TO, MOST_BOOTS, RESTING, Compared, Lost

NAME, MANIFEST = b"\1" * 32, b"\2" * 32
GATE = Gate(shadow=4, trial=10, deadline=60)
WORKERS = [f"0x{number:040x}" for number in range(9)]
PLAN = make_plan(MANIFEST, WORKERS, seed=b"\5" * 32, gate=GATE, waves=3)
CANARY = next(worker for worker in WORKERS if PLAN.wave(PLAN.name(worker)) == 1)
LAST = next(worker for worker in WORKERS if PLAN.wave(PLAN.name(worker)) == 3)
TERMS = PLAN.terms(not_before=0, expires_at=1000)
REPLACE = msgspec.structs.replace


def ticket(worker=CANARY, plan=PLAN, terms=TERMS):
    proof = plan.proof(worker)
    return Ticket(terms.digest, plan.gate.canonical, *msgspec.structs.astuple(proof))


def offer(sequence=1, state=ReleaseState.ROLLING, wave=1, now=10.0, floor=0, fresh=True, **channel):
    releases = tuple(Release(NAME, number, 0, TERMS) for number in range(1, 6))
    head = ChannelHead(sequence=sequence, state=state, wave=wave, wave_count=3, expires_at=1000, floor=floor)
    return Offer(Channel(NAME, head, releases, **channel), releases[sequence - 1], now, fresh)


def refusal(offered, given=None, highest=0):
    with pytest.raises(ReleaseRefused) as caught:
        offered.admit(given or ticket(), highest)
    return caught.value.reason


# admission: what the chain opened, and nothing else


def test_admit__canary_in_the_first_wave__gets_the_gate_the_chain_names():
    assert offer().admit(ticket(), 0) == GATE
    assert offer(wave=3).admit(ticket(LAST), 0) == GATE
    assert offer(wave=1, state=ReleaseState.COMPLETED, completed=frozenset({1})).admit(ticket(LAST), 0) == GATE


def test_admit__older_than_what_was_seen__refused_as_roll_back_attack():
    assert refusal(offer(3), highest=3) is Reason.OLD_SEQUENCE
    assert refusal(offer(3), highest=4) is Reason.OLD_SEQUENCE


def test_admit__view_of_the_chain_is_old__refused_as_freeze_attack():
    assert refusal(offer(fresh=False)) is Reason.STALE_CHAIN


def test_admit__terms_of_another_release__refused_as_mix_and_match():
    other = REPLACE(TERMS, expires_at=2000)
    assert refusal(offer(), ticket(terms=other)) is Reason.WRONG_TERMS


def test_admit__place_in_another_release__refused_as_mix_and_match():
    other = make_plan(MANIFEST, WORKERS, seed=b"\6" * 32, gate=GATE, waves=3)
    assert refusal(offer(), ticket(plan=other)) is Reason.WRONG_PROOF


@pytest.mark.parametrize(
    "gate", [b"", b"{}", b"not json", Gate().canonical, GATE.canonical + b" ", b'{"success":1,"extra":2}', b"[" * 1000]
)
def test_admit__a_gate_the_chain_does_not_name__refused(gate):
    assert refusal(offer(), REPLACE(ticket(), gate=gate)) is Reason.WRONG_GATE


def test_admit__anything_about_the_place_altered__refused():
    good = ticket(LAST)
    changes = {
        "pseudonym": bytes(32),
        "wave": 1,
        "manifest_hash": b"\3" * 32,
        "salt": bytes(32),
        "index": good.index ^ 1,
        "siblings": good.siblings[1:],
    }
    for name, value in changes.items():
        assert refusal(offer(wave=3), REPLACE(good, **{name: value})) is Reason.WRONG_PROOF


def test_admit__a_wave_not_open_yet__refused():
    assert refusal(offer(wave=2), ticket(LAST)) is Reason.NOT_OUR_WAVE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"now": 1001.0}, Reason.EXPIRED),
        ({"floor": 2}, Reason.BELOW_FLOOR),
        ({"revoked": frozenset({MANIFEST})}, Reason.REVOKED),
        ({"sequence": 1, "state": ReleaseState.PROPOSED}, Reason.CLOSED),
        ({"sequence": 1, "state": ReleaseState.APPROVED}, Reason.CLOSED),
        ({"sequence": 1, "state": ReleaseState.PAUSED}, Reason.CLOSED),
        ({"sequence": 1, "state": ReleaseState.REVOKED}, Reason.CLOSED),
    ],
)
def test_admit__not_open__refused_with_its_reason(changes, reason):
    assert refusal(offer(**changes)) is reason


# the machine


def install(sequence, gate=GATE, terms=b"t" * 24, manifest=MANIFEST):
    return Install(sequence, manifest, bytes(32), terms, gate, ("m", "a"))


def staged(slots, sequence=1, **more):
    return slots.notified(sequence).fetched(sequence).verified(install(sequence, **more)).staged()


def committed(sequence=1, **more):
    return staged(Slots(), sequence, **more).started(0, returning=False).committed()


def test_machine__first_model__no_shadow_then_trial_then_committed():
    tried = staged(Slots()).started(5.0, returning=False)
    assert (tried.state, tried.used.sequence, tried.active) == (Device.TRIAL, 1, None)
    assert tried.looked_at(14.9)[0] == tried
    done, reason = tried.looked_at(15.0)
    assert (done.state, done.active.sequence, done.previous, reason) == (Device.COMMITTED, 1, None, Reason.NONE)


def test_machine__second_model__forecasts_beside_the_first_before_it_is_used():
    slots = staged(committed(), 2).started(0.0, returning=False)
    assert (slots.state, slots.used.sequence, slots.shadowed.sequence) == (Device.SHADOW, 1, 2)
    for _ in range(4):
        slots = slots.comparing(1.0, 1.04)
    slots, reason = slots.looked_at(1.0)
    assert (slots.state, slots.used.sequence, reason) == (Device.TRIAL, 2, Reason.NONE)
    slots, _ = slots.looked_at(11.0)
    assert (slots.active.sequence, slots.previous.sequence) == (2, 1)


@pytest.mark.parametrize("error", [1.06, 1e9, math.inf, math.nan])
def test_machine__worse_in_the_shadow__rejected_and_never_used(error):
    slots = staged(committed(), 2).started(0.0, returning=False)
    for _ in range(4):
        slots = slots.comparing(1.0, error)
    slots, reason = slots.looked_at(1.0)
    assert (slots.state, slots.used.sequence, slots.candidate, reason) == (Device.REJECTED, 1, None, Reason.SHADOW)
    with pytest.raises(RolloutError):
        slots.notified(2)


def test_machine__nothing_to_compare__shadow_ends_in_time_for_the_gates_deadline():
    slots = staged(committed(), 2).started(0.0, returning=False)
    assert slots.looked_at(29.9)[0].state is Device.SHADOW
    assert slots.looked_at(30.0)[0].state is Device.TRIAL


def test_machine__samples_get_lost_once_it_is_used__rolled_back():
    slots = committed()
    for _ in range(50):
        slots = slots.sampled(1, 0)
    slots = staged(slots, 2, gate=REPLACE(GATE, shadow=0)).started(0.0, returning=False)
    for lost in [0, 1] * 10:
        slots = slots.sampled(1, lost)
    slots, reason = slots.looked_at(1.0)
    assert (slots.state, slots.used.sequence, reason) == (Device.ROLLED_BACK, 1, Reason.LOST_SAMPLES)


def test_machine__samples_were_lost_before_as_well__not_the_models_fault():
    slots = committed()
    for lost in [0, 1] * 25:
        slots = slots.sampled(1, lost)
    slots = staged(slots, 2, gate=REPLACE(GATE, shadow=0)).started(0.0, returning=False)
    for lost in [0, 1] * 10:
        slots = slots.sampled(1, lost)
    assert slots.looked_at(10.0)[0].state is Device.COMMITTED


def test_machine__restarts_during_the_trial__given_back_after_too_many():
    slots = staged(committed(), 2, gate=REPLACE(GATE, shadow=0)).started(0.0, returning=False)
    for _ in range(MOST_BOOTS):
        slots, reason = slots.boot()
        assert reason is Reason.NONE
    slots, reason = slots.boot()
    assert (slots.state, slots.used.sequence, reason) == (Device.ROLLED_BACK, 1, Reason.BOOTS)
    assert committed().boot() == (committed(), Reason.NONE), "outside of a trial nothing is counted"


def test_machine__highest_sequence__kept_before_anything_is_activated():
    fetched = Slots().notified(7).fetched(7)
    assert fetched.highest == 0, "not before it is verified"
    verified = fetched.verified(install(7))
    assert (verified.highest, verified.active) == (7, None)
    for old in range(8):
        with pytest.raises(RolloutError):
            verified.notified(old)


def test_machine__what_came_was_not_the_release__asked_for_again_and_nothing_learned():
    slots = Slots().notified(3).refetched()
    assert (slots.state, slots.highest, slots.refused) == (Device.REJECTED, 0, 0)
    assert slots.notified(3).state is Device.NOTIFIED


def test_machine__release_that_does_not_work_here__not_tried_again_but_the_next_is():
    slots = Slots().notified(3).unusable()
    with pytest.raises(RolloutError):
        slots.notified(3)
    assert slots.notified(4).state is Device.NOTIFIED


def test_machine__roll_back_to_the_model_before__taken_from_the_other_slot():
    slots = staged(committed(1, terms=b"a" * 24), 2, terms=b"b" * 24).started(0, returning=True)
    back = slots.notified(3).recommitted(3, b"a" * 24)
    assert (back.active.sequence, back.active.terms, back.previous.terms) == (3, b"a" * 24, b"b" * 24)
    assert back.highest == 3
    assert slots.notified(3).recommitted(3, b"c" * 24) is None


def test_machine__newer_release_during_shadow_or_trial__takes_its_place():
    for gate in (GATE, REPLACE(GATE, shadow=0)):
        slots = staged(committed(), 2, gate=gate).started(0, returning=False).notified(3)
        assert (slots.state, slots.target, slots.candidate, slots.used.sequence) == (Device.NOTIFIED, 3, None, 1)


def test_machine__active_model_revoked__falls_back_to_the_one_before_or_to_none():
    bad = b"\x09" * 32
    slots = staged(committed(1), 2, manifest=bad).started(0, returning=True)
    assert slots.revoked(frozenset({bad}), frozenset()).active.sequence == 1
    assert slots.revoked(frozenset({bad, MANIFEST}), frozenset()).active is None
    trial = staged(committed(1), 2, manifest=bad, gate=REPLACE(GATE, shadow=0)).started(0, returning=False)
    assert trial.revoked(frozenset({bad}), frozenset()).used.sequence == 1
    own = staged(committed(1), 2, manifest=b"own" + bytes(29), terms=b"r" * 24).started(0, returning=True)
    assert own.revoked(frozenset(), frozenset({b"r" * 24})).active.sequence == 1, "a model of its own goes with it"


def test_machine__every_state_and_step_exhaustively__only_the_tables_transitions():
    candidate = install(2)
    steps = {
        Device.NOTIFIED: lambda slots: slots.notified(9),
        Device.FETCHED: lambda slots: slots.fetched(2),
        Device.VERIFIED: lambda slots: slots.verified(candidate),
        Device.STAGED: lambda slots: slots.staged(),
        Device.SHADOW: lambda slots: slots.started(0, returning=False),
        Device.TRIAL: lambda slots: slots.tried(0),
        Device.COMMITTED: lambda slots: slots.committed(),
    }
    for state, (goal, step) in itertools.product(Device, steps.items()):
        slots = Slots(state, target=2, active=install(1), candidate=candidate)
        if goal in LEADS_TO[state] or goal is Device.NOTIFIED:
            assert step(slots).state is goal
        else:
            with pytest.raises(RolloutError):
                step(slots)


def test_compared__figures_at_their_edges__a_ratio_between_0_and_1000():
    assert Compared().and_(0, 0).ratio == 1
    assert Compared().and_(1, 0).ratio == 0
    assert Compared().and_(0, 1).ratio == 1000
    assert not Compared().worse(GATE)


def test_lost__long_past__fades():
    long = Lost(2000.0, 1000.0)
    for _ in range(200):
        long = long.and_(10, 0)
    assert long.share < 0.2


class DeviceMachine(RuleBasedStateMachine):
    """Anything a chain, a gateway and a power supply can do to a device; a restart reads what was written last."""

    def __init__(self):
        super().__init__()
        self.slots, self.now, self.number = Slots(), 0.0, 0
        self.committed, self.seen = set(), 0

    def keep(self, slots):
        """Write, as a device does with each step, and read again: a crash loses nothing between two steps."""
        assert slots.state in LEADS_TO[self.slots.state] | {self.slots.state} or slots.state in RESTING
        self.slots = msgspec.msgpack.decode(msgspec.msgpack.encode(slots), type=Slots)
        if self.slots.active:
            self.committed.add(self.slots.active.sequence)

    @rule(sequence=st.integers(1, 60))
    def chain_offers(self, sequence):
        before = self.slots
        try:
            notified = before.notified(sequence)
        except RolloutError:
            assert sequence <= before.highest or sequence == before.refused
            return
        assert notified.state is Device.NOTIFIED
        assert notified.active == before.active
        self.slots = notified

    @precondition(lambda self: self.slots.state is Device.NOTIFIED)
    @rule(shadow=st.sampled_from([0, 4]), returning=st.booleans())
    def takes_it_up(self, shadow, returning):
        number = self.slots.target
        for step in (
            lambda slots: slots.fetched(number),
            lambda slots: slots.verified(install(number, REPLACE(GATE, shadow=shadow))),
            lambda slots: slots.staged(),
            lambda slots: slots.started(self.now, returning=returning),
        ):
            self.keep(step(self.slots))

    @precondition(lambda self: self.slots.state is Device.NOTIFIED)
    @rule(again=st.booleans())
    def what_came_was_wrong(self, again):
        self.keep(self.slots.refetched() if again else self.slots.unusable())

    @rule(seconds=st.sampled_from([1, 11, 61]))
    def time_passes(self, seconds):
        self.now += seconds
        self.keep(self.slots.looked_at(self.now)[0])

    @rule(error=st.sampled_from([0.5, 1.0, 3.0]))
    def compares(self, error):
        self.keep(self.slots.comparing(1.0, error))

    @rule(lost=st.booleans())
    def samples(self, lost):
        for _ in range(12):
            self.keep(self.slots.sampled(1, lost))

    @rule()
    def restarts(self):
        self.keep(self.slots.boot()[0])

    @rule()
    def all_is_revoked(self):
        self.slots = self.slots.revoked(frozenset({MANIFEST}), frozenset())
        assert self.slots.active is None

    @invariant()
    def nothing_older_ever_returns(self):
        assert self.slots.highest >= self.seen
        self.seen = self.slots.highest
        assert all(one.sequence <= self.slots.highest for one in (self.slots.active, self.slots.candidate) if one)

    @invariant()
    def only_a_trial_uses_a_candidate(self):
        used = self.slots.used
        if self.slots.state is not Device.TRIAL:
            assert used == self.slots.active

    @invariant()
    def a_candidate_is_only_there_while_something_is_done_with_it(self):
        states = {Device.VERIFIED, Device.STAGED, Device.SHADOW, Device.TRIAL}
        assert (self.slots.candidate is not None) == (self.slots.state in states)


TestDeviceMachine = DeviceMachine.TestCase
TestDeviceMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
