"""What the node needs of a connection to a peer, whoever provides it: RLPx over TCP, or memory in a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from quietfleet.devp2p import Capability, Reason
from quietfleet.network.address import Address, Enode

SHH: Final = Capability("shh", 6, 128)  # EIP-627
STEM: Final = Capability("stem", 1, 16)  # ours: sorts after shh, so that shh keeps its codes


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a capability: `code` counts from 0 within it, `payload` is uncompressed."""

    capability: str
    code: int
    payload: bytes


class Link(Protocol):
    """An ordered, authenticated connection; any failure is a LinkError, after which only `close` is useful."""

    @property
    def peer(self) -> bytes:
        """The peer's node id: the 64-byte public key it proved to hold."""
        ...

    @property
    def inbound(self) -> bool:
        """Whether the peer dialled us."""
        ...

    @property
    def remote(self) -> Address:
        """The peer's end."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """The names of the capabilities both sides have."""
        ...

    async def send(self, message: Message) -> None:
        """Send one message, waiting for as long as the peer is slow to read."""
        ...

    async def receive(self) -> Message:
        """Wait for the next message."""
        ...

    async def close(self, reason: Reason = Reason.REQUESTED) -> None:
        """Say why and close for good; closing twice is fine."""
        ...


class Listener(Protocol):
    """An open port."""

    @property
    def address(self) -> Address:
        """Where it listens, with the port the machine chose."""
        ...

    def close(self) -> None:
        """Accept no more; connections already made live on."""
        ...


class LinkLayer(Protocol):
    """How links come to be, for one node."""

    @property
    def node_id(self) -> bytes:
        """Our own 64-byte public key."""
        ...

    async def dial(self, enode: Enode) -> Link:
        """Connect to a listening peer and check that it is who its enode says; raise LinkError."""
        ...

    async def listen(self, address: Address, accept: Callable[[Link], None]) -> Listener:
        """Call `accept` with every link whose handshake is complete; raise LinkError when the port is taken."""
        ...


@dataclass(frozen=True, slots=True)
class LinkTiming:
    """Seconds; the defaults are what devp2p nodes keep to."""

    connect: float = 10.0
    handshake: float = 5.0
    ping: float = 15.0
    read: float = 30.0
    write: float = 20.0
