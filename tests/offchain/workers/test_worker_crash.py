"""Killed at every step of every handler: what is left on disk goes on, and nothing is lost or done twice."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
from crash_world import CrashWorld, Saved
from test_worker_gateway import Pipeline, Releases
from test_worker_release import heavy
from worker_world import HOUR, Pen, hours

from quietfleet.chain.types import Kind
from quietfleet.storage import AuditLog, Database
from quietfleet.testbed.mortal import MortalDatabase, Steps, kill_me
from quietfleet.workers import _rollout as rollout
from quietfleet.workers import gateway as gateway_module
from quietfleet.workers.gateway import Gateway

WITHIN = 240.0  # seconds in which a world must have become what it would have been
LOOK = 2.0


@dataclass(frozen=True)
class Scene:
    """What happens from where, and who dies of it."""

    base: str
    act: Callable[[CrashWorld], Awaitable[None]]
    victims: tuple[str, ...]


# where scenes begin


async def found(folder, *kinds, shelves=(), max_size=1 << 20, pens=()):
    """The services and devices of these kinds, under the first configuration."""
    world = CrashWorld(folder, max_size=max_size)
    world.shelves = dict.fromkeys(shelves, "shelf")
    for kind in kinds:
        await world.add(kind.name.lower(), kind, agent=Pen if kind in pens else None)
    await world.rotate()
    return world


async def bare(folder):
    return await found(folder, Kind.ORACLE)


async def paired(folder):
    world = await found(folder, Kind.ORACLE, Kind.PROCESSOR, Kind.SENSOR)
    await world.until(lambda: bool(world.workers["processor"].journal("session-open")))
    await world.pass_time(4)
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


class Unhurried(Gateway):
    """A gateway that does not train yet."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)
        self._begun = True


async def clouded(folder, **options):
    """A pair with a gateway that has a history to train on."""
    world = CrashWorld(folder, **options)
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["device", "time", "temp"], ["EWR", 0.0, 1.5], ["JFK", HOUR, 2.5]])
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Unhurried)
    processor = await world.add("processor", Kind.PROCESSOR)
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


# what may happen


async def newcomer(world, kind):
    await world.add(kind.name.lower(), kind)
    await world.pass_time(10)


async def deal(world):
    await world.add("processor", Kind.PROCESSOR)
    await world.add("sensor", Kind.SENSOR)
    await world.pass_time(12)


async def readings(world):
    for first in (0, 6):
        world.workers["sensor"].measure(hours(first + 6, 0.0)[first:])
        await world.pass_time(4)


async def switched_off_and_on(world):
    sensor = world.workers["sensor"]
    await world.switch(sensor, active=False)
    await world.pass_time(3)
    await world.switch(sensor, active=True)
    await world.pass_time(10)


async def rotated(world):
    await world.say(*world.coming)
    await world.pass_time(14)


async def measured_a_day(world):
    for first in range(24, 36, 6):
        world.workers["sensor"].measure(hours(first + 6, 0.0)[first:])
        await world.pass_time(3)


async def stuck(world):
    """A thermometer sticks for a day."""
    for first in range(24, 48, 12):
        world.workers["sensor"].measure(hours(first + 12, 0.0, lambda _hour: 8.0)[first:])
        await world.pass_time(3)


async def released(world):
    """The gateway trains, takes its model through the contract, and the processor takes it up."""
    await world.pass_time(10)


SCENES = {
    "processor joins": Scene("bare", lambda world: newcomer(world, Kind.PROCESSOR), ("processor", "oracle")),
    "deal": Scene("bare", deal, ("sensor", "processor", "oracle")),
    "readings": Scene("paired", readings, ("sensor", "processor")),
    "switch": Scene("paired", switched_off_and_on, ("sensor", "processor", "oracle")),
    "rotation": Scene("prepared", rotated, ("sensor", "processor", "oracle")),
    "upload": Scene("with data", measured_a_day, ("processor", "gateway")),
    "fault": Scene("with data", stuck, ("processor", "sensor")),
    "release": Scene("clouded", released, ("gateway", "processor")),
    "release by shelf": Scene("with a shelf", released, ("gateway", "processor")),
    "release in pieces": Scene("narrow", released, ("gateway", "processor")),
}
BASES = {
    "bare": bare,
    "paired": paired,
    "prepared": prepared,
    "with data": with_data,
    "clouded": clouded,
    "with a shelf": partial(clouded, shelves=dict.fromkeys(("gateway", "processor"), "shelf")),
    "narrow": partial(clouded, max_size=40_000),
}


# what must be the same


def week(worker):
    """What a processor or gateway keeps: the times of each device's readings."""
    series = getattr(worker.agent, "_week", None) or getattr(worker.agent, "_month", None)
    devices = series.devices() if series is not None else []
    return {device: [at for at, _ in series.window(device, 0, float("inf"))] for device in devices}


def view(worker):
    """What one worker makes of the world."""
    names = {one.id: one.name for one in worker.world.workers.values()}
    messenger = worker.runtime.messenger
    open_now = [session for session in messenger.table.sessions.values() if session.confirmed]
    status = worker.agent.status()
    told = ("processor", "measured", "answered", "waiting") if worker.kind is Kind.SENSOR else ("release", "devices")
    steps = worker.world.releases.steps if worker.kind is Kind.GATEWAY and worker.world.releases else []
    return {
        "steps": list(steps),
        "sessions": sorted((names[s.peer], s.purpose.partition(":")[0], sorted(s.generations)) for s in open_now),
        "outbox": len(messenger.conversations.pending),
        "kept": week(worker),
        "configuration": messenger.epochs.latest.version if messenger.epochs.latest else None,
        "versions": sorted(messenger.epochs.live(worker.world.clock.now())),
    } | {name: status[name] for name in told if name in status}


def views(world):
    return {name: view(worker) if worker.up else None for name, worker in world.workers.items()}


def check(world):
    """What holds at any time, killed or not."""
    for worker in world.up():
        assert worker.rows("PRAGMA integrity_check") == [("ok",)]
        assert AuditLog(worker.runtime.database).verify() > 0
        assert worker.metric("steps_failed") == 0
        for kind in ("release-installed", "quarantined", "trained", "anchored"):
            said = [str(entry) for entry in worker.journal(kind)]
            assert len(said) == len(set(said)), kind
    for sensor in (one for one in world.up() if one.kind is Kind.SENSOR):
        taken = sensor.journal("recommendation")
        assert all(entry["rows"] for entry in taken), "each answer is taken once"
        throughs = [entry["through"] for entry in taken]
        assert throughs == sorted(set(throughs))
        assert sum(entry["rows"] for entry in taken) == sensor.agent.status()["answered"]


async def settle(world, expected):
    """Let time pass until the world is what it would have been."""
    deadline = world.clock.now() + WITHIN
    while world.fallen or (seen := views(world)) != expected:
        assert world.clock.now() < deadline, [
            (name, key, seen[name][key], value)
            for name, one in expected.items()
            for key, value in one.items()
            if seen[name] and seen[name][key] != value
        ]
        await world.pass_time(LOOK)
    check(world)


# the trials


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Each base is made once, and kept on disk."""
    return {}, tmp_path_factory.mktemp("bases")


class NumberedReleases(Releases):
    """The contract, with what the gateway does to it numbered."""

    def happens(self, event):
        doom = self._world.dooms.get("gateway")
        if doom is None or doom.buried:
            return super().happens(event)
        doom.take("send")
        receipt = super().happens(event)
        doom.take("sent")
        return receipt


class Repeated(Pipeline):
    """Training that finds the same model each time."""

    def __call__(self, *arguments):
        self.runs.clear()
        return super().__call__(*arguments)


@pytest.fixture
def play(bases, tmp_path, monkeypatch, candidate):
    """Opens a scene's world, one of its people doomed, and lets the scene happen."""

    async def play(scene, victim, fatal=0):
        kept, folder = bases
        if scene.base not in kept:
            kept[scene.base] = await Saved.of(await BASES[scene.base](folder / scene.base))
        world = await kept[scene.base].open(tmp_path / str(fatal), victim, fatal)
        if "release" in scene.act.__name__:
            model = heavy(candidate) if world.max_size < 1 << 20 else candidate
            package = replace(candidate.package, manifest=model.manifest, artifact=model.artifact)
            trained = replace(candidate, package=package)
            world.releases = NumberedReleases(world)
            monkeypatch.setattr(gateway_module, "_run", Repeated(trained))
            monkeypatch.setattr(gateway_module, "JOB_PAUSE", 0.0)
            monkeypatch.setattr(rollout, "ReleasesContract", world.releases)
            monkeypatch.setattr(rollout, "ChainClient", lambda *_: contextlib.nullcontext())
            monkeypatch.setattr(rollout, "Wallet", lambda *_: None)
        await scene.act(world)
        return world

    return play


def distinct(doom):
    """The last step of each mark: steps under one mark leave the same behind."""
    marks = [*doom.marks, None]
    return [step for step, mark in enumerate(doom.marks, start=1) if marks[step] != mark]


CASES = [(name, victim) for name, scene in SCENES.items() for victim in scene.victims]


@pytest.mark.parametrize(("name", "victim"), CASES)
async def test_killed__at_each_step_of_a_scene__ends_as_if_it_had_not_been(play, name, victim):
    scene = SCENES[name]
    plain = await play(scene, victim)
    deadline = plain.clock.now() + 60
    while any(one["outbox"] for one in views(plain).values()):
        assert plain.clock.now() < deadline, views(plain)
        await plain.pass_time(1)
    check(plain)
    expected, doom = views(plain), plain.dooms[victim]
    await plain.close()
    assert doom.marks, "a victim that leaves nothing behind shows nothing"
    for step in distinct(doom):
        world = await play(scene, victim, step)
        try:
            await settle(world, expected)
        except AssertionError as error:
            error.add_note(f"killed at step {step}, the last of {doom.steps.names[max(0, step - 6) : step]}")
            raise
        await world.close()


def _live(folder, fatal):
    """Write readings until death: three transactions of two statements."""
    steps = Steps(kill_me, fatal)
    database = MortalDatabase(folder / "worker.db", steps)
    for number in range(3):
        with database.transaction():
            database.execute("INSERT INTO kept VALUES (?, zeroblob(9000))", (number,))
            database.execute("INSERT INTO kept VALUES (?, zeroblob(9000))", (number + 10,))


STEPS_OF_ONE = 4  # two statements, the commit before and after


@pytest.mark.parametrize("fatal", range(1, 3 * STEPS_OF_ONE + 1))
def test_sigkill__at_each_statement_and_commit__whole_transactions_are_left(tmp_path, fatal):
    with Database(tmp_path / "worker.db") as database:
        database.execute("CREATE TABLE kept (number INTEGER, body BLOB) STRICT")
    child = os.fork()
    if child == 0:
        _live(tmp_path, fatal)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with Database(tmp_path / "worker.db") as database:
        database.check()
        whole = fatal // STEPS_OF_ONE
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (2 * whole,)
