"""The contracts' events as values, one class each; stored as tagged JSON, which the replica folds."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from quietfleet.chain.channel import Report, Terms
from quietfleet.chain.types import Configuration, Kind, Right


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """Something a contract said."""

    @property
    def subject(self) -> str:
        """The entity whose state this event moves."""
        raise NotImplementedError


class _WorkerEvent(Event, frozen=True):
    id: str

    @property
    def subject(self) -> str:
        """The worker's id."""
        return self.id


class _Enrolment(_WorkerEvent, frozen=True):
    owner: str
    kind: Kind
    public_key: bytes
    sequence: ClassVar[int] = 1  # a worker's first event, which is why it does not carry it


class Enrolled(_Enrolment, frozen=True, tag=True):
    """A device joined with its consent; `public_key` is x and y of its messaging key, 64 bytes."""


class EnrolledItself(_Enrolment, frozen=True, tag=True):
    """A device joined by itself and waits for the owner it named."""


class Accepted(_WorkerEvent, frozen=True, tag=True):
    """The named owner accepted a device that enrolled itself."""

    owner: str
    sequence: int


class ActiveChanged(_WorkerEvent, frozen=True, tag=True):
    """The device's owner, or an operator of the owner's, switched it on or off."""

    by: str
    active: bool
    sequence: int


class SuspendedChanged(_WorkerEvent, frozen=True, tag=True):
    """The service's owner suspended or re-admitted a device."""

    suspended: bool
    sequence: int


class KeyRotated(_WorkerEvent, frozen=True, tag=True):
    """A device's messaging key was replaced; `key` is the address of `public_key` (x and y, 64 bytes)."""

    key: str
    public_key: bytes
    epoch: int
    sequence: int


class TransferOffered(_WorkerEvent, frozen=True, tag=True):
    """A device is offered to another owner, in place of an earlier offer."""

    to: str
    sequence: int


class TransferCancelled(_WorkerEvent, frozen=True, tag=True):
    """The offer of a device was taken back."""

    sequence: int


class OwnerChanged(_WorkerEvent, frozen=True, tag=True):
    """A device has a new owner; an offer of it ends."""

    previous: str
    current: str
    sequence: int


class Retired(_WorkerEvent, frozen=True, tag=True):
    """A device left for good; an offer of it ends."""

    owner: str
    sequence: int


class OperatorChanged(Event, frozen=True, tag=True):
    """An owner gave an operator rights upon its workers until a time in Unix seconds, or took them back."""

    owner: str
    operator: str
    rights: Right
    until: int

    @property
    def subject(self) -> str:
        """All operators of an owner are one entity."""
        return operators_subject(self.owner)


class ConfigurationRotated(Event, frozen=True, tag=True):
    """The messaging configuration was rotated."""

    configuration: Configuration

    @property
    def subject(self) -> str:
        """All configurations are one entity."""
        return CONFIGURATION


class BootstrapNamed(Event, frozen=True, tag=True):
    """The service owner named other relays to begin with, as `enode://` URLs that nobody has checked."""

    version: int
    enodes: tuple[str, ...]

    @property
    def subject(self) -> str:
        """All lists are one entity."""
        return BOOTSTRAP


class _ReleaseEvent(Event, frozen=True):
    channel: bytes
    sequence: int

    @property
    def subject(self) -> str:
        """The channel."""
        return channel_subject(self.channel)


class ReleaseProposed(_ReleaseEvent, frozen=True, tag=True):
    """A new model release was proposed, in place of one of which no wave was opened."""

    terms: Terms


class ReleaseApproved(_ReleaseEvent, frozen=True, tag=True):
    """The proposed release was approved."""

    by: str


class WaveOpened(_ReleaseEvent, frozen=True, tag=True):
    """The release is open to one more wave of devices."""

    wave: int


class RolloutPaused(_ReleaseEvent, frozen=True, tag=True):
    """Nobody else takes the release up for now."""

    by: str


class RolloutResumed(_ReleaseEvent, frozen=True, tag=True):
    """The paused rollout goes on."""

    by: str


class ReleaseFinalised(_ReleaseEvent, frozen=True, tag=True):
    """The release reached the whole fleet; from now on nobody takes up less than `floor`."""

    floor: int
    report: Report


class RolledBack(_ReleaseEvent, frozen=True, tag=True):
    """A manifest that once reached the whole fleet, as number `target`, is back under a new number."""

    manifest_hash: bytes
    target: int


class ReleaseRevoked(_ReleaseEvent, frozen=True, tag=True):
    """A manifest may never be used again; `sequence` is its newest number, 0 if it was never proposed here."""

    manifest_hash: bytes
    floor: int


WorkerEvent = (
    Enrolled
    | EnrolledItself
    | Accepted
    | ActiveChanged
    | SuspendedChanged
    | KeyRotated
    | TransferOffered
    | TransferCancelled
    | OwnerChanged
    | Retired
)
ReleaseEvent = (
    ReleaseProposed
    | ReleaseApproved
    | WaveOpened
    | RolloutPaused
    | RolloutResumed
    | ReleaseFinalised
    | RolledBack
    | ReleaseRevoked
)
ChainEvent = WorkerEvent | OperatorChanged | ConfigurationRotated | BootstrapNamed | ReleaseEvent

CONFIGURATION = "configuration"
BOOTSTRAP = "bootstrap"
_CHANNEL = "channel:"
_OPERATORS = "operators:"


def channel_subject(channel: bytes) -> str:
    """Name the entity a release channel is."""
    return f"{_CHANNEL}{channel.hex()}"


def channel_of(subject: str) -> bytes | None:
    """Return the release channel of that name; None if it names something else."""
    return bytes.fromhex(subject.removeprefix(_CHANNEL)) if subject.startswith(_CHANNEL) else None


def operators_subject(owner: str) -> str:
    """Name the entity that an owner's operators are."""
    return f"{_OPERATORS}{owner}"


def operators_of(subject: str) -> str | None:
    """Return the owner whose operators that entity is; None if it is another one."""
    return subject.removeprefix(_OPERATORS) if subject.startswith(_OPERATORS) else None


_decoder: msgspec.json.Decoder[ChainEvent] = msgspec.json.Decoder(ChainEvent)
_encoder = msgspec.json.Encoder()


def encode_event(event: ChainEvent) -> bytes:
    """Write an event as tagged JSON."""
    return _encoder.encode(event)


def decode_event(stored: bytes) -> ChainEvent:
    """Read what `encode_event` wrote."""
    return _decoder.decode(stored)
