"""The serving side of deals: one service of one worker, up to its own capacity.

Theory of operation: the offer is said until the oracle confirms it, renewed from time to time under the same id, and
said again when the oracle has suspended it. An oracle that could not reach this worker for a while has suspended it
without its hearing of that, so that a renewal is also how it comes back. Each proposal within the capacity is a small
deal of its own; one that is not concluded within the oracle's deadline is dropped here as it is there, and one whose
seeker then opens no session gives its place back. After a restart this machine knows none of its deals: the oracle
still counts them.

Each offer brings a fresh stock of one-time keys. Half of it used, the next comes. The private keys live in this machine
alone: one goes when it has opened its card, the others when four later offers have been made.

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

from quietfleet.crypto.onetime import OneTimeKey
from quietfleet.dispatch._deal import ANSWER_WITHIN
from quietfleet.dispatch._seeker import REPEAT_EVERY
from quietfleet.dispatch._tie import Tie, open_card, seal_card, tie_of
from quietfleet.dispatch.messages import (
    MAX_REPLY_KEYS,
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
from quietfleet.errors import CryptoError

OPEN_WITHIN: Final = 120.0  # seconds for the seeker to open the session, as long as its introduction may be delayed
_LEAST_STOCK: Final = 8  # one-time keys in an offer: deals may fail
RENEW_EVERY: Final = 600.0  # seconds between two renewals of an offer that stands
_LATER: Final = 0.001  # seconds by which an offer outlasts the one before, so that it is a renewal
_STOCKS: Final = 4  # offers whose keys may still be answered


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
    price: float = 0.0

    @property
    def stock(self) -> int:
        """How many one-time keys an offer brings."""
        return min(MAX_REPLY_KEYS, max(_LEAST_STOCK, 2 * self.capacity))

    def offered_for(self, terms: Terms) -> bool:
        """Check the oracle's word: this capability, this price, and no attribute that this service has not."""
        same = (terms.capability, terms.price) == (self.capability, self.price)
        return same and terms.attributes.items() <= self.attributes.items()


class Served(msgspec.Struct, frozen=True):
    """One deal of a provider; `due` is when it ends (`until`) or its Accept is said again.

    Once introduced, `card` is the seeker's, opened, and the key that opened it is gone.
    """

    tie: Tie
    key: OneTimeKey | None
    until: float
    state: ServedState = ServedState.PROPOSED
    accept: Accept | None = None
    due: float = float("inf")
    introduction: Introduction | None = None
    card: bytes | None = None

    @property
    def deal_id(self) -> str:
        return self.tie.deal_id

    @property
    def terms(self) -> Terms:
        return self.tie.terms

    @property
    def concluded(self) -> bool:
        return self.state in (ServedState.INTRODUCED, ServedState.OPENED)


class ProviderMachine:
    """Keeps one service listed and its deals within capacity; what a method returns is to be sent to the oracle.

    An `offer_id` kept over a restart makes it the same offer. `elsewhere` counts the places taken by deals that this
    machine does not know: while none is free, the offer is not opened again. `unreadable` counts cards that were sealed
    under other terms or keys than this side was told.
    """

    def __init__(
        self,
        service: Service,
        random: Callable[[int], bytes],
        offer_id: str | None = None,
        elsewhere: Callable[[], int] = int,
    ) -> None:
        self.service = service
        self._elsewhere = elsewhere
        self.state = ProviderState.IDLE
        self.deals: dict[str, Served] = {}
        self.unreadable = 0
        self._random = random
        self._offer_id = offer_id or random(16).hex()
        self._stocks: list[dict[bytes, OneTimeKey]] = []
        self._due = float("inf")
        self._expires = 0.0

    def start(self, now: float) -> list[FromWorker]:
        """List the service."""
        return self._offer(now) if self._step(ProviderEvent.START) else []

    def renew(self, now: float) -> list[FromWorker]:
        """Say the offer again at once: the oracle may have lost it."""
        return self._offer(now) if self.state is not ProviderState.IDLE else []

    def stop(self) -> list[FromWorker]:
        """Take the listing back; pairings that are introduced go on."""
        self._due = float("inf")
        self._stocks = []
        return [Withdraw(self._offer_id)] if self._step(ProviderEvent.STOP) else []

    def receive(self, message: object, now: float) -> list[FromWorker]:
        """React to the oracle; of deals this worker does not know, only a place is given back."""
        match message:
            case OfferState(offer_id, open) if offer_id == self._offer_id:
                self._listed(now, is_open=open)
            case Proposal(_, terms, False) if terms.capability.name == self.service.capability.name:
                return self._proposed(message, now)
            case Introduction(deal_id, _, False):
                return self._introduced(deal_id, message, now)
            case DealFailed(deal_id) if deal_id in self.deals:
                self._failed(deal_id)
            case Released(deal_id):
                self.deals.pop(deal_id, None)
        return []

    def accept(self, deal_id: str, card: bytes, now: float) -> list[FromWorker]:
        """Agree to a proposal, leaving this worker's card for the other side's eyes."""
        deal = self.deals.get(deal_id)
        if deal is None or deal.state is not ServedState.PROPOSED:
            return []
        try:
            said = Accept(deal_id, seal_card(deal.tie, card, from_seeker=False))
        except CryptoError:
            return self.decline(deal_id, "its key is no key")
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
        return [Release(deal_id, opened=deal is None or deal.state is ServedState.OPENED)]

    def tick(self, now: float) -> list[FromWorker]:
        """Renew or repeat the offer, repeat what is unanswered, drop what is over."""
        out = self._offer(now) if now >= self._due else []
        for deal in list(self.deals.values()):
            out += self._tick_deal(deal, now)
        return out

    @property
    def _full(self) -> bool:
        return len(self.deals) + self._elsewhere() >= self.service.capacity

    def _offer(self, now: float) -> list[FromWorker]:
        service = self.service
        if self.state is ProviderState.OFFERING and self._full:
            self._due = now + REPEAT_EVERY
            return []
        keys = [OneTimeKey.generate(self._random) for _ in range(service.stock)]
        self._stocks = [{key.public_bytes: key for key in keys}, *self._stocks][:_STOCKS]
        self._due = now + REPEAT_EVERY
        self._expires = max(now + service.lifetime, self._expires + _LATER)
        return [
            Offer(
                self._offer_id,
                service.capability,
                service.attributes,
                service.capacity,
                self._expires,
                tuple(key.public_bytes for key in keys),
                service.price,
            )
        ]

    def _take(self, public: bytes) -> OneTimeKey | None:
        """Use one of our keys: it serves no other deal."""
        return next((stock.pop(public) for stock in self._stocks if public in stock), None)

    def _listed(self, now: float, *, is_open: bool) -> None:
        if self._step(ProviderEvent.OPENED if is_open else ProviderEvent.CLOSED):
            self._due = now + (min(self.service.lifetime / 2, RENEW_EVERY) if is_open else REPEAT_EVERY)

    def _proposed(self, message: Proposal, now: float) -> list[FromWorker]:
        deal_id = message.deal_id
        if deal_id in self.deals:
            return []
        if self.state is ProviderState.IDLE:
            return [Decline(deal_id, "nothing is offered")]
        if not self.service.offered_for(message.terms) or message.terms.expires > self._expires:
            return [Decline(deal_id, "not what is offered")]
        key = self._take(message.own_key)
        if key is None:
            return [Decline(deal_id, "its key is not ours any more", full=True), *self._offer(now)]
        if self._full:
            return [Decline(deal_id, "no place is free", full=True)]
        self.deals[deal_id] = Served(tie_of(message), key, until=now + ANSWER_WITHIN)
        return self._top_up(now)

    def _top_up(self, now: float) -> list[FromWorker]:
        low = self.state is ProviderState.OPEN and 2 * len(self._stocks[0]) <= self.service.stock
        return self._offer(now) if low else []

    def _introduced(self, deal_id: str, message: Introduction, now: float) -> list[FromWorker]:
        deal = self.deals.get(deal_id)
        if deal is None:
            return [Release(deal_id)]  # accepted before a restart, or given back while the word was on its way
        if deal.state is not ServedState.ACCEPTED or deal.key is None:
            return []
        try:
            card = open_card(deal.tie, deal.key, message.card, from_seeker=True)
        except CryptoError:
            self.unreadable += 1
            del self.deals[deal_id]
            return [Release(deal_id, opened=False)]
        until = min(now + OPEN_WITHIN, deal.terms.expires)
        self.deals[deal_id] = Served(deal.tie, None, until, ServedState.INTRODUCED, introduction=message, card=card)
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
