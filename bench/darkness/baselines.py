"""How others send, on the same node: Whisper's tick as geth has it, and a stem in the manner of Dandelion++."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, Final, Never

from bench.darkness.dandelion import successor

from quietfleet.clock import Clock
from quietfleet.crypto import keccak256
from quietfleet.metrics import Metrics
from quietfleet.network import STEM, EmbeddedNode, Message, Tuning
from quietfleet.network.flood import Flood
from quietfleet.network.peer import Peer
from quietfleet.network.wire import Status
from quietfleet.whisper import Envelope, Rules

TICK: Final = 0.3  # seconds between two broadcasts to one peer, in geth
STEMMED: Final = 15  # the code this bench uses for an envelope on its stem; the product has none
DIFFUSE: Final = 0.1  # Dandelion++'s q: the chance that a node ends stems in an epoch
EMBARGO: Final = (10.0, 20.0)  # seconds after which a node floods what it passed on along the stem and never saw again


class TickingNode(EmbeddedNode):
    """A node that sends each peer what is new every 300 ms, each at its own phase, its own envelopes too."""

    def __init__(self, *, rules: Rules, metrics: Metrics, clock: Clock, rng: random.Random, **rest: Any) -> None:
        super().__init__(rules=rules, metrics=metrics, clock=clock, rng=rng, **rest)
        self._flood = _Ticking(rules, metrics, clock, rng, Tuning())
        self.send = self._flood.publish


class _Ticking(Flood):
    def _offer(self, peer: Peer, envelope: Envelope, max_delay: float) -> None:  # noqa: ARG002
        phase = int.from_bytes(keccak256(peer.node_id + self._salt)[:4]) / 2**32 * TICK
        peer.offer(envelope.hash, (phase - asyncio.get_running_loop().time()) % TICK)

    def join(self, peer: Peer, told: Status) -> None:
        self._salt = self._rng.randbytes(8)
        super().join(peer, told)


class Dandelion:
    """A `Service` that hands envelopes along a stem first, as `dandelion.successor` says; the run is one epoch.

    An envelope that comes to a node twice has gone in a circle and is flooded there.
    """

    codes = frozenset({STEMMED})

    def __init__(self, node: EmbeddedNode, rng: random.Random) -> None:
        self._node, self._rng, self._secret = node, rng, rng.randbytes(16)
        self._passed: set[bytes] = set()
        node.send = self._publish

    def joined(self, peer: Peer) -> None:
        """Nothing: where to hand an envelope is decided when one comes."""

    def left(self, peer: Peer) -> None:
        """Nothing: nobody leaves in this bench."""

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002
        self._hand_on(payload, peer.node_id)

    async def run(self) -> Never:
        await asyncio.Event().wait()
        raise AssertionError

    def sweep(self, now: float) -> None:
        """Nothing."""

    def _publish(self, envelope: Envelope) -> None:
        self._hand_on(envelope.encode(), None)

    def _hand_on(self, content: bytes, came_from: bytes | None) -> None:
        outbound = [peer.node_id for peer in self._node.connected_peers if not peer.link.inbound]
        following = successor(self._secret, 0, outbound, came_from, DIFFUSE)
        peer = self._node.peer(following) if following else None
        if peer is None or content in self._passed:
            self._node.flood.take_in(content, None)
            return
        self._passed.add(content)
        peer.post(Message(STEM.name, STEMMED, content))
        asyncio.get_running_loop().call_later(self._rng.uniform(*EMBARGO), self._flood_unseen, content)

    def _flood_unseen(self, content: bytes) -> None:
        if self._node.flood.look_up(keccak256(content)) is None:
            self._node.flood.take_in(content, None)


def stemmed(message: Message) -> Iterator[bytes]:
    """Yield the envelope that a message carries along a stem."""
    if (message.capability, message.code) == (STEM.name, STEMMED):
        yield message.payload
