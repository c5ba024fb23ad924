"""A relay's archive at work: it takes what the flood brings, and answers those who ask for what they missed.

An answer is a thousand times its question. So each peer is served one page at a time, in turn, as fast as its own pace
and everybody's allow, both paid after the fact by what a page cost; who asks faster waits, and for nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from typing import Final, TypeVar

from quietfleet.clock import Clock
from quietfleet.errors import StorageError
from quietfleet.metrics import Metrics
from quietfleet.network.archive import Archive
from quietfleet.network.node import EmbeddedNode
from quietfleet.network.peer import Peer
from quietfleet.network.quota import Bucket
from quietfleet.network.stemwire import ASK_ARCHIVE, ArchiveAsk, ArchivePage
from quietfleet.whisper import Envelope

BUFFER: Final = 16 << 20  # bytes that wait for the disk at most
_LEAST: Final = 8 * 1024  # bytes that any answer counts for
_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """Bytes a second read from the archive for one peer and for all, `saved` seconds of which may go at once."""

    each: float = 256 * 1024.0
    everyone: float = 2 * 1024 * 1024.0
    saved: float = 4.0


@dataclass(slots=True)
class _Turn:
    """When somebody may be served again, in the loop's seconds; what a page cost is paid afterwards."""

    bucket: Bucket
    free_at: float = 0.0

    @classmethod
    def at(cls, rate: float, saved: float) -> _Turn:
        return cls(Bucket(rate, saved * rate))

    def spend(self, now: float, amount: float) -> None:
        self.free_at = now + self.bucket.owe(now, amount)


class Archiving:
    """A `Service` of a relay. `open_archive` is called, and the archive then used, in a thread of its own."""

    codes = frozenset({ASK_ARCHIVE})

    def __init__(
        self,
        node: EmbeddedNode,
        open_archive: Callable[[], Archive],
        metrics: Metrics,
        clock: Clock,
        serving: Serving | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._node, self._open, self._metrics, self._clock = node, open_archive, metrics, clock
        self._serving = serving or Serving()
        self._own_thread = None if executor else ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._executor = executor or self._own_thread
        self._arrived: list[tuple[float, Envelope]] = []
        self._buffered = 0
        self._waiting: dict[Peer, ArchiveAsk] = {}
        self._turns: dict[Peer, _Turn] = {}
        self._turn = _Turn.at(self._serving.everyone, self._serving.saved)
        self._swept = False
        self._changed = asyncio.Event()
        node.flood.kept = self._keep

    def joined(self, peer: Peer) -> None:
        self._turns[peer] = _Turn.at(self._serving.each, self._serving.saved)

    def left(self, peer: Peer) -> None:
        self._turns.pop(peer, None)
        self._waiting.pop(peer, None)

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002 -- there is one code
        ask = ArchiveAsk.decode(payload)
        if peer in self._waiting:
            self._metrics.count("archive_refused", reason="asked_again")
        self._waiting[peer] = ask  # in the place of one that it cannot be waiting for any more
        self._changed.set()

    def sweep(self, now: float) -> None:  # noqa: ARG002 -- its own thread will ask
        self._swept = True
        self._changed.set()

    async def run(self) -> None:
        """Write what arrived and answer who asks, until cancelled; a broken archive is noted and serves nobody."""
        try:
            archive = await self._beside(self._open)
        except (sqlite3.Error, StorageError, OSError):
            log.exception("the archive cannot be opened")
            self._metrics.count("archive_failed", reason="opening")
            self._node.flood.kept = lambda _: None
            return
        try:
            while True:
                await self._until_due()
                if self._swept:
                    await self._write(archive)
                await self._answer(archive)
        finally:
            await self._write(archive)
            await self._beside(archive.close)
            if self._own_thread:
                self._own_thread.shutdown(wait=False)

    def _keep(self, envelope: Envelope) -> None:
        size = len(envelope.encode())
        if self._buffered + size > BUFFER:
            self._metrics.count("archive_failed", reason="too_slow")
            return
        self._arrived.append((self._clock.now(), envelope))
        self._buffered += size

    async def _until_due(self) -> None:
        while not self._swept:
            due = self._next_answer()
            now = asyncio.get_running_loop().time()
            if due <= now:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due == inf else due - now):
                    await self._changed.wait()

    def _next_answer(self) -> float:
        """Return when an answer is due, in the loop's seconds."""
        return max(self._turn.free_at, min((self._turns[peer].free_at for peer in self._waiting), default=inf))

    async def _write(self, archive: Archive) -> None:
        self._swept = False
        if not self._arrived:
            return
        arrived, now = self._arrived, self._clock.now()
        self._arrived, self._buffered = [], 0
        try:
            await self._beside(lambda: archive.add(arrived, now))
        except sqlite3.Error:
            log.exception("the archive cannot be written")
            self._metrics.count("archive_failed", reason="writing")
        else:
            self._metrics.count("archive_kept", len(arrived))
            self._metrics.gauge("archive_bytes", archive.size)

    async def _answer(self, archive: Archive) -> None:
        """Answer the one of those whose turn has come that has waited longest."""
        now = asyncio.get_running_loop().time()
        if self._next_answer() > now:
            return
        peer = next(peer for peer in self._waiting if self._turns[peer].free_at <= now)
        ask, turn = self._waiting.pop(peer), self._turns[peer]
        try:
            found = await self._beside(lambda: archive.page(ask))
        except sqlite3.Error:
            log.exception("the archive cannot be read")
            self._metrics.count("archive_failed", reason="reading")
            return
        cost = max(_LEAST, found.read)
        self._turn.spend(now, cost)
        turn.spend(now, cost)
        self._metrics.count("archive_served", len(found.envelopes))
        self._metrics.count("archive_served_bytes", cost)
        if not peer.post(ArchivePage(ask.request, found.envelopes, found.cursor).encode()):
            self._metrics.count("archive_refused", reason="slow_reader")

    async def _beside(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
