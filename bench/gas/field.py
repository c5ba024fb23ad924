"""What others pay for the like: the field's usual building blocks, measured in the same run."""

from __future__ import annotations

from typing import Final

from bench.gas.chain import Chain, device_key, word
from bench.gas.signing import point

_ENROLMENTS: Final = ("enrol", "enrolSelf", "enrolBatch 100")

BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "ERC-721 mint, first of an owner": _ENROLMENTS,
    "ERC-721 mint": _ENROLMENTS,
    "AccessControl grant": _ENROLMENTS,
    "EnumerableSet add": _ENROLMENTS,
    "name registry, new record": _ENROLMENTS,
    "contract per device, create": _ENROLMENTS,
    "AccessControl revoke": ("setActive off", "setActiveBatch 10"),
    "contract per device, setActive": ("setActive off", "setActiveBatch 10"),
    "name registry, setResolver": ("rotateKey first",),
    "contract per device, setKey": ("rotateKey first",),
    "ERC-721 transfer": ("acceptTransfer", "transferSigned"),
    "Ownable2Step transfer": ("offerTransfer",),
    "Ownable2Step accept": ("acceptTransfer",),
}
"""Each of the field's operations, and ours that do its work; of a batch, one item."""


def run(chain: Chain) -> None:
    """Measure the field."""
    _openzeppelin(chain)
    _names(chain)
    _devices(chain)


def _openzeppelin(chain: Chain) -> None:
    owner, other = chain.accounts[:2]
    token = chain.deploy("FieldToken").functions
    ids = [int(device_key(number).address, 16) for number in (1, 2)]
    chain.send("ERC-721 mint, first of an owner", token.mint(owner, ids[0]), owner)
    chain.send("ERC-721 mint", token.mint(owner, ids[1]), owner)
    chain.send("ERC-721 transfer", token.transferFrom(owner, other, ids[0]), owner)
    roles = chain.deploy("FieldRoles").functions
    chain.send("AccessControl grant", roles.grantRole(word("device"), device_key(1).address), owner)
    chain.send("AccessControl revoke", roles.revokeRole(word("device"), device_key(1).address), owner)
    members = chain.deploy("FieldSet").functions
    chain.send("", members.add(device_key(1).address), owner)
    chain.send("EnumerableSet add", members.add(device_key(2).address), owner)
    owned = chain.deploy("FieldOwned").functions
    chain.send("Ownable2Step transfer", owned.transferOwnership(other), owner)
    chain.send("Ownable2Step accept", owned.acceptOwnership(), other)


def _names(chain: Chain) -> None:
    owner, resolver, other = chain.accounts[:3]
    names = chain.deploy("FieldNames", word("root node"), owner).functions
    record = (word("label"), owner, resolver, 3600)
    chain.send("name registry, new record", names.setSubnodeRecord(word("root node"), *record), owner)
    chain.send("", names.setResolver(word("root node"), resolver), owner)
    chain.send("name registry, setResolver", names.setResolver(word("root node"), other), owner)


def _devices(chain: Chain) -> None:
    owner = chain.accounts[1]
    registry = chain.deploy("FieldDevices")
    chain.send("", registry.functions.create(*point(device_key(1))), owner)
    receipt = chain.send("contract per device, create", registry.functions.create(*point(device_key(2))), owner)
    device = chain.at("FieldDevice", "0x" + receipt["logs"][0]["data"][-40:]).functions
    chain.send("contract per device, setActive", device.setActive(False), owner)
    chain.send("contract per device, setKey", device.setKey(*point(device_key(3))), owner)
