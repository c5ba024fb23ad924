"""Follows the chain without losing or inventing an event, whatever the chain, the endpoint or this process does.

Each step compares the remembered blocks with the endpoint's, goes back to the newest common one, reads the logs of an
explicit range and proves that all it read belongs to one chain before it commits. No filter names a worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from quietfleet.chain._journal import Located
from quietfleet.chain.bloom import may_contain
from quietfleet.chain.codec import Codec
from quietfleet.chain.deployment import Deployment
from quietfleet.chain.replica import Batch, Effects, Replica
from quietfleet.chain.source import Header, RawLog, Source
from quietfleet.chain.types import Change, Head
from quietfleet.errors import ChainRefused, ChainUnavailable, ReplicaGap

RING: Final = 256
"""Blocks remembered; a reorg that replaces all of them is answered by reading everything again."""
CHUNK: Final = 2_000
"""Blocks asked for at once; public endpoints refuse much more."""

NEAR: Final = 64
"""Blocks below the newest of which each header is read: there a lagging node may have left logs out."""

_PATIENCE: Final = 5
"""Readings in a row that a moving chain may spoil before the endpoint counts as unusable."""


class _ChainMoved(Exception):
    """The endpoint's chain changed while it was being read."""


class Follower:
    """Keeps a replica at the head of a source; `effects` runs inside each step's transaction."""

    def __init__(
        self,
        source: Source,
        replica: Replica,
        deployment: Deployment,
        *,
        effects: Effects | None = None,
        ring: int = RING,
        chunk: int = CHUNK,
    ) -> None:
        self._source = source
        self._replica = replica
        self._codec = Codec(deployment)
        self._addresses = tuple(bytes.fromhex(one[2:]) for one in deployment.addresses)
        self._first = deployment.first_block
        self._effects = effects
        self._ring = ring
        self._chunk = self._span = chunk
        self._moved = 0
        self.caught_up = False
        self.rebuilds = 0
        replica.claim(f"{deployment.chain_id}:{':'.join(deployment.addresses)}:{self._first}")

    async def step(self) -> list[Change]:
        """Read at most one chunk towards the head and return what changed; `caught_up` tells if the head is reached.

        Raises ChainUnavailable, ChainRefused, or ReplicaGap if a second reading of everything is incomplete too.
        """
        try:
            changes = await self._step()
        except _ChainMoved as moved:
            self.caught_up = False
            self._moved += 1
            if self._moved > _PATIENCE:
                raise ChainUnavailable("its chain does not hold still while it is read") from moved
            return []
        self._moved = 0
        return changes

    async def _step(self) -> list[Change]:
        head = await self._source.header()
        if head is None or head.number < self._first:
            return self._rest()
        ring = [block for block in self._replica.ring() if block.number <= head.number]
        if not ring and self._replica.head is not None:
            return self._rest()  # the endpoint is still far below what is known
        try:
            return await self._towards(head, ring)
        except ReplicaGap:
            return await self._rebuild()

    async def catch_up(self) -> list[Change]:
        """Step until the head is reached."""
        changes = await self.step()
        while not self.caught_up:
            changes += await self.step()
        return changes

    def _rest(self) -> list[Change]:
        self.caught_up = True
        return []

    async def _towards(self, head: Header, ring: list[Head]) -> list[Change]:
        ancestor = await self._common(head, ring)
        if ring and ancestor is None:
            return await self._rebuild()
        if ancestor is not None and ancestor == ring[-1] and self._nothing_above(head):
            return self._rest()
        batch = await self._read(ancestor, head)
        if batch is None:
            return []
        self.caught_up = batch.blocks[-1].number == head.number
        return self._commit(ancestor.number if ancestor else -1, batch)

    def _nothing_above(self, head: Header) -> bool:
        """Whether an endpoint whose chain agrees with ours shows no block beyond it: up to date, or lagging."""
        known = self._replica.head
        return known is not None and known.number >= head.number

    async def _common(self, head: Header, ring: Sequence[Head]) -> Head | None:
        """Find the newest remembered block that is on the endpoint's chain: the newest first, then by halves."""
        if not ring or await self._stands(ring[-1], head):
            return ring[-1] if ring else None
        low, high = 0, len(ring) - 1  # everything below `low` stands, everything from `high` on does not
        while low < high:
            middle = (low + high) // 2
            if await self._stands(ring[middle], head):
                low = middle + 1
            else:
                high = middle
        return ring[low - 1] if low else None

    async def _stands(self, block: Head, head: Header) -> bool:
        if block.number == head.number:
            return block.hash == head.hash
        if block.number == head.number - 1:
            return block.hash == head.parent
        found = await self._source.header(block.number)
        return found is not None and found.hash == block.hash

    async def _read(self, ancestor: Head | None, head: Header) -> Batch | None:
        """Read one chunk above `ancestor`; None if the endpoint found it too large, and smaller ones follow."""
        first = ancestor.number + 1 if ancestor else self._first
        last = min(first + self._span - 1, head.number)
        target = head if last == head.number else await self._header(last)
        try:
            logs = _distinct(await self._source.logs(first, last), first, last)
        except ChainRefused:
            if first == last:
                raise
            self._span = max(1, (last - first + 1) // 2)
            return None
        headers = await self._headers(logs, target, range(max(first, head.number - NEAR + 1), last))
        logs += await self._overlooked(logs, headers.values())
        await self._confirm(ancestor, target)
        self._span = min(self._chunk, self._span * 2)
        return self._batch(logs, headers)

    async def _headers(self, logs: Sequence[RawLog], target: Header, near: Iterable[int]) -> dict[int, Header]:
        """Read the headers of blocks near the newest and of those with logs, and hold all of it against each other."""
        numbers = sorted({*near, *(log.block for log in logs)} - {target.number})
        headers = {number: await self._header(number) for number in numbers}
        headers[target.number] = target
        if any(log.block_hash != headers[log.block].hash for log in logs):
            raise _ChainMoved
        for below, above in itertools.pairwise(headers.values()):
            if above.number == below.number + 1 and above.parent != below.hash:
                raise _ChainMoved
        return headers

    async def _header(self, number: int) -> Header:
        header = await self._source.header(number)
        if header is None:
            raise _ChainMoved
        return header

    async def _overlooked(self, logs: Iterable[RawLog], headers: Iterable[Header]) -> list[RawLog]:
        """Ask again, by hash, for blocks whose bloom names our contracts but which came without logs.

        Behind a load balancer a node that lags answers a range it has not seen with nothing; by hash it must refuse.
        """
        answered = {log.block for log in logs}
        suspect = [one for one in headers if one.number not in answered and self._may_be_ours(one)]
        try:
            found = [(header, await self._source.logs_in(header.hash)) for header in suspect]
        except ChainRefused as refusal:
            raise _ChainMoved from refusal
        return [log for header, logs in found for log in _distinct(logs, header.number, header.number, header.hash)]

    def _may_be_ours(self, header: Header) -> bool:
        return any(may_contain(header.bloom, address) for address in self._addresses)

    async def _confirm(self, ancestor: Head | None, target: Header) -> None:
        """Require ancestor and target to stand still: what was read between two sights of one hash is one chain."""
        if ancestor is not None and target.parent != ancestor.hash and not await self._stands(ancestor, target):
            raise _ChainMoved
        if (await self._header(target.number)).hash != target.hash:
            raise _ChainMoved

    def _batch(self, logs: Iterable[RawLog], headers: dict[int, Header]) -> Batch:
        located = (
            Located(log.block, log.index, headers[log.block].timestamp, event)
            for log in sorted(logs, key=lambda log: (log.block, log.index))
            if (event := self._codec.decode(log)) is not None
        )
        return Batch(tuple(located), tuple(headers[number].head for number in sorted(headers)))

    def _commit(self, ancestor: int, batch: Batch) -> list[Change]:
        return self._replica.advance(ancestor, batch, self._ring, self._effects)

    async def _rebuild(self) -> list[Change]:
        """Read everything again and replace the replica at once; until then the old one stays and grows stale."""
        self.rebuilds += 1
        batch = await self._everything()
        self.caught_up = True
        return self._commit(-1, batch)

    async def _everything(self) -> Batch:
        head = await self._source.header()
        if head is None or head.number < self._first:
            raise _ChainMoved
        events: list[Located] = []
        blocks: list[Head] = []
        while not blocks or blocks[-1].number < head.number:
            batch = await self._read(blocks[-1] if blocks else None, head)
            if batch is not None:
                events += batch.events
                blocks += batch.blocks
        return Batch(tuple(events), tuple(blocks))


def _distinct(logs: Iterable[RawLog], first: int, last: int, block_hash: bytes = b"") -> list[RawLog]:
    """Take each log once, of the blocks that were asked for; ChainUnavailable for an answer to something else."""
    known: dict[tuple[int, int], RawLog] = {}
    for log in logs:
        if not first <= log.block <= last or (block_hash and log.block_hash != block_hash):
            raise ChainUnavailable(f"it answers with a log of block {log.block}, which was not asked for")
        first_seen = known.setdefault((log.block, log.index), log)
        if first_seen is not log and first_seen != log:
            raise _ChainMoved  # of two branches, or made up: either way not one chain
    return list(known.values())
