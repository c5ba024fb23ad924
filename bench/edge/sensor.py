"""A sensor's memory and processor time: real processes, on a chain, in session with a processor through relays."""

from __future__ import annotations

import asyncio
import csv
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quietfleet.chain.deployment import save_deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.network import Address, Enode
from quietfleet.testbed.anvil import MNEMONIC, Anvil, key_of
from quietfleet.testbed.bare import only
from quietfleet.testbed.contracts import ROOT, compile_contracts, deploy
from quietfleet.testbed.fleet import SITE, Fleet, Member
from quietfleet.workers.epoch import prepare_epoch

MEMORY: Final = 40 * 10**6  # bytes
PER_READING: Final = 2.0  # milliseconds
LOCK: Final = ROOT / "requirements" / "sensor.txt"
WINDOW, QUICK = 60.0, 15.0  # seconds that are measured
STEADY: Final = 10  # answers before that
RATES: Final = {"idle": 0.0, "slow": 1.0, "fast": 20.0}  # readings a second; messages leave once a second
POW: Final = {"none": 1e-9, "default": 0.2}
MEMBERS: Final = (
    ("sensor", "idle"),
    ("sensor", "slow"),
    ("sensor", "fast"),
    ("relayed", "idle"),
    ("relayed", "slow"),
    ("full", "idle"),
    ("full", "slow"),
)
NAMES: Final = {"sensor": "sensor build", "relayed": "sensor build, chain by relays", "full": "full build"}
_FOR: Final = 240.0  # seconds of recording, which is held in memory
_WITHIN: Final = 120.0
_TICK: Final = os.sysconf("SC_CLK_TCK")
_ALLOCATED: Final = "allocated: code and objects of Python, buffers of libraries"
_SHOWN: Final = 7  # parts of a process' memory
_MAPPING: Final = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$|^Rss: +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one sensor took while it was watched: bytes, CPU seconds, and what it did for them."""

    memory: int
    private: int
    most: int
    cpu: float
    seconds: float
    readings: int
    parts: dict[str, int]

    @property
    def rate(self) -> float:
        """CPU milliseconds a second."""
        return 1000 * self.cpu / self.seconds


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure both builds, without proof of work and with the default's."""
    window = QUICK if quick else WINDOW
    taken = {work: asyncio.run(_fleet(POW[work], window)) for work in POW}
    bare, worked = taken["none"], taken["default"]
    each = _each(bare["sensor fast"], bare["sensor idle"])
    message = _each(bare["sensor slow"], bare["sensor idle"])
    with_work = _each(worked["sensor slow"], worked["sensor idle"])
    everywhere = [*bare.items(), *worked.items()]
    heaviest = max(one.memory for name, one in everywhere if not name.startswith("full"))
    return {
        "about": [_ABOUT],
        "tables": [_processes(taken), _where(bare["sensor slow"]), _costs(each, message, with_work)],
        "missed": [
            *([f"a sensor takes {heaviest / 1e6:.1f} MB; the goal is {MEMORY / 1e6:.0f}"] if heaviest > MEMORY else []),
            *([f"a reading takes {message:.2f} ms; the goal is {PER_READING}"] if message > PER_READING else []),
        ],
    }


_ABOUT: Final = (
    "Sensors in session with one processor, through three relays and an oracle on this machine, following a chain with "
    "a block a second; envelopes leave by onion packets, with the default cover traffic. *Sensor build*: every package "
    "that `requirements/sensor.txt` does not name is refused; it speaks no TLS, and so runs without Python's own "
    "OpenSSL and without uvloop, which wants that (`quietfleet.lean`); *by relays*: it has no endpoint, and follows "
    "the chain through relays of two owners. *Full build*: the same sensor where all are there, woken "
    "by a WebSocket, which takes web3. Resident memory is `Rss` of smaps_rollup, private what no other process shares. "
    "CPU is user and system time of the whole process; what a reading takes is the difference to a sensor that is in "
    "session and measures nothing, divided by the readings that were answered: sealing, sending, its answer and its "
    "storage are in it, and the noise of the rest as well."
)


def _processes(taken: dict[str, dict[str, Taken]]) -> dict[str, Any]:
    rows = [
        [
            NAMES[name.split()[0]],
            work,
            round(one.readings / one.seconds, 1),
            round(one.memory / 1e6, 1),
            round(one.private / 1e6, 1),
            round(one.most / 1e6, 1),
            round(one.rate, 1),
        ]
        for work, members in taken.items()
        for name, one in members.items()
    ]
    columns = ["", "proof of work", "readings/s", "resident MB", "private MB", "at most MB", "CPU ms/s"]
    return {"title": "A sensor's process", "columns": columns, "rows": rows}


def _where(one: Taken) -> dict[str, Any]:
    """Tell where the memory of a sensor is, from the largest part on."""
    named = sorted(one.parts.items(), key=lambda part: -part[1])
    most, rest = named[:_SHOWN], sum(size for _, size in named[_SHOWN:])
    rows = [[name, round(size / 1e6, 1)] for name, size in (*most, ("other files", rest))]
    return {"title": "Where a sensor's memory is (sensor build, no proof of work)", "columns": ["", "MB"], "rows": rows}


def _costs(each: float, message: float, with_work: float) -> dict[str, Any]:
    rows: list[list[Any]] = [
        ["a reading in a message of its own, no proof of work", round(message, 2), f"at most {PER_READING}"],
        ["a reading among 20 in a message, no proof of work", round(each, 2), f"at most {PER_READING}"],
        ["a message of one reading, default proof of work", round(with_work, 2), ""],
    ]
    return {"title": "What a reading takes, CPU milliseconds", "columns": ["", "ms", "goal"], "rows": rows}


def _each(busy: Taken, idle: Taken) -> float:
    """Return CPU milliseconds for a reading beyond what the process takes anyway."""
    return 1000 * (busy.cpu - idle.cpu * busy.seconds / idle.seconds) / max(1, busy.readings)


async def _fleet(min_pow: float, window: float) -> dict[str, Taken]:
    with tempfile.TemporaryDirectory(prefix="edge-") as name, Anvil(accounts=24, block_time=1) as anvil:
        fleet = await _founded(Path(name), anvil, min_pow)
        try:
            sensors = _sensors(fleet, anvil)
            await fleet.enrol()
            fleet.start(*fleet.members)
            await fleet.until(
                "every sensor is in session and answered",
                lambda: all(_is_steady(fleet, one) for one in sensors.values()),
                _WITHIN,
            )
            return await _watched(fleet, sensors, window)
        finally:
            fleet.stop()


async def _founded(folder: Path, anvil: Anvil, min_pow: float) -> Fleet:
    """Deploy, set up relays, an oracle and a processor, and set the configuration."""
    artifacts = await asyncio.to_thread(compile_contracts, ROOT / ".cache")
    owner = anvil.keys()[0]
    deployment = await deploy(anvil.url, anvil.chain_id, artifacts, owner)
    save_deployment(folder / "deployment.json", deployment)
    fleet = Fleet(folder, anvil.url, folder / "deployment.json")
    relays = fleet.add_relays(3, owner=13)
    oracle = fleet.add("oracle", Kind.ORACLE, owner=5, network={"peers": relays[:2]})
    fleet.add(
        "processor", Kind.PROCESSOR, owner=7, network={"peers": relays[1:]}, processor={"site": SITE, "capacity": 8}
    )
    prepared = prepare_epoch(oracle.settings, oracle.key, fleet.passphrase, 1, epoch_key=True)
    commitment, digest = (bytes.fromhex(text[2:]) for text in (prepared.epoch_key_commitment, prepared.card_digest))
    async with ChainClient(anvil.url, deployment) as client:
        service = ServiceContract(client, Wallet(owner, client))
        await service.set_pow_bounds(1e-9, 100.0)
        await service.rotate(Rotation(oracle.id, commitment, digest, min_pow=min_pow))
    return fleet


def _sensors(fleet: Fleet, anvil: Anvil) -> dict[str, Member]:
    peers = fleet.members["processor"].settings.network.peers
    shown = [f"{_account(one.owner)}={_enode(one)}" for one in fleet.members.values() if one.kind is Kind.RELAY]
    views = {"sensor": {}, "relayed": {"rpc": "relays", "relays": shown[:2]}, "full": {"ws": anvil.ws_url}}
    light = only(LOCK)
    found = {}
    for place, (build, pace) in enumerate(MEMBERS):
        member = fleet.add(
            f"{build}-{pace}",
            Kind.SENSOR,
            owner=16 + place,
            program=() if build == "full" else ("quietfleet.testbed.bare", "--log-level", "info", "sensor"),
            network={"peers": peers},
            sensor={"site": SITE, "replay": "readings.csv"},
            chain=views[build],
        )
        member.environment.update({} if build == "full" else light)
        _record(member.folder / "readings.csv", RATES[pace])
        found[f"{build} {pace}"] = member
    return found


def _account(index: int) -> str:
    return PrivateKey.from_bytes(key_of(MNEMONIC, index)).public.id


def _enode(relay: Member) -> Enode:
    return Enode(relay.key.public.to_bytes(), Address.parse(relay.settings.network.listen))


def _record(path: Path, rate: float) -> None:
    began = time.time()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "temp", "humid", "pressure"])
        for number in range(int(_FOR * rate)):
            shift = (number % 200) / 100
            writer.writerow([f"{began + number / rate:.3f}", 12.0 + shift, 61.0 - shift, 1013.2 + shift])


def _is_steady(fleet: Fleet, member: Member) -> bool:
    if not fleet.status(member.name).get("sessions"):
        return False
    return member.name.endswith("idle") or len(fleet.journal(member.name, "recommendation")) >= STEADY


async def _watched(fleet: Fleet, sensors: dict[str, Member], window: float) -> dict[str, Taken]:
    before = {name: (_cpu(one), time.monotonic(), _answered(fleet, one)) for name, one in sensors.items()}
    await asyncio.sleep(window)
    fleet.check_running()
    taken = {}
    for name, one in sensors.items():
        cpu, began, answered = before[name]
        rss, private, most = _memory(one)
        spent, seconds = _cpu(one) - cpu, time.monotonic() - began
        taken[name] = Taken(rss, private, most, spent, seconds, _answered(fleet, one) - answered, _parts(one))
    return taken


def _answered(fleet: Fleet, member: Member) -> int:
    return sum(entry.detail["rows"] for entry in fleet.journal(member.name, "recommendation"))


def _cpu(member: Member) -> float:
    """Return user and system time so far, in seconds."""
    assert member.process is not None
    fields = Path(f"/proc/{member.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory(member: Member) -> tuple[int, int, int]:
    """Return what is resident, what of it is the process' own, and what was resident at most, in bytes."""
    assert member.process is not None
    place = Path(f"/proc/{member.process.pid}")
    rollup, status = (place / "smaps_rollup").read_text(), (place / "status").read_text()
    private = _kib("Private_Clean", rollup) + _kib("Private_Dirty", rollup)
    return _kib("Rss", rollup), private, _kib("VmHWM", status)


def _parts(member: Member) -> dict[str, int]:
    """Return what is resident of each mapped file, and of what Python and the libraries have allocated, in bytes."""
    assert member.process is not None
    found: dict[str, int] = {}
    name = ""
    for mapping in _MAPPING.finditer(Path(f"/proc/{member.process.pid}/smaps").read_text()):
        if mapping[2] is None:
            path = mapping[1]
            name = Path(path).name.partition(".")[0] if path.startswith("/") else _ALLOCATED
        else:
            found[name] = found.get(name, 0) + (int(mapping[2]) << 10)
    return found


def _kib(name: str, text: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    assert found
    return int(found[1]) << 10
