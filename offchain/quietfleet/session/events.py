"""What the session layer tells a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quietfleet.session._card import Card
from quietfleet.session._codec import Packet


@dataclass(frozen=True, slots=True)
class Opened:
    """A session is open: both sides hold its keys."""

    peer: str
    purpose: str
    initiator: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A session ended: severed by the owner, said goodbye to, replaced, or out of date."""

    peer: str
    purpose: str
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in; `answers` is the context string of our request when it answers one."""

    peer: str
    packet: Packet
    body: Any
    answers: str | None

    @property
    def conversation(self) -> bytes:
        """The conversation it belongs to: give it with what is said next in it."""
        return self.packet.thread


@dataclass(frozen=True, slots=True)
class Expired:
    """A request or notice of ours found no answer in time."""

    peer: str
    context: str
    body: Any


@dataclass(frozen=True, slots=True)
class Ignored:
    """A severed peer is still sending; nothing was read and nothing answered."""

    peer: str


@dataclass(frozen=True, slots=True)
class CardSeen:
    """The oracle's or gateway's card of a configuration version came by and matches the chain."""

    card: Card


@dataclass(frozen=True, slots=True)
class CardMet:
    """The card of a static peer came by: sealed for us, its own, and not yet held against the chain."""

    card: Card


@dataclass(frozen=True, slots=True)
class VersionRetired:
    """A configuration version's grace is over: its keys are erased."""

    version: int


@dataclass(frozen=True, slots=True)
class LargeReceived:
    """A large payload is there, whole and with the SHA-256 (32 bytes) its sender promised; it comes once."""

    peer: str
    kind: str
    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class LargeEnded:
    """A large payload of ours is with its receiver, or is given up: refused, asked for without end, or too late."""

    peer: str
    transfer: bytes
    kind: str
    delivered: bool


Event = (
    Opened | Closed | Received | Expired | Ignored | CardSeen | CardMet | VersionRetired | LargeReceived | LargeEnded
)
