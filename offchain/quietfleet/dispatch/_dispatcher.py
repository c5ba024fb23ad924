"""The Dispatch Oracle's core (paper IV.C): brokers deals without telling either side about the other.

Theory of operation: every turn first settles what the clock has decided (deadlines, expiries), then reacts to one
message, then fills the places that came free, oldest seek first. It works on a book in memory that is written through;
the whole turn is one transaction, durable before anything it says may be sent. Whatever is lost after that, a repeated
message brings forth again. A turn that is undone leaves the book to be read anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from quietfleet.dispatch import _match
from quietfleet.dispatch._book import Book
from quietfleet.dispatch._deal import ANSWER_WITHIN, Deal, DealState, ListedOffer, OfferKey, QueuedSeek, SeekKey, Side
from quietfleet.dispatch._match import Registry
from quietfleet.dispatch._misfits import Misfits
from quietfleet.dispatch._store import DispatchStore
from quietfleet.dispatch.messages import (
    Accept,
    DealFailed,
    Decline,
    FromOracle,
    Introduction,
    Offer,
    OfferState,
    Outgoing,
    Proposal,
    Reason,
    Refusal,
    Release,
    Released,
    Seek,
    Withdraw,
)

REMEMBER: Final = 120.0  # seconds for which a lost introduction can be asked for again
MAX_OFFERS: Final = 8  # open at once, a worker
LONGEST_OFFER: Final = 7 * 86_400.0  # seconds; pairings end with the offer they rest on
MAX_SEEKS: Final = 4  # open at once, a worker
LONGEST_SEEK: Final = 86_400.0  # seconds
MAX_BURIED: Final = 256  # ids that a worker has used up and that have not expired yet
MAX_DEALS: Final = 32  # of one seek, until it is refused
TRY_FOR: Final = ANSWER_WITHIN  # seconds after an introduction before a side may say that the other opened nothing
BEHIND: Final = 600.0  # seconds for which a seeker that opened no session waits behind all others


@dataclass(slots=True)
class _Turn:
    """What one call has to say, and the offers that may have gained a free place in it."""

    now: float
    out: list[Outgoing] = field(default_factory=list)
    freed: set[OfferKey] = field(default_factory=set)

    def say(self, worker: str, message: FromOracle) -> None:
        self.out.append(Outgoing(worker, message))


class Dispatcher:
    """Matches seeks with offers; the registry is asked about each pair, and about whoever speaks."""

    def __init__(self, store: DispatchStore, random: Callable[[int], bytes], registry: Registry) -> None:
        self._store = store
        self._random = random
        self._registry = registry
        self._read: Book | None = None
        self._misfits = Misfits()
        self.counts: Counter[str] = Counter()

    def handle(self, worker: str, message: object, now: float) -> list[Outgoing]:
        """React to a message of an authenticated worker; what is no word of a worker's is ignored."""
        return self._run(now, lambda turn: self._react(turn, worker, message))

    def tick(self, now: float) -> list[Outgoing]:
        """Settle what is due; call it every second or so."""
        return self._run(now, lambda _: None)

    def forget(self, worker: str, now: float) -> list[Outgoing]:
        """Erase a worker that the registry no longer holds active; seeks it leaves alone go back to the queue."""
        return self._run(now, lambda turn: self._forget(turn, worker))

    def recover(self) -> None:
        """Read the book anew at the next turn: a rollback, or another process, has changed the store."""
        self._read = None

    def workers(self) -> set[str]:
        """Return everybody in the book, for a check against the registry after some time away."""
        return self._book.workers()

    @property
    def _book(self) -> Book:
        if self._read is None:
            self._read = Book(self._store)
        return self._read

    def _run(self, now: float, react: Callable[[_Turn], None]) -> list[Outgoing]:
        turn = _Turn(now)
        try:
            with self._store.transaction():
                self._settle(turn)
                self._refill(turn)
                react(turn)
                self._refill(turn)
        except BaseException:
            self.recover()
            raise
        return turn.out

    def _react(self, turn: _Turn, worker: str, message: object) -> None:
        if not self._registry.usable(worker):
            self.counts["strangers"] += 1
            return
        match message:
            case Offer():
                self._offer(turn, worker, message)
            case Withdraw(offer_id):
                self._withdraw(turn, worker, offer_id)
            case Seek():
                self._seek(turn, worker, message)
            case Accept(deal_id, card):
                self._accept(turn, worker, deal_id, card)
            case Decline(deal_id, _, full):
                self._decline(turn, worker, deal_id, full=full)
            case Release(deal_id, opened):
                self._release(turn, worker, deal_id, opened=opened)
            case _:
                self.counts["ignored"] += 1

    # offers

    def _offer(self, turn: _Turn, worker: str, offer: Offer) -> None:
        key = (worker, offer.offer_id)
        known = self._book.offers.get(key)
        if known is None and self._over_quota(worker, len(self._book.offers_of(worker)), MAX_OFFERS):
            turn.say(worker, OfferState(offer.offer_id, open=False))
        elif self._is_news(turn.now, key, offer, known):
            self._list(turn, worker, offer, known)
        else:
            turn.say(worker, OfferState(offer.offer_id, open=known is not None and known.open))
        for deal in self._book.open_deals_on(key):
            self._tell(turn, deal, Side.PROVIDER)

    def _is_news(self, now: float, key: OfferKey, offer: Offer, known: ListedOffer | None) -> bool:
        """Tell a first offer or a renewal from a repeat, also of one that was withdrawn, and from what is no offer."""
        if not now < offer.expires <= now + LONGEST_OFFER:
            return False
        if known is not None:
            return known.renewed_by(offer)
        return offer.expires > (self._book.buried_until(key) or now)

    def _list(self, turn: _Turn, worker: str, offer: Offer, known: ListedOffer | None) -> None:
        """Open an offer; one that is renewed in time keeps its turn."""
        its_turn = known.turn if known and known.open else self._book.next_turn()
        bare = replace(offer, reply_keys=())
        self._book.put_offer(ListedOffer(worker, bare, open=True, turn=its_turn, keys=_distinct(offer.reply_keys)))
        self.counts["offers"] += known is None
        turn.say(worker, OfferState(offer.offer_id, open=True))
        turn.freed.add((worker, offer.offer_id))

    def _withdraw(self, turn: _Turn, worker: str, offer_id: str) -> None:
        key = (worker, offer_id)
        known = self._book.offers.get(key)
        if known is not None:
            self._book.bury(key, known.offer.expires)
            self._book.drop_offer(key)
        turn.say(worker, OfferState(offer_id, open=False))
        for deal in self._book.open_deals_on(key):
            self._close(turn, deal, left={Side.PROVIDER})
            self._requeue(turn, deal, declined=False)

    def _suspend(self, turn: _Turn, key: OfferKey) -> None:
        """Take a provider that was silent, or is full, out of the matching until it offers again."""
        listed = self._book.offers.get(key)
        if listed is not None and listed.open:
            self._book.put_offer(replace(listed, open=False))
            turn.say(listed.worker, OfferState(listed.offer.offer_id, open=False))

    # seeks

    def _seek(self, turn: _Turn, worker: str, seek: Seek) -> None:
        key = (worker, seek.seek_id)
        deal, queued = self._book.deal_of_seek(key), self._book.seeks.get(key)
        if deal is not None:
            self._tell(turn, deal, Side.SEEKER)
        elif queued is not None:
            self._seek_again(turn, queued, seek.reply_key)
        elif (reason := self._objection(turn.now, key, seek)) is not None:
            self._refuse(turn, key, reason)
        else:
            self.counts["seeks"] += 1
            behind, late = self._book.marks.at(worker) is not None, self._misfits.of(worker, turn.now)
            queued = QueuedSeek(worker, seek, self._book.next_turn(), seek.reply_key, behind, late=late)
            self._book.put_seek(queued)
            self._pair(turn, queued)

    def _seek_again(self, turn: _Turn, queued: QueuedSeek, key: bytes) -> None:
        """Take a fresh key for a seek that waits, and look again: the registry may have changed."""
        renewed = queued.with_key(key)
        if renewed != queued:
            self._book.put_seek(renewed)
        if renewed.eligible:
            self._pair(turn, renewed)

    def _objection(self, now: float, key: SeekKey, seek: Seek) -> Reason | None:
        if not seek.expires > now:
            return Reason.EXPIRED
        if seek.expires > now + LONGEST_SEEK:
            return Reason.TOO_LONG
        if self._book.buried_until(key) is not None:
            return Reason.OVER
        over = self._over_quota(key[0], len(self._book.seeks_of(key[0])), MAX_SEEKS)
        return Reason.QUOTA if over else None

    def _requeue(self, turn: _Turn, deal: Deal, *, declined: bool) -> None:
        """Put a broken deal's seek back where it stood in the queue, to wait there for a fresh key."""
        queued = self._book.seeks.get(deal.wish)
        if queued is None:
            return
        if len(queued.spent) < MAX_DEALS:
            self._book.put_seek(queued.waiting_again(deal.workers[Side.PROVIDER], declined=declined))
        else:
            self._refuse(turn, queued.id, Reason.BUSY)

    def _refuse(self, turn: _Turn, key: SeekKey, reason: str) -> None:
        self.counts["refusals"] += 1
        self._end_seek(key, turn.now)
        turn.say(key[0], Refusal(key[1], reason))

    def _end_seek(self, key: SeekKey, now: float) -> None:
        """Drop a seek; its id is not taken again while what brought it could be repeated."""
        queued = self._book.seeks.get(key)
        if queued is None:
            return
        if queued.seek.expires > now:
            self._book.bury(key, queued.seek.expires)
        self._book.drop_seek(key)

    def _over_quota(self, worker: str, open_ones: int, limit: int) -> bool:
        over = open_ones >= limit or self._book.buried_of(worker) >= MAX_BURIED
        self.counts["over_quota"] += over
        return over

    # matching

    def _refill(self, turn: _Turn) -> None:
        freed, turn.freed = turn.freed, set()
        names = {self._book.offers[key].offer.capability.name for key in freed if key in self._book.offers}
        for name in sorted(names):
            self._fill(turn, name, freed)

    def _fill(self, turn: _Turn, capability: str, freed: set[OfferKey]) -> None:
        """Propose the places that came free to the seeks that wait; places that were free before fit none of them."""
        queue = self._book.queue(capability)
        spare = fresh = self._spare(capability, freed, turn.now)
        if queue is None or not spare:
            return
        for queued in queue.in_turn(lambda seek: any(_match.fits(seek, listed.offer) for listed in fresh)):
            fitting = (listed for listed in spare if _match.fits(queued.seek, listed.offer))
            best = _match.choose(queued, fitting, self._registry)
            if best is not None:
                self._propose(turn, queued, best)
                spare = self._spare(capability, freed, turn.now)
            if not spare:
                return

    def _spare(self, capability: str, keys: set[OfferKey], now: float) -> list[ListedOffer]:
        return [listed for listed in self._book.spare_among(keys, now) if listed.offer.capability.name == capability]

    def _pair(self, turn: _Turn, queued: QueuedSeek) -> None:
        best = _match.choose(queued, self._book.spare(queued, turn.now), self._registry)
        if best is not None:
            self._propose(turn, queued, best)

    def _propose(self, turn: _Turn, queued: QueuedSeek, listed: ListedOffer) -> None:
        deal = Deal(
            deal_id=self._random(16).hex(),
            workers={Side.SEEKER: queued.worker, Side.PROVIDER: listed.worker},
            offer_id=listed.offer.offer_id,
            seek_id=queued.seek.seek_id,
            terms=_match.terms_of(queued.seek, listed.offer),
            keys={Side.SEEKER: queued.key, Side.PROVIDER: listed.keys[0]},
            ends=listed.offer.expires,
            deadline=turn.now + ANSWER_WITHIN,
        )
        self._book.put_seek(queued.taken(deal.deal_id))
        self._book.put_offer(replace(listed, turn=self._book.next_turn(), keys=listed.keys[1:]))
        self._book.put_deal(deal)
        self.counts["proposals"] += 1
        for side in Side:
            self._tell(turn, deal, side)

    # deals

    def _tell(self, turn: _Turn, deal: Deal, side: Side) -> None:
        """Say to one side what is outstanding: the other's card, or the terms it has not answered."""
        worker, initiator = deal.workers[side], side is Side.SEEKER
        if deal.state is DealState.INTRODUCED:
            turn.say(worker, Introduction(deal.deal_id, deal.cards[side.other], initiator))
        elif side not in deal.cards and deal.terms is not None:
            keys = deal.keys[side], deal.keys[side.other]
            turn.say(worker, Proposal(deal.deal_id, deal.terms, initiator, *keys))

    def _accept(self, turn: _Turn, worker: str, deal_id: str, card: bytes) -> None:
        deal, side = self._known(worker, deal_id)
        if deal is None or side is None or deal.state is DealState.SETTLED:
            turn.say(worker, DealFailed(deal_id, Reason.UNKNOWN))
        elif side in deal.cards:
            self._tell(turn, deal, side)
        else:
            self._advance(turn, deal.accept(side, card))

    def _advance(self, turn: _Turn, deal: Deal) -> None:
        if deal.state is not DealState.INTRODUCED:
            self._book.put_deal(deal)
            return
        self.counts["introductions"] += 1
        self._end_seek(deal.wish, turn.now)
        self._book.put_deal(replace(deal, introduced=turn.now, deadline=min(turn.now + REMEMBER, deal.ends)))
        for side in Side:
            self._tell(turn, deal, side)

    def _decline(self, turn: _Turn, worker: str, deal_id: str, *, full: bool) -> None:
        """End a deal nobody wanted; a provider without room is asked again once it has offered again."""
        deal, side = self._known(worker, deal_id)
        if deal and side and not deal.concluded:
            self._close(turn, deal, left={side})
            crowded = full and side is Side.PROVIDER
            if crowded:
                self._suspend(turn, deal.place)
            self._requeue(turn, deal, declined=not crowded)

    def _release(self, turn: _Turn, worker: str, deal_id: str, *, opened: bool) -> None:
        deal, side = self._known(worker, deal_id)
        if deal and side and deal.concluded:
            self._close(turn, deal, left={side})
            if not opened:
                self._misfits.note(deal.workers[Side.SEEKER], deal.workers[Side.PROVIDER], turn.now)
            if not opened and turn.now >= deal.introduced + TRY_FOR:
                self._unopened(turn, deal, side.other)

    def _unopened(self, turn: _Turn, deal: Deal, silent: Side) -> None:
        """Cost the side that let an introduction come to nothing its turn."""
        self.counts["unopened"] += 1
        if silent is Side.PROVIDER:
            self._suspend(turn, deal.place)
        else:
            self._book.mark(deal.workers[silent], turn.now + BEHIND)

    def _close(self, turn: _Turn, deal: Deal, *, left: set[Side]) -> None:
        """Fail or end a deal, free its place, and tell the sides that have not left it."""
        failed = deal.close().state is DealState.FAILED
        self.counts["failures"] += failed
        self._book.drop_deal(deal.deal_id)
        turn.freed.add(deal.place)
        word = DealFailed(deal.deal_id, Reason.FELL_THROUGH) if failed else Released(deal.deal_id)
        for side in (side for side in Side if side not in left):
            turn.say(deal.workers[side], word)

    def _known(self, worker: str, deal_id: str) -> tuple[Deal | None, Side | None]:
        deal = self._book.deals.get(deal_id)
        return deal, deal.side_of(worker) if deal else None

    # the clock and the registry

    def _settle(self, turn: _Turn) -> None:
        book, now = self._book, turn.now
        for deal_id in book.due_deals.due(now):
            self._lapse(turn, book.deals[deal_id])
        for key in book.due_offers.due(now):
            book.drop_offer(key)
            turn.say(key[0], OfferState(key[1], open=False))
        for key in book.due_seeks.due(now):
            queued = book.seeks[key]
            offers = book.offers_named(queued.seek.capability)
            self._refuse(turn, key, _match.explain(queued, offers, self._registry))
        for grave in book.due_graves.due(now):
            book.exhume(grave)
        for worker in book.marks.due(now):
            book.unmark(worker)

    def _lapse(self, turn: _Turn, deal: Deal) -> None:
        """Break an open deal at the cost of who was silent; settle a concluded one, or end it with its terms."""
        if not deal.concluded:
            self._blame(turn, deal, silent=set(Side) - set(deal.cards))
        elif turn.now >= deal.ends:
            self._close(turn, deal, left=set())
        else:
            self._book.put_deal(deal.settle())

    def _blame(self, turn: _Turn, deal: Deal, *, silent: set[Side]) -> None:
        self._close(turn, deal, left=silent)
        if Side.PROVIDER in silent:
            self._suspend(turn, deal.place)
        if Side.SEEKER in silent:
            self._refuse(turn, deal.wish, Reason.NO_ANSWER)
        else:
            self._requeue(turn, deal, declined=False)

    def _forget(self, turn: _Turn, worker: str) -> None:
        for deal in self._book.deals_of(worker):
            left = {side for side in Side if deal.workers[side] == worker}
            self._close(turn, deal, left=left)
            if Side.PROVIDER in left and not deal.concluded:
                self._requeue(turn, deal, declined=True)
        for key in self._book.offers_of(worker):
            self._book.drop_offer(key)
        for key in self._book.seeks_of(worker):
            self._book.drop_seek(key)
        self._book.exhume_all(worker)
        self._book.unmark(worker)
        self._misfits.forget(worker)


def _distinct(keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(keys))
