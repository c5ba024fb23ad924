"""One fleet of the bench: who is in it, what its chain says, and the folders in which its workers begin."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from quietfleet.chain._journal import Located
from quietfleet.chain.deployment import ContractRecord, Deployment, save_deployment
from quietfleet.chain.events import ConfigurationRotated, Enrolled
from quietfleet.chain.replica import Batch, Replica
from quietfleet.chain.types import Configuration, Head, Kind
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.network import Address, Enode
from quietfleet.settings import (
    ChainSection,
    NetworkSection,
    OracleSection,
    ProcessorSection,
    SensorSection,
    Settings,
    WorkerSection,
)
from quietfleet.storage import Database
from quietfleet.workers.epoch import prepare_epoch

RELAYS: Final = 8
ENTRIES: Final = 2  # relays that a worker dials
AT_ONCE: Final = 100
PLAN: Final = "plan.json"
CAPABILITY: Final = "bench"
CAPACITY: Final = 200  # deals that a provider holds at once
_STEPS: Final = (1, 2, 4)  # which of the relays behind it a relay dials
_FOR_EVER: Final = 86_400.0
_NOBODY: Final = "0x" + 40 * "0"
_PASSPHRASE: Final = "bench"  # noqa: S105 - of keys that everybody can derive

Role = Literal["relay", "oracle", "seeker", "provider"]
KINDS: Final[dict[str, Kind]] = {
    "relay": Kind.RELAY,
    "oracle": Kind.ORACLE,
    "seeker": Kind.SENSOR,
    "provider": Kind.PROCESSOR,
}


class Plan(msgspec.Struct, frozen=True):
    """What all processes of one fleet are told. `quota` is envelopes a second that relays take from a link.

    `disk` is where the oracle keeps its state; everybody else's is in `folder`, which may be memory. `whole` lets a
    pair set up its session and say its first message before the next deal is sought. `beat` is seconds between two
    looks of a worker at its clock; `parts` has processor time metered. At most `at_once` workers seek at a time, in
    turns, for more would measure their queue. Workers that are not up within `ready_within` seconds are not waited for.
    """

    folder: str
    disk: str
    ports: tuple[int, ...]
    workers: int
    replicas: int = 1
    min_pow: float = 0.0
    quota: float = 20.0
    oracle_links: int = ENTRIES
    stem: Literal["onion", "off"] = "onion"
    cover_rate: float = 4.0
    hop_delay: float = 0.1
    beat: float = 0.2
    at_once: int = AT_ONCE
    ready_within: float = 240.0
    whole: bool = False
    parts: bool = False

    @property
    def seekers(self) -> int:
        return self.workers - self.providers

    @property
    def providers(self) -> int:
        return max(1, self.workers // 5)

    def members(self) -> Iterator[tuple[Role, int]]:
        """Everybody who is registered; replicas are one worker."""
        yield from (("relay", number) for number in range(RELAYS))
        yield "oracle", 0
        yield from (("seeker", number) for number in range(self.seekers))
        yield from (("provider", number) for number in range(self.providers))

    def started(self) -> list[tuple[Role, int]]:
        """All workers in the order they start: a fleet that comes up in part offers and seeks in the same shares."""
        apart = self.seekers / self.providers
        everybody: list[tuple[Role, int]] = [("seeker", number) for number in range(self.seekers)]
        everybody += [("provider", number) for number in range(self.providers)]
        return sorted(everybody, key=lambda one: one[1] if one[0] == "seeker" else one[1] * apart)

    def enode(self, relay: int) -> str:
        return str(Enode(key_of("relay", relay).public.to_bytes(), Address("127.0.0.1", self.ports[relay])))

    def settings(self, role: Role, number: int) -> Settings:
        """The settings of one process; light workers behind two relays, the oracle behind all."""
        name, home = f"{role}-{number}", self.home(role, number)
        store = f"sqlite:{self.disk}/shared.db" if role == "oracle" and self.replicas > 1 else ""
        return Settings(
            worker=WorkerSection(name, state=str(home), keystore=f"{role}.json"),
            chain=ChainSection("deployment.json", max_age=_FOR_EVER),
            network=self._network(role, number),
            sensor=SensorSection(capability=CAPABILITY),
            processor=ProcessorSection(capability=CAPABILITY, capacity=CAPACITY),
            oracle=OracleSection(store=store),
            folder=self.folder,
        )

    def home(self, role: Role, number: int) -> Path:
        """Where a process keeps its state."""
        return Path(self.disk if role == "oracle" else self.folder) / f"{role}-{number}"

    def _network(self, role: Role, number: int) -> NetworkSection:
        if role == "relay":
            peers = [self.enode((number + step) % RELAYS) for step in _STEPS]
            listen = f"127.0.0.1:{self.ports[number]}"
            return NetworkSection(peers, listen=listen, max_per_address=10_000, link_rate=self.quota)
        if role == "oracle":
            return NetworkSection([self.enode(relay) for relay in range(self.oracle_links)], stem="off", miner="vector")
        peers = [self.enode((2 * number + step) % RELAYS) for step in range(ENTRIES)]
        return NetworkSection(
            peers,
            stem=self.stem,
            cover_rate=self.cover_rate,
            hop_delay=self.hop_delay,
            bloom_bits=64,
            miner="vector",
        )


def key_of(role: Role, number: int) -> PrivateKey:
    """Return a worker's key, the same for all replicas of the oracle."""
    return PrivateKey.from_bytes(keccak256(f"{role} {0 if role == 'oracle' else number}".encode()))


def id_of(role: Role, number: int) -> str:
    return key_of(role, number).public.id


def prepare(plan: Plan) -> None:
    """Write the deployment file, the oracle's keys, and for everybody the chain as if it had been followed."""
    folder = Path(plan.folder)
    place = Deployment(31337, ContractRecord("0x" + "11" * 20, (), 0), ContractRecord("0x" + "22" * 20, (), 0))
    save_deployment(folder / "deployment.json", place)
    chain = folder / "chain.db"
    with Database(chain) as database:
        _tell(database, _enrolments(plan), number=0)
    for role, number in _processes(plan):
        home = plan.home(role, number)
        home.mkdir(mode=0o700)
        shutil.copy(chain, home / "worker.db")
    (folder / PLAN).write_bytes(msgspec.json.encode(plan))
    configuration = _configure(plan)
    for role, number in _processes(plan):
        with Database(plan.home(role, number) / "worker.db") as database:
            _tell(database, [ConfigurationRotated(configuration)], number=1)


def _processes(plan: Plan) -> Iterator[tuple[Role, int]]:
    yield from plan.members()
    yield from (("oracle", number) for number in range(1, plan.replicas))


def _enrolments(plan: Plan) -> list[Enrolled]:
    owners = {member: f"0x{keccak256(repr(member).encode())[:20].hex()}" for member in plan.members()}
    return [
        Enrolled(id_of(role, number), owners[role, number], KINDS[role], key_of(role, number).public.to_bytes())
        for role, number in plan.members()
    ]


def _configure(plan: Plan) -> Configuration:
    settings, key = plan.settings("oracle", 0), key_of("oracle", 0)
    drawn = prepare_epoch(settings, key, _PASSPHRASE, 1, epoch_key=True)
    commitment, digest = (bytes.fromhex(one[2:]) for one in (drawn.epoch_key_commitment, drawn.card_digest))
    now = int(time.time())
    return Configuration(1, now, 60, plan.min_pow, 60, 1 << 17, key.public.id, _NOBODY, commitment, digest, bytes(32))


def _tell(database: Database, events: list[Enrolled] | list[ConfigurationRotated], *, number: int) -> None:
    """Have a replica read a block with these events."""
    now = int(time.time())
    located = tuple(Located(number, index, now, event) for index, event in enumerate(events))
    head = Head(number, number.to_bytes(32, "big"), now)
    Replica(database).advance(number - 1, Batch(located, (head,)), 256)
