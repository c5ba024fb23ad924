"""Any order of what publishers, the approver and the owner do to a channel, against a plain model of its releases."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from machines import ContractMachine, act, run
from mirrors import FAR, State
from replay import Head, ReleasesReplay
from rollouts import CHANNEL, NO_REPORT, manifest, terms, terms_digest

SOAK = 50
MODELS = range(1, 9)
SEQUENCES = (0, 0, 0, 0, 1, -1)  # how far from the newest


class ReleasesMachine(ContractMachine):
    """Everybody here calls what they may; who may not is a matter of other tests."""

    publisher = approver = owner = None

    def __init__(self):
        super().__init__()
        self.head, self.known, self.paused = Head(), {}, False

    def sequence(self, off):
        return max(0, self.head.sequence + off)

    def refusal(self, sequence, *states):
        """Why an act upon the release of that number fails, or None."""
        if sequence == 0 or sequence != self.head.sequence:
            return "NotNewest"
        return None if self.head.state in states else "WrongState"

    def move(self, event, **changes):
        if event is not None:
            self.head = replace(self.head, **changes)
            assert tuple(self.contract.head(CHANNEL)) == tuple(vars(self.head).values())
        return event is not None

    @property
    def soaked(self):
        return self.time + 1 >= self.head.since + self.head.soak

    @act(model=MODELS, waves=(1, 2), soak=(0, SOAK), term=(300, None))
    def propose(self, model, waves, soak, term):
        fields = {"waveCount": waves, "soak": soak, "expiresAt": self.time + term if term else FAR}
        error = "ReleasesPaused" if self.paused else None
        error = error or ("WrongState" if self.head.state in (State.ROLLING, State.PAUSED) else None)
        error = error or ("ManifestKnown" if model in self.known else None)
        event = self.attempt(error, "propose", CHANNEL, terms(model, **fields), sender=self.publisher)
        fresh = {"state": State.PROPOSED, "wave": 0, "since": 0, **fields}
        if self.move(event, sequence=self.head.sequence + 1, **fresh):
            self.known[model] = (self.head.sequence, False, False, terms_digest(terms(model, **fields)))

    @act(8, waves=(1, 2), soak=(0, SOAK), floor=(0, 0, 1))
    def advance(self, waves, soak, floor):
        """Takes the step that brings the newest release further: chance alone seldom does."""
        state = self.head.state
        if state == State.PROPOSED:
            self.approve(0)
        elif state == State.PAUSED:
            self.resume(0)
        elif state in (State.APPROVED, State.ROLLING):
            self.time += self.head.soak
            self.open_wave(0) if self.head.wave < self.head.waveCount else self.finalise_the_newest(floor)
        else:
            self.propose(next(model for model in count(1) if model not in self.known), waves, soak, None)

    @act(when=lambda self: self.head.sequence, off=SEQUENCES, other=(False, False, True))
    def approve(self, off, other=False):
        error = self.refusal(self.sequence(off), State.PROPOSED) or ("OtherManifest" if other else None)
        offered = (model for model, (sequence, *_) in self.known.items() if sequence == self.head.sequence)
        named = bytes(32) if other else manifest(next(offered, 0))
        event = self.attempt(error, "approve", CHANNEL, self.sequence(off), named, sender=self.approver)
        self.move(event, state=State.APPROVED)

    @act(when=lambda self: self.head.sequence, off=SEQUENCES)
    def open_wave(self, off):
        head = self.head
        error = self.refusal(self.sequence(off), State.APPROVED, State.ROLLING)
        error = error or (None if self.time < head.expiresAt else "OutsideWindow")
        error = error or (None if head.wave < head.waveCount else "WrongWave")
        error = error or (None if head.state == State.APPROVED or self.soaked else "StillSoaking")
        event = self.attempt(error, "openWave", CHANNEL, self.sequence(off), sender=self.publisher)
        self.move(event, state=State.ROLLING, wave=head.wave + 1, since=self.time)

    @act(when=lambda self: self.head.state in (State.ROLLING, State.PAUSED), off=SEQUENCES)
    def pause(self, off):
        error = self.refusal(self.sequence(off), State.ROLLING)
        event = self.attempt(error, "pause", CHANNEL, self.sequence(off), sender=self.owner)
        self.move(event, state=State.PAUSED)

    @act(when=lambda self: self.head.state in (State.ROLLING, State.PAUSED), off=SEQUENCES)
    def resume(self, off):
        error = self.refusal(self.sequence(off), State.PAUSED)
        event = self.attempt(error, "resume", CHANNEL, self.sequence(off), sender=self.approver)
        self.move(event, state=State.ROLLING, since=self.time)

    @act(when=lambda self: self.head.state == State.ROLLING, model=MODELS, floor=(0, 0, 1, 2, 4))
    def finalise(self, model, floor):
        self.complete(model, floor)

    @act(floor=(0, 0, 1, 2, 4))
    def finalise_the_newest(self, floor):
        newest = [model for model, found in self.known.items() if found[0] == self.head.sequence]
        self.complete(newest[0] if newest else 1, floor)

    def complete(self, model, floor):
        sequence = self.known.get(model, (0,))[0]
        head = self.head
        error = self.refusal(sequence, State.ROLLING)
        error = error or (None if head.wave == head.waveCount else "WrongWave")
        error = error or (None if self.soaked else "StillSoaking")
        error = error or (None if not floor or head.floor <= floor <= sequence else "BadFloor")
        call = (CHANNEL, manifest(model), floor, NO_REPORT)
        done = {"state": State.COMPLETED, "completed": sequence, "floor": floor or head.floor}
        event = self.attempt(error, "finalise", *call, sender=self.publisher)
        if self.move(event, since=self.time, **done):
            self.known[model] = (sequence, True, *self.known[model][2:])

    @act(3, when=lambda self: self.head.completed, model=MODELS)
    def roll_back(self, model):
        sequence, completed, revoked, digest = self.known.get(model, (0, False, False, bytes(24)))
        error = None if completed and not revoked and sequence != self.head.sequence else "BadTarget"
        event = self.attempt(error, "rollBack", CHANNEL, manifest(model), sender=self.approver)
        following = self.head.sequence + 1
        whole = Head(following, following, self.head.floor, State.COMPLETED, since=self.time)
        if self.move(event, **vars(whole)):
            self.known[model] = (following, completed, revoked, digest)

    @act(model=MODELS)
    def revoke(self, model):
        sequence, completed, revoked, digest = self.known.get(model, (0, False, False, bytes(24)))
        event = self.attempt("Unchanged" if revoked else None, "revoke", CHANNEL, manifest(model), sender=self.owner)
        floor = max(self.head.floor, sequence + 1 if sequence else 0)
        newest = sequence and sequence == self.head.sequence
        if self.move(event, floor=floor, state=State.REVOKED if newest else self.head.state):
            self.known[model] = (sequence, completed, True, digest)

    @act(paused=(True, False, False))
    def pause_proposals(self, paused):
        error = "Unchanged" if paused == self.paused else None
        if self.attempt(error, "setPaused", paused, sender=self.owner):
            self.paused = paused

    @act(seconds=(SOAK, 400))
    def wait(self, seconds):
        self.time += seconds

    def check(self):
        replay = ReleasesReplay(self.contract)
        assert replay.heads.get(CHANNEL, Head()) == self.head
        assert {key[1]: found for key, found in replay.releases.items()} == {
            manifest(model): found for model, found in self.known.items()
        }
        replay.check()


def test_releases__any_order_of_acts__behaves_as_the_model(chain, releases, publisher, approver, service_owner):
    roles = {"publisher": publisher, "approver": approver, "owner": service_owner}
    run(ReleasesMachine, 8, 30, chain=chain, contract=releases, **roles)
