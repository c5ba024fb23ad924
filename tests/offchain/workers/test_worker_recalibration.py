from __future__ import annotations

import asyncio
import math
import random

import msgspec
import pytest
from worker_world import DAY, HOUR, Pen, Source

from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256, recover
from quietfleet.errors import DataRejected
from quietfleet.monitor.recalibration import Affine, Attested, Did, Recalibration
from quietfleet.settings import RecalibrationSection
from quietfleet.testbed.faulty import FaultyRuntime, FaultySensor, StickingSource
from quietfleet.workers import _training as training
from quietfleet.workers.gateway import Gateway
from quietfleet.workers.messages import (
    AttestationHeard,
    FetchRelease,
    NoSuchRelease,
    Recalibrate,
    Recalibrated,
    RecalibrationAttested,
    Stored,
    Upload,
)

USUAL = {"sensor": 0.0, "second": 1.0, "third": -1.0, "fourth": 0.5}  # °C above the site
MINUTE = 60.0
LEARNED = 4 * 24  # hours after which usual distances are known


def weather(hour):
    return 10.0 + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7)


def readings(name, first, last, fault=lambda value: value, noise=0.1):
    scatter = random.Random(f"{name} {first}")
    return [
        (hour * HOUR, {"temp": round(fault(weather(hour) + USUAL[name] + scatter.gauss(0, noise)), 3)})
        for hour in range(first, last)
    ]


class Site:
    """Sensors of one place, and what is wrong with whom."""

    def __init__(self, world, names):
        self.world, self.names = world, names
        self.faults = {}

    def __getitem__(self, name):
        return self.world.workers[name]

    async def live(self, first, last):
        """Have everybody measure these hours, four days at a time, as its fault lets it."""
        for start in range(first, last, 96):
            end = min(last, start + 96)
            for name in self.names:
                self[name].measure(readings(name, start, end, self.faults.get(name, lambda value: value)))
            await self.world.pass_time(2)

    async def ask(self, name, reason="by hand", channels=()):
        """Ask one, and let it be answered."""
        processor, asked = self["processor"], []
        device = self[name].id
        await processor.do(lambda: asked.append(processor.agent._recalibrations.ask(device, reason, channels)))
        await self.world.pass_time(4)
        return asked[0]

    def shown(self, name, hour):
        """What the processor has of an hour."""
        ((_, fields),) = self["processor"].agent._week.window(self[name].id, hour * HOUR, hour * HOUR + 1)
        return fields["temp"]


@pytest.fixture
def make_site(world):
    async def make(*names, **settings):
        world.recalibration = RecalibrationSection(**settings)
        await world.add("oracle", Kind.ORACLE)
        gateway = await world.add("gateway", Kind.GATEWAY, agent=Pen)
        gateway.agent.answers = {
            Upload: lambda upload: Stored(len(upload.rows)),
            FetchRelease: lambda fetch: NoSuchRelease(fetch.sequence),
            RecalibrationAttested: lambda said: AttestationHeard(said.signed.attested.evidence),
        }
        processor = await world.add("processor", Kind.PROCESSOR)
        for name in names:
            await world.add(name, Kind.SENSOR)
        await world.rotate()
        await world.until(lambda: all(world.workers[name].in_session_with(processor) for name in names))
        await world.until(lambda: processor.in_session_with(gateway))
        return Site(world, names)

    return make


@pytest.fixture
async def site(make_site):
    """Three sensors whose usual distances are known, one of which reads 4 °C too much from then on."""
    site = await make_site("sensor", "second", "third")
    await site.live(0, LEARNED)
    await site.world.pass_time(12)
    site.faults["sensor"] = lambda value: value + 4.0
    await site.live(LEARNED, LEARNED + 48)
    return site


async def test_asked__reads_too_much__corrected_by_what_its_peers_say_and_reads_right_from_then_on(site):
    assert await site.ask("sensor", "temp left its peers")
    (told,) = site["processor"].journal("recalibrated")
    offset, gain = told["in_force"]["temp"]
    assert (told["did"], gain) == ("corrected", 1.0)
    assert offset == pytest.approx(-4.0, abs=0.2)
    await site.live(LEARNED + 48, LEARNED + 60)
    hour = LEARNED + 50
    assert site.shown("sensor", hour) == pytest.approx(weather(hour), abs=0.6)


async def test_corrected__for_good__the_restarted_sensor_goes_on_so(site):
    await site.ask("sensor")
    site["sensor"].restart()
    await site.live(LEARNED + 48, LEARNED + 60)
    hour = LEARNED + 59
    assert site.shown("sensor", hour) == pytest.approx(weather(hour), abs=0.6)


async def test_corrected__told_upwards__under_its_pseudonym_by_the_processors_word(site):
    await site.ask("sensor")
    gateway, processor, sensor = site["gateway"].agent, site["processor"], site["sensor"]
    await site.world.until(lambda: gateway.heard(RecalibrationAttested) != [])
    await site.world.pass_time(30)
    (said,) = gateway.heard(RecalibrationAttested)
    attested = said.signed.attested
    assert attested.device == processor.agent._devices.pseudonym(sensor.id)
    assert attested.device in {upload.device for upload in gateway.heard(Upload)}
    assert recover(attested.digest, said.signed.signature).id == processor.id
    told = msgspec.msgpack.encode(said)
    (kept,) = processor.agent._recalibrations.history()
    assert sensor.id[2:].encode() not in told
    assert bytes.fromhex(kept["signature"]) not in told, "by which anybody would know the sensor's key"
    assert attested.evidence == keccak256(bytes.fromhex(kept["signature"])), "and the processor can still be held to it"


async def test_corrected__a_second_time__nothing_left_to_correct(site):
    await site.ask("sensor")
    await site.live(LEARNED + 48, LEARNED + 72)
    await site.world.pass_time(60, step=10)
    await site.ask("sensor")
    last = site["processor"].agent._recalibrations.history()[-1]
    assert last["withheld"] == {"temp": "nothing to correct"}
    assert last["state"] == "checked"
    assert site["sensor"].source.recalibrated == 1


async def test_usual_distance__of_a_sound_device__is_not_taken_for_a_fault(make_site):
    site = await make_site("sensor", "second", "third")
    await site.live(0, LEARNED)
    await site.world.pass_time(12)
    await site.live(LEARNED, LEARNED + 24)
    await site.ask("second")
    (last,) = site["processor"].agent._recalibrations.history()
    assert (last["proposed"], last["withheld"]) == ({}, {"temp": "nothing to correct"})


async def test_side_by_side__reads_otherwise_from_the_first_day__corrected_to_the_others(make_site):
    site = await make_site("sensor", "second", "third", "fourth", side_by_side=True)
    site.faults["sensor"] = lambda value: value + 4.0
    await site.live(0, 30)
    await site.ask("sensor")
    (told,) = site["processor"].journal("recalibrated")
    assert told["in_force"]["temp"][0] == pytest.approx(-3.5, abs=0.3), "what the median of 1, -1 and 0.5 comes to"


async def test_peers__set_aside__are_no_measure(site):
    processor = site["processor"]
    third = site["third"].id
    await processor.do(lambda: processor.agent._devices.set_aside(third, "temp stuck"))
    proposed, withheld = processor.agent._recalibrations._proposal(site["sensor"].id, ())
    assert (proposed, withheld) == ({}, {"temp": "too few peers"})


async def test_peers__collude_below_half__cannot_pull_a_sound_device(make_site):
    site = await make_site("sensor", "second", "third", "fourth")
    await site.live(0, LEARNED)
    await site.world.pass_time(12)
    site.faults["fourth"] = lambda value: value + 6.0
    await site.live(LEARNED, LEARNED + 48)
    proposed, withheld = site["processor"].agent._recalibrations._proposal(site["sensor"].id, ())
    assert (proposed, withheld) == ({}, {"temp": "nothing to correct"})


async def test_peers__one_of_two_lies__no_measure_any_more(make_site):
    site = await make_site("sensor", "second", "third")
    await site.live(0, LEARNED)
    await site.world.pass_time(12)
    site.faults["third"] = lambda value: value + 6.0
    await site.live(LEARNED, LEARNED + 48)
    proposed, withheld = site["processor"].agent._recalibrations._proposal(site["sensor"].id, ())
    assert (proposed, withheld) == ({}, {"temp": "peers disagree"})


# when


async def test_schedule__uneven_ages__young_devices_more_often_and_not_all_at_once(make_site):
    site = await make_site("sensor", "second", "third", every=["2m", "6m"])
    begun = site.world.clock.now()
    times = {site[name].id: [] for name in site.names}
    await site.world.pass_time(14 * MINUTE, step=10)
    for entry in site["processor"].agent._recalibrations.history():
        assert (entry["reason"], entry["state"]) == ("schedule", "checked")
        times[entry["sensor"]].append((entry["asked"] - begun) / MINUTE)
    for first, second, third in times.values():
        assert 1.5 <= first <= 2.5
        assert 5.5 <= second <= 6.8
        assert 3.9 <= third - second <= 4.8
    assert len(set(map(tuple, times.values()))) > 1


async def test_schedule__nothing_to_correct__judged_as_before(make_site):
    site = await make_site("sensor", "second", "third", every="2m")
    await site.world.pass_time(3 * MINUTE, step=10)
    processor = site["processor"]
    assert [one["state"] for one in processor.agent._recalibrations.history()] == ["checked"] * 3
    assert [processor.agent._devices.judged_after(site[name].id) for name in site.names] == [0, 0, 0]
    assert site["gateway"].agent.heard(RecalibrationAttested) == []


async def test_schedule__off_for_most_of_the_week__corrected(make_site):
    site = await make_site("sensor", "second", "third", every="2m")
    await site.live(0, LEARNED)
    await site.world.pass_time(12)
    site.faults["sensor"] = lambda value: value + 4.0
    await site.live(LEARNED, LEARNED + 160)
    await site.world.pass_time(3 * MINUTE, step=10)
    (told,) = [one for one in site["processor"].agent._recalibrations.history() if one["state"] == "corrected"]
    assert told["sensor"] == site["sensor"].id
    assert told["in_force"]["temp"][0] == pytest.approx(-4.0, abs=0.3)


async def test_schedule__none__nobody_is_asked(make_site):
    site = await make_site("sensor", every="")
    site.world.clock.advance(400 * DAY)
    await site.world.pass_time(12)
    assert site["processor"].journal("recalibration-asked") == []


async def test_requested__by_a_person__asked_once_for_these_channels(site):
    processor = site["processor"]
    ledger = processor.agent._recalibrations._kept
    await processor.do(lambda: ledger.request(site["sensor"].id, ["dewp"], "moved"))
    await processor.do(lambda: ledger.request("0x" + "00" * 20, [], "mistyped"))
    await site.world.pass_time(30)
    (entry,) = processor.agent._recalibrations.history()
    assert (entry["reason"], entry["proposed"], entry["withheld"]) == ("moved", {}, {})
    assert processor.journal("recalibration-not-asked") == [{"sensor": "0x" + "00" * 20, "reason": "no such device"}]


async def test_requested__to_learn_anew_where_it_stands_now__its_new_distance_is_the_usual_one(site):
    processor, sensor = site["processor"], site["sensor"]
    ledger = processor.agent._recalibrations._kept
    assert sensor.id in ledger.levels("temp")
    await processor.do(lambda: ledger.request(sensor.id, [], "moved", relearn=True))
    await site.world.pass_time(16)
    assert processor.agent._recalibrations.history()[-1]["state"] == "checked"
    assert sensor.id not in ledger.levels("temp"), "until there are readings of the new place"
    await site.live(LEARNED + 48, LEARNED + 48 + 80)
    await site.world.pass_time(12)
    assert ledger.levels("temp")[sensor.id][5] == pytest.approx(USUAL["sensor"] + 4.0, abs=0.3)
    await site.world.pass_time(40, step=10)
    await site.ask("sensor")
    assert processor.agent._recalibrations.history()[-1]["withheld"] == {"temp": "nothing to correct"}


async def test_asked__says_nothing__unanswered_and_asked_again_at_its_turn(site):
    sensor = site["sensor"]
    site.world.lose = lambda sender, _envelope: sender is sensor
    await site.ask("sensor")
    await site.world.until(lambda: site["processor"].journal("recalibration-unanswered") != [], within=120)
    site.world.lose = lambda _sender, _envelope: False
    assert [one["state"] for one in site["processor"].agent._recalibrations.history()] == ["unanswered"]


# attackers


@pytest.fixture
async def lying(world):
    """A sensor, and a processor that says what the test has it say."""
    await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.journal("session-open") != [])
    heard = []
    processor.agent._recalibrations.take = lambda _event, body: heard.append(body.signed)

    async def ask(nonce, **proposed):
        body = Recalibrate("because", nonce, {channel: Affine(*one) for channel, one in proposed.items()})
        messenger = processor.runtime.messenger
        await processor.do(lambda: messenger.request(sensor.id, body, (Recalibrated,), 20.0, "recalibration"))
        await world.pass_time(2)
        return heard[-1].result

    return world, sensor, ask


async def test_processor__proposes_the_absurd__refused_over_the_sensors_signature(lying):
    _, sensor, ask = lying
    result = await ask(bytes(16), temp=(40.0, 1.0), humid=(0.0, 3.0), salt=(0.1, 1.0))
    assert result.did is Did.REFUSED
    assert result.in_force == {}
    assert result.refused == {"temp": "beyond limits", "humid": "beyond limits", "salt": "no limits for it"}
    assert sensor.journal("recalibrating")[-1]["did"] == "refused"


async def test_processor__proposes_little_again_and_again__walks_no_further_than_the_limits(lying):
    world, sensor, ask = lying
    for number in range(8):
        await world.pass_time(60, step=10)
        result = await ask(bytes([number]) * 16, temp=(1.0, 1.02))
    assert result.refused == {"temp": "beyond limits"}
    total = sensor.agent._corrected.in_force["temp"]
    assert abs(total(15.0) - 15.0) <= 8.0
    assert total.gain <= 1.1
    await world.pass_time(60, step=10)
    assert (await ask(b"\xff" * 16, temp=(-1.0, 1.0))).did is Did.CORRECTED, "and there is a way back"


async def test_processor__asks_the_same_twice__acted_on_once_and_answered_the_same(lying):
    _, sensor, ask = lying
    first = await ask(bytes(16), temp=(1.0, 1.0))
    second = await ask(bytes(16), temp=(1.0, 1.0))
    assert first == second
    assert sensor.agent._corrected.in_force == {"temp": Affine(1.0, 1.0)}


async def test_processor__asks_without_end__corrected_once_a_minute(lying):
    _, _, ask = lying
    await ask(bytes(16), temp=(1.0, 1.0))
    assert (await ask(b"\1" * 16, temp=(1.0, 1.0))).refused == {"temp": "too soon"}


async def test_oracle__asks_a_sensor_to_recalibrate__not_heeded(fleet, sensor):
    oracle = fleet.workers["oracle"]
    body = Recalibrate("because", bytes(16), {"temp": Affine(1.0, 1.0)})
    await oracle.do(lambda: oracle.runtime.messenger.request(sensor.id, body, (Recalibrated,), 20.0, "recalibration"))
    await fleet.pass_time(2)
    assert sensor.agent._corrected.in_force == {}
    assert sensor.metric("recalibrations_ignored", reason="not our processor") == 1


@pytest.fixture
async def asked(site):
    """A question that is open, and what the sensor may answer it with."""
    sensor, processor = site["sensor"], site["processor"]
    sensor.agent._calibration.take = lambda event, body: questions.append((event, body))
    questions = []
    await site.ask("sensor")
    ((event, body),) = questions

    async def answer(signed):
        await sensor.do(lambda: sensor.runtime.messenger.reply(event, Recalibrated(signed)))
        await site.world.pass_time(2)
        return processor

    return site, body, answer


async def test_answer__signed_by_another__refused(asked):
    site, body, answer = asked
    result = Recalibration(body.nonce, Did.CORRECTED, 0.0, {"temp": Affine(-4.0, 1.0)})
    processor = await answer(result.signed(site["second"].key))
    assert processor.metric("recalibrations_refused", reason="forged") == 1
    assert processor.journal("recalibrated") == []


async def test_answer__altered_under_its_signature__refused(asked):
    site, body, answer = asked
    signed = Recalibration(body.nonce, Did.CHECKED, 0.0).signed(site["sensor"].key)
    altered = msgspec.structs.replace(signed.result, in_force={"temp": Affine(-4.0, 1.0)})
    processor = await answer(msgspec.structs.replace(signed, result=altered))
    assert processor.metric("recalibrations_refused", reason="forged") == 1


async def test_answer__to_an_earlier_question__refused(asked):
    site, _, answer = asked
    processor = await answer(Recalibration(bytes(16), Did.CORRECTED, 0.0).signed(site["sensor"].key))
    assert processor.metric("recalibrations_refused", reason="replayed") == 1
    assert processor.agent._recalibrations.history()[-1]["state"] == "waiting"


async def test_answer__dated_years_ahead__judged_from_now_on_at_the_latest(asked):
    site, body, answer = asked
    far = site.world.data.now() + 1000 * DAY
    processor = await answer(Recalibration(body.nonce, Did.CORRECTED, far).signed(site["sensor"].key))
    assert processor.agent._devices.judged_after(site["sensor"].id) <= site.world.data.now() + HOUR


# a fault that is found


def humidity(name, first, last):
    scatter = random.Random(f"{name} {first}")
    return [
        (hour * HOUR, {"humid": round(85 + 6 * math.sin(hour / 24 * math.tau) + scatter.gauss(0, 0.4), 2)})
        for hour in range(first, last)
    ]


async def test_fault__reads_more_than_there_can_be__set_aside_corrected_and_taken_back(world, tmp_path):
    await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.add("second", Kind.SENSOR)
    await world.add("third", Kind.SENSOR)
    source = Source()
    faulty = await world.add(
        "sensor",
        Kind.SENSOR,
        runtime=FaultyRuntime,
        agent=lambda runtime: FaultySensor(runtime, StickingSource(source, runtime.faults)),
    )
    faulty.source = source
    await world.rotate()
    names = ("sensor", "second", "third")
    await world.until(lambda: all(world.workers[name].in_session_with(processor) for name in names))

    async def live(first, last):
        for start in range(first, last, 12):
            for name in names:
                world.workers[name].measure(humidity(name, start, start + 12))
            await world.pass_time(20, step=5)

    await live(0, 96)
    (tmp_path / "faults.json").write_text('{"off": {"humid": [14.0, 1.0]}}')
    await live(96, 120)
    assert "humid range" in processor.journal("quarantined")[0]["reason"]
    await live(120, 168)
    last = processor.agent._recalibrations.history()[-1]
    assert (last["reason"], last["state"]) == ("still set aside", "corrected")
    assert last["in_force"]["humid"][0] == pytest.approx(-14.0, abs=1.0)
    await live(168, 216)
    assert processor.journal("released") != []
    assert processor.agent.status()["devices"][faulty.id] == "fine"
    window = processor.agent._week.window
    ((_, right),) = window(faulty.id, 200 * HOUR, 200 * HOUR + 1)
    ((_, true),) = window(world.workers["second"].id, 200 * HOUR, 200 * HOUR + 1)
    assert right["humid"] == pytest.approx(true["humid"], abs=2.5)


# the gateway


def noted(world, processor, sensor):
    """What the gateway knows of a sensor's recalibrations."""
    gateway = world.workers["gateway"].agent
    device = gateway._intake.veil.find(processor.id, processor.agent._devices.pseudonym(sensor.id))
    return None if device is None else device.restarted


@pytest.fixture
async def above(world):
    """A gateway with two days of a sensor's readings, and how its processor attests what it likes."""
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Waiting)
    processor = await world.add("processor", Kind.PROCESSOR)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.journal("session-open") and processor.in_session_with(gateway))
    for start in (0, 24, 48):
        sensor.measure(readings("sensor", start, start + 24))
        await world.pass_time(3)
    await world.pass_time(4)

    async def attest(key=None, name=None, **facts):
        pseudonym = name or processor.agent._devices.pseudonym(sensor.id)
        said = Attested(pseudonym, Did.CORRECTED, facts.get("since", 40 * HOUR), {}, bytes(32))
        body = RecalibrationAttested(said.signed(key or processor.key))
        ask = processor.runtime.messenger.request
        await processor.do(lambda: ask(gateway.id, body, (AttestationHeard,), 20.0, "recalibrated"))
        await world.pass_time(2)

    return world, gateway, processor, sensor, attest


class Waiting(Gateway):
    """A gateway that does not train yet."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)
        self._begun = True


async def test_attested__of_a_device_here__on_record_and_judged_by_what_came_since(above):
    world, gateway, processor, sensor, attest = above
    await attest()
    assert noted(world, processor, sensor) == 40 * HOUR
    (entry,) = gateway.journal("recalibrated")
    (name,) = gateway.agent._month.devices()
    assert (entry["device"], entry["did"], entry["since"]) == (name, "corrected", 40 * HOUR)
    assert sensor.id[2:].lower() not in str(entry).lower()
    assert processor.id not in str(entry)
    assert gateway.agent._intake.restarts() == {name: 40 * HOUR}
    (rows,) = gateway.agent._intake.of_site("garden", why="a look")[0].values()
    assert min(at for at, _ in rows) > 40 * HOUR
    (all_rows,) = gateway.agent._intake.readings(why="training").values()
    assert min(at for at, _ in all_rows) == 0


async def test_training__after_a_recalibration__says_from_when_on_whose_readings_are_other_ones(above, monkeypatch):
    def refuse(_task):
        raise DataRejected

    monkeypatch.setattr(training, "ENOUGH", 10)
    monkeypatch.setattr(training, "fit", refuse)
    world, gateway, _, _, attest = above
    await attest()
    await gateway.do(lambda: gateway.agent._runs.begin("manual", {}, now=world.clock.now()))
    for _ in range(4):
        await world.pass_time(1)
        await asyncio.gather(*gateway.agent._jobs)
    entry = next(entry for entry in gateway.journal("training") if "recalibrated" in entry)
    (name,) = gateway.agent._month.devices()
    assert entry["recalibrated"] == {name: 40 * HOUR}


async def test_attested__an_older_one_again__sets_nothing_back(above):
    world, _, processor, sensor, attest = above
    await attest()
    await attest(since=10 * HOUR)
    assert noted(world, processor, sensor) == 40 * HOUR


async def test_attested__dated_years_ahead__counts_from_now(above):
    world, _, processor, sensor, attest = above
    await attest(since=1e9)
    assert noted(world, processor, sensor) <= world.data.now() + HOUR


async def test_attested__under_another_key__refused(above):
    world, gateway, processor, sensor, attest = above
    await attest(key=sensor.key)
    assert gateway.metric("attestations_refused", reason="forged") == 1
    assert noted(world, processor, sensor) == 0.0


async def test_attested__of_another_processors_device__nothing_of_it_is_touched(above):
    world, gateway, processor, sensor, attest = above
    (name,) = gateway.agent._month.devices()
    await attest(name=name)
    assert noted(world, processor, sensor) == 0.0
    assert gateway.journal("recalibrated") == []
