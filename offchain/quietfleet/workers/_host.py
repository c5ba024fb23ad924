"""What every worker is made of below sessions: its state on disk, its view of the chain, its place in the network.

A host starts, follows the chain, keeps the network's rules in step with the configuration, shows its status, and stops
cleanly on SIGTERM or SIGINT. Whatever state a crash leaves is a committed one: every change is a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from functools import partial
from typing import Any

from quietfleet.chain.deployment import load_deployment
from quietfleet.chain.endpoints import Endpoints
from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.types import BootstrapChanged, Change, Configuration, ConfigurationChanged
from quietfleet.chain.watch import Watch
from quietfleet.clock import Clock, waits
from quietfleet.crypto import PrivateKey
from quietfleet.errors import SettingsError
from quietfleet.metrics import Metrics
from quietfleet.settings import Settings
from quietfleet.storage import AuditLog, Database
from quietfleet.whisper import Rules
from quietfleet.workers._disk import AGAIN, Disk
from quietfleet.workers._network import entries, make_presence
from quietfleet.workers._sight import Sight
from quietfleet.workers._view import View
from quietfleet.workers.files import write_private

BEAT = 0.2  # seconds between two looks at the clock
STATUS_EVERY = 1.0

log = logging.getLogger("quietfleet")


class Registry:
    """The replica as workers consult it: closed when the newest block is too old to be trusted."""

    def __init__(self, replica: Replica, clock: Clock, max_age: float, confirmations: int) -> None:
        self._replica = replica
        self._clock = clock
        self._max_age = max_age
        self._confirmations = confirmations

    @property
    def stale(self) -> bool:
        """Whether the newest block known is older than the limit."""
        return self._replica.is_stale(self._clock.now(), self._max_age)

    def can_cooperate(self, a: str, b: str) -> bool:
        """Tell whether the chain lets these two work together now; no, when we cannot know."""
        return not self.stale and self._replica.can_cooperate(a, b, self._confirmations)

    def speaks_for(self, worker: str, key: str) -> bool:
        """Tell whether a worker's messages come under the key of this address now; no, when we cannot know."""
        return not self.stale and self.has_key(worker, key)

    def has_key(self, worker: str, key: str) -> bool:
        """Tell whether that is the worker's key on the newest block known, old as it may be."""
        state = self._replica.worker(worker)
        return state is not None and state.key == key

    def usable(self, worker: str) -> bool:
        """Tell whether the chain lets this worker work at all now; no, when we cannot know."""
        return not self.stale and self._replica.usable(worker, self._confirmations)

    def stopped(self, worker: str) -> bool:
        """Tell whether the newest block known, old as it may be, lets this worker do nothing."""
        return not self._replica.usable(worker)


class Host:
    """One worker process; subclasses react to changes, envelopes and beats."""

    def __init__(self, settings: Settings, identity: PrivateKey, clock: Clock) -> None:
        self.settings = settings
        self.identity = identity
        self.id = identity.public.id
        self.clock = clock
        self.monotonic: Callable[[], float] = time.monotonic
        self.data_clock = settings.data_clock(clock)
        self.random = secrets.token_bytes
        os.umask(0o077)  # whatever this process writes is its user's alone
        self.folder = settings.path(settings.worker.state)
        self.database = Database(self.folder / "worker.db")
        self.database.check()
        self.audit = AuditLog(self.database)
        self.metrics = Metrics()
        self.deployment = load_deployment(settings.path(settings.chain.deployment))
        self.replica = Replica(self.database, identity.to_bytes())
        self.registry = Registry(self.replica, clock, settings.chain.max_age, settings.chain.confirmations)
        self.sight = Sight(self)
        self.disk = Disk(self)
        place = self.deployment
        self.domain = place.chain_id.to_bytes(32, "big") + bytes.fromhex(place.service.address[2:])
        self.presence = make_presence(
            settings.network, identity, self.replica, self.database, self.domain, self.metrics, clock
        )
        self.node = self.presence.node
        self.view = View(settings.chain, settings.network, place, self.replica, self.metrics, clock, self.random)
        if self.view.service is not None:
            self.node.add(self.view.service)
        self._stop = asyncio.Event()
        self._status_due = 0.0

    def note(self, kind: str, **detail: Any) -> None:
        """Enter something that happened into the audit trail."""
        self.note_all(kind, [detail])

    def note_all(self, kind: str, details: Sequence[dict[str, Any]]) -> None:
        """Enter things of one kind that happened together, one entry each."""
        self.audit.append_all(kind, details, self.clock.now())
        if log.isEnabledFor(logging.INFO):
            for detail in details:
                log.info("%s %s", kind, json.dumps(detail, default=str))

    async def run(self) -> None:
        """Work until a signal says stop."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        self.note("started", pid=os.getpid())
        self._apply_rules()
        self._meet_relays()
        tasks = [asyncio.create_task(part) for part in self.parts()]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await self.node.stop()
            with contextlib.suppress(sqlite3.Error):  # a damaged file says nothing any more
                self._write_status(running=False)
            self.close()

    def close(self) -> None:
        """Let go of what a stopped worker holds."""
        self.presence.close()
        self.database.close()

    def parts(self) -> list[Any]:
        """The coroutines that make up this worker."""
        return [self._follow(), self._beat()]

    def on_changes(self, changes: Sequence[Change]) -> None:
        """React to the chain; runs inside the transaction that moves the cursor."""
        if any(isinstance(change, ConfigurationChanged) for change in changes):
            self._apply_rules()
        if any(isinstance(change, BootstrapChanged) for change in changes):
            self._meet_relays()

    def on_beat(self) -> None:
        """React to time passing."""
        self.sight.tick()

    async def after(self) -> None:
        """Do what must wait for a commit."""

    def status(self) -> dict[str, Any]:
        """What `quietfleet status` shows."""
        head, configuration = self.replica.head, self.replica.configuration()[0]
        return {
            "name": self.settings.worker.name,
            "id": self.id,
            "pid": os.getpid(),
            "peers": self.node.peers,
            "stem": self.presence.status(),
            "block": head.number if head else None,
            "stale": self.registry.stale,
            **self.sight.status(),
            **self.view.status(),
            "disk": self.disk.words or "fine",
            "configuration": configuration.version if configuration else None,
        }

    async def _follow(self) -> None:
        chain = self.settings.chain
        async with AsyncExitStack() as stack:
            sources, agreeing = await self.view.open(stack)
            endpoints = Endpoints(sources, self.clock, chain.max_age, agreeing=agreeing)
            bell = await stack.enter_async_context(_bell(chain.ws)) if chain.ws else None
            follower = Follower(endpoints, self.replica, self.deployment, effects=self.on_changes)
            watch = Watch(follower, chain.poll, bell, failed=partial(self.view.failed, endpoints))
            self.sight.watch, self.sight.endpoints = watch, endpoints
            while True:
                with self.disk.borne():
                    async for _ in watch:
                        await self.after()
                self.recover()
                await asyncio.sleep(AGAIN)

    async def _beat(self) -> None:
        await self.node.start()
        while True:
            await self.guarded(self.on_beat)
            with self.disk.borne():
                self._show()
            await asyncio.sleep(BEAT)

    async def guarded(self, step: Callable[[], None]) -> bool:
        """Run one step in a transaction; what fails is rolled back, counted, and does not stop the worker."""
        done = self.attempt(step)
        if done:
            self.disk.took()
            with self.disk.borne():
                await self.after()
        return done

    def attempt(self, step: Callable[[], None]) -> bool:
        """Run one step in a transaction; False if it failed."""
        try:
            with self.transaction():
                step()
        except Exception as error:
            if not self.disk.bears(error):
                log.exception("a step failed and was rolled back")
                self.metrics.count("steps_failed")
            self.recover()
            return False
        return True

    def log_fault(self, words: str) -> None:
        """Say once what is wrong with the disk."""
        log.error("%s", words)

    def transaction(self) -> AbstractContextManager[object]:
        """Make everything inside happen or not happen."""
        return self.database.transaction()

    def recover(self) -> None:
        """Bring memory back in line with the database after a rollback."""

    def _apply_rules(self) -> None:
        rules = rules_of(*self.replica.configuration())
        if rules is not None:
            self.node.set_rules(self.shaped(rules))

    def shaped(self, rules: Rules) -> Rules:
        """Add to the fleet's rules what this worker wants of the flood: everything."""
        return rules

    def _meet_relays(self) -> None:
        chosen = entries(self.settings.network, self.replica.bootstrap(), self.identity)
        self.node.keep_connected(dict.fromkeys([*chosen, *self.view.entries]))

    def _show(self) -> None:
        if not waits(self.clock.now(), self._status_due, STATUS_EVERY):
            self._status_due = self.clock.now() + STATUS_EVERY
            self._write_status(running=True)

    def _write_status(self, *, running: bool) -> None:
        with contextlib.suppress(OSError):
            self.metrics.write(self.folder / "metrics.prom")
            write_private(self.folder / "status.json", json.dumps({**self.status(), "running": running}, indent=1))


def _bell(url: str) -> Any:
    """Return what rings at new blocks; SettingsError where the build has no WebSockets."""
    try:
        from quietfleet.chain.bell import Bell  # noqa: PLC0415 - sensors poll, and have no library for more
    except ModuleNotFoundError as error:
        raise SettingsError("[chain] ws: install quietfleet[worker], or leave it out: the chain is polled") from error
    return Bell(url)


def rules_of(latest: Configuration | None, previous: Configuration | None) -> Rules | None:
    """The network's rules under a configuration, its predecessor's tolerated through the grace."""
    if latest is None:
        return None
    older = Rules(previous.min_pow, previous.max_ttl, previous.max_size) if previous else None
    until = float(latest.active_from + latest.grace)
    return Rules(latest.min_pow, latest.max_ttl, latest.max_size, previous=older, previous_until=until)
