"""What owners see and switch over plain JSON-RPC, each device signed for by its owner or by an operator's right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Right, WorkerRecord
from quietfleet.chain.wallet import Quote, Wallet, quote
from quietfleet.errors import CallRefused, ChainRejected, NoSigner, NotEnoughEther, UnknownWorkerName
from quietfleet.owners import AddressBook, Call, Row, batches, by_owner, sentence
from quietfleet.owners._keys import OwnerKeys
from quietfleet.storage import Database

_ETHER = 10**18


@dataclass(frozen=True, slots=True)
class _Step:
    """One call: some devices of one owner, and who signs for them."""

    sender: str
    at_hand: bool
    ids: tuple[str, ...]
    quote: Quote


class OwnersFleet:
    """The registry as its owners see it; `calls` keeps what was sent, or with `rehearse` what would be.

    `sent` hears of each transaction as it leaves; `wait` is how many seconds a block has to take it.
    """

    def __init__(
        self,
        client: ChainClient,
        book: AddressBook,
        keys: OwnerKeys,
        *,
        wait: float = 60.0,
        rehearse: bool = False,
        sent: Callable[[str], object] | None = None,
    ) -> None:
        self._client = client
        self._service = ServiceContract(client)
        self._book = book
        self._keys = keys
        self._wait = wait
        self._rehearse = rehearse
        self._sent = sent
        self.calls: list[Call] = []

    async def rows(self) -> list[Row]:
        """Read every worker that was ever enrolled, oldest first, from all events: the endpoint learns no interest."""
        with TemporaryDirectory() as folder, Database(Path(folder) / "registry.db") as database:
            replica = Replica(database)
            await Follower(self._client, replica, self._client.deployment).catch_up()
            return [self._row(worker) for worker in sorted(replica.workers(), key=lambda one: (one.since, one.id))]

    async def chosen(self, workers: Iterable[str], tag: str = "") -> list[Row]:
        """Read workers by name, id or tag; UnknownWorkerName if one is not enrolled."""
        return [await self._read(id_) for id_ in self._book.chosen(workers, tag)]

    async def switch(self, workers: Iterable[str], tag: str = "", *, active: bool) -> list[Row]:
        """Switch workers on or off; those that are so already are left alone.

        Nothing is sent unless everybody who has to sign is at hand and can pay, and no call would be refused. Raises
        NoSigner, NotEnoughEther, CallRefused with the contract's sentence, or ChainError.
        """
        rows = await self.chosen(workers, tag)
        steps = await self._steps([row for row in rows if row.active != active], active=active)
        if self._rehearse:
            self.calls += [self._call(step, active=active) for step in steps]
            return rows
        wallets = {step.sender: await self._wallet(step.sender) for step in steps}
        await self._require_funds(steps)
        for step in steps:
            self.calls.append(await self._make(wallets[step.sender], step, active=active))
        switched = {id_ for step in steps for id_ in step.ids}
        return [replace(row, active=active) if row.id in switched else row for row in rows]

    async def _steps(self, rows: Sequence[Row], *, active: bool) -> list[_Step]:
        owners = by_owner(rows, lambda row: row.owner)
        return [step for owner, own in owners.items() for step in await self._steps_of(owner, own, active=active)]

    async def _steps_of(self, owner: str, rows: Sequence[Row], *, active: bool) -> list[_Step]:
        sender, at_hand = await self._sender(owner, Right.SWITCH_ON if active else Right.SWITCH_OFF, rows)
        return [
            _Step(sender, at_hand, tuple(batch), await self._quote(sender, batch, active=active))
            for batch in batches([row.id for row in rows])
        ]

    async def _sender(self, owner: str, right: Right, rows: Sequence[Row]) -> tuple[str, bool]:
        """Find who signs; a rehearsal needs no signature, so that the owner may be a contract or far away."""
        if owner in self._keys.addresses:
            return owner, True
        for address in self._keys.addresses:
            if right in await self._service.operator_rights(owner, address):
                return address, True
        if self._rehearse:
            return owner, False
        names = ", ".join(row.name or row.id for row in rows)
        raise NoSigner(f"{names}: the owner is {owner}, and no operator with the right is at hand")

    async def _quote(self, sender: str, ids: Sequence[str], *, active: bool) -> Quote:
        service = self._client.deployment.service
        try:
            return await quote(self._client, service, *_call_of(ids, active=active), sender)
        except ChainRejected as refusal:
            raise CallRefused(sentence(refusal.error, refusal.arguments)) from refusal

    async def _require_funds(self, steps: Sequence[_Step]) -> None:
        for sender, own in by_owner(steps, lambda step: step.sender).items():
            held, needed = await self._client.balance(sender), sum(step.quote.most for step in own)
            if held < needed:
                shown = f"{sender} has {held / _ETHER:g} ether, and up to {needed / _ETHER:g} may be needed"
                raise NotEnoughEther(shown)

    async def _wallet(self, sender: str) -> Wallet:
        key = await asyncio.to_thread(self._keys.open, sender)
        return Wallet(key.to_bytes(), self._client, self._wait, self._sent)

    async def _make(self, wallet: Wallet, step: _Step, *, active: bool) -> Call:
        try:
            receipt = await ServiceContract(self._client, wallet).set_active(step.ids, active)
        except ChainRejected as refusal:
            raise CallRefused(sentence(refusal.error, refusal.arguments)) from refusal
        call, transaction = self._call(step, active=active), f"0x{receipt.transaction.hex()}"
        return replace(call, transaction=transaction, block=receipt.block, gas=receipt.gas_used)

    def _call(self, step: _Step, *, active: bool) -> Call:
        function, (what, _) = _call_of(step.ids, active=active)
        arguments = {"ids" if len(step.ids) > 1 else "id": what, "active": active}
        place = self._client.deployment.service.address
        return Call(place, function, arguments, step.sender, step.at_hand, 0, step.quote.gas, step.quote.data)

    async def _read(self, id_: str) -> Row:
        worker = await self._service.worker(id_)
        if worker is None:
            raise UnknownWorkerName(self._book.name_of(id_) or id_)
        return self._row(worker)

    def _row(self, worker: WorkerRecord) -> Row:
        return Row(
            id=worker.id,
            name=self._book.name_of(worker.id),
            kind=worker.kind.name.lower(),
            owner=worker.owner,
            active=worker.active,
            suspended=worker.suspended,
            pending=worker.pending,
            retired=worker.retired,
            since=worker.since,
            epoch=worker.epoch,
            tags=self._book.tags_of(worker.id),
        )


def _call_of(ids: Sequence[str], *, active: bool) -> tuple[str, tuple[object, bool]]:
    return ("setActive", (ids[0], active)) if len(ids) == 1 else ("setActiveBatch", (list(ids), active))
