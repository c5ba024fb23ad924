"""Where the contracts stand: `deployments/<chain-id>.json`, as the deploy script writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from quietfleet.crypto import checksum_address
from quietfleet.errors import DeploymentError

_AUDIT: Final = "AuditAnchor"


@dataclass(frozen=True, slots=True)
class ContractRecord:
    """One deployed contract: its address, ABI and the block it came with."""

    address: str
    abi: tuple[dict[str, Any], ...]
    block: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """The contracts of one chain."""

    chain_id: int
    service: ContractRecord
    releases: ContractRecord
    audit: ContractRecord | None = None
    """Where audit logs are anchored; a deployment may do without."""

    @property
    def first_block(self) -> int:
        """The block before which nothing of ours can have happened."""
        return min(self.service.block, self.releases.block)

    @property
    def addresses(self) -> tuple[str, str]:
        """The addresses whose events are followed; anchors concern nobody but auditors."""
        return self.service.address, self.releases.address


class _Contract(msgspec.Struct):
    address: str
    block: int
    abi: tuple[dict[str, Any], ...]


class _File(msgspec.Struct):
    chain_id: int
    contracts: dict[str, _Contract]


def load_deployment(path: Path) -> Deployment:
    """Read a deployment file; raise DeploymentError if it is missing, malformed or incomplete."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise DeploymentError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise DeploymentError(f"{path}: {error}") from error
    audit = _record(path, file, _AUDIT) if _AUDIT in file.contracts else None
    return Deployment(file.chain_id, _record(path, file, "Service"), _record(path, file, "ModelReleases"), audit)


def save_deployment(path: Path, deployment: Deployment) -> None:
    """Write a new deployment file; DeploymentError if there is one already: what it names may still be in use."""
    contracts = {"Service": deployment.service, "ModelReleases": deployment.releases}
    if deployment.audit is not None:
        contracts[_AUDIT] = deployment.audit
    content = msgspec.json.encode({"chain_id": deployment.chain_id, "contracts": contracts})
    try:
        with path.open("xb") as file:
            file.write(msgspec.json.format(content, indent=2))
    except OSError as error:
        raise DeploymentError(f"{path}: {error.strerror}") from error


def _record(path: Path, file: _File, name: str) -> ContractRecord:
    contract = file.contracts.get(name)
    if contract is None:
        raise DeploymentError(f"{path}: no contract {name}")
    if not re.fullmatch("0x[0-9a-fA-F]{40}", contract.address):
        raise DeploymentError(f"{path}: {name} has no valid address")
    return ContractRecord(checksum_address(bytes.fromhex(contract.address[2:])), contract.abi, contract.block)
