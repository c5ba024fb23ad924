"""Real nodes on real localhost sockets, in one event loop; factories for 'another one'."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random

import pytest

from quietfleet.clock import ManualClock
from quietfleet.metrics import Metrics
from quietfleet.network import EmbeddedNode, LinkTiming, TcpLinks, Tuning
from quietfleet.network.wire import MESSAGES, STATUS, Status
from quietfleet.whisper import Envelope, Rules, encode_bundle, mine, pow_of

MIN_POW = 0.05
TUNING = Tuning(max_delay=0.005, first_pause=0.01, longest_pause=0.05, sweep_every=0.01)


@pytest.fixture
def clock():
    return ManualClock(2_000_000_000.0)


@pytest.fixture
def rules():
    return Rules(min_pow=MIN_POW, max_ttl=120, max_size=4096)


@pytest.fixture
def make_envelope(clock):
    """Return a factory of valid envelopes, each different."""
    numbers = itertools.count()

    def make(ttl=60, size=100, work=MIN_POW, early=0):
        data = next(numbers).to_bytes(8, "big").ljust(size, b".")
        return mine(int(clock.now()) + ttl + early, ttl, b"tppc", data, work)

    return make


@pytest.fixture
def make_idle_envelope(clock):
    """Return a factory of envelopes that nobody worked for."""
    numbers = itertools.count()

    def make():
        drafts = (Envelope(int(clock.now()) + 60, 60, b"tppc", b"idle", nonce) for nonce in numbers)
        return next(draft for draft in drafts if pow_of(draft) < MIN_POW)

    return make


@pytest.fixture
async def start_node(clock, rules):
    """Return a factory of started nodes; relays listen, and `metrics` and `inbox` come with each."""
    nodes = []

    async def start(*peers, listen="127.0.0.1:0", rules=rules, tuning=TUNING, timing=None, seed=None):
        metrics = Metrics()
        node = EmbeddedNode(
            listen=listen,
            peers=[str(peer.address) if isinstance(peer, EmbeddedNode) else str(peer) for peer in peers],
            rules=rules,
            metrics=metrics,
            clock=clock,
            rng=random.Random(len(nodes) if seed is None else seed),
            tuning=tuning,
            links=TcpLinks(timing or LinkTiming()),
        )
        node.metrics, node.inbox = metrics, node.envelopes()
        nodes.append(node)
        await node.start()
        return node

    yield start
    await asyncio.gather(*(node.stop() for node in nodes))


class Stranger:
    """A peer driven by hand."""

    def __init__(self, link):
        self.link = link

    async def offer(self, *envelopes):
        await self.link.send(MESSAGES, encode_bundle(envelopes))

    async def closed(self):
        """Wait until the node hangs up."""
        with contextlib.suppress(Exception):
            while True:
                await self.link.receive()


@pytest.fixture
async def meet():
    """Return a factory of strangers that exchanged statuses with a node."""
    links = []

    async def meet(node, status=Status(0.0)):  # noqa: B008 -- a frozen value
        link = await TcpLinks().dial(node.address)
        links.append(link)
        await link.send(STATUS, status.encode())
        assert (await link.receive())[0] == STATUS
        return Stranger(link)

    yield meet
    await asyncio.gather(*(link.close() for link in links))


@pytest.fixture
def until():
    """Return a wait for a condition about who is connected."""

    async def until(node, condition):
        async with asyncio.timeout(10):
            while not condition():
                await node._peers_changed.wait()

    return until


@pytest.fixture
def receive():
    """Return a wait for the next envelopes of a node, as a set of hashes."""

    async def receive(node, count=1):
        async with asyncio.timeout(10):
            return {(await anext(node.inbox)).hash for _ in range(count)}

    return receive
