"""What stands in for readings of a device that an alarm is about, on real readings in a worker's database."""

from __future__ import annotations

import pytest

from quietfleet.monitor.alarms import Seen
from quietfleet.monitor.rules import load_rules
from quietfleet.storage import Database, TimeSeries
from quietfleet.testbed.weather import load_weather
from quietfleet.workers import _fallback
from quietfleet.workers._alarms import Alarms
from quietfleet.workers._devices import Devices
from quietfleet.workers._fallback import HOUR, IMPUTED, SAFE, WEEK, Fallbacks

STATIONS = ("EWR", "JFK", "LGA")
NOW = 1_366_000_000 // HOUR * HOUR  # in April 2013
STUCK = NOW - 12 * HOUR


class Site:
    def __init__(self, database):
        self.week = TimeSeries(database, 8 * WEEK)
        self.devices = Devices(database, bytes(32))
        self.alarms = Alarms(database)
        self.fallbacks = Fallbacks(self.week, self.devices, self.alarms)
        self.truth = {name: [row for row in load_weather()[name] if NOW - WEEK <= row[0] <= NOW] for name in STATIONS}

    def reads(self, station, change=lambda _time, fields: fields):
        self.devices.opened(station, f"deal-{station}")
        for time, fields in self.truth[station]:
            self.week.append(station, time, change(time, fields))

    def alarm(self, cause, channel="", since=STUCK):
        seen = Seen(cause, channel, since, NOW)
        (raised,) = self.alarms.see("JFK", frozenset({cause}), [seen], load_rules(), now=NOW).raised
        return raised

    def mended(self, since=NOW - 24 * HOUR):
        return self.fallbacks.rows("JFK", self.week.window("JFK", since, NOW + 1), HOUR)

    def off(self, rows, channel):
        """How far what stands in is from what was really there, root mean square."""
        real = dict(self.truth["JFK"])
        apart = [fields[channel] - real[time][channel] for time, fields in rows if time >= STUCK]
        return (sum(one * one for one in apart) / len(apart)) ** 0.5


@pytest.fixture
def site(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        yield Site(database)


def since_then(channel, value):
    return lambda time, fields: {**fields, channel: value} if time >= STUCK else fields


def test_stuck_in_one_channel__its_other_channels_and_its_neighbours_say_what_it_reads(site):
    for station in STATIONS:
        site.reads(station, since_then("temp", 3.0) if station == "JFK" else lambda _time, fields: fields)
    site.alarm("stuck", "temp")
    rows, what = site.mended()
    assert what == IMPUTED
    near = site.off(rows, "temp")
    site.alarm("left its peers", "temp")
    alone = site.off(site.mended().rows, "temp")
    assert near < 0.8 * alone, "where a channel is in doubt for its distance, none of the others is believed"


def test_left_its_peers__what_else_it_reads__moves_nothing(site):
    """A drifting thermometer takes a humidity computed from it along, which must not bring the fault back."""
    for station in STATIONS:
        site.reads(station, since_then("temp", 3.0) if station == "JFK" else lambda _time, fields: fields)
    site.alarm("left its peers", "temp")
    before = site.mended().rows
    site.week.append("JFK", NOW + HOUR / 2, {"humid": 1.0, "dewp": 40.0, "temp": 40.0})
    after = site.fallbacks.rows("JFK", site.week.window("JFK", NOW - 24 * HOUR, NOW + HOUR), HOUR).rows
    assert [fields["temp"] for _, fields in after[: len(before)]] == [fields["temp"] for _, fields in before]
    assert abs(after[-1][1]["temp"] - before[-1][1]["temp"]) < 1.0


def test_stuck_in_one_channel__nobody_beside_it__its_other_channels_say_it(site):
    site.reads("JFK", since_then("humid", 3.0))
    site.alarm("stuck", "humid")
    rows, what = site.mended()
    assert what == IMPUTED
    assert site.off(rows, "humid") < 10.0


def test_stuck_altogether__nobody_beside_it__nothing_stands_in_for_long(site):
    frozen = {"temp": 3.0, "dewp": 1.0}
    site.reads("JFK", lambda time, _: frozen if time >= STUCK else dict(frozen, temp=time % 7, dewp=time % 5))
    site.alarm("stuck", "temp")
    site.alarm("stuck", "dewp")
    assert site.mended() == ([], SAFE)


def test_alarm_of_days_ago__what_was_read_then__is_not_learned_from(site):
    bad = (NOW - 100 * HOUR, NOW - 40 * HOUR)

    def change(time, fields):
        fields = {**fields, "temp": fields["temp"] + 30.0} if bad[0] <= time <= bad[1] else fields
        return since_then("temp", 3.0)(time, fields)

    for station in STATIONS:
        site.reads(station, change if station == "JFK" else lambda _time, fields: fields)
    known = Seen("range", "temp", *bad)
    site.alarms.see("JFK", frozenset({"range"}), [known], load_rules(), now=NOW)
    site.alarms.see("JFK", frozenset({"range"}), [], load_rules(), now=NOW)
    site.alarm("stuck", "temp")
    assert site.off(site.mended().rows, "temp") < 2.0


def test_channels_that_come_and_go__by_an_attackers_device__only_so_much_is_learned_for_it(site, monkeypatch):
    fitted = []
    learn = _fallback.learn
    monkeypatch.setattr(_fallback, "learn", lambda *args: fitted.append(args[0]) or learn(*args))
    for station in STATIONS:
        site.reads(station, since_then("temp", 3.0) if station == "JFK" else lambda _time, fields: fields)
    site.alarm("stuck", "temp")
    for turn in range(60):
        extra = {f"c{bit}": 1.0 for bit in range(6) if turn >> bit & 1}
        site.week.append("JFK", NOW + 30 + turn, {"temp": 3.0, **extra})
        site.fallbacks.rows("JFK", site.week.window("JFK", NOW - 24 * HOUR, NOW + HOUR), HOUR)
    assert len(fitted) <= 2 * _fallback.MOST_FITS
    assert site.fallbacks.rows("JFK", site.week.window("JFK", NOW - 24 * HOUR, NOW + 1), HOUR).what == IMPUTED
