"""Endpoints in reserve for an account's transactions: the next takes the place of one that is down.

What a transaction is made from may be asked of any: the contract has the last word on it. Where the account's nonce is
concerned, see `wallet.py`: the same signed bytes go to the next endpoint, and none is signed twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from quietfleet.chain._http import Provider
from quietfleet.chain.deployment import Deployment
from quietfleet.chain.rpc import TIMEOUT, ChainClient
from quietfleet.errors import ChainError, ChainMismatch, ChainUnavailable


class Failover(ChainClient):
    """A client of several endpoints, in the order of the settings; it stays with the one that answered last."""

    def __init__(self, urls: Sequence[str], deployment: Deployment, timeout: float = TIMEOUT) -> None:
        super().__init__(urls[0], deployment, timeout, Provider)
        self._all = [ChainClient(url, deployment, timeout, Provider) for url in dict.fromkeys(urls)]
        self._place = 0

    @property
    def endpoint(self) -> int:
        return self._place

    def turn(self) -> None:
        self._place = (self._place + 1) % len(self._all)

    async def close(self) -> None:
        for client in self._all:
            await client.close()
        await super().close()

    async def everywhere(self, method: str, *parameters: Any) -> list[ChainError | None]:
        answers = await asyncio.gather(*(client.everywhere(method, *parameters) for client in self._all))
        return [error for errors in answers for error in errors]

    async def request(self, method: str, *parameters: Any) -> Any:
        """Ask the endpoint in use, or else each of the others once; a refusal is an answer."""
        errors: list[ChainError] = []
        for _ in self._all:
            try:
                return await self._all[self._place].request(method, *parameters)
            except (ChainUnavailable, ChainMismatch) as error:
                errors.append(error)
                self.turn()
        raise next((error for error in errors if not isinstance(error, ChainMismatch)), errors[0])
