"""Configurations: the epoch that the next one is made from, and the newest one as its event tells it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from quietfleet.console._outbox import named
from quietfleet.errors import ConfigurationUnproven, EpochError

POW_SCALE: Final = 10**9


class Epoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public half of an epoch, as the oracle writes it for whoever rotates; 0x-hex, `gateway` may be zero."""

    version: int
    oracle: str
    gateway: str
    epoch_key_commitment: str
    oracle_card_digest: str
    gateway_card_digest: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an epoch file; EpochError if it cannot be."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise EpochError(f"{path}: {error}") from error

    @classmethod
    def kept(cls, newest: dict[str, Any]) -> Self:
        """Take the keys of the newest configuration into the next version."""
        return cls(
            newest["version"] + 1,
            newest["oracle"],
            newest["gateway"],
            newest["epochKeyCommitment"],
            newest["oracleCardDigest"],
            newest["gatewayCardDigest"],
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rotation sets beside the keys: seconds, and bytes; `lead` counts from now."""

    lead: int = 0
    grace: int = 60
    min_pow: float = 0.2
    max_ttl: int = 60
    max_size: int = 131_072

    @classmethod
    def kept(cls, newest: dict[str, Any]) -> Self:
        """Take the limits of messages from the newest configuration."""
        return cls(min_pow=newest["minPow"] / POW_SCALE, max_ttl=newest["maxTtl"], max_size=newest["maxSize"])

    def changed(self, *, at_once: bool, **limits: Any) -> Self:
        """Set those that are named; what begins at once has neither lead nor grace."""
        return replace(self, **({"lead": 0, "grace": 0} if at_once else {}) | limits)


def newest(service: Any) -> dict[str, Any] | None:
    """Read the newest configuration from its event, proven by the digest the contract keeps; None if there is none."""
    anchor = service.configuration()
    if not anchor.version:
        return None
    for log in service.ConfigurationRotated.range(anchor.newestBlock, anchor.newestBlock + 1):
        found = named(log.abi.inputs, log.event_arguments.values())["configuration"]
        if found["version"] == anchor.version and service.digestOf(tuple(found.values())) == anchor.digest:
            return dict(found)
    raise ConfigurationUnproven(f"version {anchor.version}, block {anchor.newestBlock}")
