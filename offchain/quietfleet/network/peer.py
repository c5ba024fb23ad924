"""One connected peer: what it wants, what it already has, what waits for it, what it may bring."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, Never

from quietfleet.errors import LinkError, WireError
from quietfleet.network.conduct import Conduct
from quietfleet.network.link import SHH, STEM, Link, Message
from quietfleet.network.outbox import Outbox
from quietfleet.network.quota import Bucket, Fading
from quietfleet.network.tuning import Tuning
from quietfleet.network.wire import MAX_CONTENT, MESSAGES, STATUS, Status, bundles
from quietfleet.whisper import (
    CLOCK_SKEW,
    FULL_BLOOM,
    Envelope,
    bloom_mask,
    encode_bundle,
    geth_topic_bloom,
    pow_at,
    pow_of,
    topic_mask,
)

NOTHING: Final = bytes(len(FULL_BLOOM))  # the bloom of a peer that wants no envelopes
_GREETING: Final = 5.0  # seconds a peer has to send its status
_SAVED: Final = 4.0  # seconds' worth of quota a peer may use at once

LastLook = Callable[[Message], Message]


def _as_it_is(message: Message) -> Message:
    return message


class Peer:
    """The sending half of a link, and what we know of who is behind it."""

    def __init__(self, link: Link, tuning: Tuning, *, registered: bool = False, quiet: bool = False) -> None:
        self.link = link
        self.conduct = Conduct()
        self.registered = registered  # an active relay of the chain: no quota is held against what it passes on
        self.quiet = quiet  # a link for onion packets alone
        self.wanted = Status(0.0)
        self.stems = STEM.name in link.capabilities
        self.fresh = Bucket(tuning.new_rate, _SAVED * tuning.new_rate)
        self.packets = Bucket(tuning.packet_rate, _SAVED * tuning.packet_rate)
        self.pace = Bucket(tuning.pace, _SAVED * tuning.pace)
        self.harm = Fading()  # units lately that were worthless or above its pace
        self._known: set[bytes] = set()
        self._outbox = Outbox(tuning.outbox)
        self._posts: deque[tuple[Message, LastLook]] = deque()
        self._posted, self._post_limit = 0, tuning.posts
        self._changed = asyncio.Event()

    @property
    def node_id(self) -> bytes:
        """Who it proved to be: 64 bytes."""
        return self.link.peer

    @property
    def wanted(self) -> Status:
        """What it said that it wants to be sent."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: Status) -> None:
        self._wanted = wanted
        self._hears = 0 if self.quiet else bloom_mask(wanted.bloom)

    @property
    def for_packets(self) -> bool:
        """Whether this link is for onion packets alone, by our choice or the peer's: both sides see the same."""
        return self.quiet or self.wanted.bloom == NOTHING

    async def greet(self, ours: Status) -> None:
        """Exchange statuses; raise WireError if the peer speaks another protocol, LinkError if it says nothing."""
        await self.link.send(Message(SHH.name, STATUS, ours.encode()))
        try:
            async with asyncio.timeout(_GREETING):
                first = await self.link.receive()
        except TimeoutError as error:
            raise LinkError(f"{self.link.remote} sent no status") from error
        if (first.capability, first.code) != (SHH.name, STATUS):
            raise WireError(f"{first.capability} code {first.code} before the status")
        self.wanted = Status.decode(first.payload)

    def hears(self, ears: tuple[int, int]) -> bool:
        """Whether its bloom wants a topic, of which these are the masks that `ears_of` returns.

        A relay with a thousand light peers asks them all about every envelope, and no more than this of most.
        """
        mask = ears[self.stems]
        return mask & self._hears == mask

    def offer(self, digest: bytes, delay: float) -> bool:
        """Queue an envelope to go after `delay` seconds, unless the peer has it; tell whether another was dropped."""
        if digest in self._known or self.wanted.bloom == NOTHING or self.quiet:
            return False
        head = self._outbox.next_due
        dropped = self._outbox.put(digest, asyncio.get_running_loop().time() + delay)
        if self._outbox.next_due != head:
            self._changed.set()
        return dropped

    @property
    def waiting(self) -> int:
        """How many envelopes wait for their moment."""
        return len(self._outbox)

    def post(self, message: Message, last_look: LastLook = _as_it_is) -> bool:
        """Queue a message that goes before any envelope; tell whether there was room.

        `last_look` is shown it right before it goes, and returns what goes.
        """
        if self._posted + len(message.payload) > self._post_limit:
            return False
        self._posted += len(message.payload)
        self._posts.append((message, last_look))
        self._changed.set()
        return True

    def has(self, digest: bytes) -> None:
        """Note that the peer holds this envelope, so that it is not sent back."""
        self._known.add(digest)

    def forget(self, digests: Iterable[bytes]) -> None:
        """Forget what is gone from our pool: it will not be sent to anyone."""
        self._known.difference_update(digests)

    def charge(self, now: float, units: float, *, new: bool = False, worthless: bool = False) -> float:
        """Note what a stranger cost us, and whether it was a new envelope; return the seconds to read no more of it.

        What a registered relay sends came from others, and is not held against it.
        """
        if self.registered:
            return 0.0
        pause = max(self.pace.owe(now, units), self.fresh.owe(now, 1.0 if new else 0.0))
        if worthless or pause > 0:
            self.harm.add(now, units)
        return pause

    async def write(
        self, look_up: Callable[[bytes], Envelope | None], on_sent: Callable[[int], None], now: Callable[[], float]
    ) -> Never:
        """Send what is due, for ever; envelopes are looked up as late as possible, so a slow peer costs hashes only."""
        while True:
            await self._until_due()
            while self._posts:
                message, last_look = self._posts.popleft()
                self._posted -= len(message.payload)
                await self.link.send(last_look(message))
            for batch in bundles(self._due(look_up, now())):
                await self.link.send(Message(SHH.name, MESSAGES, encode_bundle(batch)))
                on_sent(len(batch))

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._posts:
            due = self._outbox.next_due
            if due is not None and due <= loop.time():
                return
            self._changed.clear()
            if due is None:
                await self._changed.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._changed.wait()

    def _due(self, look_up: Callable[[bytes], Envelope | None], now: float) -> Iterator[Envelope]:
        for digest in self._outbox.take(loop_now := asyncio.get_running_loop().time()):
            envelope = None if digest in self._known else look_up(digest)
            if envelope and (wait := self._too_early(envelope, now)):
                self._outbox.put(digest, loop_now + wait)
            elif envelope and self._wants(envelope, now):
                self._known.add(digest)
                yield envelope

    def _wants(self, envelope: Envelope, now: float) -> bool:
        """Hold an envelope against the peer's demands, as it will: a plain Whisper peer hangs up over a bad one."""
        if not self.hears(ears_of(envelope.topic)):
            return False
        if not self.stems and len(envelope.encode()) > MAX_CONTENT:
            return False
        if not self.stems and not int(now) <= envelope.expiry <= now + envelope.ttl + CLOCK_SKEW / 2:
            return False  # its clock may differ from ours by as much again
        return self.wanted.min_pow <= 0 or pow_at(envelope, now) >= self.wanted.min_pow

    def _too_early(self, envelope: Envelope, now: float) -> float:
        """Return for how many seconds a plain peer whose clock is behind ours may still miss some work in it."""
        if self.stems or pow_at(envelope, now - CLOCK_SKEW / 2) >= self.wanted.min_pow:
            return 0.0
        return max(0.0, envelope.sent + CLOCK_SKEW / 2 - now) if pow_of(envelope) >= self.wanted.min_pow else 0.0


@lru_cache(maxsize=1024)  # first for all peers, then again as it leaves for each
def ears_of(topic: bytes) -> tuple[int, int]:
    """Return the bits by which a peer's bloom wants a topic: as plain Whisper software has them, and as ours does."""
    return bloom_mask(geth_topic_bloom(topic)), topic_mask(topic)
