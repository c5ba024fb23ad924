"""The asking side of a deal: one wish of one worker.

Theory of operation: a wish goes out as a Seek and waits in the oracle's queue. A Proposal that meets the wish waits for
the worker's decision; after Accept the next word is an Introduction or a failure. A failed deal is back in the queue by
the oracle's own doing, so the same seek goes on; a refused, expired, severed or released one starts again under a fresh
id, so that two pairings cannot be linked by it. Words that may have been lost are repeated: the oracle answers again.
Each time a seek is said it brings a fresh one-time key, because a deal this side never heard of may have taken the last
one. The private keys live in this machine alone, and go when the counterpart's card has been opened.

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

from quietfleet.crypto.onetime import OneTimeKey
from quietfleet.dispatch._deal import ANSWER_WITHIN
from quietfleet.dispatch._tie import Tie, open_card, seal_card, tie_of
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
from quietfleet.errors import CryptoError

REPEAT_EVERY: Final = 10.0  # seconds after which an unanswered word is said again
RETRY_AFTER: Final = 30.0  # seconds of rest after a refusal
_KEYS: Final = 64  # one-time keys of a seek that may still be answered


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
    max_price: float = 0.0

    def met_by(self, terms: Terms) -> bool:
        """Check the oracle's word: the terms show every attribute that was asked about."""
        return (
            terms.capability.version >= self.min_version
            and terms.price <= self.max_price
            and all(c.holds(terms.attributes) for c in self.constraints)
        )


class SeekerMachine:
    """Keeps one wish paired; every method returns what to send to the oracle.

    Once introduced, `card` is the counterpart's, opened, and `tie` what the session's purpose has to name. `unreadable`
    counts cards that were sealed under other terms or keys than this side was told.
    """

    def __init__(self, wish: Wish, random: Callable[[int], bytes]) -> None:
        self.wish = wish
        self.state = SeekerState.IDLE
        self.tie: Tie | None = None
        self.introduction: Introduction | None = None
        self.card: bytes | None = None
        self.unreadable = 0
        self._random = random
        self._keys: dict[bytes, OneTimeKey] = {}
        self._key: OneTimeKey | None = None
        self._opened = False
        self._accept: Accept | None = None
        self._due = float("inf")
        self._seek: Seek | None = None

    @property
    def deal_id(self) -> str | None:
        """The deal under way."""
        return self.tie.deal_id if self.tie else None

    @property
    def terms(self) -> Terms | None:
        """What is on the table, or agreed."""
        return self.tie.terms if self.tie else None

    def start(self, now: float) -> list[FromWorker]:
        """Ask for a pairing under a fresh id."""
        if not self._step(SeekerEvent.SEEK):
            return []
        wish, seek_id = self.wish, self._random(16).hex()
        self._seek = Seek(
            seek_id, wish.capability, wish.min_version, wish.constraints, now + wish.patience, b"", wish.max_price
        )
        return self._ask(now)

    def receive(self, message: object, now: float) -> list[FromWorker]:
        """React to the oracle; what does not concern the current seek or deal is ignored."""
        match message:
            case Proposal(_, terms, True) if terms.capability.name == self.wish.capability:
                return self._proposed(message, now)
            case Introduction(deal_id) if deal_id == self.deal_id and self._step(SeekerEvent.INTRODUCTION):
                return self._introduced(message, now)
            case DealFailed(deal_id) if deal_id == self.deal_id and self._step(SeekerEvent.FAILED):
                return self._ask(now)
            case Refusal(seek_id) if self._seek and seek_id == self._seek.seek_id and self._step(SeekerEvent.REFUSED):
                self._clear(due=now + RETRY_AFTER)
            case Released(deal_id) if deal_id == self.deal_id:
                return self._afresh(now)
        return []

    def accept(self, card: bytes, now: float) -> list[FromWorker]:
        """Agree to the terms on the table, leaving this worker's card for the other side's eyes."""
        if self.tie is None or self.state is not SeekerState.PROPOSED:
            return []
        try:
            sealed = seal_card(self.tie, card, from_seeker=True)
        except CryptoError:
            return self.decline("its key is no key", now)
        self._step(SeekerEvent.ACCEPT)
        self._accept, self._due = Accept(self.tie.deal_id, sealed), now + REPEAT_EVERY
        return [self._accept]

    def decline(self, reason: str, now: float) -> list[FromWorker]:
        """Turn the terms on the table down and go on seeking."""
        if self.tie is None or not self._step(SeekerEvent.DECLINE):
            return []
        return [Decline(self.tie.deal_id, reason), *self._ask(now)]

    def opened(self) -> None:
        """Note that the session of the pairing is open."""
        self._opened = self.state is SeekerState.INTRODUCED

    def severed(self, now: float) -> list[FromWorker]:
        """End the pairing and seek another one."""
        return self._end(now) if self.state is SeekerState.INTRODUCED else []

    def tick(self, now: float) -> list[FromWorker]:
        """Do what the time asks for: rest over, terms over, patience over, or a word to repeat."""
        if now >= self._given_up:
            return self._end(now)
        return self._overdue(now) if now >= self._due else []

    @property
    def _given_up(self) -> float:
        """When an unpaired seek is over at the oracle too, even if its last deal was proposed in the last moment."""
        if self._seek is None or self.state is SeekerState.INTRODUCED:
            return float("inf")
        return self._seek.expires + ANSWER_WITHIN + REPEAT_EVERY

    def _overdue(self, now: float) -> list[FromWorker]:
        match self.state:
            case SeekerState.IDLE:
                return self.start(now)
            case SeekerState.SEEKING:
                return self._ask(now)
            case SeekerState.PROPOSED:  # nobody decided in time
                self._step(SeekerEvent.FAILED)
                return self._ask(now)
            case SeekerState.ACCEPTED if self._accept:
                self._due = now + REPEAT_EVERY
                return [self._accept]
        return self._end(now)

    def _ask(self, now: float) -> list[FromWorker]:
        """Say the seek, for the first time or again, with a fresh key; no deal is under way."""
        if self._seek is None:
            return []
        key = OneTimeKey.generate(self._random)
        self._keys[key.public_bytes] = key
        if len(self._keys) > _KEYS:
            del self._keys[next(iter(self._keys))]
        self.tie, self._key, self._accept = None, None, None
        self._seek = msgspec.structs.replace(self._seek, reply_key=key.public_bytes)
        self._due = now + REPEAT_EVERY
        return [self._seek]

    def _proposed(self, message: Proposal, now: float) -> list[FromWorker]:
        if message.deal_id == self.deal_id:
            return []
        key = self._keys.pop(message.own_key, None)
        if key is None or not self.wish.met_by(message.terms) or not self._step(SeekerEvent.PROPOSAL):
            declined = Decline(message.deal_id, "not what was asked for")
            return [declined, *(self._ask(now) if self.state is SeekerState.SEEKING else [])]
        self.tie, self._key, self._accept = tie_of(message), key, None
        self._due = now + ANSWER_WITHIN
        return []

    def _introduced(self, message: Introduction, now: float) -> list[FromWorker]:
        if self.tie is None or self._key is None:
            return []
        try:
            self.card = open_card(self.tie, self._key, message.card, from_seeker=False)
        except CryptoError:
            self.unreadable += 1
            return self._end(now)
        self.introduction, self._due = message, self.tie.terms.expires
        self._keys, self._key, self._accept = {}, None, None
        return []

    def _end(self, now: float) -> list[FromWorker]:
        """Leave what there is and begin again."""
        concluded = self.deal_id if self.state is SeekerState.INTRODUCED else None
        released: list[FromWorker] = [Release(concluded, self._opened)] if concluded else []
        return released + self._afresh(now)

    def _afresh(self, now: float) -> list[FromWorker]:
        self._step(SeekerEvent.END)
        self._clear(due=now)
        return self.start(now)

    def _clear(self, due: float) -> None:
        self.tie, self.introduction, self.card, self._seek, self._accept = None, None, None, None, None
        self._keys, self._key, self._opened = {}, None, False
        self._due = due

    def _step(self, event: SeekerEvent) -> bool:
        """Move if the table allows it; return whether it did."""
        state = TRANSITIONS.get((self.state, event))
        self.state = state or self.state
        return state is not None
