"""What the contracts' typed faces share: no caller sees an ABI tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.wallet import Receipt, Wallet
from quietfleet.errors import ChainError


class Face:
    """One contract, seen through a client; writing needs a wallet, reading does not."""

    def __init__(self, client: ChainClient, wallet: Wallet | None = None) -> None:
        self._client = client
        self._wallet = wallet

    @property
    def address(self) -> str:
        """The account this face acts for."""
        return self._signer.address

    @property
    def _contract(self) -> ContractRecord:
        raise NotImplementedError

    @property
    def _signer(self) -> Wallet:
        if self._wallet is None:
            raise ChainError("this is a read-only view of the contract: give it a wallet")
        return self._wallet

    async def _send(self, function: str, *arguments: Any, value: int = 0) -> Receipt:
        return await self._signer.send(self._contract, function, arguments, value)

    async def _call(self, function: str, *arguments: Any, block: int | None = None) -> Sequence[Any]:
        return await self._client.call(self._contract, function, arguments, block)
