"""The contracts' events as values, one class each; stored as tagged JSON, which the replica folds."""

from __future__ import annotations

import msgspec

from quietfleet.chain.types import Configuration, Kind


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """Something a contract said."""

    @property
    def subject(self) -> str:
        """The entity whose state this event moves; empty if it moves none that is kept."""
        return ""


class _WorkerEvent(Event, frozen=True):
    id: str

    @property
    def subject(self) -> str:
        """The worker's id."""
        return self.id


class Enrolled(_WorkerEvent, frozen=True, tag=True):
    """A device joined; `public_key` is x and y of its messaging key, 64 bytes."""

    owner: str
    kind: Kind
    pending: bool
    public_key: bytes
    sequence: int


class Accepted(_WorkerEvent, frozen=True, tag=True):
    """The named owner accepted a device that enrolled itself."""

    owner: str
    sequence: int


class ActiveChanged(_WorkerEvent, frozen=True, tag=True):
    """The device's owner switched it on or off."""

    owner: str
    active: bool
    sequence: int


class SuspendedChanged(_WorkerEvent, frozen=True, tag=True):
    """The service's owner suspended or re-admitted a device."""

    suspended: bool
    sequence: int


class OwnerChanged(_WorkerEvent, frozen=True, tag=True):
    """A device has a new owner."""

    previous: str
    current: str
    sequence: int


class Retired(_WorkerEvent, frozen=True, tag=True):
    """A device left for good."""

    owner: str
    sequence: int


class ConfigurationRotated(Event, frozen=True, tag=True):
    """The messaging configuration was rotated."""

    configuration: Configuration

    @property
    def subject(self) -> str:
        """All configurations are one entity."""
        return CONFIGURATION


class _ReleaseEvent(Event, frozen=True):
    channel: bytes
    sequence: int

    @property
    def subject(self) -> str:
        """The channel."""
        return channel_subject(self.channel)


class ReleasePublished(_ReleaseEvent, frozen=True, tag=True):
    """A new model release."""

    manifest_hash: bytes


class RolledBack(_ReleaseEvent, frozen=True, tag=True):
    """An older release was issued again under a new sequence."""

    target: int
    manifest_hash: bytes


class ReleaseRevoked(_ReleaseEvent, frozen=True, tag=True):
    """A release may never be used again."""


WorkerEvent = Enrolled | Accepted | ActiveChanged | SuspendedChanged | OwnerChanged | Retired
ReleaseEvent = ReleasePublished | RolledBack | ReleaseRevoked
ChainEvent = WorkerEvent | ConfigurationRotated | ReleaseEvent

CONFIGURATION = "configuration"


def channel_subject(channel: bytes) -> str:
    """Name the entity a release channel is."""
    return f"channel:{channel.hex()}"


_decoder: msgspec.json.Decoder[ChainEvent] = msgspec.json.Decoder(ChainEvent)
_encoder = msgspec.json.Encoder()


def encode_event(event: ChainEvent) -> bytes:
    """Write an event as tagged JSON."""
    return _encoder.encode(event)


def decode_event(stored: bytes) -> ChainEvent:
    """Read what `encode_event` wrote."""
    return _decoder.decode(stored)
