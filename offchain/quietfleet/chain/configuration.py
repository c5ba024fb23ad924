"""Configurations as the contract proves them: it keeps a digest and a block number, the event has the content."""

from __future__ import annotations

from typing import Final

from quietfleet.chain.codec import POW_SCALE, Codec
from quietfleet.chain.events import ConfigurationRotated
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.types import Configuration
from quietfleet.crypto.eip712 import typed_digest
from quietfleet.errors import ConfigurationUnproven

_TYPE: Final = (
    "Configuration(uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,"
    "address oracle,address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,"
    "bytes32 gatewayCardDigest,uint48 previousBlock)"
)


def configuration_digest(configuration: Configuration, chain_id: int, contract: str) -> bytes:
    """Return the 32-byte EIP-712 digest of a configuration: the contract's `digestOf`."""
    one = configuration
    return typed_digest(
        chain_id,
        contract,
        _TYPE,
        one.version,
        one.active_from,
        one.grace,
        round(one.min_pow * POW_SCALE),
        one.max_ttl,
        one.max_size,
        one.oracle,
        one.gateway,
        one.epoch_key_commitment,
        one.oracle_card_digest,
        one.gateway_card_digest,
        one.previous_block,
    )


async def read_configuration(client: ChainClient, version: int, block: int) -> Configuration:
    """Read the event of a version in its block; ConfigurationUnproven if it is not there."""
    codec, service = Codec(client.deployment), client.deployment.service.address
    for log in await client.logs(block, block):
        event = codec.decode(log) if log.address == service else None
        if isinstance(event, ConfigurationRotated) and event.configuration.version == version:
            return event.configuration
    raise ConfigurationUnproven(f"no event of version {version} in block {block}")


async def proven_configuration(client: ChainClient, version: int, block: int, digest: bytes) -> Configuration:
    """Read a version and hold it against its digest; ConfigurationUnproven if it is another."""
    found = await read_configuration(client, version, block)
    place = client.deployment
    if configuration_digest(found, place.chain_id, place.service.address) != digest:
        raise ConfigurationUnproven(f"version {version} in block {block} has another digest")
    return found
