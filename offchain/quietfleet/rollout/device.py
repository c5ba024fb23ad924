"""The device's machine: what it takes up, in which order, and how it comes back.

    IDLE → NOTIFIED → FETCHED → VERIFIED → STAGED → SHADOW → TRIAL → COMMITTED
    any before VERIFIED → REJECTED, asked for again; SHADOW → REJECTED; TRIAL → ROLLED_BACK

Theory of operation. There are two slots. The active one holds the model in use and stays untouched while the other
takes a candidate up; only a commit changes which is which, and the one before stays where it is, so that going back
needs nobody. The highest sequence ever verified is kept before anything is activated: whoever shows an older one later,
after a crash or with an older disk of the gateway, shows it in vain. Boots are counted during the trial, so that a
model that takes the process down is given back by the process that comes up after it.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.chain.channel import Channel, Release, ReleaseState
from quietfleet.chain.waves import WaveProof, proof_root
from quietfleet.errors import ReleaseRefused, RolloutError
from quietfleet.rollout.gates import MEANINGFUL, Gate
from quietfleet.rollout.reports import Bytes32, Count, Reason

MOST_BOOTS: Final = 3  # starts within one trial after which the candidate is taken for their cause
MOST_GATE: Final = 400  # bytes of a gate
MOST_SIBLINGS: Final = 16


class Device(enum.StrEnum):
    """Where a device is with a release."""

    IDLE = "idle"
    NOTIFIED = "notified"
    FETCHED = "fetched"
    VERIFIED = "verified"
    STAGED = "staged"
    SHADOW = "shadow"
    TRIAL = "trial"
    COMMITTED = "committed"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled back"


RESTING: Final = frozenset({Device.IDLE, Device.COMMITTED, Device.REJECTED, Device.ROLLED_BACK})
LEADS_TO: Final = {
    Device.IDLE: {Device.NOTIFIED},
    Device.NOTIFIED: {Device.FETCHED, Device.REJECTED, Device.COMMITTED},
    Device.FETCHED: {Device.VERIFIED, Device.REJECTED},
    Device.VERIFIED: {Device.STAGED},
    Device.STAGED: {Device.SHADOW, Device.TRIAL, Device.COMMITTED, Device.ROLLED_BACK},
    Device.SHADOW: {Device.TRIAL, Device.REJECTED, Device.ROLLED_BACK},
    Device.TRIAL: {Device.COMMITTED, Device.ROLLED_BACK},
    Device.COMMITTED: {Device.NOTIFIED, Device.ROLLED_BACK},
    Device.REJECTED: {Device.NOTIFIED, Device.ROLLED_BACK},
    Device.ROLLED_BACK: {Device.NOTIFIED},
}
"""What each state leads to. A candidate is dropped, and what was in use given back, from wherever a device is."""


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What shows a device that a release is meant for it: its place, the gate, and by which terms (their digest)."""

    terms: Annotated[bytes, Meta(min_length=24, max_length=24)]
    gate: Annotated[bytes, Meta(max_length=MOST_GATE)]
    pseudonym: Bytes32
    wave: Annotated[int, Meta(ge=1, le=255)]
    manifest_hash: Bytes32
    salt: Bytes32
    index: Annotated[int, Meta(ge=0, lt=2**MOST_SIBLINGS)]
    siblings: Annotated[tuple[Bytes32, ...], Meta(max_length=MOST_SIBLINGS)]

    @property
    def proof(self) -> WaveProof:
        """The way from its leaf to the root."""
        return WaveProof(self.pseudonym, self.wave, self.manifest_hash, self.salt, self.index, self.siblings)


class Offer(msgspec.Struct, frozen=True):
    """What the chain offers, as a device reads it: fresh is a view whose newest block is young enough."""

    channel: Channel
    release: Release
    now: float
    fresh: bool = True

    @property
    def returning(self) -> bool:
        """Whether it brings back what the whole fleet ran before: it needs no trial."""
        return any(
            one.sequence in self.channel.completed and one.manifest_hash == self.release.manifest_hash
            for one in self.channel.releases
            if one.sequence < self.release.sequence
        )

    def check(self, highest: int) -> None:
        """Raise `ReleaseRefused` unless a device may take this up at all, having seen `highest` before."""
        head, number = self.channel.head, self.release.sequence
        if not self.fresh:
            raise ReleaseRefused(Reason.STALE_CHAIN)
        if self.release.manifest_hash in self.channel.revoked:
            raise ReleaseRefused(Reason.REVOKED)
        if number < head.floor:
            raise ReleaseRefused(Reason.BELOW_FLOOR)
        if number <= highest:
            raise ReleaseRefused(Reason.OLD_SEQUENCE)
        if number in self.channel.completed:
            return
        if number != head.sequence or head.state is not ReleaseState.ROLLING:
            raise ReleaseRefused(Reason.CLOSED)
        if self.now > head.expires_at:
            raise ReleaseRefused(Reason.EXPIRED)

    def open_to(self, highest: int) -> bool:
        """Whether `check` passes."""
        try:
            self.check(highest)
        except ReleaseRefused:
            return False
        return True

    def admit(self, ticket: Ticket, highest: int) -> Gate:
        """Return the gate of the release after checking everything about a device's place in it."""
        self.check(highest)
        terms = self.release.terms
        if ticket.terms != terms.digest:
            raise ReleaseRefused(Reason.WRONG_TERMS)
        gate = _gate(ticket.gate)
        if gate.hash != terms.gate_hash:
            raise ReleaseRefused(Reason.WRONG_GATE)
        if ticket.wave > terms.wave_count or proof_root(ticket.proof) != terms.group_root:
            raise ReleaseRefused(Reason.WRONG_PROOF)
        if self.release.sequence not in self.channel.completed and ticket.wave > self.channel.head.wave:
            raise ReleaseRefused(Reason.NOT_OUR_WAVE)
        return gate


def _gate(given: bytes) -> Gate:
    try:
        gate = msgspec.json.decode(given, type=Gate)
    except msgspec.MsgspecError as error:
        raise ReleaseRefused(Reason.WRONG_GATE) from error
    if gate.canonical != given:
        raise ReleaseRefused(Reason.WRONG_GATE)
    return gate


class Install(msgspec.Struct, frozen=True):
    """A model in a slot: under which number and place, and which objects it is made of."""

    sequence: Count
    manifest_hash: Bytes32
    pseudonym: Bytes32
    terms: bytes
    gate: Gate
    names: tuple[str, str]


class Compared(msgspec.Struct, frozen=True):
    """Forecasts of both models held against what came: how many, and the sums of squared errors."""

    number: int = 0
    old: float = 0.0
    new: float = 0.0

    def and_(self, old: float, new: float) -> Compared:
        """Add one comparison, of two errors."""
        return Compared(self.number + 1, self.old + old * old, self.new + new * new)

    @property
    def ratio(self) -> float:
        """The new model's RMSE over the old one's, between 0 and 1,000."""
        if self.new == 0:
            return 1.0 if self.old == 0 else 0.0
        return min(1000.0, (self.new / self.old) ** 0.5) if self.old > 0 else 1000.0

    def worse(self, gate: Gate) -> bool:
        """Whether the new model is too much worse; NaN is."""
        return self.number > 0 and not self.ratio <= 1 + gate.margin


class Lost(msgspec.Struct, frozen=True):
    """Samples that should have come, and those that did not."""

    expected: float = 0.0
    missing: float = 0.0

    def and_(self, expected: float, missing: float) -> Lost:
        """Add some; the past fades once it outweighs a few days, so that the share is one of these days."""
        fade = 0.5 if self.expected > _FADE else 1.0
        return Lost(self.expected * fade + expected, self.missing * fade + missing)

    @property
    def share(self) -> float:
        """How much of it was lost."""
        return self.missing / self.expected if self.expected > 0 else 0.0


_FADE: Final = 1000.0


class Slots(msgspec.Struct, frozen=True):
    """The machine: both slots, what was seen, and what is measured; a new one after each event."""

    state: Device = Device.IDLE
    target: int = 0
    highest: int = 0
    refused: int = 0
    active: Install | None = None
    previous: Install | None = None
    candidate: Install | None = None
    since: float = 0.0
    boots: int = 0
    compared: Compared = Compared()
    before: Lost = Lost()
    after: Lost = Lost()

    @property
    def used(self) -> Install | None:
        """The model to work with."""
        return self.candidate if self.state is Device.TRIAL else self.active

    @property
    def shadowed(self) -> Install | None:
        """The model that forecasts beside it, unused."""
        return self.candidate if self.state is Device.SHADOW else None

    @property
    def busy(self) -> bool:
        """Whether a candidate is on its way."""
        return self.candidate is not None

    @property
    def watched(self) -> Lost:
        """The samples that came, or did not, since the candidate was last in use."""
        return self.after

    @property
    def rise(self) -> float:
        """By how much the share of lost samples rose since then."""
        return self.after.share - self.before.share if self.after.expected > 0 else 0.0

    # taking up

    def notified(self, sequence: int) -> Slots:
        """The chain offers a newer release; a candidate under way gives way to it."""
        if sequence <= self.highest or sequence == self.refused:
            raise RolloutError(f"release {sequence} comes after {max(self.highest, self.refused)}")
        if self.state is Device.NOTIFIED and self.target == sequence:
            return self
        if self.state in RESTING:
            return self._moved(Device.NOTIFIED, target=sequence)
        return self._dropped(Device.REJECTED).notified(sequence)

    def fetched(self, sequence: int) -> Slots:
        """Its bytes are here."""
        if sequence != self.target:
            raise RolloutError(f"release {sequence} is not the one waited for, {self.target}")
        return self._moved(Device.FETCHED)

    def verified(self, install: Install) -> Slots:
        """All of it is what the chain names: from now on nothing older is."""
        if install.sequence != self.target:
            raise RolloutError(f"release {install.sequence} is not the one waited for, {self.target}")
        return self._moved(Device.VERIFIED, highest=install.sequence, candidate=install)

    def staged(self) -> Slots:
        """It is in the other slot, on disk."""
        return self._moved(Device.STAGED)

    def started(self, now: float, *, returning: bool) -> Slots:
        """Begin with the candidate: in the shadow of the active model, or, where there is none, on trial."""
        candidate = self._candidate()
        if returning:
            return self.committed()
        if self.active is None or candidate.gate.shadow == 0:
            return self.tried(now)
        return self._moved(Device.SHADOW, since=now, compared=Compared())

    def tried(self, now: float) -> Slots:
        """Put the candidate to use, for a while."""
        return self._moved(Device.TRIAL, since=now, boots=0, after=Lost())

    def committed(self) -> Slots:
        """Keep the candidate; what was in use stays in the other slot."""
        candidate = self._candidate()
        before = self.before if self.after.expected < MEANINGFUL else self.after
        return self._moved(
            Device.COMMITTED, active=candidate, previous=self.active, candidate=None, before=before, after=Lost()
        )

    def recommitted(self, sequence: int, terms: bytes) -> Slots | None:
        """Take up again what is in one of the slots already, under its new number; None if neither has it."""
        found = next((one for one in (self.active, self.previous) if one is not None and one.terms == terms), None)
        if found is None or self.state is not Device.NOTIFIED or sequence != self.target:
            return None
        install = msgspec.structs.replace(found, sequence=sequence)
        other = self.previous if found is self.active else self.active
        return self._moved(Device.COMMITTED, active=install, previous=other, highest=sequence)

    # measuring

    def boot(self) -> tuple[Slots, Reason]:
        """The process came up: count it against a candidate on trial, and give it back after too many."""
        if self.state is not Device.TRIAL:
            return self, Reason.NONE
        boots = self.boots + 1
        counted = msgspec.structs.replace(self, boots=boots)
        return (counted.rolled_back(), Reason.BOOTS) if boots > MOST_BOOTS else (counted, Reason.NONE)

    def sampled(self, expected: float, missing: float) -> Slots:
        """Samples came, or did not."""
        if self.state is Device.TRIAL:
            return msgspec.structs.replace(self, after=self.after.and_(expected, missing))
        return msgspec.structs.replace(self, before=self.before.and_(expected, missing))

    def comparing(self, old: float, new: float) -> Slots:
        """Both models were held against what came, with these errors."""
        if self.state is not Device.SHADOW:
            return self
        return msgspec.structs.replace(self, compared=self.compared.and_(old, new))

    def looked_at(self, now: float) -> tuple[Slots, Reason]:
        """Let the time of a shadow or trial be over when it is, one way or the other."""
        match self.state:
            case Device.SHADOW:
                return self._shadow_over(now)
            case Device.TRIAL:
                return self._trial_over(now)
            case _:
                return self, Reason.NONE

    def _shadow_over(self, now: float) -> tuple[Slots, Reason]:
        gate = self._candidate().gate
        enough = self.compared.number >= gate.shadow
        if not enough and now < self.since + gate.deadline / 2:
            return self, Reason.NONE
        if (enough or self.compared.number >= MEANINGFUL) and self.compared.worse(gate):
            return self.rejected(), Reason.SHADOW
        return self.tried(now), Reason.NONE

    def _trial_over(self, now: float) -> tuple[Slots, Reason]:
        gate = self._candidate().gate
        told = min(self.before.expected, self.after.expected) >= MEANINGFUL
        if told and self.rise > gate.lost:
            return self.rolled_back(), Reason.LOST_SAMPLES
        return (self.committed(), Reason.NONE) if now >= self.since + gate.trial else (self, Reason.NONE)

    # going back

    def rejected(self) -> Slots:
        """Turn the candidate down for good: its number is not tried again."""
        return self._dropped(Device.REJECTED)

    def rolled_back(self) -> Slots:
        """Take the candidate out of use: the active model goes on."""
        return self._dropped(Device.ROLLED_BACK)

    def refetched(self) -> Slots:
        """What came was not the release: nothing was learned about it, and it may be asked for again."""
        return self._moved(Device.REJECTED, target=0)

    def unusable(self) -> Slots:
        """It is the release, and does not work here: its number is not tried again."""
        return self._moved(Device.REJECTED, refused=self.target)

    def lost(self) -> Slots:
        """What was in use cannot be read any more: let go of it, and take what the chain offers anew."""
        if self.busy:
            return self._dropped(Device.ROLLED_BACK)
        return Slots(Device.ROLLED_BACK, active=self.previous, before=self.before)

    def failed(self) -> Slots:
        """What is in use fails again and again: the model before it goes on, if there is one, for good."""
        if self.active is None or self.previous is None or self.busy:
            return self
        back, gone = self.previous, self.active.sequence
        return msgspec.structs.replace(
            self, state=Device.ROLLED_BACK, active=back, previous=None, refused=gone, after=Lost()
        )

    def revoked(self, manifests: frozenset[bytes], own: frozenset[bytes]) -> Slots:
        """Let go of what was revoked: `manifests` by digest, `own` the terms of revoked releases, by theirs."""

        def gone(one: Install | None) -> bool:
            return one is not None and (one.manifest_hash in manifests or one.terms in own)

        slots = self._dropped(Device.ROLLED_BACK) if gone(self.candidate) else self
        if gone(slots.previous):
            slots = msgspec.structs.replace(slots, previous=None)
        if not gone(slots.active):
            return slots
        return msgspec.structs.replace(slots, active=slots.previous, previous=None)

    def _dropped(self, state: Device) -> Slots:
        """Let the candidate go: from wherever it has come to, the active model is untouched."""
        return msgspec.structs.replace(self, state=state, candidate=None, boots=0, after=Lost())

    def _candidate(self) -> Install:
        if self.candidate is None:
            raise RolloutError(f"there is no candidate in state {self.state}")
        return self.candidate

    def _moved(self, state: Device, **changes: object) -> Slots:
        if state not in LEADS_TO[self.state]:
            raise RolloutError(f"{self.state} does not lead to {state}")
        return msgspec.structs.replace(self, state=state, **changes)
