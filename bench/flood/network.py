"""The twelve processes under attack, the honest load on them, and what is measured of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgspec
from bench.flood.process import Process
from bench.flood.world import NODES, RELAYS, WORKERS, Place

MIB: Final = 1 << 20
_SAMPLE_EVERY: Final = 0.25
_DRAIN: Final = 12.0  # seconds an envelope is waited for: two tries of a stem


@dataclass(slots=True)
class Outcome:
    """What one stretch of honest load came to: seconds from sending to each arrival, and what it cost each member."""

    expected: int = 0
    latencies: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=lambda: [0] * NODES)  # bytes
    cpu: list[float] = field(default_factory=list)  # seconds of processor time
    seconds: float = 0.0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def delivered(self) -> float:
        """The share of all pairs of message and member that came about."""
        return len(self.latencies) / self.expected if self.expected else 0.0

    def quantile(self, share: float) -> float:
        """Return the milliseconds within which this share of what arrived did."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Network:
    """Starts and stops all members."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.members: list[Process] = []
        self._sent: dict[int, float] = {}
        self._got: dict[int, dict[int, float]] = {}  # message → member → when
        self._number = 0
        self._arrived = asyncio.Event()

    @classmethod
    async def start(cls, *, stem: bool) -> Self:
        ports = free_ports(RELAYS)
        network = cls([Place(number, (*ports, *[0] * WORKERS), stem) for number in range(NODES)])
        for place in network.places:
            network.members.append(await network._member(place))
        await asyncio.gather(*(member.hear("ready") for member in network.members))
        return network

    async def stop(self) -> None:
        await asyncio.gather(*(member.stop() for member in self.members))

    @property
    def alive(self) -> int:
        return sum(member.alive for member in self.members)

    def resident(self) -> list[int]:
        return [member.resident for member in self.members]

    async def load(self, rate: float, seconds: float) -> Outcome:
        """Have workers send `rate` messages a second, in turn; wait for what is still under way."""
        outcome, began = Outcome(), time.monotonic()
        before, counted = [member.cpu for member in self.members], await self.counts()
        watching = asyncio.create_task(self._watch(outcome))
        first = self._number
        for beat in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + beat / rate - time.monotonic()))
            self._send(beat)
        outcome.seconds = time.monotonic() - began
        outcome.cpu = [member.cpu - start for member, start in zip(self.members, before, strict=True)]
        numbers = range(first, self._number)
        await self._drain(numbers)
        watching.cancel()
        outcome.expected = len(numbers) * (NODES - 1)
        outcome.latencies = [
            when - self._sent[number]
            for number in numbers
            for when in self._got[number].values()
            if number in self._sent
        ]
        outcome.counts = await self.counts() - counted
        return outcome

    async def counts(self) -> Counter[tuple[str, str]]:
        """Return all counters of all members together."""
        for member in self.members:
            member.tell(count=True)
        said = await asyncio.gather(*(member.hear("counts") for member in self.members))
        total: Counter[tuple[str, str]] = Counter()
        for name, labels in ((name, labels) for counts in said for name, labels in counts.items()):
            total.update({(name, label): int(value) for label, value in labels.items()})
        return total

    def _send(self, beat: int) -> None:
        self._got[self._number] = {}
        self.members[RELAYS + beat % WORKERS].tell(send=self._number)
        self._number += 1

    async def _drain(self, numbers: range) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                while any(len(self._got[number]) < NODES - 1 for number in numbers):
                    self._arrived.clear()
                    await self._arrived.wait()

    async def _watch(self, outcome: Outcome) -> None:
        while True:
            outcome.peaks = [max(pair) for pair in zip(outcome.peaks, self.resident(), strict=True)]
            await asyncio.sleep(_SAMPLE_EVERY)

    async def _member(self, place: Place) -> Process:
        def note(said: dict[str, Any]) -> None:
            if "sent" in said:
                number, when = said["sent"]
                self._sent[number] = when
            for number, when in said.get("got", ()):
                self._got[number].setdefault(place.number, when)
                self._arrived.set()

        return await Process.start("bench.flood.member", msgspec.json.encode(place).decode(), on_line=note)


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
