"""The Dispatch Oracle: brokers anonymous deals and hands out epoch keys (paper IV-C)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from quietfleet.chain.types import Change, WorkerChanged
from quietfleet.crypto import PrivateKey, derive
from quietfleet.dispatch import (
    Dispatcher,
    DispatchStore,
    FromWorker,
    Introduction,
    Outgoing,
    drop_old_tables,
)
from quietfleet.errors import ChainError
from quietfleet.session import ORACLE, Event, Received
from quietfleet.workers._host import log
from quietfleet.workers._rotation import Rotator
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._tide import TideKeeper
from quietfleet.workers.messages import EpochKeyGrant, EpochKeyRequest, EpochPrepared

JOB_PAUSE: Final = 2.0  # seconds after a failed job


class Oracle:
    """The oracle's reactions; it forgets deals once they are closed and logs nobody's name."""

    def __init__(self, runtime: Runtime, rotator: PrivateKey | None = None) -> None:
        self._runtime = runtime
        drop_old_tables(runtime.database)
        key = derive(runtime.identity.to_bytes(), "storage", b"dispatch")
        store = DispatchStore(runtime.rows, key, runtime.random)
        self._dispatcher = Dispatcher(store, runtime.random, runtime.registry)
        section = runtime.settings.oracle
        self._tide = TideKeeper(runtime, rotator, section) if rotator else None
        self._rotation = Rotator(runtime, rotator, section) if rotator and section.rotate_on_disable else None
        self._jobs: set[asyncio.Task[None]] = set()
        self._checked = False
        runtime.heed = self._heed
        runtime.veiled = True

    def admit(self, _peer: str, purpose: str) -> bool:
        return purpose == ORACLE

    def on_event(self, event: Event) -> None:
        if not isinstance(event, Received):
            return
        if isinstance(event.body, EpochKeyRequest):
            self._grant(event, event.body)
        elif isinstance(event.body, FromWorker | EpochPrepared):
            self._runtime.refer(event.peer, event.body)

    def on_change(self, change: Change) -> None:
        if self._rotation is not None:
            self._rotation.on_change(change)
        if isinstance(change, WorkerChanged) and change.parts and self._runtime.leads:
            self._send(self._dispatcher.forget(change.id, self._runtime.clock.now()))

    def on_tick(self) -> None:
        if not self._runtime.leads:
            return
        self._check_book()
        self._send(self._dispatcher.tick(self._runtime.clock.now()))
        if self._rotation is not None:
            self._rotation.tick()
        if self._tide is not None:
            self._tide.tick()

    async def after(self) -> None:
        """Have an epoch ended, or the level of proof of work set, when it is due: one transaction at a time."""
        if self._jobs or not self._runtime.leads or not self._runtime.registry.usable(self._runtime.id):
            return
        if (due := self._due()) is not None:
            task = asyncio.create_task(self._guard(due))
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

    def recover(self) -> None:
        self._dispatcher.recover()
        self._checked = False
        if self._tide is not None:
            self._tide.recover()

    def status(self) -> dict[str, Any]:
        tide = {"tide": self._tide.status()} if self._tide else {}
        rotation = {"rotation": self._rotation.status()} if self._rotation else {}
        return {"dispatch": dict(self._dispatcher.counts)} | tide | rotation

    def _due(self) -> TideKeeper | Rotator | None:
        """Which of the two may write to the chain now; while keys are drawn for the next version, nobody takes it."""
        if self._rotation is not None and (self._rotation.due or self._rotation.busy):
            return self._rotation if self._rotation.due else None
        return self._tide if self._tide is not None and self._tide.due else None

    async def _guard(self, keeper: TideKeeper | Rotator) -> None:
        try:
            await keeper.step()
        except ChainError as error:
            log.warning("a rotation waits: %s", error)
            await asyncio.sleep(JOB_PAUSE)
        except Exception:  # noqa: BLE001 - whatever a job meets, the oracle goes on serving
            log.exception("a job failed")
            self._runtime.metrics.count("jobs_failed")
            await asyncio.sleep(JOB_PAUSE)

    def _check_book(self) -> None:
        """Forget who was switched off while nobody of us kept the book, as soon as the chain is in sight."""
        registry, now = self._runtime.registry, self._runtime.clock.now()
        if self._checked or registry.stale:
            return
        for worker in sorted(self._dispatcher.workers()):
            if not registry.usable(worker):
                self._send(self._dispatcher.forget(worker, now))
        self._checked = True

    def _heed(self, worker: str, word: FromWorker | EpochPrepared) -> None:
        if isinstance(word, EpochPrepared):
            if self._rotation is not None:
                self._rotation.prepared(worker, word)
            return
        self._send(self._dispatcher.handle(worker, word, self._runtime.clock.now()))

    def _grant(self, event: Received, request: EpochKeyRequest) -> None:
        key = self._runtime.messenger.epochs.granted(request.version, self._runtime.clock.now())
        if key is None:
            self._runtime.metrics.count("epoch_keys_missing")
            return
        self._runtime.messenger.reply(event, EpochKeyGrant(request.version, key))
        self._runtime.note("epoch-key-granted", version=request.version)

    def _send(self, outgoing: list[Outgoing]) -> None:
        for message in outgoing:
            if isinstance(message.message, Introduction):
                self._runtime.note("brokered")
            self._runtime.tell(message.worker_id, message.message)
