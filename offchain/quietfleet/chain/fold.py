"""State as a fold over events: what each event makes of the entity it is about; pure, so that undoing is refolding."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from quietfleet.chain import events
from quietfleet.chain.channel import Channel, ChannelHead, Release, ReleaseState, Terms
from quietfleet.chain.types import Bootstrap, Configuration, Configurations, Grant, Operators, WorkerState
from quietfleet.errors import ReplicaGap

State = WorkerState | Operators | Configurations | Bootstrap | Channel | None

_replace = msgspec.structs.replace


def fold(state: State, event: events.ChainEvent, timestamp: int) -> State:
    """Return the entity's state after `event` in a block of that time; ReplicaGap if an event before it is missing."""
    if isinstance(event, events.ConfigurationRotated):
        assert state is None or isinstance(state, Configurations)
        return _rotated(state, event.configuration, timestamp)
    if isinstance(event, events.BootstrapNamed):
        assert state is None or isinstance(state, Bootstrap)
        _expect("list of relays", event.version, state.version + 1 if state else 1)
        return Bootstrap(event.version, event.enodes)
    if isinstance(event, events.OperatorChanged):
        assert state is None or isinstance(state, Operators)
        return _entrusted(state or Operators(event.owner), event)
    if isinstance(event, events.ReleaseEvent):
        assert state is None or isinstance(state, Channel)
        return _released(state or Channel(event.channel), event, timestamp)
    assert state is None or isinstance(state, WorkerState)
    return _worker(state, event, timestamp)


def _worker(state: WorkerState | None, event: events.WorkerEvent, timestamp: int) -> WorkerState:
    _expect(event.id, event.sequence, state.sequence + 1 if state else 1)
    if isinstance(event, events.Enrolled | events.EnrolledItself):
        return _enrolled(event, timestamp, pending=isinstance(event, events.EnrolledItself))
    if state is None:
        raise ReplicaGap(f"{event.id} was never enrolled")
    if isinstance(event, events.KeyRotated):
        _expect(f"{event.id}'s key", event.epoch, state.epoch + 1)
    return _replace(state, sequence=event.sequence, **_moved(event))


def _enrolled(event: events.Enrolled | events.EnrolledItself, timestamp: int, *, pending: bool) -> WorkerState:
    return WorkerState(
        id=event.id,
        owner=event.owner,
        kind=event.kind,
        epoch=0,
        sequence=event.sequence,
        since=timestamp,
        active=not pending,
        suspended=False,
        pending=pending,
        retired=False,
        key=event.id,
        public_key=event.public_key,
    )


def _moved(event: events.WorkerEvent) -> dict[str, Any]:  # noqa: PLR0911 - one line an event
    match event:
        case events.Accepted():
            return {"pending": False, "active": True}
        case events.ActiveChanged(by=by, active=active):
            return {"active": active} | ({"switched_on_by": by} if active else {})
        case events.SuspendedChanged(suspended=suspended):
            return {"suspended": suspended}
        case events.KeyRotated(key=key, public_key=public_key, epoch=epoch):
            return {"key": key, "public_key": public_key, "epoch": epoch}
        case events.TransferOffered(to=to):
            return {"offered_to": to}
        case events.TransferCancelled():
            return {"offered_to": None}
        case events.OwnerChanged(current=owner):
            return {"owner": owner, "offered_to": None, "switched_on_by": None}
        case _:
            return {"retired": True, "active": False, "pending": False, "offered_to": None}


def _entrusted(state: Operators, event: events.OperatorChanged) -> Operators:
    kept = {operator: grant for operator, grant in state.grants.items() if operator != event.operator}
    given = {event.operator: Grant(event.rights, event.until)} if event.rights else {}
    return _replace(state, grants=kept | given)


def _rotated(state: Configurations | None, configuration: Configuration, timestamp: int) -> Configurations:
    """Continue the line as the contract does: one that still waits is replaced, and the one in force stays previous."""
    _expect("configuration", configuration.version, state.latest.version + 1 if state else 1)
    if state is None:
        return Configurations(configuration)
    known = (one for one in (state.latest, state.previous) if one is not None)
    kept = next((one.epoch for one in known if configuration.shares_keys(one)), 0)
    waits = state.latest.active_from > timestamp
    return Configurations(_replace(configuration, keys_from=kept), state.previous if waits else state.latest)


def _released(book: Channel, event: events.ReleaseEvent, timestamp: int) -> Channel:
    match event:
        case events.ReleaseProposed(terms=terms):
            return _proposed(book, event.sequence, terms, timestamp)
        case events.RolledBack(target=target):
            return _rolled_back(book, event, target, timestamp)
        case events.ReleaseRevoked(manifest_hash=manifest, floor=floor):
            return _revoked(book, event.sequence, manifest, floor)
        case _:
            return _advanced(book, event, timestamp)


def _advanced(book: Channel, event: events.ReleaseEvent, timestamp: int) -> Channel:
    """Move the newest release one step on."""
    state = ReleaseState
    match event:
        case events.ReleaseApproved():
            return _to(book, event, {state.PROPOSED}, state=state.APPROVED)
        case events.WaveOpened(wave=wave):
            _expect(f"wave of {book.name.hex()}", wave, book.head.wave + 1)
            return _to(book, event, {state.APPROVED, state.ROLLING}, state=state.ROLLING, wave=wave, since=timestamp)
        case events.RolloutPaused():
            return _to(book, event, {state.ROLLING}, state=state.PAUSED)
        case events.RolloutResumed():
            return _to(book, event, {state.PAUSED}, state=state.ROLLING, since=timestamp)
        case events.ReleaseFinalised(sequence=number, floor=floor):
            _expect(f"wave of {book.name.hex()}", book.head.wave, book.head.wave_count)
            reached = {"state": state.COMPLETED, "completed": number, "floor": floor, "since": timestamp}
            return _replace(_to(book, event, {state.ROLLING}, **reached), completed=book.completed | {number})
        case _:
            raise AssertionError(event)


def _to(book: Channel, event: events.ReleaseEvent, states: Collection[ReleaseState], **changes: Any) -> Channel:
    if book.head.sequence != event.sequence or book.head.state not in states:
        raise ReplicaGap(f"{type(event).__name__} of release {event.sequence} where {book.head} stands")
    return _replace(book, head=_replace(book.head, **changes))


def _proposed(book: Channel, sequence: int, terms: Terms, timestamp: int) -> Channel:
    if book.head.state in {ReleaseState.ROLLING, ReleaseState.PAUSED}:
        raise ReplicaGap(f"release {sequence} of {book.name.hex()} came while {book.head.sequence} was rolling out")
    head = ChannelHead(
        completed=book.head.completed,
        floor=book.head.floor,
        state=ReleaseState.PROPOSED,
        wave_count=terms.wave_count,
        not_before=terms.not_before,
        expires_at=terms.expires_at,
        soak=terms.soak,
    )
    return _appended(book, head, Release(book.name, sequence, timestamp, terms))


def _rolled_back(book: Channel, event: events.RolledBack, target: int, timestamp: int) -> Channel:
    if target not in book.completed or book.releases[target - 1].manifest_hash != event.manifest_hash:
        raise ReplicaGap(f"release {target} of {book.name.hex()}, brought back, never reached the fleet")
    head = ChannelHead(completed=event.sequence, floor=book.head.floor, state=ReleaseState.COMPLETED, since=timestamp)
    release = Release(book.name, event.sequence, timestamp, book.releases[target - 1].terms)
    return _replace(_appended(book, head, release), completed=book.completed | {event.sequence})


def _appended(book: Channel, head: ChannelHead, release: Release) -> Channel:
    _expect(book.name.hex(), release.sequence, len(book.releases) + 1)
    return _replace(book, head=_replace(head, sequence=release.sequence), releases=(*book.releases, release))


def _revoked(book: Channel, sequence: int, manifest: bytes, floor: int) -> Channel:
    """Ban a manifest; a number is only given when the channel has it."""
    if book.record(manifest).sequence != sequence:
        raise ReplicaGap(f"release {sequence} of {book.name.hex()} was never proposed")
    newest = sequence != 0 and sequence == book.head.sequence
    head = _replace(book.head, floor=floor, state=ReleaseState.REVOKED if newest else book.head.state)
    return _replace(book, head=head, revoked=book.revoked | {manifest})


def _expect(subject: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ReplicaGap(f"{subject}: number {found} came where {wanted} was due")
