"""How a leaf catches up: after being away it asks two relays' archives for what the flood brought meanwhile.

Two, of different owners where it can, since one may leave things out and none can be caught at it. What they hand over
is judged as the flood's envelopes are, at the time they were sent; it goes to our readers and to nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Never

from quietfleet.clock import Clock
from quietfleet.crypto import keccak256
from quietfleet.errors import EnvelopeError, WireError
from quietfleet.metrics import Metrics
from quietfleet.network.directory import Directory, key_address
from quietfleet.network.node import EmbeddedNode
from quietfleet.network.peer import Peer
from quietfleet.network.stemwire import ARCHIVE, REQUEST_SIZE, ArchiveAsk, ArchivePage
from quietfleet.network.window import Window
from quietfleet.whisper import DropReason, Rules, admits, decode_envelope, judge

DEAD_LINK: Final = 30.0  # seconds for which a link may have been dead when it is noticed
MAX_PAGES: Final = 4096  # of one relay
MAX_LIES: Final = 16  # envelopes nobody asked for, or that are none, after which a relay is asked no more
_RELAYS: Final = 2
_BREATH: Final = 64
_BACKLOG: Final = 256  # envelopes that may wait for our readers while more are fetched
_OVERHEAD: Final = 64
_REMEMBERED: Final = 1 << 17  # hashes of one round


@dataclass(frozen=True, slots=True)
class CatchUp:
    """All in seconds.

    `longest` is the time to ask for at most, which is what relays keep; `settle` how long to look for a second relay of
    another owner; `page` how long to wait for one page, and `whole` for all of one relay; `readers` how long to wait
    for readers to make room; `pause` until another try when nobody answered; `remember` how often `save` is called.
    """

    longest: float = 86_400.0
    settle: float = 20.0
    page: float = 60.0
    whole: float = 900.0
    readers: float = 30.0
    pause: float = 60.0
    remember: float = 60.0


@dataclass(slots=True)
class _Round:
    """One attempt: what is asked for, who was asked, what came."""

    window: Window
    settled_at: float
    nodes: set[bytes] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)


class Backfill:
    """A `Service` of a leaf.

    `load` returns what `save` was last given (Unix seconds), or None at the first start, when nothing can have been
    missed; `rng` chooses relays and `random` names requests.
    """

    codes = frozenset({ARCHIVE})

    def __init__(
        self,
        node: EmbeddedNode,
        directory: Directory,
        metrics: Metrics,
        clock: Clock,
        rng: Random,
        random: Callable[[int], bytes],
        load: Callable[[], float | None],
        save: Callable[[float], None],
        timing: CatchUp | None = None,
    ) -> None:
        self._node, self._directory, self._metrics, self._clock = node, directory, metrics, clock
        self._rng, self._random, self._save, self._timing = rng, random, save, timing or CatchUp()
        saved = load()
        self._heard = None if saved is None else min(saved, clock.now())
        self._saved = self._heard or 0.0
        self._away = True
        self._missing: float | None = None  # since when something may have passed us by
        self._fetching: float | None = None  # since when, for what is being asked for now
        self._asked: dict[Peer, tuple[bytes, asyncio.Future[ArchivePage | None]]] = {}
        self._handed: OrderedDict[bytes, None] = OrderedDict()
        self._changed = asyncio.Event()

    @property
    def missing_since(self) -> float | None:
        """From when on (Unix seconds) something may be missing that was not caught up on yet; None if nothing is."""
        return self._missing if self._fetching is None else self._fetching

    def joined(self, peer: Peer) -> None:  # noqa: ARG002 -- whoever it is, we are back
        self._look(self._clock.now())
        self._changed.set()

    def left(self, peer: Peer) -> None:
        if peer in self._asked:
            self._answered(peer, None)
        self._look(self._clock.now())

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002 -- there is one code
        request, _ = self._asked.get(peer, (b"", None))
        try:
            page = ArchivePage.decode(payload, _max_size(self._node.flood.rules))
        except WireError:
            if request:
                self._answered(peer, None)
            raise
        if page.request == request:
            self._answered(peer, page)
        else:  # it may have been late
            self._metrics.count("backfill_failed", reason="unasked")

    async def run(self) -> Never:
        """Catch up whenever something may be missing."""
        try:
            while True:
                self._changed.clear()
                if self._missing is None or self._away:
                    await self._changed.wait()
                elif not await self._catch_up():
                    await asyncio.sleep(self._timing.pause)
        finally:
            self._remember(self._clock.now())

    def sweep(self, now: float) -> None:
        self._look(now)
        if not self._away and now - self._saved >= self._timing.remember:
            self._remember(now)

    def _look(self, now: float) -> None:
        """Note whether anybody is connected, and what may be missing when somebody is again."""
        if any(not peer.quiet for peer in self._node.connected_peers):
            if self._away and self._heard is not None:
                self._missing = min(self._heard, now if self._missing is None else self._missing)
                self._changed.set()
            self._away, self._heard = False, now
        elif not self._away:
            self._away, self._heard = True, now - DEAD_LINK

    def _remember(self, now: float) -> None:
        """Save until when nothing is missing."""
        safe = self._heard if self.missing_since is None else self.missing_since
        if safe is not None:
            self._saved = now
            self._save(safe)

    async def _catch_up(self) -> bool:
        """Ask two relays at once, so that a slow one holds up nobody; tell whether one told us all it has."""
        since, now, complete = self._missing or 0.0, self._clock.now(), 0
        self._fetching, self._missing = since, None
        window = Window.over(since, now, self._timing.longest, self._node.flood.status().bloom)
        attempt = _Round(window, now + self._timing.settle)
        try:
            complete = sum(await asyncio.gather(*(self._ask_one(attempt) for _ in range(_RELAYS))))
        finally:
            self._handed.clear()
            self._fetching, self._missing = None, self._missing if complete else since
        self._metrics.count("backfill_rounds", relays=str(complete))
        self._remember(self._clock.now())
        return complete > 0

    async def _ask_one(self, attempt: _Round) -> bool:
        """Ask relays, one after the other, until one told us all; False if there is none left to ask."""
        while True:
            peer = self._choose(attempt)
            if peer:
                attempt.nodes.add(peer.node_id)
                attempt.owners.add(self._owner(peer))
                if await self._fetch_in_time(peer, attempt.window):
                    return True
            elif self._clock.now() >= attempt.settled_at:
                return False
            else:
                await asyncio.sleep(1.0)

    def _choose(self, attempt: _Round) -> Peer | None:
        """Choose a relay at random, registered ones first, of another owner than before unless none comes in time."""
        peers = self._node.connected_peers
        untried = [peer for peer in peers if peer.stems and not peer.quiet and peer.node_id not in attempt.nodes]
        apart = [peer for peer in untried if self._owner(peer) not in attempt.owners]
        allowed = apart or (untried if self._clock.now() >= attempt.settled_at else [])
        return self._rng.choice([peer for peer in allowed if peer.registered] or allowed) if allowed else None

    def _owner(self, peer: Peer) -> str:
        return self._directory.owner_of(key_address(peer.node_id)) or peer.node_id.hex()

    async def _fetch_in_time(self, peer: Peer, window: Window) -> bool:
        try:
            async with asyncio.timeout(self._timing.whole):
                return await self._fetch(peer, window)
        except TimeoutError:
            return self._fail("too_slow")

    async def _fetch(self, peer: Peer, window: Window) -> bool:
        """Take page after page from one relay; tell whether it came to its end."""
        cursor, lies = b"", 0
        for _ in range(MAX_PAGES):
            page = await self._page(peer, window, cursor)
            if page is None:
                return self._fail("no_answer")
            lies += await self._take(page, window)
            if lies > MAX_LIES:
                return self._fail("lies")
            if not page.cursor:
                return True
            if page.cursor <= cursor:
                return self._fail("going_round")
            cursor = page.cursor
        return self._fail("endless")

    async def _page(self, peer: Peer, window: Window, cursor: bytes) -> ArchivePage | None:
        ask = ArchiveAsk(self._random(REQUEST_SIZE), window.since, window.until, window.bloom, cursor)
        answer: asyncio.Future[ArchivePage | None] = asyncio.get_running_loop().create_future()
        self._asked[peer] = ask.request, answer
        try:
            if peer not in self._node.connected_peers or not peer.post(ask.encode()):
                return None
            async with asyncio.timeout(self._timing.page):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._asked.pop(peer, None)

    def _answered(self, peer: Peer, page: ArchivePage | None) -> None:
        _, answer = self._asked.pop(peer)
        if not answer.done():
            answer.set_result(page)

    def _fail(self, reason: str) -> bool:
        self._metrics.count("backfill_failed", reason=reason)
        return False

    async def _take(self, page: ArchivePage, window: Window) -> int:
        """Hand on what is new and good; return how many envelopes no honest relay would have sent."""
        lies = 0
        for count, raw in enumerate(page.envelopes, 1):
            reason = self._receive(raw, window)
            if reason is None:
                self._metrics.count("backfill_delivered")
            else:
                self._metrics.count("backfill_dropped", reason=reason)
                lies += reason in {DropReason.MALFORMED, DropReason.BLOOM_MISMATCH, "not_in_time"}
            if lies > MAX_LIES:
                break
            if count % _BREATH == 0:
                await self._wait_for_readers()
        return lies

    async def _wait_for_readers(self) -> None:
        """Let our readers keep up: what they cannot hold is lost, live envelopes too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.readers):
                await asyncio.sleep(0)
                while self._node.flood.backlog > _BACKLOG:  # noqa: ASYNC110 -- readers do not say that they have read
                    await asyncio.sleep(0.02)

    def _receive(self, raw: bytes, window: Window) -> str | None:
        """Judge everything but its time, for which it is held against what we asked; the reason, if it is dropped."""
        flood = self._node.flood
        if len(raw) > _max_size(flood.rules) + _OVERHEAD:
            return DropReason.OVERSIZE
        digest = keccak256(raw)
        if digest in self._handed or flood.knows(digest):
            return DropReason.DUPLICATE
        try:
            envelope = decode_envelope(raw, digest)
        except EnvelopeError:
            return DropReason.MALFORMED
        if not window.holds(envelope):
            return "not_in_time"
        if not admits(window.bloom, envelope.topic):
            return DropReason.BLOOM_MISMATCH
        reason = judge(envelope, envelope.sent, flood.rules)
        if reason is None:
            self._handed[digest] = None
            if len(self._handed) > _REMEMBERED:
                self._handed.popitem(last=False)
            flood.recover(envelope)
        return reason


def _max_size(rules: Rules) -> int:
    return max(rules.max_size, rules.previous.max_size if rules.previous else 0)
