"""What a follower needs of a chain: headers and logs by explicit request, so that any chain can stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from quietfleet.chain.types import Head


@dataclass(frozen=True, slots=True)
class Header:
    """A block header: 32-byte hashes, Unix seconds, and the 2048-bit logs bloom as an integer."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    bloom: int

    @property
    def head(self) -> Head:
        """The header as a position."""
        return Head(self.number, self.hash, self.timestamp)


class RawLog(msgspec.Struct, frozen=True):
    """One log entry as the endpoint gave it; `index` counts within the block."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: bytes
    index: int


class Source(Protocol):
    """A chain, seen through an endpoint or held in memory."""

    async def header(self, number: int | None = None) -> Header | None:
        """Return block `number`'s header, the newest for None; None if there is no such block."""
        ...

    async def logs(self, first: int, last: int) -> list[RawLog]:
        """Return every log of our contracts in these blocks, both included; ChainRefused if the range is too large."""
        ...

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        """Return every log of our contracts in the block with this hash; ChainRefused if it is unknown."""
        ...
