"""When packets leave for the guard: as a Poisson process, whether or not there is anything to say.

Each emission takes the place of a cover packet if a real one waits. Who watches the link sees a constant rate; an
exponential clock is memoryless, so that even the gaps say nothing about when a message was written. Only a sustained
backlog raises the rate, by doubling, and it falls back slowly: that some minutes were busier than others is all that
the guard can learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf
from random import Random
from typing import Final, Generic, TypeVar

from quietfleet.errors import QueueFull
from quietfleet.mixnet.packet import PACKET_SIZES

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Load:
    """One size class's schedule: `rate` is emissions per second at level 0, doubled at each of `levels` levels.

    It rises when the oldest has waited `raise_after` seconds and more still wait, at most once in that time, and falls
    by one level after `calm` seconds with an empty queue. Without `cover` nothing leaves while nothing waits, and who
    watches the link can tell that what leaves is real.
    """

    rate: float
    cover: bool = True
    levels: int = 4
    raise_after: float = 3.0
    calm: float = 300.0
    queue: int = 64


def loads(rate: float) -> tuple[Load, ...]:
    """Return a schedule for each packet size; `rate` is emissions per second of the smallest.

    Readings and answers fit the first class, handshakes the second. What is larger is rare, and without cover.
    """
    bare = Load(rate, cover=False)
    return Load(rate), Load(rate / 8), bare, bare


DEFAULT_LOADS: Final = loads(4.0)


@dataclass(frozen=True, slots=True, order=True)
class _Waiting(Generic[Item]):
    deadline: float
    number: int
    since: float
    item: Item


class Schedule(Generic[Item]):
    """The emissions of one size class; the caller asks when the next is due, and then what it carries.

    Times are seconds of any one clock; `rng` must be a `SystemRandom` outside of tests.
    """

    def __init__(self, load: Load, rng: Random, now: float) -> None:
        self._load = load
        self._rng = rng
        self._level = 0
        self._waiting: list[_Waiting[Item]] = []
        self._number = 0
        self._changed = now
        self._busy = now  # when something last waited
        self._latest = now
        self._next = self._draw(now)

    @property
    def level(self) -> int:
        """How often the rate is doubled now."""
        return self._level

    @property
    def rate(self) -> float:
        """Emissions per second now."""
        return self._load.rate * (1 << self._level)

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, item: Item, deadline: float, now: float) -> None:
        """Queue a real packet's content, earliest deadline first; QueueFull if `Load.queue` wait already."""
        if len(self._waiting) >= self._load.queue:
            raise QueueFull(f"{len(self._waiting)} wait")
        if not self._waiting and not self._load.cover:
            self._next = self._draw(now)
        self._number += 1
        heappush(self._waiting, _Waiting(deadline, self._number, now, item))
        self._busy = now

    def expired(self, now: float) -> list[Item]:
        """Take out and return what would leave too late."""
        late = []
        while self._waiting and self._waiting[0].deadline < now:
            late.append(heappop(self._waiting).item)
        return late

    def withdraw(self, items: Iterable[Item]) -> None:
        """Take out what need not leave any more."""
        gone = list(items)
        self._waiting = [waiting for waiting in self._waiting if waiting.item not in gone]
        heapify(self._waiting)

    def next_emission(self, now: float) -> float:
        """Return when to call `emit` next; infinity while there is nothing to send and no cover."""
        if not self._load.cover and not self._waiting:
            return inf
        self._adapt(now)
        return self._next

    def emit(self, now: float) -> Item | None:
        """Take what the emission due now carries, None for cover, and draw the time of the next."""
        self._adapt(now)
        self._next = self._draw(now)
        if not self._waiting:
            return None
        self._busy = now
        return heappop(self._waiting).item

    def _adapt(self, now: float) -> None:
        """Change the level if it is time to; the clock is memoryless, so the next emission may be drawn afresh.

        So it is when the caller's clock was set back, or nothing would leave until it is again as late as it was.
        """
        if now < self._latest:
            self._changed, self._busy = min(self._changed, now), min(self._busy, now)
            self._next = self._draw(now)
        level, self._latest = self._level, now
        if self._waiting and now - self._changed >= self._load.raise_after:
            overdue = now - min(waiting.since for waiting in self._waiting) >= self._load.raise_after
            level = min(self._load.levels, level + (overdue and len(self._waiting) > 1))
        elif not self._waiting and now - max(self._busy, self._changed) >= self._load.calm:
            level = max(0, level - 1)
        if level != self._level:
            self._level, self._changed = level, now
            self._next = self._draw(now)

    def _draw(self, now: float) -> float:
        return now + self._rng.expovariate(self.rate)


def cost(rates: Iterable[float]) -> float:
    """Return the bytes per second that one worker sends its guard at these rates, one for each size class.

    Links add their framing. Each packet crosses three links, so that relays together carry three times as much.
    """
    return sum(rate * size for rate, size in zip(rates, PACKET_SIZES, strict=False))
