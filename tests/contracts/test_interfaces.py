"""What the contracts say they can do, read off their interfaces; and that no parameter could carry a secret."""

from __future__ import annotations

from functools import reduce
from operator import xor

import pytest
from eth_utils import keccak

ERC_165 = "0x01ffc9a7"
OF_SERVICE = [
    "IWorkerRegistry",
    "IAdmission",
    "IOwnerControl",
    "IOperators",
    "IKeyRotation",
    "IConfigRotation",
    "IBootstrapList",
]
LOOSE = {"bytes", "string", "string[]", "bytes[]"}
OF_EVERY_ONE = {
    "owner()",
    "pendingOwner()",
    "transferOwnership(address)",
    "acceptOwnership()",
    "renounceOwnership()",
    "supportsInterface(bytes4)",
}
BESIDES = {
    "Service": {"eip712Domain()", "successor()", "nameSuccessor(address)"},
    "ModelReleases": set(),
}


@pytest.fixture
def selectors(project):
    """The signatures of a contract's or interface's functions."""
    return lambda name: {method.selector for method in project.contracts[name].methods}


@pytest.fixture
def interface_id(selectors):
    """ERC-165: all selectors of an interface, exclusively or-ed."""

    def of(name):
        numbers = (int.from_bytes(keccak(text=selector)[:4], "big") for selector in selectors(name))
        return "0x" + reduce(xor, numbers).to_bytes(4, "big").hex()

    return of


def test_supports_interface__of_the_service__is_each_of_its_own(service, interface_id):
    for name in OF_SERVICE:
        assert service.supportsInterface(interface_id(name)), name
    assert service.supportsInterface(ERC_165)
    assert not service.supportsInterface(interface_id("IModelReleases"))


def test_supports_interface__of_the_releases__is_its_own(releases, interface_id):
    assert releases.supportsInterface(interface_id("IModelReleases"))
    assert releases.supportsInterface(ERC_165)
    assert not releases.supportsInterface(interface_id("IWorkerRegistry"))


@pytest.mark.parametrize("unknown", ["0xffffffff", "0x00000000"])
def test_supports_interface__no_interface__is_refused(unknown, service, releases):
    assert not service.supportsInterface(unknown)
    assert not releases.supportsInterface(unknown)


@pytest.mark.parametrize(("name", "interfaces"), [("Service", OF_SERVICE), ("ModelReleases", ["IModelReleases"])])
def test_functions__of_a_contract__are_all_in_some_interface(name, interfaces, selectors):
    declared = set.union(*(selectors(interface) for interface in interfaces))
    assert selectors(name) == declared | OF_EVERY_ONE | BESIDES[name]


def test_functions__of_the_anchors__are_its_interface_and_nobody_owns_it(selectors):
    assert selectors("AuditAnchor") == selectors("IAuditAnchor") | {"supportsInterface(bytes4)"}


@pytest.mark.parametrize("name", ["Service", "ModelReleases", "AuditAnchor"])
def test_parameters__of_free_size__are_a_bounded_signature_and_a_bounded_list(name, project):
    found = {
        (method.name, parameter.name)
        for method in project.contracts[name].mutable_methods
        for parameter in method.inputs
        if parameter.type in LOOSE or _has_loose_field(parameter)
    }
    bounded = {("transferSigned", "signature"), ("setBootstrap", "enodes")}
    assert found == (bounded if name == "Service" else set())


def _has_loose_field(parameter):
    return any(field.type in LOOSE or _has_loose_field(field) for field in parameter.components or [])
