"""A small fleet of real processes on a chain of its own, with what its owners do and how its journals are read."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quietfleet.chain.deployment import load_deployment, save_deployment
from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore
from quietfleet.errors import TestbedError
from quietfleet.storage import AuditEntry, AuditLog, Database
from quietfleet.testbed.anvil import MNEMONIC, Anvil, key_of
from quietfleet.testbed.contracts import deploy
from quietfleet.testbed.fleet import SITE, Fleet, write_history, write_readings
from quietfleet.workers._keys import prepare_key

DAY = 86_400.0
SPEED = DAY / 12  # two hours of data a second
MAX_AGE = 6.0
WAIT = 180.0  # seconds after which nothing will happen any more, on however slow a machine
STOP_WITHIN = 60.0  # likewise, of a worker that was asked to stop
LAST = 8  # entries of each journal that tell where it got stuck
FAN = {"name": "fan", "file": "fan", "low": 0, "high": 255, "safe": 0, "digits": 0, "rest": 0, "hold": 20}
FAN |= {"effect": "temp", "settle": 6 * 3600}
VENTILATE = {"actuator": "fan", "value": 128, "above": -60.0, "confidence": 0.0, "lasts": 12}
_DIALLED = 2  # relays that workers know from their settings
CHATTER = {"readings", "recommendation"}
START = datetime(2013, 3, 20, tzinfo=UTC).timestamp()
IGNORED = 'quietfleet_messages_ignored_total{reason="severed"}'


@dataclass
class System:
    """The fleet, its chain, and a seeded die."""

    fleet: Fleet
    anvil: Anvil
    relays: list[str] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(2013))

    def people(self) -> None:
        """Five relays, an oracle, a gateway, two processors, two sensors, each under an owner of its own."""
        fleet = self.fleet
        fleet.data = {"start": "2013-03-20", "epoch": time.time(), "speed": SPEED}
        self.relays = fleet.add_relays(5, owner=11)
        self.add("oracle", Kind.ORACLE, owner=4)
        gateway = self.add("gateway", Kind.GATEWAY, owner=5, gateway={"history": "history.csv"})
        write_history(gateway.folder / "history.csv", START - 20 * DAY, START)
        publisher = gateway.key.from_bytes(key_of(MNEMONIC, 1))
        create_keystore(gateway.folder / "publisher.json", publisher, fleet.passphrase, light=True)
        for index in (1, 2):
            processor = {"site": SITE, "capacity": 3, "commands": [VENTILATE]}
            self.add(f"processor-{index}", Kind.PROCESSOR, owner=5 + index, processor=processor)
        self.add_sensor("sensor-1", "JFK", owner=8, program=("quietfleet.testbed.faulty",))
        self.add_sensor(  # light; its relays are on chain
            "sensor-2", "LGA", owner=9, network={"bloom_bits": 256}, actuators=[FAN]
        )
        self.fan.write_text("0\n")

    @property
    def fan(self) -> Path:
        """The file that stands for sensor-2's fan, as sysfs would show it."""
        return self.fleet.members["sensor-2"].folder / "fan"

    def add(self, name: str, kind: Kind, *, owner: int, **sections: Any) -> Any:
        chosen = sections.pop("network", {"peers": self.relays[:_DIALLED]})
        network = {"ttl": 20, "cover_rate": 8.0, "hop_delay": 0.03} | chosen
        chain = {"poll": 0.3, "max_age": MAX_AGE}
        return self.fleet.add(name, kind, owner=owner, network=network, chain=chain, **sections)

    def add_sensor(
        self,
        name: str,
        station: str,
        *,
        owner: int,
        program: tuple[str, ...] = (),
        actuators: Sequence[dict[str, Any]] = (),
        **sections: Any,
    ) -> None:
        sensor = {"site": SITE, "replay": "readings.csv", "send_every": 0.5, "actuators": list(actuators)}
        sensor |= {"telemetry_every": 5.0}
        member = self.add(name, Kind.SENSOR, owner=owner, program=program, sensor=sensor, **sections)
        write_readings(member.folder / "readings.csv", station, START, START + 200 * DAY)

    async def found(self, artifacts: Any, *, start: bool = True) -> None:
        """Put the contracts on chain, and everybody under them; who is to wait for that is started by the caller."""
        anvil = self.anvil
        owner, publisher = anvil.keys()[:2]
        named = PrivateKey.from_bytes(publisher).public.id
        place = await deploy(anvil.url, anvil.chain_id, artifacts, owner, fee=1000, approver=named)
        save_deployment(self.fleet.deployment, place)
        self.people()
        await self.appoint(named)
        if len(self.relays) > _DIALLED:
            await self.name_relays()
        if start:
            self.fleet.start(*self.fleet.members)
        await self.fleet.enrol()
        await self.rotate()

    # what owners do

    async def appoint(self, publisher: str) -> None:
        """Let an account publish releases for the gateway."""
        async with self._client() as client:
            releases = ReleasesContract(client, Wallet(key_of(MNEMONIC, 0), client))
            await releases.set_publisher(publisher, self.fleet.members["gateway"].id)

    async def name_relays(self) -> None:
        """Put the relays that newcomers begin with on chain."""
        async with self._client() as client:
            await ServiceContract(client, Wallet(key_of(MNEMONIC, 0), client)).set_bootstrap(self.relays[2:4])

    async def rotate(self) -> None:
        """Have oracle and gateway draw keys, and put the next configuration on chain."""
        async with self._client() as client:
            service = ServiceContract(client, Wallet(key_of(MNEMONIC, 0), client))
            latest, _ = await service.configuration()
            epoch = self.fleet.prepare_epoch(latest.version + 1 if latest else 1)
            await service.rotate(
                Rotation(
                    oracle=epoch["oracle"],
                    gateway=epoch["gateway"],
                    epoch_key_commitment=_bytes(epoch["epoch_key_commitment"]),
                    oracle_card_digest=_bytes(epoch["oracle_card_digest"]),
                    gateway_card_digest=_bytes(epoch["gateway_card_digest"]),
                    grace=10,
                    min_pow=0.002,
                    max_ttl=60,
                )
            )

    async def switch(self, name: str, *, active: bool) -> None:
        """What `fleet.disable` and `fleet.enable` do, by the device's owner."""
        member = self.fleet.members[name]
        async with self._client() as client:
            owner = ServiceContract(client, Wallet(key_of(MNEMONIC, member.owner), client))
            await owner.set_active([member.id], active)

    async def replace_key(self, name: str) -> int:
        """Have a worker prepare its next messaging key, and its owner put that on chain; return the key's epoch."""
        member = self.fleet.members[name]
        proof = prepare_key(member.settings, member.key, self.fleet.passphrase, valid=600)
        async with self._client() as client:
            owner = ServiceContract(client, Wallet(key_of(MNEMONIC, member.owner), client))
            await owner.rotate_keys([proof])
        return proof.epoch

    @asynccontextmanager
    async def switched_off(self, name: str) -> AsyncIterator[None]:
        """A device or service is off meanwhile; on again whatever happens, so that the next test finds it working."""
        await self.switch(name, active=False)
        try:
            yield
        finally:
            await self.switch(name, active=True)

    @contextmanager
    def faulty(self, name: str, **faults: bool) -> Iterator[None]:
        """A device misbehaves meanwhile."""
        path = self.fleet.members[name].folder / "faults.json"
        path.write_text(json.dumps(faults))
        try:
            yield
        finally:
            path.write_text("{}")

    # what a machine may do to a worker

    def terminate(self, name: str) -> tuple[int, float]:
        """Ask a worker to stop as a service manager does; return its exit code and the seconds it took."""
        process = self.fleet.members[name].process
        assert process is not None
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_WITHIN)
        self.fleet.members[name].started = 0  # it is down by our own wish
        return code, time.monotonic() - begun

    async def until(self, what: str, holds: Callable[[], bool], within: float = WAIT) -> None:
        try:
            await self.fleet.until(what, holds, within)
        except TestbedError as error:
            error.add_note(self.account())
            raise

    def account(self) -> str:
        """What every worker last did and says of itself, for whoever reads why a test failed."""
        lines = [f"at {time.time():.1f}"]
        for name in self.fleet.members:
            lines.append(f"{name}: {json.dumps(self.fleet.status(name))}")
            entries = [entry for entry in self.fleet.journal(name) if entry.kind not in CHATTER]
            lines += [f"  {entry.at:.1f} {entry.kind} {json.dumps(entry.detail)}" for entry in entries[-LAST:]]
        return "\n".join(lines)

    async def moment(self, longest: float) -> None:
        """Let a random time pass."""
        due = time.monotonic() + self.dice.uniform(0, longest)
        await self.until("a moment", lambda: time.monotonic() >= due)

    # what the journals say

    def since(self, name: str, kind: str, begun: float) -> list[AuditEntry]:
        return [entry for entry in self.fleet.journal(name, kind) if entry.at >= begun]

    def severed(self, name: str, peer: str, begun: float) -> list[AuditEntry]:
        """Whom a worker severed, of a peer; the oracle's journal names nobody, so there it is anyone."""
        nameless = self.fleet.members[name].kind is Kind.ORACLE
        return [entry for entry in self.since(name, "severed", begun) if nameless or entry.detail["peer"] == peer]

    def answers(self, sensor: str, begun: float = 0.0) -> list[AuditEntry]:
        return [entry for entry in self.since(sensor, "recommendation", begun) if entry.detail["rows"]]

    async def flowing(self, *, answers: int = 2) -> None:
        """Wait until every sensor is being answered, from now on."""
        begun = time.time()
        sensors = self.named(Kind.SENSOR)
        await self.until(
            "every sensor is answered", lambda: all(len(self.answers(s, begun)) >= answers for s in sensors)
        )

    def named(self, *kinds: Kind) -> list[str]:
        return [member.name for member in self.fleet.members.values() if member.kind in kinds]

    def processor_of(self, sensor: str) -> str:
        """The processor that answered a sensor last, by name; the journal knows before the status says so."""
        partner = self.fleet.journal(sensor, "recommendation")[-1].detail["processor"]
        return next(member.name for member in self.fleet.members.values() if member.id == partner)

    def sessions(self, name: str) -> set[str]:
        """The ids of everybody a worker is in session with, as it last said."""
        return {session["peer"] for session in self.fleet.status(name).get("sessions", [])}

    def check_database(self, name: str) -> int:
        """Check a worker's file and its audit trail, running or not; return the trail's length."""
        with Database.observe(self.fleet.members[name].folder / "state" / "worker.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return AuditLog(database, create=False).verify()

    def check_nothing_lost(self) -> None:
        """Every reading numbered so far was answered once, in order, and some processor stored it."""
        for sensor in self.named(Kind.SENSOR):
            assert self.fleet.journal(sensor, "readings-overflow") == []
            taken = [entry.detail for entry in self.answers(sensor)]
            throughs = [detail["through"] for detail in taken]
            assert throughs == sorted(throughs)
            assert sum(detail["rows"] for detail in taken) == throughs[-1]
            assert len(self._taken(sensor)) >= throughs[-1]

    def check_nothing_twice(self) -> None:
        """Each answer was taken once, each reading stored once by whoever took it, each release installed once."""
        for sensor in self.named(Kind.SENSOR):
            throughs = [entry.detail["through"] for entry in self.fleet.journal(sensor, "recommendation")]
            assert throughs == sorted(set(throughs)), sensor
        for processor in self.named(Kind.PROCESSOR):
            installed = [entry.detail["sequence"] for entry in self.fleet.journal(processor, "release-installed")]
            assert len(installed) == len(set(installed)), processor

    def _taken(self, sensor: str) -> set[int]:
        """The numbers of a sensor's readings that a processor says it took."""
        worker = self.fleet.members[sensor].id
        return {
            number
            for name in self.named(Kind.PROCESSOR)
            for entry in self.fleet.journal(name, "readings")
            if entry.detail["sensor"] == worker
            for number in range(entry.detail["first"], entry.detail["first"] + entry.detail["rows"])
        }

    def _client(self) -> ChainClient:
        return ChainClient(self.anvil.url, load_deployment(self.fleet.deployment))


@contextmanager
def standing(kind: type[System], folder: Path) -> Iterator[Any]:
    """A chain of its own and an empty fleet in a folder; both are stopped at the end."""
    anvil = Anvil(block_time=1, accounts=20, state=folder / "chain.json", log=folder / "anvil.log")
    system = kind(Fleet(folder, anvil.url, folder / "deployment.json"), anvil)
    try:
        anvil.start()
        yield system
    finally:
        system.fleet.stop()
        anvil.stop()


def alive(pid: int) -> bool:
    """Whether a process is there, zombies not counted."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def listening(pid: int) -> list[str]:
    """The TCP addresses (as in /proc/net/tcp) on which a process waits for others."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            sockets.add(str(descriptor.readlink()))
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    waits = "0A"
    return [line[1] for line in lines if line[3] == waits and f"socket:[{line[9]}]" in sockets]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
