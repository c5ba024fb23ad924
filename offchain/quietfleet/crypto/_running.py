"""What both Keccak backends give for a hash that goes on after it was looked at."""

from __future__ import annotations

from typing import Protocol


class RunningKeccak(Protocol):
    """A Keccak-256 state that keeps absorbing."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Absorb `data`."""
        ...

    def digest(self) -> bytes:
        """Return the 32-byte digest of everything so far; the state goes on."""
        ...
