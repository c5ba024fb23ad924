"""What the network asks of the chain."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from quietfleet.crypto import PublicKey


class Directory(Protocol):
    """Who runs which relay."""

    def owner_of(self, key: str) -> str | None:
        """Return the owner of the active relay whose registered key has this address; None if there is none."""
        ...

    def relays(self) -> int:
        """Return how many active relays the chain lists."""
        ...


class Nobody:
    """A directory without entries: every peer is a stranger."""

    def owner_of(self, key: str) -> str | None:  # noqa: ARG002
        return None

    def relays(self) -> int:
        return 0


@lru_cache(4096)  # every peer's is asked for once a second
def key_address(node_id: bytes) -> str:
    """Return the checksummed address of a node's 64-byte public key."""
    return PublicKey.from_bytes(node_id).id
