"""What a node speaks besides Whisper: each service owns some codes of our own capability."""

from __future__ import annotations

from typing import Protocol

from quietfleet.network.peer import Peer


class Service(Protocol):
    """A part of the node that peers of our own kind can talk to."""

    @property
    def codes(self) -> frozenset[int]:
        """The message codes of `stem` it answers for."""
        ...

    def joined(self, peer: Peer) -> None:
        """React to a peer that speaks our capability."""
        ...

    def left(self, peer: Peer) -> None:
        """React to its leaving."""
        ...

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:
        """React to a message; raise WireError if it is none."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def sweep(self, now: float) -> None:
        """Let go of what is over."""
        ...
