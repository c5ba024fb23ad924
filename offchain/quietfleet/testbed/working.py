"""The acts of a good day: sensors meet processors, readings flow, the season moves and the model with it."""

from __future__ import annotations

import time
from typing import Final

from quietfleet.chain.channel import ReleaseState
from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.service import ServiceContract
from quietfleet.crypto import keccak256
from quietfleet.storage import AuditEntry
from quietfleet.testbed.founding import CHANNEL, FAN_FILE, STUCK, VENTED, WAVES
from quietfleet.testbed.founding import SWITCHED as DROPS
from quietfleet.testbed.scene import Scene

STICKS_AFTER: Final = 8.0  # seconds, which are days of data, after the first answers
SOUND: Final = 2  # of three sensors
WINDOW: Final = 30 * 86_400  # seconds, in which the gateway's names for devices stay the same


async def meet(scene: Scene) -> None:
    """Each sensor finds a processor; nobody is named before both have accepted."""
    sensors = scene.sensors()
    await scene.fleet.until(
        "every sensor has a session", lambda: all(scene.has(s, "session-open") for s in sensors), 40
    )
    orderly = all(_accepted_first(scene, name) for name in sensors)
    pairs = {name: scene.last(name, "session-open").detail["peer"] for name in sensors}
    async with scene.client() as client:
        service = ServiceContract(client)
        allowed = [await service.can_cooperate(scene.fleet.members[name].id, peer) for name, peer in pairs.items()]
    scene.line(
        "3 sensors found processors through the oracle; identities followed acceptance by both",
        f"journals: accepted → introduced → session; chain: canCooperate for {sum(allowed)} of 3 pairs",
        holds=orderly and all(allowed),
    )


def _accepted_first(scene: Scene, sensor: str) -> bool:
    introduced = scene.first(sensor, "introduced")
    processor = scene.name_of(introduced.detail["peer"])
    there = scene.first(processor, "introduced", peer=scene.fleet.members[sensor].id)
    accepted = max(scene.first(sensor, "deal-accepted").at, scene.first(processor, "deal-accepted").at)
    return accepted <= min(introduced.at, there.at)


async def work(scene: Scene) -> None:
    """Readings flow, recommendations return."""
    sensors = scene.sensors()
    await scene.fleet.until("every sensor gets a forecast", lambda: all(scene.forecasts(s) for s in sensors), 40)
    last = {name: scene.forecasts(name)[-1].detail for name in sensors}
    advice = last[sensors[0]]
    scene.line(
        f"readings flow, recommendations return: “{advice['advice']}”, {advice['forecast']} °C in 3 h, "
        f"{advice['confidence']:.0%} sure",
        f"journals: model release {advice['release']} answered all 3 sensors",
        holds=all(detail["release"] >= 1 for detail in last.values()),
    )


async def ventilate(scene: Scene) -> None:
    """A forecast has a fan turned, within the limits of its device, which says what came of it."""
    fan = scene.fleet.members[VENTED].folder / FAN_FILE
    await scene.fleet.until("what the fan did is told", lambda: bool(_effects(scene)), 60)
    told = _effects(scene)[0].detail
    taken, shown = scene.first(VENTED, "command-taken").detail, int(fan.read_text())
    limits = scene.fleet.members[VENTED].settings.sensor.actuators[0]
    scene.line(
        f"a forecast turned the fan of {VENTED} to {told['asked']:.0f} of {limits.high:.0f}; it told the effect under "
        f"its signature: {told['before']} °C before, {told['after']} °C {limits.settle / 3600:.0f} h later",
        f"the fan's file reads {shown}; journals: command issued, checked against the device's own limits, taken",
        holds=limits.low <= taken["value"] <= limits.high
        and told["value"] == told["asked"] == taken["value"]
        and limits.low <= shown <= limits.high,
    )


def _effects(scene: Scene) -> list[AuditEntry]:
    entries = [entry for name in scene.processors() for entry in scene.fleet.journal(name, "command-effect")]
    return [entry for entry in entries if entry.detail["did"] == "moved" and entry.detail["after"] is not None]


async def drift(scene: Scene) -> None:
    """The season moves for all; one sensor sticks."""
    begun = max(scene.first(sensor, "recommendation").at for sensor in scene.sensors())
    await scene.fleet.until("some days have passed", lambda: time.time() > begun + STICKS_AFTER, 60)
    stuck_since = scene.data_time()
    scene.fault(STUCK, stuck=True)
    await scene.fleet.until("the stuck sensor is quarantined", lambda: bool(_quarantines(scene)), 20)
    await scene.fleet.until("it has answered under its signature", lambda: bool(_recalibrated(scene)), 30)
    await scene.fleet.until("drift is called and shared", lambda: scene.has("gateway", "drift-shared"), 30)
    await scene.fleet.until("both processors run the new release", lambda: _renewed(scene), 40)
    await scene.fleet.until("the new release is completed on chain", lambda: _closed(scene) > 1, 20)
    await scene.fleet.until("the sound sensors' data pass that day", lambda: _ahead(scene, stuck_since) == SOUND, 30)
    shared = scene.first("gateway", "drift-shared").detail
    scene.line(
        f"the season moved: {', '.join(shared['channels'])} drifted {shared['percent']:.0f} % (threshold 70) "
        "on all sound sensors → retrained",
        "journals: processors reported, the gateway judged all devices together",
        holds=shared["percent"] > 70,  # noqa: PLR2004 - the paper's threshold
    )
    await _in_waves(scene)
    await _completed(scene)
    _spared(scene, stuck_since)
    scene.fault(STUCK, stuck=False)


async def lose(scene: Scene) -> None:
    """A sensor loses every other reading: its forecasts go on from what stands in for them, and nobody retrains."""
    begun, runs = time.time(), len(scene.fleet.journal("gateway", "run-triggered"))
    scene.fault(DROPS, drops=True)
    await scene.fleet.until("the loss raises an alarm", lambda: bool(_alarms(scene, DROPS, "gap", begun)), 30)
    await scene.fleet.until("forecasts go on", lambda: bool(_stood_in(scene, DROPS, begun)), 20)
    scene.fault(DROPS, drops=False)
    alarm, advice = _alarms(scene, DROPS, "gap", begun)[0].detail, _stood_in(scene, DROPS, begun)[-1].detail
    retrained = len(scene.fleet.journal("gateway", "run-triggered")) - runs
    scene.line(
        f"a sensor lost every other reading ({alarm['sure']:.0%} sure): its forecasts went on ({advice['fallback']})",
        f"journals: alarm {alarm['number']} at its processor, {', '.join(alarm['actions'])}; at the sensor "
        f"{advice['forecast']} °C; {retrained} runs begun for it",
        holds=advice["forecast"] is not None and retrained == 0,
    )


def _alarms(scene: Scene, sensor: str, cause: str, since: float) -> list[AuditEntry]:
    who = scene.fleet.members[sensor].id
    raised = [entry for name in scene.processors() for entry in scene.since(name, "alarm", since)]
    return [entry for entry in raised if (entry.detail["sensor"], entry.detail["cause"]) == (who, cause)]


def _stood_in(scene: Scene, sensor: str, since: float) -> list[AuditEntry]:
    said = scene.since(sensor, "recommendation", since)
    return [entry for entry in said if entry.detail.get("fallback") and entry.detail["forecast"] is not None]


async def _in_waves(scene: Scene) -> None:
    """One processor tried the release; only when it had said that all is well did the other get it."""
    canary, other = sorted((scene.last(name, "release-installed") for name in scene.processors()), key=lambda e: e.at)
    sequence = scene.last("gateway", "release-completed").detail["sequence"]
    opened = [e for e in scene.fleet.journal("gateway", "release-opened") if e.detail["sequence"] == sequence]
    waves = [(entry.detail["wave"], entry.detail["of"]) for entry in opened]
    async with scene.client() as client:
        headers = [await client.header(entry.detail["block"]) for entry in opened]
    mined = [header.timestamp for header in headers if header]
    scene.line(
        f"wave 1 of {WAVES} opened release {sequence} to one processor; the other got it in wave 2, after its report",
        f"chain: waves opened in blocks {' and '.join(str(entry.detail['block']) for entry in opened)}; journals: "
        f"taken up {canary.at - opened[0].at:.1f} s and {other.at - opened[0].at:.1f} s after the first",
        holds=waves == [(wave, WAVES) for wave in range(1, WAVES + 1)]
        and mined[0] <= canary.at < opened[1].at
        and mined[1] <= other.at,
    )


async def _completed(scene: Scene) -> None:
    channel = keccak256(CHANNEL.encode())
    installed = {scene.last(name, "release-installed").detail["manifest"] for name in scene.processors()}
    manifest = bytes.fromhex(min(installed))
    async with scene.client() as client:
        releases = ReleasesContract(client)
        head, record = await releases.head(channel), await releases.release(channel, manifest)
    told = scene.last("gateway", "release-completed").detail
    scene.line(
        f"release {head.sequence} proposed, approved, opened and completed on chain; both processors took it up",
        f"chain: {head.state.name.lower()}, manifest hash = hash each processor verified before installing; "
        f"gateway: {told['succeeded']} took it up, {told['failed']} did not",
        holds=len(installed) == 1
        and (head.state, head.completed) == (ReleaseState.COMPLETED, head.sequence)
        and (record.sequence, record.completed) == (head.sequence, True)
        and (told["sequence"], told["succeeded"], told["failed"]) == (head.sequence, len(scene.processors()), 0),
    )


def _spared(scene: Scene, stuck_since: float) -> None:
    """The data set aside never reached the store that models are trained from."""
    quarantine = _quarantines(scene)[0].detail
    newest = _newest(scene, stuck_since)
    answer = _recalibrated(scene)[0].detail
    behind = [device for device, end in newest.items() if end < stuck_since]
    trained = [entry.detail["newest"].values() for entry in scene.fleet.journal("gateway", "training")]
    clean = all(sum(end >= stuck_since for end in ends) <= SOUND for ends in trained)
    scene.line(
        f"the stuck sensor was quarantined ({quarantine['reason']}) and asked to recalibrate, not trained on",
        f"journals: it answered “{answer['did']}” under its signature; gateway: {len(behind)} of {len(newest)} devices "
        "has no reading from after it stuck, nor had any training set",
        holds=len(behind) == 1 and len(newest) == 1 + SOUND and clean,
    )


def _ahead(scene: Scene, moment: float) -> int:
    return sum(end > moment for end in _newest(scene, moment).values())


def _newest(scene: Scene, moment: float) -> dict[str, float]:
    """When the newest reading of each device in the gateway's store is from, in data time, by the tags of its trail.

    A device has another tag in each window of the store: only those of the window of that moment count.
    """
    newest: dict[str, float] = {}
    for entry in scene.fleet.journal("gateway", "data-written"):
        device, until = entry.detail["device"], entry.detail["until"]
        if until // WINDOW == moment // WINDOW:
            newest[device] = max(until, newest.get(device, until))
    return newest


def _renewed(scene: Scene) -> bool:
    return all(
        (entry := scene.maybe_last(name, "release-installed")) is not None and entry.detail["sequence"] > 1
        for name in scene.processors()
    )


def _closed(scene: Scene) -> int:
    """The newest release the gateway has closed, by number."""
    entry = scene.maybe_last("gateway", "release-completed")
    return entry.detail["sequence"] if entry else 0


def _quarantines(scene: Scene) -> list[AuditEntry]:
    return _of_stuck(scene, "quarantined")


def _recalibrated(scene: Scene) -> list[AuditEntry]:
    return _of_stuck(scene, "recalibrated")


def _of_stuck(scene: Scene, kind: str) -> list[AuditEntry]:
    """What processors wrote down about the sensor that sticks."""
    stuck = scene.fleet.members[STUCK].id
    entries = [entry for name in scene.processors() for entry in scene.fleet.journal(name, kind)]
    return [entry for entry in entries if entry.detail["sensor"] == stuck]
