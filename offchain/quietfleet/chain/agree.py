"""Several endpoints as one source: what they do not all say is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from quietfleet.chain.source import Header, RawLog, Source
from quietfleet.errors import ChainDisagreement

_Answer = TypeVar("_Answer")


class AgreeingSource:
    """A source that answers only when all its endpoints agree; the newest block is the newest they have in common."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    async def header(self, number: int | None = None) -> Header | None:
        """Return the header all endpoints give; ChainDisagreement if they give different ones."""
        found = await asyncio.gather(*(source.header(number) for source in self._sources))
        return _agreed(f"block {number}", found) if number is not None else await self.common(found)

    async def common(self, found: Sequence[Header | None]) -> Header | None:
        """Return the newest header that all have, of endpoints whose newest ones are `found`."""
        heights = [header.number for header in found if header is not None]
        if len(heights) < len(found):
            return None
        if min(heights) == max(heights):
            return _agreed(f"block {heights[0]}", found)
        return await self.header(min(heights))

    async def logs(self, first: int, last: int) -> list[RawLog]:
        """Return the logs all endpoints give for these blocks."""
        found = await asyncio.gather(*(source.logs(first, last) for source in self._sources))
        return _agreed(f"logs of blocks {first} to {last}", found)

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        """Return the logs all endpoints give for this block."""
        found = await asyncio.gather(*(source.logs_in(block_hash) for source in self._sources))
        return _agreed(f"logs of block 0x{block_hash.hex()}", found)


def _agreed(what: str, answers: Sequence[_Answer]) -> _Answer:
    if any(answer != answers[0] for answer in answers):
        raise ChainDisagreement(what)
    return answers[0]
