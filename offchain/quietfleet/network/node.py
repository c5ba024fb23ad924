"""The node every worker and relay runs inside itself: links to peers, and the flood over them.

Only relays listen; workers dial two relays or more, and carry everyone's envelopes between them like relays do. A node
has no name on the network and says nothing of itself but what it lets pass.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Never

from quietfleet.clock import Clock
from quietfleet.errors import ExpelledError, FrameError, LinkError, NetworkError, WireError
from quietfleet.metrics import Metrics
from quietfleet.network.address import Address
from quietfleet.network.backoff import Backoff
from quietfleet.network.flood import Flood
from quietfleet.network.link import Link, LinkLayer, Listener, TcpLinks
from quietfleet.network.peer import Peer
from quietfleet.network.tuning import Tuning
from quietfleet.network.wire import BLOOM_FILTER, MESSAGES, POW_REQUIREMENT, Status, decode_bloom, decode_pow, iter_list
from quietfleet.whisper import DropReason, Envelope, Rules

_EVENTS = {FrameError: "bad_frame", WireError: "bad_message", ExpelledError: "expelled"}
_BREATH = 64  # envelopes judged before others get their turn


class EmbeddedNode:
    """A `Network` of our own; `rng` is the system's in a running fleet, as its delays must not be guessed."""

    def __init__(
        self,
        *,
        listen: str | None,
        peers: Sequence[str],
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
        tuning: Tuning | None = None,
        links: LinkLayer | None = None,
    ) -> None:
        self._listen = Address.parse(listen) if listen else None
        self._dials = tuple(dict.fromkeys(Address.parse(peer) for peer in peers))
        self._metrics, self._rng, self._tuning = metrics, rng, tuning or Tuning()
        self._links = links or TcpLinks()
        self._flood = Flood(rules, metrics, clock, rng, self._tuning)
        self._listener: Listener | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbound = 0
        self._peers_changed = asyncio.Event()

    @property
    def peers(self) -> int:
        return len(self._flood.peers)

    @property
    def address(self) -> Address | None:
        """Where it listens, once started; None for a node that only dials."""
        return self._listener.address if self._listener else None

    async def start(self) -> None:
        if self._listen:
            self._listener = await self._links.listen(self._listen, self._welcome)
        for address in self._dials:
            self._spawn(self._keep_dialling(address))
        self._spawn(self._keep_sweeping())

    async def stop(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._flood.unsubscribe_all()

    async def publish(self, envelope: Envelope) -> None:
        self._flood.publish(envelope)

    def envelopes(self) -> AsyncIterator[Envelope]:
        return self._flood.subscribe()

    def set_rules(self, rules: Rules) -> None:
        self._flood.set_rules(rules)

    async def connected(self, count: int = 1) -> None:
        """Wait until at least this many peers are connected."""
        while self.peers < count:
            await self._peers_changed.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_sweeping(self) -> Never:
        while True:
            await asyncio.sleep(self._tuning.sweep_every)
            self._flood.sweep()

    async def _keep_dialling(self, address: Address) -> Never:
        """Stay connected to one address; a dead one is tried for ever, ever more rarely."""
        backoff = Backoff(self._rng, self._tuning.first_pause, self._tuning.longest_pause)
        while True:
            began = asyncio.get_running_loop().time()
            try:
                link = await self._links.dial(address)
            except LinkError:
                self._note("unreachable")
            else:
                await asyncio.wait(
                    [self._spawn(self._serve(link))]
                )  # not inside: a bug there must not end the dialling
            await asyncio.sleep(backoff.pause_after(asyncio.get_running_loop().time() - began))

    def _welcome(self, link: Link) -> None:
        if self._inbound >= self._tuning.max_inbound:
            self._note("refused")
            self._spawn(link.close())
        else:
            self._spawn(self._serve_inbound(link))

    async def _serve_inbound(self, link: Link) -> None:
        self._inbound += 1
        try:
            await self._serve(link)
        finally:
            self._inbound -= 1

    async def _serve(self, link: Link) -> None:
        """Keep one peer until its link fails, it breaks the protocol, or we stop."""
        peer = Peer(link, self._tuning.outbox)
        try:
            await self._join(peer)
            await _first_failure(peer.write(self._flood.look_up, self._sent), self._hear(peer))
        except NetworkError as error:
            self._note(_EVENTS.get(type(error), "lost"))
        finally:
            self._flood.leave(peer)
            self._count_peers()
            await link.close()

    async def _join(self, peer: Peer) -> None:
        await peer.greet(self._flood.status())
        ends = (peer.link.remote, peer.link.local)
        if any((other.link.local, other.link.remote) == ends for other in self._flood.peers):
            raise LinkError("we dialled ourselves")
        self._flood.join(peer)
        self._count_peers()

    async def _hear(self, peer: Peer) -> Never:
        while True:
            code, payload = await peer.link.receive()
            try:
                await self._handle(peer, code, payload)
            except WireError:
                self._blame(peer)

    async def _handle(self, peer: Peer, code: int, payload: bytes) -> None:
        """React to one message; codes we do not know are ignored, as EIP-627 asks."""
        if code == MESSAGES:
            await self._take_bundle(peer, payload)
        elif code == POW_REQUIREMENT:
            self._require(peer, Status(decode_pow(payload), peer.wanted.bloom))
        elif code == BLOOM_FILTER:
            self._require(peer, Status(peer.wanted.min_pow, decode_bloom(payload)))

    async def _take_bundle(self, peer: Peer, payload: bytes) -> None:
        for count, raw in enumerate(iter_list(payload), 1):
            if self._flood.take_in(raw, peer) is DropReason.MALFORMED:
                self._blame(peer)
            if count % _BREATH == 0:
                await asyncio.sleep(0)

    def _require(self, peer: Peer, wanted: Status) -> None:
        """Note what a peer wants now and offer what it did not want before; dear to us, so not too often."""
        if wanted != peer.wanted:
            self._strain(peer)
            peer.wanted = wanted
            self._flood.offer_all(peer)

    def _blame(self, peer: Peer) -> None:
        """Count a fault; honest peers make none, but one alone may be a matter of versions."""
        self._metrics.count("network_faults")
        self._strain(peer)

    def _strain(self, peer: Peer) -> None:
        if peer.conduct.fault(asyncio.get_running_loop().time()):
            raise ExpelledError(str(peer.link.remote))

    def _sent(self, count: int) -> None:
        self._metrics.count("network_sent", count)

    def _note(self, event: str) -> None:
        self._metrics.count("network_links", event=event)

    def _count_peers(self) -> None:
        self._metrics.gauge("network_peers", self.peers)
        self._peers_changed.set()
        self._peers_changed.clear()


async def _first_failure(*work: Coroutine[Any, Any, Never]) -> None:
    """Run side by side until one fails, and raise what it raised.

    Not a TaskGroup: when it is cancelled just as a part of it fails, it raises the failure and the cancellation is
    lost (CPython before 3.13), so that a node told to stop as its peers hang up would dial on.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    done.pop().result()
