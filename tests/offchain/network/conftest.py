"""Real nodes on real localhost sockets, in one event loop; factories for 'another one'."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
import uvloop
from node_kit import MIN_POW, TUNING, Stranger, new_key

from quietfleet.clock import ManualClock
from quietfleet.metrics import Metrics
from quietfleet.network import SHH, STEM, EmbeddedNode, RlpxLinks
from quietfleet.network.wire import STATUS, Status
from quietfleet.whisper import Envelope, Rules, mine, pow_of


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

    async def start(*peers, listen="127.0.0.1:0", rules=rules, tuning=TUNING, timing=None, seed=None, key=None):
        metrics = Metrics()
        key = key or new_key()
        node = EmbeddedNode(
            listen=listen,
            peers=[str(peer.enode) if isinstance(peer, EmbeddedNode) else str(peer) for peer in peers],
            rules=rules,
            metrics=metrics,
            clock=clock,
            rng=random.Random(len(nodes) if seed is None else seed),
            tuning=tuning,
            links=RlpxLinks(key, timing=timing, exempt_loopback=True),
        )
        node.metrics, node.inbox, node.key = metrics, node.envelopes(), key
        nodes.append(node)
        await node.start()
        return node

    yield start
    await asyncio.gather(*(node.stop() for node in nodes))


@pytest.fixture
async def meet():
    """Return a factory of strangers that exchanged statuses with a node."""
    links = []

    async def meet(node, status=Status(0.0), capabilities=(SHH, STEM)):  # noqa: B008 -- a frozen value
        link = await RlpxLinks(new_key(), capabilities).dial(node.enode)
        links.append(link)
        stranger = Stranger(link)
        await stranger.say(STATUS, status.encode())
        assert (await stranger.hear())[0] == STATUS
        return stranger

    yield meet
    await asyncio.gather(*(link.close() for link in links))


@pytest.fixture
def until():
    """Return a wait for a condition about who is connected."""

    async def until(node, condition):
        async with asyncio.timeout(60):
            while not condition():
                await node._peers_changed.wait()

    return until


@pytest.fixture
def receive():
    """Return a wait for the next envelopes of a node, as a set of hashes."""

    async def receive(node, count=1):
        async with asyncio.timeout(60):
            return {(await anext(node.inbox)).hash for _ in range(count)}

    return receive


def pytest_asyncio_loop_factories(item):
    """Links run on both event loops, as workers take the faster one where there is one; what uses them on one."""
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return loops if item.path.name == "test_network_rlpx.py" else {"asyncio": loops["asyncio"]}
