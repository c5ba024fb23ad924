"""A chain on which every figure comes out the same in every run: fixed accounts, keys, signatures and block times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract import Contract

from quietfleet.testbed.anvil import Anvil

GENESIS: Final = 2_000_000_000
"""Block times begin here, in seconds; they go into calldata, whose bytes are paid for."""

_BLOCK_TIME: Final = 12
_GAS: Final = hex(29_000_000)


@dataclass(frozen=True, slots=True)
class Measured:
    """One transaction or view: what it used, refunds included, and the calldata it was given."""

    name: str
    gas: int
    data: bytes
    view: bool = False


@dataclass(slots=True)
class Chain:
    """Sends calls, keeps what the named ones used."""

    node: Anvil
    contracts: dict[str, dict[str, Any]]
    time: int = GENESIS
    measured: dict[str, Measured] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accounts = [Account.from_key(key).address for key in self.node.keys()]  # noqa: SIM118 - no mapping
        self.node.request("evm_setAutomine", False)

    def deploy(self, name: str, *arguments: Any) -> Contract:
        """Deploy a compiled contract from the first account."""
        kind = Web3().eth.contract(abi=self.contracts[name]["abi"], bytecode=self.contracts[name]["bytecode"])
        data = kind.constructor(*arguments).data_in_transaction
        receipt = self._mine({"from": self.accounts[0], "data": data, "gas": _GAS})
        return self.at(name, receipt["contractAddress"])

    def at(self, name: str, address: str) -> Contract:
        """Return a compiled contract at an address."""
        return Web3().eth.contract(address=Web3.to_checksum_address(address), abi=self.contracts[name]["abi"])

    def send(self, name: str, call: Any, sender: str, value: int = 0) -> dict[str, Any]:
        """Send one bound contract function; keep what it used under `name` unless that is empty."""
        return self.send_to(name, call.address, call._encode_transaction_data(), sender, value)  # noqa: SLF001

    def send_to(self, name: str, address: str, data: str, sender: str, value: int = 0) -> dict[str, Any]:
        """Send calldata; the receipt must show success."""
        receipt = self._mine({"from": sender, "to": address, "data": data, "value": hex(value), "gas": _GAS})
        if name:
            self._keep(name, receipt, data)
        return receipt

    def look(self, name: str, call: Any) -> None:
        """Trace one view; keep what its execution uses, without the transaction and the calldata."""
        self.look_at(name, call.address, call._encode_transaction_data())  # noqa: SLF001

    def look_at(self, name: str, address: str, data: str) -> None:
        """Trace a call that has to answer `true`."""
        call = {"from": self.accounts[9], "to": address, "data": data}
        trace = self.node.request("debug_traceCall", call, "latest", {"disableStorage": True, "disableStack": True})
        assert int(trace["returnValue"].removeprefix("0x"), 16) == 1, f"{name} did not answer true"
        first, last = trace["structLogs"][0], trace["structLogs"][-1]
        gas = first["gas"] - last["gas"] + last["gasCost"]
        self.measured[name] = Measured(name, gas, bytes.fromhex(data[2:]), view=True)

    def call(self, call: Any) -> str:
        """Return what a view answers, as hexadecimal digits."""
        request = {"to": call.address, "data": call._encode_transaction_data()}  # noqa: SLF001
        return str(self.node.request("eth_call", request, "latest"))

    def pass_time(self, seconds: int) -> None:
        """Let the next block come so much later."""
        self.time += seconds

    def fund(self, account: str) -> None:
        """Give an account ether and let it send without its key."""
        self.node.request("anvil_setBalance", account, hex(10**20))
        self.node.request("anvil_impersonateAccount", account)

    def _mine(self, transaction: dict[str, Any]) -> dict[str, Any]:
        self.time += _BLOCK_TIME
        self.node.request("evm_setNextBlockTimestamp", self.time)
        sent = self.node.request("eth_sendTransaction", transaction)
        self.node.mine()
        receipt: dict[str, Any] = self.node.request("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1", "a transaction of the bench reverted"
        return receipt

    def _keep(self, name: str, receipt: dict[str, Any], data: str) -> None:
        assert name not in self.measured, f"{name} was measured twice"
        self.measured[name] = Measured(name, int(receipt["gasUsed"], 16), bytes.fromhex(data[2:]))


def device_key(number: int) -> LocalAccount:
    """Return the messaging key of a device of the bench."""
    key: LocalAccount = Account.from_key(keccak(text=f"quietfleet bench device {number}"))
    return key


def word(name: str) -> bytes:
    """Return 32 bytes that stand for a digest."""
    return bytes(keccak(text=f"quietfleet bench {name}"))
