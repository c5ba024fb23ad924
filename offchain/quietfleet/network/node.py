"""The node every worker and relay runs inside itself: links to peers, the flood over them, and the stems below it.

Relays listen, pass on everyone's envelopes, and are where floods start. Workers dial two relays or more and are leaves:
they take the flood and hand their own envelopes to a stem, in which they cannot be told from cover traffic.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Never

from quietfleet.clock import Clock
from quietfleet.devp2p import Reason
from quietfleet.errors import ExpelledError, FrameError, LinkError, NetworkError, WireError
from quietfleet.metrics import Metrics
from quietfleet.network.address import Address, Enode
from quietfleet.network.backoff import Backoff
from quietfleet.network.directory import Directory, Nobody, key_address
from quietfleet.network.flood import Flood
from quietfleet.network.link import SHH, Link, LinkLayer, Listener, Message
from quietfleet.network.peer import NOTHING, Peer
from quietfleet.network.service import Service
from quietfleet.network.shedding import worst
from quietfleet.network.subscription import Subscription
from quietfleet.network.tuning import Tuning
from quietfleet.network.wire import BLOOM_FILTER, MESSAGES, POW_REQUIREMENT, Status, decode_bloom, decode_pow, iter_list
from quietfleet.whisper import DropReason, Envelope, Rules

log = logging.getLogger("quietfleet")

_EVENTS: Final = {FrameError: "bad_frame", WireError: "bad_message", ExpelledError: "expelled"}
_REASONS: Final = {WireError: Reason.SUBPROTOCOL_ERROR, ExpelledError: Reason.USELESS_PEER}
_BREATH: Final = 64  # envelopes judged before others get their turn
_KIB: Final = 1024
JUNK: Final = 10.0  # what a stranger's worthless envelope costs of its pace, a good one or a repeated one costing 1
_WORTHLESS: Final = frozenset(DropReason) - {DropReason.DUPLICATE, DropReason.POOL_FULL}


class EmbeddedNode:
    """A `Network` of our own; `rng` is the system's in a running fleet, as its delays must not be guessed.

    `peers` are enode URLs to stay connected to. `relays` says whether it carries others' envelopes: as a rule those
    that listen do. `services` speak what is ours alone on the wire, onion packets among it.
    """

    def __init__(
        self,
        *,
        listen: str | None,
        peers: Sequence[str],
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
        links: LinkLayer,
        tuning: Tuning | None = None,
        directory: Directory | None = None,
        relays: bool | None = None,
    ) -> None:
        self._listen = Address.parse(listen) if listen else None
        self._named = tuple(Enode.parse(peer) for peer in peers)
        self._held: Enode | None = None
        self._metrics, self._clock, self._rng, self._tuning = metrics, clock, rng, tuning or Tuning()
        self._links, self._directory = links, directory or Nobody()
        self.relays = bool(listen) if relays is None else relays
        self._flood = Flood(rules, metrics, clock, rng, self._tuning, relays=self.relays)
        self._services: list[Service] = []
        self._listener: Listener | None = None
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialling: dict[Enode, asyncio.Task[None]] = {}
        self._by_id: dict[bytes, Peer] = {}
        self._inbound: dict[Peer, asyncio.Task[None]] = {}
        self._peers_changed = asyncio.Event()
        self.send: Callable[[Envelope], None] = self._flood.publish
        self.recall: Callable[[Mapping[bytes, float]], None] = self._flood.withdraw

    @property
    def peers(self) -> int:
        return len(self._flood.peers)

    @property
    def connected_peers(self) -> tuple[Peer, ...]:
        """Who is connected now."""
        return self._flood.peers

    @property
    def node_id(self) -> bytes:
        """The 64-byte public key others know this node by."""
        return self._links.node_id

    @property
    def address(self) -> Address | None:
        """Where it listens, once started; None for a node that only dials."""
        return self._listener.address if self._listener else None

    @property
    def enode(self) -> Enode | None:
        """What others dial it by, once started; None for a node that only dials."""
        return Enode(self.node_id, self.address) if self.address else None

    @property
    def max_inbound(self) -> int:
        """How many peers may have dialled it at a time."""
        return self._tuning.max_inbound

    @property
    def flood(self) -> Flood:
        """The flood its services give envelopes to."""
        return self._flood

    def add(self, service: Service) -> None:
        """Have a service take part; before `start`."""
        self._services.append(service)

    async def start(self) -> None:
        if self._listen:
            self._listener = await self._links.listen(self._listen, self._welcome)
        self._started = True
        self._dial_wanted()
        self._spawn(self._keep_sweeping())
        for service in self._services:
            self._spawn(self._keep_running(service))

    async def stop(self) -> None:
        self._started = False
        if self._listener:
            self._listener.close()
            self._listener = None
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._flood.unsubscribe_all()

    async def publish(self, envelope: Envelope) -> None:
        self.send(envelope)

    def withdraw(self, envelopes: Mapping[bytes, float]) -> None:
        self.recall(envelopes)

    def envelopes(self) -> Subscription:
        return self._flood.subscribe()

    def set_rules(self, rules: Rules) -> None:
        self._flood.set_rules(rules)

    def keep_connected(self, enodes: Iterable[Enode]) -> None:
        """Stay connected to these nodes from now on, and no longer to those named before."""
        self._named = tuple(enodes)
        self._dial_wanted()

    def hold(self, enode: Enode) -> None:
        """Stay connected to this one node besides, and no longer to the one held before."""
        self._held = enode
        self._dial_wanted()

    async def connected(self, count: int = 1) -> None:
        """Wait until at least this many peers are connected."""
        while self.peers < count:
            await self._peers_changed.wait()

    def peer(self, node_id: bytes) -> Peer | None:
        """Return the peer with this id, if it is connected."""
        return self._by_id.get(node_id)

    async def reach(self, enode: Enode) -> Peer:
        """Return the peer at `enode`, dialling it for onion packets alone if need be; raise LinkError."""
        if not self._started:
            raise LinkError("we have stopped")
        known = self._by_id.get(enode.node_id)
        if known:
            return known
        if enode.node_id == self.node_id:
            raise LinkError("a packet for ourselves")
        if sum(peer.quiet for peer in self._flood.peers) >= self._tuning.max_dialled:
            raise LinkError("too many links for onion packets")
        peer = Peer(await self._links.dial(enode), self._tuning, registered=True, quiet=True)
        try:
            await self._join(peer)
        except asyncio.CancelledError:
            await peer.link.close(Reason.QUITTING)
            raise
        except NetworkError:
            await peer.link.close()
            if enode.node_id in self._by_id:  # it came to us meanwhile
                return self._by_id[enode.node_id]
            raise
        self._spawn(self._converse(peer))
        return peer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _dial_wanted(self) -> None:
        if not self._started:
            return
        wanted = {enode for enode in (*self._named, self._held) if enode and enode.node_id != self.node_id}
        for enode in self._dialling.keys() - wanted:
            self._dialling.pop(enode).cancel()
        for enode in sorted(wanted - self._dialling.keys()):
            self._dialling[enode] = self._spawn(self._keep_dialling(enode))

    async def _keep_sweeping(self) -> Never:
        while True:
            await asyncio.sleep(self._tuning.sweep_every)
            self._sweep(self._flood, self._flood.sweep)
            for peer in self._flood.peers:
                peer.registered = self._is_relay(peer.node_id)
            for service in self._services:
                self._sweep(service, partial(service.sweep, self._clock.now()))

    def _sweep(self, part: object, chore: Callable[[], None]) -> None:
        try:
            chore()
        except Exception as error:  # noqa: BLE001 -- of any kind
            self._stumbled(part, error)

    async def _keep_running(self, service: Service) -> None:
        """Run a service to its end; a bug in one must not end it for good, nor the others."""
        while True:
            try:
                return await service.run()
            except Exception as error:  # noqa: BLE001 -- of any kind
                self._stumbled(service, error)
            await asyncio.sleep(self._tuning.sweep_every)

    def _stumbled(self, part: object, error: Exception) -> None:
        log.error("%s failed and goes on", type(part).__name__, exc_info=error)
        self._metrics.count("network_service_failures", service=type(part).__name__)

    async def _keep_dialling(self, enode: Enode) -> Never:
        """Stay connected to one node, whoever dialled; a dead one is tried for ever, ever more rarely."""
        backoff = Backoff(self._rng, self._tuning.first_pause, self._tuning.longest_pause)
        while True:
            began = asyncio.get_running_loop().time()
            if await self._connected_otherwise(enode.node_id):
                await asyncio.sleep(backoff.pause_after(asyncio.get_running_loop().time() - began))
                continue
            try:
                link = await self._links.dial(enode)
            except LinkError:
                self._note("unreachable")
            else:  # a task of its own: a bug there must not end the dialling
                serving = self._spawn(self._serve(Peer(link, self._tuning, registered=self._is_relay(link.peer))))
                try:
                    await asyncio.wait([serving])
                except asyncio.CancelledError:  # it is not wanted any more
                    serving.cancel()
                    raise
            await asyncio.sleep(backoff.pause_after(asyncio.get_running_loop().time() - began))

    async def _connected_otherwise(self, node_id: bytes) -> bool:
        """Wait while there is a link for the flood to this node, by another address or dialled by it; tell if so.

        Two diallers of one node would else end each other's links for ever.
        """
        known = self._by_id.get(node_id)
        if known is None or known.for_packets:
            return False
        while self._by_id.get(node_id) is known:
            await self._peers_changed.wait()
        return True

    def _welcome(self, link: Link) -> None:
        """Take a peer that dialled us; when there is no room, a registered relay displaces the worst stranger."""
        peer = Peer(link, self._tuning, registered=self._is_relay(link.peer))
        if len(self._inbound) >= self._tuning.max_inbound and not self._shed(peer):
            self._note("refused")
            self._spawn(link.close(Reason.TOO_MANY_PEERS))
        else:
            self._inbound[peer] = task = self._spawn(self._serve(peer))
            task.add_done_callback(lambda _: self._inbound.pop(peer, None))

    def _shed(self, newcomer: Peer) -> bool:
        """Make room by closing the worst stranger; tell whether there was one worse than a newcomer."""
        victim = worst(self._inbound, newcomer, asyncio.get_running_loop().time())
        if victim is None:
            return False
        self._inbound.pop(victim).cancel()
        self._spawn(victim.link.close(Reason.TOO_MANY_PEERS))  # its task may not have begun, and then never will
        self._note("shed")
        return True

    async def _serve(self, peer: Peer) -> None:
        """Keep one peer until its link fails, it breaks the protocol, or we stop."""
        try:
            await self._join(peer)
        except NetworkError as error:
            self._note(_EVENTS.get(type(error), "lost"))
            await peer.link.close(_REASONS.get(type(error), Reason.REQUESTED))
        except asyncio.CancelledError:
            await peer.link.close(Reason.QUITTING)
            raise
        else:
            await self._converse(peer)

    async def _join(self, peer: Peer) -> None:
        if peer.node_id == self.node_id:
            raise LinkError("we dialled ourselves")
        ours = self._flood.status()
        await peer.greet(Status(ours.min_pow, NOTHING) if peer.quiet else ours)
        other = self._by_id.get(peer.node_id)
        if other and not self._prefers(peer, other):
            raise LinkError(f"{peer.link.remote} is connected already")
        if other:
            self._spawn(other.link.close(Reason.ALREADY_CONNECTED))
        self._by_id[peer.node_id] = peer
        self._flood.join(peer, ours)
        for service in self._services if peer.stems else ():
            service.joined(peer)
        self._count_peers()

    def _prefers(self, newer: Peer, older: Peer) -> bool:
        """Of two links to one node keep both sides' same choice.

        Of two that one side dialled the newer; else the one that carries envelopes; else what the greater id dialled.
        """
        if newer.link.inbound == older.link.inbound:
            return True
        if newer.for_packets != older.for_packets:
            return older.for_packets
        return newer.link.inbound == (newer.node_id > self.node_id)

    async def _converse(self, peer: Peer) -> None:
        reason = Reason.REQUESTED
        try:
            await _first_failure(
                peer.write(self._flood.look_up, self._sent, self._clock.now),
                self._hear(peer),
            )
        except NetworkError as error:
            self._note(_EVENTS.get(type(error), "lost"))
            reason = _REASONS.get(type(error), Reason.REQUESTED)
        except asyncio.CancelledError:
            reason = Reason.QUITTING
            raise
        finally:
            self._leave(peer)
            await peer.link.close(reason)

    def _leave(self, peer: Peer) -> None:
        self._flood.leave(peer)
        if self._by_id.get(peer.node_id) is peer:
            del self._by_id[peer.node_id]
        for service in self._services if peer.stems else ():
            service.left(peer)
        self._count_peers()

    async def _hear(self, peer: Peer) -> Never:
        while True:
            message = await peer.link.receive()
            try:
                await self._handle(peer, message)
            except WireError:
                self._blame(peer)
            if not peer.registered:
                await self._throttle(peer, 1 + len(message.payload) / _KIB)

    async def _handle(self, peer: Peer, message: Message) -> None:
        """React to one message; codes we do not know are ignored, as EIP-627 asks."""
        if message.capability != SHH.name:
            for service in self._services:
                if message.code in service.codes:
                    await service.handle(peer, message.code, message.payload)
        elif message.code == MESSAGES:
            await self._take_bundle(peer, message.payload)
        elif message.code == POW_REQUIREMENT:
            self._require(peer, Status(decode_pow(message.payload), peer.wanted.bloom))
        elif message.code == BLOOM_FILTER:
            self._require(peer, Status(peer.wanted.min_pow, decode_bloom(message.payload)))

    async def _take_bundle(self, peer: Peer, payload: bytes) -> None:
        for count, raw in enumerate(iter_list(payload), 1):
            reason = self._flood.take_in(raw, peer)
            if reason is DropReason.MALFORMED:
                self._blame(peer)
            if not peer.registered:
                worthless = reason in _WORTHLESS
                await self._throttle(peer, JUNK if worthless else 1.0, new=reason is None, worthless=worthless)
            if count % _BREATH == 0:
                await asyncio.sleep(0)

    async def _throttle(self, peer: Peer, cost: float, *, new: bool = False, worthless: bool = False) -> None:
        """Read a stranger no faster than its quotas allow; a leaf chose itself whom to hear."""
        if not self.relays:
            return
        pause = peer.charge(asyncio.get_running_loop().time(), cost, new=new, worthless=worthless)
        if pause > 0:
            self._metrics.count("network_throttled")
            await asyncio.sleep(pause)

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

    def _is_relay(self, node_id: bytes) -> bool:
        """Ask the chain; whom it cannot be asked about is a stranger."""
        try:
            return self._directory.owner_of(key_address(node_id)) is not None
        except Exception as error:  # noqa: BLE001 -- of any kind: no loop that asks may end for it
            self._stumbled(self._directory, error)
            return False

    def _sent(self, count: int) -> None:
        self._metrics.count("network_sent", count)

    def _note(self, event: str) -> None:
        self._metrics.count("network_links", event=event)
        self._peers_changed.set()
        self._peers_changed.clear()

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
