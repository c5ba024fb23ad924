"""A channel of model releases as the contract has it: its terms, where it stands, and what a device may run."""

from __future__ import annotations

import enum

import msgspec

from quietfleet.crypto import keccak256
from quietfleet.crypto.eip712 import word


class ReleaseState(enum.IntEnum):
    """How far a channel's newest release has come; the numbers are the contract's."""

    NONE = 0
    PROPOSED = 1
    APPROVED = 2
    ROLLING = 3
    PAUSED = 4
    COMPLETED = 5
    REVOKED = 6


class Terms(msgspec.Struct, frozen=True):
    """What a release is; times in Unix seconds, `soak` in seconds, hashes and roots 32 bytes."""

    manifest_hash: bytes
    group_root: bytes
    gate_hash: bytes
    not_before: int
    expires_at: int
    soak: int
    wave_count: int

    @property
    def digest(self) -> bytes:
        """The 24 bytes the contract keeps of them."""
        return keccak256(b"".join(map(word, msgspec.structs.astuple(self))))[:24]


class Report(msgspec.Struct, frozen=True):
    """How a release went, as its publisher counted; `root` is over the devices' signed reports, zero for none."""

    succeeded: int
    failed: int
    silent: int
    root: bytes = bytes(32)


class Release(msgspec.Struct, frozen=True):
    """One number of a channel's line; one that brings an older manifest back has the older one's terms."""

    channel: bytes
    sequence: int
    proposed_at: int
    terms: Terms

    @property
    def manifest_hash(self) -> bytes:
        """Digest of the manifest it offers."""
        return self.terms.manifest_hash


class ReleaseRecord(msgspec.Struct, frozen=True):
    """What the contract keeps of a manifest: its newest number, its flags, and 24 bytes of its terms' digest."""

    sequence: int
    completed: bool
    revoked: bool
    digest: bytes


class ChannelHead(msgspec.Struct, frozen=True):
    """Where a channel stands: what the contract keeps in one slot; all zero before the first release."""

    sequence: int = 0
    completed: int = 0
    floor: int = 0
    state: ReleaseState = ReleaseState.NONE
    wave: int = 0
    wave_count: int = 0
    since: int = 0
    not_before: int = 0
    expires_at: int = 0
    soak: int = 0


class Channel(msgspec.Struct, frozen=True):
    """Every release of a channel by number, which of them reached the whole fleet, and the manifests revoked."""

    name: bytes
    head: ChannelHead = ChannelHead()
    releases: tuple[Release, ...] = ()
    completed: frozenset[int] = frozenset()
    revoked: frozenset[bytes] = frozenset()

    def current(self, now: float = 0.0) -> Release | None:
        """Return the release a device should run: the newest that is open, else the last that still holds.

        `now` (Unix seconds) closes a rollout whose time is over; left out, its time does not count. Every wave is
        taken for open to everybody.
        """
        state = self.head.state
        rolling = state is ReleaseState.ROLLING and now <= self.head.expires_at
        if rolling or state is ReleaseState.COMPLETED:
            return self.releases[-1]
        return next((one for one in reversed(self.releases) if self._holds(one)), None)

    def record(self, manifest_hash: bytes) -> ReleaseRecord:
        """Return what the contract keeps of a manifest."""
        offers = [one for one in self.releases if one.manifest_hash == manifest_hash]
        return ReleaseRecord(
            sequence=offers[-1].sequence if offers else 0,
            completed=any(one.sequence in self.completed for one in offers),
            revoked=manifest_hash in self.revoked,
            digest=offers[-1].terms.digest if offers else bytes(24),
        )

    def _holds(self, release: Release) -> bool:
        """Whether it reached the fleet and still may run; a revoked one is below the floor."""
        return release.sequence in self.completed and release.sequence >= self.head.floor
