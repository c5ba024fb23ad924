"""What a node does for stems: it gossips relays' descriptors, and a relay opens packets and sends them on.

Nothing a packet holds is looked at before it has left the stem: its envelope is judged by the flood, like a stranger's.
"""

from __future__ import annotations

import asyncio
from typing import Final, Never

from quietfleet.clock import Clock
from quietfleet.errors import DescriptorError, NetworkError, PacketRefused, WireError
from quietfleet.metrics import Metrics
from quietfleet.mixnet import (
    LONGEST_LIFE,
    Drop,
    Flood,
    Forward,
    Mix,
    OnionKeys,
    Peeled,
    RelayBook,
    RelayDescriptor,
    ReplayCache,
    Verdict,
)
from quietfleet.network.address import Address, Enode
from quietfleet.network.holding import Holding
from quietfleet.network.node import JUNK, EmbeddedNode
from quietfleet.network.peer import Peer
from quietfleet.network.quota import Bucket
from quietfleet.network.stemwire import (
    ASK_DESCRIPTORS,
    DESCRIPTORS,
    PACKET,
    ask_descriptors,
    packet,
    read_descriptors,
    tell_descriptors,
)

ASK_EVERY: Final = 60.0  # seconds between two looks at what peers know
ASK_SOON: Final = 3.0  # while no relay is known, or when the chain came to list one that was refused before
MAX_REFUSED: Final = 256  # relays refused as unlisted that are kept in mind
ANSWER_EVERY: Final = 2.0  # seconds between two answers to one peer
MAX_HELD: Final = 64 << 20  # bytes of packets waiting for their delay
REST: Final = 3.0  # seconds for which a hop that could not be reached is not dialled again
MAX_WAITING: Final = 64  # packets waiting for one next hop to be reached


class Relaying:
    """A `Service`: descriptors and packets. `keys` are a relay's own, None for a leaf."""

    codes = frozenset({ASK_DESCRIPTORS, DESCRIPTORS, PACKET})

    def __init__(
        self,
        node: EmbeddedNode,
        book: RelayBook,
        metrics: Metrics,
        clock: Clock,
        keys: OnionKeys | None = None,
        replays: ReplayCache | None = None,
    ) -> None:
        self._node, self._book, self._metrics, self._clock, self._keys = node, book, metrics, clock, keys
        self._replays = ReplayCache() if replays is None else replays
        self._shares: dict[Peer, Bucket] = {}  # of what room for tags is left, while it is scarce
        self._mix = Mix(keys, self._replays) if keys else None
        self._answered: dict[Peer, float] = {}
        self._ask_due = 0.0
        self._refused: dict[str, None] = {}  # whom the chain did not list, oldest first
        self._held = Holding(MAX_HELD)
        self._waiting: dict[bytes, list[bytes]] = {}
        self._reaching: set[asyncio.Task[None]] = set()
        self._unreachable: dict[bytes, float] = {}  # until when each is left alone, in the loop's seconds

    def joined(self, peer: Peer) -> None:
        peer.post(ask_descriptors())
        if self._keys and self._keys.current:
            self._tell(peer, [self._keys.current])

    def left(self, peer: Peer) -> None:
        self._answered.pop(peer, None)
        self._shares.pop(peer, None)

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:
        if code == ASK_DESCRIPTORS:
            self._answer(peer)
        elif code == DESCRIPTORS:
            await self._learn(peer, payload)
        else:
            self._take(peer, payload)

    async def run(self) -> Never:
        """Keep asking peers which relays they know."""
        try:
            while True:
                await asyncio.sleep(ASK_SOON)
                now = asyncio.get_running_loop().time()
                if now >= self._ask_due or not len(self._book) or self._listed_since():
                    self._ask_due = now + ASK_EVERY
                    self.ask()
        finally:
            for task in self._reaching:
                task.cancel()
            await asyncio.gather(*self._reaching, return_exceptions=True)

    def sweep(self, now: float) -> None:
        self._book.prune(now)
        self._replays.prune(now)
        loop_now = asyncio.get_running_loop().time()
        self._unreachable = {hop: until for hop, until in self._unreachable.items() if loop_now < until}
        renewed = self._keys.refresh(now) if self._keys else None
        if renewed:
            self._spread(renewed, None)

    def ask(self) -> None:
        """Ask every peer which relays it knows."""
        for peer in self._node.connected_peers:
            if peer.stems:
                peer.post(ask_descriptors())

    def _answer(self, peer: Peer) -> None:
        """Answer with the whole book, but not so often that asking would multiply a stranger's traffic."""
        now = asyncio.get_running_loop().time()
        if now - self._answered.get(peer, -ANSWER_EVERY) < ANSWER_EVERY:
            self._metrics.count("stem_asked_too_often")
            return
        self._answered[peer] = now
        own = [self._keys.current] if self._keys and self._keys.current else []
        self._tell(peer, [*self._book.descriptors(self._clock.now()), *own])

    async def _learn(self, peer: Peer, payload: bytes) -> None:
        for descriptor in read_descriptors(payload):
            peer.charge(asyncio.get_running_loop().time(), 1.0)
            if descriptor.node_id == self._node.node_id:
                self._outdo(descriptor)
                continue
            verdict = self._book.accept(descriptor, self._clock.now())
            if verdict is Verdict.FRESH:
                self._spread(descriptor, peer)
            elif verdict.refused:
                self._metrics.count("stem_descriptors_refused", reason=verdict)
                if verdict is Verdict.UNREGISTERED:
                    self._keep_in_mind(descriptor.id)
                if verdict is Verdict.FORGED:
                    raise WireError("a forged descriptor")
            await asyncio.sleep(0)

    def _outdo(self, told: RelayDescriptor) -> None:
        """Renew our descriptor if others hold one from before a restart that looks newer and whose key is gone."""
        try:
            renewed = self._keys.outdo(told, self._clock.now()) if self._keys else None
        except DescriptorError as error:
            raise WireError("a forged descriptor") from error
        if renewed:
            self._spread(renewed, None)

    def _keep_in_mind(self, relay_id: str) -> None:
        self._refused[relay_id] = None
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _listed_since(self) -> bool:
        """Tell whether the chain lists one by now that it did not when we were told of it.

        Asking only then, nobody makes us ask all our peers again and again by telling of relays that are none.
        """
        listed = [relay_id for relay_id in self._refused if self._book.vouched(relay_id)]
        for relay_id in listed:
            del self._refused[relay_id]
        return bool(listed)

    def _spread(self, descriptor: RelayDescriptor, source: Peer | None) -> None:
        for other in self._node.connected_peers if self._node.relays else ():
            if other.stems and other is not source:
                self._tell(other, [descriptor])

    def _tell(self, peer: Peer, descriptors: list[RelayDescriptor]) -> None:
        for message in tell_descriptors(descriptors):
            peer.post(message)

    def _take(self, peer: Peer, content: bytes) -> None:
        """Open a packet, the cheapest refusals first, and hold it for as long as its sender asked."""
        if self._mix is None:
            raise WireError("a packet for a node that is no relay")
        now = self._clock.now()
        if not peer.registered and not peer.packets.take(now):
            return self._lose("over_quota")
        if self._replays.crowded and not peer.registered and not self._share(peer).take(now):
            return self._lose("crowded")
        try:
            peeled = self._mix.open(content, now)
        except PacketRefused as error:
            peer.charge(asyncio.get_running_loop().time(), JUNK, worthless=True)
            return self._lose(error.reason)
        self._metrics.count("stem_packets", kind=type(peeled).__name__.lower())
        if isinstance(peeled, Drop):
            return None
        dropped = self._held.put(len(content), peeled.delay, lambda: self._release(peeled))
        if dropped:
            self._metrics.count("stem_packets_lost", dropped, reason="too_many_held")
        return None

    def _share(self, peer: Peer) -> Bucket:
        """Return what a stranger may bring while replays could fill the cache: a quarter of it for all places."""
        if peer not in self._shares:
            rate = self._replays.capacity / 4 / LONGEST_LIFE / self._node.max_inbound
            self._shares[peer] = Bucket(rate, max(1.0, rate))
        return self._shares[peer]

    def _release(self, peeled: Peeled) -> None:
        if isinstance(peeled, Forward):
            self._forward(peeled.next, peeled.packet)
        elif isinstance(peeled, Flood):
            self._node.flood.take_in(peeled.envelope, None)

    def _forward(self, address: bytes, content: bytes) -> None:
        relay = self._book.find(address, self._clock.now())
        if relay is None:
            return self._lose("unknown_hop")
        peer = self._node.peer(relay.descriptor.node_id)
        if peer:
            return None if peer.post(packet(content)) else self._lose("slow_hop")
        if asyncio.get_running_loop().time() < self._unreachable.get(address, 0.0):
            return self._lose("unreachable_hop")
        waiting = self._waiting.setdefault(address, [])
        if len(waiting) >= MAX_WAITING:
            return self._lose("slow_hop")
        waiting.append(content)
        if len(waiting) == 1:
            task = asyncio.get_running_loop().create_task(self._reach(address, relay.descriptor))
            self._reaching.add(task)
            task.add_done_callback(self._reaching.discard)
        return None

    async def _reach(self, address: bytes, relay: RelayDescriptor) -> None:
        try:
            peer = await self._node.reach(Enode(relay.node_id, Address(relay.host, relay.port)))
        except NetworkError:
            self._metrics.count("stem_packets_lost", len(self._waiting[address]), reason="unreachable_hop")
            self._unreachable[address] = asyncio.get_running_loop().time() + REST
        else:
            for content in self._waiting[address]:
                peer.post(packet(content))
        finally:
            del self._waiting[address]

    def _lose(self, reason: str) -> None:
        self._metrics.count("stem_packets_lost", reason=reason)
