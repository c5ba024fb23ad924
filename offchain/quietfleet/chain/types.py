"""What the contracts know, as values: workers, configurations and releases; addresses are checksummed hex."""

from __future__ import annotations

import enum

import msgspec


class Kind(enum.IntEnum):
    """What a worker is; the numbers are the contract's."""

    SENSOR = 1
    PROCESSOR = 2
    GATEWAY = 3
    RELAY = 4
    ORACLE = 5


class Flag(enum.IntFlag):
    """A worker's state bits; the numbers are the contract's."""

    ACTIVE = 1
    SUSPENDED = 2
    PENDING = 4
    RETIRED = 8


PARTNERS: frozenset[frozenset[Kind]] = frozenset(
    frozenset(pair)
    for pair in (
        (Kind.SENSOR, Kind.PROCESSOR),
        (Kind.PROCESSOR, Kind.GATEWAY),
        (Kind.GATEWAY,),
        (Kind.SENSOR, Kind.ORACLE),
        (Kind.PROCESSOR, Kind.ORACLE),
        (Kind.GATEWAY, Kind.ORACLE),
    )
)
"""The unordered pairs of kinds that may work together; a single kind stands for two of it."""


def compatible(a: Kind, b: Kind) -> bool:
    """Tell whether workers of these kinds may work together: the contract's own matrix."""
    return frozenset((a, b)) in PARTNERS


class WorkerState(msgspec.Struct, frozen=True):
    """One worker as the registry has it; `since` in Unix seconds, `sequence` counts its events from 1."""

    id: str
    owner: str
    kind: Kind
    epoch: int
    sequence: int
    since: int
    active: bool
    suspended: bool
    pending: bool
    retired: bool

    @property
    def usable(self) -> bool:
        """Whether anyone may work with it now."""
        return self.active and not (self.suspended or self.pending or self.retired)


class Configuration(msgspec.Struct, frozen=True):
    """One messaging configuration; times in Unix seconds, `grace` and `max_ttl` in seconds, `max_size` in bytes."""

    version: int
    active_from: int
    grace: int
    min_pow: float
    max_ttl: int
    max_size: int
    oracle: str
    gateway: str
    epoch_key_commitment: bytes
    oracle_card_digest: bytes
    gateway_card_digest: bytes


class ConfigurationsInForce(msgspec.Struct, frozen=True):
    """The configuration to send under, and older ones whose messages are still tolerated, newest first."""

    current: Configuration
    tolerated: tuple[Configuration, ...]


class ReleaseState(enum.IntEnum):
    """What became of a release; the numbers are the contract's."""

    NONE = 0
    PUBLISHED = 1
    REVOKED = 2


class Release(msgspec.Struct, frozen=True):
    """One release of a channel; `artefact_of` is the sequence whose artefact it re-issues, its own if new."""

    channel: bytes
    sequence: int
    published_at: int
    manifest_hash: bytes
    artefact_of: int
    state: ReleaseState


class Head(msgspec.Struct, frozen=True):
    """A block as a position: its number, 32-byte hash and timestamp in Unix seconds."""

    number: int
    hash: bytes
    timestamp: int


class WorkerChanged(msgspec.Struct, frozen=True):
    """A worker's state moved; `before` is None for a new one, `after` for one a reorg took away."""

    before: WorkerState | None
    after: WorkerState | None
    block: int

    @property
    def id(self) -> str:
        """The worker's id."""
        state = self.after or self.before
        assert state is not None
        return state.id

    @property
    def lost(self) -> bool:
        """Whether a worker that could be worked with no longer can: the order to sever."""
        return self.before is not None and self.before.usable and not (self.after is not None and self.after.usable)


class ConfigurationChanged(msgspec.Struct, frozen=True):
    """The newest configuration changed; None when a reorg took the only one away."""

    configuration: Configuration | None
    block: int


class ReleaseChanged(msgspec.Struct, frozen=True):
    """A channel's current release, or a release's state, changed; `release` is the current one."""

    channel: bytes
    release: Release | None
    block: int


Change = WorkerChanged | ConfigurationChanged | ReleaseChanged
