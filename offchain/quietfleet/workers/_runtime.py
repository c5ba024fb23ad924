"""The shared runtime of every worker that talks: a host with sessions, an epoch's membership, an agent."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from quietfleet.chain.types import Change, ConfigurationChanged, WorkerChanged
from quietfleet.clock import Clock
from quietfleet.crypto import PrivateKey
from quietfleet.errors import KeystoreError, MixnetError, PowTargetMissed, UnsendableError
from quietfleet.session import CardSeen, Closed, Event, Ignored, Messenger, Transmission, VersionRetired
from quietfleet.settings import Settings
from quietfleet.whisper import BLOOM_BITS, Envelope, Rules
from quietfleet.workers._host import Host, log
from quietfleet.workers._keys import Keyring, Schedule
from quietfleet.workers._membership import Membership
from quietfleet.workers.messages import make_codec

ANNOUNCE_EVERY = 3.0
NONCES = 1 << 40  # room for the random start of mining
PEERS_KEY = "its key was replaced"


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
    expects_large: Callable[[str, str, int], bool] | None = None  # peer, kind, size

    def __init__(self, settings: Settings, identity: PrivateKey, clock: Clock, passphrase: str) -> None:
        super().__init__(settings, identity, clock)
        self.keyring = Keyring(settings, identity, passphrase, self.replica)
        self.schedule = Schedule(self)
        self.messenger = self.make_messenger(self.domain)
        self._bloom = b""
        self.membership = Membership(self)
        self._announce_due = 0.0
        self._to_send = asyncio.Event()

    def make_messenger(self, domain: bytes) -> Messenger:
        """Build the session layer; fault injection overrides this."""
        return Messenger(
            self.keyring,
            self.database,
            make_codec(),
            self.registry,
            self.metrics,
            self.clock,
            self.random,
            domain,
            self.admit,
            admit_large=self.admit_large,
            bloom_bits=self.settings.network.bloom_bits,
        )

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
            elif isinstance(event, Ignored):
                self.metrics.count("envelopes_from_severed")
            else:
                self._react(lambda heard=event: self._hand_over(heard))  # type: ignore[misc]

    def _hand_over(self, event: Event) -> None:
        if not self.membership.on_event(event):
            self.agent.on_event(event)

    def _react(self, reaction: Callable[[], None]) -> None:
        """Run one reaction; if it fails, it alone is undone: what the session layer has read stays read."""
        try:
            with self.database.transaction():
                reaction()
        except Exception:  # noqa: BLE001 - whatever a message makes an agent do, the worker goes on
            log.exception("a reaction failed and was undone")
            self.metrics.count("steps_failed")
            self.recover()

    def sever(self, peer: str, reason: str) -> None:
        """End everything with a peer and tell the agent."""
        events = self.messenger.sever(peer, reason)
        if events:
            self.note("severed", peer=peer, reason=reason)
        self.feed(events)

    def on_changes(self, changes: Sequence[Change]) -> None:
        super().on_changes(changes)
        for change in changes:
            if isinstance(change, ConfigurationChanged):
                self.adopt()
            if isinstance(change, WorkerChanged) and change.lost:
                self._lost(change.id)
            if isinstance(change, WorkerChanged) and _rekeyed(change):
                self._rekeyed(change.id)
            self.agent.on_change(change)

    def adopt(self) -> None:
        """Follow the configuration the replica has."""
        latest, previous = self.replica.configuration()
        if latest is not None and (
            self.messenger.epochs.latest is None or latest.version != self.messenger.epochs.latest.version
        ):
            self.note("configuration", version=latest.version, active_from=latest.active_from)
        self.feed(self.messenger.adopt(latest, previous))

    def on_beat(self) -> None:
        now = self.clock.now()
        if now >= self._announce_due:
            self._announce_due = now + ANNOUNCE_EVERY
            self.messenger.announce()
        self._react(lambda: self.feed(self.messenger.tick()))
        if self.messenger.wanted() != self._bloom:
            self._apply_rules()
        self._react(self.membership.tick)
        self._react(self.schedule.tick)
        self._react(self.agent.on_tick)

    async def after(self) -> None:
        """Let the sender know that there may be something to send."""
        self._to_send.set()
        await self.agent.after()

    def recover(self) -> None:
        self.messenger.reload()
        self.membership.recover()
        self.agent.recover()

    def status(self) -> dict[str, Any]:
        sessions = [
            {"peer": s.peer, "purpose": s.purpose.split(":")[0], "generations": sorted(s.generations)}
            for s in self.messenger.table.sessions.values()
        ]
        key = {"epoch": self.keyring.epoch, "here": self.keyring.present is not None, "next": self.keyring.waiting}
        return {**super().status(), "key": key, "sessions": sessions, **self.agent.status()}

    async def _hear(self) -> None:
        async for envelope in self.node.envelopes():
            await self.guarded(lambda heard=envelope: self._receive(heard))  # type: ignore[misc]

    def _receive(self, envelope: Envelope) -> None:
        self.feed(self.messenger.receive(envelope.topic, envelope.data))

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what is due, one message at a time: sealed, mined, published, then the next is asked for."""
        while (transmission := self.messenger.next_transmission()) is not None:
            await self._publish(transmission)

    async def _publish(self, transmission: Transmission) -> None:
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
            await self.node.publish(envelope)
        except (MixnetError, PowTargetMissed, UnsendableError) as error:
            self.metrics.count("envelopes_unsent")
            log.warning("an envelope was not sent: %s", error)

    def _lost(self, worker: str) -> None:
        if worker != self.id:
            self.sever(worker, "switched off on chain")
            return
        self.note("switched-off", worker=self.id)
        for peer in self.messenger.peers():
            self.sever(peer, "we were switched off on chain")

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
        for peer in sorted({event.peer for event in events if isinstance(event, Closed)}):
            self.note("severed", peer=peer, reason=reason)
        self.feed(events)

    def _reconcile(self) -> None:
        """At start: follow the configuration, and end sessions the chain no longer allows."""
        self._check_key()
        self.adopt()
        self._disown("a key was replaced while we were down")
        for peer in self.messenger.peers():
            if not self.replica.can_cooperate(self.id, peer):
                self.sever(peer, "switched off on chain while we were down")


def _rekeyed(change: WorkerChanged) -> bool:
    return change.before is not None and change.after is not None and change.before.key != change.after.key
