"""Which of a gateway's versions may go: not the newest, nor what somebody means, nor what a device may yet ask for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from quietfleet.chain.channel import Channel, ReleaseState
from quietfleet.chain.replica import Replica
from quietfleet.crypto import keccak256
from quietfleet.errors import RegistryError
from quietfleet.pipeline.registry_tables import Stage, VersionEntry
from quietfleet.storage import Database, FolderShelf, Reference
from quietfleet.workers._handout import Shelved
from quietfleet.workers._personal import SHELF, SUFFIX, Given
from quietfleet.workers._state import State

if TYPE_CHECKING:
    from quietfleet.pipeline.registry import Registry
    from quietfleet.settings import Settings

KEPT_ON_CHAIN: Final = 2
"""Models that reached the whole fleet last: the one in use, and the one that a rollback brings back."""


class Pruning:
    """A gateway's registry as whoever unlocked it prunes it, also beside the running gateway."""

    def __init__(self, settings: Settings, database: Database, secret: bytes, registry: Registry) -> None:
        self._settings = settings
        self._database = database
        self._registry = registry
        self._channel = settings.gateway.channel
        self._state = State(database)
        self._replica = Replica(database, secret)
        self._given = Given(self._state, secret, random=os.urandom)
        self._shelved = Shelved(self._state, secret, random=os.urandom)

    def prunable(self, name: str, keep: int) -> list[VersionEntry]:
        """The versions of a name that may go when the newest `keep` stay, oldest first; RegistryError."""
        if name.endswith(SUFFIX):
            raise RegistryError(f"{name}: models of single devices go with the version they were made for")
        versions = self._registry.versions(name)
        if not versions:
            raise RegistryError(name)
        staying = {one.version for one in versions[max(0, len(versions) - keep) :]}
        staying |= self._in_production_before(name) | (self._live(versions) if name == self._channel else set())
        return [one for one in versions if one.version not in staying and _is_let_go(one)]

    def prune(self, name: str, keep: int, *, who: str, why: str, at: float) -> tuple[list[VersionEntry], list[str]]:
        """Let go of what `prunable` tells, and of single devices' models made with it.

        Returns what went, and the addresses of objects that the shelf did not let go of.
        """
        said: dict[str, Any] = {"who": who, "why": why, "at": at}
        places: list[int] = []
        with self._database.transaction():  # the gateway moves nothing meanwhile
            going = self.prunable(name, keep)
            for one in going:
                self._registry.prune(name, one.version, **said)
                places.append(one.version)
                places += [SHELF + own for own in self._prune_personal(name, one, said)]
            references = [reference for place in places if (reference := self._shelved.take(place)) is not None]
        self._registry.collect()
        return going, self._clear_shelf(references) if name == self._channel else []

    def _prune_personal(self, name: str, default: VersionEntry, said: dict[str, Any]) -> list[int]:
        """Models of single devices are nothing without the default they were trained beside."""
        if name != self._channel:
            return []
        manifest = keccak256(self._registry.objects.get(default.manifest))
        known = {own for own in map(self._given.version, self._given.to(manifest).values()) if own is not None}
        gone = []
        for version in sorted(known):
            with suppress(RegistryError):  # it went before
                self._registry.prune(name + SUFFIX, version, **said)
                gone.append(version)
        return gone

    def _live(self, versions: Iterable[VersionEntry]) -> set[int]:
        """What the chain has open, or may come back to."""
        manifests = live_manifests(self._replica.channel(keccak256(self._channel.encode())))
        known = (self._state.get(f"manifest:{manifest.hex()}") for manifest in manifests)
        return {one.version for one in versions} & set(known)

    def _in_production_before(self, name: str) -> set[int]:
        try:
            return {self._registry.previous(name)}
        except RegistryError:
            return set()

    def _clear_shelf(self, references: list[Reference]) -> list[str]:
        if not self._settings.storage.shelf:
            return []
        shelf, left = FolderShelf(self._settings.path(self._settings.storage.shelf)), []
        for reference in references:
            try:
                shelf.remove(reference.address)
            except OSError:
                left.append(reference.address.hex())
        return left


def live_manifests(known: Channel) -> set[bytes]:
    """The manifests that devices run, are offered, or go back to."""
    completed = [one.manifest_hash for one in known.releases if one.sequence in known.completed]
    standing = [one for one in dict.fromkeys(reversed(completed)) if one not in known.revoked]
    live = set(standing[:KEPT_ON_CHAIN])
    if known.releases and known.head.state is not ReleaseState.REVOKED:
        live.add(known.releases[-1].manifest_hash)
    return live - known.revoked


def _is_let_go(one: VersionEntry) -> bool:
    return not one.aliases and one.stage not in {Stage.STAGING, Stage.PRODUCTION, Stage.PRUNED}
