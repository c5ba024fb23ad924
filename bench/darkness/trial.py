"""Many draws of spies over one recorded run: what each adversary makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from bench.darkness import measures
from bench.darkness.first_spy import FirstSpy
from bench.darkness.measures import Estimate
from bench.darkness.packets import Bools, Floats, Ints
from bench.darkness.timing import Floods, Spies, Timing
from bench.darkness.world import Run


@dataclass(frozen=True, slots=True)
class FirstSpied:
    """Recall and precision of the first-spy mapping."""

    recall: Estimate
    precision: Estimate


@dataclass(frozen=True, slots=True)
class Outcome:
    """Recall; precision of the same mapping, and of the mapping that precision likes best; bits of the posterior."""

    recall: Estimate
    precision: Estimate
    matched: Estimate
    entropy: Estimate


Draw = Callable[[np.random.Generator], Bools]  # which nodes are spies


def fraction(nodes: int, share: float) -> Draw:
    """Make each node a spy with this chance, independently."""
    return lambda rng: rng.random(nodes) < share


def first_spy(run: Run, draw: Draw, sets: int, rng: np.random.Generator) -> FirstSpied:
    """Let spies drawn `sets` times take the first relayer for the author."""
    letters = run.recorder.letters
    attack, senders = FirstSpy(run.recorder.sights, len(letters)), np.array([letter.sender for letter in letters])
    found, weighed, counted = _blank(3, sets, len(letters))
    for number in range(sets):
        spies = draw(rng)
        honest = ~spies[senders]
        suspects = attack.suspects(spies)[honest]
        counted[number] = honest
        found[number, honest] = measures.hits(suspects, senders[honest])
        weighed[number, honest] = measures.shares(suspects, senders[honest])
    return FirstSpied(*(measures.estimate(each, counted > 0, rng) for each in (found, weighed)))


class Correlation:
    """The timing adversary over one run of onion stems."""

    def __init__(self, run: Run) -> None:
        packets = run.recorder.packets(run.first_relay)
        made = np.array([letter.made for letter in run.recorder.letters])
        self._nodes = run.spec.shape.nodes
        self._workers = run.spec.shape.workers
        self.timings = []
        for size in np.unique(packets.size[packets.letter >= 0]):
            alike = packets.of_size(int(size))
            rows = _first_arrivals(alike.letter, alike.left[:, 2])
            self.timings.append(Timing(alike, run.crowd(alike), Floods(rows, made[alike.letter[rows]])))
        self.senders: Ints = np.concatenate([timing.senders for timing in self.timings])

    def posterior(self, spies: Bools) -> Floats:
        """Return letters x workers."""
        who = Spies(spies[self._workers :], spies[: self._workers])
        return np.concatenate([timing.posterior(who) for timing in self.timings])

    def outcome(self, draw: Draw, sets: int, rng: np.random.Generator) -> Outcome:
        """Let spies drawn `sets` times name the likeliest worker for each flood."""
        found, weighed, paired, bits, counted = _blank(5, sets, len(self.senders))
        for number in range(sets):
            spies = draw(rng)
            honest = ~spies[self.senders]
            posterior, senders = self.posterior(spies)[honest], self.senders[honest]
            suspects = measures.likeliest(posterior, rng)
            counted[number] = honest
            found[number, honest] = measures.hits(suspects, senders)
            weighed[number, honest] = measures.shares(suspects, senders)
            paired[number, honest] = measures.hits(measures.matched(posterior, rng), senders)
            bits[number, honest] = measures.entropy(posterior)
        return Outcome(*(measures.estimate(each, counted > 0, rng) for each in (found, weighed, paired, bits)))


def _first_arrivals(letter: Ints, flooded: Floats) -> Ints:
    """Return, for each letter, the row of the packet that brought it first."""
    order = np.argsort(flooded, kind="stable")
    order = order[letter[order] >= 0]
    _, first = np.unique(letter[order], return_index=True)
    return np.asarray(order[first])


def _blank(count: int, sets: int, letters: int) -> list[Floats]:
    return [np.zeros((sets, letters)) for _ in range(count)]
