"""A whole fleet of real processes in one folder: keys, settings, enrolment, start, kill, observation."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import load_deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore
from quietfleet.errors import TestbedError
from quietfleet.network import Address, Enode
from quietfleet.settings import Settings, load_settings
from quietfleet.storage import AuditEntry, AuditLog, Database
from quietfleet.testbed.anvil import MNEMONIC, free_port, key_of
from quietfleet.testbed.weather import load_weather
from quietfleet.workers.epoch import PreparedEpoch, prepare_epoch

LOOK: Final = 0.1  # seconds between two looks at the workers' journals
STOP_WITHIN: Final = 10.0
CONSENT_FOR: Final = 3600
SITE: Final = "new-york"
EVERYBODY: Final = 256  # links from one address: a whole fleet lives on this machine


@dataclass(slots=True)
class Member:
    """One worker of the fleet: `owner` is the index of its owner's account in the mnemonic."""

    name: str
    kind: Kind
    owner: int
    folder: Path
    key: PrivateKey
    program: tuple[str, ...] = ()
    command: tuple[str, ...] = ()  # what runs it, instead of this Python
    environment: dict[str, str] = field(default_factory=dict)  # added to that of its processes
    process: subprocess.Popen[bytes] | None = None
    started: int = 0

    @property
    def id(self) -> str:
        """The worker id."""
        return self.key.public.id

    @property
    def settings(self) -> Settings:
        """The settings this worker runs under."""
        return load_settings(self.folder / "worker.toml", {})

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class Fleet:
    """Workers in `folder`, on the chain at `rpc`, under the contracts of `deployment`."""

    folder: Path
    rpc: str
    deployment: Path
    members: dict[str, Member] = field(default_factory=dict)
    random: Callable[[int], bytes] = secrets.token_bytes
    data: dict[str, Any] = field(default_factory=dict)
    passphrase: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    _journals: dict[str, list[AuditEntry]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        kind: Kind,
        *,
        owner: int,
        program: Iterable[str] = (),
        key: PrivateKey | None = None,
        **sections: dict[str, Any],
    ) -> Member:
        """Give a worker its folder, its keystore and its settings."""
        place = self.folder / name
        place.mkdir(parents=True, mode=0o700)
        key = key or PrivateKey.generate(self.random)
        create_keystore(place / "keystore.json", key, self.passphrase, light=True)
        chain = {"rpc": self.rpc, "deployment": str(self.deployment.resolve()), **sections.pop("chain", {})}
        document = {"worker": {"name": name}, "chain": chain, "data": self.data, **sections}
        (place / "worker.toml").write_text(_toml(document))
        member = self.members[name] = Member(name, kind, owner, place, key, tuple(program))
        return member

    def add_relays(self, count: int, *, owner: int) -> list[str]:
        """Add relays that dial one another in a ring, under owners counted from `owner`; return their enode URLs."""
        keys = [PrivateKey.generate(self.random) for _ in range(count)]
        enodes = [Enode(key.public.to_bytes(), Address("127.0.0.1", free_port())) for key in keys]
        for index, (key, enode) in enumerate(zip(keys, enodes, strict=True)):
            beside = [str(enodes[(index + 1) % count])] if count > 1 else []
            network = {"listen": str(enode.address), "peers": beside, "max_per_address": EVERYBODY}
            self.add(f"relay-{index + 1}", Kind.RELAY, owner=owner + index, key=key, network=network)
        return [str(enode) for enode in enodes]

    async def enrol(self, names: Iterable[str] | None = None) -> None:
        """Enrol workers on chain: each device signs its consent, its owner pays the fee and submits."""
        place = load_deployment(self.deployment)
        until = int(time.time()) + CONSENT_FOR
        async with ChainClient(self.rpc, place) as client:
            by_owner: dict[int, list[Member]] = {}
            for member in self._chosen(names):
                by_owner.setdefault(member.owner, []).append(member)

            async def owner_enrols(index: int, devices: list[Member]) -> None:
                wallet = Wallet(key_of(MNEMONIC, index), client)
                service = ServiceContract(client, wallet)
                for device in devices:
                    consent = Consent.sign(
                        device.key,
                        chain_id=place.chain_id,
                        contract=place.service.address,
                        owner=wallet.address,
                        kind=device.kind,
                        deadline=until,
                    )
                    await service.enrol(consent)

            await asyncio.gather(*(owner_enrols(index, devices) for index, devices in by_owner.items()))

    def prepare_epoch(self, version: int, oracle: str = "oracle", gateway: str = "gateway") -> dict[str, Any]:
        """Have oracle and gateway draw their keys for `version`; return what `ape run rotate --epoch` reads."""
        prepared: dict[str, PreparedEpoch] = {}
        for role, name in (("oracle", oracle), ("gateway", gateway)):
            member = self.members[name]
            prepared[role] = prepare_epoch(
                member.settings, member.key, self.passphrase, version, epoch_key=role == "oracle"
            )
        return {
            "version": version,
            "oracle": prepared["oracle"].worker,
            "gateway": prepared["gateway"].worker,
            "epoch_key_commitment": prepared["oracle"].epoch_key_commitment,
            "oracle_card_digest": prepared["oracle"].card_digest,
            "gateway_card_digest": prepared["gateway"].card_digest,
        }

    def start(self, *names: str) -> None:
        """Start workers as processes of their own."""
        for member in self._chosen(names):
            program = member.program or ("quietfleet.cli", "--log-level", "info", member.kind.name.lower())
            here = (sys.executable, "-m", *program, "--settings", str(member.folder / "worker.toml"))
            with (member.folder / "worker.log").open("ab") as output:
                member.process = subprocess.Popen(  # noqa: S603 - our own modules
                    member.command or here,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={
                        **os.environ,
                        "QUIETFLEET_PASSPHRASE": self.passphrase,
                        "OMP_NUM_THREADS": "1",
                        **member.environment,
                    },
                    start_new_session=True,
                )
            member.started += 1

    def kill(self, name: str) -> None:
        """Kill a worker as a power cut would."""
        member = self.members[name]
        if member.process is not None:
            member.process.send_signal(signal.SIGKILL)
            member.process.wait()

    def stop(self) -> None:
        """Ask every worker to stop; kill those that do not."""
        running = [member for member in self.members.values() if member.running]
        for member in running:
            _process(member).send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN
        for member in running:
            try:
                _process(member).wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill(member.name)

    def check_running(self) -> None:
        """Raise `TestbedError` when a worker that was started is gone, with the end of its log."""
        for member in self.members.values():
            if member.started and not member.running and _process(member).returncode != -signal.SIGKILL:
                tail = (member.folder / "worker.log").read_text(errors="replace")[-2000:]
                raise TestbedError(f"{member.name} ended by itself\n{tail}")

    # observation

    def journal(self, name: str, kind: str | None = None, after: int = 0) -> list[AuditEntry]:
        """Read a worker's audit trail beside it."""
        entries = self._journal(name)
        return [entry for entry in entries if entry.sequence > after and kind in {None, entry.kind}]

    def status(self, name: str) -> dict[str, Any]:
        """Read what a worker last said of itself."""
        path = self.members[name].folder / "state" / "status.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def metric(self, name: str, line: str) -> float:
        """Read one number of a worker's metrics, by its name with labels as written there."""
        path = self.members[name].folder / "state" / "metrics.prom"
        found = [text.rsplit(" ", 1)[1] for text in path.read_text().splitlines() if text.rsplit(" ", 1)[0] == line]
        return float(found[0]) if found else 0.0

    async def until(self, what: str, holds: Callable[[], bool], within: float) -> None:
        """Wait until something holds; `TestbedError` when it does not in time, or when a worker dies meanwhile."""
        deadline = time.monotonic() + within
        while not holds():
            self.check_running()
            if time.monotonic() > deadline:
                raise TestbedError(f"waited {within:.0f} s in vain: {what}")
            await asyncio.sleep(LOOK)

    def _journal(self, name: str) -> list[AuditEntry]:
        """Read what is new in a trail to what is known of it: whoever waits looks ten times a second."""
        known = self._journals.setdefault(name, [])
        path = self.members[name].folder / "state" / "worker.db"
        if not path.exists():
            known.clear()
            return known
        with Database.observe(path) as database:
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit'").fetchone() is None:
                return known
            log = AuditLog(database, create=False)
            fresh = list(log.entries(after=known[-1].sequence - 1 if known else 0))
            if known and (not fresh or fresh[0].hash != known[-1].hash):  # a worker was set back, and began anew
                known.clear()
                fresh = list(log.entries())
        known[-1:] = fresh
        return known

    def _chosen(self, names: Iterable[str] | None) -> list[Member]:
        return [self.members[name] for name in (self.members if names is None else names)]


def write_readings(path: Path, station: str, since: float, until: float) -> None:
    """Write one station's recording as the CSV a sensor replays."""
    _write_csv(path, [{"time": at, **fields} for at, fields in load_weather()[station] if since <= at < until])


def write_history(path: Path, since: float, until: float) -> None:
    """Write every station's recording as the CSV a gateway trains its first model on."""
    readings = ((name, at, fields) for name, rows in load_weather().items() for at, fields in rows)
    _write_csv(path, [{"device": name, "time": at, **fields} for name, at, fields in readings if since <= at < until])


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _process(member: Member) -> subprocess.Popen[bytes]:
    assert member.process is not None
    return member.process


def _toml(document: dict[str, dict[str, Any]]) -> str:
    """Write sections; a list of tables in one becomes as many `[[section.name]]`."""
    lines: list[str] = []
    for section, values in document.items():
        tables = {name: value for name, value in values.items() if value and _are_tables(value)}
        lines += [f"[{section}]", *_pairs({k: v for k, v in values.items() if k not in tables}), ""]
        for name, each in tables.items():
            for table in each:
                lines += [f"[[{section}.{name}]]", *_pairs(table), ""]
    return "\n".join(lines)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]
