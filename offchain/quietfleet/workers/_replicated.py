"""A worker that is several processes: its sessions in a shared store, each with the replica that its peer belongs to.

Everything a step changes in the shared store commits first, then what it changes on this replica's own disk; a crash
between the two repeats what the chain caused, which is safe. A step that finds the membership changed is undone, memory
is read anew as the new view has it, and the step runs again. While the store cannot be reached nothing is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from quietfleet.chain.types import Change
from quietfleet.errors import CryptoError, ErasureDelayed, Fenced, SharedStoreError, StoreReverted
from quietfleet.session._codec import encode_body
from quietfleet.storage import Ledger
from quietfleet.whisper import Envelope
from quietfleet.workers._host import Host, log
from quietfleet.workers._mail import LEADER, Mail, Word
from quietfleet.workers._replicas import Replicas, open_shared
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers.messages import make_codec

LOOK: Final = 0.2  # seconds between two looks at who is there
MAIL: Final = 0.02  # seconds between two looks for words of other replicas
WIPE_SHARED: Final = 60.0  # seconds between two times the store's log is emptied of erased rows: all must hold still
REST: Final = 1.0  # seconds between two tries to reach a store that is lost
TRIES: Final = 4  # of a step that others' changes undo

_SEEN: Final = "replicas:generation"
_COUNTS: Final = "replicas:counts"


class ReplicatedRuntime(Runtime):
    """A worker with sessions that its replicas share."""

    rows: Ledger

    def open_rows(self) -> Ledger:
        """Open the store, and draw a name among the replicas."""
        secret = self.identity.to_bytes()
        self._state, name = State(self.database), self.random(16)
        rows = open_shared(self.settings, secret, name, self._state.get(_COUNTS, {}))
        self.replicas = Replicas(rows.store, secret, self.random, name, self._state.get(_SEEN, 0))
        self._mail = Mail(rows, secret, self.random, name)
        self._words = make_codec()
        self._behind = True  # memory is not what the store has
        self._missed: list[Change] = []  # what the chain said while the store was lost
        self._outage = ""  # why the store cannot be used
        self._look_due = self._rest_until = self._wipe_shared_due = 0.0
        self._erased_shared = False
        return rows

    # whose is what

    @property
    def leads(self) -> bool:
        return self.replicas.leads

    def mine(self, peer: str) -> bool:
        return self.replicas.mine(peer)

    def tell(self, peer: str, body: msgspec.Struct) -> None:
        """Say something to a peer, or have the replica say it that the peer belongs to."""
        owner = self.replicas.owner(peer)
        if owner is None or owner == self.replicas.me:
            super().tell(peer, body)
        else:
            self._mail.post(owner, peer, encode_body(body))

    def refer(self, peer: str, body: Any) -> None:
        if self.leads:
            super().refer(peer, body)
        else:
            self._mail.post(LEADER, peer, encode_body(body))

    # steps

    @contextmanager
    def transaction(self) -> Iterator[object]:
        with self.database.transaction(), self.rows.transaction():
            yield self

    def attempt(self, step: Callable[[], None]) -> bool:
        for _ in range(TRIES):
            try:
                if not self.attend():
                    continue
                with self.transaction():
                    step()
            except SharedStoreError as error:
                self._undone(error)
            except Exception as error:  # noqa: BLE001 - whatever a step meets, the worker goes on
                if not self.disk.bears(error):
                    log.exception("a step failed and was rolled back")
                    self.metrics.count("steps_failed")
                self._behind = True
                return False
            else:
                return True
        return False

    def on_changes(self, changes: Sequence[Change]) -> None:
        """React to the chain; what comes while the store is lost is acted on when it is back."""
        follow = super().on_changes
        for _ in range(TRIES):
            if self.attend():
                try:
                    with self.transaction():
                        return follow(changes)
                except SharedStoreError as error:
                    self._undone(error)
        self._missed += changes
        self._behind = True
        return Host.on_changes(self, changes)

    def recover(self) -> None:
        try:
            with self.rows.verified():
                super().recover()
        except (CryptoError, msgspec.MsgspecError) as error:
            raise StoreReverted("a row does not open") from error

    def overhears(self, envelope: Envelope) -> bool:
        """Whether an envelope is nothing to us; never by a memory that is behind the store."""
        with self.disk.borne():
            return self.attend() and super().overhears(envelope)
        return False

    async def flush(self) -> None:
        while self.attend():
            try:
                transmission = self.messenger.next_transmission()
            except SharedStoreError as error:
                self._undone(error)
                return
            if transmission is None:
                return
            await self._publish(transmission)

    # the view

    def attend(self) -> bool:
        """Look who is there, and read anew what is ours where that has changed; False while the store is lost."""
        now = self.monotonic()
        if now < self._rest_until:
            return False
        try:
            if now >= self._look_due or self._behind:
                self._look(now)
            if self._behind:
                self._take_over()
        except SharedStoreError as error:
            self._undone(error)
            return False
        if self._outage:
            self.note("store-back")
            self._outage = ""
        return True

    def _look(self, now: float) -> None:
        self._look_due, before = now + LOOK, self.replicas.view
        self.replicas.look(now)
        if not self.replicas.present:
            self.replicas.join()
        self.replicas.beat(now)
        self._behind |= self.replicas.view != before

    def _take_over(self) -> None:
        """Read what is ours now, act on what the chain said meanwhile, and take the words that were left for us."""
        with self.transaction():
            self.recover()
            self._state.set(_SEEN, self.replicas.view.generation)
            self._state.set(_COUNTS, self.rows.seen)
            self._reconcile()
            self._part_late()
            super().on_changes(self._missed)
            for word in self._mail.take_stray(self.mine):
                self._pass_on(word)
        self._behind, self._missed = False, []
        members = len(self.replicas.view.members)
        self.note("replicas", generation=self.replicas.view.generation, members=members, leads=self.leads)

    def _part_late(self) -> None:
        """End what began before its peer was last switched off or handed over, also when that is allowed again by now.

        The replica whose session it was may have died before it could; it went by a view at most `max_age` old.
        """
        for session in list(self.messenger.table.sessions.values()):
            parted = self.replica.parted_at(session.peer)
            if parted is not None and session.opened_at <= parted + self.settings.chain.max_age:
                self.sever(session.peer, "parted while another replica had it")

    def _undone(self, error: SharedStoreError) -> None:
        self._behind = True
        self.metrics.count("store_steps_undone", cause=type(error).__name__)
        if isinstance(error, Fenced):
            return
        self._rest_until = self.monotonic() + REST
        if not self._outage:
            self._outage = str(error)
            log.error("%s", error)
            with self.disk.borne():  # it may be our own disk that has no room for either
                self.note("store-lost", reason=type(error).__name__)

    def _wipe(self) -> None:
        """Empty the store's log too of what was erased; what stands in the way now is tried again."""
        self._erased_shared |= self._erased
        super()._wipe()
        now = self.monotonic()
        if not self._erased_shared or now < self._wipe_shared_due or self._outage:
            return
        self._wipe_shared_due = now + WIPE_SHARED
        try:
            self.rows.store.truncate_log()
        except (ErasureDelayed, SharedStoreError) as error:
            self.metrics.count("store_erasures_delayed", cause=type(error).__name__)
        else:
            self._erased_shared = False

    # words of other replicas

    def parts(self) -> list[Any]:
        self.attend()
        return [*super().parts(), self._listen()]

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(MAIL)
            if self._outage or len(self.replicas.view.members) == 1:
                continue
            with suppress(SharedStoreError):
                if any(self._mail.waiting(box) for box in self._boxes()):
                    await self.guarded(self.on_mail)

    def on_beat(self) -> None:
        self.on_mail()
        super().on_beat()

    def on_mail(self) -> None:
        """Act on the words that other replicas left for us."""
        for word in self._mail.take(self.replicas.me, self.mine):
            self._pass_on(word)
        for word in self._mail.take(LEADER, lambda _: self.leads):
            self.react(lambda said=word: self._heed(said))  # type: ignore[misc]

    def _boxes(self) -> list[bytes]:
        return [self.replicas.me, *([LEADER] if self.leads else [])]

    def _pass_on(self, word: Word) -> None:
        self.react(lambda: Runtime.tell(self, word.peer, self._words.body(word.body)))

    def _heed(self, word: Word) -> None:
        """Act on what a worker said, if the chain still lets it work with us."""
        if self.registry.can_cooperate(self.id, word.peer):
            self.heed(word.peer, self._words.body(word.body))

    # the end

    def close(self) -> None:
        with suppress(SharedStoreError):
            self.replicas.leave()
        self.rows.close()
        super().close()

    def status(self) -> dict[str, Any]:
        view = self.replicas.view
        replicas = {
            "id": self.replicas.me.hex()[:8],
            "members": [member.hex()[:8] for member in view.members],
            "leads": self.leads,
            "generation": view.generation,
            "peers": len(self.messenger.peers()),
            "store": self._outage or "in reach",
        }
        return {**super().status(), "replicas": replicas}
