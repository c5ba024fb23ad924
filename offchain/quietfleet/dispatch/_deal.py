"""One deal between a seeker and a provider.

Theory of operation: the oracle proposes the same terms to both sides. Each answers with Accept and its card, or
declines, or stays silent until the deadline. Only the second Accept releases the two cards, both at once. A concluded
deal takes a place at its provider until it ends; its cards, keys, terms and seek are forgotten earlier, once no
introduction can be lost any more. What has no row in the table changes nothing: a decline after the introduction, or a
second card of the same side.

            ACCEPT                ACCEPT              FORGET
  PROPOSED ───────→ HALF_ACCEPTED ───────→ INTRODUCED ──────→ SETTLED
      └────── CLOSE ──────┴──────→ FAILED      └───── CLOSE ─────┴──────→ ENDED
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from typing import Final

import msgspec

from quietfleet.dispatch.messages import Offer, Seek, Terms

ANSWER_WITHIN: Final = 30.0  # seconds for both sides to accept

OfferKey = tuple[str, str]  # worker, offer id
SeekKey = tuple[str, str]  # worker, seek id


class Side(StrEnum):
    """Who asked, and who serves."""

    SEEKER = "seeker"
    PROVIDER = "provider"

    @property
    def other(self) -> Side:
        return Side.PROVIDER if self is Side.SEEKER else Side.SEEKER


class DealState(StrEnum):
    """How far a deal has come."""

    PROPOSED = "proposed"
    HALF_ACCEPTED = "half-accepted"
    INTRODUCED = "introduced"
    SETTLED = "settled"
    FAILED = "failed"
    ENDED = "ended"


class DealEvent(Enum):
    """What can happen to a deal."""

    ACCEPT = auto()
    FORGET = auto()
    CLOSE = auto()


TRANSITIONS: Final[dict[tuple[DealState, DealEvent], DealState]] = {
    (DealState.PROPOSED, DealEvent.ACCEPT): DealState.HALF_ACCEPTED,
    (DealState.PROPOSED, DealEvent.CLOSE): DealState.FAILED,
    (DealState.HALF_ACCEPTED, DealEvent.ACCEPT): DealState.INTRODUCED,
    (DealState.HALF_ACCEPTED, DealEvent.CLOSE): DealState.FAILED,
    (DealState.INTRODUCED, DealEvent.FORGET): DealState.SETTLED,
    (DealState.INTRODUCED, DealEvent.CLOSE): DealState.ENDED,
    (DealState.SETTLED, DealEvent.CLOSE): DealState.ENDED,
}


class Deal(msgspec.Struct, frozen=True):
    """A deal as the oracle keeps it.

    `keys` are the one-time keys it takes, `cards` what each side left for the other, `ends` when its terms end,
    `deadline` when the clock decides about it next; times are Unix seconds.
    """

    deal_id: str
    workers: dict[Side, str]
    offer_id: str
    seek_id: str
    terms: Terms | None
    keys: dict[Side, bytes]
    ends: float
    deadline: float
    state: DealState = DealState.PROPOSED
    cards: dict[Side, bytes] = {}
    introduced: float = 0.0

    @property
    def place(self) -> OfferKey:
        """The offer that has a place taken by this deal."""
        return self.workers[Side.PROVIDER], self.offer_id

    @property
    def wish(self) -> SeekKey:
        """The seek that this deal answers."""
        return self.workers[Side.SEEKER], self.seek_id

    def side_of(self, worker: str) -> Side | None:
        """Return the side this worker is on, or None for a stranger."""
        return next((side for side, name in self.workers.items() if name == worker), None)

    @property
    def concluded(self) -> bool:
        return self.state in (DealState.INTRODUCED, DealState.SETTLED)

    def accept(self, side: Side, card: bytes) -> Deal:
        """Take a side's card; a side that left one already changes nothing."""
        state = TRANSITIONS.get((self.state, DealEvent.ACCEPT))
        if state is None or side in self.cards:
            return self
        return msgspec.structs.replace(self, state=state, cards={**self.cards, side: card})

    def settle(self) -> Deal:
        """Keep of a deal just introduced only what its place needs until the terms end, and who the two are."""
        state = TRANSITIONS.get((self.state, DealEvent.FORGET))
        if state is None:
            return self
        return msgspec.structs.replace(self, state=state, cards={}, keys={}, terms=None, seek_id="", deadline=self.ends)

    def close(self) -> Deal:
        """Drop the cards: an open deal has failed by this, a concluded one has ended."""
        state = TRANSITIONS.get((self.state, DealEvent.CLOSE))
        return self if state is None else msgspec.structs.replace(self, state=state, cards={}, keys={})


class ListedOffer(msgspec.Struct, frozen=True):
    """An offer in the oracle's book; `turn` counts up as it is opened or proposed, `keys` are those not yet used."""

    worker: str
    offer: Offer
    open: bool
    turn: int
    keys: tuple[bytes, ...]

    @property
    def key(self) -> OfferKey:
        return self.worker, self.offer.offer_id

    def renewed_by(self, offer: Offer) -> bool:
        """Tell a renewal, which lasts longer, from a repeat; an id names one service for its life."""
        return offer.expires > self.offer.expires and offer.capability.name == self.offer.capability.name


class QueuedSeek(msgspec.Struct, frozen=True):
    """A seek in the oracle's book, with the providers that fell through for it (`late`) or were declined.

    `turn` is its place in the queue, after which come those of workers that lost their turn (`behind`). `key` is what
    the next deal takes, empty until the worker brings a fresh one; `spent` are those that deals have taken.
    """

    worker: str
    seek: Seek
    turn: int
    key: bytes
    behind: bool = False
    deal_id: str | None = None
    spent: tuple[bytes, ...] = ()
    late: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()

    @property
    def id(self) -> SeekKey:
        return self.worker, self.seek.seek_id

    @property
    def eligible(self) -> bool:
        """Whether a deal may be proposed to it."""
        return self.deal_id is None and bool(self.key)

    def taken(self, deal_id: str) -> QueuedSeek:
        """Return this seek as part of a deal, its key used up."""
        return msgspec.structs.replace(self, deal_id=deal_id, key=b"", spent=(*self.spent, self.key))

    def with_key(self, key: bytes) -> QueuedSeek:
        """Return this seek with a key it has not used yet; any other changes nothing."""
        return self if key in self.spent else msgspec.structs.replace(self, key=key)

    def waiting_again(self, provider: str, *, declined: bool) -> QueuedSeek:
        """Return this seek back in the queue: the provider comes last for it, or never if the deal was declined."""
        late, refused = {*self.late}, {*self.declined}
        (refused if declined else late).add(provider)
        return msgspec.structs.replace(self, deal_id=None, late=tuple(sorted(late)), declined=tuple(sorted(refused)))
