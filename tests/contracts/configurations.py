"""Configurations of the fleet as the contract takes them, tells of them and digests them."""

from __future__ import annotations

from typing import Any, NamedTuple

from eth_utils import keccak
from mirrors import DAY, typed

SOON = 0  # the contract's word for "as soon as may be"
LEAD = 7 * DAY
LONGEST_GRACE = 7 * DAY
MOST_POW = 1000 * 10**9
FIELDS = {
    "activeFrom": SOON,
    "grace": 60,
    "minPow": 200_000_000,
    "maxTtl": 60,
    "maxSize": 131_072,
    "oracle": "0x" + "0a" * 20,
    "gateway": "0x" + "0b" * 20,
    "epochKeyCommitment": b"\x01" * 32,
    "oracleCardDigest": b"\x02" * 32,
    "gatewayCardDigest": b"\x03" * 32,
}


class Configuration(NamedTuple):
    """A configuration as its event tells it, with addresses in lower case so that they compare."""

    version: int
    activeFrom: int  # noqa: N815 (the struct's names)
    grace: int
    minPow: int  # noqa: N815
    maxTtl: int  # noqa: N815
    maxSize: int  # noqa: N815
    oracle: str
    gateway: str
    epochKeyCommitment: bytes  # noqa: N815
    oracleCardDigest: bytes  # noqa: N815
    gatewayCardDigest: bytes  # noqa: N815
    previousBlock: int  # noqa: N815


def given(**changes: Any) -> tuple[Any, ...]:
    """What a rotation takes."""
    return tuple((FIELDS | changes).values())


def as_set(version: int, active_from: int, previous_block: int, **changes: Any) -> Configuration:
    """What the contract should make of it."""
    _, *fields = (FIELDS | changes).values()
    return Configuration(version, active_from, *fields, previous_block)


def told(event: Any) -> Configuration:
    """What an event of a rotation tells."""
    return Configuration(*(value.lower() if isinstance(value, str) else value for value in event.configuration))


def digest_of(service: Any, configuration: Configuration) -> bytes:
    """Its EIP-712 digest on the chain and at the address of the service."""
    message = typed(service, "Configuration", *configuration)
    return keccak(b"\x19" + message.version + message.header + message.body)
