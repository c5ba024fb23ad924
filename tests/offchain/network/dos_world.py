"""Real nodes in virtual time, and strangers who do to them what they like."""

from __future__ import annotations

import asyncio
import random
from itertools import count

from quietfleet.crypto import PrivateKey
from quietfleet.errors import LinkError
from quietfleet.metrics import Metrics
from quietfleet.network import EmbeddedNode, Message
from quietfleet.network.wire import MESSAGES, STATUS, Status
from quietfleet.testbed.memory_links import LoopClock, Memory, VirtualLoop
from quietfleet.whisper import Envelope, Rules, admits, draw_bloom, encode_bundle, mine, pow_of, topic_within

WORK = 1e-3  # so little that a nonce is found at once: what is tested is speed, and not mining
BLOOM = draw_bloom(b"the network's", 400)
RULES = Rules(min_pow=WORK, max_ttl=60, max_size=1000, bloom=BLOOM)
TTL = 20


def in_virtual_time(scene):
    """Run a scene, which gets a world, in a loop that never waits."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_play(scene))


async def _play(scene):
    world = World()
    try:
        await scene(world)
    finally:
        await asyncio.gather(*(node.stop() for node in world.nodes))


class World:
    """A memory full of nodes, and the chain that vouches for some of them."""

    def __init__(self):
        self.memory, self.clock, self.nodes = Memory(), LoopClock(), []
        self.registered = {}
        self.random = random.Random(1)
        self._numbers = count()

    async def relay(self, *peers, rules=RULES, tuning=None, registered=True):
        """Start a relay that dials `peers`; one that listens at a place of its own."""
        return await self._node(peers, "memory:0", rules, tuning, registered=registered)

    async def worker(self, *peers, rules=RULES):
        return await self._node(peers, None, rules, None, registered=False)

    async def stranger(self, node, *, registered=False, key=None):
        """Connect to a node by hand, statuses exchanged."""
        key = key or self.key()
        if registered:
            self.register(key)
        link = await self.memory.links(key.public.to_bytes()).dial(node.enode)
        stranger = Stranger(link)
        await stranger.say(STATUS, Status(0.0).encode())
        await stranger.hear()
        return stranger

    def key(self):
        return PrivateKey.from_bytes((1 + next(self._numbers)).to_bytes(32, "big"))

    def register(self, key):
        self.registered[key.public.id] = f"owner of {key.public.id}"

    def owner_of(self, key):
        return self.registered.get(key)

    def relays(self):
        return len(self.registered)

    def envelope(self, *, ttl=TTL, early=0, size=100, inside=True, worked=True):
        """Make an envelope that breaks no rule unless told to."""
        expiry = int(self.clock.now()) + ttl + early
        topic = topic_within(BLOOM, self.random.randbytes(13))
        while not inside and admits(BLOOM, topic):
            topic = self.random.randbytes(4)
        data = self.random.randbytes(size)
        if worked:
            return mine(expiry, ttl, topic, data, WORK)
        return next(draft for nonce in count() if pow_of(draft := Envelope(expiry, ttl, topic, data, nonce)) < WORK)

    async def _node(self, peers, listen, rules, tuning, *, registered):
        key = self.key()
        if registered:
            self.register(key)
        return await self._up(self._bare(key, listen, peers, rules, tuning), peers)

    def _bare(self, key, listen, peers, rules, tuning):
        """Make a node, not started yet."""
        metrics = Metrics()
        node = EmbeddedNode(
            listen=listen,
            peers=[str(peer.enode) for peer in peers],
            rules=rules,
            metrics=metrics,
            clock=self.clock,
            rng=random.Random(len(self.nodes)),
            links=self.memory.links(key.public.to_bytes()),
            tuning=tuning,
            directory=self,
        )
        node.metrics, node.key, node.inbox = metrics, key, node.envelopes()
        self.nodes.append(node)
        return node

    async def _up(self, node, peers):
        await node.start()
        await node.connected(len(peers))
        return node


class Stranger:
    """A peer driven by hand."""

    def __init__(self, link):
        self.link = link

    async def say(self, code, payload):
        await self.link.send(Message("shh", code, payload))

    async def hear(self):
        """Wait for the next message of shh; return its code and payload."""
        while (message := await self.link.receive()).capability != "shh":
            pass
        return message.code, message.payload

    async def offer(self, *envelopes):
        await self.say(MESSAGES, encode_bundle(envelopes))

    async def go_on(self, seconds, act):
        """Do one thing over and over, as fast as the node lets us, reading what it sends; tell how often."""
        reading, done = asyncio.create_task(self.read()), 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await act()
                    done += 1
        except (TimeoutError, LinkError):
            reading.cancel()
        return done

    async def read(self):
        while True:
            await self.link.receive()
