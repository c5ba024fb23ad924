"""How a release leaves the gateway: by reference to the shelf, in one message, or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.errors import MessageRefused
from quietfleet.session import SIZE_CLASSES, Received
from quietfleet.storage import Reference, SealedColumn
from quietfleet.whisper import room
from quietfleet.workers._host import log
from quietfleet.workers._retries import Retries
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._shelf import ArtefactShelf, open_shelf
from quietfleet.workers._state import State
from quietfleet.workers.messages import (
    ARTEFACT,
    SHELVED,
    FetchRelease,
    NoSuchRelease,
    ReleaseAt,
    ReleaseBundle,
    ReleaseComing,
    pack_release,
    release_kind,
)

SHELVE_AGAIN: Final = 60.0  # seconds after which a shelf that took nothing is tried again at first
SHELVE_LATEST: Final = 3600.0

_SEALED: Final = 28  # bytes an envelope's data is longer than its size class: tag and iv
_PACKET: Final = 512  # bytes around a body, at most


class Shelved:
    """What lies on the shelf of which version; a reference holds a key, so it is kept sealed."""

    def __init__(self, state: State, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._state = state
        self._sealed = SealedColumn(derive(secret, "storage", b"shelf"), "state.shelf", random=random)

    def keep(self, version: int, reference: Reference) -> None:
        """Write down where a version's artefact is."""
        self._state.set(f"shelf:{version}", self._sealed.seal(bytes(reference), row=_row(version)).hex())

    def find(self, version: int) -> Reference | None:
        """Return the reference of a version's artefact, if it is there."""
        kept = self._state.get(f"shelf:{version}")
        return Reference.from_bytes(self._sealed.open(bytes.fromhex(kept), row=_row(version))) if kept else None

    def take(self, version: int) -> Reference | None:
        """Return it and forget it."""
        found = self.find(version)
        self._state.set(f"shelf:{version}", None)
        return found


class Handout:
    """Answers processors that ask for a release, and keeps what it can of them on the shelf."""

    def __init__(self, runtime: Runtime, state: State) -> None:
        self._runtime = runtime
        self._shelf = open_shelf(runtime.settings)
        self._shelved = Shelved(state, runtime.identity.to_bytes(), runtime.random)
        self._waiting: tuple[int, bytes] | None = None
        self._job: asyncio.Task[None] | None = None
        self._due = 0.0
        self._retries = Retries(runtime.random, SHELVE_AGAIN, SHELVE_LATEST)

    # the shelf

    def carries(self, artefact: bytes) -> bool:
        """Whether an artefact can reach processors at all: a large one needs a shelf."""
        return len(artefact) <= (ARTEFACT if self._shelf is None else SHELVED)

    def shelve(self, version: int, artefact: bytes) -> None:
        """Put a version's artefact on the shelf after this transaction, unless there is none or it is there."""
        if self._shelf is not None and self._reference(version) is None:
            self._waiting = version, artefact

    def after(self) -> None:
        """Start what waited for a commit; one artefact at a time, however long the shelf takes."""
        now = self._runtime.clock.now()
        if self._shelf is not None and self._waiting is not None and self._job is None and not self._rests(now):
            self._due = now + self._retries.pause()
            self._job = asyncio.create_task(self._put(self._shelf, *self._waiting))
            self._waiting = None

    def recover(self) -> None:
        """Forget what a rolled-back transaction wanted shelved; the next who asks for it has it shelved."""
        self._waiting = None

    async def _put(self, shelf: ArtefactShelf, version: int, artefact: bytes) -> None:
        try:
            reference = await shelf.put(artefact)
        except Exception as error:  # noqa: BLE001 - whatever a shelf does, releases travel in messages then
            self._runtime.metrics.count("shelf_failures", reason=type(error).__name__)
            log.warning("the shelf took nothing: %s", error)
        else:
            await self._runtime.guarded(lambda: self._remember(version, reference))
        finally:
            self._job = None

    def _rests(self, now: float) -> bool:
        return waits(now, self._due, SHELVE_LATEST)

    def _remember(self, version: int, reference: Reference) -> None:
        self._due = 0.0
        self._retries.succeeded()
        self._shelved.keep(version, reference)
        self._runtime.note("shelved", version=version, address=reference.address.hex())

    def _reference(self, version: int) -> Reference | None:
        return self._shelved.find(version) if self._shelf is not None else None

    # answers

    def answer(self, event: Received, asked: FetchRelease, version: int, bundle: ReleaseBundle) -> None:
        """Give a processor the release it asked for, in the least that it can use.

        What is too large for messages comes from the shelf alone: whoever cannot be told where it is asks again.
        """
        reference, large = self._reference(version) if asked.shelf else None, len(bundle.artefact) > ARTEFACT
        if reference is None and (asked.shelf or large):
            self.shelve(version, bundle.artefact)
        if reference is not None:
            at = ReleaseAt(asked.sequence, bundle.ticket, bundle.manifest, reference.address, reference.key)
            if self._fits(at):
                self._runtime.messenger.reply(event, at)
                return
        if large:
            self._runtime.metrics.count("releases_not_shelved")
            self._runtime.messenger.reply(event, NoSuchRelease(asked.sequence))
        elif self._fits(bundle):
            self._runtime.messenger.reply(event, bundle)
        else:
            self._runtime.messenger.reply(event, self._in_pieces(event.peer, asked, bundle))

    def _fits(self, body: msgspec.Struct) -> bool:
        """Tell whether a body goes into one envelope of the configurations in force."""
        epochs = self._runtime.messenger.epochs
        limit = min((one.max_size for one in (epochs.latest, epochs.previous) if one), default=0)
        most = max((room(size, signed=False) for size in SIZE_CLASSES if size + _SEALED <= limit), default=0)
        return len(msgspec.msgpack.encode(body)) + _PACKET <= most

    def _in_pieces(self, peer: str, asked: FetchRelease, bundle: ReleaseBundle) -> ReleaseComing | NoSuchRelease:
        """Begin to send a release in pieces, unless that is under way already."""
        messenger, kind = self._runtime.messenger, release_kind(asked.channel, asked.sequence)
        if not any(one.peer == peer and one.have.kind == kind for one in messenger.large.outgoing.values()):
            try:
                messenger.send_large(peer, kind, pack_release(bundle))
            except MessageRefused:
                return NoSuchRelease(asked.sequence)
        return ReleaseComing(asked.sequence)


def _row(version: int) -> bytes:
    return version.to_bytes(8, "big")
