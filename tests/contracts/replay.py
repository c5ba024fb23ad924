"""Rebuilds what the contracts store from their events alone, the way a reader off chain does."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, replace
from typing import Any

from ape.types import LogFilter
from configurations import MOST_POW, Configuration, digest_of, told
from eth_abi import encode
from eth_utils import keccak
from mirrors import ZERO, Flag, State
from rollouts import terms_digest

STATELESS = {"Withdrawn", "OwnershipTransferred", "OwnershipTransferStarted"}


def history(contract: Any) -> list[Any]:
    """All logs of a contract, read from the chain."""
    provider = contract.provider
    events = contract.contract_type.events
    wanted = LogFilter(addresses=[contract.address], events=events, stop_block=provider.get_block("latest").number)
    return list(provider.get_contract_logs(wanted))


@dataclass
class Worker:
    """Fields in the order of the struct."""

    owner: str
    since: int
    epoch: int
    sequence: int
    kind: int
    flags: int


class Replay:
    """Hands each log to the method that is called like its event."""

    def __init__(self, logs: list[Any]) -> None:
        for log in logs:
            if log.event_name not in STATELESS:
                name = re.sub(r"(?<!^)(?=[A-Z])", "_", log.event_name).lower()
                getattr(self, name)(log, **{"from_" if key == "from" else key: log[key] for key in log.event_arguments})


class ServiceReplay(Replay):
    def __init__(self, service: Any) -> None:
        self.service = service
        self.workers: dict[str, Worker] = {}
        self.keys: dict[str, tuple[str, int]] = {}
        self.offers: dict[str, str] = {}
        self.grants: dict[tuple[str, str], tuple[int, int]] = {}
        self.fees: dict[str, Any] = {"announced": (0, 0), "paused": False}
        self.rotator, self.successor, self.pow_bounds = ZERO, ZERO, (1, MOST_POW)
        self.relays: tuple[int, int, bytes] = (0, 0, bytes(22))
        self.newest: tuple[Configuration, int] | None = None
        self.previous: tuple[Configuration, int] | None = None
        super().__init__(history(service))

    def next(self, id: str, sequence: int) -> Worker:  # noqa: A002 (the events' names)
        """The worker, whose next change this is: none was missed."""
        worker = self.workers[id]
        worker.sequence += 1
        assert sequence == worker.sequence
        return worker

    def enrolled(self, log, id, owner, kind, flags=Flag.ACTIVE, **_rest):  # noqa: A002
        assert id not in self.keys
        self.workers[id] = Worker(owner, log.timestamp, 0, 1, kind, flags)
        self.keys[id] = (id, 0)

    def enrolled_itself(self, log, **fields):
        self.enrolled(log, flags=Flag.PENDING, **fields)

    def accepted(self, _, id, sequence, **_rest):  # noqa: A002
        self.next(id, sequence).flags ^= Flag.PENDING | Flag.ACTIVE

    def key_rotated(self, _, id, key, epoch, sequence, **_rest):  # noqa: A002
        worker = self.next(id, sequence)
        worker.epoch += 1
        assert (key not in self.keys, worker.epoch) == (True, epoch)
        self.keys[key] = (id, epoch)

    def active_changed(self, _, id, active, sequence, **_rest):  # noqa: A002
        worker = self.next(id, sequence)
        worker.flags = worker.flags | Flag.ACTIVE if active else worker.flags & ~Flag.ACTIVE

    def suspended_changed(self, _, id, suspended, sequence):  # noqa: A002
        worker = self.next(id, sequence)
        worker.flags = worker.flags | Flag.SUSPENDED if suspended else worker.flags & ~Flag.SUSPENDED

    def transfer_offered(self, _, id, to, sequence):  # noqa: A002
        self.next(id, sequence)
        self.offers[id] = to

    def transfer_cancelled(self, _, id, sequence):  # noqa: A002
        self.next(id, sequence)
        del self.offers[id]

    def owner_changed(self, _, id, from_, to, sequence):  # noqa: A002
        worker = self.next(id, sequence)
        assert worker.owner == from_
        worker.owner = to
        self.offers.pop(id, None)

    def retired(self, _, id, sequence, **_rest):  # noqa: A002
        worker = self.next(id, sequence)
        worker.flags = worker.flags & Flag.SUSPENDED | Flag.RETIRED
        self.offers.pop(id, None)

    def operator_changed(self, _, owner, operator, rights, until):
        self.grants[owner, operator] = (rights, until)

    def fee_announced(self, _, fee, applicableFrom):  # noqa: N803
        self.fees["announced"] = (fee, applicableFrom)

    def fee_announcement_cancelled(self, _, **_rest):
        self.fees["announced"] = (0, 0)

    def fee_changed(self, _, current, **_rest):
        self.fees |= {"fee": current, "announced": (0, 0)}

    def fee_cap_lowered(self, _, current, **_rest):
        self.fees["cap"] = current

    def paused_changed(self, _, paused):
        self.fees["paused"] = bool(paused)

    def rotator_changed(self, _, current, **_rest):
        self.rotator = current

    def pow_bounds_changed(self, _, least, most):
        self.pow_bounds = (least, most)

    def successor_named(self, _, current, **_rest):
        self.successor = current

    def bootstrap_named(self, log, version, enodes, previousBlock):  # noqa: N803
        assert (version - 1, previousBlock) == self.relays[:2]
        digest = keccak(encode(["string[]"], [enodes]))[:22] if enodes else bytes(22)
        self.relays = (version, log.block_number, digest)

    def configuration_rotated(self, log, version, **_rest):
        if self.newest:
            assert (version, told(log).previousBlock) == (self.newest[0].version + 1, self.newest[1])
            if self.newest[0].activeFrom <= log.timestamp:
                self.previous = self.newest
        self.newest = (told(log), log.block_number)

    @property
    def anchor(self) -> tuple[Any, ...]:
        if self.newest is None:
            return (0, 0, 0, 0, bytes(32), 0, 0, bytes(32))
        newest, block = self.newest
        anchor = (newest.version, newest.activeFrom, newest.grace, block, digest_of(self.service, newest))
        if self.previous is None:
            return (*anchor, 0, 0, bytes(32))
        return (*anchor, self.previous[0].version, self.previous[1], digest_of(self.service, self.previous[0]))

    def check(self) -> None:
        """Asserts that the contract stores exactly this."""
        service, now = self.service, self.service.provider.get_block("latest").timestamp
        for id_, worker in self.workers.items():
            assert tuple(service.worker(id_)) == astuple(worker)
            assert service.pendingOwner(id_) == self.offers.get(id_, ZERO)
        for key, (id_, epoch) in self.keys.items():
            assert tuple(service.workerOf(key)) == (id_, epoch, epoch == self.workers[id_].epoch)
        for (owner, operator), (rights, until) in self.grants.items():
            if abs(until - now) > 1:  # a call may take the latest block's time or the next one's
                assert service.operatorRights(owner, operator) == (rights if now <= until else 0)
        assert (service.fee(), service.feeCap()) == (self.fees["fee"], self.fees["cap"])
        assert tuple(service.announcedFee()) == self.fees["announced"]
        assert service.paused() == self.fees["paused"]
        assert (service.rotator(), service.successor()) == (self.rotator, self.successor)
        assert tuple(service.bootstrap()) == self.relays
        assert (tuple(service.configuration()), tuple(service.powBounds())) == (self.anchor, self.pow_bounds)


@dataclass(frozen=True)
class Head:
    """Fields in the order of the struct."""

    sequence: int = 0
    completed: int = 0
    floor: int = 0
    state: int = 0
    wave: int = 0
    waveCount: int = 0  # noqa: N815 (the struct's names)
    since: int = 0
    notBefore: int = 0  # noqa: N815
    expiresAt: int = 0  # noqa: N815
    soak: int = 0


class ReleasesReplay(Replay):
    def __init__(self, releases: Any) -> None:
        self.contract = releases
        self.heads: dict[bytes, Head] = {}
        self.releases: dict[tuple[bytes, bytes], tuple[int, bool, bool, bytes]] = {}
        self.gateways: dict[str, str] = {}
        self.approver, self.paused = ZERO, False
        super().__init__(history(releases))

    def now(self, channel: bytes, sequence: int, **changes: Any) -> None:
        """Changes the head; the sequence is that of the newest release."""
        assert self.heads[channel].sequence == sequence
        self.heads[channel] = replace(self.heads[channel], **changes)

    def follow(self, channel: bytes, sequence: int, **fields: Any) -> None:
        """A next release: none was missed."""
        before = self.heads.get(channel, Head())
        assert sequence == before.sequence + 1
        self.heads[channel] = Head(sequence, before.completed, before.floor, **fields)

    def release_proposed(self, _, channel, sequence, terms):
        manifest, _root, _gate, not_before, expires_at, soak, wave_count = terms
        fields = {"notBefore": not_before, "expiresAt": expires_at, "soak": soak, "waveCount": wave_count}
        self.follow(channel, sequence, state=State.PROPOSED, **fields)
        assert (channel, manifest) not in self.releases
        self.releases[channel, manifest] = (sequence, False, False, terms_digest(tuple(terms)))

    def release_approved(self, _, channel, sequence, **_rest):
        self.now(channel, sequence, state=State.APPROVED)

    def wave_opened(self, log, channel, sequence, wave):
        assert wave == self.heads[channel].wave + 1
        self.now(channel, sequence, state=State.ROLLING, wave=wave, since=log.timestamp)

    def rollout_paused(self, _, channel, sequence, **_rest):
        self.now(channel, sequence, state=State.PAUSED)

    def rollout_resumed(self, log, channel, sequence, **_rest):
        self.now(channel, sequence, state=State.ROLLING, since=log.timestamp)

    def release_finalised(self, log, channel, sequence, floor, **_rest):
        done = {"state": State.COMPLETED, "completed": sequence, "floor": floor}
        self.now(channel, sequence, since=log.timestamp, **done)
        (key,) = [key for key, found in self.releases.items() if key[0] == channel and found[0] == sequence]
        self.releases[key] = (sequence, True, *self.releases[key][2:])

    def rolled_back(self, log, channel, sequence, manifestHash, target):  # noqa: N803
        self.follow(channel, sequence, state=State.COMPLETED, since=log.timestamp)
        self.now(channel, sequence, completed=sequence)
        before = self.releases[channel, manifestHash]
        assert before[0] == target
        self.releases[channel, manifestHash] = (sequence, *before[1:])

    def release_revoked(self, _, channel, sequence, manifestHash, floor):  # noqa: N803
        number, completed, _revoked, digest = self.releases.get((channel, manifestHash), (0, False, False, bytes(24)))
        assert number == sequence
        self.releases[channel, manifestHash] = (number, completed, True, digest)
        if number:
            head = self.heads[channel]
            ended = State.REVOKED if number == head.sequence else head.state
            self.now(channel, head.sequence, floor=floor, state=ended)

    def publisher_changed(self, _, publisher, gateway):
        self.gateways[publisher] = gateway

    def approver_changed(self, _, current, **_rest):
        self.approver = current

    def paused_changed(self, _, paused):
        self.paused = bool(paused)

    def check(self) -> None:
        """Asserts that the contract stores exactly this."""
        for channel, head in self.heads.items():
            assert tuple(self.contract.head(channel)) == astuple(head)
        for (channel, manifest), release in self.releases.items():
            assert tuple(self.contract.release(channel, manifest)) == release
        for publisher, gateway in self.gateways.items():
            assert self.contract.gatewayOf(publisher) == gateway
        assert (self.contract.approver(), self.contract.paused()) == (self.approver, self.paused)
