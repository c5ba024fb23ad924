"""The dispatch core alone: how many seeks a second find their offer, without sessions, network or proof of work.

A round is one seek of each seeker. Timed is the seek, from the word to the two proposals; answering and releasing is
timed apart. Places suffice for all, as in a fleet that is not full, and the site asked about excludes nine of ten.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import shake_256
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

from bench.showing import show

from quietfleet.dispatch import (
    Accept,
    Capability,
    Dispatcher,
    DispatchStore,
    Equals,
    Offer,
    OneOf,
    Proposal,
    Release,
    Seek,
)
from quietfleet.storage import Database

WORKERS: Final = (10, 100, 1_000)
GOAL: Final = 5_000.0  # matches a second
SITES: Final = 10
_CAPACITY: Final = 8
_KEYS: Final = 64
_CAPABILITY: Final = Capability("forecast", 1, "readings/1", "recommendation/1")
_START: Final = 1_000_000.0
_CARD: Final = bytes(1_488)  # a sealed card's size


@dataclass(frozen=True)
class Figures:
    """What one run gave, in words a second."""

    workers: int
    matches: float
    deals: float


class Unwritten(DispatchStore):
    """A store that keeps nothing, to see what the book in memory costs by itself."""

    def transaction(self) -> AbstractContextManager[object]:
        return nullcontext()

    def _nothing(self, *_: Any) -> None:
        pass

    put_offer = put_seek = put_deal = put_grave = put_mark = _nothing
    drop_offer = drop_seek = drop_deal = drop_grave = drop_mark = _nothing


class Everyone:
    """A registry in which all are active."""

    def usable(self, worker: str) -> bool:
        return bool(worker)

    def can_cooperate(self, a: str, b: str) -> bool:
        return a != b


def figures(workers: int, rounds: int, *, journalled: bool, sites: int = SITES) -> Figures:
    """Measure one size of fleet: half of it offers, half of it seeks, over so many sites."""
    with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "oracle.db") as database:
        store = (DispatchStore if journalled else Unwritten)(database, bytes(32), _random())
        clock = perf_counter if journalled else process_time
        market = _Market(Dispatcher(store, _random(), Everyone()), workers, sites, clock)
        for _ in range(rounds):
            market.round()
    made = rounds * market.half
    return Figures(workers, made / market.matching, made / (market.matching + market.answering))


def result(rounds: int = 4) -> dict[str, Any]:
    """Return the table that `bench.report` takes."""
    rows: list[list[Any]] = []
    for workers in WORKERS:
        repeats = max(rounds, 2_000 // workers)
        memory = figures(workers, repeats, journalled=False)
        disk = figures(workers, max(1, repeats // 4), journalled=True)
        apart = figures(workers, repeats, journalled=False, sites=workers)
        rates = (memory.matches, memory.deals, apart.matches, disk.matches, disk.deals)
        rows.append([workers, *(round(rate) for rate in rates)])
    return {
        "title": "Matching core of the dispatch oracle",
        "about": [
            (
                f"Goal: {GOAL:,.0f} matches a second in memory. A match is a seek and its two proposals; a deal goes "
                "on to both acceptances, both introductions and a release, three more turns. Offers are at ten sites, "
                "or each at one of its own. In memory a second is one of processor time. Journalled, it is one of the "
                "clock: each turn is a transaction of sealed rows on disk, synced before anything is said."
            ),
        ],
        "tables": [
            {
                "title": "Half of the workers offer, half seek",
                "columns": [
                    "workers",
                    "matches/s",
                    "deals/s",
                    "matches/s, sites apart",
                    "matches/s, journalled",
                    "deals/s, journalled",
                ],
                "rows": rows,
            }
        ],
    }


class _Market:
    def __init__(self, dispatcher: Dispatcher, workers: int, sites: int, clock: Callable[[], float]) -> None:
        self.half = workers // 2
        self.matching = self.answering = 0.0
        self._dispatcher = dispatcher
        self._sites = sites
        self._clock = clock
        self._random = _random()
        self._numbers = count(1)
        self._now = _START
        self._offers = [self._random(16).hex() for _ in range(self.half)]

    def round(self) -> None:
        """Have everybody offer anew, then each seeker seek, be answered and leave."""
        self._now += 60.0
        for number, offer_id in enumerate(self._offers):
            self._dispatcher.handle(f"provider {number}", self._offer(number, offer_id), self._now)
        seeks = [(f"seeker {number}", self._seek(number)) for number in range(self.half)]
        start = self._clock()
        said = [self._dispatcher.handle(worker, seek, self._now) for worker, seek in seeks]
        matched = self._clock()
        for proposals in said:
            self._answer(proposals)
        self.matching += matched - start
        self.answering += self._clock() - matched

    def _answer(self, proposals: list[Any]) -> None:
        for each in proposals:
            if not isinstance(each.message, Proposal):
                raise TypeError(each.message)  # the market is not as it was meant to be
            self._dispatcher.handle(each.worker_id, Accept(each.message.deal_id, _CARD), self._now)
        self._dispatcher.handle(proposals[0].worker_id, Release(proposals[0].message.deal_id), self._now)

    def _offer(self, number: int, offer_id: str) -> Offer:
        attributes = {"site": f"site {number % self._sites}", "region": "north"}
        keys = tuple(self._random(32) for _ in range(_KEYS))
        return Offer(offer_id, _CAPABILITY, attributes, _CAPACITY, self._now + 3_600, keys)

    def _seek(self, number: int) -> Seek:
        asked = (Equals("region", "north"), OneOf("site", (f"site {number % self._sites}",)))
        return Seek(f"{next(self._numbers):032x}", "forecast", 1, asked, self._now + 600, self._random(32))


def _random() -> Any:
    numbers = count()
    return lambda size: shake_256(next(numbers).to_bytes(8, "big")).digest(size)


if __name__ == "__main__":
    show(result())
