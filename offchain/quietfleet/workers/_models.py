"""The gateway's registry beside the chain: what that completes or revokes is moved, what people promote is released."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from quietfleet.chain.channel import Channel
from quietfleet.crypto import derive, keccak256
from quietfleet.errors import ObjectCorrupt, ObjectMissing
from quietfleet.pipeline.registry import CHALLENGER, CHAMPION, PRODUCTION, Move, Record, Registry, Stage
from quietfleet.pipeline.registry_tables import CHAIN, GATEWAY
from quietfleet.storage import Database, ObjectStore

if TYPE_CHECKING:
    from quietfleet.settings import Settings
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

_SEEN: Final = "models:moves"  # the number of the last move looked at
_DONE: Final = "models:completed"  # the release that reached the whole fleet last
_FRESH: Final = frozenset({Stage.NONE, Stage.ARCHIVED})


def open_registry(settings: Settings, database: Database, secret: bytes, record: Record) -> Registry:
    """Open the registry of the gateway with this identity (its secret's bytes), to read and to move."""
    return Registry(
        database,
        objects_of(settings),
        record=record,
        key=derive(secret, "storage", b"registry"),
        one_person=settings.gateway.one_person,
    )


def objects_of(settings: Settings) -> ObjectStore:
    """Where manifests and artefacts lie by hash."""
    return ObjectStore(settings.path(settings.worker.state) / "objects")


class Models:
    """Moves that follow the chain, and releases that follow moves; everything in the caller's transaction."""

    def __init__(self, runtime: Runtime, state: State, channel: bytes) -> None:
        self._runtime = runtime
        self._state = state
        self._channel = channel
        self._name = runtime.settings.gateway.channel
        self.registry = open_registry(
            runtime.settings, runtime.database, runtime.identity.to_bytes(), runtime.audit.append
        )
        self._known: Channel | None = None
        self._stray = True  # objects that a crash or a rollback left may lie about

    def trained(self, version: int, why: str, *, deploy: bool) -> None:
        """A run made this version: it is the challenger, and on its way if it is to be released."""
        self.registry.point(self._name, CHALLENGER, version, who=GATEWAY, at=self._now, why="trained")
        if deploy and self.registry.entry(self._name, version).stage in _FRESH:
            self._stage(version, why)

    def holds(self, version: int) -> bool:
        """Whether a version's bytes are still here."""
        return self.registry.entry(self._name, version).stage is not Stage.PRUNED

    def opened(self, version: int, sequence: int) -> None:
        """The chain opens a version's release to devices: its approver there let it through."""
        why = f"release {sequence} on chain"
        if self.registry.entry(self._name, version).stage in _FRESH:
            self._stage(version, why)
        self.registry.point(self._name, CHAMPION, version, who=GATEWAY, at=self._now, why=why, approved_by=CHAIN)

    def follow(self, release: Callable[[int, bytes], None]) -> None:
        """Take up what the chain completed or revoked, and what persons promoted since; `release` takes a version."""
        if self._stray:
            self._stray = False
            with suppress(OSError, sqlite3.Error):
                self.registry.collect()
        known = self._runtime.replica.channel(self._channel)
        if known != self._known and self._runtime.attempt(lambda: self._moved_on(known)):
            self._known = known
        moves = self.registry.history(self._name, after=self._state.get(_SEEN, 0))
        if moves:
            self._runtime.attempt(lambda: self._promoted(moves, known, release))

    def recover(self) -> None:
        """Forget what memory says was done: it may not have been written."""
        self._known = None
        self._stray = True

    @property
    def _now(self) -> float:
        return self._runtime.clock.now()

    def _stage(self, version: int, why: str) -> None:
        self.registry.promote(self._name, version, Stage.STAGING, who=GATEWAY, at=self._now, why=why)

    def _moved_on(self, known: Channel) -> None:
        self._revoked(known)
        self._completed(known)

    def _revoked(self, known: Channel) -> None:
        for manifest in sorted(known.revoked):
            version = self._version(manifest)
            if version is None or self._state.get(f"models:revoked:{manifest.hex()}"):
                continue
            self._state.set(f"models:revoked:{manifest.hex()}", value=True)
            self.registry.withdraw(self._name, version, who=GATEWAY, at=self._now, why="revoked on chain")

    def _completed(self, known: Channel) -> None:
        """What reached the whole fleet last is in production, whatever a person had moved there before that."""
        done = max(known.completed, default=0)
        if done == 0:
            return
        release = known.releases[done - 1]
        mark = [done, release.manifest_hash.hex()]
        if mark == self._state.get(_DONE):
            return
        self._state.set(_DONE, mark)
        version = self._version(release.manifest_hash)
        if version is None or release.manifest_hash in known.revoked:
            return
        if self.registry.entry(self._name, version).stage not in {Stage.PRODUCTION, Stage.PRUNED}:
            why = f"release {done} reached the whole fleet"
            self.registry.promote(
                self._name, version, Stage.PRODUCTION, who=GATEWAY, at=self._now, why=why, approved_by=CHAIN
            )

    def _promoted(self, moves: list[Move], known: Channel, release: Callable[[int, bytes], None]) -> None:
        """Have released what persons moved to production last, unless the chain has it already."""
        self._state.set(_SEEN, moves[-1].id)
        theirs = [one for one in moves if one.alias == PRODUCTION and one.who != GATEWAY]
        for move in theirs:
            if not self.registry.genuine(move):
                self._refuse(move, "the line was not written by somebody who can unlock this gateway")
        wishes = [one for one in theirs if self.registry.genuine(one)]
        if wishes and wishes[-1].version is not None:
            self._wished(wishes[-1], wishes[-1].version, known, release)

    def _wished(self, move: Move, version: int, known: Channel, release: Callable[[int, bytes], None]) -> None:
        try:
            manifest = keccak256(self.registry.get(self._name, version).manifest)
        except (ObjectMissing, ObjectCorrupt) as error:
            self._refuse(move, str(error))
            return
        said = {"version": version, "who": move.who, "move": move.id}
        record = known.record(manifest)
        if record.revoked or record.completed:
            reason = "revoked" if record.revoked else "released before: bring it back by a rollback on chain"
            self._runtime.note("promotion-not-released", **said, reason=reason)
            return
        self._state.set(f"manifest:{manifest.hex()}", version)
        self._runtime.note("promotion-released", **said, manifest=manifest.hex())
        release(version, manifest)

    def _refuse(self, move: Move, reason: str) -> None:
        self._runtime.note("promotion-refused", version=move.version, who=move.who, move=move.id, reason=reason)

    def _version(self, manifest: bytes) -> int | None:
        found: int | None = self._state.get(f"manifest:{manifest.hex()}")
        return found
