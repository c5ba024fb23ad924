"""How the least proof of work of a network rises under a flood and falls after it; no I/O, no clock of its own.

Theory of operation. A look at the load every second or so makes an interval, whose pressure is 1 where the network is
as busy as it should ever be. When most of a window's time was under pressure, the level is to rise by a factor, and
again after another such window, up to the most that the chain allows. When the window's mean stayed far below for the
whole calm, it is to fall by the factor, and so on back to where the tide found it. Between the two nothing changes, so
that a load near either edge does not swing it. Each flood that comes back after a fall doubles the calm that a fall
needs from then on, until it has been calm for so long at the level of the beginning: then the tide is over.

What counts is what has paid: envelopes that were taken, or were refused by a full pool, after their proof of work was
seen. Junk that a link's quota or the proof of work stops costs its sender nothing, and moves no tide.

    over ──pressed──▶ risen ──pressed──▶ risen higher ──calm──▶ fallen ──calm──▶ … at its base ──calm──▶ over
                                               ▲                   │
                                               └─────pressed───────┘ (and the calm is twice as long)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

LONGEST_CALM: Final = 86_400.0
SHORTEST_LOOK: Final = 1.0
FULL: Final = 0.8
"""The share of the pool from which on it counts as full."""


@dataclass(frozen=True, slots=True)
class TideTuning:
    """When to act: `capacity` in envelopes a second, `window` and `calm` in seconds.

    A window is pressed when the pressure was above 1 for more than the share `pressed` of its time; it is quiet when
    its mean is below `quiet`.
    """

    capacity: float = 200.0
    window: float = 30.0
    calm: float = 600.0
    factor: float = 2.0
    pressed: float = 0.5
    quiet: float = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """What a node saw: envelopes taken, and refused by a full pool, since it started; the share of its pool in use."""

    taken: float
    refused: float
    fill: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What the chain says: the level, the bounds it may move within, from when it may change (Unix seconds)."""

    level: float
    least: float
    most: float
    free_from: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A tide under way: the level it began at, the calm that a fall needs now, whether its last move was a fall."""

    base: float
    calm: float
    fell: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """All that must outlive a restart: the level last seen on chain, the one that was asked for, the tide under way."""

    level: float | None = None
    asked: float | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class _Interval:
    start: float
    end: float
    pressure: float


class Tide:
    """Decides; whoever asks sets the level on chain, and tells with `follow` what the chain has."""

    def __init__(self, tuning: TideTuning, memory: Memory | None = None) -> None:
        self._tuning = tuning
        self.memory = memory or Memory()
        self._last: tuple[float, Load] | None = None
        self._intervals: deque[_Interval] = deque()
        self._quiet_since: float | None = None

    @property
    def pressure(self) -> float:
        """The mean over the window, as far as it goes back; 1 is all that the network should carry."""
        time = sum(one.end - one.start for one in self._intervals)
        return sum((one.end - one.start) * one.pressure for one in self._intervals) / time if time else 0.0

    def look(self, now: float, load: Load) -> None:
        """Take in the load at `now` (Unix seconds); looks closer together than a second are passed over."""
        last = self._last
        if last is not None and 0 <= now - last[0] < SHORTEST_LOOK:
            return
        self._last = (now, load)
        if last is None or now < last[0] or load.taken < last[1].taken or load.refused < last[1].refused:
            self._forget()  # the clock was set back, or another process counts
            return
        self._intervals.append(_Interval(last[0], now, self._pressure(now - last[0], last[1], load)))
        while self._intervals[0].end <= now - self._tuning.window:
            self._intervals.popleft()
        if self.pressure >= self._tuning.quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now

    def due(self, now: float, standing: Standing) -> float | None:
        """Return the level to set now, if it is another one than the chain has."""
        if now < standing.free_from:
            return None
        if self._is_pressed(now):
            higher = min(standing.level * self._tuning.factor, standing.most)
            return higher if higher > standing.level else None
        mark = self.memory.mark
        if mark is None or self._quiet_since is None or now - self._quiet_since < mark.calm:
            return None
        lower = max(standing.level / self._tuning.factor, mark.base, standing.least)
        if lower < standing.level:
            return lower
        self.memory = replace(self.memory, mark=None)
        return None

    def ask(self, level: float) -> None:
        """Note that this level is being asked for: when the chain has it, it is ours."""
        self.memory = replace(self.memory, asked=level)

    def follow(self, level: float) -> None:
        """Take note of what the chain has; a change that we did not ask for is somebody's decision, and ends a tide."""
        before, asked, mark = self.memory.level, self.memory.asked, self.memory.mark
        if before is not None and not same(before, level):
            self._forget()  # what was seen was under another level
            mark = self._moved(mark, before, level) if asked is not None and same(asked, level) else None
        self.memory = Memory(level, None, mark)

    def _moved(self, mark: Mark | None, before: float, level: float) -> Mark:
        if mark is None:
            return Mark(before, self._tuning.calm)
        if level < before:
            return replace(mark, fell=True)
        return Mark(mark.base, min(2 * mark.calm, LONGEST_CALM) if mark.fell else mark.calm)

    def _pressure(self, time: float, before: Load, load: Load) -> float:
        came = load.taken - before.taken + load.refused - before.refused
        return max(came / time / self._tuning.capacity, load.fill / FULL)

    def _is_pressed(self, now: float) -> bool:
        """Whether there is pressure now, and was for most of the window, all of which was seen."""
        start = now - self._tuning.window
        if not self._intervals or self._intervals[0].start > start + SHORTEST_LOOK or self._intervals[-1].pressure <= 1:
            return False
        pressed = sum(one.end - max(one.start, start) for one in self._intervals if one.pressure > 1)
        return pressed > self._tuning.pressed * self._tuning.window

    def _forget(self) -> None:
        self._intervals.clear()
        self._quiet_since = None


def same(one: float, other: float) -> bool:
    """Tell whether two levels are one on chain, which keeps them times 1e9."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
