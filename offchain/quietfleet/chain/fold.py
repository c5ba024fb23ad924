"""State as a fold over events: what each event makes of the entity it is about; pure, so that undoing is refolding."""

from __future__ import annotations

import msgspec

from quietfleet.chain import events
from quietfleet.chain.types import Configuration, Release, ReleaseState, WorkerState
from quietfleet.errors import ReplicaGap

Book = tuple[Release, ...]
"""Every release of a channel, by sequence; the last one is current."""

State = WorkerState | Configuration | Book | None


def fold(state: State, event: events.ChainEvent, timestamp: int) -> State:
    """Return the entity's state after `event` in a block of that time; ReplicaGap if an event before it is missing."""
    if isinstance(event, events.ConfigurationRotated):
        assert state is None or isinstance(state, Configuration)
        return _rotated(state, event.configuration)
    if isinstance(event, events.ReleaseEvent):
        assert state is None or isinstance(state, tuple)
        return _released(state or (), event, timestamp)
    assert state is None or isinstance(state, WorkerState)
    return _worker(state, event, timestamp)


def _worker(state: WorkerState | None, event: events.WorkerEvent, timestamp: int) -> WorkerState:
    _expect(event.id, event.sequence, state.sequence + 1 if state else 1)
    if isinstance(event, events.Enrolled):
        return WorkerState(
            id=event.id,
            owner=event.owner,
            kind=event.kind,
            epoch=0,
            sequence=event.sequence,
            since=timestamp,
            active=not event.pending,
            suspended=False,
            pending=event.pending,
            retired=False,
        )
    if state is None:
        raise ReplicaGap(f"{event.id} was never enrolled")
    return msgspec.structs.replace(state, sequence=event.sequence, **_moved(event))


def _moved(event: events.WorkerEvent) -> dict[str, object]:
    match event:
        case events.Accepted():
            return {"pending": False, "active": True}
        case events.ActiveChanged(active=active):
            return {"active": active}
        case events.SuspendedChanged(suspended=suspended):
            return {"suspended": suspended}
        case events.OwnerChanged(current=owner):
            return {"owner": owner}
        case _:
            return {"retired": True, "active": False, "pending": False}


def _rotated(latest: Configuration | None, configuration: Configuration) -> Configuration:
    _expect("configuration", configuration.version, latest.version + 1 if latest else 1)
    return configuration


def _released(book: Book, event: events.ReleaseEvent, timestamp: int) -> Book:
    if isinstance(event, events.ReleaseRevoked):
        revoked = _known(book, event.channel, event.sequence).manifest_hash
        return tuple(_without(revoked, release) for release in book)
    _expect(event.channel.hex(), event.sequence, len(book) + 1)
    artefact = event.sequence
    if isinstance(event, events.RolledBack):
        artefact = _known(book, event.channel, event.target).artefact_of
    published = ReleaseState.PUBLISHED
    return (*book, Release(event.channel, event.sequence, timestamp, event.manifest_hash, artefact, published))


def _without(manifest_hash: bytes, release: Release) -> Release:
    """Mark a release revoked if it is of that manifest: all that share one go together."""
    if release.manifest_hash != manifest_hash:
        return release
    return msgspec.structs.replace(release, state=ReleaseState.REVOKED)


def _known(book: Book, channel: bytes, sequence: int) -> Release:
    if not 1 <= sequence <= len(book):
        raise ReplicaGap(f"release {sequence} of channel {channel.hex()} was never published")
    return book[sequence - 1]


def _expect(subject: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ReplicaGap(f"{subject}: number {found} came where {wanted} was due")
