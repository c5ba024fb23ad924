"""What a fleet is deployed with: read from YAML, filled up, and checked against constructors and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from eth_abi import is_encodable
from eth_utils import to_checksum_address

from quietfleet.console import checked_enodes
from quietfleet.errors import AddressError, ParametersError

MOST_ENODES: Final = 16
NOBODY: Final = "0x" + 40 * "0"

# Constructor argument -> parameter; `service` is where the other contract will stand.
ARGUMENTS: Final = {
    "Service": {"initialOwner": "owner", "initialFee": "fee", "initialFeeCap": "fee_cap"},
    "ModelReleases": {"initialOwner": "owner", "service_": "service", "initialApprover": "approver"},
    "AuditAnchor": {},
}
ROLES: Final = ("owner", "rotator", "approver", "publisher", "gateway")
KNOWN: Final = ("fee", "fee_cap", "bootstrap", *ROLES)


def load(path: Path) -> dict[str, Any]:
    try:
        parameters = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ParametersError(f"{path}: {error}") from error
    if not isinstance(parameters, dict):
        raise ParametersError(f"{path}: it should hold names and values")
    return parameters


def filled(project: Any, given: dict[str, Any], deployer: str) -> dict[str, Any]:
    """Fill in the roles nobody was named for (the deployer owns, the owner rotates and approves) and check it all."""
    if unknown := sorted(set(given) - set(KNOWN)):
        raise ParametersError(f"{', '.join(unknown)} means nothing here; known are {', '.join(KNOWN)}")
    named = {role: _address(role, given[role]) for role in ROLES if role in given}
    owner = named.get("owner", deployer)
    relays = {"bootstrap": _enodes(given["bootstrap"])} if "bootstrap" in given else {}
    parameters = given | {"owner": owner, "rotator": owner, "approver": owner} | named | relays
    for name in ARGUMENTS:
        arguments(project, name, parameters | {"service": NOBODY})
    _check(parameters, deployer)
    return parameters


def arguments(project: Any, name: str, parameters: dict[str, Any]) -> list[Any]:
    """Return a constructor's arguments in its order."""
    inputs = project.get_contract(name).contract_type.constructor.inputs
    return [_argument(ARGUMENTS[name], str(one.name), str(one.type), parameters) for one in inputs]


def _check(parameters: dict[str, Any], deployer: str) -> None:
    owner = parameters["owner"]
    if owner == NOBODY:
        raise ParametersError("owner: somebody must be")
    if parameters["fee"] > parameters["fee_cap"]:
        raise ParametersError(f"fee: {parameters['fee']} is above the fee_cap of {parameters['fee_cap']}")
    if ("publisher" in parameters) != ("gateway" in parameters):
        raise ParametersError("publisher and gateway: an account publishes for a gateway, name both or neither")
    if owner != deployer and (parameters["rotator"] != owner or parameters.keys() & {"publisher", "bootstrap"}):
        raise ParametersError("rotator, publisher, bootstrap: only the owner names them, and another account deploys")


def _address(role: str, value: Any) -> str:
    if not is_encodable("address", value):
        raise ParametersError(f"{role}: {value!r} is no address in quotation marks")
    return to_checksum_address(value)


def _enodes(value: Any) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_ENODES:
        raise ParametersError(f"bootstrap: a list of 1 to {MOST_ENODES} enode URLs, or leave it out")
    try:
        return checked_enodes(str(one) for one in value)
    except AddressError as error:
        raise ParametersError(f"bootstrap: {error}") from error


def _argument(names: dict[str, str], name: str, kind: str, parameters: dict[str, Any]) -> Any:
    parameter = names.get(name)
    if parameter is None or parameter not in parameters:
        raise ParametersError(f"{parameter or name}: missing; the constructor takes it as {kind}")
    value = parameters[parameter]
    if not is_encodable(kind, value):
        raise ParametersError(f"{parameter}: {value!r} is no {kind}")
    return value
