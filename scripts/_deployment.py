"""Deploying: parameters are checked first, and what stands where is written down before anything else is done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from scripts import _parameters

from quietfleet.console import Call, Desk, Outbox, spoken, unattended

CONTRACTS = tuple(_parameters.ARGUMENTS)


def deploy(project: Any, account: Any, parameters: dict[str, Any], outbox: Outbox) -> dict[str, Any]:
    """Deploy the contracts with complete parameters; return what stands where, in the form of the deployment file."""
    unattended(account)
    placed: dict[str, Any] = {}
    for name in CONTRACTS:
        values = _values(project, name, parameters, placed["Service"].address if placed else "")
        with spoken():
            placed[name] = account.deploy(project.get_contract(name), *values)
        outbox.calls.append(_made(project, account, name, values, placed[name]))
    return _record(placed, account, parameters)


def rehearse(project: Any, account: Any, parameters: dict[str, Any], outbox: Outbox) -> tuple[str, str]:
    """Estimate what deploying would take after the calls rehearsed so far; return where the contracts would stand."""
    nonce = account.nonce + len(outbox.calls)
    places = [account.get_deployment_address(nonce + ahead) for ahead in range(len(CONTRACTS))]
    for name, place in zip(CONTRACTS, places, strict=True):
        values = _values(project, name, parameters, places[0])
        with spoken():
            gas = account.provider.estimate_gas_cost(project.get_contract(name)(*values, sender=account.address))
        outbox.calls.append(Call(place, name, _named(project, name, values), account.address, True, 0, gas, ""))
    service, releases, _ = places
    if _names_rotator(parameters):
        outbox.foresee(service, "setRotator", {"current": parameters["rotator"]}, account.address)
    if "bootstrap" in parameters:
        outbox.foresee(service, "setBootstrap", {"enodes": parameters["bootstrap"]}, account.address)
    if "publisher" in parameters:
        named = {"publisher": parameters["publisher"], "gateway": parameters["gateway"]}
        outbox.foresee(releases, "setPublisher", named, account.address)
    return service, releases


def appoint(desk: Desk, parameters: dict[str, Any]) -> None:
    """Name those whom no constructor names."""
    if _names_rotator(parameters):
        desk.service.set_rotator(parameters["rotator"])
    if "bootstrap" in parameters:
        desk.service.set_bootstrap(*parameters["bootstrap"])
    if "publisher" in parameters:
        desk.releases.set_publisher(parameters["publisher"], parameters["gateway"])


def _names_rotator(parameters: dict[str, Any]) -> bool:
    """Tell whether somebody rotates besides the owner, who may anyway."""
    return parameters["rotator"] not in (parameters["owner"], _parameters.NOBODY)


def _values(project: Any, name: str, parameters: dict[str, Any], service: str) -> list[Any]:
    return _parameters.arguments(project, name, parameters | {"service": service})


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


def _made(project: Any, account: Any, name: str, values: list[Any], contract: Any) -> Call:
    receipt = account.provider.get_receipt(contract.txn_hash)
    given, made = _named(project, name, values), (receipt.txn_hash, receipt.block_number)
    return Call(contract.address, name, given, account.address, True, 0, receipt.gas_used, "", *made)


def _named(project: Any, name: str, values: list[Any]) -> dict[str, Any]:
    inputs = project.get_contract(name).contract_type.constructor.inputs
    return {str(one.name): value for one, value in zip(inputs, values, strict=True)}
