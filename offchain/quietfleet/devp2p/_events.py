"""What a session tells of the peer's bytes."""

from __future__ import annotations

from dataclasses import dataclass

from quietfleet.devp2p._hello import Hello
from quietfleet.devp2p.reason import Reason
from quietfleet.errors import LinkError


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """The link is open: the peer holds the key it claims, and `shared` names what both sides speak."""

    hello: Hello
    shared: frozenset[str]


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One message of a shared capability: `code` counts from 0 within it, `payload` is uncompressed."""

    capability: str
    code: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The peer said good-bye; None when it gave no reason that we know."""

    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The session is over: bytes that cannot be, or a peer that we refuse."""

    error: LinkError


Event = HelloReceived | MessageReceived | Disconnected | Failed
