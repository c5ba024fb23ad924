from __future__ import annotations

import math
import random

import pytest

from quietfleet.monitor.telemetry import CHANNELS, Reason, health, longevity, named

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
NOW = 1_700_000_000.0
FINE = {
    "cpu": 0.1, "memory": 0.4, "storage": 0.3, "battery": 0.9, "queue": 0.0, "link": 1.0, "rtt": 0.8, "heat": 41.0,
    "accel_x": 0.1, "accel_y": -0.2, "accel_z": 9.79, "gyro_x": 0.0, "gyro_y": 0.01, "gyro_z": 0.0,
    "magn_x": 20.0, "magn_y": -5.0, "magn_z": 43.0,
}  # fmt: skip


def week(change=lambda _ago, row: row, *, step=HOUR, days=7.0):
    """A device that is fine, but for what a test changes; `ago` is in seconds."""
    scatter = random.Random(1)
    ages = [days * DAY - step * place for place in range(int(days * DAY / step) + 1)]
    rows = []
    for ago in ages:
        row = {name: value * scatter.uniform(0.99, 1.01) for name, value in FINE.items()}
        row["uptime"] = 30 * DAY - ago
        rows.append((NOW - ago, change(ago, row)))
    return rows


def after(since, **changes):
    """Another row once so many seconds before now are reached."""
    return lambda ago, row: {**row, **changes} if ago <= since else row


def told(samples, period=HOUR):
    return health(samples, now=NOW, period=period)


def test_health__of_a_device_that_is_fine__is_full_with_no_reason():
    found = told(week())
    assert (found.score, found.reasons) == (100.0, ())


def test_health__nothing_told__nothing_said():
    assert told([]) is None
    assert told([(NOW - 8 * DAY, FINE)]) is None


@pytest.mark.parametrize(
    ("changes", "what", "words"),
    [
        ({"cpu": 1.0}, "cpu", "100% busy"),
        ({"memory": 0.97}, "memory", "97% of its memory"),
        ({"storage": 0.99}, "storage", "99% of its storage"),
        ({"battery": 0.06}, "battery", "battery is at 6%"),
        ({"link": 0.6}, "link", "40% of what it asked"),
        ({"rtt": 18.0}, "round trip", "answers take 18.0 s"),
        ({"queue": 1200.0}, "queue", "1200 readings wait"),
        ({"heat": 88.0}, "heat", "88 °C inside"),
        ({"accel_z": 30.0}, "accelerometer", "30.0 m/s² at rest"),
        ({"magn_z": 900.0}, "magnetometer", "at rest"),
        ({"gyro_x": 1.5}, "gyroscope", "turns by 1.5 rad/s while it lies still"),
        ({"accel_x": 9.79, "accel_z": 0.1}, "position", "tilted by "),
    ],
)
def test_health__one_thing_is_wrong__that_is_the_reason_and_takes_points(changes, what, words):
    found = told(week(after(2 * HOUR, **changes)))
    (reason,) = (one for one in found.reasons if one.what == what)
    assert words in reason.sentence
    assert found.score == pytest.approx(100 - sum(one.points for one in found.reasons), abs=0.1)
    assert found.score < 95
    assert found.words.startswith(found.reasons[0].sentence)


def test_health__two_things_are_wrong__both_count_and_the_worse_comes_first():
    found = told(week(after(2 * HOUR, battery=0.04, rtt=18.0)))
    assert [one.what for one in found.reasons][:2] == ["battery", "round trip"]
    assert found.score < 50


def test_health__everything_is_wrong__no_less_than_nothing():
    wrong = {"cpu": 1.0, "memory": 1.0, "storage": 1.0, "battery": 0.0, "link": 0.0, "heat": 99.0, "queue": 9e9}
    assert told(week(after(DAY, **wrong))).score == 0.0


def test_health__figures_of_no_machine__a_score_all_the_same():
    for value in (1e300, -1e300, 0.0):
        found = told([(NOW - place * HOUR, dict.fromkeys(CHANNELS, value)) for place in range(60)])
        assert 0.0 <= found.score <= 100.0


def test_health__it_starts_again_and_again__said_from_the_second_time_on():
    def restarting(times):
        return lambda ago, row: (
            {**row, "uptime": (20 * HOUR - ago) % (20 * HOUR / times + 1)} if ago < 20 * HOUR else row
        )

    assert [one.what for one in told(week(restarting(1))).reasons] == []
    found = told(week(restarting(6), step=10 * MINUTE, days=2.0), period=10 * MINUTE)
    assert [one.what for one in found.reasons] == ["restarts"]


def test_health__it_says_nothing_any_more__poorer_the_longer_that_lasts():
    def silent(hours):
        return [row for row in week(step=300.0, days=2.0) if row[0] <= NOW - hours * HOUR]

    scores = [told(silent(hours), period=300.0).score for hours in (0, 0.5, 1, 2)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 100
    assert scores[-1] < 50


def test_health__memory_leaks__said_days_before_it_is_full():
    found = told(week(lambda ago, row: {**row, "memory": 0.79 - 0.05 * ago / DAY}))
    (reason,) = found.reasons
    assert reason.what == "memory growth"
    assert "full in 4." in reason.sentence


# longevity


def drain(pace, noise=0.0, charge=0.0):
    scatter = random.Random(2)

    def change(ago, row):
        level = 0.5 + pace * ago / DAY + scatter.gauss(0, noise) + charge * math.sin(2 * math.pi * ago / DAY)
        return {**row, "battery": level}

    return week(change)


def test_longevity__battery_drains_steadily__days_left_at_that_pace():
    (found,) = longevity(drain(0.05), now=NOW)
    assert found.what == "battery"
    assert found.days == pytest.approx(10.0, rel=0.02)
    assert found.low <= found.days <= found.high


def test_longevity__noise_and_days_of_sun__still_about_right_and_said_how_sure():
    (found,) = longevity(drain(0.05, noise=0.02, charge=0.05), now=NOW)
    assert found.days == pytest.approx(10.0, rel=0.25)
    assert found.low < 10.0 < found.high


def test_longevity__one_charge_in_between__does_not_turn_the_trend_around():
    charged = week(lambda ago, row: {**row, "battery": 0.4 + 0.05 * ago / DAY + (0.2 if ago < DAY else 0.0)})
    (found,) = longevity(charged, now=NOW)
    assert 5 < found.days < 20


def test_longevity__charged_or_too_short__nothing_is_said():
    assert longevity(drain(-0.05), now=NOW) == ()
    assert longevity(week(days=1.0), now=NOW) == ()
    assert longevity([(NOW - place * HOUR, {"cpu": 0.1}) for place in range(100)], now=NOW) == ()


def test_longevity__storage_fills__days_until_it_is_full():
    found = longevity(week(lambda ago, row: {**row, "storage": 0.9 - 0.02 * ago / DAY}), now=NOW)
    (storage,) = (one for one in found if one.what == "storage")
    assert storage.days == pytest.approx(5.0, rel=0.02)


# any file


def test_named__other_names_and_percent__ours_and_shares():
    rows = [(NOW, {"Battery_Level": 80.0, "cpu_usage": 12.0, "acc_x": 0.1, "temp": 20.0, "humidity": 50.0})]
    assert named(rows) == [(NOW, {"battery": 0.8, "cpu": 0.12, "accel_x": 0.1})]


def test_named__no_telemetry_in_it__none():
    assert named([(NOW, {"temp": 20.0})]) == []


def test_reason__is_what_a_person_reads():
    assert Reason("battery", 3.0, "its battery is at 20%").sentence == "its battery is at 20%"
