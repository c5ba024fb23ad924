"""The oracle's book in memory: everything the matching asks, written through to the store as it changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, TypeVar

from quietfleet.dispatch._deal import ANSWER_WITHIN, Deal, ListedOffer, OfferKey, QueuedSeek, SeekKey
from quietfleet.dispatch._shelf import Agenda, Places, Queue
from quietfleet.dispatch._store import TAG_SIZE, DispatchStore

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Shelf(Protocol):
    def __bool__(self) -> bool: ...


_S = TypeVar("_S", bound=_Shelf)


class Book:
    """Offers, seeks and deals; a store that another process changed is read by making a new book."""

    def __init__(self, store: DispatchStore) -> None:
        self._store = store
        self._turn = 0
        self.offers: dict[OfferKey, ListedOffer] = {}
        self.seeks: dict[SeekKey, QueuedSeek] = {}
        self.deals: dict[str, Deal] = {}
        self.due_offers: Agenda[OfferKey] = Agenda()
        self.due_seeks: Agenda[SeekKey] = Agenda()
        self.due_deals: Agenda[str] = Agenda()
        self.due_graves: Agenda[bytes] = Agenda()
        self.marks: Agenda[str] = Agenda()
        self._places: dict[str, Places] = {}
        self._queues: dict[str, Queue] = {}
        self._named: dict[str, set[OfferKey]] = defaultdict(set)
        self._on_offer: dict[OfferKey, set[str]] = defaultdict(set)
        self._of_seek: dict[SeekKey, str] = {}
        self._of_worker: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
        self._graves: dict[bytes, set[bytes]] = defaultdict(set)
        self._load()

    def next_turn(self) -> int:
        """Count one further."""
        self._turn += 1
        return self._turn

    # offers

    def put_offer(self, listed: ListedOffer) -> None:
        self._store.put_offer(listed)
        self._keep_offer(listed)

    def drop_offer(self, key: OfferKey) -> None:
        listed = self.offers.pop(key, None)
        if listed is None:
            return
        self._store.drop_offer(key)
        self.due_offers.drop(key)
        self._arrange(listed)
        _discard(self._named, listed.offer.capability.name, key)
        _discard(self._of_worker, key[0], ("offer", *key))

    def offers_of(self, worker: str) -> list[OfferKey]:
        return [(name, offer_id) for kind, name, offer_id in self._of_worker.get(worker, ()) if kind == "offer"]

    def offers_named(self, capability: str) -> list[ListedOffer]:
        """Return every offer of a capability, with or without a free place."""
        return [self.offers[key] for key in sorted(self._named.get(capability, ()))]

    def spare(self, queued: QueuedSeek, now: float) -> Iterable[ListedOffer]:
        """Yield what fits a seek and has a place, in turn; an offer about to lapse could not be answered in time."""
        places = self._places.get(queued.seek.capability)
        fitting = places.in_turn(queued.seek) if places else ()
        return (listed for listed in fitting if listed.offer.expires > now + ANSWER_WITHIN)

    def spare_among(self, keys: Iterable[OfferKey], now: float) -> list[ListedOffer]:
        """Return those of these offers that have a place, in turn."""
        listed = [self.offers[key] for key in keys if key in self.offers]
        ranks = [self._places[one.offer.capability.name].get(one.key) for one in listed if self._has_place(one)]
        found = sorted((rank for rank in ranks if rank is not None), key=lambda rank: rank[:2])
        return [one for _, _, one in found if one.offer.expires > now + ANSWER_WITHIN]

    # seeks

    def put_seek(self, queued: QueuedSeek) -> None:
        self._store.put_seek(queued)
        self._keep_seek(queued)

    def drop_seek(self, key: SeekKey) -> None:
        queued = self.seeks.pop(key, None)
        if queued is None:
            return
        self._store.drop_seek(key)
        self._unqueue(queued)
        self.due_seeks.drop(key)
        _discard(self._of_worker, key[0], ("seek", *key))

    def seeks_of(self, worker: str) -> list[SeekKey]:
        return [(name, seek_id) for kind, name, seek_id in self._of_worker.get(worker, ()) if kind == "seek"]

    def queue(self, capability: str) -> Queue | None:
        """Return the seeks that wait for a capability, if there are any."""
        return self._queues.get(capability)

    # deals

    def put_deal(self, deal: Deal) -> None:
        self._store.put_deal(deal)
        self._keep_deal(deal)

    def drop_deal(self, deal_id: str) -> None:
        deal = self.deals.pop(deal_id, None)
        if deal is None:
            return
        self._store.drop_deal(deal_id)
        self.due_deals.drop(deal_id)
        self._of_seek.pop(deal.wish, None)
        _discard(self._on_offer, deal.place, deal_id)
        for worker in deal.workers.values():
            _discard(self._of_worker, worker, ("deal", worker, deal_id))
        self._arrange_key(deal.place)

    def deal_of_seek(self, key: SeekKey) -> Deal | None:
        deal_id = self._of_seek.get(key)
        return None if deal_id is None else self.deals[deal_id]

    def open_deals_on(self, key: OfferKey) -> list[Deal]:
        """Return the deals on an offer that are not concluded yet."""
        deals = [self.deals[deal_id] for deal_id in sorted(self._on_offer.get(key, ()))]
        return [deal for deal in deals if not deal.concluded]

    def deals_of(self, worker: str) -> list[Deal]:
        mine = sorted(name for kind, _, name in self._of_worker.get(worker, ()) if kind == "deal")
        return [self.deals[deal_id] for deal_id in mine]

    # what must not come back, and who waits behind the others

    def bury(self, key: OfferKey | SeekKey, until: float) -> None:
        """Have an id be refused until then, when what brought it has expired by itself."""
        grave = self._store.grave(*key)
        self._store.put_grave(grave, until)
        self._keep_grave(grave, until)

    def buried_until(self, key: OfferKey | SeekKey) -> float | None:
        return self.due_graves.at(self._store.grave(*key))

    def exhume(self, grave: bytes) -> None:
        self._store.drop_grave(grave)
        self.due_graves.drop(grave)
        _discard(self._graves, grave[:TAG_SIZE], grave)

    def exhume_all(self, worker: str) -> None:
        for grave in sorted(self._graves.get(self._store.graveyard(worker), ())):
            self.exhume(grave)

    def buried_of(self, worker: str) -> int:
        """Count the ids of a worker that must not come back."""
        return len(self._graves.get(self._store.graveyard(worker), ()))

    def mark(self, worker: str, until: float) -> None:
        """Have a worker's next seeks wait behind the others'."""
        self._store.put_mark(worker, until)
        self.marks.set(worker, until)

    def unmark(self, worker: str) -> None:
        self._store.drop_mark(worker)
        self.marks.drop(worker)

    def workers(self) -> set[str]:
        """Return everybody who is in the book."""
        return set(self._of_worker)

    # memory

    def _load(self) -> None:
        for deal in self._store.deals():
            self._keep_deal(deal)
        for listed in self._store.offers():
            self._keep_offer(listed)
        for queued in self._store.seeks():
            self._keep_seek(queued)
        for grave, until in self._store.graves():
            self._keep_grave(grave, until)
        for mark in self._store.marks():
            self.marks.set(mark.worker, mark.until)
        turns = [listed.turn for listed in self.offers.values()] + [queued.turn for queued in self.seeks.values()]
        self._turn = max(turns, default=0)

    def _keep_offer(self, listed: ListedOffer) -> None:
        key = listed.key
        self.offers[key] = listed
        self.due_offers.set(key, listed.offer.expires)
        self._named[listed.offer.capability.name].add(key)
        self._of_worker[key[0]].add(("offer", *key))
        self._arrange(listed)

    def _keep_seek(self, queued: QueuedSeek) -> None:
        key, name = queued.id, queued.seek.capability
        self.seeks[key] = queued
        self._of_worker[key[0]].add(("seek", *key))
        if queued.deal_id is None:
            self.due_seeks.set(key, queued.seek.expires)
        else:
            self.due_seeks.drop(key)
        if queued.eligible:
            self._queues.setdefault(name, Queue()).put(queued)
        else:
            self._unqueue(queued)

    def _keep_deal(self, deal: Deal) -> None:
        before = self.deals.get(deal.deal_id)
        if before is not None and before.seek_id != deal.seek_id:
            self._of_seek.pop(before.wish, None)
        self.deals[deal.deal_id] = deal
        self.due_deals.set(deal.deal_id, deal.deadline)
        if deal.seek_id:
            self._of_seek[deal.wish] = deal.deal_id
        if before is None:
            self._on_offer[deal.place].add(deal.deal_id)
            for worker in deal.workers.values():
                self._of_worker[worker].add(("deal", worker, deal.deal_id))
            self._arrange_key(deal.place)

    def _keep_grave(self, grave: bytes, until: float) -> None:
        self.due_graves.set(grave, until)
        self._graves[grave[:TAG_SIZE]].add(grave)

    def _unqueue(self, queued: QueuedSeek) -> None:
        queue = self._queues.get(queued.seek.capability)
        if queue is not None:
            queue.drop(queued.id)
            _tidy(self._queues, queued.seek.capability)

    def _arrange_key(self, key: OfferKey) -> None:
        listed = self.offers.get(key)
        if listed is not None:
            self._arrange(listed)

    def _arrange(self, listed: ListedOffer) -> None:
        """Have an offer stand where its load and turn put it, or nowhere without a place to give."""
        name = listed.offer.capability.name
        if listed.key in self.offers and self._has_place(listed):
            self._places.setdefault(name, Places()).put(listed, len(self._on_offer.get(listed.key, ())))
        elif name in self._places:
            self._places[name].drop(listed.key)
            _tidy(self._places, name)

    def _has_place(self, listed: ListedOffer) -> bool:
        return listed.open and bool(listed.keys) and len(self._on_offer.get(listed.key, ())) < listed.offer.capacity


def _discard(index: dict[_K, set[_V]], key: _K, value: _V) -> None:
    """Take a value out of an index, and the key with its last value."""
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]


def _tidy(shelves: dict[str, _S], name: str) -> None:
    if not shelves[name]:
        del shelves[name]
