"""The relays that workers begin with: checked before they are sent, and read from their event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quietfleet.chain.bootstrap import bootstrap_digest
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import AddressError, BootstrapUnproven
from quietfleet.network.address import Enode


def checked(enodes: Iterable[str]) -> list[str]:
    """Spell them in one way; AddressError if one is no enode URL."""
    return [str(Enode.parse(enode)) for enode in enodes]


def shown(enode: str) -> str:
    """Say it for people: whose key it is, which is its worker's unless that had another one since, and where."""
    try:
        relay = Enode.parse(enode)
    except AddressError:
        return repr(enode)
    return f"{checksum_address(keccak256(relay.node_id)[12:])} at {relay.address}"


def named_relays(service: Any) -> list[str]:
    """Read the newest list from its event, proven by the digest the contract keeps; BootstrapUnproven otherwise."""
    anchor = service.bootstrap()
    if not anchor.version:
        return []
    for log in service.BootstrapNamed.range(anchor.newestBlock, anchor.newestBlock + 1):
        enodes = [str(enode) for enode in log.enodes]
        if log.version == anchor.version and bootstrap_digest(enodes) == bytes(anchor.digest):
            return enodes
    raise BootstrapUnproven(f"version {anchor.version}, block {anchor.newestBlock}")
