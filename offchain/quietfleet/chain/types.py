"""What the contracts know, as values: workers and configurations; addresses are checksummed hex."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from quietfleet.chain.channel import Release


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


class Right(enum.IntFlag):
    """What an owner may let an operator do; the numbers are the contract's."""

    SWITCH_OFF = 1
    SWITCH_ON = 2
    REPLACE_KEYS = 4


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


class WorkerRecord(msgspec.Struct, frozen=True):
    """One worker as the contract keeps it; `since` in Unix seconds, `sequence` counts its events from 1."""

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


class WorkerState(WorkerRecord, frozen=True):
    """One worker as its events tell it: also its current messaging key, and to whom it is offered.

    `key` is the address of `public_key`, which is x and y, 64 bytes; in epoch 0 it is the worker's id. `switched_on_by`
    is who switched it on last under its present owner: that owner or an operator; None if nobody has.
    """

    key: str
    public_key: bytes
    offered_to: str | None = None
    switched_on_by: str | None = None


class Grant(msgspec.Struct, frozen=True):
    """What an owner lets an operator do, until a time in Unix seconds, that second included."""

    rights: Right
    until: int

    def at(self, timestamp: int) -> Right:
        """Return the rights in a block of that time: the contract's rule."""
        return self.rights if timestamp <= self.until else Right(0)


class Operators(msgspec.Struct, frozen=True):
    """The operators an owner has named, by address; one whose rights were taken back is not among them."""

    owner: str
    grants: dict[str, Grant] = {}


class KeyUse(NamedTuple):
    """Whose messaging key an address belongs to: which of the worker's keys it is, and whether it is the newest."""

    worker: str
    epoch: int
    current: bool


class Configuration(msgspec.Struct, frozen=True):
    """One messaging configuration; times in Unix seconds, `grace` and `max_ttl` in seconds, `max_size` in bytes.

    `previous_block` holds the event of the version before, 0 for the first. `keys_from` is known to a replica alone:
    the version whose keys this one keeps, 0 when it brings its own.
    """

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
    previous_block: int = 0
    keys_from: int = 0

    @property
    def epoch(self) -> int:
        """The version whose keys are in use under this one."""
        return self.keys_from or self.version

    def shares_keys(self, other: Configuration) -> bool:
        """Whether both stand on the same keys, so that passing from one to the other needs no new ones."""
        return self._keys == other._keys

    @property
    def _keys(self) -> tuple[str, str, bytes, bytes, bytes]:
        digests = (self.epoch_key_commitment, self.oracle_card_digest, self.gateway_card_digest)
        return self.oracle, self.gateway, *digests


class Configurations(msgspec.Struct, frozen=True):
    """The newest configuration, and the one that was in force when it was set: what the contract keeps digests of."""

    latest: Configuration
    previous: Configuration | None = None


class Bootstrap(msgspec.Struct, frozen=True):
    """The relays that a worker may begin with, as the service owner wrote them: `enode://` URLs, not checked."""

    version: int
    enodes: tuple[str, ...]


class Anchor(msgspec.Struct, frozen=True):
    """What the contract keeps of the line of configurations: versions, blocks of their events, 32-byte digests."""

    version: int
    active_from: int
    grace: int
    newest_block: int
    digest: bytes
    previous_version: int
    previous_block: int
    previous_digest: bytes


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

    @property
    def handed_over(self) -> bool:
        """Whether it is another's now, or, after a reorg, of another kind: whom its partners agreed to is gone."""
        if self.before is None or self.after is None:
            return False
        return (self.before.owner, self.before.kind) != (self.after.owner, self.after.kind)

    @property
    def parts(self) -> bool:
        """Whether everything between it and its partners ends here, and only a fresh dispatch may begin anew."""
        return self.lost or self.handed_over


class ConfigurationChanged(msgspec.Struct, frozen=True):
    """The newest configuration changed; None when a reorg took the only one away."""

    configuration: Configuration | None
    block: int


class BootstrapChanged(msgspec.Struct, frozen=True):
    """The relays to begin with are others; none when the list, or the block it stood in, was taken back."""

    enodes: tuple[str, ...]
    block: int


class ReleaseChanged(msgspec.Struct, frozen=True):
    """Devices should run another release of a channel than before: `release`, or none at all."""

    channel: bytes
    release: Release | None
    block: int


class OperatorsChanged(msgspec.Struct, frozen=True):
    """An owner named an operator, or took rights back; a grant that ran out is no change of its own."""

    owner: str
    block: int


Change = WorkerChanged | OperatorsChanged | ConfigurationChanged | BootstrapChanged | ReleaseChanged
