"""Relays with archives and workers that come and go, on links in memory and a clock that does not wait."""

from __future__ import annotations

import asyncio
import itertools
import random
from concurrent.futures import Executor, Future

from quietfleet.crypto import PrivateKey
from quietfleet.metrics import Metrics
from quietfleet.network import EmbeddedNode
from quietfleet.network.archive import Archive
from quietfleet.network.archiving import Archiving
from quietfleet.network.backfill import Backfill
from quietfleet.network.stemwire import ASK_ARCHIVE, ArchiveAsk
from quietfleet.testbed.memory_links import LoopClock, Memory, VirtualLoop, Wire
from quietfleet.whisper import Rules, mine

MIN_POW = 0.001
RULES = Rules(min_pow=MIN_POW, max_ttl=3600, max_size=100_000)


def virtually(story, folder, **how):
    """Tell a story of a world, under virtual time."""

    async def whole():
        world = World(folder, **how)
        try:
            await story(world)
        finally:
            await world.end()

    loop = VirtualLoop()
    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()


class Inline(Executor):
    """Does everything at once, where it is asked: threads know no virtual time."""

    def submit(self, work, /, *args, **kwargs):
        done = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- it is handed on
            done.set_exception(error)
        return done


class Owners:
    """A directory: whom each relay's key belongs to."""

    def __init__(self):
        self.names = {}

    def owner_of(self, key):
        return self.names.get(key)

    def relays(self):
        return len(self.names)


class Scripted:
    """A service that answers as the test says, and remembers what it was asked."""

    def __init__(self, answer=lambda _peer, _ask: (), code=ASK_ARCHIVE, read=ArchiveAsk.decode):
        self.codes, self._answer, self._read = frozenset({code}), answer, read
        self.asked, self.peers, self.came = [], [], asyncio.Event()

    def joined(self, peer):
        self.peers.append(peer)

    def left(self, peer):
        self.peers.remove(peer)

    async def handle(self, peer, _code, payload):
        self.asked.append(ask := self._read(payload))
        self.came.set()
        for message in self._answer(peer, ask):
            peer.post(message)

    async def run(self):
        pass

    def sweep(self, now):
        pass


class World:
    """`relay` and `leaf` start nodes, which keep `metrics`, `inbox` and what else they were given."""

    def __init__(self, folder, seed=1, rules=RULES):
        self.folder, self.rules, self.rng = folder, rules, random.Random(seed)
        self.clock, self.owners = LoopClock(), Owners()
        self.memory = Memory(Wire(latency=lambda: 0.02))
        self._numbers = itertools.count()
        self._nodes = []

    async def end(self):
        await asyncio.gather(*(node.stop() for node in self._nodes))

    async def relay(self, *peers, owner=None, archive=True, serving=None, services=(), key=None, name=None):
        """Start a relay; of an owner of its own unless one is named."""
        key, number = key or self.key(), next(self._numbers)
        self.owners.names[key.public.id] = owner or f"owner {number}"
        node = self._node(key, listen="m:0", peers=peers)
        path = self.folder / f"{name or number}.db"
        if archive:
            node.archiving = Archiving(
                node, lambda: Archive(path), node.metrics, self.clock, serving, executor=Inline()
            )
            node.add(node.archiving)
        return await self._start(node, services)

    async def leaf(self, *peers, services=(), rules=None, tuning=None):
        return await self._start(self._node(self.key(), listen=None, peers=peers, rules=rules, tuning=tuning), services)

    async def worker(self, *peers, heard=None, timing=None, rules=None, tuning=None):
        """Start a leaf that catches up; `saved` are the times it remembered."""
        node = self._node(self.key(), listen=None, peers=peers, rules=rules, tuning=tuning)
        node.saved = []
        node.backfill = Backfill(
            node,
            self.owners,
            node.metrics,
            self.clock,
            self.rng,
            self.rng.randbytes,
            lambda: heard,
            node.saved.append,
            timing,
        )
        node.add(node.backfill)
        return await self._start(node, ())

    def envelope(self, ttl=20, topic=None, size=200, work=MIN_POW, age=0):
        """Return an envelope sent now, or `age` seconds ago."""
        topic, data = topic or self.rng.randbytes(4), self.rng.randbytes(size)
        return mine(int(self.clock.now()) - age + ttl, ttl, topic, data, work)

    def flood(self, *relays, count=10, **how):
        """Start envelopes at relays, as the end of a stem does; return them."""
        made = [self.envelope(**how) for _ in range(count)]
        for envelope in made:
            for relay in relays:
                relay.flood.take_in(envelope.encode(), None)
        return made

    def key(self):
        return PrivateKey(self.rng.randbytes(32))

    def _node(self, key, *, listen, peers, rules=None, tuning=None):
        metrics = Metrics()
        node = EmbeddedNode(
            listen=listen,
            peers=[str(peer.enode) for peer in peers],
            rules=rules or self.rules,
            metrics=metrics,
            clock=self.clock,
            rng=self.rng,
            links=self.memory.links(key.public.to_bytes()),
            directory=self.owners,
            tuning=tuning,
        )
        node.metrics, node.key = metrics, key
        self._nodes.append(node)
        return node

    async def _start(self, node, services):
        for service in services:
            node.add(service)
        node.inbox = node.envelopes()
        await node.start()
        return node


def taken(node):
    """Take what a node's reader has waiting: hashes, in order."""
    queue = node.inbox._queue
    hashes = [envelope.hash for envelope in queue]
    queue.clear()
    return hashes


def hashes(envelopes):
    return [envelope.hash for envelope in envelopes]
