"""Four processes in a line over TCP on the loopback, whoever's they are: told what to do, asked what arrived.

Times are of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Final, Self

from bench.peer import Process

MEMBERS: Final = 4
SIZE: Final = 256  # bytes of a message
_WARMINGS: Final = ((300, 300.0), (3000, 0.0), (3000, 0.0))  # messages and their rate; Node compiles as it goes
_PATIENCE: Final = 3.0  # seconds without an arrival after which what is missing is lost
_NANO: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Burst:
    """Sent as fast as the sender could: messages a second from the first's sending to the last's arrival."""

    rate: float
    lost: int
    cpu: float  # seconds of all four processes together, a message


@dataclass(frozen=True, slots=True)
class Pace:
    """Latency over three hops at a steady rate, in milliseconds."""

    p50: float
    p99: float
    lost: int


class Line:
    """Members in a line; the first sends, the last counts."""

    def __init__(self, command: Sequence[str]) -> None:
        self._members = [Process(command) for _ in range(MEMBERS)]
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.end()

    def join(self) -> None:
        """Connect each to the next, and let them warm up."""
        for member, following in zip(self._members, self._members[1:], strict=False):
            member.ask(do="dial", to=following.ask(do="address"))
        for place, member in enumerate(self._members):
            member.ask(do="joined", peers=1 if place in (0, MEMBERS - 1) else 2)
        for count, rate in _WARMINGS:
            self._run(count, rate)

    def burst(self, count: int) -> Burst:
        before = self._cpu()
        sent, arrivals = self._run(count, 0.0)
        lasted = (max(arrival for _, arrival in arrivals) - sent["began"]) * _NANO
        return Burst(len(arrivals) / lasted, count - len(arrivals), (self._cpu() - before) / count)

    def pace(self, count: int, rate: float) -> Pace:
        _, arrivals = self._run(count, rate)
        cuts = quantiles([(arrival - sent) * _NANO * 1e3 for sent, arrival in arrivals], n=100)
        return Pace(cuts[49], cuts[98], count - len(arrivals))

    def _run(self, count: int, rate: float) -> tuple[Any, list[tuple[int, int]]]:
        """Send and return when that began and ended, and when each was sent and arrived."""
        sent = self._members[0].ask(do="send", first=self._sent, count=count, rate=rate, size=SIZE)
        self._sent += count
        arrived, waited = 0, 0.0
        while arrived < count and waited < _PATIENCE:
            time.sleep(0.05)
            before, arrived = arrived, self._members[-1].ask(do="arrived")
            waited = 0.0 if arrived > before else waited + 0.05
        for member in self._members[1:-1]:
            member.ask(do="take")
        return sent, self._members[-1].ask(do="take")

    def _cpu(self) -> float:
        return sum(float(member.ask(do="cpu")) for member in self._members)
