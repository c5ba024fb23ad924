"""Replicas: several processes that are one worker, each peer with exactly one of them (paper IV-C).

Theory of operation. One row of the shared store, the view, names the members in the order in which they joined and
counts how often that changed (its generation). Every transaction is guarded by the view as its replica knows it: one
that slept through a change writes nothing before it has read the new view. A peer belongs to the member that scores
highest in a hash of both (rendezvous hashing): when one leaves, only its own peers move. The first member leads.

Each member counts its beats in a row of its own. The others look whether the count moves, each by its own patience, so
that no two clocks are compared; a look that comes late counts as a short one, so that whoever slept itself accuses
nobody. A member silent for `DEAD` seconds is taken out of the view by whoever notices first.

       join                 view changed                    silent, or leave
  OUT ──────→ IN (gen n) ──────────────→ IN (gen n+1) ──────────────────────→ OUT
   └──────────────────── found out when next it looks or writes ───────────────┘
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Final

import msgspec

from quietfleet.crypto import derive
from quietfleet.errors import CryptoError, Fenced, StoreReverted
from quietfleet.session import Vault
from quietfleet.settings import Settings, store_password
from quietfleet.storage import Guard, Ledger, Store, open_store

BEAT_EVERY: Final = 1.0  # seconds
DEAD: Final = 5.0  # seconds without a beat
LONGEST_LOOK: Final = 1.0  # seconds that one look may add to somebody's silence

_VIEW_TABLE: Final = "replica_view"
_VIEW: Final = b"view"
_NOBODY: Final = Guard(_VIEW_TABLE, _VIEW, b"")  # no view is empty: whoever goes by this writes nothing
_TRIES: Final = 16  # to change a view that others are changing too


def open_shared(settings: Settings, secret: bytes, name: bytes, seen: Mapping[str, int]) -> Ledger:
    """Open the store that `[oracle] store` names, in the part that this identity's replicas have, as writer `name`."""
    space = derive(secret, "storage", b"shared store", length=8).hex()
    store = open_store(settings.oracle.store, settings.path, store_password(os.environ), space)
    return Ledger(store, secret, secrets.token_bytes, name, seen)


class View(msgspec.Struct, frozen=True, array_like=True):
    """Who is there, in the order of joining."""

    generation: int = 0
    members: tuple[bytes, ...] = ()


class _Beat(msgspec.Struct, frozen=True, array_like=True):
    count: int


class Replicas:
    """One member's view of all of them; `me` is its name, drawn anew at every start.

    `seen` is the generation that this replica saw before: a store that is behind it was set back.
    """

    def __init__(self, store: Store, secret: bytes, random: Callable[[int], bytes], me: bytes, seen: int = 0) -> None:
        self.me = me
        self.view = View(seen)
        self._store = store
        self._raw = store.table(_VIEW_TABLE)
        self._views = Vault(store, _VIEW_TABLE, secret, random)
        self._beats = Vault(store, "replica_beats", secret, random)
        self._salt = derive(secret, "storage", b"replica shards")
        self._count = 0
        self._beat_due = 0.0
        self._looked: float | None = None
        self._heard: dict[bytes, int] = {}
        self._silent: dict[bytes, float] = {}
        store.guard = _NOBODY

    # what the view says

    @property
    def present(self) -> bool:
        """Whether we are a member, as far as we know."""
        return self.me in self.view.members

    @property
    def leads(self) -> bool:
        """Whether we are the member that brokers deals."""
        return self.view.members[:1] == (self.me,)

    def owner(self, peer: str) -> bytes | None:
        """The member that a peer, or anything else with a name, belongs to."""
        return max(self.view.members, key=lambda member: self._score(member, peer), default=None)

    def mine(self, peer: str) -> bool:
        """Whether a peer belongs to us; nobody does while we are no member."""
        return self.present and self.owner(peer) == self.me

    def _score(self, member: bytes, peer: str) -> bytes:
        return blake2b(member + peer.lower().encode(), digest_size=16, key=self._salt).digest()

    # what changes it

    def join(self) -> None:
        """Become a member; raises `StoreUnavailable`."""
        self._change(lambda members: members if self.me in members else (*members, self.me))

    def leave(self) -> None:
        """Be no member any more, so that the others take over at once."""
        self._change(lambda members: tuple(one for one in members if one != self.me))

    def look(self, now: float) -> bool:
        """Read the view, and whose beats have moved; True when the view is another one than before."""
        changed = self._read()
        beats = {member: beat.count for member, beat in self._beats.all(_Beat)}
        passed = 0.0 if self._looked is None else min(max(0.0, now - self._looked), LONGEST_LOOK)
        self._looked = now
        others = [member for member in self.view.members if member != self.me]
        self._silent = {one: self._silence(one, beats.get(one, 0), passed) for one in others}
        self._heard = {one: beats.get(one, 0) for one in others}
        return changed

    def beat(self, now: float) -> None:
        """Show that we are there, and take out who is not; raises `Fenced`."""
        if now >= self._beat_due or now < self._beat_due - BEAT_EVERY:
            self._beat_due, self._count = now + BEAT_EVERY, self._count + 1
            self._beats.put(self.me, _Beat(self._count))
        dead = {member for member, seconds in self._silent.items() if seconds > DEAD}
        if dead:
            self._change(lambda members: tuple(one for one in members if one not in dead))

    def _silence(self, member: bytes, count: int, passed: float) -> float:
        return self._silent.get(member, 0.0) + passed if self._heard.get(member) == count else 0.0

    def _change(self, alter: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> None:
        """Replace the view, unless somebody else does first: then alter theirs."""
        for _ in range(_TRIES):
            raw, view = self._stored()
            members = alter(view.members)
            if members == view.members:
                break
            self._store.guard = Guard(_VIEW_TABLE, _VIEW, raw)
            with suppress(Fenced), self._store.transaction():
                self._views.put(_VIEW, View(view.generation + 1, members))
                for gone in set(view.members) - set(members):
                    self._beats.delete(gone)
        self._read()

    def _read(self) -> bool:
        raw, view = self._stored()
        changed, self.view = view != self.view, view
        self._store.guard = Guard(_VIEW_TABLE, _VIEW, raw) if self.present else _NOBODY
        return changed

    def _stored(self) -> tuple[bytes | None, View]:
        raw = self._raw.get(_VIEW)
        try:
            view = View() if raw is None else self._views.open(_VIEW, raw, View)
        except (CryptoError, msgspec.MsgspecError) as error:
            raise StoreReverted("the view does not open") from error
        if view.generation < self.view.generation:
            raise StoreReverted(f"generation {view.generation} after {self.view.generation}")
        return raw, view
