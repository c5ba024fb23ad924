"""The fleet's machine: from where the chain says a channel stands, and from reports, to the gateway's next transaction.

    DRAFT → PROPOSED → APPROVED → WAVE 1 → … → WAVE n → COMPLETED
                                    ↓ ↑
                                  PAUSED → ROLLING_BACK → ROLLED_BACK
    anything → REVOKED

Theory of operation. The machine keeps no state of its own but one mark: the sequence it has condemned. Everything else
is read from the chain each time, so a gateway killed between two transactions takes the next one, and never one twice.
A release that fails is paused first, so that nobody else takes it up, and then the newest release that reached the
whole fleet comes back under a new number. Where there is none, or where a release is merely late, it stays paused for a
person. What a person resumes is judged by what is heard from then on.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from quietfleet.chain.channel import ChannelHead, ReleaseState
from quietfleet.rollout.gates import Judgement, Verdict


class Stage(enum.StrEnum):
    """Where a release is."""

    DRAFT = "draft"
    PROPOSED = "proposed"
    APPROVED = "approved"
    WAVE = "wave"
    PAUSED = "paused"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    COMPLETED = "completed"
    REVOKED = "revoked"
    REPLACED = "replaced"
    EXPIRED = "expired"


class Step(enum.StrEnum):
    """What the gateway does next."""

    WAIT = "wait"
    PROPOSE = "propose"
    APPROVE = "approve"
    OPEN = "open a wave"
    PAUSE = "pause"
    ROLL_BACK = "roll back"
    FINALISE = "finalise"
    LEAVE = "leave"


class Condition(msgspec.Struct, frozen=True):
    """What the machine goes by.

    `sequence` is the newest number under which the manifest was offered, 0 before the first; `completed` and `revoked`
    are the contract's flags of it. `judgement` is the gate's, on an open wave; `target` whether an older manifest can
    come back; `approves` whether the gateway's own account is the approver; `condemned` the sequence given up.
    """

    head: ChannelHead
    sequence: int
    now: float
    completed: bool = False
    revoked: bool = False
    judgement: Judgement = (Verdict.WAIT, "")
    target: bool = False
    approves: bool = False
    condemned: int = 0

    @property
    def stage(self) -> Stage:
        """Where the release is."""
        state = self.head.state
        if self.revoked:
            return Stage.REVOKED
        if self.sequence == 0:
            return Stage.DRAFT
        if self.sequence != self.head.sequence:
            gone = Stage.ROLLED_BACK if self.condemned == self.sequence else Stage.REPLACED
            return Stage.COMPLETED if self.completed else gone
        if state is ReleaseState.PAUSED and self.condemned == self.sequence:
            return Stage.ROLLING_BACK
        if self._expired(state):
            return Stage.EXPIRED
        return _STAGES[state]

    def _expired(self, state: ReleaseState) -> bool:
        late = self.now > self.head.expires_at
        return late and (state in _UNOPENED or (state is ReleaseState.ROLLING and self._waves_left))

    @property
    def _waves_left(self) -> bool:
        return self.head.wave < self.head.wave_count


_UNOPENED: Final = frozenset({ReleaseState.PROPOSED, ReleaseState.APPROVED})
_STAGES: Final = {
    ReleaseState.PROPOSED: Stage.PROPOSED,
    ReleaseState.APPROVED: Stage.APPROVED,
    ReleaseState.ROLLING: Stage.WAVE,
    ReleaseState.PAUSED: Stage.PAUSED,
    ReleaseState.COMPLETED: Stage.COMPLETED,
    ReleaseState.REVOKED: Stage.REVOKED,
}
_OVER: Final = frozenset({Stage.COMPLETED, Stage.ROLLED_BACK, Stage.REVOKED, Stage.REPLACED})


def next_step(found: Condition) -> tuple[Step, str]:
    """Return what the gateway does next about a release of its own, and why in a word."""
    stage = found.stage
    if stage in _OVER:
        return Step.LEAVE, stage
    step = _STEPS.get(stage)
    return step(found) if step else (Step.WAIT, stage)


def _proposing(found: Condition) -> tuple[Step, str]:
    """Propose beside nothing that rolls: the contract refuses it, and it would cut a rollout short."""
    if found.head.state in {ReleaseState.ROLLING, ReleaseState.PAUSED}:
        return Step.WAIT, "another release"
    return Step.PROPOSE, "wanted"


def _approving(found: Condition) -> tuple[Step, str]:
    return (Step.APPROVE, "ours to approve") if found.approves else (Step.WAIT, "approval")


def _opening(found: Condition) -> tuple[Step, str]:
    return (Step.WAIT, "not before") if found.now < found.head.not_before else (Step.OPEN, "approved")


def _returning(found: Condition) -> tuple[Step, str]:
    return (Step.ROLL_BACK, "condemned") if found.target else (Step.WAIT, "nothing to go back to")


def _expired(found: Condition) -> tuple[Step, str]:
    return (Step.PAUSE if found.head.state is ReleaseState.ROLLING else Step.LEAVE), Stage.EXPIRED


def _judged(found: Condition) -> tuple[Step, str]:
    verdict, why = found.judgement
    match verdict:
        case Verdict.OPEN:
            return (Step.OPEN if found.head.wave < found.head.wave_count else Step.FINALISE), why
        case Verdict.PAUSE | Verdict.ROLL_BACK:
            return Step.PAUSE, why
        case _:
            return Step.WAIT, why


_STEPS: Final = {
    Stage.DRAFT: _proposing,
    Stage.PROPOSED: _approving,
    Stage.APPROVED: _opening,
    Stage.ROLLING_BACK: _returning,
    Stage.WAVE: _judged,
    Stage.EXPIRED: _expired,
}
