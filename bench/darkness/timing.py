"""The strongest adversary we know against onion stems: pooled spies that reckon which worker each flood came from.

Theory of operation. A spy relay knows when each packet came, from whom, when and where it went on, and what became of
it at the exit; neighbouring spies join what they know of a packet. What an honest relay does in between is known but
for its delay, whose law is public. So each worker gets a likelihood for each flood:

    exit is a spy        the packet is traced back to the last honest relay before it, and from when it left there
      guard honest       the workers linked to that guard, each by its links
      middle honest      each packet a spy guard sent to that middle, by the density of the delay that this takes
    exit is honest       which relay started the flood, and when, is given to the adversary for free
      middle a spy       each packet that middle sent to this exit, by the density of the last delay
      guard a spy alone  each packet sent to any honest middle, by the density of two delays and the link between
    workers of honest guards may always have sent one more, which no spy saw

An envelope tells the second it was made in, and waits for its worker's next packet for an exponential time: each packet
counts by how well that fits, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from bench.darkness.packets import Bools, Fleet, Floats, Ints, Packets

_SPAN: Final = 9.0  # mean delays: what took longer than so many is looked at no more
_HAIR: Final = 1e-6  # seconds: rounding of times
_SAMPLE: Final = 500  # packets whose times stand for the law of all
_BY_EXIT, _BY_MIDDLE, _BY_GUARD = range(3)


@dataclass(frozen=True, slots=True)
class Floods:
    """The floods to explain: each one's true row among the packets, and the second its envelope was made in."""

    row: Ints
    made: Floats

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Spies:
    """Who belongs to the adversary."""

    relays: Bools
    workers: Bools


class Timing:
    """Likelihoods that do not depend on who spies, reckoned once; `posterior` then serves many sets of spies."""

    def __init__(self, packets: Packets, fleet: Fleet, floods: Floods) -> None:
        self._packets, self._fleet, self._floods = packets, fleet, floods
        parts = [self._given_middle(), self._given_exit(), self._given_guard()]
        self._kind = np.concatenate([np.full(len(part[0]), kind) for kind, part in enumerate(parts)])
        self._flood, self._row, self._density = (np.concatenate(column) for column in zip(*parts, strict=True))
        made = floods.made[self._flood]
        guessed = packets.arrived[:, 1] - (packets.arrived[:, 1] - packets.arrived[:, 0]).mean()
        self._blurred = self._density * _waited(guessed[self._row] - made, fleet.rate)  # where an honest guard took it
        self._density = self._density * _waited(packets.arrived[self._row, 0] - made, fleet.rate)
        self._fitting = [self._fit(hop) for hop in (1, 2)]

    @property
    def senders(self) -> Ints:
        """The worker each flood really came from."""
        return self._packets.worker[self._floods.row]

    def posterior(self, spies: Spies) -> Floats:
        """Return floods x workers: how likely each honest worker is to have sent each flood; rows sum to 1."""
        path = self._packets.path[self._floods.row]
        seen = spies.relays[path]
        behind = self._behind(spies)
        scores = self._unseen(seen, behind, spies) + self._seen(seen, behind, spies)
        known_guard = seen[:, 1] & seen[:, 2] & ~seen[:, 0]
        scores[known_guard] = behind.T[path[known_guard, 0]]
        known = seen.all(axis=1)
        scores[known] = 0.0
        scores[known, self.senders[known]] = 1.0
        scores[:, spies.workers] = 0.0
        total = scores.sum(axis=1, keepdims=True)
        chance = ~spies.workers / max(1, np.count_nonzero(~spies.workers))
        return np.asarray(np.where(total > 0, scores / np.maximum(total, 1e-300), chance))

    def _behind(self, spies: Spies) -> Floats:
        """Return workers x relays: how likely an honest relay is a worker's guard; spy guards know their workers."""
        guards = np.zeros(self._fleet.workers, dtype=bool)
        guards[self._packets.worker[spies.relays[self._packets.path[:, 0]]]] = True
        open_links = self._fleet.links & ~spies.relays & ~(guards | spies.workers)[:, None]
        return np.asarray(open_links / np.maximum(open_links.sum(axis=1, keepdims=True), 1))

    def _unseen(self, seen: Bools, behind: Floats, spies: Spies) -> Floats:
        """What no spy saw before the exit: by any worker of an honest guard."""
        fleet = self._fleet
        honest = behind.sum(axis=1) * fleet.rate / (fleet.relays - 1)
        hidden = max(0, int((~spies.relays).sum()) - 2) / max(1, fleet.relays - 2)
        by_middle, by_exit = self._fitting
        return np.asarray(np.where(seen[:, 2], by_middle, by_exit * hidden)[:, None] * honest[None, :])

    def _fit(self, hop: int) -> Floats:
        """Return, for each flood, how well a packet that nobody saw before it left `hop` fits the envelope's second."""
        packets, floods = self._packets, self._floods
        took = packets.left[:, hop] - packets.arrived[:, 0]
        sample = took[:: max(1, len(took) // _SAMPLE)]
        age = packets.left[floods.row, hop] - floods.made
        return np.asarray(_waited(age[:, None] - sample[None, :], self._fleet.rate).mean(axis=1))

    def _seen(self, seen: Bools, behind: Floats, spies: Spies) -> Floats:
        flood, row = self._flood, self._row
        guard, middle = (spies.relays[self._packets.path[row, hop]] for hop in (0, 1))
        exit_, middle_of_flood = seen[flood, 2], seen[flood, 1]
        counts = (
            np.select(
                [self._kind == _BY_EXIT, self._kind == _BY_MIDDLE],
                [exit_ & ~middle_of_flood & guard, ~exit_ & middle],
                ~exit_ & guard & ~middle,
            )
            & ~spies.workers[self._packets.worker[row]]
        )
        by_worker = self._sum(self._density, counts & guard, self._packets.worker, self._fleet.workers)
        by_guard = self._sum(self._blurred, counts & ~guard, self._packets.path[:, 0], self._fleet.relays)
        return by_worker + by_guard @ (behind / np.maximum(behind.sum(axis=0), 1e-300)).T

    def _sum(self, density: Floats, counts: Bools, groups: Ints, size: int) -> Floats:
        """Return floods x groups: the densities of the pairs that count, summed."""
        places = self._flood[counts] * size + groups[self._row[counts]]
        sums: Floats = np.bincount(places, density[counts], len(self._floods) * size).astype(float)
        return sums.reshape(len(self._floods), size)

    def _given_middle(self) -> tuple[Ints, Ints, Floats]:
        """Pair each flood with what came to its middle before it went on from there, for when the exit is a spy."""
        flood, row, gap = self._pairs(1, self._packets.path[:, 1])
        return flood, row, _exponential(gap, self._fleet.delays[1])

    def _given_exit(self) -> tuple[Ints, Ints, Floats]:
        """Pair each flood with what came to its exit before it began."""
        flood, row, gap = self._pairs(2, self._packets.path[:, 2])
        return flood, row, _exponential(gap, self._fleet.delays[2])

    def _given_guard(self) -> tuple[Ints, Ints, Floats]:
        """Pair each flood with what came to any middle in the time before, to go on to its exit with equal chances."""
        flood, row, gap = self._pairs(1, np.zeros(len(self._packets), dtype=np.int64), until=2)
        middle, exit_ = self._packets.path[row, 1], self._packets.path[self._floods.row[flood], 2]
        gap = gap - self._fleet.latency[middle, exit_]
        density = _two_exponentials(gap, self._fleet.delays[1], self._fleet.delays[2])
        return flood, row, np.where(middle == exit_, 0.0, density) / (self._fleet.relays - 2)

    def _pairs(self, hop: int, group: Ints, until: int | None = None) -> tuple[Ints, Ints, Floats]:
        """Return (flood, row, gap): rows of a flood's group that came to `hop` less than a span before it left."""
        until = hop if until is None else until
        came, left = self._packets.arrived[:, hop], self._packets.left[self._floods.row, until]
        span = _SPAN * sum(self._fleet.delays[hop : until + 1]) + 0.1
        order = np.lexsort((came, group))
        begins, ends = (np.searchsorted(group[order], group[self._floods.row], side) for side in ("left", "right"))
        found: list[tuple[Ints, Ints]] = []
        for each, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            near = came[order[begin:end]]
            low, high = np.searchsorted(near, [left[each] - span, left[each] + _HAIR])
            found.append((np.full(high - low, each), order[begin + low : begin + high]))
        flood, row = (np.concatenate(column) for column in zip(*found, strict=True))
        return flood, row, left[flood] - came[row]


def _waited(since: Floats, rate: float) -> Floats:
    """Return the chance of a packet to carry what was made in a second that began so long before it left."""
    late = np.exp(-rate * np.maximum(since - 1, 0)) - np.exp(-rate * np.maximum(since, 0))
    return np.asarray(np.where(since > 0, late, 0.0))


def _exponential(gap: Floats, mean: float) -> Floats:
    """Return the density of one delay, in 1/s."""
    return np.where(gap >= -_HAIR, np.exp(-np.maximum(gap, 0) / mean) / mean, 0.0)


def _two_exponentials(gap: Floats, one: float, other: float) -> Floats:
    """Return the density of the sum of two delays, in 1/s."""
    time = np.maximum(gap, 0)
    if abs(one - other) < 1e-3 * one:
        density = time * np.exp(-time / one) / one**2
    else:
        density = (np.exp(-time / one) - np.exp(-time / other)) / (one - other)
    return np.where(gap >= 0, density, 0.0)
