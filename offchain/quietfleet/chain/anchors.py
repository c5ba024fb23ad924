"""The anchors of audit logs as an object."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quietfleet.chain._face import Face
from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.follower import CHUNK
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
        found = await self._events(keeper, log, number, hex(block), hex(block))
        header = await self._client.header(block)
        if not found or header is None:
            return None
        return KeptAnchor(number, header.timestamp, bytes.fromhex(found[-1]["data"][2:]))

    async def block_of(self, keeper: str, log: bytes, number: int) -> int | None:
        """Return the block that has an account's anchor of this number; None if there is none yet.

        Looks back from the newest block in steps that any endpoint grants.
        """
        header = await self._client.header()
        last = header.number if header else -1
        while last >= self._contract.block:
            first = max(self._contract.block, last - CHUNK + 1)
            found = await self._events(keeper, log, number, hex(first), hex(last))
            if found:
                return int(found[-1]["blockNumber"], 16)
            last = first - 1
        return None

    async def _events(self, keeper: str, log: bytes, number: int, first: str, last: str) -> list[dict[str, Any]]:
        topics = [_ANCHORED, bytes.fromhex(keeper[2:]).rjust(32, b"\0"), log, number.to_bytes(32, "big")]
        where = {"fromBlock": first, "toBlock": last, "address": self._contract.address}
        return list(await self._client.request("eth_getLogs", where | {"topics": ["0x" + one.hex() for one in topics]}))
