"""Logs to typed events: the deployment's ABI decides the layout, a table here which class an event becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quietfleet.chain import events
from quietfleet.chain.abi import Abi, EventDecoder
from quietfleet.chain.channel import Report, Terms
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.source import RawLog
from quietfleet.chain.types import Configuration, Kind, Right
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import AbiError

Arguments = dict[str, Any]
POW_SCALE = 1e9
"""The contract keeps proof of work as an integer: its value times this."""
MOST_ENODES: Final = 16
"""Relays that a list names at most: the contract's bound, like the next one."""
MOST_ENODE: Final = 200
"""Bytes of a relay's URL at most."""


def _public_key(a: Arguments, address: str) -> bytes:
    """Return the key x and y of an event, which has to be that of the address it names."""
    public_key: bytes = a["x"] + a["y"]
    if checksum_address(keccak256(public_key)[12:]) != address:
        raise AbiError(f"{address} is not the address of the key it came with")
    return public_key


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError as error:
        raise AbiError(f"unknown kind {number}") from error


def _right(number: int) -> Right:
    if number & ~sum(Right):
        raise AbiError(f"unknown rights {number}")
    return Right(number)


def _enrolment(a: Arguments) -> tuple[str, str, Kind, bytes]:
    return a["id"], a["owner"], _kind(a["kind"]), _public_key(a, a["id"])


def _key_rotated(a: Arguments) -> events.KeyRotated:
    return events.KeyRotated(a["id"], a["key"], _public_key(a, a["key"]), a["epoch"], a["sequence"])


def _configuration(a: Arguments) -> Configuration:
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
        previous_block=a["previousBlock"],
    )


def _enodes(a: Arguments) -> tuple[str, ...]:
    """Hold a list against the contract's bounds: an endpoint could make one up that nobody has room for."""
    enodes: tuple[str, ...] = a["enodes"]
    if len(enodes) > MOST_ENODES or any(len(enode) > MOST_ENODE for enode in enodes):
        raise AbiError(f"{len(enodes)} relays of {max(map(len, enodes))} characters are beyond the contract's bounds")
    return enodes


def _terms(a: Arguments) -> Terms:
    return Terms(
        manifest_hash=a["manifestHash"],
        group_root=a["groupRoot"],
        gate_hash=a["gateHash"],
        not_before=a["notBefore"],
        expires_at=a["expiresAt"],
        soak=a["soak"],
        wave_count=a["waveCount"],
    )


def _report(a: Arguments) -> Report:
    return Report(a["succeeded"], a["failed"], a["silent"], a["reportRoot"])


_Builders = dict[str, Callable[[Arguments], events.ChainEvent]]

_SERVICE: _Builders = {
    "Enrolled": lambda a: events.Enrolled(*_enrolment(a)),
    "EnrolledItself": lambda a: events.EnrolledItself(*_enrolment(a)),
    "Accepted": lambda a: events.Accepted(a["id"], a["owner"], a["sequence"]),
    "ActiveChanged": lambda a: events.ActiveChanged(a["id"], a["by"], a["active"], a["sequence"]),
    "SuspendedChanged": lambda a: events.SuspendedChanged(a["id"], a["suspended"], a["sequence"]),
    "KeyRotated": _key_rotated,
    "TransferOffered": lambda a: events.TransferOffered(a["id"], a["to"], a["sequence"]),
    "TransferCancelled": lambda a: events.TransferCancelled(a["id"], a["sequence"]),
    "OwnerChanged": lambda a: events.OwnerChanged(a["id"], a["from"], a["to"], a["sequence"]),
    "Retired": lambda a: events.Retired(a["id"], a["owner"], a["sequence"]),
    "OperatorChanged": lambda a: events.OperatorChanged(a["owner"], a["operator"], _right(a["rights"]), a["until"]),
    "ConfigurationRotated": lambda a: events.ConfigurationRotated(_configuration(a["configuration"])),
    "BootstrapNamed": lambda a: events.BootstrapNamed(a["version"], _enodes(a)),
}
_RELEASES: _Builders = {
    "ReleaseProposed": lambda a: events.ReleaseProposed(a["channel"], a["sequence"], _terms(a["terms"])),
    "ReleaseApproved": lambda a: events.ReleaseApproved(a["channel"], a["sequence"], a["by"]),
    "WaveOpened": lambda a: events.WaveOpened(a["channel"], a["sequence"], a["wave"]),
    "RolloutPaused": lambda a: events.RolloutPaused(a["channel"], a["sequence"], a["by"]),
    "RolloutResumed": lambda a: events.RolloutResumed(a["channel"], a["sequence"], a["by"]),
    "ReleaseFinalised": lambda a: events.ReleaseFinalised(
        a["channel"], a["sequence"], a["floor"], _report(a["report"])
    ),
    "RolledBack": lambda a: events.RolledBack(a["channel"], a["sequence"], a["manifestHash"], a["target"]),
    "ReleaseRevoked": lambda a: events.ReleaseRevoked(a["channel"], a["sequence"], a["manifestHash"], a["floor"]),
}

_Table = dict[bytes, tuple[EventDecoder, Callable[[Arguments], events.ChainEvent] | None]]


def _table(record: ContractRecord, builders: _Builders) -> _Table:
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
