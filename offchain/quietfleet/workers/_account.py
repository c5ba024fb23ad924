"""The account that a worker writes to the chain with: over all endpoints of its settings, each transaction signed once.

What was signed is written down before it is sent, where replicas find it too: after a crash, or a change of the leader,
the same bytes are sent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from quietfleet.chain.failover import Failover
from quietfleet.chain.unsettled import Signed
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.errors import NotYetMined
from quietfleet.session import Vault

if TYPE_CHECKING:
    from quietfleet.chain.rpc import ChainClient
    from quietfleet.workers._runtime import Runtime

GIVEN_UP: Final = 600.0
"""Seconds after which a transaction that no block took is not sent again; its nonce may serve another then."""


class _Row(msgspec.Struct, array_like=True, frozen=True):
    signed: Signed
    at: float


class _Kept:
    """The transactions of one account that are in no block yet, in the worker's own rows."""

    def __init__(self, runtime: Runtime, address: str) -> None:
        self._runtime = runtime
        self._account = bytes.fromhex(address[2:])
        self._vault = Vault(runtime.rows, "unsettled", runtime.identity.to_bytes(), runtime.random, contended=True)

    def all(self) -> list[Signed]:
        """Return them by nonce; not those that are given up."""
        now = self._runtime.clock.now()
        rows = [row for _, row in self._vault.all(_Row, self._account)]
        return sorted((row.signed for row in rows if abs(now - row.at) < GIVEN_UP), key=lambda one: one.nonce)

    def put(self, signed: Signed) -> None:
        """Keep one, and forget those that are given up."""
        now = self._runtime.clock.now()
        with self._runtime.transaction():
            old = [row_id for row_id, row in self._vault.all(_Row, self._account) if abs(now - row.at) >= GIVEN_UP]
            for row_id in old:
                self._vault.delete(row_id)
            self._vault.put(self._id(signed), _Row(signed, now))

    def drop(self, signed: Signed) -> None:
        """Let go of one."""
        with self._runtime.transaction():
            self._vault.delete(self._id(signed))

    def _id(self, signed: Signed) -> bytes:
        return self._account + signed.hash


@asynccontextmanager
async def account(runtime: Runtime, key: PrivateKey) -> AsyncIterator[tuple[ChainClient, Wallet]]:
    """Open an account to read the chain and write to it; NotYetMined while what it sent before is in no block."""
    chain = runtime.settings.chain
    async with Failover([chain.rpc, *chain.fallbacks], runtime.deployment) as client:
        address = Wallet(key.to_bytes(), client).address
        wallet = Wallet(key.to_bytes(), client, unsettled=_Kept(runtime, address))
        if not await wallet.settle():
            raise NotYetMined(f"{address} has sent a transaction before")
        yield client, wallet
