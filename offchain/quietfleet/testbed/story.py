"""The loop once, end to end, on real processes; every line of its closing table is checked against chain and journals."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from quietfleet.chain.deployment import Deployment, load_deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import ReleasesContract, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.crypto.keystore import create_keystore
from quietfleet.errors import TestbedError
from quietfleet.storage import AuditEntry, AuditLog, Database
from quietfleet.testbed.anvil import MNEMONIC, key_of
from quietfleet.testbed.fleet import SITE, Fleet, Member, write_history, write_readings
from quietfleet.testbed.probe import Tap, epoch_keys, opened_by, snapshot
from quietfleet.testbed.screen import Screen

DAY: Final = 86_400.0
SPEED: Final = DAY  # one day of data a second
CHANNEL: Final = "weather"
STATIONS: Final = ("EWR", "JFK", "LGA")
STUCK, SWITCHED, KILLED = "sensor-ewr", "sensor-jfk", "processor-1"
LEAD, GRACE = 4, 8  # seconds a new configuration is announced ahead, and its predecessor tolerated
SAMPLE: Final = 12  # envelopes recorded before the rotation
HEAD_START: Final = 14.0  # seconds between preparing the fleet and the first reading


class Owners(Protocol):
    """The people of the story: each verb is what they type in `ape run` or `ape console`."""

    def deploy(self, publisher: str) -> Path:
        """Deploy the contracts; return the deployment file."""
        ...

    def name(self, workers: dict[str, str]) -> None:
        """Write the workers' names and ids into the owners' address book."""
        ...

    def rotate(self, epoch: dict[str, Any], *, lead: int, grace: int) -> None:
        """Set the next messaging configuration."""
        ...

    def disable(self, name: str) -> None:
        """Switch a device off."""
        ...

    def enable(self, name: str) -> None:
        """Switch a device on."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the closing table: what happened, how we know, and whether it did."""

    claim: str
    evidence: str
    holds: bool


@dataclass
class Story:
    """The fleet, its people, and the screen it is told on."""

    folder: Path
    url: str
    owners: Owners
    screen: Screen
    seed: int = 2013
    lines: list[Line] = field(default_factory=list)
    fleet: Fleet = field(init=False)
    deployment: Deployment = field(init=False)
    relays: list[str] = field(default_factory=list)
    _epoch: float = 0.0
    _shown: dict[str, int] = field(default_factory=dict)

    async def tell(self) -> list[Line]:
        """Run every step; a step that fails ends the story with its line."""
        watching = asyncio.create_task(self._watch())
        try:
            for title, step in STEPS.items():
                self.screen.step(title, "running")
                before = len(self.lines)
                try:
                    await step(self)
                except TestbedError as error:
                    self._line(title, str(error).splitlines()[0], holds=False)
                good = all(line.holds for line in self.lines[before:])
                self.screen.step(title, "done" if good else "failed")
                if not good:
                    break
            self._audit()
        finally:
            watching.cancel()
        return self.lines

    def stop(self) -> None:
        """Stop every worker."""
        if hasattr(self, "fleet"):
            self.fleet.stop()

    # 1

    async def found(self) -> None:
        """Deploy, start everybody, enrol everybody, set the first configuration."""
        publisher = PrivateKey.from_bytes(key_of(MNEMONIC, 1))
        deployment = self.owners.deploy(publisher.public.id)
        self.deployment = load_deployment(deployment)
        self.fleet = Fleet(self.folder, self.url, deployment, random=random.Random(self.seed).randbytes)  # noqa: S311 - repeatable
        self._people(publisher)
        self.owners.name({member.name: member.id for member in self.fleet.members.values()})
        self.fleet.start()
        await self.fleet.enrol()
        self.owners.rotate(self.fleet.prepare_epoch(1), lead=0, grace=GRACE)
        workers = [member for member in self.fleet.members.values() if member.kind is not Kind.RELAY]
        await self.fleet.until("every worker reads the configuration", lambda: all(self._has(m.name, "configuration") for m in workers), 40)
        members = self.fleet.members.values()
        async with self._client() as client:
            service = ServiceContract(client)
            states = await asyncio.gather(*(service.worker(member.id) for member in members))
            revenue = int(await client.request("eth_getBalance", self.deployment.service.address, "latest"), 16)
            fee = await service.fee()
        usable = sum(state is not None and state.usable for state in states)
        owners = len({state.owner for state in states if state})
        paid = revenue == fee * len(states)
        self._line(
            f"{usable} workers enrolled with consent, each under an owner of its own, fees paid",
            f"chain: {usable} active, {owners} owners, {revenue} wei of fees",
            holds=usable == owners == len(states) and paid,
        )

    def _people(self, publisher: PrivateKey) -> None:
        fleet = self.fleet
        self.relays = relays = fleet.add_relays(3, owner=2)
        self._epoch = time.time() + HEAD_START
        fleet.add("oracle", Kind.ORACLE, owner=5, network={"peers": relays[:2]})
        gateway = fleet.add(
            "gateway", Kind.GATEWAY, owner=6, network={"peers": relays[1:]}, gateway={"channel": CHANNEL, "history": "history.csv", "seed": self.seed}
        )
        write_history(gateway.folder / "history.csv", _at("2013-01-01"), _at("2013-02-01"))
        create_keystore(gateway.folder / "publisher.json", publisher, fleet.passphrase, light=True)
        for index in (0, 1):
            fleet.add(
                f"processor-{index + 1}", Kind.PROCESSOR, owner=7 + index,
                network={"peers": [relays[index], relays[index + 1]]}, processor={"site": SITE, "capacity": 3, "channel": CHANNEL},
            )
        for index, station in enumerate(STATIONS):
            self._sensor(station, owner=9 + index, peers=[relays[index], relays[(index + 1) % 3]])

    def _sensor(self, station: str, owner: int, peers: list[str]) -> None:
        name = f"sensor-{station.lower()}"
        program = ("quietfleet.testbed.faulty",) if name in {STUCK, SWITCHED} else ()
        sensor = {
            "station": station, "site": SITE, "replay": "readings.csv", "data_start": "2013-03-20",
            "replay_epoch": self._epoch, "speed": SPEED,
        }
        member = self.fleet.add(name, Kind.SENSOR, owner=owner, program=program, network={"peers": peers}, sensor=sensor)
        write_readings(member.folder / "readings.csv", station, _at("2013-03-20"), _at("2013-12-31"))

    # 2

    async def meet(self) -> None:
        """Each sensor finds a processor; nobody is named before both have accepted."""
        sensors = self._sensors()
        await self.fleet.until("every sensor has a session", lambda: all(self._has(s, "session-open") for s in sensors), 40)
        orderly = all(self._accepted_first(name) for name in sensors)
        pairs = {name: self._last(name, "session-open").detail["peer"] for name in sensors}
        async with self._client() as client:
            service = ServiceContract(client)
            allowed = [await service.can_cooperate(self.fleet.members[name].id, peer) for name, peer in pairs.items()]
        self._line(
            "3 sensors found processors through the oracle; identities followed acceptance by both",
            f"journals: accepted → introduced → session; chain: canCooperate for {sum(allowed)} of 3 pairs",
            holds=orderly and all(allowed),
        )

    def _accepted_first(self, sensor: str) -> bool:
        introduced = self._first(sensor, "introduced")
        processor = self._name(introduced.detail["peer"])
        there = self._first(processor, "introduced", peer=self.fleet.members[sensor].id)
        accepted = max(self._first(sensor, "deal-accepted").at, self._first(processor, "deal-accepted").at)
        return accepted <= min(introduced.at, there.at)

    # 3

    async def work(self) -> None:
        """Readings flow, recommendations return."""
        sensors = self._sensors()
        await self.fleet.until("every sensor gets a forecast", lambda: all(self._forecasts(s) for s in sensors), 40)
        last = {name: self._forecasts(name)[-1].detail for name in sensors}
        advice = last[sensors[0]]
        self._line(
            f"readings flow, recommendations return: “{advice['advice']}”, {advice['forecast']} °C in 3 h with {advice['confidence']:.0%} confidence",
            f"journals: model release {advice['release']} answered all 3 sensors",
            holds=all(detail["release"] >= 1 for detail in last.values()),
        )

    # 4

    async def drift(self) -> None:
        """The season moves for all; one sensor sticks."""
        await self.fleet.until("the day the needle sticks", lambda: self._data_time() >= _at("2013-03-29T12:00"), 60)
        self._fault(STUCK, stuck=True)
        await self.fleet.until("the stuck sensor is quarantined", lambda: bool(self._quarantines()), 20)
        await self.fleet.until("drift is called and shared", lambda: self._has("gateway", "drift-shared"), 30)
        await self.fleet.until("both processors run the new release", self._renewed, 40)
        self._fault(STUCK, stuck=False)
        shared = self._first("gateway", "drift-shared").detail
        self._line(
            f"the season moved: {', '.join(shared['channels'])} drifted {shared['percent']:.0f} % (threshold 70) on all sound sensors → retrained",
            "journals: processors reported, the gateway judged all devices together",
            holds=shared["percent"] > 70,  # noqa: PLR2004 - the paper's threshold
        )
        await self._anchored()
        self._spared()

    async def _anchored(self) -> None:
        async with self._client() as client:
            release = await ReleasesContract(client).current(keccak256(CHANNEL.encode()))
        installed = {self._last(name, "release-installed").detail["manifest"] for name in self._processors()}
        sequence = release.sequence if release else 0
        self._line(
            f"release {sequence} anchored on chain and taken up by both processors",
            "chain: manifest hash = hash each processor verified before installing",
            holds=release is not None and installed == {release.manifest_hash.hex()},
        )

    def _spared(self) -> None:
        quarantine = self._quarantines()[0].detail
        training = [entry for entry in self.fleet.journal("gateway", "training") if entry.detail["parent"] == 1][-1].detail
        stuck_since = _at("2013-03-29T12:00")
        behind = [device for device, newest in training["newest"].items() if newest < stuck_since]
        self._line(
            f"the stuck sensor was quarantined ({quarantine['reason']}), not trained on",
            f"journals: {len(behind)} of {len(training['newest'])} devices ends before it stuck in the training data",
            holds=len(behind) == 1,
        )

    def _renewed(self) -> bool:
        return all(
            (entry := self._maybe_last(name, "release-installed")) is not None and entry.detail["sequence"] > 1
            for name in self._processors()
        )

    def _quarantines(self) -> list[AuditEntry]:
        stuck = self.fleet.members[STUCK].id
        return [e for name in self._processors() for e in self.fleet.journal(name, "quarantined") if e.detail["sensor"] == stuck]

    # 5

    async def switch(self) -> None:
        """An owner switches a device off; it does not listen; it is switched on again."""
        device = self.fleet.members[SWITCHED]
        processor = self._name(str(self.fleet.status(SWITCHED)["processor"]))
        begun = time.time()
        self.owners.disable(SWITCHED)
        await self.fleet.until(
            "both sides sever",
            lambda: self._since(SWITCHED, "severed", begun) != [] and self._since(processor, "severed", begun) != [],
            20,
        )
        severed = self._since(processor, "severed", begun)[0]
        async with self._client() as client:
            state = await ServiceContract(client).worker(device.id)
        self._line(
            "an owner switched a sensor off: both sides severed at the event",
            f"chain: inactive; journals: severed by {processor} and by the device itself",
            holds=state is not None and not state.active,
        )
        await self._pester(device, processor, severed.at)
        await self._return(device, begun)

    async def _pester(self, device: Member, processor: str, since: float) -> None:
        ignored = 'quietfleet_messages_ignored_total{reason="severed"}'
        self._fault(SWITCHED, ignore_severing=True)
        await self.fleet.until("what it goes on sending is counted", lambda: self.fleet.metric(processor, ignored) >= 3, 25)
        count = self.fleet.metric(processor, ignored)
        taken = [e for e in self._since(processor, "readings", since) if e.detail["sensor"] == device.id]
        self._fault(SWITCHED, ignore_severing=False)
        await self.fleet.until("the device is repaired", lambda: not self._last(SWITCHED, "fault").detail["ignore_severing"], 10)
        self._line(
            f"the device kept sending all the same: {count:.0f} messages silently ignored and counted",
            f"journals: {len(taken)} of its readings taken since, none answered",
            holds=not taken and not self._since(SWITCHED, "recommendation", since + 1.0),
        )

    async def _return(self, device: Member, since: float) -> None:
        again = time.time()
        self.owners.enable(SWITCHED)
        await self.fleet.until("it works again", lambda: bool(self._since(SWITCHED, "recommendation", again)), 40)
        steps = [self._since(SWITCHED, kind, again) for kind in ("deal-accepted", "introduced", "session-open", "recommendation")]
        self._line(
            "switched on again, it went through dispatch afresh",
            f"journals: new deal, new introduction, new session {steps[2][0].at - again:.0f} s after the owner's word",
            holds=all(steps) and [s[0].at for s in steps] == sorted(s[0].at for s in steps) and since < again and bool(device.id),
        )

    # 6

    async def rotate(self) -> None:
        """Everyone re-keys; what was recorded before opens nowhere afterwards."""
        talkers = [m for m in self.fleet.members.values() if m.kind is not Kind.RELAY]
        async with Tap(self.relays) as tap:
            copies = {m.name: self._copy(m, "before") for m in talkers}
            begun = time.time()
            await self.fleet.until("some messages under the old epoch", lambda: len(tap.heard) >= SAMPLE, 20)
            old_until = time.time()
            self.owners.rotate(self.fleet.prepare_epoch(2), lead=LEAD, grace=GRACE)
            await self.fleet.until("every worker retires the old epoch", lambda: all(self._retired(m.name) for m in talkers), 60)
            recorded = tap.between(begun, old_until)
        then = sum(opened_by(copies[m.name], m.key, recorded) for m in talkers)
        after = {m.name: self._copy(m, "after") for m in talkers}
        now = sum(opened_by(after[m.name], m.key, recorded) for m in talkers)
        kept = [m.name for m in talkers if epoch_keys(after[m.name], m.key, range(1, 2))]
        async with self._client() as client:
            latest, _ = await ServiceContract(client).configuration()
        keys = sum(self._has(m.name, "epoch-key", version=2) for m in talkers) + 1
        self._line(
            f"the configuration rotated: all {len(talkers)} workers re-keyed",
            f"chain: version {latest.version if latest else 0}; journals: {keys} hold epoch key 2 and retired version 1",
            holds=latest is not None and latest.version == 2 and keys == len(talkers),  # noqa: PLR2004
        )
        self._line(
            f"after the grace the old epoch opens nothing: {now} of {len(recorded)} recorded envelopes",
            f"databases: seized before, they open {then}; seized after, {now}; keys of version 1 left: {len(kept)}",
            holds=then > 0 and now == 0 and not kept,
        )
        await self._nothing_lost()

    async def _nothing_lost(self) -> None:
        sums = {}
        for name in self._sensors():
            taken = self.fleet.journal(name, "recommendation")
            sums[name] = (sum(e.detail["rows"] for e in taken), max(e.detail["through"] for e in taken))
        stored = {name: self._stored(name) for name in self._sensors()}
        rows = sum(total for total, _ in sums.values())
        lost = [name for name in sums if self.fleet.journal(name, "readings-overflow")]
        whole = all(total == through and stored[name] >= total for name, (total, through) in sums.items())
        self._line(
            f"no accepted message was lost: {rows} readings measured, answered and stored without a gap",
            "journals: each sensor's numbers are contiguous, and processors stored every one",
            holds=whole and not lost,
        )

    def _stored(self, sensor: str) -> int:
        me = self.fleet.members[sensor].id
        entries = [e for name in self._processors() for e in self.fleet.journal(name, "readings") if e.detail["sensor"] == me]
        return sum(e.detail["new"] for e in entries)

    def _retired(self, name: str) -> bool:
        return self._has(name, "epoch-retired", version=1)

    # 7

    async def crash(self) -> None:
        """A processor dies without warning and picks up where it was."""
        member = self.fleet.members[KILLED]
        before, opened = self.fleet.status(KILLED), len(self.fleet.journal(KILLED, "session-open"))
        self.fleet.kill(KILLED)
        week = self._week(member)
        died = time.time()
        self.fleet.start(KILLED)
        sensors = [n for n in self._sensors() if self.fleet.status(n).get("processor") == member.id]
        await self.fleet.until("it answers again", lambda: self._answered_since(sensors, died), 40)
        after = self.fleet.status(KILLED)
        reopened = len(self.fleet.journal(KILLED, "session-open")) - opened
        self._line(
            f"{KILLED} was killed and resumed: same sessions, week cache, model and cursor",
            f"journals: {reopened} sessions set up anew, {week} readings still there, release {after['release']}, block {before['block']} → {after['block']}",
            holds=reopened == 0 and week > 0 and after["release"] >= before["release"] and after["block"] >= before["block"]
            and self._answered_since(sensors, died),
        )

    def _answered_since(self, sensors: list[str], since: float) -> bool:
        return all(any(e.detail["processor"] == self.fleet.members[KILLED].id for e in self._since(s, "recommendation", since)) for s in sensors)

    def _week(self, member: Member) -> int:
        with Database.observe(member.folder / "state" / "worker.db") as database:
            days = [day for (day,) in database.execute("SELECT day FROM series_day").fetchall()]
            return sum(int(database.execute(f"SELECT count(*) FROM series_{day}").fetchone()[0]) for day in days)  # noqa: S608 - day numbers

    # the rest

    def _audit(self) -> None:
        if not hasattr(self, "fleet"):
            return
        entries = 0
        for member in self.fleet.members.values():
            path = member.folder / "state" / "worker.db"
            if path.exists():
                with Database.observe(path) as database:
                    entries += AuditLog(database, create=False).verify()
        self._line(
            f"the audit trails are whole: {entries} entries", f"journals: {len(self.fleet.members)} hash chains verified", holds=entries > 0
        )

    async def _watch(self) -> None:
        """Show what the journals say, as it is written."""
        while True:
            await asyncio.sleep(0.25)
            if not hasattr(self, "fleet"):
                continue
            for name in self.fleet.members:
                for entry in self.fleet.journal(name, after=self._shown.get(name, 0)):
                    self._shown[name] = entry.sequence
                    sentence = told(entry)
                    if sentence:
                        self.screen.tell(name, sentence)
            self.screen.show([self._row(name) for name in self.fleet.members])

    def _row(self, name: str) -> dict[str, Any]:
        status = self.fleet.status(name)
        state = "running" if self.fleet.members[name].running else "down"
        return {
            "name": name, "links": status.get("peers", ""), "block": status.get("block", ""),
            "configuration": status.get("configuration") or "", "sessions": len(status.get("sessions", [])) or "",
            "model": status.get("release") or "", "state": state,
        }

    def _line(self, claim: str, evidence: str, *, holds: bool) -> None:
        self.lines.append(Line(claim, evidence, holds))

    def _client(self) -> ChainClient:
        return ChainClient(self.url, self.deployment)

    def _copy(self, member: Member, suffix: str) -> Path:
        target = self.folder / f"{member.name}-{suffix}.db"
        snapshot(member.folder / "state" / "worker.db", target)
        return target

    def _fault(self, name: str, **faults: bool) -> None:
        (self.fleet.members[name].folder / "faults.json").write_text(json.dumps(faults))
        self.screen.tell(name, "fault injected: " + ", ".join(f"{k} {'on' if v else 'off'}" for k, v in faults.items()))

    def _data_time(self) -> float:
        return _at("2013-03-20") + max(0.0, time.time() - self._epoch) * SPEED

    def _sensors(self) -> list[str]:
        return [m.name for m in self.fleet.members.values() if m.kind is Kind.SENSOR]

    def _processors(self) -> list[str]:
        return [m.name for m in self.fleet.members.values() if m.kind is Kind.PROCESSOR]

    def _name(self, worker: str) -> str:
        return next(member.name for member in self.fleet.members.values() if member.id == worker)

    def _forecasts(self, name: str) -> list[AuditEntry]:
        return [e for e in self.fleet.journal(name, "recommendation") if e.detail["forecast"] is not None]

    def _has(self, name: str, kind: str, **detail: Any) -> bool:
        return any(all(e.detail.get(k) == v for k, v in detail.items()) for e in self.fleet.journal(name, kind))

    def _since(self, name: str, kind: str, moment: float) -> list[AuditEntry]:
        return [entry for entry in self.fleet.journal(name, kind) if entry.at >= moment]

    def _first(self, name: str, kind: str, **detail: Any) -> AuditEntry:
        return next(e for e in self.fleet.journal(name, kind) if all(e.detail.get(k) == v for k, v in detail.items()))

    def _maybe_last(self, name: str, kind: str) -> AuditEntry | None:
        entries = self.fleet.journal(name, kind)
        return entries[-1] if entries else None

    def _last(self, name: str, kind: str) -> AuditEntry:
        return self.fleet.journal(name, kind)[-1]


STEPS: Final[dict[str, Callable[[Story], Awaitable[None]]]] = {
    "a fleet is founded: contracts, consents, fees, first configuration": Story.found,
    "sensors find processors through the Dispatch Oracle": Story.meet,
    "readings flow, recommendations return": Story.work,
    "the season moves, a needle sticks: drift, quarantine, retrain, release": Story.drift,
    "an owner switches a sensor off; it does not listen; on again": Story.switch,
    "the configuration rotates: everyone re-keys": Story.rotate,
    "a processor is killed and resumes": Story.crash,
}

_TOLD: Final[dict[str, str]] = {
    "configuration": "reads configuration {version} from the contract",
    "epoch-key": "receives epoch key {version}, as committed on chain",
    "epoch-retired": "erases every key of version {version}",
    "deal-accepted": "accepts a deal, not knowing with whom",
    "introduced": "is introduced to its counterpart and checks it on chain",
    "session-open": "sets up a session",
    "severed": "severs: {reason}",
    "quarantined": "quarantines a sensor: {reason}",
    "released": "takes a sensor out of quarantine",
    "recalibrating": "is asked to recalibrate: {reason}",
    "drift": "sees {percent:.0f} % drift and asks the gateway",
    "drift-shared": "judges: {channels} drift is shared → retrain",
    "training": "trains on {rows} readings",
    "trained": "has a candidate, RMSE {rmse} °C: {reason}",
    "anchored": "anchors release {sequence} on chain",
    "release-installed": "verifies and installs release {sequence}",
    "switched-off": "learns that its owner has switched it off",
    "started": "starts",
}


def told(entry: AuditEntry) -> str | None:
    """A journal entry as a sentence; None for what would only scroll by."""
    if entry.kind == "recommendation" and entry.detail["forecast"] is not None and entry.sequence % 10 == 0:
        return f"is advised: {entry.detail['advice']} ({entry.detail['forecast']} °C in 3 h, {entry.detail['confidence']:.0%} sure)"
    template = _TOLD.get(entry.kind)
    return template.format(**entry.detail) if template else None


def _at(date: str) -> float:
    return datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()
