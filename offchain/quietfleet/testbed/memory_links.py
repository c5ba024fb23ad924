"""Links in memory, under the time of a loop that never waits: hundreds of real nodes in one process.

A message takes `latency` seconds of the loop's time and costs what it would cost on the wire, which is counted. No
handshake is made and nothing is encrypted: whoever holds an end is who it says.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf, nextafter

from quietfleet.devp2p import Reason
from quietfleet.errors import LinkError
from quietfleet.network import Address, Enode, Link, Listener, Message

FRAME_OVERHEAD = 32 + 16 + 8  # bytes RLPx adds: header and its MAC, the body's MAC, code and padding
_WINDOW = 256  # messages on their way before the sender waits


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next thing to do; for what does no I/O."""

    def __init__(self, start: float = 0.0) -> None:
        self._virtual = start
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:  # there is something to do now
            return []
        ready = super().select(0)
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready


class LoopClock:
    """Unix time that goes with the running loop's."""

    def __init__(self, epoch: float = 1_900_000_000.0) -> None:
        self._epoch = epoch

    def now(self) -> float:
        """Return the loop's time as Unix seconds."""
        return self._epoch + asyncio.get_running_loop().time()


@dataclass(slots=True)
class Wire:
    """What happens to messages on their way; `tap` sees each as (time sent, from, to, message).

    `latency`, in seconds, is drawn once for each two nodes: what lies between them does not change.
    """

    latency: Callable[[], float] = lambda: 0.0
    tap: Callable[[float, bytes, bytes, Message], None] | None = None
    carried: int = 0  # bytes
    messages: int = 0
    _between: dict[frozenset[bytes], float] = field(default_factory=dict)

    def between(self, one: bytes, other: bytes) -> float:
        """Return the seconds a message takes between two nodes."""
        both = frozenset((one, other))
        if both not in self._between:
            self._between[both] = self.latency()
        return self._between[both]


@dataclass(slots=True)
class Memory:
    """Where nodes listen."""

    wire: Wire = field(default_factory=Wire)
    doors: dict[Address, tuple[bytes, Callable[[Link], None]]] = field(default_factory=dict)
    ports: Iterator[int] = field(default_factory=lambda: count(1))

    def links(self, node_id: bytes, capabilities: Iterable[str] = ("shh", "stem")) -> MemoryLinks:
        """Return the link layer of the node with this id."""
        return MemoryLinks(self, node_id, frozenset(capabilities))


class MemoryLinks:
    """A LinkLayer without a network."""

    def __init__(self, memory: Memory, node_id: bytes, capabilities: frozenset[str]) -> None:
        self._memory, self._node_id, self.capabilities = memory, node_id, capabilities

    @property
    def wire(self) -> Wire:
        """What the links are made of."""
        return self._memory.wire

    @property
    def node_id(self) -> bytes:
        return self._node_id

    async def dial(self, enode: Enode) -> Link:
        latency = self.wire.between(self._node_id, enode.node_id)
        await asyncio.sleep(latency)
        door = self._memory.doors.get(enode.address)
        if door is None or door[0] != enode.node_id:
            raise LinkError(f"no answer from {enode.address}")
        there, back = _Way(latency), _Way(latency)
        ours = MemoryLink(self, (self._node_id, enode.node_id), enode.address, (there, back), inbound=False)
        theirs = MemoryLink(self, (enode.node_id, self._node_id), Address("memory", 0), (back, there), inbound=True)
        door[1](theirs)
        return ours

    async def listen(self, address: Address, accept: Callable[[Link], None]) -> Listener:
        place = address if address.port else Address(address.host, next(self._memory.ports))
        if place in self._memory.doors:
            raise LinkError(f"cannot listen on {place}")
        self._memory.doors[place] = (self._node_id, accept)
        return _Door(self._memory, place)


@dataclass(frozen=True, slots=True)
class _Door:
    memory: Memory
    address: Address

    def close(self) -> None:
        self.memory.doors.pop(self.address, None)


@dataclass(slots=True)
class _Way:
    """One direction of a connection."""

    latency: float
    closed: bool = False
    arrived: asyncio.Queue[Message | None] = field(default_factory=asyncio.Queue)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WINDOW))
    _last: float = 0.0

    def carry(self, message: Message) -> None:
        """Let a message arrive in its time, behind those before it."""
        loop = asyncio.get_running_loop()
        self._last = max(nextafter(self._last, inf), loop.time() + self.latency)  # of equal times any may come first
        loop.call_at(self._last, self.arrived.put_nowait, message)


class MemoryLink:
    """One end of a connection; `ends` are the node ids, ours first, `ways` the way out and the way in."""

    def __init__(
        self, layer: MemoryLinks, ends: tuple[bytes, bytes], remote: Address, ways: tuple[_Way, _Way], *, inbound: bool
    ) -> None:
        self._layer, self._remote, self._inbound = layer, remote, inbound
        self._self, self._peer = ends
        self._out, self._in = ways
        self._closed = False

    @property
    def peer(self) -> bytes:
        return self._peer

    @property
    def inbound(self) -> bool:
        return self._inbound

    @property
    def remote(self) -> Address:
        return self._remote

    @property
    def capabilities(self) -> frozenset[str]:
        return self._layer.capabilities

    async def send(self, message: Message) -> None:
        if self._closed or self._out.closed:
            raise LinkError("the link is closed")
        await self._out.room.acquire()
        wire = self._layer.wire
        wire.carried += len(message.payload) + FRAME_OVERHEAD
        wire.messages += 1
        if wire.tap:
            wire.tap(asyncio.get_running_loop().time(), self._self, self._peer, message)
        self._out.carry(message)

    async def receive(self) -> Message:
        message = None if self._closed else await self._in.arrived.get()
        if message is None:
            raise LinkError("the link is closed")
        self._in.room.release()
        return message

    async def close(self, reason: Reason = Reason.REQUESTED) -> None:  # noqa: ARG002
        if not self._closed:
            self._closed = self._in.closed = True
            asyncio.get_running_loop().call_soon(self._out.arrived.put_nowait, None)
            self._in.arrived.put_nowait(None)
