"""Transactions that were signed and are in no block yet: whoever has to send one again sends the very same.

A nonce belongs to the first transaction signed for it. An endpoint that went away may still bring that one into a
block, so that another of its nonce, signed for the next endpoint, would leave it to chance which of the two counts.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from quietfleet.crypto import keccak256


class Signed(msgspec.Struct, frozen=True):
    """A signed transaction, the account's nonce in it, and a digest of what it calls."""

    nonce: int
    call: bytes
    raw: bytes

    @property
    def hash(self) -> bytes:
        """What the chain knows it by."""
        return keccak256(self.raw)


class Unsettled(Protocol):
    """Where they are kept; written before anything is sent."""

    def all(self) -> list[Signed]:
        """Return them by nonce."""
        ...

    def put(self, signed: Signed) -> None:
        """Keep one."""
        ...

    def drop(self, signed: Signed) -> None:
        """Let go of one: it is in a block, or can never be."""
        ...


class InMemory:
    """For as long as this process lives."""

    def __init__(self) -> None:
        self._signed: dict[bytes, Signed] = {}

    def all(self) -> list[Signed]:
        return sorted(self._signed.values(), key=lambda one: one.nonce)

    def put(self, signed: Signed) -> None:
        self._signed[signed.hash] = signed

    def drop(self, signed: Signed) -> None:
        self._signed.pop(signed.hash, None)
