import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.monitor import (
    DEFAULT_RULES,
    ChannelRules,
    Finding,
    FindingKind,
    clock_skew,
    inspect,
    outages,
    site_outages,
)
from quietfleet.monitor.integrity import rules_with
from quietfleet.settings import ChannelSection

HOUR = 3600.0
START = 1_699_999_200.0


def reading(hour, **changes):
    values = {
        "temp": 10 + 5 * math.sin(hour / 4),
        "dewp": 4 + math.cos(hour / 5),
        "humid": 60 + 9 * math.sin(hour / 7),
        "wind_speed": 3 + math.sin(hour),
        "precip": 0.0,
        "pressure": 1012 + math.sin(hour / 9),
    }
    return START + hour * HOUR, values | changes


def week():
    return [reading(hour) for hour in range(168)]


def kinds(rows, now=START + 168 * HOUR, **options):
    return {(finding.kind, finding.channel) for finding in inspect(rows, now=now, **options)}


def test_inspect__sound_week__finds_nothing():
    assert inspect(week(), now=START + 168 * HOUR) == ()


def test_inspect__nothing_at_all__finds_nothing():
    assert inspect([], now=START) == ()


def test_inspect__twelve_identical_samples__is_stuck_from_first_to_last():
    rows = [reading(hour, temp=7.0) if 20 <= hour < 32 else reading(hour) for hour in range(168)]
    expected = Finding(FindingKind.STUCK, "temp", START + 20 * HOUR, START + 31 * HOUR, 12, "at 7")
    assert inspect(rows, now=START + 168 * HOUR) == (expected,)


def test_inspect__eleven_identical_samples__is_weather():
    assert not kinds([reading(hour, temp=7.0) if 20 <= hour < 31 else reading(hour) for hour in range(168)])


@pytest.mark.parametrize(("length", "found"), [(23, set()), (24, {(FindingKind.STUCK, "wind_speed")})])
def test_inspect__calm_wind__may_last_longer(length, found):
    assert kinds([reading(hour, wind_speed=0.0) if hour < length else reading(hour) for hour in range(168)]) == found


@pytest.mark.parametrize(("value", "found"), [(100.0, set()), (88.0, {(FindingKind.STUCK, "humid")})])
def test_inspect__a_night_of_fog__rests_at_the_end_of_the_range_and_nowhere_else(value, found):
    assert kinds([reading(hour, humid=value) if 20 <= hour < 36 else reading(hour) for hour in range(168)]) == found


def test_inspect__a_vane_that_passes_north_and_back__neither_jumped_nor_changed_its_unit():
    rows = [(START + hour * HOUR, {"vane": (355 + 10 * math.sin(hour)) % 360}) for hour in range(168)]
    straight = ChannelRules(0.0, 360.0, 1.0, step=15.0)
    assert kinds(rows, rules={"vane": replace(straight, turn=360.0)}) == set()
    assert kinds(rows, rules={"vane": straight}) == set()  # nor if nobody said that it is an angle
    rows[80] = (rows[80][0], {"vane": 175.0})
    assert kinds(rows, rules={"vane": replace(straight, turn=360.0)}) == {(FindingKind.SPIKE, "vane")}


def test_inspect__what_was_stuck_goes_on_where_the_world_is__has_not_changed_its_unit():
    def warming(hour):
        return 10.0 if 40 <= hour < 70 else 10.0 + 0.6 * (hour - 40)

    rows = [reading(hour, temp=warming(hour), dewp=-20.0 + 0.01 * hour) for hour in range(90)]
    jump = warming(70) / 10.0
    assert jump == pytest.approx(2.8)
    found = kinds(rows, now=START + 90 * HOUR, rules={"temp": replace(DEFAULT_RULES["temp"], step=2.0)})
    assert found == {(FindingKind.STUCK, "temp")}


def test_inspect__stuck_run_interrupted_by_a_missing_value__is_still_stuck():
    rows = [reading(hour, temp=7.0) if hour < 13 else reading(hour) for hour in range(168)]
    del rows[6][1]["temp"]
    assert kinds(rows) == {(FindingKind.STUCK, "temp")}


@pytest.mark.parametrize(("channel", "value"), [("wind_speed", 468.7), ("humid", 101.0), ("temp", -80.0)])
def test_inspect__beyond_physics__is_range(channel, value):
    assert kinds([*week()[:-1], reading(167, **{channel: value})]) == {(FindingKind.RANGE, channel)}


def test_inspect__two_truths_for_one_moment__is_duplicate():
    assert kinds([*week(), reading(5, temp=30.0)]) == {(FindingKind.DUPLICATE, "")}


def test_inspect__same_reading_twice__is_only_a_repeated_message():
    assert kinds([*week(), reading(5)]) == set()


def test_inspect__reading_from_tomorrow__is_clock():
    assert kinds([*week(), reading(170)]) == {(FindingKind.CLOCK, "")}


def test_inspect__four_hours_of_silence_at_the_end__is_a_gap():
    assert kinds(week()[:-4]) == {(FindingKind.GAP, "")}


def test_inspect__three_hours_of_silence__is_radio():
    assert kinds(week()[:-3]) == set()


def test_inspect__a_fifth_lost_here_and_there__is_a_gap():
    assert kinds([row for hour, row in enumerate(week()) if hour % 5 != 3]) == {(FindingKind.GAP, "")}


def test_inspect__two_percent_lost__is_radio():
    assert kinds([row for hour, row in enumerate(week()) if hour % 50 != 3]) == set()


def test_inspect__whole_site_was_silent__is_no_gap():
    rows = [row for hour, row in enumerate(week()) if not 40 <= hour < 60]
    assert kinds(rows) == {(FindingKind.GAP, "")}
    outages = site_outages({"a": rows, "b": rows}, since=START, until=START + 168 * HOUR)
    assert len(outages) == 20
    assert kinds(rows, outages=outages) == set()


def test_site_outages__lone_device__cannot_show_one():
    assert site_outages({"a": week()[:40]}, since=START, until=START + 168 * HOUR) == frozenset()


@given(st.permutations(range(48)))
def test_inspect__arrival_in_any_order__finds_the_same(order):
    rows = [reading(hour, temp=7.0) if 20 <= hour < 33 else reading(hour) for hour in range(48)]
    assert inspect([rows[place] for place in order], now=START + 48 * HOUR) == inspect(rows, now=START + 48 * HOUR)


def test_inspect__silent_device__is_found_by_the_clock_alone_after_four_slots():
    rows = week()
    found = [inspect(rows, now=START + (168 + hours) * HOUR) for hours in range(6)]
    assert [len(each) for each in found] == [0, 0, 0, 0, 1, 1]
    assert found[4][0] == Finding(FindingKind.GAP, "", START + 168 * HOUR, START + 172 * HOUR, 4, "of 4 due")


def test_inspect__spike_of_a_single_reading__is_named_with_its_size():
    rows = [reading(hour, temp=55.0) if hour == 50 else reading(hour) for hour in range(168)]
    (found,) = inspect(rows, now=START + 168 * HOUR)
    assert (found.kind, found.channel, found.since) == (FindingKind.SPIKE, "temp", START + 50 * HOUR)
    assert found.detail.startswith("by +4")


def test_inspect__fahrenheit_from_one_moment_on__is_named():
    rows = week()
    for _, values in rows[100:]:
        values["temp"] = 1.8 * values["temp"] + 32
    found = {(one.kind, one.detail): one for one in inspect(rows, now=START + 168 * HOUR)}
    assert found[FindingKind.UNIT, "°F instead of °C"].since == START + 100 * HOUR


@given(st.sets(st.integers(0, 60)))
def test_outages__any_slots__are_every_run_of_four_and_no_other(slots):
    found = outages(slots, period=HOUR)
    assert sum(one.count for one in found) == sum(
        any({first, first + 1, first + 2, first + 3} <= slots for first in range(slot - 3, slot + 1)) for slot in slots
    )
    for one in found:
        covered = range(int(one.since // HOUR), int(one.until // HOUR))
        assert one.kind is FindingKind.OUTAGE
        assert set(covered) <= slots
        assert not {covered[0] - 1, covered[-1] + 1} & slots


def arrivals(count=48, error=0.0, drift=0.0, late=lambda _place: 30.0):
    """What a device says the time is, and when that came: its clock off by `error` s and `drift` s more each hour."""
    true = [START + place * HOUR for place in range(count)]
    return [(at + error + drift * place, at + late(place)) for place, at in enumerate(true)]


@pytest.mark.parametrize(("error", "said"), [(-5 * HOUR, "5.0 h behind"), (5 * HOUR, "5.0 h ahead")])
def test_clock_skew__hours_off_either_way__says_by_how_much(error, said):
    found = clock_skew(arrivals(error=error))
    assert (found.kind, found.count, found.detail) == (FindingKind.CLOCK, 48, said)


def test_clock_skew__getting_worse__says_how_fast():
    found = clock_skew(arrivals(error=-5 * HOUR, drift=-60.0))
    assert found.detail == "5.4 h behind, losing 1440 s a day"


@pytest.mark.parametrize(
    "points",
    [
        arrivals(),
        arrivals(error=-2 * HOUR),
        arrivals(error=9 * HOUR, count=11),
        arrivals(late=lambda place: (48 - place) * HOUR),  # all at once, after an outage
        arrivals(late=lambda place: (place % 12) * HOUR),  # twelve at a time
    ],
)
def test_clock_skew__on_time_too_few_or_only_delayed__says_nothing(points):
    assert clock_skew(points) is None


def test_clock_skew__everybodys_readings_take_long__is_the_link():
    slow = arrivals(late=lambda _place: 6 * HOUR)
    assert clock_skew(slow) is not None
    assert clock_skew(slow, usual=6 * HOUR) is None


@given(st.floats(-1e6, 1e6), st.floats(0, 1e5))
def test_clock_skew__any_error__is_named_beyond_three_periods_and_the_tolerance(error, tolerance):
    found = clock_skew(arrivals(error=error, late=lambda _place: 0.0), tolerance=tolerance)
    beyond = abs(error) - max(3 * HOUR, tolerance)
    if abs(beyond) > 1e-3:  # what a float of these days can tell
        assert (found is not None) == (beyond > 0)
    if found is not None:
        assert ("ahead" in found.detail) == (error > 0)


def test_inspect__read_each_minute__the_same_for_minutes_is_not_stuck_and_for_half_a_day_is():
    def minutes(count):
        return [(60.0 * minute, {"temp": 20.0 if minute < count else 20.0 + minute % 3}) for minute in range(15 * 60)]

    def stuck(rows):
        return [one for one in inspect(rows, now=rows[-1][0]) if one.kind is FindingKind.STUCK]

    assert stuck(minutes(60)) == []
    (found,) = stuck(minutes(11 * 60))
    assert found.count == 11 * 60 + 1


def test_rules_with__a_channel_of_ones_own__is_watched_like_the_others():
    rules = rules_with(
        {"co2": ChannelSection(300.0, 5000.0, 1.0, step=200.0), "temp": ChannelSection(0.0, 10.0, 1.0, 0)}
    )
    assert rules["humid"] == DEFAULT_RULES["humid"]
    assert (rules["co2"].stuck_after, rules["co2"].step) == (12, 200.0)
    assert (rules["temp"].high, rules["temp"].stuck_after) == (10.0, None)
    rows = [(HOUR * hour, {"co2": 450.0 if hour > 20 else 400.0 + hour}) for hour in range(40)]
    assert inspect(rows, now=40 * HOUR) == ()
    assert [one.kind for one in inspect(rows, now=40 * HOUR, rules=rules)] == [FindingKind.STUCK]
