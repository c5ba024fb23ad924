"""Relays that open onion packets and workers that send through them, in memory and virtual time."""

from __future__ import annotations

import asyncio
import random
from itertools import count

from dos_world import RULES, World

from quietfleet.mixnet import Guards, OnionKeys, RelayBook
from quietfleet.network import Relaying, Sending
from quietfleet.testbed.memory_links import VirtualLoop

DOMAIN = bytes(32)


def among_stems(scene):
    """Run a scene, which gets a world of stems, in a loop that never waits."""

    async def play():
        world = Stems()
        try:
            await scene(world)
        finally:
            await asyncio.gather(*(node.stop() for node in world.nodes))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play())


class Stems(World):
    """`metrics`, `inbox`, `book` and, for workers, `sending` and `guards` come with each node."""

    def __init__(self):
        super().__init__()
        self._ports = count(1)

    async def stem_relay(self, *peers, key=None, port=None, onion_keys=OnionKeys, relaying=Relaying, tuning=None):
        """Start a relay that dials `peers`."""
        key, port = key or self.key(), port or next(self._ports)
        self.register(key)
        node = self._stem_node(key, f"memory:{port}", peers, tuning)
        node.relaying = relaying(
            node, node.book, node.metrics, self.clock, onion_keys(key, DOMAIN, "memory", port, self.random.randbytes)
        )
        node.add(node.relaying)
        return await self._up(node, peers)

    async def stem_worker(self, *peers, guarded_by=None):
        """Start a worker; `guarded_by` is the only relay that it may draw as its guard."""
        node = self._stem_node(self.key(), None, peers, None)
        rng = _Choosing(guarded_by) if guarded_by else random.Random(1)
        node.guards = Guards(lambda: None, lambda _: None, self.owner_of, rng)
        tools = (self, node.metrics, self.clock, random.Random(2), self.random.randbytes)
        node.sending = Sending(node, node.book, node.guards, *tools)
        node.add(Relaying(node, node.book, node.metrics, self.clock))
        node.add(node.sending)
        return await self._up(node, peers)

    def _stem_node(self, key, listen, peers, tuning):
        node = self._bare(key, listen, peers, RULES, tuning)
        node.book = RelayBook(DOMAIN, self.owner_of)
        return node


class _Choosing(random.Random):
    """Draws one relay where there is a choice."""

    def __init__(self, node):
        super().__init__(1)
        self._wanted = node.node_id

    def choice(self, relays):
        wanted = [relay for relay in relays if relay.descriptor.node_id == self._wanted]
        return super().choice(wanted or relays)
