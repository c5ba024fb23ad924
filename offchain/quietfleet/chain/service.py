"""The central contract as an object: enrolment, owner control, keys, configuration, fees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from quietfleet.chain._face import Face
from quietfleet.chain.bootstrap import proven_bootstrap
from quietfleet.chain.codec import POW_SCALE
from quietfleet.chain.configuration import proven_configuration, read_configuration
from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.types import Anchor, Configuration, Flag, KeyUse, Kind, Right, WorkerRecord
from quietfleet.chain.wallet import Receipt

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

    @classmethod
    def keeping(cls, configuration: Configuration, *, min_pow: float, grace: int = 0) -> Rotation:
        """The rotation that changes nothing but the least proof of work: everybody keeps their keys."""
        return cls(
            oracle=configuration.oracle,
            epoch_key_commitment=configuration.epoch_key_commitment,
            oracle_card_digest=configuration.oracle_card_digest,
            gateway=configuration.gateway,
            gateway_card_digest=configuration.gateway_card_digest,
            grace=grace,
            min_pow=min_pow,
            max_ttl=configuration.max_ttl,
            max_size=configuration.max_size,
        )


class ServiceContract(Face):
    """The central contract. Writing needs a wallet, reading does not."""

    @property
    def _contract(self) -> ContractRecord:
        return self._client.deployment.service

    # enrolment

    async def enrol(self, consent: Consent) -> Receipt:
        """Enrol a device with its consent, as its owner, paying the fee in force."""
        return await self._send("enrol", consent.arguments, value=await self.fee())

    async def enrol_batch(self, consents: Sequence[Consent]) -> Receipt:
        """Enrol several devices with their consents: all of them, or none."""
        arguments = [consent.arguments for consent in consents]
        return await self._send("enrolBatch", arguments, value=len(consents) * await self.fee())

    async def enrol_self(self, public_key: bytes, kind: Kind, owner: str) -> Receipt:
        """Enrol the wallet's own key as a device (64-byte `public_key`), pending until `owner` accepts."""
        terms = (public_key[:32], public_key[32:], int(kind), owner)
        return await self._send("enrolSelf", *terms, value=await self.fee())

    async def accept(self, worker_id: str) -> Receipt:
        """Accept a device that named this wallet as its owner."""
        return await self._send("accept", worker_id)

    # owners

    async def set_active(self, worker_ids: Sequence[str], active: bool) -> Receipt:
        """Switch devices on or off as their owner or its operator, all in one transaction or none."""
        if len(worker_ids) == 1:
            return await self._send("setActive", worker_ids[0], active)
        return await self._send("setActiveBatch", list(worker_ids), active)

    async def rotate_keys(self, proofs: Sequence[KeyProof]) -> Receipt:
        """Replace devices' messaging keys as their owner or its operator, all in one transaction or none."""
        if len(proofs) == 1:
            return await self._send("rotateKey", proofs[0].arguments)
        return await self._send("rotateKeyBatch", [proof.arguments for proof in proofs])

    async def set_operator(self, operator: str, rights: Right, until: int) -> Receipt:
        """Let an account act upon this wallet's devices until a time in Unix seconds; no rights until 0 ends it."""
        return await self._send("setOperator", operator, int(rights), until)

    async def offer_transfer(self, worker_id: str, to: str) -> Receipt:
        """Offer a device to another owner, who has to accept."""
        return await self._send("offerTransfer", worker_id, to)

    async def cancel_transfer(self, worker_id: str) -> Receipt:
        """Take the offer of a device back."""
        return await self._send("cancelTransfer", worker_id)

    async def accept_transfer(self, worker_id: str) -> Receipt:
        """Take over a device that was offered to this wallet."""
        return await self._send("acceptTransfer", worker_id)

    async def transfer_signed(self, worker_id: str, to: str, deadline: int, signature: bytes) -> Receipt:
        """Pass a device to another owner, who signed for it (`take_over_digest`)."""
        return await self._send("transferSigned", worker_id, to, deadline, signature)

    async def retire(self, worker_id: str) -> Receipt:
        """Take a device out of the fleet for good, as its owner."""
        return await self._send("retire", worker_id)

    # the service's owner, or whoever may rotate

    async def set_suspended(self, worker_id: str, suspended: bool) -> Receipt:
        """Suspend or re-admit a device as the service's owner."""
        return await self._send("setSuspended", worker_id, suspended)

    async def rotate(self, rotation: Rotation) -> Receipt:
        """Rotate the configuration as the service's owner or rotator."""
        return await self._send("rotate", _arguments(rotation))

    async def rotate_at_once(self, rotation: Rotation) -> Receipt:
        """Rotate in an emergency: in force with its block, nothing before it tolerated, whatever `rotation` says."""
        return await self._send("rotateAtOnce", _arguments(msgspec.structs.replace(rotation, active_from=0, grace=0)))

    async def set_rotator(self, rotator: str) -> Receipt:
        """Name who may rotate besides the service's owner."""
        return await self._send("setRotator", rotator)

    async def set_pow_bounds(self, least: float, most: float) -> Receipt:
        """Bound the least proof of work a rotation may ask for."""
        return await self._send("setPowBounds", _scaled(least), _scaled(most))

    async def set_bootstrap(self, enodes: Sequence[str]) -> Receipt:
        """Name the relays to begin with as the service's owner, in place of those before; none takes the list back."""
        return await self._send("setBootstrap", list(enodes))

    async def announce_fee(self, fee: int) -> Receipt:
        """Announce another fee, in wei."""
        return await self._send("announceFee", fee)

    async def cancel_fee(self) -> Receipt:
        """Take the announced fee back."""
        return await self._send("cancelFee")

    async def apply_fee(self) -> Receipt:
        """Put the announced fee in force."""
        return await self._send("applyFee")

    async def lower_fee_cap(self, cap: int) -> Receipt:
        """Lower the most an enrolment may ever cost, in wei, for good."""
        return await self._send("lowerFeeCap", cap)

    async def set_paused(self, paused: bool) -> Receipt:
        """Stop enrolments, or let them go on."""
        return await self._send("setPaused", paused)

    async def name_successor(self, contract: str) -> Receipt:
        """Name the contract this service moves to."""
        return await self._send("nameSuccessor", contract)

    # reading

    async def fee(self) -> int:
        """Return the price of an enrolment in wei."""
        return int((await self._call("fee"))[0])

    async def worker(self, worker_id: str, block: int | None = None) -> WorkerRecord | None:
        """Return a worker as the contract has it; None if it was never enrolled."""
        (found,) = await self._call("worker", worker_id, block=block)
        return _worker(worker_id, found) if found["kind"] else None

    async def worker_of(self, key: str) -> KeyUse | None:
        """Return whose messaging key an address is, or was; None if nobody's."""
        found = KeyUse(*await self._call("workerOf", key))
        return None if found.worker == NOBODY else found

    async def operator_rights(self, owner: str, operator: str) -> Right:
        """Return what an account may do with an owner's devices now."""
        return Right((await self._call("operatorRights", owner, operator))[0])

    async def can_cooperate(self, a: str, b: str) -> bool:
        """Ask the contract itself whether two workers may work together."""
        return bool((await self._call("canCooperate", a, b))[0])

    async def pow_bounds(self) -> tuple[float, float]:
        """Return within which bounds a rotation may choose the least proof of work."""
        least, most = await self._call("powBounds")
        return least / POW_SCALE, most / POW_SCALE

    async def anchor(self) -> Anchor:
        """Return what the contract keeps of the line of configurations."""
        (found,) = await self._call("configuration")
        return Anchor(*found.values())

    async def configuration(self) -> tuple[Configuration | None, Configuration | None]:
        """Return the latest configuration, and the one that was in force when it was set, each proven by its digest.

        Raises ConfigurationUnproven when the endpoint's events are not the ones the contract vouches for.
        """
        anchor = await self.anchor()
        latest = (anchor.version, anchor.newest_block, anchor.digest)
        previous = (anchor.previous_version, anchor.previous_block, anchor.previous_digest)
        return await self._proven(*latest), await self._proven(*previous)

    async def bootstrap(self) -> tuple[str, ...]:
        """Return the relays to begin with, proven by their digest; BootstrapUnproven when the events say otherwise."""
        version, block, digest = await self._call("bootstrap")
        return await proven_bootstrap(self._client, version, block, digest) if version else ()

    async def history(self) -> AsyncIterator[Configuration]:
        """Yield every configuration there was, newest first: each names the block of the one before.

        The newest is proven by its digest; for the others the endpoint's word has to do.
        """
        anchor = await self.anchor()
        one = await self._proven(anchor.version, anchor.newest_block, anchor.digest)
        while one is not None:
            yield one
            older = one.version - 1
            one = await read_configuration(self._client, older, one.previous_block) if older else None

    async def _proven(self, version: int, block: int, digest: bytes) -> Configuration | None:
        return await proven_configuration(self._client, version, block, digest) if version else None


def _arguments(rotation: Rotation) -> tuple[Any, ...]:
    return (
        rotation.active_from,
        rotation.grace,
        _scaled(rotation.min_pow),
        rotation.max_ttl,
        rotation.max_size,
        rotation.oracle,
        rotation.gateway,
        rotation.epoch_key_commitment,
        rotation.oracle_card_digest,
        rotation.gateway_card_digest,
    )


def _scaled(proof_of_work: float) -> int:
    return round(proof_of_work * POW_SCALE)


def _worker(worker_id: str, found: dict[str, Any]) -> WorkerRecord:
    flags = Flag(found["flags"])
    return WorkerRecord(
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
