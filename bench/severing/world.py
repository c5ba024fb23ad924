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
from typing import Final, Self

from bench.severing.devices import Device
from bench.severing.workers import Seeing, Worker, settings_of

from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import Deployment, save_deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Receipt, Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.session import epoch_commitment
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import ROOT, compile_contracts, deploy
from quietfleet.workers import _host

BATCH: Final = 400  # devices in one transaction
_LOOK: Final = 0.002
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A block that switched devices: its number, and when its mining was asked for."""

    block: int
    at: float


class World:
    """Everything one measurement needs."""

    def __init__(self, folder: Path, workers: int, devices: int) -> None:
        self._folder = folder
        self._anvil = Anvil()
        self._stack = AsyncExitStack()
        self._epoch_key = secrets.token_bytes(32)
        self._count = workers
        self.devices = [Device(number, number // BATCH) for number in range(devices)]
        self.workers: list[Worker] = []
        self.sessions: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._stack.enter_context, self._anvil)
        await self._found()
        for number in range(self._count):
            key = self._keys[number]
            settings = settings_of(self._folder, number, self._anvil.url, self._anvil.ws_url)
            self.workers.append(Worker(settings, key))
        self._stack.callback(setattr, _host, "ChainClient", _host.ChainClient)
        _host.ChainClient = Seeing  # type: ignore[misc]
        for worker in self.workers:
            worker.begin()
            self._stack.push_async_callback(worker.end)
        await self._caught_up()
        for worker in self.workers:
            latest, _ = worker.replica.configuration()
            assert latest is not None
            worker.messenger.set_epoch_key(latest, self._epoch_key)
        self.join(self.devices)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def worker_of(self, device: Device) -> Worker:
        """The worker a device is with."""
        return self.workers[device.number % len(self.workers)]

    def join(self, devices: Iterable[Device]) -> None:
        """Put devices in session with their workers."""
        for worker in self.workers:
            with worker.database.transaction():
                for device in (one for one in devices if self.worker_of(one) is worker):
                    self.sessions[device.id] = worker.enter(device, self._epoch_key)

    async def switch(self, devices: Sequence[Device], *, active: bool) -> Moment:
        """Switch devices, all in one block, and return when it was mined."""
        owners = sorted({device.owner for device in devices})
        ids = [[device.id for device in devices if device.owner == owner] for owner in owners]
        sending = [
            asyncio.create_task(self._owners[owner].set_active(some, active))
            for owner, some in zip(owners, ids, strict=True)
        ]
        await self._submitted(len(sending))
        at = time.perf_counter()
        await self._client.request("evm_mine")
        receipts: list[Receipt] = await asyncio.gather(*sending)
        (block,) = {receipt.block for receipt in receipts}
        return Moment(block, at)

    async def followed(self, moment: Moment) -> None:
        """Wait until every worker has read a block and acted on it."""
        await until(
            lambda: all(worker.reached(moment.block) and moment.block in worker.gone for worker in self.workers)
        )

    async def _submitted(self, count: int) -> None:
        async with asyncio.timeout(_PATIENCE):
            while int((await self._client.request("txpool_status"))["pending"], 16) < count:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(_LOOK)

    async def _found(self) -> None:
        """Deploy, enrol, and set a configuration whose epoch key is ours to hand out."""
        accounts, anvil = self._anvil.keys(), self._anvil
        artifacts = await asyncio.to_thread(compile_contracts, ROOT / ".cache")
        deployment = await deploy(anvil.url, anvil.chain_id, artifacts, accounts[0])
        save_deployment(self._folder / "deployment.json", deployment)
        self._client = await self._stack.enter_async_context(ChainClient(anvil.url, deployment))
        self._owners = [ServiceContract(self._client, Wallet(key, self._client)) for key in accounts[1:]]
        self._keys = [PrivateKey.generate(secrets.token_bytes) for _ in range(self._count)]
        service = ServiceContract(self._client, Wallet(accounts[0], self._client))
        await self._enrol(deployment, accounts)
        digest, commitment = secrets.token_bytes(32), epoch_commitment(self._epoch_key)
        oracle = PrivateKey.generate(secrets.token_bytes).public.id
        await service.rotate(Rotation(oracle, commitment, digest, grace=0, min_pow=1e-9))
        await self._client.request("evm_setAutomine", False)

    async def _enrol(self, deployment: Deployment, accounts: list[bytes]) -> None:
        place = (deployment.chain_id, deployment.service.address)
        for owner in sorted({device.owner for device in self.devices}):
            address = PrivateKey.from_bytes(accounts[1 + owner]).public.id
            consents = [device.consent(*place, address) for device in self.devices if device.owner == owner]
            await self._owners[owner].enrol_batch(consents)
        owner, deadline = PrivateKey.from_bytes(accounts[-1]).public.id, int(time.time()) + 3600
        consents = [
            Consent.sign(key, *place, owner=owner, kind=Kind.PROCESSOR, deadline=deadline) for key in self._keys
        ]
        await self._owners[-1].enrol_batch(consents)

    async def _caught_up(self) -> None:
        await until(lambda: all(worker.replica.configuration()[0] is not None for worker in self.workers))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds of what is watched from outside."""
    async with asyncio.timeout(_PATIENCE):
        while not holds():  # noqa: ASYNC110 - nobody there tells of it
            await asyncio.sleep(_LOOK)
