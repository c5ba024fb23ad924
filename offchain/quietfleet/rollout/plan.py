"""Who is in which wave of a release, and under what name.

Everything about a device's place comes from the plan's seed and the device's id, so that a gateway killed at any moment
makes the same plan again. Names and salts are of one release alone: nobody can follow a device from release to release,
and nobody without the seed finds it in the tree. The leaves are as many as a power of two, at least 16; those that
belong to nobody are spare places of the last wave, for who joins later. So neither root nor proof tells how many
devices there are, beyond that power of two.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Final

import msgspec

from quietfleet.chain.channel import Terms
from quietfleet.chain.waves import Place, WaveProof, group_root, wave_proof
from quietfleet.errors import RolloutError
from quietfleet.rollout.gates import Gate

LEAST_WIDTH: Final = 16
MOST_WAVES: Final = 16


class Plan(msgspec.Struct, frozen=True, dict=True):
    """A release's places, under one seed (32 bytes).

    `waves` has the wave of each member by its name in this release, 32 bytes in hexadecimal, and `manifests` the
    digest of what a member gets where that is not `manifest_hash`.
    """

    manifest_hash: bytes
    seed: bytes
    gate: Gate
    wave_count: int
    waves: dict[str, int]
    manifests: dict[str, bytes] = {}

    def name(self, worker: str) -> bytes:
        """Return what a worker is called in this release alone."""
        return _drawn(self.seed, "name", worker)

    def wave(self, name: bytes) -> int:
        """Return the wave of a name; who is no member joins with the last."""
        return self.waves.get(name.hex(), self.wave_count)

    @cached_property
    def places(self) -> list[Place]:
        """Every leaf in the order of names; nobody can tell members from spare places."""
        members = {bytes.fromhex(name): wave for name, wave in self.waves.items()}
        spare = {_drawn(self.seed, "spare", str(at)): self.wave_count for at in range(self._width - len(members))}
        return [self._place(name, wave) for name, wave in sorted((members | spare).items())]

    @cached_property
    def group_root(self) -> bytes:
        """The root of the tree over them."""
        return group_root(self.places)

    def proof(self, worker: str) -> WaveProof:
        """Return how a worker shows its place: its own, or for one that joined later a spare one."""
        name = self.name(worker)
        if name.hex() not in self.waves:
            name = _drawn(self.seed, "spare", str(int.from_bytes(name[:4], "big") % (self._width - len(self.waves))))
        index = next(at for at, place in enumerate(self.places) if place.pseudonym == name)
        return wave_proof(self.places, index)

    def terms(self, *, not_before: int, expires_at: int) -> Terms:
        """Return what is proposed on chain; times in Unix seconds."""
        root, count = self.group_root, self.wave_count
        return Terms(self.manifest_hash, root, self.gate.hash, not_before, expires_at, self.gate.soak, count)

    @property
    def _width(self) -> int:
        return max(LEAST_WIDTH, 1 << len(self.waves).bit_length())  # more than there are members: one is always spare

    def _place(self, name: bytes, wave: int) -> Place:
        manifest = self.manifests.get(name.hex(), self.manifest_hash)
        return Place(name, wave, manifest, _drawn(self.seed, "salt", name.hex()))


def make_plan(
    manifest_hash: bytes,
    workers: Collection[str],
    *,
    seed: bytes,
    gate: Gate,
    waves: int,
    personal: Mapping[str, bytes] | None = None,
) -> Plan:
    """Deal workers out to at most so many waves: a few canaries first, then ever more, nobody in two.

    `personal` has the manifest's digest of each worker that gets one of its own.
    """
    if not 1 <= waves <= MOST_WAVES:
        raise RolloutError(f"a release goes out in 1 to {MOST_WAVES} waves, not in {waves}")
    count = max(1, min(waves, len(workers)))
    plan = Plan(manifest_hash, seed, gate, count, {})
    ranked = sorted(workers, key=lambda worker: _drawn(seed, "rank", worker))
    dealt = {plan.name(worker).hex(): wave for worker, wave in zip(ranked, _dealt(len(ranked), count), strict=True)}
    own = {plan.name(worker).hex(): digest for worker, digest in (personal or {}).items() if worker in workers}
    return Plan(manifest_hash, seed, gate, count, dealt, own)


def _dealt(members: int, waves: int) -> Iterable[int]:
    """Yield the wave of each rank: waves grow as squares do, and each has somebody."""
    bounds = [max(wave, members * wave * wave // (waves * waves)) for wave in range(1, waves + 1)]
    return (next(wave for wave, bound in enumerate(bounds, 1) if rank < bound) for rank in range(members))


def _drawn(seed: bytes, label: str, text: str) -> bytes:
    return hmac.digest(seed, f"{label}\0{text}".encode(), "sha256")
