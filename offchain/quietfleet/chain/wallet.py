"""Sends transactions for one account: fees, nonce, waiting, and the contract's own words when it says no.

Each is signed once, and kept until a block has it or none ever will; whatever happens to endpoints or to this process
meanwhile, the same bytes are sent again. Nothing else is signed while one that nobody waits for is unsettled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.unsettled import InMemory, Signed, Unsettled
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import ChainError, ChainRefused, ChainRejected, ChainUnavailable, NotEnoughEther, NotYetMined

_RECEIPT_TIMEOUT: Final = 60.0
_FIRST_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 1.0
_GAS_MARGIN: Final = 1.2  # state may move between the estimate and the block
MOST_TIP: Final = 10 * 10**9
"""Wei a unit of gas: a tip is paid whatever the chain's price is, and the endpoint alone says how much is usual."""

_KNOWN: Final = ("already known", "already imported")
_SPENT: Final = ("nonce too low",)
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
        unsettled: Unsettled | None = None,
    ) -> None:
        self._account: LocalAccount = Account.from_key(private_key)
        self._client = client
        self._receipt_timeout = receipt_timeout
        self._sent = sent
        self._unsettled = unsettled or InMemory()
        self._awaited: set[bytes] = set()
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

    async def create(self, bytecode: bytes) -> tuple[str, int]:
        """Deploy contract code, constructor arguments appended; return the new contract's address and its block."""
        receipt = await self._mined({"data": "0x" + bytecode.hex(), "value": 0})
        return checksum_address(bytes.fromhex(receipt["contractAddress"][2:])), int(receipt["blockNumber"], 16)

    async def _send(self, contract: ContractRecord, call: dict[str, Any]) -> Receipt:
        with _rejections(self._client, contract):
            found = await self._mined(call)
            if int(found["status"], 16) == 0:
                await self._replay(call, found["blockNumber"])
        return Receipt(
            bytes.fromhex(found["transactionHash"][2:]), int(found["blockNumber"], 16), int(found["gasUsed"], 16)
        )

    async def settle(self) -> bool:
        """Send again what was signed before and nobody waits for any more; tell whether none of it is left."""
        async with self._order:
            return await self._settled()

    async def _settled(self) -> bool:
        left = self._left()
        used = await self._nonce("latest") if left else 0
        for signed in left:
            if signed.nonce < used:  # it is in a block, or another of its nonce is
                self._unsettled.drop(signed)
            else:
                await self._send_again(signed)
        return not self._left()

    def _left(self) -> list[Signed]:
        return [signed for signed in self._unsettled.all() if signed.hash not in self._awaited]

    async def _mined(self, call: dict[str, Any]) -> dict[str, Any]:
        signed = await self._submit(call)
        try:
            receipt = await self._receipt(signed)
        finally:
            self._awaited.discard(signed.hash)
        self._unsettled.drop(signed)
        return receipt

    async def _submit(self, call: dict[str, Any]) -> Signed:
        async with self._order:
            digest = keccak256(json.dumps(call, sort_keys=True).encode())
            signed = next((one for one in self._left() if one.call == digest), None)
            if signed is not None:
                self._awaited.add(signed.hash)
                await self._guarded(signed, self._send_again(signed))
                return signed
            if not await self._settled():
                raise NotYetMined(f"{self.address} has sent another transaction before")
            filled = await self._filled(call)
            signed = Signed(filled["nonce"], digest, bytes(self._account.sign_transaction(filled).raw_transaction))
            self._unsettled.put(signed)
            self._awaited.add(signed.hash)
            await self._guarded(signed, self._broadcast(signed))
            return signed

    async def _guarded(self, signed: Signed, sending: Awaitable[None]) -> None:
        """Send; if that fails nobody waits for it, and it is to be settled later."""
        try:
            await sending
        except BaseException:
            self._awaited.discard(signed.hash)
            raise
        if self._sent:
            self._sent("0x" + signed.hash.hex())

    async def _filled(self, call: dict[str, Any]) -> dict[str, Any]:
        priced = await _priced(self._client, call, self.address)
        ours = (signed.nonce + 1 for signed in self._unsettled.all())  # an endpoint may not have heard of them
        nonce = max(await self._nonce("pending"), *ours, 0)
        return priced | {"type": 2, "chainId": self._client.deployment.chain_id, "nonce": nonce}

    async def _nonce(self, block: str) -> int:
        return int(await self._client.request("eth_getTransactionCount", self.address, block), 16)

    async def _broadcast(self, signed: Signed) -> None:
        """Send what was just signed; what no endpoint can have taken is forgotten."""
        asked = self._client.endpoint
        try:
            try:
                await self._put_out(signed)
            except ChainUnavailable:
                asked = -1
                await self._put_out(signed)
        except ChainRefused as refusal:
            if asked != self._client.endpoint:  # whoever was asked before may have taken it
                if not _says(refusal, *_KNOWN, *_SPENT):
                    raise
            elif not _says(refusal, *_KNOWN):
                self._unsettled.drop(signed)
                raise

    async def _send_again(self, signed: Signed) -> None:
        """Send to every endpoint: the one that was sent it first may be keeping it to itself."""
        errors = await self._client.everywhere("eth_sendRawTransaction", "0x" + signed.raw.hex())
        if not any(error is None or _says(error, *_KNOWN, *_SPENT) for error in errors):
            raise next(error for error in errors if error is not None)

    async def _put_out(self, signed: Signed) -> None:
        await self._client.request("eth_sendRawTransaction", "0x" + signed.raw.hex())

    async def _receipt(self, signed: Signed) -> dict[str, Any]:
        """Wait for a block; an endpoint that takes another's place meanwhile is sent the transaction too."""
        transaction, pause, told = "0x" + signed.hash.hex(), _FIRST_LOOK, self._client.endpoint
        try:
            async with asyncio.timeout(self._receipt_timeout):
                while (found := await self._client.request("eth_getTransactionReceipt", transaction)) is None:
                    if told != self._client.endpoint:
                        told = self._client.endpoint
                        await self._send_again(signed)
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


def _says(error: ChainError, *phrases: str) -> bool:
    return isinstance(error, ChainRefused) and any(phrase in error.message.lower() for phrase in phrases)


@contextmanager
def _rejections(client: ChainClient, contract: ContractRecord) -> Iterator[None]:
    """Tell what the contract refuses, and what the account cannot pay for, from what the endpoint refuses."""
    try:
        yield
    except ChainRefused as refusal:
        if refusal.data or "revert" in refusal.message:
            raise ChainRejected(*client.abi(contract).error(refusal.data)) from refusal
        if _says(refusal, _POOR):
            raise NotEnoughEther(refusal.message) from refusal
        raise
