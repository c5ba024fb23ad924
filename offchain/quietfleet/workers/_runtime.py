"""The shared runtime of every worker that talks: a host with sessions, an epoch's membership, an agent."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import dropwhile
from typing import Any, Protocol

import msgspec

from quietfleet.chain.types import Change, ConfigurationChanged, Kind, WorkerChanged
from quietfleet.clock import Clock, waits
from quietfleet.crypto import PrivateKey
from quietfleet.errors import (
    ErasureDelayed,
    KeystoreError,
    MixnetError,
    PowTargetMissed,
    SharedStoreError,
    UnsendableError,
)
from quietfleet.session import (
    CardSeen,
    Closed,
    Event,
    Expired,
    Ignored,
    LargeEnded,
    Messenger,
    Transmission,
    VersionRetired,
)
from quietfleet.settings import Settings
from quietfleet.storage import Rows, fault_of
from quietfleet.whisper import BLOOM_BITS, Envelope, Rules
from quietfleet.workers._disk import AGAIN
from quietfleet.workers._host import Host, log
from quietfleet.workers._keys import Keyring, Schedule
from quietfleet.workers._mark import Mark
from quietfleet.workers._membership import Membership
from quietfleet.workers._oracles import Oracles
from quietfleet.workers._trail import Trail
from quietfleet.workers._under_way import UnderWay
from quietfleet.workers.messages import make_codec

ANNOUNCE_EVERY = 3.0
TOGETHER = 16  # envelopes, at most, whose effects are committed at once
NONCES = 1 << 40  # room for the random start of mining
WIPE_EVERY = 1.0  # seconds between two times the log is emptied of erased rows
PEERS_KEY = "its key was replaced"
SET_BACK = "our state was set back"
SILENT = 30.0  # seconds without a word from us after which peers may have given our sessions up


class Agent(Protocol):
    """What one kind of worker does: its reactions, each run inside a transaction, each safe to run twice."""

    def admit(self, peer: str, purpose: str) -> bool:
        """Decide whether a worker that calls may open a session."""
        ...

    def on_event(self, event: Event) -> None:
        """React to the session layer."""
        ...

    def on_change(self, change: Change) -> None:
        """React to the chain."""
        ...

    def on_tick(self) -> None:
        """React to time passing."""
        ...

    async def after(self) -> None:
        """Start what must wait for a commit."""
        ...

    def recover(self) -> None:
        """Forget what memory says is under way: a rollback has undone what it stood for."""
        ...

    def status(self) -> dict[str, Any]:
        """Add to `quietfleet status`."""
        ...


class Runtime(Host):
    """A worker with sessions."""

    agent: Agent
    heed: Callable[[str, Any], None]  # what the agent does with a word referred to it
    expects_large: Callable[[str, str, int], bool] | None = None  # peer, kind, size
    settle: Callable[[], None] | None = None  # answers what was put off while envelopes were taken in
    unanswered: list[Any] | None = None  # what was: from their first to their last, and None otherwise
    veiled = False  # whether it writes down peers by pseudonyms of the epoch alone

    def __init__(self, settings: Settings, identity: PrivateKey, clock: Clock, passphrase: str) -> None:
        super().__init__(settings, identity, clock)
        self.keyring = Keyring(settings, identity, passphrase, self.replica)
        self.schedule = Schedule(self)
        self.trail = Trail(self)
        self.rows = self.open_rows()
        self.oracles = Oracles(self)
        self.messenger = self.make_messenger(self.domain)
        self.mark = Mark(self.folder / "worker.mark", self.database) if self.rows is self.database else None
        self._bloom = b""
        self.membership = Membership(self)
        self._announce_due = 0.0
        self._to_send = asyncio.Event()
        self.closing: list[Callable[[], None]] = []  # what else the agent has open
        self._under_way = UnderWay()
        self._erased = False  # and may still lie in the database's log
        self._wipe_due = 0.0

    def make_messenger(self, domain: bytes) -> Messenger:
        """Build the session layer; fault injection overrides this."""
        return Messenger(
            self.keyring,
            self.rows,
            make_codec(),
            self.registry,
            self.metrics,
            self.clock,
            self.random,
            domain,
            self.admit,
            admit_large=self.admit_large,
            bloom_bits=self.settings.network.bloom_bits,
            mine=self.mine,
            decided=self.trail.decided,
            oracles=self.oracles.listed,
        )

    def open_rows(self) -> Rows:
        """Open where sessions are kept: in this worker's own database, unless replicas share them."""
        return self.database

    @property
    def is_oracle(self) -> bool:
        """Whether the chain holds this worker as an active oracle, named by a configuration or not."""
        state = self.replica.worker(self.id)
        return state is not None and state.kind is Kind.ORACLE and self.registry.usable(self.id)

    @property
    def leads(self) -> bool:
        """Whether this process does what only one may do; without replicas, it does everything."""
        return True

    def mine(self, _peer: str) -> bool:
        """Whether a peer is this process's; without replicas, everybody is."""
        return True

    def tell(self, peer: str, body: msgspec.Struct) -> None:
        """Say something that `peer` is to acknowledge."""
        self.messenger.notify(peer, body)

    def refer(self, peer: str, body: Any) -> None:
        """Have a peer's word acted on by the process that leads."""
        self.heed(peer, body)

    def shaped(self, rules: Rules) -> Rules:
        """A light worker wants only what lies in its own blooms, which its cards carry (EIP-627)."""
        self._bloom = self.messenger.wanted()
        if self.settings.network.bloom_bits == BLOOM_BITS:
            return rules
        previous = replace(rules.previous, bloom=self._bloom) if rules.previous else None
        return replace(rules, bloom=self._bloom, previous=previous)

    def admit(self, peer: str, purpose: str) -> bool:
        """Ask the agent whether a caller may open a session."""
        return self.agent.admit(peer, purpose)

    def admit_large(self, peer: str, kind: str, size: int) -> bool:
        """Take large payloads only where something waits for one."""
        return self.expects_large is not None and self.expects_large(peer, kind, size)

    @property
    def oracle(self) -> str | None:
        """The oracle of the configuration in force."""
        configuration = self.messenger.epochs.in_force(self.clock.now())
        return configuration.oracle if configuration else None

    def parts(self) -> list[Any]:
        self._reconcile()
        return [*super().parts(), self._hear(), self._send()]

    def feed(self, events: list[Event]) -> None:
        """Hand events to the membership and the agent."""
        for event in events:
            if isinstance(event, VersionRetired):
                self.note("epoch-retired", version=event.version)
                self._disown(PEERS_KEY)  # a card of that version stands no more by itself
            elif isinstance(event, CardSeen):
                self.membership.card_seen(event.card)
                self.oracles.card_seen(event.card)
            elif isinstance(event, Ignored):
                self.metrics.count("envelopes_from_severed")
            else:
                self.react(lambda heard=event: self._hand_over(heard))  # type: ignore[misc]

    def _hand_over(self, event: Event) -> None:
        if not self.membership.on_event(event):
            self.agent.on_event(event)

    def react(self, reaction: Callable[[], None]) -> bool:
        """Run one reaction; if it fails, it alone is undone: what the session layer has read stays read."""
        try:
            with self.transaction():
                reaction()
        except SharedStoreError:
            raise  # nothing of this step can be kept
        except Exception as error:
            if fault_of(error) is not None:
                raise  # nor can anything else of it
            log.exception("a reaction failed and was undone")
            self.metrics.count("steps_failed")
            self.recover()
            return False
        return True

    def sever(self, peer: str, reason: str) -> None:
        """End everything with a peer and tell the agent."""
        self.sever_all({peer: reason})

    def sever_all(self, reasons: Mapping[str, str]) -> None:
        """End everything with these peers at once and tell the agent; the chain switches many off whom we never met."""
        if not reasons:
            return
        self.node.withdraw(self._under_way.take(reasons))
        known = self.messenger.known()
        ours = {peer: reason for peer, reason in reasons.items() if peer in known}
        if not ours:
            return
        self._erased = True
        events = self.messenger.sever_all(ours)
        self._note_severed(events, ours)
        self.feed(events)

    def _note_severed(self, events: Sequence[Event], reasons: Mapping[str, str]) -> None:
        ended = dict.fromkeys(event.peer for event in events if isinstance(event, Closed | Expired | LargeEnded))
        self.note_all("severed", [{"peer": self.trail.parted(peer), "reason": reasons[peer]} for peer in ended])

    def on_changes(self, changes: Sequence[Change]) -> None:
        """React to the chain: first everybody who parted is severed, before anything else is done about anything."""
        self.sever_all(self._parted(changes))
        super().on_changes(changes)
        for change in changes:
            if isinstance(change, ConfigurationChanged):
                self.adopt()
            if isinstance(change, WorkerChanged) and change.parts and change.id == self.id:
                self._part(change)
            if isinstance(change, WorkerChanged) and _rekeyed(change):
                self._rekeyed(change.id)
            self.agent.on_change(change)
            if isinstance(change, WorkerChanged) and change.parts and change.id == self.id:
                self._hush()

    def adopt(self) -> None:
        """Follow the configuration the replica has."""
        latest, previous = self.replica.configuration()
        if latest is not None and (
            self.messenger.epochs.latest is None or latest.version != self.messenger.epochs.latest.version
        ):
            self.note("configuration", version=latest.version, active_from=latest.active_from)
        self.feed(self.messenger.adopt(latest, previous))

    def on_beat(self) -> None:
        super().on_beat()
        now = self.clock.now()
        if self.disk.missed:
            self.react(self._come_back)
        if not waits(now, self._announce_due, ANNOUNCE_EVERY):
            self._announce_due = now + ANNOUNCE_EVERY
            if self.leads and not self.registry.stopped(self.id):
                self.messenger.announce(unnamed=self.is_oracle)
        self.react(lambda: self.feed(self.messenger.tick()))
        if self.messenger.wanted() != self._bloom:
            self._apply_rules()
        self.react(self.membership.tick)
        self.react(self.oracles.tick)
        if self.leads:  # replicas have one key
            self.react(self.schedule.tick)
        self.react(self.trail.tick)
        self.react(self.agent.on_tick)

    async def after(self) -> None:
        """Let the sender know that there may be something to send."""
        self._to_send.set()
        self._wipe()
        await self.agent.after()

    def close(self) -> None:
        for close in self.closing:
            close()
        with suppress(sqlite3.Error):
            self.trail.flush()
        if self.mark is not None:
            self.mark.close()
        super().close()

    def recover(self) -> None:
        self.messenger.reload()
        self.agent.recover()

    def status(self) -> dict[str, Any]:
        sessions = [
            {"peer": self.trail.who(s.peer), "purpose": s.purpose.split(":")[0], "generations": sorted(s.generations)}
            for s in self.messenger.table.sessions.values()
        ]
        key = {"epoch": self.keyring.epoch, "here": self.keyring.present is not None, "next": self.keyring.waiting}
        return {**super().status(), "key": key, "sessions": sessions, **self.agent.status()}

    async def _hear(self) -> None:
        arriving = self.node.envelopes()
        async for envelope in arriving:
            await self.hear([envelope, *arriving.take(TOGETHER - 1)])

    async def hear(self, envelopes: Sequence[Envelope]) -> None:
        """Take in what came, in its order and in one transaction; for what is others' there need not be one."""
        ours = list(dropwhile(self.overhears, envelopes))
        if ours:
            await self.guarded(lambda: self._receive(ours))

    def overhears(self, envelope: Envelope) -> bool:
        """Whether an envelope is nothing to us."""
        return self.messenger.overhears(envelope.topic, envelope.data)

    def _receive(self, envelopes: Sequence[Envelope]) -> None:
        """Take in one after the other: what makes one fail undoes that one alone."""
        self.unanswered = []
        try:
            for envelope in envelopes:
                self.react(lambda heard=envelope: self.feed(self.messenger.receive(heard.topic, heard.data)))  # type: ignore[misc]
            if self.settle is not None:
                self.settle()
        finally:
            self.unanswered = None

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            sent = False
            with self.disk.borne():
                await self.flush()
                sent = True
            if not sent:
                await asyncio.sleep(AGAIN)
                self._to_send.set()

    async def flush(self) -> None:
        """Send what is due, one message at a time: sealed, mined, published, then the next is asked for."""
        while (transmission := self.messenger.next_transmission()) is not None:
            await self._publish(transmission)

    async def _publish(self, transmission: Transmission) -> None:
        if self.mark is not None:
            self.mark.note()
        configuration = self.messenger.epochs.latest
        if configuration is None:
            return
        previous = self.messenger.epochs.previous
        work = max(configuration.min_pow, previous.min_pow if previous else 0.0)
        ttl = min(self.settings.network.ttl, configuration.max_ttl)
        now = int(self.clock.now())
        draft = Envelope(now + ttl, ttl, transmission.topic, transmission.data, secrets.randbelow(NONCES))
        try:
            envelope = await self.presence.miner.work(draft, work, self.settings.network.mining_budget)
            if not self.messenger.stands(transmission):  # an owner's switch came while it was worked on
                self.metrics.count("envelopes_withheld")
                return
            self._under_way.note(transmission.peer, envelope, now)
            await self.node.publish(envelope)
        except (MixnetError, PowTargetMissed, UnsendableError) as error:
            self.metrics.count("envelopes_unsent")
            log.warning("an envelope was not sent: %s", error)

    def wipe_soon(self) -> None:
        """Have what was erased leave the database's log, too."""
        self._erased = True

    def _wipe(self) -> None:
        """Empty the database's log of what was erased, outside of any transaction; a reader may delay it."""
        now = self.clock.now()
        if not self._erased or self._wipe_due - WIPE_EVERY <= now < self._wipe_due:
            return
        self._wipe_due = now + WIPE_EVERY
        with suppress(ErasureDelayed):
            self.database.truncate_log()
            self._erased = False

    def _parted(self, changes: Sequence[Change]) -> dict[str, str]:
        """Return who of the others was lost or handed over, each with the first reason for it."""
        parted: dict[str, str] = {}
        for change in changes:
            if isinstance(change, WorkerChanged) and change.parts and change.id != self.id:
                parted.setdefault(change.id, _reason(change))
        return parted

    def _part(self, change: WorkerChanged) -> None:
        """End all our sessions: we were lost or handed over."""
        reason = _reason(change)
        self.node.withdraw(self._under_way.take_all())
        self.note("switched-off" if change.lost else "handed-over", reason=reason)
        self.sever_all(dict.fromkeys(sorted(self.messenger.peers()), f"we were {reason}"))
        if change.lost:
            self.messenger.fall_silent()

    def _hush(self) -> None:
        """Leave unsaid what the agent had to say as its sessions ended: nothing from before may come out later."""
        self.messenger.sever_all(dict.fromkeys(self.messenger.peers() - self.messenger.table.peers(), ""))

    def _rekeyed(self, worker: str) -> None:
        """A worker has another key on chain: what stands on the one before ends, and is set up anew under this one."""
        if worker != self.id:
            self._disown(PEERS_KEY)
            return
        self.note("key-replaced", epoch=self.keyring.epoch)
        self.schedule.replaced()
        self._check_key()
        self.adopt()
        self._disown("our key was replaced")

    def _check_key(self) -> None:
        """Without its present key a worker goes on following the chain, and speaks to nobody."""
        try:
            self.keyring.require_present()
        except KeystoreError as error:
            self.note("key-missing", reason=str(error))

    def _disown(self, reason: str) -> None:
        events = self.messenger.disown(self.registry.has_key, reason)
        self._erased |= bool(events)
        closed = sorted({event.peer for event in events if isinstance(event, Closed)})
        self.node.withdraw(self._under_way.take(closed))
        self.note_all("severed", [{"peer": self.trail.parted(peer), "reason": reason} for peer in closed])
        self.feed(events)

    def _reconcile(self) -> None:
        """At start: follow the configuration, and end sessions that must not go on or are no longer allowed."""
        if self.mark is not None and self.mark.behind:
            self._begin_anew(self.mark)
        self._check_key()
        self.adopt()
        self._disown("a key was replaced while we were down")
        gone = [peer for peer in sorted(self.messenger.peers()) if not self.replica.can_cooperate(self.id, peer)]
        self.sever_all(dict.fromkeys(gone, "switched off on chain while we were down"))

    def _come_back(self) -> None:
        """After a disk that took nothing for so long that peers have let go of us: meet them anew."""
        if self.disk.missed > SILENT:
            self.feed(self.messenger.abandon("our disk took nothing for too long"))
        self.disk.missed = 0.0

    def _begin_anew(self, mark: Mark) -> None:
        """Our database is older than what we said: end all sessions, lest a key of theirs be used again."""
        with self.transaction():
            events = self.messenger.abandon(SET_BACK)
            self.note("state-set-back", sessions=len(events))
            mark.catch_up()
            self.feed(events)
        log.warning("the database was set back to an older state; every session begins anew")


def _rekeyed(change: WorkerChanged) -> bool:
    return change.before is not None and change.after is not None and change.before.key != change.after.key


def _reason(change: WorkerChanged) -> str:
    after = change.after
    if after is None:
        return "taken off the chain by a reorg"
    if after.retired:
        return "retired"
    if not change.lost:
        return "handed over"
    return "suspended by the service" if after.suspended else "switched off on chain"
