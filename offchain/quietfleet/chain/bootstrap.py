"""The list of relays as the contract proves it: it keeps a digest and a block number, the event has the content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eth_abi.abi import encode

from quietfleet.chain.codec import Codec
from quietfleet.chain.events import BootstrapNamed
from quietfleet.chain.rpc import ChainClient
from quietfleet.crypto import keccak256
from quietfleet.errors import BootstrapUnproven

DIGEST_SIZE: Final = 22


def bootstrap_digest(enodes: Sequence[str]) -> bytes:
    """Return the 22 bytes that the contract keeps of a list; zeros for none."""
    return keccak256(encode(["string[]"], [list(enodes)]))[:DIGEST_SIZE] if enodes else bytes(DIGEST_SIZE)


async def proven_bootstrap(client: ChainClient, version: int, block: int, digest: bytes) -> tuple[str, ...]:
    """Read a version's list in its block and hold it against its digest; BootstrapUnproven if it is not there."""
    codec, service = Codec(client.deployment), client.deployment.service.address
    for log in await client.logs(block, block):
        event = codec.decode(log) if log.address == service else None
        if isinstance(event, BootstrapNamed) and event.version == version:
            if bootstrap_digest(event.enodes) != digest:
                raise BootstrapUnproven(f"version {version} in block {block} has another digest")
            return event.enodes
    raise BootstrapUnproven(f"no event of version {version} in block {block}")
