"""Many letters of one sender, and an adversary who knows which they are: how likely it finds the sender in the end.

Cover and real packets leave by one clock and take paths drawn alike, so any packet of a sender may stand for one that
carried a letter: as many as wanted are taken from the recorded run. The second each would show is that of a letter
written an exponential wait before, which is how long a letter waits for the next packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from bench.darkness.measures import Estimate, estimate
from bench.darkness.packets import Bools, Floats, Packets
from bench.darkness.timing import Floods, Spies, Timing
from bench.darkness.trial import Draw
from bench.darkness.world import COOL_DOWN, WARM_UP, Run

_EDGE: Final = 4.0  # seconds at both ends of a run whose packets serve as others' crowd only
_FLOOR: Final = 1e-9  # of a likelihood: no single letter excludes anybody for good


@dataclass(frozen=True, slots=True)
class Found:
    """The chance that the right worker is named, after so many letters known to be of one sender."""

    letters: int
    chance: Estimate


class Intersection:
    """`senders` workers of a run with `letters` letters each."""

    def __init__(self, run: Run, senders: int, letters: int, rng: np.random.Generator) -> None:
        packets = run.recorder.packets(run.first_relay).of_size(0)
        inner = _inside(packets, WARM_UP - _EDGE, run.seconds - COOL_DOWN)
        eligible = np.flatnonzero(np.bincount(packets.worker[inner], minlength=run.spec.shape.workers) >= letters)
        self._senders = rng.choice(eligible, min(senders, len(eligible)), replace=False)
        rows = [rng.choice(np.flatnonzero(inner & (packets.worker == who)), letters, False) for who in self._senders]
        row = np.concatenate(rows)
        crowd = run.crowd(packets)
        waited = rng.exponential(1 / crowd.rate, len(row))
        self._timing = Timing(packets, crowd, Floods(row, np.floor(packets.arrived[row, 0] - waited)))
        self._letters, self._workers = letters, run.spec.shape.workers

    def found(self, counts: tuple[int, ...], draw: Draw, sets: int, rng: np.random.Generator) -> list[Found]:
        """Return the chances after each of these numbers of letters."""
        hits = np.zeros((len(counts), sets, len(self._senders)))
        honest = np.zeros((sets, len(self._senders)), dtype=bool)
        for number in range(sets):
            spies = draw(rng)
            honest[number] = ~spies[self._senders]
            total = self._evidence(Spies(spies[self._workers :], spies[: self._workers])).cumsum(axis=1)
            for place, count in enumerate(counts):
                named = (total[:, count - 1] + 1e-9 * rng.random(total[:, 0].shape)).argmax(axis=1)
                hits[place, number] = named == self._senders
        return [Found(count, estimate(each, honest, rng)) for count, each in zip(counts, hits, strict=True)]

    def _evidence(self, spies: Spies) -> Floats:
        """Return senders x letters x workers: the logarithm of each letter's likelihoods."""
        likelihood = np.log(np.maximum(self._timing.posterior(spies), _FLOOR))
        likelihood[:, spies.workers] = -np.inf
        return np.asarray(likelihood.reshape(len(self._senders), self._letters, self._workers))


def _inside(packets: Packets, begin: float, end: float) -> Bools:
    return np.asarray((packets.arrived[:, 0] > begin) & (packets.left[:, 2] < end))
