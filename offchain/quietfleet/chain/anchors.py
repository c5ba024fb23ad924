"""The anchors of audit logs as an object."""

from __future__ import annotations

from typing import Final

import msgspec

from quietfleet.chain._face import Face
from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.wallet import Receipt
from quietfleet.crypto import keccak256
from quietfleet.errors import DeploymentError

KEPT: Final = 24
"""Bytes of a commitment that the contract keeps; its event has all 32."""

_ANCHORED: Final = keccak256(b"Anchored(address,bytes32,uint32,bytes32)")


class KeptAnchor(msgspec.Struct, frozen=True):
    """The newest anchor of a log: its number from 1 (0: none), when in Unix seconds, the commitment's first bytes."""

    number: int
    at: int
    digest: bytes


class AnchorContract(Face):
    """Where any account anchors its logs (32 bytes each). Writing needs a wallet, reading does not."""

    @property
    def _contract(self) -> ContractRecord:
        found = self._client.deployment.audit
        if found is None:
            raise DeploymentError("this deployment has no AuditAnchor: deploy anew, or go without anchors")
        return found

    async def anchor(self, log: bytes, number: int, commitment: bytes) -> Receipt:
        """Anchor one of the account's logs under the next number; ChainRejected `NotNext` if that is another."""
        return await self._send("anchor", log, number, commitment)

    async def newest(self, keeper: str, log: bytes) -> KeptAnchor:
        """Return the newest anchor of an account's log."""
        (found,) = await self._call("newest", keeper, log)
        return KeptAnchor(found["number"], found["at"], found["digest"])

    async def made(self, keeper: str, log: bytes, number: int, block: int) -> KeptAnchor | None:
        """Return the anchor that an account made in a block, with its whole commitment; None if it made none there."""
        topics = [_ANCHORED, bytes.fromhex(keeper[2:]).rjust(32, b"\0"), log, number.to_bytes(32, "big")]
        where = {"fromBlock": hex(block), "toBlock": hex(block), "address": self._contract.address}
        query = where | {"topics": ["0x" + topic.hex() for topic in topics]}
        found, header = await self._client.request("eth_getLogs", query), await self._client.header(block)
        if not found or header is None:
            return None
        return KeptAnchor(number, header.timestamp, bytes.fromhex(found[-1]["data"][2:]))
