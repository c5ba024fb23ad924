"""The Dispatch Oracle: brokers anonymous deals and hands out epoch keys (paper IV-C)."""

from __future__ import annotations

from typing import Any

from quietfleet.chain.types import Change, WorkerChanged
from quietfleet.crypto import derive
from quietfleet.dispatch import Dispatcher, DispatchStore, FromWorker, Introduction, Outgoing
from quietfleet.session import ORACLE, Event, Received
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.messages import EpochKeyGrant, EpochKeyRequest


class Oracle:
    """The oracle's reactions; it forgets deals once they are closed and logs nobody's name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        key = derive(runtime.identity.to_bytes(), "storage", b"dispatch")
        store = DispatchStore(runtime.database, key, runtime.random)
        self._dispatcher = Dispatcher(store, runtime.random, runtime.registry.can_cooperate)

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

    async def after(self) -> None:
        """Nothing waits for a commit here."""

    def recover(self) -> None:
        """Nothing is kept in memory alone."""

    def status(self) -> dict[str, Any]:
        return {"dispatch": dict(self._dispatcher.counts)}

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
