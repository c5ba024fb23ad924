from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quietfleet.errors import (
    BeyondLimits,
    ChannelStuck,
    CorrectionRefused,
    NothingToCorrect,
    PeersDisagree,
    TooFewPeers,
    TooLittleData,
    Unsteady,
)
from quietfleet.monitor.calibration import ROUTINE, estimate, learn_levels
from quietfleet.monitor.recalibration import DEFAULT_LIMITS, NONE, Affine, Attested, Did, Limits, limits_of
from quietfleet.settings import CalibrationLimits

HOUR = 3600.0
WEEK = 7 * 24 * HOUR
TEMP = DEFAULT_LIMITS["temp"]
WIDE = Limits(1000.0, 0.9, around=15.0, agree=4.0, least=0.3)
DAYS = 2 * 24
LEFT_ALONE = (NothingToCorrect, PeersDisagree, Unsteady)


def world(seed, hours=DAYS):
    """The weather of a place: a day's wave and what wanders."""
    generator = np.random.default_rng(seed)
    return 15 + 5 * np.sin(np.arange(hours) * 2 * math.pi / 24) + np.cumsum(generator.normal(0, 0.3, hours))


def rows(values):
    return [(hour * HOUR, {"temp": float(value)}) for hour, value in enumerate(values)]


def site(seed, peers=3, hours=DAYS, noise=0.2):
    """What a sound device reads, and its peers; each with a noise of its own."""
    generator = np.random.default_rng(seed + 1)
    true = world(seed, hours)
    return [true + generator.normal(0, noise, hours) for _ in range(peers + 1)]


def found(device, peers, limits=TEMP, **options):
    named = {f"peer {number}": rows(values) for number, values in enumerate(peers)}
    return estimate("temp", rows(device), named, limits, **options)


@given(st.integers(0, 10_000), st.sampled_from([-1, 1]), st.floats(1.0, 6.0), st.integers(2, 6))
def test_estimate__an_offset__found_and_undone(seed, sign, off, peers):
    device, *others = site(seed, peers)
    correction = found(device + sign * off, others)
    assert correction.gain == 1.0
    assert correction.offset == pytest.approx(-sign * off, abs=0.4)
    assert correction.after < correction.before
    assert correction.n == DAYS
    assert 0 < correction.uncertainty < 0.4


@given(st.integers(0, 10_000), st.floats(1.3, 1.6), st.floats(-3.0, 3.0))
def test_estimate__a_gain_and_an_offset__both_found_where_the_range_carries_them(seed, gain, off):
    device, *others = site(seed)
    correction = found((device - off) / gain, others, WIDE)
    assert correction.gain == pytest.approx(gain, rel=0.1)
    residual = correction.affine.gain * (device - off) / gain + correction.affine.offset - device
    assert abs(np.median(residual)) < 0.4


@given(st.integers(0, 10_000), st.floats(2.0, 6.0))
def test_estimate__values_of_no_range__an_offset_alone(seed, off):
    generator = np.random.default_rng(seed)
    device, *others = (20 + generator.normal(0, 0.2, DAYS) for _ in range(4))
    assert found(device + off, others).gain == 1.0


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_estimate__a_sound_device__is_left_alone(seed, peers):
    device, *others = site(seed, peers)
    with pytest.raises(LEFT_ALONE):
        found(device, others)


@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(-50.0, 50.0), st.booleans())
def test_estimate__fewer_than_half_of_the_peers_collude__cannot_pull_a_sound_device(seed, liars, lie, together):
    device, *others = site(seed, 2 * liars + 1)
    for number in range(liars):
        others[number] = others[number] + (lie if together else lie * (number + 1))
    with pytest.raises(LEFT_ALONE):
        found(device, others)


@given(st.integers(0, 10_000), st.floats(-50.0, 50.0))
def test_estimate__one_of_two_peers_lies__cannot_pull_a_sound_device(seed, lie):
    device, first, second = site(seed, 2)
    with pytest.raises(LEFT_ALONE):
        found(device, [first, second + lie])


@given(st.integers(0, 10_000), st.floats(-30.0, 30.0), st.floats(0.2, 3.0), st.integers(0, 5))
def test_estimate__whatever_comes__a_bounded_correction_or_a_refusal(seed, off, gain, peers):
    generator = np.random.default_rng(seed)
    device, *others = site(seed, peers, hours=int(generator.integers(0, 60)))
    with suppress(CorrectionRefused):
        correction = found(gain * device + off, others, in_force=Affine(3.0, 1.02))
        assert TEMP.allow(Affine(3.0, 1.02).then(correction.affine))


def test_estimate__one_peer__refused():
    device, *others = site(1)
    with pytest.raises(TooFewPeers):
        found(device + 4, others[:1])


def test_estimate__peers_that_do_not_move__are_none():
    device, *others = site(1, 2)
    with pytest.raises(TooFewPeers):
        found(device + 4, [others[0], np.full(DAYS, 15.0)])


def test_estimate__few_readings_of_the_same_times__refused():
    device, *others = site(1)
    with pytest.raises(TooLittleData):
        found(device[:8] + 4, others)


def test_estimate__stuck__refused():
    device, *others = site(1)
    stuck = np.concatenate([device[:20], np.full(DAYS - 20, device[20])])
    with pytest.raises(ChannelStuck):
        found(stuck, others)


def test_estimate__peers_far_apart__refused():
    device, *others = site(1, 4)
    spread = [one + 5.0 * number for number, one in enumerate(others)]
    with pytest.raises(PeersDisagree):
        found(device + 20.0, spread, WIDE)


def test_estimate__beyond_the_limits__refused():
    device, *others = site(1)
    with pytest.raises(BeyondLimits):
        found(device + 9.0, others)


def test_estimate__within_them_alone_but_not_with_what_is_in_force__refused():
    device, *others = site(1)
    assert found(device + 4.0, others, in_force=NONE).offset < -3
    with pytest.raises(BeyondLimits):
        found(device + 4.0, others, in_force=Affine(-6.0, 1.0))


def test_estimate__the_fault_began_within_the_window__by_what_came_after_it():
    device, *others = site(1)
    device[20:] += 5.0
    assert found(device, others).offset == pytest.approx(-5.0, abs=0.4)


def test_estimate__of_routine__a_week_must_speak_for_it():
    device, *others = site(1)
    with pytest.raises(TooLittleData):
        found(device + 4.0, others, demand=ROUTINE)
    device, *others = site(1, hours=7 * 24)
    assert found(device + 4.0, others, demand=ROUTINE).offset == pytest.approx(-4.0, abs=0.4)


def test_estimate__a_front_comes_a_day_early_here__of_routine_no_fault():
    device, *others = site(1, hours=7 * 24)
    device[-20:] += 6.0
    with pytest.raises(LEFT_ALONE):
        found(device, others, demand=ROUTINE)


def test_estimate__drifts_all_the_time__refused():
    device, *others = site(1, hours=24)
    with pytest.raises(Unsteady):
        found(device + np.linspace(0, 24, 24), others, WIDE)


def test_estimate__in_the_shade_as_usual__is_no_fault():
    device, *others = site(1, hours=4 * 24)
    shade = np.tile(np.where((np.arange(24) > 8) & (np.arange(24) < 18), -3.0, 0.0), 4)
    everybody = {"device": device + shade} | {f"peer {number}": one for number, one in enumerate(others)}
    levels = learn_levels("temp", {name: rows(values) for name, values in everybody.items()}, {})
    peers = {name: rows(values) for name, values in everybody.items() if name != "device"}
    with pytest.raises(NothingToCorrect):
        estimate("temp", rows(device + shade), peers, TEMP, own=levels["device"], levels=levels)
    off = estimate("temp", rows(device + shade + 4.0), peers, TEMP, own=levels["device"], levels=levels)
    assert off.offset == pytest.approx(-4.0, abs=0.4)


def test_learn_levels__two_devices__none():
    assert learn_levels("temp", {"a": rows(world(1, 96)), "b": rows(world(1, 96))}, {}) == {}


def test_learn_levels__two_days_alone__not_yet():
    devices = {str(number): rows(one) for number, one in enumerate(site(1))}
    assert learn_levels("temp", devices, {}) == {}


def test_learn_levels__a_newcomer__by_the_same_middle_as_the_others():
    names = ("a", "b", "c", "d")
    values = dict(zip(names, site(1, hours=96, noise=0.01), strict=True))
    offset = dict(zip(names, (0.0, 1.0, -1.0, 3.0), strict=True))
    readings = {name: rows(values[name] + offset[name]) for name in names}
    first = learn_levels("temp", {name: readings[name] for name in names[:3]}, {})
    late = learn_levels("temp", readings, first)
    assert set(late) == {"d"}
    assert np.median(late["d"]) == pytest.approx(3.0, abs=0.1)


def test_estimate__a_year_of_three_airports__hardly_ever_corrects_the_sound_and_mostly_the_faulty(weather):
    begin = max(readings[0][0] for readings in weather.values())

    def window(name, first, last):
        return [
            row for row in weather[name] if begin + first * WEEK <= row[0] < begin + last * WEEK and "temp" in row[1]
        ]

    levels = learn_levels("temp", {name: window(name, 0, 1) for name in weather}, {})
    corrected = {0.0: 0, 4.8: 0}
    for week in range(2, 51, 2):
        for name in weather:
            peers = {peer: window(peer, week - 1, week) for peer in weather if peer != name}
            for off in corrected:
                reads = [(at, {"temp": fields["temp"] + off}) for at, fields in window(name, week - 1, week)]
                with suppress(CorrectionRefused):
                    estimate("temp", reads, peers, TEMP, own=levels[name], levels=levels, demand=ROUTINE)
                    corrected[off] += 1
    asked = 25 * len(weather)
    assert corrected[0.0] <= 0.02 * asked
    assert corrected[4.8] >= 0.85 * asked


# limits


class ChainOfCorrections(RuleBasedStateMachine):
    """Whatever is proposed after whatever, what is in force stays within the limits."""

    def __init__(self):
        super().__init__()
        self.in_force = NONE

    @rule(offset=st.floats(-20, 20) | st.floats(0.1, 1.0), gain=st.floats(0.5, 2.0) | st.just(1.0))
    def propose(self, offset, gain):
        total = self.in_force.then(Affine(offset, gain))
        if TEMP.allow(total):
            self.in_force = total

    @invariant()
    def stays_near(self):
        assert abs(self.in_force(TEMP.around) - TEMP.around) <= TEMP.offset + 1e-6
        assert abs(self.in_force.gain - 1) <= TEMP.gain + 1e-6


TestChainOfCorrections = ChainOfCorrections.TestCase
TestChainOfCorrections.settings = settings(max_examples=10, deadline=None)


@given(*[st.floats(-10, 10)] * 2, *[st.floats(0.1, 10)] * 2, st.floats(-100, 100))
def test_then__two_corrections__are_one_after_the_other(first, second, gain, further, reading):
    one, other = Affine(first, gain), Affine(second, further)
    assert one.then(other)(reading) == pytest.approx(other(one(reading)), abs=1e-6)


def test_limits_of__an_operators__in_the_defaults_place():
    limits = limits_of({"temp": CalibrationLimits(1.0), "co2": CalibrationLimits(50.0, 0.1, 400.0)})
    assert not limits["temp"].allow(Affine(0.0, 1.01))
    assert limits["co2"].allow(Affine(40.0, 1.0))
    assert limits["co2"].agreement == 12.5
    assert limits["co2"].deadband == 5.0
    assert limits["humid"] == DEFAULT_LIMITS["humid"]


def test_digest__of_what_is_attested__binds_each_word():
    one = Attested("ab", Did.CORRECTED, 1.0, {"temp": Affine(1.0, 1.0)}, bytes(32))
    others = [
        Attested("ac", Did.CORRECTED, 1.0, one.in_force, bytes(32)),
        Attested("ab", Did.CHECKED, 1.0, one.in_force, bytes(32)),
        Attested("ab", Did.CORRECTED, 2.0, one.in_force, bytes(32)),
        Attested("ab", Did.CORRECTED, 1.0, {}, bytes(32)),
        Attested("ab", Did.CORRECTED, 1.0, one.in_force, b"\1" * 32),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 6
