"""Devices that read in proportion, not a fixed amount apart; angles; and devices of which hardly anything is known."""

import json

import numpy as np
import pytest
from test_peer_drift import DAY, HOUR, START, accused

from quietfleet.errors import MonitorError
from quietfleet.monitor import ChannelRules, PeerReference
from quietfleet.monitor._gains import gains

RATIO = ChannelRules(0.0, 2000.0, 0.1)
VANE = ChannelRules(0.0, 360.0, 1.0, turn=360.0)
SMALL = 0.3


def roofs(days, sizes=(1.0, 1.0, 1.0, SMALL), dark=(), seed=0):
    """Roofs under one sun; on `dark` days there is a fifth of it."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    sun = 800 * np.maximum(0.0, np.sin((hours % 24 - 6) * np.pi / 12)) * (1 - 0.5 * random.random(days)[hours // 24])
    sun[np.isin(hours // 24, dark)] *= 0.2
    return {
        f"d{number}": [
            (START + hour * HOUR, {"temp": float(value)})
            for hour, value in zip(hours, size * sun * random.normal(1, 0.03, hours.size), strict=True)
        ]
        for number, size in enumerate(sizes)
    }


def learned(rows, days=30, rule=RATIO, **options):
    month = {device: [row for row in each if row[0] < START + days * DAY] for device, each in rows.items()}
    return PeerReference.fit(month, ("temp",), rules={"temp": rule}, **options)


def found_gains(rows):
    grid = np.array([[values["temp"] for _, values in each] for each in rows.values()])
    return gains(np.array([at for at, _ in rows["d0"]]), grid)


def test_gains__a_small_roof_beside_large_ones__has_its_size():
    assert found_gains(roofs(30)) == pytest.approx([1.0, 1.0, 1.0, SMALL], rel=0.03)


def test_gains__a_fixed_distance_apart__are_none():
    rows = {
        device: [(at, {"temp": values["temp"] + 40.0}) for at, values in each] for device, each in roofs(30).items()
    }
    rows["d3"] = [(at, {"temp": values["temp"] - 25.0}) for at, values in rows["d0"]]
    assert (found_gains(rows) == 1.0).all()


def test_gains__degrees_that_swing_less_in_the_shade__are_none():
    hours = np.arange(30 * 24)
    sky = 15 + 5 * np.sin(hours * 2 * np.pi / 24) + np.cumsum(np.random.default_rng(4).normal(0, 0.4, hours.size))
    grid = np.array([sky, sky + 1, sky - 1, 15 + 0.5 * (sky - 15)])
    assert (gains(hours * HOUR, grid) == 1.0).all()


def test_gains__nothing_to_compare__are_none():
    assert gains(np.arange(48) * HOUR, np.full((3, 48), np.nan)).tolist() == [1.0, 1.0, 1.0]


def test_drift__three_dark_days_over_roofs_of_different_sizes__accuse_none():
    rows = roofs(40, dark=(33, 34, 35))
    reference = learned(rows)
    for day in range(31, 41):
        assert accused(reference.drift(rows, now=START + day * DAY)) == set()


def test_drift__a_small_roof_that_makes_nothing__is_accused_alone():
    rows = roofs(40)
    reference = learned(rows)
    spoilt = [(at, {"temp": 0.0 if at >= START + 33 * DAY else values["temp"]}) for at, values in rows["d3"]]
    assert accused(reference.drift(rows | {"d3": spoilt}, now=START + 36 * DAY)) == {"d3"}


def vanes(days, turned=0.0, since=0):
    """Vanes in a wind that turns about north, each a little off; the first turned further from a day on."""
    random = np.random.default_rng(3)
    hours = np.arange(days * 24)
    wind = np.cumsum(random.normal(0, 8, hours.size)) * 0.3
    rows = {}
    for number in range(4):
        own = wind + 6 * number + random.normal(0, 4, hours.size)
        if number == 0:
            own[since * 24 :] += turned
        rows[f"d{number}"] = [
            (START + hour * HOUR, {"temp": float(angle)}) for hour, angle in zip(hours, own % 360, strict=True)
        ]
    return rows


def test_drift__vanes_either_side_of_north__agree_and_a_turned_one_is_accused():
    sound = vanes(40)
    reference = learned(sound, rule=VANE)
    assert not any(accused(reference.drift(sound, now=START + day * DAY)) for day in range(31, 41))
    apart = reference.devices["d3"]["temp"].hours
    assert np.abs(apart).max() < 30  # and not half a circle
    spoilt = vanes(40, turned=170.0, since=35)
    assert accused(reference.drift(spoilt, now=START + 37 * DAY)) == {"d0"}


def test_fit__one_device_of_five_hardly_delivered__leaves_the_others_their_reference():
    rows = roofs(30, sizes=(1.0, 1.0, 1.0, 1.0, 1.0))
    rows["d4"] = rows["d4"][:40]
    found = learned(rows)
    assert {device for device, channels in found.devices.items() if channels} == {"d0", "d1", "d2", "d3"}


def test_fit__one_reading_a_day__wants_more_days_than_an_hourly_sensor():
    daily = {device: each[12::24] for device, each in roofs(90).items()}
    with pytest.raises(MonitorError, match="72 days"):
        learned(daily, days=30, period=DAY)
    assert all(learned(daily, days=90, period=DAY).devices.values())


def test_reference__kept_before_gains_were_known__is_read_without_one():
    reference = learned(roofs(30))
    plain = json.loads(json.dumps(reference.to_plain()))
    assert PeerReference.from_plain(plain) == reference
    for channels in plain.values():
        del channels["temp"]["gain"], channels["temp"]["turn"]
    old = PeerReference.from_plain(plain).devices["d3"]["temp"]
    assert (old.gain, old.turn) == (1.0, 0.0)


def test_drift__a_roof_that_makes_half__is_accused_though_every_night_it_is_right():
    rows = roofs(40)
    reference = learned(rows)
    assert reference.devices["d0"]["temp"].rest == 0.0
    spoilt = [(at, {"temp": values["temp"] * (0.4 if at >= START + 33 * DAY else 1.0)}) for at, values in rows["d0"]]
    assert accused(reference.drift(rows | {"d0": spoilt}, now=START + 36 * DAY)) == {"d0"}


def test_drift__a_roof_that_shines_at_night__is_accused_and_does_not_hide_another():
    rows = roofs(40, sizes=(1.0,) * 5)
    reference = learned(rows)
    lit = [(at, {"temp": values["temp"] + 400.0 * (at >= START + 33 * DAY)}) for at, values in rows["d0"]]
    dead = [(at, {"temp": values["temp"] * (at < START + 33 * DAY)}) for at, values in rows["d1"]]
    assert accused(reference.drift(rows | {"d0": lit, "d1": dead}, now=START + 36 * DAY)) == {"d0", "d1"}


def test_drift__dark_for_a_week__accuses_nobody():
    rows = roofs(40)
    reference = learned(rows)
    night = {
        device: [(at, values if at < START + 33 * DAY else {"temp": 0.0}) for at, values in each]
        for device, each in rows.items()
    }
    found = reference.drift(night, now=START + 38 * DAY)
    assert accused(found) == set()
    assert {drift["temp"].percent for drift in found.values()} == {0.0}


def test_fit__a_roof_that_delivers_by_night_alone__leaves_the_others_their_reference():
    rows = roofs(30, sizes=(1.0,) * 5)
    rows["d4"] = [(at, values) for at, values in rows["d4"] if values["temp"] == 0.0]
    found = learned(rows)
    assert {device for device, channels in found.devices.items() if channels} == {"d0", "d1", "d2", "d3"}
