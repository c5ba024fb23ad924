"""The Dispatch Oracle: brokers anonymous deals and hands out epoch keys (paper IV-C)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from quietfleet.chain.types import Change, WorkerChanged
from quietfleet.crypto import PrivateKey, derive
from quietfleet.dispatch import Dispatcher, DispatchStore, FromWorker, Introduction, Outgoing
from quietfleet.errors import ChainError
from quietfleet.session import ORACLE, Event, Received
from quietfleet.workers._host import log
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._tide import TideKeeper
from quietfleet.workers.messages import EpochKeyGrant, EpochKeyRequest

JOB_PAUSE: Final = 2.0  # seconds after a failed job


class Oracle:
    """The oracle's reactions; it forgets deals once they are closed and logs nobody's name."""

    def __init__(self, runtime: Runtime, rotator: PrivateKey | None = None) -> None:
        self._runtime = runtime
        key = derive(runtime.identity.to_bytes(), "storage", b"dispatch")
        store = DispatchStore(runtime.database, key, runtime.random)
        self._dispatcher = Dispatcher(store, runtime.random, runtime.registry.can_cooperate)
        self._tide = TideKeeper(runtime, rotator, runtime.settings.oracle) if rotator else None
        self._jobs: set[asyncio.Task[None]] = set()

    def admit(self, _peer: str, purpose: str) -> bool:
        return purpose == ORACLE

    def on_event(self, event: Event) -> None:
        if not isinstance(event, Received):
            return
        if isinstance(event.body, EpochKeyRequest):
            self._grant(event, event.body)
        elif isinstance(event.body, FromWorker):
            self._send(self._dispatcher.handle(event.peer, event.body, self._runtime.clock.now()))

    def on_change(self, change: Change) -> None:
        if isinstance(change, WorkerChanged) and change.lost:
            self._send(self._dispatcher.forget(change.id, self._runtime.clock.now()))

    def on_tick(self) -> None:
        self._send(self._dispatcher.tick(self._runtime.clock.now()))
        if self._tide is not None:
            self._tide.tick()

    async def after(self) -> None:
        """Have the level of proof of work set, when it is due."""
        if self._tide is None or self._jobs or not self._runtime.registry.usable(self._runtime.id):
            return
        if self._tide.due:
            task = asyncio.create_task(self._guard(self._tide))
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

    def recover(self) -> None:
        if self._tide is not None:
            self._tide.recover()

    def status(self) -> dict[str, Any]:
        tide = {"tide": self._tide.status()} if self._tide else {}
        return {"dispatch": dict(self._dispatcher.counts)} | tide

    async def _guard(self, tide: TideKeeper) -> None:
        try:
            await tide.step()
        except ChainError as error:
            log.warning("the tide waits: %s", error)
            await asyncio.sleep(JOB_PAUSE)
        except Exception:  # noqa: BLE001 - whatever a job meets, the oracle goes on serving
            log.exception("a job failed")
            self._runtime.metrics.count("jobs_failed")
            await asyncio.sleep(JOB_PAUSE)

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
            self._runtime.messenger.notify(message.worker_id, message.message)
