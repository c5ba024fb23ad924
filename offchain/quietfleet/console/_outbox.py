"""The one way a call leaves for the chain: signed by an account at hand, or only rehearsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eth_utils.address import to_checksum_address

from quietfleet.console._signers import Signers, unattended
from quietfleet.console._spoken import spoken
from quietfleet.errors import NoSigner
from quietfleet.owners import Call


class Outbox:
    """Sends calls, or with `rehearse` only estimates them; `calls` keeps what was done."""

    def __init__(self, signers: Signers, *, rehearse: bool = False) -> None:
        self.signers = signers
        self.rehearse = rehearse
        self.calls: list[Call] = []

    def send(
        self, purpose: str, contract: Any, function: str, *arguments: Any, by: Sequence[str], value: int = 0
    ) -> None:
        """Make a call as the first account at hand that is one of `by`; CallRefused if the contract reverts."""
        handler = getattr(contract, function)
        sender, at_hand = self._sender(purpose, by)
        data = handler.encode_input(*arguments)
        said = {
            "contract": contract.address,
            "function": function,
            "arguments": named(handler.abis[0].inputs, handler.decode_input(data)[1].values()),
            "sender": str(getattr(sender, "address", sender)),
            "at_hand": at_hand,
            "value": value,
            "data": f"0x{data.hex().removeprefix('0x')}",
        }
        with spoken():
            if self.rehearse:
                gas = handler.estimate_gas_cost(*arguments, sender=said["sender"], value=value)
                self.calls.append(Call(**said, gas=gas))
            else:
                receipt = handler(*arguments, sender=unattended(sender), value=value)
                made = {"transaction": receipt.txn_hash, "block": receipt.block_number}
                self.calls.append(Call(**said, gas=receipt.gas_used, **made))

    def foresee(self, contract: str, function: str, arguments: dict[str, Any], sender: str) -> None:
        """Note a call to a contract that does not stand yet; its gas cannot be estimated."""
        self.calls.append(Call(contract, function, arguments, sender, True, 0, None, ""))

    def require(self, purpose: str, *groups: Sequence[str]) -> None:
        """Raise NoSigner unless somebody of each group is at hand, before the first of several calls is sent."""
        for by in groups:
            self._sender(purpose, by)

    def _sender(self, purpose: str, by: Sequence[str]) -> tuple[Any, bool]:
        """Find who signs; a rehearsal needs no signature, so that the owner may be a contract or far away."""
        try:
            return self.signers.for_any(purpose, *by), True
        except NoSigner:
            if not self.rehearse:
                raise
        return by[0], False


def plain(value: Any) -> Any:
    """Turn a value that Ape has decoded into what JSON can hold: bytes become 0x-hex, structs mappings."""
    if isinstance(value, bytes):
        return f"0x{value.hex().removeprefix('0x')}"
    if hasattr(value, "items"):  # a mapping, or one of Ape's structs
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def named(inputs: Iterable[Any], values: Iterable[Any]) -> dict[str, Any]:
    """Name the arguments of a call or an event, and the fields of structs in them, as the ABI does."""
    return {str(one.name): _shaped(one, value) for one, value in zip(inputs, values, strict=True)}


def _shaped(given: Any, value: Any) -> Any:
    kind = str(given.type)
    if kind == "address":
        return str(to_checksum_address(value))
    if not kind.startswith("tuple"):
        return plain(value)
    if kind.endswith("]"):
        return [named(given.components, one) for one in value]
    return named(given.components, value)
