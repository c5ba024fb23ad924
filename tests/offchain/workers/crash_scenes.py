"""What happens while somebody is killed: where each scene begins, what happens in it, and who dies of it."""

from __future__ import annotations

import csv
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
from actuator_kit import fan
from crash_world import CrashWorld
from test_worker_gateway import Pipeline, Releases
from test_worker_static import name_peers
from worker_world import HOUR, OWNER, PASSPHRASE, WEATHER, Pen, hours

from quietfleet.chain.anchors import KEPT, KeptAnchor
from quietfleet.chain.events import BootstrapNamed, ConfigurationRotated, OperatorChanged
from quietfleet.chain.fold import fold
from quietfleet.chain.types import Configuration, Kind
from quietfleet.chain.wallet import Receipt
from quietfleet.crypto import derive, keccak256
from quietfleet.crypto.keystore import load_keystore
from quietfleet.errors import ChainRejected
from quietfleet.rollout import Gate, make_plan
from quietfleet.settings import CommandSection, KeysSection, RecalibrationSection
from quietfleet.workers._keys import PROOF, VALID, prove
from quietfleet.workers._month import FILE_EVERY
from quietfleet.workers.gateway import Gateway
from quietfleet.workers.processor import Processor

MONTH = 30 * 86_400.0
FLOOD = 300  # envelopes a second
LEVEL = 0.0001  # of proof of work, and cheap
TIDAL = {"rotator": "rotator.json", "capacity": 100.0, "window": 10.0, "calm": 15.0}
ROTATING = {"rotator": "rotator.json", "rotate_on_disable": True, "rotate_every": 20.0, "rotate_most": 8}
STORE = "sqlite:shared/oracle.db"
PATIENCE = 600.0  # seconds for which a wish waits at its oracle
ANCHORING = 3600.0  # seconds between two anchors
WARMER = 20.0  # °C above what the model was trained on


@dataclass(frozen=True)
class Scene:
    """What happens from where, and who dies of it; `contract` is who takes transactions in it."""

    base: str
    act: Callable[[CrashWorld], Awaitable[None]]
    victims: tuple[str, ...]
    rest: float = 0.0  # seconds after which everything has come of it
    contract: Callable[[CrashWorld], Any] | None = None


# agents for a while


class Unhurried(Gateway):
    """A gateway that does not train yet."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)
        self._begun = True


class Untaught(Gateway):
    """A gateway with nothing to train on."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)

    def _may_begin(self):
        return False


class Distant(Unhurried):
    """A gateway whose files are in a bucket, which it does not wait for."""

    def __init__(self, runtime):
        super().__init__(runtime)
        self._month._local = False


class Unwatchful(Processor):
    """A processor that does not look for drift yet."""

    def _watch(self):
        """Not yet."""


class Commanding(Processor):
    """A processor that has everybody's fan turned on, whatever it forecasts."""

    def __init__(self, runtime):
        super().__init__(runtime)
        self._commands._decided = lambda _device, _said: [CommandSection("fan", 50.0)]


# where scenes begin


async def found(folder, *kinds, shelves=(), max_size=1 << 20, pens=(), untaught=(), **facts):
    """The services and devices of these kinds, under the first configuration."""
    world = CrashWorld(folder, max_size=max_size)
    world.shelves = dict.fromkeys(shelves, "shelf")
    for name, value in facts.items():
        setattr(world, name, value)
    for kind in kinds:
        await world.add(kind.name.lower(), kind, agent=Pen if kind in pens else Untaught if kind in untaught else None)
    await world.rotate()
    return world


async def bare(folder, **facts):
    return await found(folder, Kind.ORACLE, **facts)


async def offered(folder):
    """A processor that waits for a sensor."""
    world = await found(folder, Kind.ORACLE, Kind.PROCESSOR)
    await world.pass_time(10)
    return world


async def queued(folder):
    """A sensor that waits for a processor; once its process is started again, so does its wish from before."""
    world = await found(folder, Kind.ORACLE, Kind.SENSOR)
    await world.pass_time(4)
    return world


async def succeeded(folder):
    """A pair whose oracle is about to be followed by another one."""
    world = await paired(folder)
    await world.add("successor", Kind.ORACLE)
    await world.pass_time(2)
    say, world.say = world.say, _note_down(world)
    await world.rotate(to="successor", grace=10)  # longer than it takes to hear from the next one
    world.say = say
    return world


async def paired(folder, **facts):
    world = await found(folder, Kind.ORACLE, Kind.PROCESSOR, Kind.SENSOR, **facts)
    await world.until(lambda: bool(world.workers["processor"].journal("session-open")))
    await world.pass_time(4)
    return world


async def with_a_fan(folder):
    """A pair whose sensor has a fan, which the processor has turned on."""
    world = await paired(folder, actuators=[fan(effect="temp", settle=0.0)])
    (folder / "fan").write_text("0\n")
    world.workers["processor"]._make = Commanding
    return world


async def telling(folder):
    """A pair whose sensor is to tell of itself, from its next start on."""
    world = await paired(folder)
    world.telemetry_every = 600.0
    return world


async def with_keystores(folder, **facts):
    """A pair, each with its first key on disk."""
    world = await paired(folder, **facts)
    for worker in world.workers.values():
        worker.keep_first_key()
    return world


async def prepared(folder):
    """A pair, and the next configuration about to be put on chain."""
    world = await paired(folder)
    say, world.say = world.say, _note_down(world)
    await world.rotate(lead=4, grace=4)
    world.say = say
    return world


def _note_down(world):
    async def say(*events):
        world.coming += events

    return say


async def tidal(folder):
    """An oracle that may set the level of proof of work."""
    world = await bare(folder, oracle=TIDAL)
    await world.keep_keys(min_pow=LEVEL)
    await world.pass_time(3)
    return world


async def rotating(folder):
    """An oracle that ends epochs, a gateway, and two that hold the key."""
    world = CrashWorld(folder, oracle=ROTATING)
    await world.add("oracle", Kind.ORACLE)
    await world.add("gateway", Kind.GATEWAY, agent=Untaught)
    await world.add("processor", Kind.PROCESSOR)
    await world.add("sensor", Kind.SENSOR)
    await world.rotate(grace=2)
    await world.until(lambda: world.workers["processor"].in_session_with(world.workers["gateway"]))
    await world.until(lambda: bool(world.workers["processor"].journal("session-open")))
    await world.pass_time(4)
    return world


async def replicated(folder):
    """Two replicas of one oracle."""
    world = CrashWorld(folder, store=STORE)
    await world.add("oracle", Kind.ORACLE)
    await world.add("oracle#2", Kind.ORACLE, enrol=False)
    await world.pass_time(2)
    await world.rotate()
    await world.pass_time(2)
    return world


async def acquainted(folder):
    """A sensor and a processor that know each other's name from their settings."""
    world = CrashWorld(folder)
    world.offered["processor"] = ""
    name_peers(world, sensor=["processor"], processor=["sensor"])
    for kind in (Kind.ORACLE, Kind.PROCESSOR, Kind.SENSOR):
        await world.add(kind.name.lower(), kind)
    await world.rotate()
    return world


async def clouded(folder, processor=None, **options):
    """A pair with a gateway that has a history to train on."""
    world = CrashWorld(folder, **options)
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["device", "time", "temp"], ["EWR", 0.0, 1.5], ["JFK", HOUR, 2.5]])
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Unhurried)
    processor = await world.add("processor", Kind.PROCESSOR, agent=processor)
    await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.journal("session-open") and processor.in_session_with(gateway))
    gateway._make = None
    return world


async def with_data(folder):
    """The same, with a day and a half of readings below."""
    world = await clouded(folder)
    world.workers["gateway"]._make = Unhurried
    for first in range(0, 24, 6):
        world.workers["sensor"].measure(hours(first + 6, 0.0)[first:])
        await world.pass_time(2)
    await world.pass_time(3)
    return world


async def beside(folder):
    """Three sensors at one spot, of which one reads 4 °C more than the others."""
    world = await paired(folder, recalibration=RecalibrationSection(every="", side_by_side=True))
    processor = world.workers["processor"]
    for name in ("second", "third"):
        await world.add(name, Kind.SENSOR)
    await world.until(lambda: all(world.workers[name].in_session_with(processor) for name in ("second", "third")))
    for name, off in (("sensor", 4.0), ("second", 0.0), ("third", 0.0)):
        readings = hours(24, 0.0, lambda hour, off=off: 10.0 + off + 5.0 * (hour % 24) / 24)
        world.workers[name].measure([(at, {"temp": fields["temp"]}) for at, fields in readings])
    await world.pass_time(4)
    return world


async def distant(folder):
    """The same, the gateway's files in a bucket."""
    world = await with_data(folder)
    world.workers["gateway"]._make = Distant
    return world


async def anchoring(folder):
    """A gateway that anchors its log, and has yet to begin with that."""
    return await found(folder, Kind.ORACLE, Kind.GATEWAY, untaught=(Kind.GATEWAY,), anchor_every=ANCHORING)


def stock(world, candidate):
    """Let the gateway have trained a model some time ago."""
    gateway = world.workers["gateway"]
    version = gateway.agent._registry.register("weather", candidate.manifest, candidate.artifact, at=1.0)
    gateway.agent._state.set(f"manifest:{candidate.manifest_hash.hex()}", version)
    gateway.agent._state.set("stocked", version)
    gateway.agent._state.set("next", candidate.manifest_hash.hex())


async def stocked(folder, candidate, **options):
    """A gateway that has a model, which is about to be opened to the fleet."""
    world = await clouded(folder, **options)
    world.workers["gateway"]._make = Untaught
    stock(world, candidate)
    say, world.say = world.say, _note_down(world)
    await world.release(1, candidate.manifest_hash)
    world.say = say
    return world


async def in_waves(folder, candidate):
    """A gateway with a model for two processors, of which one is to wait for the other."""
    world = await clouded(folder)
    gateway = world.workers["gateway"]
    gateway._make = Untaught
    waiting, second = world.workers["processor"], await world.add("second", Kind.PROCESSOR)
    await world.until(lambda: second.in_session_with(gateway))
    stock(world, candidate)
    gateway.agent._rollout.adopt(_with_wave(candidate.manifest_hash, waiting.id, second.id))
    return world


def _with_wave(manifest_hash, last, *others):
    """A plan in two waves, that has one of them in the second."""
    for draw in range(256):
        seed = keccak256(b"wave %d" % draw)
        plan = make_plan(manifest_hash, [last, *others], seed=seed, gate=Gate(), waves=2)
        if plan.wave(plan.name(last)) == 2:
            return plan
    raise AssertionError


async def content(folder, candidate):
    """A fleet with a model, and a gateway whose next one no device takes."""
    world = await clouded(folder)
    world.workers["gateway"]._make = Untaught
    processor = world.workers["processor"]
    stock(world, candidate)
    await world.release(1, candidate.manifest_hash)
    await world.until(lambda: processor.agent.status()["release"] == 1)
    stock(world, outdated(candidate))
    return world


def outdated(candidate):
    """The same model, that nobody takes up any more: its time is over."""
    manifest = json.dumps(json.loads(candidate.manifest) | {"expires_at": 1}).encode()
    return SimpleNamespace(manifest=manifest, artifact=candidate.artifact, manifest_hash=keccak256(manifest))


async def drifted(folder, candidate):
    """A model at work, and two sensors in a world that has become warmer, which nobody has noticed yet."""
    world = await clouded(folder, processor=Unwatchful)
    world.workers["gateway"]._make = Untaught
    processor = world.workers["processor"]
    second = await world.add("second", Kind.SENSOR)
    await world.until(lambda: processor.in_session_with(second))
    stock(world, candidate)
    await world.release(1, candidate.manifest_hash)
    await world.until(lambda: processor.agent.status()["release"] == 1)
    warm = hours(210, 0.0, lambda hour: 10.0 + WARMER + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7))
    for first in range(0, 210, 30):
        for sensor in (world.workers["sensor"], second):
            sensor.measure(warm[first : first + 30])
        await world.pass_time(3)
    await world.pass_time(6)
    processor._make = None
    return world


# what may happen


async def newcomer(world, kind):
    await world.add(kind.name.lower(), kind)


async def deal_of_a_team(world):
    """The same, once replicas of before are found to be gone."""
    await world.pass_time(8)
    await world.add("processor", Kind.PROCESSOR)
    await world.add("sensor", Kind.SENSOR)


async def deal_of_one_that_is_lost(world):
    """A sensor is switched off between its word to a deal and the introduction."""
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.until(lambda: sensor.up and bool(sensor.journal("deal-accepted")))
    await world.switch(sensor, active=False)


async def readings(world):
    for first in (0, 6):
        world.workers["sensor"].measure(hours(first + 6, 0.0)[first:])
        await world.pass_time(2)


async def switched_off_and_on(world):
    sensor = world.workers["sensor"]
    await world.switch(sensor, active=False)
    await world.pass_time(3)
    await world.switch(sensor, active=True)


async def parted(world):
    """A sensor leaves its processor of its own accord, and finds it again through dispatch."""
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await sensor.do(lambda: sensor.runtime.feed(sensor.runtime.messenger.leave(processor.id, "trouble")))


async def switched_off(world):
    """The epoch's key is to be known no more to the sensor that was lost."""
    await world.switch(world.workers["sensor"], active=False)


async def announced(world):
    """What was about to happen on chain does."""
    await world.say(*world.coming)


async def handed_over(world):
    """The oracle that the processor offers at is followed by another."""
    await world.pass_time(2)  # until it offers again after the start
    await announced(world)


async def gateway_joins(world):
    """A gateway is enrolled, and named in the next configuration."""
    await world.add("gateway", Kind.GATEWAY, agent=Untaught)
    await world.pass_time(3)
    await world.rotate(grace=4)


async def key_is_due(world):
    """The victim's key has been in use for a month; its owner takes the proof it lays out to the chain."""
    worker = doomed(world)
    world.clock.advance(MONTH)
    await world.say()
    proof = world.folder / worker.name / PROOF
    await world.until(lambda: worker.up and proof.exists())
    await rekeyed(world, worker)


async def key_is_replaced(world):
    """The victim's key may be known to somebody: its owner has it draw another, and puts that on chain at once."""
    worker = doomed(world)

    def draw():
        runtime = worker.runtime
        state = runtime.replica.worker(worker.id)
        prove(runtime.settings, runtime.keyring, state, int(world.clock.now() + VALID))
        runtime.note("key-prepared", epoch=state.epoch + 1)

    await world.certainly(worker, lambda: worker.do(draw))
    await rekeyed(world, worker)


async def rekeyed(world, worker):
    file = world.folder / f"{worker.name}.1.json"
    await world.rekey(worker, load_keystore(file, PASSPHRASE))


def doomed(world):
    return world.workers[next(iter(world.dooms))]


async def flooded(world):
    """A flood that lasts, and the calm after it."""
    oracle = world.workers["oracle"]
    while not world.contract.steps:
        if oracle.up:
            oracle.runtime.metrics.count("network_received", FLOOD)
        await world.pass_time(1)


async def met(world):
    """Static peers find each other, and what they say is answered."""
    await world.pass_time(20)
    world.workers["sensor"].measure(hours(6, 0.0))
    await world.pass_time(4)


async def named(world):
    """An owner names an operator, and the service names other relays."""
    await world.say(OperatorChanged(OWNER, "0x" + "cc" * 20, 7, int(world.clock.now()) + 3600))
    await world.say(BootstrapNamed(1, ()))


async def measured_a_day(world):
    for first in range(24, 36, 6):
        world.workers["sensor"].measure(hours(first + 6, 0.0)[first:])
        await world.pass_time(3)


async def stuck(world):
    """A thermometer sticks for a day."""
    for first in range(24, 48, 12):
        world.workers["sensor"].measure(hours(first + 12, 0.0, lambda _hour: 8.0)[first:])
        await world.pass_time(3)


async def recalibrated(world):
    """A sensor is asked by hand, and corrects itself by what the others read."""
    processor, sensor = world.workers["processor"], world.workers["sensor"]
    ask = lambda: processor.agent._recalibrations.ask(sensor.id, "by hand")  # noqa: E731 - it is a step
    await world.certainly(processor, lambda: processor.do(ask))
    await world.pass_time(3)


async def commanded(world):
    """The answer to the next reading has an actuator moved, and what came of it is told."""
    for hour in (1, 2):
        world.workers["sensor"].measure(hours(hour + 1, 0.0)[hour:])
        await world.pass_time(3)


async def told_how_it_does(world):
    """The sensor samples its machine, and tells its processor."""
    await world.pass_time(3)


async def told_of_its_place(world):
    """The gateway sees that a device left the others of its place, and tells its processor."""
    gateway, processor = world.workers["gateway"], world.workers["processor"]
    veil = derive(processor.key.to_bytes(), "pseudonyms")
    name = hmac.digest(veil, world.workers["sensor"].id.encode(), "sha256")[:12].hex()
    tell = lambda: gateway.agent._site_watch._tell(processor.id, {name: ("temp",)})  # noqa: E731 - it is a step
    await world.certainly(gateway, lambda: gateway.do(tell))
    await world.pass_time(3)


async def shelved(world):
    """The gateway puts its model on the shelf, and the chain opens it to the fleet."""
    gateway = world.workers["gateway"]

    def shelve():
        version = gateway.agent._state.get("stocked")
        gateway.agent._handout.shelve(version, gateway.agent._registry.get("weather", version).artifact)

    await world.certainly(gateway, lambda: gateway.do(shelve))
    await world.pass_time(2)
    await announced(world)


async def sought_twice(world):
    """The sensor seeks anew after its restart, and what comes of its wish from before, it turns down."""
    await world.pass_time(3)
    await world.add("processor", Kind.PROCESSOR)


async def sought_in_vain(world):
    """Nobody comes for as long as the sensor has patience, and then somebody does."""
    await world.pass_time(3)
    world.clock.advance(PATIENCE)
    await world.pass_time(3)
    await world.add("processor", Kind.PROCESSOR)


async def filed_apart(world):
    """The hour after which readings are put into files."""
    world.clock.advance(FILE_EVERY)
    await world.pass_time(3)


async def anchored_twice(world):
    gateway = world.workers["gateway"]
    await world.until(lambda: gateway.up and bool(gateway.journal("audit-anchored")))
    world.clock.advance(ANCHORING)
    await world.pass_time(3)


async def of_somebody_else(world):
    """A release is open that is none of the gateway's; then comes one that is."""
    foreign = []
    for event in world.coming:
        terms = getattr(event, "terms", None)
        foreign.append(event if terms is None else msgspec.structs.replace(event, terms=_foreign(terms)))
    await world.say(*foreign[:3])
    await world.pass_time(3)
    await world.say(*foreign[3:])
    await world.say(*(msgspec.structs.replace(event, sequence=2) for event in world.coming))


def _foreign(terms):
    return msgspec.structs.replace(terms, manifest_hash=keccak256(b"somebody else's"))


async def submitted(world):
    """The gateway is to release what it has."""
    gateway = world.workers["gateway"]

    def submit():
        gateway.agent._rollout.submit(bytes.fromhex(gateway.agent._state.get("next")))

    await world.certainly(gateway, lambda: gateway.do(submit))


async def left_alone(world):
    """Those who are there do what is to be done."""
    await world.pass_time(1)


# who takes transactions


class NumberedReleases(Releases):
    """The contract as the chain has it so far, with what the gateway does to it numbered."""

    def __init__(self, world):
        super().__init__(world)
        for located in world._events:
            if getattr(located.event, "channel", None) == WEATHER:
                self.book = fold(self.book, located.event, located.timestamp)

    def happens(self, event):
        with_steps(self._world, "gateway", "send")
        receipt = super().happens(event)
        with_steps(self._world, "gateway", "sent")
        return receipt


class Unreachable(NumberedReleases):
    """A contract that no endpoint leads to for the time being."""

    def __init__(self, world):
        super().__init__(world)
        self.down = True


class Anchors:
    """The contract that keeps a log's newest anchor, as one keeper calls it; `steps` are their numbers."""

    def __init__(self, world):
        self._world = world
        self._newest = KeptAnchor(0, 0, bytes(KEPT))
        self.address = OWNER
        self.steps = []

    def __call__(self, _client, _wallet):
        return self

    async def tell(self):
        """No worker reads anchors off the chain."""

    async def newest(self, _keeper, _log):
        return self._newest

    async def block_of(self, _keeper, _log, number):
        return number

    async def anchor(self, _log, number, commitment):
        """Take the next anchor, numbered as a step."""
        with_steps(self._world, "gateway", "send")
        if number != self._newest.number + 1:
            raise ChainRejected("NotNext")
        self._newest = KeptAnchor(number, int(self._world.clock.now()), commitment[:KEPT])
        self.steps.append(number)
        with_steps(self._world, "gateway", "sent")
        return Receipt(b"\1" * 32, number, 50_000)


class Rotations:
    """The contract as an oracle with the rotator's key calls it; workers read what happened when they are told."""

    def __init__(self, world):
        self._world = world
        self._untold = []
        self._sent = lambda _transaction: None
        self.latest = world.latest
        self.steps = []

    def client(self, *_):
        return self

    def service(self, _client, sent):
        self._sent = sent
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def tell(self):
        """Mine what happened since."""
        untold, self._untold = self._untold, []
        await self._world.say(*untold)

    async def request(self, _method, _transaction):
        return {"blockNumber": "0x1"}

    async def pow_bounds(self):
        return LEVEL / 4, LEVEL * 4

    async def configuration(self):
        return msgspec.structs.replace(self.latest, keys_from=0), None

    async def rotate_at_once(self, rotation):
        return await self.rotate(rotation, grace=0)

    async def rotate(self, rotation, **at_once):
        """Take a step, numbered."""
        with_steps(self._world, "oracle", "send")
        self.latest = Configuration(
            version=self.latest.version + 1,
            active_from=int(self._world.clock.now()),
            **({name: getattr(rotation, name) for name in _ROTATED} | at_once),
        )
        self._untold.append(ConfigurationRotated(self.latest))
        self._world.latest = self.latest
        self.steps.append((self.latest.version, self.latest.min_pow, self.latest.gateway))
        with_steps(self._world, "oracle", "sent")
        self._sent(f"0x{self.latest.version:064x}")
        return Receipt(b"\1" * 32, self.latest.version, 100_000)


_ROTATED = (
    "grace",
    "min_pow",
    "max_ttl",
    "max_size",
    "oracle",
    "gateway",
    "epoch_key_commitment",
    "oracle_card_digest",
    "gateway_card_digest",
)


def with_steps(world, name, step):
    doom = world.dooms.get(name)
    if doom is not None and not doom.buried:
        doom.take(step)


class Repeated(Pipeline):
    """Training that finds the same model each time."""

    def __call__(self, *arguments):
        self.runs.clear()
        return super().__call__(*arguments)


SHELVES = dict.fromkeys(("gateway", "processor"), "shelf")

SCENES = {
    "processor joins": Scene("bare", partial(newcomer, kind=Kind.PROCESSOR), ("processor", "oracle"), rest=10),
    "gateway joins": Scene("paired", gateway_joins, ("gateway", "processor"), rest=10),
    "deal": Scene("offered", partial(newcomer, kind=Kind.SENSOR), ("sensor", "processor", "oracle"), rest=12),
    "deal of a team": Scene("replicated", deal_of_a_team, ("oracle", "oracle#2"), rest=12),
    "deal broken off": Scene("offered", deal_of_one_that_is_lost, ("sensor",), rest=10),
    "static peers": Scene("acquainted", met, ("sensor", "processor"), rest=4),
    "readings": Scene("paired", readings, ("sensor", "processor"), rest=2),
    "switch": Scene("paired", switched_off_and_on, ("sensor", "processor", "oracle"), rest=10),
    "goodbye": Scene("paired", parted, ("processor", "oracle"), rest=12),
    "names": Scene("paired", named, ("sensor",), rest=4),
    "rotation": Scene("prepared", announced, ("sensor", "processor", "oracle"), rest=14),
    "rotation on disable": Scene("rotating", switched_off, ("oracle", "gateway"), rest=14, contract=Rotations),
    "tide": Scene("tidal", flooded, ("oracle",), rest=45, contract=Rotations),
    "key due": Scene("with due keys", key_is_due, ("sensor", "processor"), rest=12),
    "key replaced": Scene("with keystores", key_is_replaced, ("sensor", "oracle"), rest=12),
    "upload": Scene("with data", measured_a_day, ("processor", "gateway")),
    "fault": Scene("with data", stuck, ("processor", "sensor", "gateway")),
    "word of the gateway": Scene("with data", told_of_its_place, ("processor",), rest=2),
    "recalibration": Scene("beside", recalibrated, ("processor", "sensor"), rest=4),
    "actuator": Scene("with a fan", commanded, ("sensor", "processor"), rest=3),
    "telemetry": Scene("telling", told_how_it_does, ("sensor", "processor"), rest=3),
    "drift": Scene("drifted", left_alone, ("gateway", "processor"), rest=6, contract=Unreachable),
    "release": Scene("clouded", left_alone, ("gateway", "processor"), rest=9, contract=NumberedReleases),
    "release by shelf": Scene("with a shelf", shelved, ("gateway", "processor"), rest=8),
    "release opened apart": Scene("apart", announced, ("processor",), rest=10),
    "release in pieces": Scene("narrow", announced, ("gateway", "processor"), rest=10),
    "release of another": Scene("with a shelf", of_somebody_else, ("gateway", "processor"), rest=12),
    "release in waves": Scene("in waves", submitted, ("gateway", "processor"), rest=16, contract=NumberedReleases),
    "release undone": Scene("content", submitted, ("gateway", "processor"), rest=16, contract=NumberedReleases),
    "files": Scene("distant", filed_apart, ("gateway",), rest=2),
    "anchors": Scene("anchoring", anchored_twice, ("gateway",), rest=2, contract=Anchors),
    "deal turned down": Scene("queued", sought_twice, ("sensor", "processor", "oracle"), rest=12),
    "deal in vain": Scene("queued", sought_in_vain, ("sensor", "oracle"), rest=36),
    "successor": Scene("succeeded", handed_over, ("processor", "oracle"), rest=18),
}
BASES = {
    "bare": bare,
    "offered": offered,
    "paired": paired,
    "with keystores": with_keystores,
    "with due keys": partial(with_keystores, keys=KeysSection(rotate_every=MONTH)),
    "prepared": prepared,
    "tidal": tidal,
    "rotating": rotating,
    "replicated": replicated,
    "acquainted": acquainted,
    "with data": with_data,
    "beside": beside,
    "with a fan": with_a_fan,
    "telling": telling,
    "clouded": clouded,
    "queued": queued,
    "succeeded": succeeded,
    "distant": distant,
    "anchoring": anchoring,
}
TAUGHT = {
    "drifted": drifted,
    "with a shelf": partial(stocked, shelves=SHELVES),
    "narrow": partial(stocked, max_size=40_000),
    "apart": partial(stocked, inference="process"),
    "in waves": in_waves,
    "content": content,
}
