"""The hand-written contracts, given the very calldata the real ones were measured with."""

from __future__ import annotations

from typing import Any, Final

from bench.gas.chain import Chain, word
from bench.gas.floors import CONFIRMED
from bench.gas.operations import FEE, GATEWAY, PROCESSOR, SENSOR, ReleasesRun, ServiceRun
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3 import Web3

_ACTIVE: Final = 1


def confirm(chain: Chain, service: ServiceRun, releases: ReleasesRun) -> dict[str, int]:
    """Return by operation what its hand-written contract used."""
    domain = _domain(chain, service.contract.address)
    registered = _word(service.owner, SENSOR)
    usable = chain.deploy("FloorUsable", releases.gateway, _word(service.owner, GATEWAY)).address
    line = 3 | (chain.time - 10**6) << 32 | 3600 << 72 | 9 << 104 | 2 << 152 | 8 << 184
    head = 1 | 1 << 32 | 1 << 64 | 5 << 96 | 2 << 104 | 2 << 112 | chain.time << 120
    toggled, rekeyed = (_argument(chain, name, 0) for name in ("setActive off", "rotateKey first"))
    one, other = (_argument(chain, "canCooperate", place) for place in (0, 1))
    role = (service.owner, service.rotator, releases.publisher)
    settings: dict[str, tuple[str, int, tuple[Any, ...]]] = {
        "enrol": (role[0], FEE, (domain, FEE)),
        "setActive off": (role[0], 0, (toggled, registered)),
        "rotateKey first": (role[0], 0, (domain, rekeyed, registered)),
        "rotate by rotator": (role[1], 0, (domain, service.rotator, line)),
        "propose": (
            role[2],
            0,
            (usable, releases.publisher, releases.gateway, releases.approver, word("channel"), head),
        ),
        "canCooperate": (
            role[0],
            0,
            (one, _word(service.owner, PROCESSOR), other, _word(service.owner, GATEWAY)),
        ),
    }
    return {name: _measure(chain, name, *setting) for name, setting in settings.items()}


def _measure(chain: Chain, name: str, sender: str, value: int, arguments: tuple[Any, ...]) -> int:
    contract = CONFIRMED[name]
    address = chain.deploy(contract, *arguments).address
    measured = chain.measured[name]
    data = "0x" + measured.data.hex()
    if measured.view:
        chain.look_at(contract, address, data)
    else:
        chain.send_to(contract, address, data, sender, value)
    return chain.measured.pop(contract).gas


def _argument(chain: Chain, name: str, place: int) -> str:
    start = 4 + 32 * place
    return Web3.to_checksum_address(chain.measured[name].data[start + 12 : start + 32])


def _word(owner: str, kind: int) -> int:
    return int(owner, 16) | kind << 160 | _ACTIVE << 168 | 2_000_000_000 << 192 | 1 << 224


def _domain(chain: Chain, service: str) -> bytes:
    kind = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    fields = (kind, keccak(text="Quietfleet"), keccak(text="1"), chain.node.chain_id, service)
    return bytes(keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], fields)))
