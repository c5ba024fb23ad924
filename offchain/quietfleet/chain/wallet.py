"""Sends transactions for one account: fees, nonce, waiting, and the contract's own words when it says no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.rpc import ChainClient
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import ChainRefused, ChainRejected, ChainUnavailable, NotEnoughEther, NotYetMined

_RECEIPT_TIMEOUT: Final = 60.0
_FIRST_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 1.0
_GAS_MARGIN: Final = 1.2  # state may move between the estimate and the block
MOST_TIP: Final = 10 * 10**9
"""Wei a unit of gas: a tip is paid whatever the chain's price is, and the endpoint alone says how much is usual."""

_KNOWN: Final = ("already known", "already imported")
_POOR: Final = "insufficient funds"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that took effect."""

    transaction: bytes
    block: int
    gas_used: int


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call would take: `gas` as estimated, and the most it may cost in wei, whoever sends it."""

    data: str
    gas: int
    most: int


async def quote(
    client: ChainClient, contract: ContractRecord, function: str, arguments: Sequence[Any], sender: str, value: int = 0
) -> Quote:
    """Rehearse a call by any account; ChainRejected with the contract's error if it would be refused."""
    call = _call(client, contract, function, arguments, value)
    with _rejections(client, contract):
        priced = await _priced(client, call, sender)
    most = priced["gas"] * priced["maxFeePerGas"] + value
    return Quote(call["data"], int(priced["gas"] / _GAS_MARGIN), most)


class Wallet:
    """One account; concurrent sends get consecutive nonces. `sent` hears each transaction's hash as it leaves."""

    def __init__(
        self,
        private_key: bytes,
        client: ChainClient,
        receipt_timeout: float = _RECEIPT_TIMEOUT,
        sent: Callable[[str], object] | None = None,
    ) -> None:
        self._account: LocalAccount = Account.from_key(private_key)
        self._client = client
        self._receipt_timeout = receipt_timeout
        self._sent = sent
        self._order = asyncio.Lock()

    @property
    def address(self) -> str:
        """The account's checksummed address."""
        return str(self._account.address)

    async def send(
        self, contract: ContractRecord, function: str, arguments: Sequence[Any] = (), value: int = 0
    ) -> Receipt:
        """Call a contract's function (whole signature if overloaded), paying `value` wei; return when it is in a block.

        Raises ChainRejected with the contract's error, NotEnoughEther, ChainUnavailable if the endpoint fails, and its
        kind NotYetMined if no block takes it in time.
        """
        return await self._send(contract, _call(self._client, contract, function, arguments, value))

    async def create(self, bytecode: bytes) -> str:
        """Deploy contract code, constructor arguments appended, and return the new contract's address."""
        receipt = await self._receipt(await self._submit({"data": "0x" + bytecode.hex(), "value": 0}))
        return checksum_address(bytes.fromhex(receipt["contractAddress"][2:]))

    async def _send(self, contract: ContractRecord, call: dict[str, Any]) -> Receipt:
        with _rejections(self._client, contract):
            found = await self._receipt(await self._submit(call))
            if int(found["status"], 16) == 0:
                await self._replay(call, found["blockNumber"])
        return Receipt(
            bytes.fromhex(found["transactionHash"][2:]), int(found["blockNumber"], 16), int(found["gasUsed"], 16)
        )

    async def _submit(self, call: dict[str, Any]) -> str:
        async with self._order:
            raw = self._account.sign_transaction(await self._filled(call)).raw_transaction
            return await self._broadcast("0x" + raw.hex())

    async def _filled(self, call: dict[str, Any]) -> dict[str, Any]:
        priced = await _priced(self._client, call, self.address)
        nonce = await self._client.request("eth_getTransactionCount", self.address, "pending")
        return priced | {"type": 2, "chainId": self._client.deployment.chain_id, "nonce": int(nonce, 16)}

    async def _broadcast(self, raw: str) -> str:
        """Send signed bytes, once more if the connection broke: the same bytes are the same transaction."""
        transaction = "0x" + keccak256(bytes.fromhex(raw[2:])).hex()
        try:
            await self._client.request("eth_sendRawTransaction", raw)
        except ChainUnavailable:
            await self._again(raw)
        if self._sent:
            self._sent(transaction)
        return transaction

    async def _again(self, raw: str) -> None:
        try:
            await self._client.request("eth_sendRawTransaction", raw)
        except ChainRefused as refusal:
            if not any(phrase in refusal.message.lower() for phrase in _KNOWN):
                raise

    async def _receipt(self, transaction: str) -> dict[str, Any]:
        pause = _FIRST_LOOK
        try:
            async with asyncio.timeout(self._receipt_timeout):
                while (found := await self._client.request("eth_getTransactionReceipt", transaction)) is None:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_LOOK)
        except TimeoutError as error:
            raise NotYetMined(f"{transaction}, after {self._receipt_timeout:g} s") from error
        return dict(found)

    async def _replay(self, call: dict[str, Any], block: str) -> None:
        """Run a reverted transaction again as a call, for its reason."""
        await self._client.request("eth_call", _plain(call, self.address), block)
        raise ChainRejected("NoReason", {"block": int(block, 16)})  # out of gas, or the state moved within the block


def _call(
    client: ChainClient, contract: ContractRecord, function: str, arguments: Sequence[Any], value: int
) -> dict[str, Any]:
    known = client.abi(contract).function(function)
    return {"to": contract.address, "data": "0x" + known.encode(arguments).hex(), "value": value}


async def _priced(client: ChainClient, call: dict[str, Any], sender: str) -> dict[str, Any]:
    estimate = await client.request("eth_estimateGas", _plain(call, sender))
    block = await client.request("eth_getBlockByNumber", "latest", False)
    tip = min(int(await client.request("eth_maxPriorityFeePerGas"), 16), MOST_TIP)
    fees = {"maxPriorityFeePerGas": tip, "maxFeePerGas": 2 * int(block["baseFeePerGas"], 16) + tip}
    return call | {"gas": int(int(estimate, 16) * _GAS_MARGIN)} | fees


def _plain(call: dict[str, Any], sender: str) -> dict[str, Any]:
    return call | {"from": sender, "value": hex(call["value"])}


@contextmanager
def _rejections(client: ChainClient, contract: ContractRecord) -> Iterator[None]:
    """Tell what the contract refuses, and what the account cannot pay for, from what the endpoint refuses."""
    try:
        yield
    except ChainRefused as refusal:
        if refusal.data or "revert" in refusal.message:
            raise ChainRejected(*client.abi(contract).error(refusal.data)) from refusal
        if _POOR in refusal.message.lower():
            raise NotEnoughEther(refusal.message) from refusal
        raise
