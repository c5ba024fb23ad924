from __future__ import annotations

import itertools

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quietfleet.chain import events
from quietfleet.chain.channel import Channel, ChannelHead, ReleaseState, Report, Terms
from quietfleet.chain.fold import fold
from quietfleet.rollout import Condition, Counts, Gate, Stage, Step, Verdict, judge, next_step

NAME = b"\1" * 32
NOW, EXPIRES = 1000.0, 2000
GATE = Gate(success=0.75, failure=0.25, deadline=50)


def condition(state, **changes):
    waves = {"wave": changes.pop("wave", 1), "wave_count": 3}
    head = ChannelHead(sequence=5, state=state, since=0, expires_at=EXPIRES, **waves)
    return Condition(head, changes.pop("sequence", 5), changes.pop("now", NOW), **changes)


OPEN, PAUSE, BACK = (Verdict.OPEN, "met"), (Verdict.PAUSE, "silent"), (Verdict.ROLL_BACK, "failures")


def test_next_step__every_state_and_judgement__is_the_machines():
    expected = {
        ReleaseState.PROPOSED: lambda c: Step.APPROVE if c.approves else Step.WAIT,
        ReleaseState.APPROVED: lambda _: Step.OPEN,
        ReleaseState.ROLLING: lambda c: {
            Verdict.WAIT: Step.WAIT,
            Verdict.OPEN: Step.OPEN if c.head.wave < 3 else Step.FINALISE,
        }.get(c.judgement[0], Step.PAUSE),
        ReleaseState.PAUSED: lambda c: Step.WAIT if c.condemned != 5 or not c.target else Step.ROLL_BACK,
        ReleaseState.COMPLETED: lambda _: Step.LEAVE,
        ReleaseState.REVOKED: lambda _: Step.LEAVE,
    }
    for state, judgement, wave, approves, target, condemned in itertools.product(
        expected, (OPEN, PAUSE, BACK, (Verdict.WAIT, "")), (1, 3), (False, True), (False, True), (0, 4, 5)
    ):
        found = condition(state, judgement=judgement, wave=wave, approves=approves, target=target, condemned=condemned)
        assert next_step(found)[0] is expected[state](found), found


def test_next_step__nothing_offered_yet__proposes_unless_another_rolls():
    for state in ReleaseState:
        step, _ = next_step(condition(state, sequence=0))
        waits = state in {ReleaseState.ROLLING, ReleaseState.PAUSED}
        assert step is (Step.WAIT if waits else Step.PROPOSE)


def test_next_step__replaced_revoked_or_completed__left():
    for state in ReleaseState:
        assert next_step(condition(state, sequence=4)) == (Step.LEAVE, Stage.REPLACED)
        assert next_step(condition(state, sequence=4, condemned=4)) == (Step.LEAVE, Stage.ROLLED_BACK)
        assert next_step(condition(state, sequence=4, completed=True)) == (Step.LEAVE, Stage.COMPLETED)
        assert next_step(condition(state, revoked=True)) == (Step.LEAVE, Stage.REVOKED)


def test_next_step__its_time_is_over__given_up_before_it_opened_and_paused_after():
    late = EXPIRES + 1.0
    for state in (ReleaseState.PROPOSED, ReleaseState.APPROVED):
        assert next_step(condition(state, now=late)) == (Step.LEAVE, Stage.EXPIRED)
    assert next_step(condition(ReleaseState.ROLLING, now=late, judgement=OPEN)) == (Step.PAUSE, Stage.EXPIRED)
    last = condition(ReleaseState.ROLLING, now=late, judgement=OPEN, wave=3)
    assert next_step(last)[0] is Step.FINALISE, "all waves are open: it may still be closed"


def test_next_step__before_its_time__waits():
    found = condition(ReleaseState.APPROVED)
    early = msgspec.structs.replace(found, head=msgspec.structs.replace(found.head, not_before=1001))
    assert next_step(early) == (Step.WAIT, "not before")


class FleetMachine(RuleBasedStateMachine):
    """The gateway against the contract's rules (the fold refuses what it would), and devices that fail."""

    @initialize(size=st.integers(1, 8), waves=st.integers(1, 3), first=st.booleans())
    def begin(self, size, waves, first):
        self.now, self.size, self.waves = 10.0, size, min(waves, size)
        self.book = Channel(NAME)
        self.condemned, self.outcomes, self.numbers = 0, {}, 0
        if first:
            self.propose()
            for event in (
                events.ReleaseApproved(NAME, 1, "0x"),
                *(events.WaveOpened(NAME, 1, wave + 1) for wave in range(self.waves)),
                events.ReleaseFinalised(NAME, 1, 0, Report(1, 0, 0)),
            ):
                self.happens(event)
        self.fresh()

    def fresh(self):
        self.numbers += 1
        self.manifest, self.outcomes = bytes([self.numbers + 100]) * 32, {}

    def propose(self, manifest=b"\7" * 32):
        terms = Terms(manifest, b"\1" * 32, GATE.hash, 0, 10**9, 0, self.waves)
        self.happens(events.ReleaseProposed(NAME, len(self.book.releases) + 1, terms))

    def happens(self, event):
        self.book = fold(self.book, event, int(self.now))

    @property
    def open(self):
        """How many devices the open waves have."""
        head = self.book.head
        return self.size if head.wave >= self.waves else -(-self.size * head.wave // self.waves)

    @property
    def condition(self):
        head, record = self.book.head, self.book.record(self.manifest)
        heard = list(self.outcomes.values())[: self.open]
        counts = Counts(self.open, sum(heard), len(heard) - sum(heard))
        target = any(n in self.book.completed and n >= head.floor for n in range(1, head.sequence))
        judgement = judge(GATE, counts, now=self.now, since=head.since)
        return Condition(
            head, record.sequence, self.now, record.completed, record.revoked, judgement, target, True, self.condemned
        )

    @rule()
    def gateway(self):
        found = self.condition
        step, why = next_step(found)
        number = found.head.sequence
        match step:
            case Step.PROPOSE:
                self.propose(self.manifest)
            case Step.APPROVE:
                self.happens(events.ReleaseApproved(NAME, number, "0x"))
            case Step.OPEN:
                assert found.head.state is ReleaseState.APPROVED or found.judgement[0] is Verdict.OPEN
                self.happens(events.WaveOpened(NAME, number, found.head.wave + 1))
            case Step.PAUSE:
                if found.judgement[0] is Verdict.ROLL_BACK:
                    self.condemned = number
                self.happens(events.RolloutPaused(NAME, number, "0x"))
            case Step.ROLL_BACK:
                back = max(n for n in self.book.completed if n >= found.head.floor)
                manifest = self.book.releases[back - 1].manifest_hash
                self.happens(events.RolledBack(NAME, number + 1, manifest, back))
            case Step.FINALISE:
                assert found.head.wave == self.waves
                assert sum(self.outcomes.values()) >= 0.75 * self.size
                self.happens(events.ReleaseFinalised(NAME, number, 0, Report(1, 0, 0)))
            case Step.LEAVE:
                assert why in {"completed", "rolled back", "revoked", "replaced"}
                self.fresh()

    @precondition(lambda self: self.book.head.state in {ReleaseState.ROLLING, ReleaseState.PAUSED})
    @rule(device=st.integers(0, 7), worked=st.booleans())
    def report(self, device, worked):
        if device < self.open and device == len(self.outcomes):
            self.outcomes[device] = worked

    @rule(seconds=st.sampled_from([1, 49, 51]))
    def pass_time(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.book.head.state is ReleaseState.PAUSED)
    @rule()
    def approver_resumes(self):
        self.happens(events.RolloutResumed(NAME, self.book.head.sequence, "0x"))
        self.condemned = 0

    @precondition(lambda self: self.book.record(self.manifest).sequence and not self.book.record(self.manifest).revoked)
    @rule()
    def approver_revokes(self):
        record = self.book.record(self.manifest)
        floor = max(self.book.head.floor, record.sequence + 1)
        self.happens(events.ReleaseRevoked(NAME, record.sequence, self.manifest, floor))

    @invariant()
    def completed_releases_succeeded_and_never_failed(self):
        if self.condemned and self.book.head.sequence == self.condemned:
            assert self.book.head.state is not ReleaseState.COMPLETED


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
