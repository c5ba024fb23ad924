"""The acts of a bad day: a device that does not listen, a change of every key, a process that dies."""

from __future__ import annotations

import time
from typing import Final

from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.storage import AuditEntry, Database
from quietfleet.testbed.fleet import Member
from quietfleet.testbed.founding import GRACE, LEAD, SWITCHED
from quietfleet.testbed.probe import Tap, epoch_keys, opened_by
from quietfleet.testbed.scene import Scene

PESTERINGS: Final = 3  # messages of a severed device that must be counted
SAMPLE: Final = 12  # envelopes recorded before the rotation


async def switch(scene: Scene) -> None:
    """An owner switches a device off; it does not listen; it is switched on again."""
    device = scene.fleet.members[SWITCHED]
    processor = scene.processor_of(SWITCHED)
    begun = time.time()
    scene.owners.disable(SWITCHED)
    # the device's own reading of the chain too: a severing may also reach it as the oracle's word, before that
    await scene.fleet.until(
        "all sides sever",
        lambda: (
            bool(scene.since(SWITCHED, "switched-off", begun))
            and all(_cut_off(scene, side, device, begun) for side in (processor, "oracle"))
        ),
        20,
    )
    severed = _cut_off(scene, processor, device, begun)[0]
    async with scene.client() as client:
        state = await ServiceContract(client).worker(device.id)
    scene.line(
        "an owner switched a sensor off: both sides severed at the event",
        f"chain: inactive; journals: severed by {processor} and by the device itself",
        holds=state is not None and not state.active,
    )
    await _pester(scene, device, processor, severed.at)
    await _return(scene)


def _cut_off(scene: Scene, name: str, device: Member, since: float) -> list[AuditEntry]:
    """When a worker severed a device; the oracle names nobody, so there it is whom it severed at that time."""
    nameless = scene.fleet.members[name].kind is Kind.ORACLE
    return [e for e in scene.since(name, "severed", since) if nameless or e.detail["peer"] == device.id]


async def _pester(scene: Scene, device: Member, processor: str, since: float) -> None:
    ignored = 'quietfleet_messages_ignored_total{reason="severed"}'
    scene.fault(SWITCHED, ignore_severing=True)
    await scene.fleet.until(
        "what it goes on sending is counted", lambda: scene.fleet.metric(processor, ignored) >= PESTERINGS, 25
    )
    count = scene.fleet.metric(processor, ignored)
    taken = [e for e in scene.since(processor, "readings", since) if e.detail["sensor"] == device.id]
    scene.fault(SWITCHED, ignore_severing=False)
    await scene.fleet.until(
        "the device is repaired", lambda: not scene.last(SWITCHED, "fault").detail["ignore_severing"], 10
    )
    scene.line(
        f"the device kept sending all the same: {count:.0f} messages silently ignored and counted",
        f"journals: {len(taken)} of its readings taken since, none answered",
        holds=not taken and not scene.since(SWITCHED, "recommendation", since + 1.0),
    )


async def _return(scene: Scene) -> None:
    again = time.time()
    scene.owners.enable(SWITCHED)
    await scene.fleet.until("it works again", lambda: bool(scene.since(SWITCHED, "recommendation", again)), 40)
    steps = [
        scene.since(SWITCHED, kind, again) for kind in ("deal-accepted", "introduced", "session-open", "recommendation")
    ]
    scene.line(
        "switched on again, it went through dispatch afresh",
        f"journals: new deal, new introduction, new session {steps[2][0].at - again:.0f} s after the owner's word",
        holds=all(steps) and [s[0].at for s in steps] == sorted(s[0].at for s in steps),
    )


async def rotate(scene: Scene) -> None:
    """Everyone re-keys; what was recorded before opens nowhere afterwards."""
    talkers = [m for m in scene.fleet.members.values() if m.kind is not Kind.RELAY]
    async with Tap(scene.relays) as tap:
        copies = {m.name: scene.copy(m, "before") for m in talkers}
        begun = time.time()
        await scene.fleet.until("some messages under the old epoch", lambda: len(tap.sent_after(begun)) >= SAMPLE, 20)
        recorded = tap.sent_after(begun)
        scene.owners.rotate(scene.fleet.prepare_epoch(2), lead=LEAD, grace=GRACE)
        await scene.fleet.until(
            "every worker retires the old epoch and has the key of the new one",
            lambda: all(_retired(scene, m.name) and _keyed(scene, m) for m in talkers),
            60,
        )
    then = sum(opened_by(copies[m.name], m.key, recorded) for m in talkers)
    after = {m.name: scene.copy(m, "after") for m in talkers}
    now = sum(opened_by(after[m.name], m.key, recorded) for m in talkers)
    kept = [m.name for m in talkers if epoch_keys(after[m.name], m.key, range(1, 2))]
    async with scene.client() as client:
        latest, _ = await ServiceContract(client).configuration()
    keys = sum(scene.has(m.name, "epoch-key", version=2) for m in talkers) + 1
    scene.line(
        f"the configuration rotated: all {len(talkers)} workers re-keyed",
        f"chain: version {latest.version if latest else 0}; journals: {keys} hold epoch key 2 and retired version 1",
        holds=latest is not None and latest.version == 2 and keys == len(talkers),  # noqa: PLR2004
    )
    scene.line(
        f"after the grace the old epoch opens nothing: {now} of {len(recorded)} recorded envelopes",
        f"databases: seized before, they open {then}; seized after, {now}; keys of version 1 left: {len(kept)}",
        holds=then >= SAMPLE // 2 and now == 0 and not kept,
    )
    await _nothing_lost(scene)


async def _nothing_lost(scene: Scene) -> None:
    sums = {}
    for name in scene.sensors():
        taken = scene.fleet.journal(name, "recommendation")
        sums[name] = (sum(e.detail["rows"] for e in taken), max(e.detail["through"] for e in taken))
    kept = {name: _taken(scene, name, "new") for name in scene.sensors()}
    refused = {name: _taken(scene, name, "refused") for name in scene.sensors()}
    rows = sum(total for total, _ in sums.values())
    lost = [name for name in sums if scene.fleet.journal(name, "readings-overflow")]
    whole = all(total == through <= kept[name] + refused[name] for name, (total, through) in sums.items())
    honest = all(count == 0 for name, count in refused.items() if name != SWITCHED)
    scene.line(
        f"no accepted message was lost: {rows} readings answered, each sensor's without a gap",
        f"journals: processors stored {sum(kept.values())}; {sum(refused.values())} refused, all from the switched-off "
        "sensor and over a week old",
        holds=whole and honest and not lost,
    )


def _taken(scene: Scene, sensor: str, how: str) -> int:
    me = scene.fleet.members[sensor].id
    entries = [e for name in scene.processors() for e in scene.fleet.journal(name, "readings")]
    return sum(entry.detail[how] for entry in entries if entry.detail["sensor"] == me)


def _retired(scene: Scene, name: str) -> bool:
    return scene.has(name, "epoch-retired", version=1)


def _keyed(scene: Scene, member: Member) -> bool:
    """Whether a worker was granted the new epoch's key; the oracle drew it."""
    return member.kind is Kind.ORACLE or scene.has(member.name, "epoch-key", version=2)


async def crash(scene: Scene) -> None:
    """Kill a processor without warning; it picks up where it was."""
    member, sensors = _busiest(scene)
    name = member.name
    before, opened = scene.fleet.status(name), len(scene.fleet.journal(name, "session-open"))
    scene.fleet.kill(name)
    week = _newest(member)
    died = time.time()
    scene.fleet.start(name)
    await scene.fleet.until("it answers again", lambda: _answered(scene, member, sensors, died), 40)
    after = scene.fleet.status(name)
    kept = len(week & _newest(member, twice=True))
    reopened = len(scene.fleet.journal(name, "session-open")) - opened
    resumed = reopened == 0 and kept == len(week) > 0
    scene.line(
        f"{name} was killed and resumed: same sessions, week cache, model and cursor",
        f"journals: {len(sensors)} sessions resumed, {reopened} new; {kept} of {len(week)} newest readings kept; "
        f"release {before['release']} → {after['release']}, block {before['block']} → {after['block']}",
        holds=resumed and after["release"] >= before["release"] and after["block"] >= before["block"],
    )


def _busiest(scene: Scene) -> tuple[Member, list[str]]:
    """Find the processor most sensors work with, and those sensors."""
    served: dict[str, list[str]] = {}
    for sensor in scene.sensors():
        served.setdefault(scene.processor_of(sensor), []).append(sensor)
    name = max(served, key=lambda processor: len(served[processor]))
    return scene.fleet.members[name], served[name]


def _answered(scene: Scene, member: Member, sensors: list[str], since: float) -> bool:
    answers = ((name, scene.since(name, "recommendation", since)) for name in sensors)
    return all(any(entry.detail["processor"] == member.id for entry in entries) for _, entries in answers)


def _newest(member: Member, *, twice: bool = False) -> set[tuple[str, float]]:
    """The newest readings in a processor's week, by device and time; `twice` looks back twice as far."""
    limit = SAMPLE * (200 if twice else 10)
    with Database.observe(member.folder / "state" / "worker.db") as database:
        days = [day for (day,) in database.execute("SELECT day FROM series_day ORDER BY day DESC LIMIT 9").fetchall()]
        found = [row for day in days for row in database.execute(f"SELECT device, time FROM series_{day}").fetchall()]  # noqa: S608
    return set(sorted(found, key=lambda row: row[1], reverse=True)[:limit])
