"""A whole recording watched day by day, with faults put in at known moments."""

import numpy as np
import pytest

from quietfleet.errors import MonitorError
from quietfleet.monitor.integrity import FindingKind, inspect
from quietfleet.monitor.learned import learn_rules
from quietfleet.monitor.survey import survey, told
from quietfleet.monitor.verdict import Verdict

HOUR = 3600.0
DAY = 24 * HOUR
NATURAL = [("EWR", ("dewp",), 14), ("JFK", ("dewp",), 12)]  # so many equal readings there were


@pytest.fixture(scope="session")
def recording(between, at):
    """Two months of three stations from the end of May on, two channels."""
    names = ("temp", "dewp")
    return {
        device: [(time, {name: values[name] for name in names if name in values}) for time, values in rows]
        for device, rows in between(at(5, 25), at(7, 24)).items()
    }


@pytest.fixture
def spoilt(recording, at):
    """Return the recording with one device's readings from a moment on put through a function of (hours, values)."""

    since = at(7, 10)

    def spoil(change, device="JFK"):
        rows = [
            row if row[0] < since else (row[0], change((row[0] - since) / HOUR, row[1])) for row in recording[device]
        ]
        return recording | {device: [row for row in rows if row[1] is not None]}

    return spoil


def test_survey__nothing_was_put_in__accuses_nobody_but_who_read_the_same_for_half_a_day(recording):
    found = survey(recording, period=HOUR)
    assert found.peers
    accused = [one for one in found.episodes if one.verdict is Verdict.QUARANTINE]
    assert sorted((one.device, one.channels, one.findings[0].count) for one in accused) == NATURAL


@pytest.mark.parametrize(
    ("change", "kind", "channel", "within"),
    [
        (lambda _hours, values: values | {"temp": 21.0}, FindingKind.STUCK, "temp", 1),
        (lambda hours, _values: None if hours < 72 else _values, FindingKind.GAP, "", 1),
        (lambda _hours, values: values | {"temp": 1.8 * values["temp"] + 32}, FindingKind.UNIT, "temp", 1),
        (lambda hours, values: values | ({"temp": 90.0} if hours == 5 else {}), FindingKind.SPIKE, "temp", 1),
    ],
)  # fmt: skip
def test_survey__sensor_fails_one_way__is_named_within_a_day(spoilt, at, change, kind, channel, within):
    found = survey(spoilt(change), period=HOUR)
    channels = (channel,) if channel else ()
    said = [one for one in found.of("JFK") if one.findings and one.channels == channels]
    first = next(one for one in said if one.findings[0].kind is kind)
    assert at(7, 10) - HOUR <= first.since <= at(7, 10) + 6 * HOUR
    assert first.noticed <= at(7, 10) + (within + 1) * DAY
    assert found.verdict("JFK") is Verdict.QUARANTINE
    assert [one.channels for one in found.of("LGA") + found.of("EWR") if one.verdict is Verdict.QUARANTINE] == [
        ("dewp",)
    ]
    assert told(first).startswith("JFK: ")


def test_survey__one_sensor_drifts_off__left_its_peers_and_nobody_trains_on_it(spoilt, at):
    found = survey(spoilt(lambda _hours, values: values | {"temp": values["temp"] + 5}), period=HOUR)
    (first, *_) = [one for one in found.of("JFK") if "temp" in one.channels and not one.findings]
    assert first.verdict is Verdict.QUARANTINE
    assert at(7, 10) <= first.noticed <= at(7, 14)
    assert first.until >= at(7, 20)


def test_survey__one_device_alone__asks_to_verify_and_never_sets_it_aside(spoilt, at):
    moved = spoilt(lambda _hours, values: values | {"temp": values["temp"] + 25})
    found = survey({"JFK": moved["JFK"]}, period=HOUR)
    assert not found.peers
    said = [one for one in found.of("JFK") if "temp" in one.channels and one.noticed > at(7, 10)]
    assert Verdict.VERIFY in {one.verdict for one in said}
    assert not [one for one in found.of("JFK") if one.verdict is Verdict.QUARANTINE and not one.findings]


def test_survey__nobody_delivered_for_a_day__is_an_outage_of_the_place_and_nobodys_fault(recording, at):
    dark = {device: [row for row in rows if not at(7, 10) <= row[0] < at(7, 11)] for device, rows in recording.items()}
    found = survey(dark, period=HOUR)
    assert found.outages >= 24
    (down,) = [one for one in found.episodes if not one.device and one.findings]
    assert (down.since, down.until, down.verdict) == (at(7, 10), at(7, 11), Verdict.FINE)
    assert told(down).startswith("all devices: nobody delivered for 24 periods")
    assert not [one for one in found.episodes if FindingKind.GAP in {each.kind for each in one.findings}]


def test_survey__no_reading_at_all__is_refused():
    with pytest.raises(MonitorError):
        survey({"a": []}, period=HOUR)


def test_learn__resting_two_state_and_coarse_channels__none_of_them_looks_stuck():
    rows = [
        (
            HOUR * hour,
            {"rain": 3.0 if hour % 97 == 0 else 0.0, "lamp": float(hour % 40 < 20), "coarse": hour // 5 % 7.0},
        )
        for hour in range(720)
    ]
    rules = learn_rules({"a": rows}, period=HOUR)
    assert rules["rain"].stuck_after is None or rules["rain"].rest > 96 * HOUR
    assert rules["lamp"].stuck_after is None
    assert rules["coarse"].stuck_after > 12


def noisy(hours, seed=5):
    return np.random.default_rng(seed).normal(0, 1, hours)


def test_learn__a_blade_that_rests_at_two_angles__is_stuck_after_longer_than_that():
    noise = noisy(720)
    angle = [(-1.0 if hour % 60 < 25 else 45.0 if hour % 60 < 45 else 20 + value) for hour, value in enumerate(noise)]
    rows = [(HOUR * hour, {"pitch": float(value)}) for hour, value in enumerate(angle)]
    rule = learn_rules({"a": rows}, period=HOUR)["pitch"]
    assert inspect(rows, now=720 * HOUR, rules={"pitch": rule}) == ()
    stuck = rows[:600] + [(at, {"pitch": 21.5}) for at, _ in rows[600:]]
    assert {one.kind for one in inspect(stuck, now=720 * HOUR, rules={"pitch": rule})} == {FindingKind.STUCK}


def test_learn__a_roof_is_dark_every_night__but_not_at_noon():
    power = [max(0.0, 500 * np.sin((hour % 24 - 6) * np.pi / 12)) + 0.01 * (hour % 7) * (6 < hour % 24 < 18)
             for hour in range(720)]  # fmt: skip
    rows = [(HOUR * hour, {"power": float(value)}) for hour, value in enumerate(power)]
    rule = learn_rules({"a": rows, "b": rows, "dead": [(at, {"power": 0.0}) for at, _ in rows]}, period=HOUR)["power"]
    assert inspect(rows, now=720 * HOUR, rules={"power": rule}) == ()
    noon = next(value["power"] for at, value in rows if at == 12 * HOUR)
    held = rows[:600] + [(at, {"power": noon}) for at, _ in rows[600:612]]
    assert {one.kind for one in inspect(held, now=612 * HOUR, rules={"power": rule})} == {FindingKind.STUCK}


def test_learn__a_heavy_shower_after_dry_weeks__is_not_out_of_range():
    noise = noisy(2000)
    rows = [(HOUR * hour, {"rain": abs(float(noise[hour])) if hour % 50 == 0 else 0.0}) for hour in range(2000)]
    rule = learn_rules({"a": rows}, period=HOUR)["rain"]
    assert rule.low < 0
    assert 20.0 < rule.high < 200.0


@pytest.mark.parametrize("low", [0.0, -180.0])
def test_learn__jumps_across_north_and_never_halfway__are_those_of_an_angle(low):
    wind = np.cumsum(15 * noisy(2000))
    rows = [(HOUR * hour, {"wind": float((value - low) % 360 + low)}) for hour, value in enumerate(wind)]
    rule = learn_rules({"a": rows}, period=HOUR)["wind"]
    assert (rule.turn, rule.step < 60) == (360.0, True)


@pytest.mark.parametrize(
    "values",
    [
        180 + 179 * np.sin(np.arange(2000) * np.pi / 12),  # it comes back the way it went
        np.where(np.arange(2000) % 40 < 20, 0.0, 350.0) + np.abs(noisy(2000)),  # a switch
        np.clip(180 + 80 * noisy(2000), 0, 360),  # anything anywhere
    ],
)
def test_learn__other_channels_between_0_and_360__are_no_angles(values):
    rows = [(HOUR * hour, {"power": float(value)}) for hour, value in enumerate(values)]
    assert learn_rules({"a": rows}, period=HOUR)["power"].turn == 0.0


def test_learn__a_channel_that_jumps_by_nature__neither_spikes_nor_changes_its_unit_then():
    noise = noisy(2000)
    calm = [0.5 * value for value in noise]
    vane = [
        value - 170.0 if hour % 400 in (200, 201, 202, 203, 204, 205, 206) else value for hour, value in enumerate(calm)
    ]
    rows = [(HOUR * hour, {"vane": float(value)}) for hour, value in enumerate(vane)]
    rule = learn_rules({"a": rows}, period=HOUR)["vane"]
    assert inspect(rows, now=2000 * HOUR, rules={"vane": rule}) == ()
    once = [(at, {"vane": calm[place] + (170.0 if place == 900 else 0.0)}) for place, (at, _) in enumerate(rows)]
    rule = learn_rules({"a": once[:720]}, period=HOUR)["vane"]
    assert {one.kind for one in inspect(once, now=2000 * HOUR, rules={"vane": rule})} == {
        FindingKind.SPIKE,
        FindingKind.RANGE,
    }


def test_learn__a_collector_that_held_all_back_thrice__is_no_habit_of_a_channel():
    warmth, air = 20 + np.cumsum(0.05 * noisy(2000)), np.cumsum(noisy(2000, seed=6))
    held = [hour - hour % 500 if hour % 500 < 40 else hour for hour in range(2000)]
    rows = [(HOUR * at, {"warmth": float(warmth[hour]), "air": float(air[hour])}) for at, hour in enumerate(held)]
    assert learn_rules({"a": rows}, period=HOUR)["warmth"].stuck_after == 12
    coarse = [(at, {"warmth": values["warmth"] if hour % 500 < 40 else 0.0 + hour, "air": float(hour)})
              for hour, (at, values) in enumerate(rows)]  # fmt: skip
    assert learn_rules({"a": coarse}, period=HOUR)["warmth"].stuck_after >= 80


def test_survey__a_drought_that_all_share__nobody_is_stuck_and_one_that_one_alone_has_is():
    dice = np.random.default_rng(4)
    wet = (np.arange(24 * 60) // 24 % 4 == 0) & (np.arange(24 * 60) < 24 * 30)

    def reads(rain):
        return [(HOUR * hour, {"rain": float(amount)}) for hour, amount in enumerate(rain)]

    showers = [np.where(wet, np.round(dice.gamma(1.0, 2.0, wet.size), 2), 0.0) for _ in range(4)]
    drought = {f"d{place}": reads(one) for place, one in enumerate(showers)}
    assert [one for one in survey(drought, period=HOUR).episodes if one.reason == "stuck"] == []
    always = np.arange(wet.size) // 24 % 4 == 0
    showers = [np.where(always, np.round(dice.gamma(1.0, 2.0, wet.size), 2), 0.0) for _ in range(4)]
    showers[2][24 * 35 :] = 0.0
    alone = {f"d{place}": reads(one) for place, one in enumerate(showers)}
    said = {one.device for one in survey(alone, period=HOUR).episodes if one.verdict is Verdict.QUARANTINE}
    assert said == {"d2"}
