"""Real workers in one process: real runtimes, databases and sessions; the chain is told, the network is a list."""

from __future__ import annotations

import random as randomness
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from quietfleet.chain._journal import Located
from quietfleet.chain.channel import Report, Terms
from quietfleet.chain.deployment import ContractRecord, Deployment, save_deployment
from quietfleet.chain.events import (
    ActiveChanged,
    ConfigurationRotated,
    Enrolled,
    KeyRotated,
    ReleaseApproved,
    ReleaseFinalised,
    ReleaseProposed,
    RolledBack,
    WaveOpened,
)
from quietfleet.chain.replica import Batch
from quietfleet.chain.types import Configuration, Head, Kind
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.crypto.keystore import create_keystore
from quietfleet.rollout import Gate, Plan, Ticket, make_plan
from quietfleet.session import Event, Received, epoch_commitment
from quietfleet.settings import (
    ActuatorSection,
    ChainSection,
    ChannelSection,
    CommandSection,
    DataSection,
    DispatchSection,
    GatewaySection,
    NetworkSection,
    OracleSection,
    PrivacySection,
    ProcessorSection,
    RecalibrationSection,
    RolloutSection,
    SensorSection,
    Settings,
    StorageSection,
    WorkerSection,
)
from quietfleet.storage import AuditLog
from quietfleet.whisper import Envelope
from quietfleet.workers import _host
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.gateway import Gateway
from quietfleet.workers.messages import (
    FetchRelease,
    NoSuchRelease,
    OutcomeHeard,
    ReleaseBundle,
    ReleaseOutcome,
    Stored,
    Upload,
)
from quietfleet.workers.oracle import Oracle
from quietfleet.workers.processor import Processor
from quietfleet.workers.sensor import Sensor

HOUR = 3600.0
DAY = 24 * HOUR
MAX_AGE = 20.0
OWNER = "0x" + "aa" * 20
SITE = "garden"
WEATHER = keccak256(b"weather")
PASSPHRASE = "correct horse"


class Node:
    """A network node that only records what it is given."""

    peers = 1

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.withdrawn: dict[bytes, float] = {}

    async def publish(self, envelope: Envelope) -> None:
        self.sent.append(envelope)

    def withdraw(self, envelopes: dict[bytes, float]) -> None:
        self.withdrawn |= envelopes

    def set_rules(self, rules: Any) -> None:
        self.rules = rules

    def keep_connected(self, enodes: Any) -> None:
        self.entries = list(enodes)


class Source:
    """A thermometer that measures what the test puts under it."""

    def __init__(self) -> None:
        self.coming: list[tuple[float, dict[str, float]]] = []
        self.recalibrated = 0

    def due(self) -> list[tuple[float, dict[str, float]]]:
        measured, self.coming = self.coming, []
        return measured

    def recalibrate(self) -> None:
        self.recalibrated += 1


class Pen:
    """An agent that does nothing by itself: it notes what it hears and says what the test writes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.events: list[Event] = []
        self.answers: dict[type, Callable[[Any], Any]] = {}

    def admit(self, _peer: str, _purpose: str) -> bool:
        return True

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Received) and type(event.body) in self.answers:
            self._runtime.messenger.reply(event, self.answers[type(event.body)](event.body))

    def on_change(self, change: Any) -> None:
        """Nothing on chain concerns it."""

    def on_tick(self) -> None:
        """Nor does time."""

    def recover(self) -> None:
        """It has nothing to lose."""

    async def after(self) -> None:
        """It starts nothing."""

    def status(self) -> dict[str, Any]:
        return {}

    def heard(self, kind: type) -> list[Any]:
        return [event.body for event in self.events if isinstance(event, Received) and isinstance(event.body, kind)]


class Worker:
    """One worker: its runtime, what it sent, and whether its process is up."""

    def __init__(
        self,
        world: World,
        name: str,
        kind: Kind,
        make: Callable[[Any], Any] | None,
        runtime: type[Runtime],
    ) -> None:
        self.world, self.name, self.kind, self._make, self._runtime = world, name, kind, make, runtime
        self.key = PrivateKey.from_bytes(keccak256(name.partition("#")[0].encode()))  # oracle#2 is a replica
        self.id = self.key.public.id
        self.source = Source()
        self.up = False
        self.start()

    def start(self) -> None:
        """Open the worker on what is on its disk, as a fresh process would."""
        self.runtime = self._runtime(self.world.settings(self.name), self.key, self.world.clock, PASSPHRASE)
        self.node = Node()
        self.runtime.node = self.node
        self.runtime.data_clock = self.world.data
        self.runtime.monotonic = self.world.clock.now
        self.runtime.agent = self._make(self.runtime) if self._make else self.world.agent(self)
        self.up = True

    def keep_first_key(self) -> None:
        """Have the first key on disk too, as an operator would."""
        file = self.runtime.keyring.file(0)
        if not file.exists():
            create_keystore(file, self.key, PASSPHRASE, light=True)

    def crash(self) -> None:
        """Lose everything that is not on disk."""
        for close in self.runtime.closing:  # what it started ends with it
            close()
        if self.runtime.mark is not None:
            self.runtime.mark.close()
        self.runtime.database.close()
        if self.runtime.rows is not self.runtime.database:
            self.runtime.rows.close()
        self.up = False

    @property
    def agent(self) -> Any:
        return self.runtime.agent

    def restart(self) -> None:
        self.crash()
        self.start()
        self.runtime._reconcile()

    def measure(self, readings: list[tuple[float, dict[str, float]]]) -> None:
        """Have these readings due, as of the time of the newest."""
        self.source.coming = readings
        self.world.reach(max(at for at, _ in readings))

    async def beat(self) -> None:
        await self.runtime.guarded(self.runtime.on_beat)

    async def hear(self, envelope: Envelope) -> None:
        await self.runtime.hear([envelope])

    async def read(self, ancestor: int, batch: Batch) -> None:
        """Take in what the chain has."""
        self.runtime.replica.advance(ancestor, batch, 256, self.runtime.on_changes)
        await self.runtime.after()

    async def do(self, step: Callable[[], Any]) -> None:
        """Run something as the runtime runs a handler."""
        await self.runtime.guarded(lambda: step() and None)

    def journal(self, kind: str) -> list[dict[str, Any]]:
        return [entry.detail for entry in AuditLog(self.runtime.database).entries(kind=kind)]

    def kinds(self) -> list[str]:
        return [entry.kind for entry in AuditLog(self.runtime.database).entries()]

    def metric(self, name: str, **labels: str) -> float:
        return self.runtime.metrics.value(name, **labels)

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        return self.runtime.database.execute(sql, parameters).fetchall()

    def in_session_with(self, other: Worker) -> bool:
        return self.runtime.messenger.session(other.id) is not None


@dataclass
class World:
    """Workers by name, one clock, one chain, and a network that hands everything to everybody."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    data: ManualClock = field(default_factory=lambda: ManualClock(0.0))
    workers: dict[str, Worker] = field(default_factory=dict)
    chain_runs: bool = True
    capacity: int = 8
    max_size: int = 1 << 20
    store: str = ""
    shelves: dict[str, str] = field(default_factory=dict)
    dispatch: dict[str, DispatchSection] = field(default_factory=dict)
    offered: dict[str, str] = field(default_factory=dict)
    lose: Callable[[Worker, Envelope], bool] = lambda _sender, _envelope: False
    wire: list[tuple[Worker, Envelope]] = field(default_factory=list)
    latest: Configuration | None = None
    gate: Gate = field(default_factory=Gate)
    waves: int = 1
    rollout: RolloutSection = field(default_factory=RolloutSection)
    recalibration: RecalibrationSection = field(default_factory=RecalibrationSection)
    inference: str = "inline"
    channels: dict[str, ChannelSection] = field(default_factory=dict)
    telemetry_every: float = 0.0  # seconds; by default no machine's figures play a part
    actuators: list[ActuatorSection] = field(default_factory=list)
    commands: list[CommandSection] = field(default_factory=list)
    privacy: PrivacySection = field(default_factory=PrivacySection)
    plans: dict[bytes, Plan] = field(default_factory=dict)
    _terms: dict[bytes, Terms] = field(default_factory=dict)
    _events: list[Located] = field(default_factory=list)
    _released: dict[bytes, int] = field(default_factory=dict)
    _block: int = 0
    _random: randomness.Random = field(default_factory=lambda: randomness.Random(17))

    def __post_init__(self) -> None:
        place = Deployment(31337, ContractRecord("0x" + "11" * 20, (), 0), ContractRecord("0x" + "22" * 20, (), 0))
        save_deployment(self.folder / "deployment.json", place)
        _host.secrets = SimpleNamespace(token_bytes=self._random.randbytes)  # type: ignore[assignment]

    def settings(self, name: str) -> Settings:
        return Settings(
            worker=WorkerSection(name, state=name, keystore=f"{name.partition('#')[0]}.json"),
            chain=ChainSection("deployment.json", max_age=MAX_AGE),
            network=NetworkSection(),
            data=DataSection(channels=self.channels),
            sensor=SensorSection(
                site=SITE, send_every=0.5, actuators=self.actuators, telemetry_every=self.telemetry_every
            ),
            processor=ProcessorSection(
                site=SITE,
                capacity=self.capacity,
                capability=self.offered.get(name, "forecast"),
                recalibration=self.recalibration,
                inference=self.inference,
                commands=self.commands,
                privacy=self.privacy,
            ),
            gateway=GatewaySection(history="history.csv"),
            rollout=self.rollout,
            storage=StorageSection(self.shelves.get(name, "")),
            dispatch=self.dispatch.get(name, DispatchSection()),
            oracle=OracleSection(store=self.store if name.startswith("oracle") else ""),
            folder=str(self.folder),
        )

    def agent(self, worker: Worker) -> Any:
        match worker.kind:
            case Kind.ORACLE:
                return Oracle(worker.runtime)
            case Kind.GATEWAY:
                return Gateway(worker.runtime, worker.key)
            case Kind.PROCESSOR:
                return Processor(worker.runtime)
            case _:
                return Sensor(worker.runtime, worker.source)

    def reach(self, moment: float) -> None:
        """Let the time of the data come to a moment; it never goes back."""
        self.data.advance(max(0.0, moment - self.data.now()))

    async def add(
        self,
        name: str,
        kind: Kind,
        *,
        enrol: bool = True,
        owner: str = OWNER,
        agent: Callable[[Any], Any] | None = None,
        runtime: type[Runtime] = Runtime,
    ) -> Worker:
        """Start another worker, which reads the chain so far."""
        worker = self.workers[name] = Worker(self, name, kind, agent, runtime)
        if self._events:
            await self._read(worker, -1, tuple(self._events))
        if enrol:
            await self.enrol(worker, owner)
        return worker

    async def found(self) -> Worker:
        """Add one of each kind, with a gateway that notes what comes up and answers as the test says; return that."""
        await self.add("oracle", Kind.ORACLE)
        gateway = await self.add("gateway", Kind.GATEWAY, agent=Pen)
        gateway.agent.answers = {
            Upload: lambda upload: Stored(len(upload.rows)),
            FetchRelease: lambda fetch: NoSuchRelease(fetch.sequence),
            ReleaseOutcome: lambda said: OutcomeHeard(said.signed.report.sequence),
        }
        processor = await self.add("processor", Kind.PROCESSOR)
        await self.add("sensor", Kind.SENSOR)
        await self.rotate()
        await self.until(lambda: bool(processor.journal("session-open")) and processor.in_session_with(gateway))
        return gateway

    async def enrol(self, worker: Worker, owner: str = OWNER) -> None:
        public = worker.key.public.to_bytes()
        await self.say(Enrolled(worker.id, owner, worker.kind, public))

    async def switch(self, worker: Worker, *, active: bool, by: str = OWNER) -> None:
        """What `fleet.disable` and `fleet.enable` end in."""
        state = next(one for one in self.up() if one is not None).runtime.replica.worker(worker.id)
        assert state is not None
        await self.say(ActiveChanged(worker.id, by, active, state.sequence + 1))

    async def rekey(self, worker: Worker, key: PrivateKey | None = None) -> PrivateKey:
        """Put a worker's next key on chain: the one it prepares now, or one from before."""
        if key is None:
            worker.keep_first_key()
            key = worker.runtime.keyring.next()
        state = next(one for one in self.up() if one is not None).runtime.replica.worker(worker.id)
        assert state is not None
        public = key.public
        await self.say(KeyRotated(worker.id, public.id, public.to_bytes(), state.epoch + 1, state.sequence + 1))
        return key

    async def rotate(self, *, lead: int = 0, grace: int = 10, to: str = "oracle") -> None:
        """Have oracle and gateway draw keys, and put the next configuration on chain."""
        version = self.latest.version + 1 if self.latest else 1
        key = self._random.randbytes(32)
        oracle, gateway = self.workers[to], self.workers.get("gateway")
        digests: list[bytes] = []
        prepare = oracle.runtime.messenger.epochs.prepare
        assert oracle.runtime.attempt(lambda: digests.__setitem__(slice(None), [prepare(version, key).card.digest]))
        digests += [await self.draw_card(gateway, version) if gateway else bytes(32)]
        self.latest = Configuration(
            version,
            int(self.clock.now()) + lead,
            grace,
            0.0,
            60,
            self.max_size,
            oracle.id,
            gateway.id if gateway else "0x" + 40 * "0",
            epoch_commitment(key),
            *digests,
        )
        await self.say(ConfigurationRotated(self.latest))

    async def draw_card(self, gateway: Worker, version: int) -> bytes:
        """Have a gateway draw its keys of a version, and tell the digest of its card."""
        digest: bytes = gateway.runtime.messenger.epochs.prepare(version).card.digest
        return digest

    async def keep_keys(self, *, min_pow: float, of: Configuration | None = None) -> None:
        """Rotate at once to the keys of the newest configuration, or of another, under another least proof of work."""
        kept = of or self.latest
        assert kept is not None
        assert self.latest is not None
        now = int(self.clock.now())
        changes = {"version": self.latest.version + 1, "active_from": now, "grace": 0, "min_pow": min_pow}
        self.latest = msgspec.structs.replace(kept, **changes)
        await self.say(ConfigurationRotated(self.latest))

    async def release(self, sequence: int, manifest_hash: bytes) -> None:
        """Have a manifest go through all its steps in one block; one that was released before is brought back."""
        self.planned(manifest_hash)
        if manifest_hash in self._released:
            await self.say(RolledBack(WEATHER, sequence, manifest_hash, self._released[manifest_hash]))
        else:
            await self.say(
                ReleaseProposed(WEATHER, sequence, self.terms(manifest_hash)),
                ReleaseApproved(WEATHER, sequence, OWNER),
                WaveOpened(WEATHER, sequence, 1),
                ReleaseFinalised(WEATHER, sequence, 0, Report(0, 0, 0)),
            )
        self._released[manifest_hash] = sequence

    def terms(self, manifest_hash: bytes) -> Terms:
        if manifest_hash not in self._terms:
            plan = self.planned(manifest_hash)
            self._terms[manifest_hash] = plan.terms(not_before=0, expires_at=int(self.clock.now()) + 3600)
        return self._terms[manifest_hash]

    def planned(self, manifest_hash: bytes) -> Plan:
        """Who is in which wave of a manifest's release; every gateway here knows it."""
        if manifest_hash not in self.plans:
            members = [worker.id for worker in self.workers.values() if worker.kind is Kind.PROCESSOR]
            seed = keccak256(b"seed" + manifest_hash)
            self.plans[manifest_hash] = make_plan(manifest_hash, members, seed=seed, gate=self.gate, waves=self.waves)
        for worker in self.up():
            if isinstance(worker.agent, Gateway):
                worker.agent._rollout.adopt(self.plans[manifest_hash])
        return self.plans[manifest_hash]

    def ticket(self, manifest_hash: bytes, to: str = "processor") -> Ticket:
        """What a worker shows its place in a manifest's release with."""
        plan, terms = self.planned(manifest_hash), self.terms(manifest_hash)
        return Ticket(terms.digest, plan.gate.canonical, *msgspec.structs.astuple(plan.proof(self.workers[to].id)))

    def bundle(self, sequence: int, model: Any, to: str = "processor") -> ReleaseBundle:
        """What an honest gateway answers a worker that asks for a release."""
        return ReleaseBundle(sequence, self.ticket(model.manifest_hash, to), model.manifest, model.artifact)

    async def say(self, *events: Any) -> None:
        """Mine a block with these events and have everybody who is up read it."""
        self._block += 1
        now = int(self.clock.now())
        located = tuple(Located(self._block, index, now, event) for index, event in enumerate(events))
        self._events += located
        for worker in self.up():
            await self._read(worker, self._block - 1, located)

    async def _read(self, worker: Worker, ancestor: int, located: tuple[Located, ...]) -> None:
        head = Head(self._block, self._block.to_bytes(32, "big"), int(self.clock.now()))
        await worker.read(ancestor, Batch(located, (head,)))

    def forget_newest(self) -> None:
        """Take the newest block's events out of the chain that latecomers read."""
        self._events = [one for one in self._events if one.block < self._block]

    async def reorganise(self, ancestor: int, *events: Any) -> None:
        """Have everything above a block never have been, and put one block with these events in its place."""
        self._events = [one for one in self._events if one.block <= ancestor]
        self._block += 1
        now = int(self.clock.now())
        located = tuple(Located(self._block, index, now, event) for index, event in enumerate(events))
        self._events += located
        for worker in self.up():
            await self._read(worker, ancestor, located)

    async def catch_up(self, worker: Worker) -> None:
        """Have a worker that was down read what it missed."""
        head = worker.runtime.replica.head
        known = head.number if head else -1
        await self._read(worker, known, tuple(one for one in self._events if one.block > known))

    async def lose_sessions(self, worker: Worker) -> None:
        """Have a worker come back on an older disk: it knows of no session of its own any more."""
        for table in ("session_sessions", "session_outbox", "session_given_up", "session_handled", "session_past"):
            worker.runtime.database.execute(f"DELETE FROM {table}")  # noqa: S608 - the names above
        worker.restart()
        await self.catch_up(worker)

    def up(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.up]

    async def run(self, rounds: int = 8) -> None:
        """Let everybody act and hear until little moves; no time passes."""
        for _ in range(rounds):
            for worker in self.up():
                await worker.beat()
            await self.deliver()

    async def deliver(self) -> None:
        for sender in self.up():
            if not sender.up:
                continue  # it died of what it heard in this very round
            await sender.runtime.flush()
            sent, sender.node.sent = sender.node.sent, []
            for envelope in sent:
                self.wire.append((sender, envelope))
                if not self.lose(sender, envelope):
                    for other in self.up():
                        if other is not sender:
                            await other.hear(envelope)

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass; the chain mines a block a step, unless it is out."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            self.clock.advance(step)
            if self.chain_runs:
                await self.say()
            await self.run(rounds=2)

    async def until(self, holds: Callable[[], bool], within: float = 40.0) -> None:
        """Let time pass until something holds."""
        deadline = self.clock.now() + within
        while not holds():
            assert self.clock.now() < deadline, f"waited {within:.0f} s in vain"
            await self.pass_time(1)

    async def close(self) -> None:
        for worker in self.up():
            for job in list(getattr(worker.agent, "_jobs", ())):
                job.cancel()
            worker.crash()


def hours(count: int, start: float, temperature: Callable[[int], float] | None = None) -> list[Any]:
    """So many hourly readings of a calm day; `temperature` in °C by hour."""
    degrees = temperature or (lambda hour: 10.0 + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7))
    return [
        (
            start + hour * HOUR,
            {
                "temp": round(degrees(hour), 3),
                "dewp": 5.0 + 0.1 * (hour % 11),
                "humid": 60.0 + hour % 13,
                "wind_speed": 3.0 + 0.1 * (hour % 17),
            },
        )
        for hour in range(count)
    ]
