"""Typed faces of the two contracts: no caller sees an ABI tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from quietfleet.chain.codec import POW_SCALE, configuration_from
from quietfleet.chain.consent import Consent
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.types import Configuration, Flag, Kind, Release, ReleaseState, WorkerState
from quietfleet.chain.wallet import Receipt, Wallet
from quietfleet.errors import ChainError

NOBODY: Final = "0x" + 40 * "0"
"""The zero address: no gateway."""


class Rotation(msgspec.Struct, frozen=True):
    """The input of a rotation; `active_from` in Unix seconds, 0 for the block that takes it.

    A fleet may do without a gateway, whose address and card digest are then both zero.
    """

    oracle: str
    epoch_key_commitment: bytes
    oracle_card_digest: bytes
    gateway: str = NOBODY
    gateway_card_digest: bytes = bytes(32)
    active_from: int = 0
    grace: int = 60
    min_pow: float = 0.2
    max_ttl: int = 300
    max_size: int = 1 << 20


class _Face:
    def __init__(self, client: ChainClient, wallet: Wallet | None = None) -> None:
        self._client = client
        self._wallet = wallet

    @property
    def address(self) -> str:
        """The account this face acts for."""
        return self._signer.address

    @property
    def _signer(self) -> Wallet:
        if self._wallet is None:
            raise ChainError("this is a read-only view of the contract: give it a wallet")
        return self._wallet


class ServiceContract(_Face):
    """The central contract: enrolment, owner control, configuration. Writing needs a wallet, reading does not."""

    async def enrol(self, consent: Consent) -> Receipt:
        """Enrol a device with its consent, as its owner, paying the fee in force."""
        x, y = consent.public_key[:32], consent.public_key[32:]
        arguments = (x, y, int(consent.kind), consent.deadline, consent.signature)
        return await self._send("enrol", arguments, value=await self.fee())

    async def enrol_self(self, public_key: bytes, kind: Kind, owner: str) -> Receipt:
        """Enrol the wallet's own key as a device (64-byte `public_key`), pending until `owner` accepts."""
        arguments = (public_key[:32], public_key[32:], int(kind), owner)
        return await self._send("enrolSelf", arguments, value=await self.fee())

    async def accept(self, worker_id: str) -> Receipt:
        """Accept a device that named this wallet as its owner."""
        return await self._send("accept", (worker_id,))

    async def set_active(self, worker_ids: Sequence[str], active: bool) -> Receipt:
        """Switch devices on or off as their owner, all in one transaction or none."""
        return await self._send("setActive(address[],bool)", (list(worker_ids), active))

    async def set_suspended(self, worker_id: str, suspended: bool) -> Receipt:
        """Suspend or re-admit a device as the service's owner."""
        return await self._send("setSuspended", (worker_id, suspended))

    async def offer_transfer(self, worker_id: str, to: str) -> Receipt:
        """Offer a device to another owner, who has to accept."""
        return await self._send("offerTransfer", (worker_id, to))

    async def accept_transfer(self, worker_id: str) -> Receipt:
        """Take over a device that was offered to this wallet."""
        return await self._send("acceptTransfer", (worker_id,))

    async def retire(self, worker_id: str) -> Receipt:
        """Take a device out of the fleet for good, as its owner."""
        return await self._send("retire", (worker_id,))

    async def rotate(self, rotation: Rotation) -> Receipt:
        """Rotate the configuration as the service's owner or rotator."""
        return await self._send("rotate", (_rotation_tuple(rotation),))

    async def set_rotator(self, rotator: str) -> Receipt:
        """Name who may rotate besides the service's owner."""
        return await self._send("setRotator", (rotator,))

    async def fee(self) -> int:
        """Return the price of an enrolment in wei."""
        return int((await self._call("fee"))[0])

    async def worker(self, worker_id: str, block: int | None = None) -> WorkerState | None:
        """Return a worker as the contract has it; None if it was never enrolled."""
        (found,) = await self._call("worker", (worker_id,), block)
        return _worker(worker_id, found) if found["kind"] else None

    async def worker_count(self) -> int:
        """Return how many workers were ever enrolled."""
        return int((await self._call("workerCount"))[0])

    async def can_cooperate(self, a: str, b: str) -> bool:
        """Ask the contract itself whether two workers may work together."""
        return bool((await self._call("canCooperate", (a, b)))[0])

    async def configuration(self) -> tuple[Configuration | None, Configuration | None]:
        """Return the latest and the previous configuration."""
        latest, previous = await self._call("configuration")
        return _configuration(latest), _configuration(previous)

    async def _send(self, function: str, arguments: Sequence[Any] = (), value: int = 0) -> Receipt:
        return await self._signer.send(self._client.deployment.service, function, arguments, value)

    async def _call(self, function: str, arguments: Sequence[Any] = (), block: int | None = None) -> tuple[Any, ...]:
        return await self._client.call(self._client.deployment.service, function, arguments, block)


class ReleasesContract(_Face):
    """The line of model releases of each channel (32 bytes)."""

    async def publish(self, channel: bytes, manifest_hash: bytes) -> Receipt:
        """Anchor a new release as the publisher."""
        return await self._send("publish", (channel, manifest_hash))

    async def roll_back(self, channel: bytes, to_sequence: int) -> Receipt:
        """Issue an older release again under a new sequence."""
        return await self._send("rollBack", (channel, to_sequence))

    async def revoke(self, channel: bytes, sequence: int) -> Receipt:
        """Forbid a release, and all that share its manifest, for good, as the contract's owner."""
        return await self._send("revoke", (channel, sequence))

    async def current(self, channel: bytes) -> Release | None:
        """Return a channel's newest release; None if it has none."""
        return _release(channel, (await self._call("current", (channel,)))[0])

    async def release(self, channel: bytes, sequence: int) -> Release | None:
        """Return one release; None if there is no such sequence."""
        return _release(channel, (await self._call("release", (channel, sequence)))[0])

    async def publisher(self) -> str:
        """Return who may publish."""
        return str((await self._call("publisher"))[0])

    async def _send(self, function: str, arguments: Sequence[Any]) -> Receipt:
        return await self._signer.send(self._client.deployment.releases, function, arguments)

    async def _call(self, function: str, arguments: Sequence[Any] = ()) -> tuple[Any, ...]:
        return await self._client.call(self._client.deployment.releases, function, arguments)


def _rotation_tuple(rotation: Rotation) -> tuple[Any, ...]:
    return (
        rotation.active_from,
        rotation.grace,
        round(rotation.min_pow * POW_SCALE),
        rotation.max_ttl,
        rotation.max_size,
        rotation.oracle,
        rotation.gateway,
        rotation.epoch_key_commitment,
        rotation.oracle_card_digest,
        rotation.gateway_card_digest,
    )


def _worker(worker_id: str, found: dict[str, Any]) -> WorkerState:
    flags = Flag(found["flags"])
    return WorkerState(
        id=worker_id,
        owner=found["owner"],
        kind=Kind(found["kind"]),
        epoch=found["epoch"],
        sequence=found["sequence"],
        since=found["since"],
        active=Flag.ACTIVE in flags,
        suspended=Flag.SUSPENDED in flags,
        pending=Flag.PENDING in flags,
        retired=Flag.RETIRED in flags,
    )


def _configuration(found: dict[str, Any]) -> Configuration | None:
    return configuration_from(found) if found["version"] else None


def _release(channel: bytes, found: dict[str, Any]) -> Release | None:
    if not found["sequence"]:
        return None
    return Release(
        channel=channel,
        sequence=found["sequence"],
        published_at=found["publishedAt"],
        manifest_hash=found["manifestHash"],
        artefact_of=found["artifactOf"],
        state=ReleaseState(found["state"]),
    )
