from __future__ import annotations

import math
import random
from statistics import median

import pytest

from quietfleet.monitor.virtual import LEAST, Sample, learn

HOUR = 3600.0
WEEK, DAY = 168, 24  # samples
STATION = "JFK"


@pytest.fixture(scope="module")
def year(weather):
    """A year of one station, beside the middle of the two others."""
    others = [dict(rows) for name, rows in weather.items() if name != STATION]
    return [
        Sample(time, fields, middle([one[time] for one in others if time in one])) for time, fields in weather[STATION]
    ]


@pytest.fixture(scope="module")
def samples(year):
    """A week and a day of April."""
    return year[2400 : 2400 + WEEK + DAY]


def middle(read):
    return {name: median(one[name] for one in read if name in one) for name in {name for one in read for name in one}}


def both(channel, one):
    return channel in one.own and channel in one.beside


def errors(channel, year, *, own=True):
    """How far off it is on some days by what the week before tells, and how far off the usual distance is."""
    fitted, plain = [], []
    for first in range(0, len(year) - WEEK - DAY, 5 * DAY + 1):
        week, day = year[first : first + WEEK], year[first + WEEK : first + WEEK + DAY : 4]
        apart = [one.own[channel] - one.beside[channel] for one in week if both(channel, one)]
        for one in (one for one in day if both(channel, one)):
            rest = {name: value for name, value in one.own.items() if name != channel and own}
            known = Sample(one.time, rest, one.beside)
            fitted.append(learn(channel, week, known).read(known) - one.own[channel])
            plain.append(one.beside[channel] + median(apart) - one.own[channel])
    return [math.sqrt(sum(e * e for e in one) / len(one)) for one in (fitted, plain)]


@pytest.mark.parametrize("channel", ["temp", "dewp", "humid"])
def test_learn__one_channel_of_several__far_nearer_than_the_usual_distance(year, channel):
    fitted, plain = errors(channel, year)
    assert fitted < 0.8 * plain


@pytest.mark.parametrize("channel", ["temp", "dewp", "humid", "wind_speed"])
def test_learn__nothing_of_the_device_itself__no_worse_than_the_usual_distance(year, channel):
    fitted, plain = errors(channel, year, own=False)
    assert fitted <= 1.02 * plain


def test_learn__no_neighbours__the_other_channels_say_it_where_they_go_together(samples):
    alone = [one._replace(beside={}) for one in samples]
    said = learn("dewp", alone[:-24], Sample(0.0, {"temp": 10.0, "humid": 50.0}, {}))
    spread = median(abs(one.own["dewp"] - said.usual) for one in alone)
    assert said.error < spread
    assert learn("wind_speed", alone[:-24], Sample(0.0, {"pressure": 1000.0}, {})) is None
    assert learn("dewp", alone[:-24], Sample(0.0, {}, {})) is None


def noise(count, seed=3):
    """A thermometer that follows its neighbours but for what nothing explains, and a light."""
    dice = random.Random(seed)
    beside = [18 + dice.gauss(0, 3) for _ in range(count)]
    return [
        Sample(hour * HOUR, {"temp": 2 + near + dice.gauss(0, 1), "light": dice.gauss(0, 1)}, {"temp": near})
        for hour, near in enumerate(beside)
    ]


def test_learn__channels_that_have_nothing_to_do_with_each_other__is_the_usual_distance():
    week = noise(168)
    virtual = learn("temp", week, Sample(0.0, {"light": 0.0}, {"temp": 0.0}))
    assert virtual.fitted is None
    usual = median(one.own["temp"] - one.beside["temp"] for one in week)
    assert virtual.read(Sample(200 * HOUR, {"light": 9.0}, {"temp": 30.0})) == pytest.approx(30.0 + usual)


def test_learn__too_few_samples__is_the_usual_distance_and_none_at_all_is_no_distance(samples):
    knows = Sample(0.0, {"dewp": 0.0, "humid": 0.0}, {"temp": 0.0})
    assert learn("temp", samples[: LEAST - 1], knows).fitted is None
    assert learn("temp", [], knows).read(knows) == 0.0


def test_read__inputs_nobody_ever_saw__says_nothing_further_from_the_neighbours_than_it_ever_was(samples):
    knows = Sample(0.0, {"dewp": 0.0, "humid": 0.0}, {"temp": 10.0})
    virtual = learn("temp", samples[:WEEK], knows)
    assert virtual.fitted is not None
    furthest = max(abs(one.own["temp"] - one.beside["temp"] - virtual.usual) for one in samples[:WEEK])
    for humid in (-1e9, 1e9):
        said = virtual.read(knows._replace(own={"dewp": 0.0, "humid": humid}))
        assert abs(said - 10.0 - virtual.usual) == pytest.approx(furthest)


def test_learn__input_that_is_seldom_there__is_none(samples):
    week = [
        one._replace(own={k: v for k, v in one.own.items() if k != "dewp" or n % 2}) for n, one in enumerate(samples)
    ]
    virtual = learn("temp", week, Sample(0.0, {"dewp": 0.0, "humid": 0.0}, {"temp": 0.0}))
    assert "dewp" not in virtual.inputs


@pytest.mark.parametrize("count", [LEAST, 168])
def test_learn__constant_inputs__no_division_by_nothing(count):
    week = [Sample(n * HOUR, {"temp": 5.0, "light": 1.0}, {"temp": 5.0}) for n in range(count)]
    virtual = learn("temp", week, Sample(0.0, {"light": 1.0}, {"temp": 5.0}))
    assert virtual.read(Sample(0.0, {"light": 1.0}, {"temp": 7.0})) == pytest.approx(7.0)
    assert learn("temp", [one._replace(beside={}) for one in week], Sample(0.0, {"light": 1.0}, {})) is None
