"""A fleet of real nodes in one process: links in memory, time that jumps, and a recorder that sees everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np
from bench.darkness.baselines import Dandelion, TickingNode
from bench.darkness.packets import Bools, Fleet, Floats, Packets
from bench.darkness.recording import Recorder

from quietfleet.crypto import PrivateKey
from quietfleet.metrics import Metrics
from quietfleet.mixnet import Flood, Forward, Guards, Mix, OnionKeys, Peeled, RelayBook, ReplayCache
from quietfleet.network import Address, EmbeddedNode, Enode, Relaying, Sending, StemTuning, Tuning, key_address
from quietfleet.testbed.memory_links import LoopClock, Memory, VirtualLoop, Wire
from quietfleet.whisper import Rules, mine

EPOCH: Final = 1_900_000_000.0
LATENCY: Final = (0.010, 0.060)  # seconds between two nodes, uniform
WARM_UP: Final = 6.0  # seconds in which links are made and relays become known
COOL_DOWN: Final = 8.0
PAYLOAD: Final = 300  # bytes of an envelope's data
TTL: Final = 60
_DOMAIN: Final = bytes(32)
_JOINING: Final = 1.0  # seconds of the warm-up that pass before workers have a guard


class Strategy(StrEnum):
    """How an envelope leaves its sender."""

    WHISPER = "Whisper flood, 300 ms tick"
    DIFFUSION = "flood, random order and delay"
    DANDELION = "Dandelion++ stem"
    ONION = "onion stem"


@dataclass(frozen=True, slots=True)
class Shape:
    """How many nodes there are and how many relays each dials; without workers all are equal full nodes."""

    relays: int
    workers: int
    dials: int = 4
    worker_dials: int = 4

    @property
    def nodes(self) -> int:
        return self.relays + self.workers

    @property
    def senders(self) -> int:
        return self.workers or self.relays


@dataclass(frozen=True, slots=True)
class Spec:
    """One run: `rounds` times, every sender (or the first `senders`) writes one letter within `seconds`.

    `droppers` are relays that pass on nothing but to each other; with `drop_all`, nothing at all.
    """

    shape: Shape
    strategy: Strategy
    seconds: float
    rounds: int = 1
    senders: int = 0
    seed: int = 1
    stem: StemTuning = field(default_factory=StemTuning)
    droppers: frozenset[int] = frozenset()
    drop_all: bool = False
    patience: float = COOL_DOWN


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run; workers come first in the numbering of nodes, then relays."""

    spec: Spec
    recorder: Recorder
    links: Bools
    latency: Floats
    seconds: float

    @property
    def first_relay(self) -> int:
        return self.spec.shape.workers

    def crowd(self, packets: Packets) -> Fleet:
        """Return what the adversary knows of packets of one size: the senders' parameters, as they show."""
        delays = (packets.left - packets.arrived).mean(axis=0)
        rate = len(packets) / self.spec.shape.workers / (self.seconds - _JOINING)
        return Fleet(self.links, self.latency, (delays[0], delays[1], delays[2]), rate)

    @property
    def first_waits(self) -> Floats:
        """Seconds from the writing of each letter that was flooded to the first sight of it."""
        first = dict[int, float]()
        for sight in self.recorder.sights:
            first[sight.letter] = min(sight.time, first.get(sight.letter, sight.time))
        return np.array([time - self.recorder.letters[letter].written for letter, time in first.items()])

    @property
    def waits(self) -> Floats:
        """Seconds from the writing of each letter to its arrival at each other sender it reached."""
        first = dict[tuple[int, int], float]()
        for sight in self.recorder.sights:
            where = sight.letter, sight.target
            first[where] = min(sight.time, first.get(where, sight.time))
        letters, senders = self.recorder.letters, self.spec.shape.senders
        heard = [(letters[letter], node, time) for (letter, node), time in first.items() if node < senders]
        return np.array([time - letter.written for letter, node, time in heard if node != letter.sender])


class Registry:
    """The chain's directory: every relay, each of an owner of its own."""

    def __init__(self, keys: Iterable[PrivateKey]) -> None:
        self._owners = {key_address(key.public.to_bytes()): f"owner {n}" for n, key in enumerate(keys)}

    def owner_of(self, key: str) -> str | None:
        return self._owners.get(key)

    def relays(self) -> int:
        return len(self._owners)


class _Watched(Mix):
    """A relay's mix whose owner tells what it learns."""

    def __init__(self, keys: OnionKeys, replays: ReplayCache, tell: Callable[[bytes, Peeled], None]) -> None:
        super().__init__(keys, replays)
        self._tell = tell

    def open(self, packet: bytes, now: float) -> Peeled:
        peeled = super().open(packet, now)
        self._tell(packet, peeled)
        return peeled


class _Relaying(Relaying):
    """The product's relay; `passes` says whether a packet goes on, for those that drop them."""

    def __init__(
        self,
        node: EmbeddedNode,
        book: RelayBook,
        clock: LoopClock,
        keys: OnionKeys,
        recorder: Recorder,
        passes: Callable[[Forward], bool],
    ) -> None:
        super().__init__(node, book, Metrics(), clock, keys)
        self._mix = _Watched(keys, self._replays, recorder.opened)
        self._passes = passes

    def _release(self, peeled: Peeled) -> None:
        if isinstance(peeled, Flood) or (isinstance(peeled, Forward) and self._passes(peeled)):
            super()._release(peeled)


def record(spec: Spec, progress: Callable[[float], None] = lambda _: None) -> Run:
    """Run a fleet and return what there was to see; `progress` is told the share that is done."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_World(spec).run(progress))
    finally:
        loop.close()


class _World:
    def __init__(self, spec: Spec) -> None:
        self._spec, self._rng = spec, random.Random(spec.seed)
        shape = spec.shape
        self._keys = [PrivateKey.generate(self._rng.randbytes) for _ in range(shape.nodes)]
        ids = [key.public.to_bytes() for key in self._keys]
        self._relay_keys = self._keys[shape.workers :]
        self._enodes = [Enode(key, Address("m", 1 + n)) for n, key in enumerate(ids[shape.workers :])]
        self._directory = Registry(self._relay_keys)
        self._memory = Memory(Wire(latency=lambda: self._rng.uniform(*LATENCY)))
        self._recorder = Recorder(self._memory.wire, {key: n for n, key in enumerate(ids)}, EPOCH)
        self._memory.wire.tap = self._recorder.tap
        self._clock = LoopClock(EPOCH)
        self._dropping = {self._relay_keys[n].public.address for n in spec.droppers}

    async def run(self, progress: Callable[[float], None]) -> Run:
        nodes = [self._node(number) for number in range(self._spec.shape.nodes)]
        for node in reversed(nodes):  # relays first
            await node.start()
        await asyncio.sleep(WARM_UP)
        await self._talk(nodes, progress)
        links, seconds = self._links(nodes), asyncio.get_running_loop().time()
        for node in nodes:
            await node.stop()
        return Run(self._spec, self._recorder, links, self._latency(), seconds)

    def _node(self, number: int) -> EmbeddedNode:
        shape, relay = self._spec.shape, number - self._spec.shape.workers
        others = [enode for n, enode in enumerate(self._enodes) if n != relay]
        dials = shape.dials if relay >= 0 else shape.worker_dials
        make = TickingNode if self._spec.strategy is Strategy.WHISPER else EmbeddedNode
        node = make(
            listen=str(self._enodes[relay].address) if relay >= 0 else None,
            peers=[str(enode) for enode in self._rng.sample(others, min(dials, len(others)))],
            rules=Rules(min_pow=0),
            metrics=Metrics(),
            clock=self._clock,
            rng=random.Random(self._rng.random()),
            links=self._memory.links(self._keys[number].public.to_bytes()),
            tuning=replace(Tuning(), max_inbound=4096),
            directory=self._directory,
            relays=relay >= 0 or self._spec.strategy is not Strategy.ONION,
        )
        if self._spec.strategy is Strategy.DANDELION:
            node.add(Dandelion(node, self._rng))
        elif self._spec.strategy is Strategy.ONION:
            self._add_stems(node, relay)
        return node

    def _add_stems(self, node: EmbeddedNode, relay: int) -> None:
        book, metrics = RelayBook(_DOMAIN, self._directory.owner_of), Metrics()
        rng = random.Random(self._rng.random())
        if relay >= 0:
            keys = OnionKeys(self._relay_keys[relay], _DOMAIN, "m", 1 + relay, self._rng.randbytes)
            keys.refresh(self._clock.now())
            passes = self._passes if relay in self._spec.droppers else lambda _: True
            node.add(_Relaying(node, book, self._clock, keys, self._recorder, passes))
        else:
            guards = Guards(lambda: None, lambda _: None, self._directory.owner_of, rng)
            node.add(Relaying(node, book, metrics, self._clock))
            tools = (self._directory, metrics, self._clock, rng, rng.randbytes)
            node.add(Sending(node, book, guards, *tools, self._spec.stem))

    def _passes(self, packet: Forward) -> bool:
        """Tell whether a dropper passes a packet on: to another of them, whence they learn more."""
        return not self._spec.drop_all and packet.next in self._dropping

    async def _talk(self, nodes: list[EmbeddedNode], progress: Callable[[float], None]) -> None:
        """Have every sender write its letters, at random times, and wait until they are where they go."""
        spec, loop = self._spec, asyncio.get_running_loop()
        begin = loop.time()
        senders = range(spec.senders or spec.shape.senders)
        times = [(begin + (n + self._rng.random()) * spec.seconds, who) for n in range(spec.rounds) for who in senders]
        for time, sender in sorted(times):
            await asyncio.sleep(time - loop.time())
            envelope = mine(int(self._clock.now()) + TTL, TTL, self._rng.randbytes(4), self._rng.randbytes(PAYLOAD), 0)
            self._recorder.write(sender, envelope, loop.time())
            await nodes[sender].publish(envelope)
            progress((time - begin) / (spec.seconds * spec.rounds + spec.patience))
        await asyncio.sleep(spec.patience)

    def _links(self, nodes: list[EmbeddedNode]) -> Bools:
        """Return workers x relays: who is connected to whom."""
        shape = self._spec.shape
        links = np.zeros((shape.workers, shape.relays), dtype=bool)
        for worker, node in enumerate(nodes[: shape.workers]):
            for peer in node.connected_peers:
                links[worker, self._recorder.numbers[peer.node_id] - shape.workers] = True
        return links

    def _latency(self) -> Floats:
        """Return relays x relays: seconds."""
        ids, between = [enode.node_id for enode in self._enodes], self._memory.wire.between
        return np.array([[0.0 if one == two else between(one, two) for two in ids] for one in ids])
