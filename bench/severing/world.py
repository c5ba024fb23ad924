"""A chain of one's own, workers that follow it, and devices in session with them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench.flood.process import Process
from bench.severing.member import PATIENCE
from bench.severing.plan import Plan

from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import Deployment, save_deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.session import epoch_commitment
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import ROOT, compile_contracts, deploy

BATCH: Final = 400  # devices in one transaction
_LOOK: Final = 0.002
_PROGRAM: Final = "bench.severing.member"

Shares = Sequence[list[int]]  # devices, by worker


@dataclass(frozen=True, slots=True)
class Moment:
    """A block that switched devices: its number, and when its mining was asked for."""

    block: int
    at: float


class World:
    """Everything one measurement needs: a chain here, and a process for each worker."""

    def __init__(self, folder: Path, workers: int, devices: int, *, deaf: bool = False) -> None:
        self._folder = folder
        self._anvil = Anvil()
        self._stack = AsyncExitStack()
        self._terms = {"workers": workers, "devices": devices, "deaf": deaf}
        self._members: list[Process] = []

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._stack.enter_context, self._anvil)
        place = {"folder": str(self._folder), "rpc": self._anvil.url, "ws": self._anvil.ws_url}
        self.plan = Plan(**place, salt=secrets.token_bytes(32), **self._terms)
        self.plan.save()
        keys = (self.plan.key("device", device) for device in range(self.plan.devices))
        self._ids = [key.public.id for key in keys]
        await self._found()
        for number in range(self.plan.workers):
            member = await Process.start(_PROGRAM, str(self._folder), str(number))
            self._stack.push_async_callback(member.stop)
            self._members.append(member)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(member.hear("ready") for member in self._members))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def share(self, devices: Iterable[int]) -> list[list[int]]:
        """Return which of these devices each worker has."""
        shares: list[list[int]] = [[] for _ in self._members]
        for device in devices:
            shares[self.plan.worker_of(device)].append(device)
        return shares

    async def ask(self, do: str, shares: Shares, terms: Callable[[list[int]], dict[str, Any]]) -> list[Any]:
        """Tell each worker to do something with its share of devices, and return what they answer."""
        for member, mine in zip(self._members, shares, strict=True):
            member.tell(do=do, devices=mine, **terms(mine))
        async with asyncio.timeout(2 * PATIENCE):
            return await asyncio.gather(*(member.hear(do) for member in self._members))

    async def switch(self, shares: Shares, *, active: bool) -> Moment:
        """Switch devices, all in one block, and return when it was mined; anvil signs, and receipts are not waited for.

        Owners' machines are others than those that are measured, so that theirs is not to be done here meanwhile.
        """
        owners: dict[int, list[str]] = {}
        for device in (device for mine in shares for device in mine):
            owners.setdefault(_owner(device), []).append(self._ids[device])
        service = self._client.deployment.service
        call = self._client.abi(service).function("setActiveBatch")
        for owner, ids in owners.items():
            sent = {"from": self._owners[owner], "to": service.address, "data": f"0x{call.encode([ids, active]).hex()}"}
            await self._client.request("eth_sendTransaction", sent)
        await self._submitted(len(owners))
        at = time.perf_counter()
        await self._client.request("evm_mine")
        header = await self._client.header()
        assert header is not None
        return Moment(header.number, at)

    async def _submitted(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while int((await self._client.request("txpool_status"))["pending"], 16) < count:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(_LOOK)

    async def _found(self) -> None:
        """Deploy, enrol, and set a configuration whose epoch key is ours to hand out."""
        accounts, anvil = self._anvil.keys(), self._anvil
        artifacts = await asyncio.to_thread(compile_contracts, ROOT / ".cache")
        deployment = await deploy(anvil.url, anvil.chain_id, artifacts, accounts[0])
        save_deployment(self._folder / "deployment.json", deployment)
        self._client = await self._stack.enter_async_context(ChainClient(anvil.url, deployment))
        self._owners = [PrivateKey.from_bytes(key).public.id for key in accounts[1:]]
        service = ServiceContract(self._client, Wallet(accounts[0], self._client))
        await self._enrol(deployment, accounts)
        digest, commitment = secrets.token_bytes(32), epoch_commitment(self.plan.epoch_key)
        oracle = PrivateKey.generate(secrets.token_bytes).public.id
        await service.rotate(Rotation(oracle, commitment, digest, grace=0, min_pow=1e-9))
        await self._client.request("evm_setAutomine", False)

    async def _enrol(self, deployment: Deployment, accounts: list[bytes]) -> None:
        devices = range(self.plan.devices)
        for owner in sorted(set(map(_owner, devices))):
            keys = [self.plan.key("device", device) for device in devices if _owner(device) == owner]
            await self._enrolled(deployment, accounts, 1 + owner, Kind.SENSOR, keys)
        keys = [self.plan.key("worker", number) for number in range(self.plan.workers)]
        await self._enrolled(deployment, accounts, len(accounts) - 1, Kind.PROCESSOR, keys)

    async def _enrolled(
        self, deployment: Deployment, accounts: list[bytes], account: int, kind: Kind, keys: list[PrivateKey]
    ) -> None:
        owner, deadline = self._owners[account - 1], int(time.time()) + 3600
        place = (deployment.chain_id, deployment.service.address)
        consents = [Consent.sign(key, *place, owner=owner, kind=kind, deadline=deadline) for key in keys]
        await ServiceContract(self._client, Wallet(accounts[account], self._client)).enrol_batch(consents)


def _owner(device: int) -> int:
    return device // BATCH
