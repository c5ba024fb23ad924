"""Deploying: parameters are checked against the constructors first, and what stands where is written down last."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from eth_abi import is_encodable
from eth_utils import to_checksum_address

from quietfleet.console import unattended
from quietfleet.errors import DeploymentExists, ParametersError

# Constructor argument -> parameter.
ARGUMENTS = {
    "Service": {"initialOwner": "owner", "initialFee": "fee"},
    "ModelReleases": {"initialOwner": "owner", "initialPublisher": "publisher"},
}
ROLES = ("owner", "rotator", "publisher")
KNOWN = ("fee", *ROLES)


def load_parameters(path: Path) -> dict[str, Any]:
    try:
        parameters = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ParametersError(f"{path}: {error}") from error
    if not isinstance(parameters, dict):
        raise ParametersError(f"{path}: it should hold names and values")
    return parameters


def deploy(project: Any, account: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Deploy both contracts and name the rotator; return what stands where, in the form of the deployment file."""
    filled = _with_roles(parameters, account.address)
    arguments = {name: _arguments(project.get_contract(name), name, filled) for name in ARGUMENTS}
    unattended(account)
    placed = {name: account.deploy(project.get_contract(name), *values) for name, values in arguments.items()}
    if filled["rotator"] != filled["owner"]:  # the owner may rotate anyway
        placed["Service"].setRotator(filled["rotator"], sender=account)
    return _record(placed, account, filled)


def write(folder: Path, deployment: dict[str, Any]) -> Path:
    path = record_path(folder, deployment["chain_id"])
    path.write_text(json.dumps(deployment, indent=2) + "\n")
    return path


def record_path(folder: Path, chain_id: int) -> Path:
    return folder / f"{chain_id}.json"


def refuse_to_replace(folder: Path, chain_id: int) -> None:
    """Raise DeploymentExists if the chain has a deployment on record."""
    path = record_path(folder, chain_id)
    if path.exists():
        raise DeploymentExists(str(path))


def _with_roles(parameters: dict[str, Any], deployer: str) -> dict[str, Any]:
    """Fill in the roles nobody was named for: owner and publisher is who deploys, the owner rotates."""
    if unknown := sorted(set(parameters) - set(KNOWN)):
        raise ParametersError(f"{', '.join(unknown)} means nothing here; known are {', '.join(KNOWN)}")
    named = {role: _address(role, parameters[role]) for role in ROLES if role in parameters}
    owner = named.get("owner", deployer)
    roles = {"owner": owner, "rotator": owner, "publisher": deployer} | named
    if roles["rotator"] != owner != deployer:
        raise ParametersError("rotator: only the owner can name one, and the owner is not the account that deploys")
    return parameters | roles


def _address(role: str, value: Any) -> str:
    if not is_encodable("address", value):
        raise ParametersError(f"{role}: {value!r} is no address in quotation marks")
    return to_checksum_address(value)


def _arguments(contract: Any, name: str, parameters: dict[str, Any]) -> list[Any]:
    inputs = contract.contract_type.constructor.inputs
    return [_argument(ARGUMENTS[name], str(given.name), str(given.type), parameters) for given in inputs]


def _argument(names: dict[str, str], name: str, type_: str, parameters: dict[str, Any]) -> Any:
    parameter = names.get(name)
    if parameter is None or parameter not in parameters:
        raise ParametersError(f"{parameter or name}: missing; the constructor takes it as {type_}")
    value = parameters[parameter]
    if not is_encodable(type_, value):
        raise ParametersError(f"{parameter}: {value!r} is no {type_}")
    return value


def _record(placed: dict[str, Any], account: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    provider = account.provider
    contracts = {name: _entry(provider, contract) for name, contract in placed.items()}
    last = provider.get_block(max(entry["block"] for entry in contracts.values()))
    return {
        "chain_id": provider.chain_id,
        "contracts": contracts,
        "deployed_at": datetime.fromtimestamp(last.timestamp, UTC).isoformat(),
        "deployer": account.address,
        "parameters": parameters,
    }


def _entry(provider: Any, contract: Any) -> dict[str, Any]:
    receipt = provider.get_receipt(contract.txn_hash)
    abi = [item.model_dump(mode="json", by_alias=True) for item in contract.contract_type.abi]
    return {"address": contract.address, "tx": receipt.txn_hash, "block": receipt.block_number, "abi": abi}
