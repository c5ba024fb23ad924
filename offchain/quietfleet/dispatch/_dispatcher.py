"""The Dispatch Oracle's core (paper IV.C): brokers deals without telling either side about the other.

Theory of operation: every turn first settles what the clock has decided (deadlines, expiries), then reacts to one
message, then fills the places that came free, oldest seek first. The whole turn is one transaction, durable before
anything it says may be sent; whatever is lost after that, a repeated message brings forth again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from quietfleet.dispatch import _match
from quietfleet.dispatch._deal import ANSWER_WITHIN, Deal, DealState, ListedOffer, QueuedSeek, Side
from quietfleet.dispatch._match import MayCooperate
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


@dataclass(slots=True)
class _Turn:
    """What one call has to say, and the capabilities that gained a free place in it."""

    now: float
    out: list[Outgoing] = field(default_factory=list)
    freed: set[str] = field(default_factory=set)

    def say(self, worker: str, message: FromOracle) -> None:
        self.out.append(Outgoing(worker, message))


class Dispatcher:
    """Matches seeks with offers; `may_cooperate` takes a seeker's and a provider's id and asks the registry."""

    def __init__(self, store: DispatchStore, random: Callable[[int], bytes], may_cooperate: MayCooperate) -> None:
        self._store = store
        self._random = random
        self._may_cooperate = may_cooperate
        self.counts: Counter[str] = Counter()

    def handle(self, worker: str, message: object, now: float) -> list[Outgoing]:
        """React to a message of an authenticated, active worker; what is no word of a worker's is ignored."""
        return self._run(now, lambda turn: self._react(turn, worker, message))

    def tick(self, now: float) -> list[Outgoing]:
        """Settle what is due; call it every second or so."""
        return self._run(now, lambda _: None)

    def forget(self, worker: str, now: float) -> list[Outgoing]:
        """Erase a worker that the registry no longer holds active; seeks it leaves alone go back to the queue."""
        return self._run(now, lambda turn: self._forget(turn, worker))

    def _run(self, now: float, react: Callable[[_Turn], None]) -> list[Outgoing]:
        turn = _Turn(now)
        with self._store.transaction():
            self._settle(turn)
            self._refill(turn)
            react(turn)
            self._refill(turn)
        return turn.out

    def _react(self, turn: _Turn, worker: str, message: object) -> None:
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
            case Release(deal_id):
                self._release(turn, worker, deal_id)
            case _:
                self.counts["ignored"] += 1

    # offers

    def _offer(self, turn: _Turn, worker: str, offer: Offer) -> None:
        known = self._store.offer(worker, offer.offer_id)
        if known is None and self._over(MAX_OFFERS, self._store.offers_of(worker)):
            turn.say(worker, OfferState(offer.offer_id, open=False))
        elif turn.now < offer.expires <= turn.now + LONGEST_OFFER and (known is None or known.renewed_by(offer)):
            self._list(turn, worker, offer, known)
        else:
            turn.say(worker, OfferState(offer.offer_id, open=known is not None and known.open))
        for deal in self._store.open_deals_of_offer(worker, offer.offer_id):
            self._tell(turn, deal, Side.PROVIDER)

    def _list(self, turn: _Turn, worker: str, offer: Offer, known: ListedOffer | None) -> None:
        """Open an offer; one that is renewed in time keeps its turn."""
        since = known.since if known and known.open else turn.now
        self._store.put_offer(ListedOffer(worker, offer, open=True, since=since))
        self.counts["offers"] += known is None
        turn.say(worker, OfferState(offer.offer_id, open=True))
        turn.freed.add(offer.capability.name)

    def _withdraw(self, turn: _Turn, worker: str, offer_id: str) -> None:
        self._store.drop_offer(worker, offer_id)
        turn.say(worker, OfferState(offer_id, open=False))
        for deal in self._store.open_deals_of_offer(worker, offer_id):
            self._close(turn, deal, left={Side.PROVIDER})
            self._requeue(deal, declined=False)

    def _suspend(self, turn: _Turn, worker: str, offer_id: str) -> None:
        """Take a provider that did not answer out of the matching until it offers again."""
        listed = self._store.offer(worker, offer_id)
        if listed is not None and listed.open:
            self._store.put_offer(replace(listed, open=False))
            turn.say(worker, OfferState(offer_id, open=False))

    # seeks

    def _seek(self, turn: _Turn, worker: str, seek: Seek) -> None:
        deal = self._store.deal_of_seek(worker, seek.seek_id)
        if deal is not None:
            self._tell(turn, deal, Side.SEEKER)
        elif self._store.seek(worker, seek.seek_id) is not None:
            return
        elif not seek.expires > turn.now:
            self._refuse(turn, worker, seek.seek_id, Reason.EXPIRED)
        elif self._over(MAX_SEEKS, self._store.seeks_of(worker)):
            self._refuse(turn, worker, seek.seek_id, Reason.QUOTA)
        else:
            self.counts["seeks"] += 1
            queued = QueuedSeek(worker, seek, since=turn.now)
            self._store.put_seek(queued)
            self._pair(turn, seek.capability, [queued])

    def _requeue(self, deal: Deal, *, declined: bool) -> None:
        """Put a broken deal's seek back where it stood in the queue."""
        queued = self._store.seek(deal.workers[Side.SEEKER], deal.seek_id)
        if queued is not None:
            self._store.put_seek(queued.waiting_again(deal.workers[Side.PROVIDER], declined=declined))

    def _refuse(self, turn: _Turn, worker: str, seek_id: str, reason: Reason) -> None:
        self.counts["refusals"] += 1
        self._store.drop_seek(worker, seek_id)
        turn.say(worker, Refusal(seek_id, reason))

    def _over(self, limit: int, open_ones: Sized) -> bool:
        over = len(open_ones) >= limit
        self.counts["over_quota"] += over
        return over

    # matching

    def _refill(self, turn: _Turn) -> None:
        for capability in sorted(turn.freed):
            self._pair(turn, capability, self._store.queue(capability))
        turn.freed.clear()

    def _pair(self, turn: _Turn, capability: str, queue: Iterable[QueuedSeek]) -> None:
        """Propose to each seek in turn while places last; an offer about to lapse could not be answered in time."""
        candidates = self._store.spare_offers(capability, after=turn.now + ANSWER_WITHIN)
        for queued in queue:
            if not candidates:
                return
            best = _match.choose(queued, candidates, self._may_cooperate)
            if best is not None:
                candidates.remove(best)
                candidates += [taken for taken in (best.taken(turn.now),) if taken.spare]
                self._propose(turn, queued, best.listed)

    def _propose(self, turn: _Turn, queued: QueuedSeek, listed: ListedOffer) -> None:
        deal = Deal(
            deal_id=self._random(16).hex(),
            workers={Side.SEEKER: queued.worker, Side.PROVIDER: listed.worker},
            offer_id=listed.offer.offer_id,
            seek_id=queued.seek.seek_id,
            terms=_match.terms_of(queued.seek, listed.offer),
            deadline=turn.now + ANSWER_WITHIN,
        )
        self._store.put_deal(deal)
        self._store.put_seek(replace(queued, deal_id=deal.deal_id))
        self._store.put_offer(replace(listed, since=turn.now))
        self.counts["proposals"] += 1
        for side in Side:
            self._tell(turn, deal, side)

    # deals

    def _tell(self, turn: _Turn, deal: Deal, side: Side) -> None:
        """Say to one side what is outstanding: the other's card, or the terms it has not answered."""
        if deal.state is DealState.INTRODUCED:
            card = deal.cards[side.other]
            turn.say(deal.workers[side], Introduction(deal.deal_id, card, initiator=side is Side.SEEKER))
        elif side not in deal.cards:
            turn.say(deal.workers[side], Proposal(deal.deal_id, deal.terms, initiator=side is Side.SEEKER))

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
            self._store.put_deal(deal)
            return
        self.counts["introductions"] += 1
        self._store.put_deal(replace(deal, deadline=min(turn.now + REMEMBER, deal.terms.expires)))
        self._store.drop_seek(deal.workers[Side.SEEKER], deal.seek_id)
        for side in Side:
            self._tell(turn, deal, side)

    def _decline(self, turn: _Turn, worker: str, deal_id: str, *, full: bool) -> None:
        """End a deal nobody wanted; a provider without room is asked again once it has offered again."""
        deal, side = self._known(worker, deal_id)
        if deal and side and not deal.concluded:
            self._close(turn, deal, left={side})
            crowded = full and side is Side.PROVIDER
            if crowded:
                self._suspend(turn, worker, deal.offer_id)
            self._requeue(deal, declined=not crowded)

    def _release(self, turn: _Turn, worker: str, deal_id: str) -> None:
        deal, side = self._known(worker, deal_id)
        if deal and side and deal.concluded:
            self._close(turn, deal, left={side})

    def _close(self, turn: _Turn, deal: Deal, *, left: set[Side]) -> None:
        """Fail or end a deal, free its place, and tell the sides that have not left it."""
        failed = deal.close().state is DealState.FAILED
        self.counts["failures"] += failed
        self._store.drop_deal(deal.deal_id)
        turn.freed.add(deal.terms.capability.name)
        word = DealFailed(deal.deal_id, Reason.FELL_THROUGH) if failed else Released(deal.deal_id)
        for side in (side for side in Side if side not in left):
            turn.say(deal.workers[side], word)

    def _known(self, worker: str, deal_id: str) -> tuple[Deal | None, Side | None]:
        deal = self._store.deal(deal_id)
        return deal, deal.side_of(worker) if deal else None

    # the clock and the registry

    def _settle(self, turn: _Turn) -> None:
        for deal in self._store.deals_due(turn.now):
            self._lapse(turn, deal)
        for listed in self._store.offers_due(turn.now):
            self._store.drop_offer(listed.worker, listed.offer.offer_id)
            turn.say(listed.worker, OfferState(listed.offer.offer_id, open=False))
        for queued in self._store.seeks_due(turn.now):
            offers = self._store.offers_named(queued.seek.capability)
            reason = _match.explain(queued, offers, self._may_cooperate)
            self._refuse(turn, queued.worker, queued.seek.seek_id, reason)

    def _lapse(self, turn: _Turn, deal: Deal) -> None:
        """Break an open deal at the cost of who was silent; settle a concluded one, or end it with its terms."""
        if not deal.concluded:
            self._blame(turn, deal, silent=set(Side) - set(deal.cards))
        elif turn.now >= deal.terms.expires:
            self._close(turn, deal, left=set())
        else:
            self._store.put_deal(deal.settle())

    def _blame(self, turn: _Turn, deal: Deal, *, silent: set[Side]) -> None:
        self._close(turn, deal, left=silent)
        if Side.PROVIDER in silent:
            self._suspend(turn, deal.workers[Side.PROVIDER], deal.offer_id)
        if Side.SEEKER in silent:
            self._refuse(turn, deal.workers[Side.SEEKER], deal.seek_id, Reason.NO_ANSWER)
        else:
            self._requeue(deal, declined=False)

    def _forget(self, turn: _Turn, worker: str) -> None:
        for deal in self._store.deals_of(worker):
            left = {side for side in Side if deal.workers[side] == worker}
            self._close(turn, deal, left=left)
            if Side.PROVIDER in left and not deal.concluded:
                self._requeue(deal, declined=True)
        self._store.drop_worker(worker)
