"""The serving side of deals: one service of one worker, up to its own capacity.

Theory of operation: the offer is said until the oracle confirms it, renewed at half of its lifetime under the same id,
and said again when the oracle has suspended it. Each proposal within the capacity is a small deal of its own; one that
is not concluded within the oracle's deadline is dropped here as it is there, and one whose seeker then opens no session
gives its place back. After a restart this machine knows none of its deals: the oracle still counts them.

         START           OPENED                        ACCEPT          INTRODUCTION            SESSION
  IDLE ────────→ OFFERING ⇄ OPEN      deal: PROPOSED ───────→ ACCEPTED ───────────→ INTRODUCED ───────→ OPENED
    ↑              CLOSED   │                   └── FAILED ──────┴──── (forgotten) ──────┴── END ─────────┘
    └──────── STOP ─────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum, auto
from typing import Final

import msgspec
from msgspec.structs import replace

from quietfleet.dispatch._deal import ANSWER_WITHIN
from quietfleet.dispatch._seeker import REPEAT_EVERY
from quietfleet.dispatch.messages import (
    Accept,
    Capability,
    DealFailed,
    Decline,
    FromWorker,
    Introduction,
    Offer,
    OfferState,
    Proposal,
    Release,
    Released,
    Terms,
    Value,
    Withdraw,
)

OPEN_WITHIN: Final = 120.0  # seconds for the seeker to open the session, as long as its introduction may be delayed


class ProviderState(StrEnum):
    """Whether the service is listed."""

    IDLE = "idle"
    OFFERING = "offering"
    OPEN = "open"


class ProviderEvent(Enum):
    """What can happen to a listing."""

    START = auto()
    OPENED = auto()
    CLOSED = auto()
    STOP = auto()


_S, _E = ProviderState, ProviderEvent
TRANSITIONS: Final[dict[tuple[ProviderState, ProviderEvent], ProviderState]] = {
    (_S.IDLE, _E.START): _S.OFFERING,
    (_S.OFFERING, _E.OPENED): _S.OPEN,
    (_S.OFFERING, _E.STOP): _S.IDLE,
    (_S.OPEN, _E.OPENED): _S.OPEN,  # a renewal was confirmed
    (_S.OPEN, _E.CLOSED): _S.OFFERING,
    (_S.OPEN, _E.STOP): _S.IDLE,
}


class ServedState(StrEnum):
    """How far one proposal has come."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    INTRODUCED = "introduced"
    OPENED = "opened"


class Service(msgspec.Struct, frozen=True):
    """What a worker lists; `lifetime` is the seconds an offer, and so a pairing, holds."""

    capability: Capability
    attributes: dict[str, Value]
    capacity: int
    lifetime: float = 86_400.0


class Served(msgspec.Struct, frozen=True):
    """One deal of a provider; `due` is when it ends (`until`) or its Accept is said again."""

    deal_id: str
    terms: Terms
    until: float
    state: ServedState = ServedState.PROPOSED
    accept: Accept | None = None
    due: float = float("inf")
    introduction: Introduction | None = None

    @property
    def concluded(self) -> bool:
        return self.state in (ServedState.INTRODUCED, ServedState.OPENED)


class ProviderMachine:
    """Keeps one service listed and its deals within capacity; what a method returns is to be sent to the oracle."""

    def __init__(self, service: Service, random: Callable[[int], bytes]) -> None:
        self.service = service
        self.state = ProviderState.IDLE
        self.deals: dict[str, Served] = {}
        self._offer_id = random(16).hex()
        self._due = float("inf")

    def start(self, now: float) -> list[FromWorker]:
        """List the service."""
        return self._offer(now) if self._step(ProviderEvent.START) else []

    def stop(self) -> list[FromWorker]:
        """Take the listing back; pairings that are introduced go on."""
        self._due = float("inf")
        return [Withdraw(self._offer_id)] if self._step(ProviderEvent.STOP) else []

    def receive(self, message: object, now: float) -> list[FromWorker]:
        """React to the oracle; of deals this worker does not know, only a place is given back."""
        match message:
            case OfferState(offer_id, open) if offer_id == self._offer_id:
                self._listed(now, is_open=open)
            case Proposal(deal_id, terms, False) if terms.capability.name == self.service.capability.name:
                return self._proposed(deal_id, terms, now)
            case Introduction(deal_id, _, False):
                return self._introduced(deal_id, message, now)
            case DealFailed(deal_id) if deal_id in self.deals:
                self._failed(deal_id)
            case Released(deal_id):
                self.deals.pop(deal_id, None)
        return []

    def accept(self, deal_id: str, card: bytes, now: float) -> list[FromWorker]:
        """Agree to a proposal, leaving this worker's card for the other side."""
        deal = self.deals.get(deal_id)
        if deal is None or deal.state is not ServedState.PROPOSED:
            return []
        said = Accept(deal_id, card)
        self.deals[deal_id] = replace(deal, state=ServedState.ACCEPTED, accept=said, due=now + REPEAT_EVERY)
        return [said]

    def decline(self, deal_id: str, reason: str) -> list[FromWorker]:
        """Turn a proposal down."""
        deal = self.deals.get(deal_id)
        if deal is None or deal.state is not ServedState.PROPOSED:
            return []
        del self.deals[deal_id]
        return [Decline(deal_id, reason)]

    def opened(self, deal_id: str) -> None:
        """Note that the session of a pairing is open, so that it lasts as long as its terms."""
        deal = self.deals.get(deal_id)
        if deal is not None and deal.state is ServedState.INTRODUCED:
            self.deals[deal_id] = replace(deal, state=ServedState.OPENED, until=deal.terms.expires)

    def ended(self, deal_id: str) -> list[FromWorker]:
        """Free the place of a pairing whose session is over, also of one from before a restart."""
        deal = self.deals.get(deal_id)
        if deal is not None and not deal.concluded:
            return []
        self.deals.pop(deal_id, None)
        return [Release(deal_id)]

    def tick(self, now: float) -> list[FromWorker]:
        """Renew or repeat the offer, repeat what is unanswered, drop what is over."""
        out = self._offer(now) if now >= self._due else []
        for deal in list(self.deals.values()):
            out += self._tick_deal(deal, now)
        return out

    def _offer(self, now: float) -> list[FromWorker]:
        service = self.service
        self._due = now + REPEAT_EVERY
        return [Offer(self._offer_id, service.capability, service.attributes, service.capacity, now + service.lifetime)]

    def _listed(self, now: float, *, is_open: bool) -> None:
        if self._step(ProviderEvent.OPENED if is_open else ProviderEvent.CLOSED):
            self._due = now + (self.service.lifetime / 2 if is_open else REPEAT_EVERY)

    def _proposed(self, deal_id: str, terms: Terms, now: float) -> list[FromWorker]:
        if deal_id in self.deals:
            return []
        if self.state is ProviderState.IDLE:
            return [Decline(deal_id, "nothing is offered")]
        if len(self.deals) >= self.service.capacity:
            return [Decline(deal_id, "no place is free", full=True)]
        self.deals[deal_id] = Served(deal_id, terms, until=now + ANSWER_WITHIN)
        return []

    def _introduced(self, deal_id: str, message: Introduction, now: float) -> list[FromWorker]:
        deal = self.deals.get(deal_id)
        if deal is None:
            return [Release(deal_id)]  # accepted before a restart, or given back while the word was on its way
        if deal.state is ServedState.ACCEPTED:
            until = min(now + OPEN_WITHIN, deal.terms.expires)
            self.deals[deal_id] = replace(
                deal, state=ServedState.INTRODUCED, introduction=message, until=until, due=float("inf")
            )
        return []

    def _failed(self, deal_id: str) -> None:
        if not self.deals[deal_id].concluded:
            del self.deals[deal_id]

    def _tick_deal(self, deal: Served, now: float) -> list[FromWorker]:
        if deal.concluded:
            return self.ended(deal.deal_id) if now >= deal.until else []
        if deal.state is ServedState.PROPOSED and now >= deal.until:
            del self.deals[deal.deal_id]
        if deal.accept is None or now < deal.due:
            return []
        self.deals[deal.deal_id] = replace(deal, due=now + REPEAT_EVERY)
        return [deal.accept]

    def _step(self, event: ProviderEvent) -> bool:
        """Move if the table allows it; return whether it did."""
        state = TRANSITIONS.get((self.state, event))
        self.state = state or self.state
        return state is not None
