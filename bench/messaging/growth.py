"""What a message costs each node as the network grows: one process runs all nodes, over TCP on the loopback.

The graph is a union of random rings, so that every node has `degree` neighbours, or all others if there are fewer.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import uvloop
from bench.messaging.line import SIZE
from bench.messaging.relays import STAMP, envelope, relay

from quietfleet.metrics import Metrics
from quietfleet.network import EmbeddedNode, Enode
from quietfleet.whisper import Envelope

CELLS: Final = tuple(
    (nodes, degree, rate)
    for nodes, degrees in ((4, (3,)), (16, (4, 8)), (64, (4, 8)))
    for degree in degrees
    for rate in (10, 100, 1000)
)
"""Nodes, neighbours of each, messages a second."""

_SECONDS: Final = 3.0  # of sending
_MOST: Final = 40_000  # messages times links' ends, so that no row takes long
_PATIENCE: Final = 3.0  # seconds without an arrival after which what is missing is lost
_WARMING: Final = 50
_SEED: Final = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """One cell: per node and message unless it says otherwise."""

    nodes: int
    degree: int
    rate: int
    carried: float  # messages a second that reached everybody
    p50: float  # milliseconds to a node
    lost: int  # of all deliveries
    cpu: float  # seconds
    sent: float  # bytes
    copies: float  # how often a node was sent it


def measure(nodes: int, degree: int, rate: int) -> Growth:
    """Run one network and return what it cost."""
    return uvloop.run(_measure(nodes, degree, rate))


async def _measure(nodes: int, degree: int, rate: int) -> Growth:
    network = _Network(nodes)
    await network.start(degree)
    await network.flood(_WARMING, rate)
    network.arrivals.clear()
    count = int(min(rate * _SECONDS, _MOST / nodes / degree))
    cpu, sent, copies = time.process_time(), _written(), network.copies()
    lasted = await network.flood(count, rate)
    cpu, sent, copies = time.process_time() - cpu, _written() - sent, network.copies() - copies
    await network.stop()
    arrivals, each = network.arrivals, count * nodes
    return Growth(
        nodes,
        degree,
        rate,
        carried=count / lasted,
        p50=median(arrivals) / 1e6,
        lost=count * (nodes - 1) - len(arrivals),
        cpu=cpu / each,
        sent=sent / each,
        copies=copies / each,
    )


class _Network:
    """All nodes, and the nanoseconds each delivery took."""

    def __init__(self, count: int) -> None:
        self._metrics = [Metrics() for _ in range(count)]
        self._nodes = [relay(metrics) for metrics in self._metrics]
        self._listening: list[asyncio.Task[None]] = []
        self._sent = 0
        self.arrivals: list[int] = []

    async def start(self, degree: int) -> None:
        for node in self._nodes:
            self._listening.append(asyncio.create_task(self._listen(node.envelopes())))
            await node.start()
        dials = _graph(len(self._nodes), degree)
        for node, others in zip(self._nodes, dials, strict=True):
            node.keep_connected([_enode(self._nodes[other]) for other in others])
        for place, node in enumerate(self._nodes):
            await node.connected(len(dials[place] | {i for i, others in enumerate(dials) if place in others}))

    async def stop(self) -> None:
        for node in self._nodes:
            await node.stop()
        await asyncio.gather(*self._listening)

    def copies(self) -> float:
        """Return how many envelopes arrived at all nodes, each time they did."""
        return sum(
            metrics.value("network_received") + metrics.value("network_dropped", reason="duplicate")
            for metrics in self._metrics
        )

    async def flood(self, count: int, rate: int) -> float:
        """Send from nodes in turn, wait for everybody to have it all, and return the seconds until then."""
        began, expected = time.monotonic_ns(), len(self.arrivals) + count * (len(self._nodes) - 1)
        for i in range(count):
            await asyncio.sleep(max(0.0, i / rate - (time.monotonic_ns() - began) / 1e9))
            self._sent += 1
            node = self._nodes[self._sent % len(self._nodes)]
            await node.publish(envelope(self._sent, secrets.token_bytes(SIZE - STAMP.size)))
        last, arrived = time.monotonic_ns(), -1
        while len(self.arrivals) < expected and time.monotonic_ns() - last < _PATIENCE * 1e9:
            await asyncio.sleep(0.005)
            if len(self.arrivals) > arrived:
                last, arrived = time.monotonic_ns(), len(self.arrivals)
        return (last - began) / 1e9

    async def _listen(self, envelopes: AsyncIterator[Envelope]) -> None:
        async for each in envelopes:
            self.arrivals.append(time.monotonic_ns() - STAMP.unpack_from(each.data)[1])


def _graph(nodes: int, degree: int) -> list[set[int]]:
    """Return whom each node dials."""
    if degree >= nodes - 1:
        return [set(range(place + 1, nodes)) for place in range(nodes)]
    rng = random.Random(_SEED)
    dials: list[set[int]] = [set() for _ in range(nodes)]
    for _ in range(degree // 2):
        ring = rng.sample(range(nodes), nodes)
        for one, other in zip(ring, _turned(ring), strict=True):
            if one not in dials[other]:
                dials[one].add(other)
    return dials


def _turned(ring: Sequence[int]) -> list[int]:
    return [*ring[1:], ring[0]]


def _enode(node: EmbeddedNode) -> Enode:
    assert node.enode
    return node.enode


def _written() -> int:
    """Return the bytes this process has written, by the kernel's count: nearly all of them into its sockets."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{os.getpid()}/io").read_text().splitlines())
    return int(fields["wchar"])
