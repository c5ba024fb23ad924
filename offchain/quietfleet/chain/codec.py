"""Logs to typed events: the deployment's ABI decides the layout, a table here which class an event becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quietfleet.chain import events
from quietfleet.chain.abi import Abi, EventDecoder
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.source import RawLog
from quietfleet.chain.types import Configuration, Kind
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import AbiError

Arguments = dict[str, Any]
POW_SCALE = 1e9
"""The contract keeps proof of work as an integer: its value times this."""


def _enrolled(a: Arguments) -> events.Enrolled:
    public_key = a["x"] + a["y"]
    if checksum_address(keccak256(public_key)[12:]) != a["id"]:
        raise AbiError(f"{a['id']} is not the address of the key it enrolled with")
    return events.Enrolled(a["id"], a["owner"], _kind(a["kind"]), a["pending"], public_key, a["sequence"])


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError as error:
        raise AbiError(f"unknown kind {number}") from error


def configuration_from(a: Arguments) -> Configuration:
    """Read the contract's `Configuration` struct."""
    return Configuration(
        version=a["version"],
        active_from=a["activeFrom"],
        grace=a["grace"],
        min_pow=a["minPow"] / POW_SCALE,
        max_ttl=a["maxTtl"],
        max_size=a["maxSize"],
        oracle=a["oracle"],
        gateway=a["gateway"],
        epoch_key_commitment=a["epochKeyCommitment"],
        oracle_card_digest=a["oracleCardDigest"],
        gateway_card_digest=a["gatewayCardDigest"],
    )


_SERVICE: dict[str, Callable[[Arguments], events.ChainEvent]] = {
    "Enrolled": _enrolled,
    "Accepted": lambda a: events.Accepted(a["id"], a["owner"], a["sequence"]),
    "ActiveChanged": lambda a: events.ActiveChanged(a["id"], a["owner"], a["active"], a["sequence"]),
    "SuspendedChanged": lambda a: events.SuspendedChanged(a["id"], a["suspended"], a["sequence"]),
    "OwnerChanged": lambda a: events.OwnerChanged(a["id"], a["from"], a["to"], a["sequence"]),
    "Retired": lambda a: events.Retired(a["id"], a["owner"], a["sequence"]),
    "ConfigurationRotated": lambda a: events.ConfigurationRotated(configuration_from(a["configuration"])),
}
_RELEASES: dict[str, Callable[[Arguments], events.ChainEvent]] = {
    "ReleasePublished": lambda a: events.ReleasePublished(a["channel"], a["sequence"], a["manifestHash"]),
    "RolledBack": lambda a: events.RolledBack(a["channel"], a["sequence"], a["target"], a["manifestHash"]),
    "ReleaseRevoked": lambda a: events.ReleaseRevoked(a["channel"], a["sequence"]),
}

_Table = dict[bytes, tuple[EventDecoder, Callable[[Arguments], events.ChainEvent] | None]]


def _table(record: ContractRecord, builders: dict[str, Callable[[Arguments], events.ChainEvent]]) -> _Table:
    known = Abi(record.abi).events
    missing = builders.keys() - {decoder.name for decoder in known.values()}
    if missing:
        raise AbiError(f"events not in the ABI: {', '.join(sorted(missing))}")
    return {topic: (decoder, builders.get(decoder.name)) for topic, decoder in known.items()}


class Codec:
    """Decodes the logs of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._tables = {
            deployment.service.address: _table(deployment.service, _SERVICE),
            deployment.releases.address: _table(deployment.releases, _RELEASES),
        }

    def decode(self, log: RawLog) -> events.ChainEvent | None:
        """Return the event, or None for one no state depends on; AbiError if the ABI does not describe the log."""
        try:
            decoder, build = self._tables[log.address][log.topics[0]]
        except (KeyError, IndexError) as error:
            raise AbiError(f"log {log.index} of block {log.block} by {log.address} is in no ABI") from error
        return None if build is None else build(decoder.decode(log.topics, log.data))
