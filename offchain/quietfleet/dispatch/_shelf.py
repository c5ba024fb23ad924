"""What the matching looks through, kept in order all the time: places that are free, seeks that wait, what is due.

Entries are grouped by what decides whether they fit, so that a seek looks at each kind of offer once, however many
workers offer it. Leaving costs as little as coming: nothing of what has gone stays behind for a later clean-up.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator
from heapq import merge
from typing import Final, Generic, TypeVar

import msgspec

from quietfleet.dispatch import _match
from quietfleet.dispatch._deal import ListedOffer, OfferKey, QueuedSeek, SeekKey
from quietfleet.dispatch.messages import Offer, Seek, Value

_Key = TypeVar("_Key", OfferKey, str, bytes)
_Free = tuple[float, int, ListedOffer]  # the load, the turn; no two turns are the same
_Waiting = tuple[float, int, QueuedSeek]  # whether it lost its turn, the turn

_ENCODE: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class Agenda(Generic[_Key]):
    """Keys by the time at which something is due."""

    def __init__(self) -> None:
        self._times: dict[_Key, float] = {}
        self._order: list[tuple[float, _Key]] = []

    def set(self, key: _Key, at: float) -> None:
        """Put a key down for a time, in place of the one before."""
        self.drop(key)
        self._times[key] = at
        insort(self._order, (at, key))

    def drop(self, key: _Key) -> None:
        at = self._times.pop(key, None)
        if at is not None:
            del self._order[bisect_left(self._order, (at, key))]

    def at(self, key: _Key) -> float | None:
        """When something is due for this key."""
        return self._times.get(key)

    def due(self, now: float) -> list[_Key]:
        """Return what is due, the longest overdue first."""
        found = []
        for at, key in self._order:
            if at > now:
                break
            found.append(key)
        return found


class Places:
    """The free places for one capability: of offers that fit, the least loaded comes first, then whose turn it is."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, tuple[Offer, list[_Free]]] = {}
        self._saying: dict[tuple[str, Value], dict[bytes, None]] = {}  # kinds by attribute and word, in order of coming
        self._ranks: dict[OfferKey, tuple[bytes, _Free]] = {}

    def put(self, listed: ListedOffer, used: int) -> None:
        """Have an offer take part, in place of what it was before."""
        self.drop(listed.key)
        offer = listed.offer
        kind = _ENCODE((offer.capability.version, offer.attributes, offer.price))
        rank = (used / offer.capacity, listed.turn, listed)
        if kind not in self._kinds:
            self._kinds[kind] = msgspec.structs.replace(offer, offer_id=""), []  # outlives the offer: no id of it
            for said in _words_of(offer):
                self._saying.setdefault(said, {})[kind] = None
        insort(self._kinds[kind][1], rank)
        self._ranks[listed.key] = kind, rank

    def drop(self, key: OfferKey) -> None:
        kind, rank = self._ranks.pop(key, (b"", None))
        if rank is None:
            return
        offer, ranked = self._kinds[kind]
        del ranked[bisect_left(ranked, rank[:2], key=_by_turn)]
        if ranked:
            return
        del self._kinds[kind]
        for said in _words_of(offer):
            del self._saying[said][kind]
            if not self._saying[said]:
                del self._saying[said]

    def in_turn(self, seek: Seek) -> Iterator[ListedOffer]:
        """Yield the offers that fit a seek."""
        kinds = (self._kinds[kind] for kind in self._candidates(seek))
        return _in_order([ranked for offer, ranked in kinds if _match.fits(seek, offer)])

    def _candidates(self, seek: Seek) -> Collection[bytes]:
        """Return the fewest kinds that one constraint leaves to look through."""
        fewest: Collection[bytes] = self._kinds
        for constraint in seek.constraints:
            words = constraint.words()
            if words is not None:
                said = [self._saying.get((constraint.attribute, word), {}) for word in words]
                if sum(map(len, said)) < len(fewest):
                    fewest = list(dict.fromkeys(kind for kinds in said for kind in kinds))
        return fewest

    def get(self, key: OfferKey) -> _Free | None:
        """Return an offer's place in the order, None if it has no place to give."""
        return self._ranks[key][1] if key in self._ranks else None

    def __bool__(self) -> bool:
        return bool(self._ranks)


class Queue:
    """The seeks that wait for one capability."""

    def __init__(self) -> None:
        self._demands: dict[bytes, tuple[Seek, list[_Waiting]]] = {}
        self._ranks: dict[SeekKey, tuple[bytes, _Waiting]] = {}

    def put(self, queued: QueuedSeek) -> None:
        """Have a seek wait at its place, in place of what it was before."""
        self.drop(queued.id)
        seek = queued.seek
        demand = _ENCODE((seek.min_version, seek.constraints, seek.max_price))
        rank = (float(queued.behind), queued.turn, queued)
        if demand not in self._demands:
            self._demands[demand] = msgspec.structs.replace(seek, seek_id="", reply_key=b""), []  # as above
        insort(self._demands[demand][1], rank)
        self._ranks[queued.id] = demand, rank

    def drop(self, key: SeekKey) -> None:
        demand, rank = self._ranks.pop(key, (b"", None))
        if rank is None:
            return
        ranked = self._demands[demand][1]
        del ranked[bisect_left(ranked, rank[:2], key=_by_turn)]
        if not ranked:
            del self._demands[demand]

    def in_turn(self, wanted: Callable[[Seek], bool]) -> Iterator[QueuedSeek]:
        """Yield the seeks of the demands that are wanted, as they stand now."""
        return _in_order([ranked.copy() for seek, ranked in self._demands.values() if wanted(seek)])

    def __bool__(self) -> bool:
        return bool(self._ranks)


def _words_of(offer: Offer) -> list[tuple[str, Value]]:
    """What constraints may name of an offer: its texts and its tags."""
    return [
        (name, word)
        for name, value in offer.attributes.items()
        if not isinstance(value, int | float)
        for word in ((value,) if isinstance(value, str) else dict.fromkeys(value))
    ]


def _by_turn(rank: tuple[float, int, object]) -> tuple[float, int]:
    return rank[:2]


_Item = TypeVar("_Item")


def _in_order(lists: list[list[tuple[float, int, _Item]]]) -> Iterator[_Item]:
    ranks = iter(lists[0]) if len(lists) == 1 else merge(*lists, key=_by_turn)
    return (item for _, _, item in ranks)
