"""The asking side of a deal: one wish of one worker.

Theory of operation: a wish goes out as a Seek and waits in the oracle's queue. A Proposal that meets the wish waits for
the worker's decision; after Accept the next word is an Introduction or a failure. A failed deal is back in the queue by
the oracle's own doing, so the same seek goes on; a refused, expired, severed or released one starts again under a fresh
id, so that two pairings cannot be linked by it. Words that may have been lost are repeated: the oracle answers again.

         SEEK            PROPOSAL             ACCEPT             INTRODUCTION
  IDLE ───────→ SEEKING ─────────→ PROPOSED ───────→ ACCEPTED ───────────────→ INTRODUCED
    ↑              ↑ └─ FAILED or DECLINE ─┴──────────────┘                         │
    └── REFUSED ───┴────────────────────── END ─────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum, auto
from typing import Final

import msgspec

from quietfleet.dispatch._deal import ANSWER_WITHIN
from quietfleet.dispatch.messages import (
    Accept,
    Constraint,
    DealFailed,
    Decline,
    FromWorker,
    Introduction,
    Proposal,
    Refusal,
    Release,
    Released,
    Seek,
    Terms,
)

REPEAT_EVERY: Final = 10.0  # seconds after which an unanswered word is said again
RETRY_AFTER: Final = 30.0  # seconds of rest after a refusal


class SeekerState(StrEnum):
    """How far a wish has come."""

    IDLE = "idle"
    SEEKING = "seeking"
    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    INTRODUCED = "introduced"


class SeekerEvent(Enum):
    """What can happen to a wish."""

    SEEK = auto()
    PROPOSAL = auto()
    ACCEPT = auto()
    DECLINE = auto()
    FAILED = auto()
    INTRODUCTION = auto()
    REFUSED = auto()
    END = auto()


_S, _E = SeekerState, SeekerEvent
TRANSITIONS: Final[dict[tuple[SeekerState, SeekerEvent], SeekerState]] = {
    (_S.IDLE, _E.SEEK): _S.SEEKING,
    (_S.SEEKING, _E.PROPOSAL): _S.PROPOSED,
    (_S.SEEKING, _E.REFUSED): _S.IDLE,
    (_S.SEEKING, _E.END): _S.IDLE,
    (_S.PROPOSED, _E.PROPOSAL): _S.PROPOSED,  # the failure of the deal before was lost on the way
    (_S.PROPOSED, _E.ACCEPT): _S.ACCEPTED,
    (_S.PROPOSED, _E.DECLINE): _S.SEEKING,
    (_S.PROPOSED, _E.FAILED): _S.SEEKING,
    (_S.PROPOSED, _E.REFUSED): _S.IDLE,
    (_S.PROPOSED, _E.END): _S.IDLE,
    (_S.ACCEPTED, _E.PROPOSAL): _S.PROPOSED,
    (_S.ACCEPTED, _E.FAILED): _S.SEEKING,
    (_S.ACCEPTED, _E.INTRODUCTION): _S.INTRODUCED,
    (_S.ACCEPTED, _E.REFUSED): _S.IDLE,
    (_S.ACCEPTED, _E.END): _S.IDLE,
    (_S.INTRODUCED, _E.END): _S.IDLE,
}


class Wish(msgspec.Struct, frozen=True):
    """What a worker asks the oracle for; `patience` is seconds in the queue."""

    capability: str
    min_version: int = 0
    constraints: tuple[Constraint, ...] = ()
    patience: float = 600.0

    def met_by(self, terms: Terms) -> bool:
        """Check the oracle's word: the terms show every attribute that was asked about."""
        return terms.capability.version >= self.min_version and all(c.holds(terms.attributes) for c in self.constraints)


class SeekerMachine:
    """Keeps one wish paired; every method returns what to send to the oracle."""

    def __init__(self, wish: Wish, random: Callable[[int], bytes]) -> None:
        self.wish = wish
        self.state = SeekerState.IDLE
        self.deal_id: str | None = None
        self.terms: Terms | None = None
        self.introduction: Introduction | None = None
        self._random = random
        self._awaited: FromWorker | None = None
        self._due = float("inf")
        self._seek: Seek | None = None

    def start(self, now: float) -> list[FromWorker]:
        """Ask for a pairing under a fresh id."""
        if not self._step(SeekerEvent.SEEK):
            return []
        wish = self.wish
        self._seek = Seek(
            self._random(16).hex(), wish.capability, wish.min_version, wish.constraints, now + wish.patience
        )
        return self._expect(self._seek, now)

    def receive(self, message: object, now: float) -> list[FromWorker]:
        """React to the oracle; what does not concern the current seek or deal is ignored."""
        match message:
            case Proposal(deal_id, terms, True) if terms.capability.name == self.wish.capability:
                return self._proposed(deal_id, terms, now)
            case Introduction(deal_id) if deal_id == self.deal_id and self._step(SeekerEvent.INTRODUCTION):
                self.introduction = message
                self._due = self.terms.expires if self.terms else now
            case DealFailed(deal_id) if deal_id == self.deal_id and self._step(SeekerEvent.FAILED):
                self._back_in_queue(now)
            case Refusal(seek_id) if self._seek and seek_id == self._seek.seek_id and self._step(SeekerEvent.REFUSED):
                self._clear(due=now + RETRY_AFTER)
            case Released(deal_id) if deal_id == self.deal_id:
                return self._afresh(now)
        return []

    def accept(self, card: bytes, now: float) -> list[FromWorker]:
        """Agree to the terms on the table, leaving this worker's card for the other side."""
        if self.deal_id is None or not self._step(SeekerEvent.ACCEPT):
            return []
        return self._expect(Accept(self.deal_id, card), now)

    def decline(self, reason: str, now: float) -> list[FromWorker]:
        """Turn the terms on the table down and go on seeking."""
        if self.deal_id is None or not self._step(SeekerEvent.DECLINE):
            return []
        declined = Decline(self.deal_id, reason)
        self._back_in_queue(now)
        return [declined]

    def severed(self, now: float) -> list[FromWorker]:
        """End the pairing and seek another one."""
        return self._end(now) if self.state is SeekerState.INTRODUCED else []

    def tick(self, now: float) -> list[FromWorker]:
        """Do what the time asks for: rest over, terms over, patience over, or a word to repeat."""
        if now >= self._given_up:
            return self._end(now)
        if now < self._due:
            return []
        if self.state is SeekerState.INTRODUCED:
            return self._end(now)
        if self.state is SeekerState.IDLE:
            return self.start(now)
        return self._expect(self._awaited, now) if self._awaited else []

    @property
    def _given_up(self) -> float:
        """When an unpaired seek is over at the oracle too, even if its last deal was proposed in the last moment."""
        if self._seek is None or self.state is SeekerState.INTRODUCED:
            return float("inf")
        return self._seek.expires + ANSWER_WITHIN + REPEAT_EVERY

    def _proposed(self, deal_id: str, terms: Terms, now: float) -> list[FromWorker]:
        if deal_id == self.deal_id:
            return []
        if not self.wish.met_by(terms) or not self._step(SeekerEvent.PROPOSAL):
            return [Decline(deal_id, "not what was asked for")]
        self.deal_id, self.terms = deal_id, terms
        self._awaited, self._due = self._seek, now + REPEAT_EVERY
        return []

    def _back_in_queue(self, now: float) -> None:
        self.deal_id, self.terms = None, None
        self._awaited, self._due = self._seek, now + REPEAT_EVERY

    def _end(self, now: float) -> list[FromWorker]:
        """Leave what there is and begin again."""
        concluded = self.deal_id if self.state is SeekerState.INTRODUCED else None
        released: list[FromWorker] = [Release(concluded)] if concluded else []
        return released + self._afresh(now)

    def _afresh(self, now: float) -> list[FromWorker]:
        self._step(SeekerEvent.END)
        self._clear(due=now)
        return self.start(now)

    def _clear(self, due: float) -> None:
        self.deal_id, self.terms, self.introduction, self._seek, self._awaited = None, None, None, None, None
        self._due = due

    def _expect(self, message: FromWorker, now: float) -> list[FromWorker]:
        self._awaited, self._due = message, now + REPEAT_EVERY
        return [message]

    def _step(self, event: SeekerEvent) -> bool:
        """Move if the table allows it; return whether it did."""
        state = TRANSITIONS.get((self.state, event))
        self.state = state or self.state
        return state is not None
