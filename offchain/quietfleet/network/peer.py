"""One connected peer: what it wants, what it already has, what waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Never

from quietfleet.errors import LinkError, WireError
from quietfleet.network.conduct import Conduct
from quietfleet.network.link import Link
from quietfleet.network.outbox import Outbox
from quietfleet.network.wire import MESSAGES, STATUS, Status, bundles
from quietfleet.whisper import FULL_BLOOM, Envelope, encode_bundle, geth_topic_bloom, matches, pow_of

_GREETING = 5.0  # seconds a peer has to send its status


class Peer:
    """The sending half of a link, and what we know of who is behind it: nothing but its requirements."""

    def __init__(self, link: Link, outbox_limit: int) -> None:
        self.link = link
        self.wanted = Status(0.0)
        self.conduct = Conduct()
        self._known: set[bytes] = set()
        self._outbox = Outbox(outbox_limit)
        self._notices: deque[tuple[int, bytes]] = deque()
        self._changed = asyncio.Event()

    async def greet(self, ours: Status) -> None:
        """Exchange statuses; raise WireError if the peer speaks another protocol, LinkError if it says nothing."""
        await self.link.send(STATUS, ours.encode())
        try:
            async with asyncio.timeout(_GREETING):
                code, payload = await self.link.receive()
        except TimeoutError as error:
            raise LinkError(f"{self.link.remote} sent no status") from error
        if code != STATUS:
            raise WireError(f"code {code} before the status")
        self.wanted = Status.decode(payload)

    def offer(self, digest: bytes, delay: float) -> bool:
        """Queue an envelope to go after `delay` seconds, unless the peer has it; tell whether another was dropped."""
        if digest in self._known:
            return False
        head = self._outbox.next_due
        dropped = self._outbox.put(digest, asyncio.get_running_loop().time() + delay)
        if self._outbox.next_due != head:
            self._changed.set()
        return dropped

    def notify(self, code: int, payload: bytes) -> None:
        """Queue a message of our own, which goes before any envelope."""
        self._notices.append((code, payload))
        self._changed.set()

    def has(self, digest: bytes) -> None:
        """Note that the peer holds this envelope, so that it is not sent back."""
        self._known.add(digest)

    def forget(self, digests: Iterable[bytes]) -> None:
        """Forget what is gone from our pool: it will not be sent to anyone."""
        self._known.difference_update(digests)

    async def write(self, look_up: Callable[[bytes], Envelope | None], on_sent: Callable[[int], None]) -> Never:
        """Send what is due, for ever; envelopes are looked up as late as possible, so a slow peer costs hashes only."""
        while True:
            await self._until_due()
            while self._notices:
                await self.link.send(*self._notices.popleft())
            for batch in bundles(self._due(look_up)):
                await self.link.send(MESSAGES, encode_bundle(batch))
                on_sent(len(batch))

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._notices:
            due = self._outbox.next_due
            if due is not None and due <= loop.time():
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._changed.wait()

    def _due(self, look_up: Callable[[bytes], Envelope | None]) -> Iterator[Envelope]:
        for digest in self._outbox.take(asyncio.get_running_loop().time()):
            envelope = None if digest in self._known else look_up(digest)
            if envelope and self._wants(envelope):
                self._known.add(digest)
                yield envelope

    def _wants(self, envelope: Envelope) -> bool:
        if self.wanted.bloom != FULL_BLOOM and not matches(self.wanted.bloom, geth_topic_bloom(envelope.topic)):
            return False
        return self.wanted.min_pow <= 0 or pow_of(envelope) >= self.wanted.min_pow
