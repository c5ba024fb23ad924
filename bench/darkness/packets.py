"""What became of every onion packet of a run: the table that the timing attack is reckoned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Packets:
    """One row a packet, real or cover. Workers and relays are numbered from 0; times in seconds of the run.

    `path` and the times are n x 3, guard first. A packet reaches hop i at `arrived[:, i]` and leaves it at
    `left[:, i]`, the exit by its flood or, cover, by being forgotten. `letter` is the number of the envelope inside,
    -1 for cover; `size` the size class.
    """

    worker: Ints
    path: Ints
    arrived: Floats
    left: Floats
    size: Ints
    letter: Ints

    def __len__(self) -> int:
        return len(self.worker)

    def of_size(self, size: int) -> Packets:
        """Return the packets of one size class: nobody takes those of another for them."""
        kept = self.size == size
        columns = (self.worker, self.path, self.arrived, self.left, self.size, self.letter)
        return Packets(*(column[kept] for column in columns))


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the adversary knows besides: everything public, every link, every latency, the senders' parameters.

    `links` (workers x relays) says who is connected to whom, but not which link leads to a guard; `latency` (relays x
    relays) is in seconds, `delays` the three hops' mean delays, `rate` a worker's packets a second of this size class.
    """

    links: Bools
    latency: Floats
    delays: tuple[float, float, float]
    rate: float

    @property
    def workers(self) -> int:
        return len(self.links)

    @property
    def relays(self) -> int:
        return len(self.latency)
