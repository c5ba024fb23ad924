"""A processor looks after its devices: what it finds raises an alarm, and the alarm has something done."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from worker_world import HOUR, Pen, hours

from quietfleet.chain.types import Kind
from quietfleet.monitor.rules import Action
from quietfleet.settings import ChannelSection
from quietfleet.workers._fallback import HELD, IMPUTED, SAFE
from quietfleet.workers._quota import APART as SPAN
from quietfleet.workers._uploads import cleaned
from quietfleet.workers._watch import SPARED
from quietfleet.workers.messages import (
    DriftReport,
    DriftVerdict,
    FetchRelease,
    OutcomeHeard,
    Recalibrate,
    ReleaseOutcome,
    SiteVerdict,
    Stored,
    Upload,
)

SENSORS = ("sensor", "sensor-2", "sensor-3")
APART = {"sensor": 0.0, "sensor-2": 1.0, "sensor-3": -1.0}  # °C from the middle of them


def degrees(hour):
    return 10.0 + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7)


@pytest.fixture
async def site(world, candidate):
    """Three sensors of one place at a processor that has a model, and a gateway that notes what comes up."""
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Pen)
    processor = await world.add("processor", Kind.PROCESSOR)
    gateway.agent.answers = {
        Upload: lambda upload: Stored(len(upload.rows)),
        FetchRelease: lambda _: world.bundle(1, candidate),
        ReleaseOutcome: lambda said: OutcomeHeard(said.signed.report.sequence),
        DriftReport: lambda _: DriftVerdict("wait", {}),
    }
    for name in SENSORS:
        await world.add(name, Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.in_session_with(gateway) and len(processor.agent.status()["devices"]) == 3)
    await world.release(1, candidate.manifest_hash)
    await world.until(lambda: processor.journal("release-installed") != [])
    return world


@pytest.fixture
def feed(site):
    """Has every sensor measure some hours, six at a time; `lost` says which of the first's do not come."""

    async def feed(first, last, sticks=None, lost=lambda _hour: False, moved=lambda _hour: 0.0):
        for start in range(first, last, 6):
            for name in SENSORS:
                stuck = sticks if name == "sensor" else None

                def read(hour, name=name, stuck=stuck):
                    off = moved(hour) if name == "sensor" else 0.0
                    return degrees(stuck if stuck is not None and hour >= stuck else hour) + APART[name] + off

                rows = hours(last, 0.0, read)[start : start + 6]
                rows = [row for row in rows if name != "sensor" or not lost(int(row[0] // HOUR))]
                site.workers[name].source.coming = rows
            site.reach((start + 5) * HOUR)
            await site.pass_time(1)
        await site.pass_time(3)

    return feed


def named(world, name="sensor"):
    return world.workers[name].id


def open_alarms(world):
    return world.workers["processor"].agent._watch.alarms.open()


async def test_stuck__raises_an_alarm__set_aside_asked_to_recalibrate_imputed_and_nobody_retrains(site, feed):
    processor, sensor = site.workers["processor"], site.workers["sensor"]
    await feed(0, 48)
    assert open_alarms(site) == []
    await feed(48, 72, sticks=50)
    (alarm,) = open_alarms(site)
    assert (alarm.device, alarm.cause, alarm.channel) == (named(site), "stuck", "temp")
    assert set(alarm.done) == {Action.QUARANTINE, Action.RECALIBRATE, Action.IMPUTE}
    (entry,) = processor.journal("alarm")
    assert (entry["number"], entry["actions"]) == (alarm.number, ["quarantine", "recalibrate", "impute"])
    assert processor.agent.status()["devices"][named(site)] == "temp stuck"
    assert processor.journal("recalibration-asked")[0]["sensor"] == named(site)
    assert sensor.journal("recommendation")[-1]["fallback"] == IMPUTED
    assert processor.journal("quarantined")[0]["alarms"] == [alarm.number]
    assert processor.journal("recalibration-asked")[0]["alarms"] == [alarm.number]
    stood_in = [entry["fallback"] for entry in processor.journal("readings") if "fallback" in entry]
    assert set(stood_in) == {IMPUTED}, "what was done is on record here too"
    assert site.workers["gateway"].agent.heard(DriftReport) == []
    assert processor.agent.status()["alarms"] == 1


async def test_stuck__what_stands_in__is_what_its_neighbours_say_and_goes_nowhere(site, feed):
    processor = site.workers["processor"].agent
    await feed(0, 48)
    await feed(48, 72, sticks=50)
    history = processor._week.window(named(site), 48 * HOUR, 72 * HOUR)
    rows, what = processor._advice._fallbacks.rows(named(site), history, HOUR)
    assert what == IMPUTED
    assert [round(fields["temp"], 3) for _, fields in rows] == [round(degrees(hour), 3) for hour in range(48, 72)]
    assert history[-1][1]["temp"] == round(degrees(50), 3), "what it read is what is kept"
    uploaded = [at for up in site.workers["gateway"].agent.heard(Upload) for at, _ in up.rows]
    assert max(uploaded, default=0) < 60 * HOUR


async def test_samples_dropped__forecasts_go_on_from_what_neighbours_say_until_they_return(site, feed):
    processor, sensor = site.workers["processor"], site.workers["sensor"]
    dice = random.Random(3)
    dropped = {hour for hour in range(48, 84) if dice.random() < 0.5}
    await feed(0, 48)
    await feed(48, 84, lost=dropped.__contains__)
    assert "gap" in {alarm.cause for alarm in open_alarms(site)}
    advised = sensor.journal("recommendation")[-1]
    assert advised["fallback"] == IMPUTED
    assert advised["forecast"] is not None, "without it there were not enough readings in a row"
    assert site.workers["gateway"].agent.heard(DriftReport) == []
    await feed(84, 138)
    assert "gap" not in {alarm.cause for alarm in open_alarms(site)}
    assert "gap" in {entry["cause"] for entry in processor.journal("alarm-over")}
    assert "fallback" not in sensor.journal("recommendation")[-1]
    assert processor.agent.status()["devices"][named(site)] == "fine"


async def test_left_its_peers__after_a_week_together__set_aside_asked_to_recalibrate_and_a_person_may_agree(site, feed):
    processor = site.workers["processor"]
    await feed(0, 168)
    assert set(processor.agent._watch._neighbours.reference.devices) == {named(site, name) for name in SENSORS}
    assert {one.cause for one in open_alarms(site)} <= {"shared drift"}
    await feed(168, 228, moved=lambda hour: 6.0 if hour >= 180 else 0.0)
    (alarm,) = [one for one in open_alarms(site) if one.cause == "left its peers"]
    assert (alarm.device, alarm.channel) == (named(site), "temp")
    assert processor.agent.status()["devices"][named(site)] == "temp left its peers"
    assert named(site) in {entry["sensor"] for entry in processor.journal("recalibration-asked")}
    await processor.do(
        lambda: processor.agent._watch.alarms.change(alarm.number, lambda a: a.approved("anna", "moved"))
    )
    await feed(228, 258, moved=lambda _: 6.0)
    assert processor.agent.status()["devices"][named(site)] == "fine"
    processor.restart()
    assert named(site, "sensor-2") in processor.agent._watch._neighbours.reference.devices, "what was learned is kept"


async def test_relearn__a_person_says_that_it_stands_elsewhere__its_reference_begins_anew_and_the_others_keep_theirs(
    site, feed
):
    processor = site.workers["processor"]
    await feed(0, 168)
    watch, week = processor.agent._watch, processor.agent._week
    request = processor.agent._recalibrations._kept.request
    await processor.do(lambda: request(named(site), [], "another wall", relearn=True))
    await site.pass_time(12)
    assert set(watch._neighbours.reference.devices) == {named(site, "sensor-2"), named(site, "sensor-3")}
    assert watch._judged(named(site), 0.0, 169 * HOUR) == [], "what it read before is of the other wall"
    assert len(week.window(named(site), 0.0, 169 * HOUR)) > 100, "and is kept"
    await feed(168, 228, moved=lambda _hour: 6.0)
    assert [one for one in open_alarms(site) if one.device == named(site)] == []


async def test_silence__neighbours_went_on__found_without_waiting_for_the_next_reading(site, feed):
    await feed(0, 48)
    await feed(48, 60, lost=lambda _: True)
    await site.pass_time(40)
    (alarm,) = [one for one in open_alarms(site) if one.device == named(site)]
    assert (alarm.cause, alarm.detail) == ("gap", "silent")
    assert {one.device for one in open_alarms(site)} == {named(site)}


async def test_override__by_a_person__quarantine_ends_and_stays_away_while_it_lasts(site, feed):
    processor = site.workers["processor"]
    await feed(0, 48)
    await feed(48, 66, sticks=50)
    (alarm,) = open_alarms(site)
    await processor.do(
        lambda: processor.agent._watch.alarms.change(alarm.number, lambda one: one.overridden((), "anna", "dry"))
    )
    await feed(66, 72, sticks=50)
    assert processor.agent.status()["devices"][named(site)] == "fine"
    assert processor.journal("released")[-1]["sensor"] == named(site)


async def test_safe_default__rule_says_so__no_forecast_and_things_are_left_as_they_are(site, feed):
    processor = site.workers["processor"]
    await feed(0, 48)
    await feed(48, 66, sticks=50)
    (alarm,) = open_alarms(site)
    word = (Action.SAFE_DEFAULT,)
    await processor.do(
        lambda: processor.agent._watch.alarms.change(alarm.number, lambda one: one.overridden(word, "anna", "frost"))
    )
    await feed(66, 72, sticks=50)
    advised = site.workers["sensor"].journal("recommendation")[-1]
    assert (advised["advice"], advised["forecast"], advised["fallback"]) == ("leave things as they are", None, SAFE)


async def test_last_known__nobody_beside_it__held_for_six_hours_and_no_longer(site, feed):
    processor = site.workers["processor"].agent
    await feed(0, 48)
    await feed(48, 66, sticks=50)
    (alarm,) = open_alarms(site)
    word = (Action.LAST_KNOWN,)
    await site.workers["processor"].do(
        lambda: processor._watch.alarms.change(alarm.number, lambda one: one.overridden(word, "anna", "alone"))
    )
    fallbacks = processor._advice._fallbacks
    rows, what = fallbacks.rows(named(site), processor._week.window(named(site), 48 * HOUR, 56 * HOUR), HOUR)
    assert (what, rows[-1][1]["temp"]) == (HELD, round(degrees(49), 3))
    assert fallbacks.rows(named(site), processor._week.window(named(site), 48 * HOUR, 57 * HOUR), HOUR) == ([], SAFE)


async def test_alarm__device_of_many_faults__bounded_and_the_others_are_heard(site, feed):
    """A device cannot drown others in alarms of its own making."""
    processor = site.workers["processor"]
    await feed(0, 30)
    wild = [(31 * HOUR + n * HOUR, {f"c{k}": 1.0 for k in range(16)} | {"temp": 999.0}) for n in range(1)]
    site.workers["sensor"].source.coming = [(at, dict(list(fields.items())[:16])) for at, fields in wild]
    site.reach(32 * HOUR)
    await site.pass_time(5)
    assert processor.metric("steps_failed") == 0
    assert len([one for one in open_alarms(site) if one.device == named(site)]) <= 32


async def test_stuck__old_readings_come_late_or_again__do_not_clear_it_and_nothing_of_it_goes_up(site, feed):
    """Else a device at fault that does not answer either is let off by one message of a good old day."""
    processor, agent = site.workers["processor"], site.workers["sensor"].agent
    hears = agent.on_event
    agent.on_event = lambda event: None if isinstance(getattr(event, "body", None), Recalibrate) else hears(event)
    await feed(0, 48)
    await feed(48, 72, sticks=50)
    site.workers["sensor"].source.coming = [(40.5 * HOUR, hours(41, 0.0)[40][1])]
    await site.pass_time(3)
    assert [one.cause for one in open_alarms(site)] == ["stuck"]
    assert processor.agent.status()["devices"][named(site)] == "temp stuck"
    await feed(72, 108, sticks=50)
    sent = site.workers["gateway"].agent.heard(Upload)
    mine = processor.agent._devices.pseudonym(named(site))
    assert max(at for up in sent if up.device == mine for at, _ in up.rows) < 50 * HOUR


async def test_duplicate__two_readings_of_one_time_differ__set_aside_for_a_day_and_the_first_one_stays(site, feed):
    processor = site.workers["processor"]
    await feed(0, 48)
    again = hours(48, 0.0)
    site.workers["sensor"].source.coming = [again[46], (47 * HOUR, {"temp": 25.0})]
    await site.pass_time(3)
    (alarm,) = open_alarms(site)
    assert (alarm.cause, alarm.count, alarm.since) == ("duplicate", 1, 47 * HOUR)
    assert alarm.sure == 1
    assert processor.agent.status()["devices"][named(site)] == "duplicate"
    assert processor.agent._week.window(named(site), 47 * HOUR, 48 * HOUR)[0][1] == again[47][1]
    await feed(48, 66)
    processor.restart()
    assert [one.cause for one in open_alarms(site)] == ["duplicate"], "also by later messages and across a restart"
    await feed(66, 78)
    assert open_alarms(site) == []
    assert processor.agent.status()["devices"][named(site)] == "fine"


async def test_duplicate__the_same_reading_sent_again__is_none(site, feed):
    await feed(0, 48)
    site.workers["sensor"].source.coming = hours(48, 0.0)[30:]
    await site.pass_time(3)
    assert open_alarms(site) == []


# who takes more than its share


async def test_readings__without_end__so_many_an_hour_are_kept_and_the_others_are_heard(site, feed):
    """A sensor cannot fill the week, nor have its processor busy with it alone."""
    processor, sensor = site.workers["processor"], site.workers["sensor"]
    await feed(0, 48)
    flood = [(48 * HOUR + second, {"temp": 11.0 + second % 7 / 10}) for second in range(1, 1200)]
    for first in range(0, len(flood), 240):
        sensor.source.coming = flood[first : first + 240]
        site.reach(48.5 * HOUR)
        await site.pass_time(2)
    kept = [at for at, _ in processor.agent._week.window(named(site), 48 * HOUR, 49 * HOUR)]
    assert len(kept) == 1200 / SPAN
    assert all(later - earlier in (29.0, SPAN) for earlier, later in pairwise(kept)), "thinned out evenly"
    assert processor.metric("readings_beyond") == len(flood) - len(kept)
    assert sensor.journal("recommendation")[-1]["rows"] > 0, "and answered as ever"
    sensor.source.coming = flood[:1]
    await site.pass_time(2)
    assert processor.journal("readings")[-1]["refused"] == 0, "what is kept may come again"
    await feed(49, 60)
    assert "fine" in processor.agent.status()["devices"][named(site, "sensor-2")]
    assert site.workers["sensor-2"].journal("recommendation")[-1]["forecast"] is not None


async def test_look__takes_long__comes_less_often(site, monkeypatch):
    """Whoever makes it take long, by what they send, does not stop everything else."""
    watch = site.workers["processor"].agent._watch
    assert watch.pace == 1.0
    seconds = iter((10.0, 12.0))
    monkeypatch.setattr(site.workers["processor"].runtime, "monotonic", lambda: next(seconds))
    watch.look()
    assert watch.pace == SPARED * 2.0


# what goes up


async def test_upload__fields_that_nobody_named_and_values_that_cannot_be__stay_at_the_processor(site, feed):
    """A sensor that counts people, or a thermometer that was made to say so, tells the cloud nothing of it."""
    processor, sensor = site.workers["processor"], site.workers["sensor"]
    for start in range(0, 48, 6):
        rows = hours(start + 6, 0.0, degrees)[start:]
        sensor.source.coming = [(at, fields | {"camera_count": 3.0, "ssid": 7.0}) for at, fields in rows]
        site.reach((start + 5) * HOUR)
        await site.pass_time(1)
    await site.pass_time(3)
    assert "camera_count" in processor.agent._week.window(named(site), 0, HOUR)[0][1], "it is of use here"
    mine = processor.agent._devices.pseudonym(named(site))
    gone = [fields for up in site.workers["gateway"].agent.heard(Upload) if up.device == mine for _, fields in up.rows]
    assert len(gone) == 23
    assert {name for fields in gone for name in fields} == {"temp", "dewp", "humid", "wind_speed"}
    assert processor.metric("fields_withheld") == 46


def test_cleaned__nothing_is_left_of_a_reading__it_is_left_out():
    rows = [(0.0, {"camera_count": 3.0}), (1.0, {"temp": 999.0}), (2.0, {"temp": 20.0, "co2": 400.0, "humid": -1.0})]
    assert cleaned(rows, {"temp", "humid"}) == [(2.0, {"temp": 20.0})]
    assert cleaned(rows, set()) == []


def of_place(world, kind="alarm"):
    return [entry for entry in world.workers["processor"].journal(kind) if entry["cause"] == "outage"]


async def test_silence__of_the_whole_place__is_an_outage_of_it_and_nobodys_fault(site, feed):
    await feed(0, 48)
    await feed(60, 84)
    assert open_alarms(site) == []
    (said,) = of_place(site)
    (over,) = of_place(site, "alarm-over")
    assert (said["sensor"], said["since"], over["until"]) == ("", 48 * HOUR, 60 * HOUR)
    assert over["number"] == said["number"]
    assert site.workers["processor"].journal("quarantined") == []


async def test_outage__while_it_lasts__one_alarm_of_the_place_without_waiting_for_the_next_reading(site, feed):
    processor = site.workers["processor"]
    await feed(0, 48)
    site.reach(50 * HOUR)
    await site.pass_time(40)
    assert open_alarms(site) == [], "three hours are nothing yet"
    site.reach(52 * HOUR)
    await site.pass_time(3)
    (alarm,) = open_alarms(site)
    assert (alarm.device, alarm.cause, alarm.since, alarm.count) == ("", "outage", 47 * HOUR, 5)
    assert alarm.done == (Action.TELL,)
    assert processor.agent.status()["alarms"] == 1
    assert processor.metric("alarms_open", cause="outage") == 1
    site.reach(59 * HOUR)
    await site.pass_time(3)
    (later,) = open_alarms(site)
    assert (later.number, later.count) == (alarm.number, 12), "the same one goes on"
    assert set(processor.agent.status()["devices"].values()) == {"fine"}
    assert processor.journal("quarantined") == processor.journal("recalibration-asked") == []


async def test_outage__they_deliver_again_one_after_another__over_and_nobody_is_blamed(site, feed):
    processor = site.workers["processor"]
    await feed(0, 48)
    site.reach(59 * HOUR)
    await site.pass_time(40)
    assert [alarm.cause for alarm in open_alarms(site)] == ["outage"]
    site.workers["sensor"].source.coming = hours(61, 0.0)[60:]
    site.reach(60 * HOUR)
    await site.pass_time(20)
    assert open_alarms(site) == [], "the others are on their way"
    await feed(60, 84)
    assert (len(of_place(site)), len(of_place(site, "alarm-over"))) == (1, 1), "it is told once"
    assert processor.journal("quarantined") == []


async def test_outage__processor_restarts_in_it__goes_on_as_the_same_alarm_and_is_over_as_it_would_have_been(
    site, feed
):
    processor = site.workers["processor"]
    await feed(0, 48)
    site.reach(56 * HOUR)
    await site.pass_time(40)
    (before,) = open_alarms(site)
    processor.restart()
    site.reach(62 * HOUR)
    await site.pass_time(40)
    (after,) = open_alarms(site)
    assert after.number == before.number
    await feed(66, 78)
    assert open_alarms(site) == []
    assert len(of_place(site)) == 1


async def test_outage__processor_itself_was_held_up__none(site, feed):
    """It slept, and what came meanwhile waits to be heard."""
    await feed(0, 48)
    site.reach(90 * HOUR)
    site.clock.advance(600.0)
    site.workers["processor"].agent._watch.look()
    assert open_alarms(site) == []


async def test_outage__most_of_the_place__those_that_are_silent_are_told_and_no_outage(site, feed):
    await feed(0, 48)
    for start in range(48, 60, 6):
        site.workers["sensor-3"].source.coming = hours(start + 6, 0.0, lambda hour: degrees(hour) - 1.0)[start:]
        site.reach((start + 5) * HOUR)
        await site.pass_time(1)
    await site.pass_time(40)
    assert {(one.device, one.cause) for one in open_alarms(site)} == {
        (named(site), "gap"),
        (named(site, "sensor-2"), "gap"),
    }


async def test_outage__a_device_dates_its_readings_ahead__hides_nothing_and_accuses_nobody(site, feed):
    await feed(0, 48)
    site.workers["sensor"].source.coming = [(48.2 * HOUR, {"temp": 11.0})]  # as far ahead as is taken
    await site.pass_time(2)
    site.reach(54 * HOUR)
    await site.pass_time(40)
    assert [(one.device, one.cause) for one in open_alarms(site)] == [("", "outage")]


async def test_outage__nobody_is_here_any_more__over(site, feed):
    await feed(0, 48)
    site.reach(56 * HOUR)
    await site.pass_time(40)
    assert len(open_alarms(site)) == 1
    for name in SENSORS:
        await site.switch(site.workers[name], active=False)
    await site.pass_time(3)
    assert open_alarms(site) == []


async def test_alarm__of_a_device_that_left__over_once_its_week_is_gone(site, feed):
    await feed(0, 48)
    await feed(48, 72, sticks=50)
    assert len(open_alarms(site)) == 1
    await site.switch(site.workers["sensor"], active=False)
    site.workers["sensor"].crash()
    await site.pass_time(3)
    assert len(open_alarms(site)) == 1
    site.reach(72 * HOUR + 8 * 24 * HOUR)
    await site.pass_time(3)
    assert [one for one in open_alarms(site) if one.device == named(site)] == []


# the gateway's word


@pytest.fixture
def word(site):
    """Has somebody tell the processor what it makes of a device."""

    async def word(channels, device="sensor", by="gateway"):
        processor, sender = site.workers["processor"], site.workers[by]
        name = processor.agent._devices.pseudonym(named(site, device))
        verdict = SiteVerdict(site.data.now(), {name: channels})
        await sender.do(lambda: sender.runtime.messenger.notify(processor.id, verdict))
        await site.pass_time(2)

    return word


async def test_word__of_the_gateway_about_a_device_nobody_vouches_for__set_aside_until_taken_back(site, feed, word):
    processor = site.workers["processor"].agent
    await feed(0, 48)
    await word(["temp"])
    assert processor.status()["devices"][named(site)] == "temp left its site"
    assert Action.IMPUTE not in processor._watch.alarms.actions(named(site)), "its forecasts go on as they were"
    await word([])
    assert processor.status()["devices"][named(site)] == "fine"


async def test_word__of_a_gateway_that_is_not_heard_of_again__lapses(site, feed, word):
    processor = site.workers["processor"].agent
    await feed(0, 48)
    await word(["temp"])
    await feed(48, 84)
    assert processor.status()["devices"][named(site)] == "temp left its site"
    await feed(84, 108)
    assert processor.status()["devices"][named(site)] == "fine"


async def test_word__against_what_its_neighbours_say__does_not_count(site, feed, word):
    processor = site.workers["processor"]
    await feed(0, 168)
    await word(["temp"])
    assert processor.agent.status()["devices"][named(site)] == "fine"
    assert processor.metric("site_verdicts_disputed", reason="ours") == 1


async def test_word__about_nobody_here__counted_and_passed_over(site, feed):
    processor, gateway = site.workers["processor"], site.workers["gateway"]
    await feed(0, 12)
    verdict = SiteVerdict(site.data.now(), {"f" * 24: ["temp"]})
    await gateway.do(lambda: gateway.runtime.messenger.notify(processor.id, verdict))
    await site.pass_time(2)
    assert processor.metric("site_verdicts_disputed", reason="nobody") == 1
    assert open_alarms(site) == []


async def test_channel__of_ones_own__watched_and_sent_up_like_the_others(world):
    world.channels = {"co2": ChannelSection(300.0, 5000.0, 1.0)}
    gateway = await world.found()
    processor, sensor = world.workers["processor"], world.workers["sensor"]
    processor.agent._uploads._named |= {"co2"}
    for first in range(0, 60, 6):
        stuck = [(at, {**fields, "co2": 400.0 + min(20, at // HOUR)}) for at, fields in hours(first + 6, 0.0)[first:]]
        sensor.measure(stuck)
        await world.pass_time(2)
    found = {(one.cause, one.channel) for one in processor.agent._watch.alarms.open()}
    assert ("stuck", "co2") in found
    assert processor.agent.status()["devices"][sensor.id] == "co2 stuck"
    assert any("co2" in fields for upload in gateway.agent.heard(Upload) for _, fields in upload.rows)


async def test_channel__nobody_said_what_it_may_read__left_alone(world):
    await world.found()
    processor, sensor = world.workers["processor"], world.workers["sensor"]
    for first in range(0, 60, 6):
        sensor.measure([(at, {**fields, "co2": 400.0}) for at, fields in hours(first + 6, 0.0)[first:]])
        await world.pass_time(2)
    assert "co2" not in {one.channel for one in processor.agent._watch.alarms.open()}
